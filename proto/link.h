// proto/link.h: ZeroMQ sockets, and waiting on them. link.c is the only file that includes zmq.h.
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
#include "base/err.h"

struct link_context;
struct link;

enum link_kind { LINK_ROUTER, LINK_DEALER };
enum { LINK_PEER_BYTES = 5, LINK_ENDPOINT_BYTES = 256 };

// A ROUTER's name for a peer, made by ZeroMQ itself: valid while the connection lasts.
struct link_peer {
    uint8_t bytes[LINK_PEER_BYTES];
};

MUST_USE enum err link_context_open(struct link_context **context_out);
void link_context_close(struct link_context *context); // Accepts NULL.

MUST_USE enum err link_open(struct link_context *context, enum link_kind kind,
                            struct link **link_out);
void link_close(struct link *link); // Accepts NULL.

// Binds, and tells the endpoint that peers connect to (a port given as * is chosen by the system).
// ERR_IO: the address is taken or not one; ZeroMQ's words. ERR_INVALID: there is no such port.
MUST_USE enum err link_bind(struct link *link, const char *endpoint,
                            char endpoint_out[static LINK_ENDPOINT_BYTES]);
MUST_USE enum err link_connect(struct link *link, const char *endpoint);

struct link_message {
    struct link_peer peer; // ROUTER only.
    struct span envelope;  // Borrowed until the link's next receive.
    struct span raw;       // Empty when there is none.
};

// Takes the next message. ERR_UNAVAILABLE: none is waiting, or too many in a row were dropped. ERR_IO: ZeroMQ refused.
MUST_USE enum err link_receive(struct link *link, struct link_message *message_out);

// Gives the frames of the last message back, which the next link_receive would do.
void link_release(struct link *link);

// Sends; `peer` is NULL on a DEALER; an empty raw sends one frame. The bytes are copied.
// ERR_UNAVAILABLE: the peer is gone, or does not take messages fast enough. ERR_IO: else.
MUST_USE enum err link_send(struct link *link, const struct link_peer *peer, struct span envelope,
                            struct span raw);

// Messages dropped so far because of their shape.
uint64_t link_dropped(const struct link *link);

// Waits until a link or a file descriptor is ready, a signal came, or timeout_ms passed (-1: no
// end). Sets the flags of what is ready; both arrays may be empty.
struct link_wait_fd {
    int fd;
    bool ready;
};
MUST_USE enum err link_wait(struct link *const *links, bool *links_ready, size_t link_count,
                            struct link_wait_fd *fds, size_t fd_count, int timeout_ms);
