// scheduler/ensemble.c: see ensemble.h.
#include "scheduler/ensemble.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static void allocate(struct ensemble *ensemble)
{
    const size_t shards = ensemble->placement.shards;
    ensemble->slots = mem_alloc(shards * ensemble->trie.count, sizeof *ensemble->slots);
    ensemble->records = mem_alloc(shards * ensemble->trie.slice_count, sizeof *ensemble->records);
}

void ensemble_init(struct ensemble *ensemble, const struct placement *placement,
                   uint32_t generations, uint32_t sequences, const uint16_t *orders,
                   bool passes_each, uint32_t epochs)
{
    *ensemble =
        (struct ensemble){.placement = *placement, .epochs = epochs, .passes_each = passes_each};
    trie_init(&ensemble->trie, placement->slices, placement_slice_count(placement, generations),
              sequences, orders);
    allocate(ensemble);
}

void ensemble_deinit(struct ensemble *ensemble)
{
    trie_deinit(&ensemble->trie);
    mem_free(ensemble->slots);
    mem_free(ensemble->records);
    *ensemble = (struct ensemble){0};
}

void ensemble_extend(struct ensemble *ensemble, uint32_t generations)
{
    struct ensemble longer;
    ensemble_init(&longer, &ensemble->placement, generations, ensemble->trie.sequences,
                  ensemble->trie.orders, ensemble->passes_each, ensemble->epochs);
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        struct component name;
        trie_name(&ensemble->trie, 0, node, &name);
        const int32_t at = trie_find(&longer.trie, &name);
        CHECK(at >= 0); // Appended slices stand at the end: every old list is a prefix.
        for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
            *ensemble_slot(&longer, shard, (uint32_t)at) = *ensemble_slot(ensemble, shard, node);
        }
    }
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t slice = 0; slice < ensemble->trie.slice_count; slice++) {
            const struct cell cell = {shard, slice};
            *ensemble_cell(&longer, cell) = *ensemble_cell(ensemble, cell);
        }
    }
    ensemble_deinit(ensemble);
    *ensemble = longer;
}

struct slot *ensemble_slot(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    CHECK(shard < ensemble->placement.shards && node < ensemble->trie.count);
    return &ensemble->slots[(size_t)shard * ensemble->trie.count + node];
}

uint64_t *ensemble_cell(const struct ensemble *ensemble, struct cell cell)
{
    CHECK(cell.shard < ensemble->placement.shards && cell.slice < ensemble->trie.slice_count);
    return &ensemble->records[(size_t)cell.shard * ensemble->trie.slice_count + cell.slice];
}

uint32_t ensemble_count(const struct ensemble *ensemble)
{
    return ensemble->placement.shards * ensemble->trie.count;
}

// Records of the node's list in a table of cells.
static uint64_t sum_list(const struct ensemble *ensemble, const uint64_t *cells, uint32_t shard,
                         uint32_t node)
{
    uint64_t sum = 0;
    for (int32_t at = (int32_t)node; at >= 0; at = ensemble->trie.nodes[at].parent) {
        sum += cells[(size_t)shard * ensemble->trie.slice_count + ensemble->trie.nodes[at].slice];
    }
    return sum;
}

static uint64_t passes_of(const struct ensemble *ensemble, uint32_t node)
{
    return trie_passes(ensemble->passes_each, ensemble->epochs, ensemble->trie.slices,
                       ensemble->trie.nodes[node].depth);
}

uint64_t ensemble_records(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return sum_list(ensemble, ensemble->records, shard, node);
}

bool ensemble_is_empty(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return ensemble_records(ensemble, shard, node) == 0;
}

uint64_t ensemble_samples(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return ensemble_records(ensemble, shard, node) * passes_of(ensemble, node);
}

uint32_t ensemble_invalidate(struct ensemble *ensemble, struct cell cell)
{
    uint32_t count = 0;
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        struct slot *const slot = ensemble_slot(ensemble, cell.shard, node);
        if (slot->state == SLOT_VALID && trie_contains(&ensemble->trie, node, cell.slice)) {
            slot->state = SLOT_INVALID;
            slot->instance = 0;
            slot->outdated = false;
            count++;
        }
    }
    return count;
}

int32_t ensemble_serving(const struct ensemble *ensemble, uint32_t shard)
{
    int32_t best = -1;
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        if (ensemble_slot(ensemble, shard, node)->state != SLOT_VALID ||
            ensemble_is_empty(ensemble, shard, node)) {
            continue;
        }
        const struct trie_node *const a = &ensemble->trie.nodes[node];
        const struct trie_node *const b = best < 0 ? NULL : &ensemble->trie.nodes[best];
        if (b == NULL || a->depth > b->depth ||
            (a->depth == b->depth && a->sequence < b->sequence)) {
            best = (int32_t)node;
        }
    }
    return best;
}

