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
#include "coordinator/access.h"
#include "coordinator/approval.h"
#include "coordinator/bulk.h"
#include "coordinator/core.h"
#include "coordinator/erasure.h"
#include "coordinator/fence.h"
#include "store/tally.h"

// ---------------------------------------------------------------- what is asked for

// The ids of a message, hashed: never kept or journaled as they came.
static enum err take_ids(const struct dataset *dataset, char *const *texts, size_t count,
                         bool subjects, struct asked *asked_out)
{
    for (size_t i = 0; i < count; i++) {
        const struct span text = span_text(texts[i]);
        struct id128 rid, sid;
        TRY(text_check_name(subjects ? "a subject" : "an id", text));
        if (subjects) {
            sid = dataset_sid(dataset->row.placement_key, text);
        } else {
            dataset_ids(dataset->row.placement_key, text, span_of(NULL, 0), &rid, &sid);
        }
        asked_out[i] = (struct asked){subjects, subjects ? sid : rid};
    }
    return OK;
}

// Records, then subjects: as many as fit a message. Owned by the caller, also on error.
static enum err take_both(const struct dataset *dataset, char *const *records, size_t record_count,
                          char *const *subjects, size_t subject_count, struct asked **asked_out)
{
    *asked_out = mem_alloc(record_count + subject_count + 1, sizeof **asked_out);
    TRY(take_ids(dataset, records, record_count, false, *asked_out));
    return take_ids(dataset, subjects, subject_count, true, *asked_out + record_count);
}

static void ask_for(struct fence *fence, const struct asked *asked, size_t count)
{
    fence->rids = mem_alloc(count + 1, sizeof *fence->rids);
    fence->sids = mem_alloc(count + 1, sizeof *fence->sids);
    for (size_t i = 0; i < count; i++) {
        if (asked[i].subject) {
            fence->sids[fence->sid_count++] = asked[i].id;
        } else {
            fence->rids[fence->rid_count++] = asked[i].id;
        }
    }
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
    struct asked *asked = NULL;
    enum err err = catalog_dataset(core, caller, body->dataset, &dataset);
    if (err == OK) {
        err = take_both(dataset, body->records, body->n_records, body->subjects, body->n_subjects,
                        &asked);
    }
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        mem_free(asked);
        return;
    }
    struct plan_job *const plan = mem_alloc(1, sizeof *plan);
    plan->job = (struct job){.kind = JOB_READ, .run = plan_run, .done = plan_done};
    plan->caller = *caller;
    plan->fence.dataset = dataset->row.number;
    plan->fence.records_most = LIMIT_PLAN_RECORDS;
    ask_for(&plan->fence, asked, body->n_records + body->n_subjects);
    mem_free(asked);
    storage_submit(core->storage, &plan->job, caller_number(caller));
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
    if (row->state != REQUEST_RETURNING && row->state != REQUEST_REFUSED) {
        state.ids_deleted = row->answered[ANSWER_DELETED];
        state.ids_gone = row->answered[ANSWER_GONE];
        state.ids_not_found = row->answered[ANSWER_NOT_FOUND];
        state.ids_held = row->answered[ANSWER_HELD];
        state.records_held = row->records_held;
    }
    if (row->state == REQUEST_AWAITING) {
        state.approve_by_us = row->fenced_us + core->config.approve_hours * INT64_C(3600000000);
    }
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
_Static_assert((int)UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED == REQUEST_REFUSED,
               "and these, too");

struct show_job {
    struct job job;
    struct caller caller;
    struct access_scope scope;
    struct id128 uuid;
    struct request_row row;
    struct id128 earlier;
};

static enum err show_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct show_job *const show = (struct show_job *)job;
    TRY(access_request(txn, &show->scope, &show->uuid, &show->row));
    return bulk_earlier(txn, &show->row, &show->earlier);
}

static void show_done(struct job *job, void *core)
{
    struct show_job *const show = (struct show_job *)job;
    if (job->result == OK) {
        reply_request(core, &show->caller, &show->row, &show->earlier, NULL);
    } else {
        reply_error(core, &show->caller, job->result, job->text);
    }
    mem_free(show);
}

// A request of many is in the journal only when its fence is done.
static enum err expect_acknowledged(const struct core *core, const struct caller *caller,
                                    const struct id128 *uuid)
{
    uint32_t done = 0, ids = 0;
    if (bulk_find(core, caller, uuid, &done, &ids)) {
        FAIL(ERR_UNAVAILABLE, "the request is not acknowledged yet: %u of its %u ids so far", done,
             ids);
    }
    return OK;
}

VERB(on_request_show, Unlearn__RequestShow)
{
    (void)raw;
    struct show_job *const show = mem_alloc(1, sizeof *show);
    show->job = (struct job){.kind = JOB_READ, .run = show_run, .done = show_done};
    show->caller = *caller;
    show->scope = access_scope_of(caller);
    enum err err = wire_copy(body->uuid, show->uuid.bytes, ID_BYTES, "the request's UUID");
    if (err == OK) {
        err = expect_acknowledged(core, caller, &show->uuid);
    }
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        mem_free(show);
        return;
    }
    storage_submit(core->storage, &show->job, caller_number(caller));
}

