// scheduler/planner.c: see planner.h.
#include "scheduler/planner.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static const double SECONDS_PER_SAMPLE = 1e-6; // Where nothing was measured.
// A batch is released when twice the time that its repairs take, and a minute, is left.
static const double RELEASE_FACTOR = 2, RELEASE_SECONDS = 60;

void planner_init(struct planner *planner)
{
    *planner = (struct planner){0};
}

void planner_deinit(struct planner *planner)
{
    mem_free(planner->models);
    mem_free(planner->principals);
    *planner = (struct planner){0};
}

void planned_init(struct planned *model, struct ensemble *ensemble, uint32_t principal)
{
    *model = (struct planned){.ensemble = ensemble, .principal = principal};
    model->churn = mem_alloc(ensemble->placement.shards, sizeof *model->churn);
}

void planned_deinit(struct planned *model)
{
    mem_free(model->churn);
    *model = (struct planned){0};
}

static struct principal *principal_of(const struct planner *planner, uint32_t number)
{
    uint32_t low = 0, high = planner->principal_count;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        *(planner->principals[middle].number < number ? &low : &high) =
            planner->principals[middle].number < number ? middle + 1 : middle;
    }
    return low < planner->principal_count && planner->principals[low].number == number
               ? &planner->principals[low]
               : NULL;
}

void planner_add(struct planner *planner, struct planned *model)
{
    planner->models =
        mem_resize(planner->models, planner->model_count + 1, sizeof *planner->models);
    planner->models[planner->model_count++] = model;
    if (principal_of(planner, model->principal) == NULL) {
        uint32_t at = planner->principal_count++;
        planner->principals =
            mem_resize(planner->principals, planner->principal_count, sizeof *planner->principals);
        for (; at > 0 && planner->principals[at - 1].number > model->principal; at--) {
            planner->principals[at] = planner->principals[at - 1];
        }
        planner->principals[at] = (struct principal){.number = model->principal};
    }
}

static bool has_models(const struct planner *planner, uint32_t principal)
{
    for (uint32_t i = 0; i < planner->model_count; i++) {
        if (planner->models[i]->principal == principal) {
            return true;
        }
    }
    return false;
}

void planner_remove(struct planner *planner, const struct planned *model)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < planner->model_count; i++) {
        if (planner->models[i] != model) {
            planner->models[kept++] = planner->models[i];
        }
    }
    planner->model_count = kept;
    struct principal *const principal = principal_of(planner, model->principal);
    if (principal != NULL && !has_models(planner, model->principal)) {
        const size_t after =
            planner->principal_count - (size_t)(principal - planner->principals) - 1;
        memmove(principal, principal + 1, after * sizeof *principal);
        planner->principal_count--;
    }
}

// ---------------------------------------------------------------- events

int64_t planned_due(const struct planned *model, int64_t due_us, bool haste)
{
    ensemble_hold(model->ensemble, model->policy.kind == REPAIR_BATCH);
    return haste || model->policy.kind == REPAIR_EAGER ? PLANNER_AT_ONCE : due_us;
}

void planned_hit(struct planned *model, bool haste)
{
    model->gathered += model->gathered < UINT32_MAX;
    model->hasty = model->hasty || haste;
}

void planned_resume(struct planned *model)
{
    ensemble_release(model->ensemble);
}

void planned_trained(struct planned *model, uint32_t shard, uint32_t depth, uint64_t samples,
                     double seconds)
{
    cost_learn(&model->cost, depth, samples, seconds);
    model->churn[shard] = (struct churn){0};
}

void planned_cancelled(struct planned *model, uint32_t shard, uint64_t samples_done, int64_t now_us)
{
    struct churn *const churn = &model->churn[shard];
    if (churn->cancelled == 0) {
        churn->since_us = now_us;
    }
    churn->cancelled += churn->cancelled < UINT32_MAX;
    model->cancelled_stages++;
    model->cancelled_samples += samples_done;
}

// ---------------------------------------------------------------- decisions

bool planned_cost(const struct planned *model, const struct ensemble_cost *cost,
                  double *seconds_out, double *longest_out, double *error_out)
{
    double seconds = 0, error = 0;
    *seconds_out = *error_out = 0;
    if (!cost_estimate(&model->cost, 0, cost->samples_chain, longest_out, &error)) {
        return false;
    }
    for (uint32_t depth = 1; depth <= model->ensemble->trie.slice_count; depth++) {
        if (cost_estimate(&model->cost, depth, cost->samples_of[depth], &seconds, &error)) {
            *seconds_out += seconds;
            *error_out += seconds * error;
        }
    }
    *error_out = *seconds_out > 0 ? *error_out / *seconds_out : 0;
    return true;
}

