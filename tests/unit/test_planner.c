// tests/unit/test_planner.c: whose stage comes next, what is held back, what is counted as lost.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "scheduler/planner.h"
#include "tests/unit/draw.h"
#include "tests/unit/rotation.h"

static const int64_t SECOND = 1000000;

struct fixture {
    struct planner planner;
    struct ensemble ensembles[3];
    struct planned models[3];
    uint32_t count;
};

static struct planned *add(struct fixture *fixture, uint32_t principal, uint32_t shards,
                           uint32_t slices)
{
    const struct placement placement = placement_uniform(shards, slices, 1);
    struct ensemble *const ensemble = &fixture->ensembles[fixture->count];
    struct planned *const model = &fixture->models[fixture->count++];
    rotation_ensemble(ensemble, &placement, 1, 1, false, 1);
    uint64_t *const cells = mem_alloc((size_t)shards * slices, sizeof *cells);
    for (uint32_t i = 0; i < shards * slices; i++) {
        cells[i] = 10;
    }
    ensemble_set_cells(ensemble, cells);
    mem_free(cells);
    planned_init(model, ensemble, principal);
    planner_add(&fixture->planner, model);
    return model;
}

static void train_all(struct planned *model)
{
    for (uint32_t shard = 0; shard < model->ensemble->placement.shards; shard++) {
        for (uint32_t node = 0; node < model->ensemble->trie.count; node++) {
            ensemble_set_valid(model->ensemble, shard, node, 1, false);
        }
    }
}

static void end(struct fixture *fixture)
{
    for (uint32_t i = 0; i < fixture->count; i++) {
        planner_remove(&fixture->planner, &fixture->models[i]);
        planned_deinit(&fixture->models[i]);
        ensemble_deinit(&fixture->ensembles[i]);
    }
    assert_int_equal(fixture->planner.principal_count, 0);
    planner_deinit(&fixture->planner);
}

static void lose(struct planned *model, uint32_t shard, uint32_t slice, int64_t due, bool haste)
{
    const struct cell cell = {shard, slice};
    ensemble_lose(model->ensemble, cell, 1, planned_due(model, due, haste));
    planned_hit(model, haste);
}

static struct grant next(struct fixture *fixture, int64_t now_us)
{
    struct grant grant;
    assert_true(planner_next(&fixture->planner, now_us, 1, &grant));
    return grant;
}

// Leases the next stage and trains it.
static struct grant train_next(struct fixture *fixture, int64_t now_us)
{
    const struct grant grant = next(fixture, now_us);
    planner_granted(&fixture->planner, &grant);
    ensemble_set_valid(grant.model->ensemble, grant.shard, grant.node, 1, false);
    return grant;
}

static void test_repairs_come_before_first_trainings(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const fresh = add(&fixture, 1, 2, 2);
    struct planned *const hit = add(&fixture, 2, 2, 2);
    train_all(hit);
    assert_ptr_equal(next(&fixture, 0).model, fresh);
    lose(hit, 1, 1, 1000 * SECOND, false);
    const struct grant grant = next(&fixture, 0);
    assert_true(grant.model == hit && grant.repair && grant.shard == 1 && grant.node == 1);
    hit->paused = true; // control
    assert_ptr_equal(next(&fixture, 0).model, fresh);
    end(&fixture);
}

// The due date orders the work of one principal, over its models and within them.
static void test_what_is_due_first_comes_first(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const a = add(&fixture, 1, 4, 1), *const b = add(&fixture, 1, 4, 1);
    train_all(a);
    train_all(b);
    lose(a, 0, 0, 50 * SECOND, false);
    lose(a, 1, 0, 20 * SECOND, false);
    lose(b, 3, 0, 30 * SECOND, false);
    lose(b, 2, 0, 90 * SECOND, true); // In haste: before all others.
    static const struct {
        int model;
        uint32_t shard;
    } expected[] = {{1, 2}, {0, 1}, {1, 3}, {0, 0}};
    for (size_t i = 0; i < 4; i++) {
        const struct grant grant = train_next(&fixture, 0);
        assert_true(grant.model == &fixture.models[expected[i].model]);
        assert_int_equal(grant.shard, expected[i].shard);
    }
    struct grant none;
    assert_false(planner_next(&fixture.planner, 0, 1, &none));
    end(&fixture);
}

