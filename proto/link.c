// proto/link.c: see link.h.
#include "proto/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/check.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"

// A call drops so many messages at most: a peer that sends nothing else must not hold the loop.
enum { FRAMES_MAX = 3, POLL_MAX = 64, DROPS_MAX = 64 };
// And so many frames of one message: it may have millions, which the next calls go on with.
enum { FRAMES_A_CALL = 4096 };
// What a frame takes on the wire beside its bytes: flags and a length of 1 byte or 8, and with CurveZMQ
// the name of its command, nonce, MAC and flags.
enum { FRAMING_SHORT = 2, FRAMING_LONG = 9, FRAME_SHORT_MAX = 255, FRAMING_CURVE = 33 };
// zmq.h of 4.3.4 leaves its name out unless drafts are asked for, but the library takes it.
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif
#ifndef ZMQ_ZERO_COPY_RECV
#define ZMQ_ZERO_COPY_RECV 10
#endif

struct link_context {
    void *zmq;
};

struct link {
    const struct link_context *context;
    void *zmq;
    enum link_kind kind;
    bool keyed; // ROUTER: a peer has a key.
    uint8_t key[CURVEKEY_BYTES];
    void *monitor; // DEALER: tells of failed handshakes.
    enum link_trouble trouble;
    struct watch *watch; // ROUTER, or NULL.
    bool skipping;       // In the midst of a message that has too many frames.
    uint64_t dropped;
    zmq_msg_t frames[FRAMES_MAX]; // Of the last message: peer, envelope, raw.
    bool held[FRAMES_MAX];
};

static enum err refused(const char *what)
{
    FAIL(ERR_IO, "ZeroMQ: %s: %s", what, zmq_strerror(zmq_errno()));
}

enum err link_context_open(struct link_context **context_out)
{
    void *const zmq = zmq_ctx_new();
    if (zmq == NULL) {
        return refused("context");
    }
    // One service, many clients; the process's own descriptor limit is the real bound.
    zmq_ctx_set(zmq, ZMQ_MAX_SOCKETS, 1023);
    // Else each received frame of 34 bytes or more keeps the buffer of 18 KB that it was read into: a peer
    // that sends them one at a time has us keep 500 bytes for each of its own. Larger frames than that
    // buffer are read into their own memory anyway.
    if (zmq_ctx_set(zmq, ZMQ_ZERO_COPY_RECV, 0) != 0) {
        const enum err err = refused("zero copy");
        zmq_ctx_term(zmq);
        return err;
    }
    struct link_context *const context = mem_alloc(1, sizeof *context);
    context->zmq = zmq;
    *context_out = context;
    return OK;
}

void link_context_close(struct link_context *context)
{
    if (context != NULL) {
        while (zmq_ctx_term(context->zmq) != 0 && zmq_errno() == EINTR) {
        }
        mem_free(context);
    }
}

void *link_context_zmq(const struct link_context *context)
{
    return context->zmq;
}

// The socket options and why they differ from ZeroMQ's defaults.
static bool set_options(void *zmq, enum link_kind kind)
{
    const struct {
        int option;
        int value;
    } options[] = {
        {ZMQ_LINGER, 500},         // Default: for ever; an exit would hang on a dead peer.
        {ZMQ_SNDHWM, 64},          // Messages queued for one peer; beyond it the peer is slow.
        {ZMQ_RCVHWM, 64},          // The default of 1000 x 1 MiB would be 1 GiB a peer.
        {ZMQ_HEARTBEAT_IVL, 2000}, // Default: none; a dead host would be noticed in hours.
        {ZMQ_HEARTBEAT_TIMEOUT, 6000},
        {ZMQ_HEARTBEAT_TTL, 6000},
        {ZMQ_HANDSHAKE_IVL, 3000}, // Default 30 s: too kind to half-open connections.
        {ZMQ_BACKLOG, 1024}, // Default 100: a fleet that comes back all at once would wait seconds.
        {ZMQ_RECONNECT_IVL, 100},
        {ZMQ_RECONNECT_IVL_MAX, 2000},
        {ZMQ_IPV6, 0},
    };
    bool good = true;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const int value = options[i].value;
        good = good && zmq_setsockopt(zmq, options[i].option, &value, sizeof value) == 0;
    }
    // A larger frame ends its connection before it is stored.
    const int64_t bytes_max = LIMIT_CHUNK_BYTES + 64 * 1024;
    good = good && zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &bytes_max, sizeof bytes_max) == 0;
    // Say when a peer is gone or slow, instead of dropping (ROUTER) or queueing for nobody (DEALER).
    const int yes = 1;
    const int honest = kind == LINK_ROUTER ? ZMQ_ROUTER_MANDATORY : ZMQ_IMMEDIATE;
    return good && zmq_setsockopt(zmq, honest, &yes, sizeof yes) == 0;
}

