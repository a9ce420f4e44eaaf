// store/value.c: see value.h.
//
//   plain           1 | value
//   store key       2 | nonce [24] | sealed | tag [16]
//   key of its own  3 | slot u64 | generation u64 | nonce [24] | sealed | tag [16]
//
//   bound           name of the table, a zero byte, u16 bytes of the key, key, what stands before the nonce
//
// Nonces are drawn: 192 bits do not repeat.
#include "store/value.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/doom.h"
#include "store/private.h"

enum {
    NAME_BYTES = 1 + 16, // Format byte, slot, generation.
    BOUND_BYTES = 32 + 2 + KV_KEY_BYTES + NAME_BYTES,
    STORE_KEY_BYTES = 1 + SEAL_NONCE_BYTES + SEAL_TAG_BYTES,
};

struct bound {
    uint8_t at[BOUND_BYTES];
    size_t bytes;
};

static void bound_put(struct bound *bound, const void *data, size_t bytes)
{
    CHECK(bytes <= sizeof bound->at - bound->bytes);
    memcpy(bound->at + bound->bytes, data, bytes);
    bound->bytes += bytes;
}

static struct bound bound_of(enum kv_table table, struct span key, const uint8_t *head,
                             size_t head_bytes)
{
    struct bound bound = {.bytes = 0};
    const char *const name = kv_table_name(table);
    const uint8_t length[2] = {(uint8_t)key.bytes, (uint8_t)(key.bytes >> 8)};
    bound_put(&bound, name, strlen(name) + 1);
    bound_put(&bound, length, sizeof length);
    bound_put(&bound, key.data, key.bytes);
    bound_put(&bound, head, head_bytes);
    return bound;
}

static bool is_plain(enum kv_table table, struct span key)
{
    return table == KV_META && key.bytes == 1 && *(const uint8_t *)key.data == META_FORMAT;
}

// Rows that every request reads again (opened.h). Not those of records, holds and weights, which must be in
// memory no longer than somebody needs them; nor the secrets of the table meta.
static bool is_kept(enum kv_table table, struct span key)
{
    return table == KV_DATASET || table == KV_MODEL || table == KV_COMPONENT || table == KV_CELL ||
           (table == KV_META && key.bytes == 1 && *(const uint8_t *)key.data >= META_COUNTER);
}

// --- Writing ---

// Drawing costs a system call, which for a row of a few bytes is more than sealing it.
static void nonce_draw(struct store *store, uint8_t nonce_out[static SEAL_NONCE_BYTES])
{
    if (store->nonces_left < SEAL_NONCE_BYTES) {
        digest_random(store->nonces, sizeof store->nonces);
        store->nonces_left = sizeof store->nonces;
    }
    memcpy(nonce_out, store->nonces + sizeof store->nonces - store->nonces_left, SEAL_NONCE_BYTES);
    store->nonces_left -= SEAL_NONCE_BYTES;
}

// Writes head, nonce and sealed value.
static enum err seal_row(struct txn *txn, enum kv_table table, struct span key, const uint8_t *head,
                         size_t head_bytes, const uint8_t seal_key[static SEAL_KEY_BYTES],
                         struct span value)
{
    uint8_t *room = NULL;
    TRY(kv_put_room(&txn->kv, table, key,
                    head_bytes + SEAL_NONCE_BYTES + value.bytes + SEAL_TAG_BYTES, &room));
    const struct bound bound = bound_of(table, key, head, head_bytes);
    memcpy(room, head, head_bytes);
    nonce_draw(txn->store, room + head_bytes);
    seal_put(seal_key, room + head_bytes, span_of(bound.at, bound.bytes), value,
             room + head_bytes + SEAL_NONCE_BYTES);
    if (is_kept(table, key)) {
        opened_put(txn->store->opened, table, key,
                   span_of(room, head_bytes + SEAL_NONCE_BYTES + value.bytes + SEAL_TAG_BYTES),
                   value);
    }
    return OK;
}

enum err value_put_under(struct txn *txn, enum kv_table table, struct span key,
                         const struct key_name *name, const uint8_t seal_key[static SEAL_KEY_BYTES],
                         struct span value)
{
    uint8_t head[NAME_BYTES] = {VALUE_OWN_KEY};
    memcpy(head + 1, &name->slot, 8);
    memcpy(head + 9, &name->generation, 8);
    return seal_row(txn, table, key, head, sizeof head, seal_key, value);
}

// Under the key that the row has, or a new one.
static enum err put_own(struct txn *txn, enum kv_table table, struct span key, struct span value)
{
    struct span stored;
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    enum err err = kv_get(&txn->kv, table, key, &stored);
    if (err == OK) {
        TRY(value_name(table, key, stored, &name));
        err = keyring_key(txn->store->keyring, &name, seal_key);
    } else if (err == ERR_NOT_FOUND) {
        uint64_t run = 0;
        keyring_reserve(txn->store->keyring, 1, &run);
        keyring_make(txn->store->keyring, run, &name, seal_key);
        err = OK;
    }
    err = err == OK ? value_put_under(txn, table, key, &name, seal_key, value) : err;
    mem_wipe(seal_key, sizeof seal_key);
    return err;
}

enum err value_put(struct txn *txn, enum kv_table table, struct span key, struct span value)
{
    static const uint8_t head = VALUE_STORE_KEY;
    CHECK(table != KV_RECORD && table != KV_WEIGHTS);
    if (is_plain(table, key)) {
        uint8_t *room = NULL;
        TRY(kv_put_room(&txn->kv, table, key, 1 + value.bytes, &room));
        room[0] = VALUE_PLAIN;
        memcpy(room + 1, value.data, value.bytes);
        return OK;
    }
    return table == KV_DATASET || table == KV_HOLD
               ? put_own(txn, table, key, value)
               : seal_row(txn, table, key, &head, 1, txn->store->secrets->store_key, value);
}

