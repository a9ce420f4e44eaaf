// tests/unit/test_watch.c: a peer that makes us keep too much loses its connection, and nobody else notices.
//
// Method: a ROUTER of ours with limits; peers that speak ZMTP over plain sockets, each from a thread of
// its own, and a flood under CurveZMQ by ZeroMQ itself with a key that is allowed. Meanwhile a DEALER of
// ours sends and is answered by the thread that also receives the flood. Memory is the process's
// resident set. What takes time is waited for with a deadline of 20 s.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "proto/link.h"
#include "proto/zap.h"

enum { PATIENCE_MS = 20000, MIB = 1 << 20 };

static const struct arrears_limits limits = {
    .connections = 8,
    .waiting = LIMIT_WAITING_BYTES,
    .waiting_strangers = LIMIT_WAITING_STRANGERS_MIB * (uint64_t)MIB,
    .waiting_all = LIMIT_WAITING_CLIENTS_MIB * (uint64_t)MIB,
    .unread = LIMIT_UNREAD_BYTES,
    .unread_all = LIMIT_UNREAD_CLIENTS_MIB * (uint64_t)MIB,
};
static const struct span none = {NULL, 0};

static struct link_context *context;
static struct zap *zap;
static struct link *router, *keyed; // Plain, and with keys.
static char endpoint[LINK_ENDPOINT_BYTES], keyed_endpoint[LINK_ENDPOINT_BYTES];
static struct curvekey server, friend;

