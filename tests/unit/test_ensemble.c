// tests/unit/test_ensemble.c: the lineage rule, who serves, what is trained next, what it costs.
//
// Method: random ensembles (shards, slices, orders, appended slices, empty cells, states); every rule
// is worked out a second time from the names and slots of the components alone, by brute force: for
// single states, and after each step of random histories, where what a change forgot to keep true
// would show.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "scheduler/ensemble.h"
#include "tests/unit/draw.h"
#include "tests/unit/rotation.h"

enum { TRIALS = 400 };

static void name_of(const struct ensemble *ensemble, uint32_t i, struct component *name_out)
{
    trie_name(&ensemble->trie, i / ensemble->trie.count, i % ensemble->trie.count, name_out);
}

static const struct slot *slot_at(const struct ensemble *ensemble, uint32_t i)
{
    return ensemble_slot(ensemble, i / ensemble->trie.count, i % ensemble->trie.count);
}

static uint64_t records_of(const struct ensemble *ensemble, const struct component *name)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < name->count; i++) {
        sum += ensemble_cell(ensemble, (struct cell){name->shard, name->list[i]});
    }
    return sum;
}

// The index of the component's parent, or -1.
static int32_t parent_of(const struct ensemble *ensemble, uint32_t i)
{
    struct component parent, other;
    name_of(ensemble, i, &parent);
    parent.count--;
    for (uint32_t j = 0; j < ensemble_count(ensemble); j++) {
        name_of(ensemble, j, &other);
        if (component_equal(&other, &parent)) {
            return (int32_t)j;
        }
    }
    assert_int_equal(parent.count, 0);
    return -1;
}

static void random_cells(struct ensemble *ensemble, struct draw *draw)
{
    const uint32_t count = ensemble->placement.shards * ensemble->trie.slice_count;
    uint64_t *const cells = mem_alloc(count, sizeof *cells);
    for (uint32_t i = 0; i < count; i++) {
        cells[i] = draw_below(draw, 3) == 0 ? 0 : draw_below(draw, 50);
    }
    ensemble_set_cells(ensemble, cells);
    mem_free(cells);
}

// Everything new, in orders of any policy.
static void make_new(struct ensemble *ensemble, struct draw *draw)
{
    static const uint32_t most[] = {1, 1, 2, 6, 24};
    const uint32_t slices = 1 + draw_below(draw, 4);
    const struct placement placement =
        placement_uniform(1 + draw_below(draw, 4), slices, 1 + draw_below(draw, 2));
    const enum sequence_policy policy = (enum sequence_policy)draw_below(draw, 4);
    const struct rng_key key = {{draw_below(draw, 1000), 0}};
    uint16_t orders[24 * 4];
    const uint32_t sequences =
        sequence_make(policy, slices, 1 + draw_below(draw, most[slices]), NULL, key, orders);
    ensemble_init(ensemble, &placement, 1 + draw_below(draw, 3), sequences, orders,
                  draw_below(draw, 2) == 0, 1 + draw_below(draw, 20));
    random_cells(ensemble, draw);
}

static void make(struct ensemble *ensemble, struct draw *draw)
{
    make_new(ensemble, draw);
    for (uint32_t i = 0; i < ensemble_count(ensemble); i++) {
        const uint32_t shard = i / ensemble->trie.count, node = i % ensemble->trie.count;
        const enum slot_state state = (enum slot_state)draw_below(draw, 3);
        if (state == SLOT_VALID) {
            ensemble_set_valid(ensemble, shard, node, i + 1, draw_below(draw, 4) == 0);
            continue;
        }
        if (state == SLOT_INVALID) {
            ensemble_set_invalid(ensemble, shard, node);
        }
        ensemble_set_leased(ensemble, shard, node, draw_below(draw, 4) == 0);
        ensemble_set_blocked(ensemble, shard, node, draw_below(draw, 6) == 0);
    }
}

static void test_records_and_samples(void **state)
{
    (void)state;
    struct draw draw = draw_new("records_and_samples");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            struct component name;
            name_of(&ensemble, i, &name);
            const uint32_t node = i % ensemble.trie.count;
            const uint64_t records = records_of(&ensemble, &name);
            assert_true(ensemble_records(&ensemble, name.shard, node) == records);
            assert_true(ensemble_is_empty(&ensemble, name.shard, node) == (records == 0));
            assert_true(ensemble_samples(&ensemble, name.shard, node) ==
                        records * trie_passes(ensemble.passes_each, ensemble.epochs,
                                              ensemble.trie.slices, name.count));
        }
        ensemble_deinit(&ensemble);
    }
}

