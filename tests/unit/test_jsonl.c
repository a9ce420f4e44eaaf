// tests/unit/test_jsonl.c: JSON Lines become rows by key, or are refused without repeating them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "tests/unit/rows.h"

static enum err read_line(const char *line)
{
    char text[256];
    snprintf(text, sizeof text, "{\"a\": 1}\n%s\n", line);
    return rows_of("jsonl", feed_text("a.jsonl", text));
}

static void test_jsonl_reads_keys_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(rows_of(NULL, feed_text("a.jsonl", "{\"a\": 1, \"b\": \"x\"}\n \n"
                                                        "{\"b\": \"y\", \"a\": null}\r\n"
                                                        "{\"c\": true, \"a\": 2.5}\n{}")),
                     OK);
    assert_string_equal(rows_text, "0||1,x;1||-,y;2||2.5,-,true;3||-,-,-;");
    // A byte order mark is dropped.
    assert_int_equal(rows_of("jsonl", feed_text("a.jsonl", "\xEF\xBB\xBF{\"a\": 1}")), OK);
    assert_string_equal(rows_text, "0||1;");
    // Whole numbers keep their digits, beyond what a double holds.
    assert_int_equal(read_line("{\"a\": 9007199254740993}"), OK);
    assert_string_equal(rows_text, "0||1;1||9007199254740993;");
}

static void test_jsonl_refuses_what_is_not_flat(void **state)
{
    (void)state;
    assert_int_equal(read_line("{\"a\": 2}"), OK);
    assert_int_equal(read_line("{\"a\": {\"b\": 1}}"), ERR_INVALID);
    assert_said("a.jsonl line 2: key \"a\" holds an object");
    assert_int_equal(read_line("{\"a\": [1]}"), ERR_INVALID);
    assert_said("key \"a\" holds an array");
    assert_int_equal(read_line("[1]"), ERR_INVALID);
    assert_said("line 2: found an array, expected one JSON object");
    assert_int_equal(read_line("{\"a\": 1, \"a\": 2}"), ERR_INVALID);
    assert_said("line 2: a key comes twice");
    assert_int_equal(read_line("{\"a\": 1e999}"), ERR_INVALID);
    assert_said("line 2: a number is too large");
    assert_int_equal(read_line("{\"\": 1}"), ERR_INVALID);
    assert_said("line 2: a column name has 0 bytes");
}

static void test_jsonl_errors_hold_no_content(void **state)
{
    (void)state;
    assert_int_equal(read_line("{\"a\": \"secret\" \"more\"}"), ERR_INVALID);
    assert_said("a.jsonl line 2: not valid JSON at character");
    assert_null(strstr(err_text(), "secret"));
    assert_null(strstr(err_text(), "more"));
}

static void test_jsonl_bounds_the_line(void **state)
{
    (void)state;
    const size_t bytes = (size_t)LIMIT_ROW_TEXT_BYTES + 1;
    char *const text = malloc(bytes);
    memset(text, ' ', bytes);
    assert_int_equal(rows_of("jsonl", feed_bytes("a.jsonl", text, bytes - 1)), OK);
    assert_int_equal(rows_of("jsonl", feed_bytes("a.jsonl", text, bytes)), ERR_LIMIT);
    assert_said("a.jsonl line 1: longer than 8388608 bytes");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jsonl_reads_keys_in_any_order),
        cmocka_unit_test(test_jsonl_refuses_what_is_not_flat),
        cmocka_unit_test(test_jsonl_errors_hold_no_content),
        cmocka_unit_test(test_jsonl_bounds_the_line),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
