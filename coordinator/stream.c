// coordinator/stream.c: records, parents and bases to a worker, its result back and into the store; see
// fleetdom.h. Everything bulky is pulled by credit: a receiver asks for chunks, 4 in flight.
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/fleetdom.h"
#include "coordinator/recheck.h"
#include "model/learner.h"

enum { PULL_US = 1000 };

// ---------------------------------------------------------------- records, parents and bases

struct pull_job {
    struct job job;
    struct lease *lease;
    uint32_t member;
    uint32_t sequence;
    struct buf bytes;
    uint32_t count;
    bool last;
    int64_t until_us; // Acks wait behind it: the chunk ends there.
    bool full;        // The next record does not fit any more.
};

static bool add_record(void *context, const struct record *record)
{
    struct pull_job *const pull = context;
    if (pull->bytes.bytes + ID_BYTES + 4 + record->row.bytes > LIMIT_CHUNK_BYTES ||
        (pull->count > 0 && pull->count % 16 == 0 && clock_mono_us() >= pull->until_us)) {
        pull->full = true;
        return false;
    }
    buf_put(&pull->bytes, span_of(record->key.rid.bytes, ID_BYTES));
    buf_u32(&pull->bytes, (uint32_t)record->row.bytes);
    buf_put(&pull->bytes, record->row);
    pull->count++;
    struct stream *const stream = &pull->lease->members[pull->member].stream;
    stream->after = record->key;
    stream->started = true;
    return true;
}

static enum err pull_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct pull_job *const pull = (struct pull_job *)job;
    struct lease *const lease = pull->lease;
    struct stream *const stream = &lease->members[pull->member].stream;
    pull->until_us = clock_mono_us() + PULL_US;
    while (stream->position < lease->name.count && !pull->full) {
        const struct cell cell = {lease->name.shard, lease->name.list[stream->position]};
        if ((stream->skip[stream->position / 8] >> stream->position % 8 & 1) != 0) {
            stream->position++;
            continue;
        }
        TRY(cell_walk(txn, lease->dataset, &lease->placement, cell,
                      stream->started ? &stream->after : NULL, false, add_record, pull));
        if (!pull->full) {
            stream->position++;
            stream->started = false;
        }
    }
    pull->last = stream->position == lease->name.count;
    return OK;
}

static void send_chunk(struct core *core, struct lease *lease, uint32_t member,
                       Unlearn__StreamKind kind, uint32_t sequence, uint32_t count, bool last,
                       struct span raw)
{
    struct worker *const worker = lease->members[member].worker;
    if (worker == NULL) { // Done: a pull past the end of the records.
        return;
    }
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Chunk chunk = UNLEARN__CHUNK__INIT;
    chunk.lease = lease->number;
    chunk.stream = kind;
    chunk.sequence = sequence;
    chunk.count = count;
    chunk.last = last;
    message.body_case = UNLEARN__TO_WORKER__BODY_CHUNK;
    message.chunk = &chunk;
    const struct cover cover = {lease->number, (uint32_t)kind, member, sequence};
    cover_put(lease->key, &cover, raw, &core->fleetdom->raw);
    if (!workers_send(core, &worker->peer, &message, buf_span(&core->fleetdom->raw))) {
        workers_drop(core, worker, true);
    }
}

static void pull_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct pull_job *const pull = (struct pull_job *)job;
    struct lease *const lease = pull->lease;
    lease->members[pull->member].pulls--;
    if (lease_job_back(core, lease)) {
        if (job->result != OK) {
            lease_failed(core, lease, true, job->text);
        } else {
            send_chunk(core, lease, pull->member, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS,
                       pull->sequence, pull->count, pull->last, buf_span(&pull->bytes));
        }
    }
    buf_deinit(&pull->bytes);
    mem_free(pull);
}

static void pull_records(struct core *core, struct lease *lease, uint32_t index, uint32_t sequence,
                         ProtobufCBinaryData skip)
{
    struct member *const member = &lease->members[index];
    if (sequence != member->stream.next_sequence || member->pulls >= LIMIT_CREDIT) {
        lease_failed(core, lease, true, "the worker asked for records out of turn");
        return;
    }
    if (skip.len > (sequence == 0 ? sizeof member->stream.skip : 0)) {
        lease_failed(core, lease, true, "the worker said too late or too much of what it holds");
        return;
    }
    if (skip.len > 0) { // No job of this stream is under way yet.
        memcpy(member->stream.skip, skip.data, skip.len);
    }
    struct pull_job *const pull = mem_alloc(1, sizeof *pull);
    pull->job = (struct job){.kind = JOB_READ, .run = pull_run, .done = pull_done};
    pull->lease = lease;
    pull->member = index;
    pull->sequence = sequence;
    member->stream.next_sequence++;
    member->pulls++;
    lease->jobs++;
    storage_submit(core->storage, &pull->job, STORAGE_OURS);
}

