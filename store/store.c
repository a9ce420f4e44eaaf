// store/store.c: see store.h. What its start checks about keys is in start.c.
//
// A new store is made in DIR/store.new and renamed when it is whole, so that a crash while making
// it leaves nothing that looks like a store.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sync.h"
#include "store/compact.h"
#include "store/doom.h"
#include "store/private.h"
#include "store/request.h"
#include "store/rotate.h"
#include "store/start.h"

enum {
    PATH_BYTES = 4096,
    DIR_MODE = 0700,
    FILE_MODE = 0600,
    STORE_FORMAT = 3,
    CREATE_MAP_BYTES = 1 << 20, // An empty store takes some 30 pages.
    TIGHT_PERCENT = 80,         // Of the map: deleting is copy-on-write and takes pages too.
    TIGHT_DISK_BYTES = 64 << 20,
};

// Generations of keys that are reserved at once; txn_begin reserves more while half of them are left.
static const uint64_t GENERATIONS = (uint64_t)1 << 32;
static const char magic[8] = {'u', 'n', 'l', 'e', 'a', 'r', 'n', 'd'};

// --- Rows of meta ---

static enum err meta_get(struct txn *txn, int meta, struct span *value_out)
{
    struct kv_key key = {0};
    kv_key_u8(&key, (uint8_t)meta);
    return value_get(txn, KV_META, kv_key_span(&key), value_out);
}

static enum err meta_put(struct txn *txn, int meta, struct span value)
{
    struct kv_key key = {0};
    kv_key_u8(&key, (uint8_t)meta);
    return value_put(txn, KV_META, kv_key_span(&key), value);
}

// 0 when the row is not there.
static enum err meta_get_u64(struct txn *txn, int meta, uint64_t *value_out)
{
    struct span value;
    *value_out = 0;
    const enum err err = meta_get(txn, meta, &value);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    struct cursor cursor = cursor_of(value);
    *value_out = cursor_u64(&cursor);
    TRY_AS(cursor_done(&cursor, "a number"), "table meta, entry %d", meta);
    return OK;
}

static enum err meta_put_u64(struct txn *txn, int meta, uint64_t value)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return meta_put(txn, meta, span_of(bytes, sizeof bytes));
}

static enum err meta_raise(struct txn *txn, int meta, uint64_t *value_out)
{
    TRY(meta_get_u64(txn, meta, value_out));
    return meta_put_u64(txn, meta, ++*value_out);
}

enum err store_erase_counter(struct txn *txn, uint64_t *counter_out)
{
    return meta_get_u64(txn, META_ERASE_COUNTER, counter_out);
}

enum err store_erase_counter_set(struct txn *txn, uint64_t counter)
{
    txn->anchor.erase_counter = counter;
    txn->anchor_changed = true;
    return meta_put_u64(txn, META_ERASE_COUNTER, counter);
}

// A row of exactly `bytes` bytes.
static enum err meta_get_exact(struct txn *txn, int meta, void *out, size_t bytes)
{
    struct span value;
    TRY(meta_get(txn, meta, &value));
    if (value.bytes != bytes) {
        FAIL(ERR_CORRUPT, "table meta, entry %d: %zu bytes, expected %zu", meta, value.bytes,
             bytes);
    }
    memcpy(out, value.data, bytes);
    return OK;
}

enum err counter_get(struct txn *txn, enum counter counter, uint64_t *value_out)
{
    CHECK((unsigned)counter < COUNTER_COUNT_);
    return meta_get_u64(txn, META_COUNTER + (int)counter, value_out);
}

enum err counter_next(struct txn *txn, enum counter counter, uint64_t *value_out)
{
    CHECK((unsigned)counter < COUNTER_COUNT_);
    return meta_raise(txn, META_COUNTER + (int)counter, value_out);
}

enum err profile_get(struct txn *txn, struct digest *profile_out)
{
    return meta_get_exact(txn, META_PROFILE, profile_out->bytes, sizeof profile_out->bytes);
}

enum err profile_set(struct txn *txn, const struct digest *profile)
{
    return meta_put(txn, META_PROFILE, span_of(profile->bytes, sizeof profile->bytes));
}

enum err profile_names_get(struct txn *txn, struct profile_name names_out[PROFILE_NAMES],
                           uint32_t *count_out)
{
    struct span value;
    *count_out = 0;
    const enum err err = meta_get(txn, META_PROFILE_NAMES, &value);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    struct cursor cursor = cursor_of(value);
    while (cursor.left > 0 && !cursor.bad && *count_out < PROFILE_NAMES) {
        struct profile_name *const name = &names_out[(*count_out)++];
        const struct span profile = cursor_take(&cursor, DIGEST_BYTES);
        *name = (struct profile_name){0};
        if (profile.bytes == DIGEST_BYTES) {
            memcpy(name->profile.bytes, profile.data, DIGEST_BYTES);
        }
        cursor_short_text(&cursor, name->core, sizeof name->core);
    }
    return cursor_done(&cursor, "table meta: the names of numeric profiles");
}

