// scheduler/ensemble.c: see ensemble.h.
//
// Each component contributes to the totals, to the set of stages that are ready and to the set of
// those that can serve, and what it contributes depends on its slot and its parent's alone. So a
// change takes out what the component and its children contribute, makes itself felt, and puts back
// what they contribute now. The sets hold places in the orders by which the decisions are made,
// so that a decision is a least member:
//
//   ready    repairs and first trainings apart; of each by due date, length of the list, shard, node
//   serving  shard after shard; in each the longest list first, then the lowest node: nodes of one
//            depth are numbered by sequence
#include "scheduler/ensemble.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

struct ensemble_order {
    uint32_t start[LIMIT_SLICES + 2]; // Of each depth: nodes that are less deep.
    uint32_t *within;                 // [nodes] Of a node: lower ones of the same depth.
    uint32_t *by_depth;               // [nodes] By depth, then node.
    uint32_t *by_serving;             // [nodes] The deepest first, then by node.
};

static struct ensemble_order *order_new(const struct trie *trie)
{
    struct ensemble_order *const order = mem_alloc(1, sizeof *order);
    order->within = mem_alloc(trie->count, sizeof *order->within);
    order->by_depth = mem_alloc(trie->count, sizeof *order->by_depth);
    order->by_serving = mem_alloc(trie->count, sizeof *order->by_serving);
    uint32_t count[LIMIT_SLICES + 1] = {0};
    for (uint32_t node = 0; node < trie->count; node++) {
        order->within[node] = count[trie->nodes[node].depth]++;
    }
    for (uint32_t depth = 1; depth <= LIMIT_SLICES; depth++) {
        order->start[depth + 1] = order->start[depth] + count[depth];
    }
    for (uint32_t node = 0; node < trie->count; node++) {
        const uint32_t depth = trie->nodes[node].depth;
        order->by_depth[order->start[depth] + order->within[node]] = node;
        order->by_serving[trie->count - order->start[depth + 1] + order->within[node]] = node;
    }
    return order;
}

static void order_free(struct ensemble_order *order)
{
    if (order != NULL) {
        mem_free(order->within);
        mem_free(order->by_depth);
        mem_free(order->by_serving);
        mem_free(order);
    }
}

// ---------------------------------------------------------------- places

static uint32_t ready_place(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const struct ensemble_order *const order = ensemble->order;
    const uint32_t depth = ensemble->trie.nodes[node].depth;
    const uint32_t wide = order->start[depth + 1] - order->start[depth];
    return ensemble->placement.shards * order->start[depth] + shard * wide + order->within[node];
}

// What stands at a place of `ready`.
static void ready_at(const struct ensemble *ensemble, uint32_t at, uint32_t *shard_out,
                     uint32_t *node_out)
{
    const struct ensemble_order *const order = ensemble->order;
    const uint32_t shards = ensemble->placement.shards;
    uint32_t depth = 1, deeper = LIMIT_SLICES + 1;
    while (deeper - depth > 1) {
        const uint32_t middle = (depth + deeper) / 2;
        *(at < shards * order->start[middle] ? &deeper : &depth) = middle;
    }
    const uint32_t wide = order->start[depth + 1] - order->start[depth];
    const uint32_t rest = at - shards * order->start[depth];
    *shard_out = rest / wide;
    *node_out = order->by_depth[order->start[depth] + rest % wide];
}

static uint32_t serving_place(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const struct ensemble_order *const order = ensemble->order;
    const uint32_t deeper = order->start[ensemble->trie.nodes[node].depth + 1];
    const uint32_t nodes = ensemble->trie.count;
    return shard * nodes + (nodes - deeper) + order->within[node];
}

// ---------------------------------------------------------------- what a component contributes

static bool is_empty(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return ensemble_slot(ensemble, shard, node)->records == 0;
}

// The parent of a node is valid, but nothing may be trained on it.
static bool stands_on_outdated(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const int32_t parent = ensemble->trie.nodes[node].parent;
    return parent >= 0 && ensemble_slot(ensemble, shard, (uint32_t)parent)->outdated &&
           !is_empty(ensemble, shard, (uint32_t)parent);
}