// A cell that has records; false: there is none.
static bool some_cell(const struct ensemble *ensemble, struct draw *draw, struct cell *cell_out)
{
    const uint32_t slices = ensemble->trie.slice_count;
    const uint32_t count = ensemble->placement.shards * slices;
    const uint32_t first = draw_below(draw, count);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = (first + i) % count;
        *cell_out = (struct cell){at / slices, at % slices};
        if (ensemble_cell(ensemble, *cell_out) > 0) {
            return true;
        }
    }
    return false;
}

static void test_lineage_rule(void **state)
{
    (void)state;
    struct draw draw = draw_new("lineage_rule");
    uint32_t unblocked = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        struct cell cell;
        make(&ensemble, &draw);
        if (!some_cell(&ensemble, &draw, &cell)) {
            ensemble_deinit(&ensemble);
            continue;
        }
        const uint32_t count = ensemble_count(&ensemble);
        const uint64_t had = ensemble_cell(&ensemble, cell);
        const uint64_t gone = 1 + draw_u64(&draw) % had;
        struct slot *const before = mem_alloc(count, sizeof *before);
        memcpy(before, ensemble.slots, count * sizeof *before);
        const uint32_t told = ensemble_lose(&ensemble, cell, gone, ENSEMBLE_NO_DUE);
        uint32_t changed = 0;
        for (uint32_t i = 0; i < count; i++) {
            struct component name;
            name_of(&ensemble, i, &name);
            const bool contains = name.shard == cell.shard && component_contains(&name, cell.slice);
            const bool hit = before[i].state == SLOT_VALID && contains;
            const struct slot *const slot = slot_at(&ensemble, i);
            assert_int_equal(slot->state, hit ? SLOT_INVALID : before[i].state);
            assert_int_equal(slot->instance, hit ? 0 : before[i].instance);
            assert_int_equal(slot->leased, before[i].leased);
            assert_int_equal(slot->blocked, contains ? false : before[i].blocked);
            assert_int_equal(slot->outdated, hit ? false : before[i].outdated);
            assert_int_equal(slot->records, before[i].records - (contains ? gone : 0));
            changed += hit;
            unblocked += before[i].blocked && contains;
        }
        assert_int_equal(told, changed);
        assert_true(ensemble_cell(&ensemble, cell) == had - gone);
        assert_true(gone == had || ensemble_lose(&ensemble, cell, 1, ENSEMBLE_NO_DUE) == 0);
        const uint64_t back = had - ensemble_cell(&ensemble, cell);
        const uint32_t node = draw_below(&draw, ensemble.trie.count); // Trained meanwhile.
        ensemble_set_valid(&ensemble, cell.shard, node, 99, false);
        struct component trained;
        trie_name(&ensemble.trie, cell.shard, node, &trained);
        const bool stale = component_contains(&trained, cell.slice);
        assert_int_equal(ensemble_gain(&ensemble, cell, back, ENSEMBLE_NO_DUE), stale);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(slot_at(&ensemble, i)->records, before[i].records);
        }
        assert_int_equal(ensemble_slot(&ensemble, cell.shard, node)->state,
                         stale ? SLOT_INVALID : SLOT_VALID);
        mem_free(before);
        ensemble_deinit(&ensemble);
    }
    assert_true(unblocked > 0);
}

// Valid, not empty, the longest; then the lowest sequence: no other beats the chosen one. Returns
// how often the sequence decided.
static uint32_t assert_serving(const struct ensemble *ensemble)
{
    uint32_t used = 0, ties = 0;
    for (uint32_t shard = 0; shard < ensemble->placement.shards; shard++) {
        const int32_t chosen = ensemble_serving(ensemble, shard);
        used += chosen >= 0;
        for (uint32_t node = 0; node < ensemble->trie.count; node++) {
            const struct trie_node *const other = &ensemble->trie.nodes[node];
            struct component name;
            trie_name(&ensemble->trie, shard, node, &name);
            if (ensemble_slot(ensemble, shard, node)->state != SLOT_VALID ||
                records_of(ensemble, &name) == 0) {
                assert_true(chosen != (int32_t)node);
                continue;
            }
            assert_true(chosen >= 0);
            const struct trie_node *const best = &ensemble->trie.nodes[chosen];
            assert_true(other->depth < best->depth ||
                        (other->depth == best->depth && other->sequence >= best->sequence));
            ties += other->depth == best->depth && (int32_t)node != chosen;
        }
    }
    assert_int_equal(ensemble_shards_used(ensemble), used);
    return ties;
}

