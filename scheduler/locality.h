// scheduler/locality.h: what a rank holds in memory, and which of the idle ranks a stage goes to.
//
// A locality says what a rank may hold: cells and weights. It is never less than what the rank holds, since
// what has to be forgotten there is found by it. So a copy is added before the message that lets the
// rank hold it is sent, under the message's stamp, which rises from message to message; the rank then
// tells from time to time all that it holds after the message of some stamp, and only what is not named
// and not of a later message goes.
//
// Choosing among ranks that are idle now never makes a stage wait: which stage is next is not decided
// here.
//
// Lifetime  {0} is ready; locality_deinit.
// Threads   One at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct copy { // A cell, in any version, or the weights of a component.
    uint32_t model, shard;
    uint32_t slice;    // Of a cell.
    uint64_t instance; // Of weights; 0: it is a cell.
    uint32_t node;     // Of weights: their component in the model's trie.
    uint64_t bytes;    // 0: not known.
    uint64_t stamp;    // Of the last message that let the rank hold it.
};

struct locality {
    struct copy *copies; // Sorted by model, shard, instance, slice. Owned.
    uint32_t count, capacity;
    uint64_t bytes; // Of all of them.
};

void locality_deinit(struct locality *locality);

// It may be held from now on. One that is there gets the stamp, and the bytes unless they are 0.
void locality_add(struct locality *locality, const struct copy *copy);

// What the rank says that it holds after the message `stamp`: of each, model, shard, instance or slice,
// and bytes. The same may be named more than once, with or without bytes. What is not there is ignored:
// it has been removed meanwhile, and the rank will be told so.
void locality_reported(struct locality *locality, uint64_t stamp, const struct copy *held,
                       uint32_t held_count);

// Removes those that `goes` says; how many.
uint32_t locality_remove(struct locality *locality,
                         bool (*goes)(void *context, const struct copy *copy), void *context);

// What a stage stands on.
struct stage_needs {
    uint32_t model, shard;
    const uint16_t *list; // [list_count] slices.
    uint32_t list_count;
    uint64_t parent_instance; // 0: none.
};

// Bytes of it that the rank holds.
uint64_t locality_bytes(const struct locality *locality, const struct stage_needs *needs);

// The index of the greatest, the first one of equals. count 1 ..
uint32_t locality_choose(const uint64_t *bytes, uint32_t count);
