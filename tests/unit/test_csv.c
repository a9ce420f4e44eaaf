// tests/unit/test_csv.c: CSV is read as RFC 4180 says, or refused with file and line.
//
// Method: write small files, read them as text through the reader (rows.h), compare. Each refusal
// has beside it the file without the defect, which must pass.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "tests/unit/rows.h"

static void test_csv_reads_quotes_and_line_ends(void **state)
{
    (void)state;
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1,x\n2,y\n")), OK);
    assert_string_equal(rows_text, "0||1,x;1||2,y;");
    // CRLF, a byte order mark, no line end at the end.
    assert_int_equal(rows_of("csv", feed_text("a.csv", "\xEF\xBB\xBF"
                                                       "a,b\r\n1,x\r\n2,y")),
                     OK);
    assert_string_equal(rows_text, "0||1,x;1||2,y;");
    // The mark is no part of the first name.
    const char *const marked = feed_text("a.csv", "\xEF\xBB\xBF"
                                                  "a,b\n1,x\n");
    assert_int_equal(
        rows_read(&(struct reader_options){.files = &marked, .file_count = 1, .id = "a"}), OK);
    // Commas, doubled quotes and line ends inside quotes.
    assert_int_equal(
        rows_of("csv", feed_text("a.csv", "a,b\n\"1,2\",\"say \"\"hi\"\"\"\n\"x\r\ny\",\"\"\n")),
        OK);
    assert_string_equal(rows_text, "0||1,2,say \"hi\";1||x\r\ny,-;");
    // A header alone has no records.
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n")), OK);
    assert_string_equal(rows_text, "");
}

static void test_csv_knows_what_is_missing(void **state)
{
    (void)state;
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b,c\n?,,x\n,??, \n")), OK);
    assert_string_equal(rows_text, "0||-?,-,x;1||-,??, ;"); // What stood there is kept.
    // With one column an empty line is a record with a missing value.
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a\n1\n\n2\n")), OK);
    assert_string_equal(rows_text, "0||1;1||-;2||2;");
}

static void test_csv_counts_fields_and_names_the_line(void **state)
{
    (void)state;
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b,c\n1,2,3\n1,2\n")), ERR_INVALID);
    assert_said("a.csv line 3: found 2 fields, expected 3");
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b,c\n1,2,3,4\n")), ERR_INVALID);
    assert_said("a.csv line 2: found 4 fields, expected 3");
    // Lines inside quotes count: the bad row begins at line 4.
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n\"x\ny\",1\n1\n")), ERR_INVALID);
    assert_said("a.csv line 4: found 1 fields, expected 2");
    // Blank lines at the end are none; one in the middle is.
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1,2\n\n\r\n")), OK);
    assert_string_equal(rows_text, "0||1,2;");
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1,2\n\n3,4\n")), ERR_INVALID);
    assert_said("a.csv line 3: found 0 fields, expected 2");
}

static void test_csv_refuses_bad_quotes(void **state)
{
    (void)state;
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1,\"x\"\n")), OK);
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1,\"x\n")), ERR_INVALID);
    assert_said("a.csv line 2: a quoted field is not closed");
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1,x\"y\"\n")), ERR_INVALID);
    assert_said("a.csv line 2: field 2 has a quote inside");
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1,\"x\"y\n")), ERR_INVALID);
    assert_said("a.csv line 2: field 2 goes on after its closing quote");
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b\n1\r2,x\n")), ERR_INVALID);
    assert_said("a.csv line 2: a carriage return without a line feed");
    assert_int_equal(rows_of("csv", feed_bytes("a.csv", "a,b\n1,\0\n", 8)), ERR_INVALID);
    assert_said("a.csv line 2: holds a NUL byte");
}

static void test_csv_checks_the_header(void **state)
{
    (void)state;
    assert_int_equal(rows_of("csv", feed_text("a.csv", "")), ERR_INVALID);
    assert_said("a.csv is empty, expected a header line");
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,b,a\n")), ERR_INVALID);
    assert_said("a.csv line 1: the header names \"a\" twice");
    assert_int_equal(rows_of("csv", feed_text("a.csv", "a,,b\n")), ERR_INVALID);
    assert_said("a.csv line 1: header, column 2: a column name has 0 bytes");
}

static void test_csv_files_share_one_header(void **state)
{
    (void)state;
    const char *const a = feed_text("a.csv", "a,b\n1,2\n");
    assert_int_equal(rows_of_two("csv", a, feed_text("b.csv", "a,b\r\n3,4\r\n")), OK);
    assert_string_equal(rows_text, "0||1,2;1||3,4;");
    assert_int_equal(rows_of_two("csv", a, feed_text("b.csv", "b,a\n3,4\n")), ERR_INVALID);
    assert_said("b.csv line 1: column 1 has another name");
    assert_int_equal(rows_of_two("csv", a, feed_text("b.csv", "a,b,c\n")), ERR_INVALID);
    assert_said("b.csv line 1: found 3 columns, expected 2");
}

static void test_csv_bounds_the_row(void **state)
{
    (void)state;
    const size_t bytes = (size_t)LIMIT_ROW_TEXT_BYTES + 64;
    char *const text = malloc(bytes);
    memset(text, 'x', bytes);
    memcpy(text, "a\n\"", 3);
    assert_int_equal(rows_of("csv", feed_bytes("a.csv", text, bytes)), ERR_LIMIT);
    assert_said("a.csv line 2: the row is longer than");
    assert_said("perhaps a quote is not closed");
    free(text);
}

static void test_csv_bounds_the_columns(void **state)
{
    (void)state;
    char *const text = malloc(8 * (LIMIT_COLUMNS + 2));
    size_t at = 0;
    for (int i = 0; i < LIMIT_COLUMNS; i++) {
        at += (size_t)sprintf(text + at, "%sc%d", i > 0 ? "," : "", i);
    }
    assert_int_equal(rows_of("csv", feed_bytes("a.csv", text, at)), OK);
    at += (size_t)sprintf(text + at, ",one");
    assert_int_equal(rows_of("csv", feed_bytes("a.csv", text, at)), ERR_LIMIT);
    assert_said("a.csv line 1: more than 65536 fields");
    free(text);
}

static void test_csv_reads_gzip_and_refuses_a_cut_one(void **state)
{
    (void)state;
    char text[4096] = "a\n";
    for (int i = 0; i < 500; i++) {
        snprintf(text + strlen(text), 16, "%d\n", i * 7919 % 1000);
    }
    const char *const path = feed_gzip("a.csv.gz", text, strlen(text));
    assert_int_equal(rows_of("csv", path), OK);
    assert_non_null(strstr(rows_text, "499||581;"));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 20), 0);
    assert_int_equal(rows_of("csv", path), ERR_INVALID);
    assert_said("a.csv.gz: the gzip data is cut off or damaged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_reads_quotes_and_line_ends),
        cmocka_unit_test(test_csv_knows_what_is_missing),
        cmocka_unit_test(test_csv_counts_fields_and_names_the_line),
        cmocka_unit_test(test_csv_refuses_bad_quotes),
        cmocka_unit_test(test_csv_checks_the_header),
        cmocka_unit_test(test_csv_files_share_one_header),
        cmocka_unit_test(test_csv_bounds_the_row),
        cmocka_unit_test(test_csv_bounds_the_columns),
        cmocka_unit_test(test_csv_reads_gzip_and_refuses_a_cut_one),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
