// tests/unit/test_bucket.c: a bucket lets through its rate, a burst more, and never more than that.
//
// Method: exact cases by hand; and for random rates, amounts and pauses a plain count of what passed in
// every stretch of time, against rate * time + burst.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "scheduler/bucket.h"
#include "tests/unit/draw.h"

static void test_exact(void **state)
{
    (void)state;
    struct bucket b = {0};
    int64_t wait = -1;
    for (int i = 0; i < 20; i++) { // 10 a second, 2 seconds' worth at once.
        assert_true(bucket_take(&b, 10, 2000000, 1, 5000000, &wait));
        assert_int_equal(wait, 0);
    }
    assert_false(bucket_take(&b, 10, 2000000, 1, 5000000, &wait));
    assert_int_equal(wait, 100000);
    assert_false(bucket_take(&b, 10, 2000000, 5, 5000000, &wait));
    assert_int_equal(wait, 500000);
    assert_false(bucket_take(&b, 10, 2000000, 1, 5099999, &wait));
    assert_int_equal(wait, 1);
    assert_true(bucket_take(&b, 10, 2000000, 1, 5100000, &wait));
    assert_int_equal(bucket_debt_us(&b, 5100000), 2000000);
    assert_int_equal(bucket_debt_us(&b, 8000000), 0);
}

static void test_more_than_fits_is_taken_from_a_full_one(void **state)
{
    (void)state;
    struct bucket b = {0};
    int64_t wait;
    assert_true(bucket_take(&b, 10, 2000000, 100, 0, &wait));
    assert_false(bucket_take(&b, 10, 2000000, 100, 9999999, &wait));
    assert_int_equal(wait, 1);
    assert_true(bucket_take(&b, 10, 2000000, 100, 10000000, &wait));
    // No amount and no rate overflows.
    assert_true(bucket_take(&b, 1, 2000000, UINT64_MAX, 30000000, &wait));
    assert_int_equal(bucket_debt_us(&b, 30000000), (int64_t)86400 * 1000000);
    assert_true(bucket_take(&(struct bucket){0}, UINT64_MAX, 1, UINT64_MAX, 0, &wait));
}

static void test_what_was_done_is_charged(void **state)
{
    (void)state;
    struct bucket b = {0};
    int64_t wait;
    bucket_charge(&b, 10, 50, 0);
    assert_false(bucket_take(&b, 10, 2000000, 1, 0, &wait));
    assert_int_equal(wait, 3100000);
    assert_true(bucket_take(&b, 10, 2000000, 1, 3100000, &wait));
}

static void test_never_more_than_the_rate(void **state)
{
    (void)state;
    struct draw draw = draw_new("bucket");
    for (int round = 0; round < 300; round++) {
        const uint64_t rate = 1 + draw_below(&draw, 1000000);
        const int64_t burst = 1 + draw_below(&draw, 3000000);
        struct bucket b = {0};
        int64_t now = draw_below(&draw, 1000000000);
        const int64_t began = now;
        double passed = 0, most = 0;
        for (int i = 0; i < 300; i++) {
            const uint64_t amount = draw_below(&draw, (uint32_t)(rate / 4 + 2));
            int64_t wait;
            if (bucket_take(&b, rate, burst, amount, now, &wait)) {
                passed += (double)amount;
                most = (double)amount > most ? (double)amount : most;
            } else {
                // Told truly: not a microsecond before, and then.
                struct bucket copy = b;
                int64_t again;
                assert_false(bucket_take(&copy, rate, burst, amount, now + wait - 1, &again));
                assert_true(bucket_take(&copy, rate, burst, amount, now + wait, &again));
            }
            assert_true(passed <= (double)rate * (double)(now - began + burst) / 1e6 + most + 1);
            now += draw_below(&draw, 200000);
        }
        assert_true(passed > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_more_than_fits_is_taken_from_a_full_one),
        cmocka_unit_test(test_what_was_done_is_charged),
        cmocka_unit_test(test_never_more_than_the_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
