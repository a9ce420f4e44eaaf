// scheduler/simrun.c: see simrun.h.
#include "scheduler/simrun.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "scheduler/due.h"
#include "scheduler/sequence.h"
#include "scheduler/simdraw.h"
#include "scheduler/simpeople.h"

static const double DAY_US = 86400e6;
// Whole numbers up to here are exact as doubles, and as microseconds they are 285 years.
static const double WHOLE_MAX = 0x1p53;

struct simrun {
    struct simrun_setup setup;
    struct simcluster *cluster;
    struct simpeople people;
    uint64_t deletions[LIMIT_RISK_CLASSES]; // Shares, as whole numbers, and
    uint64_t deletions_all;                 // their sum.
    struct simdraw when, who;
    uint64_t mean_us, mtbf_us;
    int64_t next_us;          // When deletions come next.
    struct simdraw *failures; // [ranks]; NULL: none fails.
    struct heap fails;        // Ranks by when they fail next.
};

// ---------------------------------------------------------------- what is asked

static enum err check_count(const char *name, uint64_t value, uint64_t max)
{
    if (value < 1 || value > max) {
        FAIL(ERR_INVALID, "%s is %llu, expected 1 to %llu", name, (unsigned long long)value,
             (unsigned long long)max);
    }
    return OK;
}

static enum err check_counts(const struct simrun_setup *setup)
{
    TRY(check_count("records", setup->records, LIMIT_SIM_RECORDS));
    TRY(check_count("shards", setup->shards, LIMIT_SHARDS));
    TRY(check_count("slices", setup->slices, LIMIT_SLICES));
    TRY(check_count("budget", setup->budget, LIMIT_SEQUENCES));
    TRY(check_count("epochs", setup->epochs, LIMIT_EPOCHS));
    TRY(check_count("days", setup->days, LIMIT_SIM_DAYS));
    TRY(check_count("together", setup->together, LIMIT_REPAIR_BATCH));
    TRY(check_count("ranks", setup->ranks, LIMIT_WORKERS));
    TRY(check_count("chunks", setup->chunks, LIMIT_GRADIENT_CHUNKS));
    TRY(check_count("classes", setup->class_count, LIMIT_RISK_CLASSES));
    if (setup->back_after > LIMIT_SIM_BACK_SECONDS) {
        FAIL(ERR_INVALID, "back-after is %u s, expected at most %d", setup->back_after,
             (int)LIMIT_SIM_BACK_SECONDS);
    }
    if (!sequence_fits(setup->slices, setup->budget)) {
        FAIL(ERR_INVALID, "budget is %u, expected at most the number of orders of %u slices",
             setup->budget, setup->slices);
    }
    const uint64_t components = (uint64_t)setup->shards * setup->slices * setup->budget;
    if (components > LIMIT_COMPONENTS) {
        FAIL(ERR_LIMIT, "shards * slices * budget is %llu, expected at most %d",
             (unsigned long long)components, (int)LIMIT_COMPONENTS);
    }
    return OK;
}

// Negated comparisons, so that what is not a number is refused, too.
static enum err check_rates(const struct simrun_setup *setup)
{
    if (!(setup->per_day > 0)) {
        FAIL(ERR_INVALID, "per-day is %g, expected more than 0", setup->per_day);
    }
    if (!(setup->per_day * setup->days <= LIMIT_SIM_EVENTS)) {
        FAIL(ERR_LIMIT, "%g deletions on each of %u days are more than %d in all", setup->per_day,
             setup->days, (int)LIMIT_SIM_EVENTS);
    }
    if (!(setup->seconds_per_sample >= 1e-9 && setup->seconds_per_sample <= 1e6)) {
        FAIL(ERR_INVALID, "seconds-per-sample is %g, expected 1e-9 to 1e6",
             setup->seconds_per_sample);
    }
    if (!(setup->mtbf_hours >= 0)) {
        FAIL(ERR_INVALID, "mtbf is %g hours, expected more than 0", setup->mtbf_hours);
    }
    if (setup->mtbf_hours > 0 &&
        !(24.0 * setup->days * setup->ranks / setup->mtbf_hours <= LIMIT_SIM_EVENTS)) {
        FAIL(ERR_LIMIT, "%u ranks that fail every %g hours do so more than %d times in %u days",
             setup->ranks, setup->mtbf_hours, (int)LIMIT_SIM_EVENTS, setup->days);
    }
    return OK;
}

