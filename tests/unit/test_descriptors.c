// tests/unit/test_descriptors.c: the limit of open files is raised as far as it may be, and counted.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/descriptors.h"

static void test_raise(void **state)
{
    (void)state;
    struct rlimit limit;
    uint32_t got = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){20, 60}), 0); // For good.
    assert_int_equal(descriptors_raise(40, &got), OK);
    assert_int_equal(got, 40);
    assert_int_equal(descriptors_raise(100000, &got), OK);
    assert_int_equal(got, 60);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 60);
    assert_int_equal(descriptors_raise(30, &got), OK); // A table of so many is enough.
    assert_int_equal(got, 30);
}

static void test_count(void **state)
{
    (void)state;
    uint32_t before = 0, after = 0;
    assert_int_equal(descriptors_count(&before), OK);
    const int one = dup(STDOUT_FILENO), two = dup(STDOUT_FILENO);
    assert_true(one >= 0 && two >= 0);
    assert_int_equal(descriptors_count(&after), OK);
    assert_int_equal(after, before + 2);
    close(one);
    close(two);
    assert_int_equal(descriptors_count(&after), OK);
    assert_int_equal(after, before);
    // Not even the directory can be opened. Only for now: LeakSanitizer opens files at the end.
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, limit.rlim_max}), 0);
    assert_int_equal(descriptors_count(&after), ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_non_null(err_text());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raise),
        cmocka_unit_test(test_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
