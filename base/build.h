// base/build.h: the name of this build: git's commit, or the release. For people and for receipts.
#pragma once

extern const char *const build_id; // Static storage.
