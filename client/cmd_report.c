// client/cmd_report.c: report: counts and days of deletions, as a privacy office has to publish them.
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/commands.h"
#include "client/grid.h"

static const int64_t DAY_US = (int64_t)86400 * 1000000;

struct report {
    struct ctl_globals globals;
    const char *since;
    const char *until;
    const char *dataset;
};

static const struct args_option report_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"since", 1200, "DATE", "The first day, as 2026-01-31 (UTC)", ARGS_TEXT,
     offsetof(struct report, since), 0},
    {"until", 1201, "DATE", "The last day (default: today)", ARGS_TEXT,
     offsetof(struct report, until), 0},
    {"dataset", 1202, "DATASET", "Of this dataset alone, also of a removed one", ARGS_TEXT,
     offsetof(struct report, dataset), 0},
};

struct span_of_days {
    int64_t since_us, until_us; // The first moment, and the first one after.
};

static enum err take_days(const struct report *report, struct span_of_days *days_out)
{
    const int64_t today_us = clock_wall_us() / DAY_US * DAY_US;
    if (report->since == NULL) {
        FAIL(ERR_INVALID, "since when? name the first day with --since, as 2026-01-31");
    }
    *days_out = (struct span_of_days){.until_us = today_us};
    TRY_AS(text_date(report->since, &days_out->since_us), "--since");
    if (report->until != NULL) {
        TRY_AS(text_date(report->until, &days_out->until_us), "--until");
    }
    if (days_out->until_us < days_out->since_us) {
        FAIL(ERR_INVALID, "--since %s lies after %s", report->since,
             report->until == NULL ? "today (UTC)" : report->until);
    }
    days_out->until_us += DAY_US;
    return OK;
}

static void put_date(int64_t time_us, char out[static TEXT_TIME_BYTES])
{
    text_time(time_us == 0 ? 1 : time_us, out);
    out[strlen("2026-01-31")] = '\0';
}

static uint64_t denied(const Unlearn__Report *report)
{
    return report->not_found + report->held + report->conflict + report->not_approved;
}

static uint64_t received(const Unlearn__Report *report)
{
    return report->completed + report->open + denied(report);
}

static json_t *days_json(const Unlearn__ReportDays *days)
{
    if (days == NULL || days->count == 0) {
        return json_pack("{s:i, s:n, s:n}", "requests", 0, "median", "mean");
    }
    return json_pack("{s:I, s:f, s:f}", "requests", (json_int_t)days->count, "median", days->median,
                     "mean", days->mean);
}

static json_t *report_json(const Unlearn__Report *report, const struct span_of_days *days,
                           const char *dataset)
{
    char since[TEXT_TIME_BYTES], until[TEXT_TIME_BYTES];
    put_date(days->since_us, since);
    put_date(days->until_us - DAY_US, until);
    json_t *const basis =
        json_pack("{s:I, s:I, s:I, s:I}", "not_found", (json_int_t)report->not_found, "held",
                  (json_int_t)report->held, "conflict", (json_int_t)report->conflict,
                  "not_approved", (json_int_t)report->not_approved);
    json_t *const answer = json_pack(
        "{s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I}", "since", since,
        "until", until, "dataset", dataset, "received", (json_int_t)received(report), "complied",
        (json_int_t)report->completed, "nothing_left", (json_int_t)report->nothing_left,
        "complied_late", (json_int_t)report->completed_late, "open", (json_int_t)report->open,
        "past_due", (json_int_t)report->past_due, "records_deleted",
        (json_int_t)report->records_deleted, "denied", (json_int_t)denied(report), "denied_because",
        basis, "refusals_kept_days", (json_int_t)report->refusals_days);
    json_object_set_new(answer, "as_of", ctl_time(report->as_of_us));
    json_object_set_new(answer, "days_to_fence", days_json(report->to_fenced));
    json_object_set_new(answer, "days_to_erase", days_json(report->to_erased));
    json_object_set_new(answer, "days_to_complete", days_json(report->to_completed));
    return answer;
}

