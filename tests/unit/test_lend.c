// tests/unit/test_lend.c: how many ranks a stage gets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scheduler/lend.h"

static void test_one_stage_gets_what_is_idle(void **state)
{
    (void)state;
    assert_int_equal(lend_ranks(1, 1, 1, 8), 1);
    assert_int_equal(lend_ranks(2, 2, 1, 8), 2);
    assert_int_equal(lend_ranks(3, 3, 1, 8), 2); // A power of two.
    assert_int_equal(lend_ranks(4, 4, 1, 8), 4);
    assert_int_equal(lend_ranks(7, 7, 1, 8), 4);
    assert_int_equal(lend_ranks(100, 100, 1, 64), 64);
}

static void test_spec_bounds_it(void **state)
{
    (void)state;
    assert_int_equal(lend_ranks(16, 16, 1, 1), 1);
    assert_int_equal(lend_ranks(16, 16, 1, 4), 4);
}

static void test_fleet_bounds_it(void **state)
{
    (void)state;
    assert_int_equal(lend_ranks(1, 16, 1, 8), 1);
    assert_int_equal(lend_ranks(3, 16, 1, 8), 2);
}

static void test_stages_share_the_ranks(void **state)
{
    (void)state;
    assert_int_equal(lend_ranks(4, 4, 2, 8), 2);
    assert_int_equal(lend_ranks(4, 4, 3, 8), 1);
    assert_int_equal(lend_ranks(4, 4, 4, 8), 1);
    assert_int_equal(lend_ranks(4, 4, 400, 8), 1);
    // One after the other, nobody is left over: 4 ranks for 3 stages are 1, 1 and 2.
    assert_int_equal(lend_ranks(2, 2, 1, 8), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_stage_gets_what_is_idle),
        cmocka_unit_test(test_spec_bounds_it),
        cmocka_unit_test(test_fleet_bounds_it),
        cmocka_unit_test(test_stages_share_the_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
