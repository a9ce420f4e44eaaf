// tests/unit/test_store.c: what the store promises about opening, ending and surviving.
//
// Method: each test has a directory of its own. Crashes are real: a child is killed at the point in
// question and the parent opens what it left. Damage is done to the closed file, and each refusal
// has the undamaged file as its control.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/component.h"
#include "store/dataset.h"
#include "store/private.h"
#include "store/request.h"
#include "store/store.h"
#include "tests/unit/scratch.h"

enum { MIB = 1 << 20, MAP_BYTES = 64 * MIB, MIB_FLOATS = MIB / 4 };

static char dir[SCRATCH_BYTES];
static float *mib_of_floats;

static int set_up(void **state)
{
    (void)state;
    return scratch_make(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static const char *path_in(const char *name)
{
    static char path[2 * SCRATCH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static struct store *create_and_open(uint64_t map_bytes)
{
    struct store *store = NULL;
    assert_int_equal(store_create(dir), OK);
    assert_int_equal(store_open(dir, map_bytes, &store), OK);
    assert_non_null(store);
    return store;
}

static struct store *reopen(struct store *store)
{
    store_close(store);
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK);
    return store;
}

static enum err put_weights(struct store *store, uint64_t instance, uint64_t mib)
{
    struct txn *txn;
    const enum err err = txn_begin(store, true, &txn);
    if (err != OK) {
        return err;
    }
    enum err result = OK;
    for (uint64_t i = 0; i < mib && result == OK; i++) {
        result = weights_put(txn, instance + i, mib_of_floats, MIB_FLOATS);
    }
    return txn_end(txn, result);
}

static enum err has_weights(struct store *store, uint64_t instance)
{
    struct txn *txn;
    float *const out = mem_alloc(MIB_FLOATS, sizeof *out);
    enum err err = txn_begin(store, false, &txn);
    if (err == OK) {
        err = txn_end(txn, weights_get(txn, instance, out, MIB_FLOATS));
    }
    if (err == OK && memcmp(out, mib_of_floats, MIB) != 0) {
        err = ERR_CORRUPT;
    }
    mem_free(out);
    return err;
}

static uint64_t next_of(struct store *store, enum counter counter, enum err result)
{
    struct txn *txn;
    uint64_t value = 0;
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(counter_next(txn, counter, &value), OK);
    assert_int_equal(txn_end(txn, result), result);
    return value;
}

static uint64_t value_of_counter(struct store *store, enum counter counter)
{
    struct txn *txn;
    uint64_t value = 0;
    assert_int_equal(txn_begin(store, false, &txn), OK);
    assert_int_equal(txn_end(txn, counter_get(txn, counter, &value)), OK);
    return value;
}

static int run_child(void (*body)(void))
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(100);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

// --- Making and opening ---

static void test_create_makes_private_files(void **state)
{
    (void)state;
    struct store *store = NULL;
    assert_int_equal(store_open(dir, MAP_BYTES, &store), ERR_NOT_FOUND);
    assert_null(store);
    assert_non_null(strstr(err_text(), "run unlearnctl init"));
    store = create_and_open(MAP_BYTES);
    assert_int_equal(store_boot(store), 1);
    static const struct {
        const char *name;
        unsigned mode;
    } files[] = {
        {"store", 0700}, {"lock", 0600}, {"store/data.mdb", 0600}, {"store/lock.mdb", 0600}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct stat found;
        assert_int_equal(stat(path_in(files[i].name), &found), 0);
        assert_int_equal(found.st_mode & 07777, files[i].mode);
    }
    store_close(store);
    assert_int_equal(access(path_in("lock"), F_OK), 0);
    assert_int_equal(access(path_in("store.new"), F_OK), -1);
}

static void test_create_refuses_a_second_store(void **state)
{
    (void)state;
    assert_int_equal(store_create("/nonexistent/unlearn"), ERR_NOT_FOUND);
    assert_int_equal(store_create(dir), OK);
    assert_int_equal(store_create(dir), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "has a store already"));
    struct store *store = NULL; // What was there is still good.
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK);
    store_close(store);
}

static void test_create_clears_what_a_crash_left(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_in("store.new"), 0700), 0);
    const int fd = open(path_in("store.new/data.mdb"), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "half", 4), 4);
    assert_int_equal(close(fd), 0);
    struct store *store = NULL;
    assert_int_equal(store_open(dir, MAP_BYTES, &store), ERR_NOT_FOUND);
    store_close(create_and_open(MAP_BYTES));
}

