// Goal: a worker's conversation, as the coordinator sees it: what it trains comes back with the same
// bits, what is cancelled or refused ends at once and says so, and a forgotten worker says hello.
// Method: the session runs in a thread of its own; the test plays the coordinator over real ZeroMQ
// on loopback. Every wait ends with the message that it waits for; 10 s without it is a failure.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/cover.h"
#include "proto/wire.h"
#include "shard_worker/session.h"
#include "tests/unit/tiny_stage.h"

enum { WAIT_MS = 10000, LONG_PASSES = 100000 };

struct world {
    struct tiny *tiny;
    struct link_context *context;
    struct link *router;
    struct link_peer worker;
    struct wire_arena arena;
    struct buf frame;
    char endpoint[LINK_ENDPOINT_BYTES];
    volatile sig_atomic_t stop;
    uint32_t silence_ms;  // Of the welcome.
    uint64_t cache_bytes; // Of the worker.
    pthread_t thread;
    bool running;
    enum err ended_with; // By the thread, read after it was joined.
    char ended_text[ERR_TEXT_BYTES];
    uint64_t beats;           // Seen on the way to other messages,
    Unlearn__WorkerBeat beat; // and the last of them.
    struct span raw;          // Of the last message.
};

// --- The other rank: member 0 of a group in which the worker is member 1. It plays along as `plan` says.

enum plan {
    PLAN_ABSENT, // The worker knows no groups.
    PLAN_NEVER_READY,
    PLAN_LATE,   // Not ready until the worker gives up.
    PLAN_SILENT, // Ready, then nothing until the worker gives up.
    PLAN_FULL,   // Sends as it should; its gradients are zeros.
};

static struct {
    enum plan plan;
    uint64_t lease;
    uint32_t ranks[2], count, index;
    uint64_t exchanges;
    uint32_t left_clean, left_broken;
} partner;

static enum err until_told(const struct group_waiter *waiter)
{
    while (waiter->go_on(waiter->context)) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return err_raise(ERR_CANCELLED, "told to give up");
}

static enum err partner_join(uint64_t lease, const uint32_t *ranks, uint32_t count, uint32_t index,
                             const struct group_waiter *waiter)
{
    partner.lease = lease;
    partner.count = count;
    partner.index = index;
    memcpy(partner.ranks, ranks, sizeof partner.ranks);
    return partner.plan == PLAN_NEVER_READY ? err_raise(ERR_UNAVAILABLE, "the others did not come")
           : partner.plan == PLAN_LATE      ? until_told(waiter)
                                            : OK;
}

static enum err partner_exchange(uint32_t with, const float *mine, float *theirs_out,
                                 uint64_t count, const struct group_waiter *waiter)
{
    (void)mine;
    partner.exchanges += with == 0;
    if (theirs_out != NULL) {
        memset(theirs_out, 0, count * sizeof *theirs_out);
    }
    return partner.plan == PLAN_SILENT ? until_told(waiter) : OK;
}

static void partner_leave(bool clean)
{
    partner.left_clean += clean;
    partner.left_broken += !clean;
}

static bool partner_progress(void)
{
    return false;
}

static const struct group_calls partner_calls = {partner_join, partner_exchange, partner_leave,
                                                 partner_progress};

// --- The worker

static void *be_worker(void *context)
{
    struct world *const world = context;
    struct session_options options = {.endpoint = world->endpoint,
                                      .host = "box",
                                      .pid = 77,
                                      .rank = 1,
                                      .ranks = 2,
                                      .fleet = {9, 8, 7},
                                      .core = "Test",
                                      .build = "test",
                                      .groups = partner.plan == PLAN_ABSENT ? NULL : &partner_calls,
                                      .stop = &world->stop,
                                      .cache_bytes = world->cache_bytes};
    memset(options.profile.bytes, 0x5A, sizeof options.profile.bytes);
    struct session *session = NULL;
    enum err err = session_open(world->context, &options, &session);
    while (err == OK) {
        err = session_turn(session, 20);
    }
    memcpy(world->ended_text, err_text(), sizeof world->ended_text);
    world->ended_with = err;
    session_close(session);
    return NULL;
}

static void join_worker(struct world *world)
{
    if (world->running) {
        world->running = false;
        assert_int_equal(pthread_join(world->thread, NULL), 0);
    }
}

// --- The coordinator

static const Unlearn__FromWorker *receive(struct world *world)
{
    const int64_t end_ms = clock_mono_ms() + WAIT_MS;
    while (clock_mono_ms() < end_ms) {
        bool ready = false;
        assert_int_equal(link_wait(&world->router, &ready, 1, NULL, 0, 100), OK);
        struct link_message message;
        if (!ready || link_receive(world->router, &message) != OK) {
            continue;
        }
        const Unlearn__FromWorker *from = NULL;
        assert_int_equal(wire_get_from_worker(&world->arena, message.envelope, &from), OK);
        world->worker = message.peer;
        world->raw = message.raw;
        return from;
    }
    fail_msg("the worker said nothing for %d ms", WAIT_MS);
    abort(); // Not reached.
}

