// store/store.h: the one LMDB environment, its transactions and counters.
//
// DIR/store holds the environment, DIR/lock is locked (flock) for the store's life: the coordinator
// is its only opener. kv.c is the only file that includes lmdb.h; value.c is the one place where
// values are written and read, which is where they will be sealed. Keys hold only integers
// (big-endian), rid and sid; ids and subjects stand only inside values.
//
// Errors of every function that takes a txn:
//   ERR_LIMIT    the map or the disk is full: end the transaction; nothing of it stands.
//   ERR_IO       LMDB refused otherwise. From txn_end of a write transaction: outcome unknown; stop
//                answering and exit, the next start reads what is true.
//   ERR_CORRUPT  a value does not have its shape; the message names table and entry number.
//
// Lifetime  store_open to store_close. One transaction at a time, be it for reading or for writing:
//           LMDB gives a thread no second one.
// Threads   One: the store thread. Never open the environment a second time in a process.
// Source    notes on LMDB's behaviour: docs/architecture.md, "Store".
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"

struct store;
struct txn;

// Makes a new empty store below `dir` (which exists). ERR_CONFLICT: there is one already.
MUST_USE enum err store_create(const char *dir);

// Opens the store of `dir`.
//   map_bytes     Greatest size of the environment.
//   ERR_NOT_FOUND     no store there: "run unlearnctl init".
//   ERR_CONFLICT      another process has it open.
//   ERR_INCOMPATIBLE  written in a newer or an older format: nothing was changed.
//   ERR_CORRUPT       the file is shorter than its last page, or is not ours.
// On OK the boot counter has been raised and committed, and dead readers were cleared.
MUST_USE enum err store_open(const char *dir, uint64_t map_bytes, struct store **store_out);
void store_close(struct store *store); // Accepts NULL. No transaction may be open.

// Number of this opening: strictly rises. Fencing numbers start from it.
uint64_t store_boot(const struct store *store);
// Bytes used and bytes of the map.
void store_usage(const struct store *store, uint64_t *used_out, uint64_t *map_out);
// True when less than the reserve kept for deletions is left: imports must be refused.
bool store_is_tight(const struct store *store);

MUST_USE enum err txn_begin(struct store *store, bool write, struct txn **txn_out);
// Ends it: commits a write transaction when `result` is OK, else rolls back. Returns `result` if
// that is not OK, else the commit's own result.
MUST_USE enum err txn_end(struct txn *txn, enum err result);
// Rows written and dropped so far: tells whether work that failed has left something behind.
uint64_t txn_writes(const struct txn *txn);

// Counters of the whole store. next: adds one and gives the new value (the first is 1).
enum counter {
    COUNTER_EPOCH,     // Rises with every change of any serving set.
    COUNTER_DATASET,   // Dataset numbers.
    COUNTER_MODEL,     // Model numbers.
    COUNTER_IMPORT,    // Import numbers.
    COUNTER_INSTANCE,  // Instances of components: one for each set of weights ever stored.
    COUNTER_REQUEST,   // Sequence numbers of journaled requests.
    COUNTER_BASE,      // Base numbers.
    COUNTER_PRINCIPAL, // Numbers of principals.
    COUNTER_COUNT_,
};
MUST_USE enum err counter_get(struct txn *txn, enum counter counter, uint64_t *value_out);
MUST_USE enum err counter_next(struct txn *txn, enum counter counter, uint64_t *value_out);

// The numeric profile that components are trained under. ERR_NOT_FOUND: none set yet.
MUST_USE enum err profile_get(struct txn *txn, struct digest *profile_out);
MUST_USE enum err profile_set(struct txn *txn, const struct digest *profile);

// The core type ("Haswell") of every profile that was ever set, so that a component of an older one
// can still say what it needs. Of more than PROFILE_NAMES the oldest are forgotten.
enum { PROFILE_NAMES = 64, PROFILE_CORE_BYTES = 32 };
struct profile_name {
    struct digest profile;
    char core[PROFILE_CORE_BYTES];
};
// Adds one at the end; the same profile moves there.
MUST_USE enum err profile_name_put(struct txn *txn, const struct profile_name *name);
MUST_USE enum err profile_names_get(struct txn *txn, struct profile_name names_out[PROFILE_NAMES],
                                    uint32_t *count_out);
