// store/tally.c: see tally.h.
//
//   tally   key    day u32 | dataset u32 | reason u8
//           value  count u64 | name short text
#include "store/tally.h"

#include <string.h>

#include "base/check.h"
#include "store/private.h"

enum { TALLY_KEY_BYTES = 9, DROPPED_AT_ONCE = 64 };

static struct kv_key key_of(uint32_t day, uint32_t dataset, enum tally_reason reason)
{
    struct kv_key key = {0};
    kv_key_u32(&key, day);
    kv_key_u32(&key, dataset);
    kv_key_u8(&key, (uint8_t)reason);
    return key;
}

static enum err tally_of(struct span key, struct span value, struct tally *tally_out)
{
    *tally_out = (struct tally){0};
    if (key.bytes != TALLY_KEY_BYTES) {
        FAIL(ERR_CORRUPT, "table tally: a key of %zu bytes, expected %d", key.bytes,
             (int)TALLY_KEY_BYTES);
    }
    const uint8_t *const in = key.data;
    struct cursor cursor = cursor_of(value);
    tally_out->day = be_get32(in);
    tally_out->dataset = be_get32(in + 4);
    tally_out->reason = (enum tally_reason)in[8];
    tally_out->count = cursor_u64(&cursor);
    cursor_short_text(&cursor, tally_out->name, sizeof tally_out->name);
    return cursor_done(&cursor, "a tally");
}

uint32_t tally_day(int64_t time_us)
{
    CHECK(time_us >= 0);
    return (uint32_t)(time_us / ((int64_t)86400 * 1000000));
}

// Some of the rows that are too old: with each row that is made, more than one.
static enum err drop_old(struct txn *txn, uint32_t today)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_TALLY, &cursor));
    enum err err = kv_cursor_seek(&cursor, span_of("", 0));
    for (int i = 0; i < DROPPED_AT_ONCE && err == OK && !cursor.at_end; i++) {
        if (cursor.key.bytes >= 4 && be_get32(cursor.key.at) + (uint64_t)TALLY_DAYS >= today) {
            break;
        }
        err = kv_drop(&txn->kv, KV_TALLY, kv_key_span(&cursor.key));
        err = err == OK ? kv_cursor_next(&cursor) : err;
    }
    kv_cursor_close(&cursor);
    return err;
}

enum err tally_add(struct txn *txn, int64_t now_us, uint32_t dataset, const char *name,
                   enum tally_reason reason)
{
    const uint32_t today = tally_day(now_us);
    const struct kv_key key = key_of(today, dataset, reason);
    struct tally tally = {0};
    struct span value;
    const enum err found = value_get(txn, KV_TALLY, kv_key_span(&key), &value);
    if (found == OK) {
        TRY(tally_of(kv_key_span(&key), value, &tally));
    } else if (found != ERR_NOT_FOUND) {
        return found;
    }
    struct buf buf = {0};
    buf_u64(&buf, tally.count + 1);
    buf_short_text(&buf, name);
    const enum err err = value_put(txn, KV_TALLY, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    TRY(err);
    return found == OK ? OK : drop_old(txn, today);
}

static enum err walk_in(struct txn *txn, struct kv_cursor *cursor, struct span from,
                        bool (*each)(void *context, const struct tally *tally), void *context)
{
    TRY(kv_cursor_seek(cursor, from));
    while (!cursor->at_end) {
        struct span value;
        struct tally tally;
        TRY(value_of(txn, KV_TALLY, kv_key_span(&cursor->key), cursor->value, &value));
        TRY(tally_of(kv_key_span(&cursor->key), value, &tally));
        if (!each(context, &tally)) {
            break;
        }
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err tally_walk(struct txn *txn, const struct tally *from,
                    bool (*each)(void *context, const struct tally *tally), void *context)
{
    const struct kv_key key = key_of(from->day, from->dataset, from->reason);
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_TALLY, &cursor));
    const enum err err = walk_in(txn, &cursor, kv_key_span(&key), each, context);
    kv_cursor_close(&cursor);
    return err;
}
