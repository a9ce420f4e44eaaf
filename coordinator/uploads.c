// coordinator/uploads.c: datasets and imports: begin, chunks by credit, commit or abort; see core.h.
//
// An import is a session of one client. Its rows are staged by the store thread, hidden until the
// one commit; a client that falls silent loses the session and the rows are erased.
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/risk.h"
#include "base/text.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "store/doom.h"

enum { UPLOAD_IDLE_MS = 60000 };

struct upload {
    uint32_t principal;     // Who began it, and alone goes on with it (caller_number).
    uint64_t import;        // Number in the store; 0 until begun.
    struct dataset_row row; // The dataset as it will be: new, or a copy for an existing one.
    bool is_new;
    struct schema schema;
    uint32_t generation;
    bool readmit;
    bool risk; // Its records declare risk classes.
    uint64_t next_sequence;
    uint32_t jobs; // Chunks handed to the store thread.
    bool failed;   // A chunk was refused: only abort makes sense.
    bool refused;  // The same, as the store thread knows it: a commit may be queued behind already.
    bool closing;  // Commit or abort is under way.
    int64_t last_ms;
};

static void upload_abort(struct core *core, struct upload *upload);

struct uploads {
    struct upload *open[LIMIT_IMPORTS_OPEN];
    uint32_t count;
    bool tidying;
    bool tidy_again; // Asked for while it was under way.
};

static struct uploads *uploads_of(struct core *core)
{
    if (core->uploads == NULL) {
        core->uploads = mem_alloc(1, sizeof *core->uploads);
    }
    return core->uploads;
}

static void upload_free(struct upload *upload)
{
    dataset_row_deinit(&upload->row);
    schema_deinit(&upload->schema);
    mem_free(upload);
}

static struct upload *upload_find(struct core *core, const struct caller *caller, uint64_t import)
{
    const struct uploads *const uploads = uploads_of(core);
    for (uint32_t i = 0; i < uploads->count; i++) {
        struct upload *const upload = uploads->open[i];
        if (upload->import == import && import != 0 && !upload->closing &&
            upload->principal == caller_number(caller)) {
            return upload;
        }
    }
    return NULL;
}

static void upload_drop(struct core *core, struct upload *upload)
{
    struct uploads *const uploads = uploads_of(core);
    for (uint32_t i = 0; i < uploads->count; i++) {
        if (uploads->open[i] == upload) {
            uploads->open[i] = uploads->open[--uploads->count];
            upload_free(upload);
            return;
        }
    }
}

void uploads_free(struct core *core)
{
    struct uploads *const uploads = uploads_of(core);
    while (uploads->count > 0) {
        upload_free(uploads->open[--uploads->count]);
    }
    mem_free(uploads);
    core->uploads = NULL;
}

// ---------------------------------------------------------------- tidying

struct tidy_job {
    struct job job;
    bool keys; // The rows are gone: their keys are next.
    bool more;
};

static enum err tidy_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct tidy_job *const tidy = (struct tidy_job *)job;
    return tidy->keys ? doom_erase(txn, KEYRING_BATCH, &tidy->more)
                      : import_tidy(txn, 2000, &tidy->more);
}

static void tidy_submit(struct core *core, bool keys);

static void tidy_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    const bool more = job->result == OK && ((struct tidy_job *)job)->more;
    const bool keys = ((struct tidy_job *)job)->keys;
    uploads_of(core)->tidying = false;
    if (job->result != OK) {
        log_error("import_tidy_failed", "reason=\"%s\"", job->text);
    }
    const bool failed = job->result != OK;
    mem_free(job);
    if (uploads_of(core)->tidy_again && !failed) { // Another import ended meanwhile.
        uploads_of(core)->tidy_again = false;
        tidy_submit(core, false);
    } else if (more || (!keys && !failed)) {
        tidy_submit(core, more ? keys : true);
    }
}

static void tidy_submit(struct core *core, bool keys)
{
    struct tidy_job *const tidy = mem_alloc(1, sizeof *tidy);
    tidy->job = (struct job){.kind = JOB_WRITE_ALONE, .run = tidy_run, .done = tidy_done};
    tidy->keys = keys;
    uploads_of(core)->tidying = true;
    storage_submit(core->storage, &tidy->job, STORAGE_OURS);
}

