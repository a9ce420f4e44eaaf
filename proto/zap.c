// proto/zap.c: see zap.h.
#include "proto/zap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/check.h"
#include "base/digest.h"
#include "base/mem.h"

static const char handler_name[] = "inproc://zeromq.zap.01"; // RFC 27 fixes it.

struct zap {
    pthread_t thread;
    void *requests; // REP; the thread's once it runs.
    void *bell;     // PAIR: a message ends the thread.
    void *ear;      // Its other end, the thread's.
    pthread_mutex_t lock;
    struct zap_domain domains[ZAP_DOMAINS]; // Under the lock.
    _Atomic uint64_t allowed, refused;
};

// --- The decision

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, CURVEKEY_BYTES);
}

static struct zap_answer refuse(const char *why)
{
    return (struct zap_answer){.status = "400", .why = why};
}

struct zap_answer zap_decide(const struct zap_domain domains[static ZAP_DOMAINS],
                             const struct span *frames, size_t frame_count)
{
    enum { VERSION, REQUEST, DOMAIN, ADDRESS, ROUTING_ID, MECHANISM, CREDENTIALS };
    if (frame_count <= MECHANISM || !span_equal(frames[VERSION], span_text("1.0"))) {
        return refuse("malformed");
    }
    if (!span_equal(frames[MECHANISM], span_text("CURVE"))) {
        return refuse("no key");
    }
    if (frame_count != ZAP_FRAMES || frames[CREDENTIALS].bytes != CURVEKEY_BYTES) {
        return refuse("malformed");
    }
    const struct zap_domain *domain = NULL;
    for (size_t i = 0; i < ZAP_DOMAINS; i++) {
        if (domains[i].name[0] != '\0' && span_equal(frames[DOMAIN], span_text(domains[i].name))) {
            domain = &domains[i];
        }
    }
    if (domain == NULL) {
        return refuse("unknown domain");
    }
    if (domain->count == 0 || bsearch(frames[CREDENTIALS].data, domain->keys, domain->count,
                                      CURVEKEY_BYTES, compare_keys) == NULL) {
        return refuse("unknown key");
    }
    struct zap_answer answer = {.status = "200", .why = "OK"};
    hex_put(answer.user, frames[CREDENTIALS].data, CURVEKEY_BYTES);
    return answer;
}

void zap_allow(struct zap *zap, const char *domain, const uint8_t (*keys)[CURVEKEY_BYTES],
               size_t count)
{
    CHECK(domain[0] != '\0' && strlen(domain) < ZAP_NAME_BYTES);
    uint8_t(*const sorted)[CURVEKEY_BYTES] = mem_alloc(count + 1, CURVEKEY_BYTES);
    if (count > 0) {
        memcpy(sorted, keys, count * CURVEKEY_BYTES);
        qsort(sorted, count, CURVEKEY_BYTES, compare_keys);
    }
    CHECK(pthread_mutex_lock(&zap->lock) == 0);
    size_t at = 0; // Names are given in order and stay: the first free place ends them.
    while (at < ZAP_DOMAINS && zap->domains[at].name[0] != '\0' &&
           strcmp(zap->domains[at].name, domain) != 0) {
        at++;
    }
    CHECK(at < ZAP_DOMAINS);
    struct zap_domain *const place = &zap->domains[at];
    void *const old = place->keys;
    snprintf(place->name, sizeof place->name, "%s", domain);
    place->keys = sorted;
    place->count = count;
    CHECK(pthread_mutex_unlock(&zap->lock) == 0);
    mem_free(old);
}

// --- The thread

// One request as it came; what is too long or too much of it is cut, and then refused.
struct request {
    uint8_t bytes[ZAP_FRAMES][ZAP_FRAME_BYTES];
    struct span frames[ZAP_FRAMES];
    size_t count;
    bool cut;
};

static bool take_request(void *requests, struct request *request)
{
    request->count = 0;
    request->cut = false;
    for (int more = 1; more != 0;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, requests, 0) < 0) {
            zmq_msg_close(&frame);
            return false;
        }
        const size_t bytes = zmq_msg_size(&frame);
        if (request->count < ZAP_FRAMES && bytes <= ZAP_FRAME_BYTES) {
            uint8_t *const at = request->bytes[request->count];
            memcpy(at, zmq_msg_data(&frame), bytes);
            request->frames[request->count++] = span_of(at, bytes);
        } else {
            request->cut = true;
        }
        more = zmq_msg_more(&frame);
        zmq_msg_close(&frame);
    }
    return true;
}

