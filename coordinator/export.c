// coordinator/export.c: what an auditor needs to train a component again; see core.h.
//
// The metadata come first and name the instance of the weights. Records follow chunk by chunk, each
// read by a job of its own, with no state kept in between: the cursor travels. A job gives records
// only while the component is valid in that very instance. A deletion in its slices invalidates it in
// the commit of its fence, so what was read before and after it can never be mixed.
#include <string.h>

#include "base/build.h"
#include "base/check.h"
#include "base/mem.h"
#include "coordinator/core.h"

static const char hit_text[] =
    "a deletion hit these slices: export again (or another numeric profile took over)";

struct export_job {
    struct job job;
    struct caller caller;
    uint32_t model; // Number: the asked one's, or its successor's.
    struct component name;
    struct component_row row;
    uint8_t commit_key[KEY_BYTES]; // Opens its commitment.
    // Pulling:
    uint64_t instance;
    bool with_ids;
    struct placement placement;
    uint32_t dataset;
    uint32_t position; // In the list.
    bool started;      // `after` is set.
    struct record_key after;
    struct buf bytes;
    uint32_t count;
    bool full;
};

// ---------------------------------------------------------------- what is asked for

// The model that answers for the component's shard: the one that is named, or its successor.
static enum err find_component(struct core *core, const struct caller *caller,
                               const char *model_name, const char *component,
                               struct component *name_out, const struct model **model_out)
{
    struct model *asked = NULL;
    TRY(catalog_model(core, caller, model_name, &asked));
    TRY(component_get(component, name_out));
    if (name_out->shard >= asked->ensemble.placement.shards ||
        trie_find(&asked->ensemble.trie, name_out) < 0) {
        FAIL(ERR_NOT_FOUND, "model \"%s\" has no component %s", model_name, component);
    }
    *model_out = catalog_answering(core, asked, name_out->shard);
    return OK;
}

static enum err find(struct core *core, const char *model_name, const char *component,
                     struct export_job *export, const struct model **model_out)
{
    TRY(find_component(core, &export->caller, model_name, component, &export->name, model_out));
    export->model = (*model_out)->number;
    if (storage_is_full(core->storage)) {
        FAIL(ERR_LIMIT, "too many requests are waiting: try again later");
    }
    return OK;
}

static enum err read_row(struct txn *txn, struct export_job *export)
{
    char text[COMPONENT_TEXT_BYTES];
    component_put(&export->name, text);
    const enum err err = component_row_get(txn, export->model, &export->name, &export->row);
    if (err == ERR_NOT_FOUND || (err == OK && export->row.state != COMPONENT_VALID)) {
        FAIL(ERR_CONFLICT, "component %s is not valid now: only valid ones can be exported", text);
    }
    return err;
}

// ---------------------------------------------------------------- metadata

static enum err export_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct export_job *const export = (struct export_job *)job;
    TRY(read_row(txn, export));
    return weights_commit_key(txn, export->row.instance, export->commit_key);
}

