// base/guard.c: see guard.h.
#include "base/guard.h"

#include <linux/capability.h>
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
