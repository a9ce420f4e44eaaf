// tests/unit/test_link.c: messages come whole or not at all, and who is gone or slow is told so.
//
// Method: a ROUTER and DEALERs of ours on loopback, and peers that talk plain ZeroMQ and break the
// rules. Nothing sleeps: what takes the network's time is waited for with a deadline of 20 s.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "proto/link.h"

enum { PATIENCE_MS = 20000 };

static struct link_context *context;
static struct link *router;
static char endpoint[LINK_ENDPOINT_BYTES];
static void *plain; // A context of ZeroMQ's own, for peers that break the rules.

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(link_context_open(&context), OK);
    assert_int_equal(link_open(context, LINK_ROUTER, NULL, &router), OK);
    assert_int_equal(link_bind(router, "tcp://127.0.0.1:*", endpoint), OK);
    plain = zmq_ctx_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    zmq_ctx_term(plain);
    link_close(router);
    link_context_close(context);
    return 0;
}

static struct link *dealer(void)
{
    struct link *link = NULL;
    assert_int_equal(link_open(context, LINK_DEALER, NULL, &link), OK);
    assert_int_equal(link_connect(link, endpoint), OK);
    return link;
}

// The next message, within the deadline.
static struct link_message receive(struct link *link)
{
    const int64_t until = clock_mono_ms() + PATIENCE_MS;
    struct link_message message = {0};
    enum err err = ERR_UNAVAILABLE;
    while (err == ERR_UNAVAILABLE && clock_mono_ms() < until) {
        bool ready = false;
        assert_int_equal(link_wait(&link, &ready, 1, NULL, 0, 100), OK);
        err = link_receive(link, &message);
    }
    assert_int_equal(err, OK);
    return message;
}

// Sends once the connection stands.
static void send_text(struct link *link, const char *text, struct span raw)
{
    const int64_t until = clock_mono_ms() + PATIENCE_MS;
    enum err err = ERR_UNAVAILABLE;
    while (err == ERR_UNAVAILABLE && clock_mono_ms() < until) {
        err = link_send(link, NULL, span_text(text), raw);
        if (err == ERR_UNAVAILABLE) {
            bool ready = false;
            assert_int_equal(link_wait(&link, &ready, 1, NULL, 0, 5), OK);
        }
    }
    assert_int_equal(err, OK);
}

static void expect_text(const struct link_message *message, const char *text)
{
    assert_true(span_equal(message->envelope, span_text(text)));
}

static const struct span none = {NULL, 0};

static void *rule_breaker_named(const void *routing_id, size_t bytes)
{
    const int linger = 0;
    void *const socket = zmq_socket(plain, ZMQ_DEALER);
    assert_non_null(socket);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (bytes > 0) {
        assert_int_equal(zmq_setsockopt(socket, ZMQ_ROUTING_ID, routing_id, bytes), 0);
    }
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    return socket;
}

static void *rule_breaker(const char *routing_id)
{
    return rule_breaker_named(routing_id, routing_id == NULL ? 0 : strlen(routing_id));
}

static void send_frames(void *socket, int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(zmq_send(socket, "x", 1, i + 1 < count ? ZMQ_SNDMORE : 0), 1);
    }
}

// ---------------------------------------------------------------- what works

static void test_there_and_back(void **state)
{
    (void)state;
    struct link *const a = dealer();
    struct link *const b = dealer();
    send_text(a, "from a", none);
    struct link_message message = receive(router);
    const struct link_peer peer_a = message.peer;
    expect_text(&message, "from a");
    assert_int_equal(message.raw.bytes, 0);
    send_text(b, "from b", span_text("raw of b"));
    message = receive(router);
    const struct link_peer peer_b = message.peer;
    expect_text(&message, "from b");
    assert_true(span_equal(message.raw, span_text("raw of b")));
    assert_memory_not_equal(&peer_a, &peer_b, sizeof peer_a);

    assert_int_equal(link_send(router, &peer_b, span_text("to b"), span_text("raw")), OK);
    assert_int_equal(link_send(router, &peer_a, span_text("to a"), none), OK);
    message = receive(a);
    expect_text(&message, "to a");
    assert_int_equal(message.raw.bytes, 0);
    message = receive(b);
    expect_text(&message, "to b");
    assert_true(span_equal(message.raw, span_text("raw")));
    assert_int_equal(link_receive(a, &message), ERR_UNAVAILABLE);
    assert_int_equal(link_receive(router, &message), ERR_UNAVAILABLE);
    assert_int_equal(link_dropped(router), 0);
    link_close(a);
    link_close(b);
}

