// coordinator/deletion.c: requests to delete, from the question what it would cost to the ack; see
// core.h. fence.c has the transaction behind the ack, erasure.c what follows it; removal.c takes models
// and datasets away.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/core.h"
#include "coordinator/erasure.h"
#include "coordinator/fence.h"
#include "store/tally.h"

enum { PART_IDLE_MS = 60000 };

// ---------------------------------------------------------------- what is asked for

// The ids of the request, hashed: never kept or journaled as they came.
static enum err take_ids(const struct dataset *dataset, char *const *texts, size_t count,
                         bool subjects, struct id128 **ids, uint32_t *id_count)
{
    if (count > LIMIT_DELETE_IDS - *id_count) {
        FAIL(ERR_LIMIT, "more than %d ids in one request", (int)LIMIT_DELETE_IDS);
    }
    if (count == 0) {
        return OK;
    }
    *ids = mem_resize(*ids, *id_count + count, sizeof **ids);
    for (size_t i = 0; i < count; i++) {
        const struct span text = span_text(texts[i]);
        struct id128 rid, sid;
        TRY(text_check_name(subjects ? "a subject" : "an id", text));
        if (subjects) {
            sid = dataset_sid(dataset->row.placement_key, text);
        } else {
            dataset_ids(dataset->row.placement_key, text, span_of(NULL, 0), &rid, &sid);
        }
        (*ids)[(*id_count)++] = subjects ? sid : rid;
    }
    return OK;
}

static enum err take_both(const struct dataset *dataset, char *const *records, size_t record_count,
                          char *const *subjects, size_t subject_count, struct fence *fence)
{
    fence->dataset = dataset->row.number;
    TRY(take_ids(dataset, records, record_count, false, &fence->rids, &fence->rid_count));
    return take_ids(dataset, subjects, subject_count, true, &fence->sids, &fence->sid_count);
}

// ---------------------------------------------------------------- plan

struct plan_job {
    struct job job;
    struct caller caller;
    struct fence fence;
};

static enum err plan_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct fence *const fence = &((struct plan_job *)job)->fence;
    TRY(fence_find(fence, txn));
    if (fence->key_count == 0 && !fence_is_held(fence)) {
        FAIL(ERR_NOT_FOUND, "none of the %u records and %u subjects is known in this dataset",
             fence->rid_count, fence->sid_count);
    }
    return OK;
}

static void add_cost(const struct model *model, const struct fence *fence, Unlearn__PlanCost *total)
{
    const size_t cells =
        (size_t)model->ensemble.placement.shards * model->ensemble.trie.slice_count;
    uint64_t *const lost = mem_alloc(cells, sizeof *lost);
    for (uint32_t i = 0; i < fence->key_count; i++) {
        const struct record_key *const key = &fence->keys[i];
        if (key->generation < model->generations) {
            const struct cell cell = cell_of_record(&model->ensemble.placement, key);
            lost[(size_t)cell.shard * model->ensemble.trie.slice_count + cell.slice]++;
        }
    }
    const struct ensemble_cost cost = ensemble_plan(&model->ensemble, lost);
    mem_free(lost);
    total->components_invalidated += cost.components;
    total->samples_to_retrain += cost.samples;
    total->samples_from_scratch += cost.samples_from_scratch;
    double all = 0, longest = 0, error = 0;
    if (planned_cost(&model->plan, &cost, &all, &longest, &error)) {
        total->seconds_error =
            total->seconds_estimated + all > 0
                ? (total->seconds_error * total->seconds_estimated + error * all) /
                      (total->seconds_estimated + all)
                : 0;
        total->seconds_estimated += all;
        total->seconds_wall = longest > total->seconds_wall ? longest : total->seconds_wall;
    }
}

