// coordinator/base_upload.c: bases that clients upload: begin, chunks by credit, commit or abort; see
// core.h.
//
// Each chunk is copied into memory and staged by the store thread; the one commit checks the digest of
// the whole and makes it valid. A client that falls silent loses the upload; one whose coordinator
// dies finds nothing of it at the next start. What was done already is answered as done, so that the
// same import may be given again.
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/core.h"

enum { UPLOAD_IDLE_MS = 60000 };

struct base_upload {
    struct base_row row; // number 0 until it is staged; names the upload to its client.
    struct base_shape shape;
    float *weights;         // float32[row.weight_count]. Owned until `base` takes it over.
    struct base *base;      // Made by the commit.
    uint32_t next_sequence; // Of the chunk that comes next.
    uint32_t jobs;          // Chunks handed to the store thread.
    bool failed;            // A chunk was refused: only abort makes sense.
    bool refused; // The same, as the store thread knows it: a commit may be queued behind already.
    bool closing; // Commit or abort is under way.
    int64_t last_ms;
};

struct base_uploads {
    struct base_upload *open[LIMIT_BASE_UPLOADS_OPEN];
    uint32_t count;
};

static struct base_uploads *uploads_of(struct core *core)
{
    if (core->base_uploads == NULL) {
        core->base_uploads = mem_alloc(1, sizeof *core->base_uploads);
    }
    return core->base_uploads;
}

static uint64_t bytes_of(const struct base_upload *upload)
{
    return upload->row.weight_count * sizeof(float);
}

// Its bytes are no longer counted, unless the catalog has taken the base.
static void upload_free(struct core *core, struct base_upload *upload, bool kept)
{
    core->resident_bytes -= kept ? 0 : bytes_of(upload);
    base_release(upload->base);
    mem_free(upload->weights);
    base_row_deinit(&upload->row);
    mem_free(upload);
}

static struct base_upload *upload_find(struct core *core, uint64_t number)
{
    const struct base_uploads *const uploads = uploads_of(core);
    for (uint32_t i = 0; i < uploads->count; i++) {
        struct base_upload *const upload = uploads->open[i];
        if (upload->row.number == number && number != 0 && !upload->closing) {
            return upload;
        }
    }
    return NULL;
}

static void upload_drop(struct core *core, struct base_upload *upload, bool kept)
{
    struct base_uploads *const uploads = uploads_of(core);
    for (uint32_t i = 0; i < uploads->count; i++) {
        if (uploads->open[i] == upload) {
            uploads->open[i] = uploads->open[--uploads->count];
            upload_free(core, upload, kept);
            return;
        }
    }
}

void base_uploads_free(struct core *core)
{
    struct base_uploads *const uploads = uploads_of(core);
    while (uploads->count > 0) {
        upload_free(core, uploads->open[--uploads->count], false);
    }
    mem_free(uploads);
    core->base_uploads = NULL;
}

// ---------------------------------------------------------------- begin

struct begin_job {
    struct job job;
    struct caller caller;
    struct base_upload *upload;
    struct base_row row; // As staged: the upload's, whose shape it borrows.
};

static enum err begin_run(struct job *job, struct store *store, struct txn *txn)
{
    struct begin_job *const begin = (struct begin_job *)job;
    struct base_upload *const upload = begin->upload;
    if (store_is_tight(store)) {
        FAIL(ERR_LIMIT, "the store is nearly full: what is left is kept for deletions");
    }
    TRY(mem_try_aligned((size_t)upload->row.weight_count, sizeof(float), &upload->weights));
    begin->row = upload->row;
    return base_stage(txn, &begin->row);
}

static void answer_ready(struct core *core, const struct caller *caller, uint32_t number,
                         bool there)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__BaseReady ready = UNLEARN__BASE_READY__INIT;
    ready.upload = number;
    ready.there = there;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_BASE_READY;
    reply.base_ready = &ready;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

