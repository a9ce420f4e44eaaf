// store/disk.h: whether bytes that are overwritten in a directory are gone from its disk.
//
// So it is on ext4 and xfs, which write a file's blocks where they lie, and not where blocks are copied
// on write (Btrfs, ZFS, an overlay's upper layer while it is copied up) or pass through a journal (ext4
// with data=journal). Below that, SSDs may keep old cells: against those only the sealing helps.
//
// Threads   Any.
#pragma once

#include "base/err.h"

// Looks at the file system of the directory. ERR_DENIED: not one of those; the message says which it is,
// and what to do.
MUST_USE enum err disk_check(const char *dir);

// The same for a line of /proc/self/mountinfo: its type and its options of the file system.
MUST_USE enum err disk_check_mount(const char *dir, const char *type, const char *options);
