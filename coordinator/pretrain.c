// coordinator/pretrain.c: bases that are pre-trained here; see core.h.
//
// Pre-training is training: an ordinary model of one shard and one sequence under a name that clients
// cannot give to others, "base:NAME", on a dataset that was declared public. Deletions reach it like any
// model while it trains. When it is trained, one commit makes a base of its longest component and
// journals the model's removal: before it the dataset may lose records, after it not. So each step
// may be asked for again, whatever died between them.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/core.h"
#include "coordinator/removal.h"

static const char prefix[] = "base:";
enum { PREFIX_BYTES = sizeof prefix - 1 };

bool pretrain_is(const char *model)
{
    return strncmp(model, prefix, PREFIX_BYTES) == 0;
}

const char *pretrain_base(const char *model)
{
    CHECK(pretrain_is(model));
    return model + PREFIX_BYTES;
}

// A name that a base may have and that none has yet.
static enum err check_name(struct core *core, const char *name)
{
    struct base_entry *entry = NULL;
    TRY(base_check_name(name));
    if (catalog_base(core, name, &entry) == OK) {
        FAIL(ERR_CONFLICT,
             entry->base == NULL ? "base \"%s\" was retired, and its name stands for it for ever: "
                                   "choose another"
                                 : "there is a base \"%s\" already: choose another name",
             name);
    }
    return OK;
}

enum err pretrain_check(struct core *core, const char *model, const struct dataset *dataset,
                        const struct recipe *recipe)
{
    struct base_shape shape;
    const float *none = NULL;
    const struct spec *const spec = recipe->spec;
    TRY(check_name(core, pretrain_base(model)));
    if (!dataset->row.public_data) {
        FAIL(ERR_CONFLICT,
             "dataset \"%s\" was not declared public at its first import (import --public): what a "
             "base has learnt cannot be unlearnt",
             dataset->row.name);
    }
    TRY(learner_base(recipe, NULL, &shape, &none));
    if (spec->shards != 1 || spec->slices != 1 || spec->sequences != 1) {
        FAIL(ERR_INVALID,
             "a base is trained in one piece: shards, slices and sequences are %u, %u and %u, "
             "expected 1",
             spec->shards, spec->slices, spec->sequences);
    }
    return OK;
}

// ---------------------------------------------------------------- the base of a trained model

struct adopt_job {
    struct job job;
    struct caller caller;
    uint32_t model;
    struct component name;   // The model's longest component,
    struct weights *weights; // and what it is. Held.
    struct shape *shape;     // Of the model. Held.
    struct base_row row;
    struct base *base;
    struct request_row removal;
    uint64_t bytes; // Counted in resident_bytes.
};

static enum err make_base(struct adopt_job *adopt)
{
    const struct recipe recipe = shape_recipe(adopt->shape);
    struct base_shape shape;
    const float *from = NULL;
    float *weights = NULL;
    TRY(learner_base(&recipe, adopt->weights->params, &shape, &from));
    adopt->row.weight_count = base_at(&shape).count;
    TRY(mem_try_aligned((size_t)adopt->row.weight_count, sizeof *weights, &weights));
    memcpy(weights, from, (size_t)adopt->row.weight_count * sizeof *weights);
    adopt->base = base_new(&shape, weights);
    adopt->row.digest = adopt->base->digest;
    base_shape_put(&shape, &adopt->row.shape);
    return OK;
}

static enum err check_model(const struct adopt_job *adopt, struct txn *txn)
{
    struct model_row model = {0};
    struct component_row row;
    TRY(model_get(txn, adopt->model, &model));
    const bool removing = model.removing;
    model_row_deinit(&model);
    if (removing) {
        FAIL(ERR_NOT_FOUND, "the model is being removed");
    }
    TRY(component_row_get(txn, adopt->model, &adopt->name, &row));
    if (row.state != COMPONENT_VALID || row.instance != adopt->weights->instance) {
        FAIL(ERR_CONFLICT, "a deletion has just reached the model: it is trained again");
    }
    return OK;
}

