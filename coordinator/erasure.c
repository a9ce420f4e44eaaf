// coordinator/erasure.c: see erasure.h.
#include "coordinator/erasure.h"

#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/approval.h"
#include "coordinator/removal.h"
#include "coordinator/statement.h"
#include "store/doom.h"

enum {
    REQUESTS_MAX = 128,   // Of one step: bounds the turn of the loop in which it is done.
    ROWS_AT_ONCE = 64,    // Between two looks at the clock.
    BUSY_STEP_US = 1000,  // Of writing, while clients delete fast;
    LATE_STEP_US = 20000, // at most, where erasing is late, or nobody is in a hurry.
    KEYS_LEAST = 256,     // Of one step: fewer are not worth its commit. Each more
    KEY_US = 20,          // takes so long of its budget.
    // No ack can share its commit: while clients delete fast, the next one waits so many times as long as it took.
    KEYS_PAUSE = 2,
    WINDOW_MS = 500, // Clients delete fast when so many ask in a window:
    WINDOW_ASKED = 16,
    RETRY_MS = 1000,
};

enum step { STEP_ROWS, STEP_KEYS, STEP_FINISH, STEP_COUNT_ };

struct erasure {
    struct request_queue rows;       // Fenced.
    struct request_queue forgetting; // Their rows are gone; workers may hold something of them.
    struct request_queue keys;       // Nobody does any more.
    struct request_queue later;      // Failed: tried again at again_ms.
    int64_t again_ms;                // 0: nothing to be tried again.
    bool paused;                     // Until then, all of it: the disk is full.
    bool sweeping;  // Some doomed keys were erased, others are left: no rows before.
    bool under_way; // A job.
    enum step last;
    int64_t window_ms;
    uint32_t asked, asked_before; // In this window and the one before.
    bool asked_now;               // Since the last step: it can share a commit with acks.
    int64_t keys_next_us;         // No step of keys before, while clients delete fast.
};

static struct erasure *erasure_of(struct core *core)
{
    if (core->erasure == NULL) {
        core->erasure = mem_alloc(1, sizeof *core->erasure);
    }
    return core->erasure;
}

void erasure_stop(struct core *core)
{
    erasure_of(core)->paused = true;
}

void erasure_free(struct core *core)
{
    mem_free(core->erasure);
    core->erasure = NULL;
}

// ---------------------------------------------------------------- the job

struct step_job {
    struct job job;
    enum step step;
    int64_t budget_us;
    const struct signer *signer;
    uint32_t count;
    struct request *requests[REQUESTS_MAX]; // The loop's: `run` does not look at them.
    uint64_t sequences[REQUESTS_MAX];
    enum request_kind kinds[REQUESTS_MAX];
    // Of the last run.
    uint32_t at;                  // That it works on; all before it are done.
    bool more;                    // STEP_KEYS: keys are left.
    int64_t erased_us;            // STEP_KEYS
    int64_t took_us;              // STEP_KEYS
    uint64_t keys[REQUESTS_MAX];  // STEP_KEYS: destroyed for the request.
    bool conflicts[REQUESTS_MAX]; // STEP_FINISH: not yet.
};

struct batch {
    struct pending items[ROWS_AT_ONCE];
    uint32_t indexes[ROWS_AT_ONCE];
    uint32_t count;
};

static bool add_pending(void *context, uint64_t sequence, uint32_t index,
                        const struct pending *pending)
{
    (void)sequence;
    struct batch *const batch = context;
    batch->items[batch->count] = *pending;
    batch->indexes[batch->count++] = index;
    return batch->count < ROWS_AT_ONCE;
}

// Some of a request's rows.
static enum err erase_pending(struct txn *txn, uint64_t sequence, bool *more_out)
{
    struct batch batch = {.count = 0};
    TRY(pending_walk(txn, sequence, add_pending, &batch));
    for (uint32_t i = 0; i < batch.count; i++) {
        const struct pending *const item = &batch.items[i];
        TRY(item->is_record ? record_remove(txn, &item->record)
                            : weights_drop(txn, item->instance));
        TRY(pending_drop(txn, sequence, batch.indexes[i]));
    }
    *more_out = batch.count == ROWS_AT_ONCE;
    return OK;
}

