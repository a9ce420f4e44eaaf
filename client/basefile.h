// client/basefile.h: a base as one file of ours, base.bin: what an export of a component on a base holds.
//
// Layout: docs/format.md, "Export". Reading trusts nothing: sizes before anything is allocated, the
// shape before the weights; the digest is computed, not read.
//
// Threads   One.
#pragma once

#include "base/err.h"
#include "model/base.h"

#define BASEFILE_NAME "base.bin"

// Writes DIR/base.bin, which must not be there. ERR_IO: the kernel refused.
MUST_USE enum err basefile_write(const char *dir, const struct base *base);

// Reads DIR/base.bin.
//   ERR_NOT_FOUND     no such file.   ERR_INCOMPATIBLE  a newer format.   ERR_LIMIT  no memory.
//   ERR_CORRUPT       anything else that basefile_write does not write, or a weight that is not finite.
MUST_USE enum err basefile_read(const char *dir, struct base **base_out);
