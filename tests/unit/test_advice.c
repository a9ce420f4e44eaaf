// tests/unit/test_advice.c: the hints: fewer cells, the name that was meant.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/advice.h"

static void test_no_advice_up_to_a_tenth(void **state)
{
    (void)state;
    uint32_t shards, slices;
    assert_false(advice_cells(8, 4, 32, 0, &shards, &slices));
    assert_false(advice_cells(5, 4, 20, 2, &shards, &slices));
    assert_true(advice_cells(5, 4, 20, 3, &shards, &slices));
    assert_false(advice_cells(1, 1, 0, 0, &shards, &slices));
}

static void test_advice_fits_the_people(void **state)
{
    (void)state;
    uint32_t shards, slices;
    // 32 cells, 4 empty: -32 ln(4/32) = 66.5 people; a third of that is 22 cells: 8 x 2.
    assert_true(advice_cells(8, 4, 32, 4, &shards, &slices));
    assert_int_equal(shards, 8);
    assert_int_equal(slices, 2);
    // 100 cells, 90 empty: 10.5 people, 3 cells.
    assert_true(advice_cells(10, 10, 100, 90, &shards, &slices));
    assert_int_equal(shards, 3);
    assert_int_equal(slices, 1);
    assert_true(advice_cells(4, 4, 16, 16, &shards, &slices)); // Nobody: still something sensible.
    assert_int_equal(shards, 1);
    assert_int_equal(slices, 1);
}

static void test_nearest_name(void **state)
{
    (void)state;
    const char *const names[] = {"train", "plan", "dataset list", "status"};
    assert_int_equal(advice_nearest("train", names, 4), 0);
    assert_int_equal(advice_nearest("trian", names, 4), 0);
    assert_int_equal(advice_nearest("plam", names, 4), 1);
    assert_int_equal(advice_nearest("dataset lst", names, 4), 2);
    assert_int_equal(advice_nearest("statsu", names, 4), 3);
    assert_int_equal(advice_nearest("frobnicate", names, 4), -1);
    assert_int_equal(advice_nearest("", names, 4), -1);
    assert_int_equal(advice_nearest("a text much longer than any command that there is", names, 4),
                     -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_advice_up_to_a_tenth),
        cmocka_unit_test(test_advice_fits_the_people),
        cmocka_unit_test(test_nearest_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
