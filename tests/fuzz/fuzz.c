// tests/fuzz/fuzz.c: see fuzz.h.
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/digest.h"
#include "base/mem.h"
#include "tests/unit/scratch.h"

static char dir[SCRATCH_BYTES];

// NOLINTNEXTLINE(readability-non-const-parameter): libFuzzer says what it is.
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    CHECK(digest_start() == OK);
    return 0;
}

struct span fuzz_part(struct span *rest)
{
    const struct span cut = span_text(FUZZ_CUT);
    const uint8_t *const data = rest->data;
    for (size_t i = 0; i + cut.bytes <= rest->bytes; i++) {
        if (memcmp(data + i, cut.data, cut.bytes) == 0) {
            *rest = span_of(data + i + cut.bytes, rest->bytes - i - cut.bytes);
            return span_of(data, i);
        }
    }
    const struct span last = *rest;
    *rest = span_of("", 0);
    return last;
}

char *fuzz_text(struct span part)
{
    char *const text = mem_alloc(1, part.bytes + 1);
    if (part.bytes > 0) {
        memcpy(text, part.data, part.bytes);
    }
    return text;
}

static void write_all(int fd, struct span bytes)
{
    const char *at = bytes.data;
    for (size_t left = bytes.bytes; left > 0;) {
        const ssize_t wrote = write(fd, at, left);
        CHECK(wrote > 0);
        at += wrote;
        left -= (size_t)wrote;
    }
}

const char *fuzz_file(unsigned file, struct span bytes)
{
    static int fds[FUZZ_FILES];
    static char paths[FUZZ_FILES][32];
    CHECK(file < FUZZ_FILES);
    if (fds[file] == 0) {
        fds[file] = memfd_create("fuzz", MFD_CLOEXEC);
        CHECK(fds[file] > 0);
        snprintf(paths[file], sizeof paths[file], "/proc/self/fd/%d", fds[file]);
    }
    CHECK(ftruncate(fds[file], 0) == 0 && lseek(fds[file], 0, SEEK_SET) == 0);
    write_all(fds[file], bytes);
    return paths[file];
}

static void remove_dir(void)
{
    scratch_remove(dir);
}

const char *fuzz_dir(void)
{
    if (dir[0] == '\0') {
        CHECK(scratch_make(dir));
        CHECK(atexit(remove_dir) == 0);
    }
    return dir;
}

void fuzz_put(const char *name, struct span bytes)
{
    char path[SCRATCH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%.60s", fuzz_dir(), name);
    if (bytes.bytes == 0) {
        (void)unlink(path);
        return;
    }
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    write_all(fd, bytes);
    CHECK(close(fd) == 0);
}