// The next message of this kind. Beats and pulls past the end of a stream may come before it.
static const Unlearn__FromWorker *expect(struct world *world, Unlearn__FromWorker__BodyCase body)
{
    for (;;) {
        const Unlearn__FromWorker *const from = receive(world);
        if (from->body_case == UNLEARN__FROM_WORKER__BODY_BEAT) {
            world->beats++;
            world->beat = *from->beat;
        }
        if (from->body_case == body) {
            return from;
        }
        if (from->body_case != UNLEARN__FROM_WORKER__BODY_BEAT &&
            from->body_case != UNLEARN__FROM_WORKER__BODY_PULL &&
            from->body_case != UNLEARN__FROM_WORKER__BODY_HELD) {
            fail_msg("body %d came, expected %d", (int)from->body_case, (int)body);
        }
    }
}

static void tell(struct world *world, Unlearn__ToWorker *message, struct span raw)
{
    message->version = WIRE_VERSION;
    wire_put(&message->base, &world->frame);
    assert_int_equal(link_send(world->router, &world->worker, buf_span(&world->frame), raw), OK);
}

static void tell_welcome(struct world *world)
{
    Unlearn__Welcome welcome = UNLEARN__WELCOME__INIT;
    welcome.worker = 5;
    welcome.beat_ms = 40;
    welcome.silence_ms = world->silence_ms;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_WELCOME;
    message.welcome = &welcome;
    tell(world, &message, span_of(NULL, 0));
}

static void tell_lease(struct world *world)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_LEASE;
    message.lease = &world->tiny->offer;
    tell(world, &message, span_of(NULL, 0));
}

static void tell_cancel(struct world *world, uint64_t lease)
{
    Unlearn__Cancel cancel = UNLEARN__CANCEL__INIT;
    cancel.lease = lease;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_CANCEL;
    message.cancel = &cancel;
    tell(world, &message, span_of(NULL, 0));
}

static void tell_unknown(struct world *world)
{
    Unlearn__Unknown unknown = UNLEARN__UNKNOWN__INIT;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_UNKNOWN;
    message.unknown = &unknown;
    tell(world, &message, span_of(NULL, 0));
}

static void tell_weights_pull(struct world *world, uint64_t lease, uint32_t sequence)
{
    Unlearn__WeightsPull pull = UNLEARN__WEIGHTS_PULL__INIT;
    pull.lease = lease;
    pull.sequence = sequence;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_WEIGHTS_PULL;
    message.weights_pull = &pull;
    tell(world, &message, span_of(NULL, 0));
}

static void tell_chunk(struct world *world, Unlearn__StreamKind stream, uint32_t sequence,
                       uint32_t count, bool last, struct span raw)
{
    Unlearn__Chunk chunk = UNLEARN__CHUNK__INIT;
    chunk.lease = world->tiny->offer.lease;
    chunk.stream = stream;
    chunk.sequence = sequence;
    chunk.count = count;
    chunk.last = last;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_CHUNK;
    message.chunk = &chunk;
    const struct cover cover = {chunk.lease, (uint32_t)stream, world->tiny->offer.group_index,
                                sequence};
    struct buf sealed = {0};
    cover_put(world->tiny->offer.stream_key.data, &cover, raw, &sealed);
    tell(world, &message, buf_span(&sealed));
    buf_deinit(&sealed);
}

static void answer_pull(struct world *world, const Unlearn__WorkerPull *pull)
{
    const struct tiny *const tiny = world->tiny;
    if (pull->stream == UNLEARN__STREAM_KIND__STREAM_KIND_PARENT) {
        tell_chunk(world, pull->stream, pull->sequence, 0, true,
                   span_of(tiny->parent, tiny->param_count * sizeof(float)));
    } else { // Two records in each of three chunks.
        const bool past = pull->sequence >= RECORDS / 2;
        tell_chunk(
            world, pull->stream, pull->sequence, past ? 0 : 2,
            past || pull->sequence == RECORDS / 2 - 1,
            past ? span_of(NULL, 0)
                 : span_of(tiny->records + pull->sequence * 2 * RECORD_BYTES, 2 * RECORD_BYTES));
    }
}

// Answers the pulls of a lease until its last record has been sent.
static void serve_data(struct world *world)
{
    for (bool done = false; !done;) {
        const Unlearn__WorkerPull pull = *expect(world, UNLEARN__FROM_WORKER__BODY_PULL)->pull;
        assert_int_equal(pull.lease, world->tiny->offer.lease);
        done = pull.stream == UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS &&
               pull.sequence == RECORDS / 2 - 1;
        answer_pull(world, &pull);
    }
}

