// tests/unit/test_request.c: the journal gives back what was written, finds it, and forgets only
// what is done.
//
// Method: rows with a distinct value in every field, read back in another opening of the store;
// walks are compared with lists; damaged rows are written past the writer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

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

static struct request_row request(uint64_t sequence, enum request_state state)
{
    struct request_row row = {.sequence = sequence, .kind = REQUEST_DELETE, .state = state};
    be_put64(row.uuid.bytes, sequence * 1000);
    return row;
}

static void same_request(const struct request_row *a, const struct request_row *b)
{
    assert_int_equal(a->sequence, b->sequence);
    assert_memory_equal(&a->uuid, &b->uuid, sizeof a->uuid);
    assert_memory_equal(&a->body, &b->body, sizeof a->body);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->dataset, b->dataset);
    assert_int_equal(a->model, b->model);
    assert_int_equal(a->eager, b->eager);
    assert_int_equal(a->earlier, b->earlier);
    assert_int_equal(a->records_deleted, b->records_deleted);
    assert_int_equal(a->components_invalidated, b->components_invalidated);
    assert_int_equal(a->keys_destroyed, b->keys_destroyed);
    assert_int_equal(a->epoch_before, b->epoch_before);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->log_entry, b->log_entry);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->accepted_us, b->accepted_us);
    assert_int_equal(a->fenced_us, b->fenced_us);
    assert_int_equal(a->erased_us, b->erased_us);
    assert_int_equal(a->repaired_us, b->repaired_us);
    assert_int_equal(a->completed_us, b->completed_us);
}

static void test_every_field_comes_back(void **state)
{
    (void)state;
    const struct request_row row = {
        .sequence = UINT64_MAX - 1,
        .uuid = {{1, 2, 3}},
        .body = {{4, 5, 6}},
        .kind = REQUEST_REMOVE_MODEL,
        .state = REQUEST_REPAIRED,
        .dataset = UINT32_MAX,
        .keys_destroyed = 77,
        .model = 7,
        .eager = true,
        .earlier = 8,
        .records_deleted = 9,
        .components_invalidated = 10,
        .epoch_before = 14,
        .epoch = UINT64_MAX,
        .log_entry = 15,
        .name = "people",
        .accepted_us = INT64_MAX,
        .fenced_us = 11,
        .erased_us = 12,
        .repaired_us = INT64_MIN,
        .completed_us = 13,
    };
    struct request_row found;
    assert_int_equal(request_put(people.txn, &row), OK);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_int_equal(request_get(people.txn, row.sequence, &found), OK);
    same_request(&found, &row);
    assert_int_equal(request_find(people.txn, &row.uuid, &found), OK);
    same_request(&found, &row);
}

static void test_unknown_requests_are_not_found(void **state)
{
    (void)state;
    const struct request_row row = request(5, REQUEST_FENCED);
    struct request_row found;
    assert_int_equal(request_put(people.txn, &row), OK);
    assert_int_equal(request_get(people.txn, 4, &found), ERR_NOT_FOUND);
    const struct id128 other = {{9}};
    assert_int_equal(request_find(people.txn, &other, &found), ERR_NOT_FOUND);
    assert_int_equal(request_find(people.txn, &row.uuid, &found), OK);
}

static void test_a_uuid_stands_for_one_request(void **state)
{
    (void)state;
    struct request_row first = request(1, REQUEST_FENCED), second = request(2, REQUEST_FENCED);
    assert_int_equal(request_put(people.txn, &first), OK);
    first.state = REQUEST_ERASED;
    const uint64_t writes = txn_writes(people.txn);
    assert_int_equal(request_put(people.txn, &first), OK); // Itself may be written again:
    assert_int_equal(txn_writes(people.txn), writes + 1);  // its row alone.
    const struct id128 own = second.uuid;
    second.uuid = first.uuid;
    assert_int_equal(request_put(people.txn, &second), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "request 1"));
    second.uuid = own;
    assert_int_equal(request_put(people.txn, &second), OK);
}

struct seen {
    size_t count, fail_after;
    uint64_t sequence[16];
    uint32_t index[16];
    struct pending pending[16];
    struct awaited awaited[16];
};

static enum err note_request(void *context, const struct request_row *row)
{
    struct seen *const seen = context;
    seen->sequence[seen->count++] = row->sequence;
    return seen->count == seen->fail_after ? err_raise(ERR_CANCELLED, "enough") : OK;
}

