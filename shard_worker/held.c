// shard_worker/held.c: see held.h.
#include "shard_worker/held.h"

#include "base/mem.h"
#include "proto/wire.h"
#include "shard_worker/inputs.h"
#include "shard_worker/lease.h"

enum { COPIES_MAX = LIMIT_COPIES + HELD_LEASES * (LIMIT_SLICES + 1) };

struct copies {
    Unlearn__Copy rows[COPIES_MAX];
    Unlearn__Copy *pointers[COPIES_MAX];
    size_t count;
};

static void add(struct copies *copies, const struct kept_name *name, uint64_t bytes)
{
    Unlearn__Copy *const copy = &copies->rows[copies->count];
    unlearn__copy__init(copy);
    copy->model = name->model;
    copy->shard = name->shard;
    copy->slice = name->slice;
    copy->instance = name->instance;
    copy->bytes = bytes;
    copies->pointers[copies->count++] = copy;
}

static void add_inputs(struct copies *copies, const struct inputs *inputs)
{
    for (uint32_t i = 0; i < inputs->count; i++) {
        add(copies, &inputs->names[i], 0);
    }
    if (inputs->parent_name.instance != 0) {
        add(copies, &inputs->parent_name, 0);
    }
}

void held_put(const struct cache *cache, const struct lease *const leases[static HELD_LEASES],
              uint64_t stamp, struct buf *frame_out)
{
    struct copies *const copies = mem_alloc(1, sizeof *copies);
    for (uint32_t i = 0; i < cache->count; i++) {
        add(copies, &cache->entries[i]->name, cache->entries[i]->bytes);
    }
    for (uint32_t i = 0; i < HELD_LEASES; i++) {
        if (leases[i] != NULL) {
            add_inputs(copies, lease_inputs(leases[i]));
        }
    }
    Unlearn__Held held = UNLEARN__HELD__INIT;
    held.stamp = stamp;
    held.copies = copies->pointers;
    held.n_copies = copies->count;
    held.bytes = cache->bytes;
    held.limit_bytes = cache->bytes_max;
    held.found_bytes = cache->found_bytes;
    held.pulled_bytes = cache->pulled_bytes;
    Unlearn__FromWorker message = UNLEARN__FROM_WORKER__INIT;
    message.version = WIRE_VERSION;
    message.body_case = UNLEARN__FROM_WORKER__BODY_HELD;
    message.held = &held;
    wire_put(&message.base, frame_out);
    mem_free(copies);
}
