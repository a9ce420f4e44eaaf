// coordinator/leases.c: which rank trains which stage; see fleetdom.h and core.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/fleetdom.h"
#include "coordinator/recheck.h"
#include "scheduler/lend.h"

enum {
    FAILURES_MAX = 5, // Of one stage in a row, before it waits for the next `train`.
    SOON_MS = 1000,   // A stage that a group may train waits so long for ranks about to be idle.
};

enum err leases_open(struct core *core)
{
    core->fleetdom = mem_alloc(1, sizeof *core->fleetdom);
    core->fleetdom->last_lease = storage_boot(core->storage) << 32;
    core->fleetdom->quiet_until_ms =
        storage_boot(core->storage) > 1 ? core->now_ms + copies_silence_ms(core) : 0;
    return OK;
}

static void lease_free(struct lease *lease)
{
    weights_release(lease->parent);
    base_release(lease->base);
    mem_free(lease->members);
    mem_free(lease->params);
    mem_free(lease);
}

void leases_free(struct core *core)
{
    struct fleetdom *const dom = core->fleetdom;
    if (dom == NULL) {
        return;
    }
    while (dom->worker_count > 0) {
        struct worker *const worker = dom->workers[--dom->worker_count];
        // Member 0 holds its lease to the end.
        if (worker->lease != NULL && worker->member == 0 && worker->lease->jobs == 0) {
            lease_free(worker->lease);
        }
        worker_free(worker);
    }
    buf_deinit(&dom->frame);
    buf_deinit(&dom->raw);
    wire_arena_deinit(&dom->arena);
    mem_free(dom);
    core->fleetdom = NULL;
}

// The model and node of the lease's component; NULL when the model is gone.
static struct model *model_of(struct core *core, const struct lease *lease, uint32_t *node_out)
{
    struct model *const model = catalog_model_number(core, lease->model);
    if (model != NULL) {
        const int32_t node = trie_find(&model->ensemble.trie, &lease->name);
        CHECK(node >= 0);
        *node_out = (uint32_t)node;
    }
    return model;
}

static void send_cancel(struct core *core, const struct lease *lease, struct worker *worker)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Cancel cancel = UNLEARN__CANCEL__INIT;
    cancel.lease = lease->number;
    if (lease->stored != 0 && worker->lease == lease && worker->member == 0) {
        cancel.stamp = copies_stored(core, lease, worker);
        cancel.instance = cancel.stamp == 0 ? 0 : lease->stored;
    }
    message.body_case = UNLEARN__TO_WORKER__BODY_CANCEL;
    message.cancel = &cancel;
    workers_send(core, &worker->peer, &message, span_of(NULL, 0));
}

void lease_compared(struct core *core, struct lease *lease, enum comparison result)
{
    if (lease->compare && !lease->compared) {
        lease->compared = true;
        verify_compared(core, &lease->name, &lease->task, result);
    }
}

void lease_end(struct core *core, struct lease *lease, bool tell)
{
    uint32_t node = 0;
    CHECK(!lease->ended);
    lease_compared(core, lease, VERIFY_AGAIN);
    struct model *const model = model_of(core, lease, &node);
    if (model != NULL && !lease->compare) {
        ensemble_set_leased(&model->ensemble, lease->name.shard, node, false);
    }
    for (uint32_t i = 0; i < lease->member_count; i++) {
        struct member *const member = &lease->members[i];
        if (member->worker == NULL) {
            continue;
        }
        if (tell && lease->phase != LEASE_OPENING) {
            // While it trains, a worker answers when it has stopped; after that it is idle already.
            member->worker->stopping = !member->done;
            member->worker->stopping_ms = core->now_ms;
            send_cancel(core, lease, member->worker);
        }
        member->worker->lease = NULL;
        member->worker = NULL;
    }
    lease->ended = true;
    if (lease->jobs == 0) {
        lease_free(lease);
    }
}

