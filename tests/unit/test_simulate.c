// tests/unit/test_simulate.c: simulated means agree with exact expectations.
//
// Method: the expectations are sums over sets of cells (inclusion and exclusion) or closed forms,
// written here independently of the simulation; a mean may be off by 5 standard errors.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "scheduler/simulate.h"

enum { TRIALS = 20000 };

static const struct simulate_setup five_by_four = {.shards = 5, .slices = 4, .budget = 1};

static struct simulate_result run(const struct simulate_setup *setup, uint64_t trials)
{
    struct simulate *simulate;
    assert_int_equal(simulate_open(setup, &simulate), OK);
    simulate_run(simulate, trials);
    const struct simulate_result result = simulate_result(simulate);
    simulate_close(simulate);
    assert_int_equal(result.trials, trials);
    return result;
}

static void assert_mean(struct simulate_mean found, double expected)
{
    if (!(fabs(found.mean - expected) <= 5 * found.sem + 1e-9 * expected)) {
        fail_msg("mean %g, standard error %g, expected %g", found.mean, found.sem, expected);
    }
}

// Expected requests until `cells` of `all` are hit, if each request hits `records` at random.
static double until_all_hit(uint32_t cells, uint32_t all, uint32_t records)
{
    double sum = 0, ways = 1;
    for (uint32_t k = 1; k <= cells; k++) {
        ways = ways * (cells - k + 1) / k;
        sum += (k % 2 ? 1 : -1) * ways / (1 - pow(1 - (double)k / all, records));
    }
    return sum;
}

// m L times the integral over t of (1 - (1 - e^-t)^B)^m: cells as clocks that ring at random.
static double until_first_lost(uint32_t m, uint32_t slices, uint32_t firsts)
{
    double sum = 0;
    const double step = 1e-3;
    for (int i = 0; i < 60000; i++) {
        sum += pow(1 - pow(1 - exp(-(i + 0.5) * step), firsts), m) * step;
    }
    return m * slices * sum;
}

static void test_uniform_with_replacement(void **state)
{
    (void)state;
    static const double issue[5][2] = {
        {0}, {45.7, 4.00}, {58.6, 10.12}, {66.4, 15.17}, {72.0, 19.27}};
    for (uint32_t budget = 1; budget <= 6; budget++) {
        struct simulate_setup setup = five_by_four;
        setup.budget = budget;
        const uint32_t firsts = budget > 4 ? 4 : budget; // More orders begin nowhere else.
        const struct simulate_result result = run(&setup, TRIALS);
        const struct simulate_theory theory = simulate_theory(&setup);
        assert_mean(result.until_exhausted, theory.until_exhausted);
        assert_mean(result.until_first_lost, theory.until_first_lost);
        assert_true(fabs(theory.until_exhausted / issue[firsts][0] - 1) < 0.002);
        assert_true(fabs(theory.until_first_lost / issue[firsts][1] - 1) < 0.002);
        assert_true(fabs(theory.until_first_lost / until_first_lost(5, 4, firsts) - 1) < 1e-5);
        setup.policy = SEQUENCE_BMS; // Begins with as many slices.
        if (budget <= 4) {
            assert_true(simulate_theory(&setup).until_exhausted == theory.until_exhausted);
            assert_mean(run(&setup, TRIALS).until_first_lost, theory.until_first_lost);
        }
    }
    const struct simulate_setup small = {.shards = 2, .slices = 3, .budget = 2};
    assert_true(fabs(simulate_theory(&small).until_exhausted - 6 * 25.0 / 12) < 1e-12);
    const struct simulate_setup wide = {.shards = 40, .slices = 9, .budget = 7};
    assert_true(fabs(simulate_theory(&wide).until_first_lost / until_first_lost(40, 9, 7) - 1) <
                1e-6);
    // One cell, and more cells than one word can give.
    const struct simulate_result one =
        run(&(struct simulate_setup){.shards = 1, .slices = 1, .budget = 1}, 10);
    assert_true(one.until_exhausted.mean == 1 && one.until_first_lost.mean == 1);
    const struct simulate_setup large = {
        .shards = LIMIT_SHARDS, .slices = LIMIT_SLICES, .budget = 1};
    assert_mean(run(&large, 3).until_first_lost, LIMIT_SLICES);
}

static void test_without_replacement(void **state)
{
    (void)state;
    for (uint32_t budget = 1; budget <= 4; budget++) {
        struct simulate_setup setup = five_by_four;
        setup.budget = budget;
        setup.deletions = SIMULATE_WITHOUT;
        const struct simulate_result result = run(&setup, TRIALS);
        // The last of K among N in random order.
        const double cells = 5 * budget;
        assert_mean(result.until_exhausted, cells * 21 / (cells + 1));
        assert_true(simulate_theory(&setup).until_exhausted == cells * 21 / (cells + 1));
        assert_true(isnan(simulate_theory(&setup).until_first_lost));
        if (budget == 1) { // The first of 5.
            assert_mean(result.until_first_lost, 21.0 / 6);
        }
    }
}

