// store/request.c: see request.h.
//
//   request       key    sequence u64
//                 value  uuid [16] | body [16] | kind u8 | state u8 | dataset u32 | model u32 |
//                        eager u8 | due_us i64 | earlier u64 | records_deleted u64 |
//                        components_invalidated u64 | keys_destroyed u64 | epoch_before u64 |
//                        epoch u64 |
//                        log_entry u64 | answered deleted, gone, not found, held u32 |
//                        records_held u64 | accepted_us, fenced_us, erased_us, repaired_us,
//                        completed_us i64 | name short text | asker u32 (older rows: none)
//   request_uuid  key    uuid [16]                       value  sequence u64
//   request_open  key    sequence u64                    value  empty; there until COMPLETED
//   pending       key    sequence u64 | index u32
//                 value  kind u8: 'r', then the record's key [41]; or 'w', then instance u64
//   awaited       key    sequence u64 | model u32 | shard u32 | slice u16, ...
//                 value  empty, or the commitment [32] of what was valid
//   request_model key    sequence u64 | model u32
//                 value  name short text | spec digest [32] | schema digest [32]
#include "store/request.h"

#include <string.h>

#include "base/check.h"
#include "store/private.h"

enum { PENDING_RECORD = 'r', PENDING_WEIGHTS = 'w', AWAITED_HEAD_BYTES = 8 + 4 + 4 };
_Static_assert(AWAITED_HEAD_BYTES + 2 * LIMIT_SLICES <= KV_KEY_BYTES, "awaited fits a key");

static struct kv_key key_of(uint64_t sequence)
{
    struct kv_key key = {0};
    kv_key_u64(&key, sequence);
    return key;
}

static enum err sequence_of(struct span key, uint64_t *sequence_out)
{
    if (key.bytes < 8) {
        FAIL(ERR_CORRUPT, "a key of %zu bytes, expected a sequence number", key.bytes);
    }
    *sequence_out = be_get64(key.data);
    return OK;
}

// --- Requests ---

void request_row_write(const struct request_row *row, struct buf *buf)
{
    buf_put(buf, span_of(row->uuid.bytes, ID_BYTES));
    buf_put(buf, span_of(row->body.bytes, ID_BYTES));
    buf_u8(buf, (uint8_t)row->kind);
    buf_u8(buf, (uint8_t)row->state);
    buf_u32(buf, row->dataset);
    buf_u32(buf, row->model);
    buf_u8(buf, row->eager ? 1 : 0);
    buf_u64(buf, (uint64_t)row->due_us);
    buf_u64(buf, row->earlier);
    buf_u64(buf, row->records_deleted);
    buf_u64(buf, row->components_invalidated);
    buf_u64(buf, row->keys_destroyed);
    buf_u64(buf, row->epoch_before);
    buf_u64(buf, row->epoch);
    buf_u64(buf, row->log_entry);
    for (int i = ANSWER_DELETED; i < ANSWER_COUNT_; i++) {
        buf_u32(buf, row->answered[i]);
    }
    buf_u64(buf, row->records_held);
    buf_u64(buf, (uint64_t)row->accepted_us);
    buf_u64(buf, (uint64_t)row->fenced_us);
    buf_u64(buf, (uint64_t)row->erased_us);
    buf_u64(buf, (uint64_t)row->repaired_us);
    buf_u64(buf, (uint64_t)row->completed_us);
    buf_short_text(buf, row->name);
    buf_u32(buf, row->asker);
}

static enum err row_put(struct txn *txn, const struct request_row *row, struct buf *buf)
{
    const struct kv_key key = key_of(row->sequence);
    request_row_write(row, buf);
    return value_put(txn, KV_REQUEST, kv_key_span(&key), buf_span(buf));
}