static bool is_trainable(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const struct slot *const slot = ensemble_slot(ensemble, shard, node);
    if (slot->state == SLOT_VALID || slot->leased || slot->blocked ||
        is_empty(ensemble, shard, node) || stands_on_outdated(ensemble, shard, node)) {
        return false;
    }
    const int32_t parent = ensemble->trie.nodes[node].parent;
    return parent < 0 || ensemble_slot(ensemble, shard, (uint32_t)parent)->state == SLOT_VALID ||
           is_empty(ensemble, shard, (uint32_t)parent);
}

bool ensemble_is_ready(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return is_trainable(ensemble, shard, node) && !ensemble_slot(ensemble, shard, node)->held;
}

static void count(uint32_t *total, bool add)
{
    *total = add ? *total + 1 : *total - 1;
}

static void sum(uint64_t *total, uint64_t samples, bool add)
{
    *total = add ? *total + samples : *total - samples;
}

static void place(struct minset *set, uint32_t at, bool add)
{
    if (add) {
        minset_add(set, at);
    } else {
        minset_remove(set, at);
    }
}

// Puts in (add), or takes out again, all that a component contributes.
static void contribute(struct ensemble *ensemble, uint32_t shard, uint32_t node, bool add)
{
    struct ensemble_totals *const totals = &ensemble->totals;
    const struct slot *const slot = ensemble_slot(ensemble, shard, node);
    const uint64_t samples = ensemble_samples(ensemble, shard, node);
    sum(&totals->samples_all, samples, add);
    if (slot->records == 0) {
        count(&totals->empty, add);
        return;
    }
    if (slot->state == SLOT_VALID) {
        count(&totals->valid, add);
        place(&ensemble->serving, serving_place(ensemble, shard, node), add);
        if (slot->outdated) {
            count(&totals->outdated, add);
        }
        return;
    }
    sum(&totals->samples_waiting, samples, add);
    if (slot->state == SLOT_INVALID) {
        sum(&totals->samples_invalid, samples, add);
        count(&totals->invalid, add);
    }
    if (slot->held) {
        count(&totals->held, add);
    }
    count(slot->leased ? &totals->training : &totals->waiting, add);
    if (!slot->leased && stands_on_outdated(ensemble, shard, node)) {
        count(&totals->stuck, add);
    }
    if (is_trainable(ensemble, shard, node)) {
        const bool repair = slot->state == SLOT_INVALID;
        struct heap *const ready = slot->held ? &ensemble->held
                                   : repair   ? &ensemble->repairs
                                              : &ensemble->firsts;
        const uint32_t at = ready_place(ensemble, shard, node);
        if (add) {
            heap_add(ready, at, slot->due);
        } else {
            heap_remove(ready, at);
        }
    }
}

// A node and its children: on nobody else has its slot an effect.
static void contribute_around(struct ensemble *ensemble, uint32_t shard, uint32_t node, bool add)
{
    contribute(ensemble, shard, node, add);
    for (int32_t child = ensemble->trie.nodes[node].child; child >= 0;
         child = ensemble->trie.nodes[child].sibling) {
        contribute(ensemble, shard, (uint32_t)child, add);
    }
}

static void contribute_shard(struct ensemble *ensemble, uint32_t shard, bool add)
{
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        contribute(ensemble, shard, node, add);
    }
}

static struct slot *slot_at(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    CHECK(shard < ensemble->placement.shards && node < ensemble->trie.count);
    return &ensemble->slots[(size_t)shard * ensemble->trie.count + node];
}

static void replace(struct ensemble *ensemble, uint32_t shard, uint32_t node, struct slot slot)
{
    contribute_around(ensemble, shard, node, false);
    *slot_at(ensemble, shard, node) = slot;
    contribute_around(ensemble, shard, node, true);
}

// ---------------------------------------------------------------- beginning and end

