// coordinator/report.c: the verb report: counts and days of deletions (account.h); see core.h.
//
// The journal may have millions of rows. The store thread looks at it in steps of a few milliseconds, each
// a job of its own, so that what is to be acknowledged waits for one step at most.
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/account.h"
#include "coordinator/core.h"

enum {
    STEP_US = 2000,
    LOOK_EVERY = 64, // Rows between two looks at the clock.
};

struct report_job {
    struct job job;
    struct caller caller;
    struct access_scope scope;
    struct account account;
    bool journal_done;
    bool done;
    uint64_t after;    // The last request that was looked at.
    struct tally from; // The next tally to look at.
    // Of this step.
    int64_t until_us;
    uint32_t rows;
    bool stopped; // There is more.
};

static bool time_is_over(struct report_job *report)
{
    report->stopped = ++report->rows % LOOK_EVERY == 0 && clock_mono_us() >= report->until_us;
    return report->stopped;
}

static bool see_request(void *context, const struct request_row *row)
{
    struct report_job *const report = context;
    if (access_scope_has(&report->scope, row->dataset)) {
        account_request(&report->account, row, request_due(row));
    }
    report->after = row->sequence;
    return !time_is_over(report);
}

static bool see_tally(void *context, const struct tally *tally)
{
    struct report_job *const report = context;
    if (time_is_over(report)) {
        report->from = *tally;
        return false;
    }
    if (access_scope_has(&report->scope, tally->dataset)) {
        account_tally(&report->account, tally);
    }
    return true;
}

static enum err report_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct report_job *const report = (struct report_job *)job;
    report->until_us = clock_mono_us() + STEP_US;
    report->rows = 0;
    report->stopped = false;
    if (report->journal_done) {
        const struct tally from = report->from;
        TRY(tally_walk(txn, &from, see_tally, report));
        report->done = !report->stopped;
        return OK;
    }
    TRY(request_walk(txn, report->after, see_request, report));
    if (!report->stopped) { // All were shown.
        report->journal_done = !account_again(&report->account);
        report->after = 0;
    }
    return OK;
}

static void put_days(const struct account_days *days, Unlearn__ReportDays *out)
{
    unlearn__report_days__init(out);
    out->count = days->us.count;
    out->median = account_median(days);
    out->mean = account_mean(days);
}

static void answer(struct core *core, const struct caller *caller, const struct account *account)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Report report = UNLEARN__REPORT__INIT;
    Unlearn__ReportDays to_fenced, to_erased, to_completed;
    put_days(&account->to_fenced, &to_fenced);
    put_days(&account->to_erased, &to_erased);
    put_days(&account->to_completed, &to_completed);
    report.as_of_us = account->as_of_us;
    report.completed = account->completed;
    report.nothing_left = account->nothing_left;
    report.completed_late = account->completed_late;
    report.open = account->open;
    report.past_due = account->past_due;
    report.records_deleted = account->records_deleted;
    report.not_found = account->refused[TALLY_NOT_FOUND];
    report.held = account->refused[TALLY_HELD];
    report.conflict = account->refused[TALLY_CONFLICT];
    report.not_approved = account->refused[TALLY_REFUSED];
    report.to_fenced = &to_fenced;
    report.to_erased = &to_erased;
    report.to_completed = &to_completed;
    report.refusals_days = TALLY_DAYS;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_REPORT;
    reply.report = &report;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

static void report_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct report_job *const report = (struct report_job *)job;
    if (job->result == OK && !report->done) {
        // The next step, behind whatever has come meanwhile.
        storage_submit(core->storage, job, caller_number(&report->caller));
        return;
    }
    struct dataset *dataset = NULL;
    const struct account *const account = &report->account;
    if (job->result == OK && account->dataset[0] != '\0' && !account_any(account) &&
        catalog_dataset(core, &report->caller, account->dataset, &dataset) != OK) {
        reply_error(core, &report->caller, ERR_NOT_FOUND, err_text());
    } else if (job->result == OK) {
        answer(core, &report->caller, &report->account);
    } else {
        reply_error(core, &report->caller, job->result, job->text);
    }
    core->reports_open--;
    account_deinit(&report->account);
    mem_free(report);
}

static enum err check(const struct core *core, const Unlearn__ReportGet *body)
{
    const int64_t day_us = (int64_t)86400 * 1000000;
    if (body->since_us < 0 || body->until_us <= body->since_us || body->since_us % day_us != 0 ||
        body->until_us % day_us != 0) {
        FAIL(ERR_INVALID,
             "a report from %lld to %lld us since 1970, expected whole days of UTC, the "
             "first before the last",
             (long long)body->since_us, (long long)body->until_us);
    }
    if (core->reports_open >= LIMIT_REPORTS_OPEN) {
        FAIL(ERR_LIMIT, "%u reports are being made: try again later", core->reports_open);
    }
    return OK;
}

VERB(on_report, Unlearn__ReportGet)
{
    (void)raw;
    const enum err err = check(core, body);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        return;
    }
    struct report_job *const report = mem_alloc(1, sizeof *report);
    report->job = (struct job){.kind = JOB_READ, .run = report_run, .done = report_done};
    report->caller = *caller;
    report->scope = access_scope_of(caller);
    report->account.since_us = body->since_us;
    report->account.until_us = body->until_us;
    report->account.as_of_us = clock_wall_us();
    memcpy(report->account.dataset, body->dataset, strlen(body->dataset) + 1);
    core->reports_open++;
    storage_submit(core->storage, &report->job, caller_number(caller));
}
