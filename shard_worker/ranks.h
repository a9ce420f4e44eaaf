// shard_worker/ranks.h: this process among the ranks of its fleet. ranks.c is the only file that
// includes mpi.h.
//
// A rank may die at any time, and whoever then waits in MPI waits for ever: so nobody here does.
// Waiting is the link's (proto/link.h), and a rank leaves without MPI_Finalize, which would hang
// once another rank is dead.
//
// Lifetime  ranks_start once, after profile_pin; ranks_leave ends the process.
// Threads   The main thread only (MPI_THREAD_FUNNELED).
#pragma once

#include <stdint.h>
#include <stdnoreturn.h>

#include "base/err.h"

// Starts MPI. Without mpirun the process is rank 0 of 1.
//   ERR_IO  MPI could not start, in MPI's words; or MPI ends the process itself with a line of its
//           own, since its errors become returnable only after the start.
MUST_USE enum err ranks_start(int *argc, char ***argv);

uint32_t ranks_index(void); // 0 .. ranks_count() - 1
uint32_t ranks_count(void);

// Ends this process at once, with no exit handlers and no MPI_Finalize. The other ranks go on where
// mpirun was told so (--enable-recovery).
noreturn void ranks_leave(int code);
