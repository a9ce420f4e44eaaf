// tests/unit/test_keyring.c: keys come back unless they were erased, and then never.
//
// Method: the file's bytes are read and changed past the keyring. `pwrite` stands before libc's, so
// that a disk which loses writes can be had. What a crash leaves is in test_crash.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/mem.h"
#include "store/keyring.h"
#include "tests/unit/scratch.h"

enum { PAGE = 4096, SLOT = 64, HEADER = 72 };

static char dir[SCRATCH_BYTES], path[SCRATCH_BYTES + 16];
static struct master *master;
static struct keyring *keyring;
static bool lose_writes;
static uint64_t reserved; // Generations, as the store says at a start.

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    return lose_writes ? (ssize_t)bytes : syscall(SYS_pwrite64, fd, data, bytes, offset);
}

static void open_fresh(void)
{
    uint64_t zeroed = 0;
    assert_int_equal(keyring_open(path, master, &keyring), OK);
    assert_int_equal(keyring_settle(keyring, reserved, &zeroed), OK);
    keyring_generations(keyring, 1, 1 << 20);
}

static int set_up(void **state)
{
    (void)state;
    lose_writes = false;
    reserved = 1 << 20;
    if (!scratch_make(dir)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/keyring", dir);
    assert_int_equal(master_create(dir), OK);
    assert_int_equal(master_open(dir, &master), OK);
    assert_int_equal(keyring_create(path, master), OK);
    open_fresh();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    keyring_close(keyring);
    keyring = NULL;
    master_close(master);
    scratch_remove(dir);
    return 0;
}

struct made {
    struct key_name name;
    uint8_t key[SEAL_KEY_BYTES];
};

// Makes `count` keys in a run and commits them.
static void make(struct made *made, size_t count)
{
    uint64_t run = 0;
    keyring_reserve(keyring, count, &run);
    for (size_t i = 0; i < count; i++) {
        keyring_make(keyring, run + i, &made[i].name, made[i].key);
    }
    assert_int_equal(keyring_flush(keyring), OK);
    keyring_end(keyring, true);
}

static void is_there(const struct made *made)
{
    uint8_t key[SEAL_KEY_BYTES];
    assert_int_equal(keyring_key(keyring, &made->name, key), OK);
    assert_memory_equal(key, made->key, sizeof key);
}

static void is_gone(const struct made *made)
{
    uint8_t key[SEAL_KEY_BYTES];
    char text[32];
    snprintf(text, sizeof text, "slot %llu of the", (unsigned long long)made->name.slot);
    assert_int_equal(keyring_key(keyring, &made->name, key), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), text));
}

// Reads or writes the file past the keyring.
static void raw(off_t at, void *bytes, size_t count, bool write)
{
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(write ? syscall(SYS_pwrite64, fd, bytes, count, at)
                           : syscall(SYS_pread64, fd, bytes, count, at),
                     count);
    close(fd);
}
static off_t at_of(const struct made *made)
{
    return PAGE + (off_t)made->name.slot * SLOT;
}
static bool is_zero(const struct made *made)
{
    uint8_t bytes[SLOT];
    static const uint8_t zeros[SLOT];
    raw(at_of(made), bytes, sizeof bytes, false);
    return memcmp(bytes, zeros, sizeof bytes) == 0;
}

// Opens anew; the first `count` are named.
static enum err reopen(const struct made *made, size_t count, uint64_t *zeroed)
{
    keyring_close(keyring);
    keyring = NULL;
    const enum err err = keyring_open(path, master, &keyring);
    if (err != OK) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        const enum err expected = keyring_expect(keyring, &made[i].name, false);
        if (expected != OK) {
            return expected;
        }
    }
    return keyring_settle(keyring, reserved, zeroed);
}

static void test_keys_come_back(void **state)
{
    (void)state;
    struct made made[100];
    uint64_t zeroed = 0;
    make(made, 100);
    for (size_t i = 0; i < 100; i++) {
        is_there(&made[i]);
        assert_int_equal(made[i].name.slot, made[0].name.slot + i);
        assert_int_equal(made[i].name.generation, 1 + i);
    }
    assert_int_equal(reopen(made, 100, &zeroed), OK);
    assert_int_equal(zeroed, 0);
    for (size_t i = 0; i < 100; i++) {
        is_there(&made[i]);
    }
    // Nothing of a key lies in the file as it is.
    uint8_t *const file = mem_alloc(100, SLOT);
    raw(PAGE, file, (size_t)100 * SLOT, false);
    for (size_t i = 0; i < 100; i++) {
        assert_null(memmem(file, (size_t)100 * SLOT, made[i].key, 8));
    }
    mem_free(file);
}

