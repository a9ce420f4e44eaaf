// coordinator/clients.c: takes clients' messages apart and sends the answers; see core.h.
#include <string.h>

#include "base/build.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "coordinator/quota.h"

void reply_send(struct core *core, const struct caller *caller, Unlearn__Reply *reply,
                struct span raw)
{
    reply->version = WIRE_VERSION;
    reply->request_id = caller->request_id;
    wire_put(&reply->base, &core->frame);
    const enum err err = link_send(core->clients, &caller->peer, buf_span(&core->frame), raw);
    buf_clear(&core->frame); // Ids may be in it.
    if (err != OK) {         // The client is gone or does not read: it may ask again.
        log_debug("reply_dropped", "reason=\"%s\"", err_text());
    }
}

static void refuse(struct core *core, const struct caller *caller, enum err err, const char *text,
                   uint32_t retry_ms)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    char message[WIRE_MESSAGE_BYTES_MAX + 1];
    size_t bytes = strnlen(text, WIRE_MESSAGE_BYTES_MAX);
    while (bytes > 0 && ((unsigned char)text[bytes] & 0xC0) == 0x80) {
        bytes--; // Never cut a character in two.
    }
    memcpy(message, text, bytes);
    message[bytes] = '\0';
    reply.status = wire_status(err);
    reply.message = message;
    reply.retry_ms = retry_ms;
    reply_send(core, caller, &reply, span_of(NULL, 0));
    if (reply.status == UNLEARN__STATUS__STATUS_INTERNAL) {
        log_error("request_failed", "reason=\"%s\"", message);
    }
}

void reply_error(struct core *core, const struct caller *caller, enum err err, const char *text)
{
    refuse(core, caller, err, text, 0);
}

static void on_ping(struct core *core, const struct caller *caller)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Pong pong = UNLEARN__PONG__INIT;
    pong.build = wire_text(build_id);
    pong.epoch = core->epoch;
    pong.workers = leases_worker_count(core);
    pong.draining = core->draining_ms != 0;
    pong.refusal = wire_text(leases_refusal(core));
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_PONG;
    reply.pong = &pong;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

// Requests that are answered from memory; the others become jobs of the store thread.
static bool needs_store(const Unlearn__Request *request)
{
    const int body = (int)request->body_case;
    return body != UNLEARN__REQUEST__BODY_PING && body != UNLEARN__REQUEST__BODY_DATASET_LIST &&
           body != UNLEARN__REQUEST__BODY_DATASET_SHOW &&
           body != UNLEARN__REQUEST__BODY_MODEL_LIST && body != UNLEARN__REQUEST__BODY_MODEL_SHOW &&
           body != UNLEARN__REQUEST__BODY_COMPONENTS && body != UNLEARN__REQUEST__BODY_PREDICT &&
           body != UNLEARN__REQUEST__BODY_CLUSTER_SHOW && body != UNLEARN__REQUEST__BODY_VERIFY &&
           body != UNLEARN__REQUEST__BODY_VERIFY_SHOW && body != UNLEARN__REQUEST__BODY_BASE_LIST &&
           body != UNLEARN__REQUEST__BODY_BASE_SHOW && body != UNLEARN__REQUEST__BODY_BASE_PULL &&
           body != UNLEARN__REQUEST__BODY_PARAMS_PULL &&
           body != UNLEARN__REQUEST__BODY_REQUEST_LIST && body != UNLEARN__REQUEST__BODY_KEY_LIST &&
           body != UNLEARN__REQUEST__BODY_MODEL_CELLS;
}

