// client/cmd_simcluster.c: the command simulate cluster. It needs no cluster.
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/commands.h"
#include "client/grid.h"
#include "client/interrupt.h"
#include "scheduler/due.h"
#include "scheduler/simrun.h"

enum { POLICIES_MAX = 8 };

struct simcluster_options {
    struct ctl_globals globals;
    struct args_u64 records, shards, slices, budget, epochs, days, together, ranks, chunks,
        back_after, seed;
    const char *per_day, *due, *seconds_per_sample, *mtbf, *policy, *risk, *risk_people,
        *risk_deletions;
};

#define U64(field, max) ARGS_U64, offsetof(struct simcluster_options, field), max
#define TEXT(field)     ARGS_TEXT, offsetof(struct simcluster_options, field), 0

static const struct args_option option_table[] = {
    CTL_GLOBAL_OPTIONS,
    {"records", 'n', "N", "Records of the dataset", U64(records, LIMIT_SIM_RECORDS)},
    {"shards", 'm', "S", "Shards", U64(shards, LIMIT_SHARDS)},
    {"slices", 'l', "L", "Slices of each shard", U64(slices, LIMIT_SLICES)},
    {"budget", 'b', "B", "Sequences (default: 1)", U64(budget, LIMIT_SEQUENCES)},
    {"epochs", 'e', "E", "epochs of the spec (default: 1)", U64(epochs, LIMIT_EPOCHS)},
    {"days", 'd', "D", "Days (default: 365)", U64(days, LIMIT_SIM_DAYS)},
    {"per-day", 1200, "X", "Deletions a day, on average (default: 1000)", TEXT(per_day)},
    {"together", 1201, "K", "So many come at once (default: 1)", U64(together, LIMIT_REPAIR_BATCH)},
    {"due", 1202, "DUE", "gdpr (default), ccpa, 30d, 12h: from each deletion on", TEXT(due)},
    {"ranks", 'r', "R", "Ranks (default: 16)", U64(ranks, LIMIT_WORKERS)},
    {"chunks", 1203, "C", "gradient_chunks of the spec (default: 1)",
     U64(chunks, LIMIT_GRADIENT_CHUNKS)},
    {"seconds-per-sample", 1204, "X", "Of one rank (default: 0.001)", TEXT(seconds_per_sample)},
    {"mtbf", 1205, "H", "Each rank fails every H hours, on average (default: never)", TEXT(mtbf)},
    {"back-after", 1206, "S", "Seconds until a failed rank is back (default: 60)",
     U64(back_after, LIMIT_SIM_BACK_SECONDS)},
    {"policy", 'p', "POLICY,...",
     "Repair policies, compared (default: deadline,eager,batch:100,batch:1000)", TEXT(policy)},
    {"risk", 1207, "TABLE", "Where risk classes lie, as in a spec (default: uniform)", TEXT(risk)},
    {"risk-people", 1208, "P,P,...", "Share of the records that class 0, 1, ... has; any scale",
     TEXT(risk_people)},
    {"risk-deletions", 1209, "P,P,...", "Share of the deletions; any scale", TEXT(risk_deletions)},
    {"seed", 1210, "S", "Other random numbers (default: 0)", U64(seed, 0)},
};

// ---------------------------------------------------------------- what is asked

static uint64_t count_of(struct args_u64 option, uint64_t otherwise)
{
    return option.given ? option.value : otherwise;
}

static enum err read_number(const char *what, const char *text, double *number)
{
    if (text != NULL) {
        TRY_AS(text_f64(span_text(text), number), "%s", what);
    }
    return OK;
}

