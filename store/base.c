// store/base.c: see base.h.
//
//   base  key    base u32
//         value  name u16 text | state u8 | instance u64 | weight_count u64 | dataset u32 |
//                created_us i64 | retired_us i64 | digest [32] | spec [32] | shape u16 text
//
// The weights lie in the table `weights` under the instance, as a component's do (component.c).
#include "store/base.h"

#include <string.h>

#include "base/check.h"
#include "store/component.h"
#include "store/private.h"

void base_row_deinit(struct base_row *row)
{
    buf_deinit(&row->shape);
    *row = (struct base_row){0};
}

static struct kv_key key_of(uint32_t number)
{
    struct kv_key key = {0};
    kv_key_u32(&key, number);
    return key;
}

static enum err row_put(struct txn *txn, const struct base_row *row)
{
    CHECK(row->shape.bytes <= LIMIT_BASE_SHAPE_BYTES);
    const struct kv_key key = key_of(row->number);
    struct buf buf = {0};
    buf_short_text(&buf, row->name);
    buf_u8(&buf, (uint8_t)row->state);
    buf_u64(&buf, row->instance);
    buf_u64(&buf, row->weight_count);
    buf_u32(&buf, row->dataset);
    buf_u64(&buf, (uint64_t)row->created_us);
    buf_u64(&buf, (uint64_t)row->retired_us);
    buf_put(&buf, span_of(row->digest.bytes, DIGEST_BYTES));
    buf_put(&buf, span_of(row->spec.bytes, DIGEST_BYTES));
    buf_u16(&buf, (uint16_t)row->shape.bytes);
    buf_put(&buf, buf_span(&row->shape));
    const enum err err = value_put(txn, KV_BASE, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err row_of(struct span key, struct span value, struct base_row *row_out)
{
    *row_out = (struct base_row){0};
    if (key.bytes != 4) {
        FAIL(ERR_CORRUPT, "table base: a key of %zu bytes, expected 4", key.bytes);
    }
    row_out->number = be_get32(key.data);
    struct cursor cursor = cursor_of(value);
    cursor_short_text(&cursor, row_out->name, sizeof row_out->name);
    const uint8_t state = cursor_u8(&cursor);
    row_out->instance = cursor_u64(&cursor);
    row_out->weight_count = cursor_u64(&cursor);
    row_out->dataset = cursor_u32(&cursor);
    row_out->created_us = (int64_t)cursor_u64(&cursor);
    row_out->retired_us = (int64_t)cursor_u64(&cursor);
    const struct span digest = cursor_take(&cursor, DIGEST_BYTES);
    const struct span spec = cursor_take(&cursor, DIGEST_BYTES);
    const struct span shape = cursor_take(&cursor, cursor_u16(&cursor));
    TRY_AS(cursor_done(&cursor, "a base"), "%s", kv_label_of(KV_BASE, key).text);
    if (state < BASE_STAGED || state > BASE_GIVEN_UP) {
        FAIL(ERR_CORRUPT, "%s: state %u, expected %d to %d", kv_label_of(KV_BASE, key).text, state,
             (int)BASE_STAGED, (int)BASE_GIVEN_UP);
    }
    row_out->state = (enum base_state)state;
    memcpy(row_out->digest.bytes, digest.data, DIGEST_BYTES);
    memcpy(row_out->spec.bytes, spec.data, DIGEST_BYTES);
    buf_put(&row_out->shape, shape);
    return OK;
}

enum err base_row_get(struct txn *txn, uint32_t number, struct base_row *row_out)
{
    *row_out = (struct base_row){0};
    const struct kv_key key = key_of(number);
    struct span value;
    const enum err err = value_get(txn, KV_BASE, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no base number %u", number);
    }
    TRY(err);
    return row_of(kv_key_span(&key), value, row_out);
}

static enum err each_in(struct txn *txn, struct kv_cursor *cursor,
                        enum err (*each)(void *context, const struct base_row *row), void *context)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct base_row row;
        TRY(value_of(txn, KV_BASE, key, cursor->value, &value));
        TRY(row_of(key, value, &row));
        const enum err err = each(context, &row);
        base_row_deinit(&row);
        TRY(err);
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err base_row_each(struct txn *txn, enum err (*each)(void *context, const struct base_row *row),
                       void *context)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_BASE, &cursor));
    const enum err err = each_in(txn, &cursor, each, context);
    kv_cursor_close(&cursor);
    return err;
}

// --- From staged to retired ---

struct naming {
    const char *name;
    uint32_t count;
};

static enum err check_name(void *context, const struct base_row *row)
{
    struct naming *const naming = context;
    if (row->state != BASE_GIVEN_UP && ++naming->count >= LIMIT_BASES) {
        FAIL(ERR_LIMIT, "there are %u bases already, which is the limit", naming->count);
    }
    if (row->state == BASE_GIVEN_UP || strcmp(row->name, naming->name) != 0) {
        return OK;
    }
    FAIL(ERR_CONFLICT,
         row->state == BASE_STAGED  ? "base \"%s\" is being imported already"
         : row->state == BASE_VALID ? "there is a base \"%s\" already"
                                    : "base \"%s\" was retired, and its name stands "
                                      "for it for ever: choose another",
         naming->name);
}

enum err base_name_free(struct txn *txn, const char *name)
{
    struct naming naming = {.name = name};
    return base_row_each(txn, check_name, &naming);
}

enum err base_stage(struct txn *txn, struct base_row *row)
{
    uint64_t number = 0;
    TRY(base_name_free(txn, row->name));
    TRY(counter_next(txn, COUNTER_BASE, &number));
    TRY(counter_next(txn, COUNTER_INSTANCE, &row->instance));
    row->number = (uint32_t)number;
    row->state = BASE_STAGED;
    return row_put(txn, row);
}

