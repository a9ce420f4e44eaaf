// tests/unit/test_simrun.c: what a simulation draws has the right odds, and all of it follows from a seed.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/limits.h"
#include "base/mem.h"
#include "scheduler/simdraw.h"
#include "scheduler/simpeople.h"
#include "scheduler/simrun.h"

static const struct simrun_setup usual = {
    .records = 20000,
    .shards = 8,
    .slices = 4,
    .budget = 2,
    .epochs = 3,
    .days = 20,
    .per_day = 100,
    .together = 1,
    .due = "2d",
    .ranks = 4,
    .chunks = 2,
    .seconds_per_sample = 0.05,
    .mtbf_hours = 12,
    .back_after = 600,
    .class_count = 1,
    .people = {1},
    .deletions = {1},
    .seed = 7,
};

static struct simcluster_result run(const struct simrun_setup *setup, uint32_t step)
{
    struct simrun *run;
    if (simrun_open(setup, &run) != OK) {
        fail_msg("%s", err_text());
    }
    for (uint32_t day = step; day < setup->days; day += step) {
        simrun_until(run, day);
    }
    simrun_until(run, setup->days);
    const struct simcluster_result result = simrun_result(run);
    simrun_close(run);
    return result;
}

// ---------------------------------------------------------------- draws

static void test_waits_are_exponential(void **state)
{
    (void)state;
    struct simdraw draw = simdraw_of(1, "test", 0);
    enum { COUNT = 200000, MEAN = 1000000 };
    double sum = 0, squares = 0;
    uint32_t longer[4] = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        const double wait = (double)simdraw_wait_us(&draw, MEAN) / MEAN;
        sum += wait;
        squares += wait * wait;
        for (int k = 0; k < 4; k++) {
            longer[k] += wait > k + 0.5;
        }
    }
    assert_true(fabs(sum / COUNT - 1) < 5 / sqrt(COUNT));
    assert_true(fabs(squares / COUNT - 2) < 5 * sqrt(20.0 / COUNT));
    for (int k = 0; k < 4; k++) {
        const double p = exp(-(k + 0.5));
        assert_true(fabs((double)longer[k] / COUNT - p) < 5 * sqrt(p * (1 - p) / COUNT));
    }
    assert_int_equal(simdraw_wait_us(&draw, 0), 0);
}

