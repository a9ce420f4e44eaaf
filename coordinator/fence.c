// coordinator/fence.c: see fence.h.
#include "coordinator/fence.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "coordinator/cells.h"
#include "coordinator/statement.h"
#include "model/spec.h"
#include "store/base.h"
#include "store/component.h"
#include "store/dataset.h"

void fence_deinit(struct fence *fence)
{
    mem_free(fence->rids);
    mem_free(fence->sids);
    mem_free(fence->keys);
    mem_free(fence->kept);
    mem_free(fence->answers);
    mem_free(fence->hits);
    mem_free(fence->awaited);
    *fence = (struct fence){0};
}

// ---------------------------------------------------------------- what is asked for

struct key_list {
    struct record_key *at; // Owned.
    uint32_t count, capacity;
};

struct finding {
    struct fence *fence;
    struct txn *txn;
    uint32_t generations; // Of the dataset.
    bool holds;           // Anything of it is on hold.
    struct key_list keys, kept;
    struct key_list subject; // The records of one.
    bool too_many;
    uint64_t earlier; // The request that deleted the first thing that is gone; 0: none is.
};

static void list_add(struct key_list *list, const struct record_key *key)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        list->at = mem_resize(list->at, list->capacity, sizeof *list->at);
    }
    list->at[list->count++] = *key;
}

static int compare_keys(const void *a_, const void *b_)
{
    uint8_t a[RECORD_KEY_BYTES], b[RECORD_KEY_BYTES];
    record_key_put(a_, a);
    record_key_put(b_, b);
    return memcmp(a, b, sizeof a);
}

static void list_sort(struct key_list *list)
{
    if (list->count > 1) {
        qsort(list->at, list->count, sizeof *list->at, compare_keys);
        uint32_t kept = 1;
        for (uint32_t i = 1; i < list->count; i++) {
            if (compare_keys(&list->at[i], &list->at[kept - 1]) != 0) {
                list->at[kept++] = list->at[i];
            }
        }
        list->count = kept;
    }
}

// Whether it is on hold; notes the reason of the first.
static enum err find_hold(struct finding *finding, enum hold_kind kind, const struct id128 *id,
                          bool *held_out)
{
    struct fence *const fence = finding->fence;
    *held_out = false;
    if (!finding->holds) {
        return OK;
    }
    TRY(hold_has(finding->txn, fence->dataset, kind, id, held_out));
    if (*held_out && fence->hold_reason[0] == '\0') {
        struct hold hold;
        TRY(hold_get(finding->txn, fence->dataset, kind, id, &hold));
        memcpy(fence->hold_reason, hold.reason, sizeof fence->hold_reason);
    }
    return OK;
}

// Nothing visible is there: was it once?
static enum err find_gone(struct finding *finding, enum tombstone_kind kind, const struct id128 *id,
                          enum id_answer *answer_out)
{
    uint64_t request = 0;
    const enum err err = tombstone_get(finding->txn, finding->fence->dataset, kind, id, &request);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    *answer_out = err == OK ? ANSWER_GONE : ANSWER_NOT_FOUND;
    if (err == OK && finding->earlier == 0) {
        finding->earlier = request;
    }
    return OK;
}

static enum err find_record(struct finding *finding, const struct id128 *rid,
                            enum id_answer *answer_out)
{
    struct record record;
    const enum err err = record_find(finding->txn, finding->fence->dataset, rid, &record);
    if (err == ERR_NOT_FOUND) {
        return find_gone(finding, TOMBSTONE_RECORD, rid, answer_out);
    }
    TRY(err);
    bool held;
    TRY(find_hold(finding, HOLD_RECORD, rid, &held));
    if (!held) {
        TRY(find_hold(finding, HOLD_SUBJECT, &record.key.sid, &held));
    }
    list_add(held ? &finding->kept : &finding->keys, &record.key);
    *answer_out = held ? ANSWER_HELD : ANSWER_DELETED;
    return OK;
}

static bool add_key(void *context, const struct record *record)
{
    struct finding *const finding = context;
    finding->too_many = finding->subject.count >= LIMIT_DELETE_IDS;
    if (!finding->too_many) {
        list_add(&finding->subject, &record->key);
    }
    return !finding->too_many;
}

