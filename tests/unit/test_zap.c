// tests/unit/test_zap.c: nobody comes in whose key is not allowed, whatever is missing or broken.
//
// Method: the decision on frames made by hand; then a ROUTER with keys on loopback, its handler, and peers
// that are right in all but one thing, beside one that is right in all. A peer that is kept out is asked
// for until ZeroMQ has told it so: nothing is concluded from silence, but where there is no handler, which
// only silence shows. Handlers that say what ours never says are made of plain ZeroMQ.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "proto/zap.h"

enum { PATIENCE_MS = 20000, SILENCE_MS = 700, TEST_MS_MAX = 2000 };

// ---------------------------------------------------------------- the decision

static struct zap_domain domains[ZAP_DOMAINS];
static uint8_t known[2][CURVEKEY_BYTES];

static void check(const char *status, const char *why, const char *version, const char *domain,
                  const char *mechanism, struct span key, size_t count)
{
    const struct span frames[ZAP_FRAMES + 1] = {
        span_text(version),
        span_text("1"),
        span_text(domain),
        span_text("127.0.0.1"),
        span_of(NULL, 0),
        span_text(mechanism),
        key,
        span_text("more"),
    };
    const struct zap_answer answer = zap_decide(domains, frames, count);
    assert_string_equal(answer.status, status);
    assert_string_equal(answer.why, why);
    if (strcmp(status, "200") == 0) {
        char hex[CURVEKEY_HEX_BYTES];
        hex_put(hex, key.data, key.bytes);
        assert_string_equal(answer.user, hex);
    } else {
        assert_string_equal(answer.user, "");
    }
}

static void test_decision(void **state)
{
    (void)state;
    memset(known[0], 3, CURVEKEY_BYTES);
    memset(known[1], 9, CURVEKEY_BYTES);
    domains[0] = (struct zap_domain){"clients", known, 2};
    domains[1] = (struct zap_domain){"workers", known + 1, 1};
    domains[2] = (struct zap_domain){"nobody", NULL, 0};
    uint8_t stranger[CURVEKEY_BYTES + 1];
    memset(stranger, 4, sizeof stranger);
    const struct span a = span_of(known[0], CURVEKEY_BYTES), b = span_of(known[1], CURVEKEY_BYTES);
    const struct span c = span_of(stranger, CURVEKEY_BYTES);
    check("200", "OK", "1.0", "clients", "CURVE", a, 7);
    check("200", "OK", "1.0", "clients", "CURVE", b, 7);
    check("200", "OK", "1.0", "workers", "CURVE", b, 7);
    // One domain's key is a stranger's in another.
    check("400", "unknown key", "1.0", "workers", "CURVE", a, 7);
    check("400", "unknown key", "1.0", "clients", "CURVE", c, 7);
    check("400", "unknown key", "1.0", "nobody", "CURVE", a, 7);
    check("400", "unknown domain", "1.0", "client", "CURVE", a, 7);
    check("400", "unknown domain", "1.0", "clientss", "CURVE", a, 7);
    check("400", "unknown domain", "1.0", "", "CURVE", a, 7);
    check("400", "no key", "1.0", "clients", "NULL", a, 6);
    check("400", "no key", "1.0", "clients", "NULL", a, 7);
    check("400", "no key", "1.0", "clients", "PLAIN", a, 7);
    check("400", "no key", "1.0", "clients", "curve", a, 7);
    check("400", "no key", "1.0", "clients", "", a, 7);
    check("400", "malformed", "1.1", "clients", "CURVE", a, 7);
    check("400", "malformed", "", "clients", "CURVE", a, 7);
    check("400", "malformed", "1.0", "clients", "CURVE", span_of(known[0], 31), 7);
    check("400", "malformed", "1.0", "clients", "CURVE", span_of(stranger, 33), 7);
    check("400", "malformed", "1.0", "clients", "CURVE", span_of(NULL, 0), 7);
    check("400", "malformed", "1.0", "clients", "CURVE", a, 8);
    for (size_t count = 0; count < 7; count++) {
        check("400", "malformed", "1.0", "clients", "CURVE", a, count);
    }
}