// Seconds of ranks that all repairs of the model take, the error added.
static double repair_seconds(const struct planned *model)
{
    double seconds = 0, error = 0;
    const uint64_t samples = ensemble_sum(model->ensemble).samples_invalid;
    return cost_estimate(&model->cost, 0, samples, &seconds, &error)
               ? seconds * (1 + error)
               : (double)samples * SECONDS_PER_SAMPLE;
}

bool planned_holds(const struct planned *model, int64_t now_us, uint32_t ranks)
{
    int64_t due = ENSEMBLE_NO_DUE;
    if (model->policy.kind != REPAIR_BATCH || ensemble_sum(model->ensemble).held == 0 ||
        model->hasty || model->gathered >= model->policy.batch) {
        return false;
    }
    // Of none that could be trained now: then others wait first, which are not held back.
    (void)ensemble_next_held(model->ensemble, &due);
    const double lead = RELEASE_FACTOR * repair_seconds(model) / ranks + RELEASE_SECONDS;
    return due == ENSEMBLE_NO_DUE || (due > now_us && (double)(due - now_us) / 1e6 > lead);
}

// What is held back is released together; then gathering begins anew.
static void release(struct planned *model, int64_t now_us, uint32_t ranks)
{
    if (!planned_holds(model, now_us, ranks)) {
        ensemble_release(model->ensemble);
        model->gathered = 0;
        model->hasty = false;
    }
}

// The model's next stage of this kind. False: none, or it is held back.
static bool offer(struct planned *model, bool repair, struct grant *grant_out)
{
    *grant_out = (struct grant){.model = model, .repair = repair};
    return !model->paused && ensemble_next(model->ensemble, repair, &grant_out->shard,
                                           &grant_out->node, &grant_out->due);
}

static double turn_of(const struct planner *planner, const struct planned *model)
{
    const double served = principal_of(planner, model->principal)->served;
    return served > planner->now ? served : planner->now;
}

struct choice { // Among which models.
    bool (*may)(const void *context, const struct planned *model);
    const void *context;
};

static bool next_of(const struct planner *planner, const struct choice *choice, bool repair,
                    struct grant *grant_out)
{
    bool found = false;
    double best = 0;
    for (uint32_t i = 0; i < planner->model_count; i++) {
        struct grant grant;
        const bool may = choice->may == NULL || choice->may(choice->context, planner->models[i]);
        if (!may || !offer(planner->models[i], repair, &grant)) {
            continue;
        }
        const double turn = turn_of(planner, grant.model);
        if (!found || turn < best || (turn <= best && grant.due < grant_out->due)) {
            *grant_out = grant;
            best = turn;
            found = true;
        }
    }
    return found;
}

bool planner_next(struct planner *planner, int64_t now_us, uint32_t ranks, struct grant *grant_out)
{
    return planner_next_of(planner, now_us, ranks, NULL, NULL, grant_out);
}

bool planner_next_of(struct planner *planner, int64_t now_us, uint32_t ranks,
                     bool (*may)(const void *context, const struct planned *model),
                     const void *context, struct grant *grant_out)
{
    const struct choice choice = {may, context};
    CHECK(ranks > 0);
    for (uint32_t i = 0; i < planner->model_count; i++) {
        release(planner->models[i], now_us, ranks);
    }
    return next_of(planner, &choice, true, grant_out) ||
           next_of(planner, &choice, false, grant_out);
}

void planner_granted(struct planner *planner, const struct grant *grant)
{
    const struct ensemble *const ensemble = grant->model->ensemble;
    const uint64_t samples = ensemble_samples(ensemble, grant->shard, grant->node);
    struct principal *const principal = principal_of(planner, grant->model->principal);
    double seconds = 0, error = 0;
    if (!cost_estimate(&grant->model->cost, ensemble->trie.nodes[grant->node].depth, samples,
                       &seconds, &error)) {
        seconds = (double)samples * SECONDS_PER_SAMPLE;
    }
    planner->now = turn_of(planner, grant->model);
    principal->served = planner->now + seconds;
}

uint32_t planner_count_ready(const struct planner *planner, uint32_t most)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < planner->model_count && count < most; i++) {
        struct grant grant;
        for (int repair = 0; repair < 2; repair++) {
            if (offer(planner->models[i], repair == 1, &grant)) {
                count += ensemble_count_ready(planner->models[i]->ensemble, repair == 1);
            }
        }
    }
    return count < most ? (uint32_t)count : most;
}

bool planned_churns(const struct planned *model, int64_t now_us, uint32_t *shard_out,
                    double *per_second_out)
{
    uint32_t most = 0;
    for (uint32_t shard = 0; shard < model->ensemble->placement.shards; shard++) {
        const struct churn *const churn = &model->churn[shard];
        if (churn->cancelled >= CHURN_STAGES && churn->cancelled > most) {
            const int64_t span = now_us > churn->since_us ? now_us - churn->since_us : 1;
            most = churn->cancelled;
            *shard_out = shard;
            *per_second_out = most / ((double)span / 1e6);
        }
    }
    return most > 0;
}
