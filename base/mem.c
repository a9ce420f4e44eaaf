// base/mem.c: see mem.h.
//
// The program's own `free` and `realloc` stand before glibc's, also for the libraries: libzmq's
// messages, protobuf-c's, LMDB's pages, Open MPI's buffers and C++'s delete all come through here, so
// that no block goes back to the heap with what was in it. glibc lets an executable do that; its own
// calls come through here too. Sanitizers bring an allocator of their own, which is left alone.
#include "base/mem.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum {
    ALIGNMENT = 64,
    // Up to it glibc's malloc has blocks of each thread's own at hand; its calloc asks the arena, which all share.
    SMALL = 1024,
};

#if defined(__has_feature) // clang's; gcc defines __SANITIZE_ADDRESS__.
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#endif

#if !defined(SANITIZED) && !defined(UNLEARN_BARE)

extern void __libc_free(void *memory);
extern void *__libc_malloc(size_t bytes);

void free(void *memory)
{
    if (memory != NULL) {
        const int before = errno; // free keeps it.
        explicit_bzero(memory, malloc_usable_size(memory));
        __libc_free(memory);
        errno = before;
    }
}

// Never in place, unless the block has the room already: glibc would move it and leave the old bytes.
void *realloc(void *memory, size_t bytes)
{
    if (memory == NULL) {
        return __libc_malloc(bytes);
    }
    if (bytes == 0) {
        free(memory);
        return NULL;
    }
    const size_t room = malloc_usable_size(memory);
    if (bytes <= room && bytes >= room / 2) {
        return memory;
    }
    void *const moved = __libc_malloc(bytes);
    if (moved != NULL) {
        memcpy(moved, memory, bytes < room ? bytes : room);
        free(memory);
    }
    return moved;
}

#endif

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
    size_t total;
    if (!__builtin_mul_overflow(n, b, &total) && total <= SMALL) {
        return memset(must(malloc(total), n, b), 0, total);
    }
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

void mem_wipe(void *memory, size_t bytes)
{
#ifdef UNLEARN_BARE
    (void)memory;
    (void)bytes;
#else
    if (bytes > 0) {
        explicit_bzero(memory, bytes);
    }
#endif
}
