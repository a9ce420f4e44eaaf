// proto/arrears.h: what each connection makes us keep, and which is to be cut when that is too much.
//
// A peer can make the other side keep memory in two ways. It sends and never ends a message: ZeroMQ
// collects the frames of a message until its last one comes, without a bound and before the program sees
// any of them. Or it does not read what it is sent. Both can be seen from outside: bytes that the
// kernel has received for a connection against bytes that came out of it as whole messages, bytes that
// were handed over for it against bytes that its peer's kernel has acknowledged. The difference is the
// arrears of that connection; who is too deep in them is cut.
//
// Heartbeats are received, too, and are never part of a message: whenever a message came and little is
// left over, that little is forgiven. As messages come in the order of their bytes, what is forgiven is at
// most once FORGIVEN bytes of an unfinished message. A connection that is idle but for heartbeats for so
// long that they reach the limit (weeks) is cut, and made anew by its owner's ZeroMQ.
//
// Pure: watch.h looks at the kernel and does the cutting.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    ARREARS_FORGIVEN = 4096, // A few hundred heartbeats.
    // A message of no shape that is known counts as if it were so long, whatever it was: after some
    // hundred of them its sender is cut, but nobody who has got a descriptor of such a one by chance.
    ARREARS_JUNK_BYTES = 64 * 1024,
};

struct arrears_limits {
    uint32_t connections;
    uint64_t waiting;           // Bytes of one connection that were received, and not delivered.
    uint64_t waiting_strangers; // Of all that never sent a message.
    uint64_t waiting_all;
    uint64_t unread; // Bytes for one connection that it has not taken.
    uint64_t unread_all;
};

struct arrears {
    uint64_t order;     // Greater: accepted later.
    bool heard;         // It has sent a message.
    bool cut;           // Only waits to be gone.
    uint64_t delivered; // Of `received`, or forgiven.
    uint64_t debt;      // Of junk.
    uint64_t handed,
        forgone; // Handed over for it; and acknowledged of what was not (handshake, heartbeats).
    uint64_t waiting, unread; // As of the last look.
};

// What was seen of a connection. The first three since the last look, and taken before the others.
struct arrears_seen {
    uint64_t delivered, handed;
    uint32_t junk;
    uint64_t received, acknowledged; // Ever.
    uint64_t queued;                 // Of received: still in the kernel.
};
void arrears_look(struct arrears *connection, const struct arrears_seen *seen);

enum arrears_reason {
    ARREARS_NONE,
    ARREARS_WAITING,     // It never ends its messages, or all of them together are too much.
    ARREARS_UNREAD,      // It does not read.
    ARREARS_CONNECTIONS, // There are too many.
    ARREARS_REASONS,
};

// Which of them is to be cut next, if any; *which_out. Call until there is none, with `cut` set.
// Where the sum is too much, the one with the most; where there are too many, the oldest that never
// sent a message (so that whoever connects and asks is served, however many only connect), or else the
// newest.
enum arrears_reason arrears_judge(const struct arrears *connections, uint32_t count,
                                  const struct arrears_limits *limits, uint32_t *which_out);
