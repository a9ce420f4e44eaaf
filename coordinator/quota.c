// coordinator/quota.c: see quota.h.
#include "coordinator/quota.h"

#include "base/mem.h"
#include "scheduler/bucket.h"

enum {
    BURST_US = 2000000,   // What may be used at once.
    AHEAD_US = 60000000,  // An upload may get so far ahead of its bytes.
    QUEUE_RETRY_MS = 200, // A quarter of a full queue is worked off in about that.
};

struct holder {
    struct bucket requests, bytes, ids;
};

struct quota {
    struct holder *holders; // By number of the principal.
    uint32_t count;
    uint64_t requests, bytes, ids, queue; // Refused.
};

void quota_free(struct core *core)
{
    if (core->quota != NULL) {
        mem_free(core->quota->holders);
        mem_free(core->quota);
    }
}

static struct holder *holder_of(struct core *core, const struct caller *caller)
{
    const uint32_t number = caller_number(caller);
    if (core->quota == NULL) {
        core->quota = mem_alloc(1, sizeof *core->quota);
    }
    struct quota *const quota = core->quota;
    if (number >= quota->count) {
        quota->holders = mem_resize(quota->holders, number + 1, sizeof *quota->holders);
        for (; quota->count <= number; quota->count++) {
            quota->holders[quota->count] = (struct holder){0};
        }
    }
    return &quota->holders[number];
}

static enum err refuse(uint64_t *counter, uint64_t rate, const char *what, int64_t wait_us,
                       uint32_t *retry_ms_out)
{
    (*counter)++;
    *retry_ms_out = (uint32_t)(wait_us / 1000 + 1);
    FAIL(ERR_LIMIT, "this key has had its %llu %s a second: try again in %u ms",
         (unsigned long long)rate, what, *retry_ms_out);
}

static enum err take_deletion(struct core *core, struct holder *holder, const Unlearn__Delete *body,
                              int64_t now_us, uint32_t *retry_ms_out)
{
    const uint64_t rate = core->config.quota_ids;
    const size_t ids = body->n_records + body->n_subjects;
    int64_t wait_us = 0;
    const int64_t debt_us = bucket_debt_us(&holder->ids, now_us);
    if (body->part > 0 && debt_us > AHEAD_US) {
        return refuse(&core->quota->ids, rate, "ids of deletions", debt_us, retry_ms_out);
    }
    if (body->part > 0) {
        bucket_charge(&holder->ids, rate, ids, now_us);
        return OK;
    }
    if (!bucket_take(&holder->ids, rate, BURST_US, ids > 0 ? ids : 1, now_us, &wait_us)) {
        return refuse(&core->quota->ids, rate, "ids of deletions", wait_us, retry_ms_out);
    }
    return OK;
}

static enum err take_other(struct core *core, struct holder *holder, bool goes_on, size_t bytes,
                           int64_t now_us, uint32_t *retry_ms_out)
{
    const uint64_t per_s = core->config.quota_bytes;
    int64_t wait_us = bucket_debt_us(&holder->bytes, now_us);
    if (goes_on && wait_us <= AHEAD_US) {
        bucket_charge(&holder->bytes, per_s, bytes, now_us);
        return OK;
    }
    // First looked at, then taken: who is refused has used up nothing.
    struct bucket copy = holder->bytes;
    if (goes_on || !bucket_take(&copy, per_s, BURST_US, bytes, now_us, &wait_us)) {
        return refuse(&core->quota->bytes, per_s, "bytes", wait_us, retry_ms_out);
    }
    if (!bucket_take(&holder->requests, core->config.quota_requests, BURST_US, 1, now_us,
                     &wait_us)) {
        return refuse(&core->quota->requests, core->config.quota_requests, "requests", wait_us,
                      retry_ms_out);
    }
    holder->bytes = copy;
    return OK;
}

enum err quota_take(struct core *core, const struct caller *caller, const Unlearn__Request *request,
                    size_t bytes, bool needs_store, uint32_t *retry_ms_out)
{
    struct holder *const holder = holder_of(core, caller);
    const int64_t now_us = core->now_ms * 1000;
    const int body = (int)request->body_case;
    const bool deletion = body == UNLEARN__REQUEST__BODY_DELETE;
    const bool goes_on =
        body == UNLEARN__REQUEST__BODY_IMPORT_CHUNK || body == UNLEARN__REQUEST__BODY_BASE_CHUNK;
    if (needs_store &&
        storage_count(core->storage) >=
            (deletion ? LIMIT_STORE_QUEUE : LIMIT_STORE_QUEUE - LIMIT_STORE_QUEUE_DELETIONS)) {
        core->quota->queue++;
        *retry_ms_out = QUEUE_RETRY_MS;
        FAIL(ERR_LIMIT, "%u operations wait for the disk already: try again later",
             storage_count(core->storage));
    }
    return deletion ? take_deletion(core, holder, request->delete_, now_us, retry_ms_out)
                    : take_other(core, holder, goes_on, bytes, now_us, retry_ms_out);
}

void quota_describe(const struct core *core, Unlearn__Limits *out)
{
    out->requests_per_s = core->config.quota_requests;
    out->bytes_per_s = core->config.quota_bytes;
    out->ids_per_s = core->config.quota_ids;
    out->store_queue = LIMIT_STORE_QUEUE;
    if (core->quota != NULL) {
        out->requests_refused = core->quota->requests;
        out->bytes_refused = core->quota->bytes;
        out->ids_refused = core->quota->ids;
        out->store_queue_refused = core->quota->queue;
    }
}
