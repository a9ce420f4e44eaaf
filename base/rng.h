// base/rng.h: randomness as a function of what it belongs to (Philox4x32-10).
//
// There is no stream and no state: a draw is philox(key, counter). The key is a hash of the
// purpose and of everything that the draw belongs to (seed, shard, list of slices, pass, ...), the
// counter tells the draws of one purpose apart. So a deleted record shifts nobody else's draw.
//
// Threads   Any.
// Source    Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC11.
//           Key derivation: docs/format.md, "Random numbers".
#pragma once

#include <stdint.h>

#include "base/digest.h"

struct rng_key {
    uint32_t word[2];
};

// The key of `domain` (at most 16 bytes) and the bytes in `belongs_to`.
struct rng_key rng_key_of(const char *domain, struct span belongs_to);

// Four words for `counter`. Pure.
void rng_philox(struct rng_key key, const uint32_t counter[static 4], uint32_t out[static 4]);

// 64 bits for the 128-bit counter that a record's id is. Pure.
uint64_t rng_u64_of_id(struct rng_key key, const struct id128 *id);

// Uniform in [0, 1), 24 bits, from one word.
static inline float rng_unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

// Fills out[count] with numbers uniform in [-bound, bound). Element i depends on key and i alone.
void rng_fill_uniform(struct rng_key key, float bound, float *out, uint64_t count);
