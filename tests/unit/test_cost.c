// tests/unit/test_cost.c: costs are learnt per length of list, and the error says how far they were off.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scheduler/cost.h"
#include "tests/unit/draw.h"

static void expect(const struct cost *cost, uint32_t depth, double seconds, double error)
{
    double found = 0, off = 0;
    assert_true(cost_estimate(cost, depth, 1000, &found, &off));
    assert_true(fabs(found - seconds) < 1e-9);
    assert_true(fabs(off - error) < 1e-9);
}

static void test_nothing_is_known_at_first(void **state)
{
    (void)state;
    struct cost cost = {0};
    double seconds = 7, error = 7;
    assert_false(cost_estimate(&cost, 1, 1000, &seconds, &error));
    assert_true(seconds <= 0 && seconds >= 0);
    cost_learn(&cost, 1, 0, 5); // An empty stage.
    cost_learn(&cost, 1, 5, 0); // Below what the clock tells.
    assert_false(cost_estimate(&cost, 1, 1000, &seconds, &error));
    cost.guess = 0.002;
    expect(&cost, 1, 2, 1);
}

static void test_each_length_has_its_own(void **state)
{
    (void)state;
    struct cost cost = {0};
    cost_learn(&cost, 1, 100, 1); // 0.01 a sample
    expect(&cost, 1, 10, 0.5);
    expect(&cost, 2, 10, 0.5);    // Not measured: as over all.
    cost_learn(&cost, 2, 100, 3); // 0.03
    expect(&cost, 1, 10, 0.5);
    expect(&cost, 2, 30, 0.5);
    expect(&cost, 0, 20, 2); // Over all: it was expected to be a third of what it was.
    cost_learn(&cost, 1, 100, 1.5);
    expect(&cost, 1, 12.5, 0.5); // Half above what was expected.
    cost_learn(&cost, 1, 100, 1.25);
    expect(&cost, 1, 12.5, sqrt(0.125)); // As expected: the mean of the squares halves.
}

// Newer stages count for more: a learner that becomes twice as slow is known after some stages.
static void test_it_follows(void **state)
{
    (void)state;
    struct cost cost = {0};
    double seconds = 0, error = 0;
    for (int i = 0; i < 1000; i++) {
        cost_learn(&cost, 3, 100, 1);
    }
    expect(&cost, 3, 10, 0);
    for (int i = 0; i < 30; i++) {
        cost_learn(&cost, 3, 100, 2);
    }
    assert_true(cost_estimate(&cost, 3, 1000, &seconds, &error));
    assert_true(seconds > 19 && seconds < 20);
}

// The error that is told covers what comes, as a rule.
static void test_the_error_is_the_spread(void **state)
{
    (void)state;
    struct draw draw = draw_new("cost");
    struct cost cost = {0};
    uint32_t within = 0, twice = 0;
    for (int i = 0; i < 4000; i++) {
        const double per_sample = 0.01 * (0.7 + 0.6 * draw_below(&draw, 1001) / 1000);
        double seconds = 0, error = 0;
        if (i > 100) {
            assert_true(cost_estimate(&cost, 1, 1000, &seconds, &error));
            const double off = fabs(1000 * per_sample / seconds - 1);
            within += off <= error;
            twice += off <= 2 * error;
            assert_true(error > 0.05 && error < 0.5); // The spread is 0.17.
        }
        cost_learn(&cost, 1, 1000, 1000 * per_sample);
    }
    assert_true(within > 3899 / 2 && twice > 3899 * 9 / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_known_at_first),
        cmocka_unit_test(test_each_length_has_its_own),
        cmocka_unit_test(test_it_follows),
        cmocka_unit_test(test_the_error_is_the_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
