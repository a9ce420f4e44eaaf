// store/hold.h: legal holds: subjects and records that no request deletes.
//
// A hold on a subject covers all of its records, those too that come later; a hold on a record covers
// that record, whoever asks for its deletion. The fence looks here in its own transaction
// (coordinator/fence.c), and a dataset with a hold is not removed. So what is on hold stays there.
//
// A row names whom it is about, and why, in plain words: it is sealed under a key of its own, which is
// doomed with the row.
//
// Errors    Beside those named: as store.h says of everything that takes a transaction.
// Threads   The store thread.
#pragma once

#include "base/limits.h"
#include "store/store.h"

enum hold_kind { HOLD_RECORD = 'r', HOLD_SUBJECT = 's' };

struct hold {
    uint32_t dataset;
    enum hold_kind kind;
    struct id128 id;                 // rid or sid.
    char name[LIMIT_NAME_BYTES + 1]; // The id or the subject.
    char reason[LIMIT_REASON_BYTES + 1];
    int64_t held_us;
};

// Puts a hold; the same again, with the same reason, changes nothing.
//   ERR_NOT_FOUND  no record of it is there: never was, or deleted.
//   ERR_CONFLICT   it is on hold for another reason.
//   ERR_LIMIT      LIMIT_HOLDS of the dataset are there.
MUST_USE enum err hold_put(struct txn *txn, const struct hold *hold);
// ERR_NOT_FOUND: it is not on hold.
MUST_USE enum err hold_drop(struct txn *txn, uint32_t dataset, enum hold_kind kind,
                            const struct id128 *id);
// ERR_NOT_FOUND: it is not on hold.
MUST_USE enum err hold_get(struct txn *txn, uint32_t dataset, enum hold_kind kind,
                           const struct id128 *id, struct hold *hold_out);
MUST_USE enum err hold_has(struct txn *txn, uint32_t dataset, enum hold_kind kind,
                           const struct id128 *id, bool *has_out);
// Whether anything of the dataset is on hold.
MUST_USE enum err hold_any(struct txn *txn, uint32_t dataset, bool *any_out);
// Walks the holds of a dataset behind `after` (NULL: all; only kind and id of it are looked at), in
// order of kind and id. `each` returns false to stop; it must not read or write.
MUST_USE enum err hold_walk(struct txn *txn, uint32_t dataset, const struct hold *after,
                            bool (*each)(void *context, const struct hold *hold), void *context);
