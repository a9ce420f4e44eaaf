// base/sync.h: names that are still there when the power comes back.
//
// Threads   Any.
#pragma once

#include "base/err.h"

// Makes durable which names the directory holds: after a file was made, renamed or removed in it. ERR_LIMIT:
// the disk is full. ERR_IO: the kernel refused.
MUST_USE enum err sync_dir(const char *path);
