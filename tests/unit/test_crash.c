// tests/unit/test_crash.c: at whatever write the process dies, keys and rows fit at the next start.
//
// Method: `pwrite`, `pwritev`, `writev`, `fdatasync` and `fsync` stand before libc's, for LMDB too. A
// child does a workload and dies at its Nth such call, for every N. Then power is lost as well: of what
// was written to keyring and store and not synced, each piece of 512 bytes goes back to what it was, or
// stays, by the toss of a coin. The parent opens what is left.
//
// What must hold: the store opens; every record that its rows name opens and has its bytes; a
// transaction is there whole or not at all; nothing is doomed; what was erased has zeros for a key.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "store/component.h"
#include "store/doom.h"
#include "store/rotate.h"
#include "tests/unit/people.h"

enum { PIECE = 512, PIECES = 20000, DIED = 42, SEEDS = 2 };

// ---------------------------------------------------------------- dying, and losing power

static struct piece { // What lay there before a write that is not synced yet.
    int fd;
    off_t at;
    size_t bytes;
    uint8_t before[PIECE];
} * pieces;
static size_t piece_count;
static long calls, die_at; // 0: lives.
static uint32_t coin;

static bool heads(void)
{
    coin = coin * 1664525u + 1013904223u;
    return (coin >> 31) != 0;
}

static void die(void)
{
    for (size_t i = piece_count; i-- > 0;) {
        if (heads()) {
            (void)!syscall(SYS_pwrite64, pieces[i].fd, pieces[i].before, pieces[i].bytes,
                           pieces[i].at);
        }
    }
    _exit(DIED);
}

static void count_call(void)
{
    if (die_at > 0 && ++calls == die_at) {
        die();
    }
}

static void remember(int fd, off_t at, size_t bytes)
{
    if (die_at == 0 || (fcntl(fd, F_GETFL) & O_DSYNC) != 0) {
        return; // LMDB writes its first pages synced.
    }
    for (size_t done = 0; done < bytes && piece_count < PIECES;) {
        struct piece *const piece = &pieces[piece_count];
        const size_t room = PIECE - (size_t)(at + (off_t)done) % PIECE;
        piece->fd = fd;
        piece->at = at + (off_t)done;
        piece->bytes = bytes - done < room ? bytes - done : room;
        memset(piece->before, 0, PIECE); // Beyond the end there is nothing: zeros.
        (void)!syscall(SYS_pread64, fd, piece->before, piece->bytes, piece->at);
        done += piece->bytes;
        piece_count++;
    }
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    count_call();
    remember(fd, offset, bytes);
    return syscall(SYS_pwrite64, fd, data, bytes, offset);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    ssize_t total = 0;
    count_call();
    for (int i = 0; i < count; i++) {
        remember(fd, offset + total, parts[i].iov_len);
        total += syscall(SYS_pwrite64, fd, parts[i].iov_base, parts[i].iov_len, offset + total);
    }
    return total;
}
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    const off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t total = 0;
    count_call();
    for (int i = 0; i < count; i++) {
        if (at >= 0) {
            remember(fd, at + total, parts[i].iov_len);
        }
        total += syscall(SYS_write, fd, parts[i].iov_base, parts[i].iov_len);
    }
    return total;
}
static int synced(int fd)
{
    count_call();
    size_t kept = 0;
    for (size_t i = 0; i < piece_count; i++) {
        if (pieces[i].fd != fd) {
            pieces[kept++] = pieces[i];
        }
    }
    piece_count = kept;
    return 0; // What power loss takes is decided here: the disk need not be waited for.
}
int fdatasync(int fd)
{
    return synced(fd);
}
int fsync(int fd)
{
    return synced(fd);
}

// ---------------------------------------------------------------- the store

static struct people people;

static int set_up(void **state)
{
    (void)state;
    pieces = mem_alloc(PIECES, sizeof *pieces);
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    mem_free(pieces);
    return 0;
}

static void text_of(uint32_t number, char out[static 24])
{
    snprintf(out, 24, "value %u", number);
}

