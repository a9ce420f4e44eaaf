// client/unlearn_base.c: bases up and down; see unlearn.h.
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "client/call.h"
#include "model/base.h"

static const struct span nothing = {NULL, 0};

// Chunk `sequence` of weights; empty past the last.
static struct span chunk_of(const float *weights, uint64_t weight_count, uint64_t sequence)
{
    const uint64_t from = sequence * LIMIT_CHUNK_BYTES, bytes = weight_count * sizeof *weights;
    if (from >= bytes) {
        return nothing;
    }
    const uint64_t left = bytes - from;
    return span_of((const uint8_t *)weights + from,
                   left < LIMIT_CHUNK_BYTES ? (size_t)left : LIMIT_CHUNK_BYTES);
}

// ---------------------------------------------------------------- up

static enum err begin(struct unlearn *client, const char *name, const struct base *base,
                      uint64_t *upload_out, bool *there_out)
{
    struct buf shape = {0};
    Unlearn__BaseBegin body;
    unlearn__base_begin__init(&body);
    base_shape_put(&base->shape, &shape);
    body.name = wire_text(name);
    body.shape = wire_bytes(buf_span(&shape));
    body.weight_count = base->weight_count;
    body.digest = wire_bytes(span_of(base->digest.bytes, DIGEST_BYTES));
    Unlearn__Request request = CALL_REQUEST(BASE_BEGIN, base_begin, &body);
    const Unlearn__Reply *reply;
    const enum err err =
        call(client, &request, nothing, CALL_ONCE, CALL_ANSWER(BASE_READY), &reply);
    buf_deinit(&shape);
    TRY(err);
    *upload_out = reply->base_ready->upload;
    *there_out = reply->base_ready->there;
    return OK;
}

static enum err send_all(struct unlearn *client, uint64_t upload, const struct base *base,
                         const struct unlearn_watch *watch)
{
    struct call_window window = {.kind = CALL_ANSWER(BASE_STAGED)};
    const uint64_t total = base->weight_count * sizeof *base->weights;
    for (;;) {
        const struct span chunk = chunk_of(base->weights, base->weight_count, window.sent);
        if (chunk.bytes == 0) {
            return call_window_finish(client, &window);
        }
        Unlearn__BaseChunk body;
        unlearn__base_chunk__init(&body);
        body.upload = upload;
        body.sequence = (uint32_t)window.sent;
        Unlearn__Request request = CALL_REQUEST(BASE_CHUNK, base_chunk, &body);
        const uint64_t done = window.sent * LIMIT_CHUNK_BYTES + chunk.bytes;
        TRY(call_window_send(client, &window, &request, chunk));
        if (watch != NULL) {
            watch->step(watch->context, done, total);
        }
    }
}

static enum err commit(struct unlearn *client, uint64_t upload, const Unlearn__BaseInfo **info_out)
{
    Unlearn__BaseCommit body;
    unlearn__base_commit__init(&body);
    body.upload = upload;
    Unlearn__Request request = CALL_REQUEST(BASE_COMMIT, base_commit, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, nothing, CALL_ONCE, CALL_ANSWER(BASE_INFO), &reply));
    *info_out = reply->base_info;
    return OK;
}

enum err unlearn_base_import(struct unlearn *client, const char *name, const struct base *base,
                             const struct unlearn_watch *watch, bool *there_out,
                             const Unlearn__BaseInfo **info_out)
{
    uint64_t upload = 0;
    TRY(begin(client, name, base, &upload, there_out));
    if (*there_out) {
        return unlearn_base_show(client, name, info_out);
    }
    enum err err = send_all(client, upload, base, watch);
    err = err != OK ? err : commit(client, upload, info_out);
    if (err != OK) { // An abort that is lost is made good by the coordinator.
        Unlearn__BaseAbort body;
        unlearn__base_abort__init(&body);
        body.upload = upload;
        Unlearn__Request request = CALL_REQUEST(BASE_ABORT, base_abort, &body);
        call_farewell(client, &request);
    }
    return err;
}

// ---------------------------------------------------------------- down

