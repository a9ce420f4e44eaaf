// coordinator/bulk.c: see bulk.h.
#include "coordinator/bulk.h"

#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/access.h"
#include "coordinator/approval.h"
#include "coordinator/cellset.h"
#include "coordinator/erasure.h"
#include "coordinator/fence.h"
#include "coordinator/statement.h"
#include "store/base.h"
#include "store/dataset.h"
#include "store/deny.h"
#include "store/tally.h"

enum {
    PART_IDLE_MS = 60000,
    RETRY_MS = 1000,
    STEP_US = 4000, // Of looking; then what was found is fenced.
    FAST_US = 3000, // A step that took less takes more records the next time,
    SLOW_US = 6000, // one that took longer fewer.
    KEYS_FIRST = 4, // The first ones invalidate most.
    KEYS_MOST = 256,
    CALLERS_MAX = 8, // Who waits for one request.
    CLEAR_ROWS = 64, // At once: a megabyte.
};

// How far a sealed request has been looked through: subjects first, so that a record which is named, too,
// is there when its subject is looked for.
struct progress {
    bool records; // The second time through.
    uint32_t row, at;
    uint32_t place; // Of that id among all.
    struct finding_at subject;
    uint64_t earlier;
    struct hold_why why;
};

struct bulk {
    struct bulk_row row; // As of the last commit.
    uint32_t principal;  // Who sends the parts: another's under the same UUID are another upload.
    uint32_t next_part;
    int64_t last_ms; // When a part came.
    bool busy;       // A job is under way: it may read all of this, and change answers and kept.
    bool sealed;
    bool hurry; // Somebody waits for its repair.
    struct caller callers[CALLERS_MAX];
    uint32_t caller_count;
    struct progress progress;
    uint8_t *answers;        // [ids], once it is sealed. Owned.
    struct deny kept;        // Records on hold.
    struct cellset known;    // Hit by earlier steps.
    uint64_t known_epoch;    // It holds while the epoch is this one.
    struct awaited *awaited; // Owned.
    uint32_t awaited_count;
    uint64_t forget;    // Of the last step that had workers forget something.
    uint32_t keys_most; // Of the next step.
    int64_t again_ms;   // 0, or when to try again.
};

struct bulks {
    struct bulk *all[2 * LIMIT_DELETES_OPEN]; // Uploading ones and sealed ones, in order of age.
    uint32_t count;
    bool stopped;
};

static struct bulks *bulks_of(struct core *core)
{
    if (core->bulks == NULL) {
        core->bulks = mem_alloc(1, sizeof *core->bulks);
    }
    return core->bulks;
}

static void bulk_deinit(struct bulk *bulk)
{
    cellset_deinit(&bulk->known);
    mem_free(bulk->answers);
    mem_free(bulk->awaited);
    deny_deinit(&bulk->kept);
    mem_free(bulk);
}

void bulk_free(struct core *core)
{
    struct bulks *const bulks = bulks_of(core);
    while (bulks->count > 0) {
        bulk_deinit(bulks->all[--bulks->count]);
    }
    mem_free(bulks);
    core->bulks = NULL;
}

static struct bulk *find_sealed(const struct core *core, const struct id128 *uuid)
{
    for (uint32_t i = 0; core->bulks != NULL && i < core->bulks->count; i++) {
        struct bulk *const bulk = core->bulks->all[i];
        if (bulk->sealed && id128_compare(&bulk->row.request.uuid, uuid) == 0) {
            return bulk;
        }
    }
    return NULL;
}

static struct bulk *find_upload(const struct core *core, const struct caller *caller,
                                const struct id128 *uuid)
{
    for (uint32_t i = 0; core->bulks != NULL && i < core->bulks->count; i++) {
        struct bulk *const bulk = core->bulks->all[i];
        if (!bulk->sealed && bulk->principal == caller_number(caller) &&
            id128_compare(&bulk->row.request.uuid, uuid) == 0) {
            return bulk;
        }
    }
    return NULL;
}