static void open_and_tell(void)
{
    struct store *store = NULL;
    _exit(store_open(dir, MAP_BYTES, &store) == ERR_CONFLICT && store == NULL ? 0 : 1);
}

static void test_second_opener_is_refused(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    assert_int_equal(run_child(open_and_tell), 0);
    assert_int_equal(store_create(dir), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "another process has"));
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 1); // The first one is not disturbed.
    store_close(store);
    assert_int_not_equal(run_child(open_and_tell), 0); // Control: now it may.
}

// A program that we start must not keep the lock or the environment.
static void test_children_inherit_no_file(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    DIR *const fds = opendir("/proc/self/fd");
    assert_non_null(fds);
    int ours = 0;
    for (struct dirent *entry; (entry = readdir(fds)) != NULL;) {
        char target[2 * SCRATCH_BYTES] = "";
        if (readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1) > 0 &&
            strncmp(target, dir, strlen(dir)) == 0) {
            ours++;
            assert_true((fcntl(atoi(entry->d_name), F_GETFD) & FD_CLOEXEC) != 0);
        }
    }
    closedir(fds);
    assert_true(ours >= 3); // Lock, data, LMDB's lock.
    store_close(store);
}

static void test_boot_rises_and_body_key_stays(void **state)
{
    (void)state;
    uint8_t first[KEY_BYTES], second[KEY_BYTES], zero[KEY_BYTES] = {0};
    struct store *store = create_and_open(MAP_BYTES);
    request_body_key(store, first);
    assert_memory_not_equal(first, zero, KEY_BYTES);
    store = reopen(store);
    assert_int_equal(store_boot(store), 2);
    store = reopen(store);
    assert_int_equal(store_boot(store), 3);
    request_body_key(store, second);
    assert_memory_equal(first, second, KEY_BYTES);
    store_close(store);
}

// --- Damage ---

// Writes a row of meta into the closed store, past value_put when `stored` is not empty.
static void rewrite_meta(enum meta meta, struct span stored)
{
    struct kv *kv = NULL;
    struct kv_txn txn;
    uint8_t *room = NULL;
    struct kv_key key = {0};
    kv_key_u8(&key, (uint8_t)meta);
    assert_int_equal(kv_open(path_in("store"), MAP_BYTES, false, &kv), OK);
    assert_int_equal(kv_open_tables(kv), OK);
    assert_int_equal(kv_begin(kv, true, &txn), OK);
    if (stored.bytes == 0) {
        assert_int_equal(kv_drop(&txn, KV_META, kv_key_span(&key)), OK);
    } else {
        assert_int_equal(kv_put_room(&txn, KV_META, kv_key_span(&key), stored.bytes, &room), OK);
        memcpy(room, stored.data, stored.bytes);
    }
    assert_int_equal(kv_commit(&txn), OK);
    kv_close(kv);
}

static void open_refused(enum err expected, const char *text)
{
    struct store *store = NULL;
    assert_int_equal(store_open(dir, MAP_BYTES, &store), expected);
    assert_null(store);
    assert_non_null(strstr(err_text(), text));
}

static void test_another_format_is_refused(void **state)
{
    (void)state;
    store_close(create_and_open(MAP_BYTES));
    rewrite_meta(META_FORMAT, span_of("\1unlearnd\4\0\0\0", 13));
    open_refused(ERR_INCOMPATIBLE, "use a newer one");
    open_refused(ERR_INCOMPATIBLE, "format 4");
    rewrite_meta(META_FORMAT, span_of("\1unlearnd\2\0\0\0", 13));
    open_refused(ERR_INCOMPATIBLE, "format 2 and this program knows format 3 alone");
    rewrite_meta(META_FORMAT, span_of("\1unlearnd\0\0\0\0", 13));
    open_refused(ERR_CORRUPT, "format 0");
    rewrite_meta(META_FORMAT, span_of("\1unlearnt\3\0\0\0", 13));
    open_refused(ERR_CORRUPT, "magic");
    rewrite_meta(META_FORMAT, span_of("\2unlearnd\3\0\0\0", 13));
    open_refused(ERR_CORRUPT, "table meta, entry 1: the value is of kind 2, expected 1");
    rewrite_meta(META_FORMAT, span_of("", 0));
    open_refused(ERR_CORRUPT, "no format row");
    // Control: the right row opens, and none of the refusals had raised the boot counter.
    rewrite_meta(META_FORMAT, span_of("\1unlearnd\3\0\0\0", 13));
    struct store *store = NULL;
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK);
    assert_int_equal(store_boot(store), 2);
    store_close(store);
}

