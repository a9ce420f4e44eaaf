// coordinator/keys.c: keys given out, listed, revoked; see core.h. What they may do is access.h and rights.h.
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "coordinator/access.h"

// ---------------------------------------------------------------- answers

enum { NAMES_MAX = 3 * LIMIT_SCOPE_DATASETS };

static void describe(struct core *core, const struct principal_row *row, char **names,
                     Unlearn__KeyState *out)
{
    unlearn__key_state__init(out);
    out->name = wire_text(row->name);
    out->role = (Unlearn__Role)row->role;
    out->public_ = wire_bytes(span_of(row->key, sizeof row->key));
    out->added_us = row->added_us;
    out->revoked_us = row->revoked_us;
    out->datasets = names;
    out->promised = names + LIMIT_SCOPE_DATASETS;
    out->removed = names + 2 * (size_t)LIMIT_SCOPE_DATASETS;
    for (uint32_t i = 0; i < row->scope_count; i++) {
        const struct principal_scope *const scope = &row->scope[i];
        char *const name = wire_text(scope->name);
        if (scope->dataset == 0) {
            out->promised[out->n_promised++] = name;
        } else if (catalog_dataset_number(core, scope->dataset) != NULL) {
            out->datasets[out->n_datasets++] = name;
        } else {
            out->removed[out->n_removed++] = name;
        }
    }
}

_Static_assert((int)UNLEARN__ROLE__ROLE_ADMIN == (int)ROLE_ADMIN &&
                   (int)UNLEARN__ROLE__ROLE_WORKER == (int)ROLE_WORKER,
               "the store's numbers are the wire's");

static void answer(struct core *core, const struct caller *caller, const struct principal_row *row)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__KeyState state;
    char *names[NAMES_MAX];
    describe(core, row, names, &state);
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_KEY_STATE;
    reply.key_state = &state;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

// ---------------------------------------------------------------- add

struct add_job {
    struct job job;
    struct caller caller;
    struct principal_row row;
    uint32_t count; // Of the rows that are there.
};

static enum err check_new(void *context, const struct principal_row *row)
{
    struct add_job *const add = context;
    add->count++;
    if (strcmp(row->name, add->row.name) == 0) {
        FAIL(
            ERR_CONFLICT,
            row->revoked_us == 0
                ? "there is a key \"%s\" already: revoke it, and give the new one another name"
                : "the key \"%s\" was revoked, and its name stands for it for ever: choose another",
            row->name);
    }
    if (memcmp(row->key, add->row.key, sizeof row->key) == 0) {
        FAIL(ERR_CONFLICT, "this public key was given out before, as \"%s\": make a new pair",
             row->name);
    }
    return OK;
}

static enum err find_dataset(void *context, const struct dataset_row *row)
{
    struct principal_row *const principal = &((struct add_job *)context)->row;
    for (uint32_t i = 0; i < principal->scope_count && !row->removing; i++) {
        if (strcmp(principal->scope[i].name, row->name) == 0) {
            principal->scope[i].dataset = row->number;
        }
    }
    return OK;
}

static enum err add_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct add_job *const add = (struct add_job *)job;
    uint64_t number = 0;
    add->count = 0;
    TRY(principal_each(txn, check_new, add));
    if (add->count >= LIMIT_PRINCIPALS) {
        FAIL(ERR_LIMIT, "%d keys have been given out, which is the limit; revoked ones count",
             (int)LIMIT_PRINCIPALS);
    }
    TRY(dataset_each(txn, find_dataset, add));
    for (uint32_t i = 0; i < add->row.scope_count && add->row.role != ROLE_OWNER; i++) {
        if (add->row.scope[i].dataset == 0) {
            FAIL(ERR_NOT_FOUND, "there is no dataset \"%s\"", add->row.scope[i].name);
        }
    }
    TRY(counter_next(txn, COUNTER_PRINCIPAL, &number));
    add->row.number = (uint32_t)number;
    return principal_put(txn, &add->row);
}

