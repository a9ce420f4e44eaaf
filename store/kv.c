// store/kv.c: see kv.h. Tables' names and keys are in kv_key.c.
//
// What LMDB 0.9.24 does that this file answers:
//   - A file shorter than its pages kills the reader with SIGBUS, flipped bits in its pages with
//     SIGSEGV or abort. So at open a child walks all of it first. A healthy file can be short too
//     (pages taken and freed again within one transaction are never written): kv_commit stretches it.
//   - A full disk gives EIO from the commit (a short write): is_full asks the file system.
//   - Its descriptors would be inherited by programs that we start: close_on_exec.
//   - Dead readers keep old pages from being used again: they are cleared at open.
#include "store/kv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/text.h"

enum {
    PATH_BYTES = 4096,
    FILE_MODE = 0600,
    META_PAGES = 2,       // LMDB's two meta pages; a file without them is not ours.
    FULL_BYTES = 1 << 20, // With less than this left, an EIO from a write is a full disk.
    OPEN_FLAGS = 0,       // See kv.h for what is left out on purpose.
};

struct kv {
    MDB_env *env;
    MDB_dbi dbi[KV_TABLE_COUNT_];
    uint64_t page_bytes;
    uint64_t map_bytes;
    uint64_t used_bytes; // As of transaction used_at.
    uint64_t used_at;
    bool in_txn;
};

// --- Errors ---

static uint64_t disk_free_bytes(const struct kv *kv)
{
    int fd = -1;
    struct statvfs disk;
    if (mdb_env_get_fd(kv->env, &fd) != 0 || fstatvfs(fd, &disk) != 0) {
        return UINT64_MAX;
    }
    return (uint64_t)disk.f_bavail * disk.f_frsize;
}

static bool is_full(const struct kv *kv, int rc)
{
    return rc == MDB_MAP_FULL || rc == MDB_TXN_FULL || rc == ENOSPC || rc == EDQUOT ||
           rc == EFBIG || (rc == EIO && disk_free_bytes(kv) < FULL_BYTES);
}

static enum err refused(const struct kv *kv, int rc, const char *doing)
{
    if (is_full(kv, rc)) {
        if (rc == MDB_MAP_FULL) {
            FAIL(ERR_LIMIT, "the store is full while %s: %llu bytes of map are used up", doing,
                 (unsigned long long)kv->map_bytes);
        }
        FAIL(ERR_LIMIT, "the store's disk is full while %s: %s", doing, mdb_strerror(rc));
    }
    FAIL(ERR_IO, "the store failed while %s: %s", doing, mdb_strerror(rc));
}

static enum err refused_in(const struct kv *kv, int rc, const char *doing, enum kv_table table)
{
    const enum err err = refused(kv, rc, doing);
    return err_context(err, "table %s", kv_table_name(table));
}

// --- Environment ---

// Bytes that the file must have for its last page to be there.
static uint64_t file_bytes_wanted(MDB_env *env)
{
    MDB_envinfo info;
    MDB_stat stat;
    CHECK(mdb_env_info(env, &info) == 0 && mdb_env_stat(env, &stat) == 0);
    return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

static bool file_is_short(MDB_env *env)
{
    int fd = -1;
    struct stat file;
    return mdb_env_get_fd(env, &fd) != 0 || fstat(fd, &file) != 0 ||
           (uint64_t)file.st_size < file_bytes_wanted(env);
}

// Stretches a file whose last pages were never written. Best effort: a failure only means that the
// next opening walks the file.
static void file_stretch(MDB_env *env)
{
    int fd = -1;
    if (file_is_short(env) && mdb_env_get_fd(env, &fd) == 0) {
        (void)!ftruncate(fd, (off_t)file_bytes_wanted(env));
    }
}

// LMDB opens its files without O_CLOEXEC: programs that we start would inherit the store. It hands
// out only one of its descriptors, so the others are found by the directory that they lie in.
static int close_on_exec(MDB_env *env, const char *path)
{
    char real[PATH_BYTES], target[PATH_BYTES];
    DIR *const fds = opendir("/proc/self/fd");
    if (fds == NULL || realpath(path, real) == NULL) {
        const int refused = errno;
        if (fds != NULL) {
            (void)closedir(fds);
        }
        return refused;
    }
    int fd = -1, rc = mdb_env_get_fd(env, &fd);
    const size_t bytes = strlen(real);
    for (struct dirent *entry; rc == 0 && (entry = readdir(fds)) != NULL;) {
        const ssize_t got = readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1);
        uint64_t number;
        if (got > (ssize_t)bytes && memcmp(target, real, bytes) == 0 && target[bytes] == '/' &&
            text_u64(entry->d_name, INT_MAX, &number) == OK &&
            fcntl((int)number, F_SETFD, FD_CLOEXEC) != 0) {
            rc = errno;
        }
    }
    (void)closedir(fds);
    return rc == 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0 ? EIO : rc;
}