static void plan_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct plan_job *const plan = (struct plan_job *)job;
    if (job->result != OK) {
        reply_error(core, &plan->caller, job->result, job->text);
    } else {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__PlanCost cost = UNLEARN__PLAN_COST__INIT;
        cost.records = plan->fence.key_count;
        cost.records_held = plan->fence.kept_count;
        for (uint32_t i = 0; i < core->model_count; i++) {
            if (core->models[i]->dataset == plan->fence.dataset) {
                add_cost(core->models[i], &plan->fence, &cost);
            }
        }
        const uint32_t ranks = leases_worker_count(core);
        if (ranks == 0) {
            cost.seconds_wall = 0;
        } else if (cost.seconds_estimated / ranks > cost.seconds_wall) {
            cost.seconds_wall = cost.seconds_estimated / ranks;
        }
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_PLAN_COST;
        reply.plan_cost = &cost;
        reply_send(core, &plan->caller, &reply, span_of(NULL, 0));
    }
    fence_deinit(&plan->fence);
    mem_free(plan);
}

VERB(on_plan, Unlearn__Plan)
{
    (void)raw;
    struct dataset *dataset = NULL;
    struct plan_job *const plan = mem_alloc(1, sizeof *plan);
    plan->job = (struct job){.kind = JOB_READ, .run = plan_run, .done = plan_done};
    plan->caller = *caller;
    enum err err = catalog_dataset(core, body->dataset, &dataset);
    if (err == OK) {
        err = take_both(dataset, body->records, body->n_records, body->subjects, body->n_subjects,
                        &plan->fence);
    }
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        fence_deinit(&plan->fence);
        mem_free(plan);
        return;
    }
    storage_submit(core->storage, &plan->job);
}

// ---------------------------------------------------------------- answers about a request

void reply_request(struct core *core, const struct caller *caller, const struct request_row *row,
                   const struct id128 *earlier, const struct ack *ack)
{
    uint64_t samples = 0;
    const struct request *const open = catalog_request(core, row->sequence);
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__RequestState state = UNLEARN__REQUEST_STATE__INIT;
    state.uuid = wire_bytes(span_of(row->uuid.bytes, ID_BYTES));
    state.kind = (Unlearn__RequestKind)row->kind;
    state.phase = (Unlearn__RequestPhase)row->state;
    state.records_deleted = row->records_deleted;
    state.components_invalidated = (uint32_t)row->components_invalidated;
    state.epoch = row->epoch;
    state.accepted_us = row->accepted_us;
    state.fenced_us = row->fenced_us;
    state.erased_us = row->erased_us;
    state.repaired_us = row->repaired_us;
    state.completed_us = row->completed_us;
    state.ids_deleted = row->answered[ANSWER_DELETED];
    state.ids_gone = row->answered[ANSWER_GONE];
    state.ids_not_found = row->answered[ANSWER_NOT_FOUND];
    state.ids_held = row->answered[ANSWER_HELD];
    state.records_held = row->records_held;
    if (row->earlier != 0) {
        state.earlier = wire_bytes(span_of(earlier->bytes, ID_BYTES));
    }
    if (ack != NULL) {
        state.accepted = wire_bytes(ack->receipt);
        state.hold_reason = wire_text(ack->hold_reason);
    }
    if (open != NULL) {
        bool more = false;
        state.components_awaited = request_waits_for(core, open, &samples, &more);
        state.awaited_more = more;
        state.samples_left = samples;
        state.problem = wire_text(request_problem(core, open));
    }
    bool late = false;
    state.due_us = request_due(row);
    state.expected_us = open == NULL ? 0 : outlook_expected(core, row, &late);
    state.late = open == NULL ? row->repaired_us > row->due_us && row->due_us != 0 : late;
    state.haste = row->eager;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_REQUEST_STATE;
    reply.request_state = &state;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

_Static_assert((int)UNLEARN__REQUEST_KIND__REQUEST_KIND_REMOVE_MODEL == REQUEST_REMOVE_MODEL &&
                   (int)UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED == REQUEST_COMPLETED,
               "the journal's numbers are the wire's");

struct show_job {
    struct job job;
    struct caller caller;
    struct id128 uuid;
    struct request_row row;
    struct id128 earlier;
};

static enum err show_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct show_job *const show = (struct show_job *)job;
    TRY(request_find(txn, &show->uuid, &show->row));
    if (show->row.earlier != 0) {
        struct request_row earlier;
        TRY(request_get(txn, show->row.earlier, &earlier));
        show->earlier = earlier.uuid;
    }
    return OK;
}

