// tests/unit/test_encode.c: each value becomes the documented bytes, or the row is refused by column.
//
// Every row that is written here must also pass schema_check_row.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "client/encode.h"
#include "client/schemafile.h"
#include "tests/unit/feed.h"

static char hex[4096]; // The rows in hex, each with a ';'.

static enum err encode_all(struct encode *encode, struct reader *reader,
                           const struct schema *schema, struct buf *row)
{
    while (true) {
        struct record record;
        bool more;
        TRY(reader_next(reader, &record, &more));
        if (!more) {
            return OK;
        }
        TRY(encode_record(encode, row));
        TRY_AS(schema_check_row(schema, buf_span(row)), "schema_check_row");
        assert_true(strlen(hex) + 2 * row->bytes + 2 < sizeof hex);
        hex_put(hex + strlen(hex), row->data, row->bytes);
        strncat(hex, ";", 2);
    }
}

static enum err encode_files(const char *schema_json, const struct reader_options *options,
                             bool labelled)
{
    struct schema schema;
    struct reader *reader;
    struct encode *encode;
    struct buf row = {0};
    hex[0] = '\0';
    assert_int_equal(schemafile_get("s", span_text(schema_json), &schema), OK);
    enum err err = reader_open(options, &reader);
    if (err == OK) {
        err = encode_open(&schema, reader, labelled, &encode);
        if (err == OK) {
            err = encode_all(encode, reader, &schema, &row);
            encode_close(encode);
        }
        reader_close(reader);
    }
    buf_deinit(&row);
    schema_deinit(&schema);
    return err;
}

static enum err encode_text(const char *schema_json, const char *name, const char *text)
{
    const char *const path = feed_text(name, text);
    return encode_files(schema_json, &(struct reader_options){.files = &path, .file_count = 1},
                        true);
}

#define COLUMNS(columns)         "{\"columns\": [" columns "]}"
#define LABELLED(columns, label) "{\"columns\": [" columns "], \"label\": " label "}"
#define NUMBER                   "{\"name\": \"x\", \"type\": \"numeric\"}"
#define NUMBER_MISSING           "{\"name\": \"x\", \"type\": \"numeric\", \"missing\": true}"
#define CATEGORY                 "{\"name\": \"c\", \"type\": \"category\", \"categories\": [\"a\", \"b\"]}"
#define WIDE                     "{\"name\": \"x\", \"type\": \"numeric\", \"width\": 3}"
#define CLASSES                  "{\"name\": \"y\", \"type\": \"classes\", \"classes\": [\"no\", \"1\"]}"
#define TARGET                   "{\"name\": \"y\", \"type\": \"number\"}"

static void test_encode_writes_the_documented_bytes(void **state)
{
    (void)state;
    assert_int_equal(encode_text(LABELLED(NUMBER_MISSING ", " CATEGORY, CLASSES), "a.csv",
                                 "c,y,x\nb,1,1\na,no,?\nz,+1,-2\n?,1.0,0\n"),
                     OK);
    assert_string_equal(hex,
                        "01000000803f0100;00000000c07f0000;0100000000c00200;0100000000000300;");
    assert_int_equal(encode_text(LABELLED(NUMBER, TARGET), "a.csv", "x,y\n1,0.5\n"), OK);
    assert_string_equal(hex, "0000003f0000803f;");
    assert_int_equal(encode_text(COLUMNS("{\"name\": \"t\", \"type\": \"text\"}"), "a.jsonl",
                                 "{\"t\": \"hi\"}\n{}\n{\"t\": 12}\n"),
                     OK);
    assert_string_equal(hex, "020000006869;00000000;020000003132;");
}

// Bytes as they are: no UTF-8, a `?`, nothing at all, a NUL, line ends inside a field.
static void test_encode_takes_texts_as_they_are(void **state)
{
    (void)state;
    const char *const schema_json = COLUMNS("{\"name\": \"t\", \"type\": \"text\"}");
    assert_int_equal(encode_text(schema_json, "a.csv", "t\n?\n\n\xff 1e999\n\"\r\n\"\"\"\n"), OK);
    assert_string_equal(hex, "010000003f;00000000;07000000ff203165393939;030000000d0a22;");
    assert_int_equal(encode_text(schema_json, "a.jsonl",
                                 "{\"t\": \"a\\u0000\\u00e9\"}\n{\"t\": null}\n{\"t\": \"?\"}\n"),
                     OK);
    assert_string_equal(hex, "040000006100c3a9;00000000;010000003f;");
    // A category and a label know the `?` as missing, whatever stands beside it.
    assert_int_equal(encode_text(LABELLED(CATEGORY, CLASSES), "a.csv", "c,y\n?,1\n"), OK);
    assert_string_equal(hex, "01000300;");
    assert_int_equal(encode_text(LABELLED(CATEGORY, CLASSES), "a.csv", "c,y\na,?\n"), ERR_INVALID);
    assert_said("the label is missing");
}

