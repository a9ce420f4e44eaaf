// coordinator/approval.c: see approval.h.
#include "coordinator/approval.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/access.h"
#include "coordinator/cellset.h"
#include "coordinator/erasure.h"
#include "coordinator/fence.h"
#include "coordinator/statement.h"
#include "store/dataset.h"
#include "store/tally.h"

enum {
    LOOK_MS = 1000, // Between two looks at who has waited for too long.
    RETRY_MS = 1000,
    KEYS_STEP = 256, // Made visible in one transaction, which others wait for.
};
static const int64_t HOUR_US = (int64_t)3600 * 1000000;

struct approvals {
    struct request_queue waiting;   // AWAITING, or RETURNING and not yet begun.
    struct request_queue returning; // The first is being worked on.
    bool busy;                      // By a job.
    bool stopped;
    int64_t look_ms, again_ms;
    // Of the first of `returning`.
    uint32_t from; // Of its pending rows: those before are done with.
    struct cellset known;
    uint64_t known_epoch; // It holds while the epoch is this one.
};

static struct approvals *approvals_of(struct core *core)
{
    if (core->approvals == NULL) {
        core->approvals = mem_alloc(1, sizeof *core->approvals);
    }
    return core->approvals;
}

void approval_free(struct core *core)
{
    if (core->approvals != NULL) {
        cellset_deinit(&core->approvals->known);
        mem_free(core->approvals);
        core->approvals = NULL;
    }
}

void approval_stop(struct core *core)
{
    approvals_of(core)->stopped = true;
}

static void log_request(const char *event, const struct request_row *row)
{
    char uuid[TEXT_UUID_BYTES];
    text_uuid_put(&row->uuid, uuid);
    log_info(event, "request=%s records=%llu epoch=%llu", uuid,
             (unsigned long long)row->records_deleted, (unsigned long long)row->epoch);
}

// ---------------------------------------------------------------- taking it back, step by step

struct return_job {
    struct job job;
    struct request *request; // The loop's: `run` does not look at it.
    uint64_t sequence;
    uint32_t from;
    const struct cellset *known;
    uint64_t known_epoch;
    // Of the last run.
    struct fence fence; // What is visible again.
    bool use_known;
    bool finished;
    uint32_t next; // Pending row to begin the next step with.
};

struct found { // Records that are hidden for the request.
    struct record_key keys[KEYS_STEP];
    uint32_t indexes[KEYS_STEP];
    uint32_t count;
};

static bool add_record(void *context, uint64_t sequence, uint32_t index,
                       const struct pending *pending)
{
    (void)sequence;
    struct found *const found = context;
    if (pending->is_record) {
        found->keys[found->count] = pending->record;
        found->indexes[found->count++] = index;
    }
    return found->count < KEYS_STEP;
}

static bool count_record(void *context, uint64_t sequence, uint32_t index,
                         const struct pending *pending)
{
    (void)sequence;
    (void)index;
    *(uint64_t *)context += pending->is_record;
    return true;
}

static bool is_known(void *context, uint32_t model, struct cell cell)
{
    const struct return_job *const back = context;
    return back->use_known && cellset_has(back->known, model, cell);
}