void lease_end_without(struct core *core, struct worker *worker)
{
    struct lease *const lease = worker->lease;
    if (lease != NULL) {
        lease->members[worker->member].worker = NULL;
        worker->lease = NULL;
        lease_end(core, lease, true);
    }
}

bool lease_job_back(struct core *core, struct lease *lease)
{
    (void)core;
    CHECK(lease->jobs > 0);
    lease->jobs--;
    if (lease->ended && lease->jobs == 0) {
        lease_free(lease);
        return false;
    }
    return !lease->ended;
}

void lease_failed(struct core *core, struct lease *lease, bool retry, const char *reason)
{
    uint32_t node = 0;
    char name[COMPONENT_TEXT_BYTES];
    struct model *const model = model_of(core, lease, &node);
    component_put(&lease->name, name);
    log_error("stage_failed", "model=%u component=%s retry=%d reason=\"%s\"", lease->model, name,
              retry, reason);
    lease_compared(core, lease, retry ? VERIFY_AGAIN : VERIFY_SKIPPED);
    if (model != NULL && !lease->compare) {
        struct slot_extra *const extra = model_extra(model, lease->name.shard, node);
        extra->failures++;
        if (!retry || extra->failures >= FAILURES_MAX) {
            ensemble_set_blocked(&model->ensemble, lease->name.shard, node, true);
            snprintf(model->problem, sizeof model->problem, "%.60s: %.180s", name, reason);
        }
    }
    lease_end(core, lease, true);
}

// ---------------------------------------------------------------- opening

struct open_job {
    struct job job;
    struct lease *lease;
};

static enum err open_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct lease *const lease = ((struct open_job *)job)->lease;
    for (uint32_t i = 0; i < lease->name.count; i++) {
        TRY(cell_version_get(txn, lease->model, lease->name.shard, lease->name.list[i],
                             &lease->versions[i]));
    }
    return OK;
}

// Sends its message to each member. False: one did not take it, and the lease has ended.
static bool send_to_members(struct core *core, struct lease *lease, const Unlearn__Lease *common)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Lease out = *common;
    uint32_t ranks[LIMIT_GRADIENT_CHUNKS];
    message.body_case = UNLEARN__TO_WORKER__BODY_LEASE;
    message.lease = &out;
    for (uint32_t i = 0; i < lease->member_count; i++) {
        ranks[i] = lease->members[i].rank;
        lease->members[i].deadline_ms = core->now_ms + core->config.lease_ms;
    }
    out.group_ranks = ranks;
    out.n_group_ranks = lease->member_count > 1 ? lease->member_count : 0;
    for (uint32_t i = 0; i < lease->member_count; i++) {
        struct worker *const worker = lease->members[i].worker;
        out.group_index = i;
        if (!workers_send(core, &worker->peer, &message, span_of(NULL, 0))) {
            workers_drop(core, worker, true);
            return false;
        }
    }
    return true;
}

static void send_lease(struct core *core, struct lease *lease, const struct model *model,
                       uint32_t node)
{
    struct dataset *const dataset = catalog_dataset_number(core, model->dataset);
    char name[COMPONENT_TEXT_BYTES];
    Unlearn__Lease out = UNLEARN__LEASE__INIT;
    component_put(&lease->name, name);
    out.lease = lease->number;
    out.deadline_ms = core->config.lease_ms;
    out.model = wire_text(model->name);
    out.component = name;
    out.spec = wire_bytes(buf_span(&model->spec_text));
    out.schema = wire_bytes(buf_span(&dataset->row.schema));
    out.passes = trie_passes(model->ensemble.passes_each, model->spec.epochs, model->spec.slices,
                             model->ensemble.trie.nodes[node].depth);
    out.has_parent = lease->parent != NULL;
    out.param_count = lease->param_count;
    out.records = lease->records;
    out.slice_records = lease->slice_records;
    out.n_slice_records = lease->name.count;
    out.cell_versions = lease->versions;
    out.n_cell_versions = lease->name.count;
    out.compare_only = lease->compare;
    out.model_number = model->number;
    out.parent_instance = lease->parent == NULL ? 0 : lease->parent->instance;
    out.stream_key = wire_bytes(span_of(lease->key, sizeof lease->key));
    if (lease->base != NULL) {
        const struct base_entry *const entry = catalog_base_number(core, model->base);
        out.base_shape = wire_bytes(buf_span(&entry->row.shape));
        out.base_digest = wire_bytes(span_of(lease->base->digest.bytes, DIGEST_BYTES));
        out.base_weight_count = lease->base->weight_count;
    }
    lease->phase = LEASE_TRAINING;
    lease->began_ms = core->now_ms;
    copies_lent(core, lease);
    if (!send_to_members(core, lease, &out)) {
        return;
    }
    log_info(
        "lease_granted", "lease=%llu model=%u component=%s records=%llu worker=%llu ranks=%u%s",
        (unsigned long long)lease->number, lease->model, name, (unsigned long long)lease->records,
        (unsigned long long)lease->members[0].worker->number, lease->member_count,
        lease->compare ? " compare=1" : "");
}

