// scheduler/placement.h: which cell of a model a record belongs to.
//
// Pure arithmetic on h, the first 64 bits of the subject's keyed hash, and the record's generation:
//
//   generation 0       cell = floor(h * S * L / 2^64), shard = cell / L, slice = cell mod L
//   generation g > 0   the same with `append` slices in place of L; its slices follow the earlier
//                      ones: L + (g - 1) * append ... L + g * append - 1
//
// Nothing else enters, so a deletion or a later import moves nobody, and each cell is one contiguous
// range of h within one generation.
//
// Threads   Stateless.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct placement {
    uint32_t shards; // S
    uint32_t slices; // L
    uint32_t append; // Slices that each later generation appends.
};

struct cell {
    uint32_t shard;
    uint32_t slice;
};

struct cell placement_cell(const struct placement *placement, uint32_t generation, uint64_t hash);

struct cell_range {
    uint32_t generation;
    uint64_t low, high; // Of h, both included.
};
struct cell_range placement_range(const struct placement *placement, struct cell cell);

// Slices of a model whose training covers `generations` generations (1 ..).
uint32_t placement_slice_count(const struct placement *placement, uint32_t generations);