static void show_done(struct job *job, void *core)
{
    struct show_job *const show = (struct show_job *)job;
    if (job->result == OK) {
        reply_request(core, &show->caller, &show->row, &show->earlier, NULL);
    } else {
        reply_error(core, &show->caller, job->result,
                    job->result == ERR_NOT_FOUND ? "there is no request with this UUID"
                                                 : job->text);
    }
    mem_free(show);
}

VERB(on_request_show, Unlearn__RequestShow)
{
    (void)raw;
    struct show_job *const show = mem_alloc(1, sizeof *show);
    show->job = (struct job){.kind = JOB_READ, .run = show_run, .done = show_done};
    show->caller = *caller;
    if (wire_copy(body->uuid, show->uuid.bytes, ID_BYTES, "the request's UUID") != OK) {
        reply_error(core, caller, ERR_INVALID, err_text());
        mem_free(show);
        return;
    }
    storage_submit(core->storage, &show->job);
}

// ---------------------------------------------------------------- delete

struct delete_job {
    struct job job;
    struct caller caller;
    struct fence fence;
    struct accepted accepted;
    char dataset[LIMIT_NAME_BYTES + 1];
    char due[DUE_TEXT_BYTES]; // As it was asked for.
    enum err refused;         // Not OK: nothing was changed, and `refusal` says why.
    char refusal[ERR_TEXT_BYTES];
    uint32_t next_part; // While it is uploaded in parts.
    int64_t last_ms;
};

struct deletions { // Being uploaded.
    struct delete_job *open[LIMIT_DELETES_OPEN];
    uint32_t count;
};

static struct deletions *deletions_of(struct core *core)
{
    if (core->deletions == NULL) {
        core->deletions = mem_alloc(1, sizeof *core->deletions);
    }
    return core->deletions;
}

static void delete_free(struct delete_job *deletion)
{
    fence_deinit(&deletion->fence);
    accepted_deinit(&deletion->accepted);
    mem_free(deletion);
}

void deletion_free(struct core *core)
{
    struct deletions *const deletions = deletions_of(core);
    while (deletions->count > 0) {
        delete_free(deletions->open[--deletions->count]);
    }
    mem_free(deletions);
    core->deletions = NULL;
}

void deletion_tick(struct core *core)
{
    struct deletions *const deletions = deletions_of(core);
    for (uint32_t i = 0; i < deletions->count;) {
        if (core->now_ms - deletions->open[i]->last_ms > PART_IDLE_MS) {
            delete_free(deletions->open[i]);
            deletions->open[i] = deletions->open[--deletions->count];
        } else {
            i++;
        }
    }
}

// A deletion that is refused is counted, and the answer waits for that commit, as an ack does.
static enum err delete_run(struct job *job, struct store *store, struct txn *txn)
{
    struct delete_job *const deletion = (struct delete_job *)job;
    const uint64_t before = txn_writes(txn);
    const enum err err = fence_run(&deletion->fence, store, txn);
    deletion->refused = OK;
    if ((err != ERR_NOT_FOUND && err != ERR_CONFLICT) || txn_writes(txn) != before) {
        return err;
    }
    deletion->refused = err;
    memcpy(deletion->refusal, err_text(), sizeof deletion->refusal);
    return tally_add(txn, deletion->fence.accepted_us, deletion->fence.dataset, deletion->dataset,
                     err == ERR_NOT_FOUND              ? TALLY_NOT_FOUND
                     : fence_is_held(&deletion->fence) ? TALLY_HELD
                                                       : TALLY_CONFLICT);
}

