// base/guard.h: what a process does so that its memory stays its own: no core files, nobody attaches, and
// nothing of it is swapped out where the system allows that.
//
// But for the limit on core files, nothing of it is inherited by programs that it executes: each of ours
// calls for itself.
//
// Threads   Before the second thread starts.
#pragma once

#include <stdbool.h>

#include "base/err.h"

// From here on the process is this user, with the user's group and no others, for good. Comes before
// guard_process: the right to lock memory is kept as a limit, where the system allows that. Nothing
// happens if it is that user already.
//   ERR_INVALID  there is no such user
//   ERR_DENIED   the process is neither root nor that user
//   ERR_IO       the system refuses
MUST_USE enum err guard_become(const char *user);

// Core files off, here and in what it starts: for programs that hold records for a moment or start
// others (unlearnctl, unlearn-replay, unlearn-fleet, and so mpirun).
void guard_no_core(void);

// Core files off, not dumpable (also no ptrace by others of the same user). Then all memory is locked, now
// and later, page by page as it is touched. False: it could not be (CAP_IPC_LOCK or an unlimited
// RLIMIT_MEMLOCK is needed; a limit that is reached later would make allocations fail): keys alone are
// locked then, and the caller logs that.
bool guard_process(void);
