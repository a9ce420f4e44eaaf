// client/unlearn.h: libunlearn, the C interface to a coordinator.
//
//   struct unlearn *client;
//   const Unlearn__Model *model;
//   if (digest_start() != OK || unlearn_open_dir("/srv/cluster", NULL, &client) != OK ||
//       unlearn_model_show(client, "digits", &model) != OK) {
//       fprintf(stderr, "%s\n", err_text());
//       return 1;
//   }
//   printf("%u of %u components\n", model->components_valid, model->components_total);
//   unlearn_close(client);
//
// Every verb of proto/unlearn.proto is one function here; what it answers is that file's message,
// which also says what each field means. A call sends one request and waits for its reply. What can
// be asked twice without harm is asked again when no reply comes, also of a coordinator that was
// started anew at another address meanwhile; the rest is asked once.
//
// Errors of every call:
//   ERR_UNAVAILABLE  no coordinator answered in time (the message says where), or it says that
//                    there is nobody to do it now. After a call that changes something the outcome
//                    is unknown: ask what it changed.
//   ERR_DENIED       also: the coordinator does not know the client's key.
//   ERR_INVALID, ERR_NOT_FOUND, ERR_CONFLICT, ERR_DENIED, ERR_LIMIT, ERR_IO
//                    the coordinator's answer, with its sentence; ERR_INVALID also before anything
//                    is sent, when a text breaks the rules of the wire; ERR_LIMIT also when the
//                    request would not fit a frame.
//   ERR_CORRUPT      the reply is not one of this protocol.
//
// Lifetime  unlearn_open to unlearn_close. Answers are borrowed until the client's next call.
// Threads   One client, one thread. digest_start() of base/digest.h comes first.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/curvekey.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/head.h"
#include "base/merkle.h"
#include "base/role.h"
#include "proto/unlearn.pb-c.h"

struct unlearn;

// Files with the keys by which client and coordinator know each other (base/curvekey.h). They are read for
// each connection, also where it is made anew.
struct unlearn_keys {
    const char *own;    // The client's pair.
    const char *server; // The public half of the only coordinator that is spoken to.
};

// Connects to "tcp://host:port" and asks for a sign of life. keys: NULL: a coordinator that takes none,
// and whose address is 127.x.x.x (--insecure-loopback).
//   ERR_NOT_FOUND, ERR_CORRUPT, ERR_DENIED  of a key file: base/curvekey.h.
//   ERR_DENIED   the coordinator does not know the key.
//   ERR_INVALID  without keys, and the address is another machine's.
MUST_USE enum err unlearn_open(const char *endpoint, const struct unlearn_keys *keys,
                               struct unlearn **client_out);

// Connects to the coordinator of the cluster `dir`, whose address stands in <dir>.client/address and whose
// public key in <dir>.client/server.pub. key: file of the client's pair; NULL: <dir>.client/admin.key.
// Without keys where the address says so. ERR_NOT_FOUND: there is no such cluster. Else as unlearn_open.
MUST_USE enum err unlearn_open_dir(const char *dir, const char *key, struct unlearn **client_out);

void unlearn_close(struct unlearn *client); // Accepts NULL.

// How long a call waits in all; 60,000 ms unless set.
void unlearn_set_timeout(struct unlearn *client, int timeout_ms);

const char *unlearn_endpoint(const struct unlearn *client); // Borrowed until the next call.

// --- The cluster ---

MUST_USE enum err unlearn_ping(struct unlearn *client, const Unlearn__Pong **pong_out);
MUST_USE enum err unlearn_cluster_show(struct unlearn *client, const Unlearn__Cluster **out);
// Open requests, and how many components of each cell of a model are in which state: page by page, from
// offset 0 and then from the page's `next`, until that is 0.
MUST_USE enum err unlearn_request_list(struct unlearn *client, uint32_t offset,
                                       const Unlearn__RequestPage **out);