// Eager: due dates are nothing to it, the shorter list comes first.
static void test_eager_looks_at_no_due_date(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const model = add(&fixture, 1, 2, 2);
    model->policy.kind = REPAIR_EAGER;
    train_all(model);
    lose(model, 0, 1, 10 * SECOND, false); // [0, 1] of shard 0.
    lose(model, 1, 0, 90 * SECOND, false); // [0] and [0, 1] of shard 1.
    assert_int_equal(train_next(&fixture, 0).shard, 1);
    assert_int_equal(train_next(&fixture, 0).shard, 0);
    end(&fixture);
}

// Two principals that always ask get the same number of seconds, whatever the due dates; a third
// that comes late has no claim on what went before.
static void test_principals_share(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    for (uint32_t principal = 1; principal <= 3; principal++) {
        struct planned *const model = add(&fixture, principal, 4, 1);
        train_all(model);
        // A stage of the second takes three times as long.
        cost_learn(&model->cost, 1, 100, principal == 2 ? 3 : 1);
    }
    uint32_t stages[4] = {0};
    for (int i = 0; i < 4000; i++) {
        for (uint32_t m = 0; m < 3; m++) {
            if (m < 2 || i >= 2000) {
                for (uint32_t shard = 0; shard < 4; shard++) {
                    if (ensemble_sum(fixture.models[m].ensemble).invalid < 4 &&
                        ensemble_slot(fixture.models[m].ensemble, shard, 0)->state == SLOT_VALID) {
                        ensemble_set_invalid(fixture.models[m].ensemble, shard, 0);
                        ensemble_await(fixture.models[m].ensemble, shard, 0,
                                       m == 0 ? 0 : 100 * SECOND); // The first is always due.
                    }
                }
            }
        }
        if (i == 2000) {
            assert_in_range(stages[1], 1498, 1502);
            assert_in_range(stages[2], 498, 502);
            memset(stages, 0, sizeof stages);
        }
        stages[train_next(&fixture, 0).model->principal]++;
    }
    // 1 : 1/3 : 1
    assert_in_range(stages[1], 855, 860);
    assert_in_range(stages[2], 284, 288);
    assert_in_range(stages[3], 855, 860);
    end(&fixture);
}

static void test_a_batch_is_held_until_it_is_full(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const model = add(&fixture, 1, 4, 1);
    struct grant grant;
    assert_int_equal(repair_parse("batch:3", &model->policy), OK);
    train_all(model);
    const int64_t far = 1000000 * SECOND;
    lose(model, 0, 0, far, false);
    lose(model, 1, 0, far, false);
    assert_true(planned_holds(model, 0, 1));
    assert_false(planner_next(&fixture.planner, 0, 1, &grant));
    assert_int_equal(planner_count_ready(&fixture.planner, 100), 0);
    lose(model, 0, 0, far, false); // The third: shares its repair with the first.
    assert_false(planned_holds(model, 0, 1));
    assert_true(planner_next(&fixture.planner, 0, 1, &grant));
    assert_int_equal(planner_count_ready(&fixture.planner, 100), 2);
    train_next(&fixture, 0);
    lose(model, 3, 0, far, false); // What comes while they are repaired gathers anew,
    train_next(&fixture, 0);
    assert_false(planner_next(&fixture.planner, 0, 1, &grant));
    assert_true(planned_holds(model, 0, 1));
    lose(model, 3, 0, far, false);
    assert_false(planner_next(&fixture.planner, 0, 1, &grant));
    lose(model, 2, 0, far, false); // to the same number.
    assert_true(planner_next(&fixture.planner, 0, 1, &grant));
    assert_int_equal(planner_count_ready(&fixture.planner, 100), 2);
    end(&fixture);
}

