// base/median.h: the exact median of numbers that are shown one by one, and more than once.
//
// Memory does not depend on how many there are: each time, counts of 16 bits of them say in which part
// of the numbers the middle lies. So the caller shows the same numbers, in any order, until
// median_again says that it is enough: three times, or not again when there are none.
//
//   struct median median = {0};
//   do {
//       for (...) median_add(&median, number);
//   } while (median_again(&median));
//   use(median_value(&median));
//   median_deinit(&median);
//
// Numbers above MEDIAN_MAX count as that. Where it is shown other numbers the second time, the value is
// some number, and nothing worse.
//
// Lifetime  {0} is ready. median_deinit frees. Threads  One at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MEDIAN_MAX ((UINT64_C(1) << 48) - 1) // Microseconds: almost nine years.

struct median {
    uint64_t count; // Of the numbers that were shown, each once.
    uint32_t passes;
    // The two in the middle, which may be one: how many come before it among those that begin as it
    // does, and the bits that it begins with.
    uint64_t rank[2], begin[2];
    uint64_t *counts[2]; // Of the next 16 bits. Owned.
};

void median_add(struct median *median, uint64_t number);
bool median_again(struct median *median);         // All were shown. True: show them once more.
double median_value(const struct median *median); // Of an even count between the two; of none 0.
void median_deinit(struct median *median);