static enum err check_due(const char *due)
{
    int64_t due_us = 0;
    TRY(due_parse(due, SIMRUN_BEGIN_US, &due_us));
    if (strchr(due, '-') != NULL) {
        FAIL(ERR_INVALID, "the due date is a date, expected one that counts from each deletion: "
                          "gdpr, ccpa, 30d or 12h");
    }
    return OK;
}

static enum err check_shares(const char *what, const double *shares, uint32_t count)
{
    double sum = 0;
    for (uint32_t risk = 0; risk < count; risk++) {
        if (!(shares[risk] >= 0 && shares[risk] <= 1e12)) {
            FAIL(ERR_INVALID, "the share of risk class %u in %s is %g, expected 0 or more", risk,
                 what, shares[risk]);
        }
        sum += shares[risk];
    }
    if (!(sum > 0)) {
        FAIL(ERR_INVALID, "the shares of all risk classes in %s are 0", what);
    }
    return OK;
}

static enum err check(const struct simrun_setup *setup)
{
    TRY(check_counts(setup));
    TRY(check_rates(setup));
    TRY(check_due(setup->due));
    TRY(risk_check("risk", &setup->risk, setup->shards, setup->slices));
    TRY(check_shares("people", setup->people, setup->class_count));
    return check_shares("deletions", setup->deletions, setup->class_count);
}

// Shares as whole numbers whose sum is about 2^32.
static void take_shares(const double *shares, uint32_t count,
                        uint64_t out[static LIMIT_RISK_CLASSES])
{
    double sum = 0;
    for (uint32_t risk = 0; risk < count; risk++) {
        sum += shares[risk];
    }
    for (uint32_t risk = 0; risk < count; risk++) {
        out[risk] = (uint64_t)(shares[risk] / sum * 0x1p32 + 0.5);
    }
}

// The records of each class; what rounding leaves goes to the first that has a share.
static void divide_records(const struct simrun_setup *setup,
                           uint64_t out[static LIMIT_RISK_CLASSES])
{
    uint64_t shares[LIMIT_RISK_CLASSES] = {0}, all = 0, left = setup->records;
    take_shares(setup->people, setup->class_count, shares);
    for (uint32_t risk = 0; risk < setup->class_count; risk++) {
        all += shares[risk];
    }
    for (uint32_t risk = setup->class_count; risk-- > 0;) {
        // Quotient and rest apart, so that nothing overflows.
        out[risk] = setup->records / all * shares[risk] + setup->records % all * shares[risk] / all;
        left -= out[risk];
    }
    uint32_t first = 0;
    while (shares[first] == 0) {
        first++;
    }
    out[first] += left;
}

// ---------------------------------------------------------------- beginning and end

static enum err check_seconds(const struct simrun *run)
{
    const struct ensemble_totals totals = ensemble_sum(simrun_ensemble(run));
    const double us = (double)totals.samples_all * run->setup.seconds_per_sample * 1e6;
    if (!(us <= WHOLE_MAX)) {
        FAIL(ERR_LIMIT, "to train the model once takes one rank %.0f years, expected at most %.0f",
             us / (365 * DAY_US), WHOLE_MAX / (365 * DAY_US));
    }
    return OK;
}

static void open_cluster(struct simrun *run)
{
    const struct simrun_setup *const setup = &run->setup;
    struct placement placement = placement_uniform(setup->shards, setup->slices, 1);
    placement.risk = setup->risk;
    uint64_t records[LIMIT_RISK_CLASSES] = {0};
    divide_records(setup, records);
    simpeople_init(&run->people, &placement, records);
    uint64_t *const cells = mem_alloc(run->people.cells, sizeof *cells);
    uint16_t *const orders = mem_alloc((size_t)setup->budget * setup->slices, sizeof *orders);
    sequence_rotation(setup->slices, setup->budget, orders);
    simpeople_cells(&run->people, cells);
    const struct simcluster_setup cluster = {
        .placement = placement,
        .sequences = setup->budget,
        .orders = orders,
        .epochs = setup->epochs,
        .cells = cells,
        .policy = setup->policy,
        .ranks = setup->ranks,
        .chunks = setup->chunks,
        .seconds_per_sample = setup->seconds_per_sample,
        .back_us = (int64_t)setup->back_after * 1000000,
        .begin_us = SIMRUN_BEGIN_US,
    };
    simcluster_open(&cluster, &run->cluster);
    mem_free(orders);
    mem_free(cells);
}

