// coordinator/approval.h: deletions of so many records that a second person must agree to them.
//
// Such a deletion is fenced like any: at the ack its records are hidden and nothing answers any more that
// has seen them. But it stays in the state `awaiting_approval`, in which nothing is erased and no receipt is
// given, until it is
//
//   approved   by somebody else than who asked for it: from there on it goes the way of every deletion;
//   refused    by anybody who may approve, by who asked for it, or because nobody approved it in time. Then
//              its records are made visible again, in steps, and what was trained without them is invalid
//              and is trained with them. What another request has asked for meanwhile stays deleted. The
//              request ends as `refused`.
//
// Meanwhile the components are repaired as after every fence, and other requests that name a hidden record
// are told that it is on hold. A dataset that is removed takes such requests along, as approved.
//
// Threads   The main loop, but for approval_needed.
#pragma once

#include "coordinator/core.h"

// above: of the settings; 0: never.
static inline bool approval_needed(uint64_t above, uint64_t records)
{
    return above > 0 && records > above;
}

// A request that is AWAITING or RETURNING is there: by a deletion just now, or at start.
void approval_begin(struct core *core, struct request *request);
void approval_tick(struct core *core); // Refuses what waits for too long; tries again what failed.
void approval_stop(struct core *core); // The process ends: no further step, the next start goes on.
void approval_free(struct core *core);
