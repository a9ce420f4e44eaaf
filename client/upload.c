// client/upload.c: the import of unlearn.h: records into chunks, chunks out by credit.
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
    struct call_window window;
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
    body.risk = true;
    Unlearn__Request request = CALL_REQUEST(IMPORT_BEGIN, import_begin, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, (struct span){NULL, 0}, CALL_ONCE, CALL_ANSWER(IMPORT_READY),
             &reply));
    struct unlearn_import *const import = mem_alloc(1, sizeof *import);
    import->client = client;
    import->number = reply->import_ready->import;
    import->window.kind = CALL_ANSWER(IMPORT_STAGED);
    *import_out = import;
    return OK;
}

static enum err send_chunk(struct unlearn_import *import)
{
    Unlearn__ImportChunk body;
    unlearn__import_chunk__init(&body);
    body.import = import->number;
    body.sequence = import->window.sent;
    body.count = import->chunk_count;
    body.first_row = import->rows_sent;
    Unlearn__Request request = CALL_REQUEST(IMPORT_CHUNK, import_chunk, &body);
    TRY(call_window_send(import->client, &import->window, &request, buf_span(&import->chunk)));
    import->rows_sent += import->chunk_count;
    import->chunk_count = 0;
    buf_clear(&import->chunk);
    return OK;
}

enum err unlearn_import_add(struct unlearn_import *import, struct span id, struct span subject,
                            uint8_t risk, struct span row)
{
    if (row.bytes > LIMIT_RECORD_BYTES || id.bytes > LIMIT_NAME_BYTES ||
        subject.bytes > LIMIT_NAME_BYTES) {
        FAIL(ERR_LIMIT, "a record has %zu bytes, expected at most %d", row.bytes,
             (int)LIMIT_RECORD_BYTES);
    }
    const size_t bytes = 2 + id.bytes + 2 + subject.bytes + 4 + row.bytes + 1;
    if (import->chunk.bytes + bytes > LIMIT_CHUNK_BYTES) {
        TRY(send_chunk(import));
    }
    buf_u16(&import->chunk, (uint16_t)id.bytes);
    buf_put(&import->chunk, id);
    buf_u16(&import->chunk, (uint16_t)subject.bytes);
    buf_put(&import->chunk, subject);
    buf_u32(&import->chunk, (uint32_t)row.bytes);
    buf_put(&import->chunk, row);
    buf_u8(&import->chunk, risk);
    import->chunk_count++;
    return OK;
}

enum err unlearn_import_commit(struct unlearn_import *import, const Unlearn__ImportDone **done_out)
{
    if (import->chunk_count > 0) {
        TRY(send_chunk(import));
    }
    TRY(call_window_finish(import->client, &import->window));
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
        // An abort that is lost is made good by the coordinator, which drops what nobody goes on with.
        Unlearn__ImportAbort body;
        unlearn__import_abort__init(&body);
        body.import = import->number;
        Unlearn__Request request = CALL_REQUEST(IMPORT_ABORT, import_abort, &body);
        call_farewell(import->client, &request);
    }
    buf_deinit(&import->chunk);
    mem_free(import);
}
