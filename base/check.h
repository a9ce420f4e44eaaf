// base/check.h: statements that only a bug of ours can break.
//
// CHECK is on in every build. Bytes from disk, network, user or environment are never CHECKed:
// they are `enum err`. A failed CHECK writes file, line and condition to stderr and aborts; a
// program may install a hook that runs first (a worker must not leave its peers waiting).
#pragma once

#include <stdnoreturn.h>

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

noreturn void check_failed(const char *condition, const char *file, int line);

// Installs `hook` (NULL: none). It must not return to rely on anything: abort() follows.
void check_hook(void (*hook)(void));
