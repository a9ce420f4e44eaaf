// coordinator/verify.c: components trained anew and compared with what is stored; see core.h.
//
// Each compared component's stage is trained again from the stored parent, from nothing where it has
// none. If every stage on a chain gives back its stored bytes, then so does training the chain from
// nothing; where one does not, everything below it is counted as different too, since training from
// nothing would carry the difference on. A job always compares a component's ancestors with it.
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "coordinator/recheck.h"
#include "scheduler/pick.h"

enum { JOBS_MAX = 64, ATTEMPTS_MAX = 5 };

enum trial_state { TRIAL_WAITING, TRIAL_RUNNING, TRIAL_IDENTICAL, TRIAL_DIFFERENT, TRIAL_SKIPPED };

struct trial {
    uint32_t model; // Number: the asked one's, or its successor's.
    struct component name;
    enum trial_state state;
    bool outdated; // Skipped, for it was trained under an older numeric profile.
    uint32_t attempts;
    uint64_t samples;
};

struct verification {
    uint64_t number;
    uint32_t model;
    uint32_t dataset; // Of the model.
    struct trial *trials;
    uint32_t count;
    uint32_t left; // Waiting or running.
    int64_t began_ms, ended_ms;
};

struct verifications {
    struct verification *jobs[JOBS_MAX]; // The oldest finished one makes room.
    uint32_t count;
    uint64_t last;
};

static struct verifications *verifications_of(struct core *core)
{
    if (core->verifications == NULL) {
        core->verifications = mem_alloc(1, sizeof *core->verifications);
    }
    return core->verifications;
}

static void verification_free(struct verification *verification)
{
    mem_free(verification->trials);
    mem_free(verification);
}

void verify_free(struct core *core)
{
    struct verifications *const all = verifications_of(core);
    while (all->count > 0) {
        verification_free(all->jobs[--all->count]);
    }
    mem_free(all);
    core->verifications = NULL;
}

static struct verification *find(struct core *core, uint64_t number)
{
    const struct verifications *const all = verifications_of(core);
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->jobs[i]->number == number) {
            return all->jobs[i];
        }
    }
    return NULL;
}

// ---------------------------------------------------------------- what to compare

static struct verification *begin(struct core *core, const struct model *model, uint32_t wanted)
{
    struct verifications *const all = verifications_of(core);
    struct verification *const verification = mem_alloc(1, sizeof *verification);
    const uint32_t nodes = model->ensemble.trie.count;
    const uint32_t count = ensemble_count(&model->ensemble);
    bool *const chosen = mem_alloc(count, sizeof *chosen);
    verification->trials =
        mem_alloc(pick_components(&model->ensemble, wanted, chosen), sizeof *verification->trials);
    for (uint32_t i = 0; i < count; i++) {
        if (chosen[i]) {
            struct trial *const trial = &verification->trials[verification->count++];
            trial->model = catalog_answering(core, model, i / nodes)->number;
            trie_name(&model->ensemble.trie, i / nodes, i % nodes, &trial->name);
            trial->samples = ensemble_samples(&model->ensemble, i / nodes, i % nodes);
        }
    }
    mem_free(chosen);
    verification->number = ++all->last;
    verification->model = model->number;
    verification->dataset = model->dataset;
    verification->left = verification->count;
    verification->began_ms = core->now_ms;
    verification->ended_ms = verification->left == 0 ? core->now_ms : 0;
    all->jobs[all->count++] = verification;
    return verification;
}

// Makes room for one more. False: all of them are under way.
static bool make_room(struct core *core)
{
    struct verifications *const all = verifications_of(core);
    if (all->count < JOBS_MAX) {
        return true;
    }
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->jobs[i]->left == 0) {
            verification_free(all->jobs[i]);
            memmove(&all->jobs[i], &all->jobs[i + 1], (--all->count - i) * sizeof all->jobs[0]);
            return true;
        }
    }
    return false;
}

// ---------------------------------------------------------------- comparing

static void settle(struct core *core, struct verification *verification, struct trial *trial,
                   enum trial_state state)
{
    trial->state = state;
    if (--verification->left == 0) {
        verification->ended_ms = core->now_ms;
        log_info("verify_ended", "job=%llu model=%u components=%u",
                 (unsigned long long)verification->number, verification->model,
                 verification->count);
    }
}

// True when the stage can be trained now: it is valid, and so is its parent.
static bool can_compare(const struct model *model, const struct component *name, uint32_t *node_out)
{
    const int32_t node = model == NULL ? -1 : trie_find(&model->ensemble.trie, name);
    if (node < 0 ||
        ensemble_slot(&model->ensemble, name->shard, (uint32_t)node)->state != SLOT_VALID) {
        return false;
    }
    const int32_t parent = model->ensemble.trie.nodes[node].parent;
    *node_out = (uint32_t)node;
    return parent < 0 || ensemble_is_empty(&model->ensemble, name->shard, (uint32_t)parent) ||
           ensemble_slot(&model->ensemble, name->shard, (uint32_t)parent)->state == SLOT_VALID;
}

// What an older profile made cannot be made again by the workers of this one.
static bool is_outdated(const struct model *model, const struct component *name)
{
    const int32_t node = model == NULL ? -1 : trie_find(&model->ensemble.trie, name);
    return node >= 0 && ensemble_slot(&model->ensemble, name->shard, (uint32_t)node)->outdated;
}

