// coordinator/access.c: see access.h.
#include "coordinator/access.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/gate.h"
#include "coordinator/rights.h"

enum {
    LINES_A_SECOND = 10, // Of the log, that denials may fill.
};

struct access {
    struct principal_row **all;    // In order of number. Owned, and what they point to.
    struct principal_row **by_key; // The same, sorted by key. Owned.
    uint32_t count;
    int64_t second; // In which
    uint32_t lines; // so many denials were logged, and
    uint64_t more;  // so many were not.
};

// ---------------------------------------------------------------- in memory

// Where the key is, or would be.
static uint32_t place_of(const struct access *access, const uint8_t key[static PRINCIPAL_KEY_BYTES])
{
    uint32_t low = 0, high = access->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (memcmp(access->by_key[middle]->key, key, PRINCIPAL_KEY_BYTES) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct principal_row *find(const struct access *access,
                                        const uint8_t key[static PRINCIPAL_KEY_BYTES])
{
    const uint32_t at = place_of(access, key);
    return at < access->count && memcmp(access->by_key[at]->key, key, PRINCIPAL_KEY_BYTES) == 0
               ? access->by_key[at]
               : NULL;
}

void access_put(struct core *core, struct principal_row *row)
{
    struct access *const access = core->access;
    struct principal_row *const kept = mem_alloc(1, sizeof *kept);
    CHECK(row->number == access->count + 1);
    *kept = *row;
    *row = (struct principal_row){0};
    const uint32_t at = place_of(access, kept->key);
    access->all = mem_resize(access->all, access->count + 1, sizeof(struct principal_row *));
    access->by_key = mem_resize(access->by_key, access->count + 1, sizeof(struct principal_row *));
    memmove(&access->by_key[at + 1], &access->by_key[at],
            (access->count - at) * sizeof access->by_key[0]);
    access->by_key[at] = access->all[access->count++] = kept;
    gate_allow(core);
}

void access_revoked(struct core *core, uint32_t number, int64_t revoked_us)
{
    CHECK(number > 0 && number <= core->access->count);
    core->access->all[number - 1]->revoked_us = revoked_us;
    gate_allow(core);
}

void access_bound(struct core *core, const char *dataset, uint32_t number)
{
    for (uint32_t i = 0; i < core->access->count; i++) {
        (void)principal_row_bind(core->access->all[i], dataset, number);
    }
}

uint32_t access_count(const struct core *core)
{
    return core->access->count;
}

const struct principal_row *access_at(const struct core *core, uint32_t index)
{
    CHECK(index < core->access->count);
    return core->access->all[index];
}

// ---------------------------------------------------------------- start

// Keys that lie beside the store: whoever may put files there is trusted with everything anyway. One that
// was never given out is given out at the start: at the first, and when they were made anew.
struct kept_key {
    enum role role;
    bool there;
    uint8_t key[CURVEKEY_BYTES];
};
enum { KEPT_KEYS = 2 };

struct load_job {
    struct job job;
    struct core *core;
    struct kept_key kept[KEPT_KEYS];
};

static enum err load_row(void *context, const struct principal_row *row)
{
    struct core *const core = context;
    struct principal_row copy = *row; // The walk owns row->scope: copy it.
    if (row->number != core->access->count + 1) {
        FAIL(ERR_CORRUPT, "table principal has the row %u, expected %u", row->number,
             core->access->count + 1);
    }
    copy.scope = mem_alloc(row->scope_count, sizeof *copy.scope);
    memcpy(copy.scope, row->scope, row->scope_count * sizeof *copy.scope);
    access_put(core, &copy);
    if (row->revoked_us != 0) {
        storage_deny(core->storage, row->number, true);
    }
    return OK;
}

// "admin"; where that stands for another key "admin-2", "admin-3", ...
static void name_kept(const struct core *core, struct principal_row *row)
{
    const struct access *const access = core->access;
    bool taken = true;
    for (uint32_t n = 1; taken; n++) {
        snprintf(row->name, sizeof row->name, n == 1 ? "%s" : "%s-%u", role_name(row->role), n);
        taken = false;
        for (uint32_t i = 0; i < access->count && !taken; i++) {
            taken = strcmp(access->all[i]->name, row->name) == 0;
        }
    }
}

static enum err add_kept(struct core *core, struct txn *txn, const struct kept_key *kept)
{
    struct principal_row row = {.role = kept->role, .added_us = clock_wall_us()};
    uint64_t number = 0;
    if (!kept->there || find(core->access, kept->key) != NULL) {
        return OK;
    }
    if (core->access->count >= LIMIT_PRINCIPALS) {
        FAIL(ERR_LIMIT,
             "%d keys have been given out, which is the limit: the new key of the %s "
             "beside the store cannot be",
             (int)LIMIT_PRINCIPALS, role_name(kept->role));
    }
    memcpy(row.key, kept->key, sizeof row.key);
    name_kept(core, &row);
    TRY(counter_next(txn, COUNTER_PRINCIPAL, &number));
    row.number = (uint32_t)number;
    TRY(principal_put(txn, &row));
    log_info("key_added", "principal=%s role=%s datasets=0", row.name, role_name(row.role));
    access_put(core, &row);
    return OK;
}

// In the store thread, while the loop waits: so it may fill the loop's memory itself.
static enum err load_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    const struct load_job *const load = (struct load_job *)job;
    TRY(principal_each(txn, load_row, load->core));
    for (int i = 0; i < KEPT_KEYS; i++) {
        TRY(add_kept(load->core, txn, &load->kept[i]));
    }
    return OK;
}

// Without keys there are no files: no error.
static enum err read_kept(const struct core *core, const char *file, enum role role,
                          struct kept_key *kept_out)
{
    char path[sizeof core->dir + 32];
    snprintf(path, sizeof path, "%s/keys/%s", core->dir, file);
    const enum err err = curvekey_read_public(path, kept_out->key);
    kept_out->role = role;
    kept_out->there = err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err access_open(struct core *core)
{
    core->access = mem_alloc(1, sizeof *core->access);
    struct load_job load = {.job = {.kind = JOB_WRITE_ALONE, .run = load_run}, .core = core};
    TRY(read_kept(core, "admin.pub", ROLE_ADMIN, &load.kept[0]));
    TRY(read_kept(core, "worker.key", ROLE_WORKER, &load.kept[1]));
    return storage_call(core->storage, &load.job);
}

void access_free(struct core *core)
{
    struct access *const access = core->access;
    for (uint32_t i = 0; access != NULL && i < access->count; i++) {
        principal_row_deinit(access->all[i]);
        mem_free(access->all[i]);
    }
    if (access != NULL) {
        mem_free(access->all);
        mem_free(access->by_key);
    }
    mem_free(access);
    core->access = NULL;
}

// ---------------------------------------------------------------- denials

// Logged and counted. Whoever asks for much that is denied does not fill the disk with it.
static void denied(struct core *core, const char *principal, const char *verb)
{
    struct access *const access = core->access;
    const int64_t second = core->now_ms / 1000;
    rate_add(&core->activity.denied, core->now_ms, 1);
    if (second != access->second) {
        if (access->more > 0) {
            log_error("access_denied_more", "count=%llu", (unsigned long long)access->more);
        }
        access->second = second;
        access->lines = 0;
        access->more = 0;
    }
    if (access->lines < LINES_A_SECOND) {
        access->lines++;
        log_error("access_denied", "principal=%s verb=%s", principal, verb);
    } else {
        access->more++;
    }
}

enum err access_enter(struct core *core, const uint8_t *key, struct caller *caller)
{
    caller->principal = key == NULL ? NULL : find(core->access, key);
    if (key == NULL) {
        return OK;
    }
    if (caller->principal == NULL) { // Its handshake was refused, unless it was let in before.
        denied(core, "unknown", "any");
        FAIL(ERR_DENIED, "this key is not known here");
    }
    if (caller->principal->revoked_us != 0) {
        denied(core, caller->principal->name, "any");
        FAIL(ERR_DENIED, "this key was revoked");
    }
    if (caller->principal->role == ROLE_WORKER) {
        denied(core, caller->principal->name, "any");
        FAIL(ERR_DENIED, "a worker's key is no client's: workers have an address of their own");
    }
    return OK;
}

enum err access_enter_worker(struct core *core, const uint8_t *key,
                             const struct principal_row **principal_out)
{
    const struct principal_row *const row = key == NULL ? NULL : find(core->access, key);
    *principal_out = row;
    if (key == NULL) {
        return OK;
    }
    if (row == NULL || row->revoked_us != 0 || row->role != ROLE_WORKER) {
        denied(core, row == NULL ? "unknown" : row->name, "worker");
        FAIL(ERR_DENIED, "this key %s: a worker needs one with the role worker",
             row == NULL            ? "is not known here"
             : row->revoked_us != 0 ? "was revoked"
                                    : "is a client's");
    }
    return OK;
}

// "admin, owner or auditor"
static void put_roles(const struct rights *rights, char out[static 64])
{
    unsigned left = rights->roles;
    size_t at = 0;
    out[0] = '\0';
    for (int role = ROLE_ADMIN; role < ROLE_COUNT_; role++) {
        if (rights_allow(rights, (enum role)role)) {
            left &= ~(1u << role);
            at += (size_t)snprintf(out + at, 64 - at, "%s%s", role_name((enum role)role),
                                   left == 0                  ? ""
                                   : (left & (left - 1)) == 0 ? " or "
                                                              : ", ");
        }
    }
}

enum err access_check(struct core *core, const struct caller *caller, int verb)
{
    const struct rights *const rights = rights_of(verb);
    const struct principal_row *const principal = caller->principal;
    if (rights == NULL) {
        FAIL(ERR_INVALID, "a request without a body that is known here");
    }
    if (principal == NULL) {
        return OK;
    }
    if (!rights_allow(rights, principal->role)) {
        char roles[64];
        put_roles(rights, roles);
        denied(core, principal->name, rights_verb(verb));
        FAIL(ERR_DENIED, "the role %s may not %s: that needs a key with the role %s",
             role_name(principal->role), rights_verb(verb), roles);
    }
    if (rights->scope == SCOPE_CLUSTER && !access_sees_all(caller)) {
        denied(core, principal->name, rights_verb(verb));
        FAIL(ERR_DENIED,
             "%s is about all datasets, and this key with the role %s is limited to some",
             rights_verb(verb), role_name(principal->role));
    }
    if (rights->records) {
        log_info("records_read", "principal=%s verb=%s", principal->name, rights_verb(verb));
    }
    return OK;
}

// ---------------------------------------------------------------- scope

bool access_sees_all(const struct caller *caller)
{
    return caller == NULL || caller->principal == NULL || caller->principal->scope_count == 0;
}

static bool is_granted(const struct principal_row *principal, uint32_t dataset)
{
    for (uint32_t i = 0; i < principal->scope_count; i++) {
        if (dataset != 0 && principal->scope[i].dataset == dataset) {
            return true;
        }
    }
    return principal->scope_count == 0;
}

bool access_sees(const struct caller *caller, uint32_t dataset)
{
    return access_sees_all(caller) || is_granted(caller->principal, dataset);
}

bool access_may_train(const struct principal_row *principal, uint32_t dataset)
{
    return principal == NULL || (principal->revoked_us == 0 && is_granted(principal, dataset));
}

struct access_scope access_scope_of(const struct caller *caller)
{
    struct access_scope scope = {.all = access_sees_all(caller)};
    for (uint32_t i = 0; !scope.all && i < caller->principal->scope_count; i++) {
        if (caller->principal->scope[i].dataset != 0) {
            scope.datasets[scope.count++] = caller->principal->scope[i].dataset;
        }
    }
    return scope;
}

bool access_scope_has(const struct access_scope *scope, uint32_t dataset)
{
    for (uint32_t i = 0; i < scope->count; i++) {
        if (scope->datasets[i] == dataset) {
            return true;
        }
    }
    return scope->all;
}

enum err access_request(struct txn *txn, const struct access_scope *scope, const struct id128 *uuid,
                        struct request_row *row_out)
{
    enum err err = request_find(txn, uuid, row_out);
    if (err == ERR_NOT_FOUND && !scope->all) { // As much work as for one that is there.
        uint64_t last = 0;
        struct request_row other;
        if (counter_get(txn, COUNTER_REQUEST, &last) != OK ||
            request_get(txn, last, &other) != OK) {
            err = ERR_NOT_FOUND; // There is none at all.
        }
    }
    if (err == ERR_NOT_FOUND || (err == OK && !access_scope_has(scope, row_out->dataset))) {
        FAIL(ERR_NOT_FOUND, "there is no request with this UUID");
    }
    return err;
}

bool access_may_make(const struct caller *caller, const char *dataset)
{
    if (access_sees_all(caller)) {
        return true;
    }
    for (uint32_t i = 0; i < caller->principal->scope_count; i++) {
        const struct principal_scope *const scope = &caller->principal->scope[i];
        if (scope->dataset == 0 && strcmp(scope->name, dataset) == 0) {
            return true;
        }
    }
    return false;
}

bool access_owns(const struct caller *caller)
{
    return access_is_admin(caller) || caller->principal->role == ROLE_OWNER;
}

bool access_is_admin(const struct caller *caller)
{
    return caller == NULL || caller->principal == NULL || caller->principal->role == ROLE_ADMIN;
}
