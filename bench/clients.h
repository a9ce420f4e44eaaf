// bench/clients.h: many clients that delete single records, each with a connection of its own and one
// request under way: it asks for the next when the ack of the last one came.
//
// A few threads carry them: one waits for the connections of its share and sends for each what is next.
// A thread for each client (and ZeroMQ's two) would make some 200 threads on the two processors that
// measure the coordinator, and their turns would be what is measured: in real life clients are on other
// machines. bare.c carries the clients of its reference in the same way, by as many threads.
#pragma once

#include <stdint.h>

enum { CLIENTS_THREADS = 2 };

struct clients {
    const char *dir;     // Of the cluster.
    const char *dataset; // The records are r0, r1, ... of it.
    uint32_t count;      // Clients; a multiple of CLIENTS_THREADS.
    uint32_t each;       // Requests of each.
    uint32_t first;      // Record of the first request.
    // Takes the seconds from a request to its ack. The share is that of the thread that calls, below
    // CLIENTS_THREADS: 0 for all, when clients_run calls it; the reference does so by many threads at once.
    void (*time_of)(void *context, uint32_t share, double seconds);
    void *context;
};

// Returns the requests a second, from the first request to the last ack; connecting is not counted. Adds to
// cpu_s the seconds of processor that the clients have used. Ends the process with 2 when anything is refused.
double clients_run(const struct clients *clients, double *cpu_s);

// The process of the clients: `PROGRAM clients ...` has to return what this does; the rest is between the two.
int clients_main(int argc, char **argv);
