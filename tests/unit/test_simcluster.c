// tests/unit/test_simcluster.c: a simulated cluster does what a person would work out for it.
//
// Method: small clusters whose every moment is worked out by hand; random ones, whose work is held against
// the theoretical minimum where everything is deleted at once, and whose sums must come out even.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "scheduler/simcluster.h"
#include "tests/unit/draw.h"

static const int64_t SECOND = 1000000;
static const uint16_t rotations[] = {0, 1, 2, 1, 2, 0, 2, 0, 1};
static const uint16_t straight[] = {0, 1};

static struct simcluster *open_cluster(uint32_t shards, uint32_t slices, uint32_t sequences,
                                       const uint16_t *orders, const uint64_t *cells,
                                       uint32_t ranks, const char *policy)
{
    struct simcluster_setup setup = {
        .placement = placement_uniform(shards, slices, 1),
        .sequences = sequences,
        .orders = orders,
        .epochs = 1,
        .cells = cells,
        .ranks = ranks,
        .chunks = ranks,
        .seconds_per_sample = 1,
        .back_us = 3 * SECOND,
    };
    struct simcluster *cluster;
    assert_int_equal(repair_parse(policy, &setup.policy), OK);
    simcluster_open(&setup, &cluster);
    return cluster;
}

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-9)) {
        fail_msg("found %.12g, expected %.12g", found, expected);
    }
}

static void assert_work(struct simwork found, uint64_t stages, uint64_t samples, int64_t seconds)
{
    assert_int_equal(found.stages, stages);
    assert_int_equal(found.samples, samples);
    assert_int_equal(found.rank_us, seconds * SECOND);
}

// One shard, slices of 10 and 20 records, one sequence, one pass in each stage, a second a sample.
static void test_a_stage_that_read_a_deleted_record_is_cancelled(void **state)
{
    (void)state;
    const uint64_t cells[] = {10, 20};
    struct simcluster *const cluster = open_cluster(1, 2, 1, straight, cells, 1, "deadline");
    simcluster_advance(cluster, 5 * SECOND);
    simcluster_delete(cluster, (struct cell){0, 0}, 105 * SECOND);
    // [0] is trained from 5 to 14, [0, 1] from 14 on.
    simcluster_advance(cluster, 20 * SECOND);
    assert_int_equal(simcluster_rank(cluster, 0), SIMRANK_BUSY);
    simcluster_delete(cluster, (struct cell){0, 1}, 45 * SECOND);
    assert_int_equal(simcluster_rank(cluster, 0), SIMRANK_IDLE);
    assert_int_equal(simcluster_result(cluster).open, 2);
    // Again from 20 to 48: 28 records.
    simcluster_advance(cluster, 47 * SECOND);
    assert_int_equal(simcluster_result(cluster).open_late, 1);
    assert_int_equal(simcluster_result(cluster).training_us, 27 * SECOND);
    simcluster_advance(cluster, 60 * SECOND);
    const struct simcluster_result result = simcluster_result(cluster);
    assert_int_equal(result.deletions, 2);
    assert_int_equal(result.repaired, 2);
    assert_int_equal(result.open, 0);
    assert_int_equal(result.late, 1);
    assert_int_equal(result.open_late, 0);
    assert_work(result.trained, 2, 9 + 28, 9 + 28);
    assert_work(result.cancelled, 1, 6, 6);
    assert_work(result.lost, 0, 0, 0);
    assert_int_equal(result.cancelled_in_a_row, 1);
    assert_int_equal(result.idle_us, (5 + 12) * SECOND);
    assert_int_equal(result.down_us, 0);
    assert_int_equal(result.training_us, 0);
    assert_near(result.repair_mean_us / 1e6, (43 + 28) / 2.0);
    assert_int_equal(result.repair_most_us, 43 * SECOND);
    assert_near(result.due_used, 28.0 / 25);
    assert_near(result.slices.mean, (5 + 0 + 34 * 0.5 + 12) / 60);
    assert_near(result.slices.least, 0);
    assert_near(result.shards.mean, (5 + 34 + 12) / 60.0);
    assert_near(result.records.mean, (5 + 6 * 9 / 29.0 + 28 * 9 / 28.0 + 12) / 60);
    simcluster_close(cluster);
}

