// base/text.c: see text.h.
#include "base/text.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/limits.h"

// Decodes one character; returns its bytes, 0 when malformed.
static size_t decode(const uint8_t *at, size_t left, uint32_t *point_out)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t first = at[0];
    const size_t bytes = first < 0x80             ? 1
                         : (first & 0xE0) == 0xC0 ? 2
                         : (first & 0xF0) == 0xE0 ? 3
                         : (first & 0xF8) == 0xF0 ? 4
                                                  : 0;
    if (bytes == 0 || bytes > left) {
        return 0;
    }
    uint32_t point = bytes == 1 ? first : first & (0x7Fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
        point = point << 6 | (at[i] & 0x3Fu);
    }
    if (point < smallest[bytes] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) {
        return 0;
    }
    *point_out = point;
    return bytes;
}

bool text_is_clean(struct span text)
{
    const uint8_t *at = text.data;
    size_t left = text.bytes;
    while (left > 0) {
        uint32_t point = 0;
        const size_t bytes = decode(at, left, &point);
        if (bytes == 0 || point < 0x20 || (point >= 0x7F && point <= 0x9F)) {
            return false;
        }
        at += bytes;
        left -= bytes;
    }
    return true;
}

void text_put_visible(struct span bytes, struct buf *out)
{
    const uint8_t *const at = bytes.data;
    for (size_t i = 0, taken; i < bytes.bytes; i += taken) {
        uint32_t point = 0;
        taken = decode(at + i, bytes.bytes - i, &point);
        const bool control =
            (point < 0x20 && point != '\n' && point != '\t') || (point >= 0x7F && point <= 0x9F);
        if (taken > 0 && !control) {
            buf_put(out, span_text(point == '\\' ? "\\" : ""));
            buf_put(out, span_of(at + i, taken));
            continue;
        }
        taken = taken == 0 ? 1 : taken;
        for (size_t j = i; j < i + taken; j++) {
            char escape[5];
            snprintf(escape, sizeof escape, "\\x%02x", at[j]);
            buf_put(out, span_of(escape, 4));
        }
    }
}

enum err text_check_name(const char *what, struct span name)
{
    if (name.bytes == 0 || name.bytes > LIMIT_NAME_BYTES) {
        FAIL(ERR_INVALID, "%s has %zu bytes, expected 1 to %d", what, name.bytes,
             (int)LIMIT_NAME_BYTES);
    }
    if (!text_is_clean(name)) {
        FAIL(ERR_INVALID, "%s is not UTF-8 without control characters", what);
    }
    return OK;
}

enum err text_check_label(const char *what, const char *name)
{
    TRY(text_check_name(what, span_text(name)));
    const size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789._-");
    if (name[good] != '\0' || name[0] == '-' || name[0] == '.') {
        FAIL(ERR_INVALID,
             "%s may hold only letters, digits, '.', '_' and '-', and must not start with '.' or "
             "'-'",
             what);
    }
    return OK;
}

enum err text_u64(const char *text, uint64_t max, uint64_t *value_out)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) {
            value = UINT64_MAX;
            break;
        }
    }
    if (at == text || *at != '\0' || value > max) {
        FAIL(ERR_INVALID, "found \"%.40s\", expected a whole number from 0 to %llu", text,
             (unsigned long long)max);
    }
    *value_out = value;
    return OK;
}

// The locale in which numbers are written and read.
static locale_t plain_locale(void)
{
    static _Thread_local locale_t plain = (locale_t)0;
    if (plain == (locale_t)0) {
        plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        CHECK(plain != (locale_t)0);
    }
    return plain;
}

enum err text_f64(struct span text, double *value_out)
{
    char copy[64];
    if (text.bytes == 0 || text.bytes >= sizeof copy) {
        FAIL(ERR_INVALID, "not a number: %zu characters, expected 1 to 63", text.bytes);
    }
    memcpy(copy, text.data, text.bytes);
    copy[text.bytes] = '\0';
    // strtod also takes "nan", "inf", hex and leading blanks: only digits, signs, dot, e may pass.
    if (copy[strspn(copy, "0123456789+-.eE")] != '\0') {
        FAIL(ERR_INVALID, "not a number");
    }
    char *end = NULL;
    const double value = strtod_l(copy, &end, plain_locale());
    if (end != copy + text.bytes || !isfinite(value)) { // Also where a NUL stands inside.
        FAIL(ERR_INVALID, "not a finite number");
    }
    *value_out = value;
    return OK;
}

