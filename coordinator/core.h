// coordinator/core.h: what the main loop holds in memory, and who changes it.
//
// Everything here belongs to the main loop. It mirrors what the store has committed: `done` of a job
// changes it, in the order of the commits. Other threads see only what is handed to them whole: jobs
// (storage.h) and predictions (predict.h); weights are shared by reference count and constant.
#pragma once

#include <stdatomic.h>

#include "base/component.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/sign.h"
#include "coordinator/cells.h"
#include "coordinator/storage.h"
#include "model/learner.h"
#include "model/profile.h"
#include "model/schema.h"
#include "model/spec.h"
#include "proto/link.h"
#include "proto/wire.h"
#include "proto/zap.h"
#include "scheduler/due.h"
#include "scheduler/ensemble.h"
#include "scheduler/forecast.h"
#include "scheduler/planner.h"
#include "scheduler/rate.h"
#include "store/base.h"
#include "store/component.h"
#include "store/dataset.h"
#include "store/principal.h"
#include "store/record.h"
#include "store/request.h"

struct config {
    char listen[LINK_ENDPOINT_BYTES];
    char listen_workers[LINK_ENDPOINT_BYTES];
    uint64_t map_bytes;
    uint32_t predict_threads;
    uint32_t ranks; // For `unlearnctl up`.
    uint32_t lease_ms;
    uint32_t quota_requests; // A second, of each principal: quota.h.
    uint64_t quota_bytes;
    uint32_t quota_ids; // Of deletions.
    uint32_t approve_above; // Deletions of more records need a second person's word; 0: none does.
    uint32_t recheck_percent; // Of the stages, that are trained twice and compared.
    uint32_t approve_hours; // Until one is refused that nobody has approved.
    enum log_level log_level;
    char blas_core[PROFILE_NAME_BYTES]; // "": left to the environment.
    char due[DUE_TEXT_BYTES];           // Of a deletion that names no due date: scheduler/due.h.
};

// Weights of one instance. Constant; freed with the last reference.
struct weights {
    _Atomic uint32_t references;
    uint64_t instance;
    uint64_t param_count;
    float *params;
    struct digest digest; // component_digest. In memory only: a plain digest must not last.
};

// What a model computes by: constant, shared with the prediction threads by reference count.
struct shape {
    _Atomic uint32_t references;
    struct spec spec;
    struct schema schema;
    struct base *base; // Held; NULL where the spec names none.
};
static inline struct recipe shape_recipe(const struct shape *shape)
{
    return (struct recipe){&shape->spec, &shape->schema, shape->base};
}

// A base, valid or retired. Those that are being uploaded are in base_upload.c.
struct base_entry {
    struct base_row row;
    struct base *base; // Held; NULL once it is retired.
};

struct dataset {
    struct dataset_row row;
    struct schema schema;
    struct digest schema_digest;
    struct forecast forecast; // outlook.c
    int64_t forecast_ms;      // When it was made; 0: never.
    uint32_t fencing; // Requests of many that are being fenced (bulk.c): its models are paused.
};

// Open requests in order; one is in one queue at most. requests.c.
struct request_queue {
    struct request *first, *last;
    uint32_t count;
};

// What the loop knows of a component beside ensemble's slot; same index.
struct slot_extra {
    struct request_queue watched; // Requests that wait for it, and for others perhaps.
    struct weights *weights;      // NULL unless valid.
    uint64_t records;             // That it was trained on.
    struct digest profile;        // It was trained under; of a valid one.
    uint32_t failures;            // In a row.
};

struct model {
    uint32_t number;
    char name[LIMIT_NAME_BYTES + 1];
    uint32_t dataset; // Number.
    // Not 0: this is the successor of the model of that number, under a newer numeric profile. It has
    // the same name, is hidden from clients, and answers for each shard in which it holds all that
    // the other holds; when it is trained, it takes the other's place (removal.c).
    uint32_t replaces;
    bool taking_over; // The job that does so is under way.
    uint32_t base;    // Number of the base that it stands on; 0: none.
    uint32_t generations;
    struct spec spec;
    struct shape *shape;
    struct buf spec_text;
    struct digest spec_digest;
    struct ensemble ensemble;
    struct slot_extra *extras;
    struct planned plan; // What the planner knows of it.
    char policy_text[REPAIR_TEXT_BYTES];
    uint64_t run; // Training runs since the start of the process.
    uint32_t run_components;
    uint64_t run_samples;
    int64_t run_began_ms, run_ended_ms;
    char problem[256];
    bool has_outdated; // A component of an older profile was loaded.
    bool stuck; // All that waits stands on components of an older profile; `problem` says so.
};

