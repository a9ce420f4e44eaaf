// coordinator/models.c: training models and telling what they are; see core.h.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "model/learner.h"

// ---------------------------------------------------------------- train

// Closes the dataset's open generation, writes the model's row, counts its cells.
struct train_job {
    struct job job;
    struct caller caller;
    struct model_row row;       // number 0: a new model. spec is filled in by the loop.
    struct dataset_row dataset; // As it stands afterwards.
    struct placement placement;
    struct shape *shape; // Held: what the model computes by.
    uint64_t *cells;
    uint16_t *orders; // Of a new model.
    uint32_t drop;    // Number of a successor to be removed first; 0: none.
    bool sets_policy; // Else that of an existing model stays.
};

static enum err close_generation(struct train_job *train, struct txn *txn)
{
    TRY(dataset_get(txn, train->row.dataset, &train->dataset));
    if (train->dataset.removing) {
        FAIL(ERR_NOT_FOUND, "the dataset is being removed");
    }
    if (train->dataset.generation_next == 0 || train->dataset.record_count == 0) {
        FAIL(ERR_CONFLICT, "the dataset has no records: import some first");
    }
    if (train->dataset.generation_closed < train->dataset.generation_next) {
        train->dataset.generation_closed = train->dataset.generation_next;
        TRY(dataset_put(txn, &train->dataset));
    }
    train->row.generations = train->dataset.generation_closed;
    if (placement_slice_count(&train->placement, train->row.generations) > LIMIT_SLICES) {
        FAIL(ERR_LIMIT, "generation %u would give a shard more than %d slices",
             train->row.generations - 1, (int)LIMIT_SLICES);
    }
    TRY_AS(shape_check(train->shape, train->row.generations), "generation %u",
           train->row.generations - 1);
    return OK;
}

// Requests that stood before this one in the queue may have made or removed the model.
static enum err check_still(void *context, const struct model_row *row)
{
    const struct train_job *const train = context;
    const bool same = row->number == train->row.number;
    if (same && row->removing) {
        FAIL(ERR_NOT_FOUND, "the model is being removed");
    }
    // Beside its model a successor may stand, and one alone.
    const bool beside = train->row.replaces != 0 && row->number == train->row.replaces;
    if (!same && !row->removing && train->row.number == 0 && !beside &&
        strcmp(row->name, train->row.name) == 0) {
        FAIL(ERR_CONFLICT, "another request has just made a model of this name: ask again");
    }
    if (beside && row->removing) {
        FAIL(ERR_NOT_FOUND, "the model is being removed");
    }
    return OK;
}

// The row that stands may have taken its model's place since the request was prepared.
static enum err keep_place(struct train_job *train, struct txn *txn)
{
    struct model_row row = {0};
    TRY(model_get(txn, train->row.number, &row));
    train->row.replaces = row.replaces;
    train->row.policy = train->sets_policy ? train->row.policy : row.policy;
    model_row_deinit(&row);
    return OK;
}

// It may have been retired since the request was prepared.
static enum err check_base(const struct train_job *train, struct txn *txn)
{
    struct base_row base;
    if (train->row.base == 0) {
        return OK;
    }
    enum err err = base_row_get(txn, train->row.base, &base);
    if (err == OK && base.state != BASE_VALID) {
        err = err_raise(ERR_CONFLICT, "base \"%s\" was retired: nothing is trained on it any more",
                        base.name);
    }
    base_row_deinit(&base);
    return err;
}

static enum err train_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct train_job *const train = (struct train_job *)job;
    TRY(model_each(txn, check_still, train));
    TRY(check_base(train, txn));
    if (train->row.number == 0 && pretrain_is(train->row.name)) {
        TRY(base_name_free(txn, pretrain_base(train->row.name)));
    }
    if (train->row.number == 0) {
        TRY(orders_make(&train->shape->spec, &train->orders));
    }
    TRY(close_generation(train, txn));
    if (train->row.number == 0) {
        uint64_t number = 0;
        TRY(counter_next(txn, COUNTER_MODEL, &number));
        train->row.number = (uint32_t)number;
    } else {
        TRY(keep_place(train, txn));
    }
    TRY(model_put(txn, &train->row));
    const uint32_t slices = placement_slice_count(&train->placement, train->row.generations);
    train->cells = mem_alloc((size_t)train->placement.shards * slices, sizeof *train->cells);
    return catalog_count_cells(txn, train->row.dataset, &train->placement, train->row.generations,
                               train->cells);
}

