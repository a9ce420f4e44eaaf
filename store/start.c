// store/start.c: see start.h.
#include "store/start.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/doom.h"
#include "store/ledger.h"

enum { PATH_BYTES = 4096 };

// The key of all rows that have none of their own: the first that was ever made.
static const struct key_name store_key_name = {.slot = 0, .generation = 1};

static enum err secrets_make(struct store *store)
{
    store->secrets = seal_room(sizeof *store->secrets);
    if (store->secrets == NULL) {
        FAIL(ERR_IO, "no memory for the store's keys: raise `ulimit -l`");
    }
    return OK;
}

enum err start_keys(struct store *store, const char *dir)
{
    char path[PATH_BYTES];
    if ((size_t)snprintf(path, sizeof path, "%s/keyring", dir) >= sizeof path) {
        FAIL(ERR_INVALID, "the path of the data directory is longer than %d bytes",
             (int)PATH_BYTES);
    }
    TRY(secrets_make(store));
    enum err err = master_open(dir, &store->master);
    err = err == OK ? keyring_open(path, store->master, &store->keyring) : err;
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_CONFLICT, "%.900s: nothing in the store can be read without it: put it back",
             err_text());
    }
    TRY(err);
    return keyring_key(store->keyring, &store_key_name, store->secrets->store_key);
}

enum err start_create(struct txn *txn)
{
    struct store *const store = txn->store;
    struct key_name name;
    uint64_t zeroed = 0, run = 0;
    TRY(secrets_make(store));
    TRY(keyring_settle(store->keyring, UINT64_MAX, &zeroed));
    keyring_generations(store->keyring, store_key_name.generation, store_key_name.generation + 1);
    keyring_reserve(store->keyring, 1, &run);
    keyring_make(store->keyring, run, &name, store->secrets->store_key);
    CHECK(name.slot == store_key_name.slot && name.generation == store_key_name.generation);
    return OK;
}

// --- Names and slots ---

static enum err expect_doomed(void *context, const struct key_name *name)
{
    struct txn *const txn = context;
    return keyring_expect(txn->store->keyring, name, true);
}

static enum err expect_rows(struct txn *txn, enum kv_table table, struct kv_cursor *cursor)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct key_name name;
        TRY(value_name(table, key, cursor->value, &name));
        TRY_AS(keyring_expect(txn->store->keyring, &name, false), "%s",
               kv_label_of(table, key).text);
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

static enum err expect_all(struct txn *txn)
{
    static const enum kv_table tables[] = {KV_DATASET, KV_RECORD, KV_WEIGHTS, KV_HOLD};
    TRY(keyring_expect(txn->store->keyring, &store_key_name, false));
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        struct kv_cursor cursor;
        TRY(kv_cursor_open(&txn->kv, tables[i], &cursor));
        const enum err err = expect_rows(txn, tables[i], &cursor);
        kv_cursor_close(&cursor);
        TRY(err);
    }
    TRY_AS(doom_each(txn, expect_doomed, txn), "table doomed");
    return OK;
}

// --- Rollback ---

static enum err check_counters(struct txn *txn, uint64_t *counter_out)
{
    const unsigned long long keyring = keyring_erase_counter(txn->store->keyring);
    bool doomed = false;
    TRY(store_erase_counter(txn, counter_out));
    TRY(doom_any(txn, &doomed));
    const unsigned long long store = *counter_out;
    if (keyring == store || (keyring == store + 1 && doomed)) {
        return OK;
    }
    if (keyring < store) {
        FAIL(ERR_CONFLICT,
             "the keyring was put back from a copy: it has erased keys %llu times, and the store "
             "knows of %llu: use the keyring that belongs to this store",
             keyring, store);
    }
    FAIL(ERR_CONFLICT,
         "the store was put back from a copy: it knows of %llu erasures of keys, and its keyring "
         "of %llu: use the store that belongs to this keyring",
         store, keyring);
}

static enum err check_anchor(struct txn *txn, uint64_t counter)
{
    struct anchor anchor;
    struct head head = {0};
    struct digest root;
    TRY_AS(anchor_get(txn->store->master, &anchor), "how far the store had come is not known");
    const enum err err = ledger_head(txn, &head);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (counter < anchor.erase_counter || head.size < anchor.log_size) {
        FAIL(ERR_CONFLICT,
             "the data directory was put back from a copy: it has %llu erasures of keys and %llu "
             "log entries, and the anchor beside the master key says that it had %llu and %llu",
             (unsigned long long)counter, (unsigned long long)head.size,
             (unsigned long long)anchor.erase_counter, (unsigned long long)anchor.log_size);
    }
    TRY(ledger_root(txn, anchor.log_size, &root));
    if (anchor.log_size > 0 && memcmp(root.bytes, anchor.log_root.bytes, DIGEST_BYTES) != 0) {
        FAIL(ERR_CONFLICT,
             "the receipt log is another one than the anchor beside the master key knows: its "
             "first %llu entries differ",
             (unsigned long long)anchor.log_size);
    }
    txn->store->anchor =
        (struct anchor){.erase_counter = counter, .log_size = head.size, .log_root = head.root};
    return OK;
}

enum err start_check(struct txn *txn)
{
    struct keyring *const keyring = txn->store->keyring;
    uint64_t counter = 0, zeroed = 0, reserved = 0;
    TRY(store_generations_reserved(txn, &reserved));
    TRY(check_counters(txn, &counter));
    TRY(check_anchor(txn, counter));
    TRY(expect_all(txn));
    TRY(keyring_settle(keyring, reserved, &zeroed));
    if (zeroed > 0) {
        log_info("keys_zeroed", "count=%llu reason=\"no row names them\"",
                 (unsigned long long)zeroed);
    }
    return OK;
}
