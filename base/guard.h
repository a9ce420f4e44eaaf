// base/guard.h: what a process does so that its memory stays its own: no core files, nobody attaches, and
// nothing of it is swapped out where the system allows that.
//
// Not inherited by programs that it executes: each of ours calls it for itself.
//
// Threads   Before the second thread starts.
#pragma once

#include <stdbool.h>

// Core files off, not dumpable (also no ptrace by others of the same user). Then all memory is locked, now
// and later, page by page as it is touched. False: it could not be (CAP_IPC_LOCK or an unlimited
// RLIMIT_MEMLOCK is needed; a limit that is reached later would make allocations fail): keys alone are
// locked then, and the caller logs that.
bool guard_process(void);