// A chunk of what lies in memory; `weights` may be NULL: there is nothing.
static void pull_weights(struct core *core, struct lease *lease, uint32_t member,
                         Unlearn__StreamKind kind, uint32_t sequence, const float *weights,
                         uint64_t count)
{
    const uint64_t bytes = weights == NULL ? 0 : count * sizeof *weights;
    const uint64_t from = (uint64_t)sequence * LIMIT_CHUNK_BYTES;
    if (from >= bytes) { // Asked for ahead: there is no more.
        send_chunk(core, lease, member, kind, sequence, 0, true, span_of(NULL, 0));
        return;
    }
    const uint64_t left = bytes - from;
    const size_t now = left < LIMIT_CHUNK_BYTES ? (size_t)left : LIMIT_CHUNK_BYTES;
    send_chunk(core, lease, member, kind, sequence, 0, now == left,
               span_of((const uint8_t *)weights + from, now));
}

void stream_pull(struct core *core, struct lease *lease, uint32_t member,
                 const Unlearn__WorkerPull *pull)
{
    if (lease->phase != LEASE_TRAINING || lease->members[member].done) {
        return;
    }
    lease->members[member].deadline_ms = core->now_ms + core->config.lease_ms;
    const struct weights *const parent = lease->parent;
    const struct base *const base = lease->base;
    if (pull->stream == UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS) {
        pull_records(core, lease, member, pull->sequence, pull->skip);
    } else if (pull->stream == UNLEARN__STREAM_KIND__STREAM_KIND_PARENT) {
        pull_weights(core, lease, member, pull->stream, pull->sequence,
                     parent == NULL ? NULL : parent->params,
                     parent == NULL ? 0 : parent->param_count);
    } else {
        pull_weights(core, lease, member, pull->stream, pull->sequence,
                     base == NULL ? NULL : base->weights, base == NULL ? 0 : base->weight_count);
    }
}

// ---------------------------------------------------------------- the result

static bool send_weights_pull(struct core *core, struct lease *lease)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__WeightsPull pull = UNLEARN__WEIGHTS_PULL__INIT;
    pull.lease = lease->number;
    pull.sequence = lease->pulls_sent++;
    message.body_case = UNLEARN__TO_WORKER__BODY_WEIGHTS_PULL;
    message.weights_pull = &pull;
    return workers_send(core, &lease->members[0].worker->peer, &message, span_of(NULL, 0));
}

static uint32_t chunk_count(const struct lease *lease)
{
    return (uint32_t)((lease->result_bytes + LIMIT_CHUNK_BYTES - 1) / LIMIT_CHUNK_BYTES);
}

// A comparison ends here: the digest of the retrained component against the stored one's.
static void compare(struct core *core, struct lease *lease)
{
    const struct model *const model = catalog_model_number(core, lease->model);
    const int32_t node = trie_find(&model->ensemble.trie, &lease->name);
    const struct slot_extra *const extra = model_extra(model, lease->name.shard, (uint32_t)node);
    lease_compared(core, lease,
                   extra->weights == NULL ? VERIFY_SKIPPED
                   : memcmp(&extra->weights->digest, &lease->digest, sizeof lease->digest) == 0
                       ? VERIFY_IDENTICAL
                       : VERIFY_DIFFERENT);
    lease_end(core, lease, false);
}

// Keeps what a member says. True: all have given the same digest now.
static bool take_done(struct core *core, struct lease *lease, uint32_t index,
                      const Unlearn__StageDone *done)
{
    struct member *const member = &lease->members[index];
    if (lease->done_count > 0 &&
        memcmp(lease->digest.bytes, done->digest.data, DIGEST_BYTES) != 0) {
        lease_failed(core, lease, true, "the ranks of a group ended with different bytes");
        return false;
    }
    memcpy(lease->digest.bytes, done->digest.data, DIGEST_BYTES);
    lease->seconds = done->seconds > lease->seconds ? done->seconds : lease->seconds;
    member->done = true;
    lease->done_count++;
    if (index > 0) { // Free for other work, whatever becomes of the result.
        member->worker->lease = NULL;
        member->worker = NULL;
    }
    return lease->done_count == lease->member_count;
}

