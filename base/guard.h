// base/guard.h: what a process does so that its memory stays its own: no core files, nobody attaches, and
// nothing of it is swapped out where the system allows that.
//
// But for the limit on core files, nothing of it is inherited by programs that it executes: each of ours
// calls for itself.
//
// Threads   Before the second thread starts.
#pragma once

#include <stdbool.h>

// Core files off, here and in what it starts: for programs that hold records for a moment or start
// others (unlearnctl, unlearn-replay, unlearn-fleet, and so mpirun).
void guard_no_core(void);

// Core files off, not dumpable (also no ptrace by others of the same user). Then all memory is locked, now
// and later, page by page as it is touched. False: it could not be (CAP_IPC_LOCK or an unlimited
// RLIMIT_MEMLOCK is needed; a limit that is reached later would make allocations fail): keys alone are
// locked then, and the caller logs that.
bool guard_process(void);
