// store/master.h: DIR.master: the master keys that wrap every other key, and the anchor.
//
//   DIR.master/N.key    master key number N, 1 to 255; 0600. One, or two while they are being changed
//   DIR.master/anchor   how far the store had come: finds a whole directory that was put back
//
// It belongs on another disk than DIR, or where backups of DIR do not reach: who has a copy of both
// has everything. The anchor may be a step behind the store (the process died between the two), never
// ahead of it.
//
// Errors    ERR_NOT_FOUND  the directory or the key is not there.
//           ERR_DENIED     a key file is no plain file, is another user's, or others may read it.
//           ERR_CORRUPT    a file is not one of ours, or damaged.
//           ERR_IO         the kernel refused.
// Threads   The store thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"

struct master;

// Makes DIR.master (which may be there, but empty) with key number 1. ERR_CONFLICT: it is in use.
MUST_USE enum err master_create(const char *dir);
// Takes away what master_create made, when what followed it failed.
void master_uncreate(const char *dir);

// Reads every key.
MUST_USE enum err master_open(const char *dir, struct master **master_out);
void master_close(struct master *master); // Wipes. Accepts NULL.

// The key of that number, borrowed; NULL: there is none.
const uint8_t *master_key(const struct master *master, uint8_t number);
// Draws and saves a new key. ERR_CONFLICT: the number is taken.
MUST_USE enum err master_add(struct master *master, uint8_t number);
// Overwrites the key's file, reads it back and removes it. OK when it is not there.
MUST_USE enum err master_destroy(struct master *master, uint8_t number);

struct anchor {
    uint64_t erase_counter;
    uint64_t log_size;
    struct digest log_root; // Of the receipt log of that size.
};
// Sealed under the key of that number. The file is replaced: a reader sees the old one or the new.
MUST_USE enum err anchor_put(const struct master *master, uint8_t number,
                             const struct anchor *anchor);
// ERR_NOT_FOUND: none was written yet. Any key of the master opens it.
MUST_USE enum err anchor_get(const struct master *master, struct anchor *anchor_out);
