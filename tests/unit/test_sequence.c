// tests/unit/test_sequence.c: the orders of each policy are what scheduler/sequence.h says.
//
// Method: BMS is compared, level by level, with the best of all matchings, found by trying each, with
// the score written out anew in plain doubles. The frequencies of sampling are compared with the
// product of its conditional probabilities. The rounds of rotation are in test_trie.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/sequence.h"
#include "tests/unit/draw.h"

enum { SMALL = 6 };

static void assert_orders(const uint16_t *orders, uint32_t count, uint32_t slices)
{
    for (uint32_t b = 0; b < count; b++) {
        bool seen[LIMIT_SLICES] = {false};
        for (uint32_t i = 0; i < slices; i++) {
            const uint16_t slice = orders[b * slices + i];
            assert_true(slice < slices && !seen[slice]);
            seen[slice] = true;
        }
        for (uint32_t a = 0; a < b; a++) {
            assert_memory_not_equal(orders + a * slices, orders + b * slices,
                                    slices * sizeof *orders);
        }
    }
}

static void assert_position_diverse(const uint16_t *orders, uint32_t count, uint32_t slices)
{
    for (uint32_t i = 0; i < slices; i++) {
        bool seen[LIMIT_SLICES] = {false};
        for (uint32_t b = 0; b < count; b++) {
            assert_false(seen[orders[b * slices + i]]);
            seen[orders[b * slices + i]] = true;
        }
    }
}

static void assert_text(const uint16_t *orders, uint32_t slices, const char *const *texts,
                        uint32_t count)
{
    for (uint32_t b = 0; b < count; b++) {
        for (uint32_t i = 0; i < slices; i++) {
            assert_int_equal(orders[b * slices + i], texts[b][i] - '0');
        }
    }
}

static void random_probabilities(struct draw *draw, uint32_t slices, double *out)
{
    double sum = 0;
    for (uint32_t i = 0; i < slices; i++) {
        out[i] = 0.02 + (double)(draw_u64(draw) >> 11) * 0x1p-53;
        sum += out[i];
    }
    for (uint32_t i = 0; i < slices; i++) {
        out[i] /= sum;
    }
}

static void test_fits(void **state)
{
    (void)state;
    assert_true(sequence_fits(1, 1));
    assert_false(sequence_fits(1, 2));
    assert_true(sequence_fits(4, 24));
    assert_false(sequence_fits(4, 25));
    assert_true(sequence_fits(LIMIT_SLICES, UINT32_MAX));
}

// --- BMS ---

static double score_term(const double *p, const uint16_t *order, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += p[order[i]];
    }
    return n * pow(sum < 1 ? 1 - sum : 0, 100);
}

// The greatest sum that orders row .. L-1 can still reach with slices not in `used`; -1: none.
static double best_level(const double *p, const uint16_t *orders, uint32_t slices, uint32_t depth,
                         uint32_t row, uint32_t used)
{
    if (row == slices) {
        return 0;
    }
    uint16_t order[SMALL];
    memcpy(order, orders + row * slices, depth * sizeof *order);
    double best = -1;
    for (uint16_t slice = 0; slice < slices; slice++) {
        bool free_slice = (used >> slice & 1) == 0;
        for (uint32_t i = 0; i < depth; i++) {
            free_slice = free_slice && order[i] != slice;
        }
        order[depth] = slice;
        const double rest =
            free_slice ? best_level(p, orders, slices, depth, row + 1, used | 1u << slice) : -1;
        if (rest >= 0) {
            best = fmax(best, rest + score_term(p, order, depth + 1));
        }
    }
    return best;
}

static double level_of(const double *p, const uint16_t *orders, uint32_t slices, uint32_t depth)
{
    double sum = 0;
    for (uint32_t b = 0; b < slices; b++) {
        sum += score_term(p, orders + b * slices, depth + 1);
    }
    return sum;
}

static double score_of(const double *p, const uint16_t *order, uint32_t slices)
{
    double score = 0;
    for (uint32_t n = 1; n <= slices; n++) {
        score += score_term(p, order, n);
    }
    return score;
}

static void test_matching_is_the_best(void **state)
{
    (void)state;
    struct draw draw = draw_new("matching");
    for (int round = 0; round < 120; round++) {
        const uint32_t slices = 1 + (uint32_t)round % SMALL;
        double p[SMALL];
        random_probabilities(&draw, slices, p);
        uint16_t orders[SMALL * SMALL];
        assert_int_equal(sequence_matching(slices, slices, p, orders), slices);
        assert_orders(orders, slices, slices);
        assert_position_diverse(orders, slices, slices);
        // Row r of a level is the order that begins with r; the answer is sorted by score.
        uint16_t rows[SMALL * SMALL];
        for (uint32_t b = 0; b < slices; b++) {
            memcpy(rows + orders[b * slices] * slices, orders + b * slices, slices * sizeof *rows);
            assert_true(b == 0 || score_of(p, orders + (b - 1) * slices, slices) >=
                                      score_of(p, orders + b * slices, slices) * (1 - 1e-6));
        }
        for (uint32_t depth = 1; depth + 1 < slices; depth++) { // The last one: nothing to choose.
            const double best = best_level(p, rows, slices, depth, 0, 0);
            assert_true(best > 0);
            assert_true(fabs(level_of(p, rows, slices, depth) / best - 1) < 1e-6);
        }
        // Fewer are the first of them.
        for (uint32_t wanted = 1; wanted < slices; wanted++) {
            uint16_t fewer[SMALL * SMALL];
            assert_int_equal(sequence_matching(slices, wanted, p, fewer), wanted);
            assert_memory_equal(fewer, orders, wanted * slices * sizeof *fewer);
        }
    }
}

