// coordinator/removal.h: taking models and datasets away: journaled requests like deletions.
//
// The ack's transaction marks them as removing, which hides them; rows, weights and records go in
// the `erased` step, batch by batch. The request's UUID gives the same answer when it comes again.
#pragma once

#include "store/request.h"

// One batch of the erased step of `request`. *more_out: call again in another transaction. Does
// nothing for a plain deletion. Threads  The store thread.
MUST_USE enum err removal_step(struct txn *txn, const struct request_row *request, bool *more_out);
