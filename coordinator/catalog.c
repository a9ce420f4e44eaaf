// coordinator/catalog.c: datasets and models in the loop's memory; see core.h.
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "model/learner.h"

// ---------------------------------------------------------------- weights

struct weights *weights_new(uint64_t instance, float *params, uint64_t param_count)
{
    struct weights *const weights = mem_alloc(1, sizeof *weights);
    weights->references = 1;
    weights->instance = instance;
    weights->params = params;
    weights->param_count = param_count;
    return weights;
}

struct weights *weights_hold(struct weights *weights)
{
    atomic_fetch_add(&weights->references, 1);
    return weights;
}

void weights_release(struct weights *weights)
{
    if (weights != NULL && atomic_fetch_sub(&weights->references, 1) == 1) {
        mem_free(weights->params);
        mem_free(weights);
    }
}

enum err shape_new(const struct spec *spec, struct span schema, struct base *base,
                   struct shape **shape_out)
{
    struct shape *const shape = mem_alloc(1, sizeof *shape);
    *shape_out = NULL;
    shape->references = 1;
    shape->spec = *spec;
    const enum err err = schema_get(schema, &shape->schema);
    if (err != OK) {
        mem_free(shape);
        return err;
    }
    shape->base = base == NULL ? NULL : base_hold(base);
    *shape_out = shape;
    return OK;
}

enum err shape_check(const struct shape *shape, uint32_t generations)
{
    const struct recipe recipe = shape_recipe(shape);
    struct placement placement;
    model_placement(&shape->spec, &placement);
    uint64_t count = 0;
    return learner_param_count(&recipe, placement_slice_count(&placement, generations), &count);
}

struct shape *shape_hold(struct shape *shape)
{
    atomic_fetch_add(&shape->references, 1);
    return shape;
}

void shape_release(struct shape *shape)
{
    if (shape != NULL && atomic_fetch_sub(&shape->references, 1) == 1) {
        schema_deinit(&shape->schema);
        base_release(shape->base);
        mem_free(shape);
    }
}

// ---------------------------------------------------------------- look-ups

struct dataset *catalog_dataset_number(struct core *core, uint32_t number)
{
    for (uint32_t i = 0; i < core->dataset_count; i++) {
        if (core->datasets[i]->row.number == number) {
            return core->datasets[i];
        }
    }
    return NULL;
}

struct model *catalog_model_number(struct core *core, uint32_t number)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        if (core->models[i]->number == number) {
            return core->models[i];
        }
    }
    return NULL;
}

struct model *catalog_successor(const struct core *core, const struct model *model)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        if (core->models[i]->replaces == model->number) {
            return core->models[i];
        }
    }
    return NULL;
}

// Every component of the shard that `model` holds, `other` holds too. A deletion takes the same from
// both, so what was so once stays so.
static bool holds_as_much(const struct model *other, const struct model *model, uint32_t shard)
{
    const bool same_trie = other->generations == model->generations; // Their spec is the same.
    for (uint32_t node = 0; node < model->ensemble.trie.count; node++) {
        struct component name;
        if (ensemble_slot(&model->ensemble, shard, node)->state != SLOT_VALID) {
            continue;
        }
        int32_t at = (int32_t)node;
        if (!same_trie) {
            trie_name(&model->ensemble.trie, shard, node, &name);
            at = trie_find(&other->ensemble.trie, &name);
        }
        if (at < 0 || ensemble_slot(&other->ensemble, shard, (uint32_t)at)->state != SLOT_VALID) {
            return false;
        }
    }
    return true;
}

const struct model *catalog_answering(const struct core *core, const struct model *model,
                                      uint32_t shard)
{
    const struct model *const successor = catalog_successor(core, model);
    return successor != NULL && holds_as_much(successor, model, shard) ? successor : model;
}

