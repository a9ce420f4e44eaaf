// scheduler/heap.c: see heap.h.
#include "scheduler/heap.h"

#include "base/check.h"
#include "base/mem.h"

void heap_init(struct heap *heap, uint32_t bound)
{
    CHECK(bound > 0);
    *heap = (struct heap){.bound = bound};
    heap->members = mem_alloc(bound, sizeof *heap->members);
    heap->places = mem_alloc(bound, sizeof *heap->places);
    heap->keys = mem_alloc(bound, sizeof *heap->keys);
}

void heap_deinit(struct heap *heap)
{
    mem_free(heap->members);
    mem_free(heap->places);
    mem_free(heap->keys);
    *heap = (struct heap){0};
}

bool heap_has(const struct heap *heap, uint32_t member)
{
    CHECK(member < heap->bound);
    return heap->places[member] != 0;
}

static bool is_less(const struct heap *heap, uint32_t a, uint32_t b)
{
    const int64_t a_key = heap->keys[a], b_key = heap->keys[b];
    return a_key != b_key ? a_key < b_key : a < b;
}

static void put(struct heap *heap, uint32_t at, uint32_t member)
{
    heap->members[at] = member;
    heap->places[member] = at + 1;
}

// Puts the member where it belongs, from the free place `at` towards the top.
static void rise(struct heap *heap, uint32_t at, uint32_t member)
{
    while (at > 0 && is_less(heap, member, heap->members[(at - 1) / 2])) {
        put(heap, at, heap->members[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(heap, at, member);
}

// The same from `at` towards the bottom, then up.
static void sink(struct heap *heap, uint32_t at, uint32_t member)
{
    for (;;) {
        uint64_t child = 2 * (uint64_t)at + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count &&
            is_less(heap, heap->members[child + 1], heap->members[child])) {
            child++;
        }
        if (!is_less(heap, heap->members[child], member)) {
            break;
        }
        put(heap, at, heap->members[child]);
        at = (uint32_t)child;
    }
    rise(heap, at, member);
}

void heap_add(struct heap *heap, uint32_t member, int64_t key)
{
    CHECK(!heap_has(heap, member));
    heap->keys[member] = key;
    rise(heap, heap->count++, member);
}

void heap_remove(struct heap *heap, uint32_t member)
{
    CHECK(heap_has(heap, member));
    const uint32_t at = heap->places[member] - 1;
    const uint32_t last = heap->members[--heap->count];
    heap->places[member] = 0;
    if (last != member) {
        sink(heap, at, last);
    }
}

bool heap_least(const struct heap *heap, uint32_t *member_out, int64_t *key_out)
{
    if (heap->count == 0) {
        return false;
    }
    *member_out = heap->members[0];
    *key_out = heap->keys[*member_out];
    return true;
}
