// client/metrics.c: see metrics.h.
#include "client/metrics.h"

#include <math.h>

#include "base/check.h"
#include "base/mem.h"

void metrics_init(struct metrics *metrics, uint32_t class_count)
{
    *metrics = (struct metrics){.class_count = class_count};
    if (class_count > 0) {
        metrics->class_rows = mem_alloc(class_count, sizeof *metrics->class_rows);
        metrics->class_right = mem_alloc(class_count, sizeof *metrics->class_right);
    }
}

void metrics_deinit(struct metrics *metrics)
{
    mem_free(metrics->class_rows);
    mem_free(metrics->class_right);
    *metrics = (struct metrics){0};
}

uint32_t metrics_top(const float *values, uint32_t count)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (values[i] > values[top]) {
            top = i;
        }
    }
    return top;
}

void metrics_add_class(struct metrics *metrics, const float *probabilities, uint32_t truth)
{
    CHECK(truth < metrics->class_count);
    const uint32_t top = metrics_top(probabilities, metrics->class_count);
    const double confidence = (double)probabilities[top];
    const bool right = top == truth;
    metrics->rows++;
    metrics->right += right;
    metrics->class_rows[truth]++;
    metrics->class_right[truth] += right;
    const double given = (double)probabilities[truth];
    metrics->loss_sum -= log(given > 1e-12 ? given : 1e-12);
    // A sum of shares may pass 1 by a rounding, and a broken peer may send anything.
    const double place = confidence > 0 ? confidence * METRICS_BINS : 0;
    const int bin = place < METRICS_BINS ? (int)place : METRICS_BINS - 1;
    metrics->bin_rows[bin]++;
    metrics->bin_right[bin] += right;
    metrics->bin_top_sum[bin] += confidence;
}

void metrics_add_number(struct metrics *metrics, double predicted, double truth)
{
    const double difference = predicted - truth;
    metrics->rows++;
    metrics->square_sum += difference * difference;
    metrics->absolute_sum += fabs(difference);
    const double from_old_mean = truth - metrics->truth_mean;
    metrics->truth_mean += from_old_mean / (double)metrics->rows;
    metrics->truth_spread += from_old_mean * (truth - metrics->truth_mean);
}

double metrics_add_text(struct metrics *metrics, const float *probabilities, uint64_t bytes)
{
    double sum = 0;
    for (uint64_t i = 0; i <= bytes; i++) {
        const double given = (double)probabilities[i];
        sum -= log(given > 1e-12 ? given : 1e-12);
    }
    metrics->rows++;
    metrics->loss_sum += sum;
    metrics->tokens += bytes + 1;
    metrics->bytes += bytes;
    return sum / (double)(bytes + 1);
}

// No rows: 0 / 0 is the NaN that the contract promises.
static double per_row(const struct metrics *metrics, double sum)
{
    return sum / (double)metrics->rows;
}

double metrics_loss(const struct metrics *metrics)
{
    return per_row(metrics, metrics->loss_sum);
}

double metrics_accuracy(const struct metrics *metrics)
{
    return per_row(metrics, (double)metrics->right);
}

double metrics_ece(const struct metrics *metrics)
{
    double sum = 0;
    for (int i = 0; i < METRICS_BINS; i++) {
        sum += fabs((double)metrics->bin_right[i] - metrics->bin_top_sum[i]);
    }
    return per_row(metrics, sum);
}

double metrics_class_accuracy(const struct metrics *metrics, uint32_t index)
{
    CHECK(index < metrics->class_count);
    return (double)metrics->class_right[index] / (double)metrics->class_rows[index];
}

double metrics_rmse(const struct metrics *metrics)
{
    return sqrt(per_row(metrics, metrics->square_sum));
}

double metrics_mae(const struct metrics *metrics)
{
    return per_row(metrics, metrics->absolute_sum);
}

double metrics_token_loss(const struct metrics *metrics)
{
    return metrics->loss_sum / (double)metrics->tokens;
}

double metrics_bits_per_byte(const struct metrics *metrics)
{
    return metrics->bytes == 0 ? (double)NAN
                               : metrics->loss_sum / log(2.0) / (double)metrics->bytes;
}

double metrics_r2(const struct metrics *metrics)
{
    return metrics->truth_spread > 0 ? 1 - metrics->square_sum / metrics->truth_spread
                                     : (double)NAN;
}
