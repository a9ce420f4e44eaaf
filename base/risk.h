// base/risk.h: in which shards and slices of a model the subjects of each risk class are kept.
//
// A choice of the spec (model/spec.h, key `risk`), carried out by scheduler/placement.h; neither of the
// two may include the other. A class is a small number that an import declares for a subject.
#pragma once

#include <stdint.h>

#include "base/limits.h"

// Zeros: all shards, all slices. So a table of zeros is no table: every class lies everywhere.
struct risk_share {
    uint16_t shard_first, shard_count; // shard_count 0: all of them.
    uint16_t slice_first, slice_count; // Of generation 0. slice_count 0: all of them.
};

struct risk_table {
    struct risk_share of[LIMIT_RISK_CLASSES];
};

_Static_assert(LIMIT_SHARDS <= UINT16_MAX && LIMIT_SLICES <= UINT16_MAX, "they fit the fields");