static enum err pull_all(struct unlearn *client, const char *name, const struct digest *digest,
                         float *weights, uint64_t weight_count, const struct unlearn_watch *watch)
{
    const uint64_t total = weight_count * sizeof *weights;
    uint64_t done = 0;
    for (uint32_t sequence = 0; done < total; sequence++) {
        Unlearn__BasePull body;
        unlearn__base_pull__init(&body);
        body.name = wire_text(name);
        body.sequence = sequence;
        Unlearn__Request request = CALL_REQUEST(BASE_PULL, base_pull, &body);
        const Unlearn__Reply *reply;
        TRY(call(client, &request, nothing, CALL_AGAIN, CALL_ANSWER(BASE_WEIGHTS), &reply));
        const size_t expected = chunk_of(weights, weight_count, sequence).bytes;
        if (client->raw.bytes != expected || reply->base_weights->sequence != sequence ||
            !span_equal(wire_span(reply->base_weights->digest),
                        span_of(digest->bytes, DIGEST_BYTES))) {
            FAIL(ERR_CORRUPT,
                 "chunk %u of the base's weights came with %zu bytes as chunk %u, or of another "
                 "base, expected %zu bytes",
                 sequence, client->raw.bytes, reply->base_weights->sequence, expected);
        }
        memcpy((uint8_t *)weights + done, client->raw.data, client->raw.bytes);
        done += client->raw.bytes;
        if (watch != NULL) {
            watch->step(watch->context, done, total);
        }
    }
    return OK;
}

enum err unlearn_base_pull(struct unlearn *client, const char *name, struct span shape,
                           const struct digest *digest, const struct unlearn_watch *watch,
                           struct base **base_out)
{
    struct base_shape parsed;
    float *weights = NULL;
    TRY_AS(base_shape_get(shape, &parsed), "the shape of the base");
    const uint64_t count = base_at(&parsed).count;
    TRY(mem_try_aligned((size_t)count, sizeof *weights, &weights));
    const enum err err = pull_all(client, name, digest, weights, count, watch);
    if (err != OK) {
        mem_free(weights);
        return err;
    }
    struct base *const base = base_new(&parsed, weights);
    if (memcmp(&base->digest, digest, sizeof *digest) != 0) {
        base_release(base);
        FAIL(ERR_CORRUPT, "the base's weights came with another digest than the coordinator says");
    }
    *base_out = base;
    return OK;
}

// ---------------------------------------------------------------- the rest

enum err unlearn_base_from_model(struct unlearn *client, const char *name,
                                 const Unlearn__BaseInfo **info_out)
{
    Unlearn__BaseFromModel body;
    unlearn__base_from_model__init(&body);
    body.name = wire_text(name);
    Unlearn__Request request = CALL_REQUEST(BASE_FROM_MODEL, base_from_model, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, nothing, CALL_AGAIN, CALL_ANSWER(BASE_INFO), &reply));
    *info_out = reply->base_info;
    return OK;
}

enum err unlearn_base_list(struct unlearn *client, uint32_t offset,
                           const Unlearn__BasePage **page_out)
{
    Unlearn__BaseList body;
    unlearn__base_list__init(&body);
    body.offset = offset;
    Unlearn__Request request = CALL_REQUEST(BASE_LIST, base_list, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, nothing, CALL_AGAIN, CALL_ANSWER(BASE_PAGE), &reply));
    *page_out = reply->base_page;
    return OK;
}

enum err unlearn_base_show(struct unlearn *client, const char *name,
                           const Unlearn__BaseInfo **info_out)
{
    Unlearn__BaseShow body;
    unlearn__base_show__init(&body);
    body.name = wire_text(name);
    Unlearn__Request request = CALL_REQUEST(BASE_SHOW, base_show, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, nothing, CALL_AGAIN, CALL_ANSWER(BASE_INFO), &reply));
    *info_out = reply->base_info;
    return OK;
}

enum err unlearn_base_retire(struct unlearn *client, const char *name,
                             const Unlearn__BaseRetired **retired_out)
{
    Unlearn__BaseRetire body;
    unlearn__base_retire__init(&body);
    body.name = wire_text(name);
    Unlearn__Request request = CALL_REQUEST(BASE_RETIRE, base_retire, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, nothing, CALL_AGAIN, CALL_ANSWER(BASE_RETIRED), &reply));
    *retired_out = reply->base_retired;
    return OK;
}
