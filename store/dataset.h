// store/dataset.h: the datasets: name, schema, placement key, generations.
//
// Generations below generation_closed are closed: no import goes there. The open generation is
// generation_closed itself unless an import names a higher one; generation_next is one above the
// highest ever used. Closing sets generation_closed = generation_next.
//
// Lifetime  A dataset_row owns its schema bytes: dataset_row_deinit. Threads  The store thread.
#pragma once

#include "base/limits.h"
#include "store/store.h"

struct dataset_row {
    uint32_t number;
    char name[LIMIT_NAME_BYTES + 1];
    uint8_t placement_key[KEY_BYTES];
    bool public_data; // Declared --public: may stand under a base.
    bool removing;    // Its removal is journaled; hidden from clients.
    uint32_t generation_closed;
    uint32_t generation_next;
    uint64_t record_count; // Visible records: raised by import_commit, lowered by dataset_lose.
    uint64_t risk_records[LIMIT_RISK_CLASSES]; // Those of each risk class.
    struct buf schema; // Canonical bytes (model/schema.h); empty before the first commit.
};

void dataset_row_deinit(struct dataset_row *row);
// These records are visible no longer; the counts of the row follow. Writes nothing.
struct record_key; // store/record.h
void dataset_lose(struct dataset_row *row, const struct record_key *keys, uint32_t count);
// And these are again.
void dataset_gain(struct dataset_row *row, const struct record_key *keys, uint32_t count);
MUST_USE enum err dataset_put(struct txn *txn, const struct dataset_row *row);
// ERR_NOT_FOUND: no such number.
MUST_USE enum err dataset_get(struct txn *txn, uint32_t number, struct dataset_row *row_out);
// Dooms the key of the row, and with it the placement key that tombstones were made with.
MUST_USE enum err dataset_drop(struct txn *txn, uint32_t number);
// Calls `each` for every dataset in order of number; an error of `each` ends the walk.
MUST_USE enum err dataset_each(struct txn *txn,
                               enum err (*each)(void *context, const struct dataset_row *row),
                               void *context);
