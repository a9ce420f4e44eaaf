// store/hold.c: see hold.h.
//
//   hold  key    dataset u32 | kind u8 | rid or sid [16]
//         value  held_us i64 | name short text | reason short text        under a key of its own
#include "store/hold.h"

#include <string.h>

#include "base/check.h"
#include "store/dataset.h"
#include "store/private.h"

enum { HOLD_KEY_BYTES = 4 + 1 + ID_BYTES };

static struct kv_key key_of(uint32_t dataset, enum hold_kind kind, const struct id128 *id)
{
    struct kv_key key = {0};
    kv_key_u32(&key, dataset);
    kv_key_u8(&key, (uint8_t)kind);
    kv_key_put(&key, id->bytes, ID_BYTES);
    return key;
}

static struct kv_key prefix_of(uint32_t dataset)
{
    struct kv_key key = {0};
    kv_key_u32(&key, dataset);
    return key;
}

static enum err hold_of(struct span key, struct span value, struct hold *hold_out)
{
    *hold_out = (struct hold){0};
    const uint8_t *const in = key.data;
    if (key.bytes != HOLD_KEY_BYTES || (in[4] != HOLD_RECORD && in[4] != HOLD_SUBJECT)) {
        FAIL(ERR_CORRUPT, "%s: a key of %zu bytes, expected %d with kind r or s",
             kv_label_of(KV_HOLD, key).text, key.bytes, (int)HOLD_KEY_BYTES);
    }
    struct cursor cursor = cursor_of(value);
    hold_out->dataset = be_get32(in);
    hold_out->kind = (enum hold_kind)in[4];
    memcpy(hold_out->id.bytes, in + 5, ID_BYTES);
    hold_out->held_us = (int64_t)cursor_u64(&cursor);
    cursor_short_text(&cursor, hold_out->name, sizeof hold_out->name);
    cursor_short_text(&cursor, hold_out->reason, sizeof hold_out->reason);
    return cursor_done(&cursor, "a hold");
}

// --- Put and drop ---

static bool note_any(void *context, const struct record *record)
{
    (void)record;
    *(bool *)context = true;
    return false;
}

static enum err expect_there(struct txn *txn, const struct hold *hold)
{
    bool there = false, deleted = false;
    uint64_t request;
    if (hold->kind == HOLD_RECORD) {
        struct record record;
        const enum err err = record_find(txn, hold->dataset, &hold->id, &record);
        if (err != OK && err != ERR_NOT_FOUND) {
            return err;
        }
        there = err == OK;
    } else {
        struct dataset_row dataset = {0};
        TRY(dataset_get(txn, hold->dataset, &dataset));
        const uint32_t generations = dataset.generation_next;
        dataset_row_deinit(&dataset);
        TRY(record_walk_subject(txn, hold->dataset, generations, &hold->id, note_any, &there));
    }
    if (there) {
        return OK;
    }
    const char *const what =
        hold->kind == HOLD_RECORD ? "record of this id" : "record of this subject";
    const enum err err = tombstone_get(
        txn, hold->dataset, hold->kind == HOLD_RECORD ? TOMBSTONE_RECORD : TOMBSTONE_SUBJECT,
        &hold->id, &request);
    deleted = err == OK;
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    FAIL(ERR_NOT_FOUND,
         deleted ? "no %s is left to hold: it was deleted" : "no %s is known in this dataset",
         what);
}

static enum err count_some(struct txn *txn, struct kv_cursor *cursor, uint32_t dataset,
                           uint32_t most, uint32_t *count_out)
{
    const struct kv_key prefix = prefix_of(dataset);
    *count_out = 0;
    (void)txn;
    TRY(kv_cursor_seek(cursor, kv_key_span(&prefix)));
    while (*count_out < most && kv_cursor_within(cursor, kv_key_span(&prefix))) {
        ++*count_out;
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

// How many holds the dataset has, as far as `most`.
static enum err count(struct txn *txn, uint32_t dataset, uint32_t most, uint32_t *count_out)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_HOLD, &cursor));
    const enum err err = count_some(txn, &cursor, dataset, most, count_out);
    kv_cursor_close(&cursor);
    return err;
}

