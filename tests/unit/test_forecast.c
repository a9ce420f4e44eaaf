// tests/unit/test_forecast.c: when repairs end, against doing them stage by stage on simulated ranks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scheduler/forecast.h"
#include "tests/unit/draw.h"
#include "tests/unit/rotation.h"

static const int64_t SECOND = 1000000;

enum { RECORDS = 10, MODELS = 2, SHARDS = 6, SLICES = 3 };

struct fixture {
    struct planner planner;
    struct ensemble ensembles[MODELS];
    struct planned models[MODELS];
};

// Everything is valid, and each sample takes a second, known well.
static void begin(struct fixture *fixture, const uint32_t principals[static MODELS])
{
    const struct placement placement = placement_uniform(SHARDS, SLICES, 1);
    uint64_t cells[SHARDS * SLICES];
    for (uint32_t i = 0; i < SHARDS * SLICES; i++) {
        cells[i] = RECORDS;
    }
    *fixture = (struct fixture){0};
    for (uint32_t m = 0; m < MODELS; m++) {
        struct ensemble *const ensemble = &fixture->ensembles[m];
        rotation_ensemble(ensemble, &placement, 1, 1, true, 1);
        ensemble_set_cells(ensemble, cells);
        for (uint32_t i = 0; i < ensemble_count(ensemble); i++) {
            ensemble_set_valid(ensemble, i / SLICES, i % SLICES, 1, false);
        }
        planned_init(&fixture->models[m], ensemble, principals[m]);
        cost_learn(&fixture->models[m].cost, 1, 1, 1);
        cost_learn(&fixture->models[m].cost, 1, 1, 1);
        planner_add(&fixture->planner, &fixture->models[m]);
    }
}

static void end(struct fixture *fixture)
{
    for (uint32_t m = 0; m < MODELS; m++) {
        planner_remove(&fixture->planner, &fixture->models[m]);
        planned_deinit(&fixture->models[m]);
        ensemble_deinit(&fixture->ensembles[m]);
    }
    planner_deinit(&fixture->planner);
}

static void lose(struct fixture *fixture, uint32_t model, uint32_t shard, uint32_t slice,
                 int64_t due)
{
    const struct cell cell = {shard, slice};
    ensemble_lose(&fixture->ensembles[model], cell, 1, due);
}

static double seconds(const struct fixture *fixture, uint32_t principal, uint32_t ranks,
                      int64_t due)
{
    struct forecast forecast;
    forecast_make(&fixture->planner, principal, 1000 * SECOND, ranks, &forecast);
    const int64_t end_us = forecast_end_us(&forecast, due);
    return end_us == INT64_MAX ? -1 : (double)(end_us - 1000 * SECOND) / 1e6;
}

static void expect(double found, double expected)
{
    assert_true(found > expected - 1e-3 && found < expected + 1e-3);
}

static void test_nothing_to_do_ends_now(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, (uint32_t[]){1, 1});
    expect(seconds(&fixture, 1, 4, 2000 * SECOND), 0);
    expect(seconds(&fixture, 1, 0, 2000 * SECOND), -1); // No ranks: nobody knows.
    end(&fixture);
}

// Stages of 29 samples, the third of a shard; chains of up to three.
static void test_work_and_chains_by_hand(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, (uint32_t[]){1, 1});
    lose(&fixture, 0, 0, 2, 2000 * SECOND);
    expect(seconds(&fixture, 1, 1, 2000 * SECOND), 29);
    expect(seconds(&fixture, 1, 8, 2000 * SECOND), 29); // A stage cannot be divided.
    lose(&fixture, 0, 1, 2, 2000 * SECOND);
    lose(&fixture, 1, 2, 2, 2000 * SECOND);
    expect(seconds(&fixture, 1, 1, 2000 * SECOND), 3 * 29);
    expect(seconds(&fixture, 1, 3, 2000 * SECOND), 29);
    lose(&fixture, 1, 3, 0, 2000 * SECOND); // 9, 19 and 29, one after the other.
    expect(seconds(&fixture, 1, 100, 2000 * SECOND), 9 + 19 + 29);
    expect(seconds(&fixture, 1, 2, 2000 * SECOND), (3 * 29 + 9 + 19 + 29) / 2.0);
    end(&fixture);
}

