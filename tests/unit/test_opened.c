// tests/unit/test_opened.c: what was opened before is found by table, key and stored bytes together, and not
// after it was to be forgotten.
//
// Method: every part of what a value is found by is changed in turn; then a store whose rows are written, rolled
// back, damaged and dropped, and what it says of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/opened.h"
#include "tests/unit/people.h"

static bool knows(const struct opened *opened, enum kv_table table, const char *key,
                  const char *stored, const char *expected)
{
    struct span value;
    const bool known = opened_get(opened, table, span_text(key), span_text(stored), &value);
    if (known) {
        assert_true(span_equal(value, span_text(expected)));
    }
    return known;
}

static void test_found_by_all_three(void **state)
{
    (void)state;
    struct opened *const opened = opened_new();
    assert_false(knows(opened, KV_MODEL, "key", "sealed", ""));
    opened_put(opened, KV_MODEL, span_text("key"), span_text("sealed"), span_text("value"));
    assert_true(knows(opened, KV_MODEL, "key", "sealed", "value"));
    assert_false(knows(opened, KV_CELL, "key", "sealed", ""));
    assert_false(knows(opened, KV_MODEL, "kez", "sealed", ""));
    assert_false(knows(opened, KV_MODEL, "ke", "sealed", ""));
    assert_false(knows(opened, KV_MODEL, "key", "sealee", ""));
    assert_false(knows(opened, KV_MODEL, "key", "seale", ""));
    assert_false(knows(opened, KV_MODEL, "key", "sealed!", ""));
    assert_true(knows(opened, KV_MODEL, "key", "sealed", "value")); // Asking changed nothing.
    opened_put(opened, KV_MODEL, span_text("key"), span_text("anew"), span_text(""));
    assert_true(knows(opened, KV_MODEL, "key", "anew", ""));
    assert_false(knows(opened, KV_MODEL, "key", "sealed", ""));
    opened_free(opened);
}

static void test_forgotten(void **state)
{
    (void)state;
    struct opened *const opened = opened_new();
    opened_put(opened, KV_DATASET, span_text("one"), span_text("sealed"), span_text("a secret"));
    opened_forget(opened, KV_DATASET, span_text("two"));
    assert_true(knows(opened, KV_DATASET, "one", "sealed", "a secret"));
    struct span value; // Where it lies, to see that nothing of it is left.
    assert_true(opened_get(opened, KV_DATASET, span_text("one"), span_text("sealed"), &value));
    opened_forget(opened, KV_DATASET, span_text("one"));
    assert_false(knows(opened, KV_DATASET, "one", "sealed", ""));
    assert_null(memmem(value.data, value.bytes, "secret", 6));
    // A value that takes the place of another leaves nothing of it, either.
    opened_put(opened, KV_DATASET, span_text("one"), span_text("sealed"), span_text("a secret"));
    opened_put(opened, KV_DATASET, span_text("one"), span_text("sealed"), span_text("b"));
    assert_null(memmem(value.data, value.bytes, "secret", 6));
    opened_free(opened);
}

static void test_bounds(void **state)
{
    (void)state;
    static uint8_t bytes[OPENED_VALUE_BYTES + 1];
    struct opened *const opened = opened_new();
    struct span value;
    const struct span key = span_text("key"), longest = span_of(bytes, OPENED_VALUE_BYTES),
                      longer = span_of(bytes, sizeof bytes);
    opened_put(opened, KV_MODEL, key, longest, longest);
    assert_true(opened_get(opened, KV_MODEL, key, longest, &value));
    assert_int_equal(value.bytes, OPENED_VALUE_BYTES);
    opened_put(opened, KV_MODEL, key, longer, span_text("short"));
    assert_false(opened_get(opened, KV_MODEL, key, longer, &value));
    assert_false(opened_get(opened, KV_MODEL, key, longest, &value)); // Nor the one before.
    opened_put(opened, KV_MODEL, span_of(bytes, OPENED_KEY_BYTES + 1), longest, longest);
    assert_false(
        opened_get(opened, KV_MODEL, span_of(bytes, OPENED_KEY_BYTES + 1), longest, &value));
    for (uint32_t i = 0; i < 4 * OPENED_PLACES; i++) { // More than there are places.
        const struct span number = span_of(&i, sizeof i);
        opened_put(opened, KV_CELL, number, number, number);
        assert_true(opened_get(opened, KV_CELL, number, number, &value));
        assert_true(span_equal(value, number));
    }
    opened_free(opened);
}

// ---------------------------------------------------------------- in a store

static struct people people;

static struct kv_key dataset_key(void)
{
    struct kv_key key = {0};
    kv_key_u32(&key, PEOPLE_DATASET);
    return key;
}

static uint64_t records(void)
{
    struct dataset_row row = {0};
    MUST(dataset_get(people.txn, PEOPLE_DATASET, &row));
    const uint64_t count = row.record_count;
    dataset_row_deinit(&row);
    return count;
}

static void put_records(uint64_t count)
{
    struct dataset_row row = {0};
    MUST(dataset_get(people.txn, PEOPLE_DATASET, &row));
    row.record_count = count;
    MUST(dataset_put(people.txn, &row));
    dataset_row_deinit(&row);
}

static bool store_knows(void)
{
    const struct kv_key key = dataset_key();
    struct span stored, value;
    MUST(kv_get(&people.txn->kv, KV_DATASET, kv_key_span(&key), &stored));
    return opened_get(people.store->opened, KV_DATASET, kv_key_span(&key), stored, &value);
}

static void test_what_a_store_says(void **state)
{
    (void)state;
    people_open(&people);
    people_begin(&people);
    put_records(5);
    assert_true(store_knows()); // So that what follows is of it.
    assert_int_equal(records(), 5);
    people_commit(&people);
    people_begin(&people);
    put_records(6);
    assert_int_equal(records(), 6);
    people_roll_back(&people);
    people_begin(&people);
    assert_int_equal(records(), 5); // Not what was rolled back.
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_false(store_knows());
    assert_int_equal(records(), 5);
    assert_true(store_knows());
    // Gone from the store, gone from memory.
    const struct kv_key key = dataset_key();
    struct span stored, value;
    uint8_t copy[OPENED_VALUE_BYTES];
    MUST(kv_get(&people.txn->kv, KV_DATASET, kv_key_span(&key), &stored));
    assert_true(stored.bytes <= sizeof copy);
    memcpy(copy, stored.data, stored.bytes);
    const size_t bytes = stored.bytes;
    MUST(dataset_drop(people.txn, PEOPLE_DATASET));
    assert_false(opened_get(people.store->opened, KV_DATASET, kv_key_span(&key),
                            span_of(copy, bytes), &value));
    people_roll_back(&people);
    people_close(&people);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_by_all_three),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_what_a_store_says),
    };
    if (digest_start() != OK) {
        return 1;
    }
    return cmocka_run_group_tests_name("opened", tests, NULL, NULL);
}
