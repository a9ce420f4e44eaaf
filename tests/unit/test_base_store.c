// tests/unit/test_base_store.c: a base is there whole or not at all, and its name for ever.
//
// Method: bases of a few chunks are staged, cut off at every point by reopening the store, committed,
// retired and tidied in batches of one chunk; rows and weights are counted after each step.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/base.h"
#include "store/component.h"
#include "tests/unit/people.h"

enum { CHUNK_FLOATS = LIMIT_CHUNK_BYTES / 4, WEIGHTS = 2 * CHUNK_FLOATS + 5, CHUNKS = 3 };

static struct people people;
static float *weights;

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    weights = mem_alloc(WEIGHTS, sizeof *weights);
    for (uint32_t i = 0; i < WEIGHTS; i++) {
        weights[i] = (float)(i % 1000) - 500.5F;
    }
    people_begin(&people);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    people_commit(&people);
    mem_free(weights);
    people_close(&people);
    return 0;
}

static void next_txn(void)
{
    people_commit(&people);
    people_begin(&people);
}

static void reopen(void)
{
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
}

static enum err stage(const char *name, uint32_t dataset, uint32_t *number_out)
{
    struct base_row row = {.weight_count = WEIGHTS,
                           .dataset = dataset,
                           .created_us = 3,
                           .digest = {{7}},
                           .spec = {{8}}};
    snprintf(row.name, sizeof row.name, "%s", name);
    buf_put(&row.shape, span_text("kind=vit\n"));
    const enum err err = base_stage(people.txn, &row);
    *number_out = row.number;
    base_row_deinit(&row);
    return err;
}

static struct span chunk(uint32_t number)
{
    return span_of(weights + (size_t)number * CHUNK_FLOATS, weights_chunk_bytes(WEIGHTS, number));
}

static void stage_chunks(uint32_t number, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(base_stage_chunk(people.txn, number, i, chunk(i)), OK);
        next_txn();
    }
}

static uint32_t make(const char *name, uint32_t dataset)
{
    uint32_t number = 0;
    assert_int_equal(stage(name, dataset, &number), OK);
    stage_chunks(number, CHUNKS);
    assert_int_equal(base_commit(people.txn, number, 12345), OK);
    return number;
}

static size_t rows_of(enum kv_table table)
{
    struct kv_cursor cursor;
    size_t count = 0;
    MUST(kv_cursor_open(&people.txn->kv, table, &cursor));
    for (MUST(kv_cursor_seek(&cursor, span_of("", 0))); !cursor.at_end;
         MUST(kv_cursor_next(&cursor))) {
        count++;
    }
    kv_cursor_close(&cursor);
    return count;
}

static enum base_state state_of(uint32_t number)
{
    struct base_row row;
    const enum err err = base_row_get(people.txn, number, &row);
    const enum base_state state = row.state;
    base_row_deinit(&row);
    return err == OK ? state : 0;
}

// Calls until nothing is left; returns how often.
static uint32_t tidy(size_t chunks)
{
    uint32_t calls = 0;
    for (bool more = true; more; calls++) {
        assert_true(calls < 100);
        assert_int_equal(base_tidy(people.txn, chunks, &more), OK);
        next_txn();
    }
    return calls;
}

static void test_fields_and_weights_come_back(void **state)
{
    (void)state;
    char name[LIMIT_NAME_BYTES + 1];
    memset(name, 'b', LIMIT_NAME_BYTES);
    name[LIMIT_NAME_BYTES] = '\0';
    const uint32_t number = make(name, 9);
    reopen();
    struct base_row row;
    assert_int_equal(base_row_get(people.txn, number, &row), OK);
    assert_string_equal(row.name, name);
    assert_int_equal(row.number, number);
    assert_int_equal(row.state, BASE_VALID);
    assert_int_equal(row.weight_count, WEIGHTS);
    assert_int_equal(row.dataset, 9);
    assert_int_equal(row.created_us, 12345);
    assert_int_equal(row.retired_us, 0);
    assert_int_equal(row.digest.bytes[0], 7);
    assert_int_equal(row.spec.bytes[0], 8);
    assert_true(span_equal(buf_span(&row.shape), span_text("kind=vit\n")));
    float *const found = mem_alloc(WEIGHTS, sizeof *found);
    assert_int_equal(weights_get(people.txn, row.instance, found, WEIGHTS), OK);
    assert_memory_equal(found, weights, WEIGHTS * sizeof *found);
    mem_free(found);
    base_row_deinit(&row);
    assert_int_equal(base_row_get(people.txn, number + 1, &row), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "no base number"));
    base_row_deinit(&row); // Safe after an error.
}