static void test_a_full_chunk_fits(void **state)
{
    (void)state;
    uint8_t *const chunk = mem_alloc(LIMIT_CHUNK_BYTES, 1);
    memset(chunk, 0xa5, LIMIT_CHUNK_BYTES);
    struct link *const link = dealer();
    send_text(link, "chunk", span_of(chunk, LIMIT_CHUNK_BYTES));
    const struct link_message message = receive(router);
    assert_true(span_equal(message.raw, span_of(chunk, LIMIT_CHUNK_BYTES)));
    link_close(link);
    mem_free(chunk);
}

static void test_order_is_kept(void **state)
{
    (void)state;
    struct link *const link = dealer();
    char text[16];
    for (int i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "%d", i);
        send_text(link, text, none);
    }
    for (int i = 0; i < 50; i++) {
        const struct link_message message = receive(router);
        snprintf(text, sizeof text, "%d", i);
        expect_text(&message, text);
    }
    link_close(link);
}

// ---------------------------------------------------------------- peers that break the rules

static void test_too_many_frames_are_dropped_and_counted(void **state)
{
    (void)state;
    void *const bad = rule_breaker(NULL);
    send_frames(bad, 3);
    send_frames(bad, 7);
    send_frames(bad, 2); // control: an envelope and a raw frame
    const struct link_message message = receive(router);
    expect_text(&message, "x");
    assert_true(span_equal(message.raw, span_text("x")));
    assert_int_equal(link_dropped(router), 2);
    zmq_close(bad);
}

static void test_an_own_routing_id_is_refused(void **state)
{
    (void)state;
    static const char *const ids[] = {"a", "admin", "a longer name than five bytes"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        void *const bad = rule_breaker(ids[i]);
        struct link *const good = dealer();
        send_frames(bad, 1);
        const int64_t until = clock_mono_ms() + PATIENCE_MS;
        while (link_dropped(router) == i && clock_mono_ms() < until) {
            struct link_message message;
            bool ready = false;
            assert_int_equal(link_wait(&router, &ready, 1, NULL, 0, 10), OK);
            assert_int_equal(link_receive(router, &message), ERR_UNAVAILABLE);
        }
        assert_int_equal(link_dropped(router), i + 1);
        send_text(good, "good", none); // control
        const struct link_message message = receive(router);
        expect_text(&message, "good");
        zmq_close(bad);
        link_close(good);
    }
}

// Peers that take the routing id of one in the midst of its requests: it gets all its answers, in order, and
// they none, neither what they ask for themselves nor what it is sent.
static void test_a_copied_routing_id(void **state)
{
    (void)state;
    enum { COPIES = 3, TURNS = 100 };
    struct link *const honest = dealer();
    void *copies[COPIES] = {NULL};
    for (int turn = 0; turn < TURNS; turn++) {
        char text[16];
        snprintf(text, sizeof text, "%d", turn);
        send_text(honest, text, none);
        const struct link_message message = receive(router); // Nobody else's.
        expect_text(&message, text);
        const struct link_peer peer = message.peer;
        if (turn < COPIES) {
            copies[turn] = rule_breaker_named(peer.bytes, sizeof peer.bytes);
            send_frames(copies[turn], 1);
        }
        assert_int_equal(link_send(router, &peer, span_text(text), none), OK);
        const struct link_message answer = receive(honest);
        expect_text(&answer, text);
    }
    struct link *const young = dealer(); // By now the others have long been let in.
    send_text(young, "young", none);
    struct link_message message = receive(router);
    expect_text(&message, "young");
    assert_int_equal(link_receive(router, &message), ERR_UNAVAILABLE);
    for (int i = 0; i < COPIES; i++) {
        char byte;
        assert_int_equal(zmq_recv(copies[i], &byte, 1, ZMQ_DONTWAIT), -1);
        assert_int_equal(zmq_errno(), EAGAIN);
        zmq_close(copies[i]);
    }
    assert_int_equal(link_dropped(router), 0);
    link_close(honest);
    link_close(young);
}

