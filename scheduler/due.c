// scheduler/due.c: see due.h. Days are counted by the civil calendar, without the C library's time
// zones.
#include "scheduler/due.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/text.h"

static const int64_t HOUR_US = (int64_t)3600 * 1000000;
static const int64_t DAY_US = (int64_t)24 * 3600 * 1000000;

struct civil {
    int64_t year;
    uint32_t month, day; // 1 ..
};

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static uint32_t days_of(int64_t year, uint32_t month)
{
    static const uint32_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

// Days from 1970-01-01, years from 1970 on.
static int64_t days_to(const struct civil *civil)
{
    const int64_t before = civil->year - 1;
    int64_t days = 365 * (civil->year - 1970) + (before / 4 - 1969 / 4) -
                   (before / 100 - 1969 / 100) + (before / 400 - 1969 / 400);
    for (uint32_t month = 1; month < civil->month; month++) {
        days += days_of(civil->year, month);
    }
    return days + civil->day - 1;
}

static struct civil civil_of(int64_t days)
{
    struct civil civil = {1970, 1, 1};
    while (days >= 365 + is_leap(civil.year)) {
        days -= 365 + is_leap(civil.year);
        civil.year++;
    }
    while (days >= days_of(civil.year, civil.month)) {
        days -= days_of(civil.year, civil.month);
        civil.month++;
    }
    civil.day = (uint32_t)days + 1;
    return civil;
}

static int64_t month_later(int64_t time_us)
{
    struct civil civil = civil_of(time_us / DAY_US);
    civil.month++;
    if (civil.month > 12) {
        civil.month = 1;
        civil.year++;
    }
    const uint32_t last = days_of(civil.year, civil.month);
    civil.day = civil.day > last ? last : civil.day;
    return days_to(&civil) * DAY_US + time_us % DAY_US;
}

// "30d" or "12h".
static bool parse_span(const char *text, int64_t *span_out)
{
    char number[8] = "";
    uint64_t count = 0;
    const size_t bytes = strlen(text);
    if (bytes < 2 || bytes > sizeof number || (text[bytes - 1] != 'd' && text[bytes - 1] != 'h')) {
        return false;
    }
    memcpy(number, text, bytes - 1);
    if (text_u64(number, (uint64_t)LIMIT_DUE_DAYS * 24, &count) != OK) {
        return false;
    }
    *span_out = (int64_t)count * (text[bytes - 1] == 'd' ? DAY_US : HOUR_US);
    return true;
}

// A number of `digits` digits.
static bool take(const char **at, int digits, uint32_t most, uint32_t *value_out)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        if (**at < '0' || **at > '9') {
            return false;
        }
        value = 10 * value + (uint32_t)(**at - '0');
    }
    *value_out = value;
    return value <= most;
}

static bool skip(const char **at, char expected)
{
    return *(*at)++ == expected;
}

// "2026-12-24" or "2026-12-24T18:00:00Z".
static bool parse_date(const char *text, int64_t *time_out)
{
    uint32_t year, month, day, hour = 0, minute = 0, second = 0;
    if (!take(&text, 4, 9999, &year) || !skip(&text, '-') || !take(&text, 2, 12, &month) ||
        !skip(&text, '-') || !take(&text, 2, 31, &day) || year < 1970 || month < 1 || day < 1 ||
        day > days_of(year, month)) {
        return false;
    }
    if (*text != '\0' && (!skip(&text, 'T') || !take(&text, 2, 23, &hour) || !skip(&text, ':') ||
                          !take(&text, 2, 59, &minute) || !skip(&text, ':') ||
                          !take(&text, 2, 59, &second) || !skip(&text, 'Z') || *text != '\0')) {
        return false;
    }
    const struct civil civil = {year, month, day};
    *time_out = days_to(&civil) * DAY_US + (int64_t)((hour * 60 + minute) * 60 + second) * 1000000;
    return true;
}

enum err due_parse(const char *text, int64_t accepted_us, int64_t *due_us_out)
{
    int64_t span = 0, due = 0;
    if (strcmp(text, "gdpr") == 0) {
        due = month_later(accepted_us);
    } else if (strcmp(text, "ccpa") == 0) {
        due = accepted_us + 45 * DAY_US;
    } else if (parse_span(text, &span)) {
        due = accepted_us + span;
    } else if (!parse_date(text, &due)) {
        FAIL(ERR_INVALID,
             "the due date is none of gdpr, ccpa, a number of days or hours (30d, 12h), a date "
             "(2026-12-24) or a time (2026-12-24T18:00:00Z)");
    }
    if (due <= accepted_us) {
        char time[TEXT_TIME_BYTES];
        text_time(due, time);
        FAIL(ERR_INVALID, "the due date %s is not in the future", time);
    }
    if (due - accepted_us > LIMIT_DUE_DAYS * DAY_US) {
        FAIL(ERR_INVALID, "the due date is more than %d days away", (int)LIMIT_DUE_DAYS);
    }
    *due_us_out = due;
    return OK;
}