// Waits until a beat says that the stage is being trained.
static void expect_training(struct world *world, uint64_t lease)
{
    do {
        expect(world, UNLEARN__FROM_WORKER__BODY_BEAT);
    } while (world->beat.lease != lease || world->beat.samples_done == 0);
}

static void expect_idle(struct world *world)
{
    do {
        expect(world, UNLEARN__FROM_WORKER__BODY_BEAT);
    } while (world->beat.lease != 0);
}

static int setup_world(void **state, uint64_t cache_bytes, uint32_t silence_ms)
{
    log_start("test", LOG_ERROR + 1);
    struct world *const world = mem_alloc(1, sizeof *world);
    void *tiny = NULL;
    tiny_setup(&tiny);
    world->tiny = tiny;
    assert_int_equal(link_context_open(&world->context), OK);
    assert_int_equal(link_open(world->context, LINK_ROUTER, NULL, &world->router), OK);
    assert_int_equal(link_bind(world->router, "tcp://127.0.0.1:*", world->endpoint), OK);
    *state = world;
    world->cache_bytes = cache_bytes;
    world->silence_ms = silence_ms;
    assert_int_equal(pthread_create(&world->thread, NULL, be_worker, world), 0);
    world->running = true;
    return 0;
}

static int setup(void **state)
{
    return setup_world(state, 0, 0);
}

static int join(void **state)
{
    struct world *const world = *state;
    expect(world, UNLEARN__FROM_WORKER__BODY_HELLO);
    tell_welcome(world);
    return 0;
}

static int setup_joined(void **state)
{
    setup(state);
    return join(state);
}

// A worker that keeps cells and weights between stages.
static int setup_keeping(void **state)
{
    setup_world(state, 1 << 20, 0);
    return join(state);
}

// The same, and the coordinator must not leave it alone for long.
static int setup_impatient(void **state)
{
    setup_world(state, 1 << 20, 300);
    return join(state);
}

static int teardown(void **state)
{
    struct world *const world = *state;
    world->stop = 1;
    join_worker(world);
    link_close(world->router);
    link_context_close(world->context);
    wire_arena_deinit(&world->arena);
    buf_deinit(&world->frame);
    void *tiny = world->tiny;
    tiny_teardown(&tiny);
    mem_free(world);
    return 0;
}

// --- Tests

static void test_hello_says_who_and_bye_is_said(void **state)
{
    struct world *const world = *state;
    const Unlearn__WorkerHello *const hello =
        expect(world, UNLEARN__FROM_WORKER__BODY_HELLO)->hello;
    assert_string_equal(hello->host, "box");
    assert_int_equal(hello->pid, 77);
    assert_int_equal(hello->rank, 1);
    assert_int_equal(hello->ranks, 2);
    assert_int_equal(hello->fleet.len, ID_BYTES);
    assert_int_equal(hello->fleet.data[2], 7);
    assert_int_equal(hello->profile.len, DIGEST_BYTES);
    assert_int_equal(hello->profile.data[31], 0x5A);
    assert_string_equal(hello->core, "Test");
    assert_string_equal(hello->build, "test");
    tell_welcome(world);
    expect_idle(world);
    world->stop = 1;
    expect(world, UNLEARN__FROM_WORKER__BODY_BYE);
    join_worker(world);
    assert_int_equal(world->ended_with, ERR_CANCELLED);
}

static void test_refusal_ends_the_session(void **state)
{
    struct world *const world = *state;
    static char reason[] = "set OPENBLAS_CORETYPE=Haswell";
    expect(world, UNLEARN__FROM_WORKER__BODY_HELLO);
    Unlearn__Refused refused;
    unlearn__refused__init(&refused);
    refused.reason = reason;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_REFUSED;
    message.refused = &refused;
    tell(world, &message, span_of(NULL, 0));
    join_worker(world);
    assert_int_equal(world->ended_with, ERR_DENIED);
    assert_non_null(strstr(world->ended_text, reason));
}

static void test_beats_come_in_time(void **state)
{
    struct world *const world = *state; // Welcome asked for one each 40 ms.
    expect_idle(world);
    const int64_t start_ms = clock_mono_ms();
    for (int i = 0; i < 20; i++) {
        expect(world, UNLEARN__FROM_WORKER__BODY_BEAT);
    }
    // 800 ms and a slow machine; at the rate before the welcome it would be 10 s.
    assert_in_range(clock_mono_ms() - start_ms, 0, 8000);
}

