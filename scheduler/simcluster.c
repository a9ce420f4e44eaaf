// scheduler/simcluster.c: see simcluster.h.
//
// A deletion waits for the components of its shard that contain its slice. Those that wait for one cell
// are repaired together, so each cell has one queue and the number of components that keep it waiting.
#include "scheduler/simcluster.h"

#include "base/check.h"
#include "base/mem.h"
#include "scheduler/lend.h"

enum { NONE = UINT32_MAX };

struct lease { // Of the rank that leads; the others of its group hang on it.
    uint32_t shard, node, ranks;
    uint64_t samples;
    int64_t begin_us, end_us;
};

struct waiting { // A deletion, not repaired yet.
    int64_t fenced_us, due_us;
    uint32_t next; // In its queue, or among the unused.
};

struct queue {
    uint32_t first, last;
    uint32_t components; // That are neither valid nor empty and contain the cell's slice.
};

struct answer { // Of a shard.
    uint32_t slices;
    uint64_t records;
};

struct simcluster {
    struct ensemble ensemble;
    struct planner planner;
    struct planned model;
    uint32_t ranks, chunks;
    double us_per_sample;
    int64_t back_us, begin_us, now_us;
    int64_t
        release_us; // When repairs that are held back will be released; INT64_MAX: there are none.
    uint64_t instance;
    struct lease *leases; // [ranks]
    uint32_t *leader;     // [ranks] Of a busy rank; its own if it leads.
    uint32_t *next;       // [ranks] Of a busy rank: the next one of the group, or NONE.
    uint32_t *leased_by;  // [components] Of a leased one: its leader.
    struct minset idle;
    struct heap ends, backs; // Leaders by end; ranks that are down by return.
    struct queue *queues;    // [cells]
    struct waiting *waiting; // [waiting_count]
    uint32_t waiting_count, unused;
    struct answer *answers; // [shards], and their sums:
    uint64_t records, answered_records;
    uint32_t answered_slices, answered_shards;
    // Sums over time, in microseconds.
    double records_us, slices_us, shards_us;
    struct spread repairs;
    struct simcluster_result result; // As far as it is counted under way.
};

// ---------------------------------------------------------------- what answers

static void look_at_shard(struct simcluster *cluster, uint32_t shard)
{
    const struct ensemble *const ensemble = &cluster->ensemble;
    struct answer *const answer = &cluster->answers[shard];
    const int32_t node = ensemble_serving(ensemble, shard);
    cluster->answered_slices -= answer->slices;
    cluster->answered_records -= answer->records;
    cluster->answered_shards -= answer->slices > 0;
    *answer = (struct answer){0};
    if (node >= 0) {
        answer->slices = ensemble->trie.nodes[node].depth;
        answer->records = ensemble_records(ensemble, shard, (uint32_t)node);
    }
    cluster->answered_slices += answer->slices;
    cluster->answered_records += answer->records;
    cluster->answered_shards += answer->slices > 0;
}

static void pass_share(double share, double us, double *sum_us, double *least)
{
    *sum_us += share * us;
    *least = share < *least ? share : *least;
}

// Lets time pass in which nothing happens.
static void pass(struct simcluster *cluster, int64_t to_us)
{
    const int64_t us = to_us - cluster->now_us;
    CHECK(us >= 0);
    if (us == 0) {
        return;
    }
    const double shards = cluster->ensemble.placement.shards;
    const double slices = shards * cluster->ensemble.trie.slice_count;
    struct simcluster_result *const result = &cluster->result;
    pass_share(cluster->records == 0 ? 0
                                     : (double)cluster->answered_records / (double)cluster->records,
               (double)us, &cluster->records_us, &result->records.least);
    pass_share(cluster->answered_slices / slices, (double)us, &cluster->slices_us,
               &result->slices.least);
    pass_share(cluster->answered_shards / shards, (double)us, &cluster->shards_us,
               &result->shards.least);
    result->idle_us += us * cluster->idle.count;
    result->down_us += us * cluster->backs.count;
    cluster->now_us = to_us;
}

// ---------------------------------------------------------------- deletions that wait

