// tests/unit/test_reader.c: ids, subjects, --skip, --limit and --except mean the same in each format.
//
// The rule under test: an id is the number of its row over all files and never shifts, whatever is
// left out. A second cluster that imports without some records depends on it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/format.h"
#include "tests/unit/rows.h"

static const char *two_files[2];

static int make_files(void **state)
{
    const int made = feed_open(state);
    two_files[0] = feed_text("a.csv", "n,who,v\nx,ann,1\ny,bob,2\nz,,3\n");
    two_files[1] = feed_text("b.csv", "n,who,v\nu,ann,4\nw,eve,5\n");
    // Paths handed out by feed_path are reused; these are kept.
    static char kept[2][128];
    for (int i = 0; i < 2; i++) {
        snprintf(kept[i], sizeof kept[i], "%s", two_files[i]);
        two_files[i] = kept[i];
    }
    return made;
}

static struct reader_options options_two(void)
{
    return (struct reader_options){.files = two_files, .file_count = 2};
}

static void test_reader_numbers_rows_over_all_files(void **state)
{
    (void)state;
    struct reader_options options = options_two();
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "0||x,ann,1;1||y,bob,2;2||z,-,3;3||u,ann,4;4||w,eve,5;");
    options.skip = 1;
    options.limit = 3;
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "1||y,bob,2;2||z,-,3;3||u,ann,4;");
    options.skip = 9;
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "");
}

static void test_reader_takes_ids_and_subjects_from_columns(void **state)
{
    (void)state;
    struct reader_options options = options_two();
    options.id = "n";
    options.subject = "who";
    options.id_prefix = "p-";
    options.limit = 3;
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "p-x|ann|x,ann,1;p-y|bob|y,bob,2;p-z||z,-,3;");
    options.id = "who"; // Row 2 has none.
    options.subject = NULL;
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("a.csv line 4: column \"who\" is empty, expected an id");
}

static void test_reader_leaves_out_without_renumbering(void **state)
{
    (void)state;
    struct reader_options options = options_two();
    options.except_file = feed_text("except", "1\r\n3\n\n77\n1\n");
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "0||x,ann,1;2||z,-,3;4||w,eve,5;");
    options.limit = 3; // Of rows, not of records: row 3 does not move up.
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "0||x,ann,1;2||z,-,3;");
    options.id_prefix = "p"; // An id is the whole text: none of these is in the file.
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "p0||x,ann,1;p1||y,bob,2;p2||z,-,3;");
    options.except_file = feed_text("except", "ok\n\x01\n");
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("except line 2: the id is not UTF-8");
}

static void test_reader_reports_progress(void **state)
{
    (void)state;
    struct reader_options options = options_two();
    options.except_file = feed_text("except", "1\n77\n");
    options.skip = 1;
    struct reader *reader;
    assert_int_equal(reader_open(&options, &reader), OK);
    assert_int_equal(rows_take(reader), OK);
    const struct reader_progress progress = reader_progress(reader);
    assert_int_equal(progress.rows, 5);
    assert_int_equal(progress.records, 3);
    assert_int_equal(progress.skipped, 1);
    assert_int_equal(progress.excepted, 1);
    assert_int_equal(progress.except_ids, 2);
    assert_int_equal(progress.bytes_all, 53);
    assert_int_equal(progress.bytes_done, 53);
    assert_string_equal(strrchr(reader_where(reader), '/'), "/b.csv line 3");
    reader_close(reader);
}

static void test_reader_takes_subjects_from_a_file(void **state)
{
    (void)state;
    struct reader_options options = options_two();
    options.subjects_file = feed_text("subjects", "s0\ns1\n\ns3\r\ns4\n");
    options.skip = 1; // Line i belongs to row i, counted before --skip.
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "1|s1|y,bob,2;2||z,-,3;3|s3|u,ann,4;4|s4|w,eve,5;");
    options.subjects_file = feed_text("subjects", "s0\ns1\ns2\ns3\n");
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("subjects has 4 lines, expected one for each row: ");
    assert_said("b.csv line 3 has none");
    options.limit = 3; // The row without a subject is not looked at.
    assert_int_equal(rows_read(&options), OK);
    options.limit = 0;
    options.subjects_file = feed_text("subjects", "s\ns\ns\ns\ns\ns\n");
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("subjects has more lines than the input has rows, expected 5");
    options.subject = "who";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("--subject and --subjects are both given");
}