static void test_serving(void **state)
{
    (void)state;
    struct draw draw = draw_new("serving");
    uint32_t ties = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        ties += assert_serving(&ensemble);
        ensemble_deinit(&ensemble);
    }
    assert_true(ties > 0);
}

static bool would_be_ready(const struct ensemble *ensemble, uint32_t i)
{
    struct component name;
    name_of(ensemble, i, &name);
    const struct slot *const slot = slot_at(ensemble, i);
    if (slot->state == SLOT_VALID || slot->leased || slot->blocked ||
        records_of(ensemble, &name) == 0) {
        return false;
    }
    const int32_t parent = parent_of(ensemble, i);
    name.count--;
    return parent < 0 || records_of(ensemble, &name) == 0 ||
           (slot_at(ensemble, (uint32_t)parent)->state == SLOT_VALID &&
            !slot_at(ensemble, (uint32_t)parent)->outdated);
}

static bool ready(const struct ensemble *ensemble, uint32_t i)
{
    return would_be_ready(ensemble, i) && !slot_at(ensemble, i)->held;
}

// Nothing is trained on what an older profile made; what is, says so, and no other.
static void test_outdated_components_hold_up_what_stands_on_them(void **state)
{
    (void)state;
    struct draw draw = draw_new("outdated");
    uint32_t seen = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        uint32_t outdated = 0, direct = 0;
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            struct component name;
            name_of(&ensemble, i, &name);
            const bool empty = records_of(&ensemble, &name) == 0;
            const bool waits = !empty && slot_at(&ensemble, i)->state != SLOT_VALID;
            outdated += !empty && slot_at(&ensemble, i)->outdated;
            int32_t at = parent_of(&ensemble, i);
            const bool on_outdated = at >= 0 && slot_at(&ensemble, (uint32_t)at)->outdated;
            name.count--;
            direct += waits && on_outdated && records_of(&ensemble, &name) > 0 &&
                      !slot_at(&ensemble, i)->leased;
            // The first valid one above decides, unless an empty one comes before it.
            while (at >= 0 && slot_at(&ensemble, (uint32_t)at)->state != SLOT_VALID &&
                   records_of(&ensemble, &name) > 0) {
                at = parent_of(&ensemble, (uint32_t)at);
                name.count--;
            }
            const bool stuck = waits && at >= 0 && records_of(&ensemble, &name) > 0 &&
                               slot_at(&ensemble, (uint32_t)at)->outdated;
            assert_true(ensemble_is_stuck(&ensemble, i / ensemble.trie.count,
                                          i % ensemble.trie.count) == stuck);
            seen += stuck;
        }
        const struct ensemble_totals totals = ensemble_sum(&ensemble);
        assert_int_equal(totals.outdated, outdated);
        assert_int_equal(totals.stuck, direct);
        const struct cell cell = {0, 0};
        if (ensemble_cell(&ensemble, cell) > 0) {
            ensemble_lose(&ensemble, cell, 1, ENSEMBLE_NO_DUE);
            for (uint32_t node = 0; node < ensemble.trie.count; node++) {
                struct component name;
                trie_name(&ensemble.trie, 0, node, &name);
                assert_false(slot_at(&ensemble, node)->outdated && component_contains(&name, 0));
            }
        }
        ensemble_deinit(&ensemble);
    }
    assert_true(seen > 0);
}

// Whether a is leased before b: by due date, length of the list, shard, node.
static bool before(const struct ensemble *ensemble, uint32_t a, uint32_t b)
{
    const struct trie_node *const nodes = ensemble->trie.nodes;
    const uint32_t count = ensemble->trie.count;
    const int64_t a_due = slot_at(ensemble, a)->due, b_due = slot_at(ensemble, b)->due;
    const uint32_t a_depth = nodes[a % count].depth, b_depth = nodes[b % count].depth;
    if (a_due != b_due) {
        return a_due < b_due;
    }
    return a_depth != b_depth ? a_depth < b_depth : a < b;
}