static void take_cells(struct ensemble *ensemble, const uint64_t *cells)
{
    const struct trie *const trie = &ensemble->trie;
    const uint32_t slices = trie->slice_count;
    ensemble->totals.cells = ensemble->placement.shards * slices;
    ensemble->totals.cells_empty = 0;
    for (uint32_t i = 0; i < ensemble->totals.cells; i++) {
        ensemble->records[i] = cells == NULL ? 0 : cells[i];
        ensemble->totals.cells_empty += ensemble->records[i] == 0;
    }
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < trie->count; node++) { // Parents come before children.
            const int32_t parent = trie->nodes[node].parent;
            slot_at(ensemble, shard, node)->records =
                ensemble->records[(size_t)shard * slices + trie->nodes[node].slice] +
                (parent < 0 ? 0 : slot_at(ensemble, shard, (uint32_t)parent)->records);
        }
    }
}

void ensemble_init(struct ensemble *ensemble, const struct placement *placement,
                   uint32_t generations, uint32_t sequences, const uint16_t *orders,
                   bool passes_each, uint32_t epochs)
{
    *ensemble =
        (struct ensemble){.placement = *placement, .epochs = epochs, .passes_each = passes_each};
    trie_init(&ensemble->trie, placement->slices, placement_slice_count(placement, generations),
              sequences, orders);
    const uint32_t components = ensemble_count(ensemble);
    ensemble->slots = mem_alloc(components, sizeof *ensemble->slots);
    ensemble->records = mem_alloc((size_t)placement->shards * ensemble->trie.slice_count,
                                  sizeof *ensemble->records);
    ensemble->dues =
        mem_alloc((size_t)placement->shards * ensemble->trie.slice_count, sizeof *ensemble->dues);
    ensemble->order = order_new(&ensemble->trie);
    heap_init(&ensemble->repairs, components);
    heap_init(&ensemble->firsts, components);
    heap_init(&ensemble->held, components);
    minset_init(&ensemble->serving, components);
    for (uint32_t i = 0; i < components; i++) {
        ensemble->slots[i].due = ENSEMBLE_NO_DUE;
    }
    take_cells(ensemble, NULL);
    for (uint32_t i = 0; i < ensemble->totals.cells; i++) {
        ensemble->dues[i] = ENSEMBLE_NO_DUE;
    }
    ensemble->totals.empty = components;
}

void ensemble_deinit(struct ensemble *ensemble)
{
    trie_deinit(&ensemble->trie);
    mem_free(ensemble->slots);
    mem_free(ensemble->records);
    mem_free(ensemble->dues);
    order_free(ensemble->order);
    heap_deinit(&ensemble->repairs);
    heap_deinit(&ensemble->firsts);
    heap_deinit(&ensemble->held);
    minset_deinit(&ensemble->serving);
    *ensemble = (struct ensemble){0};
}

// Carries the slots of one shard over to where the same lists are in `longer`.
static void carry_slots(const struct ensemble *ensemble, struct ensemble *longer,
                        const uint32_t *nodes, uint32_t shard)
{
    contribute_shard(longer, shard, false);
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        struct slot *const to = slot_at(longer, shard, nodes[node]);
        const uint64_t records = to->records;
        *to = *slot_at(ensemble, shard, node);
        to->records = records;
    }
    contribute_shard(longer, shard, true);
}

void ensemble_extend(struct ensemble *ensemble, uint32_t generations)
{
    struct ensemble longer;
    ensemble_init(&longer, &ensemble->placement, generations, ensemble->trie.sequences,
                  ensemble->trie.orders, ensemble->passes_each, ensemble->epochs);
    uint32_t *const nodes = mem_alloc(ensemble->trie.count, sizeof *nodes);
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        struct component name;
        trie_name(&ensemble->trie, 0, node, &name);
        const int32_t at = trie_find(&longer.trie, &name);
        CHECK(at >= 0); // Appended slices stand at the end: every old list is a prefix.
        nodes[node] = (uint32_t)at;
    }
    const uint32_t slices = ensemble->trie.slice_count, more = longer.trie.slice_count;
    uint64_t *const cells = mem_alloc((size_t)ensemble->placement.shards * more, sizeof *cells);
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        memcpy(cells + (size_t)shard * more, ensemble->records + (size_t)shard * slices,
               slices * sizeof *cells);
        memcpy(longer.dues + (size_t)shard * more, ensemble->dues + (size_t)shard * slices,
               slices * sizeof *longer.dues);
    }
    ensemble_set_cells(&longer, cells);
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        carry_slots(ensemble, &longer, nodes, shard);
    }
    mem_free(cells);
    mem_free(nodes);
    longer.holds = ensemble->holds;
    ensemble_deinit(ensemble);
    *ensemble = longer;
}

