// coordinator/recheck.c: see recheck.h.
#include "coordinator/recheck.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"

enum { ALONE_MS = 10000, DIFFERENT_MAX = 5, ATTEMPTS_MAX = 5 };

enum recheck_state {
    RECHECK_WAITING,
    RECHECK_RUNNING,
    RECHECK_DISTRUSTED, // It differed: what is stored next is compared, whatever the share.
};

struct recheck {
    enum recheck_state state;
    uint32_t model;
    struct component name;
    uint64_t instance;
    char trainer[LIMIT_NAME_BYTES + 1], checker[LIMIT_NAME_BYTES + 1]; // "host/pid"
    int64_t since_ms;
    uint32_t attempts;  // That were broken off.
    uint32_t different; // How often.
};

struct rechecks {
    struct recheck *all[LIMIT_RECHECKS];
    uint32_t count;
    struct recheck_counts counts;
};

static struct rechecks *rechecks_of(struct core *core)
{
    if (core->rechecks == NULL) {
        core->rechecks = mem_alloc(1, sizeof *core->rechecks);
    }
    return core->rechecks;
}

void recheck_free(struct core *core)
{
    for (uint32_t i = 0; core->rechecks != NULL && i < core->rechecks->count; i++) {
        mem_free(core->rechecks->all[i]);
    }
    mem_free(core->rechecks);
    core->rechecks = NULL;
}

static void drop(struct rechecks *rechecks, uint32_t at)
{
    mem_free(rechecks->all[at]);
    memmove(&rechecks->all[at], &rechecks->all[at + 1],
            (--rechecks->count - at) * sizeof *rechecks->all);
}

static struct recheck *find(const struct rechecks *rechecks, uint32_t model,
                            const struct component *name, uint32_t *at_out)
{
    for (uint32_t i = 0; i < rechecks->count; i++) {
        if (rechecks->all[i]->model == model && component_equal(&rechecks->all[i]->name, name)) {
            *at_out = i;
            return rechecks->all[i];
        }
    }
    return NULL;
}

// ---------------------------------------------------------------- which

// A function of the instance that nobody outside can work out.
static bool is_chosen(const struct core *core, uint64_t instance)
{
    uint8_t bytes[8];
    be_put64(bytes, instance);
    const struct id128 drawn =
        digest_id("unlearnd-recheck", core->body_key, span_of(bytes, sizeof bytes));
    return be_get64(drawn.bytes) % 100 < core->config.recheck_percent;
}

void recheck_stored(struct core *core, uint32_t model, const struct component *name,
                    uint64_t instance, const char *trainer)
{
    struct rechecks *const rechecks = rechecks_of(core);
    uint32_t at = 0;
    struct recheck *recheck = find(rechecks, model, name, &at);
    if (recheck == NULL && !is_chosen(core, instance)) {
        return;
    }
    if (recheck == NULL && rechecks->count == LIMIT_RECHECKS) {
        rechecks->counts.skipped++;
        return;
    }
    if (recheck == NULL) {
        recheck = mem_alloc(1, sizeof *recheck);
        rechecks->all[rechecks->count++] = recheck;
        recheck->model = model;
        recheck->name = *name;
    }
    recheck->state = RECHECK_WAITING; // What was under way is of weights that are gone.
    recheck->instance = instance;
    recheck->since_ms = core->now_ms;
    recheck->attempts = 0;
    snprintf(recheck->trainer, sizeof recheck->trainer, "%s", trainer);
}

bool recheck_waits(const struct core *core)
{
    for (uint32_t i = 0; core->rechecks != NULL && i < core->rechecks->count; i++) {
        if (core->rechecks->all[i]->state == RECHECK_WAITING) {
            return true;
        }
    }
    return false;
}

static bool same_host(const char *a, const char *b)
{
    const size_t bytes = strcspn(a, "/");
    return bytes == strcspn(b, "/") && memcmp(a, b, bytes) == 0;
}