static void test_given_probabilities(void **state)
{
    (void)state;
    const double p[4] = {5, 3, 1, 1}; // Tenths.
    struct simulate_setup setup = {
        .shards = 2, .slices = 4, .budget = 4, .deletions = SIMULATE_GIVEN, .probabilities = p};
    double expected = 0;
    for (uint32_t set = 1; set < 256; set++) {
        double rate = 0;
        int sign = -1;
        for (uint32_t cell = 0; cell < 8; cell++) {
            rate += set >> cell & 1 ? p[cell % 4] / 20 : 0;
            sign = set >> cell & 1 ? -sign : sign;
        }
        expected += sign / rate;
    }
    assert_mean(run(&setup, TRIALS).until_exhausted, expected);
    assert_true(isnan(simulate_theory(&setup).until_exhausted));
    // With one sequence, the first shard is lost when the slice that leads is hit anywhere.
    setup.budget = 1;
    assert_mean(run(&setup, TRIALS).until_first_lost, 10.0 / 5);
    setup.policy = SEQUENCE_BMS;
    assert_mean(run(&setup, TRIALS).until_first_lost, 10.0);
    setup.policy = SEQUENCE_SAMPLING; // Slice i leads with probability (1 - p_i) / 3.
    assert_mean(run(&setup, TRIALS).until_first_lost,
                0.5 / 3 * 10 / 5 + 0.7 / 3 * 10 / 3 + 2 * 0.9 / 3 * 10);
    setup.probabilities = NULL; // All alike.
    assert_mean(run(&setup, TRIALS).until_first_lost, 4);
}

static void test_subjects(void **state)
{
    (void)state;
    for (uint32_t records = 1; records <= 5; records += 2) {
        const struct simulate_setup setup = {.shards = 3,
                                             .slices = 3,
                                             .budget = 2,
                                             .deletions = SIMULATE_SUBJECTS,
                                             .records = records};
        assert_mean(run(&setup, TRIALS).until_exhausted, until_all_hit(6, 9, records));
        assert_true(isnan(simulate_theory(&setup).until_exhausted));
    }
}

static void test_random_orders(void **state)
{
    (void)state;
    const struct simulate_setup setup = {
        .shards = 2, .slices = 3, .budget = 2, .policy = SEQUENCE_RANDOM};
    // Two different orders of three slices begin alike in one case of five.
    assert_mean(run(&setup, TRIALS).until_exhausted,
                0.8 * until_all_hit(4, 6, 1) + 0.2 * until_all_hit(2, 6, 1));
    assert_true(isnan(simulate_theory(&setup).until_exhausted));
    assert_true(isnan(simulate_theory(&setup).until_first_lost));
}

static void test_portions_and_seeds(void **state)
{
    (void)state;
    for (enum simulate_deletions kind = SIMULATE_WITH; kind <= SIMULATE_SUBJECTS; kind++) {
        for (enum sequence_policy policy = SEQUENCE_ROTATION; policy <= SEQUENCE_SAMPLING;
             policy++) {
            struct simulate_setup setup = {.shards = 3,
                                           .slices = 4,
                                           .budget = 3,
                                           .policy = policy,
                                           .deletions = kind,
                                           .records = 2};
            const struct simulate_result whole = run(&setup, 300);
            struct simulate *simulate;
            assert_int_equal(simulate_open(&setup, &simulate), OK);
            simulate_run(simulate, 1);
            assert_true(isnan(simulate_result(simulate).until_exhausted.sem));
            simulate_run(simulate, 200);
            simulate_run(simulate, 99);
            const struct simulate_result parts = simulate_result(simulate);
            simulate_close(simulate);
            assert_memory_equal(&whole, &parts, sizeof whole);
            setup.seed = 1;
            assert_true(run(&setup, 300).until_exhausted.mean != whole.until_exhausted.mean);
        }
    }
}

static void assert_refused(const struct simulate_setup *setup, const char *words)
{
    struct simulate *simulate;
    assert_int_equal(simulate_open(setup, &simulate), ERR_INVALID);
    assert_null(simulate);
    if (strstr(err_text(), words) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", err_text(), words);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    const double good[4] = {1, 2, 3, 4}, zero[4] = {1, 0, 1, 1}, nan_[4] = {1, 1, 1, (double)NAN},
                 rare[4] = {1e7, 1, 1, 1}, huge[4] = {1e308, 1e308, 1, 1};
    struct simulate_setup setup = five_by_four;
#define REFUSED(field, value, words)                                                               \
    setup = five_by_four;                                                                          \
    setup.deletions = SIMULATE_SUBJECTS;                                                           \
    setup.records = 1;                                                                             \
    run(&setup, 1);                                                                                \
    setup.field = (value);                                                                         \
    assert_refused(&setup, words)
    REFUSED(shards, 0, "shards is 0");
    REFUSED(shards, LIMIT_SHARDS + 1, "shards is");
    REFUSED(slices, 0, "slices is 0");
    REFUSED(slices, LIMIT_SLICES + 1, "slices is");
    REFUSED(budget, 0, "budget is 0");
    REFUSED(budget, LIMIT_SEQUENCES + 1, "budget is");
    REFUSED(budget, 25, "number of orders of 4 slices");
    REFUSED(records, 0, "records is 0");
    REFUSED(records, SIMULATE_RECORDS_MAX + 1, "records is");
    REFUSED(probabilities, zero, "probability of slice 1");
    REFUSED(probabilities, nan_, "probability of slice 3");
    REFUSED(probabilities, rare, "probability of slice 1");
    REFUSED(probabilities, huge, "probability of slice 0");
#undef REFUSED
    setup.probabilities = good; // control
    setup.budget = 24;
    run(&setup, 1);
    setup.policy = SEQUENCE_BMS;
    setup.budget = 5;
    assert_refused(&setup, "budget is 5, expected at most the number of slices, 4, with bms");
    setup.budget = 4;
    run(&setup, 1);
    simulate_close(NULL);
    assert_string_equal(simulate_deletions_name(SIMULATE_WITHOUT), "without");
}

static int start(void **state)
{
    (void)state;
    return digest_start() == OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform_with_replacement),
        cmocka_unit_test(test_without_replacement),
        cmocka_unit_test(test_given_probabilities),
        cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_random_orders),
        cmocka_unit_test(test_portions_and_seeds),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
