// tests/unit/test_hold.c: legal holds in the store.
//
// Method: rows are put, read and dropped in a real store; what a client meets is in tests/e2e/test_hold.sh.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/doom.h"
#include "store/hold.h"
#include "tests/unit/people.h"

static struct people people;

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    people_begin(&people);
    uint64_t import;
    struct import_counts counts;
    MUST(import_begin(people.txn, PEOPLE_DATASET, 1, false, &import));
    for (uint32_t i = 0; i < 6; i++) {
        MUST(people_stage(&people, import, i, i / 2, (uint8_t)(i / 2), 0, "values"));
    }
    MUST(import_commit(people.txn, import, &counts));
    people_commit(&people);
    people_begin(&people);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    people_roll_back(&people);
    people_close(&people);
    return 0;
}

static struct hold hold_on(enum hold_kind kind, uint32_t number)
{
    struct hold hold = {.dataset = PEOPLE_DATASET, .kind = kind, .held_us = 7 + number};
    hold.id = kind == HOLD_RECORD ? people_rid(number) : people_sid(number, (uint8_t)number);
    snprintf(hold.name, sizeof hold.name, "name %u", number);
    snprintf(hold.reason, sizeof hold.reason, "case %u", number);
    return hold;
}

static void expect_same(const struct hold *a, const struct hold *b)
{
    assert_true(a->dataset == b->dataset && a->kind == b->kind && a->held_us == b->held_us);
    assert_memory_equal(&a->id, &b->id, sizeof a->id);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->reason, b->reason);
}

static void test_put_get_drop(void **state)
{
    (void)state;
    const struct hold record = hold_on(HOLD_RECORD, 1), subject = hold_on(HOLD_SUBJECT, 1);
    struct hold found;
    bool any = true;
    assert_int_equal(hold_any(people.txn, PEOPLE_DATASET, &any), OK);
    assert_false(any);
    assert_int_equal(hold_put(people.txn, &record), OK);
    assert_int_equal(hold_put(people.txn, &subject), OK);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_int_equal(hold_get(people.txn, PEOPLE_DATASET, HOLD_RECORD, &record.id, &found), OK);
    expect_same(&found, &record);
    assert_int_equal(hold_get(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &subject.id, &found), OK);
    expect_same(&found, &subject);
    assert_int_equal(hold_get(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &record.id, &found),
                     ERR_NOT_FOUND);
    assert_int_equal(hold_any(people.txn, PEOPLE_DATASET, &any), OK);
    assert_true(any);
    assert_int_equal(hold_any(people.txn, PEOPLE_DATASET + 1, &any), OK);
    assert_false(any);
    assert_int_equal(hold_drop(people.txn, PEOPLE_DATASET, HOLD_RECORD, &record.id), OK);
    assert_int_equal(hold_drop(people.txn, PEOPLE_DATASET, HOLD_RECORD, &record.id), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "this record is not on hold"));
    assert_int_equal(hold_drop(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &record.id),
                     ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "this subject is not on hold"));
    assert_int_equal(hold_get(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &subject.id, &found), OK);
}

// The key that name and reason were sealed under goes with the hold; the row then opens no more.
static void test_a_released_hold_is_erased(void **state)
{
    (void)state;
    const struct hold hold = hold_on(HOLD_SUBJECT, 2);
    struct kv_key key = {0};
    struct span stored;
    uint8_t copy[512];
    bool more = true;
    kv_key_u32(&key, PEOPLE_DATASET);
    kv_key_u8(&key, HOLD_SUBJECT);
    kv_key_put(&key, hold.id.bytes, ID_BYTES);
    assert_int_equal(hold_put(people.txn, &hold), OK);
    people_commit(&people);
    people_begin(&people);
    assert_int_equal(kv_get(&people.txn->kv, KV_HOLD, kv_key_span(&key), &stored), OK);
    assert_true(stored.bytes <= sizeof copy);
    memcpy(copy, stored.data, stored.bytes);
    const struct span row = span_of(copy, stored.bytes);
    assert_int_equal(value_of(people.txn, KV_HOLD, kv_key_span(&key), row, &stored), OK); // control
    assert_int_equal(hold_drop(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &hold.id), OK);
    people_commit(&people);
    people_begin(&people);
    assert_int_equal(doom_erase(people.txn, 100, &more), OK);
    assert_false(more);
    people_commit(&people);
    people_begin(&people);
    assert_int_not_equal(value_of(people.txn, KV_HOLD, kv_key_span(&key), row, &stored), OK);
}

static void test_the_same_again_and_another_reason(void **state)
{
    (void)state;
    struct hold hold = hold_on(HOLD_SUBJECT, 1);
    struct hold found;
    assert_int_equal(hold_put(people.txn, &hold), OK);
    const uint64_t writes = txn_writes(people.txn);
    hold.held_us = 99;
    assert_int_equal(hold_put(people.txn, &hold), OK);
    assert_int_equal(hold_get(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &hold.id, &found), OK);
    assert_int_equal(found.held_us, 8); // The first stands.
    snprintf(hold.reason, sizeof hold.reason, "another");
    assert_int_equal(hold_put(people.txn, &hold), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "for another reason"));
    assert_true(txn_writes(people.txn) == writes);
}

