// store/value.h: the one way in and out for the values of the store.
//
// Every row's value is written by value_put and read by value_get or value_of, and nothing else
// looks at the bytes between: this is where values get sealed (AEAD, with table and key as
// authenticated data). A stored value is one format byte, then the value.
//
// A value read is borrowed until the transaction ends or writes, or the next value_get or value_of
// of the same transaction: once values are sealed it lies in one buffer that the transaction owns.
//
// Errors    As store.h says of everything that takes a transaction.
// Threads   The store thread.
#pragma once

#include "store/kv.h"
#include "store/store.h"

enum { VALUE_FORMAT_PLAIN = 1, VALUE_HEAD_BYTES = 1 };

MUST_USE enum err value_put(struct txn *txn, enum kv_table table, struct span key,
                            struct span value);
// ERR_NOT_FOUND: no such row.
MUST_USE enum err value_get(struct txn *txn, enum kv_table table, struct span key,
                            struct span *value_out);
// The value of the row that a cursor stands on, from its stored bytes.
MUST_USE enum err value_of(struct txn *txn, enum kv_table table, struct span key,
                           struct span stored, struct span *value_out);
// True when the row is there; its value is not opened.
MUST_USE enum err value_exists(struct txn *txn, enum kv_table table, struct span key,
                               bool *exists_out);