// Whether what was stored is there, and what it stands on.
static bool is_there(const struct core *core, const struct recheck *recheck, uint32_t *node_out)
{
    const struct model *const model =
        catalog_model_number((struct core *)(uintptr_t)core, recheck->model);
    const int32_t node = model == NULL ? -1 : trie_find(&model->ensemble.trie, &recheck->name);
    if (node < 0) {
        return false;
    }
    const struct ensemble *const ensemble = &model->ensemble;
    const struct slot *const slot = ensemble_slot(ensemble, recheck->name.shard, (uint32_t)node);
    const int32_t parent = ensemble->trie.nodes[node].parent;
    *node_out = (uint32_t)node;
    return slot->state == SLOT_VALID && slot->instance == recheck->instance && !slot->outdated &&
           (parent < 0 || ensemble_is_empty(ensemble, recheck->name.shard, (uint32_t)parent) ||
            ensemble_slot(ensemble, recheck->name.shard, (uint32_t)parent)->state == SLOT_VALID);
}

bool recheck_next(struct core *core, const struct worker *worker, struct verify_task *task_out)
{
    struct rechecks *const rechecks = rechecks_of(core);
    for (uint32_t i = 0; i < rechecks->count;) {
        struct recheck *const recheck = rechecks->all[i];
        uint32_t node = 0;
        if (recheck->state == RECHECK_WAITING && !is_there(core, recheck, &node)) {
            rechecks->counts.skipped++; // A deletion hit it, or its model is gone.
            drop(rechecks, i);
            continue;
        }
        const struct model *const model = catalog_model_number(core, recheck->model);
        const bool alone = core->now_ms - recheck->since_ms >= ALONE_MS;
        if (recheck->state == RECHECK_WAITING &&
            access_may_train(worker->principal, model->dataset) &&
            (alone || !same_host(recheck->trainer, worker->name))) {
            recheck->state = RECHECK_RUNNING;
            snprintf(recheck->checker, sizeof recheck->checker, "%s", worker->name);
            *task_out =
                (struct verify_task){RECHECK_JOB, recheck->model, recheck->name.shard, node};
            return true;
        }
        i++;
    }
    return false;
}

// ---------------------------------------------------------------- what comes of it

// What nobody vouches for: the component and all that was trained on it.
struct distrust_job {
    struct job job;
    uint32_t model;
    struct component name;
    uint64_t instance;
    uint64_t epoch;
    struct component *names; // Owned, as are the rows: [count]
    struct component_row *rows;
    uint32_t count;
};

static enum err collect(void *context, const struct component *name,
                        const struct component_row *row)
{
    struct distrust_job *const distrust = context;
    const struct component *const root = &distrust->name;
    if (row->state != COMPONENT_VALID || name->count < root->count ||
        memcmp(name->list, root->list, root->count * sizeof root->list[0]) != 0) {
        return OK;
    }
    const uint32_t count = distrust->count + 1;
    distrust->names = mem_resize(distrust->names, count, sizeof *distrust->names);
    distrust->rows = mem_resize(distrust->rows, count, sizeof *distrust->rows);
    distrust->names[distrust->count] = *name;
    distrust->rows[distrust->count++] = *row;
    return OK;
}

static enum err distrust_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct distrust_job *const distrust = (struct distrust_job *)job;
    const struct component *const root = &distrust->name;
    struct component_row there;
    distrust->count = 0;
    TRY(component_row_get(txn, distrust->model, root, &there));
    if (there.state != COMPONENT_VALID || there.instance != distrust->instance) {
        return OK; // A deletion came first.
    }
    TRY(component_row_each_of(txn, distrust->model, root->shard, collect, distrust));
    for (uint32_t i = 0; i < distrust->count; i++) {
        struct component_row row = distrust->rows[i];
        row.state = COMPONENT_INVALID;
        row.commitment = (struct digest){{0}};
        TRY(component_row_put(txn, distrust->model, &distrust->names[i], &row));
        TRY(weights_drop(txn, row.instance));
    }
    // What is being trained on it comes to nothing.
    TRY(cell_version_raise(txn, distrust->model, root->shard, root->list[root->count - 1]));
    return counter_next(txn, COUNTER_EPOCH, &distrust->epoch);
}

