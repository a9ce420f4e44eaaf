// base/confine.c: see confine.h. There are no wrappers for Landlock in the C library.
#include "base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ABI_REFER = 2 }; // From then on files may be moved between directories that both allow it.

static const uint64_t READ =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t WRITE = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                              LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                              LANDLOCK_ACCESS_FS_MAKE_REG;
// Nobody has any business with these.
static const uint64_t NEVER = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                              LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                              LANDLOCK_ACCESS_FS_MAKE_SYM;

static enum err allow(int rules, const struct confine_path *path, uint64_t refer)
{
    const int fd = open(path->path, O_PATH | O_CLOEXEC | O_DIRECTORY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return OK;
    }
    if (fd < 0) {
        FAIL(ERR_IO, "%s: %s", path->path, strerror(errno));
    }
    const struct landlock_path_beneath_attr beneath = {
        .allowed_access = path->write ? READ | WRITE | refer : READ, .parent_fd = fd};
    const long added =
        syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    const int error = errno;
    close(fd);
    if (added != 0) {
        FAIL(ERR_IO, "%s cannot be allowed to a confined process: %s", path->path, strerror(error));
    }
    return OK;
}

static enum err allow_all(int rules, const struct confine_path *paths, size_t count, uint64_t refer)
{
    for (size_t i = 0; i < count; i++) {
        TRY(allow(rules, &paths[i], refer));
    }
    if (syscall(SYS_landlock_restrict_self, rules, 0) != 0) {
        FAIL(ERR_IO, "the process cannot be confined to its files: %s", strerror(errno));
    }
    return OK;
}

enum err confine_process(const struct confine_path *paths, size_t count, bool *files_out)
{
    *files_out = false;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        FAIL(ERR_IO, "no_new_privs cannot be set: %s", strerror(errno));
    }
    const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) {
        return OK; // Not built in, not switched on, or kept back by a container.
    }
    const uint64_t refer = abi >= ABI_REFER ? LANDLOCK_ACCESS_FS_REFER : 0;
    const struct landlock_ruleset_attr all = {.handled_access_fs = READ | WRITE | NEVER | refer};
    const int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (rules < 0) {
        FAIL(ERR_IO, "the process cannot be confined to its files: %s", strerror(errno));
    }
    const enum err err = allow_all(rules, paths, count, refer);
    close(rules);
    TRY(err);
    *files_out = true;
    return OK;
}
