// tests/unit/test_unlearn_base.c: bases up and down against a coordinator made for the test.
//
// Method: a thread with a ROUTER keeps the chunks that come unanswered for as long as it may and gives
// back what the test says, whole or damaged. The real coordinator is met in test_bases.c and end to end.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "client/unlearn.h"
#include "model/base.h"
#include "proto/link.h"
#include "proto/wire.h"

enum { HELD_MAX = 16, IDLE_MS = 100, PATIENCE_MS = 20000, CHUNKS = 6, UPLOAD = 33 };
enum damage { DAMAGE_NONE, DAMAGE_SHORT, DAMAGE_BYTE, DAMAGE_SEQUENCE, DAMAGE_OTHER };

// What the coordinator of a test does and what it saw. Read by the test once the thread has ended.
struct peer {
    struct link_context *context;
    struct link *link;
    char endpoint[LINK_ENDPOINT_BYTES];
    pthread_t thread;
    _Atomic bool stop;

    const struct base *base; // What it has, or expects.
    bool there;
    int refuse_chunk; // -1: none.
    enum damage damage;

    int held, held_max; // Chunks received and not yet answered.
    struct link_peer held_peers[HELD_MAX];
    uint64_t held_ids[HELD_MAX];
    uint32_t held_sequences[HELD_MAX];
    uint32_t next_sequence;
    bool wrong_chunk, committed;
    _Atomic bool aborted;
    uint32_t pulls;
};

static struct base *base;

static int set_up(void **state)
{
    (void)state;
    static const struct base_shape shape = {.kind = BASE_TEXT,
                                            .layers = 2,
                                            .width = 128,
                                            .heads = 2,
                                            .inner = 2500,
                                            .epsilon = 1e-5,
                                            .context = 8};
    const uint64_t count = base_at(&shape).count;
    float *weights = NULL;
    assert_int_equal(base_shape_check(&shape), OK);
    assert_int_equal((count * sizeof(float) + LIMIT_CHUNK_BYTES - 1) / LIMIT_CHUNK_BYTES, CHUNKS);
    assert_int_equal(mem_try_aligned((size_t)count, sizeof *weights, &weights), OK);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] = (float)(i % 4099) - 2000;
    }
    base = base_new(&shape, weights);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    base_release(base);
    return 0;
}

// --- The coordinator

static void answer(struct peer *peer, const struct link_peer *to, Unlearn__Reply *reply,
                   uint64_t request_id, struct span raw)
{
    struct buf frame = {0};
    reply->version = WIRE_VERSION;
    reply->request_id = request_id;
    reply->status = reply->status == 0 ? UNLEARN__STATUS__STATUS_OK : reply->status;
    wire_put(&reply->base, &frame);
    const enum err err = link_send(peer->link, to, buf_span(&frame), raw);
    (void)err; // A client that has gone.
    buf_deinit(&frame);
}

static struct span chunk_of(const struct base *of, uint32_t sequence)
{
    const size_t bytes = (size_t)of->weight_count * sizeof(float);
    const size_t from = (size_t)sequence * LIMIT_CHUNK_BYTES;
    const size_t left = from < bytes ? bytes - from : 0;
    return span_of((const uint8_t *)of->weights + from,
                   left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES);
}

static void release_chunks(struct peer *peer)
{
    for (int i = 0; i < peer->held; i++) {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__BaseStaged staged = UNLEARN__BASE_STAGED__INIT;
        if (peer->refuse_chunk >= 0 && peer->held_sequences[i] == (uint32_t)peer->refuse_chunk) {
            reply.status = UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED;
            reply.message = wire_text("the store is nearly full");
        } else {
            staged.sequence = peer->held_sequences[i];
            reply.body_case = UNLEARN__REPLY__BODY_BASE_STAGED;
            reply.base_staged = &staged;
        }
        answer(peer, &peer->held_peers[i], &reply, peer->held_ids[i], span_of(NULL, 0));
    }
    peer->held = 0;
}

static void take_chunk(struct peer *peer, const struct link_message *message,
                       const Unlearn__Request *request)
{
    const Unlearn__BaseChunk *const chunk = request->base_chunk;
    peer->wrong_chunk = peer->wrong_chunk || chunk->upload != UPLOAD ||
                        chunk->sequence != peer->next_sequence ||
                        !span_equal(message->raw, chunk_of(peer->base, chunk->sequence));
    peer->next_sequence++;
    if (peer->held < HELD_MAX) {
        peer->held_peers[peer->held] = message->peer;
        peer->held_ids[peer->held] = request->request_id;
        peer->held_sequences[peer->held++] = chunk->sequence;
    }
    peer->held_max = peer->held > peer->held_max ? peer->held : peer->held_max;
}

