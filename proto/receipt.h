// proto/receipt.h: receipts: what a deletion or removal did, said in bytes that anybody can check.
//
// A receipt is a file of its own: a body (what is said), an inclusion proof (that the body is a leaf
// of a tree) and the signed head of that tree. An `accepted` receipt is a leaf of the small tree of
// the requests that shared its commit; a `completed` one is an entry of the receipt log. There is
// one way to write each: a byte more, less or other is refused. docs/format.md, "Receipts".
//
// A body holds names of configuration (datasets, models, components), never an id, a subject, a rid
// or sid, or a plain digest of records or weights: what stands for weights is a commitment whose key
// dies with them.
//
// Threads   Any.
#pragma once

#include "base/head.h"
#include "base/limits.h"
#include "base/merkle.h"

enum { RECEIPT_BUILD_BYTES = 64 };

enum receipt_kind {
    RECEIPT_ACCEPTED = 1,  // Fenced and durable: the ack.
    RECEIPT_COMPLETED = 2, // Erased, and everything repaired.
};
enum receipt_request { // As the journal and the wire number them.
    RECEIPT_DELETE = 1,
    RECEIPT_REMOVE_DATASET = 2,
    RECEIPT_REMOVE_MODEL = 3,
};
enum receipt_fate {
    RECEIPT_REPAIRED = 1, // Valid again: trained without the records.
    RECEIPT_EMPTY = 2,    // No records are left in its slices: there is nothing to train.
    RECEIPT_GONE = 3,     // Its model was removed.
};

struct receipt_component {
    size_t name_at;       // Its name, terminated, begins here in receipt.names: s3:[2,0,1]
    bool was_valid;       // At the fence: this request invalidated it. Else an earlier one had.
    struct digest before; // was_valid: the commitment to the weights that were destroyed.
    enum receipt_fate fate;
    struct digest after; // RECEIPT_REPAIRED: the commitment to the weights that took their place.
};

struct receipt_model {
    char name[LIMIT_NAME_BYTES + 1];
    struct digest spec, schema; // Digests of configuration, not of data.
    uint32_t first, count;      // Of receipt.components.
};

struct receipt {
    enum receipt_kind kind;
    enum receipt_request request;
    struct id128 uuid;
    struct id128 earlier; // Nothing was left to delete: the request that had done it. Else zeros.
    char name[LIMIT_NAME_BYTES + 1];     // Of the dataset, or of the model that was removed.
    char build[RECEIPT_BUILD_BYTES + 1]; // Build of the coordinator that made the receipt.
    struct digest profile;               // Numeric profile of the store.
    int64_t accepted_us, fenced_us;
    uint64_t records_deleted;
    uint64_t components_invalidated;
    uint64_t epoch_before, epoch_after; // Of the fence.
    // RECEIPT_COMPLETED only; zeros else.
    int64_t erased_us, repaired_us, completed_us;
    uint64_t keys_destroyed; // Overwritten and read back: of records, of weights, of a dataset.
    uint64_t log_index;
    struct receipt_model *models; // [model_count], owned
    uint32_t model_count;
    struct receipt_component *components; // [component_count], owned; model by model
    uint32_t component_count;
    struct buf names;
};
void receipt_deinit(struct receipt *receipt); // Accepts {0}.
const char *receipt_component_name(const struct receipt *receipt, uint32_t component);

// Builds the lists: a model, then its components.
void receipt_add_model(struct receipt *receipt, const char *name, const struct digest *spec,
                       const struct digest *schema);
void receipt_add_component(struct receipt *receipt, const char *name,
                           const struct receipt_component *component);

// Appends the body's bytes to *body. ERR_LIMIT: more than LIMIT_RECEIPT_BYTES.
MUST_USE enum err receipt_put(const struct receipt *receipt, struct buf *body);
// Reads a body. ERR_CORRUPT: not a body of this format; the message names the field. On error
// nothing is held.
MUST_USE enum err receipt_get(struct span body, struct receipt *receipt_out);

// --- Files ---

struct receipt_file {
    struct span body; // Borrowed.
    uint64_t index;   // Of the leaf.
    struct merkle_path path;
    struct head head;
};

// What follows the body in a file: proof and head. Appends to *tail.
void receipt_put_tail(uint64_t index, const struct merkle_path *path, const struct head *head,
                      struct buf *tail);
// Appends a whole file. ERR_LIMIT: the body is longer than LIMIT_RECEIPT_BYTES.
MUST_USE enum err receipt_put_file(struct span body, struct span tail, struct buf *file);
// ERR_CORRUPT: not a receipt file: cut short, bytes left over, or not our magic.
MUST_USE enum err receipt_get_file(struct span file, struct receipt_file *out);

// Checks a whole file offline and reads it. ERR_CORRUPT names what failed: the file's form, the body,
// the key, the signature, the inclusion proof, the place in the log. On error nothing is held.
MUST_USE enum err receipt_verify(struct span file, const struct sign_public *key,
                                 struct receipt *receipt_out, struct receipt_file *file_out);