// A deletion that the store had committed before open_run has been applied to the loop's memory
// before this, and has ended the lease if it hit its cells: counts and versions belong together.
static void open_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct lease *const lease = ((struct open_job *)job)->lease;
    if (lease_job_back(core, lease)) {
        uint32_t node = 0;
        const struct model *const model = model_of(core, lease, &node);
        if (job->result != OK || model == NULL) {
            lease_failed(core, lease, true, job->text);
        } else if (model->plan.paused && !lease->compare) { // Since it was chosen.
            lease_end(core, lease, false);
        } else {
            lease->records = 0;
            for (uint32_t i = 0; i < lease->name.count; i++) {
                const struct cell cell = {lease->name.shard, lease->name.list[i]};
                lease->slice_records[i] = ensemble_cell(&model->ensemble, cell);
                lease->records += lease->slice_records[i];
            }
            lease->samples = ensemble_samples(&model->ensemble, lease->name.shard, node);
            send_lease(core, lease, model, node);
        }
    }
    mem_free(job);
}

// members: [member_count] workers of one fleet, by rank.
static void open_lease(struct core *core, struct worker *const *members, uint32_t member_count,
                       struct model *model, uint32_t shard, uint32_t node,
                       const struct verify_task *task)
{
    struct lease *const lease = mem_alloc(1, sizeof *lease);
    const int32_t parent = model->ensemble.trie.nodes[node].parent;
    lease->number = ++core->fleetdom->last_lease;
    digest_random(lease->key, sizeof lease->key);
    lease->phase = LEASE_OPENING;
    lease->members = mem_alloc(member_count, sizeof *lease->members);
    lease->member_count = member_count;
    for (uint32_t i = 0; i < member_count; i++) {
        lease->members[i] = (struct member){.worker = members[i], .rank = members[i]->rank};
        members[i]->lease = lease;
        members[i]->member = i;
    }
    lease->model = model->number;
    lease->dataset = model->dataset;
    lease->compare = task != NULL;
    if (task != NULL) {
        lease->task = *task;
    } else {
        ensemble_set_leased(&model->ensemble, shard, node, true);
    }
    trie_name(&model->ensemble.trie, shard, node, &lease->name);
    lease->param_count = model_param_count(model, lease->name.count);
    model_placement(&model->spec, &lease->placement);
    if (parent >= 0 && !ensemble_is_empty(&model->ensemble, shard, (uint32_t)parent)) {
        lease->parent = weights_hold(model_extra(model, shard, (uint32_t)parent)->weights);
    }
    if (model->shape->base != NULL) {
        lease->base = base_hold(model->shape->base);
    }
    struct open_job *const open = mem_alloc(1, sizeof *open);
    open->job = (struct job){.kind = JOB_READ, .run = open_run, .done = open_done};
    open->lease = lease;
    lease->jobs++;
    storage_submit(core->storage, &open->job, STORAGE_OURS);
}

