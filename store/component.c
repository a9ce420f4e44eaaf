// store/component.c: see component.h.
//
//   model      key    model u32
//              value  name u16 text | dataset u32 | removing u8 | generations u32 | created_us i64 |
//                     replaces u32 | base u32 | policy u8, batch u32 | spec u32 bytes
//   component  key    model u32 | shard u32 | slice u16, slice u16, ...      a parent before its children
//              value  state u8 | instance u64 | param_count u64 | records u64 | samples u64 |
//                     seconds f64 | trained_us i64 | profile [32] | commitment [32]
//   cell       key    model u32 | shard u32 | slice u32
//              value  version u64
//   weights    key    instance u64 | chunk u32
//              value  float32 little-endian; every chunk but the last has LIMIT_CHUNK_BYTES
#include "store/component.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/doom.h"
#include "store/private.h"

_Static_assert(8 + 2 * LIMIT_SLICES <= KV_KEY_BYTES, "a component's name fits a key");
_Static_assert(LIMIT_CHUNK_BYTES % sizeof(float) == 0, "no parameter lies across two chunks");

static struct kv_key key_of(uint32_t model)
{
    struct kv_key key = {0};
    kv_key_u32(&key, model);
    return key;
}

// --- Models ---

void model_row_deinit(struct model_row *row)
{
    buf_deinit(&row->spec);
    *row = (struct model_row){0};
}

