// coordinator/finding.c: see finding.h.
#include "coordinator/finding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "store/bulk.h"
#include "store/dataset.h"

// ---------------------------------------------------------------- keys

static void list_add(struct key_list *list, const struct record_key *key)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 4 : 2 * list->capacity;
        list->at = mem_resize(list->at, list->capacity, sizeof *list->at);
    }
    list->at[list->count++] = *key;
}

static int compare_keys(const void *a_, const void *b_)
{
    uint8_t a[RECORD_KEY_BYTES], b[RECORD_KEY_BYTES];
    record_key_put(a_, a);
    record_key_put(b_, b);
    return memcmp(a, b, sizeof a);
}

void key_list_sort(struct key_list *list)
{
    if (list->count > 1) {
        qsort(list->at, list->count, sizeof *list->at, compare_keys);
        uint32_t kept = 1;
        for (uint32_t i = 1; i < list->count; i++) {
            if (compare_keys(&list->at[i], &list->at[kept - 1]) != 0) {
                list->at[kept++] = list->at[i];
            }
        }
        list->count = kept;
    }
}

// ---------------------------------------------------------------- one id

enum err finding_begin(struct finding *finding, struct txn *txn)
{
    struct dataset_row dataset = {0};
    TRY(dataset_get(txn, finding->dataset, &dataset));
    finding->generations = dataset.generation_next;
    const bool removing = dataset.removing;
    dataset_row_deinit(&dataset);
    if (removing) {
        FAIL(ERR_CONFLICT, "the dataset is being removed");
    }
    finding->keys.count = finding->kept.count = 0;
    finding->earlier = 0;
    finding->why = (struct hold_why){.approval = false};
    return hold_any(txn, finding->dataset, &finding->any_hold);
}

void finding_deinit(struct finding *finding)
{
    mem_free(finding->keys.at);
    mem_free(finding->kept.at);
    finding->keys = finding->kept = (struct key_list){0};
}

// Whether it is on hold; notes the reason of the first.
static enum err find_hold(struct finding *finding, struct txn *txn, enum hold_kind kind,
                          const struct id128 *id, bool *held_out)
{
    *held_out = false;
    if (!finding->any_hold) {
        return OK;
    }
    TRY(hold_has(txn, finding->dataset, kind, id, held_out));
    if (*held_out && finding->why.text[0] == '\0') {
        struct hold hold;
        TRY(hold_get(txn, finding->dataset, kind, id, &hold));
        memcpy(finding->why.text, hold.reason, sizeof finding->why.text);
    }
    return OK;
}