static void answer_info(struct peer *peer, const struct link_message *message,
                        const Unlearn__Request *request)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BaseInfo info = UNLEARN__BASE_INFO__INIT;
    info.name = wire_text("small");
    info.state = UNLEARN__BASE_STATE__BASE_STATE_VALID;
    info.weight_count = peer->base->weight_count;
    reply.body_case = UNLEARN__REPLY__BODY_BASE_INFO;
    reply.base_info = &info;
    answer(peer, &message->peer, &reply, request->request_id, span_of(NULL, 0));
}

// The second chunk is damaged.
static void answer_pull(struct peer *peer, const struct link_message *message,
                        const Unlearn__Request *request)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BaseWeights weights = UNLEARN__BASE_WEIGHTS__INIT;
    const uint32_t sequence = request->base_pull->sequence;
    const enum damage damage = sequence == 1 ? peer->damage : DAMAGE_NONE;
    uint8_t digest[DIGEST_BYTES];
    struct buf bytes = {0};
    memcpy(digest, peer->base->digest.bytes, sizeof digest);
    buf_put(&bytes, chunk_of(peer->base, sequence));
    bytes.bytes -= damage == DAMAGE_SHORT ? sizeof(float) : 0;
    bytes.data[100] ^= damage == DAMAGE_BYTE ? 1 : 0;
    digest[0] ^= damage == DAMAGE_OTHER ? 1 : 0;
    weights.sequence = sequence + (damage == DAMAGE_SEQUENCE ? 1 : 0);
    weights.last = sequence + 1 == CHUNKS;
    weights.digest = wire_bytes(span_of(digest, sizeof digest));
    reply.body_case = UNLEARN__REPLY__BODY_BASE_WEIGHTS;
    reply.base_weights = &weights;
    peer->pulls++;
    answer(peer, &message->peer, &reply, request->request_id, buf_span(&bytes));
    buf_deinit(&bytes);
}

static void answer_ready(struct peer *peer, const struct link_message *message,
                         const Unlearn__Request *request)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BaseReady ready = UNLEARN__BASE_READY__INIT;
    ready.upload = peer->there ? 0 : UPLOAD;
    ready.there = peer->there;
    reply.body_case = UNLEARN__REPLY__BODY_BASE_READY;
    reply.base_ready = &ready;
    answer(peer, &message->peer, &reply, request->request_id, span_of(NULL, 0));
}

static void take(struct peer *peer, const struct link_message *message,
                 const Unlearn__Request *request)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Pong pong = UNLEARN__PONG__INIT;
    switch ((int)request->body_case) {
    case UNLEARN__REQUEST__BODY_PING:
        reply.body_case = UNLEARN__REPLY__BODY_PONG;
        reply.pong = &pong;
        answer(peer, &message->peer, &reply, request->request_id, span_of(NULL, 0));
        return;
    case UNLEARN__REQUEST__BODY_BASE_BEGIN:
        answer_ready(peer, message, request);
        return;
    case UNLEARN__REQUEST__BODY_BASE_CHUNK:
        take_chunk(peer, message, request);
        return;
    case UNLEARN__REQUEST__BODY_BASE_COMMIT:
        peer->committed = request->base_commit->upload == UPLOAD;
        answer_info(peer, message, request);
        return;
    case UNLEARN__REQUEST__BODY_BASE_SHOW:
        answer_info(peer, message, request);
        return;
    case UNLEARN__REQUEST__BODY_BASE_ABORT:
        peer->aborted = true;
        return;
    case UNLEARN__REQUEST__BODY_BASE_PULL:
        answer_pull(peer, message, request);
        return;
    default:
        return;
    }
}

static void *serve(void *context)
{
    struct peer *const peer = context;
    struct wire_arena arena = {0};
    while (!peer->stop) {
        struct link_message message;
        const Unlearn__Request *request;
        bool ready = false;
        if (link_receive(peer->link, &message) == OK) {
            if (wire_get_request(&arena, message.envelope, &request) == OK) {
                take(peer, &message, request);
            }
        } else if (link_wait(&peer->link, &ready, 1, NULL, 0, IDLE_MS) != OK || !ready) {
            release_chunks(peer); // As late as it may, so that a client that sends more is noticed.
        }
    }
    wire_arena_deinit(&arena);
    return NULL;
}

static struct unlearn *peer_start(struct peer *peer)
{
    struct unlearn *client = NULL;
    peer->base = base;
    assert_int_equal(link_context_open(&peer->context), OK);
    assert_int_equal(link_open(peer->context, LINK_ROUTER, NULL, &peer->link), OK);
    assert_int_equal(link_bind(peer->link, "tcp://127.0.0.1:*", peer->endpoint), OK);
    assert_int_equal(pthread_create(&peer->thread, NULL, serve, peer), 0);
    assert_int_equal(unlearn_open(peer->endpoint, NULL, &client), OK);
    return client;
}