// Imports records first .. first + count - 1 in one transaction.
static enum err import_some(uint32_t first, uint32_t count)
{
    struct import_counts counts;
    uint64_t import = 0;
    people_begin(&people);
    enum err err = import_begin(people.txn, PEOPLE_DATASET, 1, false, &import);
    for (uint32_t i = first; i < first + count && err == OK; i++) {
        char text[24];
        text_of(i, text);
        err = people_stage(&people, import, i, 1000 + i, (uint8_t)i, 0, text);
    }
    err = err == OK ? import_commit(people.txn, import, &counts) : err;
    return txn_end(people.txn, err);
}

static enum err drop_some(uint32_t first, uint32_t count)
{
    enum err err = OK;
    people_begin(&people);
    for (uint32_t i = first; i < first + count && err == OK; i++) {
        const struct record_key key = people_key(i, 1, 1000 + i, (uint8_t)i, 0);
        err = record_remove(people.txn, &key);
    }
    return txn_end(people.txn, err);
}

static enum err erase_all(void)
{
    bool more = true;
    enum err err = OK;
    while (more && err == OK) {
        people_begin(&people);
        err = doom_erase(people.txn, KEYRING_BATCH, &more);
        err = txn_end(people.txn, err);
    }
    return err;
}

// Which of the first 64 records are there; each must open and have its bytes.
static uint64_t present(void)
{
    uint64_t set = 0;
    people_begin(&people);
    for (uint32_t i = 0; i < 64; i++) {
        struct record record;
        const struct id128 rid = people_rid(i);
        const enum err err = record_find(people.txn, PEOPLE_DATASET, &rid, &record);
        if (err == ERR_NOT_FOUND) {
            continue;
        }
        char text[24];
        text_of(i, text);
        assert_int_equal(err, OK);
        assert_true(span_equal(record.row, span_text(text)));
        set |= (uint64_t)1 << i;
    }
    people_commit(&people);
    return set;
}

static uint64_t bits(uint32_t first, uint32_t count)
{
    return (((uint64_t)1 << count) - 1) << first;
}

// Slots of the keyring that are not zeros.
static size_t slots_taken(void)
{
    char path[SCRATCH_BYTES + 16];
    uint8_t slot[64];
    static const uint8_t zeros[64];
    size_t taken = 0;
    snprintf(path, sizeof path, "%s/keyring", people.dir);
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    for (off_t at = 4096; pread(fd, slot, sizeof slot, at) == (ssize_t)sizeof slot; at += 64) {
        taken += memcmp(slot, zeros, sizeof slot) != 0;
    }
    close(fd);
    return taken;
}

// Runs `work` in a child that dies at each of its writes in turn, on a fresh copy of what `prepare`
// made, and lets `check` look at what is left. Returns how many deaths there were.
static long deaths(void (*prepare)(void), enum err (*work)(void), void (*check)(void))
{
    long n = 1;
    for (bool died = true; died; n++) {
        for (uint32_t seed = 0; seed < SEEDS; seed++) {
            people_open(&people);
            prepare();
            store_close(people.store);
            const pid_t child = fork();
            if (child == 0) {
                if (store_open(people.dir, PEOPLE_MAP_BYTES, &people.store) != OK) {
                    _exit(1);
                }
                coin = (uint32_t)n * 977 + seed;
                die_at = n;
                _exit(work() == OK ? 0 : 2);
            }
            int status = 0;
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_true(WIFEXITED(status));
            assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == DIED);
            died = WEXITSTATUS(status) == DIED;
            const enum err err = store_open(people.dir, PEOPLE_MAP_BYTES, &people.store);
            if (err != OK) {
                fail_msg("death %ld, seed %u: %s", n, seed, err_text());
            }
            check();
            people_close(&people);
        }
    }
    return n - 2;
}

static void has_nothing_doomed(void)
{
    bool any = true;
    people_begin(&people);
    assert_int_equal(doom_any(people.txn, &any), OK);
    people_commit(&people);
    assert_false(any);
}

// ---------------------------------------------------------------- import

