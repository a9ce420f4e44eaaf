// store/compact.c: see compact.h.
#include "store/compact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/sync.h"
#include "store/private.h"

enum { PATH_BYTES = 4096, COMMIT_BYTES = 32 << 20, WIPE_BYTES = 1 << 20, EXIT_FULL = 4 };

static enum err path_of(char out[static PATH_BYTES], const char *dir, const char *tail)
{
    if ((size_t)snprintf(out, PATH_BYTES, "%s%s", dir, tail) >= PATH_BYTES) {
        FAIL(ERR_INVALID, "the path of the data directory is longer than %d bytes",
             (int)PATH_BYTES);
    }
    return OK;
}

static enum err refused(const char *path)
{
    FAIL(errno == ENOSPC || errno == EDQUOT ? ERR_LIMIT : ERR_IO, "%s: %s", path, strerror(errno));
}

// --- Cleaning up ---

static enum err overwrite(int fd, const char *path)
{
    static const uint8_t zeros[WIPE_BYTES];
    struct stat found;
    if (fstat(fd, &found) != 0) {
        return refused(path);
    }
    for (off_t at = 0; at < found.st_size;) {
        const off_t left = found.st_size - at;
        const ssize_t put = pwrite(fd, zeros, left < WIPE_BYTES ? (size_t)left : WIPE_BYTES, at);
        if (put <= 0) {
            return refused(path);
        }
        at += put;
    }
    return fsync(fd) == 0 ? OK : refused(path);
}

static enum err remove_file(const char *path, bool wipe)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? OK : refused(path);
    }
    const enum err err = wipe ? overwrite(fd, path) : OK;
    (void)close(fd);
    TRY(err);
    return unlink(path) == 0 ? OK : refused(path);
}

enum err compact_clean(const char *dir)
{
    char path[PATH_BYTES], file[PATH_BYTES];
    struct stat found;
    TRY(path_of(path, dir, "/store.compact"));
    if (lstat(path, &found) != 0 && errno == ENOENT) {
        return OK;
    }
    TRY(path_of(file, path, "/data.mdb"));
    TRY(remove_file(file, true));
    TRY(path_of(file, path, "/lock.mdb"));
    TRY(remove_file(file, false));
    return rmdir(path) == 0 ? sync_dir(dir) : refused(path);
}

// --- Copying, in the fresh process ---

struct copying {
    struct kv *to;
    struct kv_txn txn;
    uint64_t bytes; // Since the last commit.
};

static enum err copy_row(struct copying *copying, enum kv_table table,
                         const struct kv_cursor *cursor)
{
    uint8_t *room = NULL;
    if (copying->bytes > COMMIT_BYTES) {
        TRY(kv_commit(&copying->txn));
        TRY(kv_begin(copying->to, true, &copying->txn));
        copying->bytes = 0;
    }
    TRY(kv_put_room(&copying->txn, table, kv_key_span(&cursor->key), cursor->value.bytes, &room));
    if (cursor->value.bytes > 0) {
        memcpy(room, cursor->value.data, cursor->value.bytes);
    }
    copying->bytes += cursor->value.bytes + cursor->key.bytes;
    return OK;
}

static enum err copy_table(struct copying *copying, struct kv_txn *from, enum kv_table table)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(from, table, &cursor));
    enum err err = kv_cursor_seek(&cursor, span_of("", 0));
    while (err == OK && !cursor.at_end) {
        err = copy_row(copying, table, &cursor);
        err = err == OK ? kv_cursor_next(&cursor) : err;
    }
    kv_cursor_close(&cursor);
    return err;
}

static enum err copy_all(struct copying *copying, struct kv *from)
{
    struct kv_txn txn;
    TRY(kv_begin(from, false, &txn));
    enum err err = kv_begin(copying->to, true, &copying->txn);
    const bool begun = err == OK;
    for (int i = 0; i < KV_TABLE_COUNT_ && err == OK; i++) {
        err = copy_table(copying, &txn, (enum kv_table)i);
    }
    kv_abort(&txn);
    if (begun && err != OK && copying->txn.mdb != NULL) {
        kv_abort(&copying->txn);
    }
    return err == OK ? kv_commit(&copying->txn) : err;
}

enum err compact_copy(const char *from, const char *to, uint64_t map_bytes)
{
    struct kv *old = NULL;
    struct copying copying = {.to = NULL};
    enum err err = kv_open(from, map_bytes, false, &old);
    err = err == OK ? kv_open_tables(old) : err;
    err = err == OK ? kv_open(to, map_bytes, true, &copying.to) : err;
    err = err == OK ? kv_open_tables(copying.to) : err;
    err = err == OK ? copy_all(&copying, old) : err;
    kv_close(old);
    kv_close(copying.to);
    return err == OK ? sync_dir(to) : err;
}

// --- The swap ---

static enum err run_copy(const char *program, const char *from, const char *to, uint64_t map_bytes)
{
    char map[32];
    int status = 0;
    snprintf(map, sizeof map, "%llu", (unsigned long long)map_bytes);
    const pid_t child = fork();
    if (child == 0) {
        execl(program, program, "--compact-copy", from, to, map, (char *)NULL);
        _exit(127);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (child < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        FAIL(child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FULL ? ERR_LIMIT
                                                                                : ERR_IO,
             "the store could not be copied (%s %d); nothing has changed",
             WIFSIGNALED(status) ? "signal" : "exit code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return OK;
}

static uint64_t file_bytes(const char *path)
{
    char file[PATH_BYTES];
    struct stat found;
    return path_of(file, path, "/data.mdb") == OK && stat(file, &found) == 0
               ? (uint64_t)found.st_size
               : 0;
}

static enum err swap(struct store *store, const char *path, const char *fresh, uint64_t map_bytes)
{
    kv_close(store->kv);
    store->kv = NULL;
    if (renameat2(AT_FDCWD, path, AT_FDCWD, fresh, RENAME_EXCHANGE) != 0) {
        return refused(path);
    }
    TRY(sync_dir(store->dir));
    TRY(kv_open(path, map_bytes, false, &store->kv));
    return kv_open_tables(store->kv);
}

enum err store_compact(struct store *store, const char *program, uint64_t *before_out,
                       uint64_t *after_out, bool *lost_out)
{
    char path[PATH_BYTES], fresh[PATH_BYTES];
    uint64_t used = 0, map_bytes = 0, disk = 0;
    CHECK(!store->in_txn);
    *lost_out = false;
    TRY(path_of(path, store->dir, "/store"));
    TRY(path_of(fresh, store->dir, "/store.compact"));
    kv_usage(store->kv, &used, &map_bytes, &disk);
    TRY(compact_clean(store->dir));
    *before_out = file_bytes(path);
    if (disk < used + used / 4) {
        FAIL(ERR_LIMIT, "the copy may take %llu bytes, and the disk has %llu left",
             (unsigned long long)(used + used / 4), (unsigned long long)disk);
    }
    if (mkdir(fresh, 0700) != 0) {
        return refused(fresh);
    }
    const enum err err = run_copy(program, path, fresh, map_bytes);
    if (err != OK) {
        char why[ERR_TEXT_BYTES];
        snprintf(why, sizeof why, "%s", err_text());
        (void)!compact_clean(store->dir);
        return err_raise(err, "%s", why);
    }
    *lost_out = true;
    TRY(swap(store, path, fresh, map_bytes));
    *lost_out = false;
    *after_out = file_bytes(path);
    return compact_clean(store->dir);
}
