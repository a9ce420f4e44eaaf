// store/kv.h: tables of byte strings in one LMDB environment; the only face of lmdb.h.
//
// Tables are LMDB's named databases. Keys are at most KV_KEY_BYTES and compare as bytes, so every
// integer in a key is big-endian. No WRITEMAP (a full disk would kill the process), no DUPSORT, no
// nested transactions; a commit is on disk when it returns.
//
// Errors of every function: ERR_LIMIT the map or the disk is full; ERR_IO LMDB refused otherwise.
//
// Lifetime  kv_open to kv_close. Spans handed out are LMDB's memory: until the transaction ends or
//           writes.
// Threads   One, with one transaction at a time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum kv_table { // docs/format.md, "Store", has the layout of each. Names are fixed by the format.
    KV_META,
    KV_DATASET,
    KV_MODEL,
    KV_COMPONENT,
    KV_CELL,
    KV_WEIGHTS,
    KV_RECORD,
    KV_INDEX,
    KV_TOMBSTONE,
    KV_IMPORT,
    KV_STAGED,
    KV_MARK,
    KV_REQUEST,
    KV_REQUEST_UUID,
    KV_REQUEST_OPEN,
    KV_PENDING,
    KV_AWAITED,
    KV_REQUEST_MODEL,
    KV_LOG_ENTRY,
    KV_LOG_NODE,
    KV_BASE,
    KV_DOOMED,
    KV_TALLY,
    KV_HOLD,
    KV_BULK,
    KV_ASKED,
    KV_ANSWER,
    KV_PRINCIPAL,
    KV_TABLE_COUNT_,
};
const char *kv_table_name(enum kv_table table);
// Names the row in an error: "table pending, entry 17". The entry is the number that its key begins
// with; keys that begin with a hash give the table alone.
struct kv_label {
    char text[64];
};
struct kv_label kv_label_of(enum kv_table table, struct span key);

// --- Keys ---

enum { KV_KEY_BYTES = 511 }; // LMDB's compiled-in bound.
struct kv_key {              // {0} is empty.
    size_t bytes;
    uint8_t at[KV_KEY_BYTES];
};
void kv_key_u8(struct kv_key *key, uint8_t value);
void kv_key_u16(struct kv_key *key, uint16_t value);
void kv_key_u32(struct kv_key *key, uint32_t value);
void kv_key_u64(struct kv_key *key, uint64_t value);
void kv_key_put(struct kv_key *key, const void *data, size_t bytes);
static inline struct span kv_key_span(const struct kv_key *key)
{
    return span_of(key->at, key->bytes);
}

// --- Environment ---

struct kv;

// Opens the environment in the directory `path`.
//   fresh             true: the directory is empty, make one. false: it must hold one of ours.
//   ERR_NOT_FOUND     there is none.
//   ERR_INCOMPATIBLE  of another version of LMDB.
//   ERR_CORRUPT       not LMDB's, without our tables, or shorter than its pages.
// On OK only KV_META may be read, until kv_open_tables.
MUST_USE enum err kv_open(const char *path, uint64_t map_bytes, bool fresh, struct kv **kv_out);
// Opens every table, making those that are missing.
MUST_USE enum err kv_open_tables(struct kv *kv);
void kv_close(struct kv *kv); // Accepts NULL.

// Bytes in use (file pages less free ones, as of the last commit), of the map, and free on the disk.
void kv_usage(struct kv *kv, uint64_t *used_out, uint64_t *map_out, uint64_t *disk_out);

// --- Transactions ---

struct kv_txn {
    struct kv *kv;
    struct MDB_txn *mdb;
    bool write;
    uint64_t writes; // Puts and deletions so far: tells cursors to find their place again.
};
MUST_USE enum err kv_begin(struct kv *kv, bool write, struct kv_txn *txn_out);
// ERR_LIMIT: nothing stands. ERR_IO: outcome unknown.
MUST_USE enum err kv_commit(struct kv_txn *txn);
void kv_abort(struct kv_txn *txn);

// ERR_NOT_FOUND: no such key.
MUST_USE enum err kv_get(struct kv_txn *txn, enum kv_table table, struct span key,
                         struct span *value_out);
// Makes or replaces the row and hands out its unset value to be filled before the next call.
MUST_USE enum err kv_put_room(struct kv_txn *txn, enum kv_table table, struct span key,
                              size_t bytes, uint8_t **room_out);
MUST_USE enum err kv_drop(struct kv_txn *txn, enum kv_table table,
                          struct span key); // OK when gone.
// Drops up to row_count_max rows whose keys begin with `prefix`.
MUST_USE enum err kv_drop_prefix(struct kv_txn *txn, enum kv_table table, struct span prefix,
                                 size_t row_count_max, size_t *dropped_out);

// --- Cursors ---
// Between two steps the transaction may write and drop, the current row too: a step then finds its
// place again by key.
struct kv_cursor {
    struct kv_txn *txn;
    struct MDB_cursor *mdb;
    enum kv_table table;
    uint64_t writes;
    bool at_end;       // No row: key and value are stale.
    struct kv_key key; // A copy: stays while the cursor stands there.
    struct span value; // As stored; borrowed until the transaction ends or writes.
};
MUST_USE enum err kv_cursor_open(struct kv_txn *txn, enum kv_table table,
                                 struct kv_cursor *cursor_out);
void kv_cursor_close(struct kv_cursor *cursor); // Before its transaction ends. Accepts {0}.
// To the first row whose key is >= `key`, which may point into the cursor's own.
MUST_USE enum err kv_cursor_seek(struct kv_cursor *cursor, struct span key);
MUST_USE enum err kv_cursor_next(struct kv_cursor *cursor);
// True at a row whose key begins with `prefix`.
bool kv_cursor_within(const struct kv_cursor *cursor, struct span prefix);
