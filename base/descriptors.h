// base/descriptors.h: how many files and connections the process may have open, and has.
//
// Threads   Before the second thread starts: the limit is the whole process's.
#pragma once

#include <stdint.h>

#include "base/err.h"

// Raises the limit to `most`, or as far as the process may; *limit_out is what it then is, at most `most`.
// ERR_IO: the system refuses.
MUST_USE enum err descriptors_raise(uint32_t most, uint32_t *limit_out);

// How many are open. ERR_IO: /proc is not there.
MUST_USE enum err descriptors_count(uint32_t *count_out);
