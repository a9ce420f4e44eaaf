// scheduler/sequence.h: the orders in which a shard's slices are trained: the one place that makes
// them.
//
// An order is a permutation of 0 .. L-1; a policy gives B of them, all different. Deleting from a
// slice costs an order that slice and all behind it, so orders should begin with different slices,
// and with those from which little is deleted.
//
//   rotation  Round 0 gives the L rotations of 0 .. L-1. Round k = 1, 2, ...: for j = 1 .. L-k-1, each
//             earlier order in turn, keep its first k entries, rotate the rest by j, skip what is
//             there already; stop at B.
//   matching  BMS. Order i begins with slice i. For each next position, the L orders get their next
//             slices by the matching (each slice once, none twice in an order) whose sum of
//                 n * (1 - (p of the order's first n slices))^100
//             is greatest; among equals the lowest slice to order 0, then to order 1, and so on. Of
//             the L orders the B with the greatest sum over all n remain, best first, equals by
//             index. There are at most L of them, and no two have the same slice at one position.
//   sampling  Each slice is drawn from those left with weight 1 - p; an order that is there already is
//             thrown away. Ends after 100 * B orders, thrown away ones included.
//   random    Sampling with equal weights.
//
// Probabilities are taken to whole 2^-32ths first, so that equal sums are equal in any order of
// addition; no libm. The same arguments give the same orders everywhere.
//
// Source    S3T, arXiv 2406.16257: Algorithm 1 (iterative cyclic rotation), Algorithm 2 and equation
//           24 (BMS), appendix B.2 (conditional sampling).
// Threads   Stateless.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/policy.h"
#include "base/rng.h"

enum {
    SEQUENCE_EXPONENT = 100,        // t of the score.
    SEQUENCE_DRAWS_PER_ORDER = 100, // Of sampling.
};

// "rotation", "random", "bms", "sampling"; static storage.
const char *sequence_policy_name(enum sequence_policy policy);

// Whether `slices` have `wanted` different orders: wanted <= L!.
bool sequence_fits(uint32_t slices, uint32_t wanted);

// All below: 1 <= slices <= LIMIT_SLICES, wanted >= 1 and sequence_fits; orders_out[wanted][slices].
// probabilities[slices], finite, each >= 0, their sum > 0 (they are divided by it); NULL: all equal.

// Fills all `wanted`.
void sequence_rotation(uint32_t slices, uint32_t wanted, uint16_t *orders_out);

// Returns how many it made: min(wanted, slices). O(slices^4) at worst: seconds for 200.
uint32_t sequence_matching(uint32_t slices, uint32_t wanted, const double *probabilities,
                           uint16_t *orders_out);

// Returns how many it made, 1 .. wanted: fewer where the draws ran out.
uint32_t sequence_sampling(uint32_t slices, uint32_t wanted, const double *probabilities,
                           struct rng_key key, uint16_t *orders_out);

// By policy. `key` matters to random and sampling, `probabilities` to BMS and sampling.
uint32_t sequence_make(enum sequence_policy policy, uint32_t slices, uint32_t wanted,
                       const double *probabilities, struct rng_key key, uint16_t *orders_out);