void stream_done(struct core *core, struct lease *lease, uint32_t member,
                 const Unlearn__StageDone *done)
{
    if (lease->phase != LEASE_TRAINING || lease->members[member].done) {
        return;
    }
    if (done->samples != lease->samples || done->digest.len != DIGEST_BYTES || done->seconds < 0) {
        lease_failed(core, lease, true, "the worker's result does not have the size of the stage");
        return;
    }
    if (!take_done(core, lease, member, done)) {
        return;
    }
    lease_progress(core, lease, lease->samples);
    if (lease->compare) {
        compare(core, lease);
        return;
    }
    lease->result_bytes = lease->param_count * sizeof(float);
    if (mem_try_aligned(lease->param_count, sizeof(float), &lease->params) != OK) {
        lease_failed(core, lease, true, err_text());
        return;
    }
    lease->phase = LEASE_RECEIVING;
    const uint32_t chunks = chunk_count(lease);
    while (lease->pulls_sent < chunks && lease->pulls_sent < LIMIT_CREDIT) {
        if (!send_weights_pull(core, lease)) {
            workers_drop(core, lease->members[0].worker, true);
            return;
        }
    }
}

// Stores a result if all that it stands on still holds.
struct keep_job {
    struct job job;
    struct lease *lease;
    uint32_t model;
    struct component name;
    uint64_t versions[LIMIT_SLICES];
    struct digest digest; // As the worker said.
    struct digest spec, schema;
    struct shape *shape; // Held: for the base.
    float *params;
    struct component_row row;
    uint64_t epoch;
    char trainer[LIMIT_NAME_BYTES + 1]; // Name of the worker that led.
};

static enum err check_result(const struct keep_job *keep)
{
    char name[COMPONENT_TEXT_BYTES];
    component_put(&keep->name, name);
    for (uint64_t i = 0; i < keep->row.param_count; i++) {
        if (!isfinite(keep->params[i])) {
            FAIL(ERR_CORRUPT, "a weight of the result is not finite");
        }
    }
    const struct digest real = component_digest(name, &keep->spec, &keep->schema, keep->shape->base,
                                                keep->params, keep->row.param_count);
    if (memcmp(&real, &keep->digest, sizeof real) != 0) {
        FAIL(ERR_CORRUPT, "the result's bytes do not have the digest that the worker gave");
    }
    return OK;
}

