// tests/unit/test_rollback.c: a store, a keyring or both that were put back from a copy are refused,
// and so is damage: nothing wrong is ever read, nothing kills the reader.
//
// Method: copies of the closed files are put back in every combination. Then files with random bits
// flipped are opened and read whole in a child, and what it read is compared.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "store/component.h"
#include "store/doom.h"
#include "store/ledger.h"
#include "tests/unit/people.h"
#include "tests/unit/signers.h"

enum { RECORDS = 60, PARAMS = 700000 }; // Three chunks of weights.

static struct people people;
static struct signer *signer;

static void import_some(uint32_t first, uint32_t count)
{
    struct import_counts counts;
    uint64_t import = 0;
    people_begin(&people);
    MUST(import_begin(people.txn, PEOPLE_DATASET, 1, false, &import));
    for (uint32_t i = first; i < first + count; i++) {
        char text[24];
        snprintf(text, sizeof text, "value %u", i);
        MUST(people_stage(&people, import, i, 1000 + i, (uint8_t)i, 0, text));
    }
    MUST(import_commit(people.txn, import, &counts));
    people_commit(&people);
}

static void erase(uint32_t number)
{
    bool more = true;
    const struct record_key key = people_key(number, 1, 1000 + number, (uint8_t)number, 0);
    people_begin(&people);
    MUST(record_remove(people.txn, &key));
    people_commit(&people);
    while (more) {
        people_begin(&people);
        MUST(doom_erase(people.txn, KEYRING_BATCH, &more));
        people_commit(&people);
    }
}

static void append(const char *entry)
{
    people_begin(&people);
    MUST(ledger_append(people.txn, signer, span_text(entry), 1));
    people_commit(&people);
}

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    signer = signers_open(people.dir, "one");
    people_begin(&people);
    MUST(ledger_start(people.txn, signer));
    people_commit(&people);
    import_some(0, RECORDS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sign_close(signer);
    people_close(&people);
    return 0;
}

static const char *path_in(const char *name)
{
    static char paths[2][SCRATCH_BYTES + 64];
    static int which;
    which = 1 - which;
    snprintf(paths[which], sizeof paths[which], "%s%s", people.dir, name);
    return paths[which];
}

static void copy(const char *from, const char *to)
{
    static uint8_t bytes[1 << 16];
    const int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t got;
    assert_true(in >= 0 && out >= 0);
    while ((got = read(in, bytes, sizeof bytes)) > 0) {
        assert_int_equal(write(out, bytes, (size_t)got), got);
    }
    close(in);
    close(out);
}

// Copies of what there is now, and putting them back. The store is closed.
static void save(void)
{
    store_close(people.store);
    people.store = NULL;
    copy(path_in("/store/data.mdb"), path_in("/store.copy"));
    copy(path_in("/keyring"), path_in("/keyring.copy"));
    copy(path_in(".master/anchor"), path_in("/anchor.copy"));
    MUST(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store));
}
static void put_back(bool store, bool keyring, bool anchor)
{
    store_close(people.store);
    people.store = NULL;
    if (store) {
        copy(path_in("/store.copy"), path_in("/store/data.mdb"));
    }
    if (keyring) {
        copy(path_in("/keyring.copy"), path_in("/keyring"));
    }
    if (anchor) {
        copy(path_in("/anchor.copy"), path_in(".master/anchor"));
    }
}
static void is_refused(const char *text)
{
    for (int i = 0; i < 2; i++) { // A refusal changes nothing: the second try says the same.
        assert_int_equal(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store), ERR_CONFLICT);
        assert_null(people.store);
        if (strstr(err_text(), text) == NULL) {
            fail_msg("found: %s", err_text());
        }
    }
}

static void test_keyring_put_back(void **state)
{
    (void)state;
    save();
    erase(5);
    put_back(false, true, false);
    is_refused("the keyring was put back from a copy: it has erased keys 0 times, and the store "
               "knows of 1");
}

static void test_store_put_back(void **state)
{
    (void)state;
    save();
    erase(5);
    put_back(true, false, false);
    is_refused(
        "the store was put back from a copy: it knows of 0 erasures of keys, and its keyring "
        "of 1");
}

// A copy made between the dooming and the erasing has a list that is pending. It fits the keyring for
// one step and no more; the anchor knows better even then.
static void test_store_with_a_pending_list_put_back(void **state)
{
    (void)state;
    bool more = true;
    const struct record_key key = people_key(5, 1, 1005, 5, 0);
    people_begin(&people);
    MUST(record_remove(people.txn, &key));
    people_commit(&people);
    copy(path_in("/store/data.mdb"), path_in("/store.copy"));
    people_begin(&people);
    MUST(doom_erase(people.txn, KEYRING_BATCH, &more));
    people_commit(&people);
    put_back(true, false, false);
    is_refused("the data directory was put back from a copy");
    copy(path_in(".master/anchor"), path_in("/anchor.now"));
}