bool verify_next(struct core *core, const struct principal_row *worker,
                 struct verify_task *task_out)
{
    const struct verifications *const all = verifications_of(core);
    for (uint32_t i = 0; i < all->count; i++) {
        struct verification *const verification = all->jobs[i];
        const bool may = access_may_train(worker, verification->dataset);
        for (uint32_t j = 0; j < verification->count && verification->left > 0 && may; j++) {
            struct trial *const trial = &verification->trials[j];
            const struct model *const model = catalog_model_number(core, trial->model);
            uint32_t node = 0;
            if (trial->state != TRIAL_WAITING) {
                continue;
            }
            trial->outdated = is_outdated(model, &trial->name);
            if (trial->outdated || !can_compare(model, &trial->name, &node)) {
                settle(core, verification, trial, TRIAL_SKIPPED);
                continue;
            }
            trial->state = TRIAL_RUNNING;
            *task_out =
                (struct verify_task){verification->number, trial->model, trial->name.shard, node};
            return true;
        }
    }
    return false;
}

uint32_t verify_count_waiting(const struct core *core, uint32_t most)
{
    const struct verifications *const all = core->verifications;
    uint32_t count = 0;
    for (uint32_t i = 0; all != NULL && i < all->count; i++) {
        for (uint32_t j = 0; j < all->jobs[i]->count && count < most; j++) {
            count += all->jobs[i]->trials[j].state == TRIAL_WAITING;
        }
    }
    return count;
}

void verify_compared(struct core *core, const struct component *name,
                     const struct verify_task *which, enum comparison result)
{
    if (which->job == RECHECK_JOB) {
        recheck_compared(core, which->model, name, result);
        return;
    }
    struct verification *const verification = find(core, which->job);
    for (uint32_t i = 0; verification != NULL && i < verification->count; i++) {
        struct trial *const trial = &verification->trials[i];
        if (trial->state != TRIAL_RUNNING || !component_equal(&trial->name, name)) {
            continue;
        }
        if (result == VERIFY_AGAIN && ++trial->attempts < ATTEMPTS_MAX) {
            trial->state = TRIAL_WAITING;
        } else {
            settle(core, verification, trial,
                   result == VERIFY_IDENTICAL   ? TRIAL_IDENTICAL
                   : result == VERIFY_DIFFERENT ? TRIAL_DIFFERENT
                                                : TRIAL_SKIPPED);
        }
        return;
    }
}

// ---------------------------------------------------------------- answers

static bool is_ancestor(const struct component *a, const struct component *b)
{
    return a->shard == b->shard && a->count < b->count &&
           memcmp(a->list, b->list, a->count * sizeof a->list[0]) == 0;
}

// Identical means the whole chain: a trial below a different one is different. `any_different` spares
// the search where there is none: a model can have a million components.
static enum trial_state verdict(const struct verification *verification, const struct trial *trial,
                                bool any_different)
{
    const uint32_t count = any_different ? verification->count : 0;
    for (uint32_t i = 0; i < count && trial->state == TRIAL_IDENTICAL; i++) {
        const struct trial *const other = &verification->trials[i];
        if (other->state == TRIAL_DIFFERENT && is_ancestor(&other->name, &trial->name)) {
            return TRIAL_DIFFERENT;
        }
    }
    return trial->state;
}

static void answer(struct core *core, const struct caller *caller,
                   const struct verification *verification)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__VerifyState state = UNLEARN__VERIFY_STATE__INIT;
    state.job = verification->number;
    state.finished = verification->left == 0;
    state.components = verification->count;
    bool any_different = false;
    for (uint32_t i = 0; i < verification->count; i++) {
        any_different = any_different || verification->trials[i].state == TRIAL_DIFFERENT;
    }
    for (uint32_t i = 0; i < verification->count; i++) {
        const struct trial *const trial = &verification->trials[i];
        const enum trial_state verdict_now = verdict(verification, trial, any_different);
        state.identical += verdict_now == TRIAL_IDENTICAL;
        state.different += verdict_now == TRIAL_DIFFERENT;
        state.skipped += verdict_now == TRIAL_SKIPPED;
        state.skipped_outdated += verdict_now == TRIAL_SKIPPED && trial->outdated;
        state.samples_total += trial->samples;
        state.samples_done += trial->state > TRIAL_RUNNING ? trial->samples : 0;
    }
    const int64_t until = state.finished ? verification->ended_ms : core->now_ms;
    state.seconds = (double)(until - verification->began_ms) / 1000.0;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_VERIFY_STATE;
    reply.verify_state = &state;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

VERB(on_verify, Unlearn__Verify)
{
    (void)raw;
    struct model *model = NULL;
    if (catalog_model(core, caller, body->model, &model) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
    } else if (!make_room(core)) {
        reply_error(core, caller, ERR_LIMIT, "too many verifications are under way");
    } else {
        answer(core, caller, begin(core, model, body->components));
    }
}

VERB(on_verify_show, Unlearn__VerifyShow)
{
    (void)raw;
    const struct verification *const verification = find(core, body->job);
    if (verification == NULL || !access_sees(caller, verification->dataset)) {
        reply_error(core, caller, ERR_NOT_FOUND,
                    "there is no verification of this number since the coordinator's start");
    } else {
        answer(core, caller, verification);
    }
}