// ---------------------------------------------------------------- what is there

const struct slot *ensemble_slot(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return slot_at(ensemble, shard, node);
}

uint64_t ensemble_cell(const struct ensemble *ensemble, struct cell cell)
{
    CHECK(cell.shard < ensemble->placement.shards && cell.slice < ensemble->trie.slice_count);
    return ensemble->records[(size_t)cell.shard * ensemble->trie.slice_count + cell.slice];
}

uint32_t ensemble_count(const struct ensemble *ensemble)
{
    return ensemble->placement.shards * ensemble->trie.count;
}

static uint64_t passes_of(const struct ensemble *ensemble, uint32_t node)
{
    return trie_passes(ensemble->passes_each, ensemble->epochs, ensemble->trie.slices,
                       ensemble->trie.nodes[node].depth);
}

uint64_t ensemble_records(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return slot_at(ensemble, shard, node)->records;
}

bool ensemble_is_empty(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return is_empty(ensemble, shard, node);
}

uint64_t ensemble_samples(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    return ensemble_records(ensemble, shard, node) * passes_of(ensemble, node);
}

// ---------------------------------------------------------------- changes

void ensemble_set_cells(struct ensemble *ensemble, const uint64_t *cells)
{
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        contribute_shard(ensemble, shard, false);
    }
    take_cells(ensemble, cells);
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        contribute_shard(ensemble, shard, true);
    }
}

void ensemble_set_valid(struct ensemble *ensemble, uint32_t shard, uint32_t node, uint64_t instance,
                        bool outdated)
{
    struct slot slot = *slot_at(ensemble, shard, node);
    slot.state = SLOT_VALID;
    slot.held = false;
    slot.instance = instance;
    slot.outdated = outdated;
    slot.due = ENSEMBLE_NO_DUE;
    replace(ensemble, shard, node, slot);
}

static struct slot invalid(struct slot slot)
{
    slot.state = SLOT_INVALID;
    slot.instance = 0;
    slot.outdated = false;
    return slot;
}

void ensemble_set_invalid(struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    replace(ensemble, shard, node, invalid(*slot_at(ensemble, shard, node)));
}

void ensemble_set_leased(struct ensemble *ensemble, uint32_t shard, uint32_t node, bool leased)
{
    struct slot slot = *slot_at(ensemble, shard, node);
    slot.leased = leased;
    replace(ensemble, shard, node, slot);
}

void ensemble_set_blocked(struct ensemble *ensemble, uint32_t shard, uint32_t node, bool blocked)
{
    struct slot slot = *slot_at(ensemble, shard, node);
    slot.blocked = blocked;
    replace(ensemble, shard, node, slot);
}

// The parent of a stage that waits and has to be trained first; -1: none.
static int32_t waiting_parent(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const int32_t parent = ensemble->trie.nodes[node].parent;
    return parent >= 0 && ensemble_slot(ensemble, shard, (uint32_t)parent)->state != SLOT_VALID &&
                   !is_empty(ensemble, shard, (uint32_t)parent)
               ? parent
               : -1;
}

// Of the cell that the node's last slice is.
static int64_t *due_at(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const struct trie *const trie = &ensemble->trie;
    return &ensemble->dues[(size_t)shard * trie->slice_count + trie->nodes[node].slice];
}

void ensemble_await(struct ensemble *ensemble, uint32_t shard, uint32_t node, int64_t due)
{
    if (ensemble_slot(ensemble, shard, node)->state != SLOT_INVALID) {
        return;
    }
    for (int32_t at = (int32_t)node; at >= 0; at = ensemble->trie.nodes[at].parent) {
        int64_t *const cell = due_at(ensemble, shard, (uint32_t)at); // Whichever it was.
        *cell = due < *cell ? due : *cell;
    }
    for (int32_t at = (int32_t)node; at >= 0; at = waiting_parent(ensemble, shard, (uint32_t)at)) {
        struct slot slot = *slot_at(ensemble, shard, (uint32_t)at);
        if (due < slot.due) {
            slot.due = due;
            replace(ensemble, shard, (uint32_t)at, slot);
        }
    }
}

