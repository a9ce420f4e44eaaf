// store/principal.h: who may ask: the public keys that were given out, each with its role and scope.
//
// A row stays when its key is revoked, so that neither its name nor its key ever stands for somebody
// else. A scope names datasets by number, so that a dataset which takes the name of a removed one is not
// inherited with it. One that is not there yet is promised by its name: the import that makes it binds the
// promise to its number, for ever (principal_bind).
//
// Lifetime  A principal_row owns its scope: principal_row_deinit.
// Errors    ERR_CORRUPT: a row without its shape. Else as store.h says.
// Threads   The store thread.
#pragma once

#include "base/limits.h"
#include "base/role.h"
#include "store/store.h"

enum { PRINCIPAL_KEY_BYTES = 32 }; // X25519

struct principal_scope {
    uint32_t dataset;                // 0: promised.
    char name[LIMIT_NAME_BYTES + 1]; // When it was granted.
};

struct principal_row {
    uint32_t number; // From 1 on, in order; never given twice.
    char name[LIMIT_NAME_BYTES + 1];
    uint8_t key[PRINCIPAL_KEY_BYTES];
    enum role role;
    struct principal_scope *scope; // [scope_count]; none: all datasets, later ones too.
    uint32_t scope_count;
    int64_t added_us, revoked_us; // revoked_us 0: it is not.
};

void principal_row_deinit(struct principal_row *row);

// Replaces one of the same number.
MUST_USE enum err principal_put(struct txn *txn, const struct principal_row *row);
// ERR_NOT_FOUND: no such number.
MUST_USE enum err principal_get(struct txn *txn, uint32_t number, struct principal_row *row_out);
// Calls `each` for every row in order of number; an error of `each` ends the walk.
MUST_USE enum err principal_each(struct txn *txn,
                                 enum err (*each)(void *context, const struct principal_row *row),
                                 void *context);
// The dataset of this name is there from now on: every promise of it means this number.
MUST_USE enum err principal_bind(struct txn *txn, const char *name, uint32_t dataset);
// The same in a row that was read: whether it changed.
bool principal_row_bind(struct principal_row *row, const char *name, uint32_t dataset);
