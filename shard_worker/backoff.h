// shard_worker/backoff.h: how long a fleet waits before it starts mpirun again.
//
// 0.2 s after the first end, then twice as long each time, 10 s at most; from the beginning after a
// run that was healthy for a minute. A run that no rank joined waits the longest time at once: what
// kept them out (a refusal, an unreachable coordinator) does not change within a second.
//
// Lifetime  Plain value; {0} is ready. Threads  Stateless.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { BACKOFF_FIRST_MS = 200, BACKOFF_LAST_MS = 10000, BACKOFF_HEALTHY_MS = 60000 };

struct backoff {
    int64_t last_ms; // What was waited before the run that ended; 0: nothing.
};

// Tells how long to wait after a run of ran_ms that was not asked to end by us.
int64_t backoff_next_ms(struct backoff *backoff, int64_t ran_ms, bool joined);