void imports_tidy(struct core *core)
{
    if (uploads_of(core)->tidying) {
        uploads_of(core)->tidy_again = true;
    } else {
        tidy_submit(core, false);
    }
}

// ---------------------------------------------------------------- begin

struct begin_job {
    struct job job;
    struct caller caller;
    struct upload *upload;
};

static enum err begin_run(struct job *job, struct store *store, struct txn *txn)
{
    struct upload *const upload = ((struct begin_job *)job)->upload;
    if (store_is_tight(store)) {
        FAIL(ERR_LIMIT, "the store is nearly full: what is left is kept for deletions");
    }
    if (upload->is_new) {
        uint64_t number = 0;
        TRY(counter_next(txn, COUNTER_DATASET, &number));
        upload->row.number = (uint32_t)number;
    }
    return import_begin(txn, upload->row.number, upload->generation, upload->readmit,
                        &upload->import);
}

static void begin_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct begin_job *const begin = (struct begin_job *)job;
    if (job->result != OK) {
        reply_error(core, &begin->caller, job->result, job->text);
        upload_drop(core, begin->upload);
    } else {
        Unlearn__Reply reply = UNLEARN__REPLY__INIT;
        Unlearn__ImportReady ready = UNLEARN__IMPORT_READY__INIT;
        ready.import = begin->upload->import;
        ready.generation = begin->upload->generation;
        begin->upload->last_ms = core->now_ms;
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_IMPORT_READY;
        reply.import_ready = &ready;
        reply_send(core, &begin->caller, &reply, span_of(NULL, 0));
    }
    mem_free(begin);
}

// It is there, and in the caller's scope; or it is not, and the caller may make it. Everything else is the
// same to the caller: not there.
static enum err expect_reachable(struct core *core, const struct caller *caller, const char *name)
{
    struct dataset *dataset = NULL;
    const enum err err = catalog_dataset(core, caller, name, &dataset);
    return err == ERR_NOT_FOUND && access_may_make(caller, name) ? OK : err;
}

// Fills the upload from the request and the dataset of that name, if there is one.
static enum err prepare(struct core *core, const struct caller *caller,
                        const Unlearn__ImportBegin *body, struct upload *upload)
{
    struct dataset *dataset = NULL;
    TRY(text_check_label("the dataset's name", body->dataset));
    TRY(expect_reachable(core, caller, body->dataset));
    upload->is_new = catalog_dataset(core, caller, body->dataset, &dataset) != OK;
    upload->principal = caller_number(caller);
    struct span schema = wire_span(body->schema);
    if (upload->is_new) {
        if (core->dataset_count >= LIMIT_DATASETS) {
            FAIL(ERR_LIMIT, "there are %u datasets already, which is the limit",
                 core->dataset_count);
        }
        if (schema.bytes == 0) {
            FAIL(ERR_INVALID, "the first import of a dataset needs a schema");
        }
        memcpy(upload->row.name, body->dataset, strlen(body->dataset) + 1);
        upload->row.public_data = body->public_data;
        if (body->placement_key.len == 0) {
            digest_random(upload->row.placement_key, KEY_BYTES);
        } else {
            TRY(wire_copy(body->placement_key, upload->row.placement_key, KEY_BYTES,
                          "the placement key"));
        }
    } else {
        const struct dataset_row *const row = &dataset->row;
        if (schema.bytes > 0 && !span_equal(schema, buf_span(&row->schema))) {
            FAIL(ERR_CONFLICT,
                 "dataset \"%s\" has another schema, which is frozen since its first "
                 "import: see unlearnctl schema",
                 row->name);
        }
        if (body->placement_key.len > 0 &&
            !span_equal(wire_span(body->placement_key), span_of(row->placement_key, KEY_BYTES))) {
            FAIL(ERR_CONFLICT,
                 "dataset \"%s\" has another placement key, which is fixed since its "
                 "first import",
                 row->name);
        }
        if (body->public_data && !row->public_data) {
            FAIL(ERR_CONFLICT, "dataset \"%s\" was not declared public at its first import",
                 row->name);
        }
        const struct buf none = {0};
        upload->row = *row;
        upload->row.schema = none;
        schema = buf_span(&row->schema);
    }
    TRY_AS(schema_get(schema, &upload->schema), "the schema");
    buf_put(&upload->row.schema, schema);
    const uint32_t open = upload->row.generation_closed;
    upload->generation = body->has_generation ? body->generation : open;
    if (upload->generation < open || upload->generation >= LIMIT_GENERATION) {
        FAIL(ERR_CONFLICT, "generation %u cannot take records: expected %u (the open one) to %d",
             upload->generation, open, (int)LIMIT_GENERATION - 1);
    }
    upload->readmit = body->readmit;
    upload->risk = body->risk;
    return OK;
}