static void test_only_what_is_there(void **state)
{
    (void)state;
    struct hold hold = hold_on(HOLD_RECORD, 77);
    assert_int_equal(hold_put(people.txn, &hold), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "no record of this id is known"));
    hold = hold_on(HOLD_SUBJECT, 77);
    assert_int_equal(hold_put(people.txn, &hold), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "no record of this subject is known"));
    // Deleted: denied to every reader, with a tombstone.
    const struct record_key keys[] = {people_key(0, 1, 0, 0, 0), people_key(1, 1, 0, 0, 0)};
    record_deny(people.store, &keys[0]);
    hold = hold_on(HOLD_RECORD, 0);
    MUST(tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &hold.id, 3));
    assert_int_equal(hold_put(people.txn, &hold), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "no record of this id is left to hold: it was deleted"));
    hold = hold_on(HOLD_SUBJECT, 0);
    MUST(tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_SUBJECT, &hold.id, 3));
    assert_int_equal(hold_put(people.txn, &hold), OK); // One of the two is still there.
    assert_int_equal(hold_drop(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &hold.id), OK);
    record_deny(people.store, &keys[1]);
    assert_int_equal(hold_put(people.txn, &hold), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "no record of this subject is left to hold"));
}

struct seen {
    uint32_t count, most;
    struct hold at[8];
};

static bool note(void *context, const struct hold *hold)
{
    struct seen *const seen = context;
    seen->at[seen->count++] = *hold;
    return seen->count < seen->most;
}

static void test_walk_in_pages(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        const struct hold record = hold_on(HOLD_RECORD, i), subject = hold_on(HOLD_SUBJECT, i);
        assert_int_equal(hold_put(people.txn, &subject), OK);
        assert_int_equal(hold_put(people.txn, &record), OK);
    }
    struct seen all = {.most = 8}, pages = {.most = 8};
    assert_int_equal(hold_walk(people.txn, PEOPLE_DATASET, NULL, note, &all), OK);
    assert_int_equal(all.count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        struct seen one = {.most = 1};
        const struct hold *const after = i == 0 ? NULL : &pages.at[i - 1];
        assert_int_equal(hold_walk(people.txn, PEOPLE_DATASET, after, note, &one), OK);
        assert_int_equal(one.count, 1);
        pages.at[i] = one.at[0];
        expect_same(&pages.at[i], &all.at[i]);
        assert_true(all.at[i].kind == (i < 3 ? HOLD_RECORD : HOLD_SUBJECT));
    }
    struct seen none = {.most = 1};
    assert_int_equal(hold_walk(people.txn, PEOPLE_DATASET, &pages.at[5], note, &none), OK);
    assert_int_equal(none.count, 0);
}

static void test_no_more_than_the_limit(void **state)
{
    (void)state;
    struct hold hold = hold_on(HOLD_RECORD, 0);
    struct kv_key key = {0};
    for (uint32_t i = 0; i < LIMIT_HOLDS; i++) { // Rows that nobody opens while they are counted.
        uint8_t *room = NULL;
        key.bytes = 0;
        kv_key_u32(&key, PEOPLE_DATASET);
        kv_key_u8(&key, HOLD_SUBJECT);
        kv_key_u64(&key, i);
        kv_key_u64(&key, 0);
        MUST(kv_put_room(&people.txn->kv, KV_HOLD, kv_key_span(&key), 1, &room));
        room[0] = 0;
    }
    assert_int_equal(hold_put(people.txn, &hold), ERR_LIMIT);
    assert_non_null(strstr(err_text(), "10000 holds already"));
    MUST(kv_drop(&people.txn->kv, KV_HOLD, kv_key_span(&key)));
    assert_int_equal(hold_put(people.txn, &hold), OK);
}

static void test_damage_is_told(void **state)
{
    (void)state;
    const struct id128 id = people_rid(1);
    struct kv_key key = {0};
    struct hold found;
    kv_key_u32(&key, PEOPLE_DATASET);
    kv_key_u8(&key, HOLD_RECORD);
    kv_key_put(&key, id.bytes, ID_BYTES);
    MUST(people_put(&people, KV_HOLD, kv_key_span(&key), span_of("12345678\0", 9)));
    assert_int_equal(hold_get(people.txn, PEOPLE_DATASET, HOLD_RECORD, &id, &found), ERR_CORRUPT);
    MUST(value_drop(people.txn, KV_HOLD, kv_key_span(&key)));
    key.at[4] = 'x';
    MUST(people_put(&people, KV_HOLD, kv_key_span(&key), span_of("12345678\0\0\0\0", 12)));
    struct seen seen = {.most = 8};
    assert_int_equal(hold_walk(people.txn, PEOPLE_DATASET, NULL, note, &seen), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "kind r or s"));
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define WITH_PEOPLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_PEOPLE(test_put_get_drop),
        WITH_PEOPLE(test_a_released_hold_is_erased),
        WITH_PEOPLE(test_the_same_again_and_another_reason),
        WITH_PEOPLE(test_only_what_is_there),
        WITH_PEOPLE(test_walk_in_pages),
        WITH_PEOPLE(test_no_more_than_the_limit),
        WITH_PEOPLE(test_damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
