// coordinator/requests.c: the open requests in the loop's memory: found by number, and woken when
// something becomes valid that they wait for; see core.h.
//
// A request that is erased waits for components. It hangs at one of them that is not valid yet
// (slot_extra.watched), so that whatever becomes valid looks at those requests alone which may now go
// on, however many others are open. Each looks for the next component that it must wait for, and hangs
// there, or is ready.
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "coordinator/core.h"

enum { LOOK_US = 2000 }; // Of one turn of the loop.

// ---------------------------------------------------------------- queues

void queue_put(struct request_queue *queue, struct request *request)
{
    CHECK(!request->queued);
    request->queued = true;
    request->next = NULL;
    if (queue->last == NULL) {
        queue->first = request;
    } else {
        queue->last->next = request;
    }
    queue->last = request;
    queue->count++;
}

void queue_put_first(struct request_queue *queue, struct request *request)
{
    CHECK(!request->queued);
    request->queued = true;
    request->next = queue->first;
    queue->first = request;
    queue->last = queue->last == NULL ? request : queue->last;
    queue->count++;
}

struct request *queue_take(struct request_queue *queue)
{
    struct request *const request = queue->first;
    if (request != NULL) {
        queue->first = request->next;
        queue->last = queue->first == NULL ? NULL : queue->last;
        queue->count--;
        request->next = NULL;
        request->queued = false;
    }
    return request;
}

// ---------------------------------------------------------------- by number

// Numbers rise, so requests come in their order; the place of one that has none is where it would go.
static uint32_t place_of(const struct core *core, uint64_t sequence)
{
    uint32_t low = 0, high = core->request_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (core->requests[middle]->row.sequence < sequence) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct request *catalog_put_request(struct core *core, const struct request_row *row,
                                    const struct awaited *awaited, uint32_t awaited_count)
{
    struct request *const request = mem_alloc(1, sizeof *request);
    request->row = *row;
    request->awaited = mem_alloc(awaited_count, sizeof *request->awaited);
    if (awaited_count > 0) {
        memcpy(request->awaited, awaited, awaited_count * sizeof *awaited);
    }
    request->awaited_count = awaited_count;
    if (core->request_count == core->request_capacity) {
        core->request_capacity = 64 + 2 * core->request_capacity;
        core->requests = mem_resize(core->requests, core->request_capacity, sizeof *core->requests);
    }
    const uint32_t at = place_of(core, row->sequence);
    memmove(&core->requests[at + 1], &core->requests[at],
            (core->request_count - at) * sizeof *core->requests);
    core->requests[at] = request;
    core->request_count++;
    return request;
}

struct request *catalog_request(struct core *core, uint64_t sequence)
{
    const uint32_t at = place_of(core, sequence);
    return at < core->request_count && core->requests[at]->row.sequence == sequence
               ? core->requests[at]
               : NULL;
}

void catalog_drop_requests(struct core *core, struct request *const *requests, uint32_t count)
{
    uint32_t *const places = mem_alloc(count, sizeof *places);
    uint32_t first = core->request_count;
    for (uint32_t i = 0; i < count; i++) {
        places[i] = place_of(core, requests[i]->row.sequence);
        CHECK(core->requests[places[i]] == requests[i] && !requests[i]->queued);
        first = places[i] < first ? places[i] : first;
    }
    for (uint32_t i = 0; i < count; i++) {
        core->requests[places[i]] = NULL;
        mem_free(requests[i]->awaited);
        mem_free(requests[i]);
    }
    uint32_t kept = first;
    for (uint32_t i = first; i < core->request_count; i++) {
        if (core->requests[i] != NULL) {
            core->requests[kept++] = core->requests[i];
        }
    }
    core->request_count = kept;
    mem_free(places);
}

void requests_free(struct core *core)
{
    for (uint32_t i = 0; i < core->request_count; i++) {
        mem_free(core->requests[i]->awaited);
        mem_free(core->requests[i]);
    }
    mem_free(core->requests);
    core->requests = NULL;
    core->request_count = core->request_capacity = 0;
}

// ---------------------------------------------------------------- what they wait for

// The model and node of an awaited component that is not valid again; NULL: it is, or is empty, or
// its model was removed.
static const struct model *still_awaited(struct core *core, const struct awaited *awaited,
                                         uint32_t *node_out)
{
    const struct model *const model = catalog_model_number(core, awaited->model);
    const int32_t node = model == NULL ? -1 : trie_find(&model->ensemble.trie, &awaited->name);
    if (node < 0) {
        return NULL;
    }
    const struct slot *const slot =
        ensemble_slot(&model->ensemble, awaited->name.shard, (uint32_t)node);
    *node_out = (uint32_t)node;
    return slot->state == SLOT_VALID || slot->records == 0 ? NULL : model;
}

// How many of the awaited components one answer looks at: a few milliseconds.
static uint32_t looked_at(const struct request *request)
{
    return request->awaited_count < REQUEST_LOOKS ? request->awaited_count : REQUEST_LOOKS;
}

uint32_t request_waits_for(struct core *core, const struct request *request, uint64_t *samples_out,
                           bool *more_out)
{
    uint32_t count = 0, node = 0;
    *samples_out = 0;
    *more_out = request->awaited_count > REQUEST_LOOKS;
    for (uint32_t i = 0; i < looked_at(request); i++) {
        const struct awaited *const awaited = &request->awaited[i];
        const struct model *const model = still_awaited(core, awaited, &node);
        if (model != NULL) {
            count++;
            *samples_out += ensemble_samples(&model->ensemble, awaited->name.shard, node);
        }
    }
    return count;
}

// Hangs the request at a component that it must wait for; false: there is none.
static bool hang(struct core *core, struct request *request)
{
    const uint32_t count = request->awaited_count;
    uint32_t node = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = (request->waits_at + i) % count;
        const struct awaited *const awaited = &request->awaited[at];
        const struct model *const model = still_awaited(core, awaited, &node);
        if (model != NULL) {
            request->waits_at = at; // Where to begin the next time.
            queue_put(&model_extra(model, awaited->name.shard, node)->watched, request);
            return true;
        }
    }
    return false;
}

void requests_wake(struct core *core, struct request_queue *queue)
{
    for (struct request *request; (request = queue_take(queue)) != NULL;) {
        queue_put(&core->woken, request);
    }
}

void requests_look(struct core *core)
{
    const int64_t until_us = clock_mono_us() + LOOK_US;
    while (core->woken.count > 0 && clock_mono_us() < until_us) {
        struct request *const request = queue_take(&core->woken);
        if (!hang(core, request)) {
            request->since_ms = core->now_ms;
            queue_put(&core->repaired, request);
        }
    }
}

const char *request_problem(struct core *core, const struct request *request)
{
    for (uint32_t i = 0; i < looked_at(request); i++) {
        const struct awaited *const awaited = &request->awaited[i];
        const struct model *const model = catalog_model_number(core, awaited->model);
        const int32_t node = model == NULL ? -1 : trie_find(&model->ensemble.trie, &awaited->name);
        if (node >= 0 &&
            ensemble_slot(&model->ensemble, awaited->name.shard, (uint32_t)node)->blocked) {
            return model->problem;
        }
        if (node >= 0 && catalog_successor(core, model) == NULL &&
            ensemble_is_stuck(&model->ensemble, awaited->name.shard, (uint32_t)node)) {
            return "it stands on components of an older numeric profile, on which nothing is "
                   "trained: "
                   "unlearnctl train MODEL --reprofile";
        }
    }
    return "";
}