// A process that keeps all of its memory locked must not keep the whole store in memory, too: what is
// mapped is sealed. LMDB does not tell where its map lies.
static void unlock_map(void)
{
    FILE *const maps = fopen("/proc/self/maps", "re");
    char *line = NULL;
    size_t room = 0;
    while (maps != NULL && getline(&line, &room, maps) > 0) {
        char *end = NULL;
        const uintptr_t from = strtoul(line, &end, 16);
        const uintptr_t to = *end == '-' ? strtoul(end + 1, NULL, 16) : from;
        if (to > from && strstr(line, "/data.mdb") != NULL) {
            union {
                uintptr_t number;
                void *address;
            } at = {.number = from};
            (void)munlock(at.address, to - from);
        }
    }
    free(line); // getline's own.
    if (maps != NULL) {
        (void)fclose(maps);
    }
}

static int env_open(const char *path, uint64_t map_bytes, unsigned flags, MDB_env **env_out)
{
    *env_out = NULL;
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc != 0) {
        return rc;
    }
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    rc = mdb_env_set_mapsize(env, (map_bytes + page - 1) / page * page);
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(env, KV_TABLE_COUNT_);
    }
    if (rc == 0) {
        rc = mdb_env_open(env, path, flags, FILE_MODE);
    }
    if (rc == 0) {
        rc = close_on_exec(env, path);
        unlock_map();
    }
    if (rc != 0) {
        mdb_env_close(env);
        return rc;
    }
    *env_out = env;
    return 0;
}

// Touches the last byte of every value of one table (of the list of free pages: each first byte).
static int walk_table(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0) {
        return rc;
    }
    MDB_val key, value;
    volatile uint8_t sum = 0;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        if (value.mv_size > 0) {
            sum ^= ((const uint8_t *)value.mv_data)[value.mv_size - 1];
        }
    }
    (void)sum;
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int walk_all(const char *path, uint64_t map_bytes)
{
    enum { FREE_PAGES = 0 }; // LMDB's table of free pages has this number.
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    int rc = env_open(path, map_bytes, MDB_RDONLY, &env);
    if (rc != 0 || (rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn)) != 0) {
        return rc;
    }
    rc = walk_table(txn, FREE_PAGES);
    for (size_t i = 0; i < KV_TABLE_COUNT_ && rc == 0; i++) {
        MDB_dbi dbi;
        rc = mdb_dbi_open(txn, kv_table_name((enum kv_table)i), 0, &dbi);
        rc = rc == 0 ? walk_table(txn, dbi) : rc == MDB_NOTFOUND ? 0 : rc;
    }
    return rc; // The process ends here: nothing is closed.
}

// Whether every page in use is there and leads on. Done in a child, where a signal is only an exit code.
enum walk { WALK_WHOLE, WALK_REFUSED, WALK_KILLED };
static enum walk walk_in_child(const char *path, uint64_t map_bytes)
{
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGBUS, SIG_DFL); // The program's own handlers must not run here.
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGABRT, SIG_DFL);
        _exit(walk_all(path, map_bytes) == 0 ? 0 : 1);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return WALK_REFUSED;
        }
    }
    return child < 0                  ? WALK_REFUSED
           : !WIFEXITED(status)       ? WALK_KILLED
           : WEXITSTATUS(status) == 0 ? WALK_WHOLE
                                      : WALK_REFUSED;
}

// Looks at the file before LMDB does: LMDB would take an empty one for a new environment.
static enum err file_check(const char *path)
{
    char file_path[PATH_BYTES];
    if ((size_t)snprintf(file_path, sizeof file_path, "%s/data.mdb", path) >= sizeof file_path) {
        FAIL(ERR_INVALID, "the path of the store is longer than %d bytes", (int)PATH_BYTES);
    }
    struct stat file;
    if (stat(file_path, &file) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            FAIL(ERR_NOT_FOUND, "there is no store in %s", path);
        }
        FAIL(ERR_IO, "%s: %s", file_path, strerror(errno));
    }
    const uint64_t least_bytes = META_PAGES * (uint64_t)sysconf(_SC_PAGESIZE);
    if (!S_ISREG(file.st_mode) || (uint64_t)file.st_size < least_bytes) {
        FAIL(ERR_CORRUPT, "%s has %lld bytes, expected a file of at least %llu", file_path,
             (long long)file.st_size, (unsigned long long)least_bytes);
    }
    return OK;
}

