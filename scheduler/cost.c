// scheduler/cost.c: see cost.h.
#include "scheduler/cost.h"

#include <math.h>

#include "base/check.h"

static const double LEAST_SAY = 0.1;
static const double FIRST_ERROR = 0.5; // Of one stage alone nothing tells how steady it is.

static void learn(struct cost_mean *mean, double per_sample)
{
    mean->stages++;
    const double even = 1 / (double)mean->stages;
    const double say = even > LEAST_SAY ? even : LEAST_SAY;
    if (mean->stages > 1) {
        const double off = per_sample / mean->per_sample - 1;
        const double error_even = 1 / (double)(mean->stages - 1);
        const double error_say = error_even > LEAST_SAY ? error_even : LEAST_SAY;
        mean->error2 += error_say * (off * off - mean->error2);
    }
    mean->per_sample += say * (per_sample - mean->per_sample);
}

void cost_learn(struct cost *cost, uint32_t depth, uint64_t samples, double seconds)
{
    CHECK(depth >= 1 && depth <= LIMIT_SLICES);
    if (samples == 0 || !(seconds > 0)) {
        return;
    }
    const double per_sample = seconds / (double)samples;
    learn(&cost->depths[depth], per_sample);
    learn(&cost->all, per_sample);
}

bool cost_estimate(const struct cost *cost, uint32_t depth, uint64_t samples, double *seconds_out,
                   double *error_out)
{
    CHECK(depth <= LIMIT_SLICES);
    const bool own = cost->depths[depth].stages > 0; // Of depth 0 there is none.
    const struct cost_mean *const mean = own ? &cost->depths[depth] : &cost->all;
    if (mean->stages == 0) {
        *seconds_out = cost->guess * (double)samples;
        *error_out = 1;
        return cost->guess > 0;
    }
    *seconds_out = mean->per_sample * (double)samples;
    *error_out = mean->stages > 1 ? sqrt(mean->error2) : FIRST_ERROR;
    return true;
}
