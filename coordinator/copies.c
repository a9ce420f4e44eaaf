// coordinator/copies.c: what workers hold in memory, and that they wipe what was deleted; see fleetdom.h.
//
// A request is erased only when no worker holds anything of it. So:
//   - What a worker may hold is noted before the message that lets it is sent (scheduler/locality.h).
//   - After a fence each worker that may hold something of it is told to Forget, after the Cancel of a lease
//     that stands on it, and owes an answer.
//   - A worker that owes one for lease_ms is cut off, as one is that was silent for so long: the next
//     thing it hears is that nobody knows it, and it holds nothing before it says hello again. One that
//     hears nothing for copies_silence_ms does so by itself: both clocks run from the same beat.
//   - Workers of an earlier run of the coordinator are not known here. They too hold nothing after so much
//     silence; until then nothing is erased.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "coordinator/fence.h"
#include "coordinator/fleetdom.h"

enum {
    COPIES_MAX = 4 * LIMIT_COPIES, // A worker tells after each stage: a fourth is usual.
    FORGET_NAMED_MAX = 4096,       // A message of 100 KiB; beyond: all.
};

// ---------------------------------------------------------------- Forget

struct forgetting { // One worker's.
    struct core *core;
    const struct fence_hit *hits; // Sorted. NULL: all of `model`, or with `all` simply all.
    uint32_t hit_count;
    uint32_t model;
    bool all;
    Unlearn__Copy *rows; // [count], at most FORGET_NAMED_MAX. Owned: most fences need none.
    uint32_t count, capacity;
};

static void name_copy(struct forgetting *forgetting, const struct copy *copy)
{
    if (forgetting->count == forgetting->capacity) {
        forgetting->capacity = forgetting->capacity == 0 ? 16 : 2 * forgetting->capacity;
        forgetting->rows =
            mem_resize(forgetting->rows, forgetting->capacity, sizeof *forgetting->rows);
    }
    Unlearn__Copy *const row = &forgetting->rows[forgetting->count++];
    unlearn__copy__init(row);
    row->model = copy->model;
    row->shard = copy->shard;
    row->slice = copy->slice;
    row->instance = copy->instance;
}

static int compare_shards(const void *a_, const void *b_)
{
    const struct fence_hit *const a = a_, *const b = b_;
    return a->model != b->model             ? (a->model < b->model ? -1 : 1)
           : a->cell.shard != b->cell.shard ? (a->cell.shard < b->cell.shard ? -1 : 1)
                                            : 0;
}

static int compare_hits(const void *a_, const void *b_)
{
    const struct fence_hit *const a = a_, *const b = b_;
    const int shards = compare_shards(a, b);
    return shards != 0                      ? shards
           : a->cell.slice != b->cell.slice ? (a->cell.slice < b->cell.slice ? -1 : 1)
                                            : 0;
}

static bool is_hit(const struct forgetting *forgetting, uint32_t model, uint32_t shard,
                   uint32_t slice)
{
    const struct fence_hit hit = {.model = model, .cell = {shard, slice}};
    return bsearch(&hit, forgetting->hits, forgetting->hit_count, sizeof hit, compare_hits) != NULL;
}

static bool shard_is_hit(const struct forgetting *forgetting, uint32_t model, uint32_t shard)
{
    const struct fence_hit hit = {.model = model, .cell = {.shard = shard}};
    return bsearch(&hit, forgetting->hits, forgetting->hit_count, sizeof hit, compare_shards) !=
           NULL;
}

// Lineage: weights have seen the cells of their list.
static bool weights_are_hit(const struct forgetting *forgetting, const struct copy *copy)
{
    const struct model *const model = catalog_model_number(forgetting->core, copy->model);
    struct component name;
    if (model == NULL) {
        return true; // It was removed.
    }
    if (!shard_is_hit(forgetting, copy->model, copy->shard)) {
        return false; // Most of what each worker keeps, at each deletion.
    }
    trie_name(&model->ensemble.trie, copy->shard, copy->node, &name);
    for (uint32_t i = 0; i < name.count; i++) {
        if (is_hit(forgetting, copy->model, copy->shard, name.list[i])) {
            return true;
        }
    }
    return false;
}

static bool goes(void *context, const struct copy *copy)
{
    struct forgetting *const forgetting = context;
    const bool gone = forgetting->all            ? true
                      : forgetting->hits == NULL ? copy->model == forgetting->model
                      : copy->instance != 0
                          ? weights_are_hit(forgetting, copy)
                          : is_hit(forgetting, copy->model, copy->shard, copy->slice);
    if (gone && !forgetting->all && forgetting->count < FORGET_NAMED_MAX) {
        name_copy(forgetting, copy);
    }
    return gone;
}

