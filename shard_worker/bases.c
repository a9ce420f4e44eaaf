// shard_worker/bases.c: see bases.h.
#include "shard_worker/bases.h"

#include <string.h>

// Puts the one at `index` first.
static void move_first(struct bases *bases, uint32_t index)
{
    struct base *const base = bases->kept[index];
    memmove(&bases->kept[1], &bases->kept[0], index * sizeof bases->kept[0]);
    bases->kept[0] = base;
}

struct base *bases_find(struct bases *bases, const struct digest *digest)
{
    for (uint32_t i = 0; i < bases->count; i++) {
        if (memcmp(&bases->kept[i]->digest, digest, sizeof *digest) == 0) {
            move_first(bases, i);
            return base_hold(bases->kept[0]);
        }
    }
    return NULL;
}

static uint64_t bytes_of(const struct bases *bases)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < bases->count; i++) {
        bytes += bases->kept[i]->weight_count * sizeof(float);
    }
    return bytes;
}

void bases_keep(struct bases *bases, struct base *base)
{
    struct base *const same = bases_find(bases, &base->digest);
    base_release(same);
    if (same != NULL) {
        return;
    }
    if (bases->count == BASES_KEPT_MAX) {
        base_release(bases->kept[--bases->count]);
    }
    bases->kept[bases->count] = base_hold(base);
    move_first(bases, bases->count++);
    while (bases->count > 1 && bytes_of(bases) > bases->bytes_max) {
        base_release(bases->kept[--bases->count]);
    }
}

void bases_deinit(struct bases *bases)
{
    while (bases->count > 0) {
        base_release(bases->kept[--bases->count]);
    }
}
