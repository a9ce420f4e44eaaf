// coordinator/fleetdom.h: fleets, their workers, and the leases they hold; private to leases.c,
// workers.c, stream.c and copies.c.
//
// A lease is the right of one worker, or of a group of workers of one fleet, to train one stage, until
// a deadline that its beats renew, under a fencing number that is never used twice (the store's boot
// number is its upper half). Each member pulls parent and records for itself and says when it is done;
// member 0 leads: its weights are the result, once all members have given the same digest. A member
// that dies, fails or lets its deadline pass ends the lease for all. A
// result counts only while the lease is current and the versions of the cells that it read still
// stand; both are checked in the transaction that stores it.
//
//   OPENING    the store thread reads the cells' versions
//   TRAINING   the worker pulls parent and records, trains, beats
//   RECEIVING  the worker is done; its weights are pulled, 4 chunks in flight
//   STORING    the store thread checks and commits
//
// A cancelled lease stays allocated until the jobs that point at it have come back.
//
// Workers keep cells and weights between stages. What a worker may hold is known here (copies.c), and what
// was deleted is wiped there before a request says `erased`.
#pragma once

#include "coordinator/core.h"
#include "proto/cover.h"
#include "scheduler/locality.h"

enum lease_phase { LEASE_OPENING, LEASE_TRAINING, LEASE_RECEIVING, LEASE_STORING };

struct stream { // Records on their way to a worker: touched by the store thread's jobs in turn.
    uint32_t position; // In the component's list.
    bool started;      // `after` is set.
    struct record_key after;
    uint8_t skip[(LIMIT_SLICES + 7) / 8]; // Bit i: the worker holds the cell of the list's entry i.
    uint32_t next_sequence;               // Of the chunk that is asked for next; the loop's.
};

struct member {            // One worker's part in a lease.
    struct worker *worker; // NULL: it has left, or is done and does not lead.
    uint32_t rank;
    bool done; // Has given its digest.
    int64_t deadline_ms;
    struct stream stream;
    uint32_t pulls; // Of records, under way in the store thread.
};

struct lease {
    uint64_t number;
    uint8_t key[SEAL_KEY_BYTES]; // Seals its chunks (proto/cover.h).
    enum lease_phase phase;
    bool ended;             // No longer counts: freed when `jobs` is 0.
    uint32_t jobs;          // Under way in the store thread.
    struct member *members; // [member_count], by rank. Owned.
    uint32_t member_count;  // 1 ..
    uint32_t done_count;    // Members that are done.
    uint32_t model;
    struct component name;
    struct placement placement;
    uint32_t dataset;
    bool compare;  // Only to be compared with what is stored.
    bool compared; // Its result was reported.
    struct verify_task task;
    struct weights *parent; // Held; NULL where the stage starts anew.
    struct base *base;      // That the model stands on. Held; NULL: none.
    uint64_t versions[LIMIT_SLICES];
    uint64_t slice_records[LIMIT_SLICES];
    uint64_t records;
    uint64_t samples; // Of the whole stage.
    uint64_t samples_done;
    uint64_t param_count;
    int64_t began_ms;
    float *params; // The result. Owned; given to `weights` when stored.
    uint64_t result_bytes;
    uint32_t pulls_sent, chunks_received;
    struct digest digest; // As the workers say.
    double seconds;
    uint64_t stored; // Instance as which the result was stored; 0: not.
};

struct worker {
    struct link_peer peer;
    const struct principal_row *principal; // Whose key it has; NULL: without keys.
    uint64_t number;
    char name[LIMIT_NAME_BYTES + 1]; // host/pid
    uint32_t rank, ranks;            // Of its fleet, as it says.
    struct id128 fleet;
    int64_t last_ms;
    struct lease *lease; // NULL: idle.
    uint32_t member;     // Its index in the lease.
    bool stopping;       // Told to cancel; not idle until it says so.
    int64_t stopping_ms; // Since when.
    int64_t joined_ms;
    int64_t alive_ms; // When it was last told that the coordinator lives.
    // What it may hold, the stage that it is at included.
    struct locality locality;
    uint64_t forget_first, forget_last; // Not yet answered; 0: all are.
    int64_t forget_ms;                  // Since when the first one is not.
    uint64_t held_bytes, held_limit_bytes, found_bytes, pulled_bytes; // As it says.
};

