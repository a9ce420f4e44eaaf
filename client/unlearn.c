// client/unlearn.c: see unlearn.h. Each verb: a request filled, a reply's body handed on.
#include "client/unlearn.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "client/call.h"
#include "client/interrupt.h"

enum {
    FENCE_MS = 5000,      // To wait for the ack of many,
    FENCE_IDS_MS = 50,    // of whom so many are fenced in a millisecond, on a slow machine.
    AWAIT_PAUSE_MS = 200, // Between questions about a deletion of many,
    ATTEMPTS_MAX = 2,     // which is sent again so often.
    // Of one part, answered before the next is sent. The coordinator's loop takes a part at once, and others
    // wait for it: half a millisecond.
    DELETE_IDS_MAX = 500,
    DELETE_BYTES_MAX = 200 * 1024, // Of its ids; with its framing it fits a frame.
};

static const struct span no_raw = {NULL, 0};

// --- The cluster ---

enum err unlearn_ping(struct unlearn *client, const Unlearn__Pong **pong_out)
{
    Unlearn__Ping body;
    unlearn__ping__init(&body);
    Unlearn__Request request = CALL_REQUEST(PING, ping, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(PONG), &reply));
    *pong_out = reply->pong;
    return OK;
}

enum err unlearn_cluster_show(struct unlearn *client, const Unlearn__Cluster **out)
{
    Unlearn__ClusterShow body;
    unlearn__cluster_show__init(&body);
    Unlearn__Request request = CALL_REQUEST(CLUSTER_SHOW, cluster_show, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(CLUSTER), &reply));
    *out = reply->cluster;
    return OK;
}

enum err unlearn_request_list(struct unlearn *client, uint32_t offset,
                              const Unlearn__RequestPage **out)
{
    Unlearn__RequestList body;
    unlearn__request_list__init(&body);
    body.offset = offset;
    Unlearn__Request request = CALL_REQUEST(REQUEST_LIST, request_list, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(REQUEST_PAGE), &reply));
    *out = reply->request_page;
    return OK;
}

enum err unlearn_model_cells(struct unlearn *client, const char *model, uint32_t offset,
                             const Unlearn__CellPage **out)
{
    Unlearn__ModelCells body;
    unlearn__model_cells__init(&body);
    body.model = wire_text(model);
    body.offset = offset;
    Unlearn__Request request = CALL_REQUEST(MODEL_CELLS, model_cells, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(CELL_PAGE), &reply));
    *out = reply->cell_page;
    return OK;
}

enum err unlearn_report(struct unlearn *client, int64_t since_us, int64_t until_us,
                        const char *dataset, const Unlearn__Report **out)
{
    Unlearn__ReportGet body;
    unlearn__report_get__init(&body);
    body.since_us = since_us;
    body.until_us = until_us;
    body.dataset = wire_text(dataset == NULL ? "" : dataset);
    Unlearn__Request request = CALL_REQUEST(REPORT_GET, report_get, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_ONCE, CALL_ANSWER(REPORT), &reply));
    *out = reply->report;
    return OK;
}

// --- Datasets ---

enum err unlearn_dataset_list(struct unlearn *client, uint32_t offset,
                              const Unlearn__DatasetPage **page_out)
{
    Unlearn__DatasetList body;
    unlearn__dataset_list__init(&body);
    body.offset = offset;
    Unlearn__Request request = CALL_REQUEST(DATASET_LIST, dataset_list, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(DATASET_PAGE), &reply));
    *page_out = reply->dataset_page;
    return OK;
}

enum err unlearn_dataset_show(struct unlearn *client, const char *dataset,
                              const Unlearn__Dataset **dataset_out)
{
    Unlearn__DatasetShow body;
    unlearn__dataset_show__init(&body);
    body.dataset = wire_text(dataset);
    Unlearn__Request request = CALL_REQUEST(DATASET_SHOW, dataset_show, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(DATASET), &reply));
    *dataset_out = reply->dataset;
    return OK;
}