bool bulk_find(const struct core *core, const struct caller *caller, const struct id128 *uuid,
               uint32_t *done_out, uint32_t *ids_out)
{
    const struct bulk *bulk = find_sealed(core, uuid);
    bulk = bulk == NULL ? find_upload(core, caller, uuid) : bulk;
    if (bulk == NULL || !access_sees(caller, bulk->row.request.dataset)) {
        return false;
    }
    *done_out = bulk->progress.place;
    *ids_out = bulk->row.ids;
    return true;
}

// ---------------------------------------------------------------- leftovers

struct clear_job {
    struct job job;
    uint64_t sequence;
    bool more;
};

static enum err clear_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct clear_job *const clear = (struct clear_job *)job;
    return bulk_clear(txn, clear->sequence, CLEAR_ROWS, &clear->more);
}

static void clear_submit(struct core *core, uint64_t sequence);

static void clear_done(struct job *job, void *core)
{
    const struct clear_job *const clear = (struct clear_job *)job;
    if (job->result != OK) { // The next start does it.
        log_error("bulk_clear_failed", "sequence=%llu reason=\"%s\"",
                  (unsigned long long)clear->sequence, job->text);
    } else if (clear->more) {
        clear_submit(core, clear->sequence);
    }
    mem_free(job);
}

static void clear_submit(struct core *core, uint64_t sequence)
{
    if (sequence == 0 || bulks_of(core)->stopped) {
        return;
    }
    struct clear_job *const clear = mem_alloc(1, sizeof *clear);
    clear->job = (struct job){.kind = JOB_WRITE, .run = clear_run, .done = clear_done};
    clear->sequence = sequence;
    storage_submit(core->storage, &clear->job, STORAGE_OURS);
}

// Out of memory, and its rows out of the store.
static void forget(struct core *core, struct bulk *bulk)
{
    struct bulks *const bulks = bulks_of(core);
    uint32_t at = 0;
    while (at < bulks->count && bulks->all[at] != bulk) {
        at++;
    }
    CHECK(at < bulks->count && !bulk->busy);
    bulks->count--;
    memmove(&bulks->all[at], &bulks->all[at + 1], (bulks->count - at) * sizeof *bulks->all);
    clear_submit(core, bulk->row.request.sequence);
    if (bulk->sealed) {
        catalog_hold_back(core, bulk->row.request.dataset, false);
    }
    bulk_deinit(bulk);
}

// ---------------------------------------------------------------- parts

struct id128 bulk_digest(const struct core *core, uint32_t dataset, const struct id128 *before,
                         const struct bulk_part *part)
{
    struct buf bytes = {0};
    buf_u32(&bytes, dataset);
    buf_put(&bytes, span_of(before->bytes, ID_BYTES));
    buf_short_text(&bytes, part->part == 0 ? part->due : "");
    buf_u32(&bytes, part->count);
    for (uint32_t i = 0; i < part->count; i++) {
        buf_u8(&bytes, part->asked[i].subject ? 1 : 0);
        buf_put(&bytes, span_of(part->asked[i].id.bytes, ID_BYTES));
    }
    const struct id128 digest = digest_id("unlearnd-request", core->body_key, buf_span(&bytes));
    buf_deinit(&bytes);
    return digest;
}

struct part_job {
    struct job job;
    struct caller caller;
    struct bulk *bulk;
    struct asked *asked; // Owned.
    uint32_t count;
    bool last;
    struct accepted accepted;
    // Found.
    struct bulk_row row; // As it is then.
    bool repeated;       // It was journaled before, as
    struct request_row before;
    struct id128 earlier;
    enum err refused;
    char refusal[ERR_TEXT_BYTES];
};

static enum err put_asked(struct part_job *part, struct txn *txn)
{
    for (uint32_t at = 0; at < part->count; at += ASKED_IDS) {
        const uint32_t left = part->count - at;
        TRY(asked_put(txn, part->row.request.sequence, part->row.rows++, part->asked + at,
                      left < ASKED_IDS ? left : ASKED_IDS));
    }
    part->row.ids += part->count;
    for (uint32_t i = 0; i < part->count; i++) {
        part->row.subjects += part->asked[i].subject;
    }
    return OK;
}

