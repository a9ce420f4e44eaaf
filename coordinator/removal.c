// coordinator/removal.c: see removal.h.
#include "coordinator/removal.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/bulk.h"
#include "coordinator/core.h"
#include "coordinator/erasure.h"
#include "coordinator/statement.h"
#include "store/base.h"
#include "store/hold.h"

enum { REMOVE_BATCH = 500, WEIGHTS_BATCH = 8 }; // Weights are up to 1 GiB each.

// ---------------------------------------------------------------- erased

struct weights_list {
    struct component names[WEIGHTS_BATCH];
    struct component_row rows[WEIGHTS_BATCH];
    uint32_t count;
};

static enum err collect_valid(void *context, const struct component *name,
                              const struct component_row *row)
{
    struct weights_list *const list = context;
    if (row->state == COMPONENT_VALID && list->count < WEIGHTS_BATCH) {
        list->names[list->count] = *name;
        list->rows[list->count++] = *row;
    }
    return OK;
}

static enum err remove_model(struct txn *txn, uint64_t sequence, uint32_t model, bool *more_out)
{
    struct weights_list list = {.count = 0};
    TRY(component_row_each(txn, model, collect_valid, &list));
    for (uint32_t i = 0; i < list.count; i++) {
        const struct awaited destroyed = {.model = model,
                                          .name = list.names[i],
                                          .was_valid = true,
                                          .commitment = list.rows[i].commitment};
        TRY(awaited_put(txn, sequence, &destroyed)); // For the receipt.
        TRY(weights_drop(txn, list.rows[i].instance));
        list.rows[i].state = COMPONENT_INVALID;
        list.rows[i].commitment = (struct digest){{0}};
        TRY(component_row_put(txn, model, &list.names[i], &list.rows[i]));
    }
    *more_out = list.count > 0;
    if (!*more_out) {
        TRY(component_rows_drop(txn, model, REMOVE_BATCH, more_out));
    }
    if (!*more_out) {
        const enum err err = model_drop(txn, model);
        return err == ERR_NOT_FOUND ? OK : err; // A redo after a crash.
    }
    return OK;
}

struct successor {
    uint32_t replaces, number;
};

static enum err find_successor(void *context, const struct model_row *row)
{
    struct successor *const successor = context;
    if (row->removing && row->replaces == successor->replaces) {
        successor->number = row->number;
    }
    return OK;
}

// A model that was being trained to take this one's place goes with it, and goes first.
static enum err remove_with_successor(struct txn *txn, uint64_t sequence, uint32_t model,
                                      bool *more_out)
{
    struct successor successor = {.replaces = model};
    TRY(model_each(txn, find_successor, &successor));
    if (successor.number == 0) {
        return remove_model(txn, sequence, model, more_out);
    }
    TRY(remove_model(txn, sequence, successor.number, more_out));
    *more_out = true;
    return OK;
}

struct key_list {
    struct record_key keys[REMOVE_BATCH];
    uint32_t count;
};

static bool collect_key(void *context, const struct record *record)
{
    struct key_list *const list = context;
    list->keys[list->count++] = record->key;
    return list->count < REMOVE_BATCH;
}

struct first_model {
    uint32_t dataset;
    uint32_t number; // 0: none left.
};

static enum err find_model(void *context, const struct model_row *row)
{
    struct first_model *const first = context;
    if (row->dataset == first->dataset && first->number == 0) {
        first->number = row->number;
    }
    return OK;
}

static enum err remove_records(struct txn *txn, uint32_t dataset, uint32_t generations,
                               bool *more_out)
{
    struct key_list *const list = mem_alloc(1, sizeof *list);
    enum err err = OK;
    for (uint32_t g = 0; g < generations && err == OK && list->count < REMOVE_BATCH; g++) {
        const struct record_range all = record_range_all(g);
        err = record_walk(txn, dataset, &all, NULL, true, collect_key, list);
    }
    for (uint32_t i = 0; i < list->count && err == OK; i++) {
        err = record_remove(txn, &list->keys[i]);
    }
    *more_out = list->count == REMOVE_BATCH;
    mem_free(list);
    return err;
}

static enum err remove_dataset(struct txn *txn, uint64_t sequence, uint32_t dataset, bool *more_out)
{
    struct first_model first = {.dataset = dataset};
    TRY(model_each(txn, find_model, &first));
    if (first.number != 0) {
        TRY(remove_model(txn, sequence, first.number, more_out));
        *more_out = true; // Perhaps another model; and the records.
        return OK;
    }
    struct dataset_row row = {0};
    const enum err found = dataset_get(txn, dataset, &row);
    if (found == ERR_NOT_FOUND) {
        return OK; // A redo after a crash.
    }
    TRY(found);
    const uint32_t generations = row.generation_next;
    dataset_row_deinit(&row);
    TRY(remove_records(txn, dataset, generations, more_out));
    if (!*more_out) {
        TRY(tombstone_drop_some(txn, dataset, REMOVE_BATCH, more_out));
    }
    return *more_out ? OK : dataset_drop(txn, dataset);
}

