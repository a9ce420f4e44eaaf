// base/err.c: see err.h.
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static _Thread_local char text[ERR_TEXT_BYTES];

enum err err_raise(enum err code, const char *format, ...)
{
    CHECK(code > OK && code < ERR_COUNT_);
    // The arguments may point into the old text: format aside, then copy.
    char fresh[ERR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(fresh, sizeof fresh, format, args);
    va_end(args);
    memcpy(text, fresh, sizeof text);
    return code;
}

enum err err_context(enum err code, const char *format, ...)
{
    CHECK(code > OK && code < ERR_COUNT_);
    char fresh[ERR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    const int head = vsnprintf(fresh, sizeof fresh, format, args);
    va_end(args);
    if (head >= 0 && (size_t)head < sizeof fresh) {
        snprintf(fresh + head, sizeof fresh - (size_t)head, ": %s", text);
    }
    memcpy(text, fresh, sizeof text);
    return code;
}

const char *err_text(void)
{
    return text;
}

const char *err_name(enum err code)
{
    static const char *const names[ERR_COUNT_] = {
        [OK] = "OK",
        [ERR_INVALID] = "INVALID_ARGUMENT",
        [ERR_NOT_FOUND] = "NOT_FOUND",
        [ERR_CONFLICT] = "CONFLICT",
        [ERR_DENIED] = "PERMISSION_DENIED",
        [ERR_LIMIT] = "RESOURCE_EXHAUSTED",
        [ERR_UNAVAILABLE] = "UNAVAILABLE",
        [ERR_CORRUPT] = "CORRUPT",
        [ERR_INCOMPATIBLE] = "INCOMPATIBLE",
        [ERR_IO] = "IO",
        [ERR_CANCELLED] = "CANCELLED",
    };
    return code >= OK && code < ERR_COUNT_ ? names[code] : "UNKNOWN";
}