static void wait_for(struct simcluster *cluster, struct queue *queue, int64_t due_us)
{
    uint32_t at = cluster->unused;
    if (at == NONE) {
        at = cluster->waiting_count;
        cluster->waiting_count = at == 0 ? 1024 : 2 * at;
        cluster->waiting =
            mem_resize(cluster->waiting, cluster->waiting_count, sizeof *cluster->waiting);
        for (uint32_t i = at; i < cluster->waiting_count; i++) {
            cluster->waiting[i].next = i + 1 < cluster->waiting_count ? i + 1 : NONE;
        }
    }
    cluster->unused = cluster->waiting[at].next;
    cluster->waiting[at] = (struct waiting){cluster->now_us, due_us, NONE};
    *(queue->first == NONE ? &queue->first : &cluster->waiting[queue->last].next) = at;
    queue->last = at;
}

static void repaired(struct simcluster *cluster, const struct waiting *deletion)
{
    struct simcluster_result *const result = &cluster->result;
    const int64_t took = cluster->now_us - deletion->fenced_us;
    const int64_t allowed = deletion->due_us - deletion->fenced_us;
    spread_add(&cluster->repairs, (uint64_t)took);
    result->repaired++;
    result->late += took > allowed;
    const double used = allowed > 0 ? (double)took / (double)allowed : 0;
    result->due_used = used > result->due_used ? used : result->due_used;
}

// If nothing keeps the cell waiting any more, all that wait for it are repaired.
static void settle(struct simcluster *cluster, struct queue *queue)
{
    while (queue->components == 0 && queue->first != NONE) {
        const uint32_t at = queue->first;
        repaired(cluster, &cluster->waiting[at]);
        queue->first = cluster->waiting[at].next;
        cluster->waiting[at].next = cluster->unused;
        cluster->unused = at;
    }
}

static struct queue *queues_of(const struct simcluster *cluster, uint32_t shard)
{
    return &cluster->queues[(size_t)shard * cluster->ensemble.trie.slice_count];
}

// Counts anew what keeps the cells of a shard waiting.
static void count_components(struct simcluster *cluster, uint32_t shard)
{
    const struct trie *const trie = &cluster->ensemble.trie;
    struct queue *const queues = queues_of(cluster, shard);
    for (uint32_t slice = 0; slice < trie->slice_count; slice++) {
        queues[slice].components = 0;
    }
    for (uint32_t node = 0; node < trie->count; node++) {
        const struct slot *const slot = ensemble_slot(&cluster->ensemble, shard, node);
        if (slot->state == SLOT_VALID || slot->records == 0) {
            continue;
        }
        for (int32_t at = (int32_t)node; at >= 0; at = trie->nodes[at].parent) {
            queues[trie->nodes[at].slice].components++;
        }
    }
    for (uint32_t slice = 0; slice < trie->slice_count; slice++) {
        settle(cluster, &queues[slice]);
    }
}

// ---------------------------------------------------------------- leases

static uint32_t *leased_by(const struct simcluster *cluster, uint32_t shard, uint32_t node)
{
    return &cluster->leased_by[(size_t)shard * cluster->ensemble.trie.count + node];
}

// The ranks of the group are idle again. Returns their time.
static int64_t end_lease(struct simcluster *cluster, uint32_t leader)
{
    const struct lease *const lease = &cluster->leases[leader];
    heap_remove(&cluster->ends, leader);
    for (uint32_t rank = leader; rank != NONE; rank = cluster->next[rank]) {
        minset_add(&cluster->idle, rank);
    }
    ensemble_set_leased(&cluster->ensemble, lease->shard, lease->node, false);
    return (cluster->now_us - lease->begin_us) * lease->ranks;
}

static void add_work(struct simwork *work, uint64_t samples, int64_t rank_us)
{
    work->stages++;
    work->samples += samples;
    work->rank_us += rank_us;
}

// Samples that the stage has trained until now.
static uint64_t samples_done(const struct simcluster *cluster, const struct lease *lease)
{
    return (uint64_t)((double)lease->samples * (double)(cluster->now_us - lease->begin_us) /
                      (double)(lease->end_us - lease->begin_us));
}

