// tests/unit/test_compact.c: a compaction changes no row, and wherever it is interrupted one whole store
// is there.
//
// Method: this program is what store_compact executes for the copy. The calls by which it changes the
// disk stand before libc's; a child dies at each of them in turn.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "store/compact.h"
#include "store/component.h"
#include "tests/unit/people.h"

enum { DIED = 42, RECORDS = 300, FLOATS = 600000 };

static long calls, die_at; // 0: lives.

static void count_call(void)
{
    if (die_at > 0 && ++calls == die_at) {
        _exit(DIED);
    }
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    count_call();
    return syscall(SYS_pwrite64, fd, data, bytes, offset);
}
int fsync(int fd)
{
    count_call();
    return (int)syscall(SYS_fsync, fd);
}
int unlink(const char *path)
{
    count_call();
    return (int)syscall(SYS_unlink, path);
}
int rmdir(const char *path)
{
    count_call();
    return (int)syscall(SYS_rmdir, path);
}
int mkdir(const char *path, mode_t mode)
{
    count_call();
    return (int)syscall(SYS_mkdir, path, mode);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    count_call();
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

static struct people people;

static void fill(void)
{
    struct import_counts counts;
    uint64_t import = 0;
    float *const params = mem_alloc(FLOATS, sizeof *params);
    for (int i = 0; i < FLOATS; i++) {
        params[i] = (float)i;
    }
    people_begin(&people);
    MUST(import_begin(people.txn, PEOPLE_DATASET, 1, false, &import));
    for (uint32_t i = 0; i < RECORDS; i++) {
        MUST(people_stage(&people, import, i, 1000 + i, (uint8_t)i, 0, "some values"));
    }
    MUST(import_commit(people.txn, import, &counts));
    MUST(weights_put(people.txn, 1, params, FLOATS));
    MUST(weights_put(people.txn, 2, params, FLOATS));
    people_commit(&people);
    people_begin(&people);
    MUST(weights_drop(people.txn, 2)); // Leaves old pages behind.
    people_commit(&people);
    mem_free(params);
}

static void all_there(void)
{
    char path[SCRATCH_BYTES + 32];
    float *const params = mem_alloc(FLOATS, sizeof *params);
    people_begin(&people);
    for (uint32_t i = 0; i < RECORDS; i++) {
        struct record record;
        const struct id128 rid = people_rid(i);
        assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), OK);
        assert_true(span_equal(record.row, span_text("some values")));
    }
    assert_int_equal(weights_get(people.txn, 1, params, FLOATS), OK);
    assert_true(params[FLOATS - 1] == (float)(FLOATS - 1));
    assert_int_equal(weights_get(people.txn, 2, params, FLOATS), ERR_NOT_FOUND);
    people_commit(&people);
    mem_free(params);
    snprintf(path, sizeof path, "%s/store.compact", people.dir);
    assert_int_equal(access(path, F_OK), -1);
}

static enum err compact(void)
{
    uint64_t before = 0, after = 0;
    bool lost = false;
    const enum err err = store_compact(people.store, "/proc/self/exe", &before, &after, &lost);
    assert_false(lost);
    if (err == OK && after >= before) {
        fail_msg("%llu bytes before, %llu after", (unsigned long long)before,
                 (unsigned long long)after);
    }
    return err;
}

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    fill();
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    people_close(&people);
    return 0;
}

static void test_nothing_changes_but_the_size(void **state)
{
    (void)state;
    assert_int_equal(compact(), OK);
    all_there();
    people_begin(&people); // It goes on, and can be done again.
    const float one = 1;
    MUST(weights_put(people.txn, 3, &one, 1));
    MUST(weights_drop(people.txn, 3));
    people_commit(&people);
    people_reopen(&people);
    all_there();
}

static void test_interrupted_anywhere(void **state)
{
    (void)state;
    long n = 1;
    for (bool died = true; died; n++) {
        store_close(people.store);
        const pid_t child = fork();
        if (child == 0) {
            uint64_t before = 0, after = 0;
            bool lost = false;
            if (store_open(people.dir, PEOPLE_MAP_BYTES, &people.store) != OK) {
                _exit(1);
            }
            die_at = n;
            _exit(store_compact(people.store, "/proc/self/exe", &before, &after, &lost) == OK ? 0
                                                                                              : 2);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == DIED));
        died = WEXITSTATUS(status) == DIED;
        MUST(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store));
        all_there();
    }
    assert_true(n > 8);
}

static void test_a_copy_that_fails_changes_nothing(void **state)
{
    (void)state;
    uint64_t before = 0, after = 0;
    bool lost = true;
    assert_int_equal(store_compact(people.store, "/bin/false", &before, &after, &lost), ERR_IO);
    assert_non_null(strstr(err_text(), "exit code 1"));
    assert_false(lost);
    all_there();
    assert_int_equal(store_compact(people.store, "/nonexistent", &before, &after, &lost), ERR_IO);
    all_there();
    assert_int_equal(compact(), OK); // Control.
    all_there();
}

int main(int argc, char **argv)
{
    if (digest_start() != OK) {
        return 1;
    }
    if (argc == 5 && strcmp(argv[1], "--compact-copy") == 0) {
        return compact_copy(argv[2], argv[3], strtoull(argv[4], NULL, 10)) == OK ? 0 : 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_changes_but_the_size),
        CASE(test_interrupted_anywhere),
        CASE(test_a_copy_that_fails_changes_nothing),
    };
#undef CASE
    return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
