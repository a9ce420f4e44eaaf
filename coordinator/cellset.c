// coordinator/cellset.c: see cellset.h.
#include "coordinator/cellset.h"

#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

enum { CELL_STRIDE = 256 };
_Static_assert((int)LIMIT_SLICES <= (int)CELL_STRIDE, "a slice fits its place");

struct cellset_model {
    uint32_t model;
    uint8_t *bits; // Owned. Number shard * CELL_STRIDE + slice.
    size_t bytes;
};

static size_t number_of(struct cell cell)
{
    return (size_t)cell.shard * CELL_STRIDE + cell.slice;
}

static uint32_t find(const struct cellset *set, uint32_t model)
{
    uint32_t at = 0;
    while (at < set->count && set->models[at].model != model) {
        at++;
    }
    return at;
}

void cellset_deinit(struct cellset *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        mem_free(set->models[i].bits);
    }
    mem_free(set->models);
    *set = (struct cellset){0};
}

void cellset_add(struct cellset *set, uint32_t model, struct cell cell)
{
    const size_t number = number_of(cell);
    const uint32_t at = find(set, model);
    if (at == set->count) {
        set->models = mem_resize(set->models, ++set->count, sizeof *set->models);
        set->models[at] = (struct cellset_model){.model = model};
    }
    struct cellset_model *const in = &set->models[at];
    if (number / 8 >= in->bytes) {
        const size_t bytes = ((size_t)cell.shard + 1) * CELL_STRIDE / 8;
        in->bits = mem_resize(in->bits, bytes, 1);
        memset(in->bits + in->bytes, 0, bytes - in->bytes);
        in->bytes = bytes;
    }
    in->bits[number / 8] |= (uint8_t)(1u << number % 8);
}

bool cellset_has(const struct cellset *set, uint32_t model, struct cell cell)
{
    const size_t number = number_of(cell);
    const uint32_t at = find(set, model);
    return at < set->count && number / 8 < set->models[at].bytes &&
           (set->models[at].bits[number / 8] >> number % 8 & 1) != 0;
}