static void test_stage_comes_back_bit_for_bit(void **state)
{
    struct world *const world = *state;
    struct tiny *const tiny = world->tiny;
    float *params = NULL;
    assert_int_equal(mem_try_aligned(tiny->param_count, sizeof *params, &params), OK);
    const struct digest expected = tiny_expected(tiny, tiny->offer.passes, params);

    tell_lease(world);
    serve_data(world);
    const Unlearn__StageDone *const done = expect(world, UNLEARN__FROM_WORKER__BODY_DONE)->done;
    assert_int_equal(done->lease, 11);
    assert_int_equal(done->samples, 3 * RECORDS);
    assert_int_equal(done->digest.len, DIGEST_BYTES);
    assert_memory_equal(done->digest.data, expected.bytes, DIGEST_BYTES);

    expect(world, UNLEARN__FROM_WORKER__BODY_BEAT); // The lease is kept alive meanwhile.
    assert_int_equal(world->beat.lease, 11);
    assert_int_equal(world->beat.samples_done, 3 * RECORDS);
    for (int i = 0; i < 2; i++) { // Asked for twice, sent twice.
        tell_weights_pull(world, 11, 0);
        const Unlearn__WeightsChunk *const chunk =
            expect(world, UNLEARN__FROM_WORKER__BODY_WEIGHTS)->weights;
        assert_int_equal(chunk->lease, 11);
        assert_int_equal(chunk->sequence, 0);
        const struct cover cover = {11, COVER_RESULT, 0, 0};
        uint8_t *const opened = mem_alloc(world->raw.bytes, 1);
        assert_int_equal(world->raw.bytes, tiny->param_count * sizeof(float) + SEAL_TAG_BYTES);
        assert_int_equal(cover_get(tiny->offer.stream_key.data, &cover, world->raw, opened), OK);
        assert_memory_equal(opened, params, tiny->param_count * sizeof(float));
        mem_free(opened);
    }
    mem_free(params);
    tell_weights_pull(world, 11, 1); // No such chunk: no answer.
    tell_weights_pull(world, 12, 0); // No such lease: no answer.
    tell_cancel(world, 11);          // The coordinator has all.
    expect_idle(world);
    tell_weights_pull(world, 11, 0); // Freed: no answer, and no crash.
    expect_idle(world);
}

static void test_compare_only_sends_no_weights(void **state)
{
    struct world *const world = *state;
    world->tiny->offer.compare_only = true;
    tell_lease(world);
    serve_data(world);
    expect(world, UNLEARN__FROM_WORKER__BODY_DONE);
    tell_weights_pull(world, 11, 0);
    expect_idle(world);
}

static void test_leases_follow_each_other(void **state)
{
    struct world *const world = *state;
    uint8_t first[DIGEST_BYTES] = {0};
    for (uint64_t lease = 11; lease < 14; lease++) { // Without a Cancel between them.
        world->tiny->offer.lease = lease;
        tell_lease(world);
        serve_data(world);
        const Unlearn__StageDone *const done = expect(world, UNLEARN__FROM_WORKER__BODY_DONE)->done;
        assert_int_equal(done->lease, lease);
        assert_true(lease == 11 || memcmp(first, done->digest.data, DIGEST_BYTES) == 0);
        memcpy(first, done->digest.data, DIGEST_BYTES);
    }
}

static void test_cancelled_stage_ends_at_once(void **state)
{
    struct world *const world = *state;
    world->tiny->offer.passes = LONG_PASSES;
    tell_lease(world);
    serve_data(world);
    expect_training(world, 11);
    assert_true(world->beat.samples_done < (uint64_t)RECORDS * LONG_PASSES);
    tell_cancel(world, 12); // Another lease: nothing happens.
    expect_training(world, 11);
    const int64_t start_ms = clock_mono_ms();
    tell_cancel(world, 11);
    const Unlearn__StageFailed *const failed =
        expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed;
    // 100 ms and a slow machine. Had the stage gone on to its end, it would not have failed.
    assert_in_range(clock_mono_ms() - start_ms, 0, 5000);
    assert_int_equal(failed->lease, 11);
    assert_true(failed->cancelled);
    expect_idle(world);
}

static void test_lease_cancelled_while_fetching(void **state)
{
    struct world *const world = *state;
    tell_lease(world);
    expect(world, UNLEARN__FROM_WORKER__BODY_PULL);
    tell_cancel(world, 11);
    assert_true(expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed->cancelled);
    // A chunk that was on its way is ignored, and the next lease is trained.
    tell_chunk(world, UNLEARN__STREAM_KIND__STREAM_KIND_PARENT, 0, 0, true,
               span_of(world->tiny->parent, world->tiny->param_count * sizeof(float)));
    world->tiny->offer.lease = 12;
    tell_lease(world);
    serve_data(world);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_DONE)->done->lease, 12);
}

