// tests/unit/test_process.c: processes are started, believed only when they are ours, and ended.
//
// Method: the programs are /bin/sh and /bin/sleep in a scratch directory; a process is "ours" when
// an argument of it lies there.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/process.h"
#include "tests/unit/scratch.h"

static char home[SCRATCH_BYTES];

static const char *in_home(const char *name)
{
    static char path[SCRATCH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", home, name);
    return path;
}

// Runs a line of shell; home is $0, so that it is an argument of the process.
static pid_t shell(const char *line)
{
    char log[SCRATCH_BYTES + 64];
    snprintf(log, sizeof log, "%s", in_home("log"));
    const char *const args[] = {"sh", "-c", line, home, NULL};
    const struct process_start start = {.program = "/bin/sh", .args = args, .log = log};
    pid_t pid = 0;
    assert_int_equal(process_start(&start, &pid), OK);
    return pid;
}

static int wait_end(pid_t pid)
{
    int code = 0;
    while (!process_ended(pid, &code)) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return code;
}

// The program's name as /proc tells it: sh is a link to some shell.
static const char *shell_name(char out[static PROCESS_PATH_BYTES])
{
    assert_non_null(realpath("/bin/sh", out));
    return strrchr(out, '/') + 1;
}

static void test_exit_codes_and_signals(void **state)
{
    (void)state;
    assert_int_equal(wait_end(shell("exit 4")), 4);
    assert_int_equal(wait_end(shell("kill -9 $$")), -SIGKILL);
}

static void test_a_missing_program_is_told(void **state)
{
    (void)state;
    const char *const args[] = {"none", NULL};
    const struct process_start start = {
        .program = "/nonexistent", .args = args, .log = "/dev/null"};
    pid_t pid = 0;
    assert_int_equal(process_start(&start, &pid), ERR_IO);
    assert_non_null(strstr(err_text(), "No such file"));
    char path[PROCESS_PATH_BYTES];
    assert_int_equal(process_beside("no-such-program", path), ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(), "no-such-program"));
}

static void test_a_pid_is_believed_only_when_it_is_ours(void **state)
{
    (void)state;
    char real[PROCESS_PATH_BYTES], pid_file[SCRATCH_BYTES + 64], elsewhere[SCRATCH_BYTES];
    const char *const name = shell_name(real);
    snprintf(pid_file, sizeof pid_file, "%s", in_home("pid"));
    assert_true(scratch_make(elsewhere));
    const pid_t pid = shell("while :; do sleep 1; done");
    assert_int_equal(process_find(pid_file, name, home), 0); // No file yet.
    assert_int_equal(process_write_pid(pid_file, pid), OK);
    assert_int_equal(process_find(pid_file, name, home), pid);     // The control.
    assert_int_equal(process_find(pid_file, "unlearnd", home), 0); // Another program,
    assert_int_equal(process_find(pid_file, name, elsewhere), 0);  // another cluster.
    assert_true(process_stop(pid, 5000));
    assert_int_equal(process_find(pid_file, name, home), 0); // Gone.
    scratch_remove(elsewhere);
}

static void test_what_ignores_the_request_is_killed(void **state)
{
    (void)state;
    const pid_t pid = shell("trap '' TERM; : > \"$0/deaf\"; while :; do sleep 1; done");
    while (access(in_home("deaf"), F_OK) != 0) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    assert_false(process_stop(pid, 100));
    assert_int_equal(kill(pid, 0), -1);
}

static void test_the_tail_of_a_log(void **state)
{
    (void)state;
    char log[SCRATCH_BYTES + 64], tail[PROCESS_TAIL_BYTES];
    snprintf(log, sizeof log, "%s", in_home("tail"));
    process_log_tail(log, 0, tail);
    assert_string_equal(tail, " nothing");
    FILE *const file = fopen(log, "w");
    assert_non_null(file);
    fputs("earlier\n", file);
    fflush(file);
    const int64_t from = process_log_bytes(log);
    assert_int_equal(from, 8);
    process_log_tail(log, from, tail);
    assert_string_equal(tail, " nothing"); // What was there before is not this start's.
    fputs("a\nb\n", file);
    fflush(file);
    process_log_tail(log, from, tail);
    assert_string_equal(tail, "\n  a\n  b");
    for (int i = 0; i < 2000; i++) {
        fputs("x", file);
    }
    fputs("\nlast\n", file);
    fclose(file);
    process_log_tail(log, from, tail);
    assert_non_null(strstr(tail, "\n  last"));
    assert_true(strlen(tail) < PROCESS_TAIL_BYTES);
}

static int make_home(void **state)
{
    (void)state;
    return scratch_make(home) ? 0 : -1;
}

static int remove_home(void **state)
{
    (void)state;
    scratch_remove(home);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_codes_and_signals),
        cmocka_unit_test(test_a_missing_program_is_told),
        cmocka_unit_test(test_a_pid_is_believed_only_when_it_is_ours),
        cmocka_unit_test(test_what_ignores_the_request_is_killed),
        cmocka_unit_test(test_the_tail_of_a_log),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
