// tests/unit/test_median.c: the median is that of the sorted numbers, for any numbers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/median.h"

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double median_of(const uint64_t *numbers, size_t count)
{
    struct median median = {0};
    int passes = 0;
    do {
        for (size_t i = 0; i < count; i++) {
            median_add(&median, numbers[i]);
        }
        passes++;
    } while (median_again(&median));
    assert_int_equal(median.count, count);
    assert_in_range(passes, 1, 3);
    const double value = median_value(&median);
    median_deinit(&median);
    return value;
}

static void expect(uint64_t *numbers, size_t count)
{
    const double found = median_of(numbers, count);
    qsort(numbers, count, sizeof *numbers, compare);
    const size_t below = (count - 1) / 2, above = count / 2;
    const double plain = ((double)numbers[below] + (double)numbers[above]) / 2;
    assert_true(found == plain);
}

static void test_small_counts(void **state)
{
    (void)state;
    assert_true(median_of(NULL, 0) == 0);
    assert_true(median_of((uint64_t[]){7}, 1) == 7);
    assert_true(median_of((uint64_t[]){9, 4}, 2) == 6.5);
    assert_true(median_of((uint64_t[]){9, 4, 5}, 3) == 5);
    assert_true(median_of((uint64_t[]){0, 0, 0, 1}, 4) == 0);
    assert_true(median_of((uint64_t[]){5, 5, 5, 5}, 4) == 5);
    // The two in the middle differ in the highest bits: they are looked for apart.
    assert_true(median_of((uint64_t[]){1, UINT64_C(1) << 40}, 2) ==
                (double)((UINT64_C(1) << 39)) + 0.5);
    assert_true(median_of((uint64_t[]){UINT64_MAX}, 1) == (double)MEDIAN_MAX);
    assert_true(median_of((uint64_t[]){MEDIAN_MAX}, 1) == (double)MEDIAN_MAX);
}

static void test_random_numbers(void **state)
{
    (void)state;
    enum { MOST = 60 };
    uint64_t numbers[MOST], draw = 1;
    for (int round = 0; round < 60; round++) {
        const size_t count = 1 + (size_t)round % MOST;
        for (size_t i = 0; i < count; i++) {
            draw = draw * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            numbers[i] = (draw >> 16) >> (draw >> 8 & 47); // Of all sizes up to 48 bits.
        }
        expect(numbers, count);
    }
}

// What changes between two looks must not lead out of bounds.
static void test_other_numbers_the_second_time(void **state)
{
    (void)state;
    struct median median = {0};
    for (uint64_t i = 0; i < 100; i++) {
        median_add(&median, i << 32);
    }
    assert_true(median_again(&median));
    median_add(&median, 3);
    assert_true(median_again(&median));
    assert_false(median_again(&median));
    assert_true(median_value(&median) <= (double)MEDIAN_MAX);
    median_deinit(&median);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_counts),
        cmocka_unit_test(test_random_numbers),
        cmocka_unit_test(test_other_numbers_the_second_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
