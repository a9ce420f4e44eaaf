// store/keyring_file.c: see keyring_file.h.
//
//   header   page 0, of which 512 bytes, one sector, are ever written:
//            "UNLRKR01" | format u32 | bytes of a slot u32 | erase counter u64 |
//            master key's number u8 | zeros [7] | nonce [24] | tag [16] over what stands before
//   slots    from byte 4096 on
#include "store/keyring_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

enum {
    MAGIC_BYTES = 8,
    FORMAT = 1,
    HEAD_BYTES = 32, // What the tag covers.
    HEADER_BYTES = 512,
    SLOT_HEAD_BYTES = 16,
    WINDOW_PAGES = 16, // Read at once where slots are read in order, as a cell's are, or nearly.
    FULL_BYTES = 1 << 20,
};
static const char magic[MAGIC_BYTES] = {'U', 'N', 'L', 'R', 'K', 'R', '0', '1'};

_Static_assert(SLOT_HEAD_BYTES + SEAL_KEY_BYTES + SEAL_TAG_BYTES == SLOT_BYTES, "a slot is full");
_Static_assert(PAGE_BYTES % SLOT_BYTES == 0, "no slot lies across two pages");

static uint64_t le_get64(const uint8_t *in)
{
    uint64_t value;
    memcpy(&value, in, sizeof value);
    return value;
}

// --- Slots ---

uint64_t slot_generation(const uint8_t bytes[static SLOT_BYTES])
{
    return le_get64(bytes);
}

uint8_t slot_master(const uint8_t bytes[static SLOT_BYTES])
{
    return bytes[8];
}

// What a wrapped key is bound to: the slot's head and its number.
static void slot_bound(const uint8_t *head, uint64_t slot, uint8_t out[SLOT_HEAD_BYTES + 8])
{
    memcpy(out, head, SLOT_HEAD_BYTES);
    memcpy(out + SLOT_HEAD_BYTES, &slot, sizeof slot);
}

static void slot_nonce(const struct key_name *name, uint8_t out[SEAL_NONCE_BYTES])
{
    memset(out, 0, SEAL_NONCE_BYTES);
    memcpy(out, &name->generation, 8);
    memcpy(out + 8, &name->slot, 8);
}

void slot_wrap(const struct master *master, uint8_t number, const struct key_name *name,
               const uint8_t key[static SEAL_KEY_BYTES], uint8_t out[static SLOT_BYTES])
{
    uint8_t bound[SLOT_HEAD_BYTES + 8], nonce[SEAL_NONCE_BYTES];
    const uint8_t *const wrapping = master_key(master, number);
    CHECK(wrapping != NULL && name->generation != 0);
    memset(out, 0, SLOT_BYTES);
    memcpy(out, &name->generation, 8);
    out[8] = number;
    slot_bound(out, name->slot, bound);
    slot_nonce(name, nonce);
    seal_put(wrapping, nonce, span_of(bound, sizeof bound), span_of(key, SEAL_KEY_BYTES),
             out + SLOT_HEAD_BYTES);
}

enum err slot_unwrap(const struct master *master, const struct key_name *name,
                     const uint8_t bytes[static SLOT_BYTES], uint8_t key_out[static SEAL_KEY_BYTES])
{
    uint8_t bound[SLOT_HEAD_BYTES + 8], nonce[SEAL_NONCE_BYTES];
    const unsigned long long slot = name->slot;
    if (slot_generation(bytes) != name->generation) {
        FAIL(ERR_CORRUPT, "slot %llu of the keyring holds generation %llu, expected %llu", slot,
             (unsigned long long)slot_generation(bytes), (unsigned long long)name->generation);
    }
    const uint8_t *const wrapping = master_key(master, slot_master(bytes));
    if (wrapping == NULL) {
        FAIL(ERR_CORRUPT,
             "slot %llu of the keyring was wrapped by master key %u, which is not there", slot,
             slot_master(bytes));
    }
    slot_bound(bytes, name->slot, bound);
    slot_nonce(name, nonce);
    if (!seal_get(wrapping, nonce, span_of(bound, sizeof bound),
                  span_of(bytes + SLOT_HEAD_BYTES, SEAL_KEY_BYTES + SEAL_TAG_BYTES), key_out)) {
        FAIL(ERR_CORRUPT, "slot %llu of the keyring is damaged: its key does not open", slot);
    }
    return OK;
}

