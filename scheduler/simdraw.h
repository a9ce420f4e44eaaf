// scheduler/simdraw.h: streams of random numbers for simulations.
//
// All is whole numbers, without libm, so that a stream is the same on every machine. Streams of one
// seed with other purposes or numbers have nothing to do with each other.
//
// Threads   One at a time for each struct.
// Source    Exponential times: von Neumann, "Various techniques used in connection with random digits",
//           1951: comparisons alone.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

struct simdraw {
    struct rng_key key;
    uint64_t block;
    uint64_t spare;
    bool has_spare;
};

// purpose: at most 8 bytes. digest_start must have been called.
struct simdraw simdraw_of(uint64_t seed, const char *purpose, uint32_t number);

uint64_t simdraw_u64(struct simdraw *draw);
uint64_t simdraw_below(struct simdraw *draw,
                       uint64_t bound); // 0 .. bound - 1, all alike; bound >= 1.
// Time until the next event, where they come at random and `mean_us` apart on average. mean_us: 0 .. 2^53.
int64_t simdraw_wait_us(struct simdraw *draw, uint64_t mean_us);