static void test_wrong_chunks_are_refused(void **state)
{
    (void)state;
    uint32_t number = 0;
    assert_int_equal(stage("b", 0, &number), OK);
    assert_int_equal(base_stage_chunk(people.txn, number, CHUNKS, chunk(0)), ERR_INVALID);
    assert_non_null(strstr(err_text(), "chunk 3 of weights that have 3"));
    assert_int_equal(base_stage_chunk(people.txn, number, 2, chunk(0)), ERR_INVALID);
    assert_non_null(strstr(err_text(), "expected 20"));
    assert_int_equal(base_stage_chunk(people.txn, number + 1, 0, chunk(0)), ERR_NOT_FOUND);
    // A gap is found at the commit, and the gap alone.
    assert_int_equal(base_stage_chunk(people.txn, number, 0, chunk(0)), OK);
    assert_int_equal(base_stage_chunk(people.txn, number, 2, chunk(2)), OK);
    assert_int_equal(base_commit(people.txn, number, 1), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "1 of 3 chunks"));
    assert_int_equal(state_of(number), BASE_STAGED);
    assert_int_equal(base_stage_chunk(people.txn, number, 1, chunk(1)), OK);
    assert_int_equal(base_commit(people.txn, number, 1), OK);
    assert_int_equal(base_stage_chunk(people.txn, number, 1, chunk(1)), ERR_NOT_FOUND);
    assert_int_equal(base_commit(people.txn, number, 1), ERR_NOT_FOUND);
}

// A process that dies in the middle leaves nothing, however far it had come.
static void test_what_was_staged_is_given_up_at_the_next_start(void **state)
{
    (void)state;
    const uint32_t kept = make("kept", 0);
    for (uint32_t far = 0; far <= CHUNKS; far++) {
        uint32_t number = 0;
        assert_int_equal(stage("b", 0, &number), OK);
        stage_chunks(number, far);
        reopen();
        assert_int_equal(state_of(number), BASE_GIVEN_UP);
        assert_int_equal(base_commit(people.txn, number, 1), ERR_NOT_FOUND);
        assert_int_equal(rows_of(KV_WEIGHTS), CHUNKS + far);
        assert_int_equal(tidy(1), far + 2); // Each chunk, the row, and that nothing is left.
        assert_int_equal(rows_of(KV_WEIGHTS), CHUNKS);
        assert_int_equal(rows_of(KV_BASE), 1);
    }
    assert_int_equal(state_of(kept), BASE_VALID);
}

static void test_an_open_one_is_not_tidied(void **state)
{
    (void)state;
    uint32_t number = 0;
    assert_int_equal(stage("b", 0, &number), OK);
    stage_chunks(number, 2);
    assert_int_equal(tidy(8), 1);
    stage_chunks(number, CHUNKS);
    assert_int_equal(base_commit(people.txn, number, 1), OK);
    assert_int_equal(tidy(8), 1);
    assert_int_equal(rows_of(KV_WEIGHTS), CHUNKS);
    assert_int_equal(base_give_up(people.txn, number), OK); // Too late: it stays.
    assert_int_equal(state_of(number), BASE_VALID);
}

static void test_a_given_up_name_is_free_and_others_are_taken(void **state)
{
    (void)state;
    uint32_t first = 0, second = 0;
    assert_int_equal(stage("b", 0, &first), OK);
    assert_int_equal(stage("b", 0, &second), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "is being imported already"));
    assert_int_equal(base_give_up(people.txn, first), OK);
    assert_int_equal(stage("b", 0, &second), OK); // Before it is tidied, too.
    assert_true(second > first);
    stage_chunks(second, CHUNKS);
    assert_int_equal(base_commit(people.txn, second, 1), OK);
    assert_int_equal(stage("b", 0, &first), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "there is a base \"b\" already"));
    assert_int_equal(base_retire(people.txn, second, 2), OK);
    assert_int_equal(stage("b", 0, &first), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "was retired"));
    tidy(8);
    assert_int_equal(stage("b", 0, &first), ERR_CONFLICT);
    assert_int_equal(stage("c", 0, &first), OK); // control
}