static void assert_next_of(const struct ensemble *ensemble, bool repair)
{
    int64_t best = -1;
    uint32_t count = 0;
    for (uint32_t i = 0; i < ensemble_count(ensemble); i++) {
        const uint32_t shard = i / ensemble->trie.count, node = i % ensemble->trie.count;
        assert_true(ensemble_is_ready(ensemble, shard, node) == ready(ensemble, i));
        if (!ready(ensemble, i) || (slot_at(ensemble, i)->state == SLOT_INVALID) != repair) {
            continue;
        }
        count++;
        best = best < 0 || before(ensemble, i, (uint32_t)best) ? i : best;
    }
    uint32_t shard = 0, node = 0;
    int64_t due = 0;
    assert_true(ensemble_next(ensemble, repair, &shard, &node, &due) == (best >= 0));
    if (best >= 0) {
        assert_int_equal(shard * ensemble->trie.count + node, best);
        assert_true(due == slot_at(ensemble, (uint32_t)best)->due);
    }
    assert_int_equal(ensemble_count_ready(ensemble, repair), count);
}

static void assert_next(const struct ensemble *ensemble)
{
    assert_next_of(ensemble, true);
    assert_next_of(ensemble, false);
    int64_t first = 0, due = 0;
    bool any = false;
    for (uint32_t i = 0; i < ensemble_count(ensemble); i++) {
        const struct slot *const slot = slot_at(ensemble, i);
        if (slot->held && would_be_ready(ensemble, i)) {
            first = !any || slot->due < first ? slot->due : first;
            any = true;
        }
    }
    assert_true(ensemble_next_held(ensemble, &due) == any && (!any || due == first));
}

// A repair before a first training. False: nothing is ready.
static bool next_of_all(const struct ensemble *ensemble, uint32_t *shard_out, uint32_t *node_out)
{
    int64_t due = 0;
    return ensemble_next(ensemble, true, shard_out, node_out, &due) ||
           ensemble_next(ensemble, false, shard_out, node_out, &due);
}

// What has to be trained before a component is due when that is, at the latest.
static void assert_dues(const struct ensemble *ensemble, uint32_t shard)
{
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        const int32_t parent = ensemble->trie.nodes[node].parent;
        const struct slot *const slot = ensemble_slot(ensemble, shard, node);
        if (slot->state == SLOT_VALID) {
            assert_true(slot->due == ENSEMBLE_NO_DUE);
        } else if (parent >= 0) {
            const struct slot *const above = ensemble_slot(ensemble, shard, (uint32_t)parent);
            assert_true(above->state == SLOT_VALID || above->records == 0 ||
                        above->due <= slot->due);
        }
    }
}

static void test_what_holds_something_up_is_due_with_it(void **state)
{
    (void)state;
    struct draw draw = draw_new("dues");
    uint32_t earlier = 0, handed_up = 0, awaited = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        struct cell cell;
        make_new(&ensemble, &draw);
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            ensemble_set_valid(&ensemble, i / ensemble.trie.count, i % ensemble.trie.count, 1,
                               false);
        }
        for (int i = 0; i < 6 && some_cell(&ensemble, &draw, &cell); i++) {
            const int64_t due = draw_below(&draw, 9);
            ensemble_lose(&ensemble, cell, 1, due);
            for (uint32_t node = 0; node < ensemble.trie.count; node++) {
                struct component name;
                trie_name(&ensemble.trie, cell.shard, node, &name);
                const struct slot *const slot = ensemble_slot(&ensemble, cell.shard, node);
                if (component_contains(&name, cell.slice)) {
                    assert_true(slot->due <= due);
                    earlier += slot->due < due;
                } else {
                    handed_up += slot->state == SLOT_INVALID && slot->due == due;
                }
            }
            assert_dues(&ensemble, cell.shard);
            const uint32_t node = draw_below(&draw, ensemble.trie.count);
            const bool invalid = ensemble_slot(&ensemble, cell.shard, node)->state == SLOT_INVALID;
            if (draw_below(&draw, 2) == 0) {
                ensemble_set_valid(&ensemble, cell.shard, node, 2, false);
            } else {
                ensemble_await(&ensemble, cell.shard, node, 0);
                assert_true(!invalid || ensemble_slot(&ensemble, cell.shard, node)->due == 0);
                awaited += invalid;
                assert_dues(&ensemble, cell.shard);
            }
        }
        ensemble_deinit(&ensemble);
    }
    assert_true(earlier > 0 && handed_up > 0 && awaited > 0);
}

