// base/prompt.c: see prompt.h.
#include "base/prompt.h"

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

// As the kernel has it (sched_setattr(2)); libc has no declaration in Debian 12.
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period; // Nanoseconds.
};

bool prompt_set(bool prompt)
{
    struct attributes now = {.size = sizeof now};
    if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) != 0) {
        return false;
    }
    now.size = sizeof now;
    now.runtime = prompt ? 200000 : 0; // 0: the kernel's own.
    return syscall(SYS_sched_setattr, 0, &now, 0) == 0;
}