// All of it is there: is it new?
static enum err seal(struct part_job *part, struct txn *txn)
{
    struct request_row *const request = &part->row.request;
    struct request_row known;
    const enum err err = request_find(txn, &request->uuid, &known);
    if (err == ERR_NOT_FOUND) {
        part->row.state = BULK_FENCING;
        return counter_get(txn, COUNTER_EPOCH, &request->epoch_before);
    }
    TRY(err);
    part->row.state = BULK_DONE;
    if (id128_compare(&known.body, &request->body) != 0) {
        part->refused =
            err_raise(ERR_CONFLICT, "this request UUID was used before with another body");
        memcpy(part->refusal, err_text(), sizeof part->refusal);
        return tally_add(txn, request->accepted_us, request->dataset, request->name,
                         TALLY_CONFLICT);
    }
    part->repeated = true;
    TRY(bulk_earlier(txn, &known, &part->earlier));
    if (request->eager && !known.eager && request_unrepaired(&known)) {
        known.eager = true;
        TRY(request_put(txn, &known));
    }
    part->before = known;
    return statement_accepted(txn, &known, &part->accepted.body);
}

static enum err part_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct part_job *const part = (struct part_job *)job;
    part->row = part->bulk->row;
    part->repeated = false;
    part->refused = OK;
    buf_clear(&part->accepted.body);
    if (part->row.request.sequence == 0) {
        TRY(counter_next(txn, COUNTER_REQUEST, &part->row.request.sequence));
    }
    TRY(put_asked(part, txn));
    if (part->last) {
        TRY(seal(part, txn));
    }
    return bulk_put(txn, &part->row);
}

static void step_next(struct core *core);

static void reply_part(struct core *core, const struct caller *caller, uint32_t number)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__DeletePart answer = UNLEARN__DELETE_PART__INIT;
    answer.part = number;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_DELETE_PART;
    reply.delete_part = &answer;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

// To those who wait for it; else to who sent the part.
static void reply_all(struct core *core, const struct bulk *bulk, const struct caller *caller,
                      enum err err, const char *text)
{
    for (uint32_t i = 0; i < bulk->caller_count; i++) {
        reply_error(core, &bulk->callers[i], err, text);
    }
    if (bulk->caller_count == 0 && caller != NULL) {
        reply_error(core, caller, err, text);
    }
}

void bulk_stop(struct core *core)
{
    struct bulks *const bulks = bulks_of(core);
    bulks->stopped = true;
    for (uint32_t i = 0; i < bulks->count; i++) {
        reply_all(
            core, bulks->all[i], NULL, ERR_UNAVAILABLE,
            "the coordinator ends; at its next start the deletion goes on: ask again under the "
            "same UUID");
        bulks->all[i]->caller_count = 0;
    }
}

static void part_free(struct part_job *part)
{
    accepted_deinit(&part->accepted);
    mem_free(part->asked);
    mem_free(part);
}

static void part_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct part_job *const part = (struct part_job *)job;
    struct bulk *const bulk = part->bulk;
    bulk->busy = false;
    if (job->result == OK) {
        bulk->row = part->row;
    }
    if (job->result != OK || part->refused != OK) {
        reply_all(core, bulk, &part->caller, job->result != OK ? job->result : part->refused,
                  job->result != OK ? job->text : part->refusal);
        forget(core, bulk);
    } else if (part->repeated) {
        const struct ack ack = {buf_span(&part->accepted.receipt), ""};
        for (uint32_t i = 0; i < bulk->caller_count; i++) {
            reply_request(core, &bulk->callers[i], &part->before, &part->earlier, &ack);
        }
        struct request *const open = catalog_request(core, part->before.sequence);
        if (part->before.eager && open != NULL && !open->row.eager) {
            outlook_hurry(core, open);
        }
        forget(core, bulk);
    } else if (!part->last) {
        reply_part(core, &part->caller, bulk->next_part - 1);
    } else {
        log_info("bulk_sealed", "sequence=%llu ids=%u",
                 (unsigned long long)bulk->row.request.sequence, bulk->row.ids);
        bulk->answers = mem_alloc(bulk->row.ids, sizeof *bulk->answers);
        step_next(core);
    }
    part_free(part);
}