static enum err read_shares(const char *what, const char *text,
                            double out[static LIMIT_RISK_CLASSES], uint32_t *count_out)
{
    uint32_t count = 0;
    for (const char *at = text; at != NULL; count++) {
        const char *const end = strchr(at, ',');
        const size_t bytes = end == NULL ? strlen(at) : (size_t)(end - at);
        if (count == LIMIT_RISK_CLASSES) {
            FAIL(ERR_INVALID, "%s has more than %d numbers, one for each risk class", what,
                 (int)LIMIT_RISK_CLASSES);
        }
        TRY_AS(text_f64(span_of(at, bytes), &out[count]), "%s, number %u", what, count + 1);
        at = end == NULL ? NULL : end + 1;
    }
    *count_out = count;
    return OK;
}

static enum err read_risk(const struct simcluster_options *options, struct simrun_setup *setup)
{
    uint32_t deletions = 0;
    setup->class_count = 1;
    setup->people[0] = setup->deletions[0] = 1;
    if (options->risk != NULL) {
        TRY(risk_get("--risk", options->risk, &setup->risk));
    }
    if (options->risk == NULL && options->risk_people == NULL && options->risk_deletions == NULL) {
        return OK;
    }
    if (options->risk_people == NULL || options->risk_deletions == NULL) {
        FAIL(ERR_INVALID, "risk classes need --risk-people and --risk-deletions");
    }
    TRY(read_shares("--risk-people", options->risk_people, setup->people, &setup->class_count));
    TRY(read_shares("--risk-deletions", options->risk_deletions, setup->deletions, &deletions));
    if (deletions != setup->class_count) {
        FAIL(ERR_INVALID, "--risk-people has %u numbers and --risk-deletions %u, expected as many",
             setup->class_count, deletions);
    }
    return OK;
}

static enum err read_setup(const struct simcluster_options *options, struct simrun_setup *setup)
{
    if (!options->records.given || !options->shards.given || !options->slices.given) {
        FAIL(ERR_INVALID, "expected --records N, --shards S and --slices L");
    }
    *setup = (struct simrun_setup){
        .records = options->records.value,
        .shards = (uint32_t)options->shards.value,
        .slices = (uint32_t)options->slices.value,
        .budget = (uint32_t)count_of(options->budget, 1),
        .epochs = (uint32_t)count_of(options->epochs, 1),
        .days = (uint32_t)count_of(options->days, 365),
        .per_day = 1000,
        .together = (uint32_t)count_of(options->together, 1),
        .due = options->due == NULL ? DUE_DEFAULT : options->due,
        .ranks = (uint32_t)count_of(options->ranks, 16),
        .chunks = (uint32_t)count_of(options->chunks, 1),
        .seconds_per_sample = 0.001,
        .back_after = (uint32_t)count_of(options->back_after, 60),
        .seed = options->seed.value,
    };
    TRY(read_number("--per-day", options->per_day, &setup->per_day));
    TRY(read_number("--seconds-per-sample", options->seconds_per_sample,
                    &setup->seconds_per_sample));
    TRY(read_number("--mtbf", options->mtbf, &setup->mtbf_hours));
    if (options->mtbf != NULL && !(setup->mtbf_hours > 0)) {
        FAIL(ERR_INVALID, "--mtbf is %g hours, expected more than 0", setup->mtbf_hours);
    }
    return read_risk(options, setup);
}

struct policies {
    uint32_t count;
    struct repair_policy of[POLICIES_MAX];
    char names[POLICIES_MAX][REPAIR_TEXT_BYTES];
    struct simcluster_result results[POLICIES_MAX];
    double cpu_seconds[POLICIES_MAX];
};

static enum err read_policies(const char *text, struct policies *policies)
{
    for (const char *at = text; at != NULL; policies->count++) {
        const char *const end = strchr(at, ',');
        const size_t bytes = end == NULL ? strlen(at) : (size_t)(end - at);
        char one[REPAIR_TEXT_BYTES] = "";
        if (policies->count == POLICIES_MAX) {
            FAIL(ERR_INVALID, "--policy names more than %d", (int)POLICIES_MAX);
        }
        memcpy(one, at, bytes < sizeof one ? bytes : sizeof one - 1);
        TRY_AS(repair_parse(one, &policies->of[policies->count]), "--policy, number %u",
               policies->count + 1);
        repair_put(&policies->of[policies->count], policies->names[policies->count]);
        at = end == NULL ? NULL : end + 1;
    }
    return OK;
}

