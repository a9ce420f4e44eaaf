// proto/link.h: ZeroMQ sockets, and waiting on them. link.c, watch.c and zap.c alone include
// zmq.h.
//
// With keys a link is CurveZMQ: both sides prove that they hold their long-term keys, and what passes is
// encrypted under keys of the connection's own. A ROUTER asks the ZAP handler of its context (zap.h) who
// may come in; where there is none, nobody may. Without keys (`security` NULL) it is plain: for tests and
// for --insecure-loopback alone.
//
// A message is an envelope frame, or an envelope and one raw frame; on a ROUTER it comes with its
// peer. Anything else is dropped and counted. Sending never blocks: a full or unknown peer is
// ERR_UNAVAILABLE, and what to do then is the caller's (a slow peer loses its state, not the
// service).
//
// Settings, with their reasons in link.c: ROUTER_MANDATORY, IMMEDIATE, heartbeats of 2 s, frames of
// at most 1 MiB and a little, high-water marks of 64, linger of 500 ms, handshake of 3 s.
//
// Lifetime  link_open to link_close; all links before link_context_close.
// Threads   A link belongs to the thread that opened it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/curvekey.h"
#include "base/err.h"
#include "proto/watch.h"

struct link_context;
struct link;

enum link_kind { LINK_ROUTER, LINK_DEALER };
enum { LINK_PEER_BYTES = 5, LINK_ENDPOINT_BYTES = 256 };

// A ROUTER's name for a peer, made by ZeroMQ itself: valid while the connection lasts.
struct link_peer {
    uint8_t bytes[LINK_PEER_BYTES];
    uint8_t fd[3]; // Of its connection, for watch.h; 0: not known.
};

MUST_USE enum err link_context_open(struct link_context **context_out);
void link_context_close(struct link_context *context); // Accepts NULL.

// Who one is, and whom one talks to. Copied by link_open; the caller wipes its own.
struct link_security {
    struct curvekey own;
    uint8_t server[CURVEKEY_BYTES]; // DEALER: the only key that the other side may have.
    const char *domain;             // ROUTER: what zap.h knows the peers that may come in by.
};

// security: NULL: plain.
MUST_USE enum err link_open(struct link_context *context, enum link_kind kind,
                            const struct link_security *security, struct link **link_out);
void link_close(struct link *link); // Accepts NULL.

// Of a ROUTER, before it is bound: peers that make us keep more are cut; see watch.h. ERR_IO: the system
// refuses.
MUST_USE enum err link_limit(struct link *link, const struct arrears_limits *limits);
// All 0 without limits, or where link is NULL.
void link_counts(const struct link *link, struct watch_counts *counts_out);

// Binds, and tells the endpoint that peers connect to (a port given as * is chosen by the system).
// ERR_IO: the address is taken or not one; ZeroMQ's words. ERR_INVALID: there is no such port.
MUST_USE enum err link_bind(struct link *link, const char *endpoint,
                            char endpoint_out[static LINK_ENDPOINT_BYTES]);
MUST_USE enum err link_connect(struct link *link, const char *endpoint);

struct link_message {
    struct link_peer peer; // ROUTER only.
    // ROUTER with keys: the peer's public key[CURVEKEY_BYTES], which it has proved to hold; borrowed
    // like the frames. Else NULL.
    const uint8_t *key;
    struct span envelope; // Borrowed until the link's next receive.
    struct span raw;      // Empty when there is none.
};

// Takes the next message. ERR_UNAVAILABLE: none is waiting, or too many in a row were dropped. ERR_IO: ZeroMQ refused.
MUST_USE enum err link_receive(struct link *link, struct link_message *message_out);

// Gives the frames of the last message back, which the next link_receive would do.
void link_release(struct link *link);

// Sends; `peer` is NULL on a DEALER; an empty raw sends one frame. The bytes are copied.
// ERR_UNAVAILABLE: the peer is gone, or does not take messages fast enough. ERR_IO: else.
MUST_USE enum err link_send(struct link *link, const struct link_peer *peer, struct span envelope,
                            struct span raw);

// Messages dropped so far because of their shape, or of a peer whose key is not known. Accepts NULL.
uint64_t link_dropped(const struct link *link);

// Why a DEALER has no connection, as far as it was told since its last message came. ZeroMQ goes on
// trying.
enum link_trouble {
    LINK_FINE, // Nothing is known: most often nobody listens there.
    LINK_STRANGE, // Somebody does, who does not hold the expected key, or wants keys, or none, or hangs.
    LINK_REFUSED, // The peer is the expected one, and refuses this key.
};
enum link_trouble link_trouble(struct link *link);

// Waits until a link or a file descriptor is ready, a signal came, or timeout_ms passed (-1: no
// end). Sets the flags of what is ready; both arrays may be empty.
struct link_wait_fd {
    int fd;
    bool ready;
};
MUST_USE enum err link_wait(struct link *const *links, bool *links_ready, size_t link_count,
                            struct link_wait_fd *fds, size_t fd_count, int timeout_ms);

// ZeroMQ's own context: for zap.c alone.
void *link_context_zmq(const struct link_context *context);