enum err unlearn_dataset_remove(struct unlearn *client, const char *dataset,
                                const struct id128 *uuid, const Unlearn__RequestState **state_out)
{
    Unlearn__DatasetRemove body;
    unlearn__dataset_remove__init(&body);
    body.dataset = wire_text(dataset);
    body.uuid = wire_bytes(span_of(uuid, sizeof *uuid));
    Unlearn__Request request = CALL_REQUEST(DATASET_REMOVE, dataset_remove, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(REQUEST_STATE), &reply));
    *state_out = reply->request_state;
    return OK;
}

// --- Models ---

enum err unlearn_train(struct unlearn *client, const char *model, const char *dataset,
                       struct span spec, bool reprofile, const char *policy,
                       const Unlearn__Trained **trained_out)
{
    Unlearn__Train body;
    unlearn__train__init(&body);
    body.model = wire_text(model);
    body.dataset = wire_text(dataset);
    body.spec = wire_bytes(spec);
    body.reprofile = reprofile;
    body.policy = wire_text(policy);
    Unlearn__Request request = CALL_REQUEST(TRAIN, train, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(TRAIN), &reply));
    *trained_out = reply->train;
    return OK;
}

enum err unlearn_model_set(struct unlearn *client, const char *model, const char *policy)
{
    Unlearn__ModelSet body;
    unlearn__model_set__init(&body);
    body.model = wire_text(model);
    body.policy = wire_text(policy);
    Unlearn__Request request = CALL_REQUEST(MODEL_SET, model_set, &body);
    const Unlearn__Reply *reply;
    return call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(DONE), &reply);
}

enum err unlearn_model_list(struct unlearn *client, uint32_t offset,
                            const Unlearn__ModelPage **page_out)
{
    Unlearn__ModelList body;
    unlearn__model_list__init(&body);
    body.offset = offset;
    Unlearn__Request request = CALL_REQUEST(MODEL_LIST, model_list, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(MODEL_PAGE), &reply));
    *page_out = reply->model_page;
    return OK;
}

enum err unlearn_model_show(struct unlearn *client, const char *model,
                            const Unlearn__Model **model_out)
{
    Unlearn__ModelShow body;
    unlearn__model_show__init(&body);
    body.model = wire_text(model);
    Unlearn__Request request = CALL_REQUEST(MODEL_SHOW, model_show, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(MODEL), &reply));
    *model_out = reply->model;
    return OK;
}

enum err unlearn_model_remove(struct unlearn *client, const char *model, const struct id128 *uuid,
                              const Unlearn__RequestState **state_out)
{
    Unlearn__ModelRemove body;
    unlearn__model_remove__init(&body);
    body.model = wire_text(model);
    body.uuid = wire_bytes(span_of(uuid, sizeof *uuid));
    Unlearn__Request request = CALL_REQUEST(MODEL_REMOVE, model_remove, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(REQUEST_STATE), &reply));
    *state_out = reply->request_state;
    return OK;
}

enum err unlearn_components(struct unlearn *client, const char *model, uint32_t offset,
                            const Unlearn__ComponentPage **page_out)
{
    Unlearn__Components body;
    unlearn__components__init(&body);
    body.model = wire_text(model);
    body.offset = offset;
    Unlearn__Request request = CALL_REQUEST(COMPONENTS, components, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(COMPONENT_PAGE), &reply));
    *page_out = reply->component_page;
    return OK;
}

enum err unlearn_verify(struct unlearn *client, const char *model, uint32_t components,
                        const Unlearn__VerifyState **state_out)
{
    Unlearn__Verify body;
    unlearn__verify__init(&body);
    body.model = wire_text(model);
    body.components = components;
    Unlearn__Request request = CALL_REQUEST(VERIFY, verify, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_ONCE, CALL_ANSWER(VERIFY_STATE), &reply));
    *state_out = reply->verify_state;
    return OK;
}

enum err unlearn_verify_show(struct unlearn *client, uint64_t job,
                             const Unlearn__VerifyState **state_out)
{
    Unlearn__VerifyShow body;
    unlearn__verify_show__init(&body);
    body.job = job;
    Unlearn__Request request = CALL_REQUEST(VERIFY_SHOW, verify_show, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(VERIFY_STATE), &reply));
    *state_out = reply->verify_state;
    return OK;
}

