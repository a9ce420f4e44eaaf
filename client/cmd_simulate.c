// client/cmd_simulate.c: the command simulate. It needs no cluster.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/commands.h"
#include "client/grid.h"
#include "client/interrupt.h"
#include "scheduler/simulate.h"

enum {
    TRIALS = 100000,
    TRIALS_MAX = 1000000000,
    STEP_MS = 20, // Between two looks at the bar and at Ctrl-C.
};

struct simulate_options {
    struct ctl_globals globals;
    struct args_u64 shards, slices, budget, trials, seed, records;
    const char *policy, *deletions, *probabilities;
};

static const struct args_option option_table[] = {
    CTL_GLOBAL_OPTIONS,
    {"shards", 'm', "M", "Shards", ARGS_U64, offsetof(struct simulate_options, shards),
     LIMIT_SHARDS},
    {"slices", 'l', "L", "Slices of each shard", ARGS_U64,
     offsetof(struct simulate_options, slices), LIMIT_SLICES},
    {"budget", 'b', "B", "Sequences (default: 1)", ARGS_U64,
     offsetof(struct simulate_options, budget), LIMIT_SEQUENCES},
    {"trials", 't', "T", "Trials (default: 100000)", ARGS_U64,
     offsetof(struct simulate_options, trials), TRIALS_MAX},
    {"seed", 1200, "S", "Other random numbers (default: 0)", ARGS_U64,
     offsetof(struct simulate_options, seed), 0},
    {"policy", 1201, "POLICY", "rotation (default), random, bms or sampling", ARGS_TEXT,
     offsetof(struct simulate_options, policy), 0},
    {"deletions", 1202, "KIND", "with (default), without, given or subjects", ARGS_TEXT,
     offsetof(struct simulate_options, deletions), 0},
    {"probabilities", 1203, "P,P,...",
     "How often each slice is deleted from, for given, bms and sampling; any scale", ARGS_TEXT,
     offsetof(struct simulate_options, probabilities), 0},
    {"records", 1204, "R", "Records of each subject, for --deletions subjects", ARGS_U64,
     offsetof(struct simulate_options, records), SIMULATE_RECORDS_MAX},
};

static enum err read_policy(const char *text, enum sequence_policy *policy_out)
{
    *policy_out = SEQUENCE_ROTATION;
    for (enum sequence_policy i = SEQUENCE_ROTATION; text != NULL; i++) {
        if (i > SEQUENCE_SAMPLING) {
            FAIL(ERR_INVALID, "--policy is \"%.40s\", expected rotation, random, bms or sampling",
                 text);
        }
        if (strcmp(text, sequence_policy_name(i)) == 0) {
            *policy_out = i;
            break;
        }
    }
    return OK;
}

static enum err read_deletions(const char *text, enum simulate_deletions *deletions_out)
{
    *deletions_out = SIMULATE_WITH;
    for (enum simulate_deletions i = SIMULATE_WITH; text != NULL; i++) {
        if (i > SIMULATE_SUBJECTS) {
            FAIL(ERR_INVALID, "--deletions is \"%.40s\", expected with, without, given or subjects",
                 text);
        }
        if (strcmp(text, simulate_deletions_name(i)) == 0) {
            *deletions_out = i;
            break;
        }
    }
    return OK;
}

static enum err read_probabilities(const char *text, uint32_t slices,
                                   double out[static LIMIT_SLICES])
{
    uint32_t count = 0;
    for (const char *at = text; at != NULL; count++) {
        const char *const end = strchr(at, ',');
        const size_t bytes = end == NULL ? strlen(at) : (size_t)(end - at);
        if (count < slices) {
            TRY_AS(text_f64(span_of(at, bytes), &out[count]), "--probabilities, number %u",
                   count + 1);
        }
        at = end == NULL ? NULL : end + 1;
    }
    if (count != slices) {
        FAIL(ERR_INVALID, "--probabilities has %u numbers, expected one for each of %u slices",
             count, slices);
    }
    return OK;
}

// What belongs together must come together: an option without effect is a slip.
static enum err check_options(const struct simulate_options *options,
                              const struct simulate_setup *setup)
{
    const bool given = setup->deletions == SIMULATE_GIVEN;
    const bool subjects = setup->deletions == SIMULATE_SUBJECTS;
    if (given && options->probabilities == NULL) {
        FAIL(ERR_INVALID, "--deletions given needs --probabilities");
    }
    if (options->probabilities != NULL && !given && setup->policy != SEQUENCE_BMS &&
        setup->policy != SEQUENCE_SAMPLING) {
        FAIL(ERR_INVALID, "--probabilities has no effect without --deletions given, "
                          "--policy bms or --policy sampling");
    }
    if (subjects != options->records.given) {
        FAIL(ERR_INVALID, "--deletions subjects and --records belong together");
    }
    return OK;
}

static enum err read_setup(const struct simulate_options *options,
                           double probabilities[static LIMIT_SLICES], struct simulate_setup *setup)
{
    if (!options->shards.given || !options->slices.given) {
        FAIL(ERR_INVALID, "expected --shards M and --slices L");
    }
    *setup = (struct simulate_setup){
        .shards = (uint32_t)options->shards.value,
        .slices = (uint32_t)options->slices.value,
        .budget = options->budget.given ? (uint32_t)options->budget.value : 1,
        .records = (uint32_t)options->records.value,
        .seed = options->seed.value,
    };
    TRY(read_policy(options->policy, &setup->policy));
    TRY(read_deletions(options->deletions, &setup->deletions));
    TRY(check_options(options, setup));
    if (options->probabilities != NULL) {
        TRY(read_probabilities(options->probabilities, setup->slices, probabilities));
        setup->probabilities = probabilities;
    }
    return OK;
}