MUST_USE enum err unlearn_model_cells(struct unlearn *client, const char *model, uint32_t offset,
                                      const Unlearn__CellPage **out);
// Deletions received from since_us on and before until_us, whole days of UTC. dataset: NULL: all.
// ERR_NOT_FOUND: there is none of this name, and none was ever asked for in this time. Asked once: it
// may take seconds.
MUST_USE enum err unlearn_report(struct unlearn *client, int64_t since_us, int64_t until_us,
                                 const char *dataset, const Unlearn__Report **out);

// --- Datasets. Lists come in pages: ask again with the offset of the first one still missing ---

MUST_USE enum err unlearn_dataset_list(struct unlearn *client, uint32_t offset,
                                       const Unlearn__DatasetPage **page_out);
MUST_USE enum err unlearn_dataset_show(struct unlearn *client, const char *dataset,
                                       const Unlearn__Dataset **dataset_out);
MUST_USE enum err unlearn_dataset_remove(struct unlearn *client, const char *dataset,
                                         const struct id128 *uuid,
                                         const Unlearn__RequestState **state_out);

// --- Import: begin, add every record, commit; then end. It lands whole or not at all ---
//
// Records travel in chunks, of which at most four are unanswered. While an import is open, the
// client takes no other call. On any error call unlearn_import_end, which drops what was sent.

struct unlearn_import_options {
    const char *dataset;
    struct span schema;           // Canonical bytes; empty: the dataset's own.
    const uint8_t *placement_key; // [KEY_BYTES], or NULL: the dataset's, or drawn at random.
    bool public_data;
    bool has_generation;
    uint32_t generation;
    bool readmit;
};
struct unlearn_import;

MUST_USE enum err unlearn_import_begin(struct unlearn *client,
                                       const struct unlearn_import_options *options,
                                       struct unlearn_import **import_out);
// `row` is one row of the schema (model/schema.h); an empty subject is none. risk: the class of the
// subject (of the id where there is none), 0 to LIMIT_RISK_CLASSES - 1, or RISK_UNDECLARED (base/risk.h).
// A refusal may concern an earlier record: the coordinator's sentence says which.
// ERR_LIMIT: the row is longer than LIMIT_RECORD_BYTES.
MUST_USE enum err unlearn_import_add(struct unlearn_import *import, struct span id,
                                     struct span subject, uint8_t risk, struct span row);
MUST_USE enum err unlearn_import_commit(struct unlearn_import *import,
                                        const Unlearn__ImportDone **done_out);
void unlearn_import_end(struct unlearn_import *import); // Accepts NULL. Aborts unless committed.

// --- Models ---

// `spec` is canonical text (model/spec.h), or empty: go on with the existing model's. reprofile:
// train all of it anew where a part of it has an older numeric profile than the cluster. policy: as of
// unlearn_model_set; empty: deadline for a new model, else what it has.
MUST_USE enum err unlearn_train(struct unlearn *client, const char *model, const char *dataset,
                                struct span spec, bool reprofile, const char *policy,
                                const Unlearn__Trained **trained_out);
// When the repairs of a model are done (base/repair.h). ERR_INVALID: not a policy.
MUST_USE enum err unlearn_model_set(struct unlearn *client, const char *model, const char *policy);
MUST_USE enum err unlearn_model_list(struct unlearn *client, uint32_t offset,
                                     const Unlearn__ModelPage **page_out);
MUST_USE enum err unlearn_model_show(struct unlearn *client, const char *model,
                                     const Unlearn__Model **model_out);
MUST_USE enum err unlearn_model_remove(struct unlearn *client, const char *model,
                                       const struct id128 *uuid,
                                       const Unlearn__RequestState **state_out);
MUST_USE enum err unlearn_components(struct unlearn *client, const char *model, uint32_t offset,
                                     const Unlearn__ComponentPage **page_out);
