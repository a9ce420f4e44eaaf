// tests/unit/test_record.c: what readers of records see, in which order, and what they never see.
//
// Method: a few records whose place in the order is known are imported; every walk is compared with
// a plain filter over the list of them, so that a wrong boundary, order or skip shows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/record.h"
#include "store/request.h"
#include "tests/unit/people.h"

static struct people people;

// In storage order: generation, risk, hash, who, and rids ascending within a subject.
static const struct {
    uint32_t number, generation;
    uint8_t risk;
    uint64_t hash;
    uint8_t who;
} sample[] = {
    {1, 1, 0, 0, 1},
    {2, 1, 0, 5, 2},
    {3, 1, 0, 5, 3},
    {4, 1, 0, UINT64_MAX, 4},
    {5, 1, 7, 0, 5},
    {6, 1, 7, 100, 6},
    {13, 1, 14, UINT64_MAX, 9},
    {7, 1, 15, 0, 7},
    {8, 1, 15, UINT64_MAX, 8},
    {9, 2, 0, 5, 2},
    {10, 2, 3, 5, 2},
    {11, 2, 15, 5, 2},
    {12, 3, 0, 100, 6},
};
enum { SAMPLE_COUNT = sizeof sample / sizeof sample[0], SEEN_MAX = 64 };

static struct record_key key_of(size_t i)
{
    return people_key(sample[i].number, sample[i].generation, sample[i].hash, sample[i].who,
                      sample[i].risk);
}

// Rows are put as they are: an import would refuse the subjects that have several classes.
static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    people_begin(&people);
    for (size_t i = SAMPLE_COUNT; i-- > 0;) { // Backwards: order is not that of arrival.
        struct person person = {.id = {0}};
        uint64_t slot = 0;
        people_make(&person, sample[i].number, sample[i].hash, sample[i].who, 0, "values");
        const struct record_key key = key_of(i);
        const struct record_value value = {0, person.row.id, person.row.subject, person.row.row};
        keyring_reserve(people.store->keyring, 1, &slot);
        MUST(record_put(people.txn, &key, &value, slot));
    }
    people_commit(&people);
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

struct seen {
    size_t count, stop_after;
    uint32_t numbers[SEEN_MAX];
    struct record_key last;
    bool keys_only;
};

static bool note(void *context, const struct record *record)
{
    struct seen *const seen = context;
    assert_true(seen->count < SEEN_MAX);
    const uint32_t number = be_get32(record->key.rid.bytes + 4);
    seen->numbers[seen->count++] = number;
    seen->last = record->key;
    if (seen->keys_only) {
        assert_int_equal(record->id.bytes + record->subject.bytes + record->row.bytes, 0);
    } else {
        char id[24];
        snprintf(id, sizeof id, "%u", number);
        assert_true(span_equal(record->id, span_text(id)));
        assert_true(span_equal(record->row, span_text("values")));
        snprintf(id, sizeof id, "s%u", record->key.sid.bytes[ID_BYTES - 1]);
        assert_true(span_equal(record->subject, span_text(id)));
    }
    return seen->count != seen->stop_after;
}

static void walk_equals(const struct record_range *range, bool keys_only, uint64_t hidden)
{
    struct seen seen = {.keys_only = keys_only};
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET, range, NULL, keys_only, note, &seen),
                     OK);
    size_t at = 0;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        if (sample[i].generation == range->generation && sample[i].risk >= range->risk_first &&
            sample[i].risk <= range->risk_last && sample[i].hash >= range->hash_low &&
            sample[i].hash <= range->hash_high && (hidden >> i & 1) == 0) {
            assert_true(at < seen.count);
            assert_int_equal(seen.numbers[at++], sample[i].number);
        }
    }
    assert_int_equal(seen.count, at);
}

static void walk_equals_filter(uint32_t generation, uint64_t low, uint64_t high, bool keys_only,
                               uint64_t hidden)
{
    const struct record_range range = {generation, 0, UINT8_MAX, low, high};
    walk_equals(&range, keys_only, hidden);
}

