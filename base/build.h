// base/build.h: the name of this build, given by the Makefile (git's commit, or the release).
#pragma once

#ifndef BUILD_ID
#define BUILD_ID "unlearnd development build"
#endif
