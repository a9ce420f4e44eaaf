// scheduler/locality.c: see locality.h.
#include "scheduler/locality.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

void locality_deinit(struct locality *locality)
{
    mem_free(locality->copies);
    *locality = (struct locality){0};
}

static int order(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare(const struct copy *a, const struct copy *b)
{
    int by = order(a->model, b->model);
    by = by != 0 ? by : order(a->shard, b->shard);
    by = by != 0 ? by : order(a->instance, b->instance);
    return by != 0 || a->instance != 0 ? by : order(a->slice, b->slice);
}

// The first one that is not before it; `count` where there is none.
static uint32_t place_of(const struct locality *locality, const struct copy *copy)
{
    uint32_t from = 0, to = locality->count;
    while (from < to) {
        const uint32_t middle = from + (to - from) / 2;
        if (compare(&locality->copies[middle], copy) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static struct copy *find(const struct locality *locality, const struct copy *copy)
{
    const uint32_t at = place_of(locality, copy);
    return at < locality->count && compare(&locality->copies[at], copy) == 0 ? &locality->copies[at]
                                                                             : NULL;
}

static void set_bytes(struct locality *locality, struct copy *copy, uint64_t bytes)
{
    locality->bytes = locality->bytes - copy->bytes + bytes;
    copy->bytes = bytes;
}

void locality_add(struct locality *locality, const struct copy *copy)
{
    struct copy *const there = find(locality, copy);
    if (there != NULL) {
        there->stamp = copy->stamp;
        there->node = copy->node;
        set_bytes(locality, there, copy->bytes != 0 ? copy->bytes : there->bytes);
        return;
    }
    if (locality->count == locality->capacity) {
        locality->capacity = locality->capacity == 0 ? 16 : 2 * locality->capacity;
        locality->copies =
            mem_resize(locality->copies, locality->capacity, sizeof *locality->copies);
    }
    const uint32_t at = place_of(locality, copy);
    memmove(&locality->copies[at + 1], &locality->copies[at],
            (locality->count - at) * sizeof *copy);
    locality->copies[at] = *copy;
    locality->count++;
    locality->bytes += copy->bytes;
}

uint32_t locality_remove(struct locality *locality,
                         bool (*goes)(void *context, const struct copy *copy), void *context)
{
    const uint32_t before = locality->count;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < before; i++) {
        const struct copy copy = locality->copies[i];
        if (goes(context, &copy)) {
            locality->bytes -= copy.bytes;
        } else {
            locality->copies[kept++] = copy;
        }
    }
    locality->count = kept;
    return before - kept;
}

struct report {
    uint64_t stamp;
    const bool *named; // Of each copy, whether the rank named it.
    uint32_t at;
};

static bool not_named(void *context, const struct copy *copy)
{
    struct report *const report = context;
    const bool named = report->named[report->at++];
    return !named && copy->stamp <= report->stamp;
}

void locality_reported(struct locality *locality, uint64_t stamp, const struct copy *held,
                       uint32_t held_count)
{
    bool *const named = mem_alloc(locality->count, sizeof *named);
    for (uint32_t i = 0; i < held_count; i++) {
        struct copy *const there = find(locality, &held[i]);
        if (there != NULL) {
            named[there - locality->copies] = true;
            if (held[i].bytes != 0) {
                set_bytes(locality, there, held[i].bytes);
            }
        }
    }
    struct report report = {.stamp = stamp, .named = named};
    (void)locality_remove(locality, not_named, &report);
    mem_free(named);
}

static bool is_needed(const struct stage_needs *needs, const struct copy *copy)
{
    if (copy->instance != 0) {
        return copy->instance == needs->parent_instance;
    }
    for (uint32_t i = 0; i < needs->list_count; i++) {
        if (needs->list[i] == copy->slice) {
            return true;
        }
    }
    return false;
}

uint64_t locality_bytes(const struct locality *locality, const struct stage_needs *needs)
{
    const struct copy first = {.model = needs->model, .shard = needs->shard};
    uint64_t bytes = 0;
    for (uint32_t i = place_of(locality, &first); i < locality->count; i++) {
        const struct copy *const copy = &locality->copies[i];
        if (copy->model != needs->model || copy->shard != needs->shard) {
            break;
        }
        bytes += is_needed(needs, copy) ? copy->bytes : 0;
    }
    return bytes;
}

uint32_t locality_choose(const uint64_t *bytes, uint32_t count)
{
    CHECK(count > 0);
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        best = bytes[i] > bytes[best] ? i : best;
    }
    return best;
}
