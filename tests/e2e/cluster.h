// tests/e2e/cluster.h: the cluster DIR/c of a test in C, by the programs themselves.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "store/disk.h"

// Runs `unlearnctl ARGUMENTS`; what it says is left in DIR/out. Returns what system(3) does.
static inline int cluster_ctl(const char *dir, const char *arguments)
{
    char command[2048];
    const char *const bin = getenv("UNLEARN_BIN");
    snprintf(command, sizeof command, "UNLEARN_DIR=%s/c '%s/unlearnctl' %s >%s/out 2>&1", dir,
             bin == NULL ? "bin" : bin, arguments, dir);
    return system(command);
}

// Makes and starts it. Keys are erased by overwriting: unlearnd starts on ext4 and xfs alone, unless it is told.
static inline int cluster_start(const char *dir, int ranks)
{
    char text[512];
    snprintf(text, sizeof text, "init %s/c", dir);
    const int made = cluster_ctl(dir, text);
    snprintf(text, sizeof text, "up %s/c --ranks %d --detach%s", dir, ranks,
             disk_check(dir) == OK ? "" : " --allow-unsafe-fs");
    return made != 0 ? made : cluster_ctl(dir, text);
}
