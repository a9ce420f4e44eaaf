// base/descriptors.c: see descriptors.h.
#include "base/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

enum err descriptors_raise(uint32_t most, uint32_t *limit_out)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        FAIL(ERR_IO, "limit of open files: %s", strerror(errno));
    }
    limit.rlim_cur = limit.rlim_max < most ? limit.rlim_max : most;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        FAIL(ERR_IO, "limit of open files: %s", strerror(errno));
    }
    *limit_out = (uint32_t)limit.rlim_cur;
    return OK;
}

enum err descriptors_count(uint32_t *count_out)
{
    DIR *const directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        FAIL(ERR_IO, "/proc/self/fd: %s", strerror(errno));
    }
    uint32_t count = 0;
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    *count_out = count - 3; // . and .. and that of the directory itself.
    return OK;
}