// Finds or begins the upload.
static enum err upload_of(struct core *core, const struct caller *caller,
                          const struct bulk_part *part, struct bulk **bulk_out)
{
    struct bulks *const bulks = bulks_of(core);
    struct bulk *bulk = find_upload(core, caller, &part->uuid);
    uint32_t uploading = 0;
    *bulk_out = NULL;
    if (bulk != NULL && bulk->busy) {
        FAIL(ERR_CONFLICT, "part %u came before the one before it was answered", part->part);
    }
    if (bulk != NULL && part->part == 0) { // The client began anew.
        forget(core, bulk);
        bulk = NULL;
    }
    if (bulk == NULL && part->part != 0) {
        FAIL(ERR_CONFLICT, "part %u came without the parts before it: begin anew", part->part);
    }
    for (uint32_t i = 0; i < bulks->count; i++) {
        uploading += !bulks->all[i]->sealed;
    }
    if (bulk == NULL && (uploading >= LIMIT_DELETES_OPEN ||
                         bulks->count == sizeof bulks->all / sizeof *bulks->all)) {
        FAIL(ERR_LIMIT, "too many deletions are being uploaded: try again later");
    }
    if (bulk == NULL) {
        bulk = mem_alloc(1, sizeof *bulk);
        bulk->principal = caller_number(caller);
        bulk->row.state = BULK_UPLOADING;
        bulk->row.request = (struct request_row){.uuid = part->uuid,
                                                 .kind = REQUEST_DELETE,
                                                 .state = REQUEST_FENCED,
                                                 .dataset = part->dataset->row.number,
                                                 .accepted_us = part->accepted_us,
                                                 .due_us = part->due_us};
        memcpy(bulk->row.request.name, part->dataset->row.name, sizeof bulk->row.request.name);
        bulk->keys_most = KEYS_FIRST;
        bulks->all[bulks->count++] = bulk;
    }
    *bulk_out = bulk;
    return OK;
}

static enum err check_part(const struct bulk *bulk, const struct bulk_part *part)
{
    if (part->part != bulk->next_part || bulk->row.request.dataset != part->dataset->row.number) {
        FAIL(ERR_CONFLICT, "part %u of the upload came, expected %u of the same dataset",
             part->part, bulk->next_part);
    }
    if (part->count > LIMIT_DELETE_IDS - bulk->row.ids) {
        FAIL(ERR_LIMIT, "more than %d ids in one request: ask for them in several",
             (int)LIMIT_DELETE_IDS);
    }
    if (bulk->row.ids + part->count == 0 && !part->more) {
        FAIL(ERR_INVALID, "no record and no subject was named");
    }
    return OK;
}

bool bulk_joins(struct core *core, const struct caller *caller, const struct id128 *uuid,
                const struct id128 *body, bool eager)
{
    struct bulk *const bulk = find_sealed(core, uuid);
    if (bulk == NULL) {
        return false;
    }
    if (id128_compare(&bulk->row.request.body, body) != 0) {
        reply_error(core, caller, ERR_CONFLICT,
                    "this request UUID was used before with another body");
    } else if (bulk->caller_count == CALLERS_MAX) {
        reply_error(core, caller, ERR_UNAVAILABLE, "others wait for this request: ask again");
    } else {
        bulk->callers[bulk->caller_count++] = *caller;
        bulk->hurry = bulk->hurry || eager;
    }
    return true;
}

static void take(struct core *core, const struct caller *caller, struct bulk *bulk,
                 const struct bulk_part *part)
{
    struct request_row *const request = &bulk->row.request;
    request->body = bulk_digest(core, request->dataset, &request->body, part);
    request->eager = part->eager;
    request->asker = caller_number(caller);
    if (!part->more && bulk_joins(core, caller, &part->uuid, &request->body, part->eager)) {
        forget(core, bulk);
        return;
    }
    struct part_job *const job = mem_alloc(1, sizeof *job);
    job->job = (struct job){.kind = JOB_WRITE, .run = part_run, .done = part_done};
    job->job.accepted = &job->accepted;
    job->caller = *caller;
    job->bulk = bulk;
    job->last = !part->more;
    job->count = part->count;
    job->asked = mem_alloc(part->count, sizeof *job->asked);
    if (part->count > 0) {
        memcpy(job->asked, part->asked, part->count * sizeof *job->asked);
    }
    bulk->next_part++;
    bulk->last_ms = core->now_ms;
    bulk->busy = true;
    if (job->last) { // From here on, so that no base and no removal comes between.
        bulk->sealed = true;
        bulk->callers[bulk->caller_count++] = *caller;
        catalog_hold_back(core, request->dataset, true);
    }
    storage_submit(core->storage, &job->job, caller_number(caller));
}

