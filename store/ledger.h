// store/ledger.h: the receipt log: append-only, with a Merkle tree over it and a signed head.
//
// Entry i is the body of a `completed` receipt (proto/receipt.h; here only bytes). The tree is that
// of RFC 9162 (base/merkle.h) over the entries; the head is signed anew in the transaction of each
// append, so what the store holds is always one whole, signed log.
//
// Errors    As store.h says of everything that takes a transaction; ERR_CORRUPT also where the log
//           does not hold together: never sign on top of it.
// Threads   The store thread.
#pragma once

#include "base/head.h"
#include "base/merkle.h"
#include "store/store.h"

// At each start: signs the head of an empty log, or checks that the log is `signer`'s and that its
// tree leads to its head. ERR_CONFLICT: another key signed it.
MUST_USE enum err ledger_start(struct txn *txn, const struct signer *signer);

// Signs the head anew, with another key; `old` is the public half of the one that signed it. OK also where
// `signer` did already. ERR_CONFLICT: neither of them did.
MUST_USE enum err ledger_resign(struct txn *txn, const struct sign_public *old,
                                const struct signer *signer);

// The signed head. ERR_NOT_FOUND: ledger_start was never called.
MUST_USE enum err ledger_head(struct txn *txn, struct head *head_out);

// Appends `entry`, whose number is the head's size before, and signs the new head.
MUST_USE enum err ledger_append(struct txn *txn, const struct signer *signer, struct span entry,
                                int64_t time_us);

// Borrowed as a value is. ERR_NOT_FOUND: the log has no such entry.
MUST_USE enum err ledger_entry(struct txn *txn, uint64_t index, struct span *entry_out);

// Proofs as in base/merkle.h. ERR_INVALID also: the size is above the log's.
MUST_USE enum err ledger_inclusion(struct txn *txn, uint64_t index, uint64_t size,
                                   struct merkle_path *path_out);
MUST_USE enum err ledger_consistency(struct txn *txn, uint64_t from, uint64_t to,
                                     struct merkle_path *path_out);
// The root of the first `size` entries.
MUST_USE enum err ledger_root(struct txn *txn, uint64_t size, struct digest *root_out);