uint32_t ensemble_shards_used(const struct ensemble *ensemble)
{
    uint32_t used = 0;
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        used += ensemble_serving(ensemble, shard) >= 0;
    }
    return used;
}

// The parent of a node is valid, but nothing may be trained on it.
static bool stands_on_outdated(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const int32_t parent = ensemble->trie.nodes[node].parent;
    return parent >= 0 && ensemble_slot(ensemble, shard, (uint32_t)parent)->outdated &&
           !ensemble_is_empty(ensemble, shard, (uint32_t)parent);
}

bool ensemble_is_ready(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const struct slot *const slot = ensemble_slot(ensemble, shard, node);
    if (slot->state == SLOT_VALID || slot->leased || slot->blocked ||
        ensemble_is_empty(ensemble, shard, node) || stands_on_outdated(ensemble, shard, node)) {
        return false;
    }
    const int32_t parent = ensemble->trie.nodes[node].parent;
    return parent < 0 || ensemble_slot(ensemble, shard, (uint32_t)parent)->state == SLOT_VALID ||
           ensemble_is_empty(ensemble, shard, (uint32_t)parent);
}

bool ensemble_is_stuck(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    for (int32_t at = (int32_t)node; at >= 0; at = ensemble->trie.nodes[at].parent) {
        const struct slot *const slot = ensemble_slot(ensemble, shard, (uint32_t)at);
        if (slot->state == SLOT_VALID || ensemble_is_empty(ensemble, shard, (uint32_t)at)) {
            return slot->state == SLOT_VALID && slot->outdated && at != (int32_t)node &&
                   !ensemble_is_empty(ensemble, shard, (uint32_t)at);
        }
    }
    return false;
}

bool ensemble_next(const struct ensemble *ensemble, uint32_t *shard_out, uint32_t *node_out,
                   bool *repair_out)
{
    bool found = false;
    uint32_t best_rank = UINT32_MAX;
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < ensemble->trie.count; node++) {
            const bool repair = ensemble_slot(ensemble, shard, node)->state == SLOT_INVALID;
            const uint32_t rank =
                ensemble->trie.nodes[node].depth + (repair ? 0u : (uint32_t)LIMIT_SLICES);
            if (rank < best_rank && ensemble_is_ready(ensemble, shard, node)) {
                found = true;
                best_rank = rank;
                *shard_out = shard;
                *node_out = node;
                *repair_out = repair;
            }
        }
    }
    return found;
}

uint32_t ensemble_count_ready(const struct ensemble *ensemble, uint32_t most)
{
    uint32_t count = 0;
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < ensemble->trie.count && count < most; node++) {
            count += ensemble_is_ready(ensemble, shard, node);
        }
    }
    return count;
}

struct ensemble_totals ensemble_sum(const struct ensemble *ensemble)
{
    struct ensemble_totals totals = {0};
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < ensemble->trie.count; node++) {
            const struct slot *const slot = ensemble_slot(ensemble, shard, node);
            const uint64_t samples = ensemble_samples(ensemble, shard, node);
            totals.samples_all += samples;
            if (samples == 0) {
                totals.empty++;
            } else if (slot->state == SLOT_VALID) {
                totals.valid++;
                totals.outdated += slot->outdated;
            } else {
                totals.samples_waiting += samples;
                totals.training += slot->leased;
                totals.waiting += !slot->leased;
                totals.stuck += !slot->leased && stands_on_outdated(ensemble, shard, node);
            }
        }
        for (uint32_t slice = 0; slice < ensemble->trie.slice_count; slice++) {
            totals.cells++;
            totals.cells_empty += *ensemble_cell(ensemble, (struct cell){shard, slice}) == 0;
        }
    }
    return totals;
}

struct ensemble_cost ensemble_plan(const struct ensemble *ensemble, const uint64_t *lost)
{
    struct ensemble_cost cost = {0};
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < ensemble->trie.count; node++) {
            const uint64_t gone = sum_list(ensemble, lost, shard, node);
            const uint64_t left =
                (ensemble_records(ensemble, shard, node) - gone) * passes_of(ensemble, node);
            cost.samples_from_scratch += left;
            if (gone > 0 && ensemble_slot(ensemble, shard, node)->state == SLOT_VALID) {
                cost.components++;
                cost.samples += left;
            }
        }
    }
    return cost;
}