enum err profile_name_put(struct txn *txn, const struct profile_name *name)
{
    struct profile_name names[PROFILE_NAMES];
    uint32_t count = 0;
    TRY(profile_names_get(txn, names, &count));
    struct buf buf = {0};
    uint32_t others = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (memcmp(&names[i].profile, &name->profile, sizeof name->profile) != 0) {
            names[others++] = names[i];
        }
    }
    for (uint32_t i = 0; i < others; i++) {
        if (others < PROFILE_NAMES || i > 0) {
            buf_put(&buf, span_of(names[i].profile.bytes, DIGEST_BYTES));
            buf_short_text(&buf, names[i].core);
        }
    }
    buf_put(&buf, span_of(name->profile.bytes, DIGEST_BYTES));
    buf_short_text(&buf, name->core);
    const enum err err = meta_put(txn, META_PROFILE_NAMES, buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err format_put(struct txn *txn)
{
    struct buf buf = {0};
    buf_put(&buf, span_of(magic, sizeof magic));
    buf_u32(&buf, STORE_FORMAT);
    const enum err err = meta_put(txn, META_FORMAT, buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err format_check(struct txn *txn)
{
    struct span value;
    const enum err err = meta_get(txn, META_FORMAT, &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_CORRUPT, "table meta has no format row: it is not a store of ours");
    }
    TRY(err);
    struct cursor cursor = cursor_of(value);
    const struct span start = cursor_take(&cursor, sizeof magic);
    const uint32_t format = cursor_u32(&cursor);
    if (cursor.bad || !span_equal(start, span_of(magic, sizeof magic))) {
        FAIL(ERR_CORRUPT, "the format row has not our magic: it is not a store of ours");
    }
    if (format > STORE_FORMAT) {
        FAIL(ERR_INCOMPATIBLE,
             "the store has format %u and this program knows formats up to %d: use a newer one",
             format, (int)STORE_FORMAT);
    }
    if (format == 0) {
        FAIL(ERR_CORRUPT, "the store has format 0, expected %d", (int)STORE_FORMAT);
    }
    if (format < STORE_FORMAT) {
        FAIL(ERR_INCOMPATIBLE,
             "the store has format %u and this program knows format %d alone: use the older "
             "program, or import into a new store",
             format, (int)STORE_FORMAT);
    }
    return OK;
}

// --- Transactions ---

enum err store_generations_reserved(struct txn *txn, uint64_t *end_out)
{
    return meta_get_u64(txn, META_GENERATION, end_out);
}

// Generations of keys are reserved long before they are used: what was used and not recorded would
// come again after a crash.
static enum err generations_reserve(struct txn *txn)
{
    uint64_t used = 0;
    TRY(store_generations_reserved(txn, &used));
    CHECK(used < UINT64_MAX / 2);
    const uint64_t end = used + GENERATIONS;
    TRY(meta_put_u64(txn, META_GENERATION, end));
    txn->generations_first = used == 0 ? 1 : used;
    txn->generations_end = end;
    return OK;
}

static enum err begin(struct store *store, bool write)
{
    CHECK(!store->in_txn);
    store->txn = (struct txn){.store = store, .anchor = store->anchor};
    TRY(kv_begin(store->kv, write, &store->txn.kv));
    store->in_txn = true;
    return OK;
}

enum err txn_begin(struct store *store, bool write, struct txn **txn_out)
{
    *txn_out = NULL;
    if (write && store->keyring != NULL &&
        keyring_generations_left(store->keyring) < GENERATIONS / 2) {
        TRY(begin(store, true));
        TRY(txn_end(&store->txn, generations_reserve(&store->txn)));
    }
    TRY(begin(store, write));
    *txn_out = &store->txn;
    return OK;
}

// New keys are on disk before the rows that name them.
static enum err commit(struct txn *txn)
{
    struct keyring *const keyring = txn->store->keyring;
    const enum err flushed = keyring == NULL ? OK : keyring_flush(keyring);
    if (flushed != OK) {
        kv_abort(&txn->kv);
        return flushed;
    }
    return kv_commit(&txn->kv);
}

// The commit stands; an anchor that stays behind it is allowed, and the next one brings it up.
static void raise_anchor(struct txn *txn)
{
    struct store *const store = txn->store;
    store->anchor = txn->anchor;
    if (store->keyring != NULL &&
        anchor_put(store->master, keyring_master_number(store->keyring), &store->anchor) != OK) {
        log_error("anchor_failed", "reason=\"%s\"", err_text());
    }
}

enum err txn_end(struct txn *txn, enum err result)
{
    struct keyring *const keyring = txn->store->keyring;
    CHECK(txn->store->in_txn);
    enum err err = result;
    bool known = true; // What became of the commit.
    if (err == OK && txn->kv.write) {
        err = commit(txn);
        known = err == OK || err == ERR_LIMIT;
    } else {
        kv_abort(&txn->kv);
    }
    if (keyring != NULL && known) {
        keyring_end(keyring, err == OK && txn->kv.write);
        if (err == OK && txn->generations_end > 0) {
            keyring_generations(keyring, txn->generations_first, txn->generations_end);
        }
    }
    if (err == OK && txn->anchor_changed) {
        raise_anchor(txn);
    }
    buf_clear(&txn->store->plain);
    if (err == OK) {
        deny_drop_all(&txn->store->deny, &txn->undeny);
    } else {
        import_rollback(txn);
    }
    deny_deinit(&txn->undeny);
    mem_free(txn->imports_before.at);
    txn->imports_before = (struct import_list){0};
    txn->store->in_txn = false;
    return err;
}

uint64_t txn_writes(const struct txn *txn)
{
    return txn->kv.writes;
}

// --- Making ---

static enum err path_of(const char *dir, const char *name, char out[static PATH_BYTES])
{
    if ((size_t)snprintf(out, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES) {
        FAIL(ERR_INVALID, "the path of the data directory is longer than %d bytes",
             (int)PATH_BYTES);
    }
    return OK;
}

// Takes DIR/lock for this process. The file stays: removing it would let two processes each lock
// a file of that name.
static enum err lock_take(const char *dir, int *fd_out)
{
    char path[PATH_BYTES];
    TRY(path_of(dir, "lock", path));
    *fd_out = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (*fd_out < 0) {
        FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
             strerror(errno));
    }
    if (flock(*fd_out, LOCK_EX | LOCK_NB) != 0) {
        const int refused = errno;
        (void)close(*fd_out);
        *fd_out = -1;
        if (refused == EWOULDBLOCK) {
            FAIL(ERR_CONFLICT, "another process has the store of %s open", dir);
        }
        FAIL(ERR_IO, "locking %s: %s", path, strerror(refused));
    }
    return OK;
}

static enum err fill(struct txn *txn)
{
    uint8_t key[KEY_BYTES];
    TRY(start_create(txn));
    TRY(format_put(txn));
    TRY(meta_put_u64(txn, META_GENERATION, 2)); // 1 is the store key's.
    digest_random(key, sizeof key);
    const enum err err = meta_put(txn, META_BODY_KEY, span_of(key, sizeof key));
    mem_wipe(key, sizeof key);
    return err;
}

static enum err create_in(struct store *store, const char *path, const char *keyring_path)
{
    struct txn *txn;
    TRY(keyring_create(keyring_path, store->master));
    TRY(keyring_open(keyring_path, store->master, &store->keyring));
    TRY(kv_open(path, CREATE_MAP_BYTES, true, &store->kv));
    TRY(kv_open_tables(store->kv));
    TRY(begin(store, true));
    txn = &store->txn;
    TRY(txn_end(txn, fill(txn)));
    return anchor_put(store->master, 1, &store->anchor);
}

static enum err create_at(const char *path, const char *keyring_path, const char *dir)
{
    struct store store = {.opened = opened_new()};
    enum err err = master_open(dir, &store.master);
    err = err == OK ? create_in(&store, path, keyring_path) : err;
    kv_close(store.kv);
    keyring_close(store.keyring);
    master_close(store.master);
    seal_room_free(store.secrets);
    buf_deinit(&store.plain);
    opened_free(store.opened);
    return err;
}

static enum err create_locked(const char *dir)
{
    char path[PATH_BYTES], fresh[PATH_BYTES], file[PATH_BYTES], keyring[PATH_BYTES];
    TRY(path_of(dir, "store", path));
    TRY(path_of(dir, "keyring", keyring));
    TRY(path_of(dir, "store.new", fresh));
    // What an earlier try left.
    TRY(path_of(fresh, "data.mdb", file));
    (void)unlink(file);
    TRY(path_of(fresh, "lock.mdb", file));
    (void)unlink(file);
    (void)rmdir(fresh);
    (void)unlink(keyring);
    if (mkdir(fresh, DIR_MODE) != 0) {
        FAIL(ERR_IO, "%s: %s", fresh, strerror(errno));
    }
    TRY(create_at(fresh, keyring, dir));
    TRY(sync_dir(fresh));
    if (rename(fresh, path) != 0) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    return sync_dir(dir);
}

enum err store_create(const char *dir)
{
    int lock_fd;
    char path[PATH_BYTES];
    struct stat found;
    TRY(path_of(dir, "store", path));
    TRY(lock_take(dir, &lock_fd));
    enum err err = OK;
    if (lstat(path, &found) == 0) {
        err = err_raise(ERR_CONFLICT, "%s has a store already", dir);
    }
    err = err == OK ? master_create(dir) : err;
    if (err == OK) {
        err = create_locked(dir);
        if (err != OK) {
            master_uncreate(dir);
        }
    }
    (void)close(lock_fd);
    return err;
}

// --- Opening ---

static bool deny_pending(void *context, uint64_t sequence, uint32_t index,
                         const struct pending *pending)
{
    struct store *const store = context;
    (void)sequence;
    (void)index;
    if (pending->is_record) {
        deny_add(&store->deny, &pending->record);
    }
    return true;
}

static enum err start_in(struct txn *txn)
{
    struct store *const store = txn->store;
    TRY(meta_raise(txn, META_BOOT, &store->boot));
    const enum err err = meta_get_exact(txn, META_BODY_KEY, store->secrets->body_key,
                                        sizeof store->secrets->body_key);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_CORRUPT, "table meta, entry %d is missing: the key for digests of requests",
             (int)META_BODY_KEY);
    }
    TRY(err);
    TRY(import_load(txn));
    TRY(base_load(txn));
    return pending_walk(txn, 0, deny_pending, store);
}