static enum err check_current(struct keep_job *keep, struct txn *txn)
{
    struct model_row model = {0};
    TRY(model_get(txn, keep->model, &model));
    const bool removing = model.removing;
    model_row_deinit(&model);
    if (removing) {
        FAIL(ERR_CONFLICT, "the model is being removed");
    }
    for (uint32_t i = 0; i < keep->name.count; i++) {
        uint64_t version = 0;
        TRY(cell_version_get(txn, keep->model, keep->name.shard, keep->name.list[i], &version));
        if (version != keep->versions[i]) {
            FAIL(ERR_CONFLICT, "a deletion hit its slices while it was trained");
        }
    }
    struct component_row there;
    const enum err err = component_row_get(txn, keep->model, &keep->name, &there);
    if (err == OK && there.state == COMPONENT_VALID) {
        FAIL(ERR_CONFLICT, "another worker's result was stored first");
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err keep_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct keep_job *const keep = (struct keep_job *)job;
    TRY(check_result(keep));
    TRY(check_current(keep, txn));
    keep->row.trained_us = clock_wall_us();
    uint8_t commit_key[KEY_BYTES];
    TRY(counter_next(txn, COUNTER_INSTANCE, &keep->row.instance));
    TRY(counter_next(txn, COUNTER_EPOCH, &keep->epoch));
    TRY(weights_put(txn, keep->row.instance, keep->params, keep->row.param_count));
    TRY(weights_commit_key(txn, keep->row.instance, commit_key));
    keep->row.commitment = digest_commit(commit_key, &keep->digest);
    mem_wipe(commit_key, sizeof commit_key);
    return component_row_put(txn, keep->model, &keep->name, &keep->row);
}

// The commit stands whatever became of the lease meanwhile: the loop's memory follows the store.
static void apply_kept(struct core *core, struct keep_job *keep)
{
    struct model *const model = catalog_model_number(core, keep->model);
    CHECK(model != NULL); // Its removal would have come before, and made this a conflict.
    const int32_t node = trie_find(&model->ensemble.trie, &keep->name);
    CHECK(node >= 0);
    struct weights *const weights =
        weights_new(keep->row.instance, keep->params, keep->row.param_count);
    weights->digest = keep->digest;
    keep->params = NULL;
    model_set_valid(core, model, keep->name.shard, (uint32_t)node, weights, keep->row.records,
                    &keep->row.profile);
    model->run_components++;
    model->run_samples += keep->row.samples;
    rate_add(&core->activity.stored, core->now_ms, 1);
    planned_trained(&model->plan, keep->name.shard, keep->name.count, keep->row.samples,
                    keep->row.seconds);
    core->epoch = keep->epoch > core->epoch ? keep->epoch : core->epoch;
    recheck_stored(core, keep->model, &keep->name, keep->row.instance, keep->trainer);
    char name[COMPONENT_TEXT_BYTES];
    component_put(&keep->name, name);
    log_info("component_stored", "model=%u component=%s records=%llu samples=%llu epoch=%llu",
             keep->model, name, (unsigned long long)keep->row.records,
             (unsigned long long)keep->row.samples, (unsigned long long)keep->epoch);
}

static void keep_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct keep_job *const keep = (struct keep_job *)job;
    struct lease *const lease = keep->lease;
    const bool current = lease_job_back(core, lease);
    if (job->result == OK) {
        apply_kept(core, keep);
        if (current) {
            lease->stored = keep->row.instance;
            lease_end(core, lease, true);
        }
    } else if (job->result == ERR_CONFLICT && current) {
        log_info("result_void", "lease=%llu reason=\"%s\"", (unsigned long long)lease->number,
                 job->text);
        lease_end(core, lease, true);
    } else if (current) {
        lease_failed(core, lease, true, job->text);
    }
    shape_release(keep->shape);
    mem_free(keep->params);
    mem_free(keep);
}

static void keep_result(struct core *core, struct lease *lease)
{
    const struct model *const model = catalog_model_number(core, lease->model);
    struct keep_job *const keep = mem_alloc(1, sizeof *keep);
    keep->job = (struct job){.kind = JOB_WRITE_ALONE, .run = keep_run, .done = keep_done};
    keep->lease = lease;
    keep->model = lease->model;
    keep->name = lease->name;
    memcpy(keep->versions, lease->versions, sizeof keep->versions);
    keep->digest = lease->digest;
    keep->spec = model->spec_digest;
    keep->shape = shape_hold(model->shape);
    keep->schema = catalog_dataset_number(core, model->dataset)->schema_digest;
    keep->params = lease->params;
    lease->params = NULL;
    keep->row = (struct component_row){
        .state = COMPONENT_VALID,
        .param_count = lease->param_count,
        .records = lease->records,
        .samples = lease->samples,
        .seconds = lease->seconds * lease->member_count,
        .profile = core->profile,
    };
    memcpy(keep->trainer, lease->members[0].worker->name, sizeof keep->trainer);
    lease->phase = LEASE_STORING;
    lease->jobs++;
    storage_submit(core->storage, &keep->job, STORAGE_OURS);
}

void stream_weights(struct core *core, struct lease *lease, const Unlearn__WeightsChunk *chunk,
                    struct span raw)
{
    const uint64_t from = (uint64_t)lease->chunks_received * LIMIT_CHUNK_BYTES;
    const uint64_t left = lease->result_bytes - from;
    const uint64_t expected = left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES;
    if (lease->phase != LEASE_RECEIVING) {
        return;
    }
    if (chunk->sequence != lease->chunks_received || raw.bytes != expected + SEAL_TAG_BYTES) {
        lease_failed(core, lease, true, "a chunk of weights came out of turn or with another size");
        return;
    }
    const struct cover cover = {lease->number, COVER_RESULT, 0, chunk->sequence};
    if (cover_get(lease->key, &cover, raw, (uint8_t *)lease->params + from) != OK) {
        lease_failed(core, lease, true, err_text());
        return;
    }
    lease->chunks_received++;
    const uint32_t chunks = chunk_count(lease);
    if (lease->chunks_received == chunks) {
        keep_result(core, lease);
    } else if (lease->pulls_sent < chunks && !send_weights_pull(core, lease)) {
        workers_drop(core, lease->members[0].worker, true);
    }
}