static void test_key_order_is_number_order(void **state)
{
    (void)state;
    uint8_t before[RECORD_KEY_BYTES], bytes[RECORD_KEY_BYTES];
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        const struct record_key key = key_of(i);
        struct record_key back;
        record_key_put(&key, bytes);
        assert_int_equal(record_key_get(span_of(bytes, sizeof bytes), &back), OK);
        assert_int_equal(back.dataset, PEOPLE_DATASET);
        assert_int_equal(back.generation, sample[i].generation);
        assert_int_equal(back.risk, sample[i].risk);
        assert_int_equal(record_hash(&back.sid), sample[i].hash);
        assert_memory_equal(&back.rid, &key.rid, sizeof key.rid);
        if (i > 0) {
            assert_true(memcmp(before, bytes, sizeof bytes) < 0);
        }
        memcpy(before, bytes, sizeof bytes);
    }
    struct record_key back;
    assert_int_equal(record_key_get(span_of(bytes, sizeof bytes - 1), &back), ERR_CORRUPT);
    bytes[8] = LIMIT_RISK_CLASSES; // No import can have given that.
    assert_int_equal(record_key_get(span_of(bytes, sizeof bytes), &back), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "risk class 16, expected 0 to 15"));
}

static void test_walk_covers_exactly_the_range(void **state)
{
    (void)state;
    const uint64_t edges[] = {0, 1, 4, 5, 6, 99, 100, 101, UINT64_MAX - 1, UINT64_MAX};
    static const uint8_t classes[][2] = {{0, UINT8_MAX}, {0, 15}, {0, 0},  {1, 6},   {1, 7},
                                         {7, 7},         {3, 14}, {8, 13}, {14, 15}, {15, 15}};
    const size_t count = sizeof edges / sizeof edges[0];
    for (uint32_t generation = 0; generation <= 4; generation++) {
        for (size_t low = 0; low < count; low++) {
            for (size_t high = low; high < count; high++) {
                for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
                    const struct record_range range = {generation, classes[i][0], classes[i][1],
                                                       edges[low], edges[high]};
                    walk_equals(&range, false, 0);
                    walk_equals(&range, true, 0);
                }
            }
        }
    }
}

static void test_walk_keeps_to_its_dataset(void **state)
{
    (void)state;
    struct seen seen = {0};
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET - 1,
                                 &(struct record_range){1, 0, UINT8_MAX, 0, UINT64_MAX}, NULL,
                                 false, note, &seen),
                     OK);
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET + 1,
                                 &(struct record_range){1, 0, UINT8_MAX, 0, UINT64_MAX}, NULL,
                                 false, note, &seen),
                     OK);
    assert_int_equal(seen.count, 0);
}

static void test_walk_goes_on_after_any_record(void **state)
{
    (void)state;
    const uint64_t lows[] = {0, 1, 5}, highs[] = {UINT64_MAX, 100};
    for (size_t l = 0; l < 3; l++) {
        for (size_t h = 0; h < 2; h++) {
            struct seen whole = {0};
            assert_int_equal(record_walk(people.txn, PEOPLE_DATASET,
                                         &(struct record_range){1, 0, UINT8_MAX, lows[l], highs[h]},
                                         NULL, false, note, &whole),
                             OK);
            assert_true(whole.count >= 3);
            struct seen parts = {0}; // Two at a time.
            do {
                parts.stop_after = parts.count + 2;
                const struct record_key last = parts.last;
                assert_int_equal(
                    record_walk(people.txn, PEOPLE_DATASET,
                                &(struct record_range){1, 0, UINT8_MAX, lows[l], highs[h]},
                                parts.count == 0 ? NULL : &last, false, note, &parts),
                    OK);
            } while (parts.count == parts.stop_after);
            assert_int_equal(parts.count, whole.count);
            assert_memory_equal(parts.numbers, whole.numbers, sizeof parts.numbers);
        }
    }
    // After a record that is gone meanwhile, and after one below or above the range.
    const struct record_key second = key_of(1), first = key_of(0), eighth = key_of(7);
    assert_int_equal(record_remove(people.txn, &second), OK);
    struct seen seen = {0};
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET,
                                 &(struct record_range){1, 0, UINT8_MAX, 5, 5}, &second, false,
                                 note, &seen),
                     OK);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.numbers[0], 3);
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET,
                                 &(struct record_range){1, 0, UINT8_MAX, 5, 5}, &first, false, note,
                                 &seen),
                     OK);
    assert_int_equal(seen.count, 2);
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET,
                                 &(struct record_range){1, 0, UINT8_MAX, 5, 5}, &eighth, false,
                                 note, &seen),
                     OK);
    assert_int_equal(seen.count, 2);
}