// Whether a later request has asked for the record's subject to be deleted.
static enum err is_asked_for(const struct return_job *back, struct txn *txn,
                             const struct record_key *key, bool *asked_out)
{
    uint64_t request = 0;
    const enum err err = tombstone_get(txn, key->dataset, TOMBSTONE_SUBJECT, &key->sid, &request);
    *asked_out = err == OK && request != back->sequence;
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err return_found(struct return_job *back, struct store *store, struct txn *txn,
                             const struct found *found)
{
    struct fence *const fence = &back->fence;
    struct key_list list = {0};
    uint64_t epoch = 0;
    list.at = mem_alloc(found->count + 1, sizeof *list.at);
    fence->keys = list.at; // Owned from here on.
    for (uint32_t i = 0; i < found->count; i++) {
        bool asked = false;
        TRY(is_asked_for(back, txn, &found->keys[i], &asked));
        if (!asked) {
            list.at[list.count++] = found->keys[i];
            TRY(pending_drop(txn, back->sequence, found->indexes[i]));
        }
    }
    if (list.count == 0) {
        return OK;
    }
    key_list_sort(&list);
    TRY(counter_get(txn, COUNTER_EPOCH, &epoch));
    back->use_known = epoch == back->known_epoch;
    fence->known = is_known;
    fence->known_context = back;
    fence->key_count = list.count;
    return fence_return(fence, store, txn);
}

// All are visible that shall be.
static enum err conclude(struct return_job *back, struct txn *txn)
{
    struct request_row *const row = &back->fence.request;
    row->records_deleted = 0; // But what another request has asked for.
    TRY(pending_walk(txn, back->sequence, count_record, &row->records_deleted));
    row->state = REQUEST_REFUSED;
    return tally_add(txn, row->accepted_us, row->dataset, row->name, TALLY_REFUSED);
}

// Nothing can be visible again where the dataset goes.
static enum err is_going(struct txn *txn, uint32_t dataset, bool *going_out)
{
    struct dataset_row row = {0};
    const enum err err = dataset_get(txn, dataset, &row);
    *going_out = err == ERR_NOT_FOUND || row.removing;
    dataset_row_deinit(&row);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err return_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct return_job *const back = (struct return_job *)job;
    struct request_row *const row = &back->fence.request;
    struct found found = {.count = 0};
    bool going = false;
    fence_deinit(&back->fence); // It may run a second time after a rollback.
    TRY(request_get(txn, back->sequence, row));
    back->fence.dataset = row->dataset;
    TRY(is_going(txn, row->dataset, &going));
    if (going) {
        back->finished = true;
        row->state = REQUEST_FENCED;
        return request_put(txn, row);
    }
    TRY(pending_walk_from(txn, back->sequence, back->from, add_record, &found));
    back->finished = found.count < KEYS_STEP;
    back->next = found.count == 0 ? back->from : found.indexes[found.count - 1] + 1;
    TRY(return_found(back, store, txn, &found));
    if (back->finished) {
        TRY(conclude(back, txn));
    }
    return request_put(txn, row);
}

static void return_undo(struct job *job, struct store *store)
{
    fence_return_undo(&((struct return_job *)job)->fence, store);
}

// What the step has committed, in the loop's memory.
static void apply(struct core *core, struct return_job *back)
{
    struct approvals *const approvals = core->approvals;
    const struct fence *const fence = &back->fence;
    struct dataset *const dataset = catalog_dataset_number(core, fence->dataset);
    const struct request_row *const row = &fence->request;
    if (dataset != NULL) {
        dataset_gain(&dataset->row, fence->keys, fence->key_count);
    }
    if (!back->use_known) {
        cellset_deinit(&approvals->known);
    }
    for (uint32_t i = 0; i < fence->hit_count; i++) {
        const struct fence_hit *const hit = &fence->hits[i];
        struct model *const model = catalog_model_number(core, hit->model);
        cellset_add(&approvals->known, hit->model, hit->cell);
        if (model != NULL) {
            model_gain_records(core, model, hit->cell, hit->records,
                               planned_due(&model->plan, row->due_us, row->eager));
            leases_cancel_cell(core, hit->model, hit->cell);
        }
    }
    if (fence->key_count > 0) {
        approvals->known_epoch = row->epoch;
        core->epoch = row->epoch > core->epoch ? row->epoch : core->epoch;
    }
    approvals->from = back->next;
    back->request->row = *row;
}

static void next_step(struct core *core);

static void return_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct return_job *const back = (struct return_job *)job;
    struct approvals *const approvals = core->approvals;
    struct request *const request = back->request;
    approvals->busy = false;
    if (job->result != OK) {
        log_error("return_failed", "sequence=%llu reason=\"%s\"",
                  (unsigned long long)back->sequence, job->text);
        approvals->again_ms = core->now_ms + RETRY_MS;
    } else {
        apply(core, back);
    }
    if (job->result == OK && back->finished) {
        (void)queue_take(&approvals->returning);
        catalog_hold_back(core, request->row.dataset, false);
        log_request(request->row.state == REQUEST_REFUSED ? "deletion_taken_back"
                                                          : "deletion_goes_on",
                    &request->row);
        erasure_begin(core, request); // Of weights, and of what stays deleted.
    }
    fence_deinit(&back->fence);
    mem_free(back);
    next_step(core);
}

static void next_step(struct core *core)
{
    struct approvals *const approvals = approvals_of(core);
    struct request *const request = approvals->returning.first;
    if (request == NULL || approvals->busy || approvals->stopped ||
        core->now_ms < approvals->again_ms) {
        return;
    }
    struct return_job *const back = mem_alloc(1, sizeof *back);
    back->job = (struct job){
        .kind = JOB_WRITE_ALONE, .run = return_run, .undo = return_undo, .done = return_done};
    back->request = request;
    back->sequence = request->row.sequence;
    back->from = approvals->from;
    back->known = &approvals->known; // Not changed while the job is under way.
    back->known_epoch = approvals->known_epoch;
    approvals->busy = true;
    storage_submit(core->storage, &back->job, STORAGE_OURS);
}

static void begin_return(struct core *core, struct request *request)
{
    struct approvals *const approvals = approvals_of(core);
    catalog_hold_back(core, request->row.dataset, true);
    queue_put(&approvals->returning, request);
    if (approvals->returning.first == request) {
        approvals->from = 0;
        cellset_deinit(&approvals->known);
        approvals->known_epoch = 0;
    }
    next_step(core);
}

void approval_begin(struct core *core, struct request *request)
{
    if (request->row.state == REQUEST_RETURNING) {
        begin_return(core, request);
    } else {
        queue_put(&approvals_of(core)->waiting, request);
    }
}

// ---------------------------------------------------------------- the decision