// An open request and what it still waits for.
struct request {
    struct request_row row;
    struct awaited *awaited;
    uint32_t awaited_count;
    uint32_t waits_at;    // Of awaited: one that was not valid when last looked at.
    bool queued;          // In one of the queues; else a job has it.
    struct request *next; // There.
    int64_t since_ms;     // It waits for its next step.
    uint64_t forget;      // Of leases_forget: it is erased when workers have forgotten, too.
    bool late_told;       // The log says that it will be late.
};

// Who asked.
struct caller {
    struct link_peer peer;
    uint64_t request_id;
    // Who is never freed while the process lives; NULL without keys (--insecure-loopback): then everybody
    // may do everything.
    const struct principal_row *principal;
};
// For storage_submit. caller NULL: ourselves.
static inline uint32_t caller_number(const struct caller *caller)
{
    return caller == NULL || caller->principal == NULL ? STORAGE_OURS : caller->principal->number;
}

// What has happened since the start, and in the last minute.
struct activity {
    struct rate samples;   // Trained, as workers say; of verifications, too.
    struct rate stored;    // Components.
    struct rate deletions; // Acknowledged, also repeated ones.
    struct rate cancelled; // Stages that a deletion ended, and
    struct rate wasted;    // the samples that they had been trained on.
    struct rate denied;    // Requests: access.c.
    struct peak turn_us;   // Turns of the loop, the waiting left out.
};

struct core {
    struct config config;
    char dir[4096];
    bool insecure; // --insecure-loopback: no keys.
    struct link_context *context;
    struct zap *zap; // Who may connect: gate.c. NULL where insecure.
    struct link *clients;
    struct link *workers_link;
    struct storage *storage;
    struct quota *quota; // What principals may ask for: quota.c.
    struct predictor *predictor;
    struct signer *signer;             // Of receipts; constant, the store thread's too: receipts.c.
    struct fleetdom *fleetdom;         // Workers, fleets, leases: leases.c.
    struct access *access;             // Who may do what: access.c.
    struct uploads *uploads;           // Imports under way: uploads.c.
    struct base_uploads *base_uploads; // base_upload.c
    bool bases_tidying;                // The job of bases_tidy is under way.
    struct bulks *bulks;               // Deletions of many: bulk.c.
    uint32_t reports_open;             // Being made: report.c.
    struct approvals *approvals;       // What waits for a second person's word: approval.c.
    struct erasure *erasure;           // What follows a fence: erasure.c.
    struct verifications *verifications;
    struct rechecks *rechecks; // Stages that are trained twice: recheck.c.
    struct compaction *compaction; // upkeep.c.
    struct wire_arena arena;
    struct buf frame; // For packing replies.
    uint8_t body_key[KEY_BYTES];
    struct digest profile;
    char core_type[PROFILE_CORE_BYTES];
    struct profile_name profiles[PROFILE_NAMES];
    uint32_t profile_count;
    uint64_t epoch;
    uint64_t resident_bytes; // Weights in memory.
    int64_t started_ms;
    int64_t asked_ms; // When the last message of a client came that was no ping, or one connected.
    uint64_t connected;  // Handshakes so far.
    int64_t draining_ms; // Since when it is about to end: nothing is leased any more. 0: it is not.
    int64_t now_ms;      // Of this turn of the loop, and
    int64_t wall_us;     // the time of day: due dates are told in it.
    struct activity activity;

    struct dataset **datasets;
    uint32_t dataset_count;
    struct base_entry **bases;
    uint32_t base_count;
    struct model **models;
    uint32_t model_count;
    struct planner planner;    // Over `models`.
    struct request **requests; // By number.
    uint32_t request_count, request_capacity;
    struct request_queue woken;    // What they waited for has changed: to be looked at.
    struct request_queue repaired; // Erased, and nothing is left to wait for.
    uint32_t outlook_at;           // The next one to be looked at, and
    int64_t outlook_ms;            // When open deletions are looked at again: outlook.c.
};