static void test_encode_writes_arrays(void **state)
{
    (void)state;
    const char *const labelled = LABELLED(
        WIDE, "{\"name\": \"label\", \"type\": \"classes\", \"classes\": [\"-1\", \"1\"]}");
    assert_int_equal(encode_text(labelled, "a.libsvm", "+1 2:1\n-1 3:2\n"), OK);
    assert_string_equal(hex, "0100000000000000803f00000000;0000000000000000000000000040;");
    assert_int_equal(encode_text(labelled, "a.libsvm", "1 1:1\n1 4:1\n"), ERR_INVALID);
    assert_said("a.libsvm line 2: column 1 \"x\": index 4, the schema expects at most 3");

    static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 255};
    const char *const x = feed_bytes("x-ubyte", images, sizeof images);
    const struct reader_options options = {.files = &x, .file_count = 1};
    assert_int_equal(
        encode_files(
            COLUMNS("{\"name\": \"pixels\", \"type\": \"pixels\", \"rows\": 1, \"cols\": 2}"),
            &options, true),
        OK);
    assert_string_equal(hex, "09ff;");
    assert_int_equal(
        encode_files(
            COLUMNS("{\"name\": \"pixels\", \"type\": \"pixels\", \"rows\": 2, \"cols\": 1}"),
            &options, true),
        ERR_INVALID);
    assert_said("column \"pixels\" has images of 1 x 2, the schema expects 2 x 1");
    assert_int_equal(
        encode_files(
            COLUMNS("{\"name\": \"pixels\", \"type\": \"pixels\", \"rows\": 2, \"cols\": 2}"),
            &options, true),
        ERR_INVALID);
    assert_said("column \"pixels\" has 2 values, the schema expects 4");
    assert_int_equal(
        encode_files(COLUMNS("{\"name\": \"pixels\", \"type\": \"numeric\", \"width\": 2}"),
                     &options, true),
        OK);
    assert_string_equal(hex, "0000104100007f43;");
    assert_int_equal(
        encode_files(COLUMNS("{\"name\": \"pixels\", \"type\": \"text\"}"), &options, true),
        ERR_INVALID);
    assert_said("column \"pixels\" holds bytes, the schema expects text");
}

static void test_encode_matches_columns_by_name(void **state)
{
    (void)state;
    assert_int_equal(encode_text(COLUMNS(NUMBER ", " CATEGORY), "a.csv", "c,x\na,1\n"), OK);
    assert_int_equal(encode_text(COLUMNS(NUMBER ", " CATEGORY), "a.csv", "x\n1\n"), ERR_INVALID);
    assert_said("a.csv has no column \"c\", which the schema expects; it has \"x\"");
    assert_int_equal(encode_text(COLUMNS(NUMBER), "a.csv", "x,z\n1,2\n"), ERR_INVALID);
    assert_said("a.csv: column \"z\" is not in the schema; is it --id or --subject?");
    assert_int_equal(encode_text(COLUMNS(NUMBER), "a.jsonl", "{\"x\":1}\n{\"x\":1,\"z\":2}\n"),
                     ERR_INVALID);
    assert_said("a.jsonl line 2: column \"z\" is not in the schema");
    assert_int_equal(encode_text(COLUMNS(WIDE), "a.csv", "x\n1\n"), ERR_INVALID);
    assert_said("column \"x\" holds single values, the schema expects numbers");
    // Ignored columns may hold anything, or be absent.
    const char *const ignored = COLUMNS(NUMBER ", {\"name\": \"z\", \"type\": \"ignored\"}");
    assert_int_equal(encode_text(ignored, "a.csv", "x,z\n1,anything\n"), OK);
    assert_int_equal(encode_text(ignored, "a.csv", "x\n1\n"), OK);
    assert_string_equal(hex, "0000803f;");
}

static void test_encode_refuses_values_that_do_not_fit(void **state)
{
    (void)state;
    assert_int_equal(encode_text(COLUMNS(NUMBER), "a.csv", "x\n1\nsecret\n"), ERR_INVALID);
    assert_said("a.csv line 3: column 1 \"x\": found a text, expected a number");
    assert_null(strstr(err_text(), "secret"));
    assert_int_equal(encode_text(COLUMNS(NUMBER), "a.csv", "x\n?\n"), ERR_INVALID);
    assert_said("a.csv line 2: column 1 \"x\": a value is missing");
    assert_int_equal(encode_text(COLUMNS(NUMBER), "a.csv", "x\n-1e39\n"), ERR_INVALID);
    assert_said("column 1 \"x\": the number is beyond the range of float32");
    assert_int_equal(encode_text(COLUMNS(NUMBER), "a.jsonl", "{\"x\": \"1\"}\n"), ERR_INVALID);
    assert_said("a.jsonl line 1: column 1 \"x\": found a text, expected a number");
    assert_int_equal(encode_text(COLUMNS(NUMBER), "a.jsonl", "{}\n"), ERR_INVALID);
    assert_said("column 1 \"x\": a value is missing");
    assert_int_equal(
        encode_text(COLUMNS("{\"name\": \"p\", \"type\": \"pixels\", \"rows\": 1, \"cols\": 1}"),
                    "a.jsonl", "{}\n"),
        ERR_INVALID);
    assert_said("column 1 \"p\": the pixels are missing");
}

