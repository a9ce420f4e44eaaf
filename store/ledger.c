// store/ledger.c: see ledger.h.
//
//   log_entry  key    index u64                  value  the entry
//   log_node   key    level u8 | index u64       value  hash [32] of a complete subtree; level 0: leaves
//   meta       key    5                          value  the signed head (base/head.h)
#include "store/ledger.h"

#include <string.h>

#include "base/check.h"
#include "store/private.h"

static struct kv_key entry_key(uint64_t index)
{
    struct kv_key key = {0};
    kv_key_u64(&key, index);
    return key;
}

static struct kv_key node_key(uint32_t level, uint64_t index)
{
    struct kv_key key = {0};
    kv_key_u8(&key, (uint8_t)level);
    kv_key_u64(&key, index);
    return key;
}

static enum err node_get(void *context, uint32_t level, uint64_t index, struct digest *hash_out)
{
    const struct kv_key key = node_key(level, index);
    struct span value;
    const enum err err = value_get(context, KV_LOG_NODE, kv_key_span(&key), &value);
    if (err == ERR_NOT_FOUND || (err == OK && value.bytes != DIGEST_BYTES)) {
        FAIL(ERR_CORRUPT, "table log_node: subtree %llu of level %u is missing or has no hash",
             (unsigned long long)index, level);
    }
    TRY(err);
    memcpy(hash_out->bytes, value.data, DIGEST_BYTES);
    return OK;
}

static enum err node_put(void *context, uint32_t level, uint64_t index, const struct digest *hash)
{
    const struct kv_key key = node_key(level, index);
    return value_put(context, KV_LOG_NODE, kv_key_span(&key), span_of(hash->bytes, DIGEST_BYTES));
}

static struct merkle tree_of(struct txn *txn)
{
    return (struct merkle){txn, node_get, node_put};
}

// --- Head ---

static enum err head_write(struct txn *txn, struct head *head, const struct signer *signer)
{
    static const uint8_t key = META_LOG_HEAD;
    uint8_t bytes[HEAD_BYTES];
    head_sign(head, HEAD_LOG, signer);
    head_put(head, bytes);
    txn->anchor.log_size = head->size;
    txn->anchor.log_root = head->root;
    txn->anchor_changed = true;
    return value_put(txn, KV_META, span_of(&key, 1), span_of(bytes, sizeof bytes));
}

enum err ledger_head(struct txn *txn, struct head *head_out)
{
    static const uint8_t key = META_LOG_HEAD;
    struct span value;
    const enum err err = value_get(txn, KV_META, span_of(&key, 1), &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "the receipt log has no head yet");
    }
    TRY(err);
    TRY_AS(head_of(value, head_out), "the receipt log");
    return OK;
}

static enum err check_root(struct txn *txn, const struct head *head)
{
    struct digest root;
    TRY_AS(ledger_root(txn, head->size, &root), "the receipt log");
    if (memcmp(root.bytes, head->root.bytes, DIGEST_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "the receipt log does not lead to its signed root");
    }
    return OK;
}

static enum err check(struct txn *txn, const struct head *head, const struct sign_public *key)
{
    const struct sign_id id = sign_id_of(key);
    if (memcmp(id.bytes, head->key.bytes, SIGN_ID_BYTES) != 0) {
        char log[SIGN_ID_HEX_BYTES], ours[SIGN_ID_HEX_BYTES];
        hex_put(log, head->key.bytes, SIGN_ID_BYTES);
        hex_put(ours, id.bytes, SIGN_ID_BYTES);
        FAIL(ERR_CONFLICT, "the receipt log is signed with the key %s, and the signing key is %s",
             log, ours);
    }
    TRY_AS(head_check(head, HEAD_LOG, key), "the receipt log");
    struct span entry;
    TRY(check_root(txn, head));
    if (head->size > 0 && ledger_entry(txn, head->size - 1, &entry) != OK) {
        FAIL(ERR_CORRUPT, "the receipt log's last entry, %llu, is missing",
             (unsigned long long)(head->size - 1));
    }
    if (ledger_entry(txn, head->size, &entry) != ERR_NOT_FOUND) {
        FAIL(ERR_CORRUPT, "the receipt log has an entry %llu beyond its signed head",
             (unsigned long long)head->size);
    }
    return OK;
}

enum err ledger_start(struct txn *txn, const struct signer *signer)
{
    struct head head;
    const enum err err = ledger_head(txn, &head);
    if (err == ERR_NOT_FOUND) {
        head = (struct head){0};
        TRY(ledger_root(txn, 0, &head.root));
        return head_write(txn, &head, signer);
    }
    TRY(err);
    return check(txn, &head, sign_public_of(signer));
}

enum err ledger_resign(struct txn *txn, const struct sign_public *old, const struct signer *signer)
{
    struct head head;
    const struct sign_id id = sign_id_of(sign_public_of(signer));
    const enum err err = ledger_head(txn, &head);
    if (err == ERR_NOT_FOUND) { // The coordinator has not run yet.
        return ledger_start(txn, signer);
    }
    TRY(err);
    if (memcmp(&id, &head.key, sizeof id) == 0) {
        return check(txn, &head, sign_public_of(signer));
    }
    TRY(check(txn, &head, old));
    return head_write(txn, &head, signer);
}

// --- Entries ---

enum err ledger_append(struct txn *txn, const struct signer *signer, struct span entry,
                       int64_t time_us)
{
    struct head head;
    const struct merkle tree = tree_of(txn);
    TRY(ledger_head(txn, &head));
    TRY(check_root(txn,
                   &head)); // It reads all that the append will read: no half of it is written.
    const struct kv_key key = entry_key(head.size);
    const struct digest leaf = merkle_leaf(entry);
    TRY(value_put(txn, KV_LOG_ENTRY, kv_key_span(&key), entry));
    TRY(merkle_append(&tree, head.size, &leaf));
    head.size++;
    head.time_us = time_us;
    TRY(merkle_root(&tree, head.size, &head.root));
    return head_write(txn, &head, signer);
}

enum err ledger_entry(struct txn *txn, uint64_t index, struct span *entry_out)
{
    const struct kv_key key = entry_key(index);
    const enum err err = value_get(txn, KV_LOG_ENTRY, kv_key_span(&key), entry_out);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_NOT_FOUND, "the receipt log has no entry %llu", (unsigned long long)index);
    }
    return err;
}

// --- Proofs ---

static enum err check_size(struct txn *txn, uint64_t size)
{
    struct head head;
    TRY(ledger_head(txn, &head));
    if (size > head.size) {
        FAIL(ERR_INVALID, "the receipt log has %llu entries, and a proof for %llu is asked for",
             (unsigned long long)head.size, (unsigned long long)size);
    }
    return OK;
}

enum err ledger_inclusion(struct txn *txn, uint64_t index, uint64_t size,
                          struct merkle_path *path_out)
{
    const struct merkle tree = tree_of(txn);
    TRY(check_size(txn, size));
    return merkle_inclusion(&tree, index, size, path_out);
}

enum err ledger_consistency(struct txn *txn, uint64_t from, uint64_t to,
                            struct merkle_path *path_out)
{
    const struct merkle tree = tree_of(txn);
    TRY(check_size(txn, to));
    return merkle_consistency(&tree, from, to, path_out);
}

enum err ledger_root(struct txn *txn, uint64_t size, struct digest *root_out)
{
    const struct merkle tree = tree_of(txn);
    return merkle_root(&tree, size, root_out);
}