enum err model_put(struct txn *txn, const struct model_row *row)
{
    CHECK(row->spec.bytes <= UINT32_MAX);
    const struct kv_key key = key_of(row->number);
    struct buf buf = {0};
    buf_short_text(&buf, row->name);
    buf_u32(&buf, row->dataset);
    buf_u8(&buf, row->removing ? 1 : 0);
    buf_u32(&buf, row->generations);
    buf_u64(&buf, (uint64_t)row->created_us);
    buf_u32(&buf, row->replaces);
    buf_u32(&buf, row->base);
    buf_u8(&buf, (uint8_t)row->policy.kind);
    buf_u32(&buf, row->policy.batch);
    buf_u32(&buf, (uint32_t)row->spec.bytes);
    buf_put(&buf, buf_span(&row->spec));
    const enum err err = value_put(txn, KV_MODEL, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err model_of(struct span key, struct span value, struct model_row *row_out)
{
    *row_out = (struct model_row){0};
    if (key.bytes != 4) {
        FAIL(ERR_CORRUPT, "table model: a key of %zu bytes, expected 4", key.bytes);
    }
    row_out->number = be_get32(key.data);
    struct cursor cursor = cursor_of(value);
    cursor_short_text(&cursor, row_out->name, sizeof row_out->name);
    row_out->dataset = cursor_u32(&cursor);
    row_out->removing = cursor_u8(&cursor) != 0;
    row_out->generations = cursor_u32(&cursor);
    row_out->created_us = (int64_t)cursor_u64(&cursor);
    row_out->replaces = cursor_u32(&cursor);
    row_out->base = cursor_u32(&cursor);
    const uint8_t policy = cursor_u8(&cursor);
    row_out->policy.batch = cursor_u32(&cursor);
    const struct span spec = cursor_take(&cursor, cursor_u32(&cursor));
    TRY_AS(cursor_done(&cursor, "a model"), "%s", kv_label_of(KV_MODEL, key).text);
    if (policy > REPAIR_BATCH) {
        FAIL(ERR_CORRUPT, "%s: repair policy %u is not known", kv_label_of(KV_MODEL, key).text,
             policy);
    }
    row_out->policy.kind = (enum repair_kind)policy;
    buf_put(&row_out->spec, spec);
    return OK;
}

enum err model_get(struct txn *txn, uint32_t number, struct model_row *row_out)
{
    *row_out = (struct model_row){0};
    const struct kv_key key = key_of(number);
    struct span value;
    const enum err err = value_get(txn, KV_MODEL, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no model number %u", number);
    }
    TRY(err);
    return model_of(kv_key_span(&key), value, row_out);
}

enum err model_drop(struct txn *txn, uint32_t number)
{
    const struct kv_key key = key_of(number);
    return kv_drop(&txn->kv, KV_MODEL, kv_key_span(&key));
}

static enum err model_each_in(struct txn *txn, struct kv_cursor *cursor,
                              enum err (*each)(void *context, const struct model_row *row),
                              void *context)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct model_row row;
        TRY(value_of(txn, KV_MODEL, key, cursor->value, &value));
        TRY(model_of(key, value, &row));
        const enum err err = each(context, &row);
        model_row_deinit(&row);
        TRY(err);
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err model_each(struct txn *txn, enum err (*each)(void *context, const struct model_row *row),
                    void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_MODEL, &cursor));
    const enum err err = model_each_in(txn, &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}

// --- Components ---

static struct kv_key component_key_of(uint32_t model, const struct component *name)
{
    CHECK(name->count > 0 && name->count <= LIMIT_SLICES);
    struct kv_key key = key_of(model);
    kv_key_u32(&key, name->shard);
    for (uint16_t i = 0; i < name->count; i++) {
        kv_key_u16(&key, name->list[i]);
    }
    return key;
}

static enum err component_of(struct span key, struct component *name_out)
{
    const uint8_t *const in = key.data;
    const size_t head = 8;
    if (key.bytes <= head || (key.bytes - head) % 2 != 0 || (key.bytes - head) / 2 > LIMIT_SLICES) {
        FAIL(ERR_CORRUPT, "%s: a key of %zu bytes", kv_label_of(KV_COMPONENT, key).text, key.bytes);
    }
    *name_out = (struct component){.shard = be_get32(in + 4)};
    name_out->count = (uint16_t)((key.bytes - head) / 2);
    for (size_t i = 0; i < name_out->count; i++) {
        name_out->list[i] = (uint16_t)(in[head + 2 * i] << 8 | in[head + 2 * i + 1]);
    }
    return OK;
}

static enum err component_row_of(struct span key, struct span value, struct component_row *row_out)
{
    struct cursor cursor = cursor_of(value);
    *row_out = (struct component_row){0};
    const uint8_t state = cursor_u8(&cursor);
    row_out->instance = cursor_u64(&cursor);
    row_out->param_count = cursor_u64(&cursor);
    row_out->records = cursor_u64(&cursor);
    row_out->samples = cursor_u64(&cursor);
    row_out->seconds = cursor_f64(&cursor);
    row_out->trained_us = (int64_t)cursor_u64(&cursor);
    const struct span profile = cursor_take(&cursor, DIGEST_BYTES);
    const struct span commitment = cursor_take(&cursor, DIGEST_BYTES);
    TRY_AS(cursor_done(&cursor, "a component"), "%s", kv_label_of(KV_COMPONENT, key).text);
    if (state != COMPONENT_VALID && state != COMPONENT_INVALID) {
        FAIL(ERR_CORRUPT, "%s: state %u, expected %d or %d", kv_label_of(KV_COMPONENT, key).text,
             state, (int)COMPONENT_VALID, (int)COMPONENT_INVALID);
    }
    row_out->state = (enum component_state)state;
    memcpy(row_out->profile.bytes, profile.data, DIGEST_BYTES);
    memcpy(row_out->commitment.bytes, commitment.data, DIGEST_BYTES);
    return OK;
}

enum err component_row_get(struct txn *txn, uint32_t model, const struct component *name,
                           struct component_row *row_out)
{
    const struct kv_key key = component_key_of(model, name);
    struct span value;
    const enum err err = value_get(txn, KV_COMPONENT, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        char text[COMPONENT_TEXT_BYTES];
        component_put(name, text);
        FAIL(ERR_NOT_FOUND, "component %s of model number %u was never trained", text, model);
    }
    TRY(err);
    return component_row_of(kv_key_span(&key), value, row_out);
}

enum err component_row_put(struct txn *txn, uint32_t model, const struct component *name,
                           const struct component_row *row)
{
    const struct kv_key key = component_key_of(model, name);
    struct buf buf = {0};
    buf_u8(&buf, (uint8_t)row->state);
    buf_u64(&buf, row->instance);
    buf_u64(&buf, row->param_count);
    buf_u64(&buf, row->records);
    buf_u64(&buf, row->samples);
    buf_f64(&buf, row->seconds);
    buf_u64(&buf, (uint64_t)row->trained_us);
    buf_put(&buf, span_of(row->profile.bytes, DIGEST_BYTES));
    buf_put(&buf, span_of(row->commitment.bytes, DIGEST_BYTES));
    const enum err err = value_put(txn, KV_COMPONENT, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err component_each_in(struct txn *txn, struct span prefix, struct kv_cursor *cursor,
                                  enum err (*each)(void *context, const struct component *name,
                                                   const struct component_row *row),
                                  void *context)
{
    TRY(kv_cursor_seek(cursor, prefix));
    while (kv_cursor_within(cursor, prefix)) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct component name;
        struct component_row row;
        TRY(component_of(key, &name));
        TRY(value_of(txn, KV_COMPONENT, key, cursor->value, &value));
        TRY(component_row_of(key, value, &row));
        TRY(each(context, &name, &row));
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

static enum err component_each(struct txn *txn, const struct kv_key *prefix,
                               enum err (*each)(void *context, const struct component *name,
                                                const struct component_row *row),
                               void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_COMPONENT, &cursor));
    const enum err err = component_each_in(txn, kv_key_span(prefix), &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}

enum err component_row_each(struct txn *txn, uint32_t model,
                            enum err (*each)(void *context, const struct component *name,
                                             const struct component_row *row),
                            void *context)
{
    const struct kv_key prefix = key_of(model);
    return component_each(txn, &prefix, each, context);
}

enum err component_row_each_of(struct txn *txn, uint32_t model, uint32_t shard,
                               enum err (*each)(void *context, const struct component *name,
                                                const struct component_row *row),
                               void *context)
{
    struct kv_key prefix = key_of(model);
    kv_key_u32(&prefix, shard);
    return component_each(txn, &prefix, each, context);
}

enum err component_rows_drop(struct txn *txn, uint32_t model, size_t row_count_max, bool *more_out)
{
    const struct kv_key prefix = key_of(model);
    size_t rows = 0, cells = 0;
    TRY(kv_drop_prefix(&txn->kv, KV_COMPONENT, kv_key_span(&prefix), row_count_max, &rows));
    TRY(kv_drop_prefix(&txn->kv, KV_CELL, kv_key_span(&prefix), row_count_max - rows, &cells));
    *more_out = rows + cells == row_count_max;
    return OK;
}

// --- Cells ---

static struct kv_key cell_key_of(uint32_t model, uint32_t shard, uint32_t slice)
{
    struct kv_key key = key_of(model);
    kv_key_u32(&key, shard);
    kv_key_u32(&key, slice);
    return key;
}

enum err cell_version_get(struct txn *txn, uint32_t model, uint32_t shard, uint32_t slice,
                          uint64_t *version_out)
{
    const struct kv_key key = cell_key_of(model, shard, slice);
    struct span value;
    *version_out = 0;
    const enum err err = value_get(txn, KV_CELL, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    struct cursor cursor = cursor_of(value);
    *version_out = cursor_u64(&cursor);
    TRY_AS(cursor_done(&cursor, "a version"), "%s", kv_label_of(KV_CELL, kv_key_span(&key)).text);
    return OK;
}

enum err cell_version_raise(struct txn *txn, uint32_t model, uint32_t shard, uint32_t slice)
{
    uint64_t version;
    TRY(cell_version_get(txn, model, shard, slice, &version));
    const struct kv_key key = cell_key_of(model, shard, slice);
    struct buf buf = {0};
    buf_u64(&buf, version + 1);
    const enum err err = value_put(txn, KV_CELL, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

// --- Weights ---

static struct kv_key chunk_key_of(uint64_t instance, uint32_t chunk)
{
    struct kv_key key = {0};
    kv_key_u64(&key, instance);
    kv_key_u32(&key, chunk);
    return key;
}

// No parameters make one empty chunk, so that they too are there or not.
uint32_t weights_chunk_count(uint64_t param_count)
{
    CHECK(param_count <= LIMIT_PARAM_COUNT);
    const uint64_t bytes = param_count * sizeof(float);
    return bytes == 0 ? 1 : (uint32_t)((bytes + LIMIT_CHUNK_BYTES - 1) / LIMIT_CHUNK_BYTES);
}

size_t weights_chunk_bytes(uint64_t param_count, uint32_t chunk)
{
    CHECK(chunk < weights_chunk_count(param_count));
    const uint64_t left = param_count * sizeof(float) - (uint64_t)chunk * LIMIT_CHUNK_BYTES;
    return (size_t)(left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES);
}

// The key of an instance, from the first chunk that is there. ERR_NOT_FOUND: none is.
static enum err instance_name(struct txn *txn, uint64_t instance, struct key_name *name_out)
{
    struct kv_key prefix = {0};
    struct kv_cursor cursor;
    kv_key_u64(&prefix, instance);
    TRY(kv_cursor_open(&txn->kv, KV_WEIGHTS, &cursor));
    enum err err = kv_cursor_seek(&cursor, kv_key_span(&prefix));
    if (err == OK && !kv_cursor_within(&cursor, kv_key_span(&prefix))) {
        err = err_raise(ERR_NOT_FOUND, "there are no weights of instance %llu",
                        (unsigned long long)instance);
    }
    if (err == OK) {
        err = value_name(KV_WEIGHTS, kv_key_span(&cursor.key), cursor.value, name_out);
    }
    kv_cursor_close(&cursor);
    return err;
}

// All chunks of an instance are sealed under one key, which comes with the first.
static enum err instance_key(struct txn *txn, uint64_t instance, struct key_name *name_out,
                             uint8_t key_out[static SEAL_KEY_BYTES])
{
    const enum err err = instance_name(txn, instance, name_out);
    if (err == ERR_NOT_FOUND) {
        uint64_t run = 0;
        keyring_reserve(txn->store->keyring, 1, &run);
        keyring_make(txn->store->keyring, run, name_out, key_out);
        return OK;
    }
    TRY(err);
    TRY_AS(keyring_key(txn->store->keyring, name_out, key_out), "weights of instance %llu",
           (unsigned long long)instance);
    return OK;
}

enum err weights_put_chunk(struct txn *txn, uint64_t instance, uint32_t chunk, struct span bytes)
{
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    CHECK(bytes.bytes <= LIMIT_CHUNK_BYTES);
    const struct kv_key key = chunk_key_of(instance, chunk);
    TRY(instance_key(txn, instance, &name, seal_key));
    const enum err err =
        value_put_under(txn, KV_WEIGHTS, kv_key_span(&key), &name, seal_key, bytes);
    mem_wipe(seal_key, sizeof seal_key);
    return err;
}

enum err weights_put(struct txn *txn, uint64_t instance, const float *params, uint64_t param_count)
{
    const uint8_t *const bytes = (const uint8_t *)params;
    for (uint32_t i = 0; i < weights_chunk_count(param_count); i++) {
        TRY(weights_put_chunk(
            txn, instance, i,
            span_of(bytes + (size_t)i * LIMIT_CHUNK_BYTES, weights_chunk_bytes(param_count, i))));
    }
    return OK;
}

enum err weights_count_missing(struct txn *txn, uint64_t instance, uint64_t param_count,
                               uint32_t *missing_out)
{
    *missing_out = 0;
    for (uint32_t i = 0; i < weights_chunk_count(param_count); i++) {
        const struct kv_key key = chunk_key_of(instance, i);
        bool there;
        TRY(value_exists(txn, KV_WEIGHTS, kv_key_span(&key), &there));
        *missing_out += !there;
    }
    return OK;
}

enum err weights_commit_key(struct txn *txn, uint64_t instance, uint8_t key_out[static KEY_BYTES])
{
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    TRY(instance_name(txn, instance, &name));
    TRY_AS(keyring_key(txn->store->keyring, &name, seal_key), "weights of instance %llu",
           (unsigned long long)instance);
    digest_derive("unlearnd-opening", seal_key, key_out);
    mem_wipe(seal_key, sizeof seal_key);
    return OK;
}

enum err weights_get(struct txn *txn, uint64_t instance, float *params_out, uint64_t param_count)
{
    const uint32_t chunks = weights_chunk_count(param_count);
    for (uint32_t i = 0; i < chunks; i++) {
        const struct kv_key key = chunk_key_of(instance, i);
        struct span value;
        const enum err err = value_get(txn, KV_WEIGHTS, kv_key_span(&key), &value);
        if (err == ERR_NOT_FOUND && i == 0) {
            FAIL(ERR_NOT_FOUND, "there are no weights of instance %llu",
                 (unsigned long long)instance);
        }
        if (err != ERR_NOT_FOUND) {
            TRY(err);
        }
        const size_t found = err == OK ? value.bytes : 0;
        const size_t expected = weights_chunk_bytes(param_count, i);
        if (err != OK || found != expected) {
            FAIL(ERR_CORRUPT, "weights of instance %llu: chunk %u has %zu bytes, expected %zu",
                 (unsigned long long)instance, i, found, expected);
        }
        if (found > 0) {
            memcpy((uint8_t *)params_out + (size_t)i * LIMIT_CHUNK_BYTES, value.data, found);
        }
    }
    const struct kv_key after = chunk_key_of(instance, chunks);
    bool longer;
    TRY(value_exists(txn, KV_WEIGHTS, kv_key_span(&after), &longer));
    if (longer) {
        FAIL(ERR_CORRUPT, "weights of instance %llu: more than the expected %u chunks",
             (unsigned long long)instance, chunks);
    }
    return OK;
}

enum err weights_drop_some(struct txn *txn, uint64_t instance, size_t chunk_count_max,
                           size_t *dropped_out)
{
    struct kv_key prefix = {0};
    struct key_name name, left;
    *dropped_out = 0;
    kv_key_u64(&prefix, instance);
    const enum err err = instance_name(txn, instance, &name);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    TRY(kv_drop_prefix(&txn->kv, KV_WEIGHTS, kv_key_span(&prefix), chunk_count_max, dropped_out));
    const enum err more = instance_name(txn, instance, &left);
    return more == ERR_NOT_FOUND ? doom_put(txn, &name) : more;
}

enum err weights_drop(struct txn *txn, uint64_t instance)
{
    size_t dropped;
    return weights_drop_some(txn, instance, SIZE_MAX, &dropped);
}
