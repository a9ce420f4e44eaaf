// shard_worker/cache.h: cells and weights that a rank keeps in memory between stages.
//
// A cell is found under model, shard, slice and version, weights under their instance. The version is the
// coordinator's count of deletions that hit the cell, in the commit that fences them, and neither it
// nor a model's number nor an instance is ever used twice; so what is found is, byte for byte, what the
// coordinator would send. What was deleted is wiped when the coordinator says so (cache_forget).
//
// Whoever uses something holds a reference to it: given up by the cache it stays until its user is done.
// The last reference wipes (base/mem.h); all memory of a worker is locked where the system lets it
// (base/guard.h).
//
// Lifetime  {.bytes_max = ...} is ready, 0: nothing is kept; cache_clear.
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/limits.h"

struct kept_name {
    uint32_t model, shard;
    uint32_t slice;    // Of a cell,
    uint64_t version;  // as its lease names it.
    uint64_t instance; // Of weights; 0: it is a cell.
};

// Records as they came, 16 bytes rid, u32 bytes, row each: growing one array would leave copies behind.
struct block {
    uint8_t *data;
    size_t bytes;
    uint32_t count;
};

struct kept {
    struct kept_name name;
    uint32_t references;
    uint64_t bytes;
    struct block *blocks; // Of a cell.
    size_t block_count;
    uint64_t records;
    float *params; // Of weights, [param_count].
    uint64_t param_count;
};

struct kept *kept_cell(const struct kept_name *name); // Without records; the caller's.
// Copies them. ERR_LIMIT: no memory; nothing was added.
MUST_USE enum err kept_add(struct kept *cell, struct span records, uint32_t count);
// Takes params over, [param_count].
struct kept *kept_weights(const struct kept_name *name, float *params, uint64_t param_count);
struct kept *kept_hold(struct kept *kept);
void kept_release(struct kept *kept); // Accepts NULL.

struct cache {
    uint64_t bytes_max;
    struct kept *entries[LIMIT_COPIES]; // The last used one first. Held.
    uint32_t count;
    uint64_t bytes;        // Of all of them.
    uint64_t found_bytes;  // By cache_find;
    uint64_t pulled_bytes; // what had to be fetched instead is its user's to count.
};

// A reference of the caller's own, or NULL.
struct kept *cache_find(struct cache *cache, const struct kept_name *name);
// Keeps a reference where it has room for it; gives up what was not used for longest, and other versions
// of the cell.
void cache_keep(struct cache *cache, struct kept *kept);
// Gives up the cell, in every version, or the weights.
void cache_forget(struct cache *cache, const struct kept_name *name);
void cache_clear(struct cache *cache); // Counters go on.
// Whether both are of one cell, whatever the version, or of the same weights.
bool kept_same(const struct kept_name *a, const struct kept_name *b);