struct asked { // A deletion, until all that contains its cell is valid or empty at one moment.
    struct cell cell;
    int64_t due;
};

static bool waits(const struct ensemble *ensemble, uint32_t shard, uint32_t node)
{
    const struct slot *const slot = ensemble_slot(ensemble, shard, node);
    return slot->state == SLOT_INVALID && slot->records > 0;
}

static bool is_open(const struct ensemble *ensemble, const struct asked *asked)
{
    for (uint32_t node = 0; node < ensemble->trie.count; node++) {
        struct component name;
        trie_name(&ensemble->trie, asked->cell.shard, node, &name);
        if (component_contains(&name, asked->cell.slice) &&
            waits(ensemble, asked->cell.shard, node)) {
            return true;
        }
    }
    return false;
}

// The first due date of what waits for the component, or for one that waits for it.
static int64_t due_by_hand(const struct ensemble *ensemble, uint32_t shard, uint32_t node,
                           const struct asked *asked, uint32_t count)
{
    int64_t due = ENSEMBLE_NO_DUE;
    struct component name, other;
    trie_name(&ensemble->trie, shard, node, &name);
    for (uint32_t below = node; below < ensemble->trie.count; below++) {
        trie_name(&ensemble->trie, shard, below, &other);
        if (!waits(ensemble, shard, below) || other.count < name.count ||
            memcmp(other.list, name.list, name.count * sizeof *name.list) != 0) {
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (asked[i].cell.shard == shard && component_contains(&other, asked[i].cell.slice) &&
                asked[i].due < due) {
                due = asked[i].due;
            }
        }
    }
    return due;
}

// Also of what was repaired and is hit again while the first deletion still waits for something else.
static void test_due_is_that_of_all_deletions_that_wait(void **state)
{
    (void)state;
    struct draw draw = draw_new("all_that_wait");
    uint32_t again = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        struct asked asked[40];
        uint32_t count = 0;
        make_new(&ensemble, &draw);
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            ensemble_set_valid(&ensemble, i / ensemble.trie.count, i % ensemble.trie.count, 1,
                               false);
        }
        for (int i = 0; i < 40; i++) {
            uint32_t shard = 0, node = 0;
            struct cell cell;
            const int64_t due = draw_below(&draw, 1000);
            if (draw_below(&draw, 4) > 0) {
                if (next_of_all(&ensemble, &shard, &node)) {
                    ensemble_set_valid(&ensemble, shard, node, 1, false);
                }
            } else if (some_cell(&ensemble, &draw, &cell)) {
                ensemble_lose(&ensemble, cell, 1, due);
                asked[count++] = (struct asked){cell, due};
            }
            uint32_t kept = 0;
            for (uint32_t j = 0; j < count; j++) {
                if (is_open(&ensemble, &asked[j])) {
                    asked[kept++] = asked[j];
                }
            }
            count = kept;
            for (uint32_t j = 0; j < ensemble_count(&ensemble); j++) {
                shard = j / ensemble.trie.count;
                node = j % ensemble.trie.count;
                if (waits(&ensemble, shard, node)) {
                    const int64_t expected = due_by_hand(&ensemble, shard, node, asked, count);
                    assert_int_equal(slot_at(&ensemble, j)->due, expected);
                    again += count > 0 && expected != asked[count - 1].due;
                }
            }
        }
        ensemble_deinit(&ensemble);
    }
    assert_true(again > 0);
}

static void test_next_is_the_first_in_the_documented_order(void **state)
{
    (void)state;
    struct draw draw = draw_new("next");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        assert_next(&ensemble);
        ensemble_deinit(&ensemble);
    }
}

// Training everything in the order of ensemble_next ends with every component that is not empty.
static void test_next_reaches_everything(void **state)
{
    (void)state;
    struct draw draw = draw_new("reaches_everything");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        uint32_t shard, node, steps = 0;
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            shard = i / ensemble.trie.count;
            node = i % ensemble.trie.count;
            ensemble_set_leased(&ensemble, shard, node, false);
            ensemble_set_blocked(&ensemble, shard, node, false);
            if (slot_at(&ensemble, i)->outdated) {
                ensemble_set_valid(&ensemble, shard, node, 1, false);
            }
        }
        while (next_of_all(&ensemble, &shard, &node)) {
            ensemble_set_valid(&ensemble, shard, node, 1, false);
            assert_true(++steps <= ensemble_count(&ensemble));
        }
        const struct ensemble_totals totals = ensemble_sum(&ensemble);
        assert_int_equal(totals.valid + totals.empty, ensemble_count(&ensemble));
        assert_true(totals.waiting == 0 && totals.training == 0 && totals.samples_waiting == 0);
        ensemble_deinit(&ensemble);
    }
}

