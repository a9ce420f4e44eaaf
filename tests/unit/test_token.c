// tests/unit/test_token.c: tokens of texts: how they are written, and which one is chosen.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "client/token.h"

static void test_labels_are_different(void **state)
{
    (void)state;
    static const struct {
        uint32_t token;
        const char *label;
    } cases[] = {{'a', "a"},     {' ', " "},   {'\n', "\\n"},       {'\t', "\\t"},  {'\r', "\\r"},
                 {'\\', "\\\\"}, {0, "\\x00"}, {27, "\\x1b"},       {127, "\\x7f"}, {0xc3, "\\xc3"},
                 {255, "\\xff"}, {'<', "<"},   {TOKEN_END, "<end>"}};
    char labels[TOKEN_COUNT][TOKEN_LABEL_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        token_label(cases[i].token, labels[0]);
        assert_string_equal(labels[0], cases[i].label);
    }
    for (uint32_t i = 0; i < TOKEN_COUNT; i++) {
        token_label(i, labels[i]);
        for (uint32_t j = 0; j < i; j++) {
            assert_string_not_equal(labels[i], labels[j]);
        }
    }
}

static void test_top_takes_the_first_of_equals(void **state)
{
    (void)state;
    float p[TOKEN_COUNT] = {[7] = 0.25f, [9] = 0.5f, [TOKEN_END] = 0.25f};
    assert_int_equal(token_top(p), 9);
    p[TOKEN_END] = 0.5f;
    assert_int_equal(token_top(p), 9);
    p[TOKEN_END] = 0.75f;
    assert_int_equal(token_top(p), TOKEN_END);
}

// Counts 20,000 draws of a seed.
static void count(const float *p, double temperature, uint64_t seed, uint32_t counts[TOKEN_COUNT])
{
    memset(counts, 0, TOKEN_COUNT * sizeof *counts);
    for (uint64_t i = 0; i < 20000; i++) {
        counts[token_draw(p, temperature, seed, i)]++;
    }
}

static void assert_about(uint32_t found, double share)
{
    // Five standard errors of 20,000 draws.
    assert_true(fabs(found / 20000.0 - share) < 5 * sqrt(share * (1 - share) / 20000));
}

static void test_draws_follow_the_probabilities(void **state)
{
    (void)state;
    const float p[TOKEN_COUNT] = {[0] = 0.1f, [65] = 0.6f, [TOKEN_END] = 0.3f};
    uint32_t counts[TOKEN_COUNT];
    count(p, 1, 7, counts);
    assert_about(counts[0], 0.1);
    assert_about(counts[65], 0.6);
    assert_about(counts[TOKEN_END], 0.3);
    assert_int_equal(counts[0] + counts[65] + counts[TOKEN_END], 20000);
    count(p, 0.5, 7, counts); // Squares: 1, 36, 9 of 46.
    assert_about(counts[65], 36.0 / 46);
    assert_about(counts[TOKEN_END], 9.0 / 46);
    count(p, 2, 7, counts); // Roots.
    const double roots = sqrt(0.1) + sqrt(0.6) + sqrt(0.3);
    assert_about(counts[0], sqrt(0.1) / roots);
    count(p, 0.01, 7, counts);
    assert_int_equal(counts[65], 20000);
}

static void test_draws_belong_to_seed_and_index(void **state)
{
    (void)state;
    float p[TOKEN_COUNT];
    uint32_t other_seed = 0, other_index = 0;
    for (uint32_t i = 0; i < TOKEN_COUNT; i++) {
        p[i] = 1.0f / TOKEN_COUNT;
    }
    for (uint64_t i = 0; i < 100; i++) {
        const uint32_t token = token_draw(p, 1, 42, i);
        assert_int_equal(token_draw(p, 1, 42, i), token);
        other_seed += token_draw(p, 1, 43, i) != token;
        other_index += token_draw(p, 1, 42, i + 1000) != token;
    }
    assert_true(other_seed > 90 && other_index > 90);
    // Pinned: what a seed gives must not change (docs/format.md, "Random numbers").
    static const uint32_t first[6] = {57, 25, 76, 8, 95, 240};
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(token_draw(p, 1, 42, i), first[i]);
    }
}

static void test_what_is_no_probability_gives_some_token(void **state)
{
    (void)state;
    float p[TOKEN_COUNT] = {0};
    assert_true(token_draw(p, 1, 1, 0) < TOKEN_COUNT);
    p[3] = NAN;
    p[4] = INFINITY;
    assert_true(token_draw(p, 0.01, 1, 0) < TOKEN_COUNT);
    p[4] = -1;
    assert_true(token_draw(p, 100, 1, 0) < TOKEN_COUNT);
}

static int start(void **state)
{
    (void)state;
    return digest_start() == OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_are_different),
        cmocka_unit_test(test_top_takes_the_first_of_equals),
        cmocka_unit_test(test_draws_follow_the_probabilities),
        cmocka_unit_test(test_draws_belong_to_seed_and_index),
        cmocka_unit_test(test_what_is_no_probability_gives_some_token),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