struct fleet {
    struct id128 id;
    struct link_peer peer;
    char launcher[LIMIT_NAME_BYTES + 1]; // host/pid: its runs of mpirun follow one another.
    uint32_t ranks;
    int64_t last_ms;
    bool lost_rank; // Drained: no new leases; restarted when the others are idle.
    bool drain;     // The same, because it asks for it.
};

struct fleetdom {
    struct worker *workers[LIMIT_WORKERS];
    uint32_t worker_count;
    struct fleet fleets[LIMIT_FLEETS];
    uint32_t fleet_count;
    uint64_t last_worker;
    uint64_t last_lease; // Or stamp: both are numbers of messages that let a worker hold something.
    uint64_t last_forget;
    int64_t quiet_until_ms; // Until then workers of an earlier run may hold something: copies.c.
    int64_t stuck_ms;       // When to look again for models that do not get on.
    char refusal[512];      // Why a worker was refused since the last one joined.
    struct buf frame;
    struct buf raw; // A sealed chunk on its way out.
    struct wire_arena arena;
};

// Sends to a worker or fleet. False: it does not take messages.
bool workers_send(struct core *core, const struct link_peer *peer, Unlearn__ToWorker *message,
                  struct span raw);
struct worker *workers_find(struct core *core, const struct link_peer *peer); // Or NULL.
void workers_refuse(struct core *core, const struct link_peer *peer, const char *reason);
void workers_hello(struct core *core, const struct link_peer *peer,
                   const struct principal_row *principal, const Unlearn__WorkerHello *hello);
void workers_fleet_hello(struct core *core, const struct link_peer *peer,
                         const Unlearn__FleetHello *hello);
void workers_fleet_beat(struct core *core, const struct link_peer *peer,
                        const Unlearn__FleetBeat *beat);
// Drops a worker; `lost`: it died, so its fleet must be drained and started anew.
void workers_drop(struct core *core, struct worker *worker, bool lost);
void workers_tick(struct core *core); // Silent workers and fleets.
bool workers_may_lease(struct core *core, const struct worker *worker); // Idle, not draining.
// The same, and its key is for the dataset.
bool workers_may_train(struct core *core, const struct worker *worker, uint32_t dataset);

// Ends a lease: the component is free to be leased again. `tell`: send Cancel to its workers. A
// comparison that has no result yet will be tried again.
void lease_end(struct core *core, struct lease *lease, bool tell);
// Ends the lease that a worker holds, which knows of it no more: the other members are told.
void lease_end_without(struct core *core, struct worker *worker);
// What the worker says that it has trained so far.
void lease_progress(struct core *core, struct lease *lease, uint64_t samples_done);
void lease_compared(struct core *core, struct lease *lease, enum comparison result);
// A job that points at the lease has come back. False: the lease had ended and is freed now.
bool lease_job_back(struct core *core, struct lease *lease);

void worker_free(struct worker *worker);

// --- copies.c: what workers hold

// Before the lease's message is sent to its members.
void copies_lent(struct core *core, const struct lease *lease);
// Its result was stored: the first member may keep it. The stamp of the message that says so; 0: it is
// of no use to anybody.
uint64_t copies_stored(struct core *core, const struct lease *lease, struct worker *worker);
// A worker that said hello a second time: what it holds since the first is nobody's.
void copies_restart(struct core *core, struct worker *worker);
void copies_held(struct worker *worker, const Unlearn__Held *held);
void copies_forgotten(struct worker *worker, uint64_t number);
void copies_tick(struct core *core); // Cuts off who does not answer.
// After so long without a word from the coordinator a worker holds nothing any more: as long as it has for
// an answer, but 5 s at most, for which a coordinator that was started again waits.
int64_t copies_silence_ms(const struct core *core);
// The worker, or another idle one that holds more of what the stage stands on.
struct worker *copies_nearest(struct core *core, struct worker *worker, const struct model *model,
                              uint32_t shard, uint32_t node);

// --- stream.c
// `member`: index of the sender in the lease.
void stream_pull(struct core *core, struct lease *lease, uint32_t member,
                 const Unlearn__WorkerPull *pull);
void stream_done(struct core *core, struct lease *lease, uint32_t member,
                 const Unlearn__StageDone *done);
// From member 0.
void stream_weights(struct core *core, struct lease *lease, const Unlearn__WeightsChunk *chunk,
                    struct span raw);
// The result is complete and was stored, or refused.
void lease_failed(struct core *core, struct lease *lease, bool retry, const char *reason);