static void open_streams(struct simrun *run)
{
    const struct simrun_setup *const setup = &run->setup;
    const double mean_us = DAY_US * setup->together / setup->per_day + 0.5;
    run->mean_us = mean_us < WHOLE_MAX ? (uint64_t)mean_us : (uint64_t)WHOLE_MAX;
    run->when = simdraw_of(setup->seed, "when", 0);
    run->who = simdraw_of(setup->seed, "who", 0);
    take_shares(setup->deletions, setup->class_count, run->deletions);
    for (uint32_t risk = 0; risk < setup->class_count; risk++) {
        run->deletions_all += run->deletions[risk];
    }
    run->next_us = SIMRUN_BEGIN_US + simdraw_wait_us(&run->when, run->mean_us);
    heap_init(&run->fails, setup->ranks);
    if (setup->mtbf_hours > 0) {
        const double mtbf_us = DAY_US / 24 * setup->mtbf_hours;
        run->mtbf_us = mtbf_us < WHOLE_MAX ? (uint64_t)mtbf_us : (uint64_t)WHOLE_MAX;
        run->failures = mem_alloc(setup->ranks, sizeof *run->failures);
        for (uint32_t rank = 0; rank < setup->ranks; rank++) {
            run->failures[rank] = simdraw_of(setup->seed, "fail", rank);
            heap_add(&run->fails, rank,
                     SIMRUN_BEGIN_US + simdraw_wait_us(&run->failures[rank], run->mtbf_us));
        }
    }
}

enum err simrun_open(const struct simrun_setup *setup, struct simrun **run_out)
{
    *run_out = NULL;
    TRY(check(setup));
    struct simrun *const run = mem_alloc(1, sizeof *run);
    run->setup = *setup;
    open_cluster(run);
    open_streams(run);
    const enum err err = check_seconds(run);
    if (err == OK) {
        *run_out = run;
    } else {
        simrun_close(run);
    }
    return err;
}

void simrun_close(struct simrun *run)
{
    if (run == NULL) {
        return;
    }
    simcluster_close(run->cluster);
    simpeople_deinit(&run->people);
    heap_deinit(&run->fails);
    mem_free(run->failures);
    mem_free(run);
}

// ---------------------------------------------------------------- what happens

static uint32_t draw_class(struct simrun *run)
{
    uint64_t at = simdraw_below(&run->who, run->deletions_all);
    uint32_t risk = 0;
    for (; at >= run->deletions[risk]; risk++) {
        at -= run->deletions[risk];
    }
    return risk;
}

static void delete_some(struct simrun *run)
{
    int64_t due_us = 0;
    const enum err err = due_parse(run->setup.due, run->next_us, &due_us);
    CHECK(err == OK);
    for (uint32_t i = 0; i < run->setup.together; i++) {
        const uint32_t risk = draw_class(run);
        const uint64_t left = run->people.of[risk].left;
        if (left > 0) {
            const struct cell cell =
                simpeople_take(&run->people, risk, simdraw_below(&run->who, left));
            simcluster_delete(run->cluster, cell, due_us);
        }
    }
    run->next_us += simdraw_wait_us(&run->when, run->mean_us);
}

static void fail(struct simrun *run, uint32_t rank, int64_t now_us)
{
    simcluster_fail(run->cluster, rank);
    heap_remove(&run->fails, rank);
    heap_add(&run->fails, rank,
             now_us + (int64_t)run->setup.back_after * 1000000 +
                 simdraw_wait_us(&run->failures[rank], run->mtbf_us));
}

void simrun_until(struct simrun *run, uint32_t day)
{
    CHECK(day >= 1 && day <= run->setup.days);
    const int64_t end_us = SIMRUN_BEGIN_US + day * (int64_t)DAY_US;
    for (;;) {
        uint32_t rank = 0;
        int64_t fail_us = INT64_MAX;
        const bool failure = heap_least(&run->fails, &rank, &fail_us) && fail_us < run->next_us;
        const int64_t now_us = failure ? fail_us : run->next_us;
        if (now_us >= end_us) {
            break;
        }
        simcluster_advance(run->cluster, now_us);
        if (failure) {
            fail(run, rank, now_us);
        } else {
            delete_some(run);
        }
    }
    simcluster_advance(run->cluster, end_us);
}

struct simcluster_result simrun_result(const struct simrun *run)
{
    return simcluster_result(run->cluster);
}

const struct ensemble *simrun_ensemble(const struct simrun *run)
{
    return simcluster_ensemble(run->cluster);
}