// ---------------------------------------------------------------- the answer

static json_t *work_json(const struct simwork *work)
{
    return json_pack("{s:I, s:I, s:o}", "stages", (json_int_t)work->stages, "samples",
                     (json_int_t)work->samples, "rank_seconds",
                     ctl_real((double)work->rank_us / 1e6));
}

static json_t *share_json(struct simcluster_share share)
{
    return json_pack("{s:o, s:o}", "mean", ctl_real(share.mean), "min", ctl_real(share.least));
}

static json_t *result_json(const char *policy, const struct simcluster_result *result)
{
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:{s:o, s:o, s:o, s:o}, s:o, s:o, "
        "s:o, s:o, s:{s:o, s:o, s:o}}",
        "policy", policy, "deletions", (json_int_t)result->deletions, "repaired",
        (json_int_t)result->repaired, "open", (json_int_t)result->open, "late",
        (json_int_t)result->late, "open_late", (json_int_t)result->open_late, "trained",
        work_json(&result->trained), "cancelled", work_json(&result->cancelled), "lost",
        work_json(&result->lost), "failures", (json_int_t)result->failures, "cancelled_in_a_row",
        (json_int_t)result->cancelled_in_a_row, "repair_seconds", "mean",
        ctl_real(result->repair_mean_us / 1e6), "p50",
        ctl_real((double)result->repair_median_us / 1e6), "p99",
        ctl_real((double)result->repair_p99_us / 1e6), "max",
        ctl_real((double)result->repair_most_us / 1e6), "due_used", ctl_real(result->due_used),
        "records_served", share_json(result->records), "slices_served", share_json(result->slices),
        "shards_used", share_json(result->shards), "rank_seconds", "idle",
        ctl_real((double)result->idle_us / 1e6), "down", ctl_real((double)result->down_us / 1e6),
        "training", ctl_real((double)result->training_us / 1e6));
}

static void print_json(const struct simrun_setup *setup, const struct policies *policies)
{
    json_t *const list = json_array();
    double cpu_seconds = 0;
    for (uint32_t i = 0; i < policies->count; i++) {
        json_array_append_new(list, result_json(policies->names[i], &policies->results[i]));
        cpu_seconds += policies->cpu_seconds[i];
    }
    ctl_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "records",
                        (json_int_t)setup->records, "shards", (json_int_t)setup->shards, "slices",
                        (json_int_t)setup->slices, "budget", (json_int_t)setup->budget, "epochs",
                        (json_int_t)setup->epochs, "days", (json_int_t)setup->days, "ranks",
                        (json_int_t)setup->ranks, "seed", (json_int_t)setup->seed, "policies", list,
                        "cpu_seconds", ctl_real(cpu_seconds)));
}

// "12 s", "3.4 min", "5.6 h", "7.8 d"
static void time_cell(struct grid *grid, double us)
{
    const double seconds = us / 1e6;
    if (seconds < 120) {
        grid_cell(grid, "%.0f s", seconds);
    } else if (seconds < 7200) {
        grid_cell(grid, "%.1f min", seconds / 60);
    } else if (seconds < 172800) {
        grid_cell(grid, "%.1f h", seconds / 3600);
    } else {
        grid_cell(grid, "%.1f d", seconds / 86400);
    }
}

static void count_cell(struct grid *grid, double count)
{
    char text[PROGRESS_COUNT_BYTES];
    progress_count(count, text);
    grid_cell(grid, "%s", text);
}

static void share_cell(struct grid *grid, struct simcluster_share share)
{
    grid_cell(grid, "%.1f %% (%.1f %%)", 100 * share.mean, 100 * share.least);
}