static void test_what_is_due_later_does_not_count(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, (uint32_t[]){1, 1});
    lose(&fixture, 0, 0, 2, PLANNER_AT_ONCE);
    lose(&fixture, 0, 1, 2, 1100 * SECOND);
    lose(&fixture, 0, 2, 2, 900 * SECOND); // Was due.
    lose(&fixture, 0, 3, 2, 5000 * SECOND);
    lose(&fixture, 0, 4, 2, ENSEMBLE_NO_DUE);
    expect(seconds(&fixture, 1, 1, PLANNER_AT_ONCE), 2 * 29); // What was due is as urgent.
    expect(seconds(&fixture, 1, 1, 1100 * SECOND), 3 * 29);
    expect(seconds(&fixture, 1, 1, 2000 * SECOND), 3 * 29);
    expect(seconds(&fixture, 1, 1, 5000 * SECOND), 4 * 29);
    expect(seconds(&fixture, 1, 1, ENSEMBLE_NO_DUE), 5 * 29);
    end(&fixture);
}

static void test_others_take_their_share(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, (uint32_t[]){1, 2});
    lose(&fixture, 0, 0, 2, 2000 * SECOND);
    lose(&fixture, 0, 1, 2, 2000 * SECOND);
    expect(seconds(&fixture, 1, 2, 2000 * SECOND), 29);
    lose(&fixture, 1, 0, 0, PLANNER_AT_ONCE); // Of the other: half of the ranks are its.
    expect(seconds(&fixture, 1, 2, 2000 * SECOND), 58);
    expect(seconds(&fixture, 2, 2, PLANNER_AT_ONCE), 57);
    end(&fixture);
}

static void test_unknown_costs_are_not_guessed(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, (uint32_t[]){1, 1});
    fixture.models[1].cost = (struct cost){0};
    lose(&fixture, 0, 0, 2, 2000 * SECOND);
    expect(seconds(&fixture, 1, 1, 2000 * SECOND), 29);
    lose(&fixture, 1, 0, 2, 2000 * SECOND);
    expect(seconds(&fixture, 1, 1, 2000 * SECOND), -1);
    end(&fixture);
}

// Does all repairs, each rank taking what the planner gives as soon as it is idle.
static double carry_out(struct fixture *fixture, uint32_t ranks)
{
    struct {
        struct grant grant;
        double end;
        bool busy;
    } rank[8] = {0};
    double now = 0;
    for (;;) {
        uint32_t first = UINT32_MAX;
        for (uint32_t r = 0; r < ranks; r++) {
            if (!rank[r].busy &&
                planner_next(&fixture->planner, 1000 * SECOND, ranks, &rank[r].grant)) {
                const struct grant *const grant = &rank[r].grant;
                planner_granted(&fixture->planner, grant);
                ensemble_set_leased(grant->model->ensemble, grant->shard, grant->node, true);
                rank[r].busy = true;
                rank[r].end = now + (double)ensemble_samples(grant->model->ensemble, grant->shard,
                                                             grant->node);
            }
            if (rank[r].busy && (first == UINT32_MAX || rank[r].end < rank[first].end)) {
                first = r;
            }
        }
        if (first == UINT32_MAX) {
            return now;
        }
        const struct grant *const grant = &rank[first].grant;
        now = rank[first].end;
        rank[first].busy = false;
        ensemble_set_leased(grant->model->ensemble, grant->shard, grant->node, false);
        ensemble_set_valid(grant->model->ensemble, grant->shard, grant->node, 1, false);
    }
}

// It never says later than it takes, and at most by a factor of two sooner (Graham 1966: what is
// work-conserving ends before work / ranks + the longest chain).
static void test_against_the_planner_itself(void **state)
{
    (void)state;
    struct draw draw = draw_new("forecast");
    for (int trial = 0; trial < 300; trial++) {
        struct fixture fixture;
        begin(&fixture, (uint32_t[]){1, 1});
        const uint32_t deletions = 1 + draw_below(&draw, 20), ranks = 1 + draw_below(&draw, 8);
        for (uint32_t i = 0; i < deletions; i++) {
            lose(&fixture, draw_below(&draw, MODELS), draw_below(&draw, SHARDS),
                 draw_below(&draw, SLICES), (1000 + draw_below(&draw, 1000)) * SECOND);
        }
        const double said = seconds(&fixture, 1, ranks, 3000 * SECOND);
        const double took = carry_out(&fixture, ranks);
        assert_true(said <= took + 1e-3);
        assert_true(took <= 2 * said + 1e-3);
        end(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_do_ends_now),
        cmocka_unit_test(test_work_and_chains_by_hand),
        cmocka_unit_test(test_what_is_due_later_does_not_count),
        cmocka_unit_test(test_others_take_their_share),
        cmocka_unit_test(test_unknown_costs_are_not_guessed),
        cmocka_unit_test(test_against_the_planner_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