// A removal has its own rows to take away, in batches too.
static enum err erase_removed(struct txn *txn, uint64_t sequence, bool *more_out)
{
    struct request_row row;
    TRY(request_get(txn, sequence, &row));
    return removal_step(txn, &row, more_out);
}

// The rows of the requests, one after the other, until the time is over.
static enum err rows_run(struct step_job *step, struct txn *txn)
{
    const int64_t until_us = clock_mono_us() + step->budget_us;
    for (step->at = 0; step->at < step->count; step->at++) {
        const uint64_t sequence = step->sequences[step->at];
        bool more = true;
        doom_for(txn, sequence);
        while (more) {
            TRY(erase_pending(txn, sequence, &more));
            if (!more && step->kinds[step->at] != REQUEST_DELETE) {
                TRY(erase_removed(txn, sequence, &more));
            }
            if (clock_mono_us() >= until_us) {
                step->at += !more;
                return OK;
            }
        }
    }
    return OK;
}

static enum err keys_run(struct step_job *step, struct txn *txn)
{
    const int64_t began_us = clock_mono_us();
    step->at = 0;
    TRY(doom_erase(txn, KEYS_LEAST + (size_t)step->budget_us / KEY_US, &step->more));
    step->erased_us = clock_wall_us();
    for (; !step->more && step->at < step->count; step->at++) {
        struct request_row row;
        TRY(request_get(txn, step->sequences[step->at], &row));
        step->keys[step->at] = row.keys_destroyed;
        if (row.state ==
            REQUEST_REFUSED) { // That was all of it: nothing is proved, or repaired for it.
            TRY(awaited_drop_all(txn, row.sequence));
            TRY(request_model_drop_all(txn, row.sequence));
            row.completed_us = step->erased_us;
            TRY(request_put(txn, &row));
        } else if (row.state == REQUEST_FENCED) {
            row.state = REQUEST_ERASED;
            row.erased_us = step->erased_us;
            TRY(request_put(txn, &row));
        }
    }
    step->took_us = clock_mono_us() - began_us;
    return OK;
}

static enum err finish_run(struct step_job *step, struct txn *txn)
{
    const int64_t until_us = clock_mono_us() + step->budget_us;
    memset(step->conflicts, 0, sizeof step->conflicts);
    for (step->at = 0; step->at < step->count; step->at++) {
        struct request_row row;
        if (step->at > 0 && clock_mono_us() >= until_us) {
            return OK;
        }
        TRY(request_get(txn, step->sequences[step->at], &row));
        const enum err err = statement_complete(txn, step->signer, &row);
        // Another deletion came first, and the request waits for its repair, too. Nothing was written.
        step->conflicts[step->at] = err == ERR_CONFLICT;
        if (err != ERR_CONFLICT) {
            TRY(err);
        }
    }
    return OK;
}

static enum err step_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct step_job *const step = (struct step_job *)job;
    if (step->step == STEP_KEYS) {
        return keys_run(step, txn);
    }
    if (step->step == STEP_FINISH) {
        return finish_run(step, txn);
    }
    const enum err err = rows_run(step, txn);
    doom_for(txn, 0); // Others share the transaction.
    return err;
}

// ---------------------------------------------------------------- its end

static void put_off(struct core *core, struct request *request)
{
    struct erasure *const erasure = core->erasure;
    queue_put(&erasure->later, request);
    erasure->again_ms = core->now_ms + RETRY_MS;
}

static void log_request(const char *event, const struct request *request)
{
    char uuid[TEXT_UUID_BYTES];
    text_uuid_put(&request->row.uuid, uuid);
    log_info(event, "request=%s", uuid);
}

// Where a request that the step is done with goes.
static void advance(struct core *core, const struct step_job *step, uint32_t i)
{
    struct erasure *const erasure = core->erasure;
    struct request *const request = step->requests[i];
    if (step->step == STEP_ROWS) {
        queue_put(&erasure->forgetting, request);
    } else if (step->step == STEP_KEYS && request->row.state == REQUEST_REFUSED) {
        log_request("request_refused", request);
    } else if (step->step == STEP_KEYS) {
        request->row.state = REQUEST_ERASED;
        request->row.erased_us = step->erased_us;
        request->row.keys_destroyed = step->keys[i];
        log_request("request_erased", request);
        queue_put(&core->woken, request);
    } else if (step->conflicts[i]) {
        log_request("finish_put_off", request);
        put_off(core, request); // Else nobody would try again.
    } else {
        log_request("request_completed", request);
    }
}

