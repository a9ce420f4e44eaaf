// store/private.h: what a store and its transaction are, for the files of store/ alone.
#pragma once

#include "store/deny.h"
#include "store/keyring.h"
#include "store/kv.h"
#include "store/opened.h"
#include "store/record.h"
#include "store/store.h"
#include "store/value.h"

// Rows of the table meta: one byte of key.
enum meta {
    META_FORMAT = 1,
    META_BOOT = 2,
    META_BODY_KEY = 3,
    META_PROFILE = 4,
    META_LOG_HEAD = 5,
    META_PROFILE_NAMES = 6,
    META_GENERATION = 7,    // Generations of keys below it may have been used.
    META_ERASE_COUNTER = 8, // As in the keyring's header.
    META_ROTATION = 9,      // The master key is being changed: how far.
    META_COUNTER = 16,      // + enum counter
};

enum import_state { IMPORT_OPEN = 1, IMPORT_ABORTED = 2, IMPORT_COMMITTED = 3 };

// An import whose traces are not yet tidied away. The rows of open and aborted ones are hidden.
struct import_entry {
    uint64_t number;
    uint32_t dataset;
    uint32_t generation;
    enum import_state state;
};
struct import_list {
    struct import_entry *at;
    size_t count;
};

struct txn {
    struct store *store;
    struct kv_txn kv;
    bool imports_changed;
    struct import_list imports_before; // As it was at the beginning, when imports_changed.
    struct deny undeny;                // Denials that end with the commit.
    uint64_t request;                  // That it dooms keys for; 0: none.
    bool doomed;                       // It has put names on the list of doom.h.
    struct anchor anchor;              // As it will be when the transaction stands, where
    bool anchor_changed;               // it changes it.
    uint64_t generations_first, generations_end; // Reserved by it; end 0: none.
};

struct secrets { // In locked memory.
    uint8_t store_key[SEAL_KEY_BYTES];
    uint8_t body_key[KEY_BYTES];
};

struct store {
    struct kv *kv;
    char *dir; // Owned.
    int lock_fd;
    uint64_t boot;
    struct master *master;
    struct keyring *keyring;
    struct secrets *secrets;
    struct buf plain;           // The value that was opened last.
    struct opened *opened;      // Those that are opened again and again. Owned.
    uint8_t nonces[4096];       // Drawn ahead, for value.c; no secrets.
    size_t nonces_left;         // Bytes at its end.
    struct anchor anchor;       // As of the last commit.
    struct deny deny;           // Records that no reader may see.
    struct import_list imports; // As the transaction that is open, or the last one, sees them.
    struct txn txn;             // There is never more than one.
    bool in_txn;
};

// store/store.c. How often keys were erased: as in the keyring, or one behind it after a crash.
MUST_USE enum err store_erase_counter(struct txn *txn, uint64_t *counter_out);
MUST_USE enum err store_erase_counter_set(struct txn *txn, uint64_t counter);

// Generations of keys below it may have been used.
MUST_USE enum err store_generations_reserved(struct txn *txn, uint64_t *end_out);

// store/import_list.c. NULL: no such import; none that is open.
struct import_entry *import_entry_of(const struct store *store, uint64_t import);
const struct import_entry *import_open_of(const struct store *store, uint32_t dataset);
// True when rows of `import` must not be seen.
bool import_is_hidden(const struct store *store, uint64_t import);
// True when any import hides rows in that generation.
bool import_hides_in(const struct store *store, uint32_t dataset, uint32_t generation);
void import_list_set(struct txn *txn, const struct import_entry *entry); // Adds or replaces.
void import_list_drop(struct txn *txn, size_t index);
// Takes back what the transaction did to the list.
void import_rollback(struct txn *txn);

// store/import.c: fills the list at start and gives up what an earlier process left open.
MUST_USE enum err import_load(struct txn *txn);
// Remembers that `id` was tombstoned while an import of its dataset is open.
MUST_USE enum err import_strike(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                                const struct id128 *id);

// store/base.c: gives up the bases that an earlier process left staged.
MUST_USE enum err base_load(struct txn *txn);

// store/record.c: the row as stored, and the place where the index says that a rid's row is.
struct record_value {
    uint64_t import;
    struct span id, subject, row;
};
MUST_USE enum err record_value_get(struct txn *txn, struct span key, struct span value,
                                   struct record_value *value_out);
// Makes the row, under the key of the reserved slot `run` (keyring.h), and its index entry.
MUST_USE enum err record_put(struct txn *txn, const struct record_key *key,
                             const struct record_value *value, uint64_t run);
// ERR_NOT_FOUND: the dataset has no row, visible or not, for the rid.
MUST_USE enum err record_locate(struct txn *txn, uint32_t dataset, const struct id128 *rid,
                                struct record_key *key_out);
// The risk class of a subject: that of its visible records, and of those that the open import `import`
// has staged, in generations up to generation_last; they all have the same. ERR_NOT_FOUND: it has none.
MUST_USE enum err record_class(struct txn *txn, uint32_t dataset, uint32_t generation_last,
                               const struct id128 *sid, uint64_t import, uint8_t *risk_out);
// Whether any row of these generations, visible or not, has another class than 0.
MUST_USE enum err record_has_classes(struct txn *txn, uint32_t dataset, uint32_t generation_last,
                                     bool *has_out);
MUST_USE enum err record_value_read(struct txn *txn, const struct record_key *key,
                                    struct record_value *value_out);
