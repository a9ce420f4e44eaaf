// scheduler/trie.h: the orders in which a shard's slices are trained, and the components they give.
//
// A model has B sequences, the same in every shard; sequences that begin alike share components, so
// the components of a shard are the nodes of a trie. With B = 1 it is a chain: plain SISA.
//
// Which sequences, scheduler/sequence.h makes. Appended slices stand at the end of each, in order.
//
// Lifetime  trie_init to trie_deinit. Threads  Constant after trie_init: any may read.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/component.h"
#include "base/err.h"

struct trie_node {
    int32_t parent;    // Index of a node, smaller than this one's; -1: a first stage.
    uint16_t slice;    // The last slice of the list.
    uint16_t depth;    // Entries of the list, 1 ..
    uint32_t sequence; // The first sequence that passes through.
    int32_t child;     // Some child, or -1.
    int32_t sibling;   // Another node of the same parent, or -1: the roots hang on node 0.
};

struct trie {
    struct trie_node *nodes; // Owned; parents before children; of one depth, by sequence.
    uint32_t count;
    uint32_t slices;      // L
    uint32_t slice_count; // L and the appended ones.
    uint32_t sequences;   // B
    uint16_t *orders;     // [sequences][slices]. Owned.
};

// slices = L, 1 .. LIMIT_SLICES; slice_count >= slices; sequences >= 1; orders[sequences][slices] are
// permutations of 0 .. L-1 (scheduler/sequence.h), copied.
void trie_init(struct trie *trie, uint32_t slices, uint32_t slice_count, uint32_t sequences,
               const uint16_t *orders);
void trie_deinit(struct trie *trie);

// The name of node `node` in shard `shard`.
void trie_name(const struct trie *trie, uint32_t shard, uint32_t node, struct component *name_out);
// The node of a list, or -1.
int32_t trie_find(const struct trie *trie, const struct component *name);

// Passes of the stage at `depth` (1 ..): with `each`, e0 in every stage; else for i <= L
//   e_i = max(1, floor(2 e0 i / (L+1)) - floor(2 e0 (i-1) / (L+1)));
// stages of appended slices use e_L. Source: Bourtoule et al., IEEE S&P 2021, equation 1.
uint32_t trie_passes(bool each, uint32_t epochs, uint32_t slices, uint32_t depth);