static void dispatch(struct core *core, const struct caller *caller,
                     const Unlearn__Request *request, struct span raw)
{
    switch ((int)request->body_case) {
    case UNLEARN__REQUEST__BODY_PING:
        on_ping(core, caller);
        return;
    case UNLEARN__REQUEST__BODY_DATASET_LIST:
        on_dataset_list(core, caller, request->dataset_list, raw);
        return;
    case UNLEARN__REQUEST__BODY_DATASET_SHOW:
        on_dataset_show(core, caller, request->dataset_show, raw);
        return;
    case UNLEARN__REQUEST__BODY_DATASET_REMOVE:
        on_dataset_remove(core, caller, request->dataset_remove, raw);
        return;
    case UNLEARN__REQUEST__BODY_IMPORT_BEGIN:
        on_import_begin(core, caller, request->import_begin, raw);
        return;
    case UNLEARN__REQUEST__BODY_IMPORT_CHUNK:
        on_import_chunk(core, caller, request->import_chunk, raw);
        return;
    case UNLEARN__REQUEST__BODY_IMPORT_COMMIT:
        on_import_commit(core, caller, request->import_commit, raw);
        return;
    case UNLEARN__REQUEST__BODY_IMPORT_ABORT:
        on_import_abort(core, caller, request->import_abort, raw);
        return;
    case UNLEARN__REQUEST__BODY_TRAIN:
        on_train(core, caller, request->train, raw);
        return;
    case UNLEARN__REQUEST__BODY_MODEL_LIST:
        on_model_list(core, caller, request->model_list, raw);
        return;
    case UNLEARN__REQUEST__BODY_MODEL_SHOW:
        on_model_show(core, caller, request->model_show, raw);
        return;
    case UNLEARN__REQUEST__BODY_MODEL_REMOVE:
        on_model_remove(core, caller, request->model_remove, raw);
        return;
    case UNLEARN__REQUEST__BODY_MODEL_SET:
        on_model_set(core, caller, request->model_set, raw);
        return;
    case UNLEARN__REQUEST__BODY_COMPONENTS:
        on_components(core, caller, request->components, raw);
        return;
    case UNLEARN__REQUEST__BODY_PREDICT:
        on_predict(core, caller, request->predict, raw);
        return;
    case UNLEARN__REQUEST__BODY_PLAN:
        on_plan(core, caller, request->plan, raw);
        return;
    case UNLEARN__REQUEST__BODY_DELETE:
        on_delete(core, caller, request->delete_, raw);
        return;
    case UNLEARN__REQUEST__BODY_REQUEST_SHOW:
        on_request_show(core, caller, request->request_show, raw);
        return;
    case UNLEARN__REQUEST__BODY_CLUSTER_SHOW:
        on_cluster_show(core, caller, request->cluster_show, raw);
        return;
    case UNLEARN__REQUEST__BODY_REPORT_GET:
        on_report(core, caller, request->report_get, raw);
        return;
    case UNLEARN__REQUEST__BODY_REQUEST_LIST:
        on_request_list(core, caller, request->request_list, raw);
        return;
    case UNLEARN__REQUEST__BODY_MODEL_CELLS:
        on_model_cells(core, caller, request->model_cells, raw);
        return;
    case UNLEARN__REQUEST__BODY_VERIFY:
        on_verify(core, caller, request->verify, raw);
        return;
    case UNLEARN__REQUEST__BODY_VERIFY_SHOW:
        on_verify_show(core, caller, request->verify_show, raw);
        return;
    case UNLEARN__REQUEST__BODY_RECEIPT_GET:
        on_receipt_get(core, caller, request->receipt_get, raw);
        return;
    case UNLEARN__REQUEST__BODY_LOG_HEAD:
        on_log_head(core, caller, request->log_head, raw);
        return;
    case UNLEARN__REQUEST__BODY_LOG_INCLUSION:
        on_log_inclusion(core, caller, request->log_inclusion, raw);
        return;
    case UNLEARN__REQUEST__BODY_LOG_CONSISTENCY:
        on_log_consistency(core, caller, request->log_consistency, raw);
        return;
    case UNLEARN__REQUEST__BODY_COMPACT:
        on_compact(core, caller, request->compact, raw);
        return;
    case UNLEARN__REQUEST__BODY_SUBJECT_SHOW:
        on_subject_show(core, caller, request->subject_show, raw);
        return;
    case UNLEARN__REQUEST__BODY_EXPORT:
        on_export(core, caller, request->export, raw);
        return;
    case UNLEARN__REQUEST__BODY_EXPORT_PULL:
        on_export_pull(core, caller, request->export_pull, raw);
        return;
    case UNLEARN__REQUEST__BODY_PARAMS_PULL:
        on_params_pull(core, caller, request->params_pull, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_BEGIN:
        on_base_begin(core, caller, request->base_begin, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_CHUNK:
        on_base_chunk(core, caller, request->base_chunk, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_COMMIT:
        on_base_commit(core, caller, request->base_commit, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_ABORT:
        on_base_abort(core, caller, request->base_abort, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_FROM_MODEL:
        on_base_from_model(core, caller, request->base_from_model, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_LIST:
        on_base_list(core, caller, request->base_list, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_SHOW:
        on_base_show(core, caller, request->base_show, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_RETIRE:
        on_base_retire(core, caller, request->base_retire, raw);
        return;
    case UNLEARN__REQUEST__BODY_BASE_PULL:
        on_base_pull(core, caller, request->base_pull, raw);
        return;
    case UNLEARN__REQUEST__BODY_ANSWERS_GET:
        on_answers_get(core, caller, request->answers_get, raw);
        return;
    case UNLEARN__REQUEST__BODY_HOLD_PUT:
        on_hold_put(core, caller, request->hold_put, raw);
        return;
    case UNLEARN__REQUEST__BODY_HOLD_RELEASE:
        on_hold_release(core, caller, request->hold_release, raw);
        return;
    case UNLEARN__REQUEST__BODY_HOLD_LIST:
        on_hold_list(core, caller, request->hold_list, raw);
        return;
    case UNLEARN__REQUEST__BODY_KEY_ADD:
        on_key_add(core, caller, request->key_add, raw);
        return;
    case UNLEARN__REQUEST__BODY_KEY_LIST:
        on_key_list(core, caller, request->key_list, raw);
        return;
    case UNLEARN__REQUEST__BODY_KEY_REVOKE:
        on_key_revoke(core, caller, request->key_revoke, raw);
        return;
    case UNLEARN__REQUEST__BODY_APPROVE:
        on_approve(core, caller, request->approve, raw);
        return;
    case UNLEARN__REQUEST__BODY__NOT_SET:
    default:
        reply_error(core, caller, ERR_INVALID, "a request without a body that is known here");
        return;
    }
}

void clients_message(struct core *core, const struct link_message *message)
{
    struct caller caller = {.peer = message->peer};
    const Unlearn__Request *request = NULL;
    enum err err = wire_get_request(&core->arena, message->envelope, &request);
    if (request == NULL || request->body_case != UNLEARN__REQUEST__BODY_PING) {
        core->asked_ms = core->now_ms; // A probe is nobody to wait for.
    }
    if (request == NULL) { // Nothing could be read, not even whom to answer.
        reply_error(core, &caller, err, err_text());
        return;
    }
    caller.request_id = request->request_id;
    err = err == OK ? access_enter(core, message->key, &caller) : err;
    err = err == OK ? access_check(core, &caller, (int)request->body_case) : err;
    if (err == OK && message->raw.bytes > LIMIT_CHUNK_BYTES) {
        err = err_raise(ERR_INVALID, "a raw frame of %zu bytes, expected at most %d",
                        message->raw.bytes, (int)LIMIT_CHUNK_BYTES);
    }
    uint32_t retry_ms = 0;
    err = err == OK
              ? quota_take(core, &caller, request, message->envelope.bytes + message->raw.bytes,
                           needs_store(request), &retry_ms)
              : err;
    if (err != OK) {
        refuse(core, &caller, err, err_text(), retry_ms);
        return;
    }
    dispatch(core, &caller, request, message->raw);
}