// Those whose keys are for the dataset.
static uint32_t count_idle(struct core *core, uint32_t dataset)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->fleetdom->worker_count; i++) {
        count += workers_may_train(core, core->fleetdom->workers[i], dataset);
    }
    return count;
}

static int compare_ranks(const void *a, const void *b)
{
    const struct worker *const left = *(struct worker *const *)a;
    const struct worker *const right = *(struct worker *const *)b;
    return left->rank < right->rank ? -1 : left->rank > right->rank;
}

// Idle workers of the leader's fleet that MPI can connect, by rank, each rank once. Without the
// leader among them (a rank that two workers claim) the leader stands alone.
static uint32_t gather_idle(struct core *core, struct worker *leader, uint32_t dataset,
                            struct worker **idle_out)
{
    const struct fleetdom *const dom = core->fleetdom;
    uint32_t count = 0, distinct = 0;
    bool led = false;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        struct worker *const worker = dom->workers[i];
        if (id128_compare(&worker->fleet, &leader->fleet) == 0 && worker->rank < worker->ranks &&
            worker->ranks == leader->ranks && workers_may_train(core, worker, dataset)) {
            idle_out[count++] = worker;
        }
    }
    qsort(idle_out, count, sizeof *idle_out, compare_ranks);
    for (uint32_t i = 0; i < count; i++) {
        if (distinct == 0 || idle_out[distinct - 1]->rank != idle_out[i]->rank) {
            idle_out[distinct++] = idle_out[i];
            led = led || idle_out[i] == leader;
        }
    }
    if (!led) {
        idle_out[0] = leader;
        return 1;
    }
    return distinct;
}

// Ranks of the leader's fleet that will be idle in a moment: those that were told to stop, and, when
// the fleet has just been started, those that have not joined yet. Whoever took a stage alone would
// train it alone to its end.
static uint32_t count_soon(const struct core *core, const struct worker *leader)
{
    const struct fleetdom *const dom = core->fleetdom;
    uint32_t joined = 0, stopping = 0;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        const struct worker *const worker = dom->workers[i];
        if (id128_compare(&worker->fleet, &leader->fleet) == 0) {
            joined++;
            stopping += worker->stopping && core->now_ms - worker->stopping_ms < SOON_MS;
        }
    }
    const bool fresh = core->now_ms - leader->joined_ms < SOON_MS && leader->ranks > joined;
    return stopping + (fresh ? leader->ranks - joined : 0);
}

// Gives a stage to an idle worker and to as many others of its fleet as are better lent to it than
// kept for other stages. False: it is worth waiting for ranks that will soon be idle.
static bool lend(struct core *core, struct worker *leader, struct model *model, uint32_t shard,
                 uint32_t node, const struct verify_task *task)
{
    const uint32_t chunks = model->spec.gradient_chunks;
    struct worker **const idle = mem_alloc(core->fleetdom->worker_count, sizeof *idle);
    uint32_t count = 1;
    leader = task == NULL ? copies_nearest(core, leader, model, shard, node) : leader;
    idle[0] = leader;
    if (chunks > 1) {
        const uint32_t idle_all = count_idle(core, model->dataset);
        // A comparison that was chosen no longer waits. Comparisons come after stages, which
        // therefore take no account of them.
        const uint32_t ready = task == NULL ? planner_count_ready(&core->planner, idle_all)
                                            : 1 + verify_count_waiting(core, idle_all);
        const uint32_t idle_here = gather_idle(core, leader, model->dataset, idle);
        const uint32_t soon = task == NULL ? count_soon(core, leader) : 0;
        count = lend_ranks(idle_here, idle_all, ready, chunks);
        if (lend_ranks(idle_here + soon, idle_all + soon, ready, chunks) > count) {
            mem_free(idle);
            return false;
        }
    }
    open_lease(core, idle, count, model, shard, node, task);
    mem_free(idle);
    return true;
}

