// shard_worker/backoff.c: see backoff.h.
#include "shard_worker/backoff.h"

int64_t backoff_next_ms(struct backoff *backoff, int64_t ran_ms, bool joined)
{
    int64_t next_ms = 2 * backoff->last_ms;
    if (next_ms == 0 || (joined && ran_ms >= BACKOFF_HEALTHY_MS)) {
        next_ms = BACKOFF_FIRST_MS;
    }
    if (!joined || next_ms > BACKOFF_LAST_MS) {
        next_ms = BACKOFF_LAST_MS;
    }
    backoff->last_ms = next_ms;
    return next_ms;
}
