// scheduler/forecast.h: when what deletions wait for will be repaired.
//
// Over all models of one principal: the repairs that are due at or before some time are done before
// all others, by this principal's share of the ranks. So they end when
//     now + max(their seconds of ranks / ranks, the longest chain among them)
// where a chain is a stage and those that must be trained before it, and what is being trained counts
// as if it had not begun. Due dates are told apart to a tenth of the time that is left until then; the
// later ones count with the earlier.
//
// Threads   One at a time for each struct.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/planner.h"

enum { FORECAST_STEPS = 8 * 48 }; // Eight for each doubling, from a second on.

struct forecast {
    int64_t now_us;
    double
        work[FORECAST_STEPS + 1]; // Seconds of ranks, of what is due in this step, then: up to it.
    double chain[FORECAST_STEPS + 1]; // Seconds, likewise.
    double error;                     // Of all of it, as a share.
    bool known;                       // Every stage's cost is known, or nothing waits.
    double ranks;                     // Of this principal: may be below 1.
};

// Looks at every component of the principal's models once.
//   ranks  how many there are now; 0: nothing will ever end.
void forecast_make(const struct planner *planner, uint32_t principal, int64_t now_us,
                   uint32_t ranks, struct forecast *forecast_out);

// When what is due at `due` (as of planned_due) is expected to be repaired: microseconds since 1970;
// INT64_MAX: never as things stand (no ranks), or not known.
int64_t forecast_end_us(const struct forecast *forecast, int64_t due);
