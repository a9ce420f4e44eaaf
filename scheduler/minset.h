// scheduler/minset.h: a set of whole numbers below a bound that finds its least member at once.
//
// A bitmap, and above each 64 words of it one word that says which of them are not zero, and so on:
// every operation looks at one word of each level, four for a million numbers.
//
// Lifetime  minset_init to minset_deinit. Threads  One at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { MINSET_LEVELS = 6 }; // 64^6 > 2^32

struct minset {
    uint32_t bound;
    uint32_t count; // Members.
    uint32_t levels;
    uint64_t *words[MINSET_LEVELS]; // Owned.
};

void minset_init(struct minset *set, uint32_t bound); // Empty; bound >= 1.
void minset_deinit(struct minset *set);

bool minset_has(const struct minset *set, uint32_t member);
void minset_add(struct minset *set, uint32_t member);    // One that is not there.
void minset_remove(struct minset *set, uint32_t member); // One that is there.
// The least member that is at least `from` (0 .. bound); bound: there is none.
uint32_t minset_from(const struct minset *set, uint32_t from);
