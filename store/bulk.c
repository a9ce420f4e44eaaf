// store/bulk.c: see bulk.h.
//
//   bulk    key    sequence u64
//           value  state u8 | rows u32 | ids u32 | subjects u32 | the row of the request to the end
//   asked   key    sequence u64 | row u32
//           value  for each: u8 'r' or 's', rid or sid [16]
//   answer  key    sequence u64 | row u32
//           value  a byte for each of the ids from row * 65,536 on
#include "store/bulk.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/private.h"

enum { ASKED_BYTES = 1 + ID_BYTES };

static struct kv_key key_of(uint64_t sequence)
{
    struct kv_key key = {0};
    kv_key_u64(&key, sequence);
    return key;
}

static struct kv_key row_key_of(uint64_t sequence, uint32_t row)
{
    struct kv_key key = key_of(sequence);
    kv_key_u32(&key, row);
    return key;
}

// ---------------------------------------------------------------- the request

enum err bulk_put(struct txn *txn, const struct bulk_row *row)
{
    CHECK(row->request.sequence > 0);
    const struct kv_key key = key_of(row->request.sequence);
    struct buf buf = {0};
    buf_u8(&buf, (uint8_t)row->state);
    buf_u32(&buf, row->rows);
    buf_u32(&buf, row->ids);
    buf_u32(&buf, row->subjects);
    request_row_write(&row->request, &buf);
    const enum err err = value_put(txn, KV_BULK, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err bulk_of(struct span key, struct span value, struct bulk_row *row_out)
{
    struct cursor cursor = cursor_of(value);
    const struct kv_label label = kv_label_of(KV_BULK, key);
    if (key.bytes != 8) {
        FAIL(ERR_CORRUPT, "table bulk: a key of %zu bytes, expected 8", key.bytes);
    }
    const uint8_t state = cursor_u8(&cursor);
    const uint32_t rows = cursor_u32(&cursor), ids = cursor_u32(&cursor),
                   subjects = cursor_u32(&cursor);
    TRY(request_row_read(cursor_take(&cursor, cursor.left), label.text, &row_out->request));
    if (state < BULK_UPLOADING || state > BULK_DONE || ids > LIMIT_DELETE_IDS || subjects > ids) {
        FAIL(ERR_CORRUPT, "%s: state %u, %u ids, %u subjects", label.text, state, ids, subjects);
    }
    row_out->state = (enum bulk_state)state;
    row_out->rows = rows;
    row_out->ids = ids;
    row_out->subjects = subjects;
    row_out->request.sequence = be_get64(key.data);
    return OK;
}

enum err bulk_get(struct txn *txn, uint64_t sequence, struct bulk_row *row_out)
{
    const struct kv_key key = key_of(sequence);
    struct span value;
    const enum err err = value_get(txn, KV_BULK, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no request %llu", (unsigned long long)sequence);
    }
    TRY(err);
    return bulk_of(kv_key_span(&key), value, row_out);
}

static enum err each_in(struct txn *txn, struct kv_cursor *cursor,
                        enum err (*each)(void *context, const struct bulk_row *row), void *context)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct bulk_row row;
        TRY(value_of(txn, KV_BULK, key, cursor->value, &value));
        TRY(bulk_of(key, value, &row));
        TRY(each(context, &row));
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err bulk_each(struct txn *txn, enum err (*each)(void *context, const struct bulk_row *row),
                   void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_BULK, &cursor));
    const enum err err = each_in(txn, &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}

enum err bulk_clear(struct txn *txn, uint64_t sequence, size_t row_count_max, bool *more_out)
{
    const struct kv_key prefix = key_of(sequence);
    size_t dropped = 0;
    TRY(kv_drop_prefix(&txn->kv, KV_ASKED, kv_key_span(&prefix), row_count_max, &dropped));
    *more_out = dropped == row_count_max;
    return *more_out ? OK : kv_drop(&txn->kv, KV_BULK, kv_key_span(&prefix));
}

enum err bulk_earlier(struct txn *txn, const struct request_row *request, struct id128 *uuid_out)
{
    struct request_row earlier;
    struct bulk_row bulk;
    if (request->earlier == 0) {
        return OK;
    }
    const enum err err = request_get(txn, request->earlier, &earlier);
    if (err == OK) {
        *uuid_out = earlier.uuid;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    TRY(bulk_get(txn, request->earlier, &bulk));
    *uuid_out = bulk.request.uuid;
    return OK;
}

// ---------------------------------------------------------------- what it names

enum err asked_put(struct txn *txn, uint64_t sequence, uint32_t row, const struct asked *asked,
                   uint32_t count)
{
    CHECK(sequence > 0 && count > 0 && count <= ASKED_IDS);
    const struct kv_key key = row_key_of(sequence, row);
    struct buf buf = {0};
    for (uint32_t i = 0; i < count; i++) {
        buf_u8(&buf, asked[i].subject ? 's' : 'r');
        buf_put(&buf, span_of(asked[i].id.bytes, ID_BYTES));
    }
    const enum err err = value_put(txn, KV_ASKED, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

enum err asked_get(struct txn *txn, uint64_t sequence, uint32_t row,
                   struct asked asked_out[static ASKED_IDS], uint32_t *count_out)
{
    const struct kv_key key = row_key_of(sequence, row);
    const struct kv_label label = kv_label_of(KV_ASKED, kv_key_span(&key));
    struct span value;
    const enum err err = value_get(txn, KV_ASKED, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_CORRUPT, "%s: row %u is not there", label.text, row);
    }
    TRY(err);
    const uint8_t *const bytes = value.data;
    const size_t count = value.bytes / ASKED_BYTES;
    if (value.bytes % ASKED_BYTES != 0 || count == 0 || count > ASKED_IDS) {
        FAIL(ERR_CORRUPT, "%s: row %u has %zu bytes", label.text, row, value.bytes);
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *const at = bytes + i * ASKED_BYTES;
        if (at[0] != 'r' && at[0] != 's') {
            FAIL(ERR_CORRUPT, "%s: row %u has kind %u, expected r or s", label.text, row, at[0]);
        }
        asked_out[i].subject = at[0] == 's';
        memcpy(asked_out[i].id.bytes, at + 1, ID_BYTES);
    }
    *count_out = (uint32_t)count;
    return OK;
}

// ---------------------------------------------------------------- answers

// The answer that all ids got, or 0; *total_out: how many there are.
static uint8_t same_answer(const struct request_row *request, uint32_t *total_out)
{
    uint8_t same = 0;
    *total_out = 0;
    for (int i = ANSWER_DELETED; i < ANSWER_COUNT_; i++) {
        *total_out += request->answered[i];
        same = request->answered[i] > 0 ? (uint8_t)i : same;
    }
    return *total_out > 0 && request->answered[same] == *total_out ? same : 0;
}

enum err answers_put(struct txn *txn, const struct request_row *request, const uint8_t *answers)
{
    uint32_t total;
    if (same_answer(request, &total) != 0) {
        return OK;
    }
    for (uint32_t at = 0; at < total; at += ANSWERS_ROW) {
        const struct kv_key key = row_key_of(request->sequence, at / ANSWERS_ROW);
        const uint32_t left = total - at;
        TRY(value_put(txn, KV_ANSWER, kv_key_span(&key),
                      span_of(answers + at, left < ANSWERS_ROW ? left : ANSWERS_ROW)));
    }
    return OK;
}

static enum err answers_check(const struct kv_key *key, struct span value, uint32_t expected)
{
    const uint8_t *const bytes = value.data;
    bool good = value.bytes == expected;
    for (size_t i = 0; i < value.bytes && good; i++) {
        good = bytes[i] >= ANSWER_DELETED && bytes[i] < ANSWER_COUNT_;
    }
    if (!good) {
        FAIL(ERR_CORRUPT, "%s: %zu bytes, expected %u answers",
             kv_label_of(KV_ANSWER, kv_key_span(key)).text, value.bytes, expected);
    }
    return OK;
}

enum err answers_get(struct txn *txn, const struct request_row *request, uint32_t from,
                     uint8_t out[static ANSWERS_ROW], uint32_t *count_out)
{
    uint32_t total;
    const uint8_t same = same_answer(request, &total);
    *count_out = 0;
    if (from >= total) {
        return OK;
    }
    const uint32_t row = from / ANSWERS_ROW, skipped = from % ANSWERS_ROW;
    const uint32_t left = total - row * ANSWERS_ROW;
    const uint32_t expected = left < ANSWERS_ROW ? left : ANSWERS_ROW;
    *count_out = expected - skipped;
    if (same != 0) {
        memset(out, same, *count_out);
        return OK;
    }
    const struct kv_key key = row_key_of(request->sequence, row);
    struct span value;
    const enum err err = value_get(txn, KV_ANSWER, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_CORRUPT, "%s: row %u is not there", kv_label_of(KV_ANSWER, kv_key_span(&key)).text,
             row);
    }
    TRY(err);
    TRY(answers_check(&key, value, expected));
    memcpy(out, (const uint8_t *)value.data + skipped, *count_out);
    return OK;
}
