// tests/unit/test_principal.c: the keys that were given out, in the store.
//
// Method: rows are put and read back in a real store, over a restart; then rows of a wrong shape, each of
// which must be refused as damaged and say which row it is.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/principal.h"
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
    people_roll_back(&people);
    people_close(&people);
    return 0;
}

static void put(uint32_t number, const char *name, enum role role, const char *const *datasets,
                const uint32_t *numbers, uint32_t count)
{
    struct principal_scope scope[4] = {{0}};
    struct principal_row row = {
        .number = number, .role = role, .scope = scope, .scope_count = count, .added_us = 1000};
    snprintf(row.name, sizeof row.name, "%s", name);
    memset(row.key, (int)number, sizeof row.key);
    for (uint32_t i = 0; i < count; i++) {
        scope[i].dataset = numbers[i];
        snprintf(scope[i].name, sizeof scope[i].name, "%s", datasets[i]);
    }
    MUST(principal_put(people.txn, &row));
}

static enum err note(void *context, const struct principal_row *row)
{
    char *const seen = context;
    const size_t at = strlen(seen);
    snprintf(seen + at, 256 - at, "%u %s %s;", row->number, row->name, role_name(row->role));
    return row->number == 4 ? err_raise(ERR_CANCELLED, "enough") : OK;
}

static void test_put_get_walk(void **state)
{
    (void)state;
    struct principal_row row;
    char seen[256] = "";
    assert_int_equal(principal_get(people.txn, 1, &row), ERR_NOT_FOUND);
    assert_int_equal(principal_each(people.txn, note, seen), OK);
    assert_string_equal(seen, "");
    put(2, "alice", ROLE_OWNER, (const char *const[]){"people", "later"}, (uint32_t[]){1, 0}, 2);
    put(1, "admin", ROLE_ADMIN, NULL, NULL, 0);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_int_equal(principal_each(people.txn, note, seen), OK);
    assert_string_equal(seen, "1 admin admin;2 alice owner;");
    assert_int_equal(principal_get(people.txn, 2, &row), OK);
    assert_int_equal(row.scope_count, 2);
    assert_true(row.scope[0].dataset == 1 && row.scope[1].dataset == 0);
    assert_string_equal(row.scope[0].name, "people");
    assert_string_equal(row.scope[1].name, "later");
    assert_true(row.added_us == 1000 && row.revoked_us == 0);
    uint8_t key[PRINCIPAL_KEY_BYTES];
    memset(key, 2, sizeof key);
    assert_memory_equal(row.key, key, sizeof key);
    row.revoked_us = 2000; // Replaced, and all else as it was.
    assert_int_equal(principal_put(people.txn, &row), OK);
    principal_row_deinit(&row);
    assert_int_equal(principal_get(people.txn, 2, &row), OK);
    assert_true(row.revoked_us == 2000 && row.scope_count == 2);
    principal_row_deinit(&row);
    put(4, "four", ROLE_WORKER, NULL, NULL, 0);
    put(5, "five", ROLE_WORKER, NULL, NULL, 0);
    seen[0] = '\0';
    assert_int_equal(principal_each(people.txn, note, seen), ERR_CANCELLED);
    assert_string_equal(seen, "1 admin admin;2 alice owner;4 four worker;");
}

static uint32_t granted(uint32_t number, uint32_t at)
{
    struct principal_row row;
    MUST(principal_get(people.txn, number, &row));
    const uint32_t dataset = row.scope[at].dataset;
    principal_row_deinit(&row);
    return dataset;
}

// A promise is bound to the first dataset of its name, and never to another.
static void test_promises(void **state)
{
    (void)state;
    put(1, "alice", ROLE_OWNER, (const char *const[]){"people", "later"}, (uint32_t[]){1, 0}, 2);
    put(2, "bob", ROLE_OWNER, (const char *const[]){"later"}, (uint32_t[]){0}, 1);
    put(3, "carol", ROLE_OWNER, (const char *const[]){"other"}, (uint32_t[]){0}, 1);
    assert_int_equal(principal_bind(people.txn, "later", 7), OK);
    assert_int_equal(granted(1, 0), 1);
    assert_int_equal(granted(1, 1), 7);
    assert_int_equal(granted(2, 0), 7);
    assert_int_equal(granted(3, 0), 0);
    assert_int_equal(principal_bind(people.txn, "later", 8), OK);
    assert_int_equal(principal_bind(people.txn, "people", 9), OK);
    assert_int_equal(granted(1, 0), 1);
    assert_int_equal(granted(1, 1), 7);
    assert_int_equal(granted(2, 0), 7);
}

#define ROW_START                                                                                  \
    "\1\0n"                                                                                        \
    "0123456789abcdef0123456789abcdef"
#define ROW_TIMES "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void expect_damaged(const char *bytes, size_t count, const char *says)
{
    struct kv_key key = {0};
    struct principal_row row;
    kv_key_u32(&key, 6);
    MUST(people_put(&people, KV_PRINCIPAL, kv_key_span(&key), span_of(bytes, count)));
    assert_int_equal(principal_get(people.txn, 6, &row), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), says));
    assert_non_null(strstr(err_text(), "table principal, entry 6"));
    assert_null(row.scope);
}

static void test_damaged_rows(void **state)
{
    (void)state;
    struct kv_key key = {0};
    struct principal_row row;
    static const char good[] = ROW_START "\1" ROW_TIMES "\1\0\0\0"
                                         "\5\0\0\0\1\0d";
    kv_key_u32(&key, 6);
    MUST(people_put(&people, KV_PRINCIPAL, kv_key_span(&key), span_of(good, sizeof good - 1)));
    assert_int_equal(principal_get(people.txn, 6, &row), OK); // The control.
    assert_true(row.scope_count == 1 && row.scope[0].dataset == 5);
    principal_row_deinit(&row);
    for (size_t bytes = 0; bytes < sizeof good - 1; bytes++) {
        expect_damaged(good, bytes, "principal");
    }
    expect_damaged(good, sizeof good, "principal"); // One byte more.
    static const char no_role[] = ROW_START "\0" ROW_TIMES "\0\0\0\0";
    static const char sixth_role[] = ROW_START "\6" ROW_TIMES "\0\0\0\0";
    static const char many[] = ROW_START "\1" ROW_TIMES "\1\1\0\0";
    expect_damaged(no_role, sizeof no_role - 1, "role 0");
    expect_damaged(sixth_role, sizeof sixth_role - 1, "role 6");
    expect_damaged(many, sizeof many - 1, "257 datasets");
}

static void test_role_names(void **state)
{
    (void)state;
    enum role role;
    for (int i = ROLE_ADMIN; i < ROLE_COUNT_; i++) {
        assert_int_equal(role_parse(role_name((enum role)i), &role), OK);
        assert_int_equal(role, i);
    }
    assert_int_equal(role_parse("root", &role), ERR_INVALID);
    assert_non_null(
        strstr(err_text(), "\"root\", expected admin, owner, predict, auditor or worker"));
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_get_walk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_promises, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_rows, set_up, tear_down),
        cmocka_unit_test(test_role_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