static void stage_trained(struct simcluster *cluster, uint32_t leader)
{
    const struct lease lease = cluster->leases[leader];
    const struct trie *const trie = &cluster->ensemble.trie;
    struct queue *const queues = queues_of(cluster, lease.shard);
    const int64_t rank_us = end_lease(cluster, leader);
    add_work(&cluster->result.trained, lease.samples, rank_us);
    ensemble_set_valid(&cluster->ensemble, lease.shard, lease.node, ++cluster->instance, false);
    planned_trained(&cluster->model, lease.shard, trie->nodes[lease.node].depth, lease.samples,
                    (double)rank_us / 1e6);
    for (int32_t at = (int32_t)lease.node; at >= 0; at = trie->nodes[at].parent) {
        struct queue *const queue = &queues[trie->nodes[at].slice];
        CHECK(queue->components > 0);
        queue->components--;
        settle(cluster, queue);
    }
    look_at_shard(cluster, lease.shard);
}

static bool contains(const struct trie *trie, uint32_t node, uint32_t slice)
{
    for (int32_t at = (int32_t)node; at >= 0; at = trie->nodes[at].parent) {
        if (trie->nodes[at].slice == slice) {
            return true;
        }
    }
    return false;
}

static void cancel_cell(struct simcluster *cluster, struct cell cell)
{
    const struct trie *const trie = &cluster->ensemble.trie;
    for (uint32_t node = 0; node < trie->count; node++) {
        if (!ensemble_slot(&cluster->ensemble, cell.shard, node)->leased ||
            !contains(trie, node, cell.slice)) {
            continue;
        }
        const uint32_t leader = *leased_by(cluster, cell.shard, node);
        const uint64_t samples = samples_done(cluster, &cluster->leases[leader]);
        add_work(&cluster->result.cancelled, samples, end_lease(cluster, leader));
        planned_cancelled(&cluster->model, cell.shard, samples, cluster->now_us);
        const uint32_t in_a_row = cluster->model.churn[cell.shard].cancelled;
        if (in_a_row > cluster->result.cancelled_in_a_row) {
            cluster->result.cancelled_in_a_row = in_a_row;
        }
    }
}

static void lease(struct simcluster *cluster, const struct grant *grant, uint32_t ranks)
{
    const uint32_t leader = minset_from(&cluster->idle, 0);
    for (uint32_t i = 0; i < ranks; i++) {
        const uint32_t rank = minset_from(&cluster->idle, 0);
        minset_remove(&cluster->idle, rank);
        cluster->leader[rank] = leader;
        cluster->next[rank] = i + 1 < ranks ? minset_from(&cluster->idle, 0) : NONE;
    }
    const uint64_t samples = ensemble_samples(&cluster->ensemble, grant->shard, grant->node);
    const double us = (double)samples * cluster->us_per_sample / ranks;
    cluster->leases[leader] = (struct lease){
        .shard = grant->shard,
        .node = grant->node,
        .ranks = ranks,
        .samples = samples,
        .begin_us = cluster->now_us,
        .end_us = cluster->now_us + (us < 1 ? 1 : (int64_t)us),
    };
    *leased_by(cluster, grant->shard, grant->node) = leader;
    heap_add(&cluster->ends, leader, cluster->leases[leader].end_us);
    ensemble_set_leased(&cluster->ensemble, grant->shard, grant->node, true);
}

// The first moment at which what is held back now is released.
static int64_t find_release(const struct simcluster *cluster, uint32_t ranks)
{
    int64_t held = cluster->now_us, free = INT64_MAX;
    if (!planned_holds(&cluster->model, held, ranks) ||
        planned_holds(&cluster->model, free, ranks)) {
        return INT64_MAX; // The latter: nothing but more deletions.
    }
    while (free - held > 1) {
        const int64_t middle = held + (free - held) / 2;
        *(planned_holds(&cluster->model, middle, ranks) ? &held : &free) = middle;
    }
    return free;
}

