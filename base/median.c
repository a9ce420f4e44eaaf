// base/median.c: see median.h.
#include "base/median.h"

#include "base/mem.h"

enum { DIGIT_BITS = 16, DIGITS = 1 << DIGIT_BITS, PASSES = 3 };

void median_add(struct median *median, uint64_t number)
{
    number = number < MEDIAN_MAX ? number : MEDIAN_MAX;
    const uint32_t below = DIGIT_BITS * (PASSES - 1 - median->passes); // Bits below the digit.
    median->count += median->passes == 0;
    for (int i = 0; i < 2; i++) {
        if (median->counts[i] == NULL) {
            median->counts[i] = mem_alloc(DIGITS, sizeof *median->counts[i]);
        }
        if (number >> below >> DIGIT_BITS == median->begin[i]) {
            median->counts[i][(number >> below) % DIGITS]++;
        }
    }
}

// The digit of the number that has `rank` before it.
static void narrow(struct median *median, int i)
{
    uint32_t digit = 0;
    while (digit < DIGITS - 1 && median->counts[i][digit] <= median->rank[i]) {
        median->rank[i] -= median->counts[i][digit++];
    }
    median->begin[i] = median->begin[i] << DIGIT_BITS | digit;
    for (uint32_t j = 0; j < DIGITS; j++) {
        median->counts[i][j] = 0;
    }
}

bool median_again(struct median *median)
{
    if (median->count == 0 || median->passes == PASSES) {
        return false;
    }
    if (median->passes == 0) {
        median->rank[0] = (median->count - 1) / 2;
        median->rank[1] = median->count / 2;
    }
    for (int i = 0; i < 2; i++) {
        narrow(median, i);
    }
    return ++median->passes < PASSES;
}

double median_value(const struct median *median)
{
    return ((double)median->begin[0] + (double)median->begin[1]) / 2;
}

void median_deinit(struct median *median)
{
    mem_free(median->counts[0]);
    mem_free(median->counts[1]);
    *median = (struct median){0};
}
