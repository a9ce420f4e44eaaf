// client/metrics.h: how good predictions are, summed up row by row.
//
//   loss       mean of -ln(max(p, 1e-12)), p the probability given to the true class
//   accuracy   share of rows whose most probable class (ties: the lower index) is the true one
//   ece        expected calibration error: 15 bins of equal width over the top probability, bin i =
//              [i/15, (i+1)/15), 1 in the last; the mean over rows of |accuracy - mean top
//              probability| of their bin
//   rmse, mae  root mean square and mean absolute difference
//   texts      loss is the mean of -ln(max(p, 1e-12)) over tokens: bytes and ends; bits_per_byte the sum
//              of -log2(max(p, 1e-12)) over all tokens, ends too, divided by the bytes alone
//   r2         1 - sum of squared differences / sum of squared deviations from the mean of the
//              truth; NaN where the truth never varies
//
// Sums are float64 in the order of the rows. With no row every figure is NaN.
//
// Source    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (ece).
// Lifetime  metrics_init .. metrics_deinit. Threads  One.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { METRICS_BINS = 15 };

struct metrics {
    uint32_t class_count; // 0: regression
    uint64_t rows;
    double loss_sum;
    uint64_t right;
    uint64_t bin_rows[METRICS_BINS], bin_right[METRICS_BINS];
    double bin_top_sum[METRICS_BINS];
    uint64_t *class_rows, *class_right; // [class_count], owned: by true class
    double square_sum, absolute_sum;    // Of the differences.
    double truth_mean, truth_spread;    // Welford's running mean and sum of squared deviations.
    uint64_t tokens, bytes;             // Of texts.
};

void metrics_init(struct metrics *metrics, uint32_t class_count);
void metrics_deinit(struct metrics *metrics);

// One row of a classifier: probabilities[class_count], truth < class_count.
void metrics_add_class(struct metrics *metrics, const float *probabilities, uint32_t truth);
// One row of a regression.
void metrics_add_number(struct metrics *metrics, double predicted, double truth);

// One text: the probabilities given to its bytes and its end, float32[bytes + 1]. Returns the mean of its
// tokens' losses.
double metrics_add_text(struct metrics *metrics, const float *probabilities, uint64_t bytes);

// Index of the greatest of values[count], ties to the lower; count > 0.
uint32_t metrics_top(const float *values, uint32_t count);

double metrics_loss(const struct metrics *metrics);
double metrics_accuracy(const struct metrics *metrics);
double metrics_ece(const struct metrics *metrics);
double metrics_class_accuracy(const struct metrics *metrics, uint32_t index);
double metrics_rmse(const struct metrics *metrics);
double metrics_mae(const struct metrics *metrics);
double metrics_r2(const struct metrics *metrics);
double metrics_token_loss(const struct metrics *metrics);
double metrics_bits_per_byte(const struct metrics *metrics); // NaN where no text has a byte.