// The row, if it is in the state `expected`; to be deinitialised in any case.
static enum err get_in_state(struct txn *txn, uint32_t number, enum base_state expected,
                             struct base_row *row_out)
{
    TRY(base_row_get(txn, number, row_out));
    if (row_out->state != expected) {
        FAIL(ERR_NOT_FOUND, "base number %u is not %s", number,
             expected == BASE_STAGED ? "being imported" : "in use");
    }
    return OK;
}

static enum err check_chunk(const struct base_row *row, uint32_t chunk, size_t bytes)
{
    const uint32_t count = weights_chunk_count(row->weight_count);
    if (chunk >= count) {
        FAIL(ERR_INVALID, "chunk %u of weights that have %u", chunk, count);
    }
    const size_t expected = weights_chunk_bytes(row->weight_count, chunk);
    if (bytes != expected) {
        FAIL(ERR_INVALID, "chunk %u of the weights has %zu bytes, expected %zu", chunk, bytes,
             expected);
    }
    return OK;
}

enum err base_stage_chunk(struct txn *txn, uint32_t number, uint32_t chunk, struct span bytes)
{
    struct base_row row;
    enum err err = get_in_state(txn, number, BASE_STAGED, &row);
    err = err != OK ? err : check_chunk(&row, chunk, bytes.bytes);
    err = err != OK ? err : weights_put_chunk(txn, row.instance, chunk, bytes);
    base_row_deinit(&row);
    return err;
}

static enum err commit_in(struct txn *txn, struct base_row *row, int64_t created_us)
{
    uint32_t missing;
    TRY(weights_count_missing(txn, row->instance, row->weight_count, &missing));
    if (missing > 0) {
        FAIL(ERR_CONFLICT, "%u of %u chunks of the weights are missing", missing,
             weights_chunk_count(row->weight_count));
    }
    row->state = BASE_VALID;
    row->created_us = created_us;
    return row_put(txn, row);
}

enum err base_commit(struct txn *txn, uint32_t number, int64_t created_us)
{
    struct base_row row;
    enum err err = get_in_state(txn, number, BASE_STAGED, &row);
    err = err != OK ? err : commit_in(txn, &row, created_us);
    base_row_deinit(&row);
    return err;
}

enum err base_give_up(struct txn *txn, uint32_t number)
{
    struct base_row row;
    enum err err = get_in_state(txn, number, BASE_STAGED, &row);
    if (err == OK) {
        row.state = BASE_GIVEN_UP;
        err = row_put(txn, &row);
    }
    base_row_deinit(&row);
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err base_retire(struct txn *txn, uint32_t number, int64_t retired_us)
{
    struct base_row row;
    enum err err = get_in_state(txn, number, BASE_VALID, &row);
    if (err == OK) {
        row.state = BASE_RETIRED;
        row.retired_us = retired_us;
        err = row_put(txn, &row);
    }
    base_row_deinit(&row);
    return err;
}

// --- Tidying ---

static enum err give_up_staged(void *context, const struct base_row *row)
{
    return row->state == BASE_STAGED ? base_give_up(context, row->number) : OK;
}

enum err base_load(struct txn *txn)
{
    return base_row_each(txn, give_up_staged, txn);
}

static enum err find_untidy(void *context, const struct base_row *row)
{
    struct base_row *const found = context;
    const bool untidy =
        row->state == BASE_GIVEN_UP || (row->state == BASE_RETIRED && row->instance != 0);
    if (found->number == 0 && untidy) {
        *found = *row;
        found->shape = (struct buf){0};
        buf_put(&found->shape, buf_span(&row->shape));
    }
    return OK;
}

// Its weights have gone: the row of one that was given up goes, too.
static enum err tidy_row(struct txn *txn, struct base_row *row)
{
    const struct kv_key key = key_of(row->number);
    row->instance = 0;
    return row->state == BASE_GIVEN_UP ? kv_drop(&txn->kv, KV_BASE, kv_key_span(&key))
                                       : row_put(txn, row);
}

enum err base_tidy(struct txn *txn, size_t chunk_count_max, bool *more_out)
{
    struct base_row row = {0};
    size_t dropped = 0;
    CHECK(chunk_count_max > 0);
    enum err err = base_row_each(txn, find_untidy, &row);
    *more_out = row.number != 0; // Perhaps more of this one, perhaps another.
    if (err == OK && *more_out) {
        err = weights_drop_some(txn, row.instance, chunk_count_max, &dropped);
    }
    if (err == OK && *more_out && dropped < chunk_count_max) {
        err = tidy_row(txn, &row);
    }
    base_row_deinit(&row);
    return err;
}

// --- Datasets ---

struct standing {
    uint32_t dataset;
    char name[LIMIT_NAME_BYTES + 1]; // Of the first base on it; "": none.
};

static enum err find_standing(void *context, const struct base_row *row)
{
    struct standing *const standing = context;
    if (row->state == BASE_VALID && row->dataset == standing->dataset &&
        standing->name[0] == '\0') {
        memcpy(standing->name, row->name, sizeof standing->name);
    }
    return OK;
}

enum err base_frees_dataset(struct txn *txn, uint32_t dataset)
{
    struct standing standing = {.dataset = dataset};
    TRY(base_row_each(txn, find_standing, &standing));
    if (standing.name[0] != '\0') {
        FAIL(ERR_CONFLICT,
             "base \"%s\" was pre-trained on this dataset, and what a base has learnt cannot be "
             "unlearnt: retire it first (unlearnctl base retire %s)",
             standing.name, standing.name);
    }
    return OK;
}