static void assert_totals(const struct ensemble *ensemble)
{
    struct ensemble_totals expected = {0};
    for (uint32_t i = 0; i < ensemble_count(ensemble); i++) {
        struct component name;
        name_of(ensemble, i, &name);
        const uint64_t samples =
            records_of(ensemble, &name) *
            trie_passes(ensemble->passes_each, ensemble->epochs, ensemble->trie.slices, name.count);
        const struct slot *const slot = slot_at(ensemble, i);
        expected.samples_all += samples;
        if (samples == 0) {
            expected.empty++;
        } else if (slot->state == SLOT_VALID) {
            expected.valid++;
            expected.outdated += slot->outdated;
        } else {
            expected.samples_waiting += samples;
            expected.invalid += slot->state == SLOT_INVALID;
            expected.samples_invalid += slot->state == SLOT_INVALID ? samples : 0;
            expected.held += slot->held;
            expected.training += slot->leased;
            expected.waiting += !slot->leased;
            const int32_t parent = parent_of(ensemble, i);
            name.count--;
            expected.stuck += !slot->leased && parent >= 0 && records_of(ensemble, &name) > 0 &&
                              slot_at(ensemble, (uint32_t)parent)->outdated;
        }
    }
    expected.cells = ensemble->placement.shards * ensemble->trie.slice_count;
    for (uint32_t i = 0; i < expected.cells; i++) {
        expected.cells_empty += ensemble->records[i] == 0;
    }
    const struct ensemble_totals totals = ensemble_sum(ensemble);
    assert_int_equal(totals.valid, expected.valid);
    assert_int_equal(totals.waiting, expected.waiting);
    assert_int_equal(totals.empty, expected.empty);
    assert_int_equal(totals.training, expected.training);
    assert_int_equal(totals.valid + totals.waiting + totals.empty + totals.training,
                     ensemble_count(ensemble));
    assert_true(totals.samples_waiting == expected.samples_waiting);
    assert_true(totals.samples_all == expected.samples_all);
    assert_int_equal(totals.invalid, expected.invalid);
    assert_true(totals.samples_invalid == expected.samples_invalid);
    assert_int_equal(totals.held, expected.held);
    assert_int_equal(totals.cells, expected.cells);
    assert_int_equal(totals.cells_empty, expected.cells_empty);
    assert_int_equal(totals.outdated, expected.outdated);
    assert_int_equal(totals.stuck, expected.stuck);
}

static void test_totals(void **state)
{
    (void)state;
    struct draw draw = draw_new("totals");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        assert_totals(&ensemble);
        ensemble_deinit(&ensemble);
    }
}

// One thing that can happen to an ensemble, with any component and cell.
static void step(struct ensemble *ensemble, struct draw *draw)
{
    const uint32_t shard = draw_below(draw, ensemble->placement.shards);
    const uint32_t node = draw_below(draw, ensemble->trie.count);
    uint32_t next_shard, next_node;
    struct cell cell;
    switch (draw_below(draw, 12)) {
    case 0:
        ensemble_set_valid(ensemble, shard, node, 1 + draw_below(draw, 9),
                           draw_below(draw, 4) == 0);
        break;
    case 1:
        ensemble_set_invalid(ensemble, shard, node);
        break;
    case 2:
        ensemble_set_leased(ensemble, shard, node, draw_below(draw, 2) == 0);
        break;
    case 3:
        ensemble_set_blocked(ensemble, shard, node, draw_below(draw, 2) == 0);
        break;
    case 4:
        random_cells(ensemble, draw);
        break;
    case 5: {
        const uint32_t slices = ensemble->trie.slice_count;
        const uint32_t at = draw_below(draw, ensemble->placement.shards * slices);
        ensemble_gain(ensemble, (struct cell){at / slices, at % slices}, 1 + draw_below(draw, 5),
                      draw_below(draw, 5));
        break;
    }
    case 6:
        if (some_cell(ensemble, draw, &cell)) {
            ensemble_lose(ensemble, cell, 1 + draw_u64(draw) % ensemble_cell(ensemble, cell),
                          draw_below(draw, 5));
        }
        break;
    case 7:
        if (ensemble->trie.slice_count < 12) {
            const uint32_t more = ensemble->trie.slice_count - ensemble->placement.slices;
            ensemble_extend(ensemble, 2 + more / ensemble->placement.append);
        }
        break;
    case 8:
        ensemble_hold(ensemble, draw_below(draw, 2) == 0);
        break;
    case 9:
        if (draw_below(draw, 4) == 0) {
            ensemble_release(ensemble);
            assert_int_equal(ensemble_sum(ensemble).held, 0);
        }
        break;
    default: // What mostly happens: the next stage is trained.
        if (next_of_all(ensemble, &next_shard, &next_node)) {
            ensemble_set_valid(ensemble, next_shard, next_node, 1, false);
        }
        break;
    }
}

