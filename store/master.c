// store/master.c: see master.h.
//
//   N.key    "UNLRMK01" | number u8 | zeros [7] | key [32] | check [16]                  64 bytes
//            check: the first bytes of BLAKE2b-256, domain "unlearnd-master", over what stands before
//   anchor   "UNLRAN01" | number u8 of the master key | zeros [7] | nonce [24] | sealed [64]
//            sealed: erase_counter u64 | log_size u64 | log_root [32] | tag [16]
#include "store/master.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/sync.h"
#include "base/text.h"

enum {
    PATH_BYTES = 4096,
    MAGIC_BYTES = 8,
    HEAD_BYTES = 16,
    CHECK_BYTES = 16,
    FILE_BYTES = HEAD_BYTES + SEAL_KEY_BYTES + CHECK_BYTES,
    ANCHOR_BYTES = 8 + 8 + DIGEST_BYTES,
    ANCHOR_FILE_BYTES = HEAD_BYTES + SEAL_NONCE_BYTES + ANCHOR_BYTES + SEAL_TAG_BYTES,
    NUMBERS = 256,
};
static const char key_magic[MAGIC_BYTES] = {'U', 'N', 'L', 'R', 'M', 'K', '0', '1'};
static const char anchor_magic[MAGIC_BYTES] = {'U', 'N', 'L', 'R', 'A', 'N', '0', '1'};

struct master { // In locked memory.
    char path[PATH_BYTES];
    bool have[NUMBERS];
    uint8_t keys[NUMBERS][SEAL_KEY_BYTES];
};

// --- Paths and files ---

static enum err path_of(char out[static PATH_BYTES], const char *dir, const char *tail)
{
    if ((size_t)snprintf(out, PATH_BYTES, "%s%s", dir, tail) >= PATH_BYTES) {
        FAIL(ERR_INVALID, "the path of the data directory is longer than %d bytes",
             (int)PATH_BYTES);
    }
    return OK;
}

static enum err key_path(char out[static PATH_BYTES], const char *master_dir, uint8_t number)
{
    char tail[16];
    snprintf(tail, sizeof tail, "/%u.key", number);
    return path_of(out, master_dir, tail);
}

static enum err write_file(const char *path, int flags, const uint8_t *bytes, size_t count)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    if (fd < 0) {
        FAIL(errno == EEXIST ? ERR_CONFLICT : ERR_IO, "%s: %s", path, strerror(errno));
    }
    const bool written = write(fd, bytes, count) == (ssize_t)count && fdatasync(fd) == 0;
    const int why = errno;
    (void)close(fd);
    if (!written) {
        FAIL(ERR_IO, "%s: %s", path, strerror(why));
    }
    return OK;
}

// Reads a plain file of exactly `count` bytes that only we may touch.
static enum err read_file(const char *path, const char *what, uint8_t *out, size_t count)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        FAIL(errno == ENOENT                     ? ERR_NOT_FOUND
             : errno == ELOOP || errno == EACCES ? ERR_DENIED
                                                 : ERR_IO,
             "the %s %s: %s", what, path, strerror(errno));
    }
    struct stat found;
    ssize_t got = -1;
    const bool known = fstat(fd, &found) == 0;
    const bool plain = known && S_ISREG(found.st_mode);
    const unsigned mode = known ? (unsigned)found.st_mode & 07777 : 0;
    const bool ours = known && found.st_uid == geteuid();
    if (plain && ours && (mode & 077) == 0) {
        got = read(fd, out, count);
    }
    (void)close(fd);
    if (!plain) {
        FAIL(ERR_DENIED, "the %s %s is no plain file", what, path);
    }
    if (!ours) {
        FAIL(ERR_DENIED, "the %s %s belongs to user %u, expected %u", what, path,
             (unsigned)found.st_uid, (unsigned)geteuid());
    }
    if ((mode & 077) != 0) {
        FAIL(ERR_DENIED, "the %s %s has mode %04o, expected 0600: others may read it", what, path,
             mode);
    }
    if (got != (ssize_t)count || found.st_size != (off_t)count) {
        FAIL(ERR_CORRUPT, "the %s %s has %lld bytes, expected %zu", what, path,
             (long long)found.st_size, count);
    }
    return OK;
}

// --- Keys ---

