// tests/unit/test_schemafile.c: a schema survives its JSON text bit for bit, and bad texts are named.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/schemafile.h"
#include "tests/unit/feed.h"

static const char full[] = "{\n"
                           "  \"columns\": [\n"
                           "    {\n"
                           "      \"missing\": true,\n"
                           "      \"name\": \"age\",\n"
                           "      \"offset\": 0.10000000149011612,\n"
                           "      \"scale\": -3.4028234663852886e38,\n"
                           "      \"standardise\": true,\n"
                           "      \"type\": \"numeric\",\n"
                           "      \"width\": 3\n"
                           "    },\n"
                           "    {\n"
                           "      \"categories\": [\n"
                           "        \"a \\\"b\\\"\",\n"
                           "        \"\xc3\xa9\"\n"
                           "      ],\n"
                           "      \"name\": \"c\",\n"
                           "      \"type\": \"category\"\n"
                           "    },\n"
                           "    {\n"
                           "      \"cols\": 3,\n"
                           "      \"name\": \"scan\",\n"
                           "      \"rows\": 2,\n"
                           "      \"type\": \"pixels\"\n"
                           "    },\n"
                           "    {\n"
                           "      \"name\": \"note\",\n"
                           "      \"type\": \"text\"\n"
                           "    },\n"
                           "    {\n"
                           "      \"name\": \"zip\",\n"
                           "      \"type\": \"ignored\"\n"
                           "    }\n"
                           "  ],\n"
                           "  \"label\": {\n"
                           "    \"classes\": [\n"
                           "      \"yes\",\n"
                           "      \"no\"\n"
                           "    ],\n"
                           "    \"name\": \"y\",\n"
                           "    \"type\": \"classes\"\n"
                           "  }\n"
                           "}\n";

// Reads text, writes it again; the new text is the caller's.
static void rewrite(const char *text, struct buf *again)
{
    struct schema schema, second;
    if (schemafile_get("s.json", span_text(text), &schema) != OK) {
        fail_msg("%s", err_text());
    }
    schemafile_put(&schema, again);
    assert_int_equal(schemafile_get("s.json", buf_span(again), &second), OK);
    struct buf a = {0}, b = {0};
    schema_put(&schema, &a);
    schema_put(&second, &b);
    assert_true(span_equal(buf_span(&a), buf_span(&b))); // Canonical bytes: every bit.
    buf_deinit(&a);
    buf_deinit(&b);
    schema_deinit(&schema);
    schema_deinit(&second);
}

static void test_schemafile_round_trips(void **state)
{
    (void)state;
    struct buf again = {0};
    rewrite(full, &again);
    assert_int_equal(again.bytes, strlen(full));
    assert_memory_equal(again.data, full, again.bytes);
    buf_clear(&again);
    // What a numeric column and a label may leave out.
    rewrite("{\"columns\": [{\"name\": \"x\", \"type\": \"numeric\"}]}", &again);
    buf_u8(&again, 0);
    assert_non_null(strstr((char *)again.data, "\"scale\": 1.0"));
    assert_non_null(strstr((char *)again.data, "\"label\": null"));
    buf_clear(&again);
    rewrite("{\"columns\": [{\"name\": \"x\", \"type\": \"text\"}], \"label\": {\"name\": \"y\", "
            "\"type\": \"number\", \"standardise\": true}}",
            &again);
    buf_u8(&again, 0);
    assert_non_null(strstr((char *)again.data, "\"standardise\": true"));
    buf_deinit(&again);
}

static void refuse(const char *text, const char *said)
{
    struct schema schema;
    assert_int_equal(schemafile_get("s.json", span_text(text), &schema), ERR_INVALID);
    assert_said(said);
    assert_null(schema.columns);
}

// One column of the given keys, the rest in order.
#define ONE(keys) "{\"columns\": [{\"name\": \"age\", " keys "}]}"
#define WITH_LABEL(label)                                                                          \
    "{\"columns\": [{\"name\": \"x\", \"type\": \"text\"}], \"label\": " label "}"