// --- Export ---

enum err unlearn_export(struct unlearn *client, const char *model, const char *component,
                        const Unlearn__Exported **exported_out)
{
    Unlearn__Export body;
    unlearn__export__init(&body);
    body.model = wire_text(model);
    body.component = wire_text(component);
    Unlearn__Request request = CALL_REQUEST(EXPORT, export, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(EXPORTED), &reply));
    *exported_out = reply->exported;
    return OK;
}

enum err unlearn_subject_show(struct unlearn *client, const char *dataset, const char *subject,
                              struct span cursor, const Unlearn__SubjectPage **page_out,
                              struct span *raw_out)
{
    Unlearn__SubjectShow body;
    unlearn__subject_show__init(&body);
    body.dataset = wire_text(dataset);
    body.subject = wire_text(subject);
    body.cursor = wire_bytes(cursor);
    Unlearn__Request request = CALL_REQUEST(SUBJECT_SHOW, subject_show, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(SUBJECT_PAGE), &reply));
    *page_out = reply->subject_page;
    *raw_out = client->raw;
    return OK;
}

enum err unlearn_compact(struct unlearn *client, bool only_ask,
                         const Unlearn__CompactState **state_out)
{
    Unlearn__Compact body = UNLEARN__COMPACT__INIT;
    body.only_ask = only_ask;
    Unlearn__Request request = CALL_REQUEST(COMPACT, compact, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(COMPACT_STATE), &reply));
    *state_out = reply->compact_state;
    return OK;
}

enum err unlearn_export_pull(struct unlearn *client, const char *model, const char *component,
                             uint64_t instance, struct span cursor, bool with_ids,
                             const Unlearn__ExportChunk **chunk_out, struct span *raw_out)
{
    Unlearn__ExportPull body;
    unlearn__export_pull__init(&body);
    body.model = wire_text(model);
    body.component = wire_text(component);
    body.instance = instance;
    body.cursor = wire_bytes(cursor);
    body.with_ids = with_ids;
    Unlearn__Request request = CALL_REQUEST(EXPORT_PULL, export_pull, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(EXPORT_CHUNK), &reply));
    *chunk_out = reply->export_chunk;
    *raw_out = client->raw;
    return OK;
}

enum err unlearn_params_pull(struct unlearn *client, const char *model, const char *component,
                             uint64_t instance, uint64_t param_count, float *params_out)
{
    const uint64_t total = param_count * sizeof *params_out;
    uint64_t done = 0;
    for (uint32_t sequence = 0; done < total; sequence++) {
        Unlearn__ParamsPull body;
        unlearn__params_pull__init(&body);
        body.model = wire_text(model);
        body.component = wire_text(component);
        body.instance = instance;
        body.sequence = sequence;
        Unlearn__Request request = CALL_REQUEST(PARAMS_PULL, params_pull, &body);
        const Unlearn__Reply *reply;
        TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(PARAMS_CHUNK), &reply));
        const uint64_t left = total - done;
        const uint64_t expected = left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES;
        if (client->raw.bytes != expected || reply->params_chunk->sequence != sequence) {
            FAIL(ERR_CORRUPT, "chunk %u of the weights came with %zu bytes as chunk %u", sequence,
                 client->raw.bytes, reply->params_chunk->sequence);
        }
        memcpy((uint8_t *)params_out + done, client->raw.data, client->raw.bytes);
        done += client->raw.bytes;
    }
    return OK;
}

// --- Deletion ---

// protobuf-c's arrays of texts have no const; packing does not write.
static char **id_texts(struct unlearn_ids ids, size_t from)
{
    return (char **)(uintptr_t)(ids.texts + from);
}

enum err unlearn_plan(struct unlearn *client, const char *dataset, struct unlearn_ids records,
                      struct unlearn_ids subjects, const Unlearn__PlanCost **cost_out)
{
    Unlearn__Plan body;
    unlearn__plan__init(&body);
    body.dataset = wire_text(dataset);
    body.n_records = records.count;
    body.records = id_texts(records, 0);
    body.n_subjects = subjects.count;
    body.subjects = id_texts(subjects, 0);
    Unlearn__Request request = CALL_REQUEST(PLAN, plan, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(PLAN_COST), &reply));
    *cost_out = reply->plan_cost;
    return OK;
}

