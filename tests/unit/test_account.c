// tests/unit/test_account.c: a report counts what it should, once, and its days are right.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "coordinator/account.h"

#define DAY ((int64_t)86400 * 1000000)

enum { FIRST = 100, LAST = 110, AS_OF = 200 }; // Days.

static struct account asked(const char *dataset)
{
    struct account account = {
        .since_us = FIRST * DAY, .until_us = (LAST + 1) * DAY, .as_of_us = AS_OF * DAY};
    snprintf(account.dataset, sizeof account.dataset, "%s", dataset);
    return account;
}

// A deletion, its times as days (0: not yet).
static struct request_row deletion(double accepted, double fenced, double erased, double completed)
{
    struct request_row row = {.kind = REQUEST_DELETE, .name = "d", .records_deleted = 3};
    row.accepted_us = (int64_t)(accepted * (double)DAY);
    row.fenced_us = (int64_t)(fenced * (double)DAY);
    row.erased_us = (int64_t)(erased * (double)DAY);
    row.completed_us = (int64_t)(completed * (double)DAY);
    row.state = completed > 0 ? REQUEST_COMPLETED : REQUEST_FENCED;
    return row;
}

static int64_t due_us; // Of all that are shown; 0: none.

static void show(struct account *account, const struct request_row *rows, size_t count)
{
    do {
        for (size_t i = 0; i < count; i++) {
            account_request(account, &rows[i], due_us);
        }
    } while (account_again(account));
}

static void test_none(void **state)
{
    (void)state;
    struct account account = asked("");
    show(&account, NULL, 0);
    assert_false(account_any(&account));
    assert_int_equal(account.looks, 1);
    assert_true(account_mean(&account.to_completed) == 0);
    assert_true(account_median(&account.to_completed) == 0);
    account_deinit(&account);
}

static void test_days_of_odd_and_even_counts(void **state)
{
    (void)state;
    const struct request_row rows[] = {
        deletion(100, 100.5, 101, 110),       // 10 days
        deletion(100.25, 100.5, 101, 102.25), // 2
        deletion(110.5, 110.5, 111, 114.5),   // 4
        deletion(101, 101, 101, 141),         // 40
    };
    struct account odd = asked(""), even = asked("");
    show(&odd, rows, 3);
    assert_int_equal(odd.completed, 3);
    assert_int_equal(odd.records_deleted, 9);
    assert_true(account_median(&odd.to_completed) == 4);
    assert_true(account_mean(&odd.to_completed) == 16.0 / 3);
    assert_true(account_median(&odd.to_fenced) == 0.25);
    assert_true(account_median(&odd.to_erased) == 0.75);
    show(&even, rows, 4);
    assert_int_equal(even.completed, 4);
    assert_true(account_median(&even.to_completed) == 7);
    assert_true(account_mean(&even.to_completed) == 14);
    account_deinit(&odd);
    account_deinit(&even);
}

static void test_what_counts(void **state)
{
    (void)state;
    struct request_row rows[] = {
        deletion(FIRST, FIRST, FIRST, FIRST + 1),         // The first moment.
        deletion(LAST + 1, LAST + 1, LAST + 1, LAST + 2), // The first that does not count.
        deletion(FIRST - 0.001, FIRST, FIRST, FIRST),     // Before.
        deletion(LAST + 0.999, LAST + 0.999, 0, 0),       // The last one: open.
        deletion(FIRST, FIRST, FIRST, AS_OF + 1),         // Completed since: open.
        deletion(FIRST, FIRST, FIRST, FIRST),             // Another kind.
        deletion(FIRST, FIRST, FIRST, FIRST),             // Another dataset.
        deletion(FIRST, FIRST, FIRST, FIRST),             // Nothing was left.
    };
    rows[5].kind = REQUEST_REMOVE_MODEL;
    snprintf(rows[6].name, sizeof rows[6].name, "dd");
    rows[7].earlier = 1;
    rows[7].records_deleted = 0;
    struct account one = asked("d"), all = asked("");
    show(&one, rows, 8);
    assert_int_equal(one.completed, 2);
    assert_int_equal(one.nothing_left, 1);
    assert_int_equal(one.open, 2);
    assert_int_equal(one.to_fenced.us.count, 4);
    assert_int_equal(one.to_erased.us.count, 3);
    assert_int_equal(one.to_completed.us.count, 2);
    assert_true(account_median(&one.to_completed) == 0.5);
    show(&all, rows, 8);
    assert_int_equal(all.completed, 3);
    account_deinit(&one);
    account_deinit(&all);
}