static void begin_run(struct core *core, struct model *model)
{
    model->run++;
    model->run_components = 0;
    model->run_samples = 0;
    model->run_began_ms = core->now_ms;
    model->run_ended_ms = 0;
    model->problem[0] = '\0';
    model->stuck = false;
    for (uint32_t i = 0; i < ensemble_count(&model->ensemble); i++) {
        const uint32_t nodes = model->ensemble.trie.count;
        ensemble_set_blocked(&model->ensemble, i / nodes, i % nodes, false);
        model->extras[i].failures = 0;
    }
}

static void answer_train(struct core *core, const struct caller *caller, const struct model *model)
{
    const struct ensemble_totals totals = ensemble_sum(&model->ensemble);
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Trained trained = UNLEARN__TRAINED__INIT;
    trained.components_total = ensemble_count(&model->ensemble);
    trained.components_waiting = totals.waiting + totals.training;
    trained.cells = totals.cells;
    trained.cells_empty = totals.cells_empty;
    trained.run = model->run;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_TRAIN;
    reply.train = &trained;
    reply_send(core, caller, &reply, span_of(NULL, 0));
    log_info("train_accepted", "model=%u components=%u waiting=%u records_cells=%u empty_cells=%u",
             model->number, trained.components_total, trained.components_waiting, trained.cells,
             trained.cells_empty);
}

static void train_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct train_job *const train = (struct train_job *)job;
    enum err err = job->result;
    if (err == OK) {
        err = catalog_put_dataset(core, &train->dataset);
        CHECK(err == OK); // The same bytes as before.
        err = catalog_put_model(core, &train->row, train->cells, train->orders);
        CHECK(err == OK); // Spec and schema were checked before the job.
        struct model *const model = catalog_model_number(core, train->row.number);
        begin_run(core, model);
        if (train->row.replaces != 0) {
            log_info("reprofile", "model=%u successor=%u core=%s", train->row.replaces,
                     train->row.number, core->core_type);
        }
        answer_train(core, &train->caller, model);
    } else {
        reply_error(core, &train->caller, err, job->text);
    }
    dataset_row_deinit(&train->dataset);
    model_row_deinit(&train->row);
    shape_release(train->shape);
    mem_free(train->cells);
    mem_free(train->orders);
    mem_free(train);
}

// The base that the model stands on: a new one's spec names it, and the name stands for the same
// weights from then on. Borrowed; 0 and NULL: none.
static enum err find_base(struct core *core, const struct spec *spec, const struct model *model,
                          uint32_t *number_out, struct base **base_out)
{
    struct base_entry *entry = NULL;
    if (model != NULL) {
        entry = catalog_base_number(core, model->base);
    } else if (spec_has_base(spec)) {
        TRY(catalog_base(core, spec->base, &entry));
    }
    if (entry != NULL && entry->base == NULL) {
        FAIL(ERR_CONFLICT, "base \"%s\" was retired: nothing is trained on it any more",
             spec->base);
    }
    *number_out = entry == NULL ? 0 : entry->row.number;
    *base_out = entry == NULL ? NULL : entry->base;
    return OK;
}

