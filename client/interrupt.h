// client/interrupt.h: Ctrl-C as something to ask for, so that work under way can be taken back.
//
// Threads   One.
#pragma once

#include "base/err.h"

// From now on SIGINT, SIGTERM and SIGHUP are noted. A second one ends the process.
void interrupt_watch(void);

// ERR_CANCELLED: one has come since.
MUST_USE enum err interrupt_check(void);
