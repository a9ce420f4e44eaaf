// base/check.c: see check.h.
#include "base/check.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static void (*installed)(void) = NULL;

void check_hook(void (*hook)(void))
{
    installed = hook;
}

noreturn void check_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "level=bug event=check_failed at=%s:%d condition=\"%s\"\n", file, line,
            condition);
    if (installed != NULL) {
        installed();
    }
    abort();
}
