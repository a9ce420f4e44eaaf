// base/confine.h: what a process cannot do any more once it has started: gain rights by executing a
// file, and touch files that it has no business with (Landlock, Linux 5.13 and later).
//
// A hole in a parser then reaches the process's own files, and no others. It holds for threads and
// processes that are started later, too, and cannot be undone. Files that are open stay open.
//
// Threads   Before the second thread starts.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct confine_path {
    const char *path; // A directory, with all below it. One that is not there is passed over.
    bool write;       // Else files may be read and executed there, and directories listed.
};

// *files_out: files are confined; false: this kernel cannot, and only the first part holds.
//   ERR_IO  a path cannot be opened, or the kernel refuses: the process had better not go on.
MUST_USE enum err confine_process(const struct confine_path *paths, size_t count, bool *files_out);
