// tests/unit/test_rate.c: the last minute is what the plain definition says, second by second.
//
// Method: a random history of amounts and pauses, some longer than a minute; after each step the answer
// must be the sum (the greatest) of those events whose second is one of the last 60.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "scheduler/rate.h"

enum { EVENTS = 4000 };

static struct event {
    int64_t ms;
    uint64_t amount;
} events[EVENTS];

static void expect(const struct rate *rate, const struct peak *peak, int count, int64_t now_ms)
{
    uint64_t sum = 0, greatest = 0, total = 0, ever = 0;
    for (int i = 0; i < count; i++) {
        const struct event *const event = &events[i];
        total += event->amount;
        ever = event->amount > ever ? event->amount : ever;
        if (event->ms / 1000 > now_ms / 1000 - 60) {
            sum += event->amount;
            greatest = event->amount > greatest ? event->amount : greatest;
        }
    }
    assert_int_equal(rate_minute(rate, now_ms), sum);
    assert_int_equal(peak_minute(peak, now_ms), greatest);
    assert_int_equal(rate->total, total);
    assert_int_equal(peak->greatest, ever);
}

static void test_random_history(void **state)
{
    (void)state;
    struct rate rate = {0};
    struct peak peak = {0};
    uint32_t draw = 1;
    int64_t now_ms = 0;
    for (int i = 0; i < EVENTS; i++) {
        draw = draw * 1103515245 + 12345;
        const uint32_t bits = draw >> 8;
        now_ms += bits % 37 == 0 ? (int64_t)(bits % 200000) : (int64_t)(bits % 1500);
        events[i] = (struct event){now_ms, bits % 1000};
        rate_add(&rate, now_ms, events[i].amount);
        peak_add(&peak, now_ms, events[i].amount);
        expect(&rate, &peak, i + 1, now_ms);
        expect(&rate, &peak, i + 1,
               now_ms + (int64_t)(bits % 70000)); // Asked later: nothing changes.
    }
}

static void test_nothing_came(void **state)
{
    (void)state;
    const struct rate rate = {0};
    const struct peak peak = {0};
    assert_int_equal(rate_minute(&rate, 0), 0);
    assert_int_equal(rate_minute(&rate, INT64_MAX), 0);
    assert_int_equal(peak_minute(&peak, 123456), 0);
}

// The first event may come after a long uptime, and an hour may pass without any.
static void test_edges_of_the_minute(void **state)
{
    (void)state;
    struct rate rate = {0};
    rate_add(&rate, 3600999, 5);
    assert_int_equal(rate_minute(&rate, 3600999), 5);
    assert_int_equal(rate_minute(&rate, 3659999), 5); // The 60th second ends.
    assert_int_equal(rate_minute(&rate, 3660000), 0);
    rate_add(&rate, 7200000, 7);
    assert_int_equal(rate_minute(&rate, 7200000), 7);
    rate_add(&rate, 7100000, 1); // A clock that went back: counted where we are.
    assert_int_equal(rate_minute(&rate, 7100000), 8);
    assert_int_equal(rate_minute(&rate, 7259999), 8);
    assert_int_equal(rate_minute(&rate, 7260000), 0);
    assert_int_equal(rate.total, 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_history),
        cmocka_unit_test(test_nothing_came),
        cmocka_unit_test(test_edges_of_the_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