// --- The file ---

static enum err refused(const char *doing)
{
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
        FAIL(ERR_LIMIT, "the keyring's disk is full while %s", doing);
    }
    FAIL(ERR_IO, "the keyring failed while %s: %s", doing, strerror(errno));
}

enum err keyring_write(struct keyring *keyring, uint64_t offset, struct span bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.bytes;
    for (int i = 0; i < WINDOWS; i++) {
        keyring->windows[i].pages = 0;
    }
    while (left > 0) {
        const ssize_t put = pwrite(keyring->fd, at, left, (off_t)offset);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return refused("writing");
        }
        at += put;
        left -= (size_t)put;
        offset += (uint64_t)put;
    }
    return OK;
}

enum err keyring_sync(struct keyring *keyring)
{
    return fdatasync(keyring->fd) == 0 ? OK : refused("syncing");
}

enum err keyring_grow(struct keyring *keyring, uint64_t slot)
{
    if (slot < keyring->slot_count) {
        return OK;
    }
    const uint64_t wanted = (slot / GROW_SLOTS + 1) * GROW_SLOTS;
    static const uint8_t zeros[GROW_SLOTS * SLOT_BYTES];
    const uint64_t before = keyring->slot_count;
    for (uint64_t from = before; from < wanted; from += GROW_SLOTS) {
        const enum err err =
            keyring_write(keyring, slot_offset(from), span_of(zeros, sizeof zeros));
        if (err != OK) {
            (void)!ftruncate(keyring->fd, (off_t)slot_offset(before));
            return err;
        }
    }
    keyring->slot_count = wanted;
    return OK;
}

static enum err read_all(int fd, uint8_t *out, size_t bytes, uint64_t offset)
{
    size_t got = 0;
    while (got < bytes) {
        const ssize_t now = pread(fd, out + got, bytes - got, (off_t)(offset + got));
        if (now < 0 && errno == EINTR) {
            continue;
        }
        if (now < 0) {
            return refused("reading");
        }
        if (now == 0) {
            memset(out + got, 0, bytes - got); // Beyond the end; whoever asks knows the end.
            return OK;
        }
        got += (size_t)now;
    }
    return OK;
}

// The window that holds the page, or NULL; *least_out: the one that was used least lately.
static struct window *window_of(struct keyring *keyring, uint64_t page, struct window **least_out)
{
    *least_out = &keyring->windows[0];
    for (int i = 0; i < WINDOWS; i++) {
        struct window *const window = &keyring->windows[i];
        if (page >= window->at && page - window->at < window->pages) {
            return window;
        }
        *least_out = window->used < (*least_out)->used ? window : *least_out;
    }
    return NULL;
}

// One page, or many where the last one lay close before it.
static enum err window_fill(struct keyring *keyring, uint64_t page, struct window *window)
{
    const bool near = page > keyring->page_last && page - keyring->page_last <= WINDOW_PAGES;
    const uint64_t pages = near ? WINDOW_PAGES : 1;
    window->pages = 0;
    TRY(read_all(keyring->fd, window->bytes, pages * PAGE_BYTES, page * PAGE_BYTES));
    window->at = page;
    window->pages = pages;
    return OK;
}

enum err keyring_look(struct keyring *keyring, uint64_t slot, const uint8_t **bytes_out)
{
    if (slot >= keyring->slot_count) {
        FAIL(ERR_CORRUPT, "slot %llu of the keyring is named, and it has %llu",
             (unsigned long long)slot, (unsigned long long)keyring->slot_count);
    }
    const uint64_t offset = slot_offset(slot), page = offset / PAGE_BYTES;
    struct window *least = NULL;
    struct window *window = window_of(keyring, page, &least);
    if (window == NULL) {
        window = least;
        TRY(window_fill(keyring, page, window));
        keyring->page_last = page;
    }
    window->used = ++keyring->looks;
    *bytes_out = window->bytes + (offset - window->at * PAGE_BYTES);
    return OK;
}

