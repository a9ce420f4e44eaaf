// shard_worker/bases.h: the bases that a worker keeps in memory between stages.
//
// A base is found by its digest, so what is found is what the coordinator means. It is public and
// constant: nothing has to be wiped, and whoever still holds one that was given up keeps it.
//
// Lifetime  {.bytes_max = ...} is ready; bases_deinit.
// Threads   One.
#pragma once

#include "model/base.h"

enum { BASES_KEPT_MAX = 8 };

struct bases {
    uint64_t bytes_max;                // Of weights kept; the last one kept may take more.
    struct base *kept[BASES_KEPT_MAX]; // The last used one first. Held.
    uint32_t count;
};

// A reference of the caller's own, or NULL.
struct base *bases_find(struct bases *bases, const struct digest *digest);
// Keeps a reference to it and gives up the longest unused ones beyond the bounds.
void bases_keep(struct bases *bases, struct base *base);
void bases_deinit(struct bases *bases);