// --- catalog.c: datasets and models in memory

// Reads everything from the store; called once, before the loop. Errors are the store's.
MUST_USE enum err catalog_load(struct core *core);
void catalog_free(struct core *core);

// Those that the caller may see, by name. ERR_NOT_FOUND names it: in the same words, and after the same
// work, whether there is none or it is outside the caller's scope.
MUST_USE enum err catalog_dataset(struct core *core, const struct caller *caller, const char *name,
                                  struct dataset **out);
MUST_USE enum err catalog_model(struct core *core, const struct caller *caller, const char *name,
                                struct model **out);
// Also retired ones: `base` is NULL then.
MUST_USE enum err catalog_base(struct core *core, const char *name, struct base_entry **out);
struct base_entry *catalog_base_number(struct core *core, uint32_t number); // Or NULL.
struct dataset *catalog_dataset_number(struct core *core, uint32_t number); // Or NULL.
struct model *catalog_model_number(struct core *core, uint32_t number);     // Or NULL.
// The one that is being trained to replace the model, or NULL.
struct model *catalog_successor(const struct core *core, const struct model *model);
// The model or its successor: whichever's components answer for the shard now.
const struct model *catalog_answering(const struct core *core, const struct model *model,
                                      uint32_t shard);
uint32_t catalog_shards_used(const struct core *core, const struct model *model);
// The core type of a profile that was in use once, or "".
const char *catalog_core_type(const struct core *core, const struct digest *profile);

// Takes the row over (row is emptied). Replaces one of the same number. ERR_CORRUPT: its schema.
MUST_USE enum err catalog_put_dataset(struct core *core, struct dataset_row *row);
void catalog_drop_dataset(struct core *core, uint32_t number);
// Takes the row over (row is emptied), and the base, whose bytes are counted in resident_bytes already.
void catalog_put_base(struct core *core, struct base_row *row, struct base *base);
// ERR_LIMIT: the weights in memory leave no room for so many more bytes; `what` is whose they are.
MUST_USE enum err catalog_room(const struct core *core, uint64_t bytes, const char *what);
// A new model, or one extended to more generations. cells: records per cell, laid out as
// ensemble.records for the row's generations. orders: as of orders_make, of a new model; else not
// looked at. ERR_CORRUPT: spec and schema do not fit.
MUST_USE enum err catalog_put_model(struct core *core, const struct model_row *row,
                                    const uint64_t *cells, const uint16_t *orders);
void catalog_drop_model(struct core *core, uint32_t number);
void catalog_pause(struct core *core); // Decides anew which models nothing is leased of.
// Nothing of the dataset's models is leased while one of its requests is being fenced, or taken back, step by
// step. Whatever begins ends. Nothing if the dataset is gone.
void catalog_hold_back(struct core *core, uint32_t dataset, bool begins);
// In the store thread: adds the visible records of each cell to cells (laid out as above, zeroed).
MUST_USE enum err catalog_count_cells(struct txn *txn, uint32_t dataset,
                                      const struct placement *placement, uint32_t generations,
                                      uint64_t *cells);

void model_set_policy(struct model *model, const struct repair_policy *policy);
struct slot_extra *model_extra(const struct model *model, uint32_t shard, uint32_t node);
// The component is valid now with these weights (taken over).
void model_set_valid(struct core *core, struct model *model, uint32_t shard, uint32_t node,
                     struct weights *weights, uint64_t records, const struct digest *profile);
// Its weights are trusted no more: it waits to be trained anew.
void model_set_invalid(struct core *core, struct model *model, uint32_t shard, uint32_t node);
// Records have gone from a cell: the lineage rule, and the weights leave memory. due: as of planned_due.
void model_lose_records(struct core *core, struct model *model, struct cell cell, uint64_t count,
                        int64_t due);
// The opposite: they are visible again.
void model_gain_records(struct core *core, struct model *model, struct cell cell, uint64_t count,
                        int64_t due);
// float32 of a component whose list has `list_count` entries.
uint64_t model_param_count(const struct model *model, uint32_t list_count);