static void test_draws_below_a_bound_are_alike(void **state)
{
    (void)state;
    struct simdraw draw = simdraw_of(1, "test", 1), same = simdraw_of(1, "test", 1);
    uint32_t counts[3] = {0};
    for (int i = 0; i < 30000; i++) {
        const uint64_t value = simdraw_below(&draw, 3);
        assert_int_equal(value, simdraw_below(&same, 3));
        counts[value]++;
    }
    for (int i = 0; i < 3; i++) {
        assert_true(abs((int)counts[i] - 10000) < 5 * 82);
    }
    struct simdraw other = simdraw_of(1, "test", 2), purpose = simdraw_of(1, "tesu", 1);
    same = simdraw_of(1, "test", 1);
    const uint64_t first = simdraw_u64(&same);
    assert_true(first != simdraw_u64(&other) && first != simdraw_u64(&purpose));
    // Three quarters of 2^64: were none refused, every third value would come twice as often.
    const uint64_t bound = UINT64_C(3) << 62;
    uint32_t thirds = 0;
    for (int i = 0; i < 30000; i++) {
        thirds += simdraw_below(&draw, bound) % 3 == 0;
    }
    assert_true(abs((int)thirds - 10000) < 5 * 82);
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void test_quantiles_are_near_the_sorted_ones(void **state)
{
    (void)state;
    struct simdraw draw = simdraw_of(1, "test", 3);
    static const uint32_t permilles[] = {1, 10, 500, 990, 1000};
    for (uint32_t count = 0; count < 2000; count = 2 * count + 1) {
        struct spread spread;
        uint64_t *const all = mem_alloc(count + 1, sizeof *all);
        double sum = 0;
        spread_init(&spread);
        for (uint32_t i = 0; i < count; i++) {
            all[i] = simdraw_u64(&draw) >> simdraw_below(&draw, 64);
            sum += (double)all[i];
            spread_add(&spread, all[i]);
        }
        qsort(all, count, sizeof *all, compare_u64);
        assert_true(spread_mean(&spread) == (count == 0 ? 0 : sum / count));
        for (size_t k = 0; k < sizeof permilles / sizeof permilles[0]; k++) {
            const uint64_t found = spread_quantile(&spread, permilles[k]);
            const uint32_t at = (count * permilles[k] + 999) / 1000;
            const uint64_t exact = at == 0 ? 0 : all[at - 1];
            assert_true(found >= exact && found - exact <= exact / 128);
        }
        assert_true(count == 0 || spread_quantile(&spread, 1000) == all[count - 1]);
        spread_deinit(&spread);
        mem_free(all);
    }
}

// ---------------------------------------------------------------- people

static void test_people_lie_where_the_placement_says(void **state)
{
    (void)state;
    struct placement placement = placement_uniform(5, 3, 1);
    assert_int_equal(risk_get("risk", "1=3-4/2,2=*/0-1", &placement.risk), OK);
    const uint64_t records[LIMIT_RISK_CLASSES] = {1000, 100, 7};
    struct simpeople people;
    simpeople_init(&people, &placement, records);
    uint64_t of[3][15] = {{0}}, cells[15], sum = 0;
    for (uint32_t risk = 0; risk < 3; risk++) {
        for (uint64_t i = 0; i < records[risk];
             i++) { // Hashes spread evenly, each placed by itself.
            const uint64_t hash = (uint64_t)((double)i / (double)records[risk] * 0x1p64);
            const struct cell cell = placement_cell(&placement, 0, (uint8_t)risk, hash);
            of[risk][cell.shard * 3 + cell.slice]++;
        }
    }
    simpeople_cells(&people, cells);
    for (uint32_t i = 0; i < 15; i++) {
        assert_true(llabs((int64_t)(cells[i] - of[0][i] - of[1][i] - of[2][i])) <= 3);
        sum += cells[i];
    }
    assert_int_equal(sum, 1107);
    // All of a class, one after the other, from anywhere: each cell gives what it has.
    struct simdraw draw = simdraw_of(1, "test", 4);
    for (uint32_t risk = 0; risk < 3; risk++) {
        for (uint64_t left = records[risk]; left > 0; left--) {
            assert_int_equal(people.of[risk].left, left);
            const uint64_t at = simdraw_below(&draw, left);
            uint64_t before = 0, skipped = 0, now[15];
            simpeople_cells(&people, now);
            const struct cell cell = simpeople_take(&people, risk, at);
            assert_true(risk != 1 || (cell.shard >= 3 && cell.slice == 2));
            assert_true(risk != 2 || cell.slice < 2);
            const uint32_t i = cell.shard * 3 + cell.slice;
            assert_true(cells[i] > 0);
            cells[i]--;
            for (uint32_t j = 0; risk == 2 && j < i; j++) { // Alone by then: cell after cell.
                before += now[j];
            }
            skipped = before;
            assert_true(risk != 2 || (at >= skipped && at < skipped + now[i]));
        }
    }
    simpeople_deinit(&people);
}

// ---------------------------------------------------------------- runs

static void test_a_seed_gives_the_same_in_any_portions(void **state)
{
    (void)state;
    const struct simcluster_result once = run(&usual, usual.days);
    const struct simcluster_result daily = run(&usual, 1);
    // Time passes in other portions, so means over time may round otherwise.
    assert_int_equal(once.trained.samples, daily.trained.samples);
    assert_int_equal(once.cancelled.rank_us, daily.cancelled.rank_us);
    assert_int_equal(once.idle_us, daily.idle_us);
    assert_true(fabs(once.slices.mean - daily.slices.mean) < 1e-12);
    const struct simcluster_result again = run(&usual, 1);
    assert_memory_equal(&again, &daily, sizeof again);
    // On every machine.
    assert_int_equal(once.deletions, 2045);
    assert_int_equal(once.failures, 141);
    assert_int_equal(once.trained.stages, 10105);
    assert_int_equal(once.trained.samples, 17872680);
    assert_int_equal(once.cancelled.samples, 94725);
    assert_int_equal(once.lost.samples, 18486);
    assert_int_equal(once.idle_us, 5928102401833);
    struct simrun_setup other = usual;
    other.seed++;
    assert_true(run(&other, 20).trained.samples != once.trained.samples);
}

// Deletions and failures are the same, so what differs is the policy's.
static void test_policies_see_the_same(void **state)
{
    (void)state;
    struct simrun_setup setup = usual;
    const struct simcluster_result deadline = run(&setup, 20);
    setup.policy = (struct repair_policy){REPAIR_BATCH, 50};
    const struct simcluster_result batch = run(&setup, 20);
    assert_int_equal(deadline.deletions, batch.deletions);
    assert_int_equal(deadline.failures, batch.failures);
    assert_true(batch.trained.samples < deadline.trained.samples);
    assert_true(batch.repair_mean_us > deadline.repair_mean_us);
    assert_true(batch.slices.mean < deadline.slices.mean);
    assert_int_equal(deadline.late + batch.late, 0);
    assert_true(deadline.failures > 100 && deadline.lost.stages > 0 &&
                deadline.cancelled.stages > 0);
}

// SISA's formula, one slice: K deletions at once hit S(1-(1-1/S)^K) shards.
static void test_batches_cost_what_the_formula_says(void **state)
{
    (void)state;
    struct simrun_setup setup = usual;
    setup.records = 10000000;
    setup.shards = 16;
    setup.slices = 1;
    setup.budget = 1;
    setup.epochs = 1;
    setup.days = 400;
    setup.per_day = 10;
    setup.together = 10;
    setup.seconds_per_sample = 1e-9;
    setup.mtbf_hours = 0;
    const struct simcluster_result result = run(&setup, 400);
    const double rounds = (double)result.deletions / 10;
    const double part = 1 - pow(1 - 1.0 / 16, 10);
    // The number of shards hit has a standard deviation below 1.2.
    assert_true(rounds > 300);
    assert_true(fabs((double)result.trained.stages / rounds - 16 * part) < 4 * 1.2 / sqrt(rounds));
    assert_true(fabs((double)result.trained.samples / rounds / 1e7 - part) <
                4 * 1.2 / 16 / sqrt(rounds) + 4000 / 1e7);
    assert_int_equal(result.open, 0);
}

// A class that asks for most deletions, in shards of its own, costs less than anywhere.
static void test_risk_classes_save(void **state)
{
    (void)state;
    struct simrun_setup setup = usual;
    setup.mtbf_hours = 0;
    setup.class_count = 2;
    setup.people[0] = 95;
    setup.people[1] = 5;
    setup.deletions[0] = 0;
    setup.deletions[1] = 1; // 20 days are 2,000: all of its 1,000 people.
    setup.seconds_per_sample = 1e-6;
    struct simcluster_result result = run(&setup, 20);
    assert_int_equal(result.deletions, 1000);
    const uint64_t everywhere = result.trained.samples;
    assert_int_equal(risk_get("risk", "0=0-6/*,1=7/*", &setup.risk), OK);
    result = run(&setup, 20);
    assert_int_equal(result.deletions, 1000);
    assert_true(result.trained.samples < everywhere / 3);
    struct simrun *run;
    assert_int_equal(simrun_open(&setup, &run), OK);
    simrun_until(run, 20);
    assert_int_equal(ensemble_cell(simrun_ensemble(run), (struct cell){7, 0}), 0);
    assert_true(ensemble_cell(simrun_ensemble(run), (struct cell){6, 0}) > 0);
    simrun_close(run);
}

// ---------------------------------------------------------------- bounds

static void assert_refused(const struct simrun_setup *setup, enum err code, const char *text)
{
    struct simrun *run;
    assert_int_equal(simrun_open(setup, &run), code);
    assert_null(run);
    if (strstr(err_text(), text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err_text(), text);
    }
}
#define REFUSED(field, value, code, text)                                                          \
    do {                                                                                           \
        struct simrun_setup setup_ = usual;                                                        \
        setup_.field = (value);                                                                    \
        assert_refused(&setup_, code, text);                                                       \
    } while (0)

static void test_bounds(void **state)
{
    (void)state;
    REFUSED(records, 0, ERR_INVALID, "records is 0, expected 1 to 100000000000");
    REFUSED(records, UINT64_C(100000000001), ERR_INVALID, "records is 100000000001");
    REFUSED(shards, LIMIT_SHARDS + 1, ERR_INVALID, "shards is 4097");
    REFUSED(slices, 0, ERR_INVALID, "slices is 0");
    REFUSED(budget, 25, ERR_INVALID, "at most the number of orders of 4 slices");
    REFUSED(shards, 0, ERR_INVALID, "shards is 0");
    REFUSED(epochs, 0, ERR_INVALID, "epochs is 0");
    REFUSED(days, LIMIT_SIM_DAYS + 1, ERR_INVALID, "days is 3661");
    REFUSED(together, 0, ERR_INVALID, "together is 0");
    REFUSED(ranks, LIMIT_WORKERS + 1, ERR_INVALID, "ranks is 4097");
    REFUSED(chunks, 65, ERR_INVALID, "chunks is 65, expected 1 to 64");
    REFUSED(class_count, 17, ERR_INVALID, "classes is 17");
    REFUSED(per_day, 0, ERR_INVALID, "per-day is 0");
    REFUSED(per_day, (double)NAN, ERR_INVALID, "per-day");
    REFUSED(per_day, 1e6 + 1, ERR_LIMIT, "more than 20000000 in all");
    REFUSED(seconds_per_sample, 0, ERR_INVALID, "seconds-per-sample is 0");
    REFUSED(seconds_per_sample, (double)INFINITY, ERR_INVALID, "seconds-per-sample is inf");
    REFUSED(mtbf_hours, -1, ERR_INVALID, "mtbf is -1");
    REFUSED(mtbf_hours, 1e-6, ERR_LIMIT, "ranks that fail every");
    REFUSED(back_after, LIMIT_SIM_BACK_SECONDS + 1, ERR_INVALID, "back-after");
    REFUSED(due, "never", ERR_INVALID, "gdpr, ccpa");
    REFUSED(due, "2026-12-24", ERR_INVALID, "counts from each deletion");
    REFUSED(due, "0d", ERR_INVALID, "not in the future");
    REFUSED(people[0], 0, ERR_INVALID, "classes in people are 0");
    REFUSED(deletions[0], -1, ERR_INVALID, "class 0 in deletions is -1");
    struct simrun_setup setup = usual;
    setup.shards = 4096;
    setup.slices = 200;
    assert_refused(&setup, ERR_LIMIT, "shards * slices * budget is 1638400");
    setup = usual;
    setup.records = LIMIT_SIM_RECORDS;
    setup.seconds_per_sample = 1e6;
    assert_refused(&setup, ERR_LIMIT, "years, expected at most 286");
    setup = usual;
    assert_int_equal(risk_get("risk", "1=8/*", &setup.risk), OK);
    assert_refused(&setup, ERR_INVALID, "risk");
    setup = usual; // The most of everything that can be opened at once.
    setup.records = LIMIT_SIM_RECORDS;
    setup.epochs = LIMIT_EPOCHS;
    setup.shards = 8;
    setup.slices = 200;
    setup.budget = 256;
    setup.seconds_per_sample = 1e-9;
    setup.days = 1;
    setup.per_day = 1;
    run(&setup, 1);
    simrun_close(NULL);
}

static int start(void **state)
{
    (void)state;
    return digest_start() == OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_are_exponential),
        cmocka_unit_test(test_draws_below_a_bound_are_alike),
        cmocka_unit_test(test_quantiles_are_near_the_sorted_ones),
        cmocka_unit_test(test_people_lie_where_the_placement_says),
        cmocka_unit_test(test_a_seed_gives_the_same_in_any_portions),
        cmocka_unit_test(test_policies_see_the_same),
        cmocka_unit_test(test_batches_cost_what_the_formula_says),
        cmocka_unit_test(test_risk_classes_save),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
