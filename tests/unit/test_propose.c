// tests/unit/test_propose.c: a schema follows from the values alone, not from the order of the rows.
//
// Method: propose, and compare the JSON text without blanks, which holds every field.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/propose.h"
#include "client/schemafile.h"
#include "tests/unit/feed.h"

static char json[8192];

static const char *named_text; // Of the next proposals.

static enum err propose(const struct reader_options *options)
{
    struct schema schema;
    json[0] = '\0';
    TRY(propose_schema(options, named_text, NULL, &schema));
    struct buf text = {0};
    schemafile_put(&schema, &text);
    size_t at = 0;
    for (size_t i = 0; i < text.bytes && at + 1 < sizeof json; i++) {
        if (text.data[i] != ' ' && text.data[i] != '\n') {
            json[at++] = (char)text.data[i];
        }
    }
    json[at] = '\0';
    buf_deinit(&text);
    schema_deinit(&schema);
    return OK;
}

static enum err propose_text(const char *name, const char *text, const char *label)
{
    const char *const path = feed_text(name, text);
    return propose(&(struct reader_options){.files = &path, .file_count = 1, .label = label});
}

#define NUMERIC(name, missing, standardise, width)                                                 \
    "{\"missing\":" missing ",\"name\":\"" name "\",\"offset\":0.0,\"scale\":1.0,"                 \
    "\"standardise\":" standardise ",\"type\":\"numeric\",\"width\":" width "}"

static void test_propose_tells_columns_apart(void **state)
{
    (void)state;
    assert_int_equal(propose_text("a.csv", "n,m,c,e,y\n1,?,b,,no\n-2e3,4,a,,yes\n3,5,?,,no\n", "y"),
                     OK);
    assert_string_equal(
        json, "{\"columns\":[" NUMERIC("n", "false", "true", "1") "," NUMERIC(
                  "m", "true", "true",
                  "1") ","
                       "{\"categories\":[\"a\",\"b\"],\"name\":\"c\",\"type\":\"category\"},"
                       "{\"name\":\"e\",\"type\":\"ignored\"}],"
                       "\"label\":{\"classes\":[\"no\",\"yes\"],\"name\":\"y\","
                       "\"type\":\"classes\"}}");
    assert_int_equal(propose_text("a.csv", "n\n1\n", NULL), OK);
    assert_string_equal(json,
                        "{\"columns\":[" NUMERIC("n", "false", "true", "1") "],"
                                                                            "\"label\":null}");
}

static void test_propose_does_not_see_the_order(void **state)
{
    (void)state;
    char first[8192];
    assert_int_equal(
        propose_text("a.jsonl", "{\"z\":1,\"y\":2}\n{\"a\":\"x\",\"z\":\"b\"}\n{\"y\":5}\n", "y"),
        ERR_INVALID); // Row 2 has no label.
    assert_said("a.jsonl line 2: column \"y\": the label is missing");
    assert_int_equal(
        propose_text("a.jsonl", "{\"z\":1,\"y\":2}\n{\"a\":\"x\",\"z\":\"b\",\"y\":9}\n", "y"), OK);
    snprintf(first, sizeof first, "%s", json);
    assert_int_equal(
        propose_text("a.jsonl", "{\"a\":\"x\",\"z\":\"b\",\"y\":9}\n{\"z\":1,\"y\":2}\n", "y"), OK);
    assert_string_equal(json, first);
    // A word in the last row makes the numbers before it categories.
    assert_int_equal(propose_text("a.csv", "n\n10\n9\nx\n", NULL), OK);
    assert_non_null(strstr(json, "[\"10\",\"9\",\"x\"]"));
    snprintf(first, sizeof first, "%s", json);
    assert_int_equal(propose_text("a.csv", "n\nx\n9\n10\n", NULL), OK);
    assert_string_equal(json, first);
}

// A file of `rows` lines "value,label", value and label made by printf from the row number.
static enum err propose_many(const char *name, const char *head, const char *line, int rows,
                             int modulus)
{
    char *const text = mem_alloc((size_t)rows + 1, 128);
    size_t at = (size_t)sprintf(text, "%s", head);
    for (int i = 0; i < rows; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        at += (size_t)sprintf(text + at, line, i % modulus);
#pragma GCC diagnostic pop
    }
    const enum err err = propose_text(name, text, "y");
    mem_free(text);
    return err;
}

