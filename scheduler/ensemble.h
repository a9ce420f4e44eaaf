// scheduler/ensemble.h: what a model's components are now, and the decisions that follow from it.
//
// Pure state and pure rules: which components a deletion invalidates, which component of a shard
// answers, which stage may be trained next, what a deletion would cost. The coordinator feeds it with
// what the store committed; it does no I/O and sees no clock.
//
// The coordinator asks at each turn of its loop, so a decision takes a few steps and a change a few
// for each child of what it changes, whatever the size; a deletion looks at the components of its
// shard, once each.
//
// Lifetime  ensemble_init to ensemble_deinit. Threads  One at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/heap.h"
#include "scheduler/minset.h"
#include "scheduler/placement.h"
#include "scheduler/trie.h"

enum slot_state {
    SLOT_NEW,     // Never trained.
    SLOT_VALID,   // Its weights are what training without any deleted record gives.
    SLOT_INVALID, // Was valid and has seen a deleted record: waits for repair.
};

#define ENSEMBLE_NO_DUE INT64_MAX // Nobody waits for it.

struct slot { // One component: (shard, node of the trie).
    enum slot_state state;
    bool leased;   // Some rank trains it now.
    bool blocked;  // Its stage cannot succeed (the weights diverge): not leased until asked anew.
    bool held;     // A repair that waits for ensemble_release.
    bool outdated; // Valid, but under an older numeric profile: serves, nothing is trained on it.
    uint64_t instance; // Of its weights, when valid.
    uint64_t records;  // Of its list, now; 0: it is empty, trained for free, never served.
    // While it waits: when the first of the deletions that wait for it, or for what stands on it, is
    // due. Any unit in which earlier is less.
    int64_t due;
};

struct ensemble_totals {
    uint32_t valid, waiting, empty, training; // Components; their sum is ensemble_count.
    uint64_t samples_waiting;                 // Samples of the stages that are waiting or leased.
    uint32_t invalid;                         // Repairs among these, and
    uint64_t samples_invalid;                 // their samples.
    uint32_t held;                            // Repairs that wait for ensemble_release.
    uint64_t samples_all;                     // Samples of all stages: a training from scratch.
    uint32_t cells, cells_empty;
    uint32_t outdated; // Of the valid ones.
    uint32_t stuck;    // Of the waiting ones: the parent is outdated.
};

struct ensemble {
    struct placement placement;
    struct trie trie;
    uint32_t epochs;    // e0 of the spec.
    bool passes_each;   // e0 passes in every stage (trie_passes).
    struct slot *slots; // [shards * trie.count], shard-major. Owned.
    uint64_t *records;  // [shards * trie.slice_count] records now in each cell. Owned.
    int64_t *dues;      // [shards * trie.slice_count] Of deletions in each cell that wait. Owned.
    // What follows from the above, kept true by every change; ensemble.c says how.
    struct ensemble_totals totals;
    struct ensemble_order *order;
    struct heap repairs, firsts; // Stages that are ready.
    struct heap held;            // And those that would be, were they not held back.
    bool holds;
    struct minset serving;
};

// orders[sequences][slices]: scheduler/sequence.h; copied.
void ensemble_init(struct ensemble *ensemble, const struct placement *placement,
                   uint32_t generations, uint32_t sequences, const uint16_t *orders,
                   bool passes_each, uint32_t epochs);
void ensemble_deinit(struct ensemble *ensemble);
// Extends to more generations: the old components keep their state, new cells are empty.
void ensemble_extend(struct ensemble *ensemble, uint32_t generations);

const struct slot *ensemble_slot(const struct ensemble *ensemble, uint32_t shard, uint32_t node);
uint64_t ensemble_cell(const struct ensemble *ensemble, struct cell cell); // Its records.
uint32_t ensemble_count(const struct ensemble *ensemble);                  // Components.

// --- Changes ---

// cells: records of each cell, laid out as ensemble.records. States stay as they are.
void ensemble_set_cells(struct ensemble *ensemble, const uint64_t *cells);
void ensemble_set_valid(struct ensemble *ensemble, uint32_t shard, uint32_t node, uint64_t instance,
                        bool outdated);