// ---------------------------------------------------------------- answers to its ids

struct answers_job {
    struct job job;
    struct caller caller;
    struct access_scope scope;
    struct id128 uuid;
    uint32_t from;
    uint32_t total, count;
    uint8_t answers[ANSWERS_ROW];
};

static enum err answers_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct answers_job *const ask = (struct answers_job *)job;
    struct request_row row;
    TRY(access_request(txn, &ask->scope, &ask->uuid, &row));
    if (row.state == REQUEST_RETURNING || row.state == REQUEST_REFUSED) {
        FAIL(ERR_CONFLICT, "the request was refused: it has deleted nothing");
    }
    for (int i = ANSWER_DELETED; i < ANSWER_COUNT_; i++) {
        ask->total += row.answered[i];
    }
    return answers_get(txn, &row, ask->from, ask->answers, &ask->count);
}

static void answers_done(struct job *job, void *core)
{
    struct answers_job *const ask = (struct answers_job *)job;
    if (job->result != OK) {
        reply_error(core, &ask->caller, job->result, job->text);
    } else {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__AnswerPage page = UNLEARN__ANSWER_PAGE__INIT;
        page.total = ask->total;
        page.answers = wire_bytes(span_of(ask->answers, ask->count));
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_ANSWER_PAGE;
        reply.answer_page = &page;
        reply_send(core, &ask->caller, &reply, span_of(NULL, 0));
    }
    mem_free(ask);
}

VERB(on_answers_get, Unlearn__AnswersGet)
{
    (void)raw;
    struct answers_job *const ask = mem_alloc(1, sizeof *ask);
    ask->job = (struct job){.kind = JOB_READ, .run = answers_run, .done = answers_done};
    ask->caller = *caller;
    ask->scope = access_scope_of(caller);
    ask->from = body->from;
    enum err err = wire_copy(body->uuid, ask->uuid.bytes, ID_BYTES, "the request's UUID");
    if (err == OK) {
        err = expect_acknowledged(core, caller, &ask->uuid);
    }
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        mem_free(ask);
        return;
    }
    storage_submit(core->storage, &ask->job, caller_number(caller));
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
    struct asked *asked; // [count], owned.
    uint32_t count;
};

static void delete_free(struct delete_job *deletion)
{
    fence_deinit(&deletion->fence);
    accepted_deinit(&deletion->accepted);
    mem_free(deletion->asked);
    mem_free(deletion);
}

// A deletion that is refused is counted, and the answer waits for that commit, as an ack does.
static enum err delete_run(struct job *job, struct store *store, struct txn *txn)
{
    struct delete_job *const deletion = (struct delete_job *)job;
    const uint64_t before = txn_writes(txn);
    const enum err err = fence_run(&deletion->fence, store, txn);
    deletion->refused = OK;
    if (err == ERR_LIMIT && deletion->fence.too_many) { // Nothing was written; bulk.c does it.
        deletion->refused = err;
        return OK;
    }
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
uint64_t deletion_apply(struct core *core, const struct fence *fence)
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
            if (model != last && fence->known == NULL) { // Hits stand model by model.
                planned_hit(&model->plan, row->eager);
                last = model;
            }
            model_lose_records(core, model, hit->cell, hit->records,
                               planned_due(&model->plan, row->due_us, row->eager));
            leases_cancel_cell(core, hit->model, hit->cell);
        }
    }
    core->epoch = fence->request.epoch > core->epoch ? fence->request.epoch : core->epoch;
    return leases_forget(core, fence->hits, fence->hit_count);
}

void deletion_log(const struct request_row *request)
{
    char uuid[TEXT_UUID_BYTES];
    text_uuid_put(&request->uuid, uuid);
    log_info("deletion_fenced", "request=%s records=%llu components_invalidated=%llu epoch=%llu",
             uuid, (unsigned long long)request->records_deleted,
             (unsigned long long)request->components_invalidated,
             (unsigned long long)request->epoch);
}

// One of its subjects has more records than one transaction is long enough for.
static void hand_to_bulk(struct core *core, struct delete_job *deletion)
{
    struct bulk_part part = {.uuid = deletion->fence.uuid,
                             .eager = deletion->fence.eager,
                             .due = deletion->due,
                             .accepted_us = deletion->fence.accepted_us,
                             .due_us = deletion->fence.due_us,
                             .asked = deletion->asked,
                             .count = deletion->count};
    const enum err err = catalog_dataset(core, &deletion->caller, deletion->dataset, &part.dataset);
    if (err != OK) {
        reply_error(core, &deletion->caller, err, err_text());
    } else if (!bulk_joins(core, &deletion->caller, &part.uuid, &deletion->fence.body,
                           part.eager)) {
        bulk_take(core, &deletion->caller, &part);
    }
}

