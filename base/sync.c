// base/sync.c: see sync.h.
#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum err sync_dir(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = fd >= 0 && fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (!synced) {
        FAIL(why == ENOSPC || why == EDQUOT ? ERR_LIMIT : ERR_IO, "%s: %s", path, strerror(why));
    }
    return OK;
}
