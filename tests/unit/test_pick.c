// tests/unit/test_pick.c: what a verification compares is as many as asked for, and closed under
// parents.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/mem.h"
#include "scheduler/pick.h"
#include "tests/unit/draw.h"
#include "tests/unit/rotation.h"

static void test_exactly_so_many_and_closed_under_parents(void **state)
{
    (void)state;
    struct draw draw = draw_new("pick");
    for (int trial = 0; trial < 300; trial++) {
        static const uint32_t most[] = {1, 1, 2, 6, 24};
        const uint32_t slices = 1 + draw_below(&draw, 4);
        const struct placement placement = placement_uniform(1 + draw_below(&draw, 4), slices, 1);
        struct ensemble ensemble;
        rotation_ensemble(&ensemble, &placement, 1 + draw_below(&draw, 2),
                          1 + draw_below(&draw, most[slices]), false, 3);
        uint64_t cells[4 * 6];
        for (uint32_t i = 0; i < placement.shards * ensemble.trie.slice_count; i++) {
            cells[i] = draw_below(&draw, 3); // A third of the cells is empty.
        }
        ensemble_set_cells(&ensemble, cells);
        const uint32_t count = ensemble_count(&ensemble), nodes = ensemble.trie.count;
        uint32_t there = 0;
        for (uint32_t i = 0; i < count; i++) {
            there += !ensemble_is_empty(&ensemble, i / nodes, i % nodes);
        }
        bool *const chosen = mem_alloc(count, sizeof *chosen);
        for (uint32_t wanted = 0; wanted <= there + 2; wanted++) {
            const uint32_t expected = wanted == 0 || wanted > there ? there : wanted;
            chosen[0] = true; // What was there before does not matter.
            assert_int_equal(pick_components(&ensemble, wanted, chosen), expected);
            uint32_t marked = 0;
            for (uint32_t i = 0; i < count; i++) {
                const int32_t parent = ensemble.trie.nodes[i % nodes].parent;
                marked += chosen[i];
                assert_false(chosen[i] && ensemble_is_empty(&ensemble, i / nodes, i % nodes));
                assert_true(!chosen[i] || parent < 0 ||
                            ensemble_is_empty(&ensemble, i / nodes, (uint32_t)parent) ||
                            chosen[i / nodes * nodes + (uint32_t)parent]);
            }
            assert_int_equal(marked, expected);
        }
        mem_free(chosen);
        ensemble_deinit(&ensemble);
    }
}

// Spread: as many chains as there are shards means one of each.
static void test_spread_over_the_shards(void **state)
{
    (void)state;
    const struct placement placement = placement_uniform(4, 3, 1);
    struct ensemble ensemble;
    rotation_ensemble(&ensemble, &placement, 1, 1, false, 1);
    uint64_t cells[12];
    for (uint32_t i = 0; i < 12; i++) {
        cells[i] = 1;
    }
    ensemble_set_cells(&ensemble, cells);
    bool chosen[12];
    assert_int_equal(pick_components(&ensemble, 6, chosen), 6);
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(chosen[i], i < 6); // The chains of shards 0 and 1, whole.
    }
    ensemble_deinit(&ensemble);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exactly_so_many_and_closed_under_parents),
        cmocka_unit_test(test_spread_over_the_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