VERB(on_import_begin, Unlearn__ImportBegin)
{
    (void)raw;
    struct uploads *const uploads = uploads_of(core);
    if (uploads->count >= LIMIT_IMPORTS_OPEN) {
        reply_error(core, caller, ERR_LIMIT, "too many imports are under way: try again later");
        return;
    }
    for (uint32_t i = 0; i < uploads->count; i++) {
        if (strcmp(uploads->open[i]->row.name, body->dataset) == 0 &&
            expect_reachable(core, caller, body->dataset) == OK) {
            reply_error(core, caller, ERR_CONFLICT,
                        "another import into this dataset is under way: try again when it is done");
            return;
        }
    }
    struct upload *const upload = mem_alloc(1, sizeof *upload);
    const enum err err = prepare(core, caller, body, upload);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        upload_free(upload);
        return;
    }
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
    struct upload *upload;
    uint64_t sequence;
    uint64_t first_row;
    uint32_t count;
    struct buf bytes;
};

// One record of the raw frame: u16 id, u16 subject, u32 row, where classes are declared u8 risk.
static enum err parse_row(struct cursor *cursor, const struct upload *upload,
                          struct import_row *row_out)
{
    row_out->id = cursor_take(cursor, cursor_u16(cursor));
    row_out->subject = cursor_take(cursor, cursor_u16(cursor));
    row_out->row = cursor_take(cursor, cursor_u32(cursor));
    row_out->risk = upload->risk ? cursor_u8(cursor) : RISK_UNDECLARED;
    if (cursor->bad) {
        FAIL(ERR_INVALID, "the frame ends inside this record");
    }
    TRY(text_check_name("the id", row_out->id));
    if (row_out->subject.bytes > 0) {
        TRY(text_check_name("the subject", row_out->subject));
    }
    TRY(schema_check_row(&upload->schema, row_out->row));
    dataset_ids(upload->row.placement_key, row_out->id, row_out->subject, &row_out->rid,
                &row_out->sid);
    return OK;
}

static enum err parse_rows(const struct chunk_job *chunk, struct import_row *rows)
{
    struct cursor cursor = cursor_of(buf_span(&chunk->bytes));
    for (uint32_t i = 0; i < chunk->count; i++) {
        TRY_AS(parse_row(&cursor, chunk->upload, &rows[i]), "record %llu",
               (unsigned long long)(chunk->first_row + i));
    }
    if (cursor.left > 0) {
        FAIL(ERR_INVALID, "a frame of %u records has %zu bytes left over", chunk->count,
             cursor.left);
    }
    return OK;
}

static enum err chunk_run(struct job *job, struct store *store, struct txn *txn)
{
    const struct chunk_job *const chunk = (struct chunk_job *)job;
    const bool refused = chunk->upload->refused; // An earlier one.
    chunk->upload->refused =
        true; // Until the rows are staged: no commit may follow a refused chunk.
    if (store_is_tight(store)) {
        FAIL(ERR_LIMIT, "the store is nearly full: what is left is kept for deletions");
    }
    struct import_row *const rows = mem_alloc(chunk->count, sizeof *rows);
    enum err err = parse_rows(chunk, rows);
    if (err == OK) {
        err = import_stage(txn, chunk->upload->import, rows, chunk->count, chunk->first_row);
    }
    mem_free(rows);
    chunk->upload->refused = refused || err != OK;
    return err;
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
        Unlearn__ImportStaged staged = UNLEARN__IMPORT_STAGED__INIT;
        staged.sequence = chunk->sequence;
        reply.status = UNLEARN__STATUS__STATUS_OK;
        reply.body_case = UNLEARN__REPLY__BODY_IMPORT_STAGED;
        reply.import_staged = &staged;
        reply_send(core, &chunk->caller, &reply, span_of(NULL, 0));
    }
    buf_deinit(&chunk->bytes);
    mem_free(chunk);
}

