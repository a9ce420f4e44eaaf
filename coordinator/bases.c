// coordinator/bases.c: the bases that models stand on: list, show, pull, retire; see core.h.
//
// The weights of every valid base stay in memory, shared by reference count with the models on it, their
// leases and predictions. Retiring one is a single commit: the base is retired, and every model on it is
// journaled for removal by a request of its own. So there is no instant at which a base is gone and a
// model on it is not. Its weights are dropped after that in batches; what a crash leaves of them, the
// next start drops.
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "coordinator/removal.h"

_Static_assert((int)BASE_TEXT_BYTES <= (int)LIMIT_BASE_SHAPE_BYTES, "the store takes any shape");

// ---------------------------------------------------------------- in memory

enum err catalog_base(struct core *core, const char *name, struct base_entry **out)
{
    for (uint32_t i = 0; i < core->base_count; i++) {
        if (strcmp(core->bases[i]->row.name, name) == 0) {
            *out = core->bases[i];
            return OK;
        }
    }
    FAIL(ERR_NOT_FOUND, "there is no base \"%s\"", name);
}

enum err base_check_name(const char *name)
{
    TRY(text_check_label("the base's name", name));
    if (strcmp(name, "none") == 0) {
        FAIL(ERR_INVALID, "\"none\" is what a spec says that names no base: choose another name");
    }
    return OK;
}

struct base_entry *catalog_base_number(struct core *core, uint32_t number)
{
    for (uint32_t i = 0; i < core->base_count; i++) {
        if (core->bases[i]->row.number == number) {
            return core->bases[i];
        }
    }
    return NULL;
}

void catalog_put_base(struct core *core, struct base_row *row, struct base *base)
{
    struct base_entry *const entry = mem_alloc(1, sizeof *entry);
    entry->row = *row;
    entry->base = base;
    *row = (struct base_row){0};
    core->bases = mem_resize(core->bases, core->base_count + 1, sizeof *core->bases);
    core->bases[core->base_count++] = entry;
}

static uint64_t bytes_of(const struct base_row *row)
{
    return row->weight_count * sizeof(float);
}

static void let_go(struct core *core, struct base_entry *entry)
{
    if (entry->base != NULL) {
        core->resident_bytes -= bytes_of(&entry->row);
        base_release(entry->base);
        entry->base = NULL;
    }
}

void bases_free(struct core *core)
{
    while (core->base_count > 0) {
        struct base_entry *const entry = core->bases[--core->base_count];
        let_go(core, entry);
        base_row_deinit(&entry->row);
        mem_free(entry);
    }
    mem_free(core->bases);
    core->bases = NULL;
}

// ---------------------------------------------------------------- start

struct loading {
    struct core *core;
    struct txn *txn;
};

// The weights as the row says they are; base_new takes them over.
static enum err load_weights(struct txn *txn, const struct base_row *row, struct base **base_out)
{
    struct base_shape shape;
    float *weights = NULL;
    TRY(base_shape_get(buf_span(&row->shape), &shape));
    if (base_at(&shape).count != row->weight_count) {
        FAIL(ERR_CORRUPT, "%llu weights, its shape has %llu", (unsigned long long)row->weight_count,
             (unsigned long long)base_at(&shape).count);
    }
    TRY(mem_try_aligned((size_t)row->weight_count, sizeof *weights, &weights));
    const enum err err = weights_get(txn, row->instance, weights, row->weight_count);
    if (err != OK) {
        mem_free(weights);
        return err;
    }
    *base_out = base_new(&shape, weights);
    if (memcmp(&(*base_out)->digest, &row->digest, sizeof row->digest) != 0) {
        base_release(*base_out);
        FAIL(ERR_CORRUPT, "its weights do not have its digest");
    }
    return OK;
}

static enum err load_base(void *context, const struct base_row *row)
{
    const struct loading *const loading = context;
    if (row->state != BASE_VALID && row->state != BASE_RETIRED) {
        return OK; // Given up by the store's start.
    }
    struct base *base = NULL;
    if (row->state == BASE_VALID) {
        const enum err err = load_weights(loading->txn, row, &base);
        if (err != OK) {
            const bool damaged = err == ERR_NOT_FOUND || err == ERR_INVALID;
            return err_context(damaged ? ERR_CORRUPT : err, "base %u", row->number);
        }
        loading->core->resident_bytes += bytes_of(row);
    }
    struct base_row copy = *row; // The walk owns row.shape: copy it.
    copy.shape = (struct buf){0};
    buf_put(&copy.shape, buf_span(&row->shape));
    catalog_put_base(loading->core, &copy, base);
    return OK;
}