static void test_reader_takes_classes_from_a_column(void **state)
{
    (void)state;
    const char *path = feed_text("c.csv", "who,c,v\nann,15,1\nbob,,2\neve,0,3\n");
    struct reader_options options = {
        .files = &path, .file_count = 1, .subject = "who", .risk = "c"};
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "0|ann#15|ann,15,1;1|bob|bob,-,2;2|eve#0|eve,0,3;");
    static const char *const bad[] = {"16", "-1", "high", "1.0", "00000000001"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[64];
        snprintf(text, sizeof text, "who,c,v\nann,%s,1\n", bad[i]);
        path = feed_text("c.csv", text);
        assert_int_equal(rows_read(&options), ERR_INVALID);
        assert_said("c.csv line 2: column \"c\": a risk class is a whole number from 0 to 15");
    }
    path = feed_text("c.jsonl", "{\"c\": 3, \"v\": 1}\n{\"v\": 1}\n{\"c\": \"4\", \"v\": 1}\n");
    options.subject = NULL;
    assert_int_equal(rows_read(&options), OK);
    assert_non_null(strstr(rows_text, "0|#3|"));
    assert_non_null(strstr(rows_text, "1||"));
    assert_non_null(strstr(rows_text, "2|#4|"));
    options.risk = "v";
    options.label = "v";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("column \"v\" is both the label and the risk class");
    path = feed_text("c.csv", "who,c,v\nann,15,1\n"); // It is no feature.
    options = (struct reader_options){.files = &path, .file_count = 1, .risk = "c"};
    struct reader *reader;
    assert_int_equal(reader_open(&options, &reader), OK);
    assert_true(reader_is_feature(reader, 0) && reader_is_feature(reader, 2));
    assert_false(reader_is_feature(reader, 1));
    reader_close(reader);
    options.risk = "d";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("has no column \"d\" for --risk");
}

// By the subject where there is one, else by the id with its prefix.
static void test_reader_takes_classes_from_a_file(void **state)
{
    (void)state;
    struct reader_options options = options_two();
    options.subject = "who";
    options.risk_file = feed_text("risks", "ann,3\r\n\n2,7\neve, the second,9\neve,0\nann,3\n");
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "0|ann#3|x,ann,1;1|bob|y,bob,2;2|#7|z,-,3;3|ann#3|u,ann,4;"
                                   "4|eve#0|w,eve,5;");
    options.id_prefix = "p";
    options.risk_file = feed_text("risks", "2,7\np2,8\neve,1\n");
    options.limit = 3;
    assert_int_equal(rows_read(&options), OK);
    assert_string_equal(rows_text, "p0|ann|x,ann,1;p1|bob|y,bob,2;p2|#8|z,-,3;");
    static const char *const bad[] = {"ann",      "ann,",   ",3",     "",
                                      "ann,1234", "ann,16", "ann,-1", "ann, 3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[64];
        snprintf(text, sizeof text, "bob,1\n%s\n", bad[i]);
        options.risk_file = feed_text("risks", text);
        assert_int_equal(rows_read(&options), bad[i][0] == '\0' ? OK : ERR_INVALID);
        if (bad[i][0] != '\0') {
            assert_said("risks line 2: ");
        }
    }
    options.risk_file = feed_text("risks", "ann,3\nbob,1\nann,4\n");
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("risks line 3: the name has class 4 here and class 3 before");
    options.risk = "v";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("--risk and --risk-file are both given");
    options.risk = NULL;
    options.risk_file = feed_path("nowhere");
    assert_int_equal(rows_read(&options), ERR_NOT_FOUND);
}

static void test_reader_refuses_unknown_columns_by_name(void **state)
{
    (void)state;
    struct reader_options options = options_two();
    options.label = "incom";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("a.csv has no column \"incom\" for --label; it has \"n\", \"who\", \"v\"");
    options.label = NULL;
    options.subject = "whom";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("has no column \"whom\" for --subject");
    options.subject = NULL;
    options.id = "m";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("has no column \"m\" for --id");
    options.id = options.label = "n";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("column \"n\" is both the label and the id");
}

