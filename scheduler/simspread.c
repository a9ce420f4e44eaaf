// scheduler/simspread.c: see simspread.h. Numbers below 256 have buckets of their own; of greater ones
// eight bits are kept, the leading one among them.
#include "scheduler/simspread.h"

#include "base/check.h"
#include "base/mem.h"

enum { KEPT_BITS = 7 };
static const uint64_t HALF = (uint64_t)1 << KEPT_BITS, BUCKETS = (64 - KEPT_BITS + 1) << KEPT_BITS;

void spread_init(struct spread *spread)
{
    *spread = (struct spread){.buckets = mem_alloc(BUCKETS, sizeof *spread->buckets)};
}

void spread_deinit(struct spread *spread)
{
    mem_free(spread->buckets);
    *spread = (struct spread){0};
}

static uint32_t shift_of(uint64_t number)
{
    return number < 2 * HALF ? 0 : 63 - KEPT_BITS - (uint32_t)__builtin_clzll(number);
}

void spread_add(struct spread *spread, uint64_t number)
{
    const uint32_t shift = shift_of(number);
    spread->buckets[shift * HALF + (number >> shift)]++;
    spread->count++;
    spread->sum += (double)number;
    spread->greatest = number > spread->greatest ? number : spread->greatest;
}

double spread_mean(const struct spread *spread)
{
    return spread->count == 0 ? 0 : spread->sum / (double)spread->count;
}

// The greatest number of a bucket.
static uint64_t bucket_end(uint64_t bucket)
{
    const uint64_t shift = bucket < 2 * HALF ? 0 : bucket / HALF - 1;
    const uint64_t kept = bucket - shift * HALF;
    return ((kept + 1) << shift) - 1;
}

uint64_t spread_quantile(const struct spread *spread, uint32_t permille)
{
    CHECK(permille >= 1 && permille <= 1000);
    // Without overflow: count * permille / 1000, rounded up.
    const uint64_t whole = spread->count / 1000 * permille;
    const uint64_t wanted = whole + (spread->count % 1000 * permille + 999) / 1000;
    uint64_t seen = 0;
    for (uint64_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += spread->buckets[bucket];
        if (seen >= wanted && seen > 0) {
            const uint64_t end = bucket_end(bucket);
            return end < spread->greatest ? end : spread->greatest;
        }
    }
    return 0;
}
