// base/component.h: the name of a component: a shard and the ordered list of slices it has seen.
//
//   s3:[2,0,1]     shard 3, slices 2, 0, 1 in this order; its parent is s3:[2,0]
//
// The whole lineage rule is component_contains: deleting a record of slice r in shard s invalidates
// exactly the components of shard s whose list contains r.
//
// Lifetime  Plain value. Threads  Stateless.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

enum { COMPONENT_TEXT_BYTES = 16 + 6 * LIMIT_SLICES };

struct component {
    uint32_t shard;
    uint16_t count; // Slices in the list, 1 .. LIMIT_SLICES.
    uint16_t list[LIMIT_SLICES];
};

bool component_contains(const struct component *component, uint32_t slice);
bool component_equal(const struct component *a, const struct component *b);
// "s3:[2,0,1]". Text of an empty list (the parent of a first stage) is "".
void component_put(const struct component *component, char out[static COMPONENT_TEXT_BYTES]);
// ERR_INVALID: not of this form, a slice twice, or beyond LIMIT_SHARDS and LIMIT_SLICES.
MUST_USE enum err component_get(const char *text, struct component *component_out);
