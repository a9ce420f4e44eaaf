// base/mem.c: see mem.h.
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { ALIGNMENT = 64 };

static void *must(void *memory, size_t count, size_t bytes)
{
    if (memory == NULL) {
        fprintf(stderr, "level=error event=memory_refused bytes=%zu\n", count * bytes);
        abort();
    }
    return memory;
}

void *mem_alloc(size_t count, size_t bytes)
{
    const size_t n = count == 0 || bytes == 0 ? 1 : count;
    const size_t b = bytes == 0 ? 1 : bytes;
    return must(calloc(n, b), n, b);
}

void *mem_resize(void *memory, size_t count, size_t bytes)
{
    CHECK(count > 0 && bytes > 0);
    return must(reallocarray(memory, count, bytes), count, bytes);
}

enum err mem_try_aligned(size_t count, size_t bytes, void *memory_out)
{
    void **const out = memory_out;
    *out = NULL;
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total) || total > SIZE_MAX - ALIGNMENT) {
        FAIL(ERR_LIMIT, "an array of %zu x %zu bytes is more than this machine can address", count,
             bytes);
    }
    total = (total + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *const memory = aligned_alloc(ALIGNMENT, total == 0 ? ALIGNMENT : total);
    if (memory == NULL) {
        FAIL(ERR_LIMIT, "the system refused %zu bytes of memory", total);
    }
    memset(memory, 0, total == 0 ? ALIGNMENT : total);
    *out = memory;
    return OK;
}

char *mem_text(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    return memcpy(mem_alloc(1, bytes), text, bytes);
}

void mem_free(void *memory)
{
    free(memory);
}