// Reads the schema; holds the base (NULL: none). Errors: schema_get's.
MUST_USE enum err shape_new(const struct spec *spec, struct span schema, struct base *base,
                            struct shape **shape_out);
// The parts fit each other, up to the longest list of so many generations. Errors:
// learner_param_count's.
MUST_USE enum err shape_check(const struct shape *shape, uint32_t generations);
struct shape *shape_hold(struct shape *shape);
void shape_release(struct shape *shape); // Accepts NULL. Any thread.
struct weights *weights_new(uint64_t instance, float *params, uint64_t param_count);
struct weights *weights_hold(struct weights *weights);
void weights_release(struct weights *weights); // Accepts NULL. Any thread.

// --- requests.c: open requests in memory

struct request *catalog_put_request(struct core *core, const struct request_row *row,
                                    const struct awaited *awaited, uint32_t awaited_count);
struct request *catalog_request(struct core *core, uint64_t sequence); // Open ones, or NULL.
// They must be in no queue.
void catalog_drop_requests(struct core *core, struct request *const *requests, uint32_t count);
void requests_free(struct core *core); // At the end, in whatever queue they are.
// When it has to be completed by; 0: it has no due date. The one place that status and report ask.
static inline int64_t request_due(const struct request_row *row)
{
    return row->due_us;
}
// How many of the request's components are not yet valid again, and the samples of their stages; of
// the first REQUEST_LOOKS that it awaits, *more_out: there are others.
enum { REQUEST_LOOKS = 4096 }; // Four milliseconds where lists are longest.
uint32_t request_waits_for(struct core *core, const struct request *request, uint64_t *samples_out,
                           bool *more_out);

void queue_put(struct request_queue *queue, struct request *request); // It must be in none.
void queue_put_first(struct request_queue *queue, struct request *request);
struct request *queue_take(struct request_queue *queue); // The first, or NULL.
// All of the queue go to core->woken: a component became valid, or empty, or is gone.
void requests_wake(struct core *core, struct request_queue *queue);
// Finds out for what is woken whether it still waits, for 2 ms at most: the rest stays woken.
void requests_look(struct core *core);

// Why an awaited component cannot be trained; "" when nothing is wrong. Borrowed.
const char *request_problem(struct core *core, const struct request *request);

// --- orders.c

// The orders of the spec's slices, [sequences][slices], a function of the spec alone. The caller frees
// them. Takes up to 0.2 s: in the store thread.
//   ERR_INVALID  sampling found fewer different ones than the spec wants.
MUST_USE enum err orders_make(const struct spec *spec, uint16_t **orders_out);

// --- clients.c: answering

void reply_error(struct core *core, const struct caller *caller, enum err err, const char *text);
void reply_send(struct core *core, const struct caller *caller, Unlearn__Reply *reply,
                struct span raw);
// Takes one message of a client.
void clients_message(struct core *core, const struct link_message *message);

// One function per verb; each answers, now or when its job is done.
#define VERB(name, type)                                                                           \
    void name(struct core *core, const struct caller *caller, const type *body, struct span raw)