void ensemble_set_invalid(struct ensemble *ensemble, uint32_t shard, uint32_t node);
void ensemble_set_leased(struct ensemble *ensemble, uint32_t shard, uint32_t node, bool leased);
void ensemble_set_blocked(struct ensemble *ensemble, uint32_t shard, uint32_t node, bool blocked);

// `gone` records, at least 1, have gone from it. The lineage rule: marks invalid every valid
// component of the cell's shard whose list contains its slice, and returns how many. No component
// that contains it stays blocked: with other records the stage may succeed. Whatever of them was
// trained before is due at `due`, unless it is sooner, and so is all that has to be trained before it.
// A deletion waits until all of them are valid at one moment. So what is hit again meanwhile by another
// one, which may have more time, is due with the first one.
uint32_t ensemble_lose(struct ensemble *ensemble, struct cell cell, uint64_t gone, int64_t due);
// The opposite: `back` records, at least 1, are there again. By the same rule, since what was trained
// meanwhile has not seen them.
uint32_t ensemble_gain(struct ensemble *ensemble, struct cell cell, uint64_t back, int64_t due);
// As the rule says of one component that is invalid: somebody waits for it until `due`. Nothing if it is not.
void ensemble_await(struct ensemble *ensemble, uint32_t shard, uint32_t node, int64_t due);

// Whether repairs are held back that deletions make necessary from now on. What waits already is not, and
// stays so: it will be trained once for all deletions that come until then.
void ensemble_hold(struct ensemble *ensemble, bool hold);
// What is held back now waits like all else. Looks at every component, if there is any.
void ensemble_release(struct ensemble *ensemble);

// --- Decisions: from what is there, whatever led to it ---

uint64_t ensemble_records(const struct ensemble *ensemble, uint32_t shard, uint32_t node);
bool ensemble_is_empty(const struct ensemble *ensemble, uint32_t shard, uint32_t node);
// Samples of the component's own stage: records times passes.
uint64_t ensemble_samples(const struct ensemble *ensemble, uint32_t shard, uint32_t node);

// The component that answers for a shard: valid and not empty, the longest list, then the lowest
// sequence. -1: none, the shard drops out.
int32_t ensemble_serving(const struct ensemble *ensemble, uint32_t shard);
uint32_t ensemble_shards_used(const struct ensemble *ensemble);

// True when the component is waiting (new or invalid, not empty) and not held back, nobody trains it and its parent is
// valid and not outdated, empty or none: its stage may be leased.
bool ensemble_is_ready(const struct ensemble *ensemble, uint32_t shard, uint32_t node);

// True when the component is waiting and the first valid one on the way up to its first stage is
// outdated: nothing will train it until the model is trained anew.
bool ensemble_is_stuck(const struct ensemble *ensemble, uint32_t shard, uint32_t node);

// The stage to lease next, of those that repair or of those that train for the first time: what is
// due first, then the shorter list (it unlocks more), then the lower shard, then the lower node. False:
// none is ready.
bool ensemble_next(const struct ensemble *ensemble, bool repair, uint32_t *shard_out,
                   uint32_t *node_out, int64_t *due_out);

// When the first of the stages is due that could be leased, were they not held back. False: there is none.
bool ensemble_next_held(const struct ensemble *ensemble, int64_t *due_out);

// How many stages of that kind may be leased now.
uint32_t ensemble_count_ready(const struct ensemble *ensemble, bool repair);

struct ensemble_totals ensemble_sum(const struct ensemble *ensemble);

// What deleting `lost[cell]` records from each cell would cost, given at once, as things stand now.
// lost is laid out as ensemble.records.
struct ensemble_cost {
    uint32_t components;                   // Valid now, invalid then.
    uint64_t samples;                      // Of their stages afterwards: the theoretical minimum.
    uint64_t samples_from_scratch;         // Of all stages afterwards.
    uint64_t samples_chain;                // Of those above that must follow each other, at most.
    uint64_t samples_of[LIMIT_SLICES + 1]; // Of those above, by the length of the list.
};
struct ensemble_cost ensemble_plan(const struct ensemble *ensemble, const uint64_t *lost);