static void distrust_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct distrust_job *const distrust = (struct distrust_job *)job;
    struct model *const model = catalog_model_number(core, distrust->model);
    if (job->result != OK) {
        log_error("distrust_failed", "model=%u reason=\"%s\"", distrust->model, job->text);
    }
    for (uint32_t i = 0; job->result == OK && model != NULL && i < distrust->count; i++) {
        const struct component *const name = &distrust->names[i];
        const int32_t node = trie_find(&model->ensemble.trie, name);
        if (node >= 0) {
            model_set_invalid(core, model, name->shard, (uint32_t)node);
        }
    }
    if (job->result == OK && distrust->count > 0) {
        core->epoch = distrust->epoch > core->epoch ? distrust->epoch : core->epoch;
        imports_tidy(core); // Erases the keys of the weights.
    }
    mem_free(distrust->names);
    mem_free(distrust->rows);
    mem_free(distrust);
}

static void found_different(struct core *core, struct recheck *recheck)
{
    struct recheck_counts *const counts = &core->rechecks->counts;
    struct model *const model = catalog_model_number(core, recheck->model);
    char name[COMPONENT_TEXT_BYTES];
    uint32_t node = 0;
    component_put(&recheck->name, name);
    counts->different++;
    recheck->state = RECHECK_DISTRUSTED;
    recheck->different++;
    snprintf(counts->last, sizeof counts->last, "%.60s of %.30s: %.30s and %.30s", name,
             model == NULL ? "?" : model->name, recheck->trainer, recheck->checker);
    log_error("recheck_different", "model=%u component=%s trained_by=\"%s\" again_by=\"%s\"",
              recheck->model, name, recheck->trainer, recheck->checker);
    if (model == NULL || !is_there(core, recheck, &node)) {
        return;
    }
    snprintf(
        model->problem, sizeof model->problem,
        "%.60s: two workers gave different weights, %.80s and then %.80s: one of them is wrong",
        name, recheck->trainer, recheck->checker);
    if (recheck->different >= DIFFERENT_MAX) {
        ensemble_set_blocked(&model->ensemble, recheck->name.shard, node, true);
    }
    struct distrust_job *const distrust = mem_alloc(1, sizeof *distrust);
    distrust->job =
        (struct job){.kind = JOB_WRITE_ALONE, .run = distrust_run, .done = distrust_done};
    distrust->model = recheck->model;
    distrust->name = recheck->name;
    distrust->instance = recheck->instance;
    storage_submit(core->storage, &distrust->job, STORAGE_OURS);
}

void recheck_compared(struct core *core, uint32_t model, const struct component *name,
                      enum comparison result)
{
    struct rechecks *const rechecks = rechecks_of(core);
    uint32_t at = 0, node = 0;
    struct recheck *const recheck = find(rechecks, model, name, &at);
    if (recheck == NULL || recheck->state != RECHECK_RUNNING) {
        return;
    }
    const bool current = is_there(core, recheck, &node); // Else it is about other weights.
    if (result == VERIFY_AGAIN && current && ++recheck->attempts < ATTEMPTS_MAX) {
        recheck->state = RECHECK_WAITING;
        return;
    }
    if ((result == VERIFY_IDENTICAL || result == VERIFY_DIFFERENT) && current) {
        rechecks->counts.same_host += same_host(recheck->trainer, recheck->checker);
        rechecks->counts.same += result == VERIFY_IDENTICAL;
    } else {
        rechecks->counts.skipped++;
    }
    if (result == VERIFY_DIFFERENT && current) {
        found_different(core, recheck);
    } else {
        drop(rechecks, at);
    }
}

struct recheck_counts recheck_counts(const struct core *core)
{
    struct recheck_counts counts = {.same = 0};
    if (core->rechecks != NULL) {
        counts = core->rechecks->counts;
        for (uint32_t i = 0; i < core->rechecks->count; i++) {
            counts.waiting += core->rechecks->all[i]->state != RECHECK_DISTRUSTED;
        }
    }
    return counts;
}
