// tests/fuzz/fuzz.h: what every fuzz target stands on.
//
// A target is one file, fuzz_NAME.c, with LLVMFuzzerTestOneInput: it hands the bytes to a parser and CHECKs
// what must hold of whatever the parser accepts. libFuzzer (`make fuzz`) or replay.c (`make test`) has
// main. Inputs that are several files stand one after the other, with FUZZ_CUT between them.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define FUZZ_CUT "\n%%%%\n"

int LLVMFuzzerInitialize(int *argc, char ***argv); // fuzz.c
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Cuts the next part off *rest; what is left is empty after the last.
struct span fuzz_part(struct span *rest);

// The part as a text with an end; of a NUL inside only what stands before it. Freed with mem_free.
char *fuzz_text(struct span part);

// A file without a name that holds `bytes`: its path, for readers that take one. There are FUZZ_FILES;
// number `file` is overwritten by the next call.
enum { FUZZ_FILES = 4 };
const char *fuzz_file(unsigned file, struct span bytes);

// A directory of this process alone, removed at its end; and a file in it, or (0 bytes) no such file.
const char *fuzz_dir(void);
void fuzz_put(const char *name, struct span bytes);

// For a parser whose outcome tells nothing: it must merely end.
static inline void fuzz_either(enum err err)
{
    (void)err;
}
