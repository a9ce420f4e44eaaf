// base/prompt.h: threads that answer somebody who waits, beside threads that work.
//
// A thread that is prompt gets the processor as soon as it has something to do, before those that are
// not, as long as it has not used more than its share: it asks the scheduler for short turns
// (sched_setattr with a short runtime: Linux 6.12 on; older kernels leave all as it was). No priority is
// taken from anybody, no privilege is needed. Threads that it starts are prompt, too.
//
// Threads   Each for itself.
#pragma once

#include <stdbool.h>

// False: the kernel refused; nothing has changed.
bool prompt_set(bool prompt);