static void test_both_put_back(void **state)
{
    (void)state;
    save();
    erase(5);
    put_back(true, true, false);
    is_refused("the data directory was put back from a copy: it has 0 erasures of keys and 0 log "
               "entries, and the anchor beside the master key says that it had 1 and 0");
    put_back(false, false, true); // Control: with the anchor nothing is left to notice it.
    MUST(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store));
}

static void test_log_put_back(void **state)
{
    (void)state;
    append("one");
    save();
    append("two");
    put_back(true, false, false);
    is_refused("it has 0 erasures of keys and 1 log entries, and the anchor beside the master key "
               "says that it had 0 and 2");
}

static void test_another_log_of_the_same_size(void **state)
{
    (void)state;
    append("one");
    save();
    append("two");
    copy(path_in(".master/anchor"), path_in("/anchor.two"));
    put_back(true, false, true);
    MUST(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store));
    append("another");
    append("and one more");
    store_close(people.store);
    people.store = NULL;
    copy(path_in("/anchor.two"), path_in(".master/anchor"));
    is_refused("the receipt log is another one than the anchor beside the master key knows: its "
               "first 2 entries differ");
}

// Without any erasure the counters are equal; the generations of the keys tell.
static void test_older_store_with_newer_keys(void **state)
{
    (void)state;
    save();
    people_reopen(&people); // Another run of the process.
    import_some(100, 5);
    put_back(true, false, false);
    is_refused("the store was put back from a copy: slot");
}

static void test_files_that_are_missing_or_open_to_others(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        enum err err;
    } files[] = {{"/keyring", "nothing in the store can be read without it", ERR_CONFLICT},
                 {".master/1.key", "nothing in the store can be read without it", ERR_CONFLICT},
                 {".master/anchor", "how far the store had come is not known", ERR_NOT_FOUND}};
    store_close(people.store);
    people.store = NULL;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *const path = path_in(files[i].name);
        char aside[SCRATCH_BYTES + 64];
        snprintf(aside, sizeof aside, "%s.aside", people.dir);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store), files[i].err);
        assert_non_null(strstr(err_text(), files[i].text));
        assert_int_equal(symlink(aside, path), 0);
        assert_int_equal(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store), ERR_DENIED);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rename(aside, path), 0);
        assert_int_equal(chmod(path, 0604), 0);
        assert_int_equal(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store), ERR_DENIED);
        assert_non_null(strstr(err_text(), "0604"));
        assert_int_equal(chmod(path, 0600), 0);
        if (geteuid() == 0) {
            assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
            assert_int_equal(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store), ERR_DENIED);
            assert_int_equal(chown(path, 0, (gid_t)-1), 0);
        }
    }
    MUST(store_open(people.dir, PEOPLE_MAP_BYTES, &people.store)); // Control.
}

// ---------------------------------------------------------------- damage

