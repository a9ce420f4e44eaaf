// shard_worker/held.h: what a worker tells of what it holds.
//
// Threads   One at a time.
#pragma once

#include <stdint.h>

#include "base/bytes.h"
#include "shard_worker/cache.h"

struct lease;

enum { HELD_LEASES = 2 };

// Packs the message: what is kept, and what the leases stand on (each may be NULL), whether that is there
// yet or not. Something may be named twice, with and without its bytes. Replaces the bytes of *frame_out.
void held_put(const struct cache *cache, const struct lease *const leases[static HELD_LEASES],
              uint64_t stamp, struct buf *frame_out);
