// store/doom.h: keys whose rows are gone and which are still to be overwritten.
//
// Whoever drops a row that has a key of its own dooms the key in the same transaction; that commit is
// the list which a crash cannot lose. doom_erase overwrites the keys (keyring.h) and clears the list
// in one commit more. store_open does what an earlier process left undone.
//
// Threads   The store thread.
#pragma once

#include "store/keyring.h"
#include "store/store.h"

MUST_USE enum err doom_put(struct txn *txn, const struct key_name *name);
// From here on the transaction dooms for that request, whose row counts what was erased for it.
void doom_for(struct txn *txn, uint64_t request);

// Erases some of the doomed keys, count_max of them at most (and never more than KEYRING_BATCH).
// *more_out: there are others; call again in another transaction. Only in a transaction that dooms none
// itself: what it erases must be committed before.
MUST_USE enum err doom_erase(struct txn *txn, size_t count_max, bool *more_out);

// Whether any key is doomed.
MUST_USE enum err doom_any(struct txn *txn, bool *any_out);

// Calls `each` for every doomed key.
MUST_USE enum err doom_each(struct txn *txn,
                            enum err (*each)(void *context, const struct key_name *name),
                            void *context);
