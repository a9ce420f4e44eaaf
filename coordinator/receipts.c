// coordinator/receipts.c: see receipts.h.
//
// All requests of one commit are leaves of one small tree under one signature: an Ed25519 signature
// costs some 30 us, and one per ack would bound the rate of acks.
#include "coordinator/receipts.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/statement.h"
#include "proto/receipt.h"
#include "store/ledger.h"

// ---------------------------------------------------------------- accepted: one signature a commit

static void sign_batch(const struct signer *signer, struct accepted **batch, uint32_t count)
{
    struct digest *const leaves = mem_alloc(count, sizeof *leaves);
    struct merkle_path *const paths = mem_alloc(count, sizeof *paths);
    struct head head = {.size = count, .time_us = clock_wall_us()};
    struct buf tail = {0};
    for (uint32_t i = 0; i < count; i++) {
        leaves[i] = merkle_leaf(buf_span(&batch[i]->body));
    }
    merkle_small(leaves, count, &head.root, paths);
    head_sign(&head, HEAD_BATCH, signer);
    for (uint32_t i = 0; i < count; i++) {
        buf_clear(&tail);
        buf_clear(&batch[i]->receipt);
        receipt_put_tail(i, &paths[i], &head, &tail);
        // An accepted body has at most some 700 bytes.
        CHECK(receipt_put_file(buf_span(&batch[i]->body), buf_span(&tail), &batch[i]->receipt) ==
              OK);
    }
    buf_deinit(&tail);
    mem_free(leaves);
    mem_free(paths);
}

static void after_commit(void *context, struct job **jobs, size_t count)
{
    struct accepted **const batch = mem_alloc(count, sizeof *batch);
    uint32_t signed_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct accepted *const accepted = jobs[i]->accepted;
        if (jobs[i]->result == OK && accepted != NULL && accepted->body.bytes > 0) {
            batch[signed_count++] = accepted;
        }
    }
    if (signed_count > 0) {
        sign_batch(context, batch, signed_count);
    }
    mem_free(batch);
}

// ---------------------------------------------------------------- start

struct start_job {
    struct job job;
    const struct signer *signer;
};

static enum err start_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    return ledger_start(txn, ((struct start_job *)job)->signer);
}

static enum err open_key(struct core *core)
{
    char path[sizeof core->dir + 32];
    struct sign_public known;
    snprintf(path, sizeof path, "%s/keys/signing.key", core->dir);
    TRY(sign_open(path, &core->signer));
    snprintf(path, sizeof path, "%s.client/receipt.pub", core->dir);
    TRY(sign_public_read(path, &known));
    if (memcmp(known.bytes, sign_public_of(core->signer)->bytes, SIGN_PUBLIC_BYTES) != 0) {
        FAIL(ERR_CONFLICT,
             "%s is not the public half of %s/keys/signing.key: put the right one back", path,
             core->dir);
    }
    return OK;
}

enum err receipts_open(struct core *core)
{
    TRY(open_key(core));
    struct start_job start = {.job = {.kind = JOB_WRITE_ALONE, .run = start_run},
                              .signer = core->signer};
    TRY(storage_call(core->storage, &start.job));
    storage_after_commit(core->storage, after_commit, core->signer);
    return OK;
}

void receipts_free(struct core *core)
{
    sign_close(core->signer);
    core->signer = NULL;
}

// ---------------------------------------------------------------- receipt, log prove

struct get_job {
    struct job job;
    struct caller caller;
    bool by_index;
    struct id128 uuid;
    uint64_t index, offset;
    struct access_scope scope;
    bool completed;
    uint64_t body_bytes;
    struct buf part, tail;
    struct accepted accepted;
};

static void get_free(struct get_job *get)
{
    buf_deinit(&get->part);
    buf_deinit(&get->tail);
    accepted_deinit(&get->accepted);
    mem_free(get);
}

static enum err take_part(struct get_job *get, struct span body)
{
    if (get->offset > body.bytes) {
        FAIL(ERR_INVALID, "the receipt has %zu bytes, and those from %llu on are asked for",
             body.bytes, (unsigned long long)get->offset);
    }
    const size_t left = body.bytes - get->offset;
    get->body_bytes = body.bytes;
    buf_clear(&get->part);
    buf_put(&get->part, span_of((const uint8_t *)body.data + get->offset,
                                left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES));
    return OK;
}

static enum err get_entry(struct get_job *get, struct txn *txn)
{
    struct head head;
    struct merkle_path path;
    struct span body;
    TRY(ledger_head(txn, &head));
    if (get->index >= head.size) {
        FAIL(ERR_NOT_FOUND, "the receipt log has %llu entries, from 0 on",
             (unsigned long long)head.size);
    }
    TRY(ledger_inclusion(txn, get->index, head.size, &path));
    TRY(ledger_entry(txn, get->index, &body));
    TRY(take_part(get, body));
    buf_clear(&get->tail);
    receipt_put_tail(get->index, &path, &head, &get->tail);
    get->completed = true;
    return OK;
}