// Seals a value into the closed store, as value_put does at its place.
static void reseal_meta(enum meta meta, struct span value)
{
    struct store *store = reopen(NULL);
    struct txn *txn = NULL;
    struct kv_key key = {0};
    kv_key_u8(&key, (uint8_t)meta);
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(txn_end(txn, value_put(txn, KV_META, kv_key_span(&key), value)), OK);
    store_close(store);
}

static void test_damaged_meta_is_corrupt(void **state)
{
    (void)state;
    store_close(create_and_open(MAP_BYTES));
    reseal_meta(META_BODY_KEY, span_of("abc", 3));
    open_refused(ERR_CORRUPT, "table meta, entry 3: 3 bytes, expected 32");
    rewrite_meta(META_BODY_KEY, span_of("\2abc", 4));
    open_refused(ERR_CORRUPT, "table meta, entry 3: the value is damaged");
    rewrite_meta(META_BODY_KEY, span_of("", 0));
    open_refused(ERR_CORRUPT, "table meta, entry 3 is missing");
    rewrite_meta(META_BOOT, span_of("\1abc", 4));
    open_refused(ERR_CORRUPT, "table meta, entry 2: the value is of kind 1, expected 2");
}

// A shorter file would kill the process with SIGBUS at the first page that is not there.
static void test_truncated_file_is_refused(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    assert_int_equal(put_weights(store, 1, 8), OK);
    store_close(store);
    struct stat whole;
    assert_int_equal(stat(path_in("store/data.mdb"), &whole), 0);
    store = NULL;
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK); // Control.
    assert_int_equal(has_weights(store, 8), OK);
    store_close(store);
    const off_t sizes[] = {whole.st_size / 2, 16 * 4096, 2 * 4096, 4096, 100, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(truncate(path_in("store/data.mdb"), sizes[i]), 0);
        open_refused(ERR_CORRUPT, "data.mdb");
        struct stat found; // Refusing changes nothing.
        assert_int_equal(stat(path_in("store/data.mdb"), &found), 0);
        assert_int_equal(found.st_size, sizes[i]);
    }
    assert_int_equal(remove(path_in("store/data.mdb")), 0);
    open_refused(ERR_NOT_FOUND, "run unlearnctl init");
}

static void put_and_drop_then_die(void)
{
    struct store *store = NULL;
    struct txn *txn;
    if (store_open(dir, MAP_BYTES, &store) != OK || txn_begin(store, true, &txn) != OK ||
        weights_put(txn, 1, mib_of_floats, MIB_FLOATS) != OK || weights_drop(txn, 1) != OK ||
        kv_commit(&txn->kv) != OK) {
        _exit(1);
    }
    raise(SIGKILL);
}

// Pages taken and freed within one transaction are counted and never written: the file is then
// shorter than its last page although nothing is lost. It must open, with or without the stretch
// that follows a commit.
static void test_healthy_short_file_opens(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 1);
    store_close(store);
    assert_int_equal(run_child(put_and_drop_then_die), SIGKILL);
    // Takes the stretch back: whatever is a hole at the end was never written.
    const int fd = open(path_in("store/data.mdb"), O_RDWR);
    assert_true(fd >= 0);
    struct stat whole;
    assert_int_equal(fstat(fd, &whole), 0);
    off_t end = 0;
    for (off_t data; (data = lseek(fd, end, SEEK_DATA)) >= 0;) {
        end = lseek(fd, data, SEEK_HOLE);
    }
    assert_true(end < whole.st_size);
    assert_int_equal(ftruncate(fd, end), 0);
    assert_int_equal(close(fd), 0);
    store = NULL;
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK);
    assert_int_equal(value_of_counter(store, COUNTER_EPOCH), 1);
    struct stat after;
    assert_int_equal(stat(path_in("store/data.mdb"), &after), 0);
    assert_true(after.st_size >= whole.st_size);
    store_close(store);
}

