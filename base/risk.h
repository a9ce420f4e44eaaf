// base/risk.h: in which shards and slices of a model the subjects of each risk class are kept.
//
// A choice of the spec (model/spec.h, key `risk`), carried out by scheduler/placement.h; neither of the
// two may include the other. A class is a small number that an import declares for a subject.
//
// As text: `uniform`, every class lies everywhere; or for some classes CLASS=SHARDS/SLICES, joined by
// commas. SHARDS and SLICES are a number, a range A-B with both ends included, or *, all of them:
// "1=6-7/3,2=*/3".
//
// Threads   Stateless.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

// Where a class may be left out: of a record that comes without one. Its subject keeps the class that it
// has, else gets 0.
enum { RISK_UNDECLARED = 255 };

// Zeros: all shards, all slices. So a table of zeros is no table.
struct risk_share {
    uint16_t shard_first, shard_count; // shard_count 0: all of them, and shard_first is 0.
    uint16_t slice_first, slice_count; // Of generation 0. slice_count 0: all of them; likewise.
};

struct risk_table {
    struct risk_share of[LIMIT_RISK_CLASSES];
};

_Static_assert(LIMIT_SHARDS <= UINT16_MAX && LIMIT_SLICES <= UINT16_MAX, "they fit the fields");

// Longest text of a table: "15=4094-4095/198-199," for each class, and the end.
enum { RISK_TEXT_BYTES = 24 * LIMIT_RISK_CLASSES + 1 };

// Reads a table; blanks and a pair of brackets around the list do not count. Whether the ranges exist is
// for risk_check.
//   ERR_INVALID  what was found and expected, `what` in front; *table_out is unchanged.
MUST_USE enum err risk_get(const char *what, const char *text, struct risk_table *table_out);

// The one text of a table in a model of so many shards and slices: classes rise, all of something is *,
// and a class that lies everywhere is left out.
void risk_put(const struct risk_table *table, uint32_t shards, uint32_t slices,
              char out[static RISK_TEXT_BYTES]);

// ERR_INVALID: a range that goes beyond the shards or slices there are.
MUST_USE enum err risk_check(const char *what, const struct risk_table *table, uint32_t shards,
                             uint32_t slices);

// A class as text, 0 to LIMIT_RISK_CLASSES - 1. ERR_INVALID: anything else.
MUST_USE enum err risk_class(const char *text, uint8_t *risk_out);