void bulk_take(struct core *core, const struct caller *caller, const struct bulk_part *part)
{
    struct bulk *bulk = NULL;
    enum err err = upload_of(core, caller, part, &bulk);
    if (err == OK) {
        err = check_part(bulk, part);
    }
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        if (bulk != NULL) {
            forget(core, bulk);
        }
        return;
    }
    take(core, caller, bulk, part);
}

// ---------------------------------------------------------------- the fence, step by step

struct step_job {
    struct job job;
    struct bulk *bulk;
    const struct signer *signer;
    uint64_t approve_above;
    struct accepted accepted;
    // Of the last run.
    struct bulk_row row;
    struct progress progress;
    struct fence fence; // What was fenced.
    bool use_known;
    bool finished;
    struct id128 earlier;
    enum err refused;
    char refusal[ERR_TEXT_BYTES];
    int64_t took_us;
};

static bool is_known(void *context, uint32_t model, struct cell cell)
{
    const struct step_job *const step = context;
    return step->use_known && cellset_has(&step->bulk->known, model, cell);
}

struct looking {
    struct step_job *step;
    struct txn *txn;
    struct finding finding;
    struct asked asked[ASKED_IDS]; // Of progress.row
    uint32_t count;                // 0: not read yet.
    struct id128 *sids;            // Subjects that were looked at. Owned.
    uint32_t sid_count;
    int64_t until_us;
};

// One id. *more_out: its subject has more records.
static enum err look_at(struct looking *looking, const struct asked *asked, bool *more_out)
{
    struct step_job *const step = looking->step;
    struct finding *const finding = &looking->finding;
    enum id_answer answer = ANSWER_NOT_FOUND;
    *more_out = false;
    if (asked->subject) {
        const uint32_t most = step->bulk->keys_most;
        TRY(finding_subject(finding, looking->txn, &asked->id, most, more_out, &answer));
        looking->sids = mem_resize(looking->sids, looking->sid_count + 1, sizeof *looking->sids);
        looking->sids[looking->sid_count++] = asked->id;
    } else {
        TRY(finding_record(finding, looking->txn, &asked->id, &answer));
    }
    if (!*more_out) {
        step->bulk->answers[step->progress.place] = (uint8_t)answer;
    }
    return OK;
}

static bool is_full(const struct looking *looking)
{
    return looking->finding.keys.count >= looking->step->bulk->keys_most ||
           (looking->step->progress.at % 16 == 0 && clock_mono_us() >= looking->until_us);
}

// On to the next row, or once more through all of them. False: that was all.
static bool next_row(struct step_job *step)
{
    struct progress *const progress = &step->progress;
    progress->at = 0;
    if (++progress->row < step->row.rows) {
        return true;
    }
    if (progress->records) {
        return false;
    }
    progress->records = true;
    progress->row = progress->place = 0;
    return true;
}

static enum err look(struct looking *looking)
{
    struct step_job *const step = looking->step;
    struct progress *const progress = &step->progress;
    TRY(finding_begin(&looking->finding, looking->txn));
    progress->records = progress->records || step->row.subjects == 0;
    do {
        TRY(asked_get(looking->txn, step->row.request.sequence, progress->row, looking->asked,
                      &looking->count));
        while (progress->at < looking->count) {
            const struct asked *const asked = &looking->asked[progress->at];
            bool more = false;
            if (asked->subject != progress->records) {
                CHECK(progress->place < step->row.ids);
                TRY(look_at(looking, asked, &more));
            }
            progress->at += !more;
            progress->place += !more;
            if (more || is_full(looking)) {
                return OK;
            }
        }
    } while (next_row(step));
    step->finished = true;
    return OK;
}