// Whether the step was the last of the request.
static bool is_over(const struct step_job *step, uint32_t i)
{
    return step->step == STEP_FINISH
               ? !step->conflicts[i]
               : step->step == STEP_KEYS && step->requests[i]->row.state == REQUEST_REFUSED;
}

static struct request_queue *queue_of(struct core *core, enum step step)
{
    struct erasure *const erasure = erasure_of(core);
    return step == STEP_ROWS   ? &erasure->rows
           : step == STEP_KEYS ? &erasure->keys
                               : &core->repaired;
}

// Puts those that the step took and is not done with back where they were: first.
static void give_back(struct core *core, const struct step_job *step, uint32_t from)
{
    struct request_queue *const queue = queue_of(core, step->step);
    for (uint32_t i = step->count; i-- > from;) {
        queue_put_first(queue, step->requests[i]);
    }
}

static void step_failed(struct core *core, struct step_job *step)
{
    struct erasure *const erasure = core->erasure;
    const uint32_t at = step->at;
    const bool disk = step->job.result == ERR_LIMIT || step->job.result == ERR_IO;
    log_error("erase_failed", "sequence=%llu reason=\"%s\"",
              (unsigned long long)(at < step->count ? step->sequences[at] : 0), step->job.text);
    if (disk || at >= step->count || step->step == STEP_KEYS) { // Nobody's own fault.
        erasure->paused = true;
        erasure->again_ms = core->now_ms + RETRY_MS;
        give_back(core, step, 0);
        return;
    }
    put_off(core, step->requests[at]);
    memmove(&step->requests[at], &step->requests[at + 1],
            (step->count - at - 1) * sizeof *step->requests);
    step->count--;
    give_back(core, step, 0);
}

static bool is_busy(const struct erasure *erasure, int64_t now_ms)
{
    return now_ms - erasure->window_ms < 2 * (int64_t)WINDOW_MS &&
           (erasure->asked >= WINDOW_ASKED || erasure->asked_before >= WINDOW_ASKED);
}

static void next_step(struct core *core);

static void step_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct step_job *const step = (struct step_job *)job;
    struct erasure *const erasure = core->erasure;
    struct request *completed[REQUESTS_MAX];
    uint32_t completed_count = 0;
    erasure->under_way = false;
    if (step->step == STEP_KEYS) {
        erasure->keys_next_us = clock_mono_us() + KEYS_PAUSE * step->took_us;
    }
    if (job->result != OK) {
        step_failed(core, step);
    } else {
        for (uint32_t i = 0; i < step->at; i++) {
            advance(core, step, i);
            if (is_over(step, i)) {
                completed[completed_count++] = step->requests[i];
            }
        }
        give_back(core, step, step->at);
        catalog_drop_requests(core, completed, completed_count);
        erasure->sweeping = step->step == STEP_KEYS && step->more;
    }
    mem_free(step);
    // While clients delete fast, with the next of them: erasure_tick comes after their messages.
    if (!is_busy(erasure, core->now_ms)) {
        next_step(core);
    }
}

// ---------------------------------------------------------------- which step is next

void erasure_asked(struct core *core)
{
    struct erasure *const erasure = erasure_of(core);
    const int64_t since_ms = core->now_ms - erasure->window_ms;
    if (since_ms >= WINDOW_MS) {
        erasure->asked_before = since_ms < 2 * (int64_t)WINDOW_MS ? erasure->asked : 0;
        erasure->asked = 0;
        erasure->window_ms = core->now_ms;
    }
    erasure->asked++;
    erasure->asked_now = true;
}

// How long the first of the queue has waited; -1: it is empty.
static int64_t age_ms(const struct core *core, const struct request_queue *queue)
{
    return queue->first == NULL ? -1 : core->now_ms - queue->first->since_ms;
}

