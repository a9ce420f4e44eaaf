// tests/unit/test_value.c: every value of the store opens at its place, with its key, and nowhere else.
//
// Method: stored bytes are changed, moved and put back past value_put. One vector of docs/format.md.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/component.h"
#include "store/doom.h"
#include "store/request.h"
#include "tests/unit/people.h"

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

static struct kv_key key_of(uint32_t number)
{
    struct kv_key key = {0};
    kv_key_u32(&key, number);
    return key;
}

static size_t stored_at(enum kv_table table, const struct kv_key *key, uint8_t out[static 256])
{
    struct span stored;
    assert_int_equal(kv_get(&people.txn->kv, table, kv_key_span(key), &stored), OK);
    assert_true(stored.bytes <= 256);
    memcpy(out, stored.data, stored.bytes);
    return stored.bytes;
}
static void store_at(enum kv_table table, const struct kv_key *key, const void *bytes, size_t count)
{
    uint8_t *room = NULL;
    assert_int_equal(kv_put_room(&people.txn->kv, table, kv_key_span(key), count, &room), OK);
    memcpy(room, bytes, count);
}
static enum err read_at(enum kv_table table, const struct kv_key *key, const char *expected)
{
    struct span value;
    const enum err err = value_get(people.txn, table, kv_key_span(key), &value);
    if (err == OK) {
        assert_true(span_equal(value, span_text(expected)));
    }
    return err;
}

// One row of each kind of key.
static const enum kv_table kinds[] = {KV_MODEL, KV_DATASET, KV_RECORD, KV_WEIGHTS};

static void test_any_change_is_noticed(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        const struct kv_key key = key_of(77);
        uint8_t good[256], bad[256];
        assert_int_equal(people_put(&people, kinds[k], kv_key_span(&key), span_text("a secret")),
                         OK);
        assert_int_equal(read_at(kinds[k], &key, "a secret"), OK);
        const size_t bytes = stored_at(kinds[k], &key, good);
        assert_null(memmem(good, bytes, "secret", 6));
        for (size_t i = 0; i < bytes; i++) {
            memcpy(bad, good, bytes);
            bad[i] ^= 0x01;
            store_at(kinds[k], &key, bad, bytes);
            assert_int_equal(read_at(kinds[k], &key, ""), ERR_CORRUPT);
            assert_non_null(strstr(err_text(), "table "));
        }
        for (size_t cut = 0; cut < bytes; cut++) {
            store_at(kinds[k], &key, good, cut);
            assert_int_equal(read_at(kinds[k], &key, ""), ERR_CORRUPT);
        }
        store_at(kinds[k], &key, good, bytes); // Control.
        assert_int_equal(read_at(kinds[k], &key, "a secret"), OK);
    }
}

static void test_swapped_values(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        const struct kv_key one = key_of(1001), two = key_of(1002);
        uint8_t first[256], second[256];
        assert_int_equal(people_put(&people, kinds[k], kv_key_span(&one), span_text("of one")), OK);
        assert_int_equal(people_put(&people, kinds[k], kv_key_span(&two), span_text("of two")), OK);
        const size_t bytes = stored_at(kinds[k], &one, first);
        assert_int_equal(stored_at(kinds[k], &two, second), bytes);
        store_at(kinds[k], &one, second, bytes);
        store_at(kinds[k], &two, first, bytes);
        assert_int_equal(read_at(kinds[k], &one, ""), ERR_CORRUPT);
        assert_non_null(strstr(err_text(), "is damaged, or another's"));
        assert_int_equal(read_at(kinds[k], &two, ""), ERR_CORRUPT);
        // Nor in another table, under the same key.
        store_at(KV_CELL, &one, first, bytes);
        assert_int_equal(read_at(KV_CELL, &one, ""), ERR_CORRUPT);
        store_at(kinds[k], &one, first, bytes);
        store_at(kinds[k], &two, second, bytes);
        assert_int_equal(read_at(kinds[k], &one, "of one"), OK);
        assert_int_equal(kv_drop(&people.txn->kv, KV_CELL, kv_key_span(&one)), OK);
    }
}

// docs/format.md, "Sealed values": what is bound to a value, written out by hand.
static void test_bound_bytes(void **state)
{
    (void)state;
    struct kv_key key = {0};
    uint8_t stored[256], plain[16];
    kv_key_u32(&key, 0x01020304);
    assert_int_equal(people_put(&people, KV_RECORD, kv_key_span(&key), span_text("value")), OK);
    const size_t bytes = stored_at(KV_RECORD, &key, stored);
    assert_int_equal(bytes, 1 + 8 + 8 + 24 + 5 + 16);
    assert_int_equal(stored[0], 3);
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    memcpy(&name.slot, stored + 1, 8);
    memcpy(&name.generation, stored + 9, 8);
    assert_int_equal(keyring_key(people.store->keyring, &name, seal_key), OK);
    struct buf bound = {0};
    buf_put(&bound, span_of("record\0\4\0\1\2\3\4", 13));
    buf_put(&bound, span_of(stored, 17));
    assert_true(
        seal_get(seal_key, stored + 17, buf_span(&bound), span_of(stored + 41, bytes - 41), plain));
    assert_memory_equal(plain, "value", 5);
    buf_deinit(&bound);
}