static void ranks_cell(struct grid *grid, const struct simcluster_result *result)
{
    const double trained = (double)(result->trained.rank_us + result->training_us);
    const double wasted = (double)(result->cancelled.rank_us + result->lost.rank_us);
    const double all = trained + wasted + (double)(result->idle_us + result->down_us);
    grid_cell(grid, "%.1f, %.1f, %.1f", 100 * trained / all, 100 * wasted / all,
              100 * (double)result->down_us / all);
}

// One row of the table: what it says, and how a policy's cell of it is made.
enum row {
    ROW_REPAIRED,
    ROW_LATE,
    ROW_STAGES,
    ROW_SAMPLES,
    ROW_EACH,
    ROW_VOID,
    ROW_WASTED,
    ROW_IN_A_ROW,
    ROW_MEAN,
    ROW_MEDIAN,
    ROW_P99,
    ROW_MOST,
    ROW_USED,
    ROW_RECORDS,
    ROW_SLICES,
    ROW_SHARDS,
    ROW_RANKS,
    ROW_CPU,
    ROWS
};

static const char *const row_names[ROWS] = {
    "deletions repaired (open)",
    "late (of these open)",
    "stages trained",
    "samples trained",
    "samples trained per deletion",
    "stages cancelled, lost",
    "samples wasted on them",
    "most cancelled in a row in a shard",
    "time to repair: mean",
    "median",
    "99 of 100 within",
    "longest",
    "of the time until due, at most",
    "records served (least)",
    "slices served (least)",
    "shards that answer (least)",
    "ranks: trained, wasted, down, %",
    "CPU seconds of the simulation",
};

static void add_cell(struct grid *grid, enum row row, const struct policies *policies, uint32_t i)
{
    const struct simcluster_result *const result = &policies->results[i];
    const double deletions = result->deletions > 0 ? (double)result->deletions : 1;
    switch (row) {
    case ROW_REPAIRED:
        grid_cell(grid, "%llu (%llu)", (unsigned long long)result->repaired,
                  (unsigned long long)result->open);
        return;
    case ROW_LATE:
        grid_cell(grid, "%llu (%llu)", (unsigned long long)result->late + result->open_late,
                  (unsigned long long)result->open_late);
        return;
    case ROW_STAGES:
        grid_cell(grid, "%llu", (unsigned long long)result->trained.stages);
        return;
    case ROW_SAMPLES:
        count_cell(grid, (double)result->trained.samples);
        return;
    case ROW_EACH:
        grid_cell(grid, "%.0f", (double)result->trained.samples / deletions);
        return;
    case ROW_VOID:
        grid_cell(grid, "%llu, %llu", (unsigned long long)result->cancelled.stages,
                  (unsigned long long)result->lost.stages);
        return;
    case ROW_WASTED:
        count_cell(grid, (double)(result->cancelled.samples + result->lost.samples));
        return;
    case ROW_IN_A_ROW:
        grid_cell(grid, "%llu", (unsigned long long)result->cancelled_in_a_row);
        return;
    case ROW_MEAN:
        time_cell(grid, result->repair_mean_us);
        return;
    case ROW_MEDIAN:
        time_cell(grid, (double)result->repair_median_us);
        return;
    case ROW_P99:
        time_cell(grid, (double)result->repair_p99_us);
        return;
    case ROW_MOST:
        time_cell(grid, (double)result->repair_most_us);
        return;
    case ROW_USED:
        grid_cell(grid, "%.2f %%", 100 * result->due_used);
        return;
    case ROW_RECORDS:
        share_cell(grid, result->records);
        return;
    case ROW_SLICES:
        share_cell(grid, result->slices);
        return;
    case ROW_SHARDS:
        share_cell(grid, result->shards);
        return;
    case ROW_RANKS:
        ranks_cell(grid, result);
        return;
    case ROW_CPU:
        grid_cell(grid, "%.1f", policies->cpu_seconds[i]);
        return;
    case ROWS:
        return;
    }
}