static void test_foreign_file_is_refused(void **state)
{
    (void)state;
    store_close(create_and_open(MAP_BYTES));
    const int fd = open(path_in("store/data.mdb"), O_RDWR);
    assert_true(fd >= 0);
    static const char junk[64] = "this is not what LMDB begins its files with";
    assert_int_equal(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
    assert_int_equal(close(fd), 0);
    open_refused(ERR_CORRUPT, "is not a store");
    // An LMDB environment that is not ours.
    scratch_remove(path_in("store"));
    assert_int_equal(mkdir(path_in("store"), 0700), 0);
    struct kv *kv = NULL;
    assert_int_equal(kv_open(path_in("store"), MAP_BYTES, true, &kv), OK);
    kv_close(kv);
    open_refused(ERR_CORRUPT, "no table meta");
}

static void test_refusals_of_the_kernel_are_io(void **state)
{
    (void)state;
    store_close(create_and_open(MAP_BYTES));
    assert_int_equal(remove(path_in("store/lock.mdb")), 0);
    assert_int_equal(mkdir(path_in("store/lock.mdb"), 0700), 0);
    open_refused(ERR_IO, "opening the store in");
    assert_int_equal(remove(path_in("store/lock.mdb")), 0);
    struct store *store = NULL;
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK);
    store_close(store);
}

// --- Transactions ---

static void test_counters_start_at_one_and_last(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    for (int c = 0; c < COUNTER_COUNT_; c++) {
        assert_int_equal(value_of_counter(store, (enum counter)c), 0);
        for (int i = 0; i <= c; i++) {
            assert_int_equal(next_of(store, (enum counter)c, OK), i + 1);
        }
    }
    store = reopen(store);
    for (int c = 0; c < COUNTER_COUNT_; c++) {
        assert_int_equal(value_of_counter(store, (enum counter)c), c + 1);
    }
    store_close(store);
}

static void test_profile_is_set_and_replaced(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    struct digest a = {{1, 2, 3}}, b = {{9}}, found;
    struct txn *txn;
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(profile_get(txn, &found), ERR_NOT_FOUND);
    assert_int_equal(profile_set(txn, &a), OK);
    assert_int_equal(profile_get(txn, &found), OK);
    assert_memory_equal(&found, &a, sizeof a);
    assert_int_equal(profile_set(txn, &b), OK);
    assert_int_equal(txn_end(txn, OK), OK);
    store = reopen(store);
    assert_int_equal(txn_begin(store, false, &txn), OK);
    assert_int_equal(profile_get(txn, &found), OK);
    assert_memory_equal(&found, &b, sizeof b);
    assert_int_equal(txn_end(txn, OK), OK);
    store_close(store);
}

static void test_profile_names_are_kept_and_bounded(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    struct profile_name names[PROFILE_NAMES];
    uint32_t count = 7;
    struct txn *txn;
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(profile_names_get(txn, names, &count), OK);
    assert_int_equal(count, 0);
    for (uint32_t i = 0; i < PROFILE_NAMES; i++) {
        struct profile_name name = {.profile = {{(uint8_t)i}}};
        snprintf(name.core, sizeof name.core, "Core%u", i);
        assert_int_equal(profile_name_put(txn, &name), OK);
    }
    // The same profile again moves to the end with its new name; nothing is forgotten for it.
    const struct profile_name again = {.profile = {{3}}, .core = "Other"};
    assert_int_equal(txn_end(txn, OK), OK);
    store = reopen(store);
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(profile_names_get(txn, names, &count), OK);
    assert_int_equal(count, PROFILE_NAMES);
    assert_string_equal(names[0].core, "Core0");
    assert_string_equal(names[PROFILE_NAMES - 1].core, "Core63");
    assert_int_equal(profile_name_put(txn, &again), OK);
    assert_int_equal(profile_names_get(txn, names, &count), OK);
    assert_int_equal(count, PROFILE_NAMES);
    assert_string_equal(names[count - 1].core, "Other");
    assert_memory_equal(&names[count - 1].profile, &again.profile, DIGEST_BYTES);
    assert_string_equal(names[0].core, "Core0");
    // One more than fit: the oldest goes.
    const struct profile_name more = {.profile = {{200}}, .core = "More"};
    assert_int_equal(profile_name_put(txn, &more), OK);
    assert_int_equal(profile_names_get(txn, names, &count), OK);
    assert_int_equal(count, PROFILE_NAMES);
    assert_string_equal(names[0].core, "Core1");
    assert_string_equal(names[count - 1].core, "More");
    assert_int_equal(txn_end(txn, OK), OK);
    store_close(store);
}

