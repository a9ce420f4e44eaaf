// base/keyfile.h: small files with keys: made anew, and read only where nobody else could touch them.
//
// Threads   Any.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"

enum keyfile_kind {
    KEYFILE_SECRET, // Nobody but its owner may read it.
    KEYFILE_PUBLIC, // Others may read it, but not write it: a key put in its place would be trusted.
};

// Makes the file with this mode and has it on disk. ERR_CONFLICT: it is there already. ERR_IO: the kernel
// refused; nothing is left.
MUST_USE enum err keyfile_write(const char *path, mode_t mode, struct span bytes);

// Reads at most `capacity` bytes of a file that belongs to this user or to root. `what` names the key in
// the sentence ("signing key").
//   ERR_NOT_FOUND  no such file.
//   ERR_DENIED     a symbolic link or another thing than a plain file, another's file, or a mode that lets
//                  others at it.
//   ERR_IO         the kernel refused.
MUST_USE enum err keyfile_read(const char *path, const char *what, enum keyfile_kind kind,
                               uint8_t *out, size_t capacity, size_t *bytes_out);