static void reply(void *requests, struct span id, const struct zap_answer *answer)
{
    const struct span frames[] = {
        span_text("1.0"),          id,
        span_text(answer->status), span_text(answer->why),
        span_text(answer->user),   span_text(""), // No metadata.
    };
    const size_t count = sizeof frames / sizeof frames[0];
    for (size_t i = 0; i < count; i++) {
        // When it fails the handshake stays unanswered, and so refused.
        (void)zmq_send(requests, frames[i].data, frames[i].bytes, i + 1 < count ? ZMQ_SNDMORE : 0);
    }
}

static void answer_one(struct zap *zap)
{
    struct request request;
    if (!take_request(zap->requests, &request)) {
        return; // A signal; poll tells again.
    }
    struct zap_answer answer = {.status = "400", .why = "malformed"};
    if (!request.cut) {
        CHECK(pthread_mutex_lock(&zap->lock) == 0);
        answer = zap_decide(zap->domains, request.frames, request.count);
        CHECK(pthread_mutex_unlock(&zap->lock) == 0);
    }
    // Counted first: whoever sees the outcome finds it counted.
    atomic_fetch_add(answer.user[0] != '\0' ? &zap->allowed : &zap->refused, 1);
    reply(zap->requests, request.count > 1 ? request.frames[1] : span_of(NULL, 0), &answer);
}

static void *serve(void *argument)
{
    struct zap *const zap = argument;
    for (;;) {
        zmq_pollitem_t items[2] = {{.socket = zap->requests, .events = ZMQ_POLLIN},
                                   {.socket = zap->ear, .events = ZMQ_POLLIN}};
        const int ready = zmq_poll(items, 2, -1);
        if (ready < 0 && zmq_errno() != EINTR) {
            break; // The context ends.
        }
        if (ready > 0 && (items[1].revents & ZMQ_POLLIN) != 0) {
            break;
        }
        if (ready > 0 && (items[0].revents & ZMQ_POLLIN) != 0) {
            answer_one(zap);
        }
    }
    zmq_close(zap->requests);
    zmq_close(zap->ear);
    return NULL;
}

static void *open_socket(void *context, int type)
{
    const int linger = 0;
    void *const socket = zmq_socket(context, type);
    if (socket != NULL) {
        zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    }
    return socket;
}

static bool open_sockets(struct zap *zap, void *context)
{
    char bell[64];
    snprintf(bell, sizeof bell, "inproc://zap-bell-%p", (void *)zap);
    zap->requests = open_socket(context, ZMQ_REP);
    zap->bell = open_socket(context, ZMQ_PAIR);
    zap->ear = open_socket(context, ZMQ_PAIR);
    return zap->requests != NULL && zap->bell != NULL && zap->ear != NULL &&
           zmq_bind(zap->requests, handler_name) == 0 && zmq_bind(zap->bell, bell) == 0 &&
           zmq_connect(zap->ear, bell) == 0;
}

static void close_sockets(const struct zap *zap)
{
    void *const sockets[] = {zap->requests, zap->bell, zap->ear};
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++) {
        if (sockets[i] != NULL) {
            zmq_close(sockets[i]);
        }
    }
}

enum err zap_open(struct link_context *context, struct zap **zap_out)
{
    *zap_out = NULL;
    struct zap *const zap = mem_alloc(1, sizeof *zap);
    if (!open_sockets(zap, link_context_zmq(context))) {
        (void)err_raise(ERR_IO, "ZeroMQ: the ZAP handler: %s", zmq_strerror(zmq_errno()));
        close_sockets(zap);
        mem_free(zap);
        return ERR_IO;
    }
    CHECK(pthread_mutex_init(&zap->lock, NULL) == 0);
    const int failed = pthread_create(&zap->thread, NULL, serve, zap);
    if (failed != 0) {
        (void)err_raise(ERR_IO, "no thread for the ZAP handler: %s", strerror(failed));
        close_sockets(zap);
        mem_free(zap);
        return ERR_IO;
    }
    *zap_out = zap;
    return OK;
}

void zap_close(struct zap *zap)
{
    if (zap == NULL) {
        return;
    }
    while (zmq_send(zap->bell, "", 0, 0) < 0 && zmq_errno() == EINTR) {
    }
    CHECK(pthread_join(zap->thread, NULL) == 0);
    zmq_close(zap->bell);
    for (size_t i = 0; i < ZAP_DOMAINS; i++) {
        mem_free(zap->domains[i].keys);
    }
    CHECK(pthread_mutex_destroy(&zap->lock) == 0);
    mem_free(zap);
}

struct zap_counts zap_counts(struct zap *zap)
{
    return (struct zap_counts){atomic_load(&zap->allowed), atomic_load(&zap->refused)};
}