// Of classes 7 to 14 after a record of class 0, and of class 0 after one of class 7.
static void test_walk_goes_on_after_a_record_of_another_class(void **state)
{
    (void)state;
    const struct record_key zero = key_of(2), seven = key_of(4);
    const struct record_range middle = {1, 7, 14, 0, UINT64_MAX}, low = {1, 0, 0, 0, UINT64_MAX};
    struct seen seen = {0};
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET, &middle, &zero, false, note, &seen),
                     OK);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.numbers[0], 5);
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET, &low, &seven, false, note, &seen), OK);
    assert_int_equal(seen.count, 3);
}

static void test_walk_subject_crosses_generations_and_risks(void **state)
{
    (void)state;
    static const struct {
        uint32_t generation_next;
        uint64_t hash;
        uint8_t who;
        size_t count;
        uint32_t numbers[4];
    } cases[] = {
        {4, 5, 2, 4, {2, 9, 10, 11}},
        {3, 5, 2, 4, {2, 9, 10, 11}},
        {2, 5, 2, 1, {2}},
        {1, 5, 2, 0, {0}},
        {0, 5, 2, 0, {0}},
        {4, 100, 6, 2, {6, 12}},
        {4, UINT64_MAX, 8, 1, {8}},
        {4, 0, 1, 1, {1}},
        {4, 5, 4, 0, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct id128 sid = people_sid(cases[i].hash, cases[i].who);
        struct seen seen = {0};
        assert_int_equal(record_walk_subject(people.txn, PEOPLE_DATASET, cases[i].generation_next,
                                             &sid, note, &seen),
                         OK);
        assert_int_equal(seen.count, cases[i].count);
        assert_memory_equal(seen.numbers, cases[i].numbers,
                            cases[i].count * sizeof seen.numbers[0]);
    }
    const struct id128 sid = people_sid(5, 2);
    struct seen seen = {.stop_after = 2};
    assert_int_equal(record_walk_subject(people.txn, PEOPLE_DATASET, 4, &sid, note, &seen), OK);
    assert_int_equal(seen.count, 2);
}

static void test_find_by_rid(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        const struct id128 rid = people_rid(sample[i].number);
        struct record record;
        assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), OK);
        const struct record_key key = key_of(i);
        uint8_t found[RECORD_KEY_BYTES], expected[RECORD_KEY_BYTES];
        record_key_put(&record.key, found);
        record_key_put(&key, expected);
        assert_memory_equal(found, expected, sizeof found);
        assert_int_equal(record_find(people.txn, PEOPLE_DATASET + 1, &rid, &record), ERR_NOT_FOUND);
    }
    const struct id128 nobody = people_rid(99);
    struct record record;
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &nobody, &record), ERR_NOT_FOUND);
}

