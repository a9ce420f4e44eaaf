// store/start.h: what a store checks about its keys before anybody may read it; for store.c alone.
//
// The keyring, the store and the anchor beside the master key each say how often keys were erased.
// Together they tell a crash from a copy that was put back:
//
//   keyring = store            fine
//   keyring = store + 1        a crash between the overwriting and its commit, if keys are doomed
//   else                       one of them was put back: refused
//   anchor ahead of the store  all of DIR was put back: refused. Behind: a crash, or fine
#pragma once

#include "store/private.h"

// Opens master key, keyring and the store's own key. Errors as those of their files; a missing keyring
// is ERR_CONFLICT.
MUST_USE enum err start_keys(struct store *store, const char *dir);

// Checks all of it in a read transaction; changes only slots of the keyring that nobody names.
// ERR_CONFLICT: something was put back from a copy. ERR_CORRUPT: names and slots do not fit.
MUST_USE enum err start_check(struct txn *txn);

// Makes keyring and store key of a new store, in the transaction that fills it.
MUST_USE enum err start_create(struct txn *txn);
