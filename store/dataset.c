// store/dataset.c: see dataset.h.
//
//   dataset  key    dataset u32
//            value  name u16 text | placement key [32] | public u8 | removing u8 |
//                   generation_closed u32 | generation_next u32 | record_count u64 |
//                   schema u32 bytes
#include "store/dataset.h"

#include <string.h>

#include "base/check.h"
#include "store/private.h"

void dataset_row_deinit(struct dataset_row *row)
{
    buf_deinit(&row->schema);
    *row = (struct dataset_row){0};
}

static struct kv_key key_of(uint32_t number)
{
    struct kv_key key = {0};
    kv_key_u32(&key, number);
    return key;
}

void dataset_lose(struct dataset_row *row, const struct record_key *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        CHECK(row->record_count > 0 && row->risk_records[keys[i].risk] > 0);
        row->record_count--;
        row->risk_records[keys[i].risk]--;
    }
}

void dataset_gain(struct dataset_row *row, const struct record_key *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        row->record_count++;
        row->risk_records[keys[i].risk]++;
    }
}

enum err dataset_put(struct txn *txn, const struct dataset_row *row)
{
    CHECK(row->schema.bytes <= UINT32_MAX);
    const struct kv_key key = key_of(row->number);
    struct buf buf = {0};
    buf_short_text(&buf, row->name);
    buf_put(&buf, span_of(row->placement_key, KEY_BYTES));
    buf_u8(&buf, row->public_data ? 1 : 0);
    buf_u8(&buf, row->removing ? 1 : 0);
    buf_u32(&buf, row->generation_closed);
    buf_u32(&buf, row->generation_next);
    buf_u64(&buf, row->record_count);
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        buf_u64(&buf, row->risk_records[risk]);
    }
    buf_u32(&buf, (uint32_t)row->schema.bytes);
    buf_put(&buf, buf_span(&row->schema));
    const enum err err = value_put(txn, KV_DATASET, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err row_get(struct span key, struct span value, struct dataset_row *row_out)
{
    *row_out = (struct dataset_row){0};
    if (key.bytes != 4) {
        FAIL(ERR_CORRUPT, "table dataset: a key of %zu bytes, expected 4", key.bytes);
    }
    row_out->number = be_get32(key.data);
    struct cursor cursor = cursor_of(value);
    cursor_short_text(&cursor, row_out->name, sizeof row_out->name);
    const struct span placement = cursor_take(&cursor, KEY_BYTES);
    row_out->public_data = cursor_u8(&cursor) != 0;
    row_out->removing = cursor_u8(&cursor) != 0;
    row_out->generation_closed = cursor_u32(&cursor);
    row_out->generation_next = cursor_u32(&cursor);
    row_out->record_count = cursor_u64(&cursor);
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        row_out->risk_records[risk] = cursor_u64(&cursor);
    }
    const struct span schema = cursor_take(&cursor, cursor_u32(&cursor));
    TRY_AS(cursor_done(&cursor, "a dataset"), "%s", kv_label_of(KV_DATASET, key).text);
    memcpy(row_out->placement_key, placement.data, KEY_BYTES);
    buf_put(&row_out->schema, schema);
    return OK;
}

enum err dataset_get(struct txn *txn, uint32_t number, struct dataset_row *row_out)
{
    *row_out = (struct dataset_row){0};
    const struct kv_key key = key_of(number);
    struct span value;
    const enum err err = value_get(txn, KV_DATASET, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no dataset number %u", number);
    }
    TRY(err);
    return row_get(kv_key_span(&key), value, row_out);
}

enum err dataset_drop(struct txn *txn, uint32_t number)
{
    const struct kv_key key = key_of(number);
    return value_drop(txn, KV_DATASET, kv_key_span(&key));
}

static enum err each_in(struct txn *txn, struct kv_cursor *cursor,
                        enum err (*each)(void *context, const struct dataset_row *row),
                        void *context)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct dataset_row row;
        TRY(value_of(txn, KV_DATASET, key, cursor->value, &value));
        TRY(row_get(key, value, &row));
        const enum err err = each(context, &row);
        dataset_row_deinit(&row);
        TRY(err);
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err dataset_each(struct txn *txn,
                      enum err (*each)(void *context, const struct dataset_row *row), void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_DATASET, &cursor));
    const enum err err = each_in(txn, &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}
