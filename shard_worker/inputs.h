// shard_worker/inputs.h: what a stage is trained on: the records of its cells, and its parent's weights.
//
// Each comes from the cache or is fetched, and what was fetched is given to the cache as soon as it is
// whole. A comparison has no cache: it says what training from the store gives.
//
// Names stay when the bytes are gone, since a result is made of them: inputs_each.
//
// Lifetime  {.cache = ...} is ready for inputs_find; inputs_free, also after an error. Borrows the cache.
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/component.h"
#include "base/digest.h"
#include "base/err.h"
#include "proto/unlearn.pb-c.h"
#include "shard_worker/cache.h"

struct inputs {
    struct cache *cache; // NULL: does without.
    uint64_t lease;
    uint32_t count;                       // Cells, in the order of the list.
    struct kept_name names[LIMIT_SLICES]; // [count]
    uint64_t slice_records[LIMIT_SLICES];
    struct kept *cells[LIMIT_SLICES];       // Held. Not found: filled, one after the other.
    uint8_t skips[(LIMIT_SLICES + 7) / 8];  // Bit i: cell i is whole from the start.
    uint32_t position;                      // Of the cell that the next record is of.
    uint64_t records_wanted, records_taken; // Of those that are not.
    struct kept_name parent_name;
    struct kept *parent; // Held; NULL: there is none.
    bool parent_found;   // It is whole from the start; else its params are to be written.
};

// Reads the names from a lease that was checked, and looks for them. parent_count: float32 of its
// parent; 0: it has none. ERR_LIMIT: no memory for the parent.
MUST_USE enum err inputs_find(const Unlearn__Lease *offer, const struct component *component,
                              uint64_t parent_count, struct inputs *inputs);
// Takes `count` records, whose shape was checked; at most as many as are wanted. ERR_LIMIT: no memory.
MUST_USE enum err inputs_fill(struct inputs *inputs, uint32_t count, struct span raw);
// A cell or the parent has been fetched: the cache may keep it.
void inputs_whole(struct inputs *inputs, struct kept *kept);
// Points rows and rids, [all records], into the cells, which are all whole.
void inputs_index(const struct inputs *inputs, struct span *rows, struct id128 *rids);
// Takes the result over, [count], and gives it to the cache under an instance.
void inputs_keep_result(struct inputs *inputs, uint64_t instance, float *params, uint64_t count);
// Whether the stage stands on this cell, in whatever version, or on these weights.
bool inputs_stand_on(const struct inputs *inputs, const struct kept_name *name);
void inputs_free(struct inputs *inputs); // All but the names.

// The next record of a chunk or block; cursor->bad where it is cut.
struct span inputs_next_record(struct cursor *cursor, struct id128 *rid_out);