static struct model *model_planned(struct core *core, const struct planned *plan)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        if (&core->models[i]->plan == plan) {
            return core->models[i];
        }
    }
    return NULL;
}

static bool may_train(const void *context, const struct planned *plan)
{
    const struct worker *const worker = context;
    return access_may_train(worker->principal, plan->principal); // A dataset's number.
}

static void assign(struct core *core)
{
    struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        struct worker *const worker = dom->workers[i];
        struct grant grant;
        struct verify_task task;
        // A group takes the lowest ranks that are idle: this one is looked at again until it is busy.
        while (workers_may_lease(core, worker)) {
            if (planner_next_of(&core->planner, core->wall_us, dom->worker_count, may_train, worker,
                                &grant)) {
                struct model *const model = model_planned(core, grant.model);
                if (!lend(core, worker, model, grant.shard, grant.node, NULL)) {
                    break;
                }
                planner_granted(&core->planner, &grant);
            } else if (verify_next(core, worker->principal, &task) ||
                       recheck_next(core, worker, &task)) {
                (void)lend(core, worker, catalog_model_number(core, task.model), task.shard,
                           task.node, &task);
            } else if (recheck_waits(core) ||
                       (worker->principal != NULL && worker->principal->scope_count > 0)) {
                break; // Others may have something to do.
            } else {
                return; // Nothing to do for anybody.
            }
        }
    }
}

static void note_ended_runs(struct core *core)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        struct model *const model = core->models[i];
        if (model->run > 0 && model->run_ended_ms == 0) {
            const struct ensemble_totals totals = ensemble_sum(&model->ensemble);
            if (totals.waiting + totals.training == 0) {
                model->run_ended_ms = core->now_ms;
                log_info("run_ended", "model=%u run=%llu components=%u samples=%llu ms=%lld",
                         model->number, (unsigned long long)model->run, model->run_components,
                         (unsigned long long)model->run_samples,
                         (long long)(model->run_ended_ms - model->run_began_ms));
            }
        }
    }
}

// Says why a model does not get on whose waiting stages all stand on an older numeric profile.
static void note_stuck(struct model *model)
{
    const struct ensemble_totals totals = ensemble_sum(&model->ensemble);
    const bool was_stuck = model->stuck;
    model->stuck = totals.stuck > 0 && totals.training == 0 &&
                   ensemble_count_ready(&model->ensemble, true) == 0 &&
                   ensemble_count_ready(&model->ensemble, false) == 0;
    if (was_stuck && !model->stuck) {
        model->problem[0] = '\0';
    }
    if (model->stuck && model->problem[0] == '\0') {
        snprintf(model->problem, sizeof model->problem,
                 "%u components stand on ones of an older numeric profile, on which nothing is "
                 "trained: unlearnctl train %.60s --reprofile",
                 totals.stuck, model->name);
    }
}

static void note_all_stuck(struct core *core)
{
    enum { LOOK_MS = 200 }; // It looks at every component.
    if (core->now_ms < core->fleetdom->stuck_ms) {
        return;
    }
    core->fleetdom->stuck_ms = core->now_ms + LOOK_MS;
    for (uint32_t i = 0; i < core->model_count; i++) {
        if (core->models[i]->has_outdated && catalog_successor(core, core->models[i]) == NULL) {
            note_stuck(core->models[i]);
        }
    }
}

static void take_over(struct core *core)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        struct model *const model = core->models[i];
        if (model->replaces != 0 && !model->taking_over) {
            const struct ensemble_totals totals = ensemble_sum(&model->ensemble);
            if (totals.waiting + totals.training == 0) {
                removal_take_over(core, model);
            }
        }
    }
}

