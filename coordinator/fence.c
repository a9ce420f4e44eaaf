// coordinator/fence.c: see fence.h.
#include "coordinator/fence.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "coordinator/approval.h"
#include "coordinator/cells.h"
#include "coordinator/statement.h"
#include "store/base.h"
#include "store/bulk.h"
#include "store/component.h"
#include "store/dataset.h"

void fence_deinit(struct fence *fence)
{
    mem_free(fence->rids);
    mem_free(fence->sids);
    mem_free(fence->keys);
    mem_free(fence->answers);
    mem_free(fence->hits);
    mem_free(fence->awaited);
    *fence = (struct fence){0};
}

// ---------------------------------------------------------------- what is asked for

static enum err find_all(struct fence *fence, struct finding *finding, struct txn *txn)
{
    const uint32_t asked = fence->rid_count + fence->sid_count;
    TRY(finding_begin(finding, txn));
    for (uint32_t i = 0; i < asked; i++) {
        enum id_answer answer = ANSWER_NOT_FOUND;
        bool more = false;
        TRY(i < fence->rid_count ? finding_record(finding, txn, &fence->rids[i], &answer)
                                 : finding_subject(finding, txn, &fence->sids[i - fence->rid_count],
                                                   fence->records_most, &more, &answer));
        fence->too_many = more || finding->keys.count > fence->records_most;
        if (fence->too_many) {
            FAIL(ERR_LIMIT, "more than %u records at once", fence->records_most);
        }
        fence->answers[i] = (uint8_t)answer;
        fence->answered[answer]++;
    }
    if (finding->keys.count > 0) {
        TRY(base_frees_dataset(txn, fence->dataset));
    }
    key_list_sort(&finding->keys);
    key_list_sort(&finding->kept);
    return OK;
}