static void add_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct add_job *const add = (struct add_job *)job;
    if (job->result != OK) {
        reply_error(core, &add->caller, job->result, job->text);
    } else {
        log_info("key_added", "principal=%s role=%s datasets=%u", add->row.name,
                 role_name(add->row.role), add->row.scope_count);
        access_put(core, &add->row);
        answer(core, &add->caller, access_at(core, access_count(core) - 1));
    }
    principal_row_deinit(&add->row);
    mem_free(add);
}

static enum err take_scope(const Unlearn__KeyAdd *body, struct principal_row *row)
{
    if (body->n_datasets > 0 && row->role == ROLE_ADMIN) {
        FAIL(ERR_INVALID, "an admin's key is for all datasets: name none");
    }
    if (body->n_datasets > LIMIT_SCOPE_DATASETS) {
        FAIL(ERR_LIMIT, "%zu datasets, expected at most %d: name none for all", body->n_datasets,
             (int)LIMIT_SCOPE_DATASETS);
    }
    row->scope = mem_alloc(body->n_datasets, sizeof *row->scope);
    for (size_t i = 0; i < body->n_datasets; i++) {
        bool twice = false;
        TRY(text_check_label("the dataset's name", body->datasets[i]));
        for (uint32_t j = 0; j < row->scope_count; j++) {
            twice = twice || strcmp(row->scope[j].name, body->datasets[i]) == 0;
        }
        if (!twice) {
            char *const name = row->scope[row->scope_count++].name;
            memcpy(name, body->datasets[i], strlen(body->datasets[i]) + 1);
        }
    }
    return OK;
}

static enum err take_add(const Unlearn__KeyAdd *body, struct principal_row *row)
{
    static const uint8_t zeros[PRINCIPAL_KEY_BYTES] = {0};
    TRY(text_check_label("the key's name", body->name));
    TRY(wire_copy(body->public_, row->key, sizeof row->key, "the public key"));
    if (memcmp(row->key, zeros, sizeof zeros) == 0) {
        FAIL(ERR_INVALID, "the public key is all zeros, which is nobody's");
    }
    memcpy(row->name, body->name, strlen(body->name) + 1);
    row->role = (enum role)body->role; // One of its values: wire_get_request has checked it.
    row->added_us = clock_wall_us();
    return take_scope(body, row);
}

VERB(on_key_add, Unlearn__KeyAdd)
{
    (void)raw;
    struct add_job *const add = mem_alloc(1, sizeof *add);
    add->job = (struct job){.kind = JOB_WRITE_ALONE, .run = add_run, .done = add_done};
    add->caller = *caller;
    const enum err err = take_add(body, &add->row);
    if (err != OK) {
        reply_error(core, caller, err, err_text());
        principal_row_deinit(&add->row);
        mem_free(add);
        return;
    }
    storage_submit(core->storage, &add->job, caller_number(caller));
}

// ---------------------------------------------------------------- revoke

struct revoke_job {
    struct job job;
    struct caller caller;
    struct storage *storage;
    char name[LIMIT_NAME_BYTES + 1];
    int64_t now_us;
    // Found.
    uint32_t number; // 0: none.
    bool denied;     // This run has told the storage.
    int64_t revoked_us;
    bool was_admin;
    uint32_t admins; // That are not revoked.
};

static enum err look_at(void *context, const struct principal_row *row)
{
    struct revoke_job *const revoke = context;
    const bool stands = row->revoked_us == 0;
    revoke->admins += row->role == ROLE_ADMIN && stands;
    if (strcmp(row->name, revoke->name) == 0) {
        revoke->number = row->number;
        revoke->revoked_us = row->revoked_us;
        revoke->was_admin = row->role == ROLE_ADMIN && stands;
    }
    return OK;
}