static enum err get_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct get_job *const get = (struct get_job *)job;
    if (get->by_index) {
        return get_entry(get, txn);
    }
    struct request_row row;
    TRY(access_request(txn, &get->scope, &get->uuid, &row));
    if (!request_stands(&row)) {
        FAIL(ERR_CONFLICT, "%s: there is no receipt of it",
             row.state == REQUEST_AWAITING ? "the request waits for approval"
                                           : "the request was refused");
    }
    if (row.state == REQUEST_COMPLETED && row.log_entry > 0) {
        get->index = row.log_entry - 1;
        return get_entry(get, txn);
    }
    TRY(statement_accepted(txn, &row, &get->accepted.body));
    return take_part(get, buf_span(&get->accepted.body));
}

static void get_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct get_job *const get = (struct get_job *)job;
    struct receipt_file file;
    if (job->result != OK) {
        reply_error(core, &get->caller, job->result, job->text);
        get_free(get);
        return;
    }
    if (!get->completed) { // Signed by the hook, as a file: its end is the tail.
        CHECK(receipt_get_file(buf_span(&get->accepted.receipt), &file) == OK);
        receipt_put_tail(file.index, &file.path, &file.head, &get->tail);
    }
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Receipt receipt = UNLEARN__RECEIPT__INIT;
    receipt.body_bytes = get->body_bytes;
    receipt.tail = wire_bytes(buf_span(&get->tail));
    receipt.completed = get->completed;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_RECEIPT;
    reply.receipt = &receipt;
    reply_send(core, &get->caller, &reply, buf_span(&get->part));
    get_free(get);
}

static struct get_job *get_new(const struct caller *caller, uint64_t offset)
{
    struct get_job *const get = mem_alloc(1, sizeof *get);
    get->job = (struct job){
        .kind = JOB_READ, .run = get_run, .done = get_done, .accepted = &get->accepted};
    get->caller = *caller;
    get->scope = access_scope_of(caller);
    get->offset = offset;
    return get;
}

VERB(on_receipt_get, Unlearn__ReceiptGet)
{
    (void)raw;
    struct get_job *const get = get_new(caller, body->offset);
    if (wire_copy(body->uuid, get->uuid.bytes, ID_BYTES, "the request's UUID") != OK) {
        reply_error(core, caller, ERR_INVALID, err_text());
        get_free(get);
        return;
    }
    storage_submit(core->storage, &get->job, caller_number(caller));
}

VERB(on_log_inclusion, Unlearn__LogInclusion)
{
    (void)raw;
    struct get_job *const get = get_new(caller, body->offset);
    get->by_index = true;
    get->index = body->index;
    storage_submit(core->storage, &get->job, caller_number(caller));
}

// ---------------------------------------------------------------- log head, log consistency

struct log_job {
    struct job job;
    struct caller caller;
    bool proof; // Else the head.
    uint64_t from, to;
    struct head head;
    struct merkle_path path;
    struct digest root;
};

static enum err log_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct log_job *const log = (struct log_job *)job;
    if (!log->proof) {
        return ledger_head(txn, &log->head);
    }
    TRY(ledger_consistency(txn, log->from, log->to, &log->path));
    return ledger_root(txn, log->from, &log->root);
}

static void log_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct log_job *const log = (struct log_job *)job;
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__LogHeadState state = UNLEARN__LOG_HEAD_STATE__INIT;
    Unlearn__LogProof proof = UNLEARN__LOG_PROOF__INIT;
    uint8_t head[HEAD_BYTES];
    reply.status = UNLEARN__STATUS__STATUS_OK;
    if (job->result != OK) {
        reply_error(core, &log->caller, job->result, job->text);
    } else if (log->proof) {
        proof.hashes =
            wire_bytes(span_of(log->path.hashes, (size_t)log->path.count * DIGEST_BYTES));
        proof.root = wire_bytes(span_of(log->root.bytes, DIGEST_BYTES));
        reply.body_case = UNLEARN__REPLY__BODY_LOG_PROOF;
        reply.log_proof = &proof;
        reply_send(core, &log->caller, &reply, span_of(NULL, 0));
    } else {
        head_put(&log->head, head);
        state.head = wire_bytes(span_of(head, sizeof head));
        reply.body_case = UNLEARN__REPLY__BODY_LOG_HEAD_STATE;
        reply.log_head_state = &state;
        reply_send(core, &log->caller, &reply, span_of(NULL, 0));
    }
    mem_free(log);
}

static struct log_job *log_new(const struct caller *caller)
{
    struct log_job *const log = mem_alloc(1, sizeof *log);
    log->job = (struct job){.kind = JOB_READ, .run = log_run, .done = log_done};
    log->caller = *caller;
    return log;
}

VERB(on_log_head, Unlearn__LogHead)
{
    (void)raw;
    (void)body;
    storage_submit(core->storage, &log_new(caller)->job, caller_number(caller));
}

VERB(on_log_consistency, Unlearn__LogConsistency)
{
    (void)raw;
    struct log_job *const log = log_new(caller);
    log->proof = true;
    log->from = body->from;
    log->to = body->to;
    storage_submit(core->storage, &log->job, caller_number(caller));
}
