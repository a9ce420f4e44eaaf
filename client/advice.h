// client/advice.h: hints that commands give: fewer cells, and the name that was perhaps meant.
//
// Threads   Stateless.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// For a model of shards * slices cells of which `empty` have no record: shards and slices that
// would leave about one cell in twenty empty. The occupancy tells how many subjects there are:
// when n are thrown into c cells, c * exp(-n / c) stay empty. False: no advice is needed, a tenth
// or less is empty.
bool advice_cells(uint32_t shards, uint32_t slices, uint32_t cells, uint32_t empty,
                  uint32_t *shards_out, uint32_t *slices_out);

// Index of the name nearest to `text` (Levenshtein), or -1 when none is near: more than a third
// of its letters would have to change, or more than 3.
int advice_nearest(const char *text, const char *const *names, size_t count);