static enum err fence_found(struct looking *looking, struct store *store)
{
    struct step_job *const step = looking->step;
    struct finding *const finding = &looking->finding;
    struct fence *const fence = &step->fence;
    uint64_t epoch = 0;
    key_list_sort(&finding->keys);
    if (finding->keys.count == 0) {
        return OK;
    }
    if (step->row.request.records_deleted == 0) { // Later no base can come.
        TRY(base_frees_dataset(looking->txn, step->row.request.dataset));
    }
    TRY(counter_get(looking->txn, COUNTER_EPOCH, &epoch));
    step->use_known = epoch == step->bulk->known_epoch;
    *fence = (struct fence){.dataset = step->row.request.dataset,
                            .known = is_known,
                            .known_context = step,
                            .keys = finding->keys.at,
                            .key_count = finding->keys.count,
                            .sids = looking->sids,
                            .sid_count = looking->sid_count,
                            .request = step->row.request};
    finding->keys = (struct key_list){0};
    looking->sids = NULL;
    TRY(fence_part(fence, store, looking->txn));
    step->row.request = fence->request;
    return step->finished ? OK : bulk_put(looking->txn, &step->row);
}

// The end: the request is journaled, or refused.
static enum err conclude(struct step_job *step, struct txn *txn)
{
    struct request_row *const request = &step->row.request;
    struct bulk *const bulk = step->bulk;
    for (uint32_t i = 0; i < step->row.ids; i++) {
        request->answered[bulk->answers[i]]++;
    }
    CHECK(request->answered[0] == 0);
    request->records_held = bulk->kept.count;
    request->fenced_us = clock_wall_us();
    step->row.state = BULK_DONE;
    if (request->records_deleted == 0) {
        TRY(fence_expect_some(request->answered, step->row.ids - step->row.subjects,
                              step->row.subjects, step->progress.earlier, &step->progress.why));
        TRY(fence_nothing_left(request, step->progress.earlier, step->signer, txn, &step->earlier));
    } else {
        if (approval_needed(step->approve_above, request->records_deleted)) {
            request->state = REQUEST_AWAITING;
        }
        TRY(request_put(txn, request));
    }
    TRY(answers_put(txn, request, bulk->answers));
    TRY(bulk_put(txn, &step->row));
    return statement_accepted(txn, request, &step->accepted.body);
}

static void keep_found(const struct looking *looking)
{
    struct progress *const progress = &looking->step->progress;
    const struct finding *const finding = &looking->finding;
    progress->subject = finding->at;
    progress->earlier = progress->earlier == 0 ? finding->earlier : progress->earlier;
    progress->why = progress->why.text[0] == '\0' ? finding->why : progress->why;
    for (uint32_t i = 0; i < finding->kept.count; i++) {
        deny_add(&looking->step->bulk->kept, &finding->kept.at[i]);
    }
}

// Before anything was fenced it may turn out that nothing may be: refused, and that is committed.
static enum err step_refuse(struct step_job *step, struct txn *txn, enum err err)
{
    const struct request_row *const request = &step->row.request;
    step->refused = err;
    memcpy(step->refusal, err_text(), sizeof step->refusal);
    step->row.state = BULK_DONE;
    TRY(bulk_put(txn, &step->row));
    return tally_add(txn, request->accepted_us, request->dataset, request->name,
                     err == ERR_NOT_FOUND                 ? TALLY_NOT_FOUND
                     : request->answered[ANSWER_HELD] > 0 ? TALLY_HELD
                                                          : TALLY_CONFLICT);
}

