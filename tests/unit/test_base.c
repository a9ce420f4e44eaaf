// tests/unit/test_base.c: errors, bytes, texts, digests: what every layout and message stands on.
//
// Method: examples with known answers (RFC 3629, RFC 7693, RFC 9562 forms) and, for every refusal,
// the accepted neighbour beside it.
#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"

// --- err ---

static enum err inner(void)
{
    FAIL(ERR_NOT_FOUND, "found %d, expected %d", 1, 2);
}

static enum err middle(void)
{
    TRY(inner());
    return OK;
}

static enum err outer(void)
{
    TRY_AS(middle(), "shard %d", 7);
    return OK;
}

static enum err fine(void)
{
    TRY_AS(OK, "never written");
    return OK;
}

static void test_errors_carry_their_context(void **state)
{
    (void)state;
    assert_int_equal(outer(), ERR_NOT_FOUND);
    assert_string_equal(err_text(), "shard 7: found 1, expected 2");
    assert_int_equal(fine(), OK);
    assert_string_equal(err_text(), "shard 7: found 1, expected 2");
    assert_int_equal(err_raise(ERR_IO, "after: %s", err_text()), ERR_IO); // May quote itself.
    assert_string_equal(err_text(), "after: shard 7: found 1, expected 2");
}

static void test_long_errors_are_cut(void **state)
{
    (void)state;
    char longer[2 * ERR_TEXT_BYTES];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(err_raise(ERR_IO, "%s", longer), ERR_IO);
    assert_int_equal(strlen(err_text()), ERR_TEXT_BYTES - 1);
    assert_int_equal(err_context(ERR_IO, "%s", longer), ERR_IO);
    assert_int_equal(strlen(err_text()), ERR_TEXT_BYTES - 1);
}

static void test_every_error_has_a_name(void **state)
{
    (void)state;
    for (int code = OK; code < ERR_COUNT_; code++) {
        assert_string_not_equal(err_name((enum err)code), "UNKNOWN");
        for (int other = OK; other < code; other++) {
            assert_string_not_equal(err_name((enum err)code), err_name((enum err)other));
        }
    }
    assert_string_equal(err_name(ERR_COUNT_), "UNKNOWN");
    assert_string_equal(err_name(ERR_LIMIT), "RESOURCE_EXHAUSTED");
}

// --- bytes ---

static void test_numbers_are_little_endian_and_come_back(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_u8(&buf, 1);
    buf_u16(&buf, 0x0203);
    buf_u32(&buf, 0x04050607);
    buf_u64(&buf, 0x08090a0b0c0d0e0f);
    buf_f32(&buf, 1.0f);
    buf_f64(&buf, -2.0);
    buf_short_text(&buf, "ab");
    static const uint8_t expected[] = {1,  3,  2, 7, 6,    5, 4,    15,   14, 13, 12,
                                       11, 10, 9, 8, 0,    0, 0x80, 0x3f, 0,  0,  0,
                                       0,  0,  0, 0, 0xc0, 2, 0,    'a',  'b'};
    assert_int_equal(buf.bytes, sizeof expected);
    assert_memory_equal(buf.data, expected, sizeof expected);

    struct cursor cursor = cursor_of(buf_span(&buf));
    assert_int_equal(cursor_u8(&cursor), 1);
    assert_int_equal(cursor_u16(&cursor), 0x0203);
    assert_int_equal(cursor_u32(&cursor), 0x04050607);
    assert_true(cursor_u64(&cursor) == 0x08090a0b0c0d0e0f);
    assert_true(cursor_f32(&cursor) == 1.0f);
    assert_true(cursor_f64(&cursor) == -2.0);
    char text[3];
    cursor_short_text(&cursor, text, sizeof text);
    assert_string_equal(text, "ab");
    assert_int_equal(cursor_done(&cursor, "it"), OK);
    buf_deinit(&buf);
    assert_null(buf.data);
}

