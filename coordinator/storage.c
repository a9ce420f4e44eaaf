// coordinator/storage.c: see storage.h.
#include "coordinator/storage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prompt.h"
#include "store/request.h"

enum {
    BATCH_MAX = 256,  // Jobs of one shared transaction: bounds the time to the first ack.
    GATHER_LEAST = 8, // Jobs of a commit after which the next one waits for as many,
    GATHER_US = 1000, // this long at most.
    // While acks wait, reading takes so long between two commits,
    READ_US = 1000,
    READ_PAUSE_US = 10000, // and then not again for so long.
    USAGE_US = 20000,      // Between two looks at it, while many write.
};

struct storage {
    struct store *store;
    struct mailbox *inbox;
    struct mailbox *outbox;
    pthread_t thread;
    bool threaded;
    uint64_t boot;
    uint8_t body_key[KEY_BYTES];
    _Atomic uint64_t used_bytes, map_bytes;
    uint64_t submitted, taken; // Jobs; the main loop's.
    struct mail *first, *last; // Submitted and not yet handed over; the main loop's.
    size_t shared;             // Jobs of the last shared transaction; the store thread's.
    bool denied[LIMIT_PRINCIPALS +
                1];       // By number. As the transaction that is open says; the store thread's.
    int64_t read_next_us; // Before it nothing is read while acks wait; the store thread's.
    int64_t usage_us;     // When the usage was looked at; the store thread's.
    void (*after_commit)(void *context, struct job **jobs, size_t count);
    void *after_commit_context;
};

static void keep_result(struct job *job, enum err result)
{
    job->result = result;
    job->text[0] = '\0';
    if (result != OK) {
        memcpy(job->text, err_text(), sizeof job->text);
    }
}

static _Noreturn void outcome_unknown(void)
{
    log_error("commit_failed", "reason=\"%s\" action=exit", err_text());
    _exit(1);
}

// Says so when the job must not run.
static bool is_denied(const struct storage *storage, struct job *job)
{
    const bool denied = storage->denied[job->principal];
    if (denied) {
        keep_result(job, err_raise(ERR_DENIED, "this key was revoked"));
    }
    return denied;
}

void storage_deny(struct storage *storage, uint32_t principal, bool denied)
{
    CHECK(principal > 0 && principal <= LIMIT_PRINCIPALS);
    storage->denied[principal] = denied;
}

// Runs one job. False: its transaction must not be committed. After ERR_LIMIT and ERR_IO that is
// LMDB's word, after a write that of a job which failed half-way; else the transaction is untouched.
static bool run_in(struct storage *storage, struct job *job, struct txn *txn)
{
    const uint64_t before = txn_writes(txn);
    keep_result(job, job->run(job, storage->store, txn));
    return job->result == OK ||
           (job->result != ERR_LIMIT && job->result != ERR_IO && txn_writes(txn) == before);
}

// Runs one job in a transaction of its own.
static void run_alone(struct storage *storage, struct job *job)
{
    const bool write = job->kind != JOB_READ;
    struct txn *txn = NULL;
    if (is_denied(storage, job)) {
        return;
    }
    if (job->kind == JOB_BARE) {
        keep_result(job, job->run(job, storage->store, NULL));
        return;
    }
    enum err result = txn_begin(storage->store, write, &txn);
    if (result == OK) {
        const enum err ran = job->run(job, storage->store, txn);
        result = txn_end(txn, ran);
        if (write && ran == OK && result != OK && result != ERR_LIMIT) {
            outcome_unknown();
        }
        if (result != OK && job->undo != NULL) {
            job->undo(job, storage->store);
        }
    }
    keep_result(job, result);
}

// Runs jobs[count] in one transaction. False: it had to be rolled back; none has happened.
static bool run_shared(struct storage *storage, struct job **jobs, size_t count)
{
    struct txn *txn = NULL;
    if (txn_begin(storage->store, true, &txn) != OK) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < count && good; i++) {
        if (!is_denied(storage, jobs[i])) {
            jobs[i]->ran = true;
            good = run_in(storage, jobs[i], txn);
        }
    }
    const enum err ended = txn_end(txn, good ? OK : ERR_CANCELLED);
    if (good && ended != OK && ended != ERR_LIMIT) {
        outcome_unknown();
    }
    const bool stands = ended == OK;
    for (size_t i = 0; i < count; i++) {
        const bool undone = !stands || jobs[i]->result != OK;
        if (jobs[i]->ran && undone && jobs[i]->undo != NULL) {
            jobs[i]->undo(jobs[i], storage->store);
        }
        jobs[i]->ran = false;
    }
    return stands;
}

