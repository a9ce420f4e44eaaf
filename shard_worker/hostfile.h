// shard_worker/hostfile.h: what is plainly wrong in a host file, told in one sentence before mpirun reads it.
//
// mpirun takes a count that is no number for -1 and says that this should be reported to its developers.
// Its own grammar is wider than what is looked at here, and stays its own: nothing that it takes is refused.
//
// Threads   Any.
#pragma once

#include "base/err.h"

// ERR_UNAVAILABLE: the file cannot be read. ERR_INVALID: it names no host, or has a line of which neither
// we nor mpirun could make anything: "hosts, line 2: slots=many: found many, expected a number from 1 on".
MUST_USE enum err hostfile_check(const char *path);
