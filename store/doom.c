// store/doom.c: see doom.h.
//
//   doomed   key  slot u64     value  generation u64 | request u64 (0: none)
#include "store/doom.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/private.h"
#include "store/request.h"

enum err doom_put(struct txn *txn, const struct key_name *name)
{
    struct kv_key key = {0};
    struct buf buf = {0};
    kv_key_u64(&key, name->slot);
    buf_u64(&buf, name->generation);
    buf_u64(&buf, txn->request);
    const enum err err = value_put(txn, KV_DOOMED, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    txn->doomed = true;
    return err;
}

void doom_for(struct txn *txn, uint64_t request)
{
    txn->request = request;
}

static enum err name_at(struct txn *txn, const struct kv_cursor *cursor, struct key_name *name_out,
                        uint64_t *request_out)
{
    const struct span key = kv_key_span(&cursor->key);
    struct span value;
    if (key.bytes != 8) {
        FAIL(ERR_CORRUPT, "table doomed: a key of %zu bytes, expected 8", key.bytes);
    }
    name_out->slot = be_get64(key.data);
    TRY(value_of(txn, KV_DOOMED, key, cursor->value, &value));
    struct cursor bytes = cursor_of(value);
    name_out->generation = cursor_u64(&bytes);
    *request_out = cursor_u64(&bytes);
    TRY_AS(cursor_done(&bytes, "a doomed key"), "%s", kv_label_of(KV_DOOMED, key).text);
    return OK;
}

static enum err each_in(struct txn *txn, struct kv_cursor *cursor,
                        enum err (*each)(void *context, const struct key_name *name), void *context)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        struct key_name name;
        uint64_t request;
        TRY(name_at(txn, cursor, &name, &request));
        TRY(each(context, &name));
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err doom_each(struct txn *txn, enum err (*each)(void *context, const struct key_name *name),
                   void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_DOOMED, &cursor));
    const enum err err = each_in(txn, &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}

enum err doom_any(struct txn *txn, bool *any_out)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_DOOMED, &cursor));
    const enum err err = kv_cursor_seek(&cursor, span_of("", 0));
    *any_out = err == OK && !cursor.at_end;
    kv_cursor_close(&cursor);
    return err;
}

struct taken {
    struct key_name names[KEYRING_BATCH];
    uint64_t requests[KEYRING_BATCH];
    size_t count;
};

// Takes the first rows of the list; their order is that of the slots.
static enum err take(struct txn *txn, struct kv_cursor *cursor, size_t count_max,
                     struct taken *taken)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end && taken->count < count_max) {
        TRY(name_at(txn, cursor, &taken->names[taken->count], &taken->requests[taken->count]));
        taken->count++;
        TRY(kv_drop(&txn->kv, KV_DOOMED, kv_key_span(&cursor->key)));
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

static int compare_numbers(const void *a_, const void *b_)
{
    const uint64_t a = *(const uint64_t *)a_, b = *(const uint64_t *)b_;
    return a < b ? -1 : a > b;
}

// Adds to the rows of the requests how many keys were erased for each.
static enum err credit(struct txn *txn, struct taken *taken)
{
    if (taken->count > 1) {
        qsort(taken->requests, taken->count, sizeof *taken->requests, compare_numbers);
    }
    for (size_t i = 0; i < taken->count;) {
        const uint64_t request = taken->requests[i], from = i;
        while (i < taken->count && taken->requests[i] == request) {
            i++;
        }
        if (request != 0) {
            struct request_row row;
            TRY(request_get(txn, request, &row));
            row.keys_destroyed += i - from;
            TRY(request_put(txn, &row));
        }
    }
    return OK;
}

static enum err erase(struct txn *txn, struct taken *taken)
{
    uint64_t counter = 0, destroyed = 0;
    if (taken->count == 0) {
        return OK;
    }
    TRY(store_erase_counter(txn, &counter));
    TRY(keyring_erase(txn->store->keyring, taken->names, taken->count, counter + 1, &destroyed));
    TRY(store_erase_counter_set(txn, counter + 1));
    return credit(txn, taken);
}

enum err doom_erase(struct txn *txn, size_t count_max, bool *more_out)
{
    CHECK(!txn->doomed && count_max > 0);
    struct taken *const taken = mem_alloc(1, sizeof *taken);
    struct kv_cursor cursor = {0};
    enum err err = kv_cursor_open(&txn->kv, KV_DOOMED, &cursor);
    err = err == OK
              ? take(txn, &cursor, count_max < KEYRING_BATCH ? count_max : KEYRING_BATCH, taken)
              : err;
    *more_out = err == OK && !cursor.at_end;
    kv_cursor_close(&cursor);
    err = err == OK ? erase(txn, taken) : err;
    mem_free(taken);
    return err;
}