static void delete_undo(struct job *job, struct store *store)
{
    fence_undo(&((struct delete_job *)job)->fence, store);
}

// The commit is done: the memory of the loop follows it before the ack is sent, so that no reply
// after the ack holds an output of what was invalidated.
static struct request *apply_fence(struct core *core, const struct fence *fence)
{
    struct dataset *const dataset = catalog_dataset_number(core, fence->dataset);
    const struct request_row *const row = &fence->request;
    const struct model *last = NULL;
    if (dataset != NULL) {
        dataset_lose(&dataset->row, fence->keys, fence->key_count);
    }
    for (uint32_t i = 0; i < fence->hit_count; i++) {
        const struct fence_hit *const hit = &fence->hits[i];
        struct model *const model = catalog_model_number(core, hit->model);
        if (model != NULL) {
            if (model != last) { // Hits stand model by model.
                planned_hit(&model->plan, row->eager);
                last = model;
            }
            model_lose_records(core, model, hit->cell, hit->records,
                               planned_due(&model->plan, row->due_us, row->eager));
            leases_cancel_cell(core, hit->model, hit->cell);
        }
    }
    core->epoch = fence->request.epoch > core->epoch ? fence->request.epoch : core->epoch;
    struct request *const request =
        catalog_put_request(core, row, fence->awaited, fence->awaited_count);
    request->forget = leases_forget(core, fence->hits, fence->hit_count);
    return request;
}

static void delete_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct delete_job *const deletion = (struct delete_job *)job;
    struct fence *const fence = &deletion->fence;
    if (job->result != OK || deletion->refused != OK) {
        reply_error(core, &deletion->caller, job->result != OK ? job->result : deletion->refused,
                    job->result != OK ? job->text : deletion->refusal);
        delete_free(deletion);
        return;
    }
    const bool fenced = !fence->repeated && fence->request.state == REQUEST_FENCED;
    struct request *const open =
        fenced ? apply_fence(core, fence) : catalog_request(core, fence->request.sequence);
    if (fence->repeated && fence->request.eager && open != NULL && !open->row.eager) {
        outlook_hurry(core, open);
    }
    const struct ack ack = {buf_span(&deletion->accepted.receipt), fence->hold_reason};
    reply_request(core, &deletion->caller, &fence->request, &fence->earlier, &ack);
    rate_add(&core->activity.deletions, core->now_ms, 1);
    if (fenced) {
        char uuid[TEXT_UUID_BYTES];
        text_uuid_put(&fence->request.uuid, uuid);
        log_info("deletion_fenced", "request=%s records=%u components_invalidated=%llu epoch=%llu",
                 uuid, fence->key_count, (unsigned long long)fence->request.components_invalidated,
                 (unsigned long long)fence->request.epoch);
        erasure_begin(core, open);
    }
    delete_free(deletion);
}

static struct delete_job *find_open(struct core *core, const struct id128 *uuid)
{
    const struct deletions *const deletions = deletions_of(core);
    for (uint32_t i = 0; i < deletions->count; i++) {
        if (id128_compare(&deletions->open[i]->fence.uuid, uuid) == 0) {
            return deletions->open[i];
        }
    }
    return NULL;
}

static void forget_open(struct core *core, const struct delete_job *deletion)
{
    struct deletions *const deletions = deletions_of(core);
    for (uint32_t i = 0; i < deletions->count; i++) {
        if (deletions->open[i] == deletion) {
            deletions->open[i] = deletions->open[--deletions->count];
            return;
        }
    }
}

