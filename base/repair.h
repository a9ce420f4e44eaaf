// base/repair.h: when the repairs of a model are done.
//
//   deadline   At once, by idle ranks; what is due first goes first.
//   eager      At once; every deletion is due at once, so the order is that of the lists alone: the
//              shorter ones, which unlock more, first.
//              Where ranks are scarce that starves the longer lists (docs/scheduling.md).
//   batch:N    Not before N deletions have gathered, or one of them asks for haste or would else
//              become late. Then all that waits by then; what deletions make invalid while that is being
//              repaired gathers anew, since else a busy model would never come to an end of it.
//              Deletions that hit the same slices share their repairs, so that gathering saves work;
//              meanwhile shorter prefixes answer.
//
// Threads   Stateless.
#pragma once

#include <stdint.h>

#include "base/err.h"

enum repair_kind { REPAIR_DEADLINE, REPAIR_EAGER, REPAIR_BATCH };

struct repair_policy {
    enum repair_kind kind;
    uint32_t batch; // N, 1 .. LIMIT_REPAIR_BATCH; batch only, else 0.
};

enum { REPAIR_TEXT_BYTES = 24 };
// "deadline", "eager", "batch:100". ERR_INVALID: another text.
MUST_USE enum err repair_parse(const char *text, struct repair_policy *policy_out);
void repair_put(const struct repair_policy *policy, char out[static REPAIR_TEXT_BYTES]);
