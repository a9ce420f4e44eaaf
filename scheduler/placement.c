// scheduler/placement.c: see placement.h.
#include "scheduler/placement.h"

#include "base/check.h"

__extension__ typedef unsigned __int128 u128; // No struct: the one integer that C11 lacks here.

struct cell placement_cell(const struct placement *placement, uint32_t generation, uint64_t hash)
{
    const uint32_t per_shard = generation == 0 ? placement->slices : placement->append;
    CHECK(placement->shards > 0 && per_shard > 0);
    const uint64_t cells = (uint64_t)placement->shards * per_shard;
    const uint32_t cell = (uint32_t)(((u128)hash * cells) >> 64);
    const uint32_t before =
        generation == 0 ? 0 : placement->slices + (generation - 1) * placement->append;
    return (struct cell){cell / per_shard, before + cell % per_shard};
}

// The least h with floor(h * cells / 2^64) >= index: ceil(index * 2^64 / cells). index < cells.
static uint64_t first_hash(uint64_t index, uint64_t cells)
{
    return (uint64_t)((((u128)index << 64) + cells - 1) / cells);
}

struct cell_range placement_range(const struct placement *placement, struct cell cell)
{
    const bool base = cell.slice < placement->slices;
    const uint32_t per_shard = base ? placement->slices : placement->append;
    const uint32_t appended = base ? 0 : cell.slice - placement->slices;
    CHECK(cell.shard < placement->shards && per_shard > 0);
    const uint64_t cells = (uint64_t)placement->shards * per_shard;
    const uint64_t index =
        (uint64_t)cell.shard * per_shard + (base ? cell.slice : appended % per_shard);
    return (struct cell_range){
        .generation = base ? 0 : 1 + appended / per_shard,
        .low = first_hash(index, cells),
        .high = index + 1 == cells ? UINT64_MAX : first_hash(index + 1, cells) - 1,
    };
}

uint32_t placement_slice_count(const struct placement *placement, uint32_t generations)
{
    CHECK(generations > 0);
    return placement->slices + (generations - 1) * placement->append;
}