// How many ids from `from` on fit a part that has *bytes and *count already; both go up.
static size_t ids_that_fit(struct unlearn_ids ids, size_t from, size_t *count, size_t *bytes)
{
    size_t fit = 0;
    while (from + fit < ids.count && *count < DELETE_IDS_MAX) {
        const size_t more = strlen(ids.texts[from + fit]) + 4; // Tag and length of the field.
        if (*bytes + more > DELETE_BYTES_MAX) {
            break;
        }
        *bytes += more;
        *count += 1;
        fit++;
    }
    return fit;
}

// Fills the next part from what is left of both lists and moves on.
static void fill_part(Unlearn__Delete *body, struct unlearn_ids records, size_t *records_sent,
                      struct unlearn_ids subjects, size_t *subjects_sent)
{
    size_t count = 0, bytes = 0;
    body->records = id_texts(records, *records_sent);
    body->n_records = ids_that_fit(records, *records_sent, &count, &bytes);
    *records_sent += body->n_records;
    body->subjects = id_texts(subjects, *subjects_sent);
    body->n_subjects =
        *records_sent < records.count ? 0 : ids_that_fit(subjects, *subjects_sent, &count, &bytes);
    *subjects_sent += body->n_subjects;
    body->more = *records_sent < records.count || *subjects_sent < subjects.count;
}

static enum err send_parts(struct unlearn *client, const char *dataset, const struct id128 *uuid,
                           struct unlearn_ids records, struct unlearn_ids subjects,
                           const struct unlearn_terms *terms,
                           const Unlearn__RequestState **state_out)
{
    size_t records_sent = 0, subjects_sent = 0;
    for (uint32_t part = 0;; part++) {
        Unlearn__Delete body;
        unlearn__delete__init(&body);
        body.dataset = wire_text(dataset);
        body.uuid = wire_bytes(span_of(uuid, sizeof *uuid));
        body.part = part;
        body.eager = terms != NULL && terms->eager;
        body.due = wire_text(terms == NULL || terms->due == NULL ? "" : terms->due);
        fill_part(&body, records, &records_sent, subjects, &subjects_sent);
        if (body.n_records + body.n_subjects == 0 && body.more) {
            FAIL(ERR_INVALID, "an id is longer than %d bytes", (int)LIMIT_NAME_BYTES);
        }
        Unlearn__Request request = CALL_REQUEST(DELETE, delete_, &body);
        const Unlearn__Reply *reply;
        const int timeout_ms = client->timeout_ms;
        if (part > 0 &&
            !body.more) { // The ack takes so long; if it does not come, await_fence asks.
            const size_t ids = records.count + subjects.count;
            client->timeout_ms = FENCE_MS + (int)(ids / FENCE_IDS_MS);
        }
        // Parts stand in order; only a request of one part is complete in itself.
        const enum err err =
            call(client, &request, no_raw, part == 0 && !body.more ? CALL_AGAIN : CALL_ONCE,
                 body.more ? CALL_ANSWER(DELETE_PART) : CALL_ANSWER(REQUEST_STATE), &reply);
        client->timeout_ms = timeout_ms;
        TRY(err);
        if (!body.more) {
            *state_out = reply->request_state;
            return OK;
        }
    }
}

// Until the coordinator says that it has fenced the request, or does not know it: a deletion of many goes on
// without us, also over its restart. ERR_UNAVAILABLE: neither came in time.
static enum err await_fence(struct unlearn *client, const struct id128 *uuid, size_t ids)
{
    const int64_t until_ms = clock_mono_ms() + client->timeout_ms + (int64_t)ids;
    for (;;) {
        const Unlearn__RequestState *state;
        const enum err err = unlearn_request_show(client, uuid, &state);
        if (err != ERR_UNAVAILABLE || clock_mono_ms() >= until_ms) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        nanosleep(&(struct timespec){.tv_nsec = AWAIT_PAUSE_MS * 1000000L}, NULL);
        TRY(interrupt_check());
    }
}

