// coordinator/cellset.h: a set of cells of models, a bit each.
//
// A request that is fenced, or taken back, in many steps remembers which cells it has hit: what stands on
// them is invalid already, and is not looked for again.
//
// Lifetime  {0} is empty and ready for use; cellset_deinit frees. Threads  One at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/placement.h"

struct cellset_model;

struct cellset {
    struct cellset_model *models; // Owned, as is what they point to.
    uint32_t count;
};

void cellset_deinit(struct cellset *set); // Empties; may be used again.
void cellset_add(struct cellset *set, uint32_t model, struct cell cell);
bool cellset_has(const struct cellset *set, uint32_t model, struct cell cell);