static enum err check_chunk(const struct upload *upload, const Unlearn__ImportChunk *body,
                            struct span raw)
{
    if (upload == NULL) {
        FAIL(ERR_NOT_FOUND, "no import of this number is open");
    }
    if (upload->failed) {
        FAIL(ERR_CONFLICT, "this import was refused: give it up and begin anew");
    }
    if (body->sequence != upload->next_sequence) {
        FAIL(ERR_CONFLICT, "chunk %llu came, expected %llu", (unsigned long long)body->sequence,
             (unsigned long long)upload->next_sequence);
    }
    if (upload->jobs >= LIMIT_CREDIT) {
        FAIL(ERR_LIMIT, "more than %d chunks unanswered", (int)LIMIT_CREDIT);
    }
    if (body->count == 0 || body->count > raw.bytes / 9) { // 2 + 1 + 2 + 4 bytes at the least
        FAIL(ERR_INVALID, "a frame of %zu bytes cannot hold %u records", raw.bytes, body->count);
    }
    return OK;
}

VERB(on_import_chunk, Unlearn__ImportChunk)
{
    struct upload *const upload = upload_find(core, caller, body->import);
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
    chunk->first_row = body->first_row;
    chunk->count = body->count;
    buf_put(&chunk->bytes, raw);
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
    struct upload *upload;
    struct import_counts counts;
    struct dataset_row row; // As it stands after the commit.
};

static enum err commit_run(struct end_job *end, struct txn *txn)
{
    struct upload *const upload = end->upload;
    if (upload->refused) {
        FAIL(ERR_CONFLICT, "a part of this import was refused: begin anew");
    }
    if (upload->is_new) {
        TRY(dataset_put(txn, &upload->row));
        TRY(principal_bind(txn, upload->row.name, upload->row.number));
    } else {
        struct dataset_row now = {0};
        TRY(dataset_get(txn, upload->row.number, &now));
        const bool closed = upload->generation < now.generation_closed;
        const bool removing = now.removing;
        dataset_row_deinit(&now);
        if (closed || removing) {
            FAIL(ERR_CONFLICT, closed
                                   ? "a training was accepted while this import was under way and "
                                     "closed its generation: import again"
                                   : "the dataset is being removed");
        }
    }
    TRY(import_commit(txn, upload->import, &end->counts));
    return dataset_get(txn, upload->row.number, &end->row);
}

static enum err end_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct end_job *const end = (struct end_job *)job;
    return end->commit ? commit_run(end, txn) : import_abort(txn, end->upload->import);
}

static void end_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct end_job *const end = (struct end_job *)job;
    enum err err = job->result;
    if (err == OK && end->commit) {
        err = catalog_put_dataset(core, &end->row);
        CHECK(err == OK); // The same bytes were read at begin.
        if (end->upload->is_new) {
            access_bound(core, end->upload->row.name, end->upload->row.number);
        }
        log_info("import_committed", "dataset=%u records=%llu skipped=%llu generation=%u",
                 end->upload->row.number, (unsigned long long)end->counts.records,
                 (unsigned long long)end->counts.skipped, end->upload->generation);
    }
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__ImportDone import_done = UNLEARN__IMPORT_DONE__INIT;
    Unlearn__Done done = UNLEARN__DONE__INIT;
    import_done.records = end->counts.records;
    import_done.subjects = end->counts.subjects;
    import_done.skipped = end->counts.skipped;
    import_done.generation = end->upload->generation;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = end->commit ? UNLEARN__REPLY__BODY_IMPORT_DONE : UNLEARN__REPLY__BODY_DONE;
    if (end->commit) {
        reply.import_done = &import_done;
    } else {
        reply.done = &done;
    }
    if (end->answer && err == OK) {
        reply_send(core, &end->caller, &reply, span_of(NULL, 0));
    } else if (end->answer) {
        reply_error(core, &end->caller, err, job->text);
    }
    if (err != OK && end->commit) {
        upload_abort(core, end->upload);
    } else {
        upload_drop(core, end->upload);
        imports_tidy(core);
    }
    dataset_row_deinit(&end->row);
    mem_free(end);
}

