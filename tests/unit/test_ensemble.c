// tests/unit/test_ensemble.c: the lineage rule, who serves, what is trained next, what it costs.
//
// Method: random ensembles (shards, slices, sequences, appended slices, empty cells, states); every
// rule is worked out a second time from the names of the components alone, by brute force.
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

static struct slot *slot_at(const struct ensemble *ensemble, uint32_t i)
{
    return ensemble_slot(ensemble, i / ensemble->trie.count, i % ensemble->trie.count);
}

static uint64_t records_of(const struct ensemble *ensemble, const struct component *name)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < name->count; i++) {
        sum += *ensemble_cell(ensemble, (struct cell){name->shard, name->list[i]});
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

static void make(struct ensemble *ensemble, struct draw *draw)
{
    static const uint32_t most[] = {1, 1, 2, 6, 24};
    const uint32_t slices = 1 + draw_below(draw, 4);
    const struct placement placement = {1 + draw_below(draw, 4), slices, 1 + draw_below(draw, 2)};
    rotation_ensemble(ensemble, &placement, 1 + draw_below(draw, 3),
                      1 + draw_below(draw, most[slices]), draw_below(draw, 2) == 0,
                      1 + draw_below(draw, 20));
    for (uint32_t i = 0; i < placement.shards * ensemble->trie.slice_count; i++) {
        ensemble->records[i] = draw_below(draw, 3) == 0 ? 0 : draw_below(draw, 50);
    }
    for (uint32_t i = 0; i < ensemble_count(ensemble); i++) {
        struct slot *const slot = slot_at(ensemble, i);
        slot->state = (enum slot_state)draw_below(draw, 3);
        slot->instance = slot->state == SLOT_VALID ? i + 1 : 0;
        slot->leased = slot->state != SLOT_VALID && draw_below(draw, 4) == 0;
        slot->blocked = slot->state != SLOT_VALID && draw_below(draw, 6) == 0;
        slot->outdated = slot->state == SLOT_VALID && draw_below(draw, 4) == 0;
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

static void test_lineage_rule(void **state)
{
    (void)state;
    struct draw draw = draw_new("lineage_rule");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        const struct cell cell = {draw_below(&draw, ensemble.placement.shards),
                                  draw_below(&draw, ensemble.trie.slice_count)};
        const uint32_t count = ensemble_count(&ensemble);
        struct slot *const before = mem_alloc(count, sizeof *before);
        memcpy(before, ensemble.slots, count * sizeof *before);
        const uint32_t told = ensemble_invalidate(&ensemble, cell);
        uint32_t changed = 0;
        for (uint32_t i = 0; i < count; i++) {
            struct component name;
            name_of(&ensemble, i, &name);
            const bool hit = before[i].state == SLOT_VALID && name.shard == cell.shard &&
                             component_contains(&name, cell.slice);
            const struct slot *const slot = slot_at(&ensemble, i);
            assert_int_equal(slot->state, hit ? SLOT_INVALID : before[i].state);
            assert_int_equal(slot->instance, hit ? 0 : before[i].instance);
            assert_int_equal(slot->leased, before[i].leased);
            changed += hit;
        }
        assert_int_equal(told, changed);
        assert_int_equal(ensemble_invalidate(&ensemble, cell), 0);
        mem_free(before);
        ensemble_deinit(&ensemble);
    }
}

// Valid, not empty, the longest; then the lowest sequence: no other beats the chosen one.
static void test_serving(void **state)
{
    (void)state;
    struct draw draw = draw_new("serving");
    uint32_t ties = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        uint32_t used = 0;
        for (uint32_t shard = 0; shard < ensemble.placement.shards; shard++) {
            const int32_t chosen = ensemble_serving(&ensemble, shard);
            used += chosen >= 0;
            for (uint32_t node = 0; node < ensemble.trie.count; node++) {
                const struct trie_node *const other = &ensemble.trie.nodes[node];
                if (ensemble_slot(&ensemble, shard, node)->state != SLOT_VALID ||
                    ensemble_is_empty(&ensemble, shard, node)) {
                    assert_true(chosen != (int32_t)node);
                    continue;
                }
                assert_true(chosen >= 0);
                const struct trie_node *const best = &ensemble.trie.nodes[chosen];
                assert_true(other->depth < best->depth ||
                            (other->depth == best->depth && other->sequence >= best->sequence));
                ties += other->depth == best->depth && (int32_t)node != chosen;
            }
        }
        assert_int_equal(ensemble_shards_used(&ensemble), used);
        ensemble_deinit(&ensemble);
    }
    assert_true(ties > 0);
}

static bool ready(const struct ensemble *ensemble, uint32_t i)
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
        ensemble_invalidate(&ensemble, cell);
        for (uint32_t node = 0; node < ensemble.trie.count; node++) {
            assert_false(ensemble_slot(&ensemble, 0, node)->outdated &&
                         trie_contains(&ensemble.trie, node, 0));
        }
        ensemble_deinit(&ensemble);
    }
    assert_true(seen > 0);
}

