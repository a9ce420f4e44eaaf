// scheduler/cost.h: what stages cost, learnt from those that were trained.
//
// A sample is one record in one pass. Seconds of one rank per sample are learnt for each length of
// the list, since an adapter far from the top costs more than one near it, and over all of them, for
// lists that were not measured yet. Newer stages count for more: each has at least a tenth of the say.
// The error is the root mean square of how far each stage was from what had been expected of it.
//
// Threads   One at a time for each struct.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

struct cost_mean {
    uint64_t stages;
    double per_sample; // Seconds.
    double error2;     // Squared relative error; of the first stage there is none.
};

struct cost { // Zeros: nothing is known.
    struct cost_mean depths[LIMIT_SLICES + 1];
    struct cost_mean all;
    double guess; // Seconds per sample until one was measured: that of a like model. 0: none.
};

// A stage of `depth` (1 .. LIMIT_SLICES) slices took so long. Nothing is learnt of no samples, or of
// no seconds.
void cost_learn(struct cost *cost, uint32_t depth, uint64_t samples, double seconds);

// Seconds of one rank for so many samples of stages of `depth`, or of any (0); *error_out: by which share of it this may be off, as a
// rule (0.25: a quarter; of a guess 1). False: nothing is known, and the seconds are 0.
bool cost_estimate(const struct cost *cost, uint32_t depth, uint64_t samples, double *seconds_out,
                   double *error_out);