// What a stage has to wait for is due when that stage is.
static void hand_up_due(struct ensemble *ensemble, uint32_t shard)
{
    for (uint32_t node = ensemble->trie.count; node-- > 0;) { // Children come after parents.
        const int32_t parent = waiting_parent(ensemble, shard, node);
        const struct slot *const slot = slot_at(ensemble, shard, node);
        if (parent >= 0 && slot->state != SLOT_VALID) {
            struct slot *const above = slot_at(ensemble, shard, (uint32_t)parent);
            above->due = slot->due < above->due ? slot->due : above->due;
        }
    }
}

// Nobody waits for a cell any more whose slice is in no list that waits for repair.
static void forget_dues(struct ensemble *ensemble, uint32_t shard)
{
    const struct trie *const trie = &ensemble->trie;
    bool waits[LIMIT_SLICES] = {false};
    bool *const below =
        mem_alloc(trie->count, sizeof *below); // The node, or one that stands on it.
    for (uint32_t node = trie->count; node-- > 0;) {
        const struct slot *const slot = slot_at(ensemble, shard, node);
        const int32_t parent = trie->nodes[node].parent;
        below[node] = below[node] || (slot->state == SLOT_INVALID && slot->records > 0);
        if (below[node]) {
            waits[trie->nodes[node].slice] = true;
        }
        if (below[node] && parent >= 0) {
            below[parent] = true;
        }
    }
    for (uint32_t slice = 0; slice < trie->slice_count; slice++) {
        if (!waits[slice]) {
            ensemble->dues[(size_t)shard * trie->slice_count + slice] = ENSEMBLE_NO_DUE;
        }
    }
    mem_free(below);
}

// What follows from a cell that has other records than before: `less` or more of them by `count`.
static uint32_t change_cell(struct ensemble *ensemble, struct cell cell, uint64_t count, bool less,
                            int64_t due)
{
    const struct trie *const trie = &ensemble->trie;
    uint32_t hit = 0;
    bool *const contains = mem_alloc(trie->count, sizeof *contains);
    int64_t *const dues = mem_alloc(trie->count, sizeof *dues); // Of all that wait for the list.
    forget_dues(ensemble, cell.shard);
    int64_t *const first = &ensemble->dues[(size_t)cell.shard * trie->slice_count + cell.slice];
    *first = due < *first ? due : *first;
    uint64_t *const there = &ensemble->records[(size_t)cell.shard * trie->slice_count + cell.slice];
    ensemble->totals.cells_empty -= *there == 0;
    *there = less ? *there - count : *there + count;
    ensemble->totals.cells_empty += *there == 0;
    contribute_shard(ensemble, cell.shard, false);
    for (uint32_t node = 0; node < trie->count; node++) {
        const int32_t parent = trie->nodes[node].parent;
        contains[node] = trie->nodes[node].slice == cell.slice || (parent >= 0 && contains[parent]);
        dues[node] = *due_at(ensemble, cell.shard, node);
        if (parent >= 0 && dues[parent] < dues[node]) {
            dues[node] = dues[parent];
        }
        if (contains[node]) {
            struct slot *const slot = slot_at(ensemble, cell.shard, node);
            if (slot->state == SLOT_VALID) {
                *slot = invalid(*slot);
                slot->held = ensemble->holds;
                hit++;
            }
            if (slot->state == SLOT_INVALID && dues[node] < slot->due) {
                slot->due = dues[node];
            }
            slot->blocked = false;
            slot->records = less ? slot->records - count : slot->records + count;
        }
    }
    hand_up_due(ensemble, cell.shard);
    contribute_shard(ensemble, cell.shard, true);
    mem_free(contains);
    mem_free(dues);
    return hit;
}

uint32_t ensemble_lose(struct ensemble *ensemble, struct cell cell, uint64_t gone, int64_t due)
{
    CHECK(gone > 0 && ensemble_cell(ensemble, cell) >= gone);
    return change_cell(ensemble, cell, gone, true, due);
}