static void test_denied_records_are_seen_by_nobody(void **state)
{
    (void)state;
    struct record record;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        const struct record_key key = key_of(i);
        record_deny(people.store, &key);
        record_deny(people.store, &key); // Twice is once.
        assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &record), ERR_NOT_FOUND);
        walk_equals_filter(sample[i].generation, 0, UINT64_MAX, false, (uint64_t)1 << i);
        walk_equals_filter(sample[i].generation, 0, UINT64_MAX, true, (uint64_t)1 << i);
        struct seen seen = {0};
        assert_int_equal(record_walk_subject(people.txn, PEOPLE_DATASET, 4, &key.sid, note, &seen),
                         OK);
        for (size_t n = 0; n < seen.count; n++) {
            assert_int_not_equal(seen.numbers[n], sample[i].number);
        }
        record_undeny(people.store, &key);
        record_undeny(people.store, &key);
        assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &record), OK);
    }
}

static void test_remove_takes_row_and_index(void **state)
{
    (void)state;
    const struct record_key key = key_of(5);
    struct record record;
    record_deny(people.store, &key);
    assert_int_equal(record_remove(people.txn, &key), OK);
    assert_int_equal(record_remove(people.txn, &key), OK); // Gone already.
    assert_int_equal(txn_end(people.txn, OK), OK);
    assert_false(deny_has(&people.store->deny, &key));
    people_begin(&people);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &record), ERR_NOT_FOUND);
    walk_equals_filter(1, 0, UINT64_MAX, false, 1 << 5);
    bool there;
    uint8_t bytes[RECORD_KEY_BYTES];
    record_key_put(&key, bytes);
    assert_int_equal(value_exists(people.txn, KV_RECORD, span_of(bytes, sizeof bytes), &there), OK);
    assert_false(there);
}

// If the erasing transaction fails the record is still on disk: it must stay denied.
static void test_denial_survives_a_rolled_back_removal(void **state)
{
    (void)state;
    const struct record_key key = key_of(5);
    struct record record;
    record_deny(people.store, &key);
    assert_int_equal(record_remove(people.txn, &key), OK);
    people_roll_back(&people);
    people_begin(&people);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &record), ERR_NOT_FOUND);
    walk_equals_filter(1, 0, UINT64_MAX, false, 1 << 5);
    record_undeny(people.store, &key);
    walk_equals_filter(1, 0, UINT64_MAX, false, 0); // Control: the row had stayed.
}

// A thousand denials and their removal in another order: the set must lose and keep the right ones.
static void test_deny_set_grows_and_shrinks(void **state)
{
    (void)state;
    enum { MANY = 1024 }; // A power of two: a table that grows too late is full here.
    const struct record_key nobody = people_key(MANY, 1, MANY, 0, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        // Few distinct hashes, so that runs are long and wrap around the table's end.
        struct record_key key = people_key(i, 1, i, 0, 0);
        memset(key.rid.bytes, i % 7 == 0 ? 0xFF : 0, 8);
        be_put32(key.rid.bytes + 8, i);
        record_deny(people.store, &key);
        assert_false(deny_has(&people.store->deny, &nobody));
    }
    assert_int_equal(people.store->deny.count, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        const uint32_t n = i * 389 % MANY; // 389 and MANY have no common factor.
        struct record_key key = people_key(n, 1, n, 0, 0);
        memset(key.rid.bytes, n % 7 == 0 ? 0xFF : 0, 8);
        be_put32(key.rid.bytes + 8, n);
        assert_true(deny_has(&people.store->deny, &key));
        record_undeny(people.store, &key);
        assert_false(deny_has(&people.store->deny, &key));
        assert_int_equal(people.store->deny.count, MANY - 1 - i);
    }
}

static void test_pending_records_are_denied_at_open(void **state)
{
    (void)state;
    const struct record_key key = key_of(2);
    const struct pending record = {.is_record = true, .record = key}, weights = {.instance = 9};
    struct record found;
    assert_int_equal(pending_put(people.txn, 1, 0, &record), OK);
    assert_int_equal(pending_put(people.txn, 1, 1, &weights), OK);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &found), ERR_NOT_FOUND);
    walk_equals_filter(1, 0, UINT64_MAX, true, 1 << 2);
    assert_int_equal(pending_drop(people.txn, 1, 0), OK);
    people_commit(&people);
    people_reopen(&people); // Control: without the pending row it is seen.
    people_begin(&people);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &found), OK);
}