// Fills what the loop's memory knows. It is as old as the row: see leases.c, open_done.
static enum err answer_metadata(struct core *core, struct export_job *export)
{
    const struct model *const model = catalog_model_number(core, export->model);
    const int32_t node = model == NULL ? -1 : trie_find(&model->ensemble.trie, &export->name);
    if (node < 0) {
        FAIL(ERR_NOT_FOUND, "the model was removed");
    }
    const uint32_t shard = export->name.shard;
    const struct weights *const weights = model_extra(model, shard, (uint32_t)node)->weights;
    if (ensemble_is_empty(&model->ensemble, shard, (uint32_t)node) || weights == NULL ||
        weights->instance != export->row.instance) {
        FAIL(ERR_CONFLICT,
             "the component is empty or not valid now: only valid ones can be exported");
    }
    const struct dataset *const dataset = catalog_dataset_number(core, model->dataset);
    char name[COMPONENT_TEXT_BYTES];
    uint32_t passes[LIMIT_SLICES];
    uint64_t records[LIMIT_SLICES];
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Exported out = UNLEARN__EXPORTED__INIT;
    component_put(&export->name, name);
    for (uint32_t i = 0; i < export->name.count; i++) {
        const struct cell cell = {shard, export->name.list[i]};
        passes[i] =
            trie_passes(model->ensemble.passes_each, model->spec.epochs, model->spec.slices, i + 1);
        records[i] = ensemble_cell(&model->ensemble, cell);
    }
    out.model = wire_text(model->name);
    out.component = name;
    out.dataset = wire_text(dataset->row.name);
    out.spec = wire_bytes(buf_span(&model->spec_text));
    out.schema = wire_bytes(buf_span(&dataset->row.schema));
    out.placement_key = wire_bytes(span_of(dataset->row.placement_key, KEY_BYTES));
    out.instance = export->row.instance;
    out.passes = passes;
    out.n_passes = export->name.count;
    out.slice_records = records;
    out.n_slice_records = export->name.count;
    out.param_count = export->row.param_count;
    out.profile = wire_bytes(span_of(export->row.profile.bytes, DIGEST_BYTES));
    out.core = wire_text(catalog_core_type(core, &export->row.profile));
    out.build = wire_text(build_id);
    out.commit_key = wire_bytes(span_of(export->commit_key, KEY_BYTES));
    out.digest = wire_bytes(span_of(weights->digest.bytes, DIGEST_BYTES));
    out.trained_us = export->row.trained_us;
    const struct base_entry *const base = catalog_base_number(core, model->base);
    if (base != NULL) {
        out.base_name = wire_text(base->row.name);
        out.base_shape = wire_bytes(buf_span(&base->row.shape));
        out.base_digest = wire_bytes(span_of(base->row.digest.bytes, DIGEST_BYTES));
        out.base_weight_count = base->row.weight_count;
    }
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_EXPORTED;
    reply.exported = &out;
    reply_send(core, &export->caller, &reply, span_of(NULL, 0));
    return OK;
}

static void export_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct export_job *const export = (struct export_job *)job;
    if (job->result != OK) {
        reply_error(core, &export->caller, job->result, job->text);
    } else {
        const enum err err = answer_metadata(core, export);
        if (err != OK) {
            reply_error(core, &export->caller, err, err_text());
        }
    }
    mem_free(export);
}

VERB(on_export, Unlearn__Export)
{
    (void)raw;
    const struct model *model = NULL;
    struct export_job *const export = mem_alloc(1, sizeof *export);
    export->job = (struct job){.kind = JOB_READ, .run = export_run, .done = export_done};
    export->caller = *caller;
    const enum err err = find(core, body->model, body->component, export, &model);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        mem_free(export);
        return;
    }
    storage_submit(core->storage, &export->job, caller_number(caller));
}

// ---------------------------------------------------------------- records

static bool add_record(void *context, const struct record *record)
{
    struct export_job *const export = context;
    const size_t ids = export->with_ids ? 4 + record->id.bytes + record->subject.bytes : 0;
    const size_t bytes = (size_t)2 * ID_BYTES + 1 + 4 + record->row.bytes + ids;
    if (export->bytes.bytes + bytes > LIMIT_CHUNK_BYTES) {
        export->full = true;
        return false;
    }
    buf_put(&export->bytes, span_of(record->key.sid.bytes, ID_BYTES));
    buf_put(&export->bytes, span_of(record->key.rid.bytes, ID_BYTES));
    buf_u8(&export->bytes, record->key.risk);
    buf_u32(&export->bytes, (uint32_t)record->row.bytes);
    buf_put(&export->bytes, record->row);
    if (export->with_ids) {
        buf_u16(&export->bytes, (uint16_t)record->id.bytes);
        buf_put(&export->bytes, record->id);
        buf_u16(&export->bytes, (uint16_t)record->subject.bytes);
        buf_put(&export->bytes, record->subject);
    }
    export->count++;
    export->after = record->key;
    export->started = true;
    return true;
}

static enum err pull_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct export_job *const export = (struct export_job *)job;
    const enum err err = read_row(txn, export);
    if (err == ERR_CONFLICT || (err == OK && export->row.instance != export->instance)) {
        FAIL(ERR_UNAVAILABLE, "%s", hit_text);
    }
    TRY(err);
    while (export->position < export->name.count && !export->full) {
        const struct cell cell = {export->name.shard, export->name.list[export->position]};
        const struct cell seen = cell_of_record(&export->placement, &export->after);
        if (export->started && (seen.shard != cell.shard || seen.slice != cell.slice)) {
            FAIL(ERR_INVALID, "the cursor is none that an export of this component gave");
        }
        TRY(cell_walk(txn, export->dataset, &export->placement, cell,
                      export->started ? &export->after : NULL, false, add_record, export));
        if (!export->full) {
            export->position++;
            export->started = false;
        }
    }
    return OK;
}