static enum err step_run(struct job *job, struct store *store, struct txn *txn)
{
    struct step_job *const step = (struct step_job *)job;
    struct looking *const looking = mem_alloc(1, sizeof *looking);
    const int64_t began_us = clock_mono_us();
    const uint64_t writes = txn_writes(txn);
    // The job may run a second time after a rollback.
    step->row = step->bulk->row;
    step->progress = step->bulk->progress;
    step->finished = false;
    step->refused = OK;
    fence_deinit(&step->fence);
    buf_clear(&step->accepted.body);
    looking->step = step;
    looking->txn = txn;
    looking->until_us = began_us + STEP_US;
    looking->finding.dataset = step->row.request.dataset;
    looking->finding.own = step->row.request.sequence;
    looking->finding.approvals = step->approve_above > 0;
    looking->finding.at = step->progress.subject;
    enum err err = look(looking);
    if (err == OK) {
        keep_found(looking);
        err = fence_found(looking, store);
    }
    if (err == OK && step->finished) {
        err = conclude(step, txn);
    }
    finding_deinit(&looking->finding);
    mem_free(looking->sids);
    mem_free(looking);
    step->took_us = clock_mono_us() - began_us;
    const bool refused = (err == ERR_CONFLICT || err == ERR_NOT_FOUND) &&
                         step->row.request.records_deleted == 0 && txn_writes(txn) == writes;
    return refused ? step_refuse(step, txn, err) : err;
}

static void step_undo(struct job *job, struct store *store)
{
    fence_undo(&((struct step_job *)job)->fence, store);
}

// What the step has committed, in the loop's memory.
static void apply(struct core *core, struct step_job *step)
{
    struct bulk *const bulk = step->bulk;
    const struct fence *const fence = &step->fence;
    bulk->row = step->row;
    bulk->progress = step->progress;
    if (fence->key_count > 0) {
        const uint64_t told = deletion_apply(core, fence); // Numbers rise.
        bulk->forget = told != 0 ? told : bulk->forget;
        if (!step->use_known) {
            cellset_deinit(&bulk->known);
        }
        for (uint32_t i = 0; i < fence->hit_count; i++) {
            cellset_add(&bulk->known, fence->hits[i].model, fence->hits[i].cell);
        }
        bulk->known_epoch = fence->request.epoch;
        if (fence->awaited_count > 0) {
            const uint32_t count = bulk->awaited_count + fence->awaited_count;
            bulk->awaited = mem_resize(bulk->awaited, count, sizeof *bulk->awaited);
            memcpy(bulk->awaited + bulk->awaited_count, fence->awaited,
                   fence->awaited_count * sizeof *bulk->awaited);
            bulk->awaited_count = count;
        }
    }
    if (step->took_us < FAST_US && fence->key_count >= bulk->keys_most &&
        bulk->keys_most < KEYS_MOST) {
        bulk->keys_most *= 2;
    } else if (step->took_us > SLOW_US && fence->key_count > 0 && bulk->keys_most > 1) {
        bulk->keys_most /= 2;
    }
}

// One request that has hit them, in however many steps.
static void count_request(struct core *core, const struct bulk *bulk)
{
    for (uint32_t i = 0; i < core->model_count; i++) {
        struct model *const model = core->models[i];
        uint32_t at = 0;
        while (at < bulk->awaited_count && bulk->awaited[at].model != model->number) {
            at++;
        }
        if (at < bulk->awaited_count) {
            planned_hit(&model->plan, bulk->row.request.eager);
        }
    }
}

static void acknowledge(struct core *core, struct step_job *step)
{
    struct bulk *const bulk = step->bulk;
    const struct request_row *const request = &bulk->row.request;
    struct request *open = NULL;
    const bool fenced = request->state != REQUEST_COMPLETED; // Else nothing was left to delete.
    if (fenced) {
        open = catalog_put_request(core, request, bulk->awaited, bulk->awaited_count);
        open->forget = bulk->forget;
        count_request(core, bulk);
        if (bulk->hurry && !request->eager) { // It came with the last step.
            outlook_hurry(core, open);
        }
    }
    const struct ack ack = {buf_span(&step->accepted.receipt), bulk->progress.why.text};
    for (uint32_t i = 0; i < bulk->caller_count; i++) {
        reply_request(core, &bulk->callers[i], request, &step->earlier, &ack);
    }
    rate_add(&core->activity.deletions, core->now_ms, 1);
    if (fenced) {
        deletion_log(request);
    }
    forget(core, bulk);
    if (fenced) {
        erasure_begin(core, open);
    }
}

