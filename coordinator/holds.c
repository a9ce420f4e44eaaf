// coordinator/holds.c: legal holds: put, released, listed; see core.h. What they keep from deletion is
// decided in the fence (fence.c).
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/core.h"
#include "store/hold.h"

enum { PAGE_HOLDS = 256, CURSOR_BYTES = 1 + ID_BYTES };

// Three texts of an entry and some framing: a page always fits its frame.
_Static_assert(PAGE_HOLDS *(2 * LIMIT_NAME_BYTES + 32) < LIMIT_CONTROL_BYTES, "a page fits");

// ---------------------------------------------------------------- put and release

struct hold_job {
    struct job job;
    struct caller caller;
    struct hold hold;
};

static enum err put_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct hold_job *const put = (struct hold_job *)job;
    TRY(hold_put(txn, &put->hold));
    // When it was there already: since when.
    return hold_get(txn, put->hold.dataset, put->hold.kind, &put->hold.id, &put->hold);
}

static enum err release_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    const struct hold *const hold = &((struct hold_job *)job)->hold;
    return hold_drop(txn, hold->dataset, hold->kind, &hold->id);
}

static void describe(struct hold *hold, Unlearn__HoldState *state)
{
    unlearn__hold_state__init(state);
    if (hold->kind == HOLD_RECORD) {
        state->record = hold->name;
    } else {
        state->subject = hold->name;
    }
    state->reason = hold->reason;
    state->held_us = hold->held_us;
}

static void reply_hold(struct core *core, struct hold_job *done)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__HoldState state;
    if (done->job.result != OK) {
        reply_error(core, &done->caller, done->job.result, done->job.text);
    } else {
        describe(&done->hold, &state);
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_HOLD_STATE;
        reply.hold_state = &state;
        reply_send(core, &done->caller, &reply, span_of(NULL, 0));
    }
    mem_free(done);
}

static void put_done(struct job *job, void *core)
{
    reply_hold(core, (struct hold_job *)job);
}

static void release_done(struct job *job, void *core)
{
    const bool released = job->result == OK;
    reply_hold(core, (struct hold_job *)job);
    if (released) {
        imports_tidy(core); // Erases the key that its name and reason were sealed under.
    }
}

static enum err take_whom(struct core *core, const struct caller *caller, const char *dataset_name,
                          const char *record, const char *subject, struct hold *hold)
{
    struct dataset *dataset = NULL;
    TRY(catalog_dataset(core, caller, dataset_name, &dataset));
    const bool by_record = record[0] != '\0', by_subject = subject[0] != '\0';
    if (by_record == by_subject) {
        FAIL(ERR_INVALID, "%s, expected either a record or a subject",
             by_record ? "both a record and a subject are named" : "nobody is named");
    }
    const struct span name = span_text(by_record ? record : subject);
    TRY(text_check_name(by_record ? "an id" : "a subject", name));
    hold->dataset = dataset->row.number;
    hold->kind = by_record ? HOLD_RECORD : HOLD_SUBJECT;
    memcpy(hold->name, name.data, name.bytes);
    if (by_record) {
        struct id128 sid;
        dataset_ids(dataset->row.placement_key, name, span_of(NULL, 0), &hold->id, &sid);
    } else {
        hold->id = dataset_sid(dataset->row.placement_key, name);
    }
    return OK;
}

static enum err take_reason(const char *reason, struct hold *hold)
{
    if (reason[0] == '\0') {
        FAIL(ERR_INVALID, "no reason is given: whoever asks for the deletion will be told it");
    }
    const size_t bytes = strlen(reason);
    if (bytes > LIMIT_REASON_BYTES) {
        FAIL(ERR_INVALID, "the reason has %zu bytes, expected at most %d", bytes,
             (int)LIMIT_REASON_BYTES);
    }
    memcpy(hold->reason, reason, bytes);
    return OK;
}

