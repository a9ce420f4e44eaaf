// model/pin.c: the part of profile.h that must run before OpenBLAS does; links without it.
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/profile.h"

static const char THREADS[] = "OPENBLAS_NUM_THREADS";
static const char CORE[] = "OPENBLAS_CORETYPE";

const char *profile_default(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "Haswell" : "Prescott";
#else
    return "";
#endif
}

static bool is_set(const char *name, const char *value)
{
    const char *const now = getenv(name);
    return now != NULL && strcmp(now, value) == 0;
}

static enum err again(char **argv)
{
    // By its own path, so that the process keeps its name in lists.
    char path[PATH_MAX];
    const ssize_t bytes = readlink("/proc/self/exe", path, sizeof path - 1);
    if (bytes > 0) {
        path[bytes] = '\0';
        execv(path, argv);
    }
    execv("/proc/self/exe", argv); // The file was replaced while running.
    FAIL(ERR_IO, "the program could not be executed anew with %s and %s set: %s", THREADS, CORE,
         strerror(errno));
}

enum err profile_pin_to(char **argv, const char *core)
{
    const bool core_set = core[0] == '\0' || is_set(CORE, core);
    if (is_set(THREADS, "1") && core_set) {
        return OK;
    }
    if (setenv(THREADS, "1", 1) != 0 || (core[0] != '\0' && setenv(CORE, core, 1) != 0)) {
        FAIL(ERR_IO, "the environment could not be set: %s", strerror(errno));
    }
    return again(argv);
}

enum err profile_pin(char **argv)
{
    const char *const given = getenv(CORE);
    return profile_pin_to(argv, given == NULL ? profile_default() : given);
}

bool profile_core_is_name(const char *core)
{
    const size_t bytes = strlen(core);
    return bytes >= 1 && bytes < PROFILE_NAME_BYTES &&
           strspn(core, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == bytes;
}