static uint64_t random_state = 1;
static uint32_t draw(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static void flip(const char *path, int count)
{
    const int fd = open(path, O_RDWR);
    struct stat found;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &found), 0);
    // Of the keyring, where the keys lie: the rest of its file is zeros, which nobody looks at.
    const off_t bytes = strstr(path, "keyring") != NULL ? 4096 + 64 * (RECORDS + 4) : found.st_size;
    for (int i = 0; i < count; i++) {
        uint8_t byte;
        const off_t at = (off_t)(draw(1 << 30) % (uint64_t)bytes);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= (uint8_t)(1 << draw(8));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

enum outcome { ALL_RIGHT, REFUSED, WRONG, OTHER };

static bool count_records(void *context, const struct record *record)
{
    struct {
        uint32_t count;
        bool wrong;
    } *const seen = context;
    const uint32_t number = be_get32(record->key.rid.bytes + 4);
    char text[24];
    snprintf(text, sizeof text, "value %u", number);
    seen->count++;
    seen->wrong = seen->wrong || !span_equal(record->row, span_text(text));
    return true;
}

// Reads all that there is and compares it.
static enum outcome read_whole(void)
{
    struct store *store = NULL;
    struct txn *txn = NULL;
    struct {
        uint32_t count;
        bool wrong;
    } seen = {0};
    if (store_open(people.dir, PEOPLE_MAP_BYTES, &store) != OK) {
        return REFUSED;
    }
    if (txn_begin(store, false, &txn) != OK) {
        return REFUSED;
    }
    enum err err =
        record_walk(txn, PEOPLE_DATASET, &(struct record_range){1, 0, UINT8_MAX, 0, UINT64_MAX},
                    NULL, false, count_records, &seen);
    float *const params = mem_alloc(PARAMS, sizeof *params);
    if (err == OK) {
        err = weights_get(txn, 1, params, PARAMS);
    }
    for (uint32_t i = 0; i < PARAMS && err == OK; i++) {
        seen.wrong = seen.wrong || params[i] != (float)i;
    }
    struct dataset_row row;
    if (err == OK) {
        err = dataset_get(txn, PEOPLE_DATASET, &row);
    }
    return seen.wrong                                                    ? WRONG
           : err == OK && seen.count == RECORDS                          ? ALL_RIGHT
           : err == OK                                                   ? WRONG
           : err == ERR_CORRUPT || err == ERR_NOT_FOUND || err == ERR_IO ? REFUSED
                                                                         : OTHER;
}

static enum outcome outcome_in_child(void)
{
    const pid_t child = fork();
    if (child == 0) {
        _exit((int)read_whole());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) {
        fail_msg("the reader died of signal %d", WTERMSIG(status));
    }
    return (enum outcome)WEXITSTATUS(status);
}

static void test_random_damage(void **state)
{
    (void)state;
    enum { TRIALS = 200 };
    float *const params = mem_alloc(PARAMS, sizeof *params);
    for (uint32_t i = 0; i < PARAMS; i++) {
        params[i] = (float)i;
    }
    people_begin(&people);
    MUST(weights_put(people.txn, 1, params, PARAMS));
    people_commit(&people);
    save();
    copy(path_in(".master/1.key"), path_in("/master.copy"));
    store_close(people.store);
    people.store = NULL;
    assert_int_equal(outcome_in_child(), ALL_RIGHT); // Control.
    int counts[4] = {0};
    for (int i = 0; i < TRIALS; i++) {
        put_back(true, true, true);
        copy(path_in("/master.copy"), path_in(".master/1.key"));
        static const char *const names[] = {"/store/data.mdb", "/keyring", "/store/data.mdb",
                                            ".master/1.key"};
        flip(path_in(names[i % 4]), 1 + i % 7);
        const enum outcome outcome = outcome_in_child();
        counts[outcome]++;
        if (outcome == WRONG || outcome == OTHER) {
            fail_msg("trial %d, %s: outcome %d", i, names[i % 4], outcome);
        }
    }
    // Control: most flips hit something.
    print_message("%d of %d damaged stores refused, %d read right\n", counts[REFUSED], TRIALS,
                  counts[ALL_RIGHT]);
    assert_true(counts[REFUSED] > TRIALS / 4);
    mem_free(params);
    put_back(true, true, true);
    copy(path_in("/master.copy"), path_in(".master/1.key"));
}

// A component's chunks that were copied aside cannot be opened with anything that is left.
static void test_chunks_copied_aside(void **state)
{
    (void)state;
    static uint8_t aside[4096];
    float params[100];
    for (int i = 0; i < 100; i++) {
        params[i] = (float)i;
    }
    people_begin(&people);
    MUST(weights_put(people.txn, 1, params, 100));
    people_commit(&people);
    struct kv_key key = {0};
    struct span stored, value;
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    kv_key_u64(&key, 1);
    kv_key_u32(&key, 0);
    people_begin(&people);
    MUST(kv_get(&people.txn->kv, KV_WEIGHTS, kv_key_span(&key), &stored));
    const size_t bytes = stored.bytes;
    memcpy(aside, stored.data, bytes);
    MUST(value_name(KV_WEIGHTS, kv_key_span(&key), stored, &name));
    MUST(value_of(people.txn, KV_WEIGHTS, kv_key_span(&key), span_of(aside, bytes), &value));
    assert_memory_equal(value.data, params, sizeof params); // Control: it opens now.
    MUST(weights_drop(people.txn, 1));
    people_commit(&people);
    bool more = true;
    people_begin(&people);
    MUST(doom_erase(people.txn, KEYRING_BATCH, &more));
    people_commit(&people);
    people_begin(&people);
    assert_int_equal(
        value_of(people.txn, KV_WEIGHTS, kv_key_span(&key), span_of(aside, bytes), &value),
        ERR_CORRUPT);
    // With every other key of the keyring, too.
    for (uint64_t slot = 0; slot < RECORDS + 10; slot++) {
        for (uint64_t generation = 1; generation < RECORDS + 10; generation++) {
            const struct key_name other = {slot, generation};
            uint8_t plain[sizeof params];
            if (keyring_key(people.store->keyring, &other, seal_key) == OK) {
                struct buf bound = {0};
                buf_put(&bound, span_of("weights\0\14\0", 10));
                buf_put(&bound, kv_key_span(&key));
                buf_put(&bound, span_of(aside, 17));
                assert_false(seal_get(seal_key, aside + 17, buf_span(&bound),
                                      span_of(aside + 41, bytes - 41), plain));
                buf_deinit(&bound);
            }
        }
    }
    people_commit(&people);
    assert_true(name.slot > 0);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_keyring_put_back),
        CASE(test_store_put_back),
        CASE(test_store_with_a_pending_list_put_back),
        CASE(test_both_put_back),
        CASE(test_log_put_back),
        CASE(test_another_log_of_the_same_size),
        CASE(test_older_store_with_newer_keys),
        CASE(test_files_that_are_missing_or_open_to_others),
        CASE(test_random_damage),
        CASE(test_chunks_copied_aside),
    };
#undef CASE
    return cmocka_run_group_tests_name("rollback", tests, NULL, NULL);
}
