// scheduler/simpeople.h: how many records lie in each cell, by risk class, and who asks next.
//
// Nothing is kept for each record: hashes are taken to be spread evenly, so a cell holds of a class what
// its range of hashes (placement.h) says, to within one record. A class's records are numbered cell after
// cell; taking the k-th one out costs the logarithm of the number of cells.
//
// Lifetime  simpeople_init to simpeople_deinit. Threads  One at a time.
// Source    Fenwick, "A new data structure for cumulative frequency tables", Software: Practice and
//           Experience 24, 1994.
#pragma once

#include <stdint.h>

#include "scheduler/placement.h"

struct simclass {
    uint64_t left;  // Its records.
    uint64_t *sums; // [cells + 1] Fenwick's tree; NULL: there never was one. Owned.
};

struct simpeople {
    uint32_t slices, cells;
    struct simclass of[LIMIT_RISK_CLASSES];
};

// records: of each class, of generation 0.
void simpeople_init(struct simpeople *people, const struct placement *placement,
                    const uint64_t records[static LIMIT_RISK_CLASSES]);
void simpeople_deinit(struct simpeople *people);

// Records of all classes in each cell, shard-major: cells_out[shards * slices].
void simpeople_cells(const struct simpeople *people, uint64_t *cells_out);
// Takes out record number `at` (0 .. left - 1) of the class, and says where it was.
struct cell simpeople_take(struct simpeople *people, uint32_t risk, uint64_t at);