static void test_a_batch_is_released_by_haste_and_before_it_is_late(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const model = add(&fixture, 1, 4, 1);
    struct grant grant;
    assert_int_equal(repair_parse("batch:100", &model->policy), OK);
    cost_learn(&model->cost, 1, 1, 1); // A second for each sample,
    cost_learn(&model->cost, 1, 1, 1); // known well: a shard takes nine.
    train_all(model);
    lose(model, 0, 0, 1000 * SECOND, false);
    lose(model, 1, 0, 5000 * SECOND, false);
    // Twice 18 seconds, and a minute, before 1000.
    assert_false(planner_next(&fixture.planner, 903 * SECOND, 1, &grant));
    assert_true(planner_next(&fixture.planner, 905 * SECOND, 1, &grant));
    assert_int_equal(grant.shard, 0);
    train_next(&fixture, 905 * SECOND);
    train_next(&fixture, 905 * SECOND);
    assert_false(planner_next(&fixture.planner, 905 * SECOND, 1, &grant));
    lose(model, 2, 0, 5000 * SECOND, false);
    assert_false(planner_next(&fixture.planner, 905 * SECOND, 1, &grant));
    lose(model, 3, 0, 5000 * SECOND, true);
    assert_true(planner_next(&fixture.planner, 905 * SECOND, 1, &grant));
    assert_int_equal(grant.shard, 3);
    end(&fixture);
}

// What was already waiting, but not held back, is trained for later deletions, too.
static void test_what_waits_is_not_held_again(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const model = add(&fixture, 1, 4, 1);
    struct grant grant;
    train_all(model);
    lose(model, 1, 0, 1000 * SECOND, false);
    assert_int_equal(repair_parse("batch:9", &model->policy), OK);
    lose(model, 1, 0, 1000 * SECOND, false);
    lose(model, 2, 0, 1000 * SECOND, false);
    assert_true(planner_next(&fixture.planner, 0, 1, &grant));
    assert_int_equal(grant.shard, 1);
    train_next(&fixture, 0);
    assert_false(planner_next(&fixture.planner, 0, 1, &grant));
    model->policy.kind = REPAIR_DEADLINE; // Then nothing is.
    assert_true(planner_next(&fixture.planner, 0, 1, &grant));
    assert_int_equal(grant.shard, 2);
    end(&fixture);
}

// After a restart nothing tells whether the repairs had begun: they go on.
static void test_a_batch_goes_on_after_a_restart(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const model = add(&fixture, 1, 4, 1);
    struct grant grant;
    assert_int_equal(repair_parse("batch:9", &model->policy), OK);
    train_all(model);
    ensemble_set_invalid(model->ensemble, 2, 0);
    assert_true(planner_next(&fixture.planner, 0, 1, &grant));
    train_next(&fixture, 0);
    lose(model, 1, 0, 1000 * SECOND, false);
    assert_false(planner_next(&fixture.planner, 0, 1, &grant));
    planned_resume(model);
    assert_true(planner_next(&fixture.planner, 0, 1, &grant));
    end(&fixture);
}

static void test_churn(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct planned *const model = add(&fixture, 1, 4, 1);
    uint32_t shard = 0;
    double rate = 0;
    planned_cancelled(model, 1, 100, 10 * SECOND);
    planned_cancelled(model, 2, 30, 10 * SECOND);
    planned_cancelled(model, 2, 0, 12 * SECOND);
    assert_false(planned_churns(model, 14 * SECOND, &shard, &rate));
    planned_cancelled(model, 2, 5, 13 * SECOND);
    assert_true(planned_churns(model, 14 * SECOND, &shard, &rate));
    assert_int_equal(shard, 2);
    assert_true(rate > 0.7499 && rate < 0.7501); // Three in four seconds.
    assert_int_equal(model->cancelled_stages, 4);
    assert_int_equal(model->cancelled_samples, 135);
    planned_trained(model, 2, 1, 10, 1); // It gets something done.
    assert_false(planned_churns(model, 14 * SECOND, &shard, &rate));
    end(&fixture);
}

static void test_policies_as_texts(void **state)
{
    (void)state;
    static const char *const good[] = {"deadline", "eager", "batch:1", "batch:100000"};
    static const char *const bad[] = {
        "",         "Eager",   "batch",    "batch:",       "batch:0",
        "batch:-1", "batch:x", "batch:1 ", "batch:100001", "deadline:1"};
    struct repair_policy policy;
    char text[REPAIR_TEXT_BYTES];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(repair_parse(good[i], &policy), OK);
        repair_put(&policy, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(repair_parse(bad[i], &policy), ERR_INVALID);
        assert_non_null(strstr(err_text(), "batch:N, N from 1 to 100000"));
    }
}

