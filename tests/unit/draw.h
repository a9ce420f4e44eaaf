// tests/unit/draw.h: a stream of random numbers for property tests, from a seed that is printed.
//
// UNLEARN_TEST_SEED chooses the seed, so that a failure can be repeated or other cases be tried.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"

struct draw {
    struct rng_key key;
    uint32_t count;
};

static inline struct draw draw_new(const char *test)
{
    const char *const text = getenv("UNLEARN_TEST_SEED");
    const unsigned long seed = text == NULL ? 1 : strtoul(text, NULL, 10);
    printf("%s: UNLEARN_TEST_SEED=%lu\n", test, seed);
    return (struct draw){.key = {{(uint32_t)seed, 0x7e57}}};
}

static inline uint64_t draw_u64(struct draw *draw)
{
    const uint32_t counter[4] = {draw->count++, 0, 0, 0};
    uint32_t out[4];
    rng_philox(draw->key, counter, out);
    return (uint64_t)out[0] << 32 | out[1];
}

// 0 .. bound - 1; the modulo's bias does not matter here.
static inline uint32_t draw_below(struct draw *draw, uint32_t bound)
{
    CHECK(bound > 0);
    return (uint32_t)(draw_u64(draw) % bound);
}
