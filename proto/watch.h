// proto/watch.h: cuts the connections of a ROUTER that make us keep too much; see arrears.h for which.
//
// A thread of its own, so that it works whatever the loop does, asks the kernel every 20 ms what each
// connection has received and sent, and is told by the link what came out and went in. Cutting is
// shutdown(2): ZeroMQ then drops the connection with all that it kept for it, as if the peer had gone; no
// other connection notices. A peer that means well comes back by itself.
//
// What a flood gets between two looks is not bounded by this but by how fast it is received.
//
// Lifetime  From before the socket is bound until before it is closed.
// Threads   open, close, delivered, junk, handed: the one that owns the socket. counts: any.
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "proto/arrears.h"

struct watch;

enum { WATCH_DESCRIPTORS = 5 }; // That one takes.

// ERR_IO: ZeroMQ or the system refuses.
MUST_USE enum err watch_open(void *zmq_context, void *zmq_socket,
                             const struct arrears_limits *limits, struct watch **watch_out);
void watch_close(struct watch *watch); // Accepts NULL.

// Of the connection with this descriptor, as ZeroMQ tells it with each message; others are ignored.
void watch_delivered(struct watch *watch, int fd,
                     uint64_t bytes);         // A whole message, with its framing.
void watch_junk(struct watch *watch, int fd); // One that is none of ours.
void watch_handed(struct watch *watch, int fd, uint64_t bytes); // A message for it.

struct watch_counts {
    uint32_t connections, connections_max;
    uint64_t cut[ARREARS_REASONS];        // So far.
    uint64_t waiting_bytes, unread_bytes; // Of all, at the last look.
};
void watch_counts(struct watch *watch, struct watch_counts *counts_out);
