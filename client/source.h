// client/source.h: one input file, plain or gzip, read as bytes or as lines.
//
// Reading is a stream through one fixed buffer: memory does not grow with the file. zlib tells plain
// from compressed by the first bytes, so every format takes both.
//
// Lifetime  source_open .. source_close; `path` is borrowed until then.
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum { SOURCE_BUFFER_BYTES = 64 * 1024, SOURCE_END = -1, SOURCE_ERROR = -2 };

struct source {
    const char *path; // Borrowed; as the user wrote it, for messages.
    void *gz;         // zlib's handle.
    uint64_t offset;  // Bytes of the file (as it lies, compressed) read so far.
    uint64_t line;    // Lines given so far: the number of the last line, from 1.
    size_t at, end;   // Unread part of the buffer.
    enum err failed;  // Why source_byte gave SOURCE_ERROR.
    uint8_t buffer[SOURCE_BUFFER_BYTES];
};

// ERR_NOT_FOUND  no such file.   ERR_INVALID  not a regular file (input is read more than once).
// ERR_IO         the kernel refused; the message carries its text.
MUST_USE enum err source_open(const char *path, struct source **source_out);
void source_close(struct source *source); // Accepts NULL.

// Size of the file as it lies, 0 when it cannot be told.
uint64_t source_file_bytes(const char *path);

// Refills an empty buffer; *more_out is false at the end of the file.
//   ERR_INVALID  a gzip file is cut off or damaged.   ERR_IO  reading failed.
MUST_USE enum err source_fill(struct source *source, bool *more_out);

// Reads up to `bytes` bytes; *got_out is less only at the end of the file. Errors as source_fill.
MUST_USE enum err source_read(struct source *source, void *out, size_t bytes, size_t *got_out);

// Reads a line without its LF or CRLF into `line_out` (cleared first); *more_out is false when
// there was none. A UTF-8 byte order mark before the first line is dropped.
//   ERR_LIMIT    longer than LIMIT_ROW_TEXT_BYTES.
//   ERR_INVALID  holds a NUL byte. Else as source_fill. Messages begin with path and line.
MUST_USE enum err source_line(struct source *source, struct buf *line_out, bool *more_out);

// The next byte, SOURCE_END, or SOURCE_ERROR with the error raised.
static inline int source_byte(struct source *source)
{
    if (source->at == source->end) {
        bool more;
        if (source_fill(source, &more) != OK) {
            return SOURCE_ERROR;
        }
        if (!more) {
            return SOURCE_END;
        }
    }
    return source->buffer[source->at++];
}

// The first bytes of a file, for telling formats apart: *got_out <= capacity. Errors as
// source_open and source_fill.
MUST_USE enum err source_head(const char *path, uint8_t *head_out, size_t capacity,
                              size_t *got_out);
