// store/bulk.h: requests to delete many: what they name, while they are fenced bit by bit; and what
// each id was answered.
//
// Such a request has a row here, and rows of what it names, from its first part on. It gets its row in
// the journal (request.h) with the transaction that ends its fence; until then it is here alone, under the
// number that its tombstones and pending rows bear. BULK_FENCING says that all of its parts are here: from
// then on it is gone through to its end, whatever happens. Other rows are leftovers at a start.
//
// Answers stay as long as the journal: a byte an id, in the order in which they were named, and no row
// where all ids got the same one.
//
// Errors    ERR_CORRUPT: a row without its shape. Else as store.h says.
// Threads   The store thread.
#pragma once

#include "store/request.h"

enum bulk_state { BULK_UPLOADING = 1, BULK_FENCING = 2, BULK_DONE = 3 };

struct bulk_row {
    enum bulk_state state;
    uint32_t rows;              // Of what it names.
    uint32_t ids;               // Ids and subjects in them,
    uint32_t subjects;          // and how many are subjects.
    struct request_row request; // As it will be journaled; its counts say how far it has got.
};

MUST_USE enum err bulk_put(struct txn *txn, const struct bulk_row *row);
// ERR_NOT_FOUND: no such request is here.
MUST_USE enum err bulk_get(struct txn *txn, uint64_t sequence, struct bulk_row *row_out);
MUST_USE enum err bulk_each(struct txn *txn,
                            enum err (*each)(void *context, const struct bulk_row *row),
                            void *context);
// Drops up to row_count_max rows of what the request names, and at last its own. *more_out: call again.
MUST_USE enum err bulk_clear(struct txn *txn, uint64_t sequence, size_t row_count_max,
                             bool *more_out);

// The UUID of the request that had deleted the same before, journaled or still here; unchanged where
// request->earlier is 0.
MUST_USE enum err bulk_earlier(struct txn *txn, const struct request_row *request,
                               struct id128 *uuid_out);

// --- What it names

enum { ASKED_IDS = 1024 }; // In one row, but for the last of a part.

struct asked {
    bool subject;
    struct id128 id; // rid or sid.
};
MUST_USE enum err asked_put(struct txn *txn, uint64_t sequence, uint32_t row,
                            const struct asked *asked, uint32_t count);
MUST_USE enum err asked_get(struct txn *txn, uint64_t sequence, uint32_t row,
                            struct asked asked_out[static ASKED_IDS], uint32_t *count_out);

// --- Answers

// Puts those of a journaled request, whose `answered` counts them.
MUST_USE enum err answers_put(struct txn *txn, const struct request_row *request,
                              const uint8_t *answers);
// From the number `from` on as many as there are, or as one row has; count 0: there are no more.
enum { ANSWERS_ROW = 65536 };
MUST_USE enum err answers_get(struct txn *txn, const struct request_row *request, uint32_t from,
                              uint8_t out[static ANSWERS_ROW], uint32_t *count_out);