uint32_t catalog_shards_used(const struct core *core, const struct model *model)
{
    uint32_t used = 0;
    if (catalog_successor(core, model) == NULL) { // Nearly always, and asked for every model.
        return ensemble_shards_used(&model->ensemble);
    }
    for (uint32_t shard = 0; shard < model->ensemble.placement.shards; shard++) {
        used += ensemble_serving(&catalog_answering(core, model, shard)->ensemble, shard) >= 0;
    }
    return used;
}

const char *catalog_core_type(const struct core *core, const struct digest *profile)
{
    for (uint32_t i = 0; i < core->profile_count; i++) {
        if (memcmp(&core->profiles[i].profile, profile, sizeof *profile) == 0) {
            return core->profiles[i].core;
        }
    }
    return "";
}

enum err catalog_dataset(struct core *core, const struct caller *caller, const char *name,
                         struct dataset **out)
{
    for (uint32_t i = 0; i < core->dataset_count; i++) {
        struct dataset *const dataset = core->datasets[i];
        if (strcmp(dataset->row.name, name) == 0 && access_sees(caller, dataset->row.number)) {
            *out = dataset;
            return OK;
        }
    }
    FAIL(ERR_NOT_FOUND, "there is no dataset \"%s\"", name);
}

enum err catalog_model(struct core *core, const struct caller *caller, const char *name,
                       struct model **out)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        struct model *const model = core->models[i];
        if (strcmp(model->name, name) == 0 && model->replaces == 0 &&
            access_sees(caller, model->dataset)) {
            *out = model;
            return OK;
        }
    }
    FAIL(ERR_NOT_FOUND, "there is no model \"%s\"", name);
}

enum err catalog_room(const struct core *core, uint64_t bytes, const char *what)
{
    // Weights of valid components, and bases, stay in memory, so that a fallback can answer at once.
    const uint64_t most = (uint64_t)8 << 30;
    if (core->resident_bytes > most || bytes > most - core->resident_bytes) {
        FAIL(ERR_LIMIT,
             "%s would not fit the %llu GiB of weights that the coordinator keeps in memory, of "
             "which %llu MiB are in use",
             what, (unsigned long long)(most >> 30),
             (unsigned long long)(core->resident_bytes >> 20));
    }
    return OK;
}

// ---------------------------------------------------------------- datasets

struct id128 dataset_sid(const uint8_t placement_key[static KEY_BYTES], struct span subject)
{
    return digest_id("unlearnd-sid", placement_key, subject);
}

void dataset_ids(const uint8_t placement_key[static KEY_BYTES], struct span id, struct span subject,
                 struct id128 *rid_out, struct id128 *sid_out)
{
    *rid_out = digest_id("unlearnd-rid", placement_key, id);
    *sid_out = dataset_sid(placement_key, subject.bytes > 0 ? subject : id);
}

static void dataset_free(struct dataset *dataset)
{
    dataset_row_deinit(&dataset->row);
    schema_deinit(&dataset->schema);
    mem_free(dataset);
}

enum err catalog_put_dataset(struct core *core, struct dataset_row *row)
{
    struct schema schema = {0};
    TRY_AS(schema_get(buf_span(&row->schema), &schema), "dataset %u", row->number);
    struct dataset *dataset = catalog_dataset_number(core, row->number);
    if (dataset == NULL) {
        dataset = mem_alloc(1, sizeof *dataset);
        core->datasets =
            mem_resize(core->datasets, core->dataset_count + 1, sizeof *core->datasets);
        core->datasets[core->dataset_count++] = dataset;
    } else {
        dataset_row_deinit(&dataset->row);
        schema_deinit(&dataset->schema);
    }
    dataset->row = *row;
    *row = (struct dataset_row){0};
    dataset->schema = schema;
    dataset->schema_digest = schema_digest(&schema);
    return OK;
}

void catalog_drop_dataset(struct core *core, uint32_t number)
{
    for (uint32_t i = 0; i < core->dataset_count; i++) {
        if (core->datasets[i]->row.number == number) {
            dataset_free(core->datasets[i]);
            core->datasets[i] = core->datasets[--core->dataset_count];
            return;
        }
    }
}

