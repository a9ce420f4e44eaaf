// tests/unit/test_aggregate.c: one answer from several shards, by hand-computed examples.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/aggregate.h"

enum { ROWS = 2, WIDTH = 3 };

// Row 0: shards 0 and 1 prefer class 1, shard 2 class 0. Row 1: every shard prefers another one.
static const float first[] = {0, 2, -1, 3, 0, 0};
static const float second[] = {1, 1.5f, 0, 0, 3, 0};
static const float third[] = {9, 0, 0, 0, 0, 3};
static const float *const outputs[] = {first, second, third};
static const double weights[] = {1, 2, 5};

// p[width] = softmax of logits in float64.
static void softmax(const double *logits, double *p)
{
    double sum = 0;
    for (int i = 0; i < WIDTH; i++) {
        p[i] = exp(logits[i]);
        sum += p[i];
    }
    for (int i = 0; i < WIDTH; i++) {
        p[i] /= sum;
    }
}

static void check(enum aggregate_kind kind, const double *w)
{
    float answer[ROWS * WIDTH];
    aggregate_rows(kind, true, outputs, w, 3, ROWS, WIDTH, answer);
    for (int row = 0; row < ROWS; row++) {
        double expected[WIDTH] = {0}, total = 0;
        for (int shard = 0; shard < 3; shard++) {
            double own[WIDTH], p[WIDTH];
            const double weight = w == NULL ? 1 : w[shard];
            for (int i = 0; i < WIDTH; i++) {
                own[i] = (double)outputs[shard][row * WIDTH + i];
            }
            softmax(own, p);
            total += weight;
            for (int i = 0; i < WIDTH; i++) {
                expected[i] += weight * (kind == AGGREGATE_MEAN_LOGIT ? own[i] : p[i]);
            }
        }
        for (int i = 0; i < WIDTH; i++) {
            expected[i] /= total;
        }
        if (kind == AGGREGATE_MEAN_LOGIT) {
            softmax(expected, expected);
        }
        double sum = 0;
        for (int i = 0; i < WIDTH; i++) {
            assert_true(fabs((double)answer[row * WIDTH + i] - expected[i]) < 1e-6);
            sum += (double)answer[row * WIDTH + i];
        }
        assert_true(fabs(sum - 1) < 1e-6);
    }
}

static void test_means(void **state)
{
    (void)state;
    check(AGGREGATE_MEAN_PROBABILITY, NULL);
    check(AGGREGATE_MEAN_PROBABILITY, weights);
    check(AGGREGATE_MEAN_LOGIT, NULL);
    check(AGGREGATE_MEAN_LOGIT, weights);
}

static void test_vote_shares(void **state)
{
    (void)state;
    float answer[ROWS * WIDTH];
    aggregate_rows(AGGREGATE_VOTE, true, outputs, NULL, 3, ROWS, WIDTH, answer);
    assert_true(answer[0] == 1.0f / 3 && answer[1] == 2.0f / 3 && answer[2] == 0);
    assert_true(answer[3] == 1.0f / 3 && answer[4] == 1.0f / 3 && answer[5] == 1.0f / 3);
    aggregate_rows(AGGREGATE_VOTE, true, outputs, weights, 3, ROWS, WIDTH, answer);
    assert_true(answer[0] == 5.0f / 8 && answer[1] == 3.0f / 8 && answer[2] == 0);
}

static void test_vote_ties_go_to_the_lower_class(void **state)
{
    (void)state;
    const float equal[WIDTH] = {1, 4, 4};
    const float *const one[] = {equal};
    float answer[WIDTH];
    aggregate_rows(AGGREGATE_VOTE, true, one, NULL, 1, 1, WIDTH, answer);
    assert_true(answer[0] == 0 && answer[1] == 1 && answer[2] == 0);
}

static void test_numbers_are_averaged_whatever_the_kind(void **state)
{
    (void)state;
    static const enum aggregate_kind kinds[] = {AGGREGATE_MEAN_PROBABILITY, AGGREGATE_MEAN_LOGIT,
                                                AGGREGATE_VOTE};
    for (int k = 0; k < 3; k++) {
        float answer[2];
        aggregate_rows(kinds[k], false, outputs, NULL, 3, 2, 1, answer);
        assert_true(answer[0] == 10.0f / 3 && answer[1] == 3.5f / 3);
        aggregate_rows(kinds[k], false, outputs, weights, 3, 2, 1, answer);
        assert_true(answer[0] == 47.0f / 8 && answer[1] == 5.0f / 8);
    }
}

// Logits far from zero must not overflow.
static void test_large_logits(void **state)
{
    (void)state;
    const float large[WIDTH] = {1e30f, -1e30f, 1e30f};
    const float *const one[] = {large};
    float answer[WIDTH];
    aggregate_rows(AGGREGATE_MEAN_PROBABILITY, true, one, NULL, 1, 1, WIDTH, answer);
    assert_true(answer[0] == 0.5f && answer[1] == 0 && answer[2] == 0.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_means),
        cmocka_unit_test(test_vote_shares),
        cmocka_unit_test(test_vote_ties_go_to_the_lower_class),
        cmocka_unit_test(test_numbers_are_averaged_whatever_the_kind),
        cmocka_unit_test(test_large_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
