// scheduler/rate.c: see rate.h. Second s lies at place s mod RATE_SECONDS; a place is emptied when its
// next second begins, so what is there is never older than a minute before `second`.
#include "scheduler/rate.h"

#include <string.h>

// Makes `now_ms` the second that runs; its place.
static uint64_t *place(uint64_t *seconds, int64_t *second, int64_t now_ms)
{
    const int64_t now = now_ms / 1000 > *second ? now_ms / 1000 : *second;
    if (now - *second >= RATE_SECONDS) {
        memset(seconds, 0, RATE_SECONDS * sizeof *seconds);
        *second = now;
    }
    while (*second < now) {
        seconds[++*second % RATE_SECONDS] = 0;
    }
    return &seconds[now % RATE_SECONDS];
}

// The oldest second that belongs to the minute before `now_ms`.
static int64_t oldest(int64_t second, int64_t now_ms)
{
    const int64_t now = now_ms / 1000 > second ? now_ms / 1000 : second;
    return now < RATE_SECONDS ? 0 : now - RATE_SECONDS + 1;
}

void rate_add(struct rate *rate, int64_t now_ms, uint64_t amount)
{
    *place(rate->seconds, &rate->second, now_ms) += amount;
    rate->total += amount;
}

uint64_t rate_minute(const struct rate *rate, int64_t now_ms)
{
    uint64_t sum = 0;
    for (int64_t s = oldest(rate->second, now_ms); s <= rate->second; s++) {
        sum += rate->seconds[s % RATE_SECONDS];
    }
    return sum;
}

void peak_add(struct peak *peak, int64_t now_ms, uint64_t value)
{
    uint64_t *const at = place(peak->seconds, &peak->second, now_ms);
    *at = value > *at ? value : *at;
    peak->greatest = value > peak->greatest ? value : peak->greatest;
}

uint64_t peak_minute(const struct peak *peak, int64_t now_ms)
{
    uint64_t greatest = 0;
    for (int64_t s = oldest(peak->second, now_ms); s <= peak->second; s++) {
        const uint64_t value = peak->seconds[s % RATE_SECONDS];
        greatest = value > greatest ? value : greatest;
    }
    return greatest;
}