static enum err find_subject(struct finding *finding, const struct id128 *sid,
                             enum id_answer *answer_out)
{
    bool subject_held, any = false;
    finding->subject.count = 0;
    TRY(record_walk_subject(finding->txn, finding->fence->dataset, finding->generations, sid,
                            add_key, finding));
    if (finding->subject.count == 0) {
        return find_gone(finding, TOMBSTONE_SUBJECT, sid, answer_out);
    }
    TRY(find_hold(finding, HOLD_SUBJECT, sid, &subject_held));
    for (uint32_t i = 0; i < finding->subject.count; i++) {
        bool held = subject_held;
        if (!held) {
            TRY(find_hold(finding, HOLD_RECORD, &finding->subject.at[i].rid, &held));
        }
        any = any || !held;
        list_add(held ? &finding->kept : &finding->keys, &finding->subject.at[i]);
    }
    *answer_out = any ? ANSWER_DELETED : ANSWER_HELD;
    return OK;
}

static enum err find_all(struct finding *finding)
{
    struct fence *const fence = finding->fence;
    for (uint32_t i = 0; i < fence->rid_count + fence->sid_count; i++) {
        enum id_answer *const answer = &fence->answers[i];
        TRY(i < fence->rid_count
                ? find_record(finding, &fence->rids[i], answer)
                : find_subject(finding, &fence->sids[i - fence->rid_count], answer));
        fence->answered[*answer]++;
        if (finding->too_many || finding->keys.count > LIMIT_DELETE_IDS) {
            FAIL(ERR_LIMIT, "more than %d records in one request: ask for them in several",
                 (int)LIMIT_DELETE_IDS);
        }
    }
    if (finding->keys.count > 0) {
        TRY(base_frees_dataset(finding->txn, fence->dataset));
    }
    list_sort(&finding->keys);
    list_sort(&finding->kept);
    return OK;
}

// *earlier_out: the request that deleted the first of the asked-for things that are gone, or 0.
static enum err find(struct fence *fence, struct txn *txn, uint64_t *earlier_out)
{
    struct finding finding = {.fence = fence, .txn = txn};
    struct dataset_row dataset = {0};
    TRY(dataset_get(txn, fence->dataset, &dataset));
    finding.generations = dataset.generation_next;
    const bool removing = dataset.removing;
    dataset_row_deinit(&dataset);
    if (removing) {
        FAIL(ERR_CONFLICT, "the dataset is being removed");
    }
    TRY(hold_any(txn, fence->dataset, &finding.holds));
    const uint32_t asked = fence->rid_count + fence->sid_count;
    fence->answers = mem_resize(fence->answers, asked + 1, sizeof *fence->answers);
    memset(fence->answered, 0, sizeof fence->answered);
    fence->hold_reason[0] = '\0';
    const enum err err = find_all(&finding);
    mem_free(finding.subject.at);
    mem_free(fence->keys);
    mem_free(fence->kept);
    fence->keys = finding.keys.at;
    fence->key_count = finding.keys.count;
    fence->kept = finding.kept.at;
    fence->kept_count = finding.kept.count;
    *earlier_out = finding.earlier;
    return err;
}

enum err fence_find(struct fence *fence, struct txn *txn)
{
    uint64_t earlier;
    return find(fence, txn, &earlier);
}

bool fence_is_held(const struct fence *fence)
{
    return fence->key_count == 0 && fence->answered[ANSWER_HELD] > 0;
}

// Why a request of which nothing is deleted is refused; OK: an earlier one has deleted it.
static enum err expect_some(const struct fence *fence, uint64_t earlier)
{
    if (fence_is_held(fence)) {
        const uint32_t asked = fence->rid_count + fence->sid_count;
        FAIL(ERR_CONFLICT, "%s on legal hold%s: %s",
             asked == 1                              ? "it is"
             : fence->answered[ANSWER_HELD] == asked ? "all of it is"
                                                     : "some of it is",
             fence->answered[ANSWER_HELD] == asked ? "" : ", and nothing else of it is there",
             fence->hold_reason);
    }
    if (earlier == 0) {
        FAIL(ERR_NOT_FOUND, "none of the %u records and %u subjects is known in this dataset",
             fence->rid_count, fence->sid_count);
    }
    return OK;
}

static int compare_ids(const void *a, const void *b)
{
    return id128_compare(a, b);
}

// ---------------------------------------------------------------- models

