// store/principal.c: see principal.h.
//
//   principal  key    principal u32
//              value  name short text | key [32] | role u8 | added i64 | revoked i64 |
//                     datasets u32, of each: dataset u32 | name short text
#include "store/principal.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/private.h"

void principal_row_deinit(struct principal_row *row)
{
    mem_free(row->scope);
    *row = (struct principal_row){0};
}

static struct kv_key key_of(uint32_t number)
{
    struct kv_key key = {0};
    kv_key_u32(&key, number);
    return key;
}

enum err principal_put(struct txn *txn, const struct principal_row *row)
{
    CHECK(row->number > 0 && row->scope_count <= LIMIT_SCOPE_DATASETS);
    const struct kv_key key = key_of(row->number);
    struct buf buf = {0};
    buf_short_text(&buf, row->name);
    buf_put(&buf, span_of(row->key, sizeof row->key));
    buf_u8(&buf, (uint8_t)row->role);
    buf_u64(&buf, (uint64_t)row->added_us);
    buf_u64(&buf, (uint64_t)row->revoked_us);
    buf_u32(&buf, row->scope_count);
    for (uint32_t i = 0; i < row->scope_count; i++) {
        buf_u32(&buf, row->scope[i].dataset);
        buf_short_text(&buf, row->scope[i].name);
    }
    const enum err err = value_put(txn, KV_PRINCIPAL, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err row_read(struct cursor *cursor, struct span key, struct principal_row *row)
{
    cursor_short_text(cursor, row->name, sizeof row->name);
    const struct span public = cursor_take(cursor, sizeof row->key);
    const uint8_t role = cursor_u8(cursor);
    row->added_us = (int64_t)cursor_u64(cursor);
    row->revoked_us = (int64_t)cursor_u64(cursor);
    const uint32_t count = cursor_u32(cursor);
    if (!cursor->bad && (role == 0 || role >= ROLE_COUNT_ || count > LIMIT_SCOPE_DATASETS)) {
        FAIL(ERR_CORRUPT,
             "%s: role %u and %u datasets, expected a role from 1 to %d and at most %d",
             kv_label_of(KV_PRINCIPAL, key).text, role, count, (int)ROLE_COUNT_ - 1,
             (int)LIMIT_SCOPE_DATASETS);
    }
    row->role = (enum role)role;
    row->scope_count = cursor->bad ? 0 : count;
    row->scope = mem_alloc(row->scope_count, sizeof *row->scope);
    for (uint32_t i = 0; i < row->scope_count; i++) {
        row->scope[i].dataset = cursor_u32(cursor);
        cursor_short_text(cursor, row->scope[i].name, sizeof row->scope[i].name);
    }
    TRY_AS(cursor_done(cursor, "a principal"), "%s", kv_label_of(KV_PRINCIPAL, key).text);
    memcpy(row->key, public.data, sizeof row->key);
    return OK;
}

static enum err row_get(struct span key, struct span value, struct principal_row *row_out)
{
    *row_out = (struct principal_row){0};
    if (key.bytes != 4) {
        FAIL(ERR_CORRUPT, "table principal: a key of %zu bytes, expected 4", key.bytes);
    }
    struct cursor cursor = cursor_of(value);
    row_out->number = be_get32(key.data);
    const enum err err = row_read(&cursor, key, row_out);
    if (err != OK) {
        principal_row_deinit(row_out);
    }
    return err;
}

enum err principal_get(struct txn *txn, uint32_t number, struct principal_row *row_out)
{
    *row_out = (struct principal_row){0};
    const struct kv_key key = key_of(number);
    struct span value;
    const enum err err = value_get(txn, KV_PRINCIPAL, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no principal number %u", number);
    }
    TRY(err);
    return row_get(kv_key_span(&key), value, row_out);
}

static enum err each_in(struct txn *txn, struct kv_cursor *cursor,
                        enum err (*each)(void *context, const struct principal_row *row),
                        void *context)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct principal_row row;
        TRY(value_of(txn, KV_PRINCIPAL, key, cursor->value, &value));
        TRY(row_get(key, value, &row));
        const enum err err = each(context, &row);
        principal_row_deinit(&row);
        TRY(err);
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err principal_each(struct txn *txn,
                        enum err (*each)(void *context, const struct principal_row *row),
                        void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_PRINCIPAL, &cursor));
    const enum err err = each_in(txn, &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}

// --- Promises ---

bool principal_row_bind(struct principal_row *row, const char *name, uint32_t dataset)
{
    bool changed = false;
    for (uint32_t i = 0; i < row->scope_count; i++) {
        struct principal_scope *const scope = &row->scope[i];
        if (scope->dataset == 0 && strcmp(scope->name, name) == 0) {
            scope->dataset = dataset;
            changed = true;
        }
    }
    return changed;
}

struct binding {
    const char *name;
    uint32_t *numbers; // Of rows that promise it. Owned.
    uint32_t count;
};

// What a walk shows must not be written meanwhile.
static enum err collect(void *context, const struct principal_row *row)
{
    struct binding *const binding = context;
    for (uint32_t i = 0; i < row->scope_count; i++) {
        if (row->scope[i].dataset == 0 && strcmp(row->scope[i].name, binding->name) == 0) {
            binding->numbers =
                mem_resize(binding->numbers, binding->count + 1, sizeof *binding->numbers);
            binding->numbers[binding->count++] = row->number;
            return OK;
        }
    }
    return OK;
}

enum err principal_bind(struct txn *txn, const char *name, uint32_t dataset)
{
    struct binding binding = {.name = name};
    enum err err = principal_each(txn, collect, &binding);
    for (uint32_t i = 0; i < binding.count && err == OK; i++) {
        struct principal_row row;
        err = principal_get(txn, binding.numbers[i], &row);
        if (err == OK) {
            (void)principal_row_bind(&row, name, dataset);
            err = principal_put(txn, &row);
        }
        principal_row_deinit(&row);
    }
    mem_free(binding.numbers);
    return err;
}
