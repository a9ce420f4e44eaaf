// tests/unit/scratch.h: a directory for one test, and its removal.
#pragma once

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 256 };

// Makes an empty directory below TMPDIR or /tmp. Returns false when that cannot be done.
static inline bool scratch_make(char path_out[static SCRATCH_BYTES])
{
    const char *const base = getenv("TMPDIR");
    snprintf(path_out, SCRATCH_BYTES, "%.200s/unlearn-test.XXXXXX", base == NULL ? "/tmp" : base);
    return mkdtemp(path_out) != NULL;
}

static inline int scratch_visit(const char *path, const struct stat *found, int type,
                                struct FTW *ftw)
{
    (void)found;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void scratch_remove(const char *path)
{
    char master[SCRATCH_BYTES + 8]; // Where a store was made.
    snprintf(master, sizeof master, "%s.master", path);
    (void)nftw(path, scratch_visit, 16, FTW_DEPTH | FTW_PHYS);
    (void)nftw(master, scratch_visit, 16, FTW_DEPTH | FTW_PHYS);
}
