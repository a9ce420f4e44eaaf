// tests/unit/test_report.c: a report looks through the journal in steps, counts each request once, and
// refuses what it cannot answer.
//
// Method: a coordinator without a loop (desk.h) and a journal long enough for several steps; steps are
// taken when the test says so.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/private.h"
#include "store/tally.h"
#include "tests/unit/desk.h"

#define DAY ((int64_t)86400 * 1000000)

enum { ROWS = 30000 };

static struct desk desk;

static int set_up(void **state)
{
    (void)state;
    desk_open(&desk);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    desk_close(&desk);
    return 0;
}

// Request i was accepted on day 100 and took i hours; every tenth is open.
static enum err fill(struct job *job, struct store *store, struct txn *txn)
{
    (void)job;
    (void)store;
    for (uint64_t i = 1; i <= ROWS; i++) {
        struct request_row row = {.sequence = i, .kind = REQUEST_DELETE, .name = "d"};
        be_put64(row.uuid.bytes, i);
        row.accepted_us = 100 * DAY;
        row.state = i % 10 == 0 ? REQUEST_FENCED : REQUEST_COMPLETED;
        row.fenced_us = row.accepted_us + 1000;
        row.completed_us = i % 10 == 0 ? 0 : row.accepted_us + (int64_t)i * (DAY / 24);
        row.records_deleted = 1;
        TRY(request_put(txn, &row));
    }
    for (uint32_t dataset = 1; dataset <= 500; dataset++) {
        TRY(tally_add(txn, 100 * DAY, dataset, dataset == 1 ? "d" : "other", TALLY_HELD));
    }
    return tally_add(txn, 101 * DAY, 1, "d", TALLY_NOT_FOUND); // After the time.
}

static void ask(uint64_t number, int64_t since_us, int64_t until_us, const char *dataset)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ReportGet body = UNLEARN__REPORT_GET__INIT;
    body.since_us = since_us;
    body.until_us = until_us;
    body.dataset = wire_text(dataset);
    request.body_case = UNLEARN__REQUEST__BODY_REPORT_GET;
    request.report_get = &body;
    desk_ask(&desk, &request, number, span_of(NULL, 0));
}

// Lets the store thread work and takes its jobs one by one; how many there were.
static int steps(void)
{
    int count = 0;
    struct link_wait_fd fd = {.fd = storage_fd(desk.core->storage)};
    while (desk.core->reports_open > 0) {
        storage_flush(desk.core->storage);
        assert_int_equal(link_wait(NULL, NULL, 0, &fd, 1, DESK_PATIENCE_MS), OK);
        struct job *const job = storage_finished(desk.core->storage);
        if (job != NULL) {
            job->done(job, desk.core);
            count++;
        }
    }
    return count;
}

static void test_counts_in_steps(void **state)
{
    (void)state;
    struct job job = {.kind = JOB_WRITE_ALONE, .run = fill};
    assert_int_equal(storage_call(desk.core->storage, &job), OK);
    ask(1, 100 * DAY, 101 * DAY, "d");
    const int count = steps();
    printf("# %d requests: %d steps\n", (int)ROWS, count);
    assert_true(count > 4); // Three looks and the tallies, and more than a step for a look.
    const Unlearn__Report *const report = desk_answer(&desk, 1)->report;
    assert_int_equal(report->completed, ROWS - ROWS / 10);
    assert_int_equal(report->open, ROWS / 10);
    assert_int_equal(report->records_deleted, ROWS);
    assert_int_equal(report->held, 1);
    assert_int_equal(report->not_found + report->conflict, 0);
    assert_int_equal(report->to_fenced->count, ROWS);
    assert_int_equal(report->to_completed->count, ROWS - ROWS / 10);
    // Of 1 .. 30,000 without the tens: between 14,999 and 15,001, which are in the middle, for both.
    assert_true(report->to_completed->median == 15000.0 / 24);
    const double mean =
        ((double)ROWS * (ROWS + 1) / 2 - 10.0 * (ROWS / 10.0) * (ROWS / 10.0 + 1) / 2) /
        (ROWS - ROWS / 10.0) / 24;
    assert_true(report->to_completed->mean > mean - 1e-9 &&
                report->to_completed->mean < mean + 1e-9);
    ask(2, 100 * DAY, 101 * DAY, "");
    steps();
    assert_int_equal(desk_answer(&desk, 2)->report->held, 500);
    ask(3, 101 * DAY, 102 * DAY, "");
    steps();
    const Unlearn__Report *const after = desk_answer(&desk, 3)->report;
    assert_int_equal(after->completed + after->open + after->held, 0);
    assert_int_equal(after->not_found, 1);
}

static void refused(uint64_t number, Unlearn__Status status, const char *why)
{
    const Unlearn__Reply *const reply = desk_answer(&desk, number);
    assert_int_equal(reply->status, status);
    assert_non_null(strstr(reply->message, why));
}

static void test_bad_requests(void **state)
{
    (void)state;
    ask(1, 100 * DAY + 1, 101 * DAY, "");
    refused(1, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "whole days");
    ask(2, 100 * DAY, 101 * DAY - 1, "");
    refused(2, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "whole days");
    ask(3, 100 * DAY, 100 * DAY, "");
    refused(3, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "the first before the last");
    ask(4, -DAY, DAY, "");
    refused(4, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "since 1970");
    ask(5, 100 * DAY, 101 * DAY, "nowhere");
    steps();
    refused(5, UNLEARN__STATUS__STATUS_NOT_FOUND, "no dataset \"nowhere\"");
    assert_int_equal(desk.core->reports_open, 0);
}

static void test_not_too_many_at_once(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < LIMIT_REPORTS_OPEN; i++) {
        ask(1 + i, 100 * DAY, 101 * DAY, "");
    }
    ask(9, 100 * DAY, 101 * DAY, "");
    refused(9, UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED, "try again later");
    steps();
    for (uint64_t i = 0; i < LIMIT_REPORTS_OPEN; i++) {
        assert_int_equal(desk_answer(&desk, 1 + i)->status, UNLEARN__STATUS__STATUS_OK);
    }
    ask(9, 100 * DAY, 101 * DAY, "");
    steps();
    assert_int_equal(desk_answer(&desk, 9)->report->completed, 0);
}

// A row without its shape: the report says so, and others can be made.
static enum err damage(struct job *job, struct store *store, struct txn *txn)
{
    (void)job;
    (void)store;
    struct kv_key key = {0};
    kv_key_u64(&key, 7);
    return value_put(txn, KV_REQUEST, kv_key_span(&key), span_of("damaged", 7));
}

static void test_a_damaged_row_is_told(void **state)
{
    (void)state;
    struct job job = {.kind = JOB_WRITE_ALONE, .run = damage};
    assert_int_equal(storage_call(desk.core->storage, &job), OK);
    ask(1, 100 * DAY, 101 * DAY, "");
    steps();
    refused(1, UNLEARN__STATUS__STATUS_INTERNAL, "table request, entry 7");
    assert_int_equal(desk.core->reports_open, 0);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_counts_in_steps),
        CASE(test_bad_requests),
        CASE(test_not_too_many_at_once),
        CASE(test_a_damaged_row_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
