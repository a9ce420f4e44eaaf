// base/keyfile.c: see keyfile.h.
#include "base/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum err keyfile_write(const char *path, mode_t mode, struct span bytes)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (file < 0) {
        FAIL(errno == EEXIST ? ERR_CONFLICT : ERR_IO, "cannot make %s: %s", path, strerror(errno));
    }
    const bool written =
        write(file, bytes.data, bytes.bytes) == (ssize_t)bytes.bytes && fsync(file) == 0;
    const int why = errno;
    close(file);
    if (!written) {
        (void)unlink(path);
        FAIL(ERR_IO, "cannot write %s: %s", path, strerror(why));
    }
    return OK;
}

static enum err cannot_open(const char *path, const char *what)
{
    const int why = errno;
    if (why == ELOOP) {
        FAIL(ERR_DENIED, "the %s %s is a symbolic link, expected a plain file", what, path);
    }
    FAIL(why == ENOENT || why == ENOTDIR ? ERR_NOT_FOUND
         : why == EACCES                 ? ERR_DENIED
                                         : ERR_IO,
         "cannot open the %s %s: %s", what, path, strerror(why));
}

// What is wrong with the open file, if anything.
static enum err check(int file, const char *path, const char *what, enum keyfile_kind kind)
{
    struct stat found;
    if (fstat(file, &found) != 0) {
        FAIL(ERR_IO, "cannot look at the %s %s: %s", what, path, strerror(errno));
    }
    if (!S_ISREG(found.st_mode)) {
        FAIL(ERR_DENIED, "the %s %s is no plain file", what, path);
    }
    if (found.st_uid != geteuid() && found.st_uid != 0) {
        FAIL(ERR_DENIED, "the %s %s belongs to user %u, expected %u or root", what, path,
             (unsigned)found.st_uid, (unsigned)geteuid());
    }
    const unsigned mode = (unsigned)found.st_mode & 07777;
    if (kind == KEYFILE_SECRET && (mode & 077) != 0) {
        FAIL(ERR_DENIED, "the %s %s has mode %04o, expected 0600: others may read it", what, path,
             mode);
    }
    if ((mode & 022) != 0) {
        FAIL(ERR_DENIED, "the %s %s has mode %04o, expected 0644: others may write it", what, path,
             mode);
    }
    return OK;
}

enum err keyfile_read(const char *path, const char *what, enum keyfile_kind kind, uint8_t *out,
                      size_t capacity, size_t *bytes_out)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) {
        return cannot_open(path, what);
    }
    const enum err err = check(file, path, what, kind);
    const ssize_t got = err == OK ? read(file, out, capacity) : 0;
    const int why = errno;
    close(file);
    TRY(err);
    if (got < 0) {
        FAIL(ERR_IO, "cannot read the %s %s: %s", what, path, strerror(why));
    }
    *bytes_out = (size_t)got;
    return OK;
}