// Tells one worker. False: it does not take messages, and was dropped.
static bool forget(struct core *core, struct worker *worker, struct forgetting *forgetting)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Forget out = UNLEARN__FORGET__INIT;
    forgetting->count = 0;
    const uint32_t gone = locality_remove(&worker->locality, goes, forgetting);
    if (gone == 0 && !forgetting->all) {
        return true;
    }
    out.number = ++core->fleetdom->last_forget;
    out.all = forgetting->all || gone > forgetting->count;
    out.n_copies = out.all ? 0 : forgetting->count;
    Unlearn__Copy **const pointers = mem_alloc(out.n_copies, sizeof(Unlearn__Copy *));
    for (size_t i = 0; i < out.n_copies; i++) {
        pointers[i] = &forgetting->rows[i];
    }
    out.copies = pointers;
    if (worker->forget_first == 0) {
        worker->forget_first = out.number;
        worker->forget_ms = core->now_ms;
    }
    worker->forget_last = out.number;
    message.body_case = UNLEARN__TO_WORKER__BODY_FORGET;
    message.forget = &out;
    const bool sent = workers_send(core, &worker->peer, &message, span_of(NULL, 0));
    mem_free(pointers);
    if (!sent) {
        workers_drop(core, worker, true);
    }
    return sent;
}

static uint64_t forget_everywhere(struct core *core, struct forgetting *forgetting)
{
    struct fleetdom *const dom = core->fleetdom;
    const uint64_t before = dom->last_forget;
    for (uint32_t i = 0; i < dom->worker_count;) {
        // Of those that are dropped another takes the place.
        i += forget(core, dom->workers[i], forgetting);
    }
    return dom->last_forget == before ? 0 : dom->last_forget;
}

static bool are_sorted(const struct fence_hit *hits, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        if (compare_hits(&hits[i - 1], &hits[i]) > 0) {
            return false;
        }
    }
    return true;
}

uint64_t leases_forget(struct core *core, const struct fence_hit *hits, uint32_t hit_count)
{
    struct fence_hit *sorted = NULL;
    if (hit_count == 0 || core->fleetdom->worker_count == 0) {
        return 0;
    }
    if (!are_sorted(hits, hit_count)) {
        sorted = mem_alloc(hit_count, sizeof *sorted);
        memcpy(sorted, hits, hit_count * sizeof *sorted);
        qsort(sorted, hit_count, sizeof *sorted, compare_hits);
    }
    struct forgetting forgetting = {.core = core};
    forgetting.hits = sorted != NULL ? sorted : hits;
    forgetting.hit_count = hit_count;
    const uint64_t number = forget_everywhere(core, &forgetting);
    mem_free(forgetting.rows);
    mem_free(sorted);
    return number;
}

uint64_t leases_forget_model(struct core *core, uint32_t model)
{
    struct forgetting forgetting = {.core = core};
    forgetting.model = model;
    const uint64_t number = forget_everywhere(core, &forgetting);
    mem_free(forgetting.rows);
    return number;
}

static bool forget_all(struct core *core, struct worker *worker)
{
    struct forgetting forgetting = {.core = core};
    forgetting.all = true;
    const bool told = forget(core, worker, &forgetting);
    mem_free(forgetting.rows);
    return told;
}

void copies_restart(struct core *core, struct worker *worker)
{
    if (worker->locality.count > 0 || worker->forget_first != 0) {
        (void)forget_all(core, worker);
    }
}

void copies_forgotten(struct worker *worker, uint64_t number)
{
    if (number >= worker->forget_last) {
        worker->forget_first = 0;
    } else if (worker->forget_first != 0 && number >= worker->forget_first) {
        worker->forget_first = number + 1; // Or a later one: the next answer says.
    }
}

bool leases_have_forgotten(const struct core *core, uint64_t number)
{
    const struct fleetdom *const dom = core->fleetdom;
    bool all = core->now_ms >= dom->quiet_until_ms;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        const uint64_t first = dom->workers[i]->forget_first;
        all = all && (first == 0 || first > number);
    }
    return all;
}

int64_t copies_silence_ms(const struct core *core)
{
    enum { MOST_MS = 5000 };
    return core->config.lease_ms < MOST_MS ? core->config.lease_ms : MOST_MS;
}

void copies_tick(struct core *core)
{
    struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->worker_count;) {
        struct worker *const worker = dom->workers[i];
        if (worker->forget_first != 0 && core->now_ms - worker->forget_ms > core->config.lease_ms) {
            log_error("worker_cut_off",
                      "worker=%llu reason=\"it did not say that it wiped what was "
                      "deleted\"",
                      (unsigned long long)worker->number);
            workers_drop(core, worker, true);
        } else {
            i++;
        }
    }
}

