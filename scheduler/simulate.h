// scheduler/simulate.h: how many deletions a cluster bears before it must train again, by trial.
//
// m shards of L slices each, all with the same B orders (scheduler/sequence.h), and nothing is
// repaired. A deletion hits one or more slices of shards; an order keeps the prefix before its first
// slice that was hit. So a shard has lost every prefix when the first slices of all its orders are
// hit, and of the orders only the set of first slices matters.
//
//   until exhausted          deletions until every shard has lost every prefix, the last one included:
//                            the "deletion rate" of S3T
//   until first shard lost   deletions until some shard has
//
// A deletion that hits nothing alive counts like any other: it was handled. Policies that draw
// (random, sampling) draw anew for each trial.
//
// Trial i is a function of setup and i alone (Philox), so trials can be run in any portions.
//
// Source    S3T, arXiv 2406.16257, lemma 1; the closed forms are the coupon collector's. The second
//           is m L times the integral over t of (1 - (1 - e^-t)^B')^m, with v = 1 - e^-t.
// Lifetime  simulate_open to simulate_close.  Threads  One for each struct simulate.
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "scheduler/sequence.h"

enum simulate_deletions {
    SIMULATE_WITH,     // A deletion hits one of the m * L slices, all alike, again and again.
    SIMULATE_WITHOUT,  // The same, but each slice once: m * L deletions at most.
    SIMULATE_GIVEN,    // Any shard, all alike; slice i of it with probability p_i.
    SIMULATE_SUBJECTS, // A subject: `records` slices, each as by WITH. Where placement keeps all of
    // a subject's records in one slice, as scheduler/placement.h does, it is WITH.
};

struct simulate_setup {
    uint32_t shards; // m, 1 .. LIMIT_SHARDS
    uint32_t slices; // L, 1 .. LIMIT_SLICES
    uint32_t budget; // B, 1 .. LIMIT_SEQUENCES, at most L!, with BMS at most L
    enum sequence_policy policy;
    enum simulate_deletions deletions;
    uint32_t records; // SUBJECTS: of one subject, 1 .. SIMULATE_RECORDS_MAX; else ignored.
    // [slices], each finite and > 0; they are divided by their sum, and none may then be below
    // SIMULATE_PROBABILITY_MIN. Used by BMS, sampling, and GIVEN. Borrowed until simulate_open
    // returns. NULL: all equal.
    const double *probabilities;
    uint64_t seed;
};

enum { SIMULATE_RECORDS_MAX = 65536 };
// What is deleted once in a million times makes a trial a million deletions long: enough.
#define SIMULATE_PROBABILITY_MIN 1e-6

// A mean over trials, and its standard error: NaN after fewer than two trials.
struct simulate_mean {
    double mean, sem;
};

struct simulate_result {
    uint64_t trials; // At least 1.
    struct simulate_mean until_exhausted, until_first_lost;
};

struct simulate;

// ERR_INVALID: a number outside its bounds above, with its name.
MUST_USE enum err simulate_open(const struct simulate_setup *setup, struct simulate **simulate_out);
void simulate_run(struct simulate *simulate, uint64_t trials); // The next ones.
struct simulate_result simulate_result(const struct simulate *simulate);
void simulate_close(struct simulate *simulate); // Accepts NULL.

// What is expected, where there is a closed form; else NaN. Rotation and BMS, whose orders begin with
// B' = min(B, L) slices:
//   WITH     until exhausted          m L H(m B')
//            until first shard lost   (m L / B') sum of Beta(j / B', m), j = 1 .. B'
//   WITHOUT  until exhausted          K (m L + 1) / (K + 1), K = m B': the last of K in random order
struct simulate_theory {
    double until_exhausted, until_first_lost;
};
struct simulate_theory simulate_theory(const struct simulate_setup *setup);

// "with", "without", "given", "subjects"; static storage.
const char *simulate_deletions_name(enum simulate_deletions deletions);