static void upload_end(struct core *core, struct upload *upload, const struct caller *caller,
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

static void upload_abort(struct core *core, struct upload *upload)
{
    upload_end(core, upload, NULL, false);
}

VERB(on_import_commit, Unlearn__ImportCommit)
{
    (void)raw;
    struct upload *const upload = upload_find(core, caller, body->import);
    if (upload == NULL) {
        reply_error(core, caller, ERR_NOT_FOUND, "no import of this number is open");
    } else if (upload->failed) {
        reply_error(core, caller, ERR_CONFLICT, "this import was refused: begin anew");
        upload_abort(core, upload);
    } else {
        upload_end(core, upload, caller, true);
    }
}

VERB(on_import_abort, Unlearn__ImportAbort)
{
    (void)raw;
    struct upload *const upload = upload_find(core, caller, body->import);
    if (upload == NULL) {
        reply_error(core, caller, ERR_NOT_FOUND, "no import of this number is open");
    } else {
        upload_end(core, upload, caller, false);
    }
}

void uploads_tick(struct core *core)
{
    const struct uploads *const uploads = uploads_of(core);
    for (uint32_t i = 0; i < uploads->count; i++) {
        struct upload *const upload = uploads->open[i];
        if (upload->import != 0 && !upload->closing && upload->jobs == 0 &&
            core->now_ms - upload->last_ms > UPLOAD_IDLE_MS) {
            log_info("import_given_up", "dataset=%u idle_ms=%d", upload->row.number,
                     (int)UPLOAD_IDLE_MS);
            upload_abort(core, upload);
        }
    }
}

void uploads_drop_dataset(struct core *core, const char *name)
{
    const struct uploads *const uploads = uploads_of(core);
    for (uint32_t i = 0; i < uploads->count; i++) {
        struct upload *const upload = uploads->open[i];
        if (strcmp(upload->row.name, name) == 0 && upload->import != 0 && !upload->closing) {
            upload_abort(core, upload);
        }
    }
}

// ---------------------------------------------------------------- datasets

// What lists and single answers share.
static void describe(const struct dataset *dataset, Unlearn__Dataset *out)
{
    unlearn__dataset__init(out);
    out->name = wire_text(dataset->row.name);
    out->records = dataset->row.record_count;
    out->generations_closed = dataset->row.generation_closed;
    out->generations = dataset->row.generation_next;
    out->public_data = dataset->row.public_data;
}

VERB(on_dataset_show, Unlearn__DatasetShow)
{
    (void)raw;
    struct dataset *dataset = NULL;
    if (catalog_dataset(core, caller, body->dataset, &dataset) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
        return;
    }
    enum { MODELS_SHOWN = 32 }; // More names could overflow the envelope beside a large schema.
    char *models[MODELS_SHOWN];
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Dataset out;
    describe(dataset, &out);
    out.models = models;
    for (uint32_t i = 0; i < core->model_count && out.n_models < MODELS_SHOWN; i++) {
        if (core->models[i]->dataset == dataset->row.number && core->models[i]->replaces == 0) {
            models[out.n_models++] = core->models[i]->name;
        }
    }
    out.risk_records = dataset->row.risk_records;
    out.n_risk_records = LIMIT_RISK_CLASSES;
    out.schema = wire_bytes(buf_span(&dataset->row.schema));
    if (access_owns(caller)) { // Who has it can look for a person among pseudonyms.
        out.placement_key = wire_bytes(span_of(dataset->row.placement_key, KEY_BYTES));
    }
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_DATASET;
    reply.dataset = &out;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

VERB(on_dataset_list, Unlearn__DatasetList)
{
    (void)raw;
    enum { PAGE = 100 };
    Unlearn__Dataset rows[PAGE];
    Unlearn__Dataset *pointers[PAGE];
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__DatasetPage page = UNLEARN__DATASET_PAGE__INIT;
    page.datasets = pointers;
    for (uint32_t i = 0; i < core->dataset_count; i++) {
        if (!access_sees(caller, core->datasets[i]->row.number)) {
            continue;
        }
        if (page.total++ >= body->offset && page.n_datasets < PAGE) {
            describe(core->datasets[i], &rows[page.n_datasets]);
            pointers[page.n_datasets] = &rows[page.n_datasets];
            page.n_datasets++;
        }
    }
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_DATASET_PAGE;
    reply.dataset_page = &page;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}