static void pull_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct export_job *const export = (struct export_job *)job;
    if (job->result != OK) {
        reply_error(core, &export->caller, job->result, job->text);
    } else {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__ExportChunk chunk = UNLEARN__EXPORT_CHUNK__INIT;
        struct buf next = {0};
        uint8_t key[RECORD_KEY_BYTES];
        buf_u32(&next, export->position);
        if (export->started) {
            record_key_put(&export->after, key);
            buf_put(&next, span_of(key, sizeof key));
        }
        chunk.count = export->count;
        chunk.last = export->position == export->name.count;
        chunk.next = wire_bytes(buf_span(&next));
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_EXPORT_CHUNK;
        reply.export_chunk = &chunk;
        reply_send(core, &export->caller, &reply, buf_span(&export->bytes));
        buf_deinit(&next);
    }
    buf_deinit(&export->bytes);
    mem_free(export);
}

// u32 position in the list, then nothing or the key of the last record of that slice.
static enum err take_cursor(struct export_job *export, struct span bytes)
{
    struct cursor cursor = cursor_of(bytes);
    if (bytes.bytes == 0) {
        return OK;
    }
    export->position = cursor_u32(&cursor);
    if (cursor.left > 0) {
        export->started = true;
        TRY_AS(record_key_get(cursor_take(&cursor, cursor.left), &export->after), "the cursor");
    }
    if (cursor.bad || export->position >= export->name.count ||
        (export->started && export->after.dataset != export->dataset)) {
        FAIL(ERR_INVALID, "the cursor is none that an export of this component gave");
    }
    return OK;
}

VERB(on_export_pull, Unlearn__ExportPull)
{
    (void)raw;
    const struct model *model = NULL;
    struct export_job *const export = mem_alloc(1, sizeof *export);
    export->job = (struct job){.kind = JOB_READ, .run = pull_run, .done = pull_done};
    export->caller = *caller;
    export->instance = body->instance;
    export->with_ids = body->with_ids;
    enum err err = find(core, body->model, body->component, export, &model);
    if (err == OK) {
        export->dataset = model->dataset;
        model_placement(&model->spec, &export->placement);
        err = take_cursor(export, wire_span(body->cursor));
    }
    if (err != OK) {
        reply_error(core, caller, err == ERR_CORRUPT ? ERR_INVALID : err, err_text());
        mem_free(export);
        return;
    }
    storage_submit(core->storage, &export->job, caller_number(caller));
}

// ---------------------------------------------------------------- weights

// In the loop, where a fence has taken them out of memory before it is acknowledged: so no answer that is
// sent later holds them.
VERB(on_params_pull, Unlearn__ParamsPull)
{
    (void)raw;
    struct component name;
    const struct model *model = NULL;
    const enum err err = find_component(core, caller, body->model, body->component, &name, &model);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        return;
    }
    const int32_t node = trie_find(&model->ensemble.trie, &name);
    CHECK(node >= 0); // A successor has at least the generations of its model.
    const struct weights *const weights = model_extra(model, name.shard, (uint32_t)node)->weights;
    if (weights == NULL || weights->instance != body->instance) {
        reply_error(core, caller, ERR_UNAVAILABLE, hit_text);
        return;
    }
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__ParamsChunk chunk = UNLEARN__PARAMS_CHUNK__INIT;
    const uint32_t chunks = weights_chunk_count(weights->param_count);
    struct span bytes = span_of(NULL, 0);
    if (body->sequence < chunks) {
        bytes =
            span_of((const uint8_t *)weights->params + (size_t)body->sequence * LIMIT_CHUNK_BYTES,
                    weights_chunk_bytes(weights->param_count, body->sequence));
    }
    chunk.sequence = body->sequence;
    chunk.last = body->sequence + 1 >= chunks;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_PARAMS_CHUNK;
    reply.params_chunk = &chunk;
    reply_send(core, caller, &reply, bytes);
}
