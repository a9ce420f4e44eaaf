// client/unlearn_receipt.c: the verbs of receipts and their log; see unlearn.h.
#include <string.h>

#include "base/limits.h"
#include "client/call.h"
#include "client/unlearn.h"
#include "proto/receipt.h"

static const struct span no_raw = {NULL, 0};

// Takes one part of a body, and with the last one puts the file together.
static enum err take_part(struct unlearn *client, const Unlearn__Receipt *part, struct buf *body,
                          struct buf *file_out, bool *more_out)
{
    if (part->body_bytes > LIMIT_RECEIPT_BYTES || body->bytes > part->body_bytes ||
        client->raw.bytes > part->body_bytes - body->bytes ||
        (client->raw.bytes == 0 && body->bytes < part->body_bytes)) {
        FAIL(ERR_CORRUPT, "the coordinator sent a part of a receipt that does not fit the others");
    }
    buf_put(body, client->raw);
    *more_out = body->bytes < part->body_bytes;
    buf_clear(file_out);
    return *more_out ? OK : receipt_put_file(buf_span(body), wire_span(part->tail), file_out);
}

// `offset` is the request's own field.
static enum err fetch(struct unlearn *client, Unlearn__Request *request, uint64_t *offset,
                      struct buf *body, struct buf *file_out, bool *completed_out)
{
    bool more = true;
    while (more) {
        const Unlearn__Reply *reply;
        *offset = body->bytes;
        TRY(call(client, request, no_raw, CALL_AGAIN, CALL_ANSWER(RECEIPT), &reply));
        if (body->bytes > 0 && reply->receipt->completed != *completed_out) {
            buf_clear(body); // It was completed between two parts: begin anew.
            *completed_out = reply->receipt->completed;
            continue;
        }
        *completed_out = reply->receipt->completed;
        TRY(take_part(client, reply->receipt, body, file_out, &more));
    }
    return OK;
}

enum err unlearn_receipt_get(struct unlearn *client, const struct id128 *uuid, struct buf *file_out,
                             bool *completed_out)
{
    Unlearn__ReceiptGet body;
    unlearn__receipt_get__init(&body);
    body.uuid = wire_bytes(span_of(uuid, sizeof *uuid));
    Unlearn__Request request = CALL_REQUEST(RECEIPT_GET, receipt_get, &body);
    struct buf parts = {0};
    *completed_out = false;
    const enum err err = fetch(client, &request, &body.offset, &parts, file_out, completed_out);
    buf_deinit(&parts);
    return err;
}

enum err unlearn_log_inclusion(struct unlearn *client, uint64_t index, struct buf *file_out)
{
    Unlearn__LogInclusion body;
    unlearn__log_inclusion__init(&body);
    body.index = index;
    Unlearn__Request request = CALL_REQUEST(LOG_INCLUSION, log_inclusion, &body);
    struct buf parts = {0};
    bool completed = false;
    const enum err err = fetch(client, &request, &body.offset, &parts, file_out, &completed);
    buf_deinit(&parts);
    return err;
}

enum err unlearn_log_head(struct unlearn *client, struct head *head_out)
{
    Unlearn__LogHead body;
    unlearn__log_head__init(&body);
    Unlearn__Request request = CALL_REQUEST(LOG_HEAD, log_head, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(LOG_HEAD_STATE), &reply));
    TRY_AS(head_of(wire_span(reply->log_head_state->head), head_out), "the coordinator's reply");
    return OK;
}

enum err unlearn_log_consistency(struct unlearn *client, uint64_t from, uint64_t to,
                                 struct merkle_path *path_out, struct digest *root_out)
{
    Unlearn__LogConsistency body;
    unlearn__log_consistency__init(&body);
    body.from = from;
    body.to = to;
    Unlearn__Request request = CALL_REQUEST(LOG_CONSISTENCY, log_consistency, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(LOG_PROOF), &reply));
    const Unlearn__LogProof *const proof = reply->log_proof;
    if (proof->hashes.len % DIGEST_BYTES != 0 ||
        proof->hashes.len / DIGEST_BYTES > MERKLE_PATH_MAX || proof->root.len != DIGEST_BYTES) {
        FAIL(ERR_CORRUPT, "the coordinator's consistency proof has %zu and %zu bytes",
             proof->hashes.len, proof->root.len);
    }
    path_out->count = (uint32_t)(proof->hashes.len / DIGEST_BYTES);
    for (uint32_t i = 0; i < path_out->count; i++) {
        memcpy(path_out->hashes[i].bytes, proof->hashes.data + (size_t)i * DIGEST_BYTES,
               DIGEST_BYTES);
    }
    memcpy(root_out->bytes, proof->root.data, DIGEST_BYTES);
    return OK;
}