struct affected { // The models of the dataset, and what happens to one of them.
    struct fence *fence;
    struct txn *txn;
    uint32_t model;
    uint64_t *lost; // [shards * slice_count]: records gone from each of its cells. Owned.
    uint32_t shards, slice_count;
    struct digest schema;      // Of the dataset.
    struct component *invalid; // Rows to be put: collected first, the walk must not be disturbed.
    struct component_row *invalid_rows;
    uint32_t invalid_count;
    uint32_t pending_index;
};

static bool is_hit(const struct affected *affected, const struct component *name)
{
    for (uint32_t i = 0; i < name->count && name->shard < affected->shards; i++) {
        if (name->list[i] < affected->slice_count &&
            affected->lost[(size_t)name->shard * affected->slice_count + name->list[i]] > 0) {
            return true;
        }
    }
    return false;
}

static enum err collect_component(void *context, const struct component *name,
                                  const struct component_row *row)
{
    struct affected *const affected = context;
    struct fence *const fence = affected->fence;
    if (!is_hit(affected, name)) {
        return OK;
    }
    fence->awaited = mem_resize(fence->awaited, fence->awaited_count + 1, sizeof *fence->awaited);
    fence->awaited[fence->awaited_count++] =
        (struct awaited){.model = affected->model,
                         .name = *name,
                         .was_valid = row->state == COMPONENT_VALID,
                         .commitment = row->commitment};
    if (row->state == COMPONENT_VALID) {
        const uint32_t count = affected->invalid_count + 1;
        affected->invalid = mem_resize(affected->invalid, count, sizeof *affected->invalid);
        affected->invalid_rows =
            mem_resize(affected->invalid_rows, count, sizeof *affected->invalid_rows);
        affected->invalid[affected->invalid_count] = *name;
        affected->invalid_rows[affected->invalid_count++] = *row;
    }
    return OK;
}

// Only the shards that were hit are looked at.
static enum err collect_components(struct affected *affected)
{
    for (uint32_t shard = 0; shard < affected->shards; shard++) {
        const uint64_t *const lost = &affected->lost[(size_t)shard * affected->slice_count];
        bool hit = false;
        for (uint32_t slice = 0; slice < affected->slice_count; slice++) {
            hit = hit || lost[slice] > 0;
        }
        if (hit) {
            TRY(component_row_each_of(affected->txn, affected->model, shard, collect_component,
                                      affected));
        }
    }
    return OK;
}

static enum err invalidate(struct affected *affected)
{
    for (uint32_t i = 0; i < affected->invalid_count; i++) {
        struct component_row *const row = &affected->invalid_rows[i];
        const struct pending pending = {.is_record = false, .instance = row->instance};
        row->state = COMPONENT_INVALID;
        row->commitment = (struct digest){{0}}; // The awaited row has it, for the receipt.
        TRY(component_row_put(affected->txn, affected->model, &affected->invalid[i], row));
        TRY(pending_put(affected->txn, affected->fence->request.sequence, affected->pending_index++,
                        &pending));
    }
    affected->fence->request.components_invalidated += affected->invalid_count;
    return OK;
}

// Counts what each cell of the model loses, and raises the versions of those cells.
static enum err hit_cells(struct affected *affected, const struct placement *placement,
                          uint32_t generations)
{
    struct fence *const fence = affected->fence;
    for (uint32_t i = 0; i < fence->key_count; i++) {
        const struct record_key *const key = &fence->keys[i];
        if (key->generation < generations) { // Later ones are in no component yet.
            const struct cell cell = cell_of_record(placement, key);
            affected->lost[(size_t)cell.shard * affected->slice_count + cell.slice]++;
        }
    }
    const size_t cells = (size_t)affected->shards * affected->slice_count;
    for (size_t i = 0; i < cells; i++) {
        if (affected->lost[i] > 0) {
            const struct cell cell = {(uint32_t)(i / affected->slice_count),
                                      (uint32_t)(i % affected->slice_count)};
            fence->hits = mem_resize(fence->hits, fence->hit_count + 1, sizeof *fence->hits);
            fence->hits[fence->hit_count++] =
                (struct fence_hit){affected->model, cell, affected->lost[i]};
            TRY(cell_version_raise(affected->txn, affected->model, cell.shard, cell.slice));
        }
    }
    return OK;
}

struct model_list {
    uint32_t dataset;
    struct model_row *rows;
    uint32_t count;
};

