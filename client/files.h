// client/files.h: small files, whole or not at all.
//
// Threads   One.
#pragma once

#include "base/bytes.h"
#include "base/err.h"

// Appends the file's bytes to *out.
//   ERR_NOT_FOUND  no such file.   ERR_LIMIT  longer than `bytes_max`.   ERR_IO  the kernel refused.
MUST_USE enum err files_read(const char *path, size_t bytes_max, struct buf *out);

// Puts the file in place of what was there, so that a reader sees the old one or the new one.
// ERR_IO: the kernel refused; the old one stands.
MUST_USE enum err files_write(const char *path, struct span bytes);
// The same with the parts one after the other.
MUST_USE enum err files_write_parts(const char *path, const struct span *parts, size_t part_count);
