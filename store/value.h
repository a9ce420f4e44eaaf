// store/value.h: the one way in and out for the values of the store: where they are sealed.
//
// Every row's value is written by value_put or value_put_under and read by value_get or value_of; LMDB
// never sees another byte of it. Three kinds (docs/format.md, "Sealed values"):
//
//   plain           the row that names the store's format, which must be read before any key
//   store key       rows that hold nothing of a record: catalogue, journal, index, receipt log
//   key of its own  records and holds (a key each), weights (a key an instance), datasets (a key each,
//                   for the placement key): the row names the slot of the keyring, and dies with it
//
// Bound to each value are its table and its LMDB key, and with a key of its own slot and generation: a
// value that was changed, or stands in another's place, is ERR_CORRUPT.
//
// A value read is borrowed until the transaction ends, or the next value_get or value_of of the same
// transaction: it lies in one buffer, which the end of the transaction wipes.
//
// Errors    As store.h says of everything that takes a transaction.
// Threads   The store thread.
#pragma once

#include "store/keyring.h"
#include "store/kv.h"
#include "store/store.h"

enum {
    VALUE_PLAIN = 1,
    VALUE_STORE_KEY = 2,
    VALUE_OWN_KEY = 3,
    // Format byte, slot and generation, nonce, tag.
    VALUE_OWN_BYTES = 1 + 16 + SEAL_NONCE_BYTES + SEAL_TAG_BYTES,
};

// A row of a dataset or a hold gets a key of its own with its first put, and keeps it. Not for records and weights.
MUST_USE enum err value_put(struct txn *txn, enum kv_table table, struct span key,
                            struct span value);
// Seals under a key of the keyring that the caller has made.
MUST_USE enum err value_put_under(struct txn *txn, enum kv_table table, struct span key,
                                  const struct key_name *name,
                                  const uint8_t seal_key[static SEAL_KEY_BYTES], struct span value);
// ERR_NOT_FOUND: no such row.
MUST_USE enum err value_get(struct txn *txn, enum kv_table table, struct span key,
                            struct span *value_out);
// The value of the row that a cursor stands on, from its stored bytes.
MUST_USE enum err value_of(struct txn *txn, enum kv_table table, struct span key,
                           struct span stored, struct span *value_out);
// True when the row is there; its value is not opened.
MUST_USE enum err value_exists(struct txn *txn, enum kv_table table, struct span key,
                               bool *exists_out);

// The key that a row is sealed under, from its stored bytes. ERR_CORRUPT: none of its own.
MUST_USE enum err value_name(enum kv_table table, struct span key, struct span stored,
                             struct key_name *name_out);
// Drops a row and dooms its key (doom.h). OK when it is gone.
MUST_USE enum err value_drop(struct txn *txn, enum kv_table table, struct span key);