// Starts a comparison of `components` components (0: all) and returns its first state; the job's
// number is in it.
MUST_USE enum err unlearn_verify(struct unlearn *client, const char *model, uint32_t components,
                                 const Unlearn__VerifyState **state_out);
MUST_USE enum err unlearn_verify_show(struct unlearn *client, uint64_t job,
                                      const Unlearn__VerifyState **state_out);

// --- Bases ---

struct base;
struct unlearn_watch { // Called after each chunk with the bytes that have gone so far and in all.
    void (*step)(void *context, uint64_t done, uint64_t total);
    void *context;
};

// Sends a base (model/base.h). It lands whole or not at all, under a name that no other ever had; the
// same base under the same name is there already, and that is OK, too: *there_out. `watch` may be NULL.
// ERR_CONFLICT: the name stands for another base. ERR_LIMIT: no room for its weights.
MUST_USE enum err unlearn_base_import(struct unlearn *client, const char *name,
                                      const struct base *base, const struct unlearn_watch *watch,
                                      bool *there_out, const Unlearn__BaseInfo **info_out);
// Makes a base of the model "base:NAME" when it is trained. ERR_CONFLICT: it is not yet.
MUST_USE enum err unlearn_base_from_model(struct unlearn *client, const char *name,
                                          const Unlearn__BaseInfo **info_out);
MUST_USE enum err unlearn_base_list(struct unlearn *client, uint32_t offset,
                                    const Unlearn__BasePage **page_out);
MUST_USE enum err unlearn_base_show(struct unlearn *client, const char *name,
                                    const Unlearn__BaseInfo **info_out);
MUST_USE enum err unlearn_base_retire(struct unlearn *client, const char *name,
                                      const Unlearn__BaseRetired **retired_out);
// Fetches the weights into a base of the shape and digest that are given (from unlearn_base_show or
// unlearn_export). ERR_CORRUPT: what came has not that digest. ERR_CONFLICT: it was retired.
MUST_USE enum err unlearn_base_pull(struct unlearn *client, const char *name, struct span shape,
                                    const struct digest *digest, const struct unlearn_watch *watch,
                                    struct base **base_out);

// --- Export ---

// What an auditor needs to train a valid component again (client/export.h), but for its records.
// ERR_CONFLICT: the component is not valid now, or empty.
MUST_USE enum err unlearn_export(struct unlearn *client, const char *model, const char *component,
                                 const Unlearn__Exported **exported_out);
// The next records. `cursor` is empty at first, then the last answer's `next`. The raw frame
// (proto/unlearn.proto) is borrowed as the answer is. ERR_UNAVAILABLE: a deletion hit the slices.
// One page of the records that are held on a subject; raw: proto/unlearn.proto, SubjectPage. The cursor
// is empty at first. ERR_NOT_FOUND: no such dataset, or nothing is held on the subject.
MUST_USE enum err unlearn_subject_show(struct unlearn *client, const char *dataset,
                                       const char *subject, struct span cursor,
                                       const Unlearn__SubjectPage **page_out, struct span *raw_out);

// Begins a compaction of the store unless one runs, or only asks how it stands.
MUST_USE enum err unlearn_compact(struct unlearn *client, bool only_ask,
                                  const Unlearn__CompactState **state_out);

MUST_USE enum err unlearn_export_pull(struct unlearn *client, const char *model,
                                      const char *component, uint64_t instance, struct span cursor,
                                      bool with_ids, const Unlearn__ExportChunk **chunk_out,
                                      struct span *raw_out);
// The parameters of a valid component in the instance that unlearn_export names, into
// params_out[param_count]. ERR_UNAVAILABLE: a deletion hit the slices.
MUST_USE enum err unlearn_params_pull(struct unlearn *client, const char *model,
                                      const char *component, uint64_t instance,
                                      uint64_t param_count, float *params_out);

// --- Predictions ---

