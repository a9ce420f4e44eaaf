// tests/unit/test_tally.c: what was refused is counted by day, dataset and reason, survives, and is
// forgotten after its time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/tally.h"
#include "tests/unit/people.h"

static const int64_t DAY_US = (int64_t)86400 * 1000000;
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
    people_roll_back(&people);
    people_close(&people);
    return 0;
}

struct seen {
    size_t count, most;
    struct tally at[256];
};

static bool note(void *context, const struct tally *tally)
{
    struct seen *const seen = context;
    if (seen->count == seen->most) {
        return false;
    }
    seen->at[seen->count++] = *tally;
    return true;
}

static struct seen seen;

static void look(uint32_t day, uint32_t dataset, enum tally_reason reason, size_t most)
{
    const struct tally from = {.day = day, .dataset = dataset, .reason = reason};
    seen = (struct seen){.most = most};
    assert_int_equal(tally_walk(people.txn, &from, note, &seen), OK);
}

static void add(int64_t time_us, uint32_t dataset, const char *name, enum tally_reason reason)
{
    assert_int_equal(tally_add(people.txn, time_us, dataset, name, reason), OK);
}

static void expect(size_t at, uint32_t day, uint32_t dataset, enum tally_reason reason,
                   uint64_t count, const char *name)
{
    assert_true(at < seen.count);
    assert_int_equal(seen.at[at].day, day);
    assert_int_equal(seen.at[at].dataset, dataset);
    assert_int_equal(seen.at[at].reason, reason);
    assert_int_equal(seen.at[at].count, count);
    assert_string_equal(seen.at[at].name, name);
}

static void test_counts_apart(void **state)
{
    (void)state;
    look(0, 0, 0, 9);
    assert_int_equal(seen.count, 0);
    add(300 * DAY_US, 2, "b", TALLY_CONFLICT);
    add(300 * DAY_US - 1, 1, "a", TALLY_NOT_FOUND); // The last moment of the day before.
    add(300 * DAY_US, 1, "a", TALLY_NOT_FOUND);
    add(301 * DAY_US - 1, 1, "a", TALLY_NOT_FOUND); // The last moment of that day.
    add(300 * DAY_US, 1, "a", TALLY_HELD);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    look(0, 0, 0, 9);
    assert_int_equal(seen.count, 4);
    expect(0, 299, 1, TALLY_NOT_FOUND, 1, "a");
    expect(1, 300, 1, TALLY_NOT_FOUND, 2, "a");
    expect(2, 300, 1, TALLY_HELD, 1, "a");
    expect(3, 300, 2, TALLY_CONFLICT, 1, "b");
    look(300, 1, TALLY_HELD, 9); // From the middle, and to the middle.
    assert_int_equal(seen.count, 2);
    expect(0, 300, 1, TALLY_HELD, 1, "a");
    look(0, 0, 0, 3);
    assert_int_equal(seen.count, 3);
}

static void test_one_row_a_count(void **state)
{
    (void)state;
    add(300 * DAY_US, 1, "a", TALLY_NOT_FOUND);
    const uint64_t before = txn_writes(people.txn);
    add(300 * DAY_US, 1, "a", TALLY_NOT_FOUND);
    assert_int_equal(txn_writes(people.txn) - before, 1);
}

static void test_forgets_after_its_time(void **state)
{
    (void)state;
    for (uint32_t dataset = 1; dataset <= 70; dataset++) { // More than are dropped at once.
        add(1000 * DAY_US, dataset, "old", TALLY_NOT_FOUND);
    }
    add(1001 * DAY_US, 1, "kept", TALLY_NOT_FOUND);
    add((1000 + TALLY_DAYS) * DAY_US, 1, "now", TALLY_NOT_FOUND); // As old as may be.
    look(0, 0, 0, 256);
    assert_int_equal(seen.count, 72);
    add((1001 + TALLY_DAYS) * DAY_US, 1, "now", TALLY_NOT_FOUND);
    look(0, 0, 0, 256);
    assert_int_equal(seen.count, 72 - 64 + 1);
    add((1001 + TALLY_DAYS) * DAY_US, 1, "now",
        TALLY_NOT_FOUND); // No new row: nothing is looked for.
    look(0, 0, 0, 256);
    assert_int_equal(seen.count, 72 - 64 + 1);
    add((1001 + TALLY_DAYS) * DAY_US, 2, "now", TALLY_NOT_FOUND);
    look(0, 0, 0, 256);
    assert_int_equal(seen.count, 4);
    expect(0, 1001, 1, TALLY_NOT_FOUND, 1, "kept");
    expect(1, 1000 + TALLY_DAYS, 1, TALLY_NOT_FOUND, 1, "now");
    expect(2, 1001 + TALLY_DAYS, 1, TALLY_NOT_FOUND, 2, "now");
}

static void test_damage_is_told(void **state)
{
    (void)state;
    struct kv_key key = {0};
    kv_key_u32(&key, 300);
    kv_key_u32(&key, 1);
    kv_key_u8(&key, TALLY_HELD);
    MUST(people_put(&people, KV_TALLY, kv_key_span(&key), span_of("\0\0", 2)));
    seen = (struct seen){.most = 9};
    const struct tally from = {0};
    assert_int_equal(tally_walk(people.txn, &from, note, &seen), ERR_CORRUPT);
    assert_int_equal(tally_add(people.txn, 300 * DAY_US, 1, "a", TALLY_HELD), ERR_CORRUPT);
    MUST(kv_drop(&people.txn->kv, KV_TALLY, kv_key_span(&key)));
    kv_key_u8(&key, 0);
    MUST(people_put(&people, KV_TALLY, kv_key_span(&key), span_of("", 0)));
    assert_int_equal(tally_walk(people.txn, &from, note, &seen), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "a key of 10 bytes"));
    assert_int_equal(seen.count, 0);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_row_a_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forgets_after_its_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