static void test_propose_chooses_the_task(void **state)
{
    (void)state;
    assert_int_equal(propose_text("a.csv", "x,y\n1,10\n1,9\n1,01\n1,-3\n1,1.0\n", "y"), OK);
    assert_non_null(strstr(json, "\"classes\":[\"-3\",\"1\",\"9\",\"10\"]"));
    assert_int_equal(propose_many("a.csv", "x,y\n", "1,%d\n", 300, 100), OK);
    assert_non_null(strstr(json, "\"98\",\"99\"]"));
    assert_int_equal(propose_many("a.csv", "x,y\n", "1,%d\n", 300, 101), OK);
    assert_non_null(
        strstr(json, "\"label\":{\"name\":\"y\",\"standardise\":true,\"type\":\"number\"}"));
    assert_int_equal(propose_text("a.csv", "x,y\n1,1\n1,1.5\n", "y"), OK);
    assert_non_null(strstr(json, "\"type\":\"number\"}"));
    assert_int_equal(propose_text("a.csv", "x,y\n1,1\n1,x\n1,01\n", "y"), OK);
    assert_non_null(strstr(json, "\"classes\":[\"01\",\"1\",\"x\"]"));
    assert_int_equal(propose_many("a.csv", "x,y\n", "1,c%d\n", 4096, 4096), OK);
    assert_int_equal(propose_many("a.csv", "x,y\n", "1,c%d\n", 4097, 4097), ERR_LIMIT);
    assert_said("label \"y\" has more than 4096 different texts");
}

static void test_propose_refuses_bad_labels_and_numbers(void **state)
{
    (void)state;
    assert_int_equal(propose_text("a.csv", "x,y\n1,1\n1,?\n", "y"), ERR_INVALID);
    assert_said("a.csv line 3: column \"y\": the label is missing");
    assert_int_equal(propose_text("a.csv", "x,y\n1,1\n1e39,2\n", "y"), ERR_INVALID);
    assert_said("a.csv line 3: column 1 \"x\": a number is beyond the range of float32");
    assert_int_equal(propose_text("a.csv", "x,y\n1,-1e39\n", "y"), ERR_INVALID);
    assert_said("column \"y\": a number is beyond");
    assert_int_equal(propose_text("a.csv", "x,y\n", "y"), ERR_INVALID);
    assert_said("a.csv gives no record, expected at least one");
    assert_int_equal(propose_text("a.csv", "x,y\n1,\"a\nb\"\n", "y"), ERR_INVALID);
    assert_said("column \"y\": the label is not UTF-8 without control");
    assert_int_equal(propose_text("a.csv", "x,y\n\"a\nb\",1\n", "y"), ERR_INVALID);
    assert_said("line 2: column 1 \"x\": the name of a category is not UTF-8");
}

static void test_propose_refuses_names_as_categories(void **state)
{
    (void)state;
    // 60 rows: 30 different texts are categories, 31 are not.
    assert_int_equal(propose_many("a.csv", "x,y\n", "n%d,1\n", 60, 30), OK);
    assert_int_equal(propose_many("a.csv", "x,y\n", "n%d,1\n", 60, 31), ERR_INVALID);
    assert_said("column 1 \"x\": 31 different texts in 60 rows are no categories");
    assert_said("--schema FILE in which it is \"ignored\"");
    assert_int_equal(propose_many("a.csv", "x,y\n", "n%d,1\n", 49, 49), OK); // Too few to tell.
    assert_int_equal(propose_many("a.csv", "x,y\n", "n%d,1\n", 4000, 1024), OK);
    assert_int_equal(propose_many("a.csv", "x,y\n", "n%d,1\n", 4000, 1025), ERR_INVALID);
    assert_said("column 1 \"x\": more than 1024 different texts are no categories");
}

static void test_propose_knows_text_in_json(void **state)
{
    (void)state;
    const char *const line = "{\"x\": \"n%d\", \"y\": 1}\n";
    assert_int_equal(propose_many("a.jsonl", "", line, 60, 30), OK);
    assert_non_null(strstr(json, "\"type\":\"category\""));
    assert_int_equal(propose_many("a.jsonl", "", line, 60, 31), OK);
    assert_non_null(strstr(json, "{\"name\":\"x\",\"type\":\"text\"}"));
    char text[256];
    for (int bytes = 64; bytes <= 65; bytes++) {
        snprintf(text, sizeof text, "{\"x\": \"%0*d\"}\n", bytes, 0);
        assert_int_equal(propose_text("a.jsonl", text, NULL), OK);
        assert_non_null(strstr(json, bytes == 64 ? "\"category\"" : "\"text\""));
    }
    assert_int_equal(propose_text("a.jsonl", "{\"x\": \"a\\nb\"}\n", NULL), OK);
    assert_non_null(strstr(json, "\"text\""));
    // A string of digits is a string.
    assert_int_equal(propose_text("a.jsonl", "{\"x\": \"12\"}\n{\"x\": 13}\n{}\n", NULL), OK);
    assert_non_null(strstr(json, "[\"12\",\"13\"]"));
    assert_int_equal(propose_text("a.jsonl", "{\"x\": 12}\n{}\n", NULL), OK);
    assert_string_equal(json,
                        "{\"columns\":[" NUMERIC("x", "true", "true", "1") "],\"label\":null}");
}

