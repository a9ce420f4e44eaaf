// scheduler/simrun.h: a simulated cluster under a stream of deletions, from one seed.
//
// Deletions come at random (Poisson), one by one or `together` at once. Each picks the risk class that it
// comes from by the classes' shares, then one of the records that are left of it, all alike; where none
// is left nothing happens. Each rank fails at random while it is not down. Deletions and failures are
// streams of their own, each rank's too, so they are the same under every policy, and runs compare.
//
// Everything follows from the setup, to the bit and on any machine: whole numbers decide, or sums,
// products and square roots of doubles.
//
// Lifetime  simrun_open to simrun_close. Threads  One for each struct.
#pragma once

#include "base/err.h"
#include "scheduler/simcluster.h"

#define SIMRUN_BEGIN_US INT64_C(1767225600000000) // 2026-01-01: calendar months depend on it.

struct simrun_setup {
    uint64_t records;  // 1 .. LIMIT_SIM_RECORDS
    uint32_t shards;   // 1 .. LIMIT_SHARDS
    uint32_t slices;   // 1 .. LIMIT_SLICES
    uint32_t budget;   // B, 1 .. LIMIT_SEQUENCES, at most L!; rotation
    uint32_t epochs;   // e0, 1 .. LIMIT_EPOCHS
    uint32_t days;     // 1 .. LIMIT_SIM_DAYS
    double per_day;    // Deletions, above 0; LIMIT_SIM_EVENTS in all.
    uint32_t together; // 1 .. LIMIT_REPAIR_BATCH
    const char
        *due;       // As due.h, but no date: it counts from each deletion. Kept until simrun_close.
    uint32_t ranks; // 1 .. LIMIT_WORKERS
    uint32_t chunks;           // 1 .. LIMIT_GRADIENT_CHUNKS
    double seconds_per_sample; // 1e-9 .. 1e6
    double mtbf_hours;         // Of one rank, above 0; 0: none fails. LIMIT_SIM_EVENTS in all.
    uint32_t back_after;       // Seconds, 0 .. LIMIT_SIM_BACK_SECONDS
    struct repair_policy policy;
    struct risk_table risk;
    // By class, 0 .. class_count - 1, 1 .. LIMIT_RISK_CLASSES: shares of people and of deletions, each
    // finite and >= 0, their sums above 0, and no deletions where there are no people.
    uint32_t class_count;
    double people[LIMIT_RISK_CLASSES], deletions[LIMIT_RISK_CLASSES];
    uint64_t seed;
};

struct simrun;

// ERR_INVALID, ERR_LIMIT: a number outside its bounds above, with its name, or too much in all.
MUST_USE enum err simrun_open(const struct simrun_setup *setup, struct simrun **run_out);
void simrun_close(struct simrun *run); // Accepts NULL.
// Goes on to the end of a day, 1 .. days: in any portions.
void simrun_until(struct simrun *run, uint32_t day);
struct simcluster_result simrun_result(const struct simrun *run);
// How things stand.
const struct ensemble *simrun_ensemble(const struct simrun *run);