static void key_check(const uint8_t file[static FILE_BYTES], uint8_t out[static CHECK_BYTES])
{
    const struct span part = span_of(file, FILE_BYTES - CHECK_BYTES);
    struct digest digest = digest_of("unlearnd-master", &part, 1);
    memcpy(out, digest.bytes, CHECK_BYTES);
    mem_wipe(&digest, sizeof digest);
}

static enum err key_write(const char *master_dir, uint8_t number,
                          uint8_t key_out[static SEAL_KEY_BYTES])
{
    uint8_t file[FILE_BYTES] = {0};
    char path[PATH_BYTES];
    TRY(key_path(path, master_dir, number));
    memcpy(file, key_magic, MAGIC_BYTES);
    file[MAGIC_BYTES] = number;
    digest_random(file + HEAD_BYTES, SEAL_KEY_BYTES);
    key_check(file, file + HEAD_BYTES + SEAL_KEY_BYTES);
    memcpy(key_out, file + HEAD_BYTES, SEAL_KEY_BYTES);
    const enum err err = write_file(path, O_CREAT | O_EXCL, file, sizeof file);
    mem_wipe(file, sizeof file);
    TRY(err);
    return sync_dir(master_dir);
}

static enum err key_take(struct master *master, uint8_t number, const char *path,
                         const uint8_t file[static FILE_BYTES])
{
    static const uint8_t destroyed[FILE_BYTES];
    uint8_t check[CHECK_BYTES];
    if (memcmp(file, destroyed, FILE_BYTES) == 0) {
        return OK; // master_destroy died between overwriting it and taking it away.
    }
    key_check(file, check);
    if (memcmp(file, key_magic, MAGIC_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "%s is not a master key of ours", path);
    }
    if (memcmp(check, file + HEAD_BYTES + SEAL_KEY_BYTES, CHECK_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "the master key %s is damaged: it does not have its check bytes", path);
    }
    if (file[MAGIC_BYTES] != number) {
        FAIL(ERR_CORRUPT, "%s holds master key number %u: it was renamed", path, file[MAGIC_BYTES]);
    }
    memcpy(master->keys[number], file + HEAD_BYTES, SEAL_KEY_BYTES);
    master->have[number] = true;
    return OK;
}

static enum err key_read(struct master *master, uint8_t number)
{
    char path[PATH_BYTES];
    uint8_t file[FILE_BYTES];
    TRY(key_path(path, master->path, number));
    enum err err = read_file(path, "master key", file, sizeof file);
    if (err == OK) {
        err = key_take(master, number, path, file);
    }
    mem_wipe(file, sizeof file);
    return err;
}

static enum err read_keys(struct master *master, DIR *listing)
{
    bool any = false;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        char digits[8];
        uint64_t number = 0;
        const size_t bytes = strlen(entry->d_name);
        if (bytes < 5 || bytes > 7 || strcmp(entry->d_name + bytes - 4, ".key") != 0) {
            continue;
        }
        snprintf(digits, sizeof digits, "%.*s", (int)(bytes - 4), entry->d_name);
        if (text_u64(digits, NUMBERS - 1, &number) == OK && number > 0) {
            TRY(key_read(master, (uint8_t)number));
            any = any || master->have[number];
        }
    }
    if (!any) {
        FAIL(ERR_NOT_FOUND, "%s holds no master key: without it nothing in the store can be read",
             master->path);
    }
    return OK;
}

enum err master_create(const char *dir)
{
    char path[PATH_BYTES];
    uint8_t key[SEAL_KEY_BYTES];
    TRY(path_of(path, dir, ".master"));
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    if (rmdir(path) != 0 || mkdir(path, 0700) != 0) {
        FAIL(ERR_CONFLICT, "%s: %s, expected a new or an empty directory", path, strerror(errno));
    }
    const enum err err = key_write(path, 1, key);
    mem_wipe(key, sizeof key);
    if (err != OK) {
        master_uncreate(dir);
    }
    return err;
}

void master_uncreate(const char *dir)
{
    char path[PATH_BYTES], file[PATH_BYTES];
    if (path_of(path, dir, ".master") == OK && key_path(file, path, 1) == OK) {
        (void)unlink(file);
        (void)rmdir(path);
    }
}