static void print_grid(const struct policies *policies)
{
    char heads[POLICIES_MAX * (REPAIR_TEXT_BYTES + 2) + 1] = "";
    for (uint32_t i = 0; i < policies->count; i++) {
        const size_t at = strlen(heads);
        snprintf(heads + at, sizeof heads - at, "|>%s", policies->names[i]);
    }
    struct grid *const grid = grid_new(heads);
    for (enum row row = 0; row < ROWS; row++) {
        grid_cell(grid, "%s", row_names[row]);
        for (uint32_t i = 0; i < policies->count; i++) {
            add_cell(grid, row, policies, i);
        }
    }
    grid_print(grid, stdout);
    grid_free(grid);
}

// ---------------------------------------------------------------- running

static enum err run_days(struct simrun *run, uint32_t days, struct progress *progress,
                         uint64_t done, uint64_t total)
{
    for (uint32_t day = 1; day <= days; day++) {
        simrun_until(run, day);
        progress_step(progress, done + day, total, clock_mono_ms());
        TRY(interrupt_check());
    }
    return OK;
}

static enum err run_policy(struct simrun_setup *setup, struct policies *policies, uint32_t i,
                           struct progress *progress)
{
    struct simrun *run;
    const clock_t began = clock();
    setup->policy = policies->of[i];
    TRY(simrun_open(setup, &run));
    const enum err err = run_days(run, setup->days, progress, (uint64_t)i * setup->days,
                                  (uint64_t)policies->count * setup->days);
    policies->results[i] = simrun_result(run);
    policies->cpu_seconds[i] = (double)(clock() - began) / (double)CLOCKS_PER_SEC;
    simrun_close(run);
    return err;
}

static enum err run_policies(const struct ctl *ctl, struct simrun_setup *setup,
                             struct policies *policies)
{
    struct progress progress;
    enum err err = OK;
    interrupt_watch();
    progress_init(&progress, "simulating", "days", ctl_progress(ctl));
    for (uint32_t i = 0; i < policies->count && err == OK; i++) {
        err = run_policy(setup, policies, i, &progress);
    }
    progress_end(&progress);
    return err;
}

static enum err run_simcluster(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)words;
    const struct simcluster_options *const given = options;
    struct policies policies = {0};
    struct simrun_setup setup;
    TRY(read_setup(given, &setup));
    TRY(read_policies(given->policy == NULL ? "deadline,eager,batch:100,batch:1000" : given->policy,
                      &policies));
    TRY(run_policies(ctl, &setup, &policies));
    if (ctl->json) {
        print_json(&setup, &policies);
    } else {
        print_grid(&policies);
    }
    return OK;
}

const struct ctl_command cmd_simulate_cluster = {
    .name = "simulate cluster",
    .summary = "What repair policies cost a whole cluster; needs no server",
    .help =
        "N records in S shards of L slices, trained in B sequences, all of it at the beginning. "
        "Deletions come at random, each of a record that is left; ranks repair what they hit, by "
        "the coordinator's own rules, and fail at random. For each policy: samples trained and "
        "wasted, time from a deletion to its repair, and which part of records and slices stands "
        "behind what answers meanwhile (its mean over time and its least).\n\n"
        "The same options and seed give the same answer, and deletions and failures are the same "
        "under each policy. With --json the last field, cpu_seconds, differs.\n\n"
        "Examples:\n"
        "  unlearnctl simulate cluster --records 1000000 --shards 64 --slices 16 --budget 4 "
        "--epochs 10 --mtbf 720\n"
        "  unlearnctl simulate cluster --records 1000000 --shards 8 --slices 4 --per-day 200 "
        "--ranks 8 --policy deadline,batch:50 --due 7d\n"
        "  unlearnctl simulate cluster --records 100000 --shards 16 --slices 4 --epochs 20 "
        "--per-day 20 --risk '[0=0-13/*, 1=14-15/*]' --risk-people 95,5 --risk-deletions 20,80",
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
    .options_bytes = sizeof(struct simcluster_options),
    .run = run_simcluster,
};
