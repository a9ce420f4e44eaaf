// store/component.h: models, their components, the versions of their cells, and weights.
//
// A component's row says what it is now; its weights lie in chunks under the instance number, which
// is never used twice. Invalidating changes the row alone; the weights of the old instance are
// removed by the deletion's `erased` step.
//
// Threads   The store thread.
#pragma once

#include "base/component.h"
#include "base/limits.h"
#include "base/repair.h"
#include "store/store.h"

struct model_row {
    uint32_t number;
    char name[LIMIT_NAME_BYTES + 1];
    uint32_t dataset;
    bool removing;        // Its removal is journaled; hidden from clients.
    uint32_t generations; // Generations that the last accepted `train` covers, 1 ..
    int64_t created_us;
    uint32_t replaces; // Number of the model of this name whose place it takes when it is trained
                       // (a new numeric profile); 0: none. Hidden from clients until then.
    uint32_t base;     // Number of the base that its spec named when it was made; 0: none.
    struct repair_policy policy;
    struct buf spec; // Canonical text (model/spec.h). Owned.
};

void model_row_deinit(struct model_row *row);
MUST_USE enum err model_put(struct txn *txn, const struct model_row *row);
MUST_USE enum err model_get(struct txn *txn, uint32_t number, struct model_row *row_out);
MUST_USE enum err model_drop(struct txn *txn, uint32_t number);
MUST_USE enum err model_each(struct txn *txn,
                             enum err (*each)(void *context, const struct model_row *row),
                             void *context);

enum component_state {
    COMPONENT_VALID =
        1, // Weights of `instance` are what training without any deleted record gives.
    COMPONENT_INVALID = 2, // Was valid; has seen a deleted record; waits for its repair.
};

struct component_row {
    enum component_state state;
    uint64_t instance;    // Of the weights; with COMPONENT_INVALID, of the last ones.
    uint64_t param_count; // float32
    uint64_t records;     // Records that it was trained on.
    uint64_t samples;     // records x passes of its stage.
    double seconds;       // Of ranks that the stage took, all that trained it together.
    int64_t trained_us;
    struct digest profile; // Numeric profile it was trained under.
    // The keyed digest that stands for its weights in receipts (digest_commit), made when they were
    // stored; zeros once it is invalid. Its key: weights_commit_key.
    struct digest commitment;
};

// ERR_NOT_FOUND: never trained.
MUST_USE enum err component_row_get(struct txn *txn, uint32_t model, const struct component *name,
                                    struct component_row *row_out);
MUST_USE enum err component_row_put(struct txn *txn, uint32_t model, const struct component *name,
                                    const struct component_row *row);
// All rows of a model (shard by shard, in key order). `each` may put other rows, not drop any.
MUST_USE enum err component_row_each(struct txn *txn, uint32_t model,
                                     enum err (*each)(void *context, const struct component *name,
                                                      const struct component_row *row),
                                     void *context);
// The same, of one shard.
MUST_USE enum err component_row_each_of(struct txn *txn, uint32_t model, uint32_t shard,
                                        enum err (*each)(void *context,
                                                         const struct component *name,
                                                         const struct component_row *row),
                                        void *context);
// Drops up to row_count_max rows and cell versions of a model. *more_out: call again.
MUST_USE enum err component_rows_drop(struct txn *txn, uint32_t model, size_t row_count_max,
                                      bool *more_out);

// Version of a cell: the number of deletions that hit it; 0 when none did.
MUST_USE enum err cell_version_get(struct txn *txn, uint32_t model, uint32_t shard, uint32_t slice,
                                   uint64_t *version_out);
MUST_USE enum err cell_version_raise(struct txn *txn, uint32_t model, uint32_t shard,
                                     uint32_t slice);

// Weights: chunks of LIMIT_CHUNK_BYTES, the last one shorter. params is float32[param_count].
MUST_USE enum err weights_put(struct txn *txn, uint64_t instance, const float *params,
                              uint64_t param_count);
// ERR_NOT_FOUND: no such instance. ERR_CORRUPT: it has another size.
MUST_USE enum err weights_get(struct txn *txn, uint64_t instance, float *params_out,
                              uint64_t param_count);
// The key of the commitment: it follows from the key of the weights, and is destroyed with that.
// ERR_NOT_FOUND: there are no weights of the instance.
MUST_USE enum err weights_commit_key(struct txn *txn, uint64_t instance,
                                     uint8_t key_out[static KEY_BYTES]);
// Drops the chunks and dooms their key (doom.h). OK also when gone.
MUST_USE enum err weights_drop(struct txn *txn, uint64_t instance);

// The same chunk by chunk, for weights that come or go in several transactions.
uint32_t weights_chunk_count(uint64_t param_count);
size_t weights_chunk_bytes(uint64_t param_count, uint32_t chunk);
MUST_USE enum err weights_put_chunk(struct txn *txn, uint64_t instance, uint32_t chunk,
                                    struct span bytes);
// How many chunks of weights of this size are not there. Their values are not opened.
MUST_USE enum err weights_count_missing(struct txn *txn, uint64_t instance, uint64_t param_count,
                                        uint32_t *missing_out);
// The key is doomed with the last chunk.
MUST_USE enum err weights_drop_some(struct txn *txn, uint64_t instance, size_t chunk_count_max,
                                    size_t *dropped_out);
