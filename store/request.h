// store/request.h: the journal of requests that must survive: deletions and removals.
//
// One row a request, found by its sequence number and by its client-chosen UUID. Never the body:
// UUID, keyed digest of the body, and what is still to be done, as short rows of their own:
// `pending` (records and weights to erase) and `awaited` (components to repair), with what the
// receipt will say of them. The log entry of the receipt is the commit of `completed`.
//
// Threads   The store thread.
#pragma once

#include "base/component.h"
#include "base/digest.h"
#include "base/limits.h"
#include "store/record.h"
#include "store/store.h"

enum request_kind { REQUEST_DELETE = 1, REQUEST_REMOVE_DATASET = 2, REQUEST_REMOVE_MODEL = 3 };
enum request_state {
    REQUEST_FENCED = 1,
    REQUEST_ERASED = 2,
    REQUEST_REPAIRED = 3, // Reached only from ERASED: the states are passed in order.
    REQUEST_COMPLETED = 4,
    // A deletion that needs a second person's word (coordinator/approval.h) is fenced first, all the same:
    REQUEST_AWAITING = 5,  // its records are hidden, nothing is erased. Approved it is FENCED. Else
    REQUEST_RETURNING = 6, // its records are being made visible again, and then it is
    REQUEST_REFUSED = 7,   // at its end, but that weights are left to erase (completed_us is 0).
    REQUEST_STATES,
};

enum id_answer { // To one of the ids or subjects that a deletion names. Numbers of the format.
    ANSWER_DELETED = 1,   // By this request: of a subject all of its records that are not on hold.
    ANSWER_GONE = 2,      // By an earlier one.
    ANSWER_NOT_FOUND = 3, // Not known.
    ANSWER_HELD = 4,      // On legal hold: it stays.
    ANSWER_COUNT_ = 5,
};

struct request_row {
    uint64_t sequence;
    struct id128 uuid;
    struct id128
        body; // Keyed digest of the request's body: the same UUID with another is CONFLICT.
    enum request_kind kind;
    enum request_state state;
    uint32_t dataset; // Number; 0 with REQUEST_REMOVE_MODEL.
    uint32_t model;   // Number; REQUEST_REMOVE_MODEL only.
    bool eager;       // Repaired at once, whatever its due date and the policies.
    int64_t due_us;   // When it has to be carried out; 0: a removal has no due date.
    uint64_t earlier; // Nothing was left to delete: the request that had deleted it. Else 0.
    uint64_t records_deleted;
    uint64_t components_invalidated;
    uint64_t
        keys_destroyed; // Overwritten and read back so far: of records, of weights, of a dataset.
    uint64_t epoch_before, epoch; // Before and after the fence.
    uint64_t log_entry; // Of its completed receipt: number in the log, plus 1; 0: none yet.
    uint32_t answered[ANSWER_COUNT_]; // With REQUEST_DELETE: how many got each answer; [0] is 0.
    uint64_t records_held;            // Records asked for that stay: they are on hold.
    char name[LIMIT_NAME_BYTES + 1];  // Of the dataset; of the model with REQUEST_REMOVE_MODEL.
    int64_t accepted_us, fenced_us, erased_us, repaired_us, completed_us; // 0: not yet.
    uint32_t asker; // Number of the principal that asked for it; 0: not known.
};

// Whether it is to be carried out, as things stand: else it waits for a word, or was refused.
static inline bool request_stands(const struct request_row *row)
{
    return row->state <= REQUEST_COMPLETED;
}
// Whether its repair can still be hurried.
static inline bool request_unrepaired(const struct request_row *row)
{
    return row->state < REQUEST_REPAIRED || row->state == REQUEST_AWAITING;
}

// The bytes of a row, without its number, as tables keep them; appended. Reading leaves the number 0;
// ERR_CORRUPT names `where`.
void request_row_write(const struct request_row *row, struct buf *buf);
MUST_USE enum err request_row_read(struct span bytes, const char *where,
                                   struct request_row *row_out);

// Key for the digests of bodies; made at store_create.
void request_body_key(const struct store *store, uint8_t key_out[static KEY_BYTES]);

// Row, UUID index and the list of open ones. ERR_CONFLICT: the UUID stands for another request.
MUST_USE enum err request_put(struct txn *txn, const struct request_row *row);
// ERR_NOT_FOUND: no such sequence number or UUID.
MUST_USE enum err request_get(struct txn *txn, uint64_t sequence, struct request_row *row_out);
MUST_USE enum err request_find(struct txn *txn, const struct id128 *uuid,
                               struct request_row *row_out);
// Every request that is not at its end, in order of sequence number.
MUST_USE enum err request_each_open(struct txn *txn,
                                    enum err (*each)(void *context, const struct request_row *row),
                                    void *context);

// Walks all requests whose numbers are above `after`, in that order. `each` returns false to stop; it
// must not write.
MUST_USE enum err request_walk(struct txn *txn, uint64_t after,
                               bool (*each)(void *context, const struct request_row *row),
                               void *context);

// What is still to be erased for a request: a record or the weights of an instance.
struct pending {
    bool is_record;
    struct record_key record; // is_record
    uint64_t instance;        // otherwise
};
// `index` orders the entries of one request and is chosen by the caller from 0 upwards.
MUST_USE enum err pending_put(struct txn *txn, uint64_t sequence, uint32_t index,
                              const struct pending *pending);
// Walks the pending entries of one request (sequence > 0) or of all (0). `each` returns false to
// stop; it must not write.
MUST_USE enum err pending_walk(struct txn *txn, uint64_t sequence,
                               bool (*each)(void *context, uint64_t sequence, uint32_t index,
                                            const struct pending *pending),
                               void *context);
// The same of one request, from the index `from` on.
MUST_USE enum err pending_walk_from(struct txn *txn, uint64_t sequence, uint32_t from,
                                    bool (*each)(void *context, uint64_t sequence, uint32_t index,
                                                 const struct pending *pending),
                                    void *context);
MUST_USE enum err pending_drop(struct txn *txn, uint64_t sequence, uint32_t index);

// The components that a request waits for until they are valid again; with a removal, those that
// it destroyed.
struct awaited {
    uint32_t model;
    struct component name;
    bool was_valid;           // This request invalidated it,
    struct digest commitment; // and this was the commitment to its weights.
};
MUST_USE enum err awaited_put(struct txn *txn, uint64_t sequence, const struct awaited *awaited);
MUST_USE enum err awaited_has(struct txn *txn, uint64_t sequence, const struct awaited *awaited,
                              bool *has_out);
MUST_USE enum err awaited_walk(struct txn *txn, uint64_t sequence,
                               enum err (*each)(void *context, uint64_t sequence,
                                                const struct awaited *awaited),
                               void *context); // sequence 0: of all requests
MUST_USE enum err awaited_drop_all(struct txn *txn, uint64_t sequence);

// A model that a request has to do with, as its receipt will name it: the model itself may be
// removed before.
struct request_model {
    uint32_t model;
    char name[LIMIT_NAME_BYTES + 1];
    struct digest spec, schema;
};
MUST_USE enum err request_model_put(struct txn *txn, uint64_t sequence,
                                    const struct request_model *model);
// ERR_NOT_FOUND: the request has nothing to do with this model.
MUST_USE enum err request_model_get(struct txn *txn, uint64_t sequence, uint32_t model,
                                    struct request_model *model_out);
MUST_USE enum err request_model_drop_all(struct txn *txn, uint64_t sequence);
