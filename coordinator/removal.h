// coordinator/removal.h: taking models and datasets away: journaled requests like deletions.
//
// The ack's transaction marks them as removing, which hides them; rows, weights and records go in
// the `erased` step, batch by batch. The request's UUID gives the same answer when it comes again.
#pragma once

#include "store/request.h"

// Journals the removal of a model, by a request of our own, in the transaction of a caller's job:
// *row_out is its row. removal_fenced (core.h) comes after the commit. ERR_NOT_FOUND: it is being
// removed already, or is not there. Threads  The store thread.
MUST_USE enum err removal_fence(struct txn *txn, uint32_t model, struct request_row *row_out);

// One batch of the erased step of `request`. *more_out: call again in another transaction. Does
// nothing for a plain deletion. Threads  The store thread.
MUST_USE enum err removal_step(struct txn *txn, const struct request_row *request, bool *more_out);
