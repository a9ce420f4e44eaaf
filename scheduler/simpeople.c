// scheduler/simpeople.c: see simpeople.h.
#include "scheduler/simpeople.h"

#include "base/check.h"
#include "base/mem.h"

__extension__ typedef unsigned __int128 wide; // Standard C has no product of two 64-bit numbers.

// Records whose hash is below `hash` (0 .. 2^64), rounded down: of neighbouring ranges none is lost.
static uint64_t count_below(uint64_t records, wide hash)
{
    return (uint64_t)(records * hash >> 64);
}

static void fill(struct simclass *class, const struct placement *placement, uint32_t risk,
                 uint64_t records)
{
    const uint32_t cells = placement->shards * placement->slices;
    class->left = records;
    class->sums = mem_alloc((size_t)cells + 1, sizeof *class->sums);
    for (uint32_t i = 0; i < cells; i++) {
        const struct cell cell = {i / placement->slices, i % placement->slices};
        struct cell_range range;
        if (placement_range(placement, cell, risk, &range) && range.risk_first <= risk) {
            class->sums[i + 1] =
                count_below(records, (wide)range.high + 1) - count_below(records, range.low);
        }
    }
    for (uint32_t i = 1; i <= cells; i++) {
        const uint32_t above = i + (i & -i);
        if (above <= cells) {
            class->sums[above] += class->sums[i];
        }
    }
}

void simpeople_init(struct simpeople *people, const struct placement *placement,
                    const uint64_t records[static LIMIT_RISK_CLASSES])
{
    *people = (struct simpeople){.slices = placement->slices,
                                 .cells = placement->shards * placement->slices};
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        if (records[risk] > 0) {
            fill(&people->of[risk], placement, risk, records[risk]);
        }
    }
}

void simpeople_deinit(struct simpeople *people)
{
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        mem_free(people->of[risk].sums);
    }
    *people = (struct simpeople){0};
}

// Records of the first `count` cells.
static uint64_t sum_of(const struct simclass *class, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = count; i > 0; i -= i & -i) {
        sum += class->sums[i];
    }
    return sum;
}

void simpeople_cells(const struct simpeople *people, uint64_t *cells_out)
{
    for (uint32_t i = 0; i < people->cells; i++) {
        cells_out[i] = 0;
        for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
            const struct simclass *const class = &people->of[risk];
            cells_out[i] += class->sums == NULL ? 0 : sum_of(class, i + 1) - sum_of(class, i);
        }
    }
}

struct cell simpeople_take(struct simpeople *people, uint32_t risk, uint64_t at)
{
    CHECK(risk < LIMIT_RISK_CLASSES && at < people->of[risk].left);
    struct simclass *const class = &people->of[risk];
    uint32_t cell = 0, step = 1; // The most cells that together hold no more than `at`.
    while (step <= people->cells / 2) {
        step *= 2;
    }
    for (; step > 0; step /= 2) {
        if (cell + step <= people->cells && class->sums[cell + step] <= at) {
            cell += step;
            at -= class->sums[cell];
        }
    }
    for (uint32_t i = cell + 1; i <= people->cells; i += i & -i) {
        class->sums[i]--;
    }
    class->left--;
    return (struct cell){cell / people->slices, cell % people->slices};
}