// Ten records, two ranks as a group.
static void test_a_rank_takes_its_group_s_stage_with_it(void **state)
{
    (void)state;
    const uint64_t cells[] = {10};
    struct simcluster *const cluster = open_cluster(1, 1, 1, straight, cells, 2, "deadline");
    simcluster_delete(cluster, (struct cell){0, 0}, 100 * SECOND);
    simcluster_advance(cluster, 2 * SECOND); // Together they would take 4.5.
    assert_int_equal(simcluster_rank(cluster, 1), SIMRANK_BUSY);
    simcluster_fail(cluster, 1);
    assert_int_equal(simcluster_rank(cluster, 0), SIMRANK_IDLE);
    assert_int_equal(simcluster_rank(cluster, 1), SIMRANK_DOWN);
    simcluster_advance(cluster, 4 * SECOND); // The other one alone, from 2 to 11.
    assert_int_equal(simcluster_rank(cluster, 1), SIMRANK_DOWN);
    simcluster_advance(cluster, 12 * SECOND);
    const struct simcluster_result result = simcluster_result(cluster);
    assert_work(result.lost, 1, 4, 4);
    assert_work(result.trained, 1, 9, 9);
    assert_int_equal(result.down_us, 3 * SECOND);
    assert_int_equal(result.idle_us, (7 + 1) * SECOND);
    assert_int_equal(result.failures, 1);
    assert_int_equal(result.repair_most_us, 11 * SECOND);
    simcluster_fail(cluster, 0); // Idle: nothing is lost.
    simcluster_advance(cluster, 16 * SECOND);
    assert_int_equal(simcluster_result(cluster).lost.stages, 1);
    assert_int_equal(simcluster_rank(cluster, 0), SIMRANK_IDLE);
    simcluster_close(cluster);
}

static void test_a_batch_waits_until_it_would_be_late(void **state)
{
    (void)state;
    const uint64_t cells[] = {10, 10};
    struct simcluster *const cluster = open_cluster(2, 1, 1, straight, cells, 1, "batch:3");
    simcluster_delete(cluster, (struct cell){0, 0}, 1000 * SECOND);
    simcluster_advance(cluster, 903 * SECOND);
    assert_int_equal(simcluster_rank(cluster, 0), SIMRANK_IDLE);
    // Twice the 9 seconds that it takes, those doubled since nothing was measured yet, and a minute.
    simcluster_advance(cluster, 905 * SECOND);
    assert_int_equal(simcluster_rank(cluster, 0), SIMRANK_BUSY);
    simcluster_advance(cluster, 1000 * SECOND);
    assert_int_equal(simcluster_result(cluster).repair_most_us, (1000 - 96 + 9) * SECOND);
    // The next three go together, though the first of them is far from due.
    for (int i = 0; i < 3; i++) {
        simcluster_delete(cluster, (struct cell){1, 0}, 9000 * SECOND);
        simcluster_advance(cluster, (1010 + i) * SECOND);
        assert_int_equal(simcluster_rank(cluster, 0), i < 2 ? SIMRANK_IDLE : SIMRANK_BUSY);
    }
    simcluster_close(cluster);
}

static void test_what_is_left_without_records_needs_no_repair(void **state)
{
    (void)state;
    const uint64_t cells[] = {1, 1};
    struct simcluster *const cluster = open_cluster(1, 2, 1, straight, cells, 1, "deadline");
    simcluster_delete(cluster, (struct cell){0, 1}, SECOND);
    simcluster_delete(cluster, (struct cell){0, 0}, SECOND);
    struct simcluster_result result = simcluster_result(cluster);
    assert_int_equal(result.repaired, 2);
    simcluster_advance(cluster, SECOND);
    result = simcluster_result(cluster);
    assert_int_equal(result.trained.stages, 0);
    assert_near(result.records.mean, 0);
    simcluster_close(cluster);
    simcluster_close(NULL);
}

enum { SHARDS = 3, SLICES = 3, CELLS = SHARDS * SLICES };

static void some_cells(struct draw *draw, uint64_t cells[static CELLS])
{
    for (uint32_t i = 0; i < CELLS; i++) {
        cells[i] = draw_below(draw, 4) == 0 ? 0 : 1 + draw_below(draw, 20);
    }
}

