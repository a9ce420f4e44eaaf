// tests/unit/test_confine.c: a confined process keeps its own files and loses all others.
//
// Method: children that confine themselves and say by their exit code what they still could do.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/confine.h"
#include "tests/unit/scratch.h"

static char own[SCRATCH_BYTES], shared[SCRATCH_BYTES],
    other[SCRATCH_BYTES]; // Directories: to write, to read, neither.

static int setup(void **state)
{
    (void)state;
    char *const paths[] = {own, shared, other};
    for (size_t i = 0; i < 3; i++) {
        char file[SCRATCH_BYTES + 8];
        if (!scratch_make(paths[i])) {
            return -1;
        }
        snprintf(file, sizeof file, "%s/file", paths[i]);
        close(open(file, O_WRONLY | O_CREAT, 0600));
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(own);
    scratch_remove(shared);
    scratch_remove(other);
    return 0;
}

// 0, or the error of opening DIR/name so.
static int opening(const char *dir, const char *name, int flags)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    const int fd = open(path, flags, 0600);
    const int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0 ? 0 : error;
}

enum { CANNOT = 77 };

// The exit code of a child that is confined and then does `what`.
static int confined(int (*what)(void))
{
    const pid_t child = fork();
    if (child == 0) {
        const struct confine_path paths[] = {
            {own, true}, {shared, false}, {"/usr", false}, {"/tmp/not-there/at-all", false}};
        bool files = false;
        if (confine_process(paths, sizeof paths / sizeof paths[0], &files) != OK) {
            _exit(99);
        }
        _exit(files ? what() : CANNOT);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int write_own(void)
{
    return opening(own, "fresh", O_WRONLY | O_CREAT | O_EXCL);
}
static int read_shared(void)
{
    return opening(shared, "file", O_RDONLY);
}
static int write_shared(void)
{
    return opening(shared, "file", O_WRONLY);
}
static int make_in_shared(void)
{
    return opening(shared, "fresh", O_WRONLY | O_CREAT);
}
static int read_other(void)
{
    return opening(other, "file", O_RDONLY);
}
static int write_other(void)
{
    return opening(other, "file", O_WRONLY);
}
static int list_other(void)
{
    return opening(other, ".", O_RDONLY | O_DIRECTORY);
}
static int upwards(void)
{
    return opening(own, "../../etc/passwd", O_RDONLY);
}

static int by_a_link(void)
{
    char path[300];
    snprintf(path, sizeof path, "%s/link", own);
    return symlink(other, path) == 0 ? 0 : errno;
}

static void *in_thread(void *context)
{
    *(int *)context = read_other();
    return NULL;
}

static int another_thread(void)
{
    pthread_t thread;
    int error = 0;
    return pthread_create(&thread, NULL, in_thread, &error) != 0 || pthread_join(thread, NULL) != 0
               ? 98
               : error;
}

static int rename_within(void)
{
    char from[300], to[300];
    snprintf(from, sizeof from, "%s/file", own);
    snprintf(to, sizeof to, "%s/below/moved", own);
    snprintf(to, sizeof to, "%s/below", own);
    if (mkdir(to, 0700) != 0) {
        return errno;
    }
    snprintf(to, sizeof to, "%s/below/moved", own);
    return rename(from, to) == 0 ? 0 : errno;
}

static int new_rights(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1;
}

static void test_what_is_left(void **state)
{
    (void)state;
    static const struct {
        int (*what)(void);
        int expected;
    } cases[] = {
        {write_own, 0},           {read_shared, 0},     {write_shared, EACCES},
        {make_in_shared, EACCES}, {read_other, EACCES}, {write_other, EACCES},
        {list_other, EACCES},     {upwards, EACCES},    {by_a_link, EACCES},
        {another_thread, EACCES}, {rename_within, 0},   {new_rights, 0},
    };
    if (confined(new_rights) == CANNOT) {
        skip(); // Landlock is not there.
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(confined(cases[i].what), cases[i].expected);
    }
    // Control: whoever is not confined may.
    assert_int_equal(read_other(), 0);
    assert_int_equal(write_shared(), 0);
}

static void test_a_path_that_cannot_be_opened(void **state)
{
    (void)state;
    const pid_t child = fork();
    if (child == 0) {
        char name[5000];
        for (size_t i = 0; i < sizeof name - 1; i++) {
            name[i] = 'a';
        }
        name[sizeof name - 1] = '\0';
        const struct confine_path path = {name, true};
        bool files = true;
        const enum err err = confine_process(&path, 1, &files);
        _exit((err == ERR_IO && !files) || err == OK ? 0 : 1); // OK: Landlock is not there.
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_left),
        cmocka_unit_test(test_a_path_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