enum err request_row_read(struct span bytes, const char *where, struct request_row *row_out)
{
    *row_out = (struct request_row){0};
    struct cursor cursor = cursor_of(bytes);
    const struct span uuid = cursor_take(&cursor, ID_BYTES);
    const struct span body = cursor_take(&cursor, ID_BYTES);
    const uint8_t kind = cursor_u8(&cursor), state = cursor_u8(&cursor);
    row_out->dataset = cursor_u32(&cursor);
    row_out->model = cursor_u32(&cursor);
    row_out->eager = cursor_u8(&cursor) != 0;
    row_out->due_us = (int64_t)cursor_u64(&cursor);
    row_out->earlier = cursor_u64(&cursor);
    row_out->records_deleted = cursor_u64(&cursor);
    row_out->components_invalidated = cursor_u64(&cursor);
    row_out->keys_destroyed = cursor_u64(&cursor);
    row_out->epoch_before = cursor_u64(&cursor);
    row_out->epoch = cursor_u64(&cursor);
    row_out->log_entry = cursor_u64(&cursor);
    for (int i = ANSWER_DELETED; i < ANSWER_COUNT_; i++) {
        row_out->answered[i] = cursor_u32(&cursor);
    }
    row_out->records_held = cursor_u64(&cursor);
    row_out->accepted_us = (int64_t)cursor_u64(&cursor);
    row_out->fenced_us = (int64_t)cursor_u64(&cursor);
    row_out->erased_us = (int64_t)cursor_u64(&cursor);
    row_out->repaired_us = (int64_t)cursor_u64(&cursor);
    row_out->completed_us = (int64_t)cursor_u64(&cursor);
    cursor_short_text(&cursor, row_out->name, sizeof row_out->name);
    row_out->asker = cursor.left > 0 ? cursor_u32(&cursor) : 0;
    TRY_AS(cursor_done(&cursor, "a request"), "%s", where);
    if (kind < REQUEST_DELETE || kind > REQUEST_REMOVE_MODEL || state < REQUEST_FENCED ||
        state >= REQUEST_STATES) {
        FAIL(ERR_CORRUPT, "%s: kind %u and state %u are not known", where, kind, state);
    }
    row_out->kind = (enum request_kind)kind;
    row_out->state = (enum request_state)state;
    memcpy(row_out->uuid.bytes, uuid.data, ID_BYTES);
    memcpy(row_out->body.bytes, body.data, ID_BYTES);
    return OK;
}

static enum err row_of(struct span key, struct span value, struct request_row *row_out)
{
    uint64_t sequence = 0;
    TRY(sequence_of(key, &sequence));
    TRY(request_row_read(value, kv_label_of(KV_REQUEST, key).text, row_out));
    row_out->sequence = sequence;
    return OK;
}

// The sequence number that the UUID stands for.
static enum err uuid_get(struct txn *txn, const struct id128 *uuid, uint64_t *sequence_out)
{
    const struct span key = span_of(uuid->bytes, ID_BYTES);
    struct span value;
    TRY(value_get(txn, KV_REQUEST_UUID, key, &value));
    struct cursor cursor = cursor_of(value);
    *sequence_out = cursor_u64(&cursor);
    TRY_AS(cursor_done(&cursor, "a sequence number"), "%s", kv_label_of(KV_REQUEST_UUID, key).text);
    return OK;
}

static enum err uuid_put(struct txn *txn, const struct request_row *row, struct buf *buf)
{
    uint64_t sequence;
    const enum err err = uuid_get(txn, &row->uuid, &sequence);
    if (err == OK) {
        if (sequence != row->sequence) {
            FAIL(ERR_CONFLICT, "the UUID stands for request %llu already",
                 (unsigned long long)sequence);
        }
        return OK;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    buf_clear(buf);
    buf_u64(buf, row->sequence);
    return value_put(txn, KV_REQUEST_UUID, span_of(row->uuid.bytes, ID_BYTES), buf_span(buf));
}

static bool has_ended(const struct request_row *row)
{
    return row->state == REQUEST_COMPLETED ||
           (row->state == REQUEST_REFUSED && row->completed_us != 0);
}

// A request that is open has its other rows since it was put first; each of its steps comes by here.
enum err request_put(struct txn *txn, const struct request_row *row)
{
    CHECK(row->sequence > 0);
    const struct kv_key key = key_of(row->sequence);
    struct span there;
    const enum err open = kv_get(&txn->kv, KV_REQUEST_OPEN, kv_key_span(&key), &there);
    if (open != OK && open != ERR_NOT_FOUND) {
        return open;
    }
    struct buf buf = {0};
    enum err err = row_put(txn, row, &buf);
    if (err == OK && open == ERR_NOT_FOUND) {
        err = uuid_put(txn, row, &buf);
    }
    buf_deinit(&buf);
    TRY(err);
    if (has_ended(row)) {
        return kv_drop(&txn->kv, KV_REQUEST_OPEN, kv_key_span(&key));
    }
    return open == OK ? OK : value_put(txn, KV_REQUEST_OPEN, kv_key_span(&key), span_of("", 0));
}

enum err request_get(struct txn *txn, uint64_t sequence, struct request_row *row_out)
{
    const struct kv_key key = key_of(sequence);
    struct span value;
    const enum err err = value_get(txn, KV_REQUEST, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no request %llu", (unsigned long long)sequence);
    }
    TRY(err);
    return row_of(kv_key_span(&key), value, row_out);
}

enum err request_find(struct txn *txn, const struct id128 *uuid, struct request_row *row_out)
{
    uint64_t sequence;
    const enum err err = uuid_get(txn, uuid, &sequence);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no request of that UUID");
    }
    TRY(err);
    const enum err got = request_get(txn, sequence, row_out);
    if (got == ERR_NOT_FOUND) {
        FAIL(ERR_CORRUPT, "table request_uuid names request %llu, which is not there",
             (unsigned long long)sequence);
    }
    return got;
}

