// tests/unit/test_layout.c: the rows of the store lie as docs/format.md, "Store", shows them.
//
// Method: the rows of its examples are written through the store's functions; the keys as stored and
// the values as opened are compared with the text of the document. How values are sealed: test_value.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/component.h"
#include "store/request.h"
#include "tests/unit/people.h"

enum { HEX_BYTES = 512 };

static struct people people;

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    people_begin(&people);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    people_commit(&people);
    people_close(&people);
    return 0;
}

// Compares bytes with hex in which spaces do not count.
static void is_hex(struct span bytes, const char *expected)
{
    char hex[2 * HEX_BYTES + 1], plain[2 * HEX_BYTES + 1];
    size_t count = 0;
    assert_true(bytes.bytes <= HEX_BYTES && strlen(expected) <= 2 * HEX_BYTES);
    hex_put(hex, bytes.data, bytes.bytes);
    for (; *expected != '\0'; expected++) {
        if (*expected != ' ') {
            plain[count++] = *expected;
        }
    }
    plain[count] = '\0';
    assert_string_equal(hex, plain);
}

// The only row of a table.
static void row_is(enum kv_table table, const char *key, const char *value)
{
    struct kv_cursor cursor;
    assert_int_equal(kv_cursor_open(&people.txn->kv, table, &cursor), OK);
    assert_int_equal(kv_cursor_seek(&cursor, span_of("", 0)), OK);
    assert_false(cursor.at_end);
    is_hex(kv_key_span(&cursor.key), key);
    struct span opened;
    assert_int_equal(value_of(people.txn, table, kv_key_span(&cursor.key), cursor.value, &opened),
                     OK);
    is_hex(opened, value);
    assert_int_equal(kv_cursor_next(&cursor), OK);
    assert_true(cursor.at_end);
    kv_cursor_close(&cursor);
}

#define SID "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
#define RID "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf"

static struct record_key example_key(void)
{
    struct record_key key = {.dataset = 1, .generation = 2, .risk = 3};
    assert_int_equal(hex_get(key.sid.bytes, ID_BYTES, SID), OK);
    assert_int_equal(hex_get(key.rid.bytes, ID_BYTES, RID), OK);
    return key;
}

static void test_record_and_index(void **state)
{
    (void)state;
    const struct record_key key = example_key();
    const struct record_value value = {.import = 5,
                                       .id = span_text("a7"),
                                       .subject = span_text("bo"),
                                       .row = span_of("\1\2\3", 3)};
    uint64_t run = 0;
    keyring_reserve(people.store->keyring, 1, &run);
    assert_int_equal(record_put(people.txn, &key, &value, run), OK);
    row_is(KV_RECORD, "00000001 00000002 03 " SID " " RID,
           "0500000000000000 0200 6137 0200 626f 010203");
    row_is(KV_INDEX, "00000001 " RID, "02000000 03 " SID);
}

static void test_component(void **state)
{
    (void)state;
    struct component name;
    struct component_row row = {.state = COMPONENT_VALID,
                                .instance = 6,
                                .param_count = 7,
                                .records = 8,
                                .samples = 9,
                                .seconds = 0.5,
                                .trained_us = 10};
    memset(row.profile.bytes, 0xAB, DIGEST_BYTES);
    memset(row.commitment.bytes, 0xEF, DIGEST_BYTES);
    assert_int_equal(component_get("s3:[2,0,1]", &name), OK);
    assert_int_equal(component_row_put(people.txn, 4, &name, &row), OK);
    row_is(KV_COMPONENT, "00000004 00000003 0002 0000 0001",
           "01 0600000000000000 0700000000000000 0800000000000000 0900000000000000"
           "000000000000e03f 0a00000000000000"
           "abababababababababababababababababababababababababababababababab"
           "efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef");
}

static void test_pending(void **state)
{
    (void)state;
    const struct pending pending = {.is_record = true, .record = example_key()};
    assert_int_equal(pending_put(people.txn, 11, 12, &pending), OK);
    row_is(KV_PENDING, "000000000000000b 0000000c", "72 00000001 00000002 03 " SID " " RID);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_record_and_index),
        CASE(test_component),
        CASE(test_pending),
    };
#undef CASE
    return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
