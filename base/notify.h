// base/notify.h: what a service manager is told: ready, alive, about to end (sd_notify of systemd).
//
// One datagram a message to the socket that NOTIFY_SOCKET names; without that variable nothing is sent.
// Written by hand because it is so little: libsystemd would bring a second crypto library and three compressors into a process that
// holds keys.
//
// A message that the manager does not take is lost, and the process goes on: nothing here blocks.
//
// Source    sd_notify(3), sd_watchdog_enabled(3): "stable interface".
// Threads   One, the one whose life is to be watched.
#pragma once

#include <stdint.h>

#include "base/err.h"

// Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no program that is
// started later speaks for this one. Before files are confined. Without these variables: OK.
//   ERR_INVALID  one of them is not what systemd writes   ERR_IO  nobody listens there
// After an error nothing is ever sent.
MUST_USE enum err notify_start(void);

void notify_ready(void);     // At last it answers; or it has read its settings again.
void notify_reloading(void); // It reads them. notify_ready follows.
void notify_stopping(void);

// One line for people, as `systemctl status` shows it. Sent only when it is another than the last one.
PRINTF_LIKE(1, 2) void notify_status(const char *format, ...);

// Where a watchdog is asked for: says that the process is alive, whenever half the time that it may be silent
// has passed. Called in each turn of the loop, and by nobody else: who is stuck must fall silent.
void notify_alive(int64_t now_ms);