static enum err adopt_run(struct job *job, struct store *store, struct txn *txn)
{
    struct adopt_job *const adopt = (struct adopt_job *)job;
    if (store_is_tight(store)) {
        FAIL(ERR_LIMIT, "the store is nearly full: what is left is kept for deletions");
    }
    TRY(check_model(adopt, txn));
    TRY(make_base(adopt));
    TRY(base_stage(txn, &adopt->row));
    TRY(weights_put(txn, adopt->row.instance, adopt->base->weights, adopt->base->weight_count));
    adopt->row.state = BASE_VALID;
    adopt->row.created_us = clock_wall_us();
    TRY(base_commit(txn, adopt->row.number, adopt->row.created_us));
    return removal_fence(txn, adopt->model, &adopt->removal);
}

static void adopt_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct adopt_job *const adopt = (struct adopt_job *)job;
    if (job->result == OK) {
        log_info("base_pretrained", "base=%u model=%u weights=%llu", adopt->row.number,
                 adopt->model, (unsigned long long)adopt->row.weight_count);
        catalog_put_base(core, &adopt->row, adopt->base);
        adopt->base = NULL;
        removal_fenced(core, &adopt->removal);
        base_answer(core, &adopt->caller, core->bases[core->base_count - 1]);
    } else {
        core->resident_bytes -= adopt->bytes;
        reply_error(core, &adopt->caller, job->result, job->text);
    }
    base_release(adopt->base);
    base_row_deinit(&adopt->row);
    weights_release(adopt->weights);
    shape_release(adopt->shape);
    mem_free(adopt);
}

// The component that has seen all: the deepest of the one sequence.
static uint32_t longest(const struct model *model)
{
    uint32_t node = 0;
    for (uint32_t i = 1; i < model->ensemble.trie.count; i++) {
        node =
            model->ensemble.trie.nodes[i].depth > model->ensemble.trie.nodes[node].depth ? i : node;
    }
    return node;
}

static enum err prepare(struct core *core, const char *name, struct adopt_job *adopt)
{
    char model_name[PREFIX_BYTES + LIMIT_NAME_BYTES + 1];
    struct model *model = NULL;
    struct base_shape shape;
    const float *none = NULL;
    TRY(check_name(core, name));
    snprintf(model_name, sizeof model_name, "%s%s", prefix, name);
    TRY(catalog_model(core, &adopt->caller, model_name, &model));
    const struct dataset *const dataset = catalog_dataset_number(core, model->dataset);
    if (dataset != NULL && dataset->fencing > 0) {
        FAIL(ERR_CONFLICT,
             "a deletion of many is being fenced in the dataset of \"%s\": try again "
             "when it is acknowledged",
             model_name);
    }
    const uint32_t node = longest(model);
    struct weights *const weights = model_extra(model, 0, node)->weights;
    if (weights == NULL || ensemble_slot(&model->ensemble, 0, node)->state != SLOT_VALID) {
        FAIL(ERR_CONFLICT, "the model \"%s\" is not trained yet", model_name);
    }
    const struct recipe recipe = shape_recipe(model->shape);
    TRY(learner_base(&recipe, NULL, &shape, &none));
    adopt->bytes = base_at(&shape).count * sizeof(float);
    TRY(catalog_room(core, adopt->bytes, "the base"));
    trie_name(&model->ensemble.trie, 0, node, &adopt->name);
    adopt->model = model->number;
    adopt->weights = weights_hold(weights);
    adopt->shape = shape_hold(model->shape);
    adopt->row.dataset = model->dataset;
    adopt->row.spec = model->spec_digest;
    memcpy(adopt->row.name, name, strlen(name) + 1);
    core->resident_bytes += adopt->bytes;
    return OK;
}

VERB(on_base_from_model, Unlearn__BaseFromModel)
{
    (void)raw;
    struct base_entry *entry = NULL;
    if (catalog_base(core, body->name, &entry) == OK && entry->base != NULL &&
        entry->row.dataset != 0) {
        base_answer(core, caller, entry); // It was done before.
        return;
    }
    struct adopt_job *const adopt = mem_alloc(1, sizeof *adopt);
    adopt->job = (struct job){.kind = JOB_WRITE_ALONE, .run = adopt_run, .done = adopt_done};
    adopt->caller = *caller;
    const enum err err = prepare(core, body->name, adopt);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        mem_free(adopt);
        return;
    }
    storage_submit(core->storage, &adopt->job, caller_number(caller));
}