static void test_open_requests_in_order(void **state)
{
    (void)state;
    static const enum request_state states[] = {REQUEST_FENCED, REQUEST_COMPLETED, REQUEST_ERASED,
                                                REQUEST_REPAIRED, REQUEST_FENCED};
    for (uint64_t i = 5; i-- > 0;) {
        const struct request_row row = request(255 + i, states[i]); // Crosses a byte.
        assert_int_equal(request_put(people.txn, &row), OK);
    }
    struct seen seen = {0};
    assert_int_equal(request_each_open(people.txn, note_request, &seen), OK);
    assert_int_equal(seen.count, 4);
    assert_int_equal(seen.sequence[0], 255);
    assert_int_equal(seen.sequence[1], 257);
    assert_int_equal(seen.sequence[2], 258);
    assert_int_equal(seen.sequence[3], 259);
    const struct request_row done = request(257, REQUEST_COMPLETED);
    assert_int_equal(request_put(people.txn, &done), OK);
    seen = (struct seen){.fail_after = 2};
    assert_int_equal(request_each_open(people.txn, note_request, &seen), ERR_CANCELLED);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.sequence[1], 258);
    struct request_row found; // Completed ones stay known.
    assert_int_equal(request_find(people.txn, &done.uuid, &found), OK);
    assert_int_equal(found.state, REQUEST_COMPLETED);
}

static bool note_row(void *context, const struct request_row *row)
{
    struct seen *const seen = context;
    seen->sequence[seen->count++] = row->sequence;
    return seen->count != seen->fail_after;
}

static void test_all_requests_in_order(void **state)
{
    (void)state;
    for (uint64_t i = 6; i-- > 0;) {
        const struct request_row row =
            request(253 + i, i % 2 == 0 ? REQUEST_COMPLETED : REQUEST_FENCED);
        assert_int_equal(request_put(people.txn, &row), OK);
    }
    struct seen seen = {.fail_after = 4};
    assert_int_equal(request_walk(people.txn, 0, note_row, &seen), OK);
    assert_int_equal(seen.count, 4);
    assert_int_equal(request_walk(people.txn, seen.sequence[3], note_row, &seen), OK);
    assert_int_equal(seen.count, 6);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(seen.sequence[i], 253 + i);
    }
    assert_int_equal(request_walk(people.txn, UINT64_MAX, note_row, &seen), OK);
    assert_int_equal(seen.count, 6);
}

static enum err complete_it(void *context, const struct request_row *row)
{
    struct request_row done = *row;
    ++*(size_t *)context;
    done.state = REQUEST_COMPLETED;
    return request_put(people.txn, &done);
}

// What the coordinator does with the list: rows leave it while it is walked.
static void test_open_requests_may_be_completed_on_the_way(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 300; i++) {
        const struct request_row row = request(i, REQUEST_REPAIRED);
        assert_int_equal(request_put(people.txn, &row), OK);
    }
    size_t count = 0;
    assert_int_equal(request_each_open(people.txn, complete_it, &count), OK);
    assert_int_equal(count, 300);
    struct seen seen = {0};
    assert_int_equal(request_each_open(people.txn, note_request, &seen), OK);
    assert_int_equal(seen.count, 0);
}

static bool note_pending(void *context, uint64_t sequence, uint32_t index,
                         const struct pending *pending)
{
    struct seen *const seen = context;
    seen->sequence[seen->count] = sequence;
    seen->index[seen->count] = index;
    seen->pending[seen->count++] = *pending;
    return seen->count != seen->fail_after;
}

static void test_pending_by_request_and_of_all(void **state)
{
    (void)state;
    const struct pending record = {.is_record = true, .record = people_key(1, 2, 3, 4, 5)};
    const struct pending weights = {.instance = UINT64_MAX};
    assert_int_equal(pending_put(people.txn, 256, 0, &weights), OK);
    assert_int_equal(pending_put(people.txn, 255, 256, &record), OK);
    assert_int_equal(pending_put(people.txn, 255, 0, &weights), OK);
    assert_int_equal(pending_put(people.txn, 255, 255, &record), OK);
    struct seen seen = {0};
    assert_int_equal(pending_walk(people.txn, 0, note_pending, &seen), OK);
    assert_int_equal(seen.count, 4);
    assert_int_equal(seen.sequence[2], 255);
    assert_int_equal(seen.sequence[3], 256);
    seen = (struct seen){0};
    assert_int_equal(pending_walk(people.txn, 255, note_pending, &seen), OK);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.index[0], 0);
    assert_int_equal(seen.index[1], 255);
    assert_int_equal(seen.index[2], 256);
    assert_false(seen.pending[0].is_record);
    assert_int_equal(seen.pending[0].instance, UINT64_MAX);
    assert_true(seen.pending[1].is_record);
    uint8_t found[RECORD_KEY_BYTES], expected[RECORD_KEY_BYTES];
    record_key_put(&seen.pending[1].record, found);
    record_key_put(&record.record, expected);
    assert_memory_equal(found, expected, sizeof found);
    seen = (struct seen){.fail_after = 1};
    assert_int_equal(pending_walk(people.txn, 0, note_pending, &seen), OK);
    assert_int_equal(seen.count, 1);
    assert_int_equal(pending_drop(people.txn, 255, 255), OK);
    assert_int_equal(pending_drop(people.txn, 255, 255), OK); // Gone already.
    seen = (struct seen){0};
    assert_int_equal(pending_walk(people.txn, 255, note_pending, &seen), OK);
    assert_int_equal(seen.count, 2);
    assert_int_equal(pending_walk(people.txn, 254, note_pending, &seen), OK);
    assert_int_equal(seen.count, 2);
}