// Before the flush they are in memory alone, and can be used.
static void test_new_keys_before_the_flush(void **state)
{
    (void)state;
    struct made made[3], other;
    uint64_t run = 0;
    make(&other, 1);
    keyring_reserve(keyring, 5, &run); // Two of them are not needed.
    for (size_t i = 0; i < 3; i++) {
        keyring_make(keyring, run + 2 * i, &made[i].name, made[i].key);
    }
    for (size_t i = 0; i < 3; i++) {
        is_there(&made[i]);
    }
    is_there(&other);
    keyring_end(keyring, false); // Rolled back: as if they had never been.
    for (size_t i = 0; i < 3; i++) {
        uint8_t key[SEAL_KEY_BYTES];
        assert_int_equal(keyring_key(keyring, &made[i].name, key), ERR_CORRUPT);
    }
    make(made, 3);
    assert_int_equal(made[0].name.slot, other.name.slot + 1); // Their slots are free again,
    assert_int_equal(made[0].name.generation, 5);             // their generations are not.
    keyring_reserve(keyring, 1, &run);
    keyring_make(keyring, run, &made[0].name, made[0].key);
    assert_int_equal(keyring_flush(keyring), OK);
    keyring_end(keyring, false); // The commit did not come to stand.
    assert_true(is_zero(&made[0]));
    is_there(&other);
}

static void test_erased_keys_are_gone(void **state)
{
    (void)state;
    struct made made[300], again[3];
    struct key_name names[4];
    uint64_t destroyed = 0, zeroed = 0;
    make(made, 300);
    const size_t picks[] = {299, 7, 64, 7}; // Of three pages, in no order, one twice.
    for (size_t i = 0; i < 4; i++) {
        names[i] = made[picks[i]].name;
    }
    assert_int_equal(keyring_erase(keyring, names, 4, 1, &destroyed), OK);
    assert_int_equal(destroyed, 3);
    keyring_end(keyring, true);
    for (size_t i = 0; i < 300; i++) {
        const bool erased = i == 299 || i == 7 || i == 64;
        assert_int_equal(is_zero(&made[i]), erased);
        if (erased) {
            is_gone(&made[i]);
        } else {
            is_there(&made[i]);
        }
    }
    assert_int_equal(keyring_erase_counter(keyring), 1);
    make(&again[0], 1); // The slots serve again, one by one.
    make(&again[1], 1);
    make(&again[2], 1);
    assert_int_equal(again[0].name.slot, made[7].name.slot);
    assert_int_equal(again[1].name.slot, made[64].name.slot);
    assert_int_equal(again[2].name.slot, made[299].name.slot);
    is_gone(&made[7]); // The old name does not lead to the new key.
    is_there(&again[0]);
    // A redo of the old erasure leaves the new owners alone.
    names[0] = made[7].name;
    names[1] = made[64].name;
    assert_int_equal(keyring_erase(keyring, names, 2, 2, &destroyed), OK);
    assert_int_equal(destroyed, 0);
    keyring_end(keyring, true);
    is_there(&again[0]);
    is_there(&again[1]);
    assert_int_equal(reopen(again, 3, &zeroed), OK);
    assert_int_equal(keyring_erase_counter(keyring), 2);
    assert_int_equal(zeroed, 297);
}

static void test_slots_are_free_only_after_the_commit(void **state)
{
    (void)state;
    struct made made, other;
    uint64_t destroyed = 0;
    make(&made, 1);
    struct key_name name = made.name;
    assert_int_equal(keyring_erase(keyring, &name, 1, 1, &destroyed), OK);
    keyring_end(keyring, false); // The list was not cleared: the slot is still spoken for.
    make(&other, 1);
    assert_int_not_equal(other.name.slot, made.name.slot);
    assert_int_equal(keyring_erase(keyring, &name, 1, 1, &destroyed), OK); // The redo.
    assert_int_equal(destroyed, 0);
    keyring_end(keyring, true);
    make(&other, 1);
    assert_int_equal(other.name.slot, made.name.slot);
}

// A disk that says yes and writes nothing must not lead to `erased`.
static void test_lost_writes_are_noticed(void **state)
{
    (void)state;
    struct made made[2];
    uint64_t destroyed = 0;
    make(made, 2);
    struct key_name name = made[1].name;
    lose_writes = true;
    assert_int_equal(keyring_erase(keyring, &name, 1, 1, &destroyed), ERR_IO);
    assert_non_null(strstr(err_text(), "slot 1 of the keyring was overwritten, and the disk"));
    lose_writes = false;
    keyring_end(keyring, false);
    is_there(&made[1]);
    assert_int_equal(keyring_erase(keyring, &name, 1, 1, &destroyed), OK); // Control.
    assert_int_equal(destroyed, 1);
}