static enum err open_failed(const char *path, int rc)
{
    if (rc == MDB_INVALID || rc == MDB_CORRUPTED) {
        FAIL(ERR_CORRUPT, "%s/data.mdb is not a store: %s", path, mdb_strerror(rc));
    }
    if (rc == MDB_VERSION_MISMATCH) {
        FAIL(ERR_INCOMPATIBLE, "%s/data.mdb was written by another version of LMDB", path);
    }
    FAIL(ERR_IO, "opening the store in %s: %s", path, mdb_strerror(rc));
}

static enum err damaged(const char *path)
{
    FAIL(ERR_CORRUPT,
         "%s/data.mdb is damaged, or was cut off: its pages do not lead to all of its rows; put a "
         "backup back",
         path);
}

static enum err open_checked(const char *path, uint64_t map_bytes, bool fresh, MDB_env **env_out)
{
    *env_out = NULL;
    if (!fresh) {
        TRY(file_check(path));
    }
    const enum walk walk = fresh ? WALK_WHOLE : walk_in_child(path, map_bytes);
    if (walk == WALK_KILLED) {
        return damaged(path);
    }
    int rc = env_open(path, map_bytes, OPEN_FLAGS, env_out);
    if (rc != 0) {
        return open_failed(path, rc); // Says more than a walk that failed.
    }
    if (walk != WALK_WHOLE) {
        return damaged(path);
    }
    file_stretch(*env_out);
    return OK;
}

static int open_meta(struct kv *kv)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(kv->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) {
        return rc;
    }
    rc = mdb_dbi_open(txn, kv_table_name(KV_META), 0, &kv->dbi[KV_META]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn); // A handle outlives its transaction only by commit.
}

static enum err open_in(struct kv *kv, const char *path, uint64_t map_bytes, bool fresh)
{
    TRY(open_checked(path, map_bytes, fresh, &kv->env));
    MDB_envinfo info;
    MDB_stat stat;
    int dead = 0;
    CHECK(mdb_env_info(kv->env, &info) == 0 && mdb_env_stat(kv->env, &stat) == 0);
    kv->page_bytes = stat.ms_psize;
    kv->map_bytes = info.me_mapsize;
    kv->used_at = UINT64_MAX;
    CHECK(mdb_env_get_maxkeysize(kv->env) >= KV_KEY_BYTES);
    const int rc = mdb_reader_check(kv->env, &dead);
    if (rc != 0) {
        return refused(kv, rc, "clearing dead readers");
    }
    if (fresh) {
        return OK;
    }
    const int meta = open_meta(kv);
    if (meta == MDB_NOTFOUND) {
        FAIL(ERR_CORRUPT, "%s/data.mdb has no table meta: it is not a store of ours", path);
    }
    return meta == 0 ? OK : refused_in(kv, meta, "opening", KV_META);
}

enum err kv_open(const char *path, uint64_t map_bytes, bool fresh, struct kv **kv_out)
{
    struct kv *kv = mem_alloc(1, sizeof *kv);
    const enum err err = open_in(kv, path, map_bytes, fresh);
    if (err != OK) {
        kv_close(kv);
        kv = NULL;
    }
    *kv_out = kv;
    return err;
}

enum err kv_open_tables(struct kv *kv)
{
    struct kv_txn txn;
    TRY(kv_begin(kv, true, &txn));
    for (size_t i = 0; i < KV_TABLE_COUNT_; i++) {
        const int rc =
            mdb_dbi_open(txn.mdb, kv_table_name((enum kv_table)i), MDB_CREATE, &kv->dbi[i]);
        if (rc != 0) {
            kv_abort(&txn);
            return refused_in(kv, rc, "opening", (enum kv_table)i);
        }
    }
    return kv_commit(&txn);
}

void kv_close(struct kv *kv)
{
    if (kv != NULL) {
        CHECK(!kv->in_txn);
        if (kv->env != NULL) {
            mdb_env_close(kv->env);
        }
        mem_free(kv);
    }
}