static int set_up(void **state)
{
    (void)state;
    struct link_security security = {.domain = "clients"};
    curvekey_make(&server);
    curvekey_make(&friend);
    security.own = server;
    assert_int_equal(link_context_open(&context), OK);
    assert_int_equal(zap_open(context, &zap), OK);
    zap_allow(zap, "clients", (const uint8_t(*)[CURVEKEY_BYTES]) friend.public, 1);
    assert_int_equal(link_open(context, LINK_ROUTER, NULL, &router), OK);
    assert_int_equal(link_limit(router, &limits), OK);
    assert_int_equal(link_bind(router, "tcp://127.0.0.1:*", endpoint), OK);
    assert_int_equal(link_open(context, LINK_ROUTER, &security, &keyed), OK);
    assert_int_equal(link_limit(keyed, &limits), OK);
    assert_int_equal(link_bind(keyed, "tcp://127.0.0.1:*", keyed_endpoint), OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    link_close(router);
    link_close(keyed);
    zap_close(zap);
    link_context_close(context);
    return 0;
}

static uint64_t resident_bytes(void)
{
    unsigned long all = 0, resident = 0;
    FILE *const file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &all, &resident), 2); // NOLINT: the kernel wrote them.
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t cuts(struct link *link, enum arrears_reason reason)
{
    struct watch_counts counts;
    link_counts(link, &counts);
    return counts.cut[reason];
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

// ---------------------------------------------------------------- peers

static int raw_peer(void)
{
    static const uint8_t greeting[64] = {0xff, 0,    0, 0, 0,   0,   0,   0,
                                         1,    0x7f, 3, 1, 'N', 'U', 'L', 'L'};
    static const char ready[] = "\4\34\5READY\13Socket-Type\0\0\0\6DEALER";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    uint8_t answer[64];
    address.sin_port = htons((uint16_t)atoi(strrchr(endpoint, ':') + 1));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(write(fd, greeting, sizeof greeting), sizeof greeting);
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    assert_int_equal(write(fd, ready, sizeof ready - 1), sizeof ready - 1);
    return fd;
}

struct flood {
    pthread_t thread;
    int fd;
    size_t frame_bytes;
    uint64_t sent;
    _Atomic bool over; // It was cut.
};

// Frames of one message, for ever.
static void *flood_run(void *argument)
{
    enum { BATCH = 65536 };
    struct flood *const flood = argument;
    uint8_t *const batch = mem_alloc(2 * BATCH + 16, 1);
    size_t bytes = 0;
    while (bytes < BATCH) {
        if (flood->frame_bytes <= 255) {
            batch[bytes] = 1; // More follow.
            batch[bytes + 1] = (uint8_t)flood->frame_bytes;
            bytes += 2 + flood->frame_bytes;
        } else {
            batch[bytes] = 1 | 2;
            for (int i = 0; i < 8; i++) {
                batch[bytes + 1 + (size_t)i] =
                    (uint8_t)((uint64_t)flood->frame_bytes >> (56 - 8 * i));
            }
            bytes += 9 + flood->frame_bytes;
        }
    }
    for (;;) {
        const ssize_t got = send(flood->fd, batch, bytes, MSG_NOSIGNAL);
        if (got < 0) {
            break;
        }
        flood->sent += (uint64_t)got;
        if ((size_t)got < bytes &&
            send(flood->fd, batch + got, bytes - (size_t)got, MSG_NOSIGNAL | MSG_WAITALL) < 0) {
            break;
        }
    }
    mem_free(batch);
    atomic_store(&flood->over, true);
    return NULL;
}

static struct link *dealer(const char *where, bool with_key)
{
    struct link *link = NULL;
    struct link_security security = {.own = friend};
    memcpy(security.server, server.public, CURVEKEY_BYTES);
    assert_int_equal(link_open(context, LINK_DEALER, with_key ? &security : NULL, &link), OK);
    assert_int_equal(link_connect(link, where), OK);
    return link;
}

// A message there and an answer back. *worst_ms: the longest time so far.
static void talk(struct link *on, struct link *link, int64_t *worst_ms)
{
    const int64_t began_ms = clock_mono_ms();
    bool sent = false, answered = false;
    while (!answered) {
        struct link_message message;
        bool ready[2];
        assert_true(clock_mono_ms() < began_ms + PATIENCE_MS);
        sent = sent || link_send(link, NULL, span_text("hello"), none) == OK;
        assert_int_equal(link_wait((struct link *[]){on, link}, ready, 2, NULL, 0, sent ? 100 : 2),
                         OK);
        if (link_receive(on, &message) == OK && span_equal(message.envelope, span_text("hello"))) {
            assert_int_equal(link_send(on, &message.peer, span_text("you"), none), OK);
        }
        answered = link_receive(link, &message) == OK;
    }
    const int64_t took_ms = clock_mono_ms() - began_ms;
    *worst_ms = took_ms > *worst_ms ? took_ms : *worst_ms;
}

// ---------------------------------------------------------------- messages that never end

// How much memory 2 * LIMIT_WAITING_BYTES of such frames would have taken is far beyond `most_mib`.
static void endless(size_t frame_bytes, uint64_t most_mib)
{
    const uint64_t before = cuts(router, ARREARS_WAITING);
    struct link *const other = dealer(endpoint, false);
    int64_t worst_ms = 0, connecting_ms = 0;
    talk(router, other, &connecting_ms);
    const uint64_t resident = resident_bytes();
    uint64_t most = resident;
    struct flood flood = {.fd = raw_peer(), .frame_bytes = frame_bytes};
    assert_int_equal(pthread_create(&flood.thread, NULL, flood_run, &flood), 0);
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!atomic_load(&flood.over)) {
        assert_true(clock_mono_ms() < until_ms);
        talk(router, other, &worst_ms);
        most = resident_bytes() > most ? resident_bytes() : most;
    }
    pthread_join(flood.thread, NULL);
    close(flood.fd);
    assert_int_equal(cuts(router, ARREARS_WAITING), before + 1);
    assert_true(flood.sent >= LIMIT_WAITING_BYTES);
    printf(
        "frames of %zu bytes: cut after %.1f MB, %.0f MB more resident, slowest answer %lld ms\n",
        frame_bytes, (double)flood.sent / 1e6, (double)(most - resident) / 1e6,
        (long long)worst_ms);
    assert_true((most - resident) / MIB <= most_mib);
    assert_true(worst_ms < 2000);
    link_close(other);
}

static void test_large_frames_for_ever(void **state)
{
    (void)state;
    endless(65536, 200); // 8 MiB, and what comes in 20 ms; much more where the processor is shared.
}

static void test_small_frames_for_ever(void **state)
{
    (void)state;
    endless(34, 150);
}

static void test_empty_frames_for_ever(void **state)
{
    (void)state;
    endless(0, 450); // 64 bytes for each two.
}