// ---------------------------------------------------------------- a ROUTER with keys

static struct link_context *context;
static struct zap *zap;
static struct link *router;
static char endpoint[LINK_ENDPOINT_BYTES];
static struct curvekey server, friend, other;

static int set_up(void **state)
{
    (void)state;
    struct link_security security = {.domain = "clients"};
    curvekey_make(&server);
    curvekey_make(&friend);
    curvekey_make(&other);
    security.own = server;
    assert_int_equal(link_context_open(&context), OK);
    assert_int_equal(zap_open(context, &zap), OK);
    assert_int_equal(link_open(context, LINK_ROUTER, &security, &router), OK);
    assert_int_equal(link_bind(router, "tcp://127.0.0.1:*", endpoint), OK);
    zap_allow(zap, "clients", (const uint8_t(*)[CURVEKEY_BYTES]) friend.public, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    link_close(router);
    zap_close(zap);
    zap = NULL;
    link_context_close(context);
    return 0;
}

static struct link *peer(const struct curvekey *own, const uint8_t server_key[CURVEKEY_BYTES])
{
    struct link *link = NULL;
    struct link_security security = {0};
    if (own != NULL) {
        security.own = *own;
        memcpy(security.server, server_key, CURVEKEY_BYTES);
    }
    assert_int_equal(link_open(context, LINK_DEALER, own == NULL ? NULL : &security, &link), OK);
    assert_int_equal(link_connect(link, endpoint), OK);
    return link;
}

static void wait_a_bit(void)
{
    bool ready = false;
    assert_int_equal(link_wait(&router, &ready, 1, NULL, 0, 2), OK);
}

// The peer's message comes, and is known for its key's.
static void comes_in(struct link *link, const struct curvekey *own)
{
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    bool sent = false;
    struct link_message message;
    enum err err = ERR_UNAVAILABLE;
    while (err == ERR_UNAVAILABLE) {
        assert_true(clock_mono_ms() < until_ms);
        sent = sent || link_send(link, NULL, span_text("hello"), span_of(NULL, 0)) == OK;
        wait_a_bit();
        err = link_receive(router, &message);
    }
    assert_int_equal(err, OK);
    assert_true(span_equal(message.envelope, span_text("hello")));
    assert_non_null(message.key);
    assert_memory_equal(message.key, own->public, CURVEKEY_BYTES);
    assert_int_equal(link_trouble(link), LINK_FINE);
    // And back.
    assert_int_equal(link_send(router, &message.peer, span_text("you"), span_of(NULL, 0)), OK);
    while ((err = link_receive(link, &message)) == ERR_UNAVAILABLE) {
        assert_true(clock_mono_ms() < until_ms);
        wait_a_bit();
    }
    assert_int_equal(err, OK);
    assert_true(span_equal(message.envelope, span_text("you")));
    assert_null(message.key); // Of a DEALER's only peer the key is known beforehand.
}

static void nothing_comes(struct link *link)
{
    struct link_message message;
    assert_int_equal(link_send(link, NULL, span_text("hello"), span_of(NULL, 0)), ERR_UNAVAILABLE);
    assert_int_equal(link_receive(router, &message), ERR_UNAVAILABLE);
}

// The peer is told that it is kept out, and why.
static void kept_out(struct link *link, enum link_trouble trouble)
{
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (link_trouble(link) == LINK_FINE) {
        assert_true(clock_mono_ms() < until_ms);
        nothing_comes(link);
        wait_a_bit();
    }
    assert_int_equal(link_trouble(link), trouble);
    nothing_comes(link);
}

static void test_friends_come_in(void **state)
{
    (void)state;
    uint8_t keys[2][CURVEKEY_BYTES];
    memcpy(keys[0], friend.public, CURVEKEY_BYTES);
    memcpy(keys[1], other.public, CURVEKEY_BYTES);
    zap_allow(zap, "clients", (const uint8_t(*)[CURVEKEY_BYTES])keys, 2);
    struct link *const a = peer(&friend, server.public), *const b = peer(&other, server.public);
    for (int i = 0; i < 3; i++) { // Each message is its sender's.
        comes_in(a, &friend);
        comes_in(b, &other);
    }
    const struct zap_counts counts = zap_counts(zap);
    assert_int_equal(counts.allowed, 2);
    assert_int_equal(counts.refused, 0);
    assert_int_equal(link_dropped(router), 0);
    link_close(a);
    link_close(b);
}

static void test_strangers_do_not(void **state)
{
    (void)state;
    struct link *const stranger = peer(&other, server.public);
    kept_out(stranger, LINK_REFUSED);
    assert_true(zap_counts(zap).refused > 0);
    assert_int_equal(zap_counts(zap).allowed, 0);
    // A key of another domain is a stranger's here.
    zap_allow(zap, "workers", (const uint8_t(*)[CURVEKEY_BYTES])other.public, 1);
    struct link *const worker = peer(&other, server.public);
    kept_out(worker, LINK_REFUSED);
    // One who says that he is somebody else, but does not hold the secret.
    struct curvekey stolen = other;
    memcpy(stolen.public, friend.public, CURVEKEY_BYTES);
    struct link *const thief = peer(&stolen, server.public);
    kept_out(thief, LINK_STRANGE);
    struct link *const nameless = peer(NULL, NULL);
    kept_out(nameless, LINK_STRANGE);
    // Whom the server does not know goes to a server that he does not know.
    struct link *const astray = peer(&friend, other.public);
    kept_out(astray, LINK_STRANGE);
    struct link *const right = peer(&friend, server.public);
    comes_in(right, &friend);
    link_close(right);
    link_close(astray);
    link_close(nameless);
    link_close(thief);
    link_close(worker);
    link_close(stranger);
}

static void test_plain_server(void **state)
{
    (void)state;
    struct link *plain = NULL;
    assert_int_equal(link_open(context, LINK_ROUTER, NULL, &plain), OK);
    assert_int_equal(link_bind(plain, "tcp://127.0.0.1:*", endpoint), OK);
    struct link *const link = peer(&friend, server.public);
    kept_out(link, LINK_STRANGE);
    link_close(link);
    link_close(plain);
}

static void test_key_taken_away(void **state)
{
    (void)state;
    struct link *const before = peer(&friend, server.public);
    comes_in(before, &friend);
    zap_allow(zap, "clients", NULL, 0);
    comes_in(before, &friend); // Still connected: zap.h says who has to look.
    link_close(before);
    struct link *const after = peer(&friend, server.public);
    kept_out(after, LINK_REFUSED);
    zap_allow(zap, "clients", (const uint8_t(*)[CURVEKEY_BYTES]) friend.public, 1);
    struct link *const again = peer(&friend, server.public);
    comes_in(again, &friend);
    link_close(again);
    link_close(after);
}

static void test_many_keys(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static uint8_t keys[COUNT][CURVEKEY_BYTES];
    digest_random(keys, sizeof keys);
    memcpy(keys[1234], friend.public, CURVEKEY_BYTES);
    zap_allow(zap, "clients", (const uint8_t(*)[CURVEKEY_BYTES])keys, COUNT);
    struct link *const link = peer(&friend, server.public);
    comes_in(link, &friend);
    struct link *const stranger = peer(&other, server.public);
    kept_out(stranger, LINK_REFUSED);
    link_close(stranger);
    link_close(link);
}

static void stays_out(struct link *link)
{
    const int64_t until_ms = clock_mono_ms() + SILENCE_MS;
    while (clock_mono_ms() < until_ms) {
        nothing_comes(link);
        wait_a_bit();
    }
}

static void test_no_handler(void **state)
{
    (void)state;
    zap_close(zap);
    zap = NULL;
    struct link *const link = peer(&friend, server.public);
    stays_out(link);
    link_close(link);
    assert_int_equal(zap_open(context, &zap), OK);
    struct link *const empty = peer(&friend, server.public); // It knows nobody yet.
    kept_out(empty, LINK_REFUSED);
    link_close(empty);
    zap_allow(zap, "clients", (const uint8_t(*)[CURVEKEY_BYTES]) friend.public, 1);
    struct link *const again = peer(&friend, server.public);
    comes_in(again, &friend);
    link_close(again);
}

static void test_one_handler(void **state)
{
    (void)state;
    struct zap *second = NULL;
    assert_int_equal(zap_open(context, &second), ERR_IO);
    assert_null(second);
    assert_non_null(strstr(err_text(), "the ZAP handler: Address already in use"));
    zap_close(NULL);
}

// Frames that ZeroMQ never sends: the handler says no, and lives on.
static void ask(size_t count, size_t bytes, const char *id)
{
    void *const socket = zmq_socket(link_context_zmq(context), ZMQ_REQ);
    assert_int_equal(zmq_connect(socket, "inproc://zeromq.zap.01"), 0);
    uint8_t filler[1024];
    memset(filler, 'x', sizeof filler);
    for (size_t i = 0; i < count; i++) {
        const struct span frame = i == 0   ? span_text("1.0")
                                  : i == 1 ? span_text(id)
                                  : i == 5 ? span_text("CURVE")
                                           : span_of(filler, bytes);
        assert_int_equal(zmq_send(socket, frame.data, frame.bytes, i + 1 < count ? ZMQ_SNDMORE : 0),
                         (int)frame.bytes);
    }
    const char *const expected[] = {"1.0", id, "400"};
    for (int i = 0; i < 6; i++) {
        char got[256] = "";
        const int bytes_got = zmq_recv(socket, got, sizeof got - 1, 0);
        assert_true(bytes_got >= 0);
        if (i < 3) {
            assert_string_equal(got, expected[i]);
        } else if (i > 3) {
            assert_int_equal(bytes_got, 0); // No user, no metadata.
        }
    }
    zmq_close(socket);
}

static void test_malformed_requests(void **state)
{
    (void)state;
    for (size_t count = 2; count < 12; count++) {
        ask(count, 32, "17");
    }
    ask(7, 0, "17");
    ask(7, 1000, "");
    ask(1, 0, "");
    ask(40, 200, "17");
    struct link *const link = peer(&friend, server.public);
    comes_in(link, &friend);
    link_close(link);
}

// ---------------------------------------------------------------- handlers that are not ours

struct fake {
    void *socket;
    pthread_t thread;
    char user[80];
    const char *status;
};

static void *fake_serve(void *argument)
{
    const struct fake *const fake = argument;
    for (;;) {
        char id[256];
        int id_bytes = 0, more = 1;
        size_t more_bytes = sizeof more;
        for (int i = 0; more != 0; i++) {
            char frame[256];
            const int bytes = zmq_recv(fake->socket, frame, sizeof frame, 0);
            if (bytes < 0) {
                zmq_close(fake->socket);
                return NULL;
            }
            if (i == 1) {
                memcpy(id, frame, (size_t)bytes);
                id_bytes = bytes;
            }
            zmq_getsockopt(fake->socket, ZMQ_RCVMORE, &more, &more_bytes);
        }
        zmq_send(fake->socket, "1.0", 3, ZMQ_SNDMORE);
        zmq_send(fake->socket, id, (size_t)id_bytes, ZMQ_SNDMORE);
        zmq_send(fake->socket, fake->status, 3, ZMQ_SNDMORE);
        zmq_send(fake->socket, "", 0, ZMQ_SNDMORE);
        zmq_send(fake->socket, fake->user, strlen(fake->user), ZMQ_SNDMORE);
        zmq_send(fake->socket, "", 0, 0);
    }
}

static void fake_open(struct fake *fake, struct link_context *where, const char *status,
                      const char *user)
{
    *fake = (struct fake){.status = status};
    snprintf(fake->user, sizeof fake->user, "%s", user);
    fake->socket = zmq_socket(link_context_zmq(where), ZMQ_REP);
    assert_int_equal(zmq_bind(fake->socket, "inproc://zeromq.zap.01"), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_serve, fake), 0);
}

