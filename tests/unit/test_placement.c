// tests/unit/test_placement.c: every record has one cell, and every cell is the ranges it says.
//
// Method: the cell of a hash is computed here a second way (schoolbook multiplication of 32-bit
// halves); ranges are walked in order and must meet without gap or overlap from 0 to 2^64 - 1, for each
// risk class.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "scheduler/placement.h"
#include "tests/unit/draw.h"

// floor(hash * cells / 2^64), cells < 2^32, without a 128-bit type.
static uint32_t cell_of(uint64_t hash, uint64_t cells)
{
    const uint64_t low = (hash & UINT32_MAX) * cells;
    const uint64_t high = (hash >> 32) * cells;
    return (uint32_t)((high + (low >> 32)) >> 32);
}

// The cells of a class in a generation, from the definition.
struct grid {
    uint32_t shard_first, shard_count, slice_first, slice_count;
};
static struct grid grid_of(const struct placement *placement, uint32_t generation, uint8_t risk)
{
    const struct risk_share *const share = &placement->risk.of[risk];
    struct grid grid = {share->shard_first, share->shard_count, share->slice_first,
                        share->slice_count};
    if (grid.shard_count == 0) {
        grid.shard_first = 0;
        grid.shard_count = placement->shards;
    }
    if (grid.slice_count == 0) {
        grid.slice_first = 0;
        grid.slice_count = placement->slices;
    }
    if (generation > 0) {
        grid.slice_first = placement->slices + (generation - 1) * placement->append;
        grid.slice_count = placement->append;
    }
    return grid;
}

static void expect_cell(const struct placement *placement, uint32_t generation, uint8_t risk,
                        uint64_t hash)
{
    const struct grid grid = grid_of(placement, generation, risk);
    const uint32_t expected = cell_of(hash, (uint64_t)grid.shard_count * grid.slice_count);
    const struct cell cell = placement_cell(placement, generation, risk, hash);
    assert_int_equal(cell.shard, grid.shard_first + expected / grid.slice_count);
    assert_int_equal(cell.slice, grid.slice_first + expected % grid.slice_count);
}

// The range of h that the cell holds of one class, found by going through all its ranges.
static bool range_of(const struct placement *placement, struct cell cell, uint8_t risk,
                     struct cell_range *range_out)
{
    bool found = false;
    struct cell_range range;
    uint32_t from = 0;
    for (; placement_range(placement, cell, from, &range); from = range.risk_last + 1U) {
        assert_true(range.risk_first >= from && range.risk_last >= range.risk_first &&
                    range.risk_last < LIMIT_RISK_CLASSES && range.low <= range.high);
        if (range.risk_first <= risk && risk <= range.risk_last) {
            *range_out = range;
            found = true;
        }
    }
    return found;
}

// What the cells of one generation hold of a class, in the order of the hash, tiles all hashes; the
// cells outside the class's grid hold nothing of it.
static void expect_tiles(const struct placement *placement, uint32_t generation, uint8_t risk)
{
    const struct grid grid = grid_of(placement, generation, risk);
    const uint32_t first =
        generation == 0 ? 0 : placement->slices + (generation - 1) * placement->append;
    const uint32_t per_shard = generation == 0 ? placement->slices : placement->append;
    uint64_t next = 0;
    uint32_t held = 0;
    for (uint32_t shard = 0; shard < placement->shards; shard++) {
        for (uint32_t slice = first; slice < first + per_shard; slice++) {
            const struct cell cell = {shard, slice};
            struct cell_range range = {0};
            const bool inside = shard - grid.shard_first < grid.shard_count &&
                                slice - grid.slice_first < grid.slice_count;
            assert_int_equal(range_of(placement, cell, risk, &range), inside);
            if (!inside) {
                continue;
            }
            assert_int_equal(range.generation, generation);
            assert_int_equal(placement_generation(placement, slice), generation);
            assert_true(range.low == next && range.high >= range.low);
            const uint64_t edges[] = {range.low, range.low + (range.high - range.low) / 2,
                                      range.high};
            for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
                const struct cell back = placement_cell(placement, generation, risk, edges[i]);
                assert_int_equal(back.shard, shard);
                assert_int_equal(back.slice, slice);
                expect_cell(placement, generation, risk, edges[i]);
            }
            next = range.high + 1; // Wraps to 0 after the last cell, and only there.
            assert_true((next == 0) == (++held == grid.shard_count * grid.slice_count));
        }
    }
    assert_true(next == 0);
}