static void test_matching_ties_go_to_the_lowest(void **state)
{
    (void)state;
    static const char *const three[] = {"012", "120", "201"};
    static const char *const four[] = {"0123", "1032", "2301", "3210"};
    uint16_t orders[SMALL * SMALL];
    assert_int_equal(sequence_matching(3, 3, NULL, orders), 3);
    assert_text(orders, 3, three, 3);
    assert_int_equal(sequence_matching(4, 4, NULL, orders), 4);
    assert_text(orders, 4, four, 4);
    // Equal sums in other orders of addition are equal; what is added to p's scale changes nothing.
    const double tenths[4] = {0.3, 0.3, 0.3, 0.3};
    assert_int_equal(sequence_matching(4, 4, tenths, orders), 4);
    assert_text(orders, 4, four, 4);
    // More than L: L of them.
    assert_int_equal(sequence_matching(4, 24, NULL, orders), 4);
    assert_text(orders, 4, four, 4);
    // Two kinds of slices: the rare ones lead.
    const double two[4] = {0.1, 0.1, 0.4, 0.4};
    assert_int_equal(sequence_matching(4, 2, two, orders), 2);
    assert_true(orders[0] == 0 && orders[4] == 1);
}

static void test_matching_large(void **state)
{
    (void)state;
    static uint16_t orders[60 * 60], again[60 * 60];
    struct draw draw = draw_new("large");
    double p[60];
    random_probabilities(&draw, 60, p);
    for (int uniform = 0; uniform < 2; uniform++) {
        assert_int_equal(sequence_matching(60, 60, uniform ? NULL : p, orders), 60);
        assert_position_diverse(orders, 60, 60);
        assert_orders(orders, 60, 60);
        sequence_matching(60, 60, uniform ? NULL : p, again);
        assert_memory_equal(orders, again, sizeof orders);
    }
    const double certain[3] = {1, 0, 0}; // Slices that nothing is deleted from.
    assert_int_equal(sequence_matching(3, 3, certain, orders), 3);
    assert_position_diverse(orders, 3, 3);
    assert_int_equal(orders[0], 1);
}

// --- Sampling ---

static void test_sampling_has_its_distribution(void **state)
{
    (void)state;
    enum { KEYS = 60000 };
    static const double p[3] = {0.5, 0.3, 0.2};
    for (int equal = 0; equal < 2; equal++) {
        uint32_t counts[27] = {0};
        for (uint32_t i = 0; i < KEYS; i++) {
            uint16_t o[3];
            const struct rng_key key = {{i, 77}};
            assert_int_equal(
                sequence_make(equal ? SEQUENCE_RANDOM : SEQUENCE_SAMPLING, 3, 1, p, key, o), 1);
            counts[9 * o[0] + 3 * o[1] + o[2]]++;
        }
        for (int a = 0; a < 3; a++) {
            for (int b = 0; b < 3; b++) {
                if (a == b) {
                    continue;
                }
                const double wa = equal ? 1 : 1 - p[a], wb = equal ? 1 : 1 - p[b];
                const double all = equal ? 3 : 2;
                const double chance = wa / all * wb / (all - wa);
                const double sigma = sqrt(KEYS * chance * (1 - chance));
                const double found = counts[9 * a + 3 * b + (3 - a - b)];
                assert_true(fabs(found - KEYS * chance) < 5 * sigma);
            }
        }
    }
}

static void test_sampling_rejects_duplicates(void **state)
{
    (void)state;
    uint16_t orders[24 * 4], again[24 * 4], other[24 * 4];
    const struct rng_key key = {{1, 2}}, another = {{1, 3}};
    const double p[4] = {0.4, 0.3, 0.2, 0.1};
    assert_int_equal(sequence_sampling(4, 24, p, key, orders), 24);
    assert_orders(orders, 24, 4);
    assert_int_equal(sequence_sampling(4, 24, p, key, again), 24);
    assert_memory_equal(orders, again, sizeof orders);
    assert_int_equal(sequence_sampling(4, 24, p, another, other), 24);
    assert_memory_not_equal(orders, other, sizeof orders);
    // One order has weight 0: the draws run out.
    const double certain[2] = {1, 0};
    assert_int_equal(sequence_sampling(2, 2, certain, key, orders), 1);
    assert_true(orders[0] == 1 && orders[1] == 0);
    assert_int_equal(sequence_sampling(2, 2, NULL, key, orders), 2); // control
    assert_int_equal(sequence_sampling(1, 1, NULL, key, orders), 1);
    assert_int_equal(orders[0], 0);
}

static void test_policies(void **state)
{
    (void)state;
    static const char *const names[] = {"rotation", "random", "bms", "sampling"};
    const struct rng_key key = {{5, 6}};
    for (enum sequence_policy policy = SEQUENCE_ROTATION; policy <= SEQUENCE_SAMPLING; policy++) {
        assert_string_equal(sequence_policy_name(policy), names[policy]);
        uint16_t orders[6 * 4];
        const uint32_t count = sequence_make(policy, 4, 6, NULL, key, orders);
        assert_int_equal(count, policy == SEQUENCE_BMS ? 4 : 6);
        assert_orders(orders, count, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fits),
        cmocka_unit_test(test_matching_is_the_best),
        cmocka_unit_test(test_matching_ties_go_to_the_lowest),
        cmocka_unit_test(test_matching_large),
        cmocka_unit_test(test_sampling_has_its_distribution),
        cmocka_unit_test(test_sampling_rejects_duplicates),
        cmocka_unit_test(test_policies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