VERB(on_dataset_list, Unlearn__DatasetList);
VERB(on_dataset_show, Unlearn__DatasetShow);
VERB(on_dataset_remove, Unlearn__DatasetRemove);
VERB(on_import_begin, Unlearn__ImportBegin);
VERB(on_import_chunk, Unlearn__ImportChunk);
VERB(on_import_commit, Unlearn__ImportCommit);
VERB(on_import_abort, Unlearn__ImportAbort);
VERB(on_train, Unlearn__Train);
VERB(on_model_list, Unlearn__ModelList);
VERB(on_model_show, Unlearn__ModelShow);
VERB(on_model_remove, Unlearn__ModelRemove);
VERB(on_model_set, Unlearn__ModelSet);
VERB(on_components, Unlearn__Components);
VERB(on_predict, Unlearn__Predict);
VERB(on_plan, Unlearn__Plan);
VERB(on_delete, Unlearn__Delete);
VERB(on_request_show, Unlearn__RequestShow);
VERB(on_cluster_show, Unlearn__ClusterShow);
VERB(on_report, Unlearn__ReportGet);
VERB(on_request_list, Unlearn__RequestList);
VERB(on_model_cells, Unlearn__ModelCells);
VERB(on_verify, Unlearn__Verify);
VERB(on_verify_show, Unlearn__VerifyShow);
VERB(on_receipt_get, Unlearn__ReceiptGet);
VERB(on_log_head, Unlearn__LogHead);
VERB(on_log_inclusion, Unlearn__LogInclusion);
VERB(on_log_consistency, Unlearn__LogConsistency);
VERB(on_compact, Unlearn__Compact);
VERB(on_subject_show, Unlearn__SubjectShow);
VERB(on_export, Unlearn__Export);
VERB(on_export_pull, Unlearn__ExportPull);
VERB(on_params_pull, Unlearn__ParamsPull);
VERB(on_base_begin, Unlearn__BaseBegin);
VERB(on_base_chunk, Unlearn__BaseChunk);
VERB(on_base_commit, Unlearn__BaseCommit);
VERB(on_base_abort, Unlearn__BaseAbort);
VERB(on_base_from_model, Unlearn__BaseFromModel);
VERB(on_base_list, Unlearn__BaseList);
VERB(on_base_show, Unlearn__BaseShow);
VERB(on_base_retire, Unlearn__BaseRetire);
VERB(on_base_pull, Unlearn__BasePull);
VERB(on_answers_get, Unlearn__AnswersGet);
VERB(on_hold_put, Unlearn__HoldPut);
VERB(on_hold_release, Unlearn__HoldRelease);
VERB(on_hold_list, Unlearn__HoldList);
VERB(on_key_add, Unlearn__KeyAdd);
VERB(on_key_list, Unlearn__KeyList);
VERB(on_key_revoke, Unlearn__KeyRevoke);
VERB(on_approve, Unlearn__Approve);

// Ids as the store knows them: rid of the id; sid of the subject, or of the id where `subject` is
// empty. docs/format.md, "Ids".
void dataset_ids(const uint8_t placement_key[static KEY_BYTES], struct span id, struct span subject,
                 struct id128 *rid_out, struct id128 *sid_out);
struct id128 dataset_sid(const uint8_t placement_key[static KEY_BYTES], struct span subject);

// --- upkeep.c

void upkeep_free(struct core *core);

// --- uploads.c (imports), deletion.c

void uploads_free(struct core *core);
void uploads_tick(struct core *core);                           // Gives up what is idle for long.
void uploads_drop_dataset(struct core *core, const char *name); // The dataset is being removed.
void imports_tidy(
    struct core *core); // Erases leftovers in the background, and then all doomed keys.
struct fence;
// What a fence has committed, in the loop's memory: before the ack is sent, so that no reply after the ack
// holds an output of what was invalidated. As leases_forget: what the request has to wait for.
uint64_t deletion_apply(struct core *core, const struct fence *fence);
void deletion_log(const struct request_row *request); // It is acknowledged.
// What goes with an ack alone.
struct ack {
    struct span receipt;     // The accepted one; may be empty.
    const char *hold_reason; // Why something of it stays, or "".
};
// Answers with the state of a request; `earlier` is looked at only where row->earlier is set. ack: NULL:
// it is none.
void reply_request(struct core *core, const struct caller *caller, const struct request_row *row,
                   const struct id128 *earlier, const struct ack *ack);

// --- outlook.c: due dates, and what is expected to become of them

// At start, when everything is loaded: open deletions tell the planner what waits for them.
void outlook_load(struct core *core);
// An open deletion asks for haste from now on.
void outlook_hurry(struct core *core, struct request *request);
// When an open deletion is expected to be repaired. 0: not known, or it is repaired; *late_out: that
// is, or was, too late.
int64_t outlook_expected(struct core *core, const struct request_row *row, bool *late_out);
void outlook_tick(
    struct core *core); // Logs each deletion that will be late, as soon as that is known.

// --- bases.c, base_upload.c

// In the store thread, at start: the table of bases with their weights. Errors: the store's.
MUST_USE enum err bases_load(struct core *core, struct txn *txn);
void bases_tidy(
    struct core *core); // Drops weights of retired and unfinished ones in the background.