static void test_next_is_the_first_in_the_documented_order(void **state)
{
    (void)state;
    struct draw draw = draw_new("next");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        int64_t best = -1;
        uint64_t best_key = UINT64_MAX;
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            const uint32_t shard = i / ensemble.trie.count, node = i % ensemble.trie.count;
            assert_true(ensemble_is_ready(&ensemble, shard, node) == ready(&ensemble, i));
            const uint64_t key = (uint64_t)(slot_at(&ensemble, i)->state != SLOT_INVALID) << 60 |
                                 (uint64_t)ensemble.trie.nodes[node].depth << 40 |
                                 (uint64_t)shard << 20 | node;
            if (ready(&ensemble, i) && key < best_key) {
                best = i;
                best_key = key;
            }
        }
        uint32_t shard = 0, node = 0;
        bool repair = false;
        assert_true(ensemble_next(&ensemble, &shard, &node, &repair) == (best >= 0));
        if (best >= 0) {
            assert_int_equal(shard * ensemble.trie.count + node, best);
            assert_true(repair == (slot_at(&ensemble, (uint32_t)best)->state == SLOT_INVALID));
        }
        ensemble_deinit(&ensemble);
    }
}

// Repairs of the longest list still come before a first training of the shortest.
static void test_repairs_come_first(void **state)
{
    (void)state;
    const struct placement placement = {2, LIMIT_SLICES, 1};
    struct ensemble ensemble;
    rotation_ensemble(&ensemble, &placement, 1, 1, false, 1);
    for (uint32_t i = 0; i < 2 * LIMIT_SLICES; i++) {
        ensemble.records[i] = 1;
    }
    for (uint32_t node = 0; node < LIMIT_SLICES; node++) {
        ensemble_slot(&ensemble, 1, node)->state = SLOT_VALID;
    }
    ensemble_slot(&ensemble, 1, LIMIT_SLICES - 1)->state = SLOT_INVALID;
    uint32_t shard = 0, node = 0;
    bool repair = false;
    assert_true(ensemble_next(&ensemble, &shard, &node, &repair));
    assert_true(shard == 1 && node == LIMIT_SLICES - 1 && repair);
    ensemble_slot(&ensemble, 1, LIMIT_SLICES - 1)->blocked = true; // control
    assert_true(ensemble_next(&ensemble, &shard, &node, &repair));
    assert_true(shard == 0 && node == 0 && !repair);
    ensemble_deinit(&ensemble);
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
        bool repair;
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            slot_at(&ensemble, i)->leased = slot_at(&ensemble, i)->blocked = false;
            slot_at(&ensemble, i)->outdated = false;
        }
        while (ensemble_next(&ensemble, &shard, &node, &repair)) {
            ensemble_slot(&ensemble, shard, node)->state = SLOT_VALID;
            assert_true(++steps <= ensemble_count(&ensemble));
        }
        const struct ensemble_totals totals = ensemble_sum(&ensemble);
        assert_int_equal(totals.valid + totals.empty, ensemble_count(&ensemble));
        assert_true(totals.waiting == 0 && totals.training == 0 && totals.samples_waiting == 0);
        ensemble_deinit(&ensemble);
    }
}

