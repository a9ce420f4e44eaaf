// store/rotate.c: see rotate.h.
//
//   meta     key  9     value  from u8 | to u8 | next slot u64
#include "store/rotate.h"

#include "base/check.h"
#include "base/log.h"
#include "store/private.h"

struct rotation {
    uint8_t from, to; // Numbers of master keys; to 0: none is under way.
    uint64_t next;    // Slots before it are done.
};

static struct kv_key rotation_key(void)
{
    struct kv_key key = {0};
    kv_key_u8(&key, META_ROTATION);
    return key;
}

static enum err rotation_get(struct txn *txn, struct rotation *rotation_out)
{
    const struct kv_key key = rotation_key();
    struct span value;
    *rotation_out = (struct rotation){0};
    const enum err err = value_get(txn, KV_META, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    struct cursor cursor = cursor_of(value);
    rotation_out->from = cursor_u8(&cursor);
    rotation_out->to = cursor_u8(&cursor);
    rotation_out->next = cursor_u64(&cursor);
    TRY_AS(cursor_done(&cursor, "a change of the master key"), "table meta, entry %d",
           (int)META_ROTATION);
    return OK;
}

static enum err rotation_put(struct txn *txn, const struct rotation *rotation)
{
    const struct kv_key key = rotation_key();
    struct buf buf = {0};
    buf_u8(&buf, rotation->from);
    buf_u8(&buf, rotation->to);
    buf_u64(&buf, rotation->next);
    const enum err err = value_put(txn, KV_META, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err;
}

static enum err read_rotation(struct store *store, struct rotation *rotation_out)
{
    struct txn *txn;
    TRY(txn_begin(store, false, &txn));
    return txn_end(txn, rotation_get(txn, rotation_out));
}

static enum err save(struct store *store, const struct rotation *rotation)
{
    struct txn *txn;
    TRY(txn_begin(store, true, &txn));
    return txn_end(txn, rotation_put(txn, rotation));
}

static enum err clear(struct store *store)
{
    const struct kv_key key = rotation_key();
    struct txn *txn;
    TRY(txn_begin(store, true, &txn));
    return txn_end(txn, kv_drop(&txn->kv, KV_META, kv_key_span(&key)));
}

static enum err run(struct store *store, struct rotation *rotation)
{
    if (keyring_master_number(store->keyring) != rotation->to) {
        TRY(keyring_turn(store->keyring, rotation->to));
    }
    for (bool done = false; !done;) {
        TRY(keyring_rewrap(store->keyring, rotation->next, &rotation->next, &done));
        TRY(save(store, rotation));
    }
    TRY(anchor_put(store->master, rotation->to, &store->anchor));
    TRY(master_destroy(store->master, rotation->from));
    TRY(clear(store));
    log_info("master_key_changed", "from=%u to=%u", rotation->from, rotation->to);
    return OK;
}

enum err rotate_resume(struct store *store)
{
    struct rotation rotation;
    TRY(read_rotation(store, &rotation));
    return rotation.to == 0 ? OK : run(store, &rotation);
}

enum err rotate_master(struct store *store)
{
    struct rotation rotation;
    TRY(read_rotation(store, &rotation));
    if (rotation.to == 0) {
        rotation.from = keyring_master_number(store->keyring);
        rotation.to = rotation.from == UINT8_MAX ? 1 : (uint8_t)(rotation.from + 1);
        // One that is there was left by a change that died before it was on record.
        if (master_key(store->master, rotation.to) == NULL) {
            TRY(master_add(store->master, rotation.to));
        }
        TRY(save(store, &rotation));
    }
    return run(store, &rotation);
}