static void test_new_lease_replaces_the_trained_one(void **state)
{
    struct world *const world = *state;
    world->tiny->offer.passes = LONG_PASSES;
    tell_lease(world);
    serve_data(world);
    expect_training(world, 11);
    world->tiny->offer.lease = 12;
    world->tiny->offer.passes = 3;
    tell_lease(world);
    const Unlearn__StageFailed *const failed =
        expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed;
    assert_int_equal(failed->lease, 11);
    assert_true(failed->cancelled);
    serve_data(world);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_DONE)->done->lease, 12);
}

static void test_forgotten_worker_says_hello(void **state)
{
    struct world *const world = *state;
    world->tiny->offer.passes = LONG_PASSES;
    tell_lease(world);
    serve_data(world);
    expect_training(world, 11);
    tell_unknown(world);
    expect(world, UNLEARN__FROM_WORKER__BODY_HELLO); // No StageFailed comes before it.
    tell_welcome(world);
    expect_idle(world);
}

static void test_welcome_ends_what_is_held(void **state)
{
    struct world *const world = *state; // As when a lease crosses a hello on the way.
    tell_lease(world);
    expect(world, UNLEARN__FROM_WORKER__BODY_PULL);
    tell_welcome(world);
    expect_idle(world); // No StageFailed comes before it.
    world->tiny->offer.passes = LONG_PASSES;
    tell_lease(world);
    serve_data(world);
    expect_training(world, 11);
    tell_welcome(world);
    expect_idle(world);
}

// --- What is kept

static void tell_forget(struct world *world, uint64_t number, Unlearn__Copy *copy)
{
    Unlearn__Forget forget = UNLEARN__FORGET__INIT;
    Unlearn__Copy *copies[1] = {copy};
    forget.number = number;
    forget.all = copy == NULL;
    forget.copies = copies;
    forget.n_copies = copy != NULL;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_FORGET;
    message.forget = &forget;
    tell(world, &message, span_of(NULL, 0));
}

static void tell_stored(struct world *world, uint64_t lease, uint64_t instance, uint64_t stamp)
{
    Unlearn__Cancel cancel = UNLEARN__CANCEL__INIT;
    cancel.lease = lease;
    cancel.instance = instance;
    cancel.stamp = stamp;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_CANCEL;
    message.cancel = &cancel;
    tell(world, &message, span_of(NULL, 0));
}

// The next report of what is held that is of `stamp`; its copies are counted.
static uint32_t expect_held(struct world *world, uint64_t stamp, uint64_t *bytes_out)
{
    const Unlearn__Held *held = NULL;
    do {
        held = expect(world, UNLEARN__FROM_WORKER__BODY_HELD)->held;
    } while (held->stamp != stamp);
    *bytes_out = held->bytes;
    return (uint32_t)held->n_copies;
}

static void train_whole(struct world *world, uint64_t lease)
{
    world->tiny->offer.lease = lease;
    tell_lease(world);
    serve_data(world);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_DONE)->done->lease, lease);
}

static void train_begin(struct world *world, uint64_t lease)
{
    world->tiny->offer.lease = lease;
    tell_lease(world);
    serve_data(world);
    expect_training(world, lease);
}

static void tell_alive(struct world *world)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Alive alive = UNLEARN__ALIVE__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_ALIVE;
    message.alive = &alive;
    tell(world, &message, span_of(NULL, 0));
}

// Nothing of the lease is asked for before it is done.
static void train_from_kept(struct world *world, uint64_t lease)
{
    world->tiny->offer.lease = lease;
    tell_lease(world);
    for (;;) {
        const Unlearn__FromWorker *const from = receive(world);
        assert_false(from->body_case == UNLEARN__FROM_WORKER__BODY_PULL &&
                     from->pull->lease == lease);
        if (from->body_case == UNLEARN__FROM_WORKER__BODY_DONE) {
            assert_int_equal(from->done->lease, lease);
            return;
        }
    }
}

static void test_what_was_fetched_is_kept_and_told(void **state)
{
    struct world *const world = *state;
    const uint64_t all = RECORDS * RECORD_BYTES + world->tiny->param_count * sizeof(float);
    uint64_t bytes = 0;
    train_whole(world, 11);
    // Two cells and the parent, kept, and once more as what the lease stands on.
    assert_int_equal(expect_held(world, 11, &bytes), 6);
    assert_int_equal(bytes, all);
    tell_stored(world, 11, 91, 12);
    assert_int_equal(expect_held(world, 12, &bytes), 4); // And the result.
    assert_int_equal(bytes, all + world->tiny->param_count * sizeof(float));
    train_from_kept(world, 13);
    world->tiny->offer.parent_instance = 91; // The result is somebody's parent.
    train_from_kept(world, 14);
}