void bases_free(struct core *core);
void base_answer(struct core *core, const struct caller *caller, const struct base_entry *entry);
// A name that a base may have: a label, and not what a spec says that names none. ERR_INVALID.
MUST_USE enum err base_check_name(const char *name);
void base_uploads_free(struct core *core);
void base_uploads_tick(struct core *core); // Gives up what is idle for long.

// --- pretrain.c

// Whether a model of this name is one that becomes a base, and of which name.
bool pretrain_is(const char *model);
const char *pretrain_base(const char *model);
// What a new model of such a name must be. ERR_CONFLICT: there is or was such a base, or the dataset is
// not public. ERR_INVALID: the spec trains no base, or not in one piece.
MUST_USE enum err pretrain_check(struct core *core, const char *model,
                                 const struct dataset *dataset, const struct recipe *recipe);

// --- removal.c

// A successor that is trained takes the place of its model, which is removed like any other: by a
// request of our own.
void removal_take_over(struct core *core, struct model *successor);
// What comes after the commit of removal_fence (removal.h): the model leaves the loop's memory, and
// the request goes on like any.
void removal_fenced(struct core *core, const struct request_row *row);
// A successor that the profile has overtaken too is removed.
void removal_drop_successor(struct core *core, const struct model *successor);

// --- leases.c: workers, fleets and the stages they train

MUST_USE enum err leases_open(struct core *core);
void leases_free(struct core *core);
void leases_message(struct core *core, const struct link_message *message);
void leases_tick(struct core *core); // Deadlines, and stages for idle ranks.
// A deletion hit the cell: training that has read it is cancelled at once.
void leases_cancel_cell(struct core *core, uint32_t model, struct cell cell);
void leases_cancel_model(struct core *core, uint32_t model);
void leases_return(struct core *core); // All end, and their workers are told to stop.
// Tells all workers to wipe what they hold of the cells, and all that was made of it; after their leases
// were cancelled. The number to wait for; 0: nobody holds anything of it.
struct fence_hit;
uint64_t leases_forget(struct core *core, const struct fence_hit *hits, uint32_t hit_count);
uint64_t leases_forget_model(struct core *core, uint32_t model); // The same of all of a model.
// Whether every worker has done so, or is gone: it left, or was cut off, and will not be accepted again
// before it holds nothing.
bool leases_have_forgotten(const struct core *core, uint64_t number);
uint32_t leases_worker_count(const struct core *core);
const char *leases_refusal(
    const struct core *core); // Of a worker since the last one joined, or "".
uint64_t leases_samples_done(const struct core *core, uint32_t model);
// Adds fleets and workers to reply->cluster and sends it.
void leases_describe(struct core *core, const struct caller *caller, Unlearn__Reply *reply);

// --- verify.c: components trained anew and compared

struct verify_task {
    uint64_t job;
    uint32_t model;
    uint32_t shard, node;
};
enum comparison { VERIFY_IDENTICAL, VERIFY_DIFFERENT, VERIFY_SKIPPED, VERIFY_AGAIN };
// The next comparison for an idle rank of this key; false: none.
bool verify_next(struct core *core, const struct principal_row *worker,
                 struct verify_task *task_out);
uint32_t verify_count_waiting(const struct core *core, uint32_t most); // Comparisons; to `most`.
void verify_compared(struct core *core, const struct component *name,
                     const struct verify_task *which, enum comparison result);
void verify_free(struct core *core);

// --- predict.c

MUST_USE enum err predict_open(struct core *core);
void predict_free(struct core *core);
int predict_fd(const struct core *core);
uint32_t predict_count(const struct core *core); // Under way.
void predict_finished(struct core *core);        // Sends what the threads have computed.

// --- config.c

// Reads DIR/config.yaml. ERR_NOT_FOUND: DIR is no data directory. ERR_INVALID: file, line, key.
MUST_USE enum err config_load(const char *dir, struct config *config_out);
// Takes over from `fresh` what can change while unlearnd runs, and appends to two texts the keys of what is
// different there: what was taken over, and what has to wait for a restart. Each key with a blank before it.
void config_take(struct config *config, const struct config *fresh, struct buf *taken,
                 struct buf *waiting);
struct config config_default(void); // What a file without any key means.