static enum err collect_model(void *context, const struct model_row *row)
{
    struct model_list *const list = context;
    if (row->dataset == list->dataset && !row->removing) {
        list->rows = mem_resize(list->rows, list->count + 1, sizeof *list->rows);
        list->rows[list->count] = *row;
        list->rows[list->count].spec = (struct buf){0};
        buf_put(&list->rows[list->count++].spec, buf_span(&row->spec));
    }
    return OK;
}

// As the receipt will name it: the model itself may be removed before the request is completed.
static enum err name_model(const struct affected *affected, const struct model_row *row,
                           const struct spec *spec)
{
    struct request_model model = {
        .model = row->number, .spec = spec_digest(spec), .schema = affected->schema};
    memcpy(model.name, row->name, sizeof model.name);
    return request_model_put(affected->txn, affected->fence->request.sequence, &model);
}

static enum err hit_model(struct affected *affected, const struct model_row *row)
{
    struct spec spec;
    TRY_AS(spec_get(buf_span(&row->spec), &spec), "model %u", row->number);
    struct placement placement;
    model_placement(&spec, &placement);
    const uint32_t awaited_before = affected->fence->awaited_count;
    affected->model = row->number;
    affected->invalid_count = 0;
    affected->shards = placement.shards;
    affected->slice_count = placement_slice_count(&placement, row->generations);
    affected->lost =
        mem_alloc((size_t)affected->shards * affected->slice_count, sizeof *affected->lost);
    enum err err = hit_cells(affected, &placement, row->generations);
    if (err == OK) {
        err = collect_components(affected);
    }
    if (err == OK) {
        err = invalidate(affected);
    }
    mem_free(affected->lost);
    if (err == OK && affected->fence->awaited_count > awaited_before) {
        err = name_model(affected, row, &spec);
    }
    return err;
}

static enum err hit_models(struct affected *affected)
{
    struct model_list list = {.dataset = affected->fence->dataset};
    enum err err = model_each(affected->txn, collect_model, &list);
    for (uint32_t i = 0; i < list.count; i++) {
        if (err == OK) {
            err = hit_model(affected, &list.rows[i]);
        }
        model_row_deinit(&list.rows[i]);
    }
    mem_free(list.rows);
    mem_free(affected->invalid);
    mem_free(affected->invalid_rows);
    return err;
}

// ---------------------------------------------------------------- the transaction

// `subjects` are the fence's, sorted. The order of fence->sids itself decides which earlier request
// is named.
static enum err fence_keys(const struct fence *fence, const struct id128 *subjects,
                           struct store *store, struct txn *txn, uint32_t *index)
{
    const uint64_t sequence = fence->request.sequence;
    for (uint32_t i = 0; i < fence->key_count; i++) {
        const struct record_key *const key = &fence->keys[i];
        const struct pending pending = {.is_record = true, .record = *key};
        TRY(pending_put(txn, sequence, (*index)++, &pending));
        TRY(tombstone_put(txn, fence->dataset, TOMBSTONE_RECORD, &key->rid, sequence));
        if (fence->sid_count > 0 &&
            bsearch(&key->sid, subjects, fence->sid_count, sizeof *subjects, compare_ids) != NULL) {
            TRY(tombstone_put(txn, fence->dataset, TOMBSTONE_SUBJECT, &key->sid, sequence));
        }
        record_deny(store, key);
    }
    return OK;
}

static enum err fence_records(const struct fence *fence, struct store *store, struct txn *txn,
                              uint32_t *index)
{
    struct id128 *const subjects = mem_alloc(fence->sid_count, sizeof *subjects);
    if (fence->sid_count > 0) {
        memcpy(subjects, fence->sids, fence->sid_count * sizeof *subjects);
        qsort(subjects, fence->sid_count, sizeof *subjects, compare_ids);
    }
    const enum err fenced = fence_keys(fence, subjects, store, txn, index);
    mem_free(subjects);
    TRY(fenced);
    struct dataset_row dataset = {0};
    TRY(dataset_get(txn, fence->dataset, &dataset));
    dataset_lose(&dataset, fence->keys, fence->key_count);
    const enum err err = dataset_put(txn, &dataset);
    dataset_row_deinit(&dataset);
    return err;
}