enum err removal_step(struct txn *txn, const struct request_row *request, bool *more_out)
{
    *more_out = false;
    switch (request->kind) {
    case REQUEST_REMOVE_MODEL:
        return remove_with_successor(txn, request->sequence, request->model, more_out);
    case REQUEST_REMOVE_DATASET:
        return remove_dataset(txn, request->sequence, request->dataset, more_out);
    case REQUEST_DELETE:
    default:
        return OK;
    }
}

// ---------------------------------------------------------------- the ack

struct remove_job {
    struct job job;
    struct caller caller;
    bool silent;        // Nobody asked: no answer.
    uint32_t successor; // Takes the removed model's place; 0: none.
    struct request_row row;
    struct accepted accepted;
    bool repeated;
};

static enum err count_valid(void *context, const struct component *name,
                            const struct component_row *row)
{
    (void)name;
    *(uint64_t *)context += row->state == COMPONENT_VALID;
    return OK;
}

struct marking {
    struct txn *txn;
    struct request_row *request;
    uint32_t successor; // Is not removed.
    uint32_t numbers[LIMIT_MODELS];
    uint32_t count;
};

static enum err collect_marked(void *context, const struct model_row *row)
{
    struct marking *const marking = context;
    const struct request_row *const request = marking->request;
    const uint32_t model = request->model;
    const bool gone =
        row->number == model || (row->replaces == model && row->number != marking->successor);
    const bool meant =
        request->kind == REQUEST_REMOVE_MODEL ? gone : row->dataset == request->dataset;
    if (meant && !row->removing && marking->count < LIMIT_MODELS) {
        marking->numbers[marking->count++] = row->number;
    }
    return OK;
}

// As the receipt will name it when it is gone.
static enum err name_model(const struct marking *marking, const struct model_row *row)
{
    struct request_model model = {.model = row->number};
    struct dataset_row dataset = {0};
    memcpy(model.name, row->name, sizeof model.name);
    // Canonical text and bytes: their digests are the spec's and the schema's.
    const struct span spec = buf_span(&row->spec);
    model.spec = digest_of("unlearnd-spec", &spec, 1);
    TRY(dataset_get(marking->txn, row->dataset, &dataset));
    const struct span schema = buf_span(&dataset.schema);
    model.schema = digest_of("unlearnd-schema", &schema, 1);
    dataset_row_deinit(&dataset);
    return request_model_put(marking->txn, marking->request->sequence, &model);
}

static enum err mark_model(struct marking *marking, uint32_t number)
{
    struct model_row row = {0};
    TRY(model_get(marking->txn, number, &row));
    row.removing = true;
    enum err err = model_put(marking->txn, &row);
    err = err == OK ? name_model(marking, &row) : err;
    model_row_deinit(&row);
    TRY(err);
    return component_row_each(marking->txn, number, count_valid,
                              &marking->request->components_invalidated);
}

static enum err mark_models(struct txn *txn, struct request_row *row, uint32_t successor)
{
    struct marking *const marking = mem_alloc(1, sizeof *marking);
    marking->txn = txn;
    marking->request = row;
    marking->successor = successor;
    enum err err = model_each(txn, collect_marked, marking);
    for (uint32_t i = 0; i < marking->count && err == OK; i++) {
        err = mark_model(marking, marking->numbers[i]);
    }
    const bool none = marking->count == 0;
    mem_free(marking);
    TRY(err);
    if (none && row->kind == REQUEST_REMOVE_MODEL) {
        FAIL(ERR_NOT_FOUND, "the model is being removed already");
    }
    return OK;
}

static enum err mark_dataset(struct txn *txn, struct request_row *request)
{
    struct dataset_row row = {0};
    TRY(dataset_get(txn, request->dataset, &row));
    const bool removing = row.removing;
    row.removing = true;
    request->records_deleted = row.record_count;
    const enum err err = removing ? err_raise(ERR_NOT_FOUND, "the dataset is being removed already")
                                  : dataset_put(txn, &row);
    dataset_row_deinit(&row);
    return err;
}

static enum err put_in_place(struct txn *txn, uint32_t successor)
{
    struct model_row row = {0};
    TRY(model_get(txn, successor, &row));
    row.replaces = 0;
    const enum err err =
        row.removing ? err_raise(ERR_CONFLICT, "the model is being removed") : model_put(txn, &row);
    model_row_deinit(&row);
    return err;
}