static void test_reader_checks_ids(void **state)
{
    (void)state;
    char text[512] = "n\n";
    memset(text + 2, 'i', 255);
    struct reader_options options = {
        .files = (const char *[]){feed_text("i.csv", text)}, .file_count = 1, .id = "n"};
    assert_int_equal(rows_read(&options), OK);
    options.id_prefix = "p";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("i.csv line 2: the id has 256 bytes, expected 1 to 255");
    options =
        (struct reader_options){.files = (const char *[]){feed_text("i.csv", "n\nok\n\"a\nb\"\n")},
                                .file_count = 1,
                                .id = "n"};
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("i.csv line 3: the id is not UTF-8 without control characters");
    options.id = NULL;
    options.subject = "n";
    assert_int_equal(rows_read(&options), ERR_INVALID);
    assert_said("i.csv line 3: the subject is not UTF-8");
}

static const char *format_of(const char *name, const char *bytes, size_t count)
{
    const char *const path = feed_bytes(name, bytes, count);
    struct reader *reader;
    if (reader_open(&(struct reader_options){.files = &path, .file_count = 1}, &reader) != OK) {
        return "none";
    }
    const char *const found = reader_format(reader)->name;
    reader_close(reader);
    return found;
}

static void test_reader_tells_the_format(void **state)
{
    (void)state;
    static const char idx[] = "\0\0\x08\x03\0\0\0\0\0\0\0\1\0\0\0\1";
    assert_string_equal(format_of("t.csv", "a,b\n", 4), "csv");
    assert_string_equal(format_of("t.csv.gz", "a,b\n", 4), "csv");
    assert_string_equal(format_of("train-images", idx, sizeof idx - 1), "idx");
    assert_string_equal(format_of("t.jsonl", " {}\n", 4), "jsonl");
    assert_string_equal(format_of("t.txt", "{}\n", 3), "jsonl");
    assert_string_equal(format_of("t.libsvm", "1 1:1\n", 6), "libsvm");
    assert_string_equal(format_of("t.txt", "1 1:1\n", 6), "none");
    assert_said("cannot tell the format of ");
    assert_said("t.txt: expected --format with one of csv, idx, npy, libsvm, jsonl");
    // A name that promises IDX: its own reader says what is wrong.
    assert_string_equal(format_of("train-images-idx3-ubyte", "hello", 5), "none");
    assert_said("is no IDX file: it begins with 68656c6c");
}

static void test_reader_refuses_bad_files_and_options(void **state)
{
    (void)state;
    assert_int_equal(rows_of("csv", feed_path("nowhere.csv")), ERR_NOT_FOUND);
    assert_said("nowhere.csv: No such file or directory");
    assert_int_equal(rows_of("csv", feed_dir), ERR_INVALID);
    assert_said("is a directory, expected a regular file");
    assert_int_equal(rows_of("parquet", two_files[0]), ERR_INVALID);
    assert_said("unknown format \"parquet\", expected one of csv, idx");
    assert_int_equal(rows_read(&(struct reader_options){0}), ERR_INVALID);
    assert_said("no input file is given");
    struct reader_options options = options_two();
    options.except_file = feed_path("nowhere");
    assert_int_equal(rows_read(&options), ERR_NOT_FOUND);
    options.except_file = NULL;
    options.subjects_file = feed_path("nowhere");
    assert_int_equal(rows_read(&options), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_numbers_rows_over_all_files),
        cmocka_unit_test(test_reader_takes_ids_and_subjects_from_columns),
        cmocka_unit_test(test_reader_leaves_out_without_renumbering),
        cmocka_unit_test(test_reader_reports_progress),
        cmocka_unit_test(test_reader_takes_subjects_from_a_file),
        cmocka_unit_test(test_reader_takes_classes_from_a_column),
        cmocka_unit_test(test_reader_takes_classes_from_a_file),
        cmocka_unit_test(test_reader_refuses_unknown_columns_by_name),
        cmocka_unit_test(test_reader_checks_ids),
        cmocka_unit_test(test_reader_tells_the_format),
        cmocka_unit_test(test_reader_refuses_bad_files_and_options),
    };
    return cmocka_run_group_tests(tests, make_files, feed_close);
}
