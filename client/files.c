// client/files.c: see files.h.
#include "client/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4200, PIECE_BYTES = 65536 };

static enum err read_all(int file, const char *path, size_t bytes_max, struct buf *out)
{
    size_t total = 0;
    for (;;) {
        buf_reserve(out, PIECE_BYTES);
        const ssize_t got = read(file, out->data + out->bytes, PIECE_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            FAIL(ERR_IO, "cannot read %.200s: %s", path, strerror(errno));
        }
        if (got == 0) {
            return OK;
        }
        out->bytes += (size_t)got;
        total += (size_t)got;
        if (total > bytes_max) {
            FAIL(ERR_LIMIT, "%.200s has more than %zu bytes", path, bytes_max);
        }
    }
}

enum err files_read(const char *path, size_t bytes_max, struct buf *out)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "cannot open %.200s: %s",
             path, strerror(errno));
    }
    const enum err err = read_all(file, path, bytes_max, out);
    close(file);
    return err;
}

static enum err write_all(int file, const char *path, struct span bytes)
{
    const uint8_t *at = bytes.data;
    for (size_t left = bytes.bytes; left > 0;) {
        const ssize_t written = write(file, at, left);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            FAIL(ERR_IO, "cannot write %.200s: %s", path, strerror(errno));
        }
        at += written;
        left -= (size_t)written;
    }
    return OK;
}

static enum err write_parts(int file, const char *path, const struct span *parts, size_t part_count)
{
    for (size_t i = 0; i < part_count; i++) {
        TRY(write_all(file, path, parts[i]));
    }
    if (fsync(file) != 0 && errno != EINVAL && errno != EROFS) { // Pipes and devices have none.
        FAIL(ERR_IO, "cannot write %.200s: %s", path, strerror(errno));
    }
    return OK;
}

enum err files_write(const char *path, struct span bytes)
{
    return files_write_parts(path, &bytes, 1);
}

enum err files_write_parts(const char *path, const struct span *parts, size_t part_count)
{
    char fresh[PATH_BYTES_MAX];
    struct stat there;
    // What is no plain file (/dev/stdout) is written to, never replaced.
    const bool plain = stat(path, &there) != 0 || S_ISREG(there.st_mode);
    const int length = plain ? snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid())
                             : snprintf(fresh, sizeof fresh, "%s", path);
    if ((size_t)length >= sizeof fresh) {
        FAIL(ERR_IO, "the path has more than %d bytes", (int)PATH_BYTES_MAX);
    }
    const int file = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) {
        FAIL(ERR_IO, "cannot make %.200s: %s", path, strerror(errno));
    }
    enum err err = write_parts(file, path, parts, part_count);
    close(file);
    if (err == OK && plain && rename(fresh, path) != 0) {
        err = err_raise(ERR_IO, "cannot make %.200s: %s", path, strerror(errno));
    }
    if (err != OK && plain) {
        (void)unlink(fresh);
    }
    return err;
}
