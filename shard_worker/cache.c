// shard_worker/cache.c: see cache.h.
#include "shard_worker/cache.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static struct kept *new_kept(const struct kept_name *name)
{
    struct kept *const kept = mem_alloc(1, sizeof *kept);
    kept->name = *name;
    kept->references = 1;
    return kept;
}

struct kept *kept_cell(const struct kept_name *name)
{
    CHECK(name->instance == 0);
    return new_kept(name);
}

enum err kept_add(struct kept *cell, struct span records, uint32_t count)
{
    struct block block = {.bytes = records.bytes, .count = count};
    TRY(mem_try_aligned(records.bytes, 1, &block.data));
    memcpy(block.data, records.data, records.bytes);
    cell->blocks = mem_resize(cell->blocks, cell->block_count + 1, sizeof block);
    cell->blocks[cell->block_count++] = block;
    cell->records += count;
    cell->bytes += records.bytes;
    return OK;
}

struct kept *kept_weights(const struct kept_name *name, float *params, uint64_t param_count)
{
    struct kept *const kept = new_kept(name);
    kept->params = params;
    kept->param_count = param_count;
    kept->bytes = param_count * sizeof *params;
    return kept;
}

struct kept *kept_hold(struct kept *kept)
{
    kept->references++;
    return kept;
}

// The one place where records and weights are given back.
void kept_release(struct kept *kept)
{
    if (kept == NULL || --kept->references > 0) {
        return;
    }
    for (size_t i = 0; i < kept->block_count; i++) {
        mem_free(kept->blocks[i].data);
    }
    mem_free(kept->blocks);
    mem_free(kept->params);
    mem_free(kept);
}

bool kept_same(const struct kept_name *a, const struct kept_name *b)
{
    return a->instance == b->instance &&
           (a->instance != 0 ||
            (a->model == b->model && a->shard == b->shard && a->slice == b->slice));
}

static void give_up(struct cache *cache, uint32_t index)
{
    struct kept *const kept = cache->entries[index];
    cache->count--;
    memmove(&cache->entries[index], &cache->entries[index + 1],
            (cache->count - index) * sizeof(struct kept *));
    cache->bytes -= kept->bytes;
    kept_release(kept);
}

struct kept *cache_find(struct cache *cache, const struct kept_name *name)
{
    for (uint32_t i = 0; i < cache->count; i++) {
        struct kept *const kept = cache->entries[i];
        if (kept_same(&kept->name, name) && kept->name.version == name->version) {
            memmove(&cache->entries[1], &cache->entries[0], i * sizeof(struct kept *));
            cache->entries[0] = kept;
            cache->found_bytes += kept->bytes;
            return kept_hold(kept);
        }
    }
    return NULL;
}

void cache_keep(struct cache *cache, struct kept *kept)
{
    cache_forget(cache, &kept->name);
    if (kept->bytes > cache->bytes_max) {
        return;
    }
    while (cache->count == LIMIT_COPIES || cache->bytes_max - cache->bytes < kept->bytes) {
        give_up(cache, cache->count - 1);
    }
    memmove(&cache->entries[1], &cache->entries[0], cache->count * sizeof(struct kept *));
    cache->entries[0] = kept_hold(kept);
    cache->count++;
    cache->bytes += kept->bytes;
}

void cache_forget(struct cache *cache, const struct kept_name *name)
{
    for (uint32_t i = cache->count; i > 0; i--) {
        if (kept_same(&cache->entries[i - 1]->name, name)) {
            give_up(cache, i - 1);
        }
    }
}

void cache_clear(struct cache *cache)
{
    while (cache->count > 0) {
        give_up(cache, cache->count - 1);
    }
}