// Of a message of many frames ZeroMQ lets go nothing before its end. Each is 256 MiB.
static void test_a_flood_from_a_known_key(void **state)
{
    (void)state;
    enum { FRAME = 65536, FRAMES = 4096 };
    struct link *const other = dealer(keyed_endpoint, true);
    int64_t worst_ms = 0, connecting_ms = 0;
    talk(keyed, other, &connecting_ms);
    void *const plain = zmq_ctx_new();
    void *const bad = zmq_socket(plain, ZMQ_DEALER);
    const int linger = 0;
    zmq_setsockopt(bad, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(bad, ZMQ_CURVE_SERVERKEY, server.public, CURVEKEY_BYTES);
    zmq_setsockopt(bad, ZMQ_CURVE_PUBLICKEY, friend.public, CURVEKEY_BYTES);
    zmq_setsockopt(bad, ZMQ_CURVE_SECRETKEY, friend.secret, CURVEKEY_BYTES);
    assert_int_equal(zmq_connect(bad, keyed_endpoint), 0);
    uint8_t *const frame = mem_alloc(FRAME, 1);
    for (int i = 0; i < FRAMES; i++) {
        assert_int_equal(zmq_send(bad, frame, FRAME, i + 1 < FRAMES ? ZMQ_SNDMORE : 0), FRAME);
    }
    const uint64_t resident = resident_bytes(); // With the message, on the sender's side.
    uint64_t most = resident;
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (cuts(keyed, ARREARS_WAITING) == 0) {
        assert_true(clock_mono_ms() < until_ms);
        talk(keyed, other, &worst_ms);
        most = resident_bytes() > most ? resident_bytes() : most;
    }
    talk(keyed, other, &worst_ms);
    printf("with a key: %.0f MB more resident, slowest answer %lld ms\n",
           (double)(most - resident) / 1e6, (long long)worst_ms);
    assert_true((most - resident) / MIB < 120); // Of 256.
    zmq_close(bad);
    zmq_ctx_term(plain);
    link_close(other);
    mem_free(frame);
}

static void test_cutting_takes_no_descriptor(void **state)
{
    (void)state;
    const uint64_t before = cuts(router, ARREARS_WAITING);
    struct flood flood = {.fd = raw_peer(), .frame_bytes = 1000};
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct link *const other = dealer(endpoint, false);
    int64_t worst_ms = 0;
    talk(router, other, &worst_ms); // By now both are accepted.
    enum { ALL = 256 };
    int taken[ALL], count = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ALL, limit.rlim_max}), 0);
    while (count < ALL && (taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        count++;
    }
    assert_true(count < ALL);
    assert_int_equal(pthread_create(&flood.thread, NULL, flood_run, &flood), 0);
    pthread_join(flood.thread, NULL);
    while (count > 0) {
        close(taken[--count]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(cuts(router, ARREARS_WAITING), before + 1);
    close(flood.fd);
    link_close(other);
}

// ---------------------------------------------------------------- peers that do as they should

// LIMIT_CREDIT bulk frames, and nobody takes them for long; and 60 of them, taken as they come.
static void test_uploads_are_not_cut(void **state)
{
    (void)state;
    enum { CHUNKS = 60 };
    struct link *const ons[] = {router, keyed};
    uint8_t *const chunk = mem_alloc(LIMIT_CHUNK_BYTES, 1);
    for (int k = 0; k < 2; k++) {
        const uint64_t before = cuts(ons[k], ARREARS_WAITING);
        struct link *const link = dealer(k == 0 ? endpoint : keyed_endpoint, k == 1);
        int64_t worst_ms = 0;
        talk(ons[k], link, &worst_ms);
        for (int i = 0; i < LIMIT_CREDIT; i++) {
            assert_int_equal(
                link_send(link, NULL, span_text("chunk"), span_of(chunk, LIMIT_CHUNK_BYTES)), OK);
        }
        pause_ms(300);
        int taken = 0;
        for (int sent = LIMIT_CREDIT; taken < CHUNKS;) {
            struct link_message message;
            bool ready;
            assert_int_equal(link_wait(&ons[k], &ready, 1, NULL, 0, PATIENCE_MS), OK);
            assert_true(ready);
            for (; link_receive(ons[k], &message) == OK; taken++) {
                assert_int_equal(message.raw.bytes, LIMIT_CHUNK_BYTES);
            }
            while (sent < CHUNKS && sent - taken < LIMIT_CREDIT) {
                assert_int_equal(
                    link_send(link, NULL, span_text("chunk"), span_of(chunk, LIMIT_CHUNK_BYTES)),
                    OK);
                sent++;
            }
        }
        talk(ons[k], link, &worst_ms);
        const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
        struct watch_counts counts;
        do { // All is counted, to the byte or nearly.
            assert_true(clock_mono_ms() < until_ms);
            pause_ms(10);
            link_counts(ons[k], &counts);
        } while (counts.waiting_bytes > 0);
        assert_int_equal(cuts(ons[k], ARREARS_WAITING), before);
        link_close(link);
    }
    mem_free(chunk);
}

// Connections come and go under the same descriptors; none inherits what another did.
static void test_descriptors_are_used_again(void **state)
{
    (void)state;
    const uint64_t before = cuts(router, ARREARS_WAITING);
    uint8_t *const chunk = mem_alloc(LIMIT_CHUNK_BYTES, 1);
    for (int i = 0; i < 40; i++) { // 40 MiB under one number, if all were one.
        struct link *const link = dealer(endpoint, false);
        int64_t worst_ms = 0;
        talk(router, link, &worst_ms);
        assert_int_equal(
            link_send(link, NULL, span_text("chunk"), span_of(chunk, LIMIT_CHUNK_BYTES)), OK);
        link_close(link); // What is not delivered by now may be lost, or come late.
    }
    struct link *const link = dealer(endpoint, false);
    int64_t worst_ms = 0;
    talk(router, link, &worst_ms);
    assert_int_equal(cuts(router, ARREARS_WAITING), before);
    link_close(link);
    mem_free(chunk);
}

// ---------------------------------------------------------------- peers that do not read, and crowds

static void test_a_peer_that_does_not_read(void **state)
{
    (void)state;
    uint8_t *const chunk = mem_alloc(LIMIT_CHUNK_BYTES, 1);
    const uint64_t before = cuts(router, ARREARS_UNREAD);
    struct link *const other = dealer(endpoint, false);
    const int deaf = raw_peer();
    assert_int_equal(write(deaf, "\0\1x", 3), 3);
    struct link_message message;
    bool ready;
    int64_t worst_ms = 0;
    assert_int_equal(link_wait(&router, &ready, 1, NULL, 0, PATIENCE_MS), OK);
    while (link_receive(router, &message) != OK) {
        assert_int_equal(link_wait(&router, &ready, 1, NULL, 0, 100), OK);
    }
    const struct link_peer peer = message.peer;
    uint64_t handed = 0;
    while (link_send(router, &peer, span_text("x"), span_of(chunk, LIMIT_CHUNK_BYTES)) == OK) {
        handed += LIMIT_CHUNK_BYTES;
    }
    assert_true(handed > LIMIT_UNREAD_BYTES);
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (cuts(router, ARREARS_UNREAD) == before) {
        assert_true(clock_mono_ms() < until_ms);
        talk(router, other, &worst_ms);
    }
    assert_true(worst_ms < 1000);
    close(deaf);
    link_close(other);
    mem_free(chunk);
}

static void test_a_crowd_that_says_nothing(void **state)
{
    (void)state;
    enum { CROWD = 60 };
    int crowd[CROWD];
    const uint64_t before = cuts(router, ARREARS_CONNECTIONS);
    struct link *const old = dealer(endpoint, false);
    int64_t worst_ms = 0;
    talk(router, old, &worst_ms);
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = raw_peer();
    }
    // Who was heard stays, and who comes and speaks is heard.
    struct link *const young = dealer(endpoint, false);
    talk(router, young, &worst_ms);
    talk(router, old, &worst_ms);
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct watch_counts counts;
    do {
        assert_true(clock_mono_ms() < until_ms);
        pause_ms(10);
        link_counts(router, &counts);
    } while (counts.connections > limits.connections);
    assert_true(counts.cut[ARREARS_CONNECTIONS] - before >= CROWD + 2 - limits.connections);
    for (int i = 0; i < CROWD; i++) {
        close(crowd[i]);
    }
    talk(router, old, &worst_ms);
    talk(router, young, &worst_ms);
    link_close(old);
    link_close(young);
    do {
        assert_true(clock_mono_ms() < until_ms);
        pause_ms(10);
        link_counts(router, &counts);
    } while (counts.connections > 0);
}

// Some are dropped and counted; who sends nothing else is cut.
static void test_messages_of_no_known_shape(void **state)
{
    (void)state;
    static const uint8_t three[] = {1, 0, 1, 0, 0, 0}; // Frames, all empty.
    const uint64_t dropped = link_dropped(router), before = cuts(router, ARREARS_WAITING);
    struct link *const other = dealer(endpoint, false);
    int64_t worst_ms = 0;
    const int bad = raw_peer();
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (cuts(router, ARREARS_WAITING) == before) {
        assert_true(clock_mono_ms() < until_ms);
        (void)send(bad, three, sizeof three, MSG_NOSIGNAL);
        talk(router, other, &worst_ms);
    }
    assert_true(link_dropped(router) - dropped > LIMIT_WAITING_BYTES / ARREARS_JUNK_BYTES);
    close(bad);
    link_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_large_frames_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_small_frames_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_frames_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_flood_from_a_known_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cutting_takes_no_descriptor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_uploads_are_not_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_descriptors_are_used_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_peer_that_does_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_crowd_that_says_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_messages_of_no_known_shape, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