static void assign(struct simcluster *cluster)
{
    const uint32_t ranks = cluster->ranks - cluster->backs.count;
    struct grant grant;
    while (cluster->idle.count > 0 &&
           planner_next(&cluster->planner, cluster->now_us, ranks, &grant)) {
        const uint32_t idle = cluster->idle.count;
        const uint32_t ready =
            cluster->chunks > 1 ? planner_count_ready(&cluster->planner, idle) : 1;
        planner_granted(&cluster->planner, &grant);
        lease(cluster, &grant, lend_ranks(idle, idle, ready, cluster->chunks));
    }
    cluster->release_us = cluster->idle.count == 0 ? INT64_MAX : find_release(cluster, ranks);
}

// ---------------------------------------------------------------- time

static void keep_first(const struct heap *heap, int64_t *first)
{
    uint32_t member = 0;
    int64_t key = 0;
    if (heap_least(heap, &member, &key) && key < *first) {
        *first = key;
    }
}

// All that is to happen at this moment by itself.
static void happen(struct simcluster *cluster)
{
    uint32_t rank = 0;
    int64_t at_us = 0;
    while (heap_least(&cluster->ends, &rank, &at_us) && at_us <= cluster->now_us) {
        stage_trained(cluster, rank);
    }
    while (heap_least(&cluster->backs, &rank, &at_us) && at_us <= cluster->now_us) {
        heap_remove(&cluster->backs, rank);
        minset_add(&cluster->idle, rank);
    }
}

void simcluster_advance(struct simcluster *cluster, int64_t to_us)
{
    CHECK(to_us >= cluster->now_us);
    for (;;) {
        assign(cluster);
        int64_t next = cluster->release_us;
        keep_first(&cluster->ends, &next);
        keep_first(&cluster->backs, &next);
        if (next > to_us) {
            break;
        }
        pass(cluster, next);
        happen(cluster);
    }
    pass(cluster, to_us);
}

// ---------------------------------------------------------------- events

void simcluster_delete(struct simcluster *cluster, struct cell cell, int64_t due_us)
{
    struct queue *const queue = &queues_of(cluster, cell.shard)[cell.slice];
    cancel_cell(cluster, cell);
    (void)ensemble_lose(&cluster->ensemble, cell, 1, planned_due(&cluster->model, due_us, false));
    cluster->result.deletions++;
    cluster->records--;
    wait_for(cluster, queue, due_us);
    count_components(cluster, cell.shard);
    look_at_shard(cluster, cell.shard);
    if (queue->components > 0) {
        planned_hit(&cluster->model, false);
    }
}

void simcluster_fail(struct simcluster *cluster, uint32_t rank)
{
    CHECK(rank < cluster->ranks && !heap_has(&cluster->backs, rank));
    cluster->result.failures++;
    if (!minset_has(&cluster->idle, rank)) {
        const uint32_t leader = cluster->leader[rank];
        const uint64_t samples = samples_done(cluster, &cluster->leases[leader]);
        add_work(&cluster->result.lost, samples, end_lease(cluster, leader));
    }
    minset_remove(&cluster->idle, rank);
    heap_add(&cluster->backs, rank, cluster->now_us + cluster->back_us);
}

// ---------------------------------------------------------------- beginning and end

