// shard_worker/launch.h: one mpirun at a time: finding it, starting it, ending all that it started.
//
// mpirun runs in a process group of its own, so that a signal from the terminal reaches the fleet
// alone, and gets SIGTERM when the fleet dies, however it dies. Ranks whose mpirun has died are
// adopted by this process (it is their subreaper), and so are found and ended too.
//
// Lifetime  launch_start to launch_end, any number of times.
// Threads   The main thread; it must be the one that started the program.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/err.h"

enum { LAUNCH_PATH_BYTES = 4096, LAUNCH_TERM_MS = 5000 };

struct launch_plan {
    const char *mpirun; // Paths of the programs.
    const char *worker;
    const char *hostfile; // NULL: this host.
    uint32_t ranks;
    uint64_t cache_mib;
    const char *endpoint;         // Of the coordinator.
    const char *key, *server_key; // Files, the same on every host; both NULL: --insecure-loopback.
    uint8_t fleet[ID_BYTES];
};

// ERR_UNAVAILABLE: `path` is not a file that may be executed.
MUST_USE enum err launch_check(const char *path);

// Finds a program in the directories of $PATH. ERR_UNAVAILABLE: it is in none of them.
MUST_USE enum err launch_find(const char *name, char path_out[static LAUNCH_PATH_BYTES]);

// The path of the program `name` that lies beside this one. ERR_IO: /proc/self/exe is not readable.
MUST_USE enum err launch_beside(const char *name, char path_out[static LAUNCH_PATH_BYTES]);

// Makes this process the one that adopts orphans of its children. Once, before launch_start.
void launch_adopt(void);

// Starts mpirun. ERR_IO: the system refused another process.
MUST_USE enum err launch_start(const struct launch_plan *plan, pid_t *pid_out);

// True when mpirun has ended; then *status_out is as of waitpid. Does not wait.
bool launch_ended(pid_t pid, int *status_out);

// Ends mpirun (SIGTERM, after LAUNCH_TERM_MS SIGKILL) where it still runs (`ended` false), then every
// process that it left behind; returns when none is left.
void launch_end(pid_t pid, bool ended);
