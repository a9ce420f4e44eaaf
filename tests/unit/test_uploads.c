// tests/unit/test_uploads.c: an import lands whole or not at all, however a client hurries.
//
// Method: requests are handed to a coordinator without a loop (desk.h) and the store thread's results
// are taken only when the test says so. So a commit can be queued behind a chunk whose refusal nobody
// has heard of yet.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/desk.h"

static struct desk desk;
static struct buf schema_bytes;

static void make_schema(void)
{
    desk_schema(&schema_bytes);
}

static int set_up(void **state)
{
    (void)state;
    desk_open(&desk);
    make_schema();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    desk_close(&desk);
    buf_deinit(&schema_bytes);
    return 0;
}

static uint64_t begin_with(bool risk)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ImportBegin body = UNLEARN__IMPORT_BEGIN__INIT;
    body.dataset = wire_text("people");
    body.schema = wire_bytes(buf_span(&schema_bytes));
    body.risk = risk;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_BEGIN;
    request.import_begin = &body;
    desk_ask(&desk, &request, 1, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    const Unlearn__Reply *const reply = desk_answer(&desk, 1);
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_IMPORT_READY);
    return reply->import_ready->import;
}

static uint64_t begin(void)
{
    return begin_with(false);
}

// One record; `value_bytes` of its value, 4 where it is a good one.
static void send_chunk_of(uint64_t import, uint64_t sequence, size_t value_bytes, int risk)
{
    char id[24];
    struct buf raw = {0};
    static const float value = 1;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ImportChunk body = UNLEARN__IMPORT_CHUNK__INIT;
    snprintf(id, sizeof id, "%u", (unsigned)sequence);
    buf_short_text(&raw, id);
    buf_u16(&raw, 0); // No subject.
    buf_u32(&raw, (uint32_t)(2 + value_bytes));
    buf_u16(&raw, 1); // Class.
    buf_put(&raw, span_of(&value, value_bytes));
    if (risk >= 0) {
        buf_u8(&raw, (uint8_t)risk);
    }
    body.import = import;
    body.sequence = sequence;
    body.count = 1;
    body.first_row = sequence;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_CHUNK;
    request.import_chunk = &body;
    desk_ask(&desk, &request, 10 + sequence, buf_span(&raw));
    buf_deinit(&raw);
}

static void send_chunk(uint64_t import, uint64_t sequence, size_t value_bytes)
{
    send_chunk_of(import, sequence, value_bytes, -1);
}

static void send_commit(uint64_t import)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ImportCommit body = UNLEARN__IMPORT_COMMIT__INIT;
    body.import = import;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_COMMIT;
    request.import_commit = &body;
    desk_ask(&desk, &request, 99, span_of(NULL, 0));
}

static void test_a_commit_behind_good_chunks(void **state) // control of the next one
{
    (void)state;
    const uint64_t import = begin();
    for (uint64_t i = 0; i < 3; i++) {
        send_chunk(import, i, sizeof(float));
    }
    send_commit(import);
    storage_drain(desk.core->storage, desk.core);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(desk_answer(&desk, 10 + i)->body_case, UNLEARN__REPLY__BODY_IMPORT_STAGED);
    }
    const Unlearn__Reply *const reply = desk_answer(&desk, 99);
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_IMPORT_DONE);
    assert_int_equal(reply->import_done->records, 3);
    assert_int_equal(desk.core->dataset_count, 1);
    assert_int_equal(desk.core->datasets[0]->row.record_count, 3);
}

static void test_a_commit_behind_a_refused_chunk(void **state)
{
    (void)state;
    for (uint64_t bad = 0; bad < 3; bad++) { // First, in the middle, last.
        const uint64_t import = begin();
        for (uint64_t i = 0; i < 3; i++) {
            send_chunk(import, i, i == bad ? sizeof(float) - 1 : sizeof(float));
        }
        send_commit(import);
        storage_drain(desk.core->storage, desk.core);
        for (uint64_t i = 0; i < 3; i++) {
            assert_int_equal(desk_answer(&desk, 10 + i)->status,
                             i == bad ? UNLEARN__STATUS__STATUS_INVALID_ARGUMENT
                                      : UNLEARN__STATUS__STATUS_OK);
        }
        const Unlearn__Reply *const reply = desk_answer(&desk, 99);
        assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
        assert_non_null(strstr(reply->message, "was refused"));
        assert_int_equal(desk.core->dataset_count, 0); // Nothing has landed.
    }
}

static const Unlearn__Dataset *ask_dataset(void)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__DatasetShow show = UNLEARN__DATASET_SHOW__INIT;
    show.dataset = wire_text("people");
    request.body_case = UNLEARN__REQUEST__BODY_DATASET_SHOW;
    request.dataset_show = &show;
    desk_ask(&desk, &request, 100, span_of(NULL, 0));
    const Unlearn__Reply *const reply = desk_answer(&desk, 100);
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_DATASET);
    return reply->dataset;
}