static void ten_records(void)
{
    MUST(import_some(0, 10));
}
static enum err import_ten_more(void)
{
    return import_some(10, 10);
}
static void whole_or_not(void)
{
    const uint64_t set = present();
    assert_true(set == bits(0, 10) || set == bits(0, 20));
    // A key for each record, for the dataset and for the store; none that nobody names.
    assert_int_equal(slots_taken(), 2 + (set == bits(0, 10) ? 10 : 20));
    MUST(import_some(20, 10)); // And it goes on.
    assert_int_equal(present(), set | bits(20, 10));
    has_nothing_doomed();
}

static void test_import(void **state)
{
    (void)state;
    assert_true(deaths(ten_records, import_ten_more, whole_or_not) > 5);
}

// ---------------------------------------------------------------- erasing

static enum err drop_and_erase(void)
{
    TRY(drop_some(3, 4));
    return erase_all();
}
static void erased_or_not_begun(void)
{
    const uint64_t set = present(), gone = bits(3, 4);
    assert_true(set == bits(0, 10) || set == (bits(0, 10) & ~gone));
    assert_int_equal(slots_taken(), 2 + (set == bits(0, 10) ? 10 : 6));
    has_nothing_doomed();
    MUST(import_some(20, 10));
    assert_int_equal(present(), set | bits(20, 10));
    MUST(erase_all());
    people_reopen(&people);
    assert_int_equal(present(), set | bits(20, 10));
}

static void test_erase(void **state)
{
    (void)state;
    assert_true(deaths(ten_records, drop_and_erase, erased_or_not_begun) > 8);
}

// Erased slots serve again at once: a redo must not touch the new owner.
static enum err erase_and_reuse(void)
{
    TRY(drop_and_erase());
    TRY(import_some(30, 6));
    TRY(drop_some(0, 2));
    return erase_all();
}
static void new_owners_stand(void)
{
    const uint64_t set = present(), after_first = bits(0, 10) & ~bits(3, 4);
    assert_true(set == bits(0, 10) || set == after_first || set == (after_first | bits(30, 6)) ||
                set == ((after_first | bits(30, 6)) & ~bits(0, 2)));
    assert_int_equal(slots_taken(), 2 + (size_t)__builtin_popcountll(set));
    has_nothing_doomed();
}

static void test_erase_and_reuse(void **state)
{
    (void)state;
    assert_true(deaths(ten_records, erase_and_reuse, new_owners_stand) > 15);
}

// ---------------------------------------------------------------- change of the master key

static enum err change_master(void)
{
    return rotate_master(people.store);
}
static void all_there_under_some_master(void)
{
    assert_int_equal(present(), bits(0, 10));
    assert_int_equal(slots_taken(), 12);
    const uint8_t number = keyring_master_number(people.store->keyring);
    assert_true(number == 1 || number == 2);
    // A change that was begun is finished by the start: the old key is gone with it.
    if (number == 2) {
        assert_null(master_key(people.store->master, 1));
    }
    MUST(rotate_master(people.store));
    assert_int_equal(present(), bits(0, 10));
    people_reopen(&people);
    assert_int_equal(present(), bits(0, 10));
}

static void test_change_of_the_master_key(void **state)
{
    (void)state;
    assert_true(deaths(ten_records, change_master, all_there_under_some_master) > 8);
}

// ---------------------------------------------------------------- weights

static enum err train_and_forget(void)
{
    static const float params[100] = {1, 2, 3};
    people_begin(&people);
    enum err err = weights_put(people.txn, 7, params, 100);
    TRY(txn_end(people.txn, err));
    people_begin(&people);
    err = weights_drop(people.txn, 7);
    TRY(txn_end(people.txn, err));
    return erase_all();
}
static void weights_or_none(void)
{
    float params[100];
    people_begin(&people);
    const enum err err = weights_get(people.txn, 7, params, 100);
    people_commit(&people);
    assert_true(err == ERR_NOT_FOUND || (err == OK && params[2] == 3));
    assert_int_equal(slots_taken(), 12 + (err == OK));
    has_nothing_doomed();
}

static void test_weights(void **state)
{
    (void)state;
    assert_true(deaths(ten_records, train_and_forget, weights_or_none) > 10);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_import),          CASE(test_erase),
        CASE(test_erase_and_reuse), CASE(test_change_of_the_master_key),
        CASE(test_weights),
    };
#undef CASE
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
