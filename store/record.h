// store/record.h: records, their index, tombstones, and staged imports.
//
// Records lie in the order (dataset, generation, risk class, sid, rid). sid begins with the h of
// placement, so every cell of every model is one contiguous range. An import is staged: bounded
// transactions write rows marked with the import's number, which readers skip while that number is
// open; one small commit makes them visible. Imports that were open when the process died are
// erased at the next start.
//
// Fenced records (a deletion was acknowledged, their rows are not yet gone) are denied to every
// reader: record_deny is called in the fence's transaction and, at start, for everything the journal
// says is pending. The deny set and the set of open imports live in memory beside the environment.
//
// Threads   The store thread.
#pragma once

#include "base/limits.h"
#include "store/store.h"

struct record_key {
    uint32_t dataset;
    uint32_t generation;
    uint8_t risk;
    struct id128 sid;
    struct id128 rid;
};

enum { RECORD_KEY_BYTES = 4 + 4 + 1 + ID_BYTES + ID_BYTES };
void record_key_put(const struct record_key *key, uint8_t out[static RECORD_KEY_BYTES]);
MUST_USE enum err record_key_get(struct span bytes, struct record_key *key_out);

// h of placement: the first 64 bits of the sid, big-endian.
uint64_t record_hash(const struct id128 *sid);

// A record as the reader sees it; everything is borrowed until the transaction ends or writes.
struct record {
    struct record_key key;
    struct span id;      // Text, not terminated.
    struct span subject; // Text, not terminated; empty when it has none.
    struct span row;     // Bytes of the schema's row.
};

// Finds a visible, not denied record by its rid. ERR_NOT_FOUND: none.
MUST_USE enum err record_find(struct txn *txn, uint32_t dataset, const struct id128 *rid,
                              struct record *record_out);

// A part of one generation: for each risk class of a range the records of a range of h. All bounds are
// included.
struct record_range {
    uint32_t generation;
    uint8_t risk_first, risk_last;
    uint64_t hash_low, hash_high;
};
struct record_range record_range_all(uint32_t generation); // All of a generation.

// Walks the visible, not denied records of a range in storage order: class by class, in each by sid,
// then rid. `each` returns false to stop.
//
//   after      NULL to begin at the start of the range, else the key of the last record seen.
//   keys_only  true: id, subject and row of the record are empty; far cheaper.
MUST_USE enum err record_walk(struct txn *txn, uint32_t dataset, const struct record_range *range,
                              const struct record_key *after, bool keys_only,
                              bool (*each)(void *context, const struct record *record),
                              void *context);

// Walks all records of one subject, over all generations below generation_next.
MUST_USE enum err record_walk_subject(struct txn *txn, uint32_t dataset, uint32_t generation_next,
                                      const struct id128 *sid,
                                      bool (*each)(void *context, const struct record *record),
                                      void *context);

// The same, from behind `after` (NULL: from the first), with the keys alone: far cheaper.
MUST_USE enum err record_walk_subject_keys(struct txn *txn, uint32_t dataset,
                                           uint32_t generation_next, const struct id128 *sid,
                                           const struct record_key *after,
                                           bool (*each)(void *context, const struct record *record),
                                           void *context);

// The keys of those records of the subject that are denied and not yet gone.
MUST_USE enum err record_walk_subject_denied(
    struct txn *txn, uint32_t dataset, uint32_t generation_next, const struct id128 *sid,
    bool (*each)(void *context, const struct record *record), void *context);

// Hides the record from every later read of this process. The caller's transaction journals why.
// Takes effect at once; record_undeny takes it back when that transaction fails.
void record_deny(struct store *store, const struct record_key *key);
void record_undeny(struct store *store, const struct record_key *key);

// Removes row and index entry of one record and dooms its key (doom.h). OK also when it is gone already. Its denial ends when
// the transaction commits, and stays when it does not. Drop its pending row in the same transaction:
// what is pending at a start is denied. The dataset's counts are the fence's to lower.
MUST_USE enum err record_remove(struct txn *txn, const struct record_key *key);

// --- Tombstones: what stops a deleted record from coming back ---

enum tombstone_kind { TOMBSTONE_RECORD = 'r', TOMBSTONE_SUBJECT = 's' };
// The request that made it (its sequence number). ERR_NOT_FOUND: none.
MUST_USE enum err tombstone_get(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                                const struct id128 *id, uint64_t *request_out);
MUST_USE enum err tombstone_put(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                                const struct id128 *id, uint64_t request);
// OK also when it is gone.
MUST_USE enum err tombstone_drop(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                                 const struct id128 *id);
// Drops up to row_count_max tombstones of a dataset that is being removed. *more_out: call again.
MUST_USE enum err tombstone_drop_some(struct txn *txn, uint32_t dataset, size_t row_count_max,
                                      bool *more_out);

// --- Imports ---

struct import_row { // One record of an upload.
    struct span id;
    struct span subject; // Empty when it has none.
    struct span row;     // Checked by the caller against the schema.
    struct id128 rid, sid;
    uint8_t risk; // Class of its subject, or RISK_UNDECLARED (base/risk.h).
};

struct import_counts {
    uint64_t records;                          // Made visible.
    uint64_t risk_records[LIMIT_RISK_CLASSES]; // Those of each risk class.
    uint64_t subjects;                         // Distinct sids among them.
    uint64_t skipped; // Already there with the same bytes, or tombstoned and not readmitted.
};

// Opens an import into `generation`. The dataset's row need not be there: a first import puts it in
// the transaction of its commit, so that a refused one leaves nothing. ERR_CONFLICT: the dataset has
// an open import, or the generation is closed. ERR_LIMIT: LIMIT_IMPORTS_OPEN are open, or the
// generation is not below LIMIT_GENERATION.
MUST_USE enum err import_begin(struct txn *txn, uint32_t dataset, uint32_t generation, bool readmit,
                               uint64_t *import_out);

// Stages rows. ERR_CONFLICT: an id is there with other bytes (subject or row), or twice in this
// import with other bytes; the message gives the row's number counted from `first_row` and the hint
// (--id COL or --id-prefix TEXT). ERR_CONFLICT also: a visible record of the subject, or one of this
// import, has another risk class than the row declares; deleted records have no say. ERR_UNAVAILABLE: a row to be readmitted is still being erased; try
// again. ERR_INVALID: an id, subject or row beyond its bound. ERR_NOT_FOUND: no such open import.
// On error the caller rolls back and aborts the import.
MUST_USE enum err import_stage(struct txn *txn, uint64_t import, const struct import_row *rows,
                               size_t row_count, uint64_t first_row);

// Makes the staged rows visible, leaving out what was tombstoned since import_begin, removing the
// tombstones of what was readmitted, and raises the dataset's counts and generation_next.
// ERR_NOT_FOUND: no such open import, or its dataset is gone. ERR_CONFLICT: the generation was closed
// meanwhile (abort it). An import that brings nothing raises generation_next all the same: a cluster
// that leaves all its records out must come to the same generations.
MUST_USE enum err import_commit(struct txn *txn, uint64_t import, struct import_counts *counts_out);

// Erases up to row_count_max staged rows of imports that are aborted, or were left by an earlier
// process, and the staging marks of committed ones. *more_out tells whether to call again.
MUST_USE enum err import_tidy(struct txn *txn, size_t row_count_max, bool *more_out);

// Gives an open import up: its rows stay hidden; import_tidy erases them. ERR_NOT_FOUND: not open.
MUST_USE enum err import_abort(struct txn *txn, uint64_t import);

// The open imports changed in memory when a write transaction that began, committed or aborted one
// is rolled back: txn_end puts that right by itself.
