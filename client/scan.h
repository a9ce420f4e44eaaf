// client/scan.h: looks for bytes that should be gone, in files, devices and the memory of processes.
//
// Bytes are read as they lie: a database is not opened through its library, an image not mounted.
//
// Lifetime  scan_new to scan_free.
// Threads   One.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"

enum { SCAN_NEEDLE_BYTES_MIN = 4, SCAN_NEEDLE_BYTES_MAX = 1 << 20, SCAN_NEEDLES_MAX = 100000 };

struct scan;

struct scan_place {
    const char *where; // Path, or "process 17 [heap]"; borrowed.
    uint64_t offset;   // In the file; the address in a process.
    size_t needle;     // Its number, from 0, in the order of scan_add_file.
};

// `found` is told each place.
struct scan *scan_new(void (*found)(void *context, const struct scan_place *place), void *context);
void scan_free(struct scan *scan); // Accepts NULL. Wipes the needles.

// Adds the needles of a file: each line of a text; any other file is one needle. The file itself is not
// scanned later, wherever it is met.
//   ERR_NOT_FOUND  no such file.   ERR_IO  it cannot be read.
//   ERR_INVALID    it holds none, or one that is shorter or longer than allowed.
MUST_USE enum err scan_add_file(struct scan *scan, const char *path);
size_t scan_needle_count(const struct scan *scan);

// Scans a file, a block device, or every file below a directory (links are not followed; sockets, pipes
// and character devices are passed by; a file that goes meanwhile is none).
//   ERR_NOT_FOUND  no such path.   ERR_DENIED  a file may not be read: nothing can be said of it.
MUST_USE enum err scan_path(struct scan *scan, const char *path);
// Scans all readable memory of a process. ERR_NOT_FOUND: none. ERR_DENIED: not ours to read.
MUST_USE enum err scan_process(struct scan *scan, pid_t pid);

struct scan_counts {
    uint64_t files; // Or mappings of memory.
    uint64_t bytes;
    uint64_t found;
};
struct scan_counts scan_counts(const struct scan *scan);