struct decide_job {
    struct job job;
    struct caller caller;
    bool asked; // By the caller; else the time is over.
    struct access_scope scope;
    struct id128 uuid;
    uint32_t asker; // 0: without keys everybody is somebody else.
    bool refuse;
    struct accepted accepted;
    // Of the last run.
    struct request_row row;
    bool decided; // Now; else the same was before.
};

static enum err check_decision(const struct decide_job *decide)
{
    const struct request_row *const row = &decide->row;
    if (row->state != REQUEST_AWAITING && request_stands(row) == decide->refuse) {
        FAIL(ERR_CONFLICT, "%s",
             decide->refuse
                 ? "the request does not wait for approval: what it has deleted does not come back"
                 : "the request was refused: what it named is there again, ask for its deletion "
                   "anew");
    }
    if (row->state == REQUEST_AWAITING && !decide->refuse && row->asker != 0 &&
        row->asker == decide->asker) {
        FAIL(ERR_DENIED, "the request was made with this key: somebody else must approve it");
    }
    return OK;
}

static enum err decide_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct decide_job *const decide = (struct decide_job *)job;
    buf_clear(&decide->accepted.body);
    decide->decided = false;
    TRY(access_request(txn, &decide->scope, &decide->uuid, &decide->row));
    TRY(check_decision(decide));
    if (decide->row.state == REQUEST_AWAITING) {
        decide->decided = true;
        decide->row.state = decide->refuse ? REQUEST_RETURNING : REQUEST_FENCED;
        TRY(request_put(txn, &decide->row));
    }
    return statement_accepted(txn, &decide->row, &decide->accepted.body);
}

static struct request *take_waiting(struct core *core, uint64_t sequence)
{
    struct request_queue *const waiting = &approvals_of(core)->waiting;
    struct request_queue others = {0};
    struct request *found = NULL;
    for (struct request *request; (request = queue_take(waiting)) != NULL;) {
        if (request->row.sequence == sequence) {
            found = request;
        } else {
            queue_put(&others, request);
        }
    }
    *waiting = others;
    return found;
}

static void follow_decision(struct core *core, const struct decide_job *decide)
{
    struct request *const request = take_waiting(core, decide->row.sequence);
    if (request == NULL) { // The loop waits for each that the store says is waiting.
        log_error("decision_lost", "sequence=%llu", (unsigned long long)decide->row.sequence);
        return;
    }
    request->row.state = decide->row.state;
    if (decide->refuse) {
        log_request(decide->asked ? "deletion_refused" : "deletion_not_approved_in_time",
                    &request->row);
        begin_return(core, request);
    } else {
        log_request("deletion_approved", &request->row);
        erasure_begin(core, request);
    }
}

static void decide_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct decide_job *const decide = (struct decide_job *)job;
    if (job->result == OK && decide->decided) {
        follow_decision(core, decide);
    }
    if (decide->asked && job->result != OK) {
        reply_error(core, &decide->caller, job->result, job->text);
    } else if (decide->asked) {
        const struct id128 none = {{0}};
        const struct ack ack = {buf_span(&decide->accepted.receipt), ""};
        reply_request(core, &decide->caller, &decide->row, &none, &ack);
    } else if (job->result != OK && job->result != ERR_CONFLICT) { // The next look tries again.
        log_error("refusal_failed", "reason=\"%s\"", job->text);
    }
    accepted_deinit(&decide->accepted);
    mem_free(decide);
}

static struct decide_job *decision(bool refuse)
{
    struct decide_job *const decide = mem_alloc(1, sizeof *decide);
    decide->job = (struct job){.kind = JOB_WRITE, .run = decide_run, .done = decide_done};
    decide->job.accepted = &decide->accepted;
    decide->refuse = refuse;
    return decide;
}

VERB(on_approve, Unlearn__Approve)
{
    (void)raw;
    struct decide_job *const decide = decision(body->refuse);
    decide->caller = *caller;
    decide->asked = true;
    decide->asker = caller_number(caller);
    decide->scope = access_scope_of(caller);
    if (wire_copy(body->uuid, decide->uuid.bytes, ID_BYTES, "the request's UUID") != OK) {
        reply_error(core, caller, ERR_INVALID, err_text());
        mem_free(decide);
        return;
    }
    storage_submit(core->storage, &decide->job, caller_number(caller));
}

void approval_tick(struct core *core)
{
    struct approvals *const approvals = approvals_of(core);
    const int64_t latest_us = core->wall_us - core->config.approve_hours * HOUR_US;
    next_step(core);
    if (core->now_ms < approvals->look_ms || approvals->stopped) {
        return;
    }
    approvals->look_ms = core->now_ms + LOOK_MS;
    for (const struct request *at = approvals->waiting.first; at != NULL; at = at->next) {
        if (at->row.fenced_us < latest_us) {
            struct decide_job *const decide = decision(true);
            decide->uuid = at->row.uuid;
            decide->scope = access_scope_of(NULL);
            storage_submit(core->storage, &decide->job, STORAGE_OURS);
        }
    }
}
