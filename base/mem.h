// base/mem.h: memory that the rest of the project allocates.
//
// Small, bounded requests cannot fail: when the kernel refuses them the process ends with a clear
// line (a service that restarts in a second is better than one that limps). Sizes that input
// decides are bounded first and asked for with mem_try_*, which may say no.
//
// What is freed is wiped first: by mem_free, and by every `free` and `realloc` of the libraries that
// the program uses. What lies in a buffer that is kept is its owner's to wipe: mem_wipe.
//
// Threads   Any.
#pragma once

#include <stddef.h>

#include "base/err.h"

// Returns zeroed memory for count * bytes; never NULL. Free with mem_free.
void *mem_alloc(size_t count, size_t bytes);

// As realloc for an array; the added part is not zeroed. Never NULL for a size above 0.
void *mem_resize(void *memory, size_t count, size_t bytes);

// Returns zeroed memory aligned to 64 bytes, so that a matrix product sees the same alignment
// wherever it runs. ERR_LIMIT: the kernel refused; *memory_out is NULL.
MUST_USE enum err mem_try_aligned(size_t count, size_t bytes, void *memory_out);

char *mem_text(const char *text); // A copy; never NULL.
void mem_free(void *memory);      // Accepts NULL. Wipes.

// Overwrites with zeros; no compiler leaves it out.
void mem_wipe(void *memory, size_t bytes);