static void test_damaged_rows_are_corrupt(void **state)
{
    (void)state;
    const struct record_key key = key_of(0);
    struct record record;
    struct seen seen = {0};
    uint8_t bytes[RECORD_KEY_BYTES];
    record_key_put(&key, bytes);
    const struct span at = span_of(bytes, sizeof bytes);
    assert_int_equal(people_put(&people, KV_RECORD, at, span_of("\1\0\0", 3)), OK);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &record), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table record, entry 1"));
    assert_int_equal(record_walk(people.txn, PEOPLE_DATASET,
                                 &(struct record_range){1, 0, UINT8_MAX, 0, 0}, NULL, false, note,
                                 &seen),
                     ERR_CORRUPT);
    assert_int_equal(kv_drop(&people.txn->kv, KV_RECORD, at), OK); // Index without a row.
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &key.rid, &record), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "the index names a row that is not there"));
}

static void test_tombstones_are_kept_by_kind_and_dataset(void **state)
{
    (void)state;
    const struct id128 id = people_rid(1), other = people_rid(2);
    uint64_t request = 0;
    assert_int_equal(tombstone_get(people.txn, 1, TOMBSTONE_RECORD, &id, &request), ERR_NOT_FOUND);
    assert_int_equal(tombstone_put(people.txn, 1, TOMBSTONE_RECORD, &id, 17), OK);
    assert_int_equal(tombstone_get(people.txn, 1, TOMBSTONE_RECORD, &id, &request), OK);
    assert_int_equal(request, 17);
    assert_int_equal(tombstone_get(people.txn, 1, TOMBSTONE_SUBJECT, &id, &request), ERR_NOT_FOUND);
    assert_int_equal(tombstone_get(people.txn, 2, TOMBSTONE_RECORD, &id, &request), ERR_NOT_FOUND);
    assert_int_equal(tombstone_get(people.txn, 1, TOMBSTONE_RECORD, &other, &request),
                     ERR_NOT_FOUND);
    assert_int_equal(tombstone_put(people.txn, 1, TOMBSTONE_RECORD, &other, 18), OK);
    assert_int_equal(tombstone_put(people.txn, 2, TOMBSTONE_SUBJECT, &id, 19), OK);
    assert_int_equal(tombstone_drop(people.txn, 1, TOMBSTONE_RECORD, &other), OK);
    assert_int_equal(tombstone_drop(people.txn, 1, TOMBSTONE_RECORD, &other), OK);
    bool more = false;
    assert_int_equal(tombstone_put(people.txn, 1, TOMBSTONE_SUBJECT, &other, 20), OK);
    assert_int_equal(tombstone_drop_some(people.txn, 1, 1, &more), OK);
    assert_true(more);
    assert_int_equal(tombstone_drop_some(people.txn, 1, 10, &more), OK);
    assert_false(more);
    assert_int_equal(tombstone_get(people.txn, 1, TOMBSTONE_RECORD, &id, &request), ERR_NOT_FOUND);
    assert_int_equal(tombstone_get(people.txn, 2, TOMBSTONE_SUBJECT, &id, &request), OK);
    assert_int_equal(request, 19);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_key_order_is_number_order),
        CASE(test_walk_covers_exactly_the_range),
        CASE(test_walk_keeps_to_its_dataset),
        CASE(test_walk_goes_on_after_any_record),
        CASE(test_walk_goes_on_after_a_record_of_another_class),
        CASE(test_walk_subject_crosses_generations_and_risks),
        CASE(test_find_by_rid),
        CASE(test_denied_records_are_seen_by_nobody),
        CASE(test_remove_takes_row_and_index),
        CASE(test_denial_survives_a_rolled_back_removal),
        CASE(test_deny_set_grows_and_shrinks),
        CASE(test_pending_records_are_denied_at_open),
        CASE(test_damaged_rows_are_corrupt),
        CASE(test_tombstones_are_kept_by_kind_and_dataset),
    };
#undef CASE
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
