// shard_worker/inputs.c: see inputs.h.
#include "shard_worker/inputs.h"

#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"

static struct kept *find(struct inputs *inputs, const struct kept_name *name)
{
    return inputs->cache == NULL ? NULL : cache_find(inputs->cache, name);
}

void inputs_whole(struct inputs *inputs, struct kept *kept)
{
    if (inputs->cache != NULL) {
        inputs->cache->pulled_bytes += kept->bytes;
        cache_keep(inputs->cache, kept);
    }
}

static bool skips(const struct inputs *inputs, uint32_t position)
{
    return (inputs->skips[position / 8] >> position % 8 & 1) != 0;
}

static void find_cell(struct inputs *inputs, uint32_t i)
{
    const struct kept_name *const name = &inputs->names[i];
    struct kept *cell = find(inputs, name);
    if (cell != NULL && cell->records != inputs->slice_records[i]) {
        // A bug: its version would be another one. Training on it would be worse than fetching it.
        log_error("cell_mismatch", "lease=%llu slice=%u", (unsigned long long)inputs->lease,
                  name->slice);
        cache_forget(inputs->cache, name);
        kept_release(cell);
        cell = NULL;
    }
    const bool whole = cell != NULL || inputs->slice_records[i] == 0;
    inputs->cells[i] = cell != NULL ? cell : kept_cell(name);
    inputs->records_wanted += whole ? 0 : inputs->slice_records[i];
    if (whole) {
        inputs->skips[i / 8] = (uint8_t)(inputs->skips[i / 8] | 1 << i % 8);
    }
}

static enum err find_parent(struct inputs *inputs, uint64_t param_count)
{
    const struct kept_name *const name = &inputs->parent_name;
    float *params = NULL;
    inputs->parent = name->instance == 0 ? NULL : find(inputs, name);
    inputs->parent_found = inputs->parent != NULL && inputs->parent->param_count == param_count;
    if (inputs->parent_found) {
        return OK;
    }
    kept_release(inputs->parent);
    inputs->parent = NULL;
    TRY(mem_try_aligned((size_t)param_count, sizeof *params, &params));
    inputs->parent = kept_weights(name, params, param_count);
    return OK;
}

enum err inputs_find(const Unlearn__Lease *offer, const struct component *component,
                     uint64_t parent_count, struct inputs *inputs)
{
    inputs->lease = offer->lease;
    inputs->count = component->count;
    for (uint32_t i = 0; i < inputs->count; i++) {
        inputs->names[i] = (struct kept_name){.model = offer->model_number,
                                              .shard = component->shard,
                                              .slice = component->list[i],
                                              .version = offer->cell_versions[i]};
        inputs->slice_records[i] = offer->slice_records[i];
        find_cell(inputs, i);
    }
    if (parent_count == 0) {
        return OK;
    }
    inputs->parent_name = (struct kept_name){.model = offer->model_number,
                                             .shard = component->shard,
                                             .instance = offer->parent_instance};
    return find_parent(inputs, parent_count);
}

struct span inputs_next_record(struct cursor *cursor, struct id128 *rid_out)
{
    const struct span rid = cursor_take(cursor, ID_BYTES);
    *rid_out = (struct id128){{0}};
    if (rid.bytes == ID_BYTES) {
        memcpy(rid_out->bytes, rid.data, ID_BYTES);
    }
    const uint32_t bytes = cursor_u32(cursor);
    return cursor_take(cursor, bytes);
}

static size_t bytes_of(struct span raw, uint32_t count)
{
    struct cursor cursor = cursor_of(raw);
    struct id128 rid;
    for (uint32_t i = 0; i < count; i++) {
        (void)inputs_next_record(&cursor, &rid);
    }
    return raw.bytes - cursor.left;
}

// A chunk ends where it is full, a cell where its records end.
enum err inputs_fill(struct inputs *inputs, uint32_t count, struct span raw)
{
    CHECK(count <= inputs->records_wanted - inputs->records_taken);
    inputs->records_taken += count;
    while (count > 0) {
        const uint32_t at = inputs->position;
        struct kept *const cell = inputs->cells[at];
        const uint64_t missing = skips(inputs, at) ? 0 : inputs->slice_records[at] - cell->records;
        const uint32_t some = missing < count ? (uint32_t)missing : count;
        if (some > 0) {
            const size_t bytes = bytes_of(raw, some);
            TRY(kept_add(cell, span_of(raw.data, bytes), some));
            raw = span_of((const uint8_t *)raw.data + bytes, raw.bytes - bytes);
            count -= some;
        }
        if (some == missing) {
            if (some > 0) {
                inputs_whole(inputs, cell);
            }
            inputs->position++;
        }
    }
    return OK;
}

void inputs_index(const struct inputs *inputs, struct span *rows, struct id128 *rids)
{
    size_t at = 0;
    for (uint32_t i = 0; i < inputs->count; i++) {
        const struct kept *const cell = inputs->cells[i];
        CHECK(cell->records == inputs->slice_records[i]);
        for (size_t j = 0; j < cell->block_count; j++) {
            const struct block *const block = &cell->blocks[j];
            struct cursor cursor = cursor_of(span_of(block->data, block->bytes));
            for (uint32_t k = 0; k < block->count; k++, at++) {
                rows[at] = inputs_next_record(&cursor, &rids[at]);
            }
            CHECK(!cursor.bad && cursor.left == 0);
        }
    }
}

void inputs_keep_result(struct inputs *inputs, uint64_t instance, float *params, uint64_t count)
{
    struct kept_name name = inputs->names[0];
    name.instance = instance;
    name.slice = 0;
    name.version = 0;
    struct kept *const result = kept_weights(&name, params, count);
    if (inputs->cache != NULL) {
        cache_keep(inputs->cache, result);
    }
    kept_release(result);
}

bool inputs_stand_on(const struct inputs *inputs, const struct kept_name *name)
{
    if (name->instance != 0) {
        return kept_same(&inputs->parent_name, name);
    }
    for (uint32_t i = 0; i < inputs->count; i++) {
        if (kept_same(&inputs->names[i], name)) {
            return true;
        }
    }
    return false;
}

void inputs_free(struct inputs *inputs)
{
    for (uint32_t i = 0; i < inputs->count; i++) {
        kept_release(inputs->cells[i]);
        inputs->cells[i] = NULL;
    }
    kept_release(inputs->parent);
    inputs->parent = NULL;
}