enum err keyring_read_direct(struct keyring *keyring, uint64_t page, uint64_t count,
                             const uint8_t **pages_out)
{
    CHECK(count <= DIRECT_PAGES);
    const uint64_t offset = page * PAGE_BYTES, bytes = count * PAGE_BYTES;
    *pages_out = keyring->direct;
    if (keyring->direct_fd >= 0) {
        const ssize_t got = pread(keyring->direct_fd, keyring->direct, bytes, (off_t)offset);
        if (got >= 0) {
            memset(keyring->direct + got, 0, bytes - (size_t)got);
            return OK;
        }
        if (errno != EINVAL) {
            return refused("reading back");
        }
    }
    // No O_DIRECT here: the pages are clean after the sync, and can be dropped from the cache.
    (void)posix_fadvise(keyring->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
    return read_all(keyring->fd, keyring->direct, bytes, offset);
}

// --- Header ---

static enum err header_write(int fd, const struct master *master, uint8_t number, uint64_t counter)
{
    struct buf head = {0};
    uint8_t header[HEADER_BYTES] = {0};
    buf_put(&head, span_of(magic, MAGIC_BYTES));
    buf_u32(&head, FORMAT);
    buf_u32(&head, SLOT_BYTES);
    buf_u64(&head, counter);
    buf_u64(&head, number);
    CHECK(head.bytes == HEAD_BYTES);
    memcpy(header, head.data, HEAD_BYTES);
    buf_deinit(&head);
    digest_random(header + HEAD_BYTES, SEAL_NONCE_BYTES);
    seal_put(master_key(master, number), header + HEAD_BYTES, span_of(header, HEAD_BYTES),
             span_of("", 0), header + HEAD_BYTES + SEAL_NONCE_BYTES);
    return pwrite(fd, header, sizeof header, 0) == (ssize_t)sizeof header ? OK : refused("writing");
}

enum err keyring_header_write(struct keyring *keyring, uint8_t master_number, uint64_t counter)
{
    TRY(header_write(keyring->fd, keyring->master, master_number, counter));
    keyring->counter = counter;
    return OK;
}

static enum err header_read(struct keyring *keyring, const char *path)
{
    uint8_t header[HEADER_BYTES], nothing[1];
    TRY(read_all(keyring->fd, header, sizeof header, 0));
    struct cursor cursor = cursor_of(span_of(header, HEAD_BYTES));
    const struct span start = cursor_take(&cursor, MAGIC_BYTES);
    const uint32_t format = cursor_u32(&cursor), slot_bytes = cursor_u32(&cursor);
    keyring->counter = cursor_u64(&cursor);
    const uint64_t number = cursor_u64(&cursor);
    if (memcmp(start.data, magic, MAGIC_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "%s is not a keyring of ours", path);
    }
    if (format > FORMAT) {
        FAIL(ERR_INCOMPATIBLE,
             "%s has format %u and this program knows formats up to %d: use a newer one", path,
             format, (int)FORMAT);
    }
    if (format != FORMAT || slot_bytes != SLOT_BYTES || number == 0 || number > UINT8_MAX) {
        FAIL(ERR_CORRUPT, "the header of %s is damaged", path);
    }
    keyring->master_number = (uint8_t)number;
    const uint8_t *const wrapping = master_key(keyring->master, keyring->master_number);
    if (wrapping == NULL) {
        FAIL(ERR_CONFLICT, "%s was made under master key %u, which is not there", path,
             keyring->master_number);
    }
    if (!seal_get(wrapping, header + HEAD_BYTES, span_of(header, HEAD_BYTES),
                  span_of(header + HEAD_BYTES + SEAL_NONCE_BYTES, SEAL_TAG_BYTES), nothing)) {
        FAIL(ERR_CONFLICT,
             "the header of %s does not open with master key %u: it is damaged, or that is the "
             "key of another cluster",
             path, keyring->master_number);
    }
    return OK;
}

// --- Making, opening ---

enum err keyring_create(const char *path, const struct master *master)
{
    static const uint8_t page[PAGE_BYTES];
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        FAIL(errno == EEXIST ? ERR_CONFLICT : ERR_IO, "%s: %s", path, strerror(errno));
    }
    enum err err =
        pwrite(fd, page, sizeof page, 0) == (ssize_t)sizeof page ? OK : refused("making it");
    err = err == OK ? header_write(fd, master, 1, 0) : err;
    if (err == OK && fsync(fd) != 0) {
        err = refused("making it");
    }
    (void)close(fd);
    if (err != OK) {
        (void)unlink(path);
    }
    return err;
}