static void put_number(double number, bool single, char out[static TEXT_NUMBER_BYTES])
{
    CHECK(isfinite(number));
    const locale_t before = uselocale(plain_locale());
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, TEXT_NUMBER_BYTES, "%.*g", digits, number);
        double back = 0;
        if (text_f64(span_text(out), &back) == OK &&
            (back == number || (single && (float)back == (float)number))) {
            break;
        }
    }
    uselocale(before);
}

void text_f64_put(double number, char out[static TEXT_NUMBER_BYTES])
{
    put_number(number, false, out);
}

void text_f32_put(float number, char out[static TEXT_NUMBER_BYTES])
{
    put_number((double)number, true, out);
}

void text_time(int64_t time_us, char out[static TEXT_TIME_BYTES])
{
    if (time_us == 0) {
        out[0] = '\0';
        return;
    }
    // Lines of a log come one after the other: what is above a second is mostly that of the one before.
    static _Thread_local time_t last = -1;
    static _Thread_local char day[24];
    const time_t seconds = (time_t)(time_us / 1000000);
    struct tm utc;
    if (time_us < 0 || (seconds != last && gmtime_r(&seconds, &utc) == NULL)) {
        snprintf(out, TEXT_TIME_BYTES, "invalid");
        return;
    }
    if (seconds != last) {
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
        last = seconds;
    }
    snprintf(out, TEXT_TIME_BYTES, "%s.%06dZ", day, (int)(time_us % 1000000));
}

enum err text_date(const char *text, int64_t *time_us_out)
{
    static const char shape[] = "0000-00-00";
    bool good = strlen(text) == strlen(shape);
    for (size_t i = 0; good && shape[i] != '\0'; i++) {
        good = shape[i] == '-' ? text[i] == '-' : text[i] >= '0' && text[i] <= '9';
    }
    struct tm day = {0}, back;
    time_t seconds = 0;
    if (good) {
        day.tm_year = (int)strtol(text, NULL, 10) - 1900;
        day.tm_mon = (int)strtol(text + 5, NULL, 10) - 1;
        day.tm_mday = (int)strtol(text + 8, NULL, 10);
        struct tm copy = day; // timegm makes the 1st of March of the 29th of February.
        seconds = timegm(&copy);
        good = day.tm_year >= 70 && gmtime_r(&seconds, &back) != NULL &&
               back.tm_mon == day.tm_mon && back.tm_mday == day.tm_mday;
    }
    if (!good) {
        FAIL(ERR_INVALID, "not a day of the calendar since 1970, expected one like 2026-01-31");
    }
    *time_us_out = (int64_t)seconds * 1000000;
    return OK;
}

enum err text_uuid(const char *text, struct id128 *uuid_out)
{
    char hex[2 * ID_BYTES + 1];
    size_t digits = 0;
    size_t at = 0;
    for (; at < TEXT_UUID_BYTES && text[at] != '\0'; at++) {
        const bool dash = at == 8 || at == 13 || at == 18 || at == 23;
        if (dash != (text[at] == '-') || (!dash && digits >= sizeof hex - 1)) {
            FAIL(ERR_INVALID, "not a UUID: expected 8-4-4-4-12 hex digits");
        }
        if (!dash) {
            hex[digits++] = text[at];
        }
    }
    hex[digits] = '\0';
    if (at != TEXT_UUID_BYTES - 1 || hex_get(uuid_out->bytes, ID_BYTES, hex) != OK) {
        FAIL(ERR_INVALID, "not a UUID: expected 8-4-4-4-12 hex digits");
    }
    return OK;
}

void text_uuid_put(const struct id128 *uuid, char out[static TEXT_UUID_BYTES])
{
    static const size_t bytes[] = {4, 2, 2, 2, 6}; // Of each part.
    const uint8_t *from = uuid->bytes;
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        hex_put(out, from, bytes[i]); // Puts a zero where the hyphen or the end comes.
        from += bytes[i];
        out += 2 * bytes[i] + 1;
        out[-1] = i + 1 < sizeof bytes / sizeof bytes[0] ? '-' : '\0';
    }
}

struct id128 text_uuid_new(void)
{
    struct id128 uuid;
    digest_random(uuid.bytes, sizeof uuid.bytes);
    uuid.bytes[6] = (uint8_t)((uuid.bytes[6] & 0x0F) | 0x40);
    uuid.bytes[8] = (uint8_t)((uuid.bytes[8] & 0x3F) | 0x80);
    return uuid;
}
