// scheduler/forecast.c: see forecast.h.
#include "scheduler/forecast.h"

#include "base/mem.h"

// The step of a due date: steps grow with the time that is left.
static uint32_t step_of(int64_t now_us, int64_t due)
{
    if (due <= now_us) {
        return 0;
    }
    // Unsigned, since due may be at either end of its type.
    uint64_t left = ((uint64_t)due - (uint64_t)now_us) / 1000000;
    uint32_t doublings = 0;
    if (left < 1) {
        return 1;
    }
    for (uint64_t rest = left; rest > 1; rest /= 2) {
        doublings++;
    }
    const uint64_t whole = (uint64_t)1 << doublings;
    const uint32_t step = 1 + 8 * doublings + (uint32_t)((left - whole) * 8 / whole);
    return step < FORECAST_STEPS ? step : FORECAST_STEPS;
}

struct adding {
    struct forecast *forecast;
    double seconds, error_seconds; // Over all.
};

static void add_node(struct adding *adding, const struct planned *model, uint32_t shard,
                     uint32_t node, double *chains)
{
    const struct ensemble *const ensemble = model->ensemble;
    const struct slot *const slot = ensemble_slot(ensemble, shard, node);
    const struct trie_node *const at = &ensemble->trie.nodes[node];
    struct forecast *const forecast = adding->forecast;
    chains[node] = 0;
    if (slot->state == SLOT_VALID || slot->records == 0) {
        return;
    }
    double seconds = 0, error = 0;
    const uint64_t samples = ensemble_samples(ensemble, shard, node);
    const bool known = cost_estimate(&model->cost, at->depth, samples, &seconds, &error);
    chains[node] = seconds + (at->parent < 0 ? 0 : chains[at->parent]);
    if (slot->state != SLOT_INVALID) {
        return; // A first training: after all repairs.
    }
    const uint32_t step = step_of(forecast->now_us, slot->due);
    forecast->known = forecast->known && known;
    forecast->work[step] += seconds;
    if (chains[node] > forecast->chain[step]) {
        forecast->chain[step] = chains[node];
    }
    adding->seconds += seconds;
    adding->error_seconds += seconds * error;
}

static void add_model(struct adding *adding, const struct planned *model)
{
    const struct ensemble *const ensemble = model->ensemble;
    if (ensemble_sum(ensemble).invalid == 0) {
        return;
    }
    double *const chains = mem_alloc(ensemble->trie.count, sizeof *chains);
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < ensemble->trie.count; node++) { // Parents come first.
            add_node(adding, model, shard, node, chains);
        }
    }
    mem_free(chains);
}

// Of those that have repairs to do.
static uint32_t count_principals(const struct planner *planner, uint32_t principal)
{
    uint32_t count = 1; // This one, in any case.
    for (uint32_t i = 0; i < planner->principal_count; i++) {
        const uint32_t other = planner->principals[i].number;
        bool busy = false;
        for (uint32_t j = 0; j < planner->model_count && other != principal; j++) {
            busy = busy || (planner->models[j]->principal == other &&
                            ensemble_sum(planner->models[j]->ensemble).invalid > 0);
        }
        count += busy;
    }
    return count;
}

void forecast_make(const struct planner *planner, uint32_t principal, int64_t now_us,
                   uint32_t ranks, struct forecast *forecast_out)
{
    struct forecast *const forecast = forecast_out;
    *forecast = (struct forecast){.now_us = now_us, .known = true};
    struct adding adding = {.forecast = forecast};
    for (uint32_t i = 0; i < planner->model_count; i++) {
        if (planner->models[i]->principal == principal) {
            add_model(&adding, planner->models[i]);
        }
    }
    for (uint32_t step = 1; step <= FORECAST_STEPS; step++) {
        forecast->work[step] += forecast->work[step - 1];
        if (forecast->chain[step - 1] > forecast->chain[step]) {
            forecast->chain[step] = forecast->chain[step - 1];
        }
    }
    forecast->error = adding.seconds > 0 ? adding.error_seconds / adding.seconds : 0;
    forecast->ranks = (double)ranks / count_principals(planner, principal);
}

int64_t forecast_end_us(const struct forecast *forecast, int64_t due)
{
    const uint32_t step = step_of(forecast->now_us, due);
    if (!forecast->known || !(forecast->ranks > 0)) {
        return INT64_MAX;
    }
    const double shared = forecast->work[step] / forecast->ranks;
    const double seconds = shared > forecast->chain[step] ? shared : forecast->chain[step];
    return forecast->now_us + (int64_t)(seconds * 1e6);
}