static void test_classes_come_with_the_records(void **state)
{
    (void)state;
    static const int risks[] = {3, 255, 0, 15};
    const uint64_t import = begin_with(true);
    for (uint64_t i = 0; i < 4; i++) {
        send_chunk_of(import, i, sizeof(float), risks[i]);
    }
    send_commit(import);
    storage_drain(desk.core->storage, desk.core);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(desk_answer(&desk, 10 + i)->body_case, UNLEARN__REPLY__BODY_IMPORT_STAGED);
    }
    assert_int_equal(desk_answer(&desk, 99)->import_done->records, 4);
    const Unlearn__Dataset *const dataset = ask_dataset();
    assert_int_equal(dataset->n_risk_records, LIMIT_RISK_CLASSES);
    for (size_t risk = 0; risk < dataset->n_risk_records; risk++) {
        assert_int_equal(dataset->risk_records[risk], risk == 0 ? 2 : risk == 3 || risk == 15);
    }
}

static void test_bad_classes_are_refused(void **state)
{
    (void)state;
    static const int risks[] = {16, 254, -1}; // -1: the frame ends before it.
    static const char *const said[] = {"row 0: risk class 16, expected 0 to 15",
                                       "row 0: risk class 254, expected 0 to 15",
                                       "record 0: the frame ends inside this record"};
    for (size_t i = 0; i < 3; i++) {
        const uint64_t import = begin_with(true);
        send_chunk_of(import, 0, sizeof(float), risks[i]);
        send_commit(import);
        storage_drain(desk.core->storage, desk.core);
        const Unlearn__Reply *const reply = desk_answer(&desk, 10);
        assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT);
        assert_non_null(strstr(reply->message, said[i]));
        assert_int_equal(desk_answer(&desk, 99)->status, UNLEARN__STATUS__STATUS_CONFLICT);
    }
    const uint64_t import = begin(); // Where none are declared, a byte more is one too many.
    send_chunk_of(import, 0, sizeof(float), 3);
    storage_drain(desk.core->storage, desk.core);
    assert_non_null(strstr(desk_answer(&desk, 10)->message, "has 1 bytes left over"));
    assert_int_equal(desk.core->dataset_count, 0);
}

// An envelope that breaks a rule is answered under its own number: the client does not wait in vain.
static void test_a_refused_envelope_is_answered(void **state)
{
    (void)state;
    static const uint8_t bad[] = {0x08, 1, 0x10, 5, 0x62, 6, 0x0a, 1, 'd', 0x98, 6, 1};
    const struct link_message message = {.peer = desk.peer, .envelope = span_of(bad, sizeof bad)};
    clients_message(desk.core, &message);
    const Unlearn__Reply *const reply = desk_answer(&desk, 5);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(reply->message, "field 99"));
}

// Requests that need the disk are refused while its queue is full; others are answered.
static void test_a_full_queue_refuses(void **state)
{
    (void)state;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__RequestShow show = UNLEARN__REQUEST_SHOW__INIT;
    static const uint8_t uuid[ID_BYTES] = {1};
    show.uuid = wire_bytes(span_of(uuid, sizeof uuid));
    request.body_case = UNLEARN__REQUEST__BODY_REQUEST_SHOW;
    request.request_show = &show;
    const struct link_peer nobody = {.bytes = {0, 9, 9, 9, 9}}, real = desk.peer;
    desk.peer = nobody; // Their answers would fill the socket.
    while (storage_count(desk.core->storage) <
           LIMIT_STORE_QUEUE - LIMIT_STORE_QUEUE_DELETIONS) { // The rest is for deletions.
        desk_ask(&desk, &request, 7, span_of(NULL, 0));
    }
    desk.peer = real;
    desk_ask(&desk, &request, 8, span_of(NULL, 0));
    const Unlearn__Reply *reply = desk_answer(&desk, 8);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED);
    Unlearn__DatasetList list = UNLEARN__DATASET_LIST__INIT;
    request.body_case = UNLEARN__REQUEST__BODY_DATASET_LIST;
    request.dataset_list = &list;
    desk_ask(&desk, &request, 9, span_of(NULL, 0));
    assert_int_equal(desk_answer(&desk, 9)->status, UNLEARN__STATUS__STATUS_OK);
    storage_drain(desk.core->storage, desk.core);
    request.body_case = UNLEARN__REQUEST__BODY_REQUEST_SHOW; // control: there is room again
    request.request_show = &show;
    desk_ask(&desk, &request, 10, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    assert_int_equal(desk_answer(&desk, 10)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
}

int main(void)
{
    alarm(
        120); // A test that fails leaves its sockets open, and closing their context waits for them.
    if (digest_start() != OK) {
        return 1;
    }
#define WITH_CORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_CORE(test_a_commit_behind_good_chunks),
        WITH_CORE(test_a_commit_behind_a_refused_chunk),
        WITH_CORE(test_classes_come_with_the_records),
        WITH_CORE(test_bad_classes_are_refused),
        WITH_CORE(test_a_refused_envelope_is_answered),
        WITH_CORE(test_a_full_queue_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