static enum err note_awaited(void *context, uint64_t sequence, const struct awaited *awaited)
{
    struct seen *const seen = context;
    seen->sequence[seen->count] = sequence;
    seen->awaited[seen->count++] = *awaited;
    return seen->count == seen->fail_after ? err_raise(ERR_CANCELLED, "enough") : OK;
}

static void test_awaited_components(void **state)
{
    (void)state;
    struct awaited awaited = {.model = 1};
    static const char *const names[] = {"s3:[2,0,1]", "s3:[2,0]", "s300:[199]"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(component_get(names[i], &awaited.name), OK);
        assert_int_equal(awaited_put(people.txn, 7, &awaited), OK);
        assert_int_equal(awaited_put(people.txn, 7, &awaited), OK); // Twice is once.
    }
    awaited.was_valid = true;
    memset(awaited.commitment.bytes, 0x5A, DIGEST_BYTES);
    assert_int_equal(awaited_put(people.txn, 8, &awaited), OK);
    struct awaited longest = {.model = UINT32_MAX, .name = {.count = LIMIT_SLICES}};
    for (uint16_t i = 0; i < LIMIT_SLICES; i++) {
        longest.name.list[i] = i;
    }
    assert_int_equal(awaited_put(people.txn, UINT64_MAX, &longest), OK);
    struct seen seen = {0};
    assert_int_equal(awaited_walk(people.txn, 7, note_awaited, &seen), OK);
    assert_int_equal(seen.count, 3);
    static const char *const order[] = {"s3:[2,0]", "s3:[2,0,1]", "s300:[199]"};
    for (size_t i = 0; i < 3; i++) {
        char text[COMPONENT_TEXT_BYTES];
        component_put(&seen.awaited[i].name, text);
        assert_string_equal(text, order[i]);
        assert_int_equal(seen.awaited[i].model, 1);
        assert_int_equal(seen.sequence[i], 7);
    }
    assert_int_equal(awaited_drop_all(people.txn, 7), OK);
    assert_int_equal(awaited_drop_all(people.txn, 7), OK);
    seen = (struct seen){0};
    assert_int_equal(awaited_walk(people.txn, 0, note_awaited, &seen), OK);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.sequence[0], 8);
    assert_true(seen.awaited[0].was_valid && !seen.awaited[1].was_valid);
    assert_memory_equal(&seen.awaited[0].commitment, &awaited.commitment, DIGEST_BYTES);
    assert_int_equal(seen.sequence[1], UINT64_MAX);
    assert_true(component_equal(&seen.awaited[1].name, &longest.name));
    seen = (struct seen){.fail_after = 1};
    assert_int_equal(awaited_walk(people.txn, 0, note_awaited, &seen), ERR_CANCELLED);
    assert_int_equal(seen.count, 1);
}