// Counting LMDB's free pages is work of its own: not after each commit of many.
static void look_at_usage(struct storage *storage, bool alone)
{
    const int64_t now_us = clock_mono_us();
    if (alone || now_us - storage->usage_us >= USAGE_US) {
        uint64_t used = 0, map = 0;
        store_usage(storage->store, &used, &map);
        atomic_store(&storage->used_bytes, used);
        atomic_store(&storage->map_bytes, map);
        storage->usage_us = now_us;
    }
}

static void run_batch(struct storage *storage, struct job **jobs, size_t count)
{
    if (count == 1 || !run_shared(storage, jobs, count)) {
        for (size_t i = 0; i < count; i++) {
            run_alone(storage, jobs[i]);
        }
    }
    if (storage->after_commit != NULL) {
        storage->after_commit(storage->after_commit_context, jobs, count);
    }
    look_at_usage(storage, count == 1 && jobs[0]->kind != JOB_READ);
    for (size_t i = 0; i + 1 < count; i++) {
        jobs[i]->mail.next = &jobs[i + 1]->mail;
    }
    mailbox_put_all(storage->outbox, &jobs[0]->mail, &jobs[count - 1]->mail);
}

// ---------------------------------------------------------------- the thread

struct lane {
    struct mail *first, *last;
    size_t count;
};

static void lane_put(struct lane *lane, struct mail *mail)
{
    mail->next = NULL;
    if (lane->last == NULL) {
        lane->first = mail;
    } else {
        lane->last->next = mail;
    }
    lane->last = mail;
    lane->count++;
}

static struct job *lane_take(struct lane *lane)
{
    struct mail *const mail = lane->first;
    if (mail != NULL) {
        lane->first = mail->next;
        lane->last = lane->first == NULL ? NULL : lane->last;
        lane->count--;
    }
    return (struct job *)mail;
}

static bool lane_shares(const struct lane *lane)
{
    return lane->first != NULL && ((const struct job *)lane->first)->kind == JOB_WRITE;
}

struct lanes {
    struct lane writers, readers;
    uint64_t taken;
};

// It must see all that was submitted before it.
static bool may_read(const struct lanes *lanes)
{
    const struct job *const reader = (const struct job *)lanes->readers.first;
    const struct job *const writer = (const struct job *)lanes->writers.first;
    return reader != NULL && (writer == NULL || reader->number < writer->number);
}

static void sort_in(struct lanes *lanes, struct mail *mail)
{
    struct job *const job = (struct job *)mail;
    job->number = lanes->taken++;
    lane_put(job->kind == JOB_READ ? &lanes->readers : &lanes->writers, mail);
}

// Takes over what was submitted; waits when there is nothing else to do. False: the end.
static bool take_all(struct storage *storage, struct lanes *lanes)
{
    const bool idle = lanes->writers.first == NULL && lanes->readers.first == NULL;
    struct mail *mail = mailbox_take(storage->inbox, idle);
    if (mail == NULL && idle) {
        return false;
    }
    for (; mail != NULL; mail = mailbox_take(storage->inbox, false)) {
        sort_in(lanes, mail);
    }
    return true;
}

// After a commit that was shared by many, their clients ask for the next one within a moment: waiting
// for them saves a commit, and those who are early the wait for one more.
static void gather(struct storage *storage, struct lanes *lanes)
{
    const int64_t until_us = clock_mono_us() + GATHER_US;
    while (storage->shared >= GATHER_LEAST && lane_shares(&lanes->writers) &&
           lanes->writers.count < storage->shared) {
        struct mail *const mail = mailbox_take_until(storage->inbox, until_us);
        if (mail == NULL) {
            return;
        }
        sort_in(lanes, mail);
    }
}

static void write_some(struct storage *storage, struct lanes *lanes)
{
    struct lane *const writers = &lanes->writers;
    struct job *jobs[BATCH_MAX];
    size_t count = 0;
    gather(storage, lanes);
    if (lane_shares(writers)) {
        while (lane_shares(writers) && count < BATCH_MAX) {
            jobs[count++] = lane_take(writers);
        }
        storage->shared = count;
    } else if (writers->first != NULL) {
        jobs[count++] = lane_take(writers);
    }
    if (count > 0) {
        run_batch(storage, jobs, count);
    }
}

// One at least, if there is one and it is their turn.
static void read_some(struct storage *storage, struct lanes *lanes)
{
    const int64_t began_us = clock_mono_us();
    if (lanes->readers.first == NULL) {
        return;
    }
    for (struct mail *mail; (mail = mailbox_take(storage->inbox, false)) != NULL;) {
        sort_in(lanes, mail); // Does anybody wait for an ack?
    }
    if (lane_shares(&lanes->writers) && began_us < storage->read_next_us) {
        return;
    }
    while (may_read(lanes)) {
        struct job *job = lane_take(&lanes->readers);
        run_batch(storage, &job, 1);
        storage->read_next_us = clock_mono_us() + READ_PAUSE_US;
        if (clock_mono_us() >= began_us + READ_US) {
            return;
        }
    }
}