static void test_cursor_never_reads_past_the_end(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3};
    struct cursor cursor = cursor_of(span_of(bytes, sizeof bytes));
    assert_int_equal(cursor_u32(&cursor), 0);
    assert_true(cursor.bad);
    assert_int_equal(cursor_u8(&cursor), 0); // Bad stays bad.
    assert_int_equal(cursor_done(&cursor, "it"), ERR_CORRUPT);
    assert_string_equal(err_text(), "it ends too early");
    cursor = cursor_of(span_of(bytes, sizeof bytes));
    assert_int_equal(cursor_u16(&cursor), 0x0201);
    assert_int_equal(cursor_done(&cursor, "it"), ERR_CORRUPT);
    assert_string_equal(err_text(), "it has 1 bytes more than expected");
    assert_int_equal(cursor_take(&cursor, SIZE_MAX).bytes, 0);
    assert_true(cursor.bad);
    cursor = cursor_of(span_of(NULL, 0));
    assert_int_equal(cursor_done(&cursor, "nothing"), OK);
}

static void test_short_texts_must_fit_and_hold_no_nul(void **state)
{
    (void)state;
    static const uint8_t three[] = {3, 0, 'a', 'b', 'c'}, nul[] = {3, 0, 'a', 0, 'c'};
    char text[4];
    struct cursor cursor = cursor_of(span_of(three, sizeof three));
    cursor_short_text(&cursor, text, 4);
    assert_false(cursor.bad);
    assert_string_equal(text, "abc");
    cursor = cursor_of(span_of(three, sizeof three));
    cursor_short_text(&cursor, text, 3);
    assert_true(cursor.bad);
    assert_string_equal(text, "");
    cursor = cursor_of(span_of(nul, sizeof nul));
    cursor_short_text(&cursor, text, 4);
    assert_true(cursor.bad);
}

static void test_bufs_grow_and_empty(void **state)
{
    (void)state;
    struct buf buf = {0};
    for (uint32_t i = 0; i < 10000; i++) {
        buf_u32(&buf, i);
    }
    struct cursor cursor = cursor_of(buf_span(&buf));
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(cursor_u32(&cursor), i);
    }
    const uint8_t *const before = buf.data;
    buf_clear(&buf);
    buf_reserve(&buf, 30000);
    assert_ptr_equal(buf.data, before); // Room is kept.
    assert_true(span_equal(buf_span(&buf), span_of(NULL, 0)));
    assert_false(span_equal(span_text("a"), span_text("b")));
    buf_deinit(&buf);
}

static void test_big_endian_sorts_as_numbers(void **state)
{
    (void)state;
    uint8_t a[8], b[8];
    be_put64(a, 0x0102030405060708);
    static const uint8_t expected[] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_memory_equal(a, expected, sizeof a);
    assert_true(be_get64(a) == 0x0102030405060708);
    be_put32(a, 255);
    be_put32(b, 256);
    assert_true(memcmp(a, b, 4) < 0);
    assert_int_equal(be_get32(b), 256);
}

// --- digest ---

// Expected values: Python's hashlib.blake2b with person=domain.
static void test_digests_are_blake2b_with_a_domain(void **state)
{
    (void)state;
    const struct span parts[] = {span_text("ab"), span_text(""), span_text("c")};
    const struct digest split = digest_of("unlearnd-test", parts, 3);
    const struct span whole = span_text("abc");
    const struct digest joined = digest_of("unlearnd-test", &whole, 1);
    assert_memory_equal(&split, &joined, sizeof split);
    char hex[DIGEST_HEX_BYTES];
    hex_put(hex, joined.bytes, sizeof joined.bytes);
    assert_string_equal(hex, "b21c26929480ea58129d60dca4c31e446056bd335c96b294ede34bbcdf10deaa");
    const struct digest other = digest_of("unlearnd-other", &whole, 1);
    assert_memory_not_equal(&other, &joined, sizeof other);
    uint8_t key[KEY_BYTES];
    for (uint8_t i = 0; i < sizeof key; i++) {
        key[i] = i;
    }
    const struct id128 id = digest_id("unlearnd-test", key, whole);
    hex_put(hex, id.bytes, sizeof id.bytes);
    assert_string_equal(hex, "b6acd49f452597186e4ed595f95429d8");
    assert_true(digest_u64("unlearnd-test", whole) == 0x4c0f106a183bc19b);
}