enum err unlearn_delete(struct unlearn *client, const char *dataset, const struct id128 *uuid,
                        struct unlearn_ids records, struct unlearn_ids subjects,
                        const struct unlearn_terms *terms, const Unlearn__RequestState **state_out)
{
    const size_t ids = records.count + subjects.count;
    for (int attempt = 0;; attempt++) {
        const enum err err = send_parts(client, dataset, uuid, records, subjects, terms, state_out);
        if (err != ERR_UNAVAILABLE || ids <= LIMIT_FENCE_IDS || attempt == ATTEMPTS_MAX) {
            return err;
        }
        TRY(await_fence(client, uuid, ids));
    }
}

enum err unlearn_answers_get(struct unlearn *client, const struct id128 *uuid, uint32_t from,
                             const Unlearn__AnswerPage **page_out)
{
    Unlearn__AnswersGet body;
    unlearn__answers_get__init(&body);
    body.uuid = wire_bytes(span_of(uuid, sizeof *uuid));
    body.from = from;
    Unlearn__Request request = CALL_REQUEST(ANSWERS_GET, answers_get, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(ANSWER_PAGE), &reply));
    *page_out = reply->answer_page;
    return OK;
}

enum err unlearn_request_show(struct unlearn *client, const struct id128 *uuid,
                              const Unlearn__RequestState **state_out)
{
    Unlearn__RequestShow body;
    unlearn__request_show__init(&body);
    body.uuid = wire_bytes(span_of(uuid, sizeof *uuid));
    Unlearn__Request request = CALL_REQUEST(REQUEST_SHOW, request_show, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(REQUEST_STATE), &reply));
    *state_out = reply->request_state;
    return OK;
}

enum err unlearn_approve(struct unlearn *client, const struct id128 *uuid, bool refuse,
                         const Unlearn__RequestState **state_out)
{
    Unlearn__Approve body;
    unlearn__approve__init(&body);
    body.uuid = wire_bytes(span_of(uuid, sizeof *uuid));
    body.refuse = refuse;
    Unlearn__Request request = CALL_REQUEST(APPROVE, approve, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(REQUEST_STATE), &reply));
    *state_out = reply->request_state;
    return OK;
}

// --- Legal holds ---

enum err unlearn_hold_put(struct unlearn *client, const char *dataset, const char *record,
                          const char *subject, const char *reason,
                          const Unlearn__HoldState **state_out)
{
    Unlearn__HoldPut body;
    unlearn__hold_put__init(&body);
    body.dataset = wire_text(dataset);
    body.record = wire_text(record == NULL ? "" : record);
    body.subject = wire_text(subject == NULL ? "" : subject);
    body.reason = wire_text(reason);
    Unlearn__Request request = CALL_REQUEST(HOLD_PUT, hold_put, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(HOLD_STATE), &reply));
    *state_out = reply->hold_state;
    return OK;
}

enum err unlearn_hold_release(struct unlearn *client, const char *dataset, const char *record,
                              const char *subject, const Unlearn__HoldState **state_out)
{
    Unlearn__HoldRelease body;
    unlearn__hold_release__init(&body);
    body.dataset = wire_text(dataset);
    body.record = wire_text(record == NULL ? "" : record);
    body.subject = wire_text(subject == NULL ? "" : subject);
    Unlearn__Request request = CALL_REQUEST(HOLD_RELEASE, hold_release, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_ONCE, CALL_ANSWER(HOLD_STATE), &reply));
    *state_out = reply->hold_state;
    return OK;
}

enum err unlearn_hold_list(struct unlearn *client, const char *dataset, struct span cursor,
                           const Unlearn__HoldPage **page_out)
{
    Unlearn__HoldList body;
    unlearn__hold_list__init(&body);
    body.dataset = wire_text(dataset);
    body.cursor = wire_bytes(cursor);
    Unlearn__Request request = CALL_REQUEST(HOLD_LIST, hold_list, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(HOLD_PAGE), &reply));
    *page_out = reply->hold_page;
    return OK;
}