static void begin_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct begin_job *const begin = (struct begin_job *)job;
    struct base_upload *const upload = begin->upload;
    if (job->result != OK) {
        reply_error(core, &begin->caller, job->result, job->text);
        upload_drop(core, upload, false);
    } else {
        upload->row = begin->row;
        upload->last_ms = core->now_ms;
        answer_ready(core, &begin->caller, upload->row.number, false);
    }
    mem_free(begin);
}

// Fills what the upload will be, or says that it is there already.
static enum err prepare(struct core *core, const Unlearn__BaseBegin *body,
                        struct base_upload *upload, bool *there_out)
{
    struct base_entry *entry = NULL;
    *there_out = false;
    TRY(base_check_name(body->name));
    TRY_AS(base_shape_get(wire_span(body->shape), &upload->shape), "the base's shape");
    TRY(wire_copy(body->digest, upload->row.digest.bytes, DIGEST_BYTES, "the base's digest"));
    const uint64_t count = base_at(&upload->shape).count;
    if (body->weight_count != count) {
        FAIL(ERR_INVALID, "%llu weights, but a base of this shape has %llu",
             (unsigned long long)body->weight_count, (unsigned long long)count);
    }
    if (catalog_base(core, body->name, &entry) == OK) {
        *there_out = entry->base != NULL && memcmp(&entry->row.digest, &upload->row.digest,
                                                   sizeof upload->row.digest) == 0;
        if (!*there_out) {
            FAIL(ERR_CONFLICT,
                 entry->base == NULL
                     ? "base \"%s\" was retired, and its name stands for it for ever: choose "
                       "another"
                     : "there is a base \"%s\" already, with other weights or another shape: "
                       "choose another name",
                 body->name);
        }
        return OK;
    }
    TRY(catalog_room(core, count * sizeof(float), "the base"));
    memcpy(upload->row.name, body->name, strlen(body->name) + 1);
    upload->row.weight_count = count;
    buf_put(&upload->row.shape, wire_span(body->shape));
    return OK;
}

VERB(on_base_begin, Unlearn__BaseBegin)
{
    (void)raw;
    struct base_uploads *const uploads = uploads_of(core);
    struct base_upload *const upload = mem_alloc(1, sizeof *upload);
    bool there = false;
    enum err err = prepare(core, body, upload, &there);
    if (err == OK && !there && uploads->count >= LIMIT_BASE_UPLOADS_OPEN) {
        err = err_raise(ERR_LIMIT, "%u imports of bases are under way: try again later",
                        uploads->count);
    }
    if (err != OK || there) {
        if (there) {
            answer_ready(core, caller, 0, true);
        } else {
            reply_error(core, caller, err, err_text());
        }
        base_row_deinit(&upload->row);
        mem_free(upload);
        return;
    }
    core->resident_bytes += bytes_of(upload);
    upload->last_ms = core->now_ms;
    uploads->open[uploads->count++] = upload;
    struct begin_job *const begin = mem_alloc(1, sizeof *begin);
    begin->job = (struct job){.kind = JOB_WRITE_ALONE, .run = begin_run, .done = begin_done};
    begin->caller = *caller;
    begin->upload = upload;
    storage_submit(core->storage, &begin->job, caller_number(caller));
}

// ---------------------------------------------------------------- chunks

struct chunk_job {
    struct job job;
    struct caller caller;
    struct base_upload *upload;
    uint32_t sequence;
};

// The chunk's bytes, in the upload's memory.
static struct span chunk_at(const struct base_upload *upload, uint32_t sequence)
{
    return span_of((const uint8_t *)upload->weights + (size_t)sequence * LIMIT_CHUNK_BYTES,
                   weights_chunk_bytes(upload->row.weight_count, sequence));
}