static void test_decisions_over_random_histories(void **state)
{
    (void)state;
    struct draw draw = draw_new("histories");
    for (int history = 0; history < 50; history++) {
        struct ensemble ensemble;
        make_new(&ensemble, &draw);
        for (int i = 0; i < 60; i++) {
            assert_serving(&ensemble);
            assert_next(&ensemble);
            assert_totals(&ensemble);
            step(&ensemble, &draw);
        }
        ensemble_deinit(&ensemble);
    }
}

// A training of as many components as a model may have, with a look at every decision after each
// stage: quick only if a decision does not look at every component.
static void test_large_ones_are_quick(void **state)
{
    (void)state;
    const struct placement placement = placement_uniform(4, 200, 1);
    struct ensemble ensemble;
    rotation_ensemble(&ensemble, &placement, 1, LIMIT_SEQUENCES, false, 1);
    assert_true(ensemble_count(&ensemble) > 160000);
    uint64_t *const cells = mem_alloc(4 * 200, sizeof *cells);
    for (uint32_t i = 0; i < 4 * 200; i++) {
        cells[i] = 1;
    }
    ensemble_set_cells(&ensemble, cells);
    uint32_t shard, node, trained = 0;
    while (next_of_all(&ensemble, &shard, &node)) {
        ensemble_set_leased(&ensemble, shard, node, true);
        assert_true(ensemble_sum(&ensemble).training == 1);
        ensemble_set_leased(&ensemble, shard, node, false);
        ensemble_set_valid(&ensemble, shard, node, 1, false);
        assert_true(ensemble_serving(&ensemble, shard) >= 0);
        trained++;
    }
    assert_int_equal(trained, ensemble_count(&ensemble));
    const struct cell cell = {3, 0};
    const uint32_t lost = ensemble_lose(&ensemble, cell, 1, ENSEMBLE_NO_DUE);
    assert_int_equal(ensemble_count(&ensemble) - lost, ensemble_sum(&ensemble).valid);
    assert_int_equal(ensemble.trie.nodes[ensemble_serving(&ensemble, 3)].depth,
                     199); // [1, ... 199]
    mem_free(cells);
    ensemble_deinit(&ensemble);
}

