// scheduler/simspread.h: how numbers are spread: count, mean, greatest, quantiles, in bounded memory.
//
// A quantile is told to within 1/128 of itself, never below it.
//
// Lifetime  spread_init to spread_deinit. Threads  One at a time.
// Source    Buckets as in HdrHistogram (Tene).
#pragma once

#include <stdint.h>

struct spread {
    uint64_t count, greatest;
    double sum;
    uint64_t *buckets; // Owned.
};

void spread_init(struct spread *spread);
void spread_deinit(struct spread *spread);
void spread_add(struct spread *spread, uint64_t number);
double spread_mean(const struct spread *spread); // 0 of none.
// The least number that is no less than `permille` thousandths (1 .. 1000) of all of them; 0 of none.
uint64_t spread_quantile(const struct spread *spread, uint32_t permille);