// ---------------------------------------------------------------- models

struct slot_extra *model_extra(const struct model *model, uint32_t shard, uint32_t node)
{
    CHECK(shard < model->ensemble.placement.shards && node < model->ensemble.trie.count);
    return &model->extras[(size_t)shard * model->ensemble.trie.count + node];
}

void model_set_policy(struct model *model, const struct repair_policy *policy)
{
    model->plan.policy = *policy;
    repair_put(policy, model->policy_text);
}

static void forget_weights(struct core *core, struct slot_extra *extra)
{
    if (extra->weights != NULL) {
        core->resident_bytes -= extra->weights->param_count * sizeof(float);
        weights_release(extra->weights);
        extra->weights = NULL;
    }
}

static void model_free(struct core *core, struct model *model)
{
    for (uint32_t i = 0; model->extras != NULL && i < ensemble_count(&model->ensemble); i++) {
        forget_weights(core, &model->extras[i]);
        requests_wake(core, &model->extras[i].watched); // It is gone for them.
    }
    mem_free(model->extras);
    planned_deinit(&model->plan);
    ensemble_deinit(&model->ensemble);
    shape_release(model->shape);
    buf_deinit(&model->spec_text);
    mem_free(model);
}

// Extends to more generations, keeping what is known of each component.
static void extend(struct model *model, uint32_t generations)
{
    const uint32_t shards = model->ensemble.placement.shards;
    const uint32_t nodes = model->ensemble.trie.count;
    struct component *const names = mem_alloc(nodes, sizeof *names);
    for (uint32_t node = 0; node < nodes; node++) {
        trie_name(&model->ensemble.trie, 0, node, &names[node]);
    }
    ensemble_extend(&model->ensemble, generations);
    struct slot_extra *const extras = mem_alloc(ensemble_count(&model->ensemble), sizeof *extras);
    for (uint32_t shard = 0; shard < shards; shard++) {
        for (uint32_t node = 0; node < nodes; node++) {
            const int32_t at = trie_find(&model->ensemble.trie, &names[node]);
            CHECK(at >= 0);
            extras[(size_t)shard * model->ensemble.trie.count + (uint32_t)at] =
                model->extras[(size_t)shard * nodes + node];
        }
    }
    mem_free(names);
    mem_free(model->extras);
    model->extras = extras;
    model->generations = generations;
}

uint64_t model_param_count(const struct model *model, uint32_t list_count)
{
    const struct recipe recipe = shape_recipe(model->shape);
    uint64_t count = 0;
    CHECK(learner_param_count(&recipe, list_count, &count) == OK); // shape_check said so.
    return count;
}

// Borrowed; NULL for the number 0.
static enum err base_of(struct core *core, uint32_t number, struct base **base_out)
{
    const struct base_entry *const entry = catalog_base_number(core, number);
    *base_out = entry == NULL ? NULL : entry->base;
    if (number != 0 && *base_out == NULL) {
        FAIL(ERR_CORRUPT, "its base %u is not there", number);
    }
    return OK;
}

static enum err fill_model(struct core *core, struct model *model, const struct model_row *row,
                           const uint16_t *orders)
{
    TRY(spec_get(buf_span(&row->spec), &model->spec));
    struct dataset *const dataset = catalog_dataset_number(core, row->dataset);
    if (dataset == NULL) {
        FAIL(ERR_CORRUPT, "its dataset %u is not there", row->dataset);
    }
    struct base *base = NULL;
    TRY(base_of(core, row->base, &base));
    TRY(shape_new(&model->spec, buf_span(&dataset->row.schema), base, &model->shape));
    TRY(shape_check(model->shape, row->generations));
    model->number = row->number;
    memcpy(model->name, row->name, sizeof model->name);
    model->dataset = row->dataset;
    model->replaces = row->replaces;
    model->base = row->base;
    model->generations = row->generations;
    buf_put(&model->spec_text, buf_span(&row->spec));
    model->spec_digest = spec_digest(&model->spec);
    struct placement placement;
    model_placement(&model->spec, &placement);
    ensemble_init(&model->ensemble, &placement, row->generations, model->spec.sequences, orders,
                  spec_passes_each(&model->spec), model->spec.epochs);
    model->extras = mem_alloc(ensemble_count(&model->ensemble), sizeof *model->extras);
    planned_init(&model->plan, &model->ensemble, model->dataset);
    return OK;
}