static enum err run_trials(const struct ctl *ctl, struct simulate *simulate, uint64_t trials)
{
    struct progress progress;
    progress_init(&progress, "simulating", "trials", ctl_progress(ctl));
    enum err err = OK;
    uint64_t step = 1; // Grows until it takes STEP_MS; portions do not change the result.
    for (uint64_t done = 0; err == OK && done < trials;) {
        const uint64_t now = trials - done < step ? trials - done : step;
        const int64_t began_ms = clock_mono_ms();
        simulate_run(simulate, now);
        done += now;
        const int64_t ended_ms = clock_mono_ms();
        step = ended_ms - began_ms < STEP_MS ? 2 * step : step;
        progress_step(&progress, done, trials, ended_ms);
        err = interrupt_check();
    }
    progress_end(&progress);
    return err;
}

static json_t *mean_json(struct simulate_mean mean)
{
    return json_pack("{s:o, s:o}", "mean", ctl_real(mean.mean), "sem", ctl_real(mean.sem));
}

static void print_json(const struct simulate_setup *setup, const struct simulate_result *result)
{
    const struct simulate_theory theory = simulate_theory(setup);
    ctl_print(json_pack(
        "{s:I, s:I, s:I, s:s, s:s, s:I, s:o, s:o, s:o, s:o}", "shards", (json_int_t)setup->shards,
        "slices", (json_int_t)setup->slices, "budget", (json_int_t)setup->budget, "policy",
        sequence_policy_name(setup->policy), "deletions", simulate_deletions_name(setup->deletions),
        "trials", (json_int_t)result->trials, "deletions_until_exhausted",
        mean_json(result->until_exhausted), "deletions_until_first_shard_lost",
        mean_json(result->until_first_lost), "theory", ctl_real(theory.until_exhausted),
        "theory_first_shard_lost", ctl_real(theory.until_first_lost)));
}

static void add_row(struct grid *grid, const char *until, struct simulate_mean mean, double theory)
{
    grid_cell(grid, "%s", until);
    grid_cell(grid, "%.2f", mean.mean);
    if (isnan(mean.sem)) {
        grid_cell(grid, "-");
    } else {
        grid_cell(grid, "%.2f", mean.sem);
    }
    if (isnan(theory)) {
        grid_cell(grid, "-");
    } else {
        grid_cell(grid, "%.2f", theory);
    }
}

static void print_grid(const struct simulate_setup *setup, const struct simulate_result *result)
{
    const struct simulate_theory theory = simulate_theory(setup);
    struct grid *const grid = grid_new("DELETIONS UNTIL|>MEAN|>STD ERROR|>THEORY");
    add_row(grid, "every shard has lost every prefix", result->until_exhausted,
            theory.until_exhausted);
    add_row(grid, "the first shard has", result->until_first_lost, theory.until_first_lost);
    grid_print(grid, stdout);
    grid_free(grid);
}

static enum err run_simulate(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)words;
    const struct simulate_options *const given = options;
    double probabilities[LIMIT_SLICES];
    struct simulate_setup setup;
    TRY(read_setup(given, probabilities, &setup));
    const uint64_t trials = given->trials.given ? given->trials.value : TRIALS;
    if (trials == 0) {
        FAIL(ERR_INVALID, "--trials is 0, expected at least 1");
    }
    struct simulate *simulate;
    TRY(simulate_open(&setup, &simulate));
    interrupt_watch();
    const enum err err = run_trials(ctl, simulate, trials);
    if (err == OK) {
        const struct simulate_result result = simulate_result(simulate);
        if (ctl->json) {
            print_json(&setup, &result);
        } else {
            print_grid(&setup, &result);
        }
    }
    simulate_close(simulate);
    return err;
}

const struct ctl_command cmd_simulate = {
    .name = "simulate",
    .summary = "How many deletions a shape bears unrepaired; needs no server",
    .help =
        "M shards of L slices, each trained in B sequences; deletions come, nothing is repaired. A "
        "shard has lost every prefix when the first slices of all its sequences were deleted from. "
        "A deletion from what is lost already counts too.\n\n"
        "Sequences (sequence_policy of a model's spec): rotation begins with another slice each "
        "time; random are B different random ones; bms and sampling put slices that are rarely "
        "deleted from (--probabilities, slice_probabilities of a spec) first. Deletions: with "
        "(any slice of any shard, again and again), without (each once), given (slices by "
        "--probabilities), subjects (each has R records, which lie in slices of their own). "
        "Records "
        "of one import that share a subject lie in one slice here: that is with.\n\n"
        "Examples:\n"
        "  unlearnctl simulate --shards 5 --slices 4 --budget 4\n"
        "  unlearnctl simulate --shards 10 --slices 8 --budget 8 --trials 1000000 --json\n"
        "  unlearnctl simulate --shards 5 --slices 3 --budget 2 --policy bms --deletions given "
        "--probabilities 0.7,0.2,0.1",
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
    .options_bytes = sizeof(struct simulate_options),
    .run = run_simulate,
};
