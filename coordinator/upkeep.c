// coordinator/upkeep.c: compaction of the store, and what is held on a subject; see core.h.
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "coordinator/core.h"
#include "store/compact.h"

// ---------------------------------------------------------------- compaction

struct compaction {
    bool running;
    uint64_t runs, bytes_before, bytes_after;
    char problem[WIRE_MESSAGE_BYTES_MAX + 1];
};

static struct compaction *compaction_of(struct core *core)
{
    if (core->compaction == NULL) {
        core->compaction = mem_alloc(1, sizeof *core->compaction);
    }
    return core->compaction;
}

void upkeep_free(struct core *core)
{
    mem_free(core->compaction);
    core->compaction = NULL;
}

struct compact_job {
    struct job job;
    uint64_t before, after;
};

static enum err compact_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)txn;
    struct compact_job *const compact = (struct compact_job *)job;
    bool lost = false;
    const enum err err =
        store_compact(store, "/proc/self/exe", &compact->before, &compact->after, &lost);
    if (lost) { // Nothing can be read or written any more: the next start sees what is true.
        log_error("compaction_failed", "reason=\"%s\" action=exit", err_text());
        _exit(1);
    }
    return err;
}

static void compact_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    const struct compact_job *const compact = (struct compact_job *)job;
    struct compaction *const compaction = compaction_of(core);
    compaction->running = false;
    compaction->runs++;
    compaction->problem[0] = '\0';
    if (job->result == OK) {
        compaction->bytes_before = compact->before;
        compaction->bytes_after = compact->after;
        log_info("store_compacted", "bytes_before=%llu bytes_after=%llu",
                 (unsigned long long)compact->before, (unsigned long long)compact->after);
    } else {
        memcpy(compaction->problem, job->text,
               strnlen(job->text, sizeof compaction->problem - 1) + 1);
        compaction->problem[sizeof compaction->problem - 1] = '\0';
        log_error("compaction_failed", "reason=\"%s\"", job->text);
    }
    mem_free(job);
}

VERB(on_compact, Unlearn__Compact)
{
    (void)raw;
    struct compaction *const compaction = compaction_of(core);
    if (!body->only_ask && !compaction->running) {
        struct compact_job *const compact = mem_alloc(1, sizeof *compact);
        compact->job = (struct job){.kind = JOB_BARE, .run = compact_run, .done = compact_done};
        compaction->running = true;
        storage_submit(core->storage, &compact->job, caller_number(caller));
    }
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__CompactState state = UNLEARN__COMPACT_STATE__INIT;
    state.running = compaction->running;
    state.runs = compaction->runs;
    state.bytes_before = compaction->bytes_before;
    state.bytes_after = compaction->bytes_after;
    state.problem = compaction->problem;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_COMPACT_STATE;
    reply.compact_state = &state;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

// ---------------------------------------------------------------- access requests

struct subject_job {
    struct job job;
    struct caller caller;
    uint32_t dataset;
    struct id128 sid;
    bool started; // `after` is set: the last record of the page before.
    struct record_key after;
    struct buf bytes;
    uint32_t count;
    bool full;
};

static bool is_after(const struct record_key *key, const struct record_key *after)
{
    uint8_t a[RECORD_KEY_BYTES], b[RECORD_KEY_BYTES];
    record_key_put(key, a);
    record_key_put(after, b);
    return memcmp(a, b, sizeof a) > 0;
}

static bool add_record(void *context, const struct record *record)
{
    struct subject_job *const show = context;
    if (show->started && !is_after(&record->key, &show->after)) {
        return true;
    }
    if (show->bytes.bytes + 10 + record->row.bytes + record->id.bytes > LIMIT_CHUNK_BYTES) {
        show->full = true;
        return false;
    }
    buf_u32(&show->bytes, record->key.generation);
    buf_u32(&show->bytes, (uint32_t)record->row.bytes);
    buf_put(&show->bytes, record->row);
    buf_u16(&show->bytes, (uint16_t)record->id.bytes);
    buf_put(&show->bytes, record->id);
    show->count++;
    show->after = record->key;
    show->started = true;
    return true;
}

static enum err subject_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct subject_job *const show = (struct subject_job *)job;
    struct dataset_row row = {0};
    const bool first = !show->started;
    TRY(dataset_get(txn, show->dataset, &row));
    const uint32_t generations = row.generation_next;
    dataset_row_deinit(&row);
    TRY(record_walk_subject(txn, show->dataset, generations, &show->sid, add_record, show));
    if (first && show->count == 0) {
        FAIL(ERR_NOT_FOUND, "nothing is held on this subject");
    }
    return OK;
}

static void subject_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct subject_job *const show = (struct subject_job *)job;
    if (job->result != OK) {
        reply_error(core, &show->caller, job->result, job->text);
    } else {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__SubjectPage page = UNLEARN__SUBJECT_PAGE__INIT;
        uint8_t next[RECORD_KEY_BYTES];
        page.count = show->count;
        page.last = !show->full;
        if (show->started) {
            record_key_put(&show->after, next);
            page.next = wire_bytes(span_of(next, sizeof next));
        }
        page.risk = show->count > 0 ? show->after.risk : 0; // All of its records have the same.
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_SUBJECT_PAGE;
        reply.subject_page = &page;
        reply_send(core, &show->caller, &reply, buf_span(&show->bytes));
    }
    buf_deinit(&show->bytes);
    mem_free(show);
}

static enum err read_question(struct core *core, const struct caller *caller,
                              const Unlearn__SubjectShow *body, struct subject_job *show)
{
    struct dataset *dataset = NULL;
    TRY(catalog_dataset(core, caller, body->dataset, &dataset));
    if (body->subject[0] == '\0') {
        FAIL(ERR_INVALID, "no subject was named");
    }
    show->dataset = dataset->row.number;
    show->sid = dataset_sid(dataset->row.placement_key, span_text(body->subject));
    if (body->cursor.len > 0) {
        show->started = true;
        TRY_AS(record_key_get(wire_span(body->cursor), &show->after), "the cursor");
    }
    return OK;
}

VERB(on_subject_show, Unlearn__SubjectShow)
{
    (void)raw;
    struct subject_job *const show = mem_alloc(1, sizeof *show);
    show->job = (struct job){.kind = JOB_READ, .run = subject_run, .done = subject_done};
    show->caller = *caller;
    const enum err err = read_question(core, caller, body, show);
    if (err != OK) {
        reply_error(core, caller, err == ERR_CORRUPT ? ERR_INVALID : err, err_text());
        mem_free(show);
        return;
    }
    storage_submit(core->storage, &show->job, caller_number(caller));
}