// A model serves until its successor takes over; nothing more is put into it. Nor into any of a dataset
// in which a request of many is being fenced: its next step might undo it.
void catalog_pause(struct core *core)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        struct model *const model = core->models[i];
        const struct dataset *const dataset = catalog_dataset_number(core, model->dataset);
        model->plan.paused =
            catalog_successor(core, model) != NULL || (dataset != NULL && dataset->fencing > 0);
    }
}

void catalog_hold_back(struct core *core, uint32_t dataset, bool begins)
{
    struct dataset *const held = catalog_dataset_number(core, dataset);
    if (held != NULL) {
        held->fencing = begins ? held->fencing + 1 : held->fencing - 1;
        catalog_pause(core);
    }
}

enum err catalog_put_model(struct core *core, const struct model_row *row, const uint64_t *cells,
                           const uint16_t *orders)
{
    struct model *model = catalog_model_number(core, row->number);
    if (model == NULL) {
        model = mem_alloc(1, sizeof *model);
        const enum err err = fill_model(core, model, row, orders);
        if (err != OK) {
            model_free(core, model);
            return err_context(err, "model %u", row->number);
        }
        core->models = mem_resize(core->models, core->model_count + 1, sizeof *core->models);
        core->models[core->model_count++] = model;
        planner_add(&core->planner, &model->plan);
        catalog_pause(core);
    } else if (row->generations > model->generations) {
        extend(model, row->generations);
    }
    model_set_policy(model, &row->policy);
    ensemble_set_cells(&model->ensemble, cells);
    return OK;
}

void catalog_drop_model(struct core *core, uint32_t number)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        if (core->models[i]->number == number) {
            planner_remove(&core->planner, &core->models[i]->plan);
            model_free(core, core->models[i]);
            core->models[i] = core->models[--core->model_count];
            catalog_pause(core);
            return;
        }
    }
}

void model_set_valid(struct core *core, struct model *model, uint32_t shard, uint32_t node,
                     struct weights *weights, uint64_t records, const struct digest *profile)
{
    struct slot_extra *const extra = model_extra(model, shard, node);
    const bool outdated = memcmp(profile, &core->profile, sizeof *profile) != 0;
    forget_weights(core, extra);
    requests_wake(core, &extra->watched);
    core->resident_bytes += weights->param_count * sizeof(float);
    *extra = (struct slot_extra){.weights = weights, .records = records, .profile = *profile};
    ensemble_set_valid(&model->ensemble, shard, node, weights->instance, outdated);
    model->has_outdated = model->has_outdated || outdated;
}

void model_set_invalid(struct core *core, struct model *model, uint32_t shard, uint32_t node)
{
    ensemble_set_invalid(&model->ensemble, shard, node);
    forget_weights(core, model_extra(model, shard, node));
}

// What is not valid any more leaves memory.
static void follow_cell(struct core *core, struct model *model, uint32_t shard)
{
    for (uint32_t node = 0; node < model->ensemble.trie.count; node++) {
        const struct slot *const slot = ensemble_slot(&model->ensemble, shard, node);
        struct slot_extra *const extra = model_extra(model, shard, node);
        if (slot->state != SLOT_VALID) {
            forget_weights(core, extra);
        }
        if (slot->records == 0) { // Nothing to be trained: nobody waits for it any more.
            requests_wake(core, &extra->watched);
        }
    }
}

