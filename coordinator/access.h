// coordinator/access.h: who asks, and whether they may.
//
// The public key that a peer has proved to hold is looked up at each request, not once a connection: a
// peer whose key is revoked has lost its rights with the next thing that it asks for. What a role may do is
// rights.h; what lies outside one's datasets is not there (catalog_dataset, catalog_model, and whoever
// finds something by UUID or number asks access_sees). Whether a key was revoked before its request came
// to the disk, the store thread asks (storage.h).
//
// A peer without a key comes only over a link that asks for none (--insecure-loopback): it may do all.
//
// Threads   The main loop.
#pragma once

#include "coordinator/core.h"

// At start, after the store: reads the keys. Those in DIR/keys/admin.pub and DIR/keys/worker.key, unless they
// were given out before, become an admin's and a worker's: so the first ones do, and those that replace
// lost ones. Errors: the store's, and those of curvekey_read_public but ERR_NOT_FOUND.
MUST_USE enum err access_open(struct core *core);
void access_free(struct core *core);

// Fills caller->principal. key: [32], or NULL. ERR_DENIED: nobody's, or revoked, or a worker's.
MUST_USE enum err access_enter(struct core *core, const uint8_t *key, struct caller *caller);
// ERR_DENIED: the role lacks the verb, or it is about the whole cluster and the key is limited. Names both.
MUST_USE enum err access_check(struct core *core, const struct caller *caller, int verb);

// The same for the workers' socket: what comes there is a worker's, or is dropped. *principal_out NULL: keys
// are not asked for. ERR_DENIED: as above; or the key is a client's.
MUST_USE enum err access_enter_worker(struct core *core, const uint8_t *key,
                                      const struct principal_row **principal_out);
// Whether a worker of this key may still train, and be given the dataset's records. principal NULL: any.
bool access_may_train(const struct principal_row *principal, uint32_t dataset);

// Whether what belongs to the dataset is there for the caller. Number 0: what belongs to none, which is not
// there for a key that is limited. caller NULL: ourselves.
bool access_sees(const struct caller *caller, uint32_t dataset);
bool access_sees_all(const struct caller *caller); // Is not limited to datasets.
bool access_may_make(const struct caller *caller, const char *dataset); // A new one of this name.
bool access_is_admin(const struct caller *caller);
bool access_owns(const struct caller *caller); // Admin, or owner: of what it sees.

// What a caller sees, for a job to take along: the loop's memory is not the store thread's.
struct access_scope {
    bool all;
    uint32_t count;
    uint32_t datasets[LIMIT_SCOPE_DATASETS];
};
struct access_scope access_scope_of(const struct caller *caller);
bool access_scope_has(const struct access_scope *scope, uint32_t dataset); // As access_sees.
// In the store thread: a request that lies in the scope. ERR_NOT_FOUND: there is none of this UUID, or it
// does not, which is told in the same words.
MUST_USE enum err access_request(struct txn *txn, const struct access_scope *scope,
                                 const struct id128 *uuid, struct request_row *row_out);

// What the store has committed.
void access_put(struct core *core, struct principal_row *row); // Takes it over; a new one.
void access_revoked(struct core *core, uint32_t number, int64_t revoked_us);
void access_bound(struct core *core, const char *dataset, uint32_t number); // principal_bind

uint32_t access_count(const struct core *core);
const struct principal_row *access_at(const struct core *core, uint32_t index); // By number.