static void delete_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct delete_job *const deletion = (struct delete_job *)job;
    struct fence *const fence = &deletion->fence;
    if (job->result == OK && deletion->refused == ERR_LIMIT) {
        hand_to_bulk(core, deletion);
        delete_free(deletion);
        return;
    }
    if (job->result != OK || deletion->refused != OK) {
        reply_error(core, &deletion->caller, job->result != OK ? job->result : deletion->refused,
                    job->result != OK ? job->text : deletion->refusal);
        delete_free(deletion);
        return;
    }
    const bool fenced = !fence->repeated && fence->request.state != REQUEST_COMPLETED;
    struct request *open = catalog_request(core, fence->request.sequence);
    if (fenced) {
        const uint64_t forget = deletion_apply(core, fence);
        open = catalog_put_request(core, &fence->request, fence->awaited, fence->awaited_count);
        open->forget = forget;
    } else if (fence->repeated && fence->request.eager && open != NULL && !open->row.eager) {
        outlook_hurry(core, open);
    }
    const struct ack ack = {buf_span(&deletion->accepted.receipt), fence->why.text};
    reply_request(core, &deletion->caller, &fence->request, &fence->earlier, &ack);
    rate_add(&core->activity.deletions, core->now_ms, 1);
    if (fenced) {
        deletion_log(&fence->request);
        erasure_begin(core, open);
    }
    delete_free(deletion);
}

// In one transaction.
static void delete_directly(struct core *core, const struct caller *caller,
                            const struct bulk_part *part)
{
    const struct id128 none = {{0}};
    const uint32_t dataset = part->dataset->row.number;
    const struct id128 body = bulk_digest(core, dataset, &none, part);
    if (bulk_joins(core, caller, &part->uuid, &body, part->eager)) {
        return;
    }
    struct delete_job *const deletion = mem_alloc(1, sizeof *deletion);
    struct fence *const fence = &deletion->fence;
    deletion->job = (struct job){
        .kind = JOB_WRITE, .run = delete_run, .undo = delete_undo, .done = delete_done};
    deletion->job.accepted = fence->accepted = &deletion->accepted;
    deletion->caller = *caller;
    deletion->count = part->count;
    deletion->asked = mem_alloc(part->count, sizeof *deletion->asked);
    memcpy(deletion->asked, part->asked, part->count * sizeof *deletion->asked);
    memcpy(deletion->dataset, part->dataset->row.name, sizeof deletion->dataset);
    fence->uuid = part->uuid;
    fence->body = body;
    fence->dataset = dataset;
    fence->eager = part->eager;
    fence->records_most = LIMIT_FENCE_RECORDS;
    fence->accepted_us = part->accepted_us;
    fence->due_us = part->due_us;
    snprintf(deletion->due, sizeof deletion->due, "%s", part->due);
    fence->signer = core->signer;
    fence->approve_above = core->config.approve_above;
    fence->asker = caller_number(caller);
    ask_for(fence, part->asked, part->count);
    storage_submit(core->storage, &deletion->job, caller_number(caller));
}

static enum err take_part(struct core *core, const struct caller *caller,
                          const Unlearn__Delete *body, struct bulk_part *part, struct asked **asked)
{
    const size_t count = body->n_records + body->n_subjects;
    if (count > LIMIT_PART_IDS) {
        FAIL(ERR_LIMIT, "%zu ids in one message, expected at most %d: send them in parts", count,
             (int)LIMIT_PART_IDS);
    }
    TRY(wire_copy(body->uuid, part->uuid.bytes, ID_BYTES, "the request's UUID"));
    TRY(catalog_dataset(core, caller, body->dataset, &part->dataset));
    TRY(take_both(part->dataset, body->records, body->n_records, body->subjects, body->n_subjects,
                  asked));
    if (count == 0) {
        FAIL(ERR_INVALID, "no record and no subject was named");
    }
    part->accepted_us = clock_wall_us();
    if (body->part == 0) {
        TRY(due_parse(body->due[0] == '\0' ? core->config.due : body->due, part->accepted_us,
                      &part->due_us));
    }
    part->due = body->due;
    part->asked = *asked;
    part->count = (uint32_t)count;
    part->part = body->part;
    part->more = body->more;
    part->eager = body->eager;
    return OK;
}

VERB(on_delete, Unlearn__Delete)
{
    (void)raw;
    struct bulk_part part = {.part = 0};
    struct asked *asked = NULL;
    const enum err err = take_part(core, caller, body, &part, &asked);
    erasure_asked(core);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
    } else if (part.part == 0 && !part.more && part.count <= LIMIT_FENCE_IDS) {
        delete_directly(core, caller, &part);
    } else {
        bulk_take(core, caller, &part);
    }
    mem_free(asked);
}
