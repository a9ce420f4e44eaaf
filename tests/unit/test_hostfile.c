// tests/unit/test_hostfile.c: what mpirun takes is let through; what is plainly wrong is named with its line.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shard_worker/hostfile.h"

static char path[] = "/tmp/test_hostfile.XXXXXX";

static enum err check(const char *text)
{
    FILE *const file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return hostfile_check(path);
}

static void test_takes_what_mpirun_takes(void **state)
{
    (void)state;
    static const char *const good[] = {
        "host1\n",
        "host1 slots=4",
        "# hosts\n\n  host1\tslots=4 max_slots=8 # all\r\nhost2 max-slots=2\n",
        "ann@host1.example.org slots = 4 max_slots =8\n",
        "10.0.0.1 slots=1 // one\n",
        "host1 slots=2 sockets_per_board=2 something=new\n",
        "+n0 anything at all\n^host3 many words\nrank 0=host1 slot=1:0\n\"host 4\" x\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (check(good[i]) != OK) {
            fail_msg("%s: %s", good[i], err_text());
        }
    }
}

static void test_names_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "names no host: found 0 lines"},
        {"# host1\n\n // host2\n", "names no host: found 3 lines"},
        {"host1 slots=many\n", "line 1: slots: found many, expected a number from 1 on"},
        {"host1 slots=2\nhost2 slots = \n", "line 2: slots: found nothing"},
        {"host1 slots=0\n", "line 1: slots: found 0"},
        {"host1 slots=2 max_slots=-3\n", "line 1: max_slots: found -3"},
        {"host1 max-slots=2147483648\n", "line 1: max-slots: found 2147483648"},
        {"host1 host2\n", "line 1: found host2 behind the host, expected settings as slots=4"},
        {"\nhost1 slots 4\n", "line 2: found slots behind the host"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(check(bad[i].text), ERR_INVALID);
        if (strstr(err_text(), bad[i].words) == NULL || strstr(err_text(), path) == NULL) {
            fail_msg("%s: found \"%s\", expected \"%s\"", bad[i].text, err_text(), bad[i].words);
        }
    }
}

static void test_unreadable(void **state)
{
    (void)state;
    assert_int_equal(hostfile_check("/nowhere/hosts"), ERR_UNAVAILABLE);
    assert_non_null(
        strstr(err_text(), "the host file /nowhere/hosts cannot be read: No such file"));
    assert_int_equal(hostfile_check("/tmp"), ERR_UNAVAILABLE); // Opens, but is a directory.
    assert_non_null(strstr(err_text(), "cannot be read: Is a directory"));
}

static int make(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int take_away(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_what_mpirun_takes),
        cmocka_unit_test(test_names_what_is_wrong),
        cmocka_unit_test(test_unreadable),
    };
    return cmocka_run_group_tests(tests, make, take_away);
}