static void days_row(struct grid *grid, const char *what, const Unlearn__ReportDays *days)
{
    const bool any = days != NULL && days->count > 0;
    grid_cell(grid, "%s", what);
    grid_cell(grid, "%llu", any ? (unsigned long long)days->count : 0);
    grid_cell(grid, any ? "%.4f" : "-", any ? days->median : 0.0);
    grid_cell(grid, any ? "%.4f" : "-", any ? days->mean : 0.0);
}

static void count_row(struct grid *grid, const char *what, uint64_t count)
{
    grid_cell(grid, "%s", what);
    grid_cell(grid, "%llu", (unsigned long long)count);
}

static void print_report(const Unlearn__Report *report, const struct span_of_days *days,
                         const char *dataset)
{
    char since[TEXT_TIME_BYTES], until[TEXT_TIME_BYTES], as_of[TEXT_TIME_BYTES];
    put_date(days->since_us, since);
    put_date(days->until_us - DAY_US, until);
    text_time(report->as_of_us, as_of);
    printf("deletions received %s to %s (UTC)%s%s, as of %s\n\n", since, until,
           dataset == NULL ? "" : ", dataset ", dataset == NULL ? "" : dataset, as_of);
    struct grid *const counts = grid_new("DELETIONS|>COUNT|OF THEM");
    count_row(counts, "received", received(report));
    grid_cell(counts, "%s", "");
    count_row(counts, "complied with", report->completed);
    grid_cell(counts, "%llu after their due date, %llu had nothing left to delete",
              (unsigned long long)report->completed_late, (unsigned long long)report->nothing_left);
    count_row(counts, "open", report->open);
    grid_cell(counts, "%llu past due", (unsigned long long)report->past_due);
    count_row(counts, "denied", denied(report));
    grid_cell(counts, "%llu not found, %llu on hold, %llu conflicts, %llu not approved",
              (unsigned long long)report->not_found, (unsigned long long)report->held,
              (unsigned long long)report->conflict, (unsigned long long)report->not_approved);
    count_row(counts, "records deleted", report->records_deleted);
    grid_cell(counts, "%s", "");
    grid_print(counts, stdout);
    grid_free(counts);
    putchar('\n');
    struct grid *const took = grid_new("DAYS FROM ACCEPTED TO|>REQUESTS|>MEDIAN|>MEAN");
    days_row(took, "fenced", report->to_fenced);
    days_row(took, "erased", report->to_erased);
    days_row(took, "completed", report->to_completed);
    grid_print(took, stdout);
    grid_free(took);
    if (days->since_us + report->refusals_days * DAY_US < report->as_of_us - DAY_US) {
        printf("\nhint: what was denied is counted for %u days; of the days before nothing is "
               "known\n",
               report->refusals_days);
    }
}

static enum err run_report(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)words;
    const struct report *const given = options;
    const Unlearn__Report *report;
    struct span_of_days days;
    TRY(take_days(given, &days));
    TRY(ctl_connect(ctl));
    TRY(unlearn_report(ctl->client, days.since_us, days.until_us, given->dataset, &report));
    if (ctl->json) {
        ctl_print(report_json(report, &days, given->dataset));
    } else {
        print_report(report, &days, given->dataset);
    }
    return OK;
}

const struct ctl_command cmd_report = {
    .name = "report",
    .summary = "Count deletions received, complied with and denied, and their days",
    .help =
        "What laws such as the CCPA (11 CCR 7102) want published: how many deletions were "
        "received, "
        "complied with and denied and why, and the median and mean number of days that it took. "
        "Numbers alone: no subject, no id, no request is named. Days are whole days of UTC. What "
        "was "
        "denied is counted each time it was asked, and kept for 25 months. A deletion of what "
        "another request had deleted before is complied with at once.\n\n"
        "Examples:\n"
        "  unlearnctl report --since 2026-01-01 --until 2026-12-31\n"
        "  unlearnctl report --since 2026-11-01 --dataset digits --json",
    .options = report_options,
    .option_count = sizeof report_options / sizeof report_options[0],
    .options_bytes = sizeof(struct report),
    .run = run_report,
};
