// base/guard.c: see guard.h.
#include "base/guard.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// Whether locking is without a limit.
static bool may_lock(void)
{
    struct rlimit limit;
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &head, data) == 0 && (data[0].effective >> CAP_IPC_LOCK & 1) != 0) {
        return true;
    }
    return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_max == RLIM_INFINITY &&
           setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}) == 0;
}

enum err guard_become(const char *user)
{
    errno = 0;
    const struct passwd *const entry = getpwnam(user);
    if (entry == NULL) {
        FAIL(ERR_INVALID, "there is no user \"%.60s\"", user);
    }
    const uid_t uid = entry->pw_uid;
    const gid_t gid = entry->pw_gid;
    if (getuid() == uid && geteuid() == uid) {
        return OK;
    }
    if (geteuid() != 0) {
        FAIL(ERR_DENIED, "only root can become user \"%.60s\"", user);
    }
    // A right that is lost below.
    (void)setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0 ||
        (uid != 0 && setuid(0) == 0)) {
        FAIL(ERR_IO, "the process cannot become user \"%.60s\": %s", user, strerror(errno));
    }
    return OK;
}

void guard_no_core(void)
{
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none); // Lowering a limit is always allowed.
}

bool guard_process(void)
{
    guard_no_core();
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return may_lock() && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
}