static void submit(struct core *core, const struct caller *caller, const struct hold *hold,
                   bool put)
{
    struct hold_job *const job = mem_alloc(1, sizeof *job);
    // Alone: a hold makes a key, which is on the disk before its row.
    job->job = (struct job){.kind = JOB_WRITE_ALONE,
                            .run = put ? put_run : release_run,
                            .done = put ? put_done : release_done};
    job->caller = *caller;
    job->hold = *hold;
    storage_submit(core->storage, &job->job, caller_number(caller));
}

VERB(on_hold_put, Unlearn__HoldPut)
{
    (void)raw;
    struct hold hold = {.held_us = clock_wall_us()};
    enum err err = take_whom(core, caller, body->dataset, body->record, body->subject, &hold);
    err = err == OK ? take_reason(body->reason, &hold) : err;
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        return;
    }
    submit(core, caller, &hold, true);
}

VERB(on_hold_release, Unlearn__HoldRelease)
{
    (void)raw;
    struct hold hold = {.held_us = 0};
    const enum err err = take_whom(core, caller, body->dataset, body->record, body->subject, &hold);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        return;
    }
    submit(core, caller, &hold, false);
}

// ---------------------------------------------------------------- list

struct list_job {
    struct job job;
    struct caller caller;
    uint32_t dataset;
    bool more; // There are others behind those that are here.
    bool from_start;
    struct hold after;
    struct hold holds[PAGE_HOLDS];
    uint32_t count;
};

static bool add_hold(void *context, const struct hold *hold)
{
    struct list_job *const list = context;
    list->more = list->count == PAGE_HOLDS;
    if (!list->more) {
        list->holds[list->count++] = *hold;
    }
    return !list->more;
}

static enum err list_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct list_job *const list = (struct list_job *)job;
    return hold_walk(txn, list->dataset, list->from_start ? NULL : &list->after, add_hold, list);
}

static void list_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct list_job *const list = (struct list_job *)job;
    if (job->result != OK) {
        reply_error(core, &list->caller, job->result, job->text);
        mem_free(list);
        return;
    }
    Unlearn__HoldState states[PAGE_HOLDS], *pointers[PAGE_HOLDS];
    Unlearn__HoldPage page = UNLEARN__HOLD_PAGE__INIT;
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    uint8_t next[CURSOR_BYTES];
    for (uint32_t i = 0; i < list->count; i++) {
        pointers[i] = &states[i];
        describe(&list->holds[i], pointers[i]);
    }
    page.n_holds = list->count;
    page.holds = pointers;
    page.last = !list->more;
    if (list->count > 0) {
        const struct hold *const last = &list->holds[list->count - 1];
        next[0] = (uint8_t)last->kind;
        memcpy(next + 1, last->id.bytes, ID_BYTES);
        page.next = wire_bytes(span_of(next, sizeof next));
    }
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_HOLD_PAGE;
    reply.hold_page = &page;
    reply_send(core, &list->caller, &reply, span_of(NULL, 0));
    mem_free(list);
}

static enum err read_question(struct core *core, const struct caller *caller,
                              const Unlearn__HoldList *body, struct list_job *list)
{
    struct dataset *dataset = NULL;
    TRY(catalog_dataset(core, caller, body->dataset, &dataset));
    list->dataset = dataset->row.number;
    list->from_start = body->cursor.len == 0;
    if (!list->from_start) {
        uint8_t cursor[CURSOR_BYTES];
        TRY(wire_copy(body->cursor, cursor, sizeof cursor, "the cursor"));
        if (cursor[0] != HOLD_RECORD && cursor[0] != HOLD_SUBJECT) {
            FAIL(ERR_INVALID, "the cursor begins with %u, expected r or s", cursor[0]);
        }
        list->after.kind = (enum hold_kind)cursor[0];
        memcpy(list->after.id.bytes, cursor + 1, ID_BYTES);
    }
    return OK;
}

VERB(on_hold_list, Unlearn__HoldList)
{
    (void)raw;
    struct list_job *const list = mem_alloc(1, sizeof *list);
    list->job = (struct job){.kind = JOB_READ, .run = list_run, .done = list_done};
    list->caller = *caller;
    const enum err err = read_question(core, caller, body, list);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        mem_free(list);
        return;
    }
    storage_submit(core->storage, &list->job, caller_number(caller));
}
