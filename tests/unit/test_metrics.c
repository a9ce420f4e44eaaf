// tests/unit/test_metrics.c: the figures of `evaluate` against values worked out by hand.
//
// Method: few rows whose sums can be done on paper; the cases where a definition is easily got
// wrong (ties, a probability of 0 and of 1, a truth that never varies, no row) each have their own.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/metrics.h"

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-9)) {
        fail_msg("found %.12g, expected %.12g", found, expected);
    }
}

static void test_classes_by_hand(void **state)
{
    (void)state;
    struct metrics metrics;
    metrics_init(&metrics, 2);
    metrics_add_class(&metrics, (float[]){0.75F, 0.25F}, 0); // Right; top 0.75 is in bin 11.
    metrics_add_class(&metrics, (float[]){0.75F, 0.25F}, 1); // Wrong; the same bin.
    metrics_add_class(&metrics, (float[]){0.5F, 0.5F}, 0);   // A tie goes to class 0: right; bin 7.
    metrics_add_class(&metrics, (float[]){0.125F, 0.875F}, 1); // Right; bin 13.
    assert_int_equal(metrics.rows, 4);
    assert_near(metrics_accuracy(&metrics), 0.75);
    assert_near(metrics_loss(&metrics), -(log(0.75) + log(0.25) + log(0.5) + log(0.875)) / 4);
    // |1 - 1.5| + |1 - 0.5| + |1 - 0.875|, over 4 rows.
    assert_near(metrics_ece(&metrics), (0.5 + 0.5 + 0.125) / 4);
    assert_near(metrics_class_accuracy(&metrics, 0), 1);
    assert_near(metrics_class_accuracy(&metrics, 1), 0.5);
    assert_int_equal(metrics.class_rows[1], 2);
    metrics_deinit(&metrics);
}

static void test_certainty_is_clamped(void **state)
{
    (void)state;
    struct metrics metrics;
    metrics_init(&metrics, 2);
    metrics_add_class(&metrics, (float[]){1, 0}, 1); // Sure and wrong: finite, and in the last bin.
    assert_near(metrics_loss(&metrics), -log(1e-12));
    assert_int_equal(metrics.bin_rows[METRICS_BINS - 1], 1);
    assert_near(metrics_ece(&metrics), 1);
    metrics_deinit(&metrics);
}

static void test_bins_are_of_equal_width(void **state)
{
    (void)state;
    struct metrics metrics;
    metrics_init(&metrics, 20);
    float low[20];
    for (int i = 0; i < 20; i++) {
        low[i] = 0.05F;
    }
    metrics_add_class(&metrics, low, 0); // 0.05 < 1/15
    assert_int_equal(metrics.bin_rows[0], 1);
    low[3] = 0.07F; // > 1/15
    metrics_add_class(&metrics, low, 0);
    assert_int_equal(metrics.bin_rows[1], 1);
    metrics_deinit(&metrics);
}

static void test_numbers_by_hand(void **state)
{
    (void)state;
    struct metrics metrics;
    metrics_init(&metrics, 0);
    metrics_add_number(&metrics, 1, 1);
    metrics_add_number(&metrics, 4, 2);
    metrics_add_number(&metrics, 2, 3);
    assert_near(metrics_rmse(&metrics), sqrt((0.0 + 4 + 1) / 3));
    assert_near(metrics_mae(&metrics), 1);
    assert_near(metrics_r2(&metrics), 1 - 5.0 / 2); // Mean 2, spread 1 + 0 + 1.
    metrics_deinit(&metrics);
}

static void test_texts_by_hand(void **state)
{
    (void)state;
    struct metrics metrics;
    metrics_init(&metrics, 0);
    const float empty[] = {0.25f}, three[] = {0.5f, 0.5f, 0.125f, 0.25f}, never[] = {1, 0};
    assert_near(metrics_add_text(&metrics, empty, 0), log(4));
    assert_true(isnan(metrics_bits_per_byte(&metrics))); // An end, and no byte.
    assert_near(metrics_token_loss(&metrics), log(4));
    assert_near(metrics_add_text(&metrics, three, 3), 7 * log(2) / 4);
    assert_near(metrics_bits_per_byte(&metrics), (2.0 + 7) / 3); // Ends count, their bytes do not.
    assert_near(metrics_token_loss(&metrics), 9 * log(2) / 5);
    assert_int_equal(metrics.rows, 2);
    assert_near(metrics_add_text(&metrics, never, 1),
                6 * log(10)); // 1e-12 at least, over 2 tokens.
    metrics_deinit(&metrics);
}

static void test_r2_far_from_zero(void **state)
{
    (void)state;
    struct metrics metrics; // Sums of squares would lose the spread of 2 beside 3e16.
    metrics_init(&metrics, 0);
    metrics_add_number(&metrics, 1e8 + 1, 1e8 + 1);
    metrics_add_number(&metrics, 1e8 + 2, 1e8 + 2);
    metrics_add_number(&metrics, 1e8 + 4, 1e8 + 3);
    assert_near(metrics_r2(&metrics), 0.5);
    metrics_deinit(&metrics);
}

static void test_what_cannot_be_told_is_nan(void **state)
{
    (void)state;
    struct metrics metrics;
    metrics_init(&metrics, 0);
    assert_true(isnan(metrics_rmse(&metrics)));
    assert_true(isnan(metrics_r2(&metrics)));
    metrics_add_number(&metrics, 1, 5);
    metrics_add_number(&metrics, 2, 5);
    assert_true(isnan(metrics_r2(&metrics)));
    assert_near(metrics_mae(&metrics), 3.5);
    metrics_deinit(&metrics);
    metrics_init(&metrics, 3);
    assert_true(isnan(metrics_accuracy(&metrics)));
    assert_true(isnan(metrics_class_accuracy(&metrics, 2)));
    metrics_deinit(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes_by_hand),
        cmocka_unit_test(test_certainty_is_clamped),
        cmocka_unit_test(test_bins_are_of_equal_width),
        cmocka_unit_test(test_numbers_by_hand),
        cmocka_unit_test(test_texts_by_hand),
        cmocka_unit_test(test_r2_far_from_zero),
        cmocka_unit_test(test_what_cannot_be_told_is_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
