// client/watch.h: asking again and again until something is done, and noticing that nobody works.
//
// Lifetime  Plain value. Threads  One.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/unlearn.h"

struct watch {
    int64_t began_ms;
    int64_t asked_ms;  // When the workers were last counted,
    int64_t worker_ms; // and when there was one.
};

void watch_init(struct watch *watch);

// Waits a moment: 100 ms, after ten seconds up to a second. Borrowed answers of the client end.
//
//   needs_workers    false: what is waited for is done by the coordinator alone.
//   ERR_UNAVAILABLE  no worker has been there for 30 s; or as every call.
//   ERR_CANCELLED    a signal came (interrupt.h).
MUST_USE enum err watch_pause(struct watch *watch, struct unlearn *client, bool needs_workers);