#define TEXT_X "{\"columns\":[{\"name\":\"x\",\"type\":\"text\"}],\"label\":null}"

static void test_propose_knows_text_without_a_label(void **state)
{
    (void)state;
    char text[512];
    for (int bytes = 64; bytes <= 65; bytes++) {
        snprintf(text, sizeof text, "x\n%0*dz\n", bytes - 1, 0);
        assert_int_equal(propose_text("a.csv", text, NULL), OK);
        assert_non_null(strstr(json, bytes == 64 ? "\"category\"" : "\"text\""));
    }
    assert_int_equal(propose_text("a.csv", "x\n\"a\nb\"\n", NULL), OK);
    assert_string_equal(json, TEXT_X);
    assert_int_equal(propose_text("a.csv", "x\na\xff\n", NULL), OK); // Bytes that are no UTF-8.
    assert_string_equal(json, TEXT_X);
    // With a label it is a value that fits no category, as ever.
    assert_int_equal(propose_text("a.csv", "x,y\n\"a\nb\",1\n", "y"), ERR_INVALID);
    // What stands beside it is ignored: with a label it is not.
    const char *const beside = "x,n,c\n\"a\nb\",1,u\nc,2,v\n";
    assert_int_equal(propose_text("a.csv", beside, NULL), OK);
    assert_string_equal(json, "{\"columns\":[{\"name\":\"x\",\"type\":\"text\"},"
                              "{\"name\":\"n\",\"type\":\"ignored\"},"
                              "{\"name\":\"c\",\"type\":\"ignored\"}],\"label\":null}");
    assert_int_equal(propose_text("a.jsonl", "{\"x\":\"\\n\",\"n\":1,\"y\":0}\n", "y"), OK);
    assert_non_null(strstr(json, NUMERIC("n", "false", "true", "1")));
    // One text is learnt: of two the user says which.
    const char *const two = "x,y,z\n\"a\nb\",1,\"c\nd\"\n";
    assert_int_equal(propose_text("a.csv", two, NULL), ERR_INVALID);
    assert_said(
        "columns \"x\" and \"z\" both hold texts, expected one to learn: name it by --text");
    assert_int_equal(propose_text("a.jsonl", "{\"x\":\"a\\nb\",\"z\":\"\\n\"}\n", NULL),
                     ERR_INVALID);
    assert_said("columns \"x\" and \"z\" both hold texts");
    assert_int_equal(propose_text("a.jsonl", "{\"x\":\"a\\nb\",\"z\":\"\\n\",\"y\":1}\n", "y"), OK);
}

static void test_propose_takes_the_named_text(void **state)
{
    (void)state;
    named_text = "x";
    assert_int_equal(propose_text("a.csv", "x\nyes\nno\n", NULL), OK);
    assert_string_equal(json, TEXT_X);
    assert_int_equal(propose_text("a.jsonl", "{\"x\":1e39}\n{\"x\":true}\n", NULL), OK);
    assert_string_equal(json, TEXT_X);
    assert_int_equal(propose_text("a.csv", "w,x,z\na,?,\"\n\"\n,1,1\n", NULL), OK);
    assert_string_equal(json, "{\"columns\":[{\"name\":\"w\",\"type\":\"ignored\"},"
                              "{\"name\":\"x\",\"type\":\"text\"},"
                              "{\"name\":\"z\",\"type\":\"ignored\"}],\"label\":null}");
    assert_int_equal(propose_text("a.csv", "w,z\na,b\n", NULL), ERR_INVALID);
    assert_said("a.csv: no column \"x\" for --text; there is \"w\", \"z\"");
    assert_int_equal(propose_text("a.csv", "x,y\na,b\n", "y"), ERR_INVALID);
    assert_said("a text to learn, \"x\", and a label, \"y\", expected one of them");
    assert_int_equal(propose_text("a.csv", "x,y\na,b\n", "x"), ERR_INVALID);
    assert_said("column \"x\" is both --text and the label");
    const char *const path = feed_text("a.csv", "x,y\na,b\n");
    assert_int_equal(
        propose(&(struct reader_options){.files = &path, .file_count = 1, .subject = "x"}),
        ERR_INVALID);
    assert_said("column \"x\" is both --text and id or subject");
    static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9};
    const char *const pixels = feed_bytes("x-ubyte", images, sizeof images);
    named_text = "pixels";
    assert_int_equal(propose(&(struct reader_options){.files = &pixels, .file_count = 1}),
                     ERR_INVALID);
    assert_said("column \"pixels\" holds arrays, expected texts");
    named_text = NULL;
}