// Keyed digest of all that was asked, so that the same UUID with another body is noticed.
static struct id128 body_digest(const struct core *core, const struct fence *fence, const char *due)
{
    struct buf bytes = {0};
    buf_u32(&bytes, fence->dataset);
    buf_short_text(&bytes, due);
    buf_u32(&bytes, fence->rid_count);
    buf_put(&bytes, span_of(fence->rids, fence->rid_count * sizeof *fence->rids));
    buf_u32(&bytes, fence->sid_count);
    buf_put(&bytes, span_of(fence->sids, fence->sid_count * sizeof *fence->sids));
    const struct id128 digest = digest_id("unlearnd-request", core->body_key, buf_span(&bytes));
    buf_deinit(&bytes);
    return digest;
}

// Finds or begins the upload of this UUID and adds the part's ids to it.
static enum err take_part(struct core *core, const Unlearn__Delete *body,
                          struct delete_job **deletion_out)
{
    struct deletions *const deletions = deletions_of(core);
    struct dataset *dataset = NULL;
    struct id128 uuid;
    TRY(wire_copy(body->uuid, uuid.bytes, ID_BYTES, "the request's UUID"));
    TRY(catalog_dataset(core, body->dataset, &dataset));
    int64_t due_us = 0;
    const int64_t now_us = clock_wall_us();
    if (body->part == 0) {
        TRY(due_parse(body->due[0] == '\0' ? core->config.due : body->due, now_us, &due_us));
    }
    struct delete_job *deletion = find_open(core, &uuid);
    if (deletion != NULL && body->part == 0) { // The client began anew.
        forget_open(core, deletion);
        delete_free(deletion);
        deletion = NULL;
    }
    if (deletion == NULL) {
        if (body->part != 0) {
            FAIL(ERR_CONFLICT, "part %u came without the parts before it: begin anew", body->part);
        }
        if (deletions->count >= LIMIT_DELETES_OPEN) {
            FAIL(ERR_LIMIT, "too many deletions are being uploaded: try again later");
        }
        deletion = mem_alloc(1, sizeof *deletion);
        deletion->fence.uuid = uuid;
        deletion->fence.accepted_us = now_us;
        deletion->fence.due_us = due_us;
        snprintf(deletion->due, sizeof deletion->due, "%s", body->due);
        deletion->fence.dataset = dataset->row.number;
        memcpy(deletion->dataset, dataset->row.name, sizeof deletion->dataset);
        deletions->open[deletions->count++] = deletion;
    }
    *deletion_out = deletion;
    if (body->part != deletion->next_part || deletion->fence.dataset != dataset->row.number) {
        FAIL(ERR_CONFLICT, "part %u of the upload came, expected %u of the same dataset",
             body->part, deletion->next_part);
    }
    deletion->next_part++;
    deletion->last_ms = core->now_ms;
    deletion->fence.eager = body->eager;
    TRY(take_both(dataset, body->records, body->n_records, body->subjects, body->n_subjects,
                  &deletion->fence));
    if (!body->more && deletion->fence.rid_count + deletion->fence.sid_count == 0) {
        FAIL(ERR_INVALID, "no record and no subject was named");
    }
    return OK;
}

VERB(on_delete, Unlearn__Delete)
{
    (void)raw;
    struct delete_job *deletion = NULL;
    const enum err err = take_part(core, body, &deletion);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        if (deletion != NULL) {
            forget_open(core, deletion);
            delete_free(deletion);
        }
        return;
    }
    if (body->more) {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__DeletePart part = UNLEARN__DELETE_PART__INIT;
        part.part = body->part;
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_DELETE_PART;
        reply.delete_part = &part;
        reply_send(core, caller, &reply, span_of(NULL, 0));
        return;
    }
    forget_open(core, deletion);
    erasure_asked(core);
    deletion->job = (struct job){
        .kind = JOB_WRITE, .run = delete_run, .undo = delete_undo, .done = delete_done};
    deletion->job.accepted = deletion->fence.accepted = &deletion->accepted;
    deletion->fence.signer = core->signer;
    deletion->caller = *caller;
    deletion->fence.body = body_digest(core, &deletion->fence, deletion->due);
    storage_submit(core->storage, &deletion->job);
}