// Rows that travel together. {.width = outputs of the model} is empty and ready.
struct unlearn_batch {
    uint32_t width; // Outputs of one row: the answer must fit a frame, too.
    uint32_t rows;
    struct buf raw;
};
// Appends a row. False when it does not fit: predict, clear, and add it again. Into an empty batch
// every row of at most LIMIT_RECORD_BYTES fits.
MUST_USE bool unlearn_batch_add(struct unlearn_batch *batch, struct span row);
void unlearn_batch_clear(struct unlearn_batch *batch);
void unlearn_batch_deinit(struct unlearn_batch *batch);

// Predicts the rows of a batch. *values_out is float32[rows][width], borrowed as the answer is:
// probabilities of the classes, or the number; of a text's next byte, 256 its end. A coordinator that
// answers in parts is asked until all is there; *prediction_out is what all of them say together.
//   ERR_INVALID  a text longer than the model's context; "row 3: ..." is its place in the batch.
MUST_USE enum err unlearn_predict(struct unlearn *client, const char *model,
                                  const struct unlearn_batch *batch,
                                  const Unlearn__Prediction **prediction_out,
                                  const float **values_out);

// Adds an answer to what several say together, {UNLEARN__PREDICTION__INIT} at first: the fewest shards,
// the latest epoch, degraded if any was, the sum of the rows.
void unlearn_prediction_add(Unlearn__Prediction *sum, const Unlearn__Prediction *answer);

// Scores texts: *values_out is float32[value_count], for each row of the batch (whose width is not
// looked at) the probability given to each of its bytes and then to its end, after what stands before
// it in its window: the mean of the shards.
//   value_count  what the rows have of them: all bytes of all texts, and one for each text.
//   ERR_INVALID  the model's learner is not text.
MUST_USE enum err unlearn_score(struct unlearn *client, const char *model,
                                const struct unlearn_batch *batch, uint64_t value_count,
                                const Unlearn__Prediction **prediction_out,
                                const float **values_out);

// How a text goes on: token by token, each chosen from what the model predicts after those before it.
// Once prompt and tokens are longer than the model's context, their last `context` - 1 bytes stand
// for them. Without sampling the same model gives the same tokens; with it also for the same seed.
struct unlearn_continue {
    struct span prompt;
    uint32_t token_count; // At most so many; fewer where the text ends. 1 ..
    bool sampled;         // False: always the most probable token.
    uint64_t seed;
    double temperature; // Sampled: > 0; below 1 likely tokens become likelier.
    // Called for each token, 256 the end, with the probability that the model gave to it. An error ends
    // the text and is returned.
    enum err (*take)(void *context, uint32_t token, float probability);
    void *context;
};
//   *prediction_out  of all answers together, as unlearn_predict.
//   ERR_INVALID      the model's learner is not text; the prompt is longer than its context; a text is
//                    not all that the model's rows have.
MUST_USE enum err unlearn_continue_text(struct unlearn *client, const char *model,
                                        const struct unlearn_continue *how,
                                        const Unlearn__Prediction **prediction_out);

// --- Deletion ---

struct unlearn_ids {
    const char *const *texts;
    size_t count;
};

// What a deletion would cost. ERR_LIMIT: more ids than fit one frame.
MUST_USE enum err unlearn_plan(struct unlearn *client, const char *dataset,
                               struct unlearn_ids records, struct unlearn_ids subjects,
                               const Unlearn__PlanCost **cost_out);

// How it is wanted; NULL for all of the defaults.
struct unlearn_terms {
    bool eager;      // Repaired at once.
    const char *due; // scheduler/due.h; NULL: as the cluster's settings say.
};
// Deletes records and subjects under `uuid`, sent in as many parts as it needs. OK: the deletion
// is fenced and durable. The same uuid with the same ids and due date may be sent again and gives the
// same answer. ERR_NOT_FOUND: nothing of it is known; nothing was changed. ERR_INVALID: the due date
// is none, or has passed. Of many ids: waits for the fence, also over a restart of the coordinator.
MUST_USE enum err unlearn_delete(struct unlearn *client, const char *dataset,
                                 const struct id128 *uuid, struct unlearn_ids records,
                                 struct unlearn_ids subjects, const struct unlearn_terms *terms,
                                 const Unlearn__RequestState **state_out);
