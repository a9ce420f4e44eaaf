// client/scan.c: see scan.h.
//
// One pass over the bytes, whatever the number of needles: a table of the 65,536 pairs of bytes tells
// which needles begin with the pair at hand, and these are compared.
#include "client/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"

enum { BLOCK_BYTES = 1 << 22, PAIRS = 1 << 16, PAGE = 4096 };

struct needle {
    uint8_t *bytes; // Owned.
    size_t count;
    int64_t next; // The next needle that begins with the same two bytes; -1: none.
};

struct file_id { // Needle files.
    dev_t device;
    ino_t inode;
};

struct scan {
    struct needle *needles;
    size_t needle_count;
    int64_t *first; // [PAIRS]: the first needle that begins so; -1: none.
    size_t longest;
    struct file_id *own;
    size_t own_count;
    uint8_t *block; // [BLOCK_BYTES + longest]
    struct scan_counts counts;
    void (*found)(void *context, const struct scan_place *place);
    void *context;
};

struct scan *scan_new(void (*found)(void *context, const struct scan_place *place), void *context)
{
    struct scan *const scan = mem_alloc(1, sizeof *scan);
    scan->first = mem_alloc(PAIRS, sizeof *scan->first);
    memset(scan->first, 0xFF, PAIRS * sizeof *scan->first);
    scan->found = found;
    scan->context = context;
    return scan;
}

void scan_free(struct scan *scan)
{
    if (scan == NULL) {
        return;
    }
    for (size_t i = 0; i < scan->needle_count; i++) {
        mem_free(scan->needles[i].bytes);
    }
    mem_free(scan->needles);
    mem_free(scan->first);
    mem_free(scan->own);
    mem_free(scan->block);
    mem_free(scan);
}

size_t scan_needle_count(const struct scan *scan)
{
    return scan->needle_count;
}

struct scan_counts scan_counts(const struct scan *scan)
{
    return scan->counts;
}

// --- Needles ---

static enum err add(struct scan *scan, const char *path, struct span bytes)
{
    if (bytes.bytes < SCAN_NEEDLE_BYTES_MIN || bytes.bytes > SCAN_NEEDLE_BYTES_MAX) {
        FAIL(ERR_INVALID, "%s: a needle of %zu bytes, expected %d to %d", path, bytes.bytes,
             (int)SCAN_NEEDLE_BYTES_MIN, (int)SCAN_NEEDLE_BYTES_MAX);
    }
    if (scan->needle_count >= SCAN_NEEDLES_MAX) {
        FAIL(ERR_INVALID, "%s: more than %d needles", path, (int)SCAN_NEEDLES_MAX);
    }
    scan->needles = mem_resize(scan->needles, scan->needle_count + 1, sizeof *scan->needles);
    struct needle *const needle = &scan->needles[scan->needle_count];
    needle->bytes = mem_alloc(bytes.bytes, 1);
    needle->count = bytes.bytes;
    memcpy(needle->bytes, bytes.data, bytes.bytes);
    const size_t pair = (size_t)needle->bytes[0] | (size_t)needle->bytes[1] << 8;
    needle->next = scan->first[pair];
    scan->first[pair] = (int64_t)scan->needle_count++;
    scan->longest = bytes.bytes > scan->longest ? bytes.bytes : scan->longest;
    mem_free(scan->block);
    scan->block = NULL;
    return OK;
}

static bool is_text(struct span bytes)
{
    const uint8_t *const at = bytes.data;
    for (size_t i = 0; i < bytes.bytes; i++) {
        if ((at[i] < ' ' && at[i] != '\n' && at[i] != '\r' && at[i] != '\t') || at[i] == 0x7F) {
            return false;
        }
    }
    return true;
}

static enum err add_lines(struct scan *scan, const char *path, struct span text)
{
    const char *at = text.data;
    const char *const end = at + text.bytes;
    while (at < end) {
        const char *const stop = memchr(at, '\n', (size_t)(end - at));
        const char *const next = stop == NULL ? end : stop;
        size_t bytes = (size_t)(next - at);
        if (bytes > 0 && at[bytes - 1] == '\r') {
            bytes--;
        }
        if (bytes > 0) {
            TRY(add(scan, path, span_of(at, bytes)));
        }
        at = next + 1;
    }
    return OK;
}

