// store/import.h: what import.c and import_stage.c share; nobody else includes it.
#pragma once

#include "store/private.h"

enum { MARK_READMITTED = 'R' }; // A mark beside the two kinds of tombstones.

struct import_info { // The row of an import.
    struct import_entry entry;
    bool readmit;
    struct import_counts counts; // So far.
};

// Writes the row and brings the list in memory up to it.
MUST_USE enum err import_info_put(struct txn *txn, const struct import_info *info);
// ERR_NOT_FOUND: no such import, or it is not open.
MUST_USE enum err import_info_open(struct txn *txn, uint64_t import, struct import_info *info_out);

// Keys of the tables staged, up to the first `bytes` of a record's key, and mark.
struct kv_key import_staged_key(uint64_t import, const struct record_key *record, size_t bytes);
struct kv_key import_mark_key(uint64_t import, int kind, const struct id128 *id);

// True when the import has a staged row of the subject and risk class of `key`.
MUST_USE enum err import_has_subject(struct txn *txn, uint64_t import, const struct record_key *key,
                                     bool *has_out);
// True when rid or sid was tombstoned while the import was open.
MUST_USE enum err import_is_struck(struct txn *txn, uint64_t import, const struct id128 *rid,
                                   const struct id128 *sid, bool *struck_out);