// Asked for in the middle of what is going on: later requests are not looked at.
static void test_as_it_was_then(void **state)
{
    (void)state;
    const struct request_row rows[] = {deletion(105, 105, 105, 106), deletion(107, 107, 107, 108)};
    struct account account = asked("");
    account.as_of_us = 106 * DAY;
    show(&account, rows, 2);
    assert_int_equal(account.completed, 1);
    assert_int_equal(account.open, 0);
    account_deinit(&account);
}

static void test_due_dates(void **state)
{
    (void)state;
    const struct request_row rows[] = {
        deletion(105, 105, 105, 150),   // In time, to the moment.
        deletion(105, 105, 105, 150.1), // Late.
        deletion(105, 105, 105, 0),     // Open.
    };
    struct account account = asked(""), early = asked(""), none = asked("");
    due_us = 150 * DAY;
    show(&account, rows, 3);
    assert_int_equal(account.completed, 2);
    assert_int_equal(account.completed_late, 1);
    assert_int_equal(account.past_due, 1);
    early.as_of_us = 150 * DAY; // The due date has not gone by.
    show(&early, rows, 3);
    assert_int_equal(early.completed, 1);
    assert_int_equal(early.open, 2);
    assert_int_equal(early.past_due, 0);
    due_us = 0;
    show(&none, rows, 3);
    assert_int_equal(none.completed_late + none.past_due, 0);
    account_deinit(&account);
    account_deinit(&early);
    account_deinit(&none);
}

static void test_clock_set_back(void **state)
{
    (void)state;
    const struct request_row row = deletion(105, 104, 103, 102);
    struct account account = asked("");
    show(&account, &row, 1);
    assert_int_equal(account.completed, 1);
    assert_true(account_median(&account.to_completed) == 0);
    assert_true(account_mean(&account.to_completed) == 0);
    account_deinit(&account);
}

static void test_refused(void **state)
{
    (void)state;
    struct account account = asked("d");
    struct tally tally = {.day = FIRST, .dataset = 1, .reason = TALLY_NOT_FOUND, .count = 4};
    snprintf(tally.name, sizeof tally.name, "d");
    account_tally(&account, &tally);
    tally.dataset = 2; // An earlier dataset of the same name.
    account_tally(&account, &tally);
    tally.day = LAST;
    tally.reason = TALLY_HELD;
    account_tally(&account, &tally);
    tally.day = LAST + 1;
    account_tally(&account, &tally);
    tally.day = FIRST - 1;
    account_tally(&account, &tally);
    tally.day = FIRST;
    tally.reason = TALLY_CONFLICT;
    snprintf(tally.name, sizeof tally.name, "other");
    account_tally(&account, &tally);
    assert_int_equal(account.refused[TALLY_NOT_FOUND], 8);
    assert_int_equal(account.refused[TALLY_HELD], 4);
    assert_int_equal(account.refused[TALLY_CONFLICT], 0);
    assert_true(account_any(&account));
    account_deinit(&account);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),        cmocka_unit_test(test_days_of_odd_and_even_counts),
        cmocka_unit_test(test_what_counts), cmocka_unit_test(test_as_it_was_then),
        cmocka_unit_test(test_due_dates),   cmocka_unit_test(test_clock_set_back),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
