// scheduler/placement.h: which cell of a model a record belongs to.
//
// Pure arithmetic on h, the first 64 bits of the subject's keyed hash, the record's generation and the
// subject's risk class c. The spec's table gives c a range of shards a .. a + n - 1 and, in generation 0,
// of slices p .. p + m - 1; without an entry these are all S shards and all L slices:
//
//   generation 0       i = floor(h * n * m / 2^64), shard = a + i / m, slice = p + i mod m
//   generation g > 0   the same with the `append` slices that follow the earlier ones,
//                      L + (g - 1) * append ... L + g * append - 1, in place of p .. p + m - 1
//
// Nothing else enters, so a deletion or a later import moves nobody, and what a cell holds of one class
// is one contiguous range of h within one generation.
//
// Threads   Stateless.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/risk.h"

// Ranges of the table lie within `shards` and `slices`: model/spec.h checks it.
struct placement {
    uint32_t shards;        // S
    uint32_t slices;        // L
    uint32_t append;        // Slices that each later generation appends.
    struct risk_table risk; // Zeros: every class lies everywhere.
};

struct placement placement_uniform(uint32_t shards, uint32_t slices, uint32_t append);

struct cell {
    uint32_t shard;
    uint32_t slice;
};

// risk is below LIMIT_RISK_CLASSES.
struct cell placement_cell(const struct placement *placement, uint32_t generation, uint8_t risk,
                           uint64_t hash);

// What a cell holds: of each class from risk_first to risk_last the same range of h.
struct cell_range {
    uint32_t generation;
    uint8_t risk_first, risk_last; // Both included.
    uint64_t low, high;            // Of h, both included.
};

// The first range of the cell among the classes from `risk` on; false when it holds nothing of them.
// So a cell is, in the order of storage:
//
//   for (uint32_t risk = 0; placement_range(placement, cell, risk, &range); risk = range.risk_last + 1U)
bool placement_range(const struct placement *placement, struct cell cell, uint32_t risk,
                     struct cell_range *range_out);

// The generation whose records a slice holds.
uint32_t placement_generation(const struct placement *placement, uint32_t slice);

// Slices of a model whose training covers `generations` generations (1 ..).
uint32_t placement_slice_count(const struct placement *placement, uint32_t generations);
