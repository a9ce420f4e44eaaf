// tests/unit/test_due.c: due dates, against the C library's calendar, and texts that are refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/limits.h"
#include "scheduler/due.h"
#include "tests/unit/draw.h"

static const int64_t SECOND = 1000000;
static const int64_t DAY = (int64_t)86400 * 1000000;

static int64_t at(int year, int month, int day, int hour)
{
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour};
    return (int64_t)timegm(&tm) * SECOND;
}

static int64_t due(const char *text, int64_t accepted_us)
{
    int64_t due_us = 0;
    assert_int_equal(due_parse(text, accepted_us, &due_us), OK);
    return due_us;
}

static void test_a_month_is_one_of_the_calendar(void **state)
{
    (void)state;
    assert_true(due("gdpr", at(2026, 3, 3, 14)) == at(2026, 4, 3, 14));
    assert_true(due("gdpr", at(2026, 12, 31, 0)) == at(2027, 1, 31, 0));
    assert_true(due("gdpr", at(2026, 1, 31, 9)) == at(2026, 2, 28, 9));
    assert_true(due("gdpr", at(2028, 1, 31, 9)) == at(2028, 2, 29, 9));
    assert_true(due("gdpr", at(2000, 1, 30, 9)) == at(2000, 2, 29, 9));
    assert_true(due("gdpr", at(2100, 1, 30, 9)) == at(2100, 2, 28, 9));
    assert_true(due("gdpr", at(2026, 5, 31, 9)) == at(2026, 6, 30, 9));
}

// Every hour-aligned moment of 200 years: the library's month, cut to the month's last day.
static void test_months_against_the_library(void **state)
{
    (void)state;
    struct draw draw = draw_new("months");
    for (int i = 0; i < 20000; i++) {
        const time_t seconds = (time_t)draw_below(&draw, 4000000000U);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        const int day = tm.tm_mday;
        tm.tm_mon++;
        time_t expected = timegm(&tm);
        struct tm after;
        gmtime_r(&expected, &after);
        if (after.tm_mday != day) { // It ran over: back to the last day of the month before.
            expected -= (time_t)after.tm_mday * 86400;
        }
        assert_true(due("gdpr", (int64_t)seconds * SECOND + 7) == (int64_t)expected * SECOND + 7);
    }
}

static void test_spans(void **state)
{
    (void)state;
    const int64_t now = at(2026, 11, 26, 11);
    assert_true(due("ccpa", now) == now + 45 * DAY);
    assert_true(due("30d", now) == now + 30 * DAY);
    assert_true(due("12h", now) == now + 12 * 3600 * SECOND);
    assert_true(due("1h", now) == now + 3600 * SECOND);
}

static void test_dates_and_times(void **state)
{
    (void)state;
    const int64_t now = at(2026, 11, 26, 11);
    assert_true(due("2026-12-24", now) == at(2026, 12, 24, 0));
    assert_true(due("2026-12-24T18:00:00Z", now) == at(2026, 12, 24, 18));
    assert_true(due("2026-11-26T11:00:01Z", now) == now + SECOND);
    assert_true(due("2028-02-29", now) == at(2028, 2, 29, 0));
    struct draw draw = draw_new("dates");
    for (int i = 0; i < 3000; i++) {
        const time_t seconds = (time_t)(now / SECOND) + 1 + (time_t)draw_below(&draw, 300000000);
        char text[DUE_TEXT_BYTES];
        struct tm tm;
        gmtime_r(&seconds, &tm);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
        assert_true(due(text, now) == (int64_t)seconds * SECOND);
    }
}

static void refused(const char *text, const char *why)
{
    int64_t due_us = 77;
    assert_int_equal(due_parse(text, at(2026, 11, 26, 11), &due_us), ERR_INVALID);
    assert_non_null(strstr(err_text(), why));
    assert_true(due_us == 77);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const char *const other[] = {
        "",
        "soon",
        "GDPR",
        "d",
        "h",
        "-3d",
        "3",
        "3w",
        "1.5d",
        "99999999d",
        "2026-13-01",
        "2026-00-01",
        "2026-02-29",
        "2027-02-30",
        "2026-12-00",
        "2026-12-32",
        "26-12-24",
        "2026-1-2",
        "2026-12-24 ",
        "2026-12-24T18:00:00",
        "1969-12-31",
        "2026-12-24T24:00:00Z",
        "2026-12-24T18:60:00Z",
        "2026-12-24T18:00:60Z",
        "2026-12-24T18:00:00ZZ",
        "2026-12-24T18:00:00+01",
        "9999999d",
    };
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        refused(other[i], "none of gdpr");
    }
    refused("2026-11-26", "not in the future");
    refused("2026-11-26T11:00:00Z", "not in the future");
    refused("0d", "not in the future");
    refused("1999-01-01", "not in the future");
    refused("9999-01-01", "more than 3660 days away");
    refused("3661d", "more than 3660 days away");
    int64_t due_us = 0;
    assert_int_equal(due_parse("3660d", at(2026, 11, 26, 11), &due_us), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_month_is_one_of_the_calendar),
        cmocka_unit_test(test_months_against_the_library),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_dates_and_times),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