static void test_flipped_and_swapped_slots(void **state)
{
    (void)state;
    struct made made[2];
    uint8_t slots[2][SLOT], bytes[SLOT];
    make(made, 2);
    raw(at_of(&made[0]), slots, sizeof slots, false);
    for (size_t i = 0; i < SLOT; i++) {
        for (int bit = 0; bit < 8; bit += 3) {
            memcpy(bytes, slots[0], SLOT);
            bytes[i] ^= (uint8_t)(1 << bit);
            keyring_close(keyring); // No page of before in memory.
            raw(at_of(&made[0]), bytes, SLOT, true);
            assert_int_equal(keyring_open(path, master, &keyring), OK);
            is_gone(&made[0]);
            is_there(&made[1]);
        }
    }
    keyring_close(keyring);
    raw(at_of(&made[0]), slots[1], SLOT, true);
    raw(at_of(&made[1]), slots[0], SLOT, true);
    assert_int_equal(keyring_open(path, master, &keyring), OK);
    is_gone(&made[0]);
    // Even under its generation, a key opens only in its slot.
    const struct made moved = {.name = {made[0].name.slot, made[1].name.generation}};
    is_gone(&moved);
}

static void test_damaged_header(void **state)
{
    (void)state;
    uint8_t header[HEADER], bytes[HEADER];
    uint64_t zeroed = 0;
    raw(0, header, sizeof header, false);
    for (size_t i = 0; i < sizeof header; i++) {
        memcpy(bytes, header, sizeof header);
        bytes[i] ^= 0x04;
        raw(0, bytes, sizeof bytes, true);
        const enum err err = reopen(NULL, 0, &zeroed);
        assert_true(err == ERR_CORRUPT || err == ERR_CONFLICT || err == ERR_INCOMPATIBLE);
        assert_non_null(strstr(err_text(), path));
    }
    raw(0, header, sizeof header, true);
    assert_int_equal(reopen(NULL, 0, &zeroed), OK); // Control.
}

static void test_files_that_are_refused(void **state)
{
    (void)state;
    char aside[sizeof path + 8];
    uint64_t zeroed = 0;
    snprintf(aside, sizeof aside, "%s.aside", path);
    keyring_close(keyring);
    keyring = NULL;
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(keyring_open(path, master, &keyring), ERR_DENIED);
    assert_non_null(strstr(err_text(), "mode 0640"));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(keyring_open(path, master, &keyring), ERR_NOT_FOUND);
    assert_int_equal(symlink(aside, path), 0);
    assert_int_equal(keyring_open(path, master, &keyring), ERR_DENIED);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(keyring_create(path, master), ERR_CONFLICT);
    assert_int_equal(reopen(NULL, 0, &zeroed), OK); // Control.
    assert_int_equal(truncate(path, PAGE - 1), 0);
    assert_int_equal(reopen(NULL, 0, &zeroed), ERR_CORRUPT);
}

static void test_another_master_key(void **state)
{
    (void)state;
    char other_dir[SCRATCH_BYTES];
    struct master *other = NULL;
    struct made made;
    make(&made, 1);
    keyring_close(keyring);
    keyring = NULL;
    assert_true(scratch_make(other_dir));
    assert_int_equal(master_create(other_dir), OK);
    assert_int_equal(master_open(other_dir, &other), OK);
    assert_int_equal(keyring_open(path, other, &keyring), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "key of another cluster"));
    master_close(other);
    scratch_remove(other_dir);
}

static void test_start_finds_what_does_not_fit(void **state)
{
    (void)state;
    struct made made[4];
    uint64_t zeroed = 0;
    make(made, 4);
    assert_int_equal(reopen(made, 2, &zeroed), OK); // Two that nobody names are zeroed.
    assert_int_equal(zeroed, 2);
    assert_false(is_zero(&made[1]));
    assert_true(is_zero(&made[2]) && is_zero(&made[3]));

    assert_int_equal(reopen(made, 3, &zeroed), ERR_CORRUPT); // A third is named, and is not there.
    assert_non_null(strstr(err_text(), "slot 2 of the keyring holds generation 0, and the store"));

    struct made wrong = made[1];
    wrong.name.generation = 9;
    assert_int_equal(reopen(&wrong, 1, &zeroed), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "slot 1 of the keyring holds generation 2"));
    assert_false(is_zero(&made[0])); // A refused start has zeroed nothing.
    reserved =
        1; // The store is older than the keyring: keys that it has never heard of are no strays.
    assert_int_equal(reopen(&made[1], 1, &zeroed), ERR_CONFLICT);
    assert_non_null(
        strstr(err_text(), "the store was put back from a copy: slot 0 of the keyring"));
    assert_false(is_zero(&made[0]));
    reserved = 1 << 20;
    struct made beyond = {.name = {1 << 20, 7}};
    assert_int_equal(reopen(&beyond, 1, &zeroed), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "it was cut off"));

    keyring_close(keyring);
    assert_int_equal(keyring_open(path, master, &keyring), OK);
    assert_int_equal(keyring_expect(keyring, &made[1].name, false), OK);
    assert_int_equal(keyring_expect(keyring, &wrong.name, false), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "named by two rows"));

    // What is doomed may be gone already.
    keyring_close(keyring);
    assert_int_equal(keyring_open(path, master, &keyring), OK);
    assert_int_equal(keyring_expect(keyring, &made[1].name, false), OK);
    assert_int_equal(keyring_expect(keyring, &made[3].name, true), OK);
    assert_int_equal(keyring_settle(keyring, reserved, &zeroed), OK);
}