void simcluster_open(const struct simcluster_setup *setup, struct simcluster **cluster_out)
{
    CHECK(setup->ranks > 0 && setup->chunks > 0 && setup->seconds_per_sample > 0 &&
          setup->back_us >= 0);
    struct simcluster *const cluster = mem_alloc(1, sizeof *cluster);
    *cluster_out = cluster;
    struct ensemble *const ensemble = &cluster->ensemble;
    ensemble_init(ensemble, &setup->placement, 1, setup->sequences, setup->orders,
                  setup->passes_each, setup->epochs);
    ensemble_set_cells(ensemble, setup->cells);
    planner_init(&cluster->planner);
    planned_init(&cluster->model, ensemble, 0);
    cluster->model.policy = setup->policy;
    cluster->model.cost.guess = setup->seconds_per_sample;
    planner_add(&cluster->planner, &cluster->model);
    cluster->ranks = setup->ranks;
    cluster->chunks = setup->chunks;
    cluster->us_per_sample = setup->seconds_per_sample * 1e6;
    cluster->back_us = setup->back_us;
    cluster->begin_us = cluster->now_us = setup->begin_us;
    cluster->leases = mem_alloc(setup->ranks, sizeof *cluster->leases);
    cluster->next = mem_alloc(setup->ranks, sizeof *cluster->next);
    cluster->leader = mem_alloc(setup->ranks, sizeof *cluster->leader);
    cluster->leased_by = mem_alloc(ensemble_count(ensemble), sizeof *cluster->leased_by);
    minset_init(&cluster->idle, setup->ranks);
    heap_init(&cluster->ends, setup->ranks);
    heap_init(&cluster->backs, setup->ranks);
    for (uint32_t rank = 0; rank < setup->ranks; rank++) {
        minset_add(&cluster->idle, rank);
    }
    const uint32_t cells = ensemble->placement.shards * ensemble->trie.slice_count;
    cluster->queues = mem_alloc(cells, sizeof *cluster->queues);
    for (uint32_t i = 0; i < cells; i++) {
        cluster->queues[i].first = NONE;
        cluster->records += setup->cells[i];
    }
    cluster->unused = NONE;
    cluster->answers = mem_alloc(ensemble->placement.shards, sizeof *cluster->answers);
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < ensemble->trie.count; node++) {
            if (!ensemble_is_empty(ensemble, shard, node)) {
                ensemble_set_valid(ensemble, shard, node, ++cluster->instance, false);
            }
        }
        look_at_shard(cluster, shard);
    }
    spread_init(&cluster->repairs);
    cluster->result.records.least = cluster->result.slices.least = cluster->result.shards.least = 1;
}

void simcluster_close(struct simcluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    planner_deinit(&cluster->planner);
    planned_deinit(&cluster->model);
    ensemble_deinit(&cluster->ensemble);
    mem_free(cluster->leases);
    mem_free(cluster->next);
    mem_free(cluster->leader);
    mem_free(cluster->leased_by);
    minset_deinit(&cluster->idle);
    heap_deinit(&cluster->ends);
    heap_deinit(&cluster->backs);
    mem_free(cluster->queues);
    mem_free(cluster->waiting);
    mem_free(cluster->answers);
    spread_deinit(&cluster->repairs);
    mem_free(cluster);
}

// ---------------------------------------------------------------- answers

enum simrank simcluster_rank(const struct simcluster *cluster, uint32_t rank)
{
    CHECK(rank < cluster->ranks);
    if (heap_has(&cluster->backs, rank)) {
        return SIMRANK_DOWN;
    }
    return minset_has(&cluster->idle, rank) ? SIMRANK_IDLE : SIMRANK_BUSY;
}

const struct ensemble *simcluster_ensemble(const struct simcluster *cluster)
{
    return &cluster->ensemble;
}

static void count_open(const struct simcluster *cluster, struct simcluster_result *result)
{
    const uint32_t cells = cluster->ensemble.placement.shards * cluster->ensemble.trie.slice_count;
    for (uint32_t i = 0; i < cells; i++) {
        for (uint32_t at = cluster->queues[i].first; at != NONE; at = cluster->waiting[at].next) {
            result->open++;
            result->open_late += cluster->waiting[at].due_us < cluster->now_us;
        }
    }
}

struct simcluster_result simcluster_result(const struct simcluster *cluster)
{
    struct simcluster_result result = cluster->result;
    const double us = (double)(cluster->now_us - cluster->begin_us);
    result.now_us = cluster->now_us;
    result.records.mean = us > 0 ? cluster->records_us / us : 0;
    result.slices.mean = us > 0 ? cluster->slices_us / us : 0;
    result.shards.mean = us > 0 ? cluster->shards_us / us : 0;
    for (uint32_t i = 0; i < cluster->ends.count; i++) {
        const struct lease *const lease = &cluster->leases[cluster->ends.members[i]];
        result.training_us += (cluster->now_us - lease->begin_us) * lease->ranks;
    }
    count_open(cluster, &result);
    result.repair_mean_us = spread_mean(&cluster->repairs);
    result.repair_median_us = spread_quantile(&cluster->repairs, 500);
    result.repair_p99_us = spread_quantile(&cluster->repairs, 990);
    result.repair_most_us = cluster->repairs.greatest;
    return result;
}