// Writes everything but the row's UUID, body, kind, names and numbers, which are given. `successor`
// takes the removed model's place; 0: none.
static enum err fence(struct txn *txn, struct request_row *row, uint32_t successor)
{
    row->components_invalidated = 0;
    TRY(counter_get(txn, COUNTER_EPOCH, &row->epoch_before));
    TRY(counter_next(txn, COUNTER_REQUEST, &row->sequence));
    if (successor != 0) {
        TRY(put_in_place(txn, successor));
    }
    if (row->kind == REQUEST_REMOVE_DATASET) {
        TRY(mark_dataset(txn, row));
    }
    TRY(mark_models(txn, row, successor));
    row->state = REQUEST_FENCED;
    row->fenced_us = clock_wall_us();
    TRY(counter_next(txn, COUNTER_EPOCH, &row->epoch));
    return request_put(txn, row);
}

enum err removal_fence(struct txn *txn, uint32_t model, struct request_row *row_out)
{
    struct model_row row = {0};
    TRY(model_get(txn, model, &row));
    *row_out = (struct request_row){.kind = REQUEST_REMOVE_MODEL,
                                    .model = model,
                                    .uuid = text_uuid_new(),
                                    .accepted_us = clock_wall_us()};
    memcpy(row_out->name, row.name, sizeof row_out->name);
    model_row_deinit(&row);
    return fence(txn, row_out, 0);
}

static enum err expect_no_hold(struct txn *txn, uint32_t dataset)
{
    bool any;
    TRY(hold_any(txn, dataset, &any));
    if (any) {
        FAIL(ERR_CONFLICT,
             "records of the dataset are on legal hold: release them first (unlearnctl "
             "hold list and hold release)");
    }
    return OK;
}

static enum err remove_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct remove_job *const remove = (struct remove_job *)job;
    struct request_row *const row = &remove->row;
    struct request_row known;
    const enum err err = request_find(txn, &row->uuid, &known);
    if (err == OK) {
        remove->repeated = true;
        if (id128_compare(&known.body, &row->body) != 0) {
            FAIL(ERR_CONFLICT, "this request UUID was used before with another body");
        }
        *row = known;
        return statement_accepted(txn, row, &remove->accepted.body);
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    if (row->dataset == 0 && row->model == 0) {
        FAIL(ERR_NOT_FOUND, "there is no %s of this name",
             row->kind == REQUEST_REMOVE_MODEL ? "model" : "dataset");
    }
    if (row->kind == REQUEST_REMOVE_DATASET) {
        TRY(base_frees_dataset(txn, row->dataset));
        TRY(expect_no_hold(txn, row->dataset));
    }
    TRY(fence(txn, row, remove->successor));
    return statement_accepted(txn, row, &remove->accepted.body);
}

// Out of the loop's memory: nothing of it is served, leased or listed from here on. What workers wipe, as of
// leases_forget.
static uint64_t forget(struct core *core, const struct request_row *row, uint32_t successor)
{
    uint64_t wiping = 0;
    struct model *const next = successor == 0 ? NULL : catalog_model_number(core, successor);
    if (next != NULL) {
        next->replaces = 0;
    }
    for (uint32_t i = 0; i < core->model_count;) {
        const struct model *const model = core->models[i];
        const bool meant = row->kind == REQUEST_REMOVE_MODEL
                               ? model->number == row->model || model->replaces == row->model
                               : model->dataset == row->dataset;
        if (meant) {
            leases_cancel_model(core, model->number);
            const uint64_t number = leases_forget_model(core, model->number);
            wiping = number > wiping ? number : wiping;
            catalog_drop_model(core, model->number);
        } else {
            i++;
        }
    }
    if (row->kind == REQUEST_REMOVE_DATASET) {
        const struct dataset *const dataset = catalog_dataset_number(core, row->dataset);
        if (dataset != NULL) {
            uploads_drop_dataset(core, dataset->row.name);
            catalog_drop_dataset(core, row->dataset);
        }
    }
    return wiping;
}

// The loop's memory follows the commit.
static struct request *apply(struct core *core, const struct request_row *row, uint32_t successor)
{
    const uint64_t wiping = forget(core, row, successor);
    core->epoch = row->epoch > core->epoch ? row->epoch : core->epoch;
    log_info("removal_fenced", "dataset=%u model=%u components=%llu", row->dataset, row->model,
             (unsigned long long)row->components_invalidated);
    struct request *const request = catalog_put_request(core, row, NULL, 0);
    request->forget = wiping;
    return request;
}

