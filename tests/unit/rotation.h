// tests/unit/rotation.h: tries and ensembles of rotated orders, the simplest ones.
#pragma once

#include "base/mem.h"
#include "scheduler/ensemble.h"
#include "scheduler/sequence.h"

static inline void rotation_trie(struct trie *trie, uint32_t slices, uint32_t slice_count,
                                 uint32_t sequences)
{
    uint16_t *const orders = mem_alloc((size_t)sequences * slices, sizeof *orders);
    sequence_rotation(slices, sequences, orders);
    trie_init(trie, slices, slice_count, sequences, orders);
    mem_free(orders);
}

static inline void rotation_ensemble(struct ensemble *ensemble, const struct placement *placement,
                                     uint32_t generations, uint32_t sequences, bool passes_each,
                                     uint32_t epochs)
{
    uint16_t *const orders = mem_alloc((size_t)sequences * placement->slices, sizeof *orders);
    sequence_rotation(placement->slices, sequences, orders);
    ensemble_init(ensemble, placement, generations, sequences, orders, passes_each, epochs);
    mem_free(orders);
}