static void test_schemafile_names_what_is_wrong(void **state)
{
    (void)state;
    refuse("", "s.json line 1 column 0: not valid JSON");
    refuse("{\"columns\": [],\n \"columns\": []}", "s.json line 2 column");
    refuse("[]", "s.json: expected a JSON object");
    refuse("{}", "s.json: \"columns\" is missing, expected a list");
    refuse("{\"columns\": 1}", "\"columns\" is something else");
    refuse("{\"columns\": []}", "the schema has 0 columns");
    refuse("{\"columns\": [], \"colums\": 1}", "s.json: unknown key \"colums\"");
    refuse("{\"columns\": [7]}", "s.json: column 1 is no object");
    refuse("{\"columns\": [{\"type\": \"text\"}]}", "s.json: column 1: \"name\" is missing");
    refuse(ONE("\"type\": \"float\""),
           "s.json: column 1 \"age\": unknown type \"float\", expected numeric, category, pixels, "
           "text or ignored");
    refuse(ONE("\"typ\": \"text\""), "column 1 \"age\": \"type\" is missing, expected a string");
    refuse(ONE("\"type\": \"text\", \"width\": 1"), "column 1 \"age\": unknown key \"width\"");
    refuse(ONE("\"type\": \"numeric\", \"width\": 0"),
           "\"width\" is something else, expected a whole number from 1");
    refuse(ONE("\"type\": \"numeric\", \"missing\": 1"), "\"missing\" is neither true nor false");
    refuse(ONE("\"type\": \"numeric\", \"scale\": 1e39"),
           "\"scale\" is no number in the range of float32");
    refuse(ONE("\"type\": \"numeric\", \"scale\": 0"), "scale not 0");
    refuse(ONE("\"type\": \"pixels\", \"rows\": 2"), "\"cols\" is missing");
    refuse(ONE("\"type\": \"pixels\", \"rows\": 65536, \"cols\": 65536"), "width is 0");
    refuse(ONE("\"type\": \"category\""), "\"categories\" is missing, expected a list");
    refuse(ONE("\"type\": \"category\", \"categories\": [1]"), "entry 1 is no string");
    refuse(ONE("\"type\": \"category\", \"categories\": [\"b\", \"a\"]"), "not sorted");
    refuse(WITH_LABEL("7"), "s.json: label: expected an object or null");
    refuse(WITH_LABEL("{}"), "s.json: label: \"name\" is missing");
    refuse(WITH_LABEL("{\"name\": \"y\", \"type\": \"class\"}"),
           "s.json: label: unknown type \"class\", expected classes or number");
    refuse(WITH_LABEL("{\"name\": \"y\", \"type\": \"classes\"}"), "\"classes\" is missing");
    refuse(WITH_LABEL("{\"name\": \"y\", \"type\": \"number\", \"classes\": []}"),
           "unknown key \"classes\"");
    refuse(WITH_LABEL("{\"name\": \"x\", \"type\": \"number\"}"), "same name");
}

static void test_schemafile_reads_files(void **state)
{
    (void)state;
    struct schema schema;
    assert_int_equal(schemafile_read(feed_text("s.json", full), &schema), OK);
    assert_int_equal(schema.column_count, 5);
    schema_deinit(&schema);
    assert_int_equal(schemafile_read(feed_path("none.json"), &schema), ERR_NOT_FOUND);
    char *const text = malloc(SCHEMAFILE_BYTES + 1);
    memset(text, ' ', SCHEMAFILE_BYTES + 1);
    memcpy(text, full, strlen(full));
    assert_int_equal(schemafile_read(feed_bytes("s.json", text, SCHEMAFILE_BYTES), &schema), OK);
    schema_deinit(&schema);
    assert_int_equal(schemafile_read(feed_bytes("s.json", text, SCHEMAFILE_BYTES + 1), &schema),
                     ERR_LIMIT);
    assert_said("s.json is longer than 16777216 bytes");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schemafile_round_trips),
        cmocka_unit_test(test_schemafile_names_what_is_wrong),
        cmocka_unit_test(test_schemafile_reads_files),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
