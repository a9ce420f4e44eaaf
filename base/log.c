// base/log.c: see log.h.
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

static const char *const names[] = {"debug", "info", "error"};
static char who[64] = "?";
static _Atomic int least = LOG_INFO;

void log_start(const char *name, enum log_level lowest)
{
    snprintf(who, sizeof who, "%s", name);
    least = (int)lowest;
}

void log_level_set(enum log_level lowest)
{
    least = (int)lowest;
}

enum err log_level_get(const char *text, enum log_level *level_out)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(text, names[i]) == 0) {
            *level_out = (enum log_level)i;
            return OK;
        }
    }
    FAIL(ERR_INVALID, "log_level is \"%.60s\", expected debug, info or error", text);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    if ((int)level < least) {
        return;
    }
    char time[TEXT_TIME_BYTES];
    text_time(clock_wall_us(), time);
    char line[2048];
    int used = snprintf(line, sizeof line, "t=%s level=%s who=%s event=%s ", time, names[level],
                        who, event);
    va_list args;
    va_start(args, format);
    const int more = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    va_end(args);
    if (more > 0) {
        used += more < (int)sizeof line - used - 1 ? more : (int)sizeof line - used - 2;
    }
    for (int i = 0; i < used; i++) { // A text of a library may hold line ends: one event, one line.
        if (line[i] == '\n' || line[i] == '\r') {
            line[i] = ' ';
        }
    }
    line[used] = '\n';
    // A full disk or a closed terminal must not stop the service: the result does not matter.
    if (write(STDERR_FILENO, line, (size_t)used + 1) < 0) {
        return;
    }
}
