// tests/unit/test_placement.c: every hash has one cell, and every cell is the range it says.
//
// Method: the cell of a hash is computed here a second way (schoolbook multiplication of 32-bit
// halves); ranges are walked in order and must meet without gap or overlap from 0 to 2^64 - 1.
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

static void expect_cell(const struct placement *placement, uint32_t generation, uint64_t hash)
{
    const uint32_t per_shard = generation == 0 ? placement->slices : placement->append;
    const uint32_t first =
        generation == 0 ? 0 : placement->slices + (generation - 1) * placement->append;
    const uint32_t expected = cell_of(hash, (uint64_t)placement->shards * per_shard);
    const struct cell cell = placement_cell(placement, generation, hash);
    assert_int_equal(cell.shard, expected / per_shard);
    assert_int_equal(cell.slice, first + expected % per_shard);
}

// The cells of one generation in the order of the hash, from `slice_first` on, tile all hashes.
static void expect_tiles(const struct placement *placement, uint32_t generation,
                         uint32_t slice_first, uint32_t per_shard)
{
    uint64_t next = 0;
    for (uint32_t shard = 0; shard < placement->shards; shard++) {
        for (uint32_t slice = slice_first; slice < slice_first + per_shard; slice++) {
            const struct cell cell = {shard, slice};
            const struct cell_range range = placement_range(placement, cell);
            assert_int_equal(range.generation, generation);
            assert_true(range.low == next && range.high >= range.low);
            const uint64_t edges[] = {range.low, range.low + (range.high - range.low) / 2,
                                      range.high};
            for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
                const struct cell back = placement_cell(placement, generation, edges[i]);
                assert_int_equal(back.shard, shard);
                assert_int_equal(back.slice, slice);
                expect_cell(placement, generation, edges[i]);
            }
            next = range.high + 1; // Wraps to 0 after the last cell, and only there.
            assert_true(next != 0 ||
                        (shard == placement->shards - 1 && slice == slice_first + per_shard - 1));
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
            const struct placement placement = {shard_counts[i], slice_counts[j], 1};
            if ((uint64_t)shard_counts[i] * slice_counts[j] <= 60000) {
                expect_tiles(&placement, 0, 0, placement.slices);
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
                const struct placement placement = {shards, slices, append};
                expect_tiles(&placement, 0, 0, slices);
                for (uint32_t generation = 1; generation < 5; generation++) {
                    expect_tiles(&placement, generation, slices + (generation - 1) * append,
                                 append);
                }
            }
        }
    }
}

// The documented vectors: h = 0 is the first cell, 2^64 - 1 the last, and the halves part at 2^63.
static void test_edges_of_the_hash(void **state)
{
    (void)state;
    const struct placement placement = {5, 3, 2};
    const struct cell first = placement_cell(&placement, 0, 0);
    const struct cell last = placement_cell(&placement, 0, UINT64_MAX);
    assert_true(first.shard == 0 && first.slice == 0);
    assert_true(last.shard == 4 && last.slice == 2);
    const struct cell appended = placement_cell(&placement, 3, UINT64_MAX);
    assert_true(appended.shard == 4 && appended.slice == 3 + 2 * 2 + 1);
    const struct placement halves = {2, 1, 1};
    assert_int_equal(placement_cell(&halves, 0, UINT64_MAX / 2).shard, 0);
    assert_int_equal(placement_cell(&halves, 0, UINT64_MAX / 2 + 1).shard, 1);
    const struct placement one = {1, 1, 1};
    const struct cell_range all = placement_range(&one, (struct cell){0, 0});
    assert_true(all.low == 0 && all.high == UINT64_MAX);
}

static void test_random_hashes_lie_in_the_range_of_their_cell(void **state)
{
    (void)state;
    struct draw draw = draw_new("test_placement");
    for (int i = 0; i < 200000; i++) {
        const struct placement placement = {1 + draw_below(&draw, 4096), 1 + draw_below(&draw, 100),
                                            1 + draw_below(&draw, 5)};
        const uint32_t generation = draw_below(&draw, 4);
        const uint64_t hash = draw_u64(&draw);
        expect_cell(&placement, generation, hash);
        const struct cell cell = placement_cell(&placement, generation, hash);
        const struct cell_range range = placement_range(&placement, cell);
        assert_int_equal(range.generation, generation);
        assert_true(range.low <= hash && hash <= range.high);
    }
}

static void test_slice_count(void **state)
{
    (void)state;
    const struct placement placement = {9, 4, 3};
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
        cmocka_unit_test(test_random_hashes_lie_in_the_range_of_their_cell),
        cmocka_unit_test(test_slice_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
