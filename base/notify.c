// base/notify.c: see notify.h.
#include "base/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

enum { STATUS_BYTES = 256 };

static int manager = -1;       // -1: there is none.
static int64_t alive_every_ms; // 0: no watchdog.
static int64_t alive_next_ms;
static char status[STATUS_BYTES];

static void tell(const char *message)
{
    if (manager >= 0) { // A manager that is gone or slow must not stop the service.
        (void)send(manager, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

static enum err connect_to(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const size_t bytes = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || bytes < 2 || bytes >= sizeof address.sun_path) {
        FAIL(ERR_INVALID,
             "NOTIFY_SOCKET is \"%.120s\", expected an absolute path or @NAME of at most %zu bytes",
             name, sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, name, bytes);
    if (name[0] == '@') { // Of the abstract name space, which ends with the address's length.
        address.sun_path[0] = '\0';
    }
    const socklen_t length =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + (name[0] == '/' ? 1 : 0));
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, length) != 0) {
        const int why = errno;
        if (fd >= 0) {
            close(fd);
        }
        FAIL(ERR_IO, "NOTIFY_SOCKET names %.120s, where nobody listens: %s", name, strerror(why));
    }
    manager = fd;
    return OK;
}

// Half of what the watchdog allows; 0: there is none, or it watches another process.
static enum err read_watchdog(int64_t *every_ms_out)
{
    const char *const period = getenv("WATCHDOG_USEC"), *const pid = getenv("WATCHDOG_PID");
    uint64_t period_us = 0, who = 0;
    *every_ms_out = 0;
    if (period == NULL) {
        return OK;
    }
    TRY_AS(text_u64(period, INT64_MAX, &period_us), "WATCHDOG_USEC");
    if (pid != NULL) {
        TRY_AS(text_u64(pid, INT32_MAX, &who), "WATCHDOG_PID");
    }
    if (pid == NULL || (pid_t)who == getpid()) {
        *every_ms_out = (int64_t)(period_us / 2000);
    }
    return OK;
}

enum err notify_start(void)
{
    const char *const name = getenv("NOTIFY_SOCKET");
    enum err err = name == NULL || name[0] == '\0' ? OK : connect_to(name);
    if (err == OK) {
        err = read_watchdog(&alive_every_ms);
    }
    if (err != OK && manager >= 0) {
        close(manager);
        manager = -1;
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return err;
}

void notify_ready(void)
{
    tell("READY=1");
}

void notify_reloading(void)
{
    char message[64];
    snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_us());
    tell(message);
}

void notify_stopping(void)
{
    tell("STOPPING=1");
}

void notify_status(const char *format, ...)
{
    char text[STATUS_BYTES], message[STATUS_BYTES + 8];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (manager < 0 || strcmp(text, status) == 0) {
        return;
    }
    memcpy(status, text, sizeof status);
    snprintf(message, sizeof message, "STATUS=%s", text);
    tell(message);
}

void notify_alive(int64_t now_ms)
{
    if (alive_every_ms > 0 && now_ms >= alive_next_ms) {
        alive_next_ms = now_ms + alive_every_ms;
        tell("WATCHDOG=1");
    }
}