void removal_fenced(struct core *core, const struct request_row *row)
{
    erasure_begin(core, apply(core, row, 0));
}

static void remove_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct remove_job *const remove = (struct remove_job *)job;
    const struct id128 none = {{0}};
    if (remove->successor != 0) {
        struct model *const successor = catalog_model_number(core, remove->successor);
        if (successor != NULL) {
            successor->taking_over = false;
        }
    }
    if (job->result != OK && remove->silent) {
        log_error("removal_failed", "model=%u successor=%u reason=\"%s\"", remove->row.model,
                  remove->successor, job->text);
    } else if (job->result != OK) {
        reply_error(core, &remove->caller, job->result, job->text);
    } else {
        struct request *const open =
            remove->repeated ? NULL : apply(core, &remove->row, remove->successor);
        if (!remove->silent) {
            const struct ack ack = {buf_span(&remove->accepted.receipt), ""};
            reply_request(core, &remove->caller, &remove->row, &none, &ack);
        }
        if (open != NULL) {
            erasure_begin(core, open);
        }
    }
    accepted_deinit(&remove->accepted);
    mem_free(remove);
}

static void submit(struct core *core, const struct caller *caller, enum request_kind kind,
                   uint32_t dataset, uint32_t model, const char *name, ProtobufCBinaryData uuid)
{
    struct remove_job *const remove = mem_alloc(1, sizeof *remove);
    remove->job = (struct job){.kind = JOB_WRITE_ALONE, .run = remove_run, .done = remove_done};
    remove->job.accepted = &remove->accepted;
    remove->caller = *caller;
    remove->row = (struct request_row){
        .kind = kind, .dataset = dataset, .model = model, .accepted_us = clock_wall_us()};
    const size_t name_bytes = strnlen(name, LIMIT_NAME_BYTES);
    memcpy(remove->row.name, name, name_bytes);
    struct buf bytes = {0};
    buf_u8(&bytes, (uint8_t)kind);
    buf_short_text(&bytes, name);
    remove->row.body = digest_id("unlearnd-remove", core->body_key, buf_span(&bytes));
    buf_deinit(&bytes);
    if (wire_copy(uuid, remove->row.uuid.bytes, ID_BYTES, "the request's UUID") != OK) {
        reply_error(core, caller, ERR_INVALID, err_text());
        mem_free(remove);
        return;
    }
    uint32_t done, ids;
    if (bulk_find(core, caller, &remove->row.uuid, &done, &ids)) {
        reply_error(core, caller, ERR_CONFLICT, "this request UUID stands for a deletion");
        mem_free(remove);
        return;
    }
    storage_submit(core->storage, &remove->job, caller_number(caller));
}

static void submit_silent(struct core *core, uint32_t model, uint32_t successor)
{
    struct remove_job *const remove = mem_alloc(1, sizeof *remove);
    remove->job = (struct job){.kind = JOB_WRITE_ALONE, .run = remove_run, .done = remove_done};
    remove->silent = true;
    remove->successor = successor;
    remove->row = (struct request_row){.kind = REQUEST_REMOVE_MODEL,
                                       .model = model,
                                       .uuid = text_uuid_new(),
                                       .accepted_us = clock_wall_us()};
    storage_submit(core->storage, &remove->job, STORAGE_OURS);
}

void removal_drop_successor(struct core *core, const struct model *successor)
{
    log_info("successor_dropped", "model=%u successor=%u", successor->replaces, successor->number);
    submit_silent(core, successor->number, 0);
}

void removal_take_over(struct core *core, struct model *successor)
{
    successor->taking_over = true;
    log_info("take_over", "model=%u successor=%u", successor->replaces, successor->number);
    submit_silent(core, successor->replaces, successor->number);
}

VERB(on_dataset_remove, Unlearn__DatasetRemove)
{
    (void)raw;
    struct dataset *dataset = NULL;
    // A name that is not there may be a repetition of the request that removed it: the job knows.
    const bool there = catalog_dataset(core, caller, body->dataset, &dataset) == OK;
    if (there && dataset->fencing > 0) {
        reply_error(core, caller, ERR_CONFLICT,
                    "a deletion of many is being fenced in this dataset: try again when it is "
                    "acknowledged");
        return;
    }
    submit(core, caller, REQUEST_REMOVE_DATASET, there ? dataset->row.number : 0, 0, body->dataset,
           body->uuid);
}

VERB(on_model_remove, Unlearn__ModelRemove)
{
    (void)raw;
    struct model *model = NULL;
    const bool there = catalog_model(core, caller, body->model, &model) == OK;
    submit(core, caller, REQUEST_REMOVE_MODEL, 0, there ? model->number : 0, body->model,
           body->uuid);
}