static void test_ranges_tile_all_hashes(void **state)
{
    (void)state;
    static const uint32_t shard_counts[] = {1, 2, 3, 5, 7, 16, 100, 257, 4096};
    static const uint32_t slice_counts[] = {1, 2, 3, 4, 7, 64, 200};
    for (size_t i = 0; i < sizeof shard_counts / sizeof *shard_counts; i++) {
        for (size_t j = 0; j < sizeof slice_counts / sizeof *slice_counts; j++) {
            const struct placement placement =
                placement_uniform(shard_counts[i], slice_counts[j], 1);
            if ((uint64_t)shard_counts[i] * slice_counts[j] <= 60000) {
                expect_tiles(&placement, 0, 0);
            }
        }
    }
}

static void test_appended_slices_tile_each_generation(void **state)
{
    (void)state;
    for (uint32_t shards = 1; shards <= 6; shards++) {
        for (uint32_t slices = 1; slices <= 4; slices++) {
            for (uint32_t append = 1; append <= 3; append++) {
                const struct placement placement = placement_uniform(shards, slices, append);
                expect_tiles(&placement, 0, 0);
                for (uint32_t generation = 1; generation < 5; generation++) {
                    expect_tiles(&placement, generation, 0);
                }
            }
        }
    }
}

// The documented vectors: h = 0 is the first cell, 2^64 - 1 the last, and the halves part at 2^63.
static void test_edges_of_the_hash(void **state)
{
    (void)state;
    const struct placement placement = placement_uniform(5, 3, 2);
    const struct cell first = placement_cell(&placement, 0, 0, 0);
    const struct cell last = placement_cell(&placement, 0, 0, UINT64_MAX);
    assert_true(first.shard == 0 && first.slice == 0);
    assert_true(last.shard == 4 && last.slice == 2);
    const struct cell appended = placement_cell(&placement, 3, 0, UINT64_MAX);
    assert_true(appended.shard == 4 && appended.slice == 3 + 2 * 2 + 1);
    const struct placement halves = placement_uniform(2, 1, 1);
    assert_int_equal(placement_cell(&halves, 0, 0, UINT64_MAX / 2).shard, 0);
    assert_int_equal(placement_cell(&halves, 0, 0, UINT64_MAX / 2 + 1).shard, 1);
    const struct placement one = placement_uniform(1, 1, 1);
    struct cell_range all;
    assert_true(placement_range(&one, (struct cell){0, 0}, 0, &all));
    assert_true(all.low == 0 && all.high == UINT64_MAX);
}

// Without a table a cell is one range of all classes at once: one walk through the store.
static void test_without_a_table_classes_lie_alike(void **state)
{
    (void)state;
    struct draw draw = draw_new("test_placement, alike");
    for (int i = 0; i < 2000; i++) {
        const struct placement placement =
            placement_uniform(1 + draw_below(&draw, 9), 1 + draw_below(&draw, 9), 2);
        const struct cell cell = {draw_below(&draw, placement.shards),
                                  draw_below(&draw, placement.slices + 6)};
        struct cell_range range = {0};
        assert_true(placement_range(&placement, cell, 0, &range));
        assert_true(range.risk_first == 0 && range.risk_last == LIMIT_RISK_CLASSES - 1);
        assert_false(placement_range(&placement, cell, LIMIT_RISK_CLASSES, &range));
        assert_true(placement_range(&placement, cell, 5, &range));
        assert_true(range.risk_first == 5 && range.risk_last == LIMIT_RISK_CLASSES - 1);
    }
}

static struct risk_share share_draw(struct draw *draw, const struct placement *placement)
{
    struct risk_share share = {0};
    if (draw_below(draw, 3) > 0) {
        share.shard_first = (uint16_t)draw_below(draw, placement->shards);
        share.shard_count = (uint16_t)(1 + draw_below(draw, placement->shards - share.shard_first));
    }
    if (draw_below(draw, 3) > 0) {
        share.slice_first = (uint16_t)draw_below(draw, placement->slices);
        share.slice_count = (uint16_t)(1 + draw_below(draw, placement->slices - share.slice_first));
    }
    return share;
}