static void test_totals(void **state)
{
    (void)state;
    struct draw draw = draw_new("totals");
    for (int trial = 0; trial < TRIALS; trial++) {
        struct ensemble ensemble;
        make(&ensemble, &draw);
        struct ensemble_totals expected = {0};
        for (uint32_t i = 0; i < ensemble_count(&ensemble); i++) {
            struct component name;
            name_of(&ensemble, i, &name);
            const uint64_t samples =
                records_of(&ensemble, &name) * trie_passes(ensemble.passes_each, ensemble.epochs,
                                                           ensemble.trie.slices, name.count);
            const struct slot *const slot = slot_at(&ensemble, i);
            expected.samples_all += samples;
            if (samples == 0) {
                expected.empty++;
            } else if (slot->state == SLOT_VALID) {
                expected.valid++;
            } else {
                expected.samples_waiting += samples;
                expected.training += slot->leased;
                expected.waiting += !slot->leased;
            }
        }
        expected.cells = ensemble.placement.shards * ensemble.trie.slice_count;
        for (uint32_t i = 0; i < expected.cells; i++) {
            expected.cells_empty += ensemble.records[i] == 0;
        }
        const struct ensemble_totals totals = ensemble_sum(&ensemble);
        assert_int_equal(totals.valid, expected.valid);
        assert_int_equal(totals.waiting, expected.waiting);
        assert_int_equal(totals.empty, expected.empty);
        assert_int_equal(totals.training, expected.training);
        assert_int_equal(totals.valid + totals.waiting + totals.empty + totals.training,
                         ensemble_count(&ensemble));
        assert_true(totals.samples_waiting == expected.samples_waiting);
        assert_true(totals.samples_all == expected.samples_all);
        assert_int_equal(totals.cells, expected.cells);
        assert_int_equal(totals.cells_empty, expected.cells_empty);
        ensemble_deinit(&ensemble);
    }
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
        uint32_t sequences = 0;
        for (uint32_t node = 0; node < old.trie.count; node++) {
            const uint32_t b = old.trie.nodes[node].sequence + 1;
            sequences = b > sequences ? b : sequences;
        }
        longer = old; // Deep copies of what extend takes over; the trie is made anew below.
        const uint32_t count = ensemble_count(&old);
        longer.slots = mem_alloc(count, sizeof *longer.slots);
        longer.records = mem_alloc((size_t)old.placement.shards * slices, sizeof *longer.records);
        memcpy(longer.slots, old.slots, count * sizeof *old.slots);
        memcpy(longer.records, old.records,
               (size_t)old.placement.shards * slices * sizeof *old.records);
        rotation_trie(&longer.trie, old.trie.slices, slices, sequences);
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
                kept++;
            }
        }
        assert_int_equal(kept, count);
        for (uint32_t shard = 0; shard < old.placement.shards; shard++) {
            for (uint32_t slice = 0; slice < longer.trie.slice_count; slice++) {
                const struct cell cell = {shard, slice};
                assert_true(*ensemble_cell(&longer, cell) ==
                            (slice < slices ? *ensemble_cell(&old, cell) : 0));
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
                components += ensemble_invalidate(&ensemble, cell);
                ensemble.records[i] -= lost[i];
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
        cmocka_unit_test(test_repairs_come_first),
        cmocka_unit_test(test_next_reaches_everything),
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_extend_keeps_what_is_known),
        cmocka_unit_test(test_plan_is_what_the_deletion_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