uint32_t ensemble_gain(struct ensemble *ensemble, struct cell cell, uint64_t back, int64_t due)
{
    CHECK(back > 0);
    return change_cell(ensemble, cell, back, false, due);
}

void ensemble_hold(struct ensemble *ensemble, bool hold)
{
    ensemble->holds = hold;
}

void ensemble_release(struct ensemble *ensemble)
{
    for (uint32_t shard = 0; shard < ensemble->placement.shards && ensemble->totals.held > 0;
         shard++) {
        for (uint32_t node = 0; node < ensemble->trie.count; node++) {
            struct slot slot = *slot_at(ensemble, shard, node);
            if (slot.held) {
                slot.held = false;
                replace(ensemble, shard, node, slot);
            }
        }
    }
}

// ---------------------------------------------------------------- decisions

int32_t ensemble_serving(const struct ensemble *ensemble, uint32_t shard)
{
    CHECK(shard < ensemble->placement.shards);
    const uint32_t nodes = ensemble->trie.count;
    const uint32_t first = minset_from(&ensemble->serving, shard * nodes);
    const bool none = first >= (shard + 1) * nodes;
    return none ? -1 : (int32_t)ensemble->order->by_serving[first - shard * nodes];
}

uint32_t ensemble_shards_used(const struct ensemble *ensemble)
{
    uint32_t used = 0;
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        used += ensemble_serving(ensemble, shard) >= 0;
    }
    return used;
}

bool ensemble_is_stuck(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    for (int32_t at = (int32_t)node; at >= 0; at = ensemble->trie.nodes[at].parent) {
        const struct slot *const slot = ensemble_slot(ensemble, shard, (uint32_t)at);
        if (slot->state == SLOT_VALID || is_empty(ensemble, shard, (uint32_t)at)) {
            return slot->state == SLOT_VALID && slot->outdated && at != (int32_t)node &&
                   !is_empty(ensemble, shard, (uint32_t)at);
        }
    }
    return false;
}

bool ensemble_next(const struct ensemble *ensemble, bool repair, uint32_t *shard_out,
                   uint32_t *node_out, int64_t *due_out)
{
    uint32_t at = 0;
    if (!heap_least(repair ? &ensemble->repairs : &ensemble->firsts, &at, due_out)) {
        return false;
    }
    ready_at(ensemble, at, shard_out, node_out);
    return true;
}

bool ensemble_next_held(const struct ensemble *ensemble, int64_t *due_out)
{
    uint32_t at = 0;
    return heap_least(&ensemble->held, &at, due_out);
}

uint32_t ensemble_count_ready(const struct ensemble *ensemble, bool repair)
{
    return (repair ? &ensemble->repairs : &ensemble->firsts)->count;
}

struct ensemble_totals ensemble_sum(const struct ensemble *ensemble)
{
    return ensemble->totals;
}

struct ensemble_cost ensemble_plan(const struct ensemble *ensemble, const uint64_t *lost)
{
    const struct trie *const trie = &ensemble->trie;
    struct ensemble_cost cost = {0};
    uint64_t *const gone = mem_alloc(trie->count, sizeof *gone); // From each list.
    uint64_t *const chain = mem_alloc(trie->count, sizeof *chain);
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < trie->count; node++) {
            const int32_t parent = trie->nodes[node].parent;
            gone[node] = lost[(size_t)shard * trie->slice_count + trie->nodes[node].slice] +
                         (parent < 0 ? 0 : gone[parent]);
            const uint64_t left =
                (ensemble_records(ensemble, shard, node) - gone[node]) * passes_of(ensemble, node);
            cost.samples_from_scratch += left;
            if (gone[node] > 0 && ensemble_slot(ensemble, shard, node)->state == SLOT_VALID) {
                cost.components++;
                cost.samples += left;
                cost.samples_of[trie->nodes[node].depth] += left;
                chain[node] = left + (parent < 0 ? 0 : chain[parent]);
            } else {
                chain[node] = 0; // Its parents have lost nothing, or wait for others.
            }
            cost.samples_chain =
                chain[node] > cost.samples_chain ? chain[node] : cost.samples_chain;
        }
    }
    mem_free(chain);
    mem_free(gone);
    return cost;
}
