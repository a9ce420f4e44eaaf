// coordinator/storage.h: the store thread, the only one that touches the disk.
//
// The main loop submits jobs. The thread runs those that write in the order in which they came;
// neighbouring JOB_WRITE jobs share one transaction, so requests that arrive together share one commit.
// Those that read run in their own order, some between two commits: later perhaps than something that
// was submitted after them and writes, never earlier than what was submitted before. A finished job
// comes back to the main loop, which calls its `done`, in the order of the runs. So what is true for a
// job's `run` (what the store holds) is true for its `done` (what the loop's memory says).
//
// A JOB_WRITE's run should make its checks before its first write: an error returned before that
// leaves the others of its transaction untouched. After an error that comes later, ERR_LIMIT (the map
// or the disk is full) or ERR_IO, the shared transaction is rolled back, `undo` is called for each
// job that had run, and each runs again in a transaction of its own. So `run` may be called twice and
// begins by clearing what it found the first time.
//
// A job is run on behalf of a principal, or of ourselves. Whether its key was revoked is asked right before
// it runs, in the thread in which alone it can be revoked: so a job stands before a revocation or after
// it, and what comes after it does nothing and reads nothing.
//
// A commit whose outcome is unknown (ERR_IO) ends the process: the next start reads what is true.
//
// Threads   submit, take: the main loop. run, undo: the store thread. done: the main loop.
#pragma once

#include "base/err.h"
#include "coordinator/mailbox.h"
#include "store/store.h"

enum job_kind {
    JOB_READ,        // A read transaction.
    JOB_WRITE,       // A write transaction, shared with its neighbours.
    JOB_WRITE_ALONE, // A write transaction of its own: for long or fallible writing.
    JOB_BARE,        // None: `run` gets no transaction, and the store to itself.
};

// What a job has committed and its ack will prove: a statement that is signed together with those of
// its whole batch, between the commit and the first `done` (storage_after_commit).
struct accepted {
    struct buf body;    // Written by `run`, anew each time it runs; empty: nothing to sign.
    struct buf receipt; // Written by the hook.
};
void accepted_deinit(struct accepted *accepted);

struct job {
    struct mail mail; // First.
    enum job_kind kind;
    enum err (*run)(struct job *job, struct store *store, struct txn *txn);
    void (*undo)(struct job *job, struct store *store); // May be NULL.
    void (*done)(struct job *job, void *core);          // Frees the job. Looks at result and text.
    struct accepted *accepted;                          // Or NULL. Owned by the job's outer struct.
    enum err result;
    char text[ERR_TEXT_BYTES]; // err_text of the result.
    bool ran;                  // Inside the thread: has run in the current transaction.
    uint64_t number;           // Inside the thread: of its submission.
    uint32_t principal;        // On whose behalf; 0: ours.
};

struct storage;

// Opens the store of `dir` and starts the thread. Errors: those of store_open.
MUST_USE enum err storage_open(const char *dir, uint64_t map_bytes, struct storage **storage_out);
// Runs what was submitted and calls `done` of every job, until none is left: at the end of the
// process, while the loop's memory still stands.
void storage_drain(struct storage *storage, void *core);
// Stops the thread and closes the store. Accepts NULL.
void storage_close(struct storage *storage);

// Sets the function that is called in the store thread after each commit, with the jobs of that
// commit, before any of them is handed back. Only before the loop starts.
void storage_after_commit(struct storage *storage,
                          void (*hook)(void *context, struct job **jobs, size_t count),
                          void *context);

// Jobs are handed over together: by storage_flush, storage_finished, storage_drain or storage_call.
// principal: number of who asked (store/principal.h); STORAGE_OURS: what follows from something that was
// committed, or nobody asked for. Revoked: `run` is not called, and the result is ERR_DENIED.
enum { STORAGE_OURS = 0 };
void storage_submit(struct storage *storage, struct job *job, uint32_t principal);
// The principal's jobs are denied from now on, or again are not: for `run` and `undo` of the job whose
// transaction says so. Numbers up to LIMIT_PRINCIPALS.
void storage_deny(struct storage *storage, uint32_t principal, bool denied);
void storage_flush(struct storage *storage);
// True while LIMIT_STORE_QUEUE jobs are under way: clients' requests must be refused. What the loop
// itself submits is bounded by what it follows from.
bool storage_is_full(const struct storage *storage);
uint32_t storage_count(const struct storage *storage); // Jobs under way.
int storage_fd(const struct storage *storage);         // Readable while a job is finished.
struct job *storage_finished(struct storage *storage); // The next finished job, or NULL.

// Runs one job now and waits for it; does not call done. Only before the loop starts.
MUST_USE enum err storage_call(struct storage *storage, struct job *job);

uint64_t storage_boot(const struct storage *storage);
// Bytes used and mapped as of the last transaction.
void storage_usage(const struct storage *storage, uint64_t *used_out, uint64_t *map_out);
void storage_body_key(const struct storage *storage, uint8_t key_out[static KEY_BYTES]);
