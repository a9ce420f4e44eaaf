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
#include "coordinator/finding.h"
#include "coordinator/storage.h"
#include "scheduler/placement.h"

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
    // Of a part: whether an earlier one has hit the cell, and nothing in it has become valid since.
    bool (*known)(void *context, uint32_t model,
                  struct cell cell); // NULL: the request is one part.
    void *known_context;
    const struct signer *signer; // Of the receipt log.
    struct accepted *accepted;   // Its body is written here.
    struct id128 *rids;          // Asked for by id. Owned.
    uint32_t rid_count;
    struct id128 *sids; // Asked for by subject. Owned.
    uint32_t sid_count;
    uint32_t records_most;  // How many records may be found.
    uint64_t approve_above; // More records need a second person's word; 0: none does.
    uint32_t asker;         // Principal; 0: not known.
    // Found.
    struct request_row request; // Also when the same request came before.
    bool repeated;              // The same UUID and body were answered before: nothing was changed.
    struct id128 earlier;       // UUID of the request that had deleted the same, if any.
    struct record_key *keys;    // The records found, but for those on hold. Owned.
    uint32_t key_count;
    uint32_t kept_count;              // Records on hold.
    bool too_many;                    // More than records_most: for requests of many (bulk.c).
    uint8_t *answers;                 // enum id_answer: To each of rids, then of sids. Owned.
    uint32_t answered[ANSWER_COUNT_]; // How many of them are which.
    struct hold_why why;
    struct fence_hit *hits; // Owned.
    uint32_t hit_count;
    struct awaited *awaited; // Owned.
    uint32_t awaited_count;
};
void fence_deinit(struct fence *fence);

// Finds the visible records that the fence asks for: keys, each once, in storage order; and the answers.
//   ERR_CONFLICT  there are some to delete, and a base stands on the dataset; or it is being removed.
//   ERR_LIMIT     too_many
MUST_USE enum err fence_find(struct fence *fence, struct txn *txn);

// Does all of it.
//   ERR_CONFLICT   the UUID was used with another body; nothing is left to delete but what is on hold
//                  (fence_is_held); else as fence_find.
//   ERR_NOT_FOUND  none of the records or subjects is or was known; nothing is written.
//   ERR_LIMIT      too_many; nothing is written.
MUST_USE enum err fence_run(struct fence *fence, struct store *store, struct txn *txn);
// After ERR_CONFLICT: whether holds are the reason.
bool fence_is_held(const struct fence *fence);
// Takes back what fence_run or fence_part did in memory, when its transaction was rolled back.
void fence_undo(struct fence *fence, struct store *store);

// --- For requests that are fenced in several transactions (bulk.c)

// Fences `keys` (in storage order, each once) for the request `request`, which has a number; `sids` are
// the subjects among what was asked. Raises the request's counts and its epoch; `awaited` are those that
// no earlier part has put. Everything but the request's own row.
MUST_USE enum err fence_part(struct fence *fence, struct store *store, struct txn *txn);
// The opposite, for a request that was refused: `keys` (in storage order, each once) are visible again,
// their tombstones are dropped, and what was trained without them is invalid. Raises the request's count of
// components and its epoch; nothing is awaited. Everything but the request's own row and what is pending
// of the keys.
MUST_USE enum err fence_return(struct fence *fence, struct store *store, struct txn *txn);
void fence_return_undo(struct fence *fence, struct store *store); // As fence_undo.
// Why a request of which nothing is deleted is refused: ERR_CONFLICT, ERR_NOT_FOUND. OK: `earlier` did it.
MUST_USE enum err fence_expect_some(const uint32_t answered[static ANSWER_COUNT_], uint32_t records,
                                    uint32_t subjects, uint64_t earlier,
                                    const struct hold_why *why);
// Nothing is left to delete: journals the request as done, so that the same UUID gives the same answer.
MUST_USE enum err fence_nothing_left(struct request_row *request, uint64_t earlier,
                                     const struct signer *signer, struct txn *txn,
                                     struct id128 *earlier_out);