// The file grows while keys come, narrow and wide runs share it, and nothing is handed out twice.
static void test_many_keys(void **state)
{
    (void)state;
    enum { WIDE = 20000, ROUNDS = 30 };
    uint8_t *const used = mem_alloc((size_t)WIDE * ROUNDS, 1);
    struct made *const made = mem_alloc(WIDE, sizeof *made);
    uint64_t destroyed = 0, state32 = 1;
    for (int round = 0; round < ROUNDS; round++) {
        state32 = state32 * 1103515245 + 12345;
        const size_t count = round == 7 ? WIDE : 1 + (state32 >> 16) % 300;
        make(made, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(used[made[i].name.slot]++, 0);
        }
        is_there(&made[0]);
        is_there(&made[count - 1]);
        if (round % 3 == 0) { // Holes.
            struct key_name names[100];
            size_t holes = 0;
            for (size_t i = 0; i < count && holes < 100; i += 2) {
                used[made[i].name.slot]--;
                names[holes++] = made[i].name;
            }
            assert_int_equal(keyring_erase(keyring, names, holes, 1 + (uint64_t)round, &destroyed),
                             OK);
            assert_int_equal(destroyed, holes);
            keyring_end(keyring, true);
        }
    }
    mem_free(used);
    mem_free(made);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct made made[10], *many = mem_alloc(40000, sizeof *many);
    uint64_t run = 0;
    struct rlimit before, tight = {2 << 20, 2 << 20};
    make(made, 10);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight.rlim_max = before.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    keyring_reserve(keyring, 40000, &run);
    for (size_t i = 0; i < 40000; i++) {
        keyring_make(keyring, run + i, &many[i].name, many[i].key);
    }
    assert_int_equal(keyring_flush(keyring), ERR_LIMIT);
    assert_non_null(strstr(err_text(), "the keyring's disk is full"));
    keyring_end(keyring, false);
    uint64_t destroyed = 0;
    struct key_name name = made[3].name; // Erasing takes no room.
    assert_int_equal(keyring_erase(keyring, &name, 1, 1, &destroyed), OK);
    keyring_end(keyring, true);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    is_there(&made[4]);
    make(many, 1000); // And it goes on.
    is_there(&many[999]);
    mem_free(many);
}

static void test_change_of_the_master_key(void **state)
{
    (void)state;
    struct made *made = mem_alloc(20000, sizeof *made);
    struct made later;
    uint64_t next = 0, zeroed = 0;
    bool done = false;
    make(made, 20000);
    assert_int_equal(master_add(master, 2), OK);
    assert_int_equal(keyring_turn(keyring, 2), OK);
    make(&later, 1); // New ones are under the new key; the old ones still open.
    is_there(&made[19999]);
    assert_int_equal(keyring_rewrap(keyring, 0, &next, &done), OK);
    assert_int_equal(next, KEYRING_BATCH);
    assert_false(done);
    is_there(&made[0]);
    is_there(&made[19999]);
    while (!done) {
        assert_int_equal(keyring_rewrap(keyring, next, &next, &done), OK);
    }
    assert_int_equal(master_destroy(master, 1), OK);
    assert_null(master_key(master, 1));
    for (size_t i = 0; i < 20000; i += 37) {
        is_there(&made[i]);
    }
    is_there(&later);
    made = mem_resize(made, 20001, sizeof *made);
    made[20000] = later;
    assert_int_equal(reopen(made, 20001, &zeroed), OK);
    assert_int_equal(zeroed, 0);
    is_there(&made[12345]);
    mem_free(made);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_keys_come_back),
        CASE(test_new_keys_before_the_flush),
        CASE(test_erased_keys_are_gone),
        CASE(test_slots_are_free_only_after_the_commit),
        CASE(test_lost_writes_are_noticed),
        CASE(test_flipped_and_swapped_slots),
        CASE(test_damaged_header),
        CASE(test_files_that_are_refused),
        CASE(test_another_master_key),
        CASE(test_start_finds_what_does_not_fit),
        CASE(test_many_keys),
        CASE(test_full_disk),
        CASE(test_change_of_the_master_key),
    };
#undef CASE
    return cmocka_run_group_tests_name("keyring", tests, NULL, NULL);
}