enum err hold_put(struct txn *txn, const struct hold *hold)
{
    struct hold before;
    const enum err known = hold_get(txn, hold->dataset, hold->kind, &hold->id, &before);
    if (known == OK && strcmp(before.reason, hold->reason) == 0) {
        return OK;
    }
    if (known == OK) {
        FAIL(ERR_CONFLICT, "it is on hold already, for another reason: release it first");
    }
    if (known != ERR_NOT_FOUND) {
        return known;
    }
    TRY(expect_there(txn, hold));
    uint32_t holds;
    TRY(count(txn, hold->dataset, LIMIT_HOLDS, &holds));
    if (holds >= LIMIT_HOLDS) {
        FAIL(ERR_LIMIT, "the dataset has %d holds already: release some", (int)LIMIT_HOLDS);
    }
    const struct kv_key key = key_of(hold->dataset, hold->kind, &hold->id);
    struct buf buf = {0};
    buf_u64(&buf, (uint64_t)hold->held_us);
    buf_short_text(&buf, hold->name);
    buf_short_text(&buf, hold->reason);
    const enum err err = value_put(txn, KV_HOLD, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

enum err hold_drop(struct txn *txn, uint32_t dataset, enum hold_kind kind, const struct id128 *id)
{
    bool has;
    TRY(hold_has(txn, dataset, kind, id, &has));
    if (!has) {
        FAIL(ERR_NOT_FOUND, "this %s is not on hold", kind == HOLD_RECORD ? "record" : "subject");
    }
    const struct kv_key key = key_of(dataset, kind, id);
    return value_drop(txn, KV_HOLD, kv_key_span(&key));
}

// --- Asking ---

enum err hold_get(struct txn *txn, uint32_t dataset, enum hold_kind kind, const struct id128 *id,
                  struct hold *hold_out)
{
    const struct kv_key key = key_of(dataset, kind, id);
    struct span value;
    TRY(value_get(txn, KV_HOLD, kv_key_span(&key), &value));
    return hold_of(kv_key_span(&key), value, hold_out);
}

enum err hold_has(struct txn *txn, uint32_t dataset, enum hold_kind kind, const struct id128 *id,
                  bool *has_out)
{
    const struct kv_key key = key_of(dataset, kind, id);
    return value_exists(txn, KV_HOLD, kv_key_span(&key), has_out);
}

enum err hold_any(struct txn *txn, uint32_t dataset, bool *any_out)
{
    uint32_t holds;
    TRY(count(txn, dataset, 1, &holds));
    *any_out = holds > 0;
    return OK;
}

static enum err walk_in(struct txn *txn, struct kv_cursor *cursor, uint32_t dataset,
                        const struct hold *after,
                        bool (*each)(void *context, const struct hold *hold), void *context)
{
    const struct kv_key prefix = prefix_of(dataset);
    const struct kv_key from = after == NULL ? prefix : key_of(dataset, after->kind, &after->id);
    TRY(kv_cursor_seek(cursor, kv_key_span(&from)));
    while (kv_cursor_within(cursor, kv_key_span(&prefix))) {
        const struct span key = kv_key_span(&cursor->key);
        if (!span_equal(key, kv_key_span(&from))) {
            struct span value;
            struct hold hold;
            TRY(value_of(txn, KV_HOLD, key, cursor->value, &value));
            TRY(hold_of(key, value, &hold));
            if (!each(context, &hold)) {
                break;
            }
        }
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err hold_walk(struct txn *txn, uint32_t dataset, const struct hold *after,
                   bool (*each)(void *context, const struct hold *hold), void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_HOLD, &cursor));
    const enum err err = walk_in(txn, &cursor, dataset, after, each, context);
    kv_cursor_close(&cursor);
    return err;
}
