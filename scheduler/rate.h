// scheduler/rate.h: how much came in the last minute, and the greatest value in it.
//
// A minute is cut into whole seconds of the clock that the caller tells: RATE_SECONDS of them are kept,
// the one that runs included. So what is said of the last minute is of the last 59 to 60 seconds.
//
// Lifetime  All zero is a counter that nothing came to. Nothing is allocated.
// Threads   One at a time.
// Time      Milliseconds, at least 0. A time before one that was told counts as that one.
#pragma once

#include <stdint.h>

enum { RATE_SECONDS = 60 };

struct rate {
    uint64_t total; // Ever.
    uint64_t seconds[RATE_SECONDS];
    int64_t second; // The last one that something came in.
};
void rate_add(struct rate *rate, int64_t now_ms, uint64_t amount);
uint64_t rate_minute(const struct rate *rate, int64_t now_ms); // The sum of the last minute.

struct peak {
    uint64_t greatest; // Ever.
    uint64_t seconds[RATE_SECONDS];
    int64_t second;
};
void peak_add(struct peak *peak, int64_t now_ms, uint64_t value);
uint64_t peak_minute(const struct peak *peak,
                     int64_t now_ms); // The greatest of the last minute, or 0.