static void test_what_is_to_be_forgotten_is_fetched_again(void **state)
{
    struct world *const world = *state;
    Unlearn__Copy copy = UNLEARN__COPY__INIT;
    copy.model = 6;
    copy.shard = 3;
    uint64_t bytes = 0;
    train_whole(world, 11);
    tell_cancel(world, 11);
    copy.slice = 1; // Of another cell.
    tell_forget(world, 1, &copy);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_FORGOTTEN)->forgotten->number, 1);
    train_from_kept(world, 12);
    tell_cancel(world, 12);
    copy.slice = 0; // The second one of the list.
    tell_forget(world, 2, &copy);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_FORGOTTEN)->forgotten->number, 2);
    assert_int_equal(expect_held(world, 12, &bytes), 2);
    world->tiny->offer.lease = 13;
    tell_lease(world);
    const Unlearn__WorkerPull *const pull = expect(world, UNLEARN__FROM_WORKER__BODY_PULL)->pull;
    assert_int_equal(pull->stream, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS);
    assert_int_equal(pull->skip.len, 1);
    assert_int_equal(pull->skip.data[0], 1); // The first one is there.
    tell_cancel(world, 13);
    tell_forget(world, 3, NULL);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed->lease, 13);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_FORGOTTEN)->forgotten->number, 3);
    train_whole(world, 14);
}

// A stage that stands on what is to be forgotten ends first, also where its Cancel was lost.
static void test_forgotten_is_said_after_the_stage_has_ended(void **state)
{
    struct world *const world = *state;
    Unlearn__Copy copy = UNLEARN__COPY__INIT;
    copy.model = 6;
    copy.shard = 3;
    copy.slice = 2;
    world->tiny->offer.passes = LONG_PASSES;
    for (uint64_t lease = 11; lease < 14; lease++) {
        world->tiny->offer.lease = lease;
        tell_lease(world);
        serve_data(world);
        expect_training(world, lease);
        if (lease == 11) {
            tell_cancel(world, lease);
        }
        tell_forget(world, lease, lease == 13 ? NULL : &copy);
        assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed->lease, lease);
        assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_FORGOTTEN)->forgotten->number,
                         lease);
        tell_forget(world, 100 + lease, NULL); // The next one serves all again.
        expect(world, UNLEARN__FROM_WORKER__BODY_FORGOTTEN);
    }
}

static void test_a_stage_that_stands_on_nothing_of_it_goes_on(void **state)
{
    struct world *const world = *state;
    Unlearn__Copy copy = UNLEARN__COPY__INIT;
    copy.model = 7;
    copy.shard = 3;
    copy.slice = 2;
    world->tiny->offer.passes = LONG_PASSES;
    tell_lease(world);
    serve_data(world);
    expect_training(world, 11);
    tell_forget(world, 1, &copy);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_FORGOTTEN)->forgotten->number, 1);
    expect_training(world, 11);
}

static void test_unknown_and_welcome_leave_nothing_kept(void **state)
{
    struct world *const world = *state;
    uint64_t bytes = 0;
    train_whole(world, 11);
    tell_unknown(world);
    expect(world, UNLEARN__FROM_WORKER__BODY_HELLO);
    tell_welcome(world);
    train_whole(world, 12); // All is fetched.
    tell_welcome(world);
    train_whole(world, 13);
    assert_int_equal(expect_held(world, 13, &bytes), 6);
}

static void test_a_silent_coordinator_is_left(void **state)
{
    struct world *const world = *state;
    train_whole(world, 11);
    const int64_t start_ms = clock_mono_ms();
    expect(world, UNLEARN__FROM_WORKER__BODY_HELLO);
    assert_in_range(clock_mono_ms() - start_ms, 200, 5000);
    tell_welcome(world);
    world->tiny->offer.passes = LONG_PASSES;
    train_begin(world, 12);
    expect(world, UNLEARN__FROM_WORKER__BODY_HELLO); // Also while it trains; no StageFailed before.
    tell_welcome(world);
    for (int i = 0; i < 5; i++) { // A word now and then is enough.
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        tell_alive(world);
    }
    train_begin(world, 13);
}

static void test_leaving_while_training_says_bye(void **state)
{
    struct world *const world = *state;
    world->tiny->offer.passes = LONG_PASSES;
    tell_lease(world);
    serve_data(world);
    expect_training(world, 11);
    world->stop = 1;
    expect(world, UNLEARN__FROM_WORKER__BODY_BYE);
    join_worker(world);
    assert_int_equal(world->ended_with, ERR_CANCELLED);
}

static void expect_failed(struct world *world, bool retry, const char *reason)
{
    const Unlearn__StageFailed *const failed =
        expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed;
    assert_int_equal(failed->lease, 11);
    assert_false(failed->cancelled);
    assert_int_equal(failed->retry, retry);
    assert_non_null(strstr(failed->reason, reason));
    expect_idle(world);
}