static void step_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct step_job *const step = (struct step_job *)job;
    struct bulk *const bulk = step->bulk;
    bulk->busy = false;
    if (job->result == OK) {
        apply(core, step);
        if (step->refused != OK) {
            reply_all(core, bulk, NULL, step->refused, step->refusal);
            forget(core, bulk);
        } else if (step->finished) {
            acknowledge(core, step);
        }
    } else { // The disk, or damage: what was sealed is not given up.
        log_error("bulk_failed", "sequence=%llu reason=\"%s\"",
                  (unsigned long long)bulk->row.request.sequence, job->text);
        bulk->again_ms = core->now_ms + RETRY_MS;
    }
    fence_deinit(&step->fence);
    accepted_deinit(&step->accepted);
    mem_free(step);
    step_next(core);
}

// One step of the oldest: one at a time.
static void step_next(struct core *core)
{
    const struct bulks *const bulks = bulks_of(core);
    struct bulk *bulk = NULL;
    for (uint32_t i = 0; i < bulks->count && bulk == NULL; i++) {
        bulk = bulks->all[i]->row.state == BULK_FENCING ? bulks->all[i] : NULL;
    }
    if (bulk == NULL || bulk->busy || bulks->stopped || bulk->again_ms > core->now_ms) {
        return;
    }
    struct step_job *const step = mem_alloc(1, sizeof *step);
    step->job =
        (struct job){.kind = JOB_WRITE, .run = step_run, .undo = step_undo, .done = step_done};
    step->job.accepted = &step->accepted;
    step->bulk = bulk;
    step->signer = core->signer;
    step->approve_above = core->config.approve_above;
    bulk->busy = true;
    bulk->again_ms = 0;
    bulk->row.request.eager = bulk->row.request.eager || bulk->hurry;
    storage_submit(core->storage, &step->job, STORAGE_OURS);
}

void bulk_tick(struct core *core)
{
    struct bulks *const bulks = bulks_of(core);
    for (uint32_t i = 0; i < bulks->count;) {
        struct bulk *const bulk = bulks->all[i];
        if (!bulk->sealed && !bulk->busy && core->now_ms - bulk->last_ms > PART_IDLE_MS) {
            forget(core, bulk);
        } else {
            i++;
        }
    }
    step_next(core);
}

// ---------------------------------------------------------------- start

struct open_job {
    struct job job;
    struct core *core;
    struct txn *txn;
};

static enum err open_awaited(void *context, uint64_t sequence, const struct awaited *awaited)
{
    (void)sequence;
    struct bulk *const bulk = context;
    bulk->awaited = mem_resize(bulk->awaited, bulk->awaited_count + 1, sizeof *bulk->awaited);
    bulk->awaited[bulk->awaited_count++] = *awaited;
    return OK;
}

static enum err open_row(void *context, const struct bulk_row *row)
{
    struct open_job *const open = context;
    struct bulks *const bulks = bulks_of(open->core);
    if (bulks->count == sizeof bulks->all / sizeof *bulks->all) {
        FAIL(ERR_CORRUPT, "table bulk has more than %u rows", bulks->count);
    }
    struct bulk *const bulk = mem_alloc(1, sizeof *bulk);
    bulk->row = *row;
    bulk->keys_most = KEYS_FIRST;
    bulks->all[bulks->count++] = bulk;
    if (row->state != BULK_FENCING) {
        return OK;
    }
    bulk->sealed = true;
    bulk->answers = mem_alloc(row->ids, sizeof *bulk->answers);
    catalog_hold_back(open->core, row->request.dataset, true);
    return awaited_walk(open->txn, row->request.sequence, open_awaited, bulk);
}

static enum err open_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct open_job *const open = (struct open_job *)job;
    open->txn = txn;
    return bulk_each(txn, open_row, open);
}

enum err bulk_open(struct core *core)
{
    struct open_job open = {.job = {.kind = JOB_READ, .run = open_run}, .core = core};
    return storage_call(core->storage, &open.job);
}

void bulk_resume(struct core *core)
{
    struct bulks *const bulks = bulks_of(core);
    for (uint32_t i = 0; i < bulks->count;) {
        if (!bulks->all[i]->sealed) {
            forget(core, bulks->all[i]);
        } else {
            log_info("bulk_resumed", "sequence=%llu ids=%u",
                     (unsigned long long)bulks->all[i]->row.request.sequence,
                     bulks->all[i]->row.ids);
            i++;
        }
    }
    step_next(core);
}