static enum err read_whole(int fd, const char *path, struct buf *buf)
{
    for (;;) {
        const size_t before = buf->bytes;
        uint8_t *const room = buf_room(buf, 65536);
        const ssize_t got = read(fd, room, 65536);
        buf->bytes = before + (got > 0 ? (size_t)got : 0);
        if (got < 0) {
            FAIL(ERR_IO, "%s: %s", path, strerror(errno));
        }
        if (got == 0) {
            return OK;
        }
        if (buf->bytes > (size_t)SCAN_NEEDLE_BYTES_MAX * 64) {
            FAIL(ERR_INVALID, "%s is too long for a file of needles", path);
        }
    }
}

enum err scan_add_file(struct scan *scan, const char *path)
{
    struct buf bytes = {0};
    struct stat found;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &found) != 0) {
        FAIL(errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "the needle %s: %s", path, strerror(errno));
    }
    const size_t before = scan->needle_count;
    enum err err = read_whole(fd, path, &bytes);
    (void)close(fd);
    if (err == OK) {
        err = is_text(buf_span(&bytes)) ? add_lines(scan, path, buf_span(&bytes))
                                        : add(scan, path, buf_span(&bytes));
    }
    buf_deinit(&bytes);
    TRY(err);
    if (scan->needle_count == before) {
        FAIL(ERR_INVALID, "%s holds no needle", path);
    }
    scan->own = mem_resize(scan->own, scan->own_count + 1, sizeof *scan->own);
    scan->own[scan->own_count++] = (struct file_id){found.st_dev, found.st_ino};
    return OK;
}

// --- Looking ---

// Looks at every place from 0 up to but not including `starts`; the block has `bytes`.
static void search(struct scan *scan, const char *where, uint64_t base, size_t starts, size_t bytes)
{
    const uint8_t *const block = scan->block;
    for (size_t i = 0; i < starts && i + 1 < bytes; i++) {
        int64_t n = scan->first[(size_t)block[i] | (size_t)block[i + 1] << 8];
        for (; n >= 0; n = scan->needles[n].next) {
            const struct needle *const needle = &scan->needles[n];
            if (needle->count <= bytes - i &&
                memcmp(block + i, needle->bytes, needle->count) == 0) {
                const struct scan_place place = {where, base + i, (size_t)n};
                scan->counts.found++;
                scan->found(scan->context, &place);
            }
        }
    }
}

// Reads from `from` to `to` (0: the end) and searches it. A piece of memory that cannot be read is passed
// over where `memory` is set.
static enum err scan_range(struct scan *scan, int fd, const char *where, uint64_t from, uint64_t to,
                           bool memory)
{
    size_t held = 0; // Of what was read before: the start of a needle may be there.
    uint64_t at = from;
    if (scan->block == NULL) {
        scan->block = mem_alloc(BLOCK_BYTES + scan->longest, 1);
    }
    for (;;) {
        const uint64_t left = to == 0 ? BLOCK_BYTES : to - at;
        const ssize_t got = left == 0
                                ? 0
                                : pread(fd, scan->block + held,
                                        left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && !memory) {
            FAIL(ERR_IO, "%s: %s", where, strerror(errno));
        }
        const size_t bytes = held + (got > 0 ? (size_t)got : 0);
        const uint64_t base = at - held;
        const bool last = got <= 0;
        const size_t starts = last ? bytes : bytes < scan->longest ? 0 : bytes - scan->longest + 1;
        search(scan, where, base, starts, bytes);
        held = bytes - starts;
        memmove(scan->block, scan->block + starts, held);
        if (got > 0) {
            scan->counts.bytes += (uint64_t)got;
            at += (uint64_t)got;
        } else if (got < 0 && left > PAGE) { // A page of it is not there: the next one may be.
            at = (at / PAGE + 1) * PAGE;
            held = 0;
        } else {
            mem_wipe(scan->block, BLOCK_BYTES + scan->longest);
            return OK;
        }
    }
}

