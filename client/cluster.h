// client/cluster.h: the files of a cluster on this machine, and its processes.
//
//   DIR/config.yaml  DIR/store  DIR/run/     the server's: settings, data, pids, logs
//   DIR/keyring                              the keys of all that lies in the store
//   DIR.master/                              the master key and the anchor (store/master.h)
//   DIR/keys/signing.key                     signs receipts; 0600
//   DIR/keys/server.key, worker.key, ...     by whom programs know each other: keyset.h
//   DIR.client/address                       what commands read, written by unlearnd at its start
//   DIR.client/receipt.pub                   the signing key's public half
//   DIR.client/log.head                      the last head of the receipt log that was seen (history.h)
//
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

// Makes a new cluster. On error nothing is left.
//   ERR_CONFLICT  there is one already, or DIR holds something else.   ERR_IO  the kernel refused.
MUST_USE enum err cluster_create(const char *dir);

// The number of local workers that DIR/config.yaml asks for.
//   ERR_NOT_FOUND  no cluster there.   ERR_INVALID  its `ranks` is no number.
MUST_USE enum err cluster_ranks(const char *dir, uint32_t *ranks_out);

enum {
    CLUSTER_ENDPOINT_BYTES = 256,
    CLUSTER_PATIENCE_S = 60, // mpirun takes a second or two; a loaded machine more.
};

// A running cluster, as cluster_up left it.
struct cluster {
    char *dir;                // Owned: absolute.
    pid_t coordinator, fleet; // 0: not started.
    char endpoint[CLUSTER_ENDPOINT_BYTES];
    uint32_t workers;
    int64_t coordinator_log, fleet_log; // Bytes that the logs had before the start.
};

struct cluster_start {
    uint32_t ranks;
    uint64_t cache_mib;   // Of each, for what it keeps between stages.
    uint32_t patience_s;  // So long the workers may take to join.
    bool lives_on;        // They go on when this process ends; else they end with it.
    const char *key;      // Of the client that sees it start; NULL: the admin's.
    bool insecure;        // No keys, for this machine alone; options of unlearnd and of the fleet.
    bool allow_unsafe_fs; // Options of unlearnd.
    bool rotate_master_key;
};
// Starts coordinator and fleet and waits until the coordinator answers and `ranks` workers have
// joined. With 0 ranks there is no fleet. On error everything started is ended again.
//   ERR_NOT_FOUND    no cluster there.   ERR_CONFLICT  it is running already.
//   ERR_CONFLICT     also: a worker was refused, with the reason.
//   ERR_UNAVAILABLE  a program is missing, or ended at once (with the end of its log), or the
//                    workers did not join in time.   ERR_CANCELLED  interrupt.h.
//   Else what the exit code of the program that ended stands for.
MUST_USE enum err cluster_up(const char *dir, const struct cluster_start *start,
                             struct cluster *cluster_out);

// Waits until a signal comes (interrupt.h; OK) or one of the two ends (the error says why).
MUST_USE enum err cluster_stay(struct cluster *cluster);

void cluster_deinit(struct cluster *cluster); // Frees; ends nothing.

struct cluster_down {
    bool fleet, coordinator; // Was running and has ended.
    bool killed;             // One of them did not end by itself.
};
// Ends fleet and coordinator, in this order, and waits until they are gone.
// ERR_NOT_FOUND: no cluster there.
MUST_USE enum err cluster_down(const char *dir, struct cluster_down *down_out);

// ERR_CONFLICT: its coordinator runs; `what` cannot be done meanwhile. ERR_NOT_FOUND: no cluster there.
MUST_USE enum err cluster_check_stopped(const char *dir, const char *what);
