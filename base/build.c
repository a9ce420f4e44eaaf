// base/build.c: see build.h. The Makefile gives the text; only this file is compiled anew for it.
#include "base/build.h"

#ifndef BUILD_ID_TEXT
#define BUILD_ID_TEXT "unknown"
#endif

const char *const build_id = "unlearnd " BUILD_ID_TEXT;