enum err master_open(const char *dir, struct master **master_out)
{
    struct master *master = seal_room(sizeof *master);
    *master_out = NULL;
    if (master == NULL) {
        FAIL(ERR_IO, "no memory for the master key: raise `ulimit -l`");
    }
    enum err err = path_of(master->path, dir, ".master");
    DIR *const listing = err == OK ? opendir(master->path) : NULL;
    if (err == OK && listing == NULL) {
        err = err_raise(errno == ENOENT ? ERR_NOT_FOUND : ERR_IO,
                        "the directory of the master key, %s: %s", master->path, strerror(errno));
    }
    if (listing != NULL) {
        err = read_keys(master, listing);
        (void)closedir(listing);
    }
    if (err != OK) {
        master_close(master);
        return err;
    }
    *master_out = master;
    return OK;
}

void master_close(struct master *master)
{
    seal_room_free(master);
}

const uint8_t *master_key(const struct master *master, uint8_t number)
{
    return master->have[number] ? master->keys[number] : NULL;
}

enum err master_add(struct master *master, uint8_t number)
{
    CHECK(number > 0);
    TRY(key_write(master->path, number, master->keys[number]));
    master->have[number] = true;
    return OK;
}

enum err master_destroy(struct master *master, uint8_t number)
{
    static const uint8_t zeros[FILE_BYTES];
    char path[PATH_BYTES];
    uint8_t back[FILE_BYTES];
    TRY(key_path(path, master->path, number));
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        return OK;
    }
    TRY(write_file(path, 0, zeros, sizeof zeros));
    TRY(read_file(path, "master key", back, sizeof back));
    if (memcmp(back, zeros, sizeof back) != 0) {
        FAIL(ERR_IO, "the master key %s was overwritten and is still there", path);
    }
    if (unlink(path) != 0) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    mem_wipe(master->keys[number], SEAL_KEY_BYTES);
    master->have[number] = false;
    return sync_dir(master->path);
}

// --- Anchor ---

enum err anchor_put(const struct master *master, uint8_t number, const struct anchor *anchor)
{
    char path[PATH_BYTES], fresh[PATH_BYTES];
    uint8_t file[ANCHOR_FILE_BYTES] = {0};
    struct buf plain = {0};
    CHECK(master->have[number]);
    TRY(path_of(path, master->path, "/anchor"));
    TRY(path_of(fresh, master->path, "/anchor.new"));
    buf_u64(&plain, anchor->erase_counter);
    buf_u64(&plain, anchor->log_size);
    buf_put(&plain, span_of(anchor->log_root.bytes, DIGEST_BYTES));
    memcpy(file, anchor_magic, MAGIC_BYTES);
    file[MAGIC_BYTES] = number;
    digest_random(file + HEAD_BYTES, SEAL_NONCE_BYTES);
    seal_put(master->keys[number], file + HEAD_BYTES, span_of(file, HEAD_BYTES), buf_span(&plain),
             file + HEAD_BYTES + SEAL_NONCE_BYTES);
    buf_deinit(&plain);
    TRY(write_file(fresh, O_CREAT | O_TRUNC, file, sizeof file));
    if (rename(fresh, path) != 0) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    return OK; // A rename that power loss undoes leaves the anchor a step behind: that is allowed.
}

enum err anchor_get(const struct master *master, struct anchor *anchor_out)
{
    char path[PATH_BYTES];
    uint8_t file[ANCHOR_FILE_BYTES], plain[ANCHOR_BYTES];
    *anchor_out = (struct anchor){0};
    TRY(path_of(path, master->path, "/anchor"));
    TRY(read_file(path, "anchor", file, sizeof file));
    const uint8_t *const key = master_key(master, file[MAGIC_BYTES]);
    if (memcmp(file, anchor_magic, MAGIC_BYTES) != 0 || key == NULL ||
        !seal_get(key, file + HEAD_BYTES, span_of(file, HEAD_BYTES),
                  span_of(file + HEAD_BYTES + SEAL_NONCE_BYTES, ANCHOR_BYTES + SEAL_TAG_BYTES),
                  plain)) {
        FAIL(ERR_CORRUPT, "the anchor %s is damaged, or was made under another master key", path);
    }
    struct cursor cursor = cursor_of(span_of(plain, sizeof plain));
    anchor_out->erase_counter = cursor_u64(&cursor);
    anchor_out->log_size = cursor_u64(&cursor);
    const struct span root = cursor_take(&cursor, DIGEST_BYTES);
    TRY(cursor_done(&cursor, "the anchor"));
    memcpy(anchor_out->log_root.bytes, root.data, DIGEST_BYTES);
    return OK;
}