// What the step may take of the store thread; 0: it is not its turn.
static int64_t budget_us(struct core *core, enum step step)
{
    const struct erasure *const erasure = core->erasure;
    const int64_t age = age_ms(core, queue_of(core, step));
    if (age < 0 || (erasure->sweeping && step != STEP_KEYS)) {
        return 0;
    }
    if (!is_busy(erasure, core->now_ms)) {
        // The keys of many are erased at once: their rows first, unless that takes long.
        return step == STEP_KEYS && erasure->rows.count > 0 && age < ERASE_LAG_MS ? 0
                                                                                  : LATE_STEP_US;
    }
    if (age < ERASE_LAG_MS || !erasure->asked_now ||
        (step == STEP_KEYS && clock_mono_us() < erasure->keys_next_us)) {
        return 0;
    }
    const int64_t late = BUSY_STEP_US + (age - ERASE_LAG_MS); // A millisecond more for each second.
    return late < LATE_STEP_US ? late : LATE_STEP_US;
}

static void submit(struct core *core, enum step which, int64_t budget)
{
    struct erasure *const erasure = core->erasure;
    struct request_queue *const queue = queue_of(core, which);
    struct step_job *const step = mem_alloc(1, sizeof *step);
    // What is erased must be committed before, so keys go in a transaction of their own.
    step->job = (struct job){.kind = which == STEP_KEYS ? JOB_WRITE_ALONE : JOB_WRITE,
                             .run = step_run,
                             .done = step_done};
    step->step = which;
    step->budget_us = budget;
    step->signer = core->signer;
    while (step->count < REQUESTS_MAX && queue->count > 0) {
        struct request *const request = queue_take(queue);
        step->requests[step->count] = request;
        step->kinds[step->count] = request->row.kind;
        step->sequences[step->count++] = request->row.sequence;
    }
    erasure->under_way = true;
    erasure->asked_now = false;
    erasure->last = which;
    storage_submit(core->storage, &step->job, STORAGE_OURS);
}

// Workers are asked in the order of the fences, so whoever comes later waits no longer than the first.
static void note_forgotten(struct core *core)
{
    struct erasure *const erasure = erasure_of(core);
    while (erasure->forgetting.first != NULL &&
           leases_have_forgotten(core, erasure->forgetting.first->forget)) {
        struct request *const request = queue_take(&erasure->forgetting);
        request->since_ms = core->now_ms; // Keys are worth gathering.
        queue_put(&erasure->keys, request);
    }
}

static void next_step(struct core *core)
{
    const struct erasure *const erasure = erasure_of(core);
    note_forgotten(core);
    requests_look(core);
    if (erasure->under_way || erasure->paused) {
        return;
    }
    for (int i = 1; i <= STEP_COUNT_; i++) { // In turns.
        const enum step step = (enum step)(((int)erasure->last + i) % STEP_COUNT_);
        const int64_t budget = budget_us(core, step);
        if (budget > 0) {
            submit(core, step, budget);
            return;
        }
    }
}

// ---------------------------------------------------------------- from outside

// To the queue of its state.
static void begin(struct core *core, struct request *request)
{
    const enum request_state state = request->row.state;
    if (state == REQUEST_AWAITING || state == REQUEST_RETURNING) {
        approval_begin(core, request);
    } else {
        queue_put(state == REQUEST_FENCED || state == REQUEST_REFUSED ? &erasure_of(core)->rows
                                                                      : &core->woken,
                  request);
    }
}

void erasure_begin(struct core *core, struct request *request)
{
    request->since_ms = core->now_ms;
    begin(core, request);
    if (!is_busy(erasure_of(core), core->now_ms)) {
        next_step(core);
    }
}

void erasure_resume(struct core *core)
{
    for (uint32_t i = 0; i < core->request_count; i++) {
        core->requests[i]->since_ms = core->now_ms;
        begin(core, core->requests[i]);
    }
    next_step(core);
}

void erasure_tick(struct core *core)
{
    struct erasure *const erasure = erasure_of(core);
    if (erasure->again_ms != 0 && core->now_ms >= erasure->again_ms) {
        struct request_queue again = erasure->later;
        erasure->later = (struct request_queue){0};
        erasure->again_ms = 0;
        erasure->paused = false;
        for (struct request *request; (request = queue_take(&again)) != NULL;) {
            begin(core, request);
        }
    }
    next_step(core);
}

bool erasure_is_due(const struct core *core)
{
    return core->woken.count > 0;
}
