// shard_worker/group.h: training one stage together with other ranks of the fleet: who is there, and
// gradients from one to the other.
//
// Everything else (lease, records, parent, result) goes over the link to the coordinator. A member may
// die at any moment and MPI tells nobody, so whoever waits here polls: the other side (MPI_Test) and,
// through `waiter`, the coordinator, which notices by the missing beats and cancels the lease.
//
// What is safe after a death was measured (Open MPI 4.1): messages between survivors, and
// communicators made among them. What is not: a blocking call that a dead rank has a part in. The one
// that cannot be avoided, MPI_Comm_create_group, comes after all members have said that they are
// ready, its result is kept for the next stage of the same ranks, and a rank that stays inside it
// for GROUP_CREATE_S seconds ends itself; the fleet is then started anew.
//
// An aborted stage abandons its communicator. Messages under way keep their memory until MPI is done
// with it; a rank that has buried too many of them ends itself likewise.
//
// The calls are a table so that the session can be tested without MPI.
//
// Lifetime  group_start once, after ranks_start. One group at a time: join, exchange ..., leave.
// Threads   The main thread only (MPI_THREAD_FUNNELED).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    GROUP_CREATE_S = 5,       // Making a communicator takes milliseconds.
    GROUP_GRACE_MS = 200,     // See join.
    GROUP_READY_MS = 60000,   // Members fetch the records at different speeds.
    GROUP_SILENCE_MS = 30000, // In an exchange; one subtree of one batch takes less.
};

// Called every few milliseconds while something is waited for. False: give up.
struct group_waiter {
    bool (*go_on)(void *context);
    void *context;
};

struct group_calls {
    // Waits until all members of the lease have called it, then connects them. ranks: [count] of the
    // fleet, ascending; ranks[index] is this one. count 2 ..
    //
    // When told to give up it still waits GROUP_GRACE_MS: another member may have heard that all are
    // ready, and would then be stuck in a call that this one has a part in.
    //   ERR_CANCELLED    the waiter said so.
    //   ERR_UNAVAILABLE  the others did not come in GROUP_READY_MS.   ERR_IO  MPI refused.
    //   No leave is due after an error.
    enum err (*join)(uint64_t lease, const uint32_t *ranks, uint32_t count, uint32_t index,
                     const struct group_waiter *waiter);

    // Sends `mine` to a member and receives `theirs_out` from it, float32[count] each; NULL: nothing
    // in that direction. The other calls it with the same count, and NULL where this one has none.
    //   ERR_CANCELLED    the waiter said so.
    //   ERR_UNAVAILABLE  nothing came for GROUP_SILENCE_MS.   ERR_IO  MPI refused.
    //   After an error only leave(false) remains.
    enum err (*exchange)(uint32_t partner, const float *mine, float *theirs_out, uint64_t count,
                         const struct group_waiter *waiter);

    // The stage is over. `clean`: all its exchanges returned OK; the connection is kept for the next
    // stage of the same ranks, else abandoned.
    void (*leave)(bool clean);

    // Pushes on what MPI has left to do; to be called now and then in between. True: a group ended
    // not long ago, and its messages may wait for this; call again within milliseconds.
    bool (*progress)(void);
};

extern const struct group_calls group_mpi;

// Once, after ranks_start; all ranks of the fleet call it. ERR_IO: MPI refused, in its words.
MUST_USE enum err group_start(void);
