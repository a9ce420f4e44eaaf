// coordinator/fence.h: the transaction of a deletion: what is true when the ack is sent.
//
// One commit: the request is journaled, the records are fenced (denied to every reader), tombstones
// are set, the versions of their cells rise, every component that has seen them is invalid in every
// model of the dataset, the epoch is raised. Only short rows are written; the records themselves go
// in the `erased` step.
//
// What is on legal hold (store/hold.h) is not deleted: found in the same transaction, it stays, and the
// rest of the request goes. Where nothing but that is left, the request is refused.
//
// Threads   The store thread.
#pragma once

#include "base/digest.h"
#include "base/sign.h"
#include "coordinator/storage.h"
#include "scheduler/placement.h"
#include "store/hold.h"
#include "store/request.h"

struct fence_hit { // Records gone from one cell of one model.
    uint32_t model;
    struct cell cell;
    uint64_t records;
};

struct fence {
    // Given.
    struct id128 uuid;
    struct id128 body; // Keyed digest of what was asked.
    uint32_t dataset;
    bool eager;
    int64_t due_us;
    int64_t accepted_us;
    const struct signer *signer; // Of the receipt log.
    struct accepted *accepted;   // Its body is written here.
    struct id128 *rids;          // Asked for by id. Owned.
    uint32_t rid_count;
    struct id128 *sids; // Asked for by subject. Owned.
    uint32_t sid_count;
    // Found.
    struct request_row request; // Also when the same request came before.
    bool repeated;              // The same UUID and body were answered before: nothing was changed.
    struct id128 earlier;       // UUID of the request that had deleted the same, if any.
    struct record_key *keys;    // The records found, but for those on hold. Owned.
    uint32_t key_count;
    struct record_key *kept; // Those on hold. Owned.
    uint32_t kept_count;
    enum id_answer *answers;                  // To each of rids, then of sids. Owned.
    uint32_t answered[ANSWER_COUNT_];         // How many of them are which.
    char hold_reason[LIMIT_REASON_BYTES + 1]; // Of the first that is on hold, or "".
    struct fence_hit *hits;                   // Owned.
    uint32_t hit_count;
    struct awaited *awaited; // Owned.
    uint32_t awaited_count;
};
void fence_deinit(struct fence *fence);

// Finds the visible records that the fence asks for, keys and kept, each once, in storage order; and
// the answers.
//   ERR_CONFLICT  there are some to delete, and a base stands on the dataset; or it is being removed.
MUST_USE enum err fence_find(struct fence *fence, struct txn *txn);

// Does all of it.
//   ERR_CONFLICT   the UUID was used with another body; nothing is left to delete but what is on hold
//                  (fence_is_held); else as fence_find.
//   ERR_NOT_FOUND  none of the records or subjects is or was known; nothing is written.
//   ERR_LIMIT      more than LIMIT_DELETE_IDS records: ask for them in several requests.
MUST_USE enum err fence_run(struct fence *fence, struct store *store, struct txn *txn);
// After ERR_CONFLICT: whether holds are the reason.
bool fence_is_held(const struct fence *fence);
// Takes back what fence_run did in memory, when its transaction was rolled back.
void fence_undo(struct fence *fence, struct store *store);