static void test_at_once_costs_the_least_possible(void **state)
{
    (void)state;
    struct draw draw = draw_new("at_once");
    for (int trial = 0; trial < 300; trial++) {
        uint64_t cells[CELLS], lost[CELLS];
        some_cells(&draw, cells);
        struct simcluster *const cluster =
            open_cluster(SHARDS, SLICES, 1 + draw_below(&draw, 3), rotations, cells,
                         1 + draw_below(&draw, 4), trial % 2 == 0 ? "deadline" : "eager");
        for (uint32_t i = 0; i < CELLS; i++) {
            lost[i] = cells[i] == 0 ? 0 : draw_below(&draw, (uint32_t)cells[i] + 1);
        }
        const struct ensemble_cost plan = ensemble_plan(simcluster_ensemble(cluster), lost);
        for (uint32_t i = 0; i < CELLS; i++) {
            for (uint64_t k = 0; k < lost[i]; k++) {
                simcluster_delete(cluster, (struct cell){i / SLICES, i % SLICES}, SECOND);
            }
        }
        simcluster_advance(cluster, 100000 * SECOND);
        const struct simcluster_result result = simcluster_result(cluster);
        assert_int_equal(result.open, 0);
        assert_int_equal(result.trained.samples, plan.samples);
        assert_int_equal(result.cancelled.stages + result.lost.stages, 0);
        assert_int_equal(ensemble_sum(simcluster_ensemble(cluster)).invalid, 0);
        simcluster_close(cluster);
    }
}

// Whatever happens: each second of each rank is counted once, each deletion is repaired or open, and when
// all is quiet everything is valid.
static void test_sums_come_out_even(void **state)
{
    (void)state;
    struct draw draw = draw_new("sums");
    static const char *const policies[] = {"deadline", "eager", "batch:5"};
    uint64_t cancelled = 0, lost = 0;
    for (int trial = 0; trial < 300; trial++) {
        uint64_t cells[CELLS];
        const uint32_t ranks = 1 + draw_below(&draw, 5);
        some_cells(&draw, cells);
        struct simcluster *const cluster = open_cluster(
            SHARDS, SLICES, 1 + draw_below(&draw, 3), rotations, cells, ranks, policies[trial % 3]);
        int64_t now = 0;
        uint64_t deletions = 0;
        for (int i = 0; i < 60; i++) {
            const uint32_t cell = draw_below(&draw, CELLS), rank = draw_below(&draw, ranks);
            now += draw_below(&draw, 8) * SECOND / 2;
            simcluster_advance(cluster, now);
            if (draw_below(&draw, 4) == 0 && simcluster_rank(cluster, rank) != SIMRANK_DOWN) {
                simcluster_fail(cluster, rank);
            } else if (cells[cell] > 0) {
                cells[cell]--;
                deletions++;
                simcluster_delete(cluster, (struct cell){cell / SLICES, cell % SLICES},
                                  now + draw_below(&draw, 100) * SECOND);
            }
            const struct simcluster_result result = simcluster_result(cluster);
            assert_int_equal(result.trained.rank_us + result.cancelled.rank_us +
                                 result.lost.rank_us + result.idle_us + result.down_us +
                                 result.training_us,
                             now * ranks);
            assert_int_equal(result.deletions, deletions);
            assert_int_equal(result.repaired + result.open, deletions);
        }
        simcluster_advance(cluster, now + 100000 * SECOND);
        const struct simcluster_result result = simcluster_result(cluster);
        assert_int_equal(result.open, 0);
        assert_int_equal(ensemble_sum(simcluster_ensemble(cluster)).invalid, 0);
        cancelled += result.cancelled.stages;
        lost += result.lost.stages;
        simcluster_close(cluster);
    }
    assert_true(cancelled > 100 && lost > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stage_that_read_a_deleted_record_is_cancelled),
        cmocka_unit_test(test_a_rank_takes_its_group_s_stage_with_it),
        cmocka_unit_test(test_a_batch_waits_until_it_would_be_late),
        cmocka_unit_test(test_what_is_left_without_records_needs_no_repair),
        cmocka_unit_test(test_at_once_costs_the_least_possible),
        cmocka_unit_test(test_sums_come_out_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