static void test_hex(void **state)
{
    (void)state;
    uint8_t bytes[3];
    assert_int_equal(hex_get(bytes, 3, "00aBff"), OK);
    char hex[7];
    hex_put(hex, bytes, 3);
    assert_string_equal(hex, "00abff");
    assert_int_equal(hex_get(bytes, 3, "00abf"), ERR_INVALID);
    assert_int_equal(hex_get(bytes, 3, "00abff0"), ERR_INVALID);
    assert_int_equal(hex_get(bytes, 3, "00abfg"), ERR_INVALID);
    assert_int_equal(hex_get(bytes, 3, ""), ERR_INVALID);
}

static void test_ids_compare_as_bytes(void **state)
{
    (void)state;
    const struct id128 low = {{0, 255}}, high = {{1, 0}};
    assert_true(id128_compare(&low, &high) < 0 && id128_compare(&high, &low) > 0);
    assert_int_equal(id128_compare(&low, &low), 0);
}

// --- text ---

static void test_visible_text(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
        const char *shown;
    } cases[] = {
        {"", 0, ""},
        {"To be,\n\tor \xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb9", 20, // As it is.
         "To be,\n\tor \xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb9"},
        {"a\\x0a", 5, "a\\\\x0a"},
        {"\0\r\x1b[31m\x7f", 8, "\\x00\\x0d\\x1b[31m\\x7f"},
        {"\xc2\x9b\xc2\xa0", 4, "\\xc2\\x9b\xc2\xa0"}, // A control character of two bytes.
        {"\xe2\x82", 2, "\\xe2\\x82"},                 // Cut off.
        {"\xff\xc0\x80z", 4, "\\xff\\xc0\\x80z"},
        {"\xed\xa0\x80", 3, "\\xed\\xa0\\x80"}, // A surrogate.
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out = {0};
        text_put_visible(span_of(cases[i].bytes, cases[i].count), &out);
        buf_u8(&out, 0);
        assert_string_equal((const char *)out.data, cases[i].shown);
        buf_deinit(&out);
    }
}