static enum err check_finite(struct span bytes, uint32_t sequence)
{
    const float *const weights = bytes.data;
    for (size_t i = 0; i < bytes.bytes / sizeof *weights; i++) {
        if (!isfinite(weights[i])) {
            FAIL(ERR_INVALID, "weight %llu of the base is not finite",
                 (unsigned long long)sequence * (LIMIT_CHUNK_BYTES / sizeof *weights) + i);
        }
    }
    return OK;
}

static enum err chunk_run(struct job *job, struct store *store, struct txn *txn)
{
    const struct chunk_job *const chunk = (struct chunk_job *)job;
    const bool refused = chunk->upload->refused; // An earlier one.
    const struct span bytes = chunk_at(chunk->upload, chunk->sequence);
    chunk->upload->refused = true; // Until it is staged: no commit may follow a refused chunk.
    if (store_is_tight(store)) {
        FAIL(ERR_LIMIT, "the store is nearly full: what is left is kept for deletions");
    }
    TRY(check_finite(bytes, chunk->sequence));
    TRY(base_stage_chunk(txn, chunk->upload->row.number, chunk->sequence, bytes));
    chunk->upload->refused = refused;
    return OK;
}

static void chunk_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct chunk_job *const chunk = (struct chunk_job *)job;
    chunk->upload->jobs--;
    chunk->upload->last_ms = core->now_ms;
    if (job->result != OK) {
        chunk->upload->failed = true;
        reply_error(core, &chunk->caller, job->result, job->text);
    } else {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__BaseStaged staged = UNLEARN__BASE_STAGED__INIT;
        staged.sequence = chunk->sequence;
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_BASE_STAGED;
        reply.base_staged = &staged;
        reply_send(core, &chunk->caller, &reply, span_of(NULL, 0));
    }
    mem_free(chunk);
}

static enum err check_chunk(const struct base_upload *upload, const Unlearn__BaseChunk *body,
                            struct span raw)
{
    if (upload == NULL) {
        FAIL(ERR_NOT_FOUND, "no import of a base of this number is open");
    }
    if (upload->failed) {
        FAIL(ERR_CONFLICT, "this import was refused: give it up and begin anew");
    }
    if (body->sequence != upload->next_sequence ||
        body->sequence >= weights_chunk_count(upload->row.weight_count)) {
        FAIL(ERR_CONFLICT, "chunk %u came, expected %u of %u", body->sequence,
             upload->next_sequence, weights_chunk_count(upload->row.weight_count));
    }
    if (upload->jobs >= LIMIT_CREDIT) {
        FAIL(ERR_LIMIT, "more than %d chunks unanswered", (int)LIMIT_CREDIT);
    }
    const size_t expected = weights_chunk_bytes(upload->row.weight_count, body->sequence);
    if (raw.bytes != expected) {
        FAIL(ERR_INVALID, "chunk %u of the weights has %zu bytes, expected %zu", body->sequence,
             raw.bytes, expected);
    }
    return OK;
}

VERB(on_base_chunk, Unlearn__BaseChunk)
{
    struct base_upload *const upload = upload_find(core, body->upload);
    const enum err err = check_chunk(upload, body, raw);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        return;
    }
    struct chunk_job *const chunk = mem_alloc(1, sizeof *chunk);
    chunk->job = (struct job){.kind = JOB_WRITE_ALONE, .run = chunk_run, .done = chunk_done};
    chunk->caller = *caller;
    chunk->upload = upload;
    chunk->sequence = body->sequence;
    memcpy((uint8_t *)upload->weights + (size_t)body->sequence * LIMIT_CHUNK_BYTES, raw.data,
           raw.bytes);
    upload->next_sequence++;
    upload->jobs++;
    storage_submit(core->storage, &chunk->job, caller_number(caller));
}

// ---------------------------------------------------------------- commit and abort

struct end_job {
    struct job job;
    struct caller caller;
    bool answer; // Somebody waits for a reply.
    bool commit;
    struct base_upload *upload;
};