static void *work(void *argument)
{
    struct storage *const storage = argument;
    struct lanes lanes = {.taken = 0};
    (void)prompt_set(false); // Who waits for an answer goes first.
    while (take_all(storage, &lanes)) {
        write_some(storage, &lanes);
        read_some(storage, &lanes);
    }
    return NULL;
}

static enum err start(struct storage *storage, const char *dir, uint64_t map_bytes)
{
    TRY(store_open(dir, map_bytes, &storage->store));
    storage->boot = store_boot(storage->store);
    request_body_key(storage->store, storage->body_key);
    TRY(mailbox_open(&storage->inbox));
    TRY(mailbox_open(&storage->outbox));
    // A transaction belongs to its thread; the environment was opened by this one and handed over.
    if (pthread_create(&storage->thread, NULL, work, storage) != 0) {
        FAIL(ERR_IO, "the store thread could not be started");
    }
    storage->threaded = true;
    return OK;
}

enum err storage_open(const char *dir, uint64_t map_bytes, struct storage **storage_out)
{
    struct storage *const storage = mem_alloc(1, sizeof *storage);
    const enum err err = start(storage, dir, map_bytes);
    if (err != OK) {
        storage_close(storage);
        return err;
    }
    *storage_out = storage;
    return OK;
}

void storage_close(struct storage *storage)
{
    if (storage == NULL) {
        return;
    }
    if (storage->threaded) {
        mailbox_stop(storage->inbox);
        pthread_join(storage->thread, NULL);
    }
    mailbox_close(storage->inbox);
    mailbox_close(storage->outbox);
    store_close(storage->store);
    mem_free(storage);
}

void storage_after_commit(struct storage *storage,
                          void (*hook)(void *context, struct job **jobs, size_t count),
                          void *context)
{
    storage->after_commit = hook;
    storage->after_commit_context = context;
}

void accepted_deinit(struct accepted *accepted)
{
    buf_deinit(&accepted->body);
    buf_deinit(&accepted->receipt);
}

void storage_submit(struct storage *storage, struct job *job, uint32_t principal)
{
    CHECK(principal <= LIMIT_PRINCIPALS);
    job->principal = principal;
    storage->submitted++;
    job->mail.next = NULL;
    if (storage->last == NULL) {
        storage->first = &job->mail;
    } else {
        storage->last->next = &job->mail;
    }
    storage->last = &job->mail;
}

void storage_flush(struct storage *storage)
{
    if (storage->first != NULL) {
        mailbox_put_all(storage->inbox, storage->first, storage->last);
        storage->first = storage->last = NULL;
    }
}

void storage_drain(struct storage *storage, void *core)
{
    while (storage->submitted > storage->taken) {
        storage_flush(storage);
        struct job *const job = (struct job *)mailbox_take(storage->outbox, true);
        storage->taken++;
        job->done(job, core);
    }
}

bool storage_is_full(const struct storage *storage)
{
    return storage->submitted - storage->taken >= LIMIT_STORE_QUEUE;
}

uint32_t storage_count(const struct storage *storage)
{
    return (uint32_t)(storage->submitted - storage->taken);
}

int storage_fd(const struct storage *storage)
{
    return mailbox_fd(storage->outbox);
}

struct job *storage_finished(struct storage *storage)
{
    storage_flush(storage);
    struct job *const job = (struct job *)mailbox_take(storage->outbox, false);
    storage->taken += job != NULL;
    return job;
}

enum err storage_call(struct storage *storage, struct job *job)
{
    storage_submit(storage, job, STORAGE_OURS);
    storage_flush(storage);
    struct mail *const back = mailbox_take(storage->outbox, true);
    CHECK(back == &job->mail);
    storage->taken++;
    return job->result == OK ? OK : err_raise(job->result, "%s", job->text);
}

uint64_t storage_boot(const struct storage *storage)
{
    return storage->boot;
}

void storage_usage(const struct storage *storage, uint64_t *used_out, uint64_t *map_out)
{
    *used_out = atomic_load(&storage->used_bytes);
    *map_out = atomic_load(&storage->map_bytes);
}

void storage_body_key(const struct storage *storage, uint8_t key_out[static KEY_BYTES])
{
    memcpy(key_out, storage->body_key, KEY_BYTES);
}
