// store/disk.c: see disk.h.
#include "store/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { TYPE_BYTES = 64, OPTIONS_BYTES = 1024 };

static bool has_option(const char *options, const char *option)
{
    const size_t bytes = strlen(option);
    for (const char *at = options; (at = strstr(at, option)) != NULL; at += bytes) {
        const bool begins = at == options || at[-1] == ',' || at[-1] == '\n';
        if (begins && (at[bytes] == ',' || at[bytes] == '\0' || at[bytes] == '\n')) {
            return true;
        }
    }
    return false;
}

enum err disk_check_mount(const char *dir, const char *type, const char *options)
{
    if (strcmp(type, "ext4") != 0 && strcmp(type, "xfs") != 0) {
        FAIL(ERR_DENIED,
             "%s lies on %s, where what is overwritten may stay on the disk: use ext4 or xfs, or "
             "say --allow-unsafe-fs and do without erased keys being gone from it",
             dir, type);
    }
    if (has_option(options, "data=journal")) {
        FAIL(ERR_DENIED,
             "%s lies on %s with data=journal, which keeps overwritten bytes in its journal: mount "
             "it with data=ordered, or say --allow-unsafe-fs",
             dir, type);
    }
    return OK;
}

// Fields of a line: id, parent, major:minor, root, mount point, options, ..., "-", type, source, options
// of the file system.
static bool line_of(char *line, dev_t device, char type[static TYPE_BYTES],
                    char source[static OPTIONS_BYTES], char options[static OPTIONS_BYTES])
{
    char numbers[32];
    const char *const tail = strstr(line, " - ");
    snprintf(numbers, sizeof numbers, " %u:%u ", major(device), minor(device));
    const char *const at = strstr(line, numbers);
    return tail != NULL && at != NULL && at < tail &&
           sscanf(tail + 3, "%63s %1023s %1023s", type, source, options) == 3;
}

static bool find_mount(dev_t device, char type[static TYPE_BYTES],
                       char source[static OPTIONS_BYTES], char options[static OPTIONS_BYTES])
{
    FILE *const mounts = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (mounts != NULL && !found && getline(&line, &room, mounts) > 0) {
        found = line_of(line, device, type, source, options);
    }
    free(line); // getline's own.
    if (mounts != NULL) {
        (void)fclose(mounts);
    }
    return found;
}

// ext4 tells a default of its superblock only here.
static void read_defaults(const char *source, char options[static OPTIONS_BYTES])
{
    char path[OPTIONS_BYTES + 32];
    const char *const slash = strrchr(source, '/');
    snprintf(path, sizeof path, "/proc/fs/ext4/%s/options", slash == NULL ? source : slash + 1);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd < 0 ? 0 : read(fd, options, OPTIONS_BYTES - 1);
    options[got > 0 ? got : 0] = '\0';
    if (fd >= 0) {
        (void)close(fd);
    }
}

// A single directory can be journaled too (chattr +j); its files inherit that.
static bool is_journaled(const char *dir)
{
    int flags = 0;
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool known = fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return known && (flags & FS_JOURNAL_DATA_FL) != 0;
}

enum err disk_check(const char *dir)
{
    struct stat found;
    char type[TYPE_BYTES], source[OPTIONS_BYTES], options[OPTIONS_BYTES];
    if (stat(dir, &found) != 0) {
        FAIL(ERR_IO, "%s: %s", dir, strerror(errno));
    }
    if (!find_mount(found.st_dev, type, source, options)) {
        return disk_check_mount(dir, "a file system that /proc/self/mountinfo does not name", "");
    }
    TRY(disk_check_mount(dir, type, options));
    if (strcmp(type, "ext4") == 0) {
        read_defaults(source, options);
        TRY(disk_check_mount(dir, type, options));
        if (is_journaled(dir)) {
            return disk_check_mount(dir, type, "data=journal");
        }
    }
    return OK;
}