// ---------------------------------------------------------------- what is held

static void lent(struct worker *worker, const struct lease *lease, uint32_t parent)
{
    struct copy copy = {.model = lease->model, .shard = lease->name.shard, .stamp = lease->number};
    for (uint32_t i = 0; i < lease->name.count; i++) {
        copy.slice = lease->name.list[i];
        locality_add(&worker->locality, &copy);
    }
    if (lease->parent != NULL) {
        copy.slice = 0;
        copy.instance = lease->parent->instance;
        copy.node = parent;
        copy.bytes = lease->parent->param_count * sizeof(float);
        locality_add(&worker->locality, &copy);
    }
}

void copies_lent(struct core *core, const struct lease *lease)
{
    const struct model *const model = catalog_model_number(core, lease->model);
    const int32_t node = trie_find(&model->ensemble.trie, &lease->name);
    const int32_t parent = model->ensemble.trie.nodes[node].parent;
    for (uint32_t i = 0; i < lease->member_count; i++) {
        struct worker *const worker = lease->members[i].worker;
        if (worker->locality.count + LIMIT_SLICES + 2 > COPIES_MAX) {
            (void)forget_all(core, worker);
        }
        lent(worker, lease, parent < 0 ? 0 : (uint32_t)parent);
    }
}

uint64_t copies_stored(struct core *core, const struct lease *lease, struct worker *worker)
{
    const struct model *const model = catalog_model_number(core, lease->model);
    const int32_t node = model == NULL ? -1 : trie_find(&model->ensemble.trie, &lease->name);
    if (node < 0 || model->ensemble.trie.nodes[node].child < 0 || worker->held_limit_bytes == 0) {
        return 0; // Nobody's parent; or it keeps nothing.
    }
    const struct copy copy = {.model = lease->model,
                              .shard = lease->name.shard,
                              .instance = lease->stored,
                              .node = (uint32_t)node,
                              .bytes = lease->param_count * sizeof(float),
                              .stamp = ++core->fleetdom->last_lease};
    locality_add(&worker->locality, &copy);
    return copy.stamp;
}

void copies_held(struct worker *worker, const Unlearn__Held *held)
{
    const uint32_t count = (uint32_t)held->n_copies;
    struct copy *const copies = mem_alloc(count, sizeof *copies);
    for (uint32_t i = 0; i < count; i++) {
        const Unlearn__Copy *const row = held->copies[i];
        copies[i] = (struct copy){.model = row->model,
                                  .shard = row->shard,
                                  .slice = row->slice,
                                  .instance = row->instance,
                                  .bytes = row->bytes};
    }
    locality_reported(&worker->locality, held->stamp, copies, count);
    mem_free(copies);
    worker->held_bytes = held->bytes;
    worker->held_limit_bytes = held->limit_bytes;
    worker->found_bytes = held->found_bytes;
    worker->pulled_bytes = held->pulled_bytes;
}

// ---------------------------------------------------------------- locality

struct worker *copies_nearest(struct core *core, struct worker *worker, const struct model *model,
                              uint32_t shard, uint32_t node)
{
    const struct fleetdom *const dom = core->fleetdom;
    const int32_t parent = model->ensemble.trie.nodes[node].parent;
    const struct weights *const weights =
        parent < 0 ? NULL : model_extra(model, shard, (uint32_t)parent)->weights;
    struct component name;
    trie_name(&model->ensemble.trie, shard, node, &name);
    const struct stage_needs needs = {.model = model->number,
                                      .shard = shard,
                                      .list = name.list,
                                      .list_count = name.count,
                                      .parent_instance = weights == NULL ? 0 : weights->instance};
    struct worker **const idle = mem_alloc(dom->worker_count + 1, sizeof *idle);
    uint64_t *const bytes = mem_alloc(dom->worker_count + 1, sizeof *bytes);
    uint32_t count = 0;
    idle[count] = worker; // Where others hold no more.
    bytes[count++] = locality_bytes(&worker->locality, &needs);
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        struct worker *const other = dom->workers[i];
        if (other != worker && other->locality.count > 0 &&
            workers_may_train(core, other, model->dataset)) {
            idle[count] = other;
            bytes[count++] = locality_bytes(&other->locality, &needs);
        }
    }
    struct worker *const nearest = idle[locality_choose(bytes, count)];
    mem_free(idle);
    mem_free(bytes);
    return nearest;
}