static void test_clean_text(void **state)
{
    (void)state;
    static const char *const good[] = {
        "", "a b", "é", "€", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xc2\xa0"};
    static const char *const bad[] = {"\n",
                                      "\x7f",
                                      "\xc2\x80",
                                      "\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xe2\x82",
                                      "a\xff"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(text_is_clean(span_text(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(text_is_clean(span_text(bad[i])));
    }
    assert_false(text_is_clean(span_of("a\0b", 3)));
}

static void test_names_are_bounded_and_not_repeated(void **state)
{
    (void)state;
    char name[LIMIT_NAME_BYTES + 2];
    memset(name, 'n', sizeof name - 1);
    name[LIMIT_NAME_BYTES + 1] = '\0';
    assert_int_equal(text_check_name("id", span_text(name)), ERR_INVALID);
    assert_string_equal(err_text(), "id has 256 bytes, expected 1 to 255");
    assert_int_equal(text_check_name("id", span_of(name, LIMIT_NAME_BYTES)), OK);
    assert_int_equal(text_check_name("id", span_text("")), ERR_INVALID);
    assert_int_equal(text_check_name("id", span_text("secret\n")), ERR_INVALID);
    assert_null(strstr(err_text(), "secret"));
    assert_int_equal(text_check_label("model name", "A-z_0.9"), OK);
    static const char *const bad[] = {"-a", ".a", "a b", "a/b", "a:b", "é", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(text_check_label("model name", bad[i]), ERR_INVALID);
    }
}

static void test_whole_numbers(void **state)
{
    (void)state;
    uint64_t value = 0;
    assert_int_equal(text_u64("18446744073709551615", UINT64_MAX, &value), OK);
    assert_true(value == UINT64_MAX);
    assert_int_equal(text_u64("007", 7, &value), OK);
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "0x1",
                                      "8",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        value = 42;
        assert_int_equal(text_u64(bad[i], 7, &value), ERR_INVALID);
        assert_int_equal(value, 42);
    }
    assert_int_equal(text_u64("18446744073709551616", UINT64_MAX, &value), ERR_INVALID);
}

static void test_decimal_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"",   "nan", "inf", "0x1p3", " 1", "1 ",
                                      "1e", "1,5", "--1", "1e999", "."};
    setlocale(LC_ALL, "de_DE.UTF-8"); // Where it exists, a comma is its dot; it must not matter.
    double value = 0;
    assert_int_equal(text_f64(span_text("-1.5e-3"), &value), OK);
    assert_true(value == -1.5e-3);
    assert_int_equal(text_f64(span_of("2.5xyz", 3), &value), OK); // Bounded by its length.
    assert_true(value == 2.5);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(text_f64(span_text(bad[i]), &value), ERR_INVALID);
    }
    assert_int_equal(text_f64(span_of("1\0", 2), &value), ERR_INVALID);
    char longer[65];
    memset(longer, '1', sizeof longer);
    assert_int_equal(text_f64(span_of(longer, 63), &value), OK);
    assert_int_equal(text_f64(span_of(longer, 64), &value), ERR_INVALID);
    setlocale(LC_ALL, "C");
}

static void test_numbers_are_written_short_and_read_back_equal(void **state)
{
    (void)state;
    char text[TEXT_NUMBER_BYTES];
    setlocale(LC_ALL, "de_DE.UTF-8");
    text_f64_put(0.1, text);
    assert_string_equal(text, "0.1");
    setlocale(LC_ALL, "C");
    text_f64_put(-DBL_MAX, text); // The longest there is; rounded up it would not be finite.
    assert_string_equal(text, "-1.7976931348623157e+308");
    text_f64_put((double)0.1f, text);
    assert_string_equal(text, "0.10000000149011612");
    text_f32_put(0.1f, text); // Needs no more than tells it from other floats.
    assert_string_equal(text, "0.1");
    text_f32_put(-FLT_MAX, text);
    assert_string_equal(text, "-3.4028235e+38");
    text_f32_put(0.0f, text);
    assert_string_equal(text, "0");
}

static void test_times(void **state)
{
    (void)state;
    char text[TEXT_TIME_BYTES];
    text_time(1767323045678901, text);
    assert_string_equal(text, "2026-01-02T03:04:05.678901Z");
    text_time(0, text);
    assert_string_equal(text, "");
    text_time(-1, text);
    assert_string_equal(text, "invalid");
    text_time(951782400000001, text);
    assert_string_equal(text, "2000-02-29T00:00:00.000001Z");
    assert_true(clock_wall_us() > 1700000000000000);
    const int64_t now = clock_mono_ms();
    assert_true(clock_mono_ms() >= now);
    // A log tells them one after the other: also within a second, and back.
    text_time(951782400000002, text);
    assert_string_equal(text, "2000-02-29T00:00:00.000002Z");
    text_time(951782399999999, text);
    assert_string_equal(text, "2000-02-28T23:59:59.999999Z");
    text_time(INT64_MAX, text);
    assert_string_equal(text, "294247-01-10T04:00:54.775807Z");
}

