// coordinator/outlook.c: due dates of open deletions, and what is expected to become of them; see core.h.
//
// What is expected is a forecast over all repairs of a dataset (scheduler/forecast.h), which looks at
// each of its components. It is made anew when it is asked for, but not so often that it takes more
// than some hundredths of the loop's time.
#include <stdio.h>

#include "base/log.h"
#include "base/text.h"
#include "coordinator/core.h"

enum {
    COMPONENTS_A_MS = 1000, // A forecast holds a millisecond more for so many: they take 20 us.
    LOOK_MS = 500,          // Between two looks at all open deletions.
    LOOK_COUNT = 64,        // In a turn of the loop: some ten microseconds.
};

// ---------------------------------------------------------------- what the planner has to know

static int32_t node_of(const struct model *model, const struct awaited *awaited)
{
    return awaited->name.shard < model->ensemble.placement.shards
               ? trie_find(&model->ensemble.trie, &awaited->name)
               : -1;
}

// Each component that the request waits for is due with it.
static void await_all(struct core *core, const struct request *request, bool hit)
{
    const struct request_row *const row = &request->row;
    uint32_t last = 0;
    for (uint32_t i = 0; i < request->awaited_count; i++) {
        const struct awaited *const awaited = &request->awaited[i];
        struct model *const model = catalog_model_number(core, awaited->model);
        const int32_t node = model == NULL ? -1 : node_of(model, awaited);
        if (node < 0) {
            continue;
        }
        ensemble_await(&model->ensemble, awaited->name.shard, (uint32_t)node,
                       planned_due(&model->plan, row->due_us, row->eager));
        if (hit && model->number != last) { // They stand model by model.
            planned_hit(&model->plan, row->eager);
            last = model->number;
        }
    }
}

void outlook_load(struct core *core)
{
    for (uint32_t i = 0; i < core->request_count; i++) {
        if (core->requests[i]->row.kind == REQUEST_DELETE) {
            await_all(core, core->requests[i], true);
        }
    }
    for (uint32_t i = 0; i < core->model_count; i++) {
        if (ensemble_sum(&core->models[i]->ensemble).invalid > 0) {
            planned_resume(&core->models[i]->plan);
        }
    }
}

void outlook_hurry(struct core *core, struct request *request)
{
    request->row.eager = true;
    await_all(core, request, true);
}

// ---------------------------------------------------------------- what is expected

static const struct forecast *forecast_of(struct core *core, struct dataset *dataset)
{
    uint32_t components = 0;
    for (uint32_t i = 0; i < core->model_count; i++) {
        components += core->models[i]->dataset == dataset->row.number
                          ? ensemble_count(&core->models[i]->ensemble)
                          : 0;
    }
    if (dataset->forecast_ms == 0 ||
        core->now_ms - dataset->forecast_ms > components / COMPONENTS_A_MS) {
        forecast_make(&core->planner, dataset->row.number, core->wall_us, leases_worker_count(core),
                      &dataset->forecast);
        dataset->forecast_ms = core->now_ms;
    }
    return &dataset->forecast;
}

// A model of the dataset that holds its repairs back: nobody can say for how long.
static bool is_held(const struct core *core, uint32_t dataset)
{
    const uint32_t ranks = leases_worker_count(core);
    for (uint32_t i = 0; i < core->model_count; i++) {
        const struct model *const model = core->models[i];
        if (model->dataset == dataset &&
            planned_holds(&model->plan, core->wall_us, ranks > 0 ? ranks : 1)) {
            return true;
        }
    }
    return false;
}

int64_t outlook_expected(struct core *core, const struct request_row *row, bool *late_out)
{
    struct dataset *const dataset = catalog_dataset_number(core, row->dataset);
    *late_out = row->due_us != 0 && row->repaired_us == 0 && core->wall_us > row->due_us;
    if (row->kind != REQUEST_DELETE || row->state >= REQUEST_REPAIRED || dataset == NULL) {
        return 0;
    }
    const struct forecast *const forecast = forecast_of(core, dataset);
    const int64_t end_us = forecast_end_us(forecast, row->eager ? PLANNER_AT_ONCE : row->due_us);
    if (end_us == INT64_MAX) {
        return 0;
    }
    // Held back or not: repairs that would be too late if they began now will be too late.
    *late_out = *late_out || end_us > row->due_us;
    return !row->eager && is_held(core, row->dataset) ? 0 : end_us;
}

static void tell_late(struct core *core, struct request *request)
{
    bool late = false;
    const int64_t expected_us = outlook_expected(core, &request->row, &late);
    if (!late) {
        return;
    }
    char uuid[TEXT_UUID_BYTES], due[TEXT_TIME_BYTES], expected[TEXT_TIME_BYTES] = "unknown";
    text_uuid_put(&request->row.uuid, uuid);
    text_time(request->row.due_us, due);
    if (expected_us != 0) {
        text_time(expected_us, expected);
    }
    log_error("deletion_late", "request=%s due=%s expected=%s", uuid, due, expected);
    request->late_told = true;
}

// A few at a time: there may be very many.
void outlook_tick(struct core *core)
{
    if (core->now_ms < core->outlook_ms) {
        return;
    }
    for (uint32_t i = 0; i < LOOK_COUNT && core->outlook_at < core->request_count; i++) {
        struct request *const request = core->requests[core->outlook_at++];
        if (!request->late_told && request->row.due_us != 0 && request->row.repaired_us == 0) {
            tell_late(core, request);
        }
    }
    if (core->outlook_at >= core->request_count) {
        core->outlook_at = 0;
        core->outlook_ms = core->now_ms + LOOK_MS;
    }
}