static bool is_own(const struct scan *scan, const struct stat *found)
{
    for (size_t i = 0; i < scan->own_count; i++) {
        if (scan->own[i].device == found->st_dev && scan->own[i].inode == found->st_ino) {
            return true;
        }
    }
    return false;
}

static enum err scan_file(struct scan *scan, const char *path, const struct stat *found)
{
    if ((!S_ISREG(found->st_mode) && !S_ISBLK(found->st_mode)) || is_own(scan, found)) {
        return OK;
    }
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ELOOP)) {
        return OK;
    }
    if (fd < 0) {
        FAIL(errno == EACCES || errno == EPERM ? ERR_DENIED : ERR_IO, "%s: %s", path,
             strerror(errno));
    }
    scan->counts.files++;
    const enum err err = scan_range(scan, fd, path, 0, 0, false);
    (void)close(fd);
    return err;
}

static enum err scan_any(struct scan *scan, const char *path, bool named);

static enum err scan_directory(struct scan *scan, const char *path)
{
    DIR *const listing = opendir(path);
    enum err err = OK;
    if (listing == NULL) {
        if (errno == ENOENT) {
            return OK;
        }
        FAIL(errno == EACCES || errno == EPERM ? ERR_DENIED : ERR_IO, "%s: %s", path,
             strerror(errno));
    }
    for (const struct dirent *entry; err == OK && (entry = readdir(listing)) != NULL;) {
        char inner[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if ((size_t)snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name) >= sizeof inner) {
            err = err_raise(ERR_INVALID, "a path below %s is longer than %d bytes", path,
                            (int)sizeof inner);
        } else {
            err = scan_any(scan, inner, false);
        }
    }
    (void)closedir(listing);
    return err;
}

static enum err scan_any(struct scan *scan, const char *path, bool named)
{
    struct stat found;
    if ((named ? stat(path, &found) : lstat(path, &found)) != 0) {
        if (errno == ENOENT && !named) {
            return OK;
        }
        FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND
             : errno == EACCES                   ? ERR_DENIED
                                                 : ERR_IO,
             "%s: %s", path, strerror(errno));
    }
    return S_ISDIR(found.st_mode) ? scan_directory(scan, path) : scan_file(scan, path, &found);
}

enum err scan_path(struct scan *scan, const char *path)
{
    char real[PATH_MAX];
    // A link that was named is what it leads to.
    return scan_any(scan, realpath(path, real) == NULL ? path : real, true);
}

// --- Memory ---

static enum err scan_mappings(struct scan *scan, FILE *maps, int memory, pid_t pid)
{
    char *line = NULL;
    size_t room = 0;
    enum err err = OK;
    while (err == OK && getline(&line, &room, maps) > 0) {
        char *end = NULL;
        const uint64_t from = strtoull(line, &end, 16);
        const uint64_t to = *end == '-' ? strtoull(end + 1, &end, 16) : from;
        const bool readable = *end == ' ' && end[1] == 'r';
        line[strcspn(line, "\n")] = '\0';
        const char *const name = strpbrk(line, "/[");
        // What the kernel maps for its own clock is nobody's memory.
        if (!readable || to <= from || from > INT64_MAX ||
            (name != NULL && (strncmp(name, "[vvar", 5) == 0 || strcmp(name, "[vsyscall]") == 0))) {
            continue;
        }
        char where[PATH_MAX + 64];
        snprintf(where, sizeof where, "process %d %s", (int)pid, name == NULL ? "[heap?]" : name);
        scan->counts.files++;
        err = scan_range(scan, memory, where, from, to, true);
    }
    free(line); // getline's own.
    return err;
}

enum err scan_process(struct scan *scan, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *const maps = fopen(path, "re");
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    const int memory = maps == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (maps == NULL || memory < 0) {
        const int why = errno;
        if (maps != NULL) {
            (void)fclose(maps);
        }
        FAIL(why == ENOENT ? ERR_NOT_FOUND : ERR_DENIED, "the memory of process %d: %s%s", (int)pid,
             strerror(why), why == ENOENT ? "" : ": only root may look into our processes");
    }
    const enum err err = scan_mappings(scan, maps, memory, pid);
    (void)close(memory);
    (void)fclose(maps);
    return err;
}