static void test_dates(void **state)
{
    (void)state;
    static const char *const bad[] = {"",           "2026-1-1",   "2026-01-01 ", "2026-02-30",
                                      "2025-02-29", "2026-13-01", "2026-00-10",  "2026-01-00",
                                      "1969-12-31", "2026/01/01", "-026-01-01",  "2026-01-0x"};
    int64_t time_us = 1;
    assert_int_equal(text_date("1970-01-01", &time_us), OK);
    assert_int_equal(time_us, 0);
    assert_int_equal(text_date("2000-02-29", &time_us), OK);
    assert_int_equal(time_us, 951782400000000);
    assert_int_equal(text_date("9999-12-31", &time_us), OK);
    assert_int_equal(time_us, 253402214400000000);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(text_date(bad[i], &time_us), ERR_INVALID);
    }
}

static void test_uuids(void **state)
{
    (void)state;
    struct id128 uuid;
    char text[TEXT_UUID_BYTES];
    assert_int_equal(text_uuid("00112233-4455-6677-8899-AABBCCDDEEFF", &uuid), OK);
    text_uuid_put(&uuid, text);
    assert_string_equal(text, "00112233-4455-6677-8899-aabbccddeeff");
    static const char *const bad[] = {
        "",
        "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeeff0",
        "001122334-455-6677-8899-aabbccddeeff",
        "00112233-4455-6677-8899-aabbccddeefg",
        "00112233445566778899aabbccddeeff",
        "00112233-4455-6677-8899-aabbccddee-f",
        "------------------------------------",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(text_uuid(bad[i], &uuid), ERR_INVALID);
    }
    const struct id128 a = text_uuid_new(), b = text_uuid_new();
    assert_memory_not_equal(&a, &b, sizeof a);
    assert_int_equal(a.bytes[6] >> 4, 4);
    assert_int_equal(a.bytes[8] >> 6, 2);
    text_uuid_put(&a, text);
    assert_int_equal(text_uuid(text, &uuid), OK);
    assert_memory_equal(&a, &uuid, sizeof a);
}

// --- mem ---

static void test_memory(void **state)
{
    (void)state;
    float *matrix = NULL;
    assert_int_equal(mem_try_aligned(5, sizeof *matrix, &matrix), OK);
    assert_int_equal((uintptr_t)matrix % 64, 0);
    assert_true(matrix[0] == 0 && matrix[4] == 0);
    mem_free(matrix);
    assert_int_equal(mem_try_aligned(SIZE_MAX, 2, &matrix), ERR_LIMIT);
    assert_null(matrix);
    assert_int_equal(mem_try_aligned(0, 8, &matrix), OK);
    mem_free(matrix);
    uint8_t *bytes = mem_alloc(3, 1);
    assert_true(bytes[0] == 0 && bytes[2] == 0);
    bytes = mem_resize(bytes, 100, 1);
    mem_free(bytes);
    char *const text = mem_text("ab");
    assert_string_equal(text, "ab");
    mem_free(text);
    mem_free(NULL);
    mem_free(mem_alloc(0, 0));
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_carry_their_context),
        cmocka_unit_test(test_long_errors_are_cut),
        cmocka_unit_test(test_every_error_has_a_name),
        cmocka_unit_test(test_numbers_are_little_endian_and_come_back),
        cmocka_unit_test(test_cursor_never_reads_past_the_end),
        cmocka_unit_test(test_short_texts_must_fit_and_hold_no_nul),
        cmocka_unit_test(test_bufs_grow_and_empty),
        cmocka_unit_test(test_big_endian_sorts_as_numbers),
        cmocka_unit_test(test_digests_are_blake2b_with_a_domain),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_ids_compare_as_bytes),
        cmocka_unit_test(test_clean_text),
        cmocka_unit_test(test_visible_text),
        cmocka_unit_test(test_names_are_bounded_and_not_repeated),
        cmocka_unit_test(test_whole_numbers),
        cmocka_unit_test(test_decimal_numbers),
        cmocka_unit_test(test_numbers_are_written_short_and_read_back_equal),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_uuids),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