// Pages in LMDB's list of free ones. Each entry begins with its count.
static int count_free(MDB_env *env, uint64_t *pages_out)
{
    *pages_out = 0;
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) {
        return rc;
    }
    MDB_cursor *cursor = NULL;
    rc = mdb_cursor_open(txn, 0, &cursor);
    if (rc == 0) {
        MDB_val key, value;
        while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
            size_t count = 0;
            memcpy(&count, value.mv_data, sizeof count);
            *pages_out += count;
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

void kv_usage(struct kv *kv, uint64_t *used_out, uint64_t *map_out, uint64_t *disk_out)
{
    MDB_envinfo info;
    CHECK(mdb_env_info(kv->env, &info) == 0);
    uint64_t free_pages = 0;
    // Within a transaction a second one must not begin: the last figure stands.
    if (!kv->in_txn && kv->used_at != info.me_last_txnid && count_free(kv->env, &free_pages) == 0) {
        kv->used_bytes = (info.me_last_pgno + 1 - free_pages) * kv->page_bytes;
        kv->used_at = info.me_last_txnid;
    }
    *used_out = kv->used_bytes;
    *map_out = kv->map_bytes;
    *disk_out = disk_free_bytes(kv);
}

// --- Transactions ---

enum err kv_begin(struct kv *kv, bool write, struct kv_txn *txn_out)
{
    CHECK(!kv->in_txn);
    *txn_out = (struct kv_txn){.kv = kv, .write = write};
    const int rc = mdb_txn_begin(kv->env, NULL, write ? 0 : MDB_RDONLY, &txn_out->mdb);
    if (rc != 0) {
        return refused(kv, rc, "beginning a transaction");
    }
    kv->in_txn = true;
    return OK;
}

void kv_abort(struct kv_txn *txn)
{
    mdb_txn_abort(txn->mdb);
    txn->mdb = NULL;
    txn->kv->in_txn = false;
}

enum err kv_commit(struct kv_txn *txn)
{
    MDB_envinfo before, after;
    CHECK(mdb_env_info(txn->kv->env, &before) == 0);
    const int rc = mdb_txn_commit(txn->mdb);
    txn->mdb = NULL;
    txn->kv->in_txn = false;
    if (rc == 0) {
        if (txn->write) {
            file_stretch(txn->kv->env);
        }
        return OK;
    }
    CHECK(mdb_env_info(txn->kv->env, &after) == 0);
    const enum err err = refused(txn->kv, rc, "committing");
    if (err == ERR_LIMIT && before.me_last_txnid != after.me_last_txnid) {
        FAIL(ERR_IO, "the store failed while committing, and the outcome is unknown: %s",
             mdb_strerror(rc));
    }
    return err;
}

// LMDB takes a non-const pointer and only reads from it.
static MDB_val val_of(struct span span)
{
    union {
        const void *in;
        void *out;
    } pointer = {.in = span.data};
    return (MDB_val){span.bytes, pointer.out};
}

enum err kv_get(struct kv_txn *txn, enum kv_table table, struct span key, struct span *value_out)
{
    MDB_val key_val = val_of(key), value;
    const int rc = mdb_get(txn->mdb, txn->kv->dbi[table], &key_val, &value);
    if (rc == MDB_NOTFOUND) {
        FAIL(ERR_NOT_FOUND, "%s: no such row", kv_label_of(table, key).text);
    }
    if (rc != 0) {
        return refused_in(txn->kv, rc, "reading", table);
    }
    *value_out = span_of(value.mv_data, value.mv_size);
    return OK;
}

enum err kv_put_room(struct kv_txn *txn, enum kv_table table, struct span key, size_t bytes,
                     uint8_t **room_out)
{
    CHECK(txn->write && key.bytes > 0 && key.bytes <= KV_KEY_BYTES);
    MDB_val key_val = val_of(key), value = {bytes, NULL};
    txn->writes++;
    const int rc = mdb_put(txn->mdb, txn->kv->dbi[table], &key_val, &value, MDB_RESERVE);
    if (rc != 0) {
        return refused_in(txn->kv, rc, "writing", table);
    }
    *room_out = value.mv_data;
    return OK;
}

enum err kv_drop(struct kv_txn *txn, enum kv_table table, struct span key)
{
    CHECK(txn->write);
    MDB_val key_val = val_of(key);
    txn->writes++;
    const int rc = mdb_del(txn->mdb, txn->kv->dbi[table], &key_val, NULL);
    return rc == 0 || rc == MDB_NOTFOUND ? OK : refused_in(txn->kv, rc, "deleting", table);
}

static enum err drop_prefix_in(struct kv_cursor *cursor, struct span prefix, size_t row_count_max,
                               size_t *dropped_out)
{
    *dropped_out = 0;
    TRY(kv_cursor_seek(cursor, prefix));
    while (kv_cursor_within(cursor, prefix) && *dropped_out < row_count_max) {
        TRY(kv_drop(cursor->txn, cursor->table, kv_key_span(&cursor->key)));
        ++*dropped_out;
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err kv_drop_prefix(struct kv_txn *txn, enum kv_table table, struct span prefix,
                        size_t row_count_max, size_t *dropped_out)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(txn, table, &cursor));
    const enum err err = drop_prefix_in(&cursor, prefix, row_count_max, dropped_out);
    kv_cursor_close(&cursor);
    return err;
}

// --- Cursors ---

enum err kv_cursor_open(struct kv_txn *txn, enum kv_table table, struct kv_cursor *cursor_out)
{
    *cursor_out = (struct kv_cursor){.txn = txn, .table = table, .at_end = true};
    cursor_out->writes = txn->writes;
    const int rc = mdb_cursor_open(txn->mdb, txn->kv->dbi[table], &cursor_out->mdb);
    return rc == 0 ? OK : refused_in(txn->kv, rc, "reading", table);
}

void kv_cursor_close(struct kv_cursor *cursor)
{
    if (cursor->mdb != NULL) {
        mdb_cursor_close(cursor->mdb);
        cursor->mdb = NULL;
    }
}

static enum err cursor_landed(struct kv_cursor *cursor, int rc, const MDB_val *key,
                              const MDB_val *value)
{
    cursor->at_end = rc != 0;
    if (rc == 0) {
        CHECK(key->mv_size <= sizeof cursor->key.at);
        cursor->key.bytes = key->mv_size;
        memcpy(cursor->key.at, key->mv_data, key->mv_size);
        cursor->value = span_of(value->mv_data, value->mv_size);
    }
    return rc == 0 || rc == MDB_NOTFOUND
               ? OK
               : refused_in(cursor->txn->kv, rc, "reading", cursor->table);
}

// A cursor that has seen writes is renewed: nothing then depends on how LMDB mends open cursors.
static enum err cursor_renew(struct kv_cursor *cursor)
{
    if (cursor->writes == cursor->txn->writes) {
        return OK;
    }
    mdb_cursor_close(cursor->mdb);
    cursor->mdb = NULL;
    cursor->writes = cursor->txn->writes;
    const int rc =
        mdb_cursor_open(cursor->txn->mdb, cursor->txn->kv->dbi[cursor->table], &cursor->mdb);
    return rc == 0 ? OK : refused_in(cursor->txn->kv, rc, "reading", cursor->table);
}

enum err kv_cursor_seek(struct kv_cursor *cursor, struct span key)
{
    TRY(cursor_renew(cursor));
    MDB_val key_val = val_of(key), value;
    // An empty key means the first row: LMDB takes no empty key.
    const int rc =
        mdb_cursor_get(cursor->mdb, &key_val, &value, key.bytes == 0 ? MDB_FIRST : MDB_SET_RANGE);
    return cursor_landed(cursor, rc, &key_val, &value);
}

enum err kv_cursor_next(struct kv_cursor *cursor)
{
    CHECK(!cursor->at_end);
    if (cursor->writes != cursor->txn->writes) {
        const struct kv_key last = cursor->key;
        TRY(kv_cursor_seek(cursor, kv_key_span(&last)));
        if (cursor->at_end || !span_equal(kv_key_span(&cursor->key), kv_key_span(&last))) {
            return OK; // The row was dropped: this is the next one.
        }
    }
    MDB_val key, value;
    const int rc = mdb_cursor_get(cursor->mdb, &key, &value, MDB_NEXT);
    return cursor_landed(cursor, rc, &key, &value);
}

bool kv_cursor_within(const struct kv_cursor *cursor, struct span prefix)
{
    return !cursor->at_end && cursor->key.bytes >= prefix.bytes &&
           memcmp(cursor->key.at, prefix.data, prefix.bytes) == 0;
}