// Nothing is left to delete: journaled as done, so that the same UUID gives the same answer.
static enum err nothing_left(struct fence *fence, struct txn *txn, uint64_t earlier)
{
    struct request_row *const request = &fence->request;
    struct request_row before;
    TRY(request_get(txn, earlier, &before));
    fence->earlier = before.uuid;
    request->earlier = earlier;
    request->erased_us = request->repaired_us = request->fenced_us;
    request->epoch = request->epoch_before;
    return statement_complete(txn, fence->signer, request);
}

static enum err fence_schema(const struct fence *fence, struct txn *txn, struct digest *digest_out)
{
    struct dataset_row dataset = {0};
    TRY(dataset_get(txn, fence->dataset, &dataset));
    // Canonical bytes: their digest is the schema's.
    const struct span bytes = buf_span(&dataset.schema);
    *digest_out = digest_of("unlearnd-schema", &bytes, 1);
    dataset_row_deinit(&dataset);
    return OK;
}

static enum err fence_all(struct fence *fence, struct store *store, struct txn *txn)
{
    struct affected affected = {.fence = fence, .txn = txn};
    TRY(fence_schema(fence, txn, &affected.schema));
    TRY(fence_records(fence, store, txn, &affected.pending_index));
    TRY(hit_models(&affected));
    for (uint32_t i = 0; i < fence->awaited_count; i++) {
        TRY(awaited_put(txn, fence->request.sequence, &fence->awaited[i]));
    }
    fence->request.records_deleted = fence->key_count;
    TRY(fence->request.components_invalidated > 0
            ? counter_next(txn, COUNTER_EPOCH, &fence->request.epoch)
            : counter_get(txn, COUNTER_EPOCH, &fence->request.epoch));
    return request_put(txn, &fence->request);
}

static enum err name_dataset(struct fence *fence, struct txn *txn)
{
    struct dataset_row dataset = {0};
    TRY(dataset_get(txn, fence->dataset, &dataset));
    memcpy(fence->request.name, dataset.name, sizeof fence->request.name);
    dataset_row_deinit(&dataset);
    return OK;
}

enum err fence_run(struct fence *fence, struct store *store, struct txn *txn)
{
    // The job may run a second time after a rollback: what was found then is void.
    fence->key_count = fence->kept_count = fence->hit_count = fence->awaited_count = 0;
    memset(fence->answered, 0, sizeof fence->answered);
    fence->repeated = false;
    buf_clear(&fence->accepted->body);
    fence->earlier = (struct id128){{0}};
    struct request_row *const request = &fence->request;
    const enum err known = request_find(txn, &fence->uuid, request);
    if (known == OK) {
        if (id128_compare(&request->body, &fence->body) != 0) {
            FAIL(ERR_CONFLICT, "this request UUID was used before with another body");
        }
        fence->repeated = true;
        if (fence->eager && !request->eager && request->state < REQUEST_REPAIRED) {
            request->eager = true;
            TRY(request_put(txn, request));
        }
        struct request_row before;
        if (request->earlier != 0) {
            TRY(request_get(txn, request->earlier, &before));
            fence->earlier = before.uuid;
        }
        return statement_accepted(txn, request, &fence->accepted->body);
    }
    if (known != ERR_NOT_FOUND) {
        return known;
    }
    *request = (struct request_row){
        .uuid = fence->uuid,
        .body = fence->body,
        .kind = REQUEST_DELETE,
        .state = REQUEST_FENCED,
        .dataset = fence->dataset,
        .eager = fence->eager,
        .due_us = fence->due_us,
        .accepted_us = fence->accepted_us,
        .fenced_us = clock_wall_us(),
    };
    uint64_t earlier = 0;
    TRY(find(fence, txn, &earlier));
    if (fence->key_count == 0) {
        TRY(expect_some(fence, earlier));
    }
    memcpy(request->answered, fence->answered, sizeof request->answered);
    request->records_held = fence->kept_count;
    TRY(name_dataset(fence, txn));
    TRY(counter_get(txn, COUNTER_EPOCH, &request->epoch_before));
    TRY(counter_next(txn, COUNTER_REQUEST, &request->sequence));
    TRY(fence->key_count == 0 ? nothing_left(fence, txn, earlier) : fence_all(fence, store, txn));
    return statement_accepted(txn, request, &fence->accepted->body);
}

void fence_undo(struct fence *fence, struct store *store)
{
    if (!fence->repeated) {
        for (uint32_t i = 0; i < fence->key_count; i++) {
            record_undeny(store, &fence->keys[i]);
        }
    }
}
