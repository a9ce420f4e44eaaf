// coordinator/erasure.h: what follows a fence: erased, repaired, completed.
//
// Whatever was acknowledged goes through the same steps, one job in flight for all requests:
//
//   rows    the rows of records and weights go and doom their keys, request after request
//   forget  workers that may hold something of it in memory say that they have wiped it (copies.c)
//   keys    that being committed, the keys are overwritten, for all requests together; the
//           transaction that finds none left says `erased` of every request that has come so far
//   finish  requests that wait for no component any more get their receipt: `completed`
//
// So neither a commit nor a sync of the keyring is spent on a single request while there are many. A step
// takes a bounded time, since acks wait behind it. While clients delete fast, steps are put off, until
// a request has waited for ERASE_LAG_MS; from then on they take a share of the disk that grows with its
// age, so that erasing is late by seconds and never starves.
//
// A request that fails is tried again a second later, and holds nobody up.
//
// Threads   The main loop.
#pragma once

#include "coordinator/core.h"

enum { ERASE_LAG_MS = 2000 };

// The process ends: what is under way ends, and the next start goes on.
void erasure_stop(struct core *core);
void erasure_free(struct core *core);
void erasure_begin(struct core *core, struct request *request); // It is fenced.
void erasure_resume(struct core *core);                         // At start: what is open.
void erasure_asked(struct core *core);        // A client asks for a deletion: it goes first.
void erasure_tick(struct core *core);         // Each turn of the loop.
bool erasure_is_due(const struct core *core); // The next turn must not wait.