static void test_rollback_leaves_nothing(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 1);
    // The result given is the one returned, and so is its sentence.
    struct txn *txn;
    uint64_t value;
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(counter_next(txn, COUNTER_EPOCH, &value), OK);
    assert_int_equal(value, 2);
    const enum err mine = err_raise(ERR_CANCELLED, "my own reason");
    assert_int_equal(txn_end(txn, mine), ERR_CANCELLED);
    assert_string_equal(err_text(), "my own reason");
    assert_int_equal(value_of_counter(store, COUNTER_EPOCH), 1);
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 2);
    store_close(store);
}

static void test_full_map_is_a_limit_and_passes(void **state)
{
    (void)state;
    struct store *store = create_and_open(4 * MIB);
    assert_false(store_is_tight(store));
    assert_int_equal(put_weights(store, 1, 1), OK);
    assert_false(store_is_tight(store));
    assert_int_equal(put_weights(store, 10, 8), ERR_LIMIT); // Does not fit.
    assert_non_null(strstr(err_text(), "4194304 bytes of map"));
    assert_int_equal(has_weights(store, 10), ERR_NOT_FOUND); // Nothing of it stands.
    assert_int_equal(has_weights(store, 1), OK);
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 1); // The store goes on.

    assert_int_equal(put_weights(store, 2, 1), OK);
    assert_int_equal(put_weights(store, 3, 1), OK);
    uint64_t used, map;
    store_usage(store, &used, &map);
    assert_int_equal(map, 4 * MIB);
    assert_true(used > 3 * MIB && used < 4 * MIB);
    if (used > map / 100 * 80) {
        assert_true(store_is_tight(store));
    }
    struct txn *txn; // Deleting makes room again, and the figure says so.
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(weights_drop(txn, 1), OK);
    assert_int_equal(weights_drop(txn, 2), OK);
    assert_int_equal(txn_end(txn, OK), OK);
    store_usage(store, &used, &map);
    assert_true(used < 2 * MIB);
    assert_false(store_is_tight(store));
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 2); // LMDB uses freed pages from the
    assert_int_equal(put_weights(store, 5, 1), OK);         // second commit after on.
    store_close(store);
}

static void test_tight_above_four_fifths_of_the_map(void **state)
{
    (void)state;
    struct store *store = create_and_open(16 * MIB);
    bool was_tight = false;
    for (uint64_t i = 1; i <= 15 && !was_tight; i++) {
        assert_int_equal(put_weights(store, i, 1), OK);
        uint64_t used, map;
        store_usage(store, &used, &map);
        was_tight = store_is_tight(store);
        assert_int_equal(was_tight, used > map / 100 * 80);
    }
    assert_true(was_tight);
    store_close(store);
}

// --- Disks that refuse ---

static void write_beyond_file_limit(void)
{
    struct store *store = NULL;
    signal(SIGXFSZ, SIG_IGN);
    if (store_open(dir, MAP_BYTES, &store) != OK) {
        _exit(1);
    }
    struct rlimit limit = {MIB, MIB};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        _exit(2);
    }
    const enum err err = put_weights(store, 1, 4);
    _exit(err == ERR_IO || err == ERR_LIMIT ? 0 : 3);
}

static void test_refused_write_leaves_the_old_state(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 1);
    store_close(store);
    assert_int_equal(run_child(write_beyond_file_limit), 0);
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK);
    assert_int_equal(has_weights(store, 1), ERR_NOT_FOUND);
    assert_int_equal(value_of_counter(store, COUNTER_EPOCH), 1);
    store_close(store);
}

enum { NO_MOUNT = 77 };

static void fill_a_small_disk(void)
{
    struct store *store = NULL;
    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700") != 0) {
        _exit(NO_MOUNT);
    }
    if (store_create(dir) != OK || store_open(dir, MAP_BYTES, &store) != OK) {
        _exit(1);
    }
    if (!store_is_tight(store)) { // Less than 64 MiB free.
        _exit(2);
    }
    if (put_weights(store, 1, 1) != OK) {
        _exit(3);
    }
    if (put_weights(store, 10, 8) != ERR_LIMIT || strstr(err_text(), "disk is full") == NULL) {
        _exit(4);
    }
    struct txn *txn; // It goes on: the old state stands and a deletion still commits.
    if (has_weights(store, 1) != OK || has_weights(store, 10) != ERR_NOT_FOUND ||
        txn_begin(store, true, &txn) != OK || txn_end(txn, weights_drop(txn, 1)) != OK) {
        _exit(5);
    }
    store_close(store);
    store = NULL;
    _exit(store_open(dir, MAP_BYTES, &store) == OK && has_weights(store, 1) == ERR_NOT_FOUND ? 0
                                                                                             : 6);
}