// Whether the request that has hidden it may yet be refused: it is kept until that is decided. So may one
// that is not journaled yet, since it is still being fenced.
static enum err find_awaiting(struct finding *finding, struct txn *txn, uint64_t sequence,
                              bool *awaits_out)
{
    struct request_row row;
    struct bulk_row fencing;
    enum err err = request_get(txn, sequence, &row);
    *awaits_out = err == OK && (row.state == REQUEST_AWAITING || row.state == REQUEST_RETURNING);
    if (err == ERR_NOT_FOUND && finding->approvals) {
        err = bulk_get(txn, sequence, &fencing);
        *awaits_out = err == OK;
        row = err == OK ? fencing.request : row;
    }
    if (*awaits_out && finding->why.text[0] == '\0') {
        char uuid[TEXT_UUID_BYTES];
        text_uuid_put(&row.uuid, uuid);
        finding->why.approval = true;
        snprintf(finding->why.text, sizeof finding->why.text,
                 "it waits for the approval of request %s", uuid);
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

struct hidden { // What is hidden of a subject.
    struct finding *finding;
    struct txn *txn;
    uint64_t request; // That was looked at last.
    uint32_t looks;
    bool awaits;
    enum err err;
};
enum { HIDDEN_LOOKS = 256 }; // Of records by other requests: a bound of the time it takes.

static bool look_at_hidden(void *context, const struct record *record)
{
    struct hidden *const hidden = context;
    uint64_t request = 0;
    hidden->err = tombstone_get(hidden->txn, record->key.dataset, TOMBSTONE_RECORD,
                                &record->key.rid, &request);
    if (hidden->err == OK && request != hidden->request) {
        hidden->request = request;
        hidden->err = find_awaiting(hidden->finding, hidden->txn, request, &hidden->awaits);
    }
    hidden->err = hidden->err == ERR_NOT_FOUND ? OK : hidden->err;
    return hidden->err == OK && !hidden->awaits && ++hidden->looks < HIDDEN_LOOKS;
}

// Of a subject nobody has asked to delete, but perhaps a request for its records waits.
static enum err find_hidden(struct finding *finding, struct txn *txn, const struct id128 *sid,
                            enum id_answer *answer_out)
{
    struct hidden hidden = {.finding = finding, .txn = txn};
    TRY(record_walk_subject_denied(txn, finding->dataset, finding->generations, sid, look_at_hidden,
                                   &hidden));
    TRY(hidden.err);
    *answer_out = hidden.awaits ? ANSWER_HELD : *answer_out;
    return OK;
}

// Nothing visible is there: was it once?
static enum err find_gone(struct finding *finding, struct txn *txn, enum tombstone_kind kind,
                          const struct id128 *id, enum id_answer *answer_out)
{
    uint64_t request = 0;
    const enum err err = tombstone_get(txn, finding->dataset, kind, id, &request);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (err == OK && request != finding->own) {
        bool awaits = false;
        TRY(find_awaiting(finding, txn, request, &awaits));
        if (awaits) {
            *answer_out = ANSWER_HELD;
            return OK;
        }
    }
    *answer_out = err != OK                                      ? ANSWER_NOT_FOUND
                  : request == finding->own && finding->own != 0 ? ANSWER_DELETED
                                                                 : ANSWER_GONE;
    if (*answer_out == ANSWER_GONE && finding->earlier == 0) {
        finding->earlier = request;
    }
    return OK;
}

enum err finding_record(struct finding *finding, struct txn *txn, const struct id128 *rid,
                        enum id_answer *answer_out)
{
    struct record record;
    const enum err err = record_find(txn, finding->dataset, rid, &record);
    if (err == ERR_NOT_FOUND) {
        return find_gone(finding, txn, TOMBSTONE_RECORD, rid, answer_out);
    }
    TRY(err);
    bool held;
    TRY(find_hold(finding, txn, HOLD_RECORD, rid, &held));
    if (!held) {
        TRY(find_hold(finding, txn, HOLD_SUBJECT, &record.key.sid, &held));
    }
    list_add(held ? &finding->kept : &finding->keys, &record.key);
    *answer_out = held ? ANSWER_HELD : ANSWER_DELETED;
    return OK;
}

// ---------------------------------------------------------------- one subject

struct some { // Records of a subject.
    struct key_list list;
    uint32_t most;
};

static bool add_key(void *context, const struct record *record)
{
    struct some *const some = context;
    list_add(&some->list, &record->key);
    return some->list.count < some->most;
}

static enum err look_at(struct finding *finding, struct txn *txn, const struct id128 *sid,
                        const struct key_list *records)
{
    bool subject_held;
    TRY(find_hold(finding, txn, HOLD_SUBJECT, sid, &subject_held));
    for (uint32_t i = 0; i < records->count; i++) {
        bool held = subject_held;
        if (!held) {
            TRY(find_hold(finding, txn, HOLD_RECORD, &records->at[i].rid, &held));
        }
        finding->at.deleted = finding->at.deleted || !held;
        finding->at.held = finding->at.held || held;
        list_add(held ? &finding->kept : &finding->keys, &records->at[i]);
    }
    return OK;
}

enum err finding_subject(struct finding *finding, struct txn *txn, const struct id128 *sid,
                         uint32_t most, bool *more_out, enum id_answer *answer_out)
{
    struct finding_at *const at = &finding->at;
    struct some some = {.most = most};
    if (!at->within) {
        *at = (struct finding_at){.within = true};
    }
    enum err err =
        record_walk_subject_keys(txn, finding->dataset, finding->generations, sid,
                                 at->deleted || at->held ? &at->after : NULL, add_key, &some);
    if (err == OK) {
        err = look_at(finding, txn, sid, &some.list);
    }
    *more_out = some.list.count == most;
    if (some.list.count > 0) {
        at->after = some.list.at[some.list.count - 1];
    }
    mem_free(some.list.at);
    TRY(err);
    if (*more_out) {
        return OK;
    }
    at->within = false;
    *answer_out = ANSWER_DELETED;
    if (!at->deleted) { // Perhaps this request itself has done so, when the subject was named before.
        TRY(find_gone(finding, txn, TOMBSTONE_SUBJECT, sid, answer_out));
        if (*answer_out == ANSWER_NOT_FOUND) {
            TRY(find_hidden(finding, txn, sid, answer_out));
        }
    }
    if (at->held && *answer_out != ANSWER_DELETED) {
        *answer_out = ANSWER_HELD;
    }
    return OK;
}