void model_lose_records(struct core *core, struct model *model, struct cell cell, uint64_t count,
                        int64_t due)
{
    ensemble_lose(&model->ensemble, cell, count, due);
    follow_cell(core, model, cell.shard);
}

void model_gain_records(struct core *core, struct model *model, struct cell cell, uint64_t count,
                        int64_t due)
{
    ensemble_gain(&model->ensemble, cell, count, due);
    follow_cell(core, model, cell.shard);
}

// ---------------------------------------------------------------- start

// The job that reads everything. It runs in the store thread while the loop waits, so it may fill
// the loop's memory itself.
struct load {
    struct job job;
    struct core *core;
    struct txn *txn;
    struct model *model;      // Whose component rows are being read.
    uint32_t generation_next; // Of the dataset whose cells are being counted.
    uint32_t awaited_capacity;
    struct request *request;
};

static enum err load_dataset(void *context, const struct dataset_row *row)
{
    struct load *const load = context;
    if (row->removing) {
        return OK;
    }
    struct dataset_row copy = *row; // The walk owns row.schema: copy it.
    copy.schema = (struct buf){0};
    buf_put(&copy.schema, buf_span(&row->schema));
    const enum err err = catalog_put_dataset(load->core, &copy);
    dataset_row_deinit(&copy);
    return err;
}

struct counting {
    const struct placement *placement;
    uint64_t *cells;
    uint32_t slice_count;
};

static bool count_record(void *context, const struct record *record)
{
    const struct counting *const counting = context;
    const struct cell cell = cell_of_record(counting->placement, &record->key);
    counting->cells[(size_t)cell.shard * counting->slice_count + cell.slice]++;
    return true;
}

enum err catalog_count_cells(struct txn *txn, uint32_t dataset, const struct placement *placement,
                             uint32_t generations, uint64_t *cells)
{
    struct counting counting;
    counting.placement = placement;
    counting.cells = cells;
    counting.slice_count = placement_slice_count(placement, generations);
    for (uint32_t generation = 0; generation < generations; generation++) {
        const struct record_range all = record_range_all(generation);
        TRY(record_walk(txn, dataset, &all, NULL, true, count_record, &counting));
    }
    return OK;
}

static enum err load_weights(struct load *load, const struct component *name,
                             const struct component_row *row, float *params)
{
    TRY(weights_get(load->txn, row->instance, params, row->param_count));
    struct model *const model = load->model;
    struct dataset *const dataset = catalog_dataset_number(load->core, model->dataset);
    char text[COMPONENT_TEXT_BYTES];
    component_put(name, text);
    struct weights *const weights = weights_new(row->instance, params, row->param_count);
    weights->digest = component_digest(text, &model->spec_digest, &dataset->schema_digest,
                                       model->shape->base, params, row->param_count);
    const int32_t node = trie_find(&model->ensemble.trie, name);
    CHECK(node >= 0);
    model_set_valid(load->core, model, name->shard, (uint32_t)node, weights, row->records,
                    &row->profile);
    return OK;
}

static enum err load_component(void *context, const struct component *name,
                               const struct component_row *row)
{
    struct load *const load = context;
    struct model *const model = load->model;
    const int32_t node = trie_find(&model->ensemble.trie, name);
    if (node < 0 || name->shard >= model->ensemble.placement.shards) {
        FAIL(ERR_CORRUPT, "a component that its spec does not have");
    }
    cost_learn(&model->plan.cost, name->count, row->samples, row->seconds);
    if (row->state == COMPONENT_INVALID) {
        ensemble_set_invalid(&model->ensemble, name->shard, (uint32_t)node);
        return OK;
    }
    const uint64_t param_count = model_param_count(model, name->count);
    if (row->param_count != param_count) {
        FAIL(ERR_CORRUPT, "a component of %llu parameters, expected %llu",
             (unsigned long long)row->param_count, (unsigned long long)param_count);
    }
    float *params = NULL;
    TRY(mem_try_aligned(row->param_count, sizeof *params, &params));
    const enum err err = load_weights(load, name, row, params);
    if (err != OK) {
        mem_free(params);
    }
    return err;
}