static enum err put_revoked(struct txn *txn, const struct revoke_job *revoke)
{
    struct principal_row row;
    TRY(principal_get(txn, revoke->number, &row));
    row.revoked_us = revoke->revoked_us;
    const enum err err = principal_put(txn, &row);
    principal_row_deinit(&row);
    return err;
}

static enum err revoke_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct revoke_job *const revoke = (struct revoke_job *)job;
    revoke->number = revoke->admins = 0;
    revoke->denied = revoke->was_admin = false;
    TRY(principal_each(txn, look_at, revoke));
    if (revoke->number == 0) {
        FAIL(ERR_NOT_FOUND, "there is no key \"%s\"", revoke->name);
    }
    if (revoke->revoked_us != 0) {
        return OK; // It was before.
    }
    if (revoke->was_admin && revoke->admins == 1) {
        FAIL(ERR_CONFLICT,
             "\"%s\" is the last admin key, and nobody could give out another: add one first",
             revoke->name);
    }
    revoke->revoked_us = revoke->now_us;
    TRY(put_revoked(txn, revoke));
    storage_deny(revoke->storage, revoke->number, true);
    revoke->denied = true;
    return OK;
}

static void revoke_undo(struct job *job, struct store *store)
{
    (void)store;
    struct revoke_job *const revoke = (struct revoke_job *)job;
    if (revoke->denied) {
        storage_deny(revoke->storage, revoke->number, false);
        revoke->denied = false;
    }
}

static void revoke_done(struct job *job, void *core_)
{
    struct core *const core = core_;
    struct revoke_job *const revoke = (struct revoke_job *)job;
    if (job->result != OK) {
        reply_error(core, &revoke->caller, job->result, job->text);
    } else {
        access_revoked(core, revoke->number, revoke->revoked_us);
        log_info("key_revoked", "principal=%s", revoke->name);
        answer(core, &revoke->caller, access_at(core, revoke->number - 1));
    }
    mem_free(revoke);
}

VERB(on_key_revoke, Unlearn__KeyRevoke)
{
    (void)raw;
    struct revoke_job *const revoke = mem_alloc(1, sizeof *revoke);
    revoke->job = (struct job){
        .kind = JOB_WRITE_ALONE, .run = revoke_run, .undo = revoke_undo, .done = revoke_done};
    revoke->caller = *caller;
    revoke->storage = core->storage;
    revoke->now_us = clock_wall_us();
    memcpy(revoke->name, body->name, strlen(body->name) + 1);
    storage_submit(core->storage, &revoke->job, caller_number(caller));
}

// ---------------------------------------------------------------- list

VERB(on_key_list, Unlearn__KeyList)
{
    (void)raw;
    enum { PAGE = 128, PAGE_BYTES = 160 * 1024 }; // One has 67 KB at most.
    const uint32_t total = access_count(core);
    Unlearn__KeyState *const rows = mem_alloc(PAGE, sizeof *rows);
    Unlearn__KeyState **const pointers = mem_alloc(PAGE, sizeof *pointers);
    char **const names = mem_alloc((size_t)PAGE * NAMES_MAX, sizeof *names);
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__KeyPage page = UNLEARN__KEY_PAGE__INIT;
    size_t bytes = 0;
    uint32_t at = body->offset;
    page.total = total;
    page.keys = pointers;
    while (at < total && page.n_keys < PAGE) {
        Unlearn__KeyState *const row = &rows[page.n_keys];
        describe(core, access_at(core, at), names + page.n_keys * NAMES_MAX, row);
        bytes += protobuf_c_message_get_packed_size(&row->base) + 4;
        if (bytes > PAGE_BYTES) {
            break;
        }
        pointers[page.n_keys++] = row;
        at++;
    }
    page.next = at < total ? at : 0;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_KEY_PAGE;
    reply.key_page = &page;
    reply_send(core, caller, &reply, span_of(NULL, 0));
    mem_free(names);
    mem_free(pointers);
    mem_free(rows);
}