static void peer_stop(struct peer *peer, struct unlearn *client)
{
    unlearn_close(client);
    peer->stop = true;
    pthread_join(peer->thread, NULL);
    link_close(peer->link);
    link_context_close(peer->context);
}

// --- Up

static void note(void *context, uint64_t done, uint64_t total)
{
    uint64_t *const last = context;
    assert_true(done > *last && done <= total);
    *last = done;
}

static void test_a_base_goes_up_by_credit(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    struct unlearn *const client = peer_start(&peer);
    const Unlearn__BaseInfo *info;
    uint64_t done = 0;
    bool there = true;
    const struct unlearn_watch watch = {note, &done};
    assert_int_equal(unlearn_base_import(client, "small", base, &watch, &there, &info), OK);
    assert_false(there);
    assert_string_equal(info->name, "small");
    assert_int_equal(done, base->weight_count * sizeof(float));
    peer_stop(&peer, client);
    assert_true(peer.committed);
    assert_false(peer.wrong_chunk);
    assert_int_equal(peer.next_sequence, CHUNKS);
    assert_int_equal(peer.held_max, LIMIT_CREDIT);
    assert_false(peer.aborted);
}

static void test_what_is_there_is_not_sent(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1, .there = true};
    struct unlearn *const client = peer_start(&peer);
    const Unlearn__BaseInfo *info;
    bool there = false;
    assert_int_equal(unlearn_base_import(client, "small", base, NULL, &there, &info), OK);
    assert_true(there);
    assert_string_equal(info->name, "small");
    peer_stop(&peer, client);
    assert_int_equal(peer.next_sequence, 0);
}

static void test_a_refused_chunk_ends_it(void **state)
{
    (void)state;
    for (int refused = 0; refused < CHUNKS; refused++) {
        struct peer peer = {.refuse_chunk = refused};
        struct unlearn *const client = peer_start(&peer);
        const Unlearn__BaseInfo *info;
        bool there = false;
        assert_int_equal(unlearn_base_import(client, "small", base, NULL, &there, &info),
                         ERR_LIMIT);
        assert_string_equal(err_text(), "the store is nearly full");
        const int64_t end_ms = clock_mono_ms() + PATIENCE_MS;
        while (!peer.aborted && clock_mono_ms() < end_ms) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
        assert_true(peer.aborted);
        peer_stop(&peer, client);
        assert_false(peer.committed);
    }
}

// --- Down

static enum err pull(struct peer *peer, struct base **base_out)
{
    struct unlearn *const client = peer_start(peer);
    struct buf shape = {0};
    *base_out = NULL;
    base_shape_put(&base->shape, &shape);
    const enum err err =
        unlearn_base_pull(client, "small", buf_span(&shape), &base->digest, NULL, base_out);
    buf_deinit(&shape);
    peer_stop(peer, client);
    return err;
}

static void test_a_base_comes_down(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    struct base *found;
    assert_int_equal(pull(&peer, &found), OK);
    assert_int_equal(peer.pulls, CHUNKS);
    assert_memory_equal(&found->digest, &base->digest, sizeof base->digest);
    assert_memory_equal(found->weights, base->weights, base->weight_count * sizeof(float));
    base_release(found);
}

static void test_damaged_weights_are_refused(void **state)
{
    (void)state;
    static const char *const words[] = {[DAMAGE_SHORT] = "expected 1048576 bytes",
                                        [DAMAGE_BYTE] = "another digest",
                                        [DAMAGE_SEQUENCE] = "as chunk 2",
                                        [DAMAGE_OTHER] = "of another base"};
    for (enum damage damage = DAMAGE_SHORT; damage <= DAMAGE_OTHER; damage++) {
        struct peer peer = {.refuse_chunk = -1, .damage = damage};
        struct base *found;
        assert_int_equal(pull(&peer, &found), ERR_CORRUPT);
        assert_null(found);
        assert_non_null(strstr(err_text(), words[damage]));
    }
}

int main(void)
{
    alarm(
        120); // A test that fails leaves its sockets open, and closing their context waits for them.
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_a_base_goes_up_by_credit),    CASE(test_what_is_there_is_not_sent),
        CASE(test_a_refused_chunk_ends_it),     CASE(test_a_base_comes_down),
        CASE(test_damaged_weights_are_refused),
    };
#undef CASE
    return digest_start() != OK ||
           cmocka_run_group_tests_name("unlearn_base", tests, NULL, NULL) != 0;
}
