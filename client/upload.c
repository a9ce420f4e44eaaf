// client/upload.c: the import of unlearn.h: records into chunks, chunks out by credit.
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "client/call.h"
#include "client/unlearn.h"

struct unlearn_import {
    struct unlearn *client;
    uint64_t number;      // The coordinator's, for this import.
    struct buf chunk;     // Records not yet sent.
    uint32_t chunk_count; // Records in it.
    uint64_t rows_sent;   // Records in the chunks before it.
    uint64_t chunks_sent;
    uint64_t chunks_answered;
    uint64_t ids[LIMIT_CREDIT]; // Request numbers of the unanswered chunks; 0: free.
    bool committed;
};

enum err unlearn_import_begin(struct unlearn *client, const struct unlearn_import_options *options,
                              struct unlearn_import **import_out)
{
    *import_out = NULL;
    Unlearn__ImportBegin body;
    unlearn__import_begin__init(&body);
    body.dataset = wire_text(options->dataset);
    body.schema = wire_bytes(options->schema);
    if (options->placement_key != NULL) {
        body.placement_key = wire_bytes(span_of(options->placement_key, KEY_BYTES));
    }
    body.public_data = options->public_data;
    body.has_generation = options->has_generation;
    body.generation = options->generation;
    body.readmit = options->readmit;
    Unlearn__Request request = CALL_REQUEST(IMPORT_BEGIN, import_begin, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, (struct span){NULL, 0}, CALL_ONCE, CALL_ANSWER(IMPORT_READY),
             &reply));
    struct unlearn_import *const import = mem_alloc(1, sizeof *import);
    import->client = client;
    import->number = reply->import_ready->import;
    *import_out = import;
    return OK;
}

// Takes one answer off the wire.
static enum err take_answer(struct unlearn_import *import)
{
    const Unlearn__Reply *reply;
    TRY(call_receive(import->client, &reply));
    for (int i = 0; i < LIMIT_CREDIT; i++) {
        if (import->ids[i] == reply->request_id) {
            import->ids[i] = 0;
            import->chunks_answered++;
            return call_status(reply, CALL_ANSWER(IMPORT_STAGED));
        }
    }
    return OK; // A late reply to an earlier call.
}

static enum err send_chunk(struct unlearn_import *import)
{
    while (import->chunks_sent - import->chunks_answered == LIMIT_CREDIT) {
        TRY(take_answer(import));
    }
    Unlearn__ImportChunk body;
    unlearn__import_chunk__init(&body);
    body.import = import->number;
    body.sequence = import->chunks_sent;
    body.count = import->chunk_count;
    body.first_row = import->rows_sent;
    Unlearn__Request request = CALL_REQUEST(IMPORT_CHUNK, import_chunk, &body);
    TRY(call_send(import->client, &request, buf_span(&import->chunk)));
    int free_slot = 0;
    while (free_slot < LIMIT_CREDIT && import->ids[free_slot] != 0) {
        free_slot++;
    }
    CHECK(free_slot < LIMIT_CREDIT); // The credit was looked at above.
    // cppcheck-suppress arrayIndexOutOfBoundsCond ; CHECK does not return.
    import->ids[free_slot] = import->client->last_id;
    import->chunks_sent++;
    import->rows_sent += import->chunk_count;
    import->chunk_count = 0;
    buf_clear(&import->chunk);
    return OK;
}

enum err unlearn_import_add(struct unlearn_import *import, struct span id, struct span subject,
                            struct span row)
{
    if (row.bytes > LIMIT_RECORD_BYTES || id.bytes > LIMIT_NAME_BYTES ||
        subject.bytes > LIMIT_NAME_BYTES) {
        FAIL(ERR_LIMIT, "a record has %zu bytes, expected at most %d", row.bytes,
             (int)LIMIT_RECORD_BYTES);
    }
    const size_t bytes = 2 + id.bytes + 2 + subject.bytes + 4 + row.bytes;
    if (import->chunk.bytes + bytes > LIMIT_CHUNK_BYTES) {
        TRY(send_chunk(import));
    }
    buf_u16(&import->chunk, (uint16_t)id.bytes);
    buf_put(&import->chunk, id);
    buf_u16(&import->chunk, (uint16_t)subject.bytes);
    buf_put(&import->chunk, subject);
    buf_u32(&import->chunk, (uint32_t)row.bytes);
    buf_put(&import->chunk, row);
    import->chunk_count++;
    return OK;
}

enum err unlearn_import_commit(struct unlearn_import *import, const Unlearn__ImportDone **done_out)
{
    if (import->chunk_count > 0) {
        TRY(send_chunk(import));
    }
    while (import->chunks_answered < import->chunks_sent) {
        TRY(take_answer(import));
    }
    Unlearn__ImportCommit body;
    unlearn__import_commit__init(&body);
    body.import = import->number;
    Unlearn__Request request = CALL_REQUEST(IMPORT_COMMIT, import_commit, &body);
    const Unlearn__Reply *reply;
    TRY(call(import->client, &request, (struct span){NULL, 0}, CALL_ONCE, CALL_ANSWER(IMPORT_DONE),
             &reply));
    import->committed = true;
    *done_out = reply->import_done;
    return OK;
}

void unlearn_import_end(struct unlearn_import *import)
{
    if (import == NULL) {
        return;
    }
    if (!import->committed) {
        // The answer is not waited for: the caller has an error to report, and an abort that is
        // lost is made good by the coordinator, which drops what nobody goes on with.
        Unlearn__ImportAbort body;
        unlearn__import_abort__init(&body);
        body.import = import->number;
        Unlearn__Request request = CALL_REQUEST(IMPORT_ABORT, import_abort, &body);
        const int timeout_ms = import->client->timeout_ms;
        char why[ERR_TEXT_BYTES]; // The caller's sentence must outlive what fails here.
        memcpy(why, err_text(), sizeof why);
        import->client->timeout_ms = 0;
        const enum err err = call_send(import->client, &request, (struct span){NULL, 0});
        import->client->timeout_ms = timeout_ms;
        if (err != OK) {
            (void)err_raise(err, "%s", why);
        }
    }
    buf_deinit(&import->chunk);
    mem_free(import);
}
