// client/source.c: see source.h. The only file that includes zlib.h.
#include "client/source.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"

enum err source_open(const char *path, struct source **source_out)
{
    *source_out = NULL;
    struct stat info;
    if (stat(path, &info) != 0) {
        const int code = errno;
        FAIL(code == ENOENT || code == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
             strerror(code));
    }
    if (!S_ISREG(info.st_mode)) {
        FAIL(ERR_INVALID, "%s is %s, expected a regular file: input is read more than once", path,
             S_ISDIR(info.st_mode) ? "a directory" : "no regular file");
    }
    errno = 0;
    gzFile gz = gzopen(path, "rb");
    if (gz == NULL) {
        FAIL(ERR_IO, "%s: %s", path, errno != 0 ? strerror(errno) : "zlib has no memory");
    }
    struct source *const source = mem_alloc(1, sizeof *source);
    source->path = path;
    source->gz = gz;
    *source_out = source;
    return OK;
}

void source_close(struct source *source)
{
    if (source != NULL) {
        (void)gzclose_r(source->gz);
        mem_free(source);
    }
}

uint64_t source_file_bytes(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

static enum err fill(struct source *source, bool *more_out)
{
    *more_out = false;
    source->at = source->end = 0;
    errno = 0;
    const int got = gzread(source->gz, source->buffer, sizeof source->buffer);
    int code = Z_OK;
    const char *const text = gzerror(source->gz, &code);
    if (code == Z_ERRNO) {
        FAIL(ERR_IO, "%s: reading failed: %s", source->path, strerror(errno));
    }
    // A cut gzip file gives its last bytes and Z_BUF_ERROR; nothing of it is to be believed.
    if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) {
        (void)text; // It begins with the path, which is said already.
        FAIL(ERR_INVALID, "%s: the gzip data is cut off or damaged", source->path);
    }
    source->end = (size_t)got;
    const z_off_t offset = gzoffset(source->gz);
    source->offset = offset > 0 ? (uint64_t)offset : 0;
    *more_out = got > 0;
    return OK;
}

enum err source_read(struct source *source, void *out, size_t bytes, size_t *got_out)
{
    size_t got = 0;
    *got_out = 0;
    while (got < bytes) {
        if (source->at == source->end) {
            bool more;
            TRY(source_fill(source, &more));
            if (!more) {
                break;
            }
        }
        const size_t left = source->end - source->at;
        const size_t take = bytes - got < left ? bytes - got : left;
        memcpy((uint8_t *)out + got, source->buffer + source->at, take);
        source->at += take;
        got += take;
    }
    *got_out = got;
    return OK;
}

enum err source_fill(struct source *source, bool *more_out)
{
    source->failed = fill(source, more_out);
    return source->failed;
}

static enum err line_append(const struct source *source, struct buf *line, struct span part)
{
    if (part.bytes > LIMIT_ROW_TEXT_BYTES - line->bytes) {
        FAIL(ERR_LIMIT, "%s line %llu: longer than %d bytes", source->path,
             (unsigned long long)source->line + 1, (int)LIMIT_ROW_TEXT_BYTES);
    }
    if (memchr(part.data, '\0', part.bytes) != NULL) {
        FAIL(ERR_INVALID, "%s line %llu: holds a NUL byte, expected text", source->path,
             (unsigned long long)source->line + 1);
    }
    buf_put(line, part);
    return OK;
}

enum err source_line(struct source *source, struct buf *line_out, bool *more_out)
{
    static const uint8_t mark[3] = {0xEF, 0xBB, 0xBF};
    buf_clear(line_out);
    *more_out = false;
    bool any = false, closed = false;
    while (!closed) {
        if (source->at == source->end) {
            bool more;
            TRY(source_fill(source, &more));
            if (!more) {
                break;
            }
        }
        any = true;
        const uint8_t *const begin = source->buffer + source->at;
        const size_t left = source->end - source->at;
        const uint8_t *const feed = memchr(begin, '\n', left);
        const size_t take = feed != NULL ? (size_t)(feed - begin) : left;
        if (take > 0) {
            TRY(line_append(source, line_out, span_of(begin, take)));
        }
        closed = feed != NULL;
        source->at += take + (closed ? 1 : 0);
    }
    if (!any) {
        return OK;
    }
    source->line++;
    if (line_out->bytes > 0 && line_out->data[line_out->bytes - 1] == '\r') {
        line_out->bytes--;
    }
    if (source->line == 1 && line_out->bytes >= sizeof mark &&
        memcmp(line_out->data, mark, sizeof mark) == 0) {
        line_out->bytes -= sizeof mark;
        memmove(line_out->data, line_out->data + sizeof mark, line_out->bytes);
    }
    *more_out = true;
    return OK;
}

enum err source_head(const char *path, uint8_t *head_out, size_t capacity, size_t *got_out)
{
    *got_out = 0;
    struct source *source;
    TRY(source_open(path, &source));
    CHECK(source != NULL);
    const enum err err = source_read(source, head_out, capacity, got_out);
    source_close(source);
    return err;
}
