// scheduler/bucket.h: so much a second, and for a moment more: a token bucket.
//
// Kept as one number: the time at which the bucket is full again. What is taken puts that time off by
// what it takes to flow in again; it may lie `burst_us` ahead at most.
//
// Lifetime  All zero is a full bucket. Nothing is allocated.
// Time      Microseconds of a clock that does not go back; one that does finds an emptier bucket.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bucket {
    int64_t full_us;
};

// Takes `amount` of what flows in at `rate` (at least 1) a second. False: nothing was taken, and after
// *wait_us there will be enough. More than ever fits is taken from a full bucket.
bool bucket_take(struct bucket *bucket, uint64_t rate, int64_t burst_us, uint64_t amount,
                 int64_t now_us, int64_t *wait_us_out);

// Takes it though it is not there: for what has been done already. Who is asked next waits.
void bucket_charge(struct bucket *bucket, uint64_t rate, uint64_t amount, int64_t now_us);

int64_t bucket_debt_us(const struct bucket *bucket, int64_t now_us); // Until it is full.