// Checks the request against what is there; fills the row of the job.
static enum err prepare(struct core *core, const struct caller *caller, const Unlearn__Train *body,
                        struct train_job *train)
{
    struct dataset *dataset = NULL;
    struct model *model = NULL;
    if (!pretrain_is(body->model)) {
        TRY(text_check_label("the model's name", body->model));
    }
    const bool exists = catalog_model(core, caller, body->model, &model) == OK;
    if (!exists || body->dataset[0] != '\0') {
        TRY(catalog_dataset(core, caller, body->dataset, &dataset));
    } else {
        dataset = catalog_dataset_number(core, model->dataset);
    }
    if (exists && model->dataset != dataset->row.number) {
        FAIL(ERR_CONFLICT, "model \"%s\" is trained on another dataset", body->model);
    }
    if (exists && body->spec.len > 0 &&
        !span_equal(wire_span(body->spec), buf_span(&model->spec_text))) {
        FAIL(ERR_CONFLICT,
             "model \"%s\" exists with another spec: give the new one another name, or remove the "
             "old one (unlearnctl model show tells its spec)",
             body->model);
    }
    if (!exists && core->model_count >= LIMIT_MODELS) {
        FAIL(ERR_LIMIT, "there are %u models already, which is the limit", core->model_count);
    }
    if (!exists && body->spec.len == 0) {
        FAIL(ERR_NOT_FOUND, "there is no model \"%s\", and no spec was given to make it",
             body->model);
    }
    // Once a second generation of the model is being trained, `train` means that one; but where the
    // profile has changed again meanwhile, it is given up for a third, or for the first.
    const struct model *successor = exists ? catalog_successor(core, model) : NULL;
    const bool overtaken = successor != NULL && body->reprofile && !successor->taking_over &&
                           ensemble_sum(&successor->ensemble).outdated > 0;
    const bool renew = exists && body->reprofile && (successor == NULL || overtaken) &&
                       ensemble_sum(&model->ensemble).outdated > 0;
    train->drop = overtaken ? successor->number : 0;
    successor = overtaken ? NULL : successor;
    const struct span text = exists ? buf_span(&model->spec_text) : wire_span(body->spec);
    uint64_t param_count = 0;
    struct spec spec;
    TRY_AS(spec_get(text, &spec), "the spec");
    struct base *base = NULL;
    TRY(find_base(core, &spec, exists ? model : NULL, &train->row.base, &base));
    TRY(shape_new(&spec, buf_span(&dataset->row.schema), base, &train->shape));
    const struct recipe recipe = shape_recipe(train->shape);
    if (!exists && pretrain_is(body->model)) {
        TRY(pretrain_check(core, body->model, dataset, &recipe));
    }
    TRY(learner_param_count(&recipe, spec.slices, &param_count));
    model_placement(&spec, &train->placement);
    const uint64_t components = (uint64_t)spec.shards * spec.slices * spec.sequences;
    if (!exists || renew) {
        char what[96];
        snprintf(what, sizeof what, "%llu components of %llu parameters",
                 (unsigned long long)components, (unsigned long long)param_count);
        TRY(catalog_room(core, param_count * sizeof(float) * components, what));
    }
    train->row.number = !exists || renew    ? 0
                        : successor != NULL ? successor->number
                                            : model->number;
    train->row.replaces = renew ? model->number : 0;
    train->sets_policy = body->policy[0] != '\0';
    if (train->sets_policy) {
        TRY(repair_parse(body->policy, &train->row.policy));
    } else if (renew) {
        train->row.policy = model->plan.policy;
    }
    memcpy(train->row.name, body->model, strlen(body->model) + 1);
    train->row.dataset = dataset->row.number;
    train->row.created_us = clock_wall_us();
    buf_put(&train->row.spec, text);
    return OK;
}

VERB(on_train, Unlearn__Train)
{
    (void)raw;
    struct train_job *const train = mem_alloc(1, sizeof *train);
    train->job = (struct job){.kind = JOB_WRITE_ALONE, .run = train_run, .done = train_done};
    train->caller = *caller;
    const enum err err = prepare(core, caller, body, train);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        model_row_deinit(&train->row);
        shape_release(train->shape);
        mem_free(train);
        return;
    }
    if (train->drop != 0) {
        removal_drop_successor(core, catalog_model_number(core, train->drop));
    }
    storage_submit(core->storage, &train->job, caller_number(caller));
}

// ---------------------------------------------------------------- settings

struct set_job {
    struct job job;
    struct caller caller;
    uint32_t model, successor; // Numbers; successor 0: none.
    struct repair_policy policy;
};

static enum err set_policy(struct txn *txn, uint32_t number, const struct repair_policy *policy)
{
    struct model_row row = {0};
    enum err err = model_get(txn, number, &row);
    if (err == OK && row.removing) {
        err = err_raise(ERR_NOT_FOUND, "the model is being removed");
    }
    if (err == OK) {
        row.policy = *policy;
        err = model_put(txn, &row);
    }
    model_row_deinit(&row);
    return err;
}

static enum err set_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    const struct set_job *const set = (struct set_job *)job;
    TRY(set_policy(txn, set->model, &set->policy));
    return set->successor == 0 ? OK : set_policy(txn, set->successor, &set->policy);
}

static void apply_policy(struct core *core, uint32_t number, const struct repair_policy *policy)
{
    struct model *const model = catalog_model_number(core, number);
    if (model != NULL) {
        model_set_policy(model, policy);
        log_info("policy_set", "model=%u policy=%s", number, model->policy_text);
    }
}

