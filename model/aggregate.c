// model/aggregate.c: see aggregate.h.
#include "model/aggregate.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/elem.h"

// Writes softmax(logits) to probabilities, both [width]; they may be the same array.
static void softmax(const double *logits, double *probabilities, size_t width, float *scratch)
{
    double most = logits[0];
    for (size_t i = 1; i < width; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (size_t i = 0; i < width; i++) {
        scratch[i] = (float)(logits[i] - most);
    }
    elem_exp(scratch, scratch, width);
    double sum = 0;
    for (size_t i = 0; i < width; i++) {
        sum += (double)scratch[i];
    }
    for (size_t i = 0; i < width; i++) {
        probabilities[i] = (double)scratch[i] / sum;
    }
}

static size_t highest(const float *logits, size_t width)
{
    size_t best = 0;
    for (size_t i = 1; i < width; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

// Adds one shard's outputs for one row to sum[width].
static void add_shard(enum aggregate_kind kind, bool classes, const float *outputs, double weight,
                      size_t width, double *own, float *scratch, double *sum)
{
    if (classes && kind == AGGREGATE_VOTE) {
        sum[highest(outputs, width)] += weight;
        return;
    }
    for (size_t i = 0; i < width; i++) {
        own[i] = (double)outputs[i];
    }
    if (classes && kind == AGGREGATE_MEAN_PROBABILITY) {
        softmax(own, own, width, scratch);
    }
    for (size_t i = 0; i < width; i++) {
        sum[i] += weight * own[i];
    }
}

void aggregate_rows(enum aggregate_kind kind, bool classes, const float *const *outputs,
                    const double *weights, size_t shard_count, size_t row_count, size_t width,
                    float *answer_out)
{
    CHECK(shard_count > 0 && width > 0);
    CHECK(classes || width == 1);
    double *const sum = mem_alloc(width, sizeof *sum);
    double *const own = mem_alloc(width, sizeof *own);
    float *const scratch = mem_alloc(width, sizeof *scratch);
    double total = 0;
    for (size_t shard = 0; shard < shard_count; shard++) {
        CHECK(weights == NULL || weights[shard] > 0);
        total += weights == NULL ? 1.0 : weights[shard];
    }
    for (size_t row = 0; row < row_count; row++) {
        memset(sum, 0, width * sizeof *sum);
        for (size_t shard = 0; shard < shard_count; shard++) {
            add_shard(kind, classes, outputs[shard] + row * width,
                      weights == NULL ? 1.0 : weights[shard], width, own, scratch, sum);
        }
        for (size_t i = 0; i < width; i++) {
            sum[i] /= total;
        }
        if (classes && kind == AGGREGATE_MEAN_LOGIT) {
            softmax(sum, sum, width, scratch);
        }
        for (size_t i = 0; i < width; i++) {
            answer_out[row * width + i] = (float)sum[i];
        }
    }
    mem_free(scratch);
    mem_free(own);
    mem_free(sum);
}