// A call gives up after 64 drops, so that the loop gets to its other work. Several peers send, so that
// more than 64 wait at once; how many have arrived is the network's affair, so it is tried until seen.
static void test_a_storm_of_bad_messages_does_not_hold_the_caller(void **state)
{
    (void)state;
    enum { PEERS = 8, BURST = 40 };
    void *bad[PEERS];
    for (int i = 0; i < PEERS; i++) {
        bad[i] = rule_breaker(NULL);
    }
    const int64_t until = clock_mono_ms() + PATIENCE_MS;
    bool gave_up = false;
    while (!gave_up && clock_mono_ms() < until) {
        for (int i = 0; i < PEERS * BURST; i++) {
            for (int frame = 0; frame < 3; frame++) { // Full: dropped here, sent the next time.
                (void)zmq_send(bad[i % PEERS], "x", 1,
                               ZMQ_DONTWAIT | (frame < 2 ? ZMQ_SNDMORE : 0));
            }
        }
        struct link_message message;
        bool ready = false;
        assert_int_equal(link_wait(&router, &ready, 1, NULL, 0, 100), OK);
        const uint64_t before = link_dropped(router);
        assert_int_equal(link_receive(router, &message), ERR_UNAVAILABLE);
        assert_true(link_dropped(router) - before <= 64);
        gave_up = strstr(err_text(), "the last 64 messages were dropped") != NULL;
    }
    assert_true(gave_up);
    for (int i = 0; i < PEERS; i++) {
        zmq_close(bad[i]);
    }
}

// A frame beyond the bound ends its connection; the others do not notice.
static void test_a_frame_too_long_ends_its_connection(void **state)
{
    (void)state;
    const size_t bytes = LIMIT_CHUNK_BYTES + 64 * 1024 + 1;
    uint8_t *const frame = mem_alloc(bytes, 1);
    void *const bad = rule_breaker(NULL);
    struct link *const good = dealer();
    assert_int_equal(zmq_send(bad, frame, bytes, 0), (int)bytes);
    send_text(good, "good", none);
    struct link_message message = receive(router);
    expect_text(&message, "good");
    assert_int_equal(link_receive(router, &message), ERR_UNAVAILABLE);
    zmq_close(bad);
    link_close(good);
    mem_free(frame);
}

// ---------------------------------------------------------------- peers that are gone or slow

static void test_a_peer_that_is_gone(void **state)
{
    (void)state;
    const struct link_peer nobody = {.bytes = {0, 1, 2, 3, 4}};
    assert_int_equal(link_send(router, &nobody, span_text("?"), none), ERR_UNAVAILABLE);
    struct link *const link = dealer();
    send_text(link, "hello", none);
    const struct link_message message = receive(router);
    assert_int_equal(link_send(router, &message.peer, span_text("hello"), none), OK); // control
    link_close(link);
    const int64_t until = clock_mono_ms() + PATIENCE_MS;
    enum err err = OK;
    while (err == OK && clock_mono_ms() < until) {
        struct link_message more;
        bool ready = false;
        assert_int_equal(link_wait(&router, &ready, 1, NULL, 0, 5), OK);
        assert_int_equal(link_receive(router, &more), ERR_UNAVAILABLE);
        err = link_send(router, &message.peer, span_text("hello"), none);
    }
    assert_int_equal(err, ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(), "gone or takes no messages"));
}

// A peer that does not read is refused after a bounded number of messages, and another is served.
static void test_a_slow_peer(void **state)
{
    (void)state;
    uint8_t *const chunk = mem_alloc(LIMIT_CHUNK_BYTES, 1);
    struct link *const slow = dealer();
    struct link *const other = dealer();
    send_text(slow, "slow", none);
    const struct link_peer peer = receive(router).peer;
    uint32_t sent = 0;
    while (sent < 1000 &&
           link_send(router, &peer, span_text("chunk"), span_of(chunk, LIMIT_CHUNK_BYTES)) == OK) {
        sent++;
    }
    assert_true(sent >= 1 && sent < 1000);
    assert_int_equal(link_send(router, &peer, span_text("more"), none), ERR_UNAVAILABLE);
    send_text(other, "other", none);
    const struct link_message message = receive(router);
    expect_text(&message, "other");
    assert_int_equal(link_send(router, &message.peer, span_text("answer"), none), OK);
    const struct link_message answer = receive(other);
    expect_text(&answer, "answer");
    // What was accepted arrives whole.
    const struct link_message first = receive(slow);
    expect_text(&first, "chunk");
    assert_int_equal(first.raw.bytes, LIMIT_CHUNK_BYTES);
    link_close(slow);
    link_close(other);
    mem_free(chunk);
}