static enum err each_open_in(struct txn *txn, struct kv_cursor *cursor,
                             enum err (*each)(void *context, const struct request_row *row),
                             void *context)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        uint64_t sequence = 0;
        struct request_row row;
        TRY_AS(sequence_of(kv_key_span(&cursor->key), &sequence), "table request_open");
        TRY(request_get(txn, sequence, &row));
        TRY(each(context, &row));
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err request_each_open(struct txn *txn,
                           enum err (*each)(void *context, const struct request_row *row),
                           void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_REQUEST_OPEN, &cursor));
    const enum err err = each_open_in(txn, &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}

static enum err walk_in(struct txn *txn, struct kv_cursor *cursor, uint64_t after,
                        bool (*each)(void *context, const struct request_row *row), void *context)
{
    const struct kv_key from = key_of(after + 1);
    TRY(kv_cursor_seek(cursor, kv_key_span(&from)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct request_row row;
        TRY(value_of(txn, KV_REQUEST, key, cursor->value, &value));
        TRY(row_of(key, value, &row));
        if (!each(context, &row)) {
            break;
        }
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err request_walk(struct txn *txn, uint64_t after,
                      bool (*each)(void *context, const struct request_row *row), void *context)
{
    if (after == UINT64_MAX) {
        return OK;
    }
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_REQUEST, &cursor));
    const enum err err = walk_in(txn, &cursor, after, each, context);
    kv_cursor_close(&cursor);
    return err;
}

// --- Pending ---

static struct kv_key pending_key_of(uint64_t sequence, uint32_t index)
{
    struct kv_key key = key_of(sequence);
    kv_key_u32(&key, index);
    return key;
}

enum err pending_put(struct txn *txn, uint64_t sequence, uint32_t index,
                     const struct pending *pending)
{
    CHECK(sequence > 0);
    const struct kv_key key = pending_key_of(sequence, index);
    struct buf buf = {0};
    buf_u8(&buf, pending->is_record ? PENDING_RECORD : PENDING_WEIGHTS);
    if (pending->is_record) {
        record_key_put(&pending->record, buf_room(&buf, RECORD_KEY_BYTES));
    } else {
        buf_u64(&buf, pending->instance);
    }
    const enum err err = value_put(txn, KV_PENDING, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err pending_of(struct span key, struct span value, struct pending *pending_out)
{
    struct cursor cursor = cursor_of(value);
    *pending_out = (struct pending){0};
    const uint8_t kind = cursor_u8(&cursor);
    struct span record = {0};
    if (kind == PENDING_RECORD) {
        pending_out->is_record = true;
        record = cursor_take(&cursor, RECORD_KEY_BYTES);
    } else {
        pending_out->instance = cursor_u64(&cursor);
    }
    TRY_AS(cursor_done(&cursor, "a pending row"), "%s", kv_label_of(KV_PENDING, key).text);
    if (kind != PENDING_RECORD && kind != PENDING_WEIGHTS) {
        FAIL(ERR_CORRUPT, "%s: kind %u is not known", kv_label_of(KV_PENDING, key).text, kind);
    }
    return pending_out->is_record ? record_key_get(record, &pending_out->record) : OK;
}

// All rows of one request, or of all when its number is 0.
static struct kv_key prefix_of(uint64_t sequence)
{
    const struct kv_key all = {0};
    return sequence == 0 ? all : key_of(sequence);
}

static enum err pending_walk_in(struct txn *txn, struct kv_cursor *cursor, struct span from,
                                struct span prefix,
                                bool (*each)(void *context, uint64_t sequence, uint32_t index,
                                             const struct pending *pending),
                                void *context)
{
    TRY(kv_cursor_seek(cursor, from));
    while (kv_cursor_within(cursor, prefix)) {
        const struct span key = kv_key_span(&cursor->key);
        if (key.bytes != 12) {
            FAIL(ERR_CORRUPT, "table pending: a key of %zu bytes, expected 12", key.bytes);
        }
        struct span value;
        struct pending pending;
        TRY(value_of(txn, KV_PENDING, key, cursor->value, &value));
        TRY(pending_of(key, value, &pending));
        if (!each(context, be_get64(cursor->key.at), be_get32(cursor->key.at + 8), &pending)) {
            break;
        }
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

static enum err walk_pending(struct txn *txn, struct span from, uint64_t sequence,
                             bool (*each)(void *context, uint64_t sequence, uint32_t index,
                                          const struct pending *pending),
                             void *context)
{
    const struct kv_key prefix = prefix_of(sequence);
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_PENDING, &cursor));
    const enum err err = pending_walk_in(txn, &cursor, from, kv_key_span(&prefix), each, context);
    kv_cursor_close(&cursor);
    return err;
}

enum err pending_walk(struct txn *txn, uint64_t sequence,
                      bool (*each)(void *context, uint64_t sequence, uint32_t index,
                                   const struct pending *pending),
                      void *context)
{
    const struct kv_key prefix = prefix_of(sequence);
    return walk_pending(txn, kv_key_span(&prefix), sequence, each, context);
}

enum err pending_walk_from(struct txn *txn, uint64_t sequence, uint32_t from,
                           bool (*each)(void *context, uint64_t sequence, uint32_t index,
                                        const struct pending *pending),
                           void *context)
{
    const struct kv_key key = pending_key_of(sequence, from);
    return walk_pending(txn, kv_key_span(&key), sequence, each, context);
}

enum err pending_drop(struct txn *txn, uint64_t sequence, uint32_t index)
{
    const struct kv_key key = pending_key_of(sequence, index);
    return kv_drop(&txn->kv, KV_PENDING, kv_key_span(&key));
}

// --- Awaited ---

static struct kv_key awaited_key_of(uint64_t sequence, const struct awaited *awaited)
{
    CHECK(sequence > 0 && awaited->name.count > 0 && awaited->name.count <= LIMIT_SLICES);
    struct kv_key key = key_of(sequence);
    kv_key_u32(&key, awaited->model);
    kv_key_u32(&key, awaited->name.shard);
    for (uint16_t i = 0; i < awaited->name.count; i++) {
        kv_key_u16(&key, awaited->name.list[i]);
    }
    return key;
}

enum err awaited_put(struct txn *txn, uint64_t sequence, const struct awaited *awaited)
{
    const struct kv_key key = awaited_key_of(sequence, awaited);
    return value_put(txn, KV_AWAITED, kv_key_span(&key),
                     span_of(awaited->commitment.bytes, awaited->was_valid ? DIGEST_BYTES : 0));
}

enum err awaited_has(struct txn *txn, uint64_t sequence, const struct awaited *awaited,
                     bool *has_out)
{
    const struct kv_key key = awaited_key_of(sequence, awaited);
    return value_exists(txn, KV_AWAITED, kv_key_span(&key), has_out);
}

static enum err awaited_of(struct span key, struct span value, struct awaited *awaited_out)
{
    const uint8_t *const in = key.data;
    const size_t head = AWAITED_HEAD_BYTES;
    if (key.bytes <= head || (key.bytes - head) % 2 != 0 || (key.bytes - head) / 2 > LIMIT_SLICES) {
        FAIL(ERR_CORRUPT, "%s: a key of %zu bytes", kv_label_of(KV_AWAITED, key).text, key.bytes);
    }
    *awaited_out = (struct awaited){.model = be_get32(in + 8)};
    awaited_out->name.shard = be_get32(in + 12);
    awaited_out->name.count = (uint16_t)((key.bytes - head) / 2);
    for (size_t i = 0; i < awaited_out->name.count; i++) {
        awaited_out->name.list[i] = (uint16_t)(in[head + 2 * i] << 8 | in[head + 2 * i + 1]);
    }
    if (value.bytes != 0 && value.bytes != DIGEST_BYTES) {
        FAIL(ERR_CORRUPT, "%s: a value of %zu bytes", kv_label_of(KV_AWAITED, key).text,
             value.bytes);
    }
    awaited_out->was_valid = value.bytes > 0;
    if (awaited_out->was_valid) {
        memcpy(awaited_out->commitment.bytes, value.data, DIGEST_BYTES);
    }
    return OK;
}

static enum err awaited_walk_in(struct txn *txn, struct kv_cursor *cursor, struct span prefix,
                                enum err (*each)(void *context, uint64_t sequence,
                                                 const struct awaited *awaited),
                                void *context)
{
    TRY(kv_cursor_seek(cursor, prefix));
    while (kv_cursor_within(cursor, prefix)) {
        const struct span key = kv_key_span(&cursor->key);
        struct awaited awaited;
        struct span value;
        TRY(value_of(txn, KV_AWAITED, key, cursor->value, &value));
        TRY(awaited_of(key, value, &awaited));
        TRY(each(context, be_get64(cursor->key.at), &awaited));
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err awaited_walk(struct txn *txn, uint64_t sequence,
                      enum err (*each)(void *context, uint64_t sequence,
                                       const struct awaited *awaited),
                      void *context)
{
    const struct kv_key prefix = prefix_of(sequence);
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_AWAITED, &cursor));
    const enum err err = awaited_walk_in(txn, &cursor, kv_key_span(&prefix), each, context);
    kv_cursor_close(&cursor);
    return err;
}

enum err awaited_drop_all(struct txn *txn, uint64_t sequence)
{
    CHECK(sequence > 0);
    const struct kv_key prefix = key_of(sequence);
    size_t dropped;
    return kv_drop_prefix(&txn->kv, KV_AWAITED, kv_key_span(&prefix), SIZE_MAX, &dropped);
}

// --- Models of a request ---

static struct kv_key request_model_key(uint64_t sequence, uint32_t model)
{
    CHECK(sequence > 0);
    struct kv_key key = key_of(sequence);
    kv_key_u32(&key, model);
    return key;
}

enum err request_model_put(struct txn *txn, uint64_t sequence, const struct request_model *model)
{
    const struct kv_key key = request_model_key(sequence, model->model);
    struct buf buf = {0};
    buf_short_text(&buf, model->name);
    buf_put(&buf, span_of(model->spec.bytes, DIGEST_BYTES));
    buf_put(&buf, span_of(model->schema.bytes, DIGEST_BYTES));
    const enum err err = value_put(txn, KV_REQUEST_MODEL, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

enum err request_model_get(struct txn *txn, uint64_t sequence, uint32_t model,
                           struct request_model *model_out)
{
    const struct kv_key key = request_model_key(sequence, model);
    struct span value;
    const enum err err = value_get(txn, KV_REQUEST_MODEL, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "request %llu has nothing to do with model number %u",
             (unsigned long long)sequence, model);
    }
    TRY(err);
    *model_out = (struct request_model){.model = model};
    struct cursor cursor = cursor_of(value);
    cursor_short_text(&cursor, model_out->name, sizeof model_out->name);
    const struct span spec = cursor_take(&cursor, DIGEST_BYTES);
    const struct span schema = cursor_take(&cursor, DIGEST_BYTES);
    TRY_AS(cursor_done(&cursor, "a model of a request"), "%s",
           kv_label_of(KV_REQUEST_MODEL, kv_key_span(&key)).text);
    memcpy(model_out->spec.bytes, spec.data, DIGEST_BYTES);
    memcpy(model_out->schema.bytes, schema.data, DIGEST_BYTES);
    return OK;
}

enum err request_model_drop_all(struct txn *txn, uint64_t sequence)
{
    CHECK(sequence > 0);
    const struct kv_key prefix = key_of(sequence);
    size_t dropped;
    return kv_drop_prefix(&txn->kv, KV_REQUEST_MODEL, kv_key_span(&prefix), SIZE_MAX, &dropped);
}