static void test_extend_keeps_what_is_known(void **state)
{
    (void)state;
    struct draw draw = draw_new("extend");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble old, longer;
        make(&old, &draw);
        const uint32_t slices = old.trie.slice_count;
        const uint32_t generations =
            1 + (slices - old.placement.slices) / old.placement.append + 1 + draw_below(&draw, 2);
        const uint32_t count = ensemble_count(&old);
        ensemble_init(&longer, &old.placement,
                      1 + (slices - old.placement.slices) / old.placement.append,
                      old.trie.sequences, old.trie.orders, old.passes_each, old.epochs);
        assert_int_equal(ensemble_count(&longer), count);
        ensemble_set_cells(&longer, old.records);
        for (uint32_t i = 0; i < count; i++) {
            const struct slot *const slot = slot_at(&old, i);
            const uint32_t shard = i / old.trie.count, node = i % old.trie.count;
            if (slot->state == SLOT_VALID) {
                ensemble_set_valid(&longer, shard, node, slot->instance, slot->outdated);
            } else if (slot->state == SLOT_INVALID) {
                ensemble_set_invalid(&longer, shard, node);
            }
            ensemble_set_leased(&longer, shard, node, slot->leased);
            ensemble_set_blocked(&longer, shard, node, slot->blocked);
        }
        ensemble_extend(&longer, generations);
        assert_int_equal(longer.trie.slice_count,
                         placement_slice_count(&old.placement, generations));
        assert_int_equal(longer.epochs, old.epochs);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < ensemble_count(&longer); i++) {
            struct component name;
            name_of(&longer, i, &name);
            const int32_t node = trie_find(&old.trie, &name);
            const struct slot *const slot = slot_at(&longer, i);
            if (node < 0) { // New: has seen an appended slice.
                assert_true(slot->state == SLOT_NEW && slot->instance == 0 && !slot->leased);
                assert_true(name.list[name.count - 1] >= slices);
            } else {
                const struct slot *const before = ensemble_slot(&old, name.shard, (uint32_t)node);
                assert_int_equal(slot->state, before->state);
                assert_int_equal(slot->instance, before->instance);
                assert_int_equal(slot->leased, before->leased);
                assert_int_equal(slot->blocked, before->blocked);
                assert_int_equal(slot->outdated, before->outdated);
                assert_int_equal(slot->records, before->records);
                kept++;
            }
        }
        assert_int_equal(kept, count);
        for (uint32_t shard = 0; shard < old.placement.shards; shard++) {
            for (uint32_t slice = 0; slice < longer.trie.slice_count; slice++) {
                const struct cell cell = {shard, slice};
                assert_true(ensemble_cell(&longer, cell) ==
                            (slice < slices ? ensemble_cell(&old, cell) : 0));
            }
        }
        ensemble_deinit(&longer);
        ensemble_deinit(&old);
    }
}

// The plan is what doing it gives: invalidate the cells, take the records away, add up the stages.
static void test_plan_is_what_the_deletion_costs(void **state)
{
    (void)state;
    struct draw draw = draw_new("plan");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        const uint32_t cells = ensemble.placement.shards * ensemble.trie.slice_count;
        const uint32_t count = ensemble_count(&ensemble);
        uint64_t *const lost = mem_alloc(cells, sizeof *lost);
        bool *const was_valid = mem_alloc(count, sizeof *was_valid);
        for (uint32_t i = 0; i < cells; i++) {
            const bool some = ensemble.records[i] > 0 && draw_below(&draw, 3) == 0;
            lost[i] = some ? 1 + draw_u64(&draw) % ensemble.records[i] : 0;
        }
        for (uint32_t i = 0; i < count; i++) {
            was_valid[i] = slot_at(&ensemble, i)->state == SLOT_VALID;
        }
        const struct ensemble_cost cost = ensemble_plan(&ensemble, lost);
        uint32_t components = 0;
        for (uint32_t i = 0; i < cells; i++) {
            if (lost[i] > 0) {
                const struct cell cell = {i / ensemble.trie.slice_count,
                                          i % ensemble.trie.slice_count};
                components += ensemble_lose(&ensemble, cell, lost[i], ENSEMBLE_NO_DUE);
            }
        }
        uint64_t samples = 0, all = 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint64_t own =
                ensemble_samples(&ensemble, i / ensemble.trie.count, i % ensemble.trie.count);
            all += own;
            samples += was_valid[i] && slot_at(&ensemble, i)->state == SLOT_INVALID ? own : 0;
        }
        assert_int_equal(cost.components, components);
        assert_true(cost.samples == samples);
        assert_true(cost.samples_from_scratch == all);
        mem_free(lost);
        mem_free(was_valid);
        ensemble_deinit(&ensemble);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_and_samples),
        cmocka_unit_test(test_lineage_rule),
        cmocka_unit_test(test_serving),
        cmocka_unit_test(test_next_is_the_first_in_the_documented_order),
        cmocka_unit_test(test_outdated_components_hold_up_what_stands_on_them),
        cmocka_unit_test(test_what_holds_something_up_is_due_with_it),
        cmocka_unit_test(test_due_is_that_of_all_deletions_that_wait),
        cmocka_unit_test(test_next_reaches_everything),
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_decisions_over_random_histories),
        cmocka_unit_test(test_large_ones_are_quick),
        cmocka_unit_test(test_extend_keeps_what_is_known),
        cmocka_unit_test(test_plan_is_what_the_deletion_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