void leases_tick(struct core *core)
{
    struct fleetdom *const dom = core->fleetdom;
    workers_tick(core);
    copies_tick(core);
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        const struct worker *const worker = dom->workers[i];
        struct lease *const lease = worker->lease;
        if (lease != NULL && lease->phase == LEASE_TRAINING &&
            !lease->members[worker->member].done &&
            core->now_ms > lease->members[worker->member].deadline_ms) {
            log_info("lease_expired", "lease=%llu rank=%u", (unsigned long long)lease->number,
                     worker->rank);
            lease_end(core, lease, true);
        }
    }
    note_ended_runs(core);
    note_all_stuck(core);
    take_over(core);
    if (core->draining_ms == 0) {
        assign(core);
    }
}

// ---------------------------------------------------------------- deletions

void leases_cancel_cell(struct core *core, uint32_t model, struct cell cell)
{
    const struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        struct lease *const lease = dom->workers[i]->lease;
        if (lease != NULL && lease->model == model && lease->name.shard == cell.shard &&
            component_contains(&lease->name, cell.slice)) {
            log_info("lease_cancelled", "lease=%llu reason=deletion",
                     (unsigned long long)lease->number);
            rate_add(&core->activity.cancelled, core->now_ms, 1);
            rate_add(&core->activity.wasted, core->now_ms, lease->samples_done);
            struct model *const hit = catalog_model_number(core, model);
            if (!lease->compare && hit != NULL) {
                planned_cancelled(&hit->plan, cell.shard, lease->samples_done, core->wall_us);
            }
            lease_compared(core, lease, VERIFY_SKIPPED);
            lease_end(core, lease, true);
        }
    }
}

void leases_cancel_model(struct core *core, uint32_t model)
{
    const struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        struct lease *const lease = dom->workers[i]->lease;
        if (lease != NULL && lease->model == model) {
            lease_compared(core, lease, VERIFY_SKIPPED);
            lease_end(core, lease, true);
        }
    }
}

void leases_return(struct core *core)
{
    const struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        struct lease *const lease = dom->workers[i]->lease;
        if (lease != NULL) {
            lease_compared(core, lease, VERIFY_SKIPPED);
            lease_end(core, lease, true);
        }
    }
}

uint64_t leases_samples_done(const struct core *core, uint32_t model)
{
    const struct fleetdom *const dom = core->fleetdom;
    uint64_t samples = 0;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        const struct lease *const lease = dom->workers[i]->lease;
        if (lease != NULL && lease->model == model && !lease->compare &&
            dom->workers[i]->member == 0) {
            samples += lease->samples_done;
        }
    }
    return samples;
}

void lease_progress(struct core *core, struct lease *lease, uint64_t samples_done)
{
    samples_done = samples_done < lease->samples ? samples_done : lease->samples;
    if (samples_done > lease->samples_done) {
        rate_add(&core->activity.samples, core->now_ms, samples_done - lease->samples_done);
    }
    lease->samples_done = samples_done;
}

// ---------------------------------------------------------------- messages

static void on_beat(struct core *core, struct worker *worker, const Unlearn__WorkerBeat *beat)
{
    struct lease *const lease = worker->lease;
    if (lease != NULL && beat->lease == lease->number) {
        lease->members[worker->member].deadline_ms = core->now_ms + core->config.lease_ms;
        if (worker->member == 0) {
            lease_progress(core, lease, beat->samples_done);
        }
    } else if (lease == NULL && beat->lease == 0) {
        worker->stopping = false;
    }
}

// A worker that hears nothing for so long counts itself as gone.
static void answer_beat(struct core *core, struct worker *worker)
{
    enum { ANSWERS = 8 }; // In that time.
    if (core->now_ms - worker->alive_ms >= copies_silence_ms(core) / ANSWERS) {
        Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
        Unlearn__Alive alive = UNLEARN__ALIVE__INIT;
        message.body_case = UNLEARN__TO_WORKER__BODY_ALIVE;
        message.alive = &alive;
        worker->alive_ms = core->now_ms;
        (void)workers_send(core, &worker->peer, &message, span_of(NULL, 0)); // Or the next one.
    }
}