static void set_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct set_job *const set = (struct set_job *)job;
    if (job->result == OK) {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__Done done = UNLEARN__DONE__INIT;
        apply_policy(core, set->model, &set->policy);
        apply_policy(core, set->successor, &set->policy);
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_DONE;
        reply.done = &done;
        reply_send(core, &set->caller, &reply, span_of(NULL, 0));
    } else {
        reply_error(core, &set->caller, job->result, job->text);
    }
    mem_free(set);
}

VERB(on_model_set, Unlearn__ModelSet)
{
    (void)raw;
    struct model *model = NULL;
    struct repair_policy policy;
    enum err err = catalog_model(core, caller, body->model, &model);
    err = err == OK ? repair_parse(body->policy, &policy) : err;
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        return;
    }
    const struct model *const successor = catalog_successor(core, model);
    struct set_job *const set = mem_alloc(1, sizeof *set);
    set->job = (struct job){.kind = JOB_WRITE_ALONE, .run = set_run, .done = set_done};
    set->caller = *caller;
    set->model = model->number;
    set->successor = successor == NULL ? 0 : successor->number;
    set->policy = policy;
    storage_submit(core->storage, &set->job, caller_number(caller));
}

// ---------------------------------------------------------------- list and show

// What the planner knows of it.
static void describe_plan(const struct core *core, const struct model *model, Unlearn__Model *out)
{
    const struct planned *const plan = &model->plan;
    const uint32_t ranks = leases_worker_count(core);
    out->policy = wire_text(model->policy_text);
    out->held = planned_holds(plan, core->wall_us, ranks > 0 ? ranks : 1);
    out->gathered = out->held ? plan->gathered : 0;
    if (planned_churns(plan, core->wall_us, &out->churn_shard, &out->churn_per_second)) {
        out->churn_stages = plan->churn[out->churn_shard].cancelled;
    }
    out->cancelled_stages = plan->cancelled_stages;
    out->cancelled_samples = plan->cancelled_samples;
    double error = 0;
    if (cost_estimate(&plan->cost, 0, out->samples_left, &out->seconds_left, &error)) {
        out->seconds_left_error = error;
    }
}

// Progress is told of the successor where there is one, answers of both.
static void describe(struct core *core, const struct model *asked, Unlearn__Model *out)
{
    struct model *const successor = catalog_successor(core, asked);
    const struct model *const model = successor == NULL ? asked : successor;
    const struct ensemble_totals totals = ensemble_sum(&model->ensemble);
    const struct dataset *const dataset = catalog_dataset_number(core, model->dataset);
    const uint64_t under_way = leases_samples_done(core, model->number);
    unlearn__model__init(out);
    out->name = wire_text(model->name);
    out->dataset = wire_text(dataset->row.name);
    out->run = model->run;
    out->training = totals.waiting + totals.training > 0 || successor != NULL;
    out->components_total = ensemble_count(&model->ensemble);
    out->components_valid = totals.valid;
    out->components_waiting = totals.waiting;
    out->components_empty = totals.empty;
    out->components_training = totals.training;
    out->run_components = model->run_components;
    out->run_samples = model->run_samples;
    out->samples_done = model->run_samples + under_way;
    out->samples_left = totals.samples_waiting > under_way ? totals.samples_waiting - under_way : 0;
    const int64_t until = model->run_ended_ms != 0 ? model->run_ended_ms : core->now_ms;
    out->run_seconds = model->run == 0 ? 0 : (double)(until - model->run_began_ms) / 1000.0;
    out->shards_used = catalog_shards_used(core, asked);
    out->reprofiling = successor != NULL;
    out->components_outdated = ensemble_sum(&asked->ensemble).outdated;
    out->core = core->core_type;
    out->shards_total = model->ensemble.placement.shards;
    out->problem = wire_text(model->problem);
    describe_plan(core, model, out);
    const struct base_entry *const entry = catalog_base_number(core, model->base);
    if (entry != NULL) {
        out->base_name = wire_text(entry->row.name);
        out->base_digest = wire_bytes(span_of(entry->row.digest.bytes, DIGEST_BYTES));
    }
    const struct recipe recipe = shape_recipe(model->shape);
    out->outputs = learner_output_width(&recipe);
    out->context = !learner_scores(&recipe) ? 0
                   : recipe.base != NULL    ? recipe.base->shape.context
                                            : recipe.spec->context;
}

