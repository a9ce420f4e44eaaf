// store/base.h: frozen bases (model/base.h): what they are and, in chunks like a component's, their
// weights.
//
// A base is there whole or not at all: it is staged in bounded transactions, which nobody sees, and
// one short commit makes it valid. A staged one whose process died is given up at the next start. A
// retired one stays listed, with its digest, so that its name never means anything else; its weights
// go. Both are tidied away in batches (base_tidy).
//
// Lifetime  A base_row owns its shape: base_row_deinit.
// Threads   The store thread.
#pragma once

#include "base/limits.h"
#include "store/store.h"

enum base_state {
    BASE_STAGED = 1,
    BASE_VALID = 2,
    BASE_RETIRED = 3,
    BASE_GIVEN_UP = 4, // Was staged; its row goes when its last chunk has gone.
};

struct base_row {
    uint32_t number;
    char name[LIMIT_NAME_BYTES + 1];
    enum base_state state;
    uint64_t instance; // Of the weights; 0: they have gone (retired).
    uint64_t weight_count;
    uint32_t dataset; // That it was pre-trained on; 0: imported.
    int64_t created_us, retired_us;
    struct digest digest;
    struct digest spec; // That it was pre-trained with; zeros: imported.
    struct buf shape;   // Canonical text. Owned.
};

void base_row_deinit(struct base_row *row);
// ERR_NOT_FOUND: no such number.
MUST_USE enum err base_row_get(struct txn *txn, uint32_t number, struct base_row *row_out);
// In order of number, whatever the state.
MUST_USE enum err base_row_each(struct txn *txn,
                                enum err (*each)(void *context, const struct base_row *row),
                                void *context);

// ERR_CONFLICT: the name is taken, also by a retired or a staged base: the message says by which.
// ERR_LIMIT: there are LIMIT_BASES.
MUST_USE enum err base_name_free(struct txn *txn, const char *name);
// Writes a staged row and sets its number and instance; the rest is given.
// Errors as base_name_free.
MUST_USE enum err base_stage(struct txn *txn, struct base_row *row);
// One chunk of its weights, LIMIT_CHUNK_BYTES long, the last one shorter; they may come in several
// transactions. ERR_NOT_FOUND: no such staged base. ERR_INVALID: past the end, or of another length.
MUST_USE enum err base_stage_chunk(struct txn *txn, uint32_t number, uint32_t chunk,
                                   struct span bytes);
// Makes it valid. ERR_NOT_FOUND: no such staged base. ERR_CONFLICT: chunks are missing.
MUST_USE enum err base_commit(struct txn *txn, uint32_t number, int64_t created_us);
// OK also when it is not there, or given up already.
MUST_USE enum err base_give_up(struct txn *txn, uint32_t number);
// ERR_NOT_FOUND: no such valid base.
MUST_USE enum err base_retire(struct txn *txn, uint32_t number, int64_t retired_us);

// Drops up to chunk_count_max chunks of bases that are retired or given up. *more_out: call again.
MUST_USE enum err base_tidy(struct txn *txn, size_t chunk_count_max, bool *more_out);

// ERR_CONFLICT, naming it: a valid base was pre-trained on the dataset, so nothing of it can go.
MUST_USE enum err base_frees_dataset(struct txn *txn, uint32_t dataset);
