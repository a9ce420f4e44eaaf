// bench/bare.h: bare LMDB under 64 clients that write what the coordinator writes: the reference of
// deletions.c.
//
// It begins with a copy of the coordinator's own store, so with the same tables, filled alike. Each of
// 64 clients hands in a request and waits, carried by as many threads as ours (clients.h); one thread
// takes what waits, up to `batch` requests, writes for each the rows that the coordinator was counted to write and to drop per acknowledged request
// (count.h; of the erasure, too, as far as that went on while it was counted), and commits with sync,
// with the flags of store/kv.c. Sizes are the counted ones; keys are of the same kinds: hashes are
// drawn, numbers of requests count up, components, cells and data sets are rows that are there, records
// are dropped in any order.
//
// It looks nothing up, hashes, seals and signs nothing, and has no network.
#pragma once

#include "bench/count.h"

struct bare_load {
    const char *store;         // Directory of the copy.
    const struct counts *from; // Counted before
    const struct counts *to;   // and after so many
    double requests;           // requests.
    uint32_t batch;            // Requests of one commit at most.
    uint32_t clients, each;    // As of struct clients, and so is time_of.
    void (*time_of)(void *context, uint32_t share, double seconds);
    void *context;
};

// Returns the requests a second.
double bare_run(const struct bare_load *load);

// Prints what is written per request.
void bare_describe(const struct bare_load *load);