// --- Reading ---

static enum err damaged(enum kv_table table, struct span key)
{
    FAIL(ERR_CORRUPT, "%s: the value is damaged, or another's: it does not open with its key",
         kv_label_of(table, key).text);
}

enum err value_name(enum kv_table table, struct span key, struct span stored,
                    struct key_name *name_out)
{
    const uint8_t *const bytes = stored.data;
    if (stored.bytes < VALUE_OWN_BYTES || bytes[0] != VALUE_OWN_KEY) {
        FAIL(ERR_CORRUPT, "%s: %zu bytes of kind %d, expected a value with a key of its own",
             kv_label_of(table, key).text, stored.bytes, stored.bytes == 0 ? 0 : bytes[0]);
    }
    memcpy(&name_out->slot, bytes + 1, 8);
    memcpy(&name_out->generation, bytes + 9, 8);
    return OK;
}

// Opens what follows `head_bytes` into the buffer of the store.
static enum err open_row(struct txn *txn, enum kv_table table, struct span key, struct span stored,
                         size_t head_bytes, const uint8_t seal_key[static SEAL_KEY_BYTES],
                         struct span *value_out)
{
    struct buf *const plain = &txn->store->plain;
    const uint8_t *const bytes = stored.data;
    const struct span sealed = span_of(bytes + head_bytes + SEAL_NONCE_BYTES,
                                       stored.bytes - head_bytes - SEAL_NONCE_BYTES);
    const struct bound bound = bound_of(table, key, bytes, head_bytes);
#ifdef __SANITIZE_ADDRESS__
    buf_deinit(plain); // So that a value which is held too long is found.
#endif
    buf_clear(plain);
    uint8_t *const out = buf_room(plain, sealed.bytes - SEAL_TAG_BYTES);
    if (!seal_get(seal_key, bytes + head_bytes, span_of(bound.at, bound.bytes), sealed, out)) {
        return damaged(table, key);
    }
    *value_out = buf_span(plain);
    if (is_kept(table, key)) {
        opened_put(txn->store->opened, table, key, stored, *value_out);
    }
    return OK;
}

// False: it has to be opened. Else the value is in the buffer of the store, as if it had been.
static bool opened_before(struct txn *txn, enum kv_table table, struct span key, struct span stored,
                          struct span *value_out)
{
    struct buf *const plain = &txn->store->plain;
    struct span value;
    if (!is_kept(table, key) || !opened_get(txn->store->opened, table, key, stored, &value)) {
        return false;
    }
#ifdef __SANITIZE_ADDRESS__
    buf_deinit(plain); // As in open_row.
#endif
    buf_clear(plain);
    buf_put(plain, value);
    *value_out = buf_span(plain);
    return true;
}

static enum err open_own(struct txn *txn, enum kv_table table, struct span key, struct span stored,
                         struct span *value_out)
{
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    TRY(value_name(table, key, stored, &name));
    TRY_AS(keyring_key(txn->store->keyring, &name, seal_key), "%s", kv_label_of(table, key).text);
    const enum err err = open_row(txn, table, key, stored, NAME_BYTES, seal_key, value_out);
    mem_wipe(seal_key, sizeof seal_key);
    return err;
}

enum err value_of(struct txn *txn, enum kv_table table, struct span key, struct span stored,
                  struct span *value_out)
{
    const uint8_t *const bytes = stored.data;
    const int kind = stored.bytes == 0 ? 0 : bytes[0];
    const int expected =
        is_plain(table, key) ? VALUE_PLAIN
        : table == KV_DATASET || table == KV_RECORD || table == KV_WEIGHTS || table == KV_HOLD
            ? VALUE_OWN_KEY
            : VALUE_STORE_KEY;
    if (kind != expected) {
        FAIL(ERR_CORRUPT, "%s: the value is of kind %d, expected %d", kv_label_of(table, key).text,
             kind, expected);
    }
    if (kind == VALUE_PLAIN) {
        *value_out = span_of(bytes + 1, stored.bytes - 1);
        return OK;
    }
    if (opened_before(txn, table, key, stored, value_out)) {
        return OK;
    }
    if (kind == VALUE_OWN_KEY) {
        return open_own(txn, table, key, stored, value_out);
    }
    if (stored.bytes < STORE_KEY_BYTES) {
        return damaged(table, key);
    }
    return open_row(txn, table, key, stored, 1, txn->store->secrets->store_key, value_out);
}

enum err value_get(struct txn *txn, enum kv_table table, struct span key, struct span *value_out)
{
    struct span stored;
    TRY(kv_get(&txn->kv, table, key, &stored));
    return value_of(txn, table, key, stored, value_out);
}

enum err value_exists(struct txn *txn, enum kv_table table, struct span key, bool *exists_out)
{
    struct span stored;
    const enum err err = kv_get(&txn->kv, table, key, &stored);
    *exists_out = err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}

// --- Dropping ---

enum err value_drop(struct txn *txn, enum kv_table table, struct span key)
{
    struct span stored;
    struct key_name name;
    const enum err err = kv_get(&txn->kv, table, key, &stored);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    TRY(value_name(table, key, stored, &name));
    TRY(kv_drop(&txn->kv, table, key));
    opened_forget(txn->store->opened, table, key);
    return doom_put(txn, &name);
}