VERB(on_model_show, Unlearn__ModelShow)
{
    (void)raw;
    struct model *model = NULL;
    if (catalog_model(core, caller, body->model, &model) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
        return;
    }
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Model out;
    describe(core, model, &out);
    out.spec = wire_bytes(buf_span(&model->spec_text));
    out.schema = wire_bytes(buf_span(&catalog_dataset_number(core, model->dataset)->row.schema));
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_MODEL;
    reply.model = &out;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

VERB(on_model_list, Unlearn__ModelList)
{
    (void)raw;
    enum { PAGE = 100 };
    Unlearn__Model rows[PAGE];
    Unlearn__Model *pointers[PAGE];
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__ModelPage page = UNLEARN__MODEL_PAGE__INIT;
    page.models = pointers;
    for (uint32_t i = 0; i < core->model_count; i++) {
        if (core->models[i]->replaces != 0 || !access_sees(caller, core->models[i]->dataset)) {
            continue; // The first are shown with the model whose place they will take.
        }
        if (page.total++ >= body->offset && page.n_models < PAGE) {
            describe(core, core->models[i], &rows[page.n_models]);
            pointers[page.n_models] = &rows[page.n_models];
            page.n_models++;
        }
    }
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_MODEL_PAGE;
    reply.model_page = &page;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

// ---------------------------------------------------------------- components

struct component_text {
    char name[COMPONENT_TEXT_BYTES];
    char parent[COMPONENT_TEXT_BYTES];
};

static void describe_component(const struct core *core, const struct model *asked, uint32_t shard,
                               uint32_t asked_node, struct component_text *text,
                               Unlearn__Component *out)
{
    static const struct digest *empty = NULL;
    static struct digest empty_digest;
    if (empty == NULL) {
        empty_digest = digest_of("unlearnd-empty", NULL, 0);
        empty = &empty_digest;
    }
    struct component name;
    trie_name(&asked->ensemble.trie, shard, asked_node, &name);
    const struct model *const model = catalog_answering(core, asked, shard);
    const int32_t at = trie_find(&model->ensemble.trie, &name);
    CHECK(at >= 0); // A successor has at least the generations of its model.
    const uint32_t node = (uint32_t)at;
    component_put(&name, text->name);
    name.count--;
    component_put(&name, text->parent);
    unlearn__component__init(out);
    out->name = text->name;
    out->parent = text->parent;
    const struct slot *const slot = ensemble_slot(&model->ensemble, shard, node);
    const struct slot_extra *const extra = model_extra(model, shard, node);
    out->records = ensemble_records(&model->ensemble, shard, node);
    if (out->records == 0) {
        out->state = UNLEARN__COMPONENT_STATE__COMPONENT_STATE_EMPTY;
        out->digest = wire_bytes(span_of(empty->bytes, DIGEST_BYTES));
    } else if (slot->state == SLOT_VALID) {
        out->state = UNLEARN__COMPONENT_STATE__COMPONENT_STATE_VALID;
        out->digest = wire_bytes(span_of(extra->weights->digest.bytes, DIGEST_BYTES));
        out->profile = wire_bytes(span_of(extra->profile.bytes, DIGEST_BYTES));
        out->core = wire_text(catalog_core_type(core, &extra->profile));
        out->outdated = slot->outdated;
        out->serving = ensemble_serving(&model->ensemble, shard) == at;
    } else {
        out->state = slot->leased || slot->state == SLOT_NEW
                         ? UNLEARN__COMPONENT_STATE__COMPONENT_STATE_TRAINING
                         : UNLEARN__COMPONENT_STATE__COMPONENT_STATE_INVALID;
    }
}

VERB(on_components, Unlearn__Components)
{
    (void)raw;
    enum { PAGE = 100 }; // Names have up to 1.2 KB: two of them a row, 100 rows fit an envelope.
    struct model *model = NULL;
    if (catalog_model(core, caller, body->model, &model) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
        return;
    }
    struct component_text *const texts = mem_alloc(PAGE, sizeof *texts);
    Unlearn__Component rows[PAGE];
    Unlearn__Component *pointers[PAGE];
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__ComponentPage page = UNLEARN__COMPONENT_PAGE__INIT;
    page.total = ensemble_count(&model->ensemble);
    page.components = pointers;
    for (uint32_t i = body->offset; i < page.total && page.n_components < PAGE; i++) {
        const size_t at = page.n_components++;
        describe_component(core, model, i / model->ensemble.trie.count,
                           i % model->ensemble.trie.count, &texts[at], &rows[at]);
        pointers[at] = &rows[at];
    }
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_COMPONENT_PAGE;
    reply.component_page = &page;
    reply_send(core, caller, &reply, span_of(NULL, 0));
    mem_free(texts);
}
