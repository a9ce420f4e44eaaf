// proto/link.c: see link.h.
#include "proto/link.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"

// A call drops so many messages at most: a peer that sends nothing else must not hold the loop.
enum { FRAMES_MAX = 3, POLL_MAX = 16, DROPS_MAX = 64 };

struct link_context {
    void *zmq;
};

struct link {
    void *zmq;
    enum link_kind kind;
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

enum err link_open(struct link_context *context, enum link_kind kind, struct link **link_out)
{
    void *const zmq = zmq_socket(context->zmq, kind == LINK_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (zmq == NULL) {
        return refused("socket");
    }
    if (!set_options(zmq, kind)) {
        const enum err err = refused("socket option");
        zmq_close(zmq);
        return err;
    }
    struct link *const link = mem_alloc(1, sizeof *link);
    link->zmq = zmq;
    link->kind = kind;
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
        zmq_close(link->zmq);
        mem_free(link);
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

// Receives the frames of one whole message; *count_out is how many there were, of which the first
// FRAMES_MAX are held.
static enum err receive_frames(struct link *link, size_t *count_out)
{
    link_release(link);
    size_t count = 0;
    for (int more = 1; more != 0; count++) {
        zmq_msg_t spare;
        // cppcheck-suppress uninitvar ; zmq_msg_init sets it.
        zmq_msg_t *const frame = count < FRAMES_MAX ? &link->frames[count] : &spare;
        zmq_msg_init(frame);
        int got;
        do {
            got = zmq_msg_recv(frame, link->zmq, ZMQ_DONTWAIT);
        } while (got < 0 && zmq_errno() == EINTR);
        if (got < 0) {
            const bool none = zmq_errno() == EAGAIN;
            const enum err err = none ? ERR_UNAVAILABLE : refused("receive");
            zmq_msg_close(frame);
            return none ? err_raise(ERR_UNAVAILABLE, "no message is waiting") : err;
        }
        more = zmq_msg_more(frame);
        if (frame == &spare) {
            zmq_msg_close(&spare);
        } else {
            link->held[count] = true;
        }
    }
    *count_out = count;
    return OK;
}

static struct span frame_span(zmq_msg_t *frame)
{
    return span_of(zmq_msg_data(frame), zmq_msg_size(frame));
}

enum err link_receive(struct link *link, struct link_message *message_out)
{
    const size_t first = link->kind == LINK_ROUTER ? 1 : 0;
    for (int drops = 0; drops < DROPS_MAX; drops++) {
        size_t count = 0;
        TRY(receive_frames(link, &count));
        // A peer that chose its own routing id could pose as another: ours have 5 bytes, the first 0.
        const bool good_peer =
            first == 0 || (zmq_msg_size(&link->frames[0]) == LINK_PEER_BYTES &&
                           *(const uint8_t *)zmq_msg_data(&link->frames[0]) == 0);
        if (good_peer && (count == first + 1 || count == first + 2)) {
            *message_out = (struct link_message){0};
            if (first == 1) {
                memcpy(message_out->peer.bytes, zmq_msg_data(&link->frames[0]), LINK_PEER_BYTES);
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
    return OK;
}

uint64_t link_dropped(const struct link *link)
{
    return link->dropped;
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