static void test_bad_lease_is_answered(void **state)
{
    struct world *const world = *state;
    world->tiny->offer.records++;
    tell_lease(world);
    expect_failed(world, false, "whose slices hold 6");
    // A reason that quotes bytes of the offer is sent as plain text.
    world->tiny->offer.records--;
    static uint8_t spec[] = "learner=mlp\nhidden=\xC3\xA9\x01\xFF\n";
    world->tiny->offer.spec = (ProtobufCBinaryData){sizeof spec - 1, spec};
    tell_lease(world);
    expect_failed(world, false, "the spec of a lease");
}

static void test_bad_stream_is_answered(void **state)
{
    struct world *const world = *state;
    tell_lease(world);
    expect(world, UNLEARN__FROM_WORKER__BODY_PULL);
    tell_chunk(world, UNLEARN__STREAM_KIND__STREAM_KIND_PARENT, 1, 0, true,
               span_of(world->tiny->parent, world->tiny->param_count * sizeof(float)));
    expect_failed(world, true, "chunk 1 of the parent's weights came");
}

static void test_diverging_stage_is_answered(void **state)
{
    struct world *const world = *state;
    struct tiny *const tiny = world->tiny;
    for (uint64_t i = 0; i < tiny->param_count; i++) {
        tiny->parent[i] = 3e38f;
    }
    tell_lease(world);
    serve_data(world);
    expect_failed(world, false, "");
}

static void test_garbage_is_dropped(void **state)
{
    struct world *const world = *state;
    expect_idle(world);
    assert_int_equal(link_send(world->router, &world->worker, span_text("garbage"), span_of("", 0)),
                     OK);
    Unlearn__FleetOrder order;
    unlearn__fleet_order__init(&order);
    order.action = UNLEARN__FLEET_ACTION__FLEET_ACTION_RUN;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    message.body_case = UNLEARN__TO_WORKER__BODY_FLEET_ORDER; // For another kind of peer.
    message.fleet_order = &order;
    tell(world, &message, span_of(NULL, 0));
    world->tiny->offer.lease = 0;
    tell_lease(world);
    world->tiny->offer.lease = 11;
    tell_lease(world);
    serve_data(world);
    expect(world, UNLEARN__FROM_WORKER__BODY_DONE);
}

// --- Without a thread

static void test_no_coordinator_is_no_error(void **state)
{
    (void)state;
    struct link_context *context = NULL;
    struct session *session = NULL;
    assert_int_equal(link_context_open(&context), OK);
    const struct session_options options = {
        .endpoint = "tcp://127.0.0.1:1", .host = "box", .core = "Test", .build = "test"};
    assert_int_equal(session_open(context, &options, &session), OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(session_turn(session, 10), OK);
    }
    session_close(session);
    struct session_options wrong = options;
    wrong.endpoint = "nonsense";
    assert_int_equal(session_open(context, &wrong, &session), ERR_IO);
    assert_null(session);
    session_close(NULL);
    link_context_close(context);
}

// --- Groups

static int setup_with(void **state, enum plan plan)
{
    static uint32_t ranks[2] = {0, 1};
    memset(&partner, 0, sizeof partner);
    partner.plan = plan;
    setup_joined(state);
    struct world *const world = *state;
    struct tiny *const tiny = world->tiny;
    assert_int_equal(spec_set(&tiny->spec, "batch", "4"), OK);
    assert_int_equal(spec_set(&tiny->spec, "gradient_chunks", "2"), OK);
    buf_clear(&tiny->spec_text);
    spec_put(&tiny->spec, &tiny->spec_text);
    tiny->offer.spec = (ProtobufCBinaryData){tiny->spec_text.bytes, tiny->spec_text.data};
    tiny->offer.group_ranks = ranks;
    tiny->offer.n_group_ranks = 2;
    tiny->offer.group_index = 1; // The worker's rank is 1.
    return 0;
}
#define SETUP(name, plan)                                                                          \
    static int name(void **state)                                                                  \
    {                                                                                              \
        return setup_with(state, plan);                                                            \
    }
SETUP(setup_absent, PLAN_ABSENT)
SETUP(setup_never_ready, PLAN_NEVER_READY)
SETUP(setup_late, PLAN_LATE)
SETUP(setup_silent, PLAN_SILENT)
SETUP(setup_full, PLAN_FULL)

static int teardown_group(void **state)
{
    const int result = teardown(state);
    memset(&partner, 0, sizeof partner);
    return result;
}

static void test_member_says_done_and_is_idle(void **state)
{
    struct world *const world = *state;
    tell_lease(world);
    serve_data(world);
    assert_int_equal(expect(world, UNLEARN__FROM_WORKER__BODY_DONE)->done->lease, 11);
    expect_idle(world); // Only member 0's weights are asked for: nothing is held.
    assert_int_equal(partner.lease, 11);
    assert_int_equal(partner.count, 2);
    assert_int_equal(partner.index, 1);
    assert_int_equal(partner.ranks[1], 1);
    assert_int_equal(partner.exchanges, 3 * 2); // Passes times batches.
    assert_int_equal(partner.left_clean, 1);
    assert_int_equal(partner.left_broken, 0);
}