// What each id and subject of an acknowledged deletion was answered, from number `from` on: as many as fit
// a page (proto/unlearn.proto). ERR_UNAVAILABLE: it is not acknowledged yet.
MUST_USE enum err unlearn_answers_get(struct unlearn *client, const struct id128 *uuid,
                                      uint32_t from, const Unlearn__AnswerPage **page_out);

// Decides on a deletion that waits for approval (refuse: its records are made visible again). The answer is
// its state then, with the accepted receipt where it is approved; the same again is OK. ERR_NOT_FOUND: no such
// request. ERR_DENIED: this key asked for the deletion, so another must approve it. ERR_CONFLICT: the
// opposite was decided before.
MUST_USE enum err unlearn_approve(struct unlearn *client, const struct id128 *uuid, bool refuse,
                                  const Unlearn__RequestState **state_out);

// Legal holds. One of record and subject is not NULL. Put is answered by the hold as it is then; the same
// again is OK. ERR_NOT_FOUND: no such record is there; to release: it is not on hold. ERR_CONFLICT: it is
// on hold for another reason. ERR_LIMIT: the dataset has LIMIT_HOLDS. Release is asked once.
MUST_USE enum err unlearn_hold_put(struct unlearn *client, const char *dataset, const char *record,
                                   const char *subject, const char *reason,
                                   const Unlearn__HoldState **state_out);
MUST_USE enum err unlearn_hold_release(struct unlearn *client, const char *dataset,
                                       const char *record, const char *subject,
                                       const Unlearn__HoldState **state_out);
// The cursor is empty at first, then the last page's `next`.
MUST_USE enum err unlearn_hold_list(struct unlearn *client, const char *dataset, struct span cursor,
                                    const Unlearn__HoldPage **page_out);

// Keys: who may do what (docs/security.md, "Roles"). Add is asked once. ERR_CONFLICT: the name or the key was
// given out before; or the key to be revoked is the last admin's. ERR_NOT_FOUND: there is no such dataset,
// or no such key to revoke.
MUST_USE enum err unlearn_key_add(struct unlearn *client, const char *name, enum role role,
                                  const char *const *datasets, size_t dataset_count,
                                  const uint8_t public[static CURVEKEY_BYTES],
                                  const Unlearn__KeyState **state_out);
MUST_USE enum err unlearn_key_revoke(struct unlearn *client, const char *name,
                                     const Unlearn__KeyState **state_out);
MUST_USE enum err unlearn_key_list(struct unlearn *client, uint32_t offset,
                                   const Unlearn__KeyPage **page_out);

MUST_USE enum err unlearn_request_show(struct unlearn *client, const struct id128 *uuid,
                                       const Unlearn__RequestState **state_out);

// --- Receipts and their log. Nothing here is checked: proto/receipt.h and client/history.h do that ---

// Replaces the bytes of *file_out by a receipt file: the completed one if there is one, else the
// accepted one. ERR_NOT_FOUND: no such request.
MUST_USE enum err unlearn_receipt_get(struct unlearn *client, const struct id128 *uuid,
                                      struct buf *file_out, bool *completed_out);
// The same for an entry of the log. ERR_NOT_FOUND: it has no such entry.
MUST_USE enum err unlearn_log_inclusion(struct unlearn *client, uint64_t index,
                                        struct buf *file_out);
MUST_USE enum err unlearn_log_head(struct unlearn *client, struct head *head_out);
// The proof, and what the coordinator says was the root of the first `from` entries.
MUST_USE enum err unlearn_log_consistency(struct unlearn *client, uint64_t from, uint64_t to,
                                          struct merkle_path *path_out, struct digest *root_out);