// What an earlier process left undone.
static enum err erase_doomed(struct store *store)
{
    for (bool more = true; more;) {
        struct txn *txn;
        TRY(txn_begin(store, true, &txn));
        TRY(txn_end(txn, doom_erase(txn, KEYRING_BATCH, &more)));
    }
    return OK;
}

static enum err open_in(struct store *store, const char *dir, uint64_t map_bytes)
{
    char path[PATH_BYTES];
    struct stat found;
    TRY(path_of(dir, "store", path));
    if (lstat(path, &found) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        FAIL(ERR_NOT_FOUND, "there is no store in %s: run unlearnctl init", dir);
    }
    TRY(lock_take(dir, &store->lock_fd));
    TRY(compact_clean(dir));
    const enum err err = kv_open(path, map_bytes, false, &store->kv);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "there is no store in %s: run unlearnctl init", dir);
    }
    TRY(err);

    struct txn *txn;
    TRY(txn_begin(store, false, &txn));
    TRY_AS(txn_end(txn, format_check(txn)), "%s", path);
    TRY(kv_open_tables(store->kv));
    TRY(start_keys(store, dir));
    TRY(txn_begin(store, false, &txn));
    TRY_AS(txn_end(txn, start_check(txn)), "%s", dir);
    TRY(txn_begin(store, true, &txn));
    TRY_AS(txn_end(txn, start_in(txn)), "%s", path);
    TRY(rotate_resume(store));
    return erase_doomed(store);
}