static void on_failed(struct core *core, struct worker *worker, const Unlearn__StageFailed *failed)
{
    struct lease *const lease = worker->lease;
    if (lease != NULL && failed->lease == lease->number) {
        lease_failed(core, lease, failed->retry, failed->reason);
    }
    worker->stopping = false;
}

static void unknown(struct core *core, const struct link_peer *peer)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Unknown body = UNLEARN__UNKNOWN__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_UNKNOWN;
    message.unknown = &body;
    workers_send(core, peer, &message, span_of(NULL, 0));
}

static void from_worker(struct core *core, struct worker *worker,
                        const Unlearn__FromWorker *message, struct span raw)
{
    struct lease *const lease = worker->lease;
    worker->last_ms = core->now_ms;
    switch ((int)message->body_case) {
    case UNLEARN__FROM_WORKER__BODY_BEAT:
        on_beat(core, worker, message->beat);
        answer_beat(core, worker);
        return;
    case UNLEARN__FROM_WORKER__BODY_HELD:
        copies_held(worker, message->held);
        return;
    case UNLEARN__FROM_WORKER__BODY_FORGOTTEN:
        copies_forgotten(worker, message->forgotten->number);
        return;
    case UNLEARN__FROM_WORKER__BODY_PULL:
        if (lease != NULL && lease->number == message->pull->lease) {
            stream_pull(core, lease, worker->member, message->pull);
        }
        return;
    case UNLEARN__FROM_WORKER__BODY_DONE:
        if (lease != NULL && lease->number == message->done->lease) {
            stream_done(core, lease, worker->member, message->done);
        } else {
            worker->stopping = false; // It was done before the cancel came.
        }
        return;
    case UNLEARN__FROM_WORKER__BODY_FAILED:
        on_failed(core, worker, message->failed);
        return;
    case UNLEARN__FROM_WORKER__BODY_WEIGHTS:
        if (lease != NULL && lease->number == message->weights->lease && worker->member == 0) {
            stream_weights(core, lease, message->weights, raw);
        }
        return;
    case UNLEARN__FROM_WORKER__BODY_BYE:
        workers_drop(core, worker, false);
        return;
    default:
        return;
    }
}

// It hears why and ends; what it holds meanwhile it wipes on its own when it hears no more from us, for
// which requests that are to be erased wait, as after a restart.
static void turn_away(struct core *core, const struct link_peer *peer)
{
    struct fleetdom *const dom = core->fleetdom;
    struct worker *const worker = workers_find(core, peer);
    workers_refuse(core, peer, err_text());
    if (worker != NULL) {
        const int64_t quiet_ms = core->now_ms + copies_silence_ms(core);
        dom->quiet_until_ms = dom->quiet_until_ms > quiet_ms ? dom->quiet_until_ms : quiet_ms;
        workers_drop(core, worker, false);
    }
}

void leases_message(struct core *core, const struct link_message *message)
{
    const Unlearn__FromWorker *body = NULL;
    const struct principal_row *principal = NULL;
    if (access_enter_worker(core, message->key, &principal) != OK) {
        turn_away(core, &message->peer);
        return;
    }
    if (wire_get_from_worker(&core->fleetdom->arena, message->envelope, &body) != OK) {
        log_error("worker_message_refused", "reason=\"%s\"", err_text());
        return;
    }
    switch ((int)body->body_case) {
    case UNLEARN__FROM_WORKER__BODY_HELLO:
        workers_hello(core, &message->peer, principal, body->hello);
        return;
    case UNLEARN__FROM_WORKER__BODY_FLEET_HELLO:
        workers_fleet_hello(core, &message->peer, body->fleet_hello);
        return;
    case UNLEARN__FROM_WORKER__BODY_FLEET_BEAT:
        workers_fleet_beat(core, &message->peer, body->fleet_beat);
        return;
    default:
        break;
    }
    struct worker *const worker = workers_find(core, &message->peer);
    if (worker == NULL) {
        unknown(core, &message->peer);
    } else {
        from_worker(core, worker, body, message->raw);
    }
}