static void test_full_disk_is_a_limit_and_passes(void **state)
{
    (void)state;
    const int status = run_child(fill_a_small_disk);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_MOUNT) {
        print_message("skipped: no right to mount a small disk here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

// --- Crashes ---

static void die_inside_a_transaction(void)
{
    struct store *store = NULL;
    struct txn *txn;
    uint64_t value;
    if (store_open(dir, MAP_BYTES, &store) != OK || txn_begin(store, true, &txn) != OK ||
        counter_next(txn, COUNTER_EPOCH, &value) != OK ||
        weights_put(txn, 7, mib_of_floats, MIB_FLOATS) != OK) {
        _exit(1);
    }
    raise(SIGKILL);
}

static void die_after_a_commit(void)
{
    struct store *store = NULL;
    if (store_open(dir, MAP_BYTES, &store) != OK || put_weights(store, 8, 1) != OK) {
        _exit(1);
    }
    raise(SIGKILL);
}

static void die_while_reading(void)
{
    struct store *store = NULL;
    struct txn *txn;
    if (store_open(dir, MAP_BYTES, &store) != OK || txn_begin(store, false, &txn) != OK) {
        _exit(1);
    }
    raise(SIGKILL);
}

static void test_killed_writer_leaves_the_last_commit(void **state)
{
    (void)state;
    struct store *store = create_and_open(MAP_BYTES);
    assert_int_equal(next_of(store, COUNTER_EPOCH, OK), 1);
    store_close(store);
    assert_int_equal(run_child(die_inside_a_transaction), SIGKILL);
    assert_int_equal(run_child(die_after_a_commit), SIGKILL);
    assert_int_equal(store_open(dir, MAP_BYTES, &store), OK);
    assert_int_equal(store_boot(store), 4); // Both children had opened it.
    assert_int_equal(value_of_counter(store, COUNTER_EPOCH), 1);
    assert_int_equal(has_weights(store, 7), ERR_NOT_FOUND);
    assert_int_equal(has_weights(store, 8), OK);
    store_close(store);
}

// A reader that died would keep every old page: a small map would then fill up by rewriting alone.
static void test_killed_readers_hold_no_pages(void **state)
{
    (void)state;
    store_close(create_and_open(8 * MIB));
    assert_int_equal(run_child(die_while_reading), SIGKILL);
    struct store *store = NULL;
    assert_int_equal(store_open(dir, 8 * MIB, &store), OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(put_weights(store, 1, 1), OK);
    }
    store_close(store);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    mib_of_floats = mem_alloc(MIB_FLOATS, sizeof *mib_of_floats);
    for (size_t i = 0; i < MIB_FLOATS; i++) {
        mib_of_floats[i] = (float)i;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_create_makes_private_files),
        CASE(test_create_refuses_a_second_store),
        CASE(test_create_clears_what_a_crash_left),
        CASE(test_second_opener_is_refused),
        CASE(test_children_inherit_no_file),
        CASE(test_boot_rises_and_body_key_stays),
        CASE(test_another_format_is_refused),
        CASE(test_damaged_meta_is_corrupt),
        CASE(test_truncated_file_is_refused),
        CASE(test_healthy_short_file_opens),
        CASE(test_foreign_file_is_refused),
        CASE(test_refusals_of_the_kernel_are_io),
        CASE(test_counters_start_at_one_and_last),
        CASE(test_profile_is_set_and_replaced),
        CASE(test_profile_names_are_kept_and_bounded),
        CASE(test_rollback_leaves_nothing),
        CASE(test_full_map_is_a_limit_and_passes),
        CASE(test_tight_above_four_fifths_of_the_map),
        CASE(test_refused_write_leaves_the_old_state),
        CASE(test_full_disk_is_a_limit_and_passes),
        CASE(test_killed_writer_leaves_the_last_commit),
        CASE(test_killed_readers_hold_no_pages),
    };
#undef CASE
    const int failed = cmocka_run_group_tests_name("store", tests, NULL, NULL);
    mem_free(mib_of_floats);
    return failed;
}