static void test_dataset_keeps_its_key_until_it_is_dropped(void **state)
{
    (void)state;
    struct dataset_row row = {.number = 5, .name = "five"};
    const struct kv_key key = key_of(5);
    uint8_t first[256], second[256], seal_key[SEAL_KEY_BYTES];
    struct key_name name;
    bool any = true;
    assert_int_equal(dataset_put(people.txn, &row), OK);
    stored_at(KV_DATASET, &key, first);
    assert_int_equal(dataset_put(people.txn, &row), OK);
    stored_at(KV_DATASET, &key, second);
    assert_memory_equal(first, second, 17);                // Slot and generation,
    assert_true(memcmp(first + 17, second + 17, 24) != 0); // but never the nonce.
    memcpy(&name.slot, first + 1, 8);
    memcpy(&name.generation, first + 9, 8);
    assert_int_equal(doom_any(people.txn, &any), OK);
    assert_false(any);
    assert_int_equal(dataset_drop(people.txn, 5), OK);
    assert_int_equal(dataset_drop(people.txn, 5), OK); // Gone already.
    assert_int_equal(doom_any(people.txn, &any), OK);
    assert_true(any);
    people_commit(&people);
    people_begin(&people);
    bool more = true;
    assert_int_equal(doom_erase(people.txn, KEYRING_BATCH, &more), OK);
    assert_false(more);
    people_commit(&people);
    people_begin(&people);
    assert_int_equal(keyring_key(people.store->keyring, &name, seal_key), ERR_CORRUPT);
}

// The commitment's key follows from the weights' key: fixed while that lives, and gone with it.
static void test_commitment_key(void **state)
{
    (void)state;
    const float params[3] = {1, 2, 3};
    uint8_t one[KEY_BYTES], again[KEY_BYTES], two[KEY_BYTES];
    assert_int_equal(weights_put(people.txn, 1, params, 3), OK);
    assert_int_equal(weights_put(people.txn, 2, params, 3), OK);
    assert_int_equal(weights_commit_key(people.txn, 1, one), OK);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_int_equal(weights_commit_key(people.txn, 1, again), OK);
    assert_int_equal(weights_commit_key(people.txn, 2, two), OK);
    assert_memory_equal(one, again, sizeof one);
    assert_true(memcmp(one, two, sizeof one) != 0);
    assert_int_equal(weights_drop(people.txn, 1), OK);
    assert_int_equal(weights_commit_key(people.txn, 1, again), ERR_NOT_FOUND);
}

// A row of the journal counts what was erased for it, also over a restart.
static void test_requests_count_their_keys(void **state)
{
    (void)state;
    const float params[1] = {1};
    struct request_row row = {.sequence = 3, .kind = REQUEST_DELETE, .state = REQUEST_FENCED};
    bool more = true;
    assert_int_equal(request_put(people.txn, &row), OK);
    for (uint64_t i = 1; i <= 5; i++) {
        assert_int_equal(weights_put(people.txn, i, params, 1), OK);
    }
    assert_int_equal(weights_drop(people.txn, 1), OK); // Nobody's.
    doom_for(people.txn, 3);
    assert_int_equal(weights_drop(people.txn, 2), OK);
    assert_int_equal(weights_drop(people.txn, 3), OK);
    people_commit(&people);
    people_begin(&people);
    assert_int_equal(doom_erase(people.txn, KEYRING_BATCH, &more), OK);
    assert_int_equal(request_get(people.txn, 3, &row), OK);
    assert_int_equal(row.keys_destroyed, 2);
    people_commit(&people);
    people_begin(&people);
    doom_for(people.txn, 3);
    assert_int_equal(weights_drop(people.txn, 5), OK);
    people_commit(&people);
    people_reopen(&people); // The start erases what is doomed.
    people_begin(&people);
    assert_int_equal(request_get(people.txn, 3, &row), OK);
    assert_int_equal(row.keys_destroyed, 3);
    assert_int_equal(doom_any(people.txn, &more), OK);
    assert_false(more);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_any_change_is_noticed), CASE(test_swapped_values),
        CASE(test_bound_bytes),           CASE(test_dataset_keeps_its_key_until_it_is_dropped),
        CASE(test_commitment_key),        CASE(test_requests_count_their_keys),
    };
#undef CASE
    return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}
