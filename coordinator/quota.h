// coordinator/quota.h: how much each principal may ask for in a second.
//
// A principal is a key that `key add` gave out; without keys (--insecure-loopback) all are one. Each has a
// bucket of its own for requests, for bytes, and for ids of deletions: so nobody is refused because of
// what others ask, and no deletion because of what its own principal asks beside it. What was refused has
// had no effect, and the reply says after how many milliseconds to ask again: unlearn.h does.
//
// The chunks of an upload and the parts of a deletion that has begun are not refused but counted, and what
// comes after them waits: their order would be lost. Only who is a minute ahead loses his upload.
//
// The queue of the store thread keeps a quarter for deletions: other requests are refused before.
#pragma once

#include "coordinator/core.h"

void quota_free(struct core *core);

// ERR_LIMIT: refused; *retry_ms_out is when to ask again.
MUST_USE enum err quota_take(struct core *core, const struct caller *caller,
                             const Unlearn__Request *request, size_t bytes, bool needs_store,
                             uint32_t *retry_ms_out);

// What was refused so far, for status.
void quota_describe(const struct core *core, Unlearn__Limits *out);