// A peer whose key is not told, or told as something that is no key, has none: what it says is dropped.
static void test_nameless_messages(void **state)
{
    (void)state;
    static const char *const users[] = {
        "", "somebody", "00112233445566778899aabbccddeeff00112233445566778899aabbccddee",
        "zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"};
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        struct link_context *apart = NULL;
        struct link *apart_router = NULL, *link = NULL;
        struct fake fake;
        struct link_security security = {.own = server, .domain = "clients"};
        assert_int_equal(link_context_open(&apart), OK);
        fake_open(&fake, apart, "200", users[i]);
        assert_int_equal(link_open(apart, LINK_ROUTER, &security, &apart_router), OK);
        assert_int_equal(link_bind(apart_router, "tcp://127.0.0.1:*", endpoint), OK);
        link = peer(&friend, server.public);
        const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
        bool sent = false;
        while (link_dropped(apart_router) == 0) {
            struct link_message message;
            assert_true(clock_mono_ms() < until_ms);
            sent = sent || link_send(link, NULL, span_text("hello"), span_of(NULL, 0)) == OK;
            wait_a_bit();
            assert_int_equal(link_receive(apart_router, &message), ERR_UNAVAILABLE);
        }
        link_close(link);
        link_close(apart_router);
        link_context_close(apart);
        assert_int_equal(pthread_join(fake.thread, NULL), 0);
    }
}