static void test_nobody_listens(void **state)
{
    (void)state;
    // A port that is ours and refuses: bound, but nobody listens.
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    const int reserved = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(reserved >= 0);
    assert_int_equal(bind(reserved, (const struct sockaddr *)&address, bytes), 0);
    assert_int_equal(getsockname(reserved, (struct sockaddr *)&address, &bytes), 0);
    char refusing[LINK_ENDPOINT_BYTES];
    snprintf(refusing, sizeof refusing, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
    struct link *lonely = NULL;
    assert_int_equal(link_open(context, LINK_DEALER, NULL, &lonely), OK);
    assert_int_equal(link_connect(lonely, refusing), OK); // ZeroMQ tries in the background.
    assert_int_equal(link_send(lonely, NULL, span_text("hello"), none), ERR_UNAVAILABLE);
    link_close(lonely);
    close(reserved);
}

static void test_bad_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err err;
    } bad[] = {
        {"", ERR_IO},
        {"127.0.0.1:1", ERR_IO},
        {"tcp://", ERR_IO},
        {"tcp://127.0.0.1", ERR_IO},
        {"udp:x", ERR_IO},
        {"tcp://127.0.0.1:99999", ERR_INVALID}, // ZeroMQ would bind 34463.
        {"tcp://127.0.0.1:1x", ERR_INVALID},
    };
    char out[LINK_ENDPOINT_BYTES];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct link *link = NULL;
        assert_int_equal(link_open(context, LINK_ROUTER, NULL, &link), OK);
        assert_int_equal(link_bind(link, bad[i].text, out), bad[i].err);
        assert_non_null(strstr(err_text(), bad[i].text));
        link_close(link);
        assert_int_equal(link_open(context, LINK_DEALER, NULL, &link), OK);
        assert_int_equal(link_connect(link, bad[i].text), bad[i].err);
        link_close(link);
    }
    struct link *second = NULL;
    assert_int_equal(link_open(context, LINK_ROUTER, NULL, &second), OK);
    assert_int_equal(link_bind(second, endpoint, out), ERR_IO); // Taken.
    assert_non_null(strstr(err_text(), endpoint));
    assert_int_equal(link_bind(second, "tcp://127.0.0.1:*", out), OK); // control
    assert_string_not_equal(out, endpoint);
    link_close(second);
}

// ---------------------------------------------------------------- waiting

static void test_wait(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct link *const link = dealer();
    struct link *const links[] = {router, link};
    bool ready[2] = {true, true};
    struct link_wait_fd fds[] = {{.fd = ends[0], .ready = true}};
    assert_int_equal(link_wait(links, ready, 2, fds, 1, 0), OK);
    assert_true(!ready[0] && !ready[1] && !fds[0].ready);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(link_wait(links, ready, 2, fds, 1, -1), OK);
    assert_true(!ready[0] && !ready[1] && fds[0].ready);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 1);
    send_text(link, "hello", none);
    assert_int_equal(link_wait(links, ready, 2, fds, 1, PATIENCE_MS), OK);
    assert_true(ready[0] && !ready[1] && !fds[0].ready);
    assert_int_equal(link_wait(NULL, NULL, 0, NULL, 0, 1), OK);
    close(ends[0]);
    close(ends[1]);
    link_close(link);
}

static void test_closing_nothing(void **state)
{
    (void)state;
    link_close(NULL);
    link_context_close(NULL);
}

int main(void)
{
    alarm(
        120); // A test that fails leaves its sockets open, and closing their context waits for them.
#define WITH_ROUTER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_ROUTER(test_there_and_back),
        WITH_ROUTER(test_a_full_chunk_fits),
        WITH_ROUTER(test_order_is_kept),
        WITH_ROUTER(test_too_many_frames_are_dropped_and_counted),
        WITH_ROUTER(test_an_own_routing_id_is_refused),
        WITH_ROUTER(test_a_copied_routing_id),
        WITH_ROUTER(test_a_storm_of_bad_messages_does_not_hold_the_caller),
        WITH_ROUTER(test_a_frame_too_long_ends_its_connection),
        WITH_ROUTER(test_a_peer_that_is_gone),
        WITH_ROUTER(test_a_slow_peer),
        WITH_ROUTER(test_nobody_listens),
        WITH_ROUTER(test_bad_addresses),
        WITH_ROUTER(test_wait),
        cmocka_unit_test(test_closing_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