enum err store_open(const char *dir, uint64_t map_bytes, struct store **store_out)
{
    struct store *store = mem_alloc(1, sizeof *store);
    store->lock_fd = -1;
    store->opened = opened_new();
    store->dir = mem_text(dir);
    const enum err err = open_in(store, dir, map_bytes);
    if (err != OK) {
        store_close(store);
        store = NULL;
    }
    *store_out = store;
    return err;
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    CHECK(!store->in_txn);
    kv_close(store->kv);
    keyring_close(store->keyring);
    master_close(store->master);
    seal_room_free(store->secrets);
    buf_deinit(&store->plain);
    opened_free(store->opened);
    deny_deinit(&store->deny);
    mem_free(store->imports.at);
    mem_free(store->dir);
    if (store->lock_fd >= 0) {
        (void)close(store->lock_fd);
    }
    mem_free(store);
}

uint64_t store_boot(const struct store *store)
{
    return store->boot;
}

void request_body_key(const struct store *store, uint8_t key_out[static KEY_BYTES])
{
    memcpy(key_out, store->secrets->body_key, KEY_BYTES);
}

void store_usage(const struct store *store, uint64_t *used_out, uint64_t *map_out)
{
    uint64_t disk_bytes;
    kv_usage(store->kv, used_out, map_out, &disk_bytes);
}

bool store_is_tight(const struct store *store)
{
    uint64_t used_bytes, map_bytes, disk_bytes;
    kv_usage(store->kv, &used_bytes, &map_bytes, &disk_bytes);
    return used_bytes > map_bytes / 100 * TIGHT_PERCENT || disk_bytes < TIGHT_DISK_BYTES;
}
