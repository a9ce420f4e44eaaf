// scheduler/simdraw.c: see simdraw.h.
#include "scheduler/simdraw.h"

#include "base/bytes.h"
#include "base/check.h"

__extension__ typedef unsigned __int128 wide; // Standard C has no product of two 64-bit numbers.

struct simdraw simdraw_of(uint64_t seed, const char *purpose, uint32_t number)
{
    struct buf name = {0};
    buf_u64(&name, seed);
    buf_u32(&name, number);
    buf_short_text(&name, purpose);
    const struct simdraw draw = {.key = rng_key_of("unlearnd-simrun", buf_span(&name))};
    buf_deinit(&name);
    return draw;
}

uint64_t simdraw_u64(struct simdraw *draw)
{
    if (draw->has_spare) {
        draw->has_spare = false;
        return draw->spare;
    }
    const uint32_t counter[4] = {(uint32_t)draw->block, (uint32_t)(draw->block >> 32), 0, 0};
    uint32_t words[4];
    rng_philox(draw->key, counter, words);
    draw->block++;
    draw->spare = (uint64_t)words[3] << 32 | words[2];
    draw->has_spare = true;
    return (uint64_t)words[1] << 32 | words[0];
}

uint64_t simdraw_below(struct simdraw *draw, uint64_t bound)
{
    CHECK(bound > 0);
    for (;;) {
        const wide product = (wide)simdraw_u64(draw) * bound;
        const uint64_t rest = (uint64_t)product;
        if (rest >= bound || rest >= (UINT64_MAX % bound + 1) % bound) { // Almost always the first.
            return (uint64_t)(product >> 64);
        }
    }
}

// Draws as long as each is below the one before: with first draw u the run has an odd length with
// probability e^-u. Then the time is u; else it is 1 longer, and all begins anew.
int64_t simdraw_wait_us(struct simdraw *draw, uint64_t mean_us)
{
    CHECK(mean_us <= (uint64_t)1 << 53);
    for (uint64_t whole = 0;; whole++) {
        const uint64_t first = simdraw_u64(draw);
        uint64_t before = first;
        bool odd = true;
        for (uint64_t next = simdraw_u64(draw); next < before; next = simdraw_u64(draw)) {
            before = next;
            odd = !odd;
        }
        if (odd) {
            const uint64_t part = (uint64_t)((wide)mean_us * first >> 64);
            return (int64_t)(whole * mean_us + part);
        }
    }
}