static void test_damaged_journal_is_corrupt(void **state)
{
    (void)state;
    const struct request_row row = request(3, REQUEST_FENCED);
    struct request_row found;
    struct seen seen = {0};
    assert_int_equal(request_put(people.txn, &row), OK);
    struct kv_key key = {0};
    kv_key_u64(&key, 3);
    struct span value;
    assert_int_equal(value_get(people.txn, KV_REQUEST, kv_key_span(&key), &value), OK);
    struct buf bytes = {0};
    buf_put(&bytes, value);
    bytes.data[2 * ID_BYTES] = 9; // The kind.
    assert_int_equal(value_put(people.txn, KV_REQUEST, kv_key_span(&key), buf_span(&bytes)), OK);
    assert_int_equal(request_get(people.txn, 3, &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table request, entry 3: kind 9 and state 1"));
    bytes.data[2 * ID_BYTES] = 1; // Control.
    assert_int_equal(value_put(people.txn, KV_REQUEST, kv_key_span(&key), buf_span(&bytes)), OK);
    assert_int_equal(request_get(people.txn, 3, &found), OK);
    bytes.bytes--;
    assert_int_equal(value_put(people.txn, KV_REQUEST, kv_key_span(&key), buf_span(&bytes)), OK);
    assert_int_equal(request_get(people.txn, 3, &found), ERR_CORRUPT);
    assert_int_equal(request_each_open(people.txn, note_request, &seen), ERR_CORRUPT);
    assert_int_equal(kv_drop(&people.txn->kv, KV_REQUEST, kv_key_span(&key)), OK);
    assert_int_equal(request_find(people.txn, &row.uuid, &found), ERR_CORRUPT);
    buf_deinit(&bytes);

    const struct pending weights = {.instance = 1};
    assert_int_equal(pending_put(people.txn, 4, 0, &weights), OK);
    struct kv_key pending = {0};
    kv_key_u64(&pending, 4);
    kv_key_u32(&pending, 0);
    assert_int_equal(
        value_put(people.txn, KV_PENDING, kv_key_span(&pending), span_of("x12345678", 9)), OK);
    assert_int_equal(pending_walk(people.txn, 4, note_pending, &seen), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table pending, entry 4"));
    assert_int_equal(value_put(people.txn, KV_PENDING, kv_key_span(&pending), span_of("r123", 4)),
                     OK);
    assert_int_equal(pending_walk(people.txn, 4, note_pending, &seen), ERR_CORRUPT);
    assert_int_equal(pending_drop(people.txn, 4, 0), OK);
    kv_key_u8(&pending, 0);
    assert_int_equal(value_put(people.txn, KV_PENDING, kv_key_span(&pending), span_of("", 0)), OK);
    assert_int_equal(pending_walk(people.txn, 4, note_pending, &seen), ERR_CORRUPT);

    assert_int_equal(value_put(people.txn, KV_AWAITED, kv_key_span(&key), span_of("", 0)), OK);
    assert_int_equal(awaited_walk(people.txn, 3, note_awaited, &seen), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table awaited, entry 3"));
    assert_int_equal(kv_drop(&people.txn->kv, KV_AWAITED, kv_key_span(&key)), OK);
    struct kv_key awaited = key;
    kv_key_u32(&awaited, 1);
    kv_key_u32(&awaited, 2);
    kv_key_u16(&awaited, 0);
    assert_int_equal(value_put(people.txn, KV_AWAITED, kv_key_span(&awaited), span_of("x", 1)), OK);
    assert_int_equal(awaited_walk(people.txn, 3, note_awaited, &seen), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "a value of 1 bytes"));
}

static void test_models_of_a_request(void **state)
{
    (void)state;
    struct request_model model = {.model = 2, .name = "m"}, found;
    memset(model.spec.bytes, 1, DIGEST_BYTES);
    memset(model.schema.bytes, 2, DIGEST_BYTES);
    assert_int_equal(request_model_put(people.txn, 3, &model), OK);
    assert_int_equal(request_model_put(people.txn, 4, &model), OK);
    assert_int_equal(request_model_get(people.txn, 3, 1, &found), ERR_NOT_FOUND);
    assert_int_equal(request_model_get(people.txn, 3, 2, &found), OK);
    assert_memory_equal(&found, &model, sizeof found);
    assert_int_equal(request_model_drop_all(people.txn, 3), OK);
    assert_int_equal(request_model_get(people.txn, 3, 2, &found), ERR_NOT_FOUND);
    assert_int_equal(request_model_get(people.txn, 4, 2, &found), OK);
    struct kv_key key = {0};
    kv_key_u64(&key, 4);
    kv_key_u32(&key, 2);
    assert_int_equal(
        value_put(people.txn, KV_REQUEST_MODEL, kv_key_span(&key), span_of("\1\0m", 3)), OK);
    assert_int_equal(request_model_get(people.txn, 4, 2, &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table request_model, entry 4"));
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_every_field_comes_back),
        CASE(test_unknown_requests_are_not_found),
        CASE(test_a_uuid_stands_for_one_request),
        CASE(test_open_requests_in_order),
        CASE(test_all_requests_in_order),
        CASE(test_open_requests_may_be_completed_on_the_way),
        CASE(test_pending_by_request_and_of_all),
        CASE(test_awaited_components),
        CASE(test_damaged_journal_is_corrupt),
        CASE(test_models_of_a_request),
    };
#undef CASE
    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
