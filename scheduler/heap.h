// scheduler/heap.h: numbers below a bound, each with a key: the one with the least key at once.
//
// A binary heap that knows where each number stands, so that any can be taken out. Among equal keys
// the lower number comes first, so the order depends on what is there alone, not on how it came.
//
// Lifetime  heap_init to heap_deinit. Threads  One at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct heap {
    uint32_t bound;
    uint32_t count;    // Members.
    uint32_t *members; // [bound] The first `count`: the heap. Owned.
    uint32_t *places;  // [bound] Of a member: its index in `members`, plus 1; 0: not there. Owned.
    int64_t *keys;     // [bound] Of a member. Owned.
};

void heap_init(struct heap *heap, uint32_t bound); // Empty; bound >= 1.
void heap_deinit(struct heap *heap);

bool heap_has(const struct heap *heap, uint32_t member);
void heap_add(struct heap *heap, uint32_t member, int64_t key); // One that is not there.
void heap_remove(struct heap *heap, uint32_t member);           // One that is there.
// The member with the least (key, number). False: it is empty.
bool heap_least(const struct heap *heap, uint32_t *member_out, int64_t *key_out);