static enum err commit_run(struct base_upload *upload, struct txn *txn)
{
    if (upload->refused || upload->next_sequence < weights_chunk_count(upload->row.weight_count)) {
        FAIL(ERR_CONFLICT,
             "chunk %u of the %u of this import was refused or never came: begin anew",
             upload->next_sequence, weights_chunk_count(upload->row.weight_count));
    }
    upload->base = base_new(&upload->shape, upload->weights);
    upload->weights = NULL;
    if (memcmp(&upload->base->digest, &upload->row.digest, sizeof upload->row.digest) != 0) {
        FAIL(ERR_INVALID, "the weights that came do not have the digest that was announced");
    }
    upload->row.created_us = clock_wall_us();
    upload->row.state = BASE_VALID;
    return base_commit(txn, upload->row.number, upload->row.created_us);
}

static enum err end_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct end_job *const end = (struct end_job *)job;
    return end->commit ? commit_run(end->upload, txn) : base_give_up(txn, end->upload->row.number);
}

static void upload_end(struct core *core, struct base_upload *upload, const struct caller *caller,
                       bool commit);

static void answer_done(struct core *core, const struct caller *caller)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Done done = UNLEARN__DONE__INIT;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_DONE;
    reply.done = &done;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

static void end_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    const struct end_job *const end = (struct end_job *)job;
    struct base_upload *const upload = end->upload;
    if (job->result != OK) {
        if (end->answer) {
            reply_error(core, &end->caller, job->result, job->text);
        }
        if (end->commit) {
            upload_end(core, upload, NULL, false);
        } else { // The next start gives it up.
            upload_drop(core, upload, false);
        }
    } else if (end->commit) {
        log_info("base_imported", "base=%u weights=%llu", upload->row.number,
                 (unsigned long long)upload->row.weight_count);
        catalog_put_base(core, &upload->row, upload->base);
        upload->base = NULL;
        base_answer(core, &end->caller, core->bases[core->base_count - 1]);
        upload_drop(core, upload, true);
    } else {
        if (end->answer) {
            answer_done(core, &end->caller);
        }
        upload_drop(core, upload, false);
        bases_tidy(core);
    }
    mem_free(job);
}

static void upload_end(struct core *core, struct base_upload *upload, const struct caller *caller,
                       bool commit)
{
    struct end_job *const end = mem_alloc(1, sizeof *end);
    end->job = (struct job){.kind = JOB_WRITE_ALONE, .run = end_run, .done = end_done};
    end->answer = caller != NULL;
    if (caller != NULL) {
        end->caller = *caller;
    }
    end->commit = commit;
    end->upload = upload;
    upload->closing = true;
    // To give up is left to nobody's rights: it only tidies.
    storage_submit(core->storage, &end->job, commit ? caller_number(caller) : STORAGE_OURS);
}

static void on_end(struct core *core, const struct caller *caller, uint64_t number, bool commit)
{
    struct base_upload *const upload = upload_find(core, number);
    if (upload == NULL) {
        reply_error(core, caller, ERR_NOT_FOUND, "no import of a base of this number is open");
    } else {
        upload_end(core, upload, caller, commit);
    }
}

VERB(on_base_commit, Unlearn__BaseCommit)
{
    (void)raw;
    on_end(core, caller, body->upload, true);
}

VERB(on_base_abort, Unlearn__BaseAbort)
{
    (void)raw;
    on_end(core, caller, body->upload, false);
}

void base_uploads_tick(struct core *core)
{
    const struct base_uploads *const uploads = uploads_of(core);
    for (uint32_t i = 0; i < uploads->count; i++) {
        struct base_upload *const upload = uploads->open[i];
        if (upload->row.number != 0 && !upload->closing && upload->jobs == 0 &&
            core->now_ms - upload->last_ms > UPLOAD_IDLE_MS) {
            log_info("base_import_given_up", "base=%u idle_ms=%d", upload->row.number,
                     (int)UPLOAD_IDLE_MS);
            upload_end(core, upload, NULL, false);
        }
    }
}
