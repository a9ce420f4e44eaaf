// scheduler/trie.c: see trie.h.
#include "scheduler/trie.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static int32_t child_of(const struct trie *trie, int32_t parent, uint16_t slice)
{
    const int32_t root = trie->count > 0 ? 0 : -1;
    int32_t at = parent < 0 ? root : trie->nodes[parent].child;
    while (at >= 0 && trie->nodes[at].slice != slice) {
        at = trie->nodes[at].sibling;
    }
    return at;
}

static int32_t add_node(struct trie *trie, struct trie_node node)
{
    const int32_t at = (int32_t)trie->count++;
    node.child = -1;
    node.sibling = -1;
    if (node.parent >= 0) {
        node.sibling = trie->nodes[node.parent].child;
        trie->nodes[node.parent].child = at;
    } else if (at > 0) {
        node.sibling = trie->nodes[0].sibling;
        trie->nodes[0].sibling = at;
    }
    trie->nodes[at] = node;
    return at;
}

void trie_init(struct trie *trie, uint32_t slices, uint32_t slice_count, uint32_t sequences,
               const uint16_t *orders)
{
    CHECK(slices > 0 && slice_count >= slices && slice_count <= LIMIT_SLICES && sequences > 0);
    *trie = (struct trie){
        .nodes = mem_alloc((size_t)sequences * slice_count, sizeof *trie->nodes),
        .slices = slices,
        .slice_count = slice_count,
        .sequences = sequences,
        .orders = mem_alloc((size_t)sequences * slices, sizeof *trie->orders),
    };
    memcpy(trie->orders, orders, (size_t)sequences * slices * sizeof *orders);
    for (uint32_t b = 0; b < sequences; b++) {
        int32_t at = -1;
        for (uint32_t i = 0; i < slice_count; i++) {
            const uint16_t slice = i < slices ? orders[(size_t)b * slices + i] : (uint16_t)i;
            int32_t child = child_of(trie, at, slice);
            if (child < 0) {
                child = add_node(trie, (struct trie_node){.parent = at,
                                                          .slice = slice,
                                                          .depth = (uint16_t)(i + 1),
                                                          .sequence = b});
            }
            at = child;
        }
    }
}

void trie_deinit(struct trie *trie)
{
    mem_free(trie->nodes);
    mem_free(trie->orders);
    *trie = (struct trie){0};
}

void trie_name(const struct trie *trie, uint32_t shard, uint32_t node, struct component *name_out)
{
    CHECK(node < trie->count);
    *name_out = (struct component){.shard = shard, .count = trie->nodes[node].depth};
    for (int32_t at = (int32_t)node; at >= 0; at = trie->nodes[at].parent) {
        name_out->list[trie->nodes[at].depth - 1] = trie->nodes[at].slice;
    }
}

int32_t trie_find(const struct trie *trie, const struct component *name)
{
    int32_t at = -1;
    for (uint32_t i = 0; i < name->count; i++) {
        at = child_of(trie, at, name->list[i]);
        if (at < 0) {
            return -1;
        }
    }
    return at;
}

uint32_t trie_passes(bool each, uint32_t epochs, uint32_t slices, uint32_t depth)
{
    CHECK(depth > 0 && slices > 0);
    if (each) {
        return epochs;
    }
    const uint64_t i = depth < slices ? depth : slices;
    const uint64_t upto = 2 * (uint64_t)epochs * i / (slices + 1);
    const uint64_t before = 2 * (uint64_t)epochs * (i - 1) / (slices + 1);
    return upto > before ? (uint32_t)(upto - before) : 1;
}