static enum err load_model(void *context, const struct model_row *row)
{
    struct load *const load = context;
    if (row->removing) {
        return OK;
    }
    struct spec spec;
    struct placement placement;
    TRY_AS(spec_get(buf_span(&row->spec), &spec), "model %u", row->number);
    model_placement(&spec, &placement);
    const uint32_t slices = placement_slice_count(&placement, row->generations);
    uint64_t *const cells = mem_alloc((size_t)placement.shards * slices, sizeof *cells);
    uint16_t *orders = NULL;
    enum err err =
        catalog_count_cells(load->txn, row->dataset, &placement, row->generations, cells);
    err = err != OK ? err : orders_make(&spec, &orders);
    err = err != OK ? err : catalog_put_model(load->core, row, cells, orders);
    mem_free(cells);
    mem_free(orders);
    TRY_AS(err, "model %u", row->number);
    load->model = catalog_model_number(load->core, row->number);
    TRY_AS(component_row_each(load->txn, row->number, load_component, load), "model %u",
           row->number);
    return OK;
}

static enum err load_awaited(void *context, uint64_t sequence, const struct awaited *awaited)
{
    (void)sequence;
    struct request *const request = ((struct load *)context)->request;
    request->awaited =
        mem_resize(request->awaited, request->awaited_count + 1, sizeof *request->awaited);
    request->awaited[request->awaited_count++] = *awaited;
    return OK;
}

static enum err load_request(void *context, const struct request_row *row)
{
    struct load *const load = context;
    load->request = catalog_put_request(load->core, row, NULL, 0);
    return awaited_walk(load->txn, row->sequence, load_awaited, load);
}

// The profile of this start is the store's from here on: components of an older one go on serving,
// and workers must compute under this one.
static enum err load_profile(struct core *core, struct txn *txn)
{
    struct digest kept;
    struct profile_name name = {.profile = core->profile};
    memcpy(name.core, core->core_type, sizeof name.core);
    const enum err err = profile_get(txn, &kept);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (err == OK && memcmp(kept.bytes, core->profile.bytes, DIGEST_BYTES) != 0) {
        log_info("profile_changed", "core=%s", core->core_type);
    }
    TRY(profile_set(txn, &core->profile));
    TRY(profile_name_put(txn, &name));
    return profile_names_get(txn, core->profiles, &core->profile_count);
}

static enum err load_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct load *const load = (struct load *)job;
    load->txn = txn;
    TRY(load_profile(load->core, txn));
    TRY(counter_get(txn, COUNTER_EPOCH, &load->core->epoch));
    TRY(bases_load(load->core, txn));
    TRY(dataset_each(txn, load_dataset, load));
    TRY(model_each(txn, load_model, load));
    return request_each_open(txn, load_request, load);
}

enum err catalog_load(struct core *core)
{
    struct load load = {.job = {.kind = JOB_WRITE_ALONE, .run = load_run}, .core = core};
    TRY(storage_call(core->storage, &load.job));
    outlook_load(core);
    log_info("catalog_loaded", "datasets=%u bases=%u models=%u open_requests=%u epoch=%llu",
             core->dataset_count, core->base_count, core->model_count, core->request_count,
             (unsigned long long)core->epoch);
    return OK;
}

void catalog_free(struct core *core)
{
    while (core->model_count > 0) {
        catalog_drop_model(core, core->models[0]->number);
    }
    while (core->dataset_count > 0) {
        catalog_drop_dataset(core, core->datasets[0]->row.number);
    }
    requests_free(core);
    bases_free(core);
    planner_deinit(&core->planner);
    mem_free(core->models);
    mem_free(core->datasets);
}