static enum err open_in(struct keyring *keyring, const char *path)
{
    keyring->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (keyring->fd < 0) {
        FAIL(errno == ENOENT                     ? ERR_NOT_FOUND
             : errno == ELOOP || errno == EACCES ? ERR_DENIED
                                                 : ERR_IO,
             "the keyring %s: %s", path, strerror(errno));
    }
    struct stat found;
    if (fstat(keyring->fd, &found) != 0) {
        return refused("opening");
    }
    if (!S_ISREG(found.st_mode) || found.st_uid != geteuid() || (found.st_mode & 077) != 0) {
        FAIL(ERR_DENIED,
             "the keyring %s must be a plain file of user %u with mode 0600, found mode %04o of "
             "user %u",
             path, (unsigned)geteuid(), (unsigned)found.st_mode & 07777, (unsigned)found.st_uid);
    }
    if (found.st_size < PAGE_BYTES) {
        FAIL(ERR_CORRUPT, "the keyring %s has %lld bytes, expected at least %d", path,
             (long long)found.st_size, (int)PAGE_BYTES);
    }
    keyring->slot_count = ((uint64_t)found.st_size - PAGE_BYTES) / SLOT_BYTES;
    TRY(header_read(keyring, path));
    keyring->direct_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECT);
    return OK;
}

enum err keyring_open(const char *path, const struct master *master, struct keyring **keyring_out)
{
    struct keyring *const keyring = mem_alloc(1, sizeof *keyring);
    keyring->master = master;
    keyring->fd = keyring->direct_fd = -1;
    *keyring_out = NULL;
    enum err err = OK;
    for (int i = 0; i < WINDOWS && err == OK; i++) {
        err = mem_try_aligned(WINDOW_PAGES, PAGE_BYTES, &keyring->windows[i].bytes);
    }
    if (err == OK && posix_memalign((void **)&keyring->direct, PAGE_BYTES,
                                    (size_t)DIRECT_PAGES * PAGE_BYTES) != 0) {
        err = err_raise(ERR_LIMIT, "no memory to read the keyring back");
    }
    err = err == OK ? open_in(keyring, path) : err;
    if (err != OK) {
        keyring_close(keyring);
        return err;
    }
    *keyring_out = keyring;
    return OK;
}

void keyring_close(struct keyring *keyring)
{
    if (keyring == NULL) {
        return;
    }
    if (keyring->fd >= 0) {
        (void)close(keyring->fd);
    }
    if (keyring->direct_fd >= 0) {
        (void)close(keyring->direct_fd);
    }
    mem_free(keyring->used);
    mem_free(keyring->fresh);
    mem_free(keyring->runs);
    mem_free(keyring->gone);
    mem_free(keyring->expected);
    for (int i = 0; i < WINDOWS; i++) {
        mem_free(keyring->windows[i].bytes);
    }
    mem_free(keyring->direct);
    mem_free(keyring);
}

uint64_t keyring_erase_counter(const struct keyring *keyring)
{
    return keyring->counter;
}

uint8_t keyring_master_number(const struct keyring *keyring)
{
    return keyring->master_number;
}