static struct placement placement_draw(struct draw *draw, uint32_t shards, uint32_t slices)
{
    struct placement placement = placement_uniform(
        1 + draw_below(draw, shards), 1 + draw_below(draw, slices), 1 + draw_below(draw, 3));
    for (uint32_t c = 0; c < LIMIT_RISK_CLASSES; c++) {
        if (c > 0 && draw_below(draw, 2) == 0) {
            placement.risk.of[c] = placement.risk.of[c - 1]; // Neighbours that are one range.
        } else if (draw_below(draw, 3) > 0) {
            placement.risk.of[c] = share_draw(draw, &placement);
        }
    }
    return placement;
}

static void test_with_tables_each_class_tiles_its_grid(void **state)
{
    (void)state;
    struct draw draw = draw_new("test_placement, tables");
    for (int i = 0; i < 300; i++) {
        const struct placement placement = placement_draw(&draw, 6, 5);
        for (uint32_t generation = 0; generation < 3; generation++) {
            for (uint8_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
                expect_tiles(&placement, generation, risk);
            }
        }
    }
}

static void test_random_hashes_lie_in_the_range_of_their_cell(void **state)
{
    (void)state;
    struct draw draw = draw_new("test_placement");
    for (int i = 0; i < 200000; i++) {
        const struct placement placement = placement_draw(&draw, 4096, 100);
        const uint32_t generation = draw_below(&draw, 4);
        const uint8_t risk = (uint8_t)draw_below(&draw, LIMIT_RISK_CLASSES);
        const uint64_t hash = draw_u64(&draw);
        expect_cell(&placement, generation, risk, hash);
        const struct cell cell = placement_cell(&placement, generation, risk, hash);
        struct cell_range range = {0};
        assert_true(range_of(&placement, cell, risk, &range));
        assert_int_equal(range.generation, generation);
        assert_true(range.low <= hash && hash <= range.high);
    }
}

// Worked out by hand: class 1 in shards 6 and 7, slice 3 of a model of 8 x 4; class 2 in slice 3 of all.
static void test_a_table_by_hand(void **state)
{
    (void)state;
    struct placement placement = placement_uniform(8, 4, 1);
    placement.risk.of[1] = (struct risk_share){6, 2, 3, 1};
    placement.risk.of[2] = (struct risk_share){0, 0, 3, 1};
    const uint64_t half = UINT64_MAX / 2;
    const struct cell low = placement_cell(&placement, 0, 1, half);
    const struct cell high = placement_cell(&placement, 0, 1, half + 1);
    assert_true(low.shard == 6 && low.slice == 3 && high.shard == 7 && high.slice == 3);
    const struct cell eighth = placement_cell(&placement, 0, 2, half + 1);
    assert_true(eighth.shard == 4 && eighth.slice == 3);
    const struct cell later = placement_cell(&placement, 2, 1, 0);
    assert_true(later.shard == 6 && later.slice == 5);
    const struct cell plain = placement_cell(&placement, 0, 0, half + 1);
    assert_true(plain.shard == 4 && plain.slice == 0);
    struct cell_range range;
    const struct cell cell = {6, 3};
    assert_true(placement_range(&placement, cell, 0, &range) && range.risk_last == 0);
    assert_true(placement_range(&placement, cell, 1, &range) && range.risk_last == 1);
    assert_true(range.low == 0 && range.high == half);
    assert_true(placement_range(&placement, (struct cell){0, 0}, 1, &range));
    assert_int_equal(range.risk_first, 3); // Nothing of 1 and 2.
}

static void test_slice_count(void **state)
{
    (void)state;
    const struct placement placement = placement_uniform(9, 4, 3);
    assert_int_equal(placement_slice_count(&placement, 1), 4);
    assert_int_equal(placement_slice_count(&placement, 2), 7);
    assert_int_equal(placement_slice_count(&placement, 5), 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_tile_all_hashes),
        cmocka_unit_test(test_appended_slices_tile_each_generation),
        cmocka_unit_test(test_edges_of_the_hash),
        cmocka_unit_test(test_without_a_table_classes_lie_alike),
        cmocka_unit_test(test_with_tables_each_class_tiles_its_grid),
        cmocka_unit_test(test_random_hashes_lie_in_the_range_of_their_cell),
        cmocka_unit_test(test_a_table_by_hand),
        cmocka_unit_test(test_slice_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