static void test_a_retired_one_keeps_its_row_and_loses_its_weights(void **state)
{
    (void)state;
    const uint32_t number = make("b", 0);
    struct base_row row;
    assert_int_equal(base_retire(people.txn, number + 1, 99), ERR_NOT_FOUND);
    assert_int_equal(base_retire(people.txn, number, 99), OK);
    assert_int_equal(base_retire(people.txn, number, 99), ERR_NOT_FOUND);
    reopen(); // It goes on after a crash.
    assert_int_equal(tidy(1), CHUNKS + 2);
    assert_int_equal(rows_of(KV_WEIGHTS), 0);
    assert_int_equal(base_row_get(people.txn, number, &row), OK);
    assert_int_equal(row.state, BASE_RETIRED);
    assert_int_equal(row.instance, 0);
    assert_int_equal(row.retired_us, 99);
    assert_int_equal(row.digest.bytes[0], 7);
    base_row_deinit(&row);
    assert_int_equal(tidy(1), 1);
}

static void test_a_dataset_under_a_base_is_held(void **state)
{
    (void)state;
    uint32_t staged = 0;
    assert_int_equal(stage("staged", PEOPLE_DATASET, &staged), OK);
    assert_int_equal(base_frees_dataset(people.txn, PEOPLE_DATASET), OK);
    make("imported", 0);
    make("other", PEOPLE_DATASET + 1);
    assert_int_equal(base_frees_dataset(people.txn, PEOPLE_DATASET), OK);
    const uint32_t number = make("mine", PEOPLE_DATASET);
    assert_int_equal(base_frees_dataset(people.txn, PEOPLE_DATASET), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "base \"mine\""));
    assert_int_equal(base_retire(people.txn, number, 1), OK);
    assert_int_equal(base_frees_dataset(people.txn, PEOPLE_DATASET), OK);
}

static void test_the_limit(void **state)
{
    (void)state;
    char name[16];
    uint32_t number = 0;
    for (int i = 0; i < LIMIT_BASES; i++) {
        snprintf(name, sizeof name, "b%d", i);
        assert_int_equal(stage(name, 0, &number), OK);
    }
    assert_int_equal(stage("one-more", 0, &number), ERR_LIMIT);
    assert_non_null(strstr(err_text(), "there are 1024 bases already"));
    assert_int_equal(base_give_up(people.txn, 5), OK);
    assert_int_equal(stage("one-more", 0, &number), OK);
}

static void test_damaged_rows_are_refused(void **state)
{
    (void)state;
    const uint32_t number = make("b", 0);
    struct kv_key key = {0};
    struct span stored;
    struct buf good = {0};
    struct base_row row;
    kv_key_u32(&key, number);
    assert_int_equal(value_get(people.txn, KV_BASE, kv_key_span(&key), &stored), OK);
    buf_put(&good, stored);
    for (size_t bytes = 0; bytes < good.bytes; bytes++) {
        assert_int_equal(
            value_put(people.txn, KV_BASE, kv_key_span(&key), span_of(good.data, bytes)), OK);
        assert_int_equal(base_row_get(people.txn, number, &row), ERR_CORRUPT);
        assert_non_null(strstr(err_text(), "table base, entry 1"));
        base_row_deinit(&row);
    }
    good.data[3] = BASE_GIVEN_UP + 1; // After the name: u16 and one byte.
    assert_int_equal(value_put(people.txn, KV_BASE, kv_key_span(&key), buf_span(&good)), OK);
    assert_int_equal(base_row_get(people.txn, number, &row), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "state 5"));
    base_row_deinit(&row);
    good.data[3] = BASE_VALID; // control
    assert_int_equal(value_put(people.txn, KV_BASE, kv_key_span(&key), buf_span(&good)), OK);
    assert_int_equal(base_row_get(people.txn, number, &row), OK);
    base_row_deinit(&row);
    buf_deinit(&good);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_fields_and_weights_come_back),
        CASE(test_wrong_chunks_are_refused),
        CASE(test_what_was_staged_is_given_up_at_the_next_start),
        CASE(test_an_open_one_is_not_tidied),
        CASE(test_a_given_up_name_is_free_and_others_are_taken),
        CASE(test_a_retired_one_keeps_its_row_and_loses_its_weights),
        CASE(test_a_dataset_under_a_base_is_held),
        CASE(test_the_limit),
        CASE(test_damaged_rows_are_refused),
    };
#undef CASE
    return cmocka_run_group_tests_name("base_store", tests, NULL, NULL);
}