// Samples retrained for deletions that are given at once are those of the stages that saw the records,
// as they are afterwards, each once: for any spec, set of deletions and order of the work.
static void test_retrained_is_the_least_possible(void **state)
{
    (void)state;
    struct draw draw = draw_new("least");
    for (int trial = 0; trial < 300; trial++) {
        struct fixture fixture = {0};
        const uint32_t shards = 1 + draw_below(&draw, 5), slices = 1 + draw_below(&draw, 6);
        struct planned *const model = add(&fixture, 1, shards, slices);
        struct ensemble *const ensemble = model->ensemble;
        model->policy.kind = draw_below(&draw, 2) == 0 ? REPAIR_DEADLINE : REPAIR_EAGER;
        train_all(model);
        uint64_t *const lost = mem_alloc((size_t)shards * slices, sizeof *lost);
        const uint32_t deletions = 1 + draw_below(&draw, 12);
        for (uint32_t i = 0; i < deletions; i++) {
            const uint32_t at = draw_below(&draw, shards) * slices + draw_below(&draw, slices);
            lost[at] += lost[at] < 10;
        }
        const struct ensemble_cost least = ensemble_plan(ensemble, lost);
        for (uint32_t at = 0; at < shards * slices; at++) {
            for (uint64_t k = 0; k < lost[at]; k++) {
                lose(model, at / slices, at % slices, draw_below(&draw, 100) * SECOND, false);
            }
        }
        uint64_t samples = 0;
        uint32_t stages = 0;
        struct grant grant;
        while (planner_next(&fixture.planner, 0, 1, &grant)) {
            samples += ensemble_samples(ensemble, grant.shard, grant.node);
            stages += 1;
            train_next(&fixture, 0);
        }
        assert_true(samples == least.samples);
        assert_true(stages <= least.components); // What lost all its records is not trained.
        assert_int_equal(ensemble_sum(ensemble).waiting, 0);
        mem_free(lost);
        end(&fixture);
    }
}

// SISA's batch formula (Bourtoule et al. 2021, section IV): K deletions at once hit N(1-(1-1/S)^K)
// records' worth of retraining where shards have no slices.
static void test_batches_cost_what_the_formula_says(void **state)
{
    (void)state;
    enum { SHARDS = 20, TRIALS = 2000, RECORDS = 10 * SHARDS };
    struct draw draw = draw_new("formula");
    for (uint32_t k = 1; k <= 64; k *= 4) {
        double sum = 0, missed = 1;
        for (int trial = 0; trial < TRIALS; trial++) {
            struct ensemble ensemble;
            uint64_t cells[SHARDS], lost[SHARDS] = {0};
            const struct placement placement = placement_uniform(SHARDS, 1, 1);
            rotation_ensemble(&ensemble, &placement, 1, 1, false, 1);
            for (uint32_t i = 0; i < SHARDS; i++) {
                cells[i] = 10 * 1000000; // So many that what is deleted does not count.
            }
            ensemble_set_cells(&ensemble, cells);
            for (uint32_t i = 0; i < SHARDS; i++) {
                ensemble_set_valid(&ensemble, i, 0, 1, false);
            }
            for (uint32_t i = 0; i < k; i++) {
                lost[draw_below(&draw, SHARDS)]++;
            }
            sum += (double)ensemble_plan(&ensemble, lost).samples / 1e6;
            ensemble_deinit(&ensemble);
        }
        for (uint32_t i = 0; i < k; i++) {
            missed *= 1 - 1.0 / SHARDS;
        }
        const double expected = RECORDS * (1 - missed), found = sum / TRIALS;
        assert_true(found > expected * 0.97 && found < expected * 1.03);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repairs_come_before_first_trainings),
        cmocka_unit_test(test_what_is_due_first_comes_first),
        cmocka_unit_test(test_eager_looks_at_no_due_date),
        cmocka_unit_test(test_principals_share),
        cmocka_unit_test(test_a_batch_is_held_until_it_is_full),
        cmocka_unit_test(test_a_batch_is_released_by_haste_and_before_it_is_late),
        cmocka_unit_test(test_what_waits_is_not_held_again),
        cmocka_unit_test(test_a_batch_goes_on_after_a_restart),
        cmocka_unit_test(test_churn),
        cmocka_unit_test(test_policies_as_texts),
        cmocka_unit_test(test_retrained_is_the_least_possible),
        cmocka_unit_test(test_batches_cost_what_the_formula_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