static void test_propose_leaves_ids_and_subjects_out(void **state)
{
    (void)state;
    const char *const path = feed_text("a.csv", "i,s,x\na,b,1\n");
    assert_int_equal(propose(&(struct reader_options){
                         .files = &path, .file_count = 1, .id = "i", .subject = "s"}),
                     OK);
    assert_string_equal(json,
                        "{\"columns\":[" NUMERIC("x", "false", "true", "1") "],\"label\":null}");
}

static void test_propose_for_arrays(void **state)
{
    (void)state;
    static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9};
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 1, 2};
    const char *const files[2] = {feed_bytes("x-ubyte", images, sizeof images),
                                  feed_bytes("y-ubyte", labels, sizeof labels)};
    assert_int_equal(propose(&(struct reader_options){.files = files, .file_count = 2}), OK);
    assert_string_equal(json, "{\"columns\":[{\"cols\":2,\"name\":\"pixels\",\"rows\":1,"
                              "\"type\":\"pixels\"}],\"label\":{\"classes\":[\"0\",\"1\",\"2\"],"
                              "\"name\":\"label\",\"type\":\"classes\"}}");
    assert_int_equal(propose_text("a.libsvm", "+1 5:1\n-1 2:1\n", NULL), OK);
    assert_string_equal(json, "{\"columns\":[" NUMERIC(
                                  "x", "false", "false",
                                  "5") "],"
                                       "\"label\":{\"classes\":[\"-1\",\"1\"],\"name\":\"label\","
                                       "\"type\":\"classes\"}}");
    static const char npy[] = "\x93NUMPY\1\0\x39\0{'descr': '<f4', 'fortran_order': False, "
                              "'shape': (1, 2)}\0\0\x80\x3f\0\0\xc0\x7f";
    const char *const x = feed_bytes("x.npy", npy, sizeof npy - 1);
    assert_int_equal(propose(&(struct reader_options){.files = &x, .file_count = 1}), OK);
    assert_string_equal(json,
                        "{\"columns\":[" NUMERIC("x", "true", "true", "2") "],\"label\":null}");
}

// Rows of `columns` texts of 255 bytes, `distinct` different ones in each column, and a label.
static enum err propose_long(int columns, int distinct)
{
    enum { ROWS = 1000 };
    char *const text = mem_alloc((size_t)ROWS + 1, (size_t)columns * 256 + 2);
    size_t at = 0;
    for (int i = 0; i < columns; i++) {
        at += (size_t)sprintf(text + at, "c%d,%s", i, i + 1 < columns ? "" : "y\n");
    }
    for (int i = 0; i < ROWS * columns; i++) {
        at += (size_t)sprintf(text + at, "n%0254d,%s", i / columns % distinct,
                              (i + 1) % columns != 0 ? "" : "1\n");
    }
    const enum err err = propose_text("a.csv", text, "y");
    mem_free(text);
    return err;
}

static void test_propose_bounds_vocabularies(void **state)
{
    (void)state;
    assert_int_equal(propose_long(1, 10), OK);
    assert_int_equal(propose_long(2, 500), ERR_INVALID);
    assert_said("the schema takes 2");
    assert_int_equal(propose_long(17, 1000), ERR_LIMIT);
    assert_said("the categories of all columns take more than 4194304 bytes; give --schema FILE");
}

static void count_steps(void *context, uint64_t done, uint64_t all)
{
    assert_true(done <= all);
    *(int *)context += 1;
}

static void test_propose_reports_progress(void **state)
{
    (void)state;
    int steps = 0;
    const char *const path = feed_text("a.csv", "x\na\nb\n");
    struct schema schema;
    assert_int_equal(propose_schema(&(struct reader_options){.files = &path, .file_count = 1}, NULL,
                                    &(struct propose_watch){count_steps, &steps}, &schema),
                     OK);
    schema_deinit(&schema);
    assert_int_equal(steps, 2); // Once in each pass.
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_propose_tells_columns_apart),
        cmocka_unit_test(test_propose_does_not_see_the_order),
        cmocka_unit_test(test_propose_chooses_the_task),
        cmocka_unit_test(test_propose_refuses_bad_labels_and_numbers),
        cmocka_unit_test(test_propose_refuses_names_as_categories),
        cmocka_unit_test(test_propose_knows_text_in_json),
        cmocka_unit_test(test_propose_knows_text_without_a_label),
        cmocka_unit_test(test_propose_takes_the_named_text),
        cmocka_unit_test(test_propose_leaves_ids_and_subjects_out),
        cmocka_unit_test(test_propose_for_arrays),
        cmocka_unit_test(test_propose_bounds_vocabularies),
        cmocka_unit_test(test_propose_reports_progress),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
