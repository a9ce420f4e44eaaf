// client/unlearn_keys.c: keys given out, listed and revoked; see unlearn.h.
#include "base/mem.h"
#include "client/call.h"

static const struct span no_raw = {NULL, 0};

enum err unlearn_key_add(struct unlearn *client, const char *name, enum role role,
                         const char *const *datasets, size_t dataset_count,
                         const uint8_t public[static CURVEKEY_BYTES],
                         const Unlearn__KeyState **state_out)
{
    Unlearn__KeyAdd body;
    unlearn__key_add__init(&body);
    char **const names = mem_alloc(dataset_count, sizeof *names);
    for (size_t i = 0; i < dataset_count; i++) {
        names[i] = wire_text(datasets[i]);
    }
    body.name = wire_text(name);
    body.role = (Unlearn__Role)role;
    body.datasets = names;
    body.n_datasets = dataset_count;
    body.public_ = wire_bytes(span_of(public, CURVEKEY_BYTES));
    Unlearn__Request request = CALL_REQUEST(KEY_ADD, key_add, &body);
    const Unlearn__Reply *reply;
    const enum err err = call(client, &request, no_raw, CALL_ONCE, CALL_ANSWER(KEY_STATE), &reply);
    mem_free(names);
    if (err == OK) {
        *state_out = reply->key_state;
    }
    return err;
}

enum err unlearn_key_revoke(struct unlearn *client, const char *name,
                            const Unlearn__KeyState **state_out)
{
    Unlearn__KeyRevoke body;
    unlearn__key_revoke__init(&body);
    body.name = wire_text(name);
    Unlearn__Request request = CALL_REQUEST(KEY_REVOKE, key_revoke, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(KEY_STATE), &reply));
    *state_out = reply->key_state;
    return OK;
}

enum err unlearn_key_list(struct unlearn *client, uint32_t offset,
                          const Unlearn__KeyPage **page_out)
{
    Unlearn__KeyList body;
    unlearn__key_list__init(&body);
    body.offset = offset;
    Unlearn__Request request = CALL_REQUEST(KEY_LIST, key_list, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, no_raw, CALL_AGAIN, CALL_ANSWER(KEY_PAGE), &reply));
    *page_out = reply->key_page;
    return OK;
}
