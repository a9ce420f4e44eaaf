// tests/unit/test_uploads.c: an import lands whole or not at all, however a client hurries.
//
// Method: the coordinator's memory with a real store and a real socket, but no loop: requests are
// handed in one by one and the store thread's results are taken only when the test says so. So a
// commit can be queued behind a chunk whose refusal nobody has heard of yet.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coordinator/core.h"
#include "tests/unit/scratch.h"

enum { MAP_BYTES = 16 << 20, PATIENCE_MS = 20000 };

static char dir[SCRATCH_BYTES];
static struct core *core;
static struct link *client;
static struct link_peer peer;
static struct wire_arena arena;
static struct buf schema_bytes;

static void make_schema(void)
{
    static char name[] = "a", label[] = "y", no[] = "no", yes[] = "yes";
    static char *classes[] = {no, yes};
    struct column columns[1] = {{.name = name, .kind = COLUMN_NUMERIC, .width = 1, .scale = 1}};
    const struct schema schema = {.columns = columns,
                                  .column_count = 1,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = classes,
                                  .class_count = 2};
    assert_int_equal(schema_check(&schema), OK);
    schema_put(&schema, &schema_bytes);
}

// The first message tells the socket's name for the client.
static void meet(void)
{
    const int64_t until = clock_mono_ms() + PATIENCE_MS;
    struct link_message message;
    bool ready = false;
    while (link_send(client, NULL, span_text("hello"), span_of(NULL, 0)) != OK) {
        assert_true(clock_mono_ms() < until);
        assert_int_equal(link_wait(&client, &ready, 1, NULL, 0, 5), OK);
    }
    assert_int_equal(link_wait(&core->clients, &ready, 1, NULL, 0, PATIENCE_MS), OK);
    assert_int_equal(link_receive(core->clients, &message), OK);
    peer = message.peer;
}

static int set_up(void **state)
{
    (void)state;
    char endpoint[LINK_ENDPOINT_BYTES];
    assert_true(scratch_make(dir));
    assert_int_equal(store_create(dir), OK);
    core = mem_alloc(1, sizeof *core);
    core->now_ms = clock_mono_ms();
    assert_int_equal(storage_open(dir, MAP_BYTES, &core->storage), OK);
    assert_int_equal(catalog_load(core), OK);
    assert_int_equal(link_context_open(&core->context), OK);
    assert_int_equal(link_open(core->context, LINK_ROUTER, &core->clients), OK);
    assert_int_equal(link_bind(core->clients, "tcp://127.0.0.1:*", endpoint), OK);
    assert_int_equal(link_open(core->context, LINK_DEALER, &client), OK);
    assert_int_equal(link_connect(client, endpoint), OK);
    make_schema();
    meet();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    storage_drain(core->storage, core);
    uploads_free(core);
    catalog_free(core);
    storage_close(core->storage);
    link_close(client);
    link_close(core->clients);
    link_context_close(core->context);
    buf_deinit(&core->frame);
    wire_arena_deinit(&core->arena);
    mem_free(core);
    wire_arena_deinit(&arena);
    buf_deinit(&schema_bytes);
    scratch_remove(dir);
    return 0;
}

// Hands a request to the coordinator as the loop would.
static void ask(Unlearn__Request *request, uint64_t number, struct span raw)
{
    struct buf frame = {0};
    request->version = WIRE_VERSION;
    request->request_id = number;
    wire_put(&request->base, &frame);
    const struct link_message message = {.peer = peer, .envelope = buf_span(&frame), .raw = raw};
    clients_message(core, &message);
    buf_deinit(&frame);
}

static const Unlearn__Reply *answer(uint64_t number)
{
    struct link_message message;
    const Unlearn__Reply *reply = NULL;
    bool ready = false;
    assert_int_equal(link_wait(&client, &ready, 1, NULL, 0, PATIENCE_MS), OK);
    assert_int_equal(link_receive(client, &message), OK);
    assert_int_equal(wire_get_reply(&arena, message.envelope, &reply), OK);
    assert_int_equal(reply->request_id, number);
    return reply;
}

