// scheduler/placement.c: see placement.h.
#include "scheduler/placement.h"

#include <string.h>

#include "base/check.h"

__extension__ typedef unsigned __int128 u128; // No struct: the one integer that C11 lacks here.

// The cells over which a class is spread in one generation: shards x slices from a first cell on.
struct spread {
    uint32_t shard_first, shard_count;
    uint32_t slice_first, slice_count;
};

static struct spread spread_of(const struct placement *placement, uint32_t generation, uint8_t risk)
{
    CHECK(risk < LIMIT_RISK_CLASSES);
    const struct risk_share *const share = &placement->risk.of[risk];
    struct spread spread = {share->shard_first, share->shard_count, share->slice_first,
                            share->slice_count};
    if (spread.shard_count == 0) {
        spread.shard_count = placement->shards;
    }
    if (generation > 0) {
        spread.slice_first = placement->slices + (generation - 1) * placement->append;
        spread.slice_count = placement->append;
    } else if (spread.slice_count == 0) {
        spread.slice_count = placement->slices;
    }
    CHECK(spread.shard_count > 0 && spread.slice_count > 0);
    CHECK(spread.shard_first + spread.shard_count <= placement->shards);
    return spread;
}

struct placement placement_uniform(uint32_t shards, uint32_t slices, uint32_t append)
{
    return (struct placement){.shards = shards, .slices = slices, .append = append};
}

struct cell placement_cell(const struct placement *placement, uint32_t generation, uint8_t risk,
                           uint64_t hash)
{
    const struct spread spread = spread_of(placement, generation, risk);
    const uint64_t cells = (uint64_t)spread.shard_count * spread.slice_count;
    const uint32_t index = (uint32_t)(((u128)hash * cells) >> 64);
    return (struct cell){spread.shard_first + index / spread.slice_count,
                         spread.slice_first + index % spread.slice_count};
}

// The least h with floor(h * cells / 2^64) >= index: ceil(index * 2^64 / cells). index < cells.
static uint64_t first_hash(uint64_t index, uint64_t cells)
{
    return (uint64_t)((((u128)index << 64) + cells - 1) / cells);
}

// What the cell holds of one class; false: nothing.
static bool range_of(const struct placement *placement, struct cell cell, uint32_t risk,
                     struct cell_range *range_out)
{
    const uint32_t generation = placement_generation(placement, cell.slice);
    const struct spread spread = spread_of(placement, generation, (uint8_t)risk);
    // Below the first they wrap to something beyond any count.
    const uint32_t shard = cell.shard - spread.shard_first, slice = cell.slice - spread.slice_first;
    if (shard >= spread.shard_count || slice >= spread.slice_count) {
        return false;
    }
    const uint64_t cells = (uint64_t)spread.shard_count * spread.slice_count;
    const uint64_t index = (uint64_t)shard * spread.slice_count + slice;
    *range_out = (struct cell_range){
        .generation = generation,
        .risk_first = (uint8_t)risk,
        .risk_last = (uint8_t)risk,
        .low = first_hash(index, cells),
        .high = index + 1 == cells ? UINT64_MAX : first_hash(index + 1, cells) - 1,
    };
    return true;
}

bool placement_range(const struct placement *placement, struct cell cell, uint32_t risk,
                     struct cell_range *range_out)
{
    CHECK(cell.shard < placement->shards);
    while (risk < LIMIT_RISK_CLASSES && !range_of(placement, cell, risk, range_out)) {
        risk++;
    }
    if (risk >= LIMIT_RISK_CLASSES) {
        return false;
    }
    // Neighbouring classes with the same share are one walk through the store; mostly all of them are.
    const struct risk_share *const shares = placement->risk.of;
    while (++risk < LIMIT_RISK_CLASSES &&
           memcmp(&shares[risk], &shares[risk - 1], sizeof *shares) == 0) {
        range_out->risk_last = (uint8_t)risk;
    }
    return true;
}

uint32_t placement_generation(const struct placement *placement, uint32_t slice)
{
    if (slice < placement->slices) {
        return 0;
    }
    CHECK(placement->append > 0);
    return 1 + (slice - placement->slices) / placement->append;
}

uint32_t placement_slice_count(const struct placement *placement, uint32_t generations)
{
    CHECK(generations > 0);
    return placement->slices + (generations - 1) * placement->append;
}