static void test_self_test(void **state)
{
    (void)state;
    const int64_t began_ms = clock_mono_ms();
    assert_int_equal(zap_self_test(context, zap), OK);
    const int64_t took_ms = clock_mono_ms() - began_ms;
    print_message("the self-test took %d ms\n", (int)took_ms);
    assert_true(took_ms < TEST_MS_MAX); // On a busy machine; alone it takes 10.
    // Nobody is left who may come in by it.
    struct link *const link = peer(&friend, server.public);
    comes_in(link, &friend);
    link_close(link);
}

// The test itself is tested where nobody, everybody, or nobody at all is let in.
static void test_self_test_fails(void **state)
{
    (void)state;
    struct link_context *apart = NULL;
    struct fake fake;
    assert_int_equal(link_context_open(&apart), OK);
    assert_int_equal(zap_self_test(apart, zap), ERR_IO);
    assert_non_null(strstr(err_text(), "a peer whose key is allowed has not come in"));
    link_context_close(apart);
    assert_int_equal(link_context_open(&apart), OK);
    fake_open(&fake, apart, "400", "");
    assert_int_equal(zap_self_test(apart, zap), ERR_IO);
    assert_non_null(strstr(err_text(), "a peer whose key is allowed has not come in"));
    link_context_close(apart);
    assert_int_equal(pthread_join(fake.thread, NULL), 0);
    assert_int_equal(link_context_open(&apart), OK);
    char user[CURVEKEY_HEX_BYTES];
    hex_put(user, friend.public, CURVEKEY_BYTES);
    fake_open(&fake, apart, "200", user);
    assert_int_equal(zap_self_test(apart, zap), ERR_IO);
    assert_non_null(strstr(err_text(), "a peer came in whose key is not allowed"));
    link_context_close(apart);
    assert_int_equal(pthread_join(fake.thread, NULL), 0);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define WITH_ROUTER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decision),      WITH_ROUTER(test_friends_come_in),
        WITH_ROUTER(test_strangers_do_not),   WITH_ROUTER(test_plain_server),
        WITH_ROUTER(test_key_taken_away),     WITH_ROUTER(test_many_keys),
        WITH_ROUTER(test_no_handler),         WITH_ROUTER(test_one_handler),
        WITH_ROUTER(test_malformed_requests), WITH_ROUTER(test_nameless_messages),
        WITH_ROUTER(test_self_test),          WITH_ROUTER(test_self_test_fails),
    };
#undef WITH_ROUTER
    return cmocka_run_group_tests_name("zap", tests, NULL, NULL);
}
