// model/aggregate.h: one answer from the outputs of the shards.
//
// Not fitted on any data: it has nothing to unlearn. Shards are added in the order given, in
// float64, so that the same outputs give the same answer.
//
// Source    Bourtoule et al., IEEE S&P 2021, section IV (vote and mean of prediction vectors).
// Threads   Stateless.
#pragma once

#include <stddef.h>

#include "model/spec.h"

// One row of outputs per shard that answers.
//
//   outputs      [shard_count] pointers to float32[row_count][width]: logits, or numbers
//   weights      [shard_count] > 0, or NULL for equal weights
//   classes      true: logits -> probabilities_out sums to 1 in each row (vote: share of votes, ties
//                to the lower class); false: the weighted mean of the numbers (width is 1)
//   answer_out   float32[row_count][width]
void aggregate_rows(enum aggregate_kind kind, bool classes, const float *const *outputs,
                    const double *weights, size_t shard_count, size_t row_count, size_t width,
                    float *answer_out);
