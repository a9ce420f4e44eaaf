// shard_worker/session.h: a worker's conversation with the coordinator.
//
// It says hello until it is welcome, beats while it lives, takes one lease at a time, fetches,
// trains and returns it. There is no second thread: while a stage is trained, the conversation goes
// on between its steps and while it waits for other ranks of a group, so a cancelled stage ends
// within one batch. A lost connection, a restarted
// coordinator, an Unknown, a coordinator that was silent for too long all come to the same: drop what
// is being done and kept (cache.h), and only then say hello again; the coordinator's deadline frees the
// lease. So a hello says that nothing is held of any record.
//
// What was deleted is wiped when the coordinator says Forget; the answer waits until a stage that is being
// trained on it has ended, too. What is held is told after each stage.
//
// Lifetime  session_open to session_close, inside the life of the link's context.
// Threads   One, which alone uses the link.
#pragma once

#include <signal.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "proto/link.h"
#include "shard_worker/group.h"

enum {
    SESSION_HELLO_MS = 2000,    // Between hellos that nobody answers.
    SESSION_SILENCE_MS = 60000, // Silence that is too long, unless the welcome says otherwise.
    SESSION_STALL_MS = 30000,   // A stream that brings nothing for so long fails its stage.
    SESSION_DRAIN_MS = 5,       // Between looks at the link while a stage is trained.
};

// Who the worker is. The texts and `stop` are kept until session_close.
struct session_options {
    const char *endpoint;                 // Of the coordinator's worker side.
    const struct link_security *security; // Read by session_open alone; NULL: without keys.
    const char *host;
    uint32_t pid;
    uint32_t rank, ranks; // This one, and all of its fleet.
    uint8_t fleet[ID_BYTES];
    struct digest profile;
    const char *core;
    const char *build;
    const volatile sig_atomic_t *stop; // Becomes non-zero when the worker shall leave; may be NULL.
    const struct group_calls *groups;  // NULL: it trains alone, and refuses leases of groups.
    uint64_t cache_bytes;              // Of cells and weights kept between stages; 0: none.
};

struct session;

// Connects; the coordinator need not be there. ERR_IO: ZeroMQ refused, most often the endpoint.
MUST_USE enum err session_open(struct link_context *context, const struct session_options *options,
                               struct session **session_out);

// One turn: sends what is due, waits at most timeout_ms for something to do, does it. Training a
// stage is part of the turn that received its last record.
//   ERR_DENIED     the coordinator refused this worker, or its key; the text is the reason. Leave.
//   ERR_CANCELLED  *stop is set. Leave.
//   ERR_IO         ZeroMQ refused. Leave.
// A stage that fails is reported to the coordinator and is no error here.
MUST_USE enum err session_turn(struct session *session, int timeout_ms);

// Says goodbye where it was welcome, and frees everything. Accepts NULL.
void session_close(struct session *session);