static uint64_t begin(void)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ImportBegin body = UNLEARN__IMPORT_BEGIN__INIT;
    body.dataset = wire_text("people");
    body.schema = wire_bytes(buf_span(&schema_bytes));
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_BEGIN;
    request.import_begin = &body;
    ask(&request, 1, span_of(NULL, 0));
    storage_drain(core->storage, core);
    const Unlearn__Reply *const reply = answer(1);
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_IMPORT_READY);
    return reply->import_ready->import;
}

// One record; `value_bytes` of its value, 4 where it is a good one.
static void send_chunk(uint64_t import, uint64_t sequence, size_t value_bytes)
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
    body.import = import;
    body.sequence = sequence;
    body.count = 1;
    body.first_row = sequence;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_CHUNK;
    request.import_chunk = &body;
    ask(&request, 10 + sequence, buf_span(&raw));
    buf_deinit(&raw);
}

static void send_commit(uint64_t import)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ImportCommit body = UNLEARN__IMPORT_COMMIT__INIT;
    body.import = import;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_COMMIT;
    request.import_commit = &body;
    ask(&request, 99, span_of(NULL, 0));
}

static void test_a_commit_behind_good_chunks(void **state) // control of the next one
{
    (void)state;
    const uint64_t import = begin();
    for (uint64_t i = 0; i < 3; i++) {
        send_chunk(import, i, sizeof(float));
    }
    send_commit(import);
    storage_drain(core->storage, core);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(answer(10 + i)->body_case, UNLEARN__REPLY__BODY_IMPORT_STAGED);
    }
    const Unlearn__Reply *const reply = answer(99);
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_IMPORT_DONE);
    assert_int_equal(reply->import_done->records, 3);
    assert_int_equal(core->dataset_count, 1);
    assert_int_equal(core->datasets[0]->row.record_count, 3);
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
        storage_drain(core->storage, core);
        for (uint64_t i = 0; i < 3; i++) {
            assert_int_equal(answer(10 + i)->status, i == bad
                                                         ? UNLEARN__STATUS__STATUS_INVALID_ARGUMENT
                                                         : UNLEARN__STATUS__STATUS_OK);
        }
        const Unlearn__Reply *const reply = answer(99);
        assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
        assert_non_null(strstr(reply->message, "was refused"));
        assert_int_equal(core->dataset_count, 0); // Nothing has landed.
    }
}

// An envelope that breaks a rule is answered under its own number: the client does not wait in vain.
static void test_a_refused_envelope_is_answered(void **state)
{
    (void)state;
    static const uint8_t bad[] = {0x08, 1, 0x10, 5, 0x62, 6, 0x0a, 1, 'd', 0x98, 6, 1};
    const struct link_message message = {.peer = peer, .envelope = span_of(bad, sizeof bad)};
    clients_message(core, &message);
    const Unlearn__Reply *const reply = answer(5);
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
    const struct link_peer nobody = {{0, 9, 9, 9, 9}}, real = peer;
    peer = nobody; // Their answers would fill the socket.
    while (!storage_is_full(core->storage)) {
        ask(&request, 7, span_of(NULL, 0));
    }
    peer = real;
    ask(&request, 8, span_of(NULL, 0));
    const Unlearn__Reply *reply = answer(8);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED);
    Unlearn__DatasetList list = UNLEARN__DATASET_LIST__INIT;
    request.body_case = UNLEARN__REQUEST__BODY_DATASET_LIST;
    request.dataset_list = &list;
    ask(&request, 9, span_of(NULL, 0));
    assert_int_equal(answer(9)->status, UNLEARN__STATUS__STATUS_OK);
    storage_drain(core->storage, core);
    request.body_case = UNLEARN__REQUEST__BODY_REQUEST_SHOW; // control: there is room again
    request.request_show = &show;
    ask(&request, 10, span_of(NULL, 0));
    storage_drain(core->storage, core);
    assert_int_equal(answer(10)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
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
        WITH_CORE(test_a_refused_envelope_is_answered),
        WITH_CORE(test_a_full_queue_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