static bool set_key(void *zmq, int option, const uint8_t key[static CURVEKEY_BYTES])
{
    return zmq_setsockopt(zmq, option, key, CURVEKEY_BYTES) == 0;
}

static bool set_security(void *zmq, enum link_kind kind, const struct link_security *security)
{
    const int yes = 1;
    if (kind == LINK_DEALER) {
        return set_key(zmq, ZMQ_CURVE_SERVERKEY, security->server) &&
               set_key(zmq, ZMQ_CURVE_PUBLICKEY, security->own.public) &&
               set_key(zmq, ZMQ_CURVE_SECRETKEY, security->own.secret);
    }
    // Unless the domain is enforced, a server whose ZAP handler is gone lets everybody in.
    return zmq_setsockopt(zmq, ZMQ_CURVE_SERVER, &yes, sizeof yes) == 0 &&
           set_key(zmq, ZMQ_CURVE_SECRETKEY, security->own.secret) &&
           zmq_setsockopt(zmq, ZMQ_ZAP_DOMAIN, security->domain, strlen(security->domain)) == 0 &&
           zmq_setsockopt(zmq, ZMQ_ZAP_ENFORCE_DOMAIN, &yes, sizeof yes) == 0;
}

// A socket on which ZeroMQ tells of handshakes that failed. NULL: it refused.
static void *watch_handshakes(void *context, void *zmq)
{
    char name[64];
    const int linger = 0;
    const int unbounded =
        0; // Its thread would wait for room; an event is some bytes in two seconds.
    snprintf(name, sizeof name, "inproc://link-%p", zmq);
    void *const monitor = zmq_socket(context, ZMQ_PAIR);
    if (monitor == NULL) {
        return NULL;
    }
    if (zmq_setsockopt(monitor, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_setsockopt(monitor, ZMQ_RCVHWM, &unbounded, sizeof unbounded) != 0 ||
        zmq_socket_monitor(zmq, name,
                           ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) != 0 ||
        zmq_connect(monitor, name) != 0) {
        zmq_close(monitor);
        return NULL;
    }
    return monitor;
}

enum err link_open(struct link_context *context, enum link_kind kind,
                   const struct link_security *security, struct link **link_out)
{
    void *const zmq = zmq_socket(context->zmq, kind == LINK_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (zmq == NULL) {
        return refused("socket");
    }
    bool good = set_options(zmq, kind);
    good = good && (security == NULL || set_security(zmq, kind, security));
    void *const monitor = good && kind == LINK_DEALER ? watch_handshakes(context->zmq, zmq) : NULL;
    if (!good || (kind == LINK_DEALER && monitor == NULL)) {
        const enum err err = refused("socket option");
        zmq_close(zmq);
        return err;
    }
    struct link *const link = mem_alloc(1, sizeof *link);
    link->context = context;
    link->zmq = zmq;
    link->kind = kind;
    link->keyed = kind == LINK_ROUTER && security != NULL;
    link->monitor = monitor;
    *link_out = link;
    return OK;
}

void link_release(struct link *link)
{
    for (int i = 0; i < FRAMES_MAX; i++) {
        if (link->held[i]) {
            zmq_msg_close(&link->frames[i]);
            link->held[i] = false;
        }
    }
}

void link_close(struct link *link)
{
    if (link != NULL) {
        link_release(link);
        watch_close(link->watch);
        if (link->monitor != NULL) {
            zmq_socket_monitor(link->zmq, NULL, 0);
            zmq_close(link->monitor);
        }
        zmq_close(link->zmq);
        mem_free(link);
    }
}

enum err link_limit(struct link *link, const struct arrears_limits *limits)
{
    CHECK(link->kind == LINK_ROUTER && link->watch == NULL);
    return watch_open(link->context->zmq, link->zmq, limits, &link->watch);
}

void link_counts(const struct link *link, struct watch_counts *counts_out)
{
    if (link == NULL || link->watch == NULL) {
        *counts_out = (struct watch_counts){0};
    } else {
        watch_counts(link->watch, counts_out);
    }
}

// ZeroMQ takes a port modulo 65536 without a word: 99999 would listen on 34463.
static enum err check_port(const char *endpoint)
{
    const char *const colon = strrchr(endpoint, ':');
    uint64_t port = 0;
    if (colon != NULL && colon[1] >= '0' && colon[1] <= '9' &&
        text_u64(colon + 1, UINT16_MAX, &port) != OK) {
        FAIL(ERR_INVALID, "the port of %s is not one from 0 to %d", endpoint, (int)UINT16_MAX);
    }
    return OK;
}

enum err link_bind(struct link *link, const char *endpoint,
                   char endpoint_out[static LINK_ENDPOINT_BYTES])
{
    TRY(check_port(endpoint));
    if (zmq_bind(link->zmq, endpoint) != 0) {
        return refused(endpoint);
    }
    size_t bytes = LINK_ENDPOINT_BYTES;
    if (zmq_getsockopt(link->zmq, ZMQ_LAST_ENDPOINT, endpoint_out, &bytes) != 0) {
        return refused("last endpoint");
    }
    return OK;
}

enum err link_connect(struct link *link, const char *endpoint)
{
    TRY(check_port(endpoint));
    if (zmq_connect(link->zmq, endpoint) != 0) {
        return refused(endpoint);
    }
    return OK;
}

static uint64_t wire_bytes(const struct link *link, size_t frame_bytes)
{
    const size_t bytes = frame_bytes + (link->keyed ? FRAMING_CURVE : 0);
    return bytes + (bytes > FRAME_SHORT_MAX ? FRAMING_LONG : FRAMING_SHORT);
}

// Receives one frame. ERR_UNAVAILABLE: none is waiting.
static enum err receive_frame(struct link *link, zmq_msg_t *frame)
{
    int got;
    zmq_msg_init(frame);
    do {
        got = zmq_msg_recv(frame, link->zmq, ZMQ_DONTWAIT);
    } while (got < 0 && zmq_errno() == EINTR);
    if (got < 0) {
        const bool none = zmq_errno() == EAGAIN;
        const enum err err = none ? ERR_UNAVAILABLE : refused("receive");
        zmq_msg_close(frame);
        return none ? err_raise(ERR_UNAVAILABLE, "no message is waiting") : err;
    }
    return OK;
}

// Drops what is left of a message, so much of it as a call may. ERR_UNAVAILABLE: there is more.
static enum err skip(struct link *link)
{
    for (int i = 0; link->skipping; i++) {
        zmq_msg_t frame;
        if (i == FRAMES_A_CALL) {
            FAIL(ERR_UNAVAILABLE, "a message of more than %d frames is dropped",
                 (int)FRAMES_A_CALL);
        }
        TRY(receive_frame(link, &frame));
        link->skipping = zmq_msg_more(&frame) != 0;
        zmq_msg_close(&frame);
    }
    return OK;
}

// Receives the frames of one message, at most FRAMES_MAX: of longer ones the rest is to be skipped.
static enum err receive_frames(struct link *link, size_t *count_out)
{
    link_release(link);
    TRY(skip(link));
    size_t count = 0;
    for (bool more = true; more && count < FRAMES_MAX; count++) {
        TRY(receive_frame(link, &link->frames[count]));
        link->held[count] = true;
        more = zmq_msg_more(&link->frames[count]) != 0;
        link->skipping = more;
    }
    *count_out = count;
    return OK;
}

static struct span frame_span(zmq_msg_t *frame)
{
    return span_of(zmq_msg_data(frame), zmq_msg_size(frame));
}

// Who the sender of a message has proved to be. ZeroMQ 4.3.4 knows it of the frames after the routing id
// alone, and what the handler said of its key is no content: a peer cannot choose it.
static bool take_key(struct link *link, const zmq_msg_t *envelope)
{
    const char *const user = link->keyed ? zmq_msg_gets(envelope, "User-Id") : NULL;
    return !link->keyed || (user != NULL && hex_get(link->key, sizeof link->key, user) == OK);
}

static void put_fd(struct link_peer *peer, int fd)
{
    for (int i = 0; i < 3; i++) {
        peer->fd[i] = (uint8_t)((fd < 0 ? 0u : (unsigned)fd) >> 8 * i & 0xFF);
    }
}

static int peer_fd(const struct link_peer *peer)
{
    return peer->fd[0] | peer->fd[1] << 8 | peer->fd[2] << 16;
}

// A peer that chose its own routing id could pose as another: ours have 5 bytes, the first 0.
static bool is_own_name(zmq_msg_t *frame)
{
    return zmq_msg_size(frame) == LINK_PEER_BYTES && *(const uint8_t *)zmq_msg_data(frame) == 0;
}

// The watch is told of the message. As with User-Id: of the first frame it is not known.
static int tell_watch(struct link *link, size_t count, bool good)
{
    const int fd = count < 2 ? 0 : zmq_msg_get(&link->frames[1], ZMQ_SRCFD);
    if (!good) {
        watch_junk(link->watch, fd);
        return fd;
    }
    uint64_t bytes = 0;
    for (size_t i = 1; i < count; i++) {
        bytes += wire_bytes(link, zmq_msg_size(&link->frames[i]));
    }
    watch_delivered(link->watch, fd, bytes);
    return fd;
}

enum err link_receive(struct link *link, struct link_message *message_out)
{
    const size_t first = link->kind == LINK_ROUTER ? 1 : 0;
    for (int drops = 0; drops < DROPS_MAX; drops++) {
        size_t count = 0;
        TRY(receive_frames(link, &count));
        const bool good = !link->skipping && (first == 0 || is_own_name(&link->frames[0])) &&
                          (count == first + 1 || count == first + 2) &&
                          take_key(link, &link->frames[first]);
        const int fd = link->watch == NULL ? 0 : tell_watch(link, count, good);
        if (good) {
            link->trouble = LINK_FINE;
            *message_out = (struct link_message){.key = link->keyed ? link->key : NULL};
            if (first == 1) {
                memcpy(message_out->peer.bytes, zmq_msg_data(&link->frames[0]), LINK_PEER_BYTES);
                put_fd(&message_out->peer, fd);
            }
            message_out->envelope = frame_span(&link->frames[first]);
            if (count == first + 2) {
                message_out->raw = frame_span(&link->frames[first + 1]);
            }
            return OK;
        }
        link->dropped++;
    }
    FAIL(ERR_UNAVAILABLE, "the last %d messages were dropped because of their shape",
         (int)DROPS_MAX);
}

// Sends one frame. The first frame of a message decides whether the peer takes it; the later ones
// then go through.
static int send_frame(struct link *link, const void *data, size_t bytes, bool more)
{
    int sent;
    do {
        sent = zmq_send(link->zmq, data, bytes, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
    } while (sent < 0 && zmq_errno() == EINTR);
    return sent;
}

enum err link_send(struct link *link, const struct link_peer *peer, struct span envelope,
                   struct span raw)
{
    CHECK((peer != NULL) == (link->kind == LINK_ROUTER));
    bool good = peer == NULL || send_frame(link, peer->bytes, LINK_PEER_BYTES, true) >= 0;
    good = good && send_frame(link, envelope.data, envelope.bytes, raw.bytes > 0) >= 0;
    good = good && (raw.bytes == 0 || send_frame(link, raw.data, raw.bytes, false) >= 0);
    if (!good) {
        if (zmq_errno() == EAGAIN || zmq_errno() == EHOSTUNREACH) {
            FAIL(ERR_UNAVAILABLE, "the peer is gone or takes no messages");
        }
        return refused("send");
    }
    if (link->watch != NULL) {
        watch_handed(link->watch, peer_fd(peer),
                     wire_bytes(link, envelope.bytes) +
                         (raw.bytes > 0 ? wire_bytes(link, raw.bytes) : 0));
    }
    return OK;
}

uint64_t link_dropped(const struct link *link)
{
    return link == NULL ? 0 : link->dropped;
}

enum link_trouble link_trouble(struct link *link)
{
    uint8_t
        event[6]; // Its number, u16 of this machine, and a value; then a frame with the endpoint.
    uint8_t endpoint[LINK_ENDPOINT_BYTES];
    while (link->monitor != NULL &&
           zmq_recv(link->monitor, event, sizeof event, ZMQ_DONTWAIT) > 0) {
        uint16_t number;
        memcpy(&number, event, sizeof number);
        (void)zmq_recv(link->monitor, endpoint, sizeof endpoint, ZMQ_DONTWAIT);
        const bool told = number == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
        link->trouble = told ? LINK_REFUSED : LINK_STRANGE;
    }
    return link->trouble;
}

enum err link_wait(struct link *const *links, bool *links_ready, size_t link_count,
                   struct link_wait_fd *fds, size_t fd_count, int timeout_ms)
{
    zmq_pollitem_t items[POLL_MAX];
    CHECK(link_count + fd_count <= POLL_MAX);
    for (size_t i = 0; i < link_count; i++) {
        items[i] = (zmq_pollitem_t){.socket = links[i]->zmq, .events = ZMQ_POLLIN};
    }
    for (size_t i = 0; i < fd_count; i++) {
        items[link_count + i] = (zmq_pollitem_t){.fd = fds[i].fd, .events = ZMQ_POLLIN};
    }
    const int ready = zmq_poll(items, (int)(link_count + fd_count), timeout_ms);
    if (ready < 0 && zmq_errno() != EINTR) {
        return refused("poll");
    }
    for (size_t i = 0; i < link_count; i++) {
        links_ready[i] = ready > 0 && (items[i].revents & ZMQ_POLLIN) != 0;
    }
    for (size_t i = 0; i < fd_count; i++) {
        fds[i].ready = ready > 0 && (items[link_count + i].revents & ZMQ_POLLIN) != 0;
    }
    return OK;
}