static void test_lease_of_another_group_is_refused(void **state)
{
    struct world *const world = *state;
    static uint32_t ranks[2];
    ranks[0] = 0;
    ranks[1] = 1;
    world->tiny->offer.group_ranks = ranks;
    world->tiny->offer.group_index = 0; // Of rank 0; the worker is rank 1.
    tell_lease(world);
    const Unlearn__StageFailed *const failed =
        expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed;
    assert_non_null(strstr(failed->reason, "not one of rank 1 of 2"));
    assert_false(failed->retry);
    ranks[0] = 1;
    ranks[1] = 2; // Outside of the fleet.
    tell_lease(world);
    assert_non_null(strstr(expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed->reason,
                           "not one of rank 1 of 2"));
    assert_int_equal(partner.count, 0);
}

static void test_cancel_reaches_a_waiting_member(void **state)
{
    struct world *const world = *state;
    tell_lease(world);
    serve_data(world);
    for (int i = 0; i < 3; i++) { // It beats while it waits.
        expect(world, UNLEARN__FROM_WORKER__BODY_BEAT);
    }
    assert_int_equal(world->beat.lease, 11);
    tell_cancel(world, 11);
    assert_true(expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed->cancelled);
    expect_idle(world);
    assert_int_equal(partner.left_clean, 0);
    assert_int_equal(partner.left_broken, partner.plan == PLAN_SILENT);
}

static void test_others_that_never_come_are_told(void **state)
{
    struct world *const world = *state;
    tell_lease(world);
    serve_data(world);
    const Unlearn__StageFailed *const failed =
        expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed;
    assert_false(failed->cancelled);
    assert_true(failed->retry);
    assert_non_null(strstr(failed->reason, "the others did not come"));
    expect_idle(world);
    assert_int_equal(partner.left_clean + partner.left_broken, 0);
}

static void test_worker_alone_refuses_groups(void **state)
{
    struct world *const world = *state;
    tell_lease(world);
    const Unlearn__StageFailed *const failed =
        expect(world, UNLEARN__FROM_WORKER__BODY_FAILED)->failed;
    assert_false(failed->retry);
    assert_non_null(strstr(failed->reason, "this rank trains alone"));
    expect_idle(world);
}

#define JOINED(test) cmocka_unit_test_setup_teardown(test, setup_joined, teardown)

#define KEEPING(test)            cmocka_unit_test_setup_teardown(test, setup_keeping, teardown)
#define GROUP(test, setup_group) cmocka_unit_test_setup_teardown(test, setup_group, teardown_group)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello_says_who_and_bye_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusal_ends_the_session, setup, teardown),
        JOINED(test_beats_come_in_time),
        JOINED(test_stage_comes_back_bit_for_bit),
        JOINED(test_compare_only_sends_no_weights),
        JOINED(test_leases_follow_each_other),
        JOINED(test_cancelled_stage_ends_at_once),
        JOINED(test_lease_cancelled_while_fetching),
        JOINED(test_new_lease_replaces_the_trained_one),
        JOINED(test_forgotten_worker_says_hello),
        JOINED(test_welcome_ends_what_is_held),
        JOINED(test_leaving_while_training_says_bye),
        KEEPING(test_what_was_fetched_is_kept_and_told),
        KEEPING(test_what_is_to_be_forgotten_is_fetched_again),
        KEEPING(test_forgotten_is_said_after_the_stage_has_ended),
        JOINED(test_forgotten_is_said_after_the_stage_has_ended),
        KEEPING(test_a_stage_that_stands_on_nothing_of_it_goes_on),
        KEEPING(test_unknown_and_welcome_leave_nothing_kept),
        cmocka_unit_test_setup_teardown(test_a_silent_coordinator_is_left, setup_impatient,
                                        teardown),
        JOINED(test_bad_lease_is_answered),
        JOINED(test_bad_stream_is_answered),
        JOINED(test_diverging_stage_is_answered),
        JOINED(test_garbage_is_dropped),
        GROUP(test_member_says_done_and_is_idle, setup_full),
        GROUP(test_lease_of_another_group_is_refused, setup_full),
        GROUP(test_cancel_reaches_a_waiting_member, setup_late),
        GROUP(test_cancel_reaches_a_waiting_member, setup_silent),
        GROUP(test_others_that_never_come_are_told, setup_never_ready),
        GROUP(test_worker_alone_refuses_groups, setup_absent),
        cmocka_unit_test(test_no_coordinator_is_no_error),
    };
    return digest_start() == OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