enum err bases_load(struct core *core, struct txn *txn)
{
    struct loading loading = {core, txn};
    return base_row_each(txn, load_base, &loading);
}

// ---------------------------------------------------------------- tidying

enum { TIDY_CHUNKS = 64 }; // 64 MiB: some milliseconds of the store thread.

struct tidy_job {
    struct job job;
    bool more;
};

static enum err tidy_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    return base_tidy(txn, TIDY_CHUNKS, &((struct tidy_job *)job)->more);
}

static void tidy_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    const bool more = job->result == OK && ((struct tidy_job *)job)->more;
    const bool done = job->result == OK && !more;
    core->bases_tidying = false;
    if (job->result != OK) {
        log_error("base_tidy_failed", "reason=\"%s\"", job->text);
    }
    mem_free(job);
    if (more) {
        bases_tidy(core);
    } else if (done) {
        imports_tidy(core); // Erases the keys of what went.
    }
}

void bases_tidy(struct core *core)
{
    if (!core->bases_tidying) {
        struct tidy_job *const tidy = mem_alloc(1, sizeof *tidy);
        tidy->job = (struct job){.kind = JOB_WRITE_ALONE, .run = tidy_run, .done = tidy_done};
        core->bases_tidying = true;
        storage_submit(core->storage, &tidy->job, STORAGE_OURS);
    }
}

// ---------------------------------------------------------------- list, show, pull

enum { MODELS_SHOWN = 32 };

// Names of at most MODELS_SHOWN models that stand on it go to `models`, unless that is NULL.
static void describe(struct core *core, const struct caller *caller, const struct base_entry *entry,
                     char **models, Unlearn__BaseInfo *out)
{
    const struct base_row *const row = &entry->row;
    const struct dataset *const dataset = catalog_dataset_number(core, row->dataset);
    unlearn__base_info__init(out);
    out->name = wire_text(row->name);
    out->state = row->state == BASE_VALID ? UNLEARN__BASE_STATE__BASE_STATE_VALID
                                          : UNLEARN__BASE_STATE__BASE_STATE_RETIRED;
    out->shape = wire_bytes(buf_span(&row->shape));
    out->digest = wire_bytes(span_of(row->digest.bytes, DIGEST_BYTES));
    out->weight_count = row->weight_count;
    out->dataset = dataset == NULL || !access_sees(caller, row->dataset)
                       ? wire_text("")
                       : wire_text(dataset->row.name);
    out->pretrained = row->dataset != 0;
    if (out->pretrained) {
        out->spec_digest = wire_bytes(span_of(row->spec.bytes, DIGEST_BYTES));
    }
    out->created_us = row->created_us;
    out->retired_us = row->retired_us;
    out->models = models;
    for (uint32_t i = 0; i < core->model_count; i++) {
        const struct model *const model = core->models[i];
        if (model->base == row->number && model->replaces == 0 &&
            access_sees(caller, model->dataset)) {
            out->models_total++;
            if (models != NULL && out->n_models < MODELS_SHOWN) {
                models[out->n_models++] = wire_text(model->name);
            }
        }
    }
}

