// scheduler/bucket.c: see bucket.h.
#include "scheduler/bucket.h"

enum { SECOND_US = 1000000 };
static const int64_t LONGEST_US = (int64_t)86400 * SECOND_US; // Whatever was taken.

// Rounded up, so that nothing is free.
static int64_t time_of(uint64_t amount, uint64_t rate)
{
    const uint64_t seconds = amount / rate;
    if (seconds >= 86400) {
        return LONGEST_US;
    }
    const double rest = (double)(amount % rate) * SECOND_US / (double)rate;
    return (int64_t)seconds * SECOND_US + (int64_t)rest + ((double)(int64_t)rest < rest);
}

int64_t bucket_debt_us(const struct bucket *bucket, int64_t now_us)
{
    return bucket->full_us > now_us ? bucket->full_us - now_us : 0;
}

void bucket_charge(struct bucket *bucket, uint64_t rate, uint64_t amount, int64_t now_us)
{
    const int64_t debt_us = bucket_debt_us(bucket, now_us) + time_of(amount, rate);
    bucket->full_us = now_us + (debt_us < LONGEST_US ? debt_us : LONGEST_US);
}

bool bucket_take(struct bucket *bucket, uint64_t rate, int64_t burst_us, uint64_t amount,
                 int64_t now_us, int64_t *wait_us_out)
{
    const int64_t debt_us = bucket_debt_us(bucket, now_us);
    const int64_t cost_us = time_of(amount, rate);
    const int64_t room_us = burst_us > cost_us ? burst_us - cost_us : 0; // Of debt before it.
    *wait_us_out = debt_us > room_us ? debt_us - room_us : 0;
    if (*wait_us_out > 0) {
        return false;
    }
    bucket_charge(bucket, rate, amount, now_us);
    return true;
}