static void test_encode_checks_the_label(void **state)
{
    (void)state;
    assert_int_equal(encode_text(LABELLED(NUMBER, CLASSES), "a.csv", "x,y\n1,no\n1,secret\n"),
                     ERR_INVALID);
    assert_said("a.csv line 3: column \"y\": the label is none of the schema's 2 classes");
    assert_null(strstr(err_text(), "secret"));
    assert_int_equal(encode_text(LABELLED(NUMBER, CLASSES), "a.csv", "x,y\n1,\n"), ERR_INVALID);
    assert_said("line 2: column \"y\": the label is missing");
    assert_int_equal(encode_text(LABELLED(NUMBER, CLASSES), "a.csv", "x\n1\n"), ERR_INVALID);
    assert_said("a.csv has no column \"y\", which is the schema's label");
    assert_int_equal(encode_text(LABELLED(NUMBER, CLASSES), "a.jsonl", "{\"x\": 1}\n"),
                     ERR_INVALID);
    assert_said("a.jsonl line 1: column \"y\": the label is missing");
    assert_int_equal(encode_text(LABELLED(NUMBER, TARGET), "a.csv", "x,y\n1,high\n"), ERR_INVALID);
    assert_said("column \"y\": found a text, expected a number");
    // The label may come late in JSON Lines.
    assert_int_equal(encode_text(LABELLED(NUMBER, CLASSES), "a.jsonl", "{\"x\": 1, \"y\": 1}\n"),
                     OK);
    assert_string_equal(hex, "01000000803f;");

    const char *const path = feed_text("a.csv", "x,y,z\n1,no,2\n");
    struct reader_options options = {.files = &path, .file_count = 1, .label = "z"};
    assert_int_equal(encode_files(LABELLED(NUMBER, CLASSES), &options, true), ERR_INVALID);
    assert_said("the label is column \"z\", the schema expects \"y\"");
    assert_int_equal(encode_files(COLUMNS(NUMBER), &options, true), ERR_INVALID);
    assert_said("a.csv has the label \"z\", the schema expects none");
}

static void test_encode_for_predictions_needs_no_label(void **state)
{
    (void)state;
    const char *path = feed_text("a.csv", "x\n1\n");
    const struct reader_options options = {.files = &path, .file_count = 1};
    assert_int_equal(encode_files(LABELLED(NUMBER, CLASSES), &options, false), OK);
    assert_string_equal(hex, "00000000803f;");
    assert_int_equal(encode_files(LABELLED(NUMBER, TARGET), &options, false), OK);
    assert_string_equal(hex, "000000000000803f;");
    path = feed_text("a.csv", "y,x\nunheard of,1\n"); // With one, it is not looked at.
    assert_int_equal(encode_files(LABELLED(NUMBER, CLASSES), &options, false), OK);
    assert_string_equal(hex, "00000000803f;");
    path = feed_text("a.csv", "x,name\n1,2\n");
    assert_int_equal(encode_files(LABELLED(NUMBER, CLASSES), &options, false), ERR_INVALID);
    assert_said("column \"name\" is not in the schema; is it --id or --subject?");
}

static void test_encode_bounds_the_row(void **state)
{
    (void)state;
    const size_t bytes = LIMIT_RECORD_BYTES + 14;
    char *const text = malloc(bytes + 1);
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    memcpy(text, "{\"t\":\"", 6);
    memcpy(text + bytes - 2, "\"}", 2);
    const char *const schema = COLUMNS("{\"name\": \"t\", \"type\": \"text\"}");
    assert_int_equal(encode_text(schema, "a.jsonl", text), ERR_LIMIT);
    assert_said("a.jsonl line 1: column 1 \"t\": the text has");
    // Two texts that fit one by one and not together.
    memset(text + 6, 'x', bytes - 8);
    memcpy(text + bytes / 2, "\",\"u\":\"", 7);
    const char *const two =
        COLUMNS("{\"name\": \"t\", \"type\": \"text\"}, {\"name\": \"u\", \"type\": \"text\"}");
    assert_int_equal(encode_text(two, "a.jsonl", text), ERR_LIMIT);
    assert_said("a.jsonl line 1: the record takes more than");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_writes_the_documented_bytes),
        cmocka_unit_test(test_encode_takes_texts_as_they_are),
        cmocka_unit_test(test_encode_writes_arrays),
        cmocka_unit_test(test_encode_matches_columns_by_name),
        cmocka_unit_test(test_encode_refuses_values_that_do_not_fit),
        cmocka_unit_test(test_encode_checks_the_label),
        cmocka_unit_test(test_encode_for_predictions_needs_no_label),
        cmocka_unit_test(test_encode_bounds_the_row),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