void base_answer(struct core *core, const struct caller *caller, const struct base_entry *entry)
{
    char *models[MODELS_SHOWN];
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BaseInfo info;
    describe(core, caller, entry, models, &info);
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_BASE_INFO;
    reply.base_info = &info;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

VERB(on_base_show, Unlearn__BaseShow)
{
    (void)raw;
    struct base_entry *entry = NULL;
    if (catalog_base(core, body->name, &entry) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
        return;
    }
    base_answer(core, caller, entry);
}

VERB(on_base_list, Unlearn__BaseList)
{
    (void)raw;
    enum { PAGE = 100 }; // A row has at most 1.7 KB.
    Unlearn__BaseInfo rows[PAGE];
    Unlearn__BaseInfo *pointers[PAGE];
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BasePage page = UNLEARN__BASE_PAGE__INIT;
    page.total = core->base_count;
    page.bases = pointers;
    for (uint32_t i = body->offset; i < core->base_count && page.n_bases < PAGE; i++) {
        describe(core, caller, core->bases[i], NULL, &rows[page.n_bases]);
        pointers[page.n_bases] = &rows[page.n_bases];
        page.n_bases++;
    }
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_BASE_PAGE;
    reply.base_page = &page;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

VERB(on_base_pull, Unlearn__BasePull)
{
    (void)raw;
    struct base_entry *entry = NULL;
    if (catalog_base(core, body->name, &entry) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
        return;
    }
    if (entry->base == NULL) {
        reply_error(core, caller, ERR_CONFLICT, "the base was retired: its weights are gone");
        return;
    }
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BaseWeights weights = UNLEARN__BASE_WEIGHTS__INIT;
    const uint32_t chunks = weights_chunk_count(entry->row.weight_count);
    struct span bytes = span_of(NULL, 0);
    if (body->sequence < chunks) {
        bytes = span_of((const uint8_t *)entry->base->weights +
                            (size_t)body->sequence * LIMIT_CHUNK_BYTES,
                        weights_chunk_bytes(entry->row.weight_count, body->sequence));
    }
    weights.sequence = body->sequence;
    weights.last = body->sequence + 1 >= chunks;
    weights.digest = wire_bytes(span_of(entry->row.digest.bytes, DIGEST_BYTES));
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_BASE_WEIGHTS;
    reply.base_weights = &weights;
    reply_send(core, caller, &reply, bytes);
}

// ---------------------------------------------------------------- retire

struct retire_job {
    struct job job;
    struct caller caller;
    uint32_t number;
    int64_t retired_us;
    uint32_t models[LIMIT_MODELS]; // That stand on it.
    uint32_t model_count;
    struct request_row *removals; // [model_count], of each model.
};

// What is being removed goes by its own request; a successor goes with the model that it replaces.
static enum err collect_model(void *context, const struct model_row *row)
{
    struct retire_job *const retire = context;
    if (row->base == retire->number && !row->removing && row->replaces == 0 &&
        retire->model_count < LIMIT_MODELS) {
        retire->models[retire->model_count++] = row->number;
    }
    return OK;
}

static enum err retire_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct retire_job *const retire = (struct retire_job *)job;
    retire->retired_us = clock_wall_us();
    TRY(base_retire(txn, retire->number, retire->retired_us));
    TRY(model_each(txn, collect_model, retire));
    retire->removals = mem_alloc(retire->model_count, sizeof *retire->removals);
    for (uint32_t i = 0; i < retire->model_count; i++) {
        TRY(removal_fence(txn, retire->models[i], &retire->removals[i]));
    }
    return OK;
}

static void answer_retired(struct core *core, const struct caller *caller,
                           const struct base_entry *entry, const struct request_row *removals,
                           uint32_t removal_count)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BaseRetired retired = UNLEARN__BASE_RETIRED__INIT;
    Unlearn__BaseInfo info;
    ProtobufCBinaryData *const requests = mem_alloc(removal_count, sizeof *requests);
    describe(core, caller, entry, NULL, &info);
    for (uint32_t i = 0; i < removal_count; i++) {
        requests[i] = wire_bytes(span_of(removals[i].uuid.bytes, ID_BYTES));
    }
    retired.info = &info;
    retired.requests = requests;
    retired.n_requests = removal_count;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_BASE_RETIRED;
    reply.base_retired = &retired;
    reply_send(core, caller, &reply, span_of(NULL, 0));
    mem_free(requests);
}

static void retire_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct retire_job *const retire = (struct retire_job *)job;
    struct base_entry *const entry = catalog_base_number(core, retire->number);
    CHECK(entry != NULL); // They are never forgotten.
    if (job->result == OK) {
        for (uint32_t i = 0; i < retire->model_count; i++) {
            removal_fenced(core, &retire->removals[i]);
        }
        entry->row.state = BASE_RETIRED;
        entry->row.retired_us = retire->retired_us;
        let_go(core, entry);
        log_info("base_retired", "base=%u models=%u", retire->number, retire->model_count);
        answer_retired(core, &retire->caller, entry, retire->removals, retire->model_count);
        bases_tidy(core);
    } else if (entry->base == NULL) { // Another job has just done it.
        answer_retired(core, &retire->caller, entry, NULL, 0);
    } else {
        reply_error(core, &retire->caller, job->result, job->text);
    }
    mem_free(retire->removals);
    mem_free(retire);
}

VERB(on_base_retire, Unlearn__BaseRetire)
{
    (void)raw;
    struct base_entry *entry = NULL;
    if (catalog_base(core, body->name, &entry) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
        return;
    }
    if (entry->base == NULL) {
        answer_retired(core, caller, entry, NULL, 0);
        return;
    }
    struct retire_job *const retire = mem_alloc(1, sizeof *retire);
    retire->job = (struct job){.kind = JOB_WRITE_ALONE, .run = retire_run, .done = retire_done};
    retire->caller = *caller;
    retire->number = entry->row.number;
    storage_submit(core->storage, &retire->job, caller_number(caller));
}