// *earlier_out: the request that deleted the first of the asked-for things that are gone, or 0.
static enum err find(struct fence *fence, struct txn *txn, uint64_t *earlier_out)
{
    struct finding finding = {.dataset = fence->dataset, .approvals = fence->approve_above > 0};
    const uint32_t asked = fence->rid_count + fence->sid_count;
    fence->answers = mem_resize(fence->answers, asked + 1, sizeof *fence->answers);
    memset(fence->answered, 0, sizeof fence->answered);
    fence->too_many = false;
    const enum err err = find_all(fence, &finding, txn);
    fence->why = finding.why;
    mem_free(fence->keys);
    fence->keys = finding.keys.at;
    fence->key_count = finding.keys.count;
    fence->kept_count = finding.kept.count;
    finding.keys = (struct key_list){0};
    finding_deinit(&finding);
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

enum err fence_expect_some(const uint32_t answered[static ANSWER_COUNT_], uint32_t records,
                           uint32_t subjects, uint64_t earlier, const struct hold_why *why)
{
    if (answered[ANSWER_HELD] > 0) {
        const bool all = answered[ANSWER_HELD] == records + subjects;
        FAIL(ERR_CONFLICT, "%s on %s%s: %s",
             records + subjects == 1 ? "it is"
             : all                   ? "all of it is"
                                     : "some of it is",
             why->approval ? "hold" : "legal hold", all ? "" : ", and nothing else of it is there",
             why->text);
    }
    if (earlier == 0) {
        FAIL(ERR_NOT_FOUND, "none of the %u records and %u subjects is known in this dataset",
             records, subjects);
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
    bool *fresh;    // The same: whether components may stand on it that are not invalid. Owned.
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
            affected->fresh[(size_t)name->shard * affected->slice_count + name->list[i]]) {
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

// Only the shards in which something may have become invalid are looked at.
static enum err collect_components(struct affected *affected)
{
    for (uint32_t shard = 0; shard < affected->shards; shard++) {
        const bool *const fresh = &affected->fresh[(size_t)shard * affected->slice_count];
        bool any = false;
        for (uint32_t slice = 0; slice < affected->slice_count; slice++) {
            any = any || fresh[slice];
        }
        if (any) {
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
            affected->fresh[i] =
                fence->known == NULL || !fence->known(fence->known_context, affected->model, cell);
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
                           const struct digest *spec)
{
    struct request_model model = {.model = row->number, .spec = *spec, .schema = affected->schema};
    memcpy(model.name, row->name, sizeof model.name);
    return request_model_put(affected->txn, affected->fence->request.sequence, &model);
}

static enum err hit_model(struct affected *affected, const struct model_row *row)
{
    struct placement placement;
    struct digest spec;
    TRY_AS(model_placement_of(buf_span(&row->spec), &placement, &spec), "model %u", row->number);
    const uint32_t awaited_before = affected->fence->awaited_count;
    affected->model = row->number;
    affected->invalid_count = 0;
    affected->shards = placement.shards;
    affected->slice_count = placement_slice_count(&placement, row->generations);
    affected->lost =
        mem_alloc((size_t)affected->shards * affected->slice_count, sizeof *affected->lost);
    affected->fresh =
        mem_alloc((size_t)affected->shards * affected->slice_count, sizeof *affected->fresh);
    enum err err = hit_cells(affected, &placement, row->generations);
    if (err == OK) {
        err = collect_components(affected);
    }
    if (err == OK) {
        err = invalidate(affected);
    }
    mem_free(affected->lost);
    mem_free(affected->fresh);
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

// What an earlier part of the request has put says what the component was then.
static enum err put_awaited(struct fence *fence, struct txn *txn)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < fence->awaited_count; i++) {
        bool has = false;
        if (fence->known != NULL) {
            TRY(awaited_has(txn, fence->request.sequence, &fence->awaited[i], &has));
        }
        if (!has) {
            TRY(awaited_put(txn, fence->request.sequence, &fence->awaited[i]));
            fence->awaited[kept++] = fence->awaited[i];
        }
    }
    fence->awaited_count = kept;
    return OK;
}

enum err fence_part(struct fence *fence, struct store *store, struct txn *txn)
{
    struct request_row *const request = &fence->request;
    const uint64_t before = request->components_invalidated;
    struct affected affected = {.fence = fence, .txn = txn};
    // Whatever is pending was counted as one of both.
    affected.pending_index = (uint32_t)(request->records_deleted + before);
    TRY(fence_schema(fence, txn, &affected.schema));
    TRY(fence_records(fence, store, txn, &affected.pending_index));
    TRY(hit_models(&affected));
    TRY(put_awaited(fence, txn));
    request->records_deleted += fence->key_count;
    return request->components_invalidated > before
               ? counter_next(txn, COUNTER_EPOCH, &request->epoch)
               : counter_get(txn, COUNTER_EPOCH, &request->epoch);
}

static enum err return_records(const struct fence *fence, struct store *store, struct txn *txn)
{
    struct dataset_row dataset = {0};
    TRY(dataset_get(txn, fence->dataset, &dataset));
    dataset_gain(&dataset, fence->keys, fence->key_count);
    enum err err = dataset_put(txn, &dataset);
    dataset_row_deinit(&dataset);
    for (uint32_t i = 0; i < fence->key_count && err == OK; i++) {
        const struct record_key *const key = &fence->keys[i];
        err = tombstone_drop(txn, fence->dataset, TOMBSTONE_RECORD, &key->rid);
        if (err == OK) {
            err = tombstone_drop(txn, fence->dataset, TOMBSTONE_SUBJECT, &key->sid);
        }
    }
    TRY(err);
    for (uint32_t i = 0; i < fence->key_count; i++) {
        record_undeny(store, &fence->keys[i]);
    }
    return OK;
}

enum err fence_return(struct fence *fence, struct store *store, struct txn *txn)
{
    struct request_row *const request = &fence->request;
    const uint64_t before = request->components_invalidated;
    struct affected affected = {.fence = fence, .txn = txn};
    affected.pending_index = (uint32_t)(request->records_deleted + before);
    TRY(fence_schema(fence, txn, &affected.schema));
    TRY(hit_models(&affected));
    fence->awaited_count = 0;
    TRY(request->components_invalidated > before
            ? counter_next(txn, COUNTER_EPOCH, &request->epoch)
            : counter_get(txn, COUNTER_EPOCH, &request->epoch));
    return return_records(fence, store, txn);
}

void fence_return_undo(struct fence *fence, struct store *store)
{
    for (uint32_t i = 0; i < fence->key_count; i++) {
        record_deny(store, &fence->keys[i]);
    }
}

enum err fence_nothing_left(struct request_row *request, uint64_t earlier,
                            const struct signer *signer, struct txn *txn, struct id128 *earlier_out)
{
    request->earlier = earlier;
    TRY(bulk_earlier(txn, request, earlier_out));
    request->erased_us = request->repaired_us = request->fenced_us;
    request->epoch = request->epoch_before;
    return statement_complete(txn, signer, request);
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
        if (fence->eager && !request->eager && request_unrepaired(request)) {
            request->eager = true;
            TRY(request_put(txn, request));
        }
        TRY(bulk_earlier(txn, request, &fence->earlier));
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
        .asker = fence->asker,
    };
    uint64_t earlier = 0;
    TRY(find(fence, txn, &earlier));
    if (fence->key_count == 0) {
        TRY(fence_expect_some(fence->answered, fence->rid_count, fence->sid_count, earlier,
                              &fence->why));
    }
    memcpy(request->answered, fence->answered, sizeof request->answered);
    request->records_held = fence->kept_count;
    TRY(name_dataset(fence, txn));
    TRY(counter_get(txn, COUNTER_EPOCH, &request->epoch_before));
    TRY(counter_next(txn, COUNTER_REQUEST, &request->sequence));
    if (fence->key_count == 0) {
        TRY(fence_nothing_left(request, earlier, fence->signer, txn, &fence->earlier));
    } else {
        TRY(fence_part(fence, store, txn));
        if (approval_needed(fence->approve_above, request->records_deleted)) {
            request->state = REQUEST_AWAITING;
        }
        TRY(request_put(txn, request));
    }
    TRY(answers_put(txn, request, fence->answers));
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
