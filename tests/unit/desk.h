// tests/unit/desk.h: a coordinator's memory with a real store and a real socket, but no loop: requests
// are handed in one by one, and the store thread's results are taken only when the test says so.
#pragma once

#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/approval.h"
#include "coordinator/bulk.h"
#include "coordinator/core.h"
#include "coordinator/erasure.h"
#include "coordinator/quota.h"
#include "coordinator/receipts.h"
#include "coordinator/recheck.h"
#include "model/schema.h"
#include "tests/unit/scratch.h"

enum { DESK_MAP_BYTES = 64 << 20, DESK_PATIENCE_MS = 20000 };

struct desk {
    char dir[SCRATCH_BYTES];
    struct core *core;
    struct link *client;
    struct link_peer peer;
    struct wire_arena arena;
    struct span raw;    // Of the last answer; borrowed until the next.
    const uint8_t *key; // Of who asks; NULL: as without keys.
};

// One number to learn two classes from: a row is its class (u16) and the number (f32).
static inline void desk_schema(struct buf *schema_out)
{
    static char name[] = "a", label[] = "y", no[] = "no", yes[] = "yes";
    static char *classes[] = {no, yes};
    struct column columns[1] = {{.name = name, .kind = COLUMN_NUMERIC, .width = 1, .scale = 1}};
    const struct schema schema = {.columns = columns,
                                  .column_count = 1,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = classes,
                                  .class_count = 2};
    assert_int_equal(schema_check(&schema), OK);
    schema_put(&schema, schema_out);
}

// The first message tells the socket's name for the client.
static inline void desk_meet(struct desk *desk)
{
    const int64_t until = clock_mono_ms() + DESK_PATIENCE_MS;
    struct link_message message;
    bool ready = false;
    while (link_send(desk->client, NULL, span_text("hello"), span_of(NULL, 0)) != OK) {
        assert_true(clock_mono_ms() < until);
        assert_int_equal(link_wait(&desk->client, &ready, 1, NULL, 0, 5), OK);
    }
    assert_int_equal(link_wait(&desk->core->clients, &ready, 1, NULL, 0, DESK_PATIENCE_MS), OK);
    assert_int_equal(link_receive(desk->core->clients, &message), OK);
    desk->peer = message.peer;
}

static inline void desk_open_core(struct desk *desk)
{
    char endpoint[LINK_ENDPOINT_BYTES];
    struct core *const core = desk->core = mem_alloc(1, sizeof *core);
    snprintf(core->dir, sizeof core->dir, "%s", desk->dir);
    core->config = config_default();
    core->now_ms = clock_mono_ms();
    core->wall_us = clock_wall_us();
    assert_int_equal(storage_open(desk->dir, DESK_MAP_BYTES, &core->storage), OK);
    assert_int_equal(receipts_open(core), OK);
    assert_int_equal(access_open(core), OK);
    const enum err loaded = catalog_load(core);
    if (loaded != OK) {
        fail_msg("%s: %s", err_name(loaded), err_text());
    }
    assert_int_equal(bulk_open(core), OK);
    assert_int_equal(leases_open(core), OK);
    assert_int_equal(link_context_open(&core->context), OK);
    assert_int_equal(link_open(core->context, LINK_ROUTER, NULL, &core->clients), OK);
    assert_int_equal(link_bind(core->clients, "tcp://127.0.0.1:*", endpoint), OK);
    assert_int_equal(link_open(core->context, LINK_DEALER, NULL, &desk->client), OK);
    assert_int_equal(link_connect(desk->client, endpoint), OK);
    desk_meet(desk);
}

static inline void desk_close_core(struct desk *desk)
{
    struct core *const core = desk->core;
    storage_drain(core->storage, core);
    leases_free(core);
    verify_free(core);
    recheck_free(core);
    bulk_free(core);
    quota_free(core);
    approval_free(core);
    erasure_free(core);
    uploads_free(core);
    base_uploads_free(core);
    catalog_free(core);
    access_free(core);
    storage_close(core->storage);
    receipts_free(core);
    link_close(desk->client);
    link_close(core->clients);
    link_context_close(core->context);
    buf_deinit(&core->frame);
    wire_arena_deinit(&core->arena);
    mem_free(core);
}

// As after a crash: what the coordinator had in memory is gone.
static inline void desk_restart(struct desk *desk)
{
    desk_close_core(desk);
    desk_open_core(desk);
}

static inline void desk_open(struct desk *desk)
{
    char secret[SCRATCH_BYTES + 64], public[SCRATCH_BYTES + 64];
    assert_true(scratch_make(desk->dir));
    snprintf(secret, sizeof secret, "%s/keys", desk->dir);
    snprintf(public, sizeof public, "%s.client", desk->dir);
    assert_int_equal(mkdir(secret, 0700) + mkdir(public, 0700), 0);
    snprintf(secret, sizeof secret, "%s/keys/signing.key", desk->dir);
    snprintf(public, sizeof public, "%s.client/receipt.pub", desk->dir);
    assert_int_equal(sign_create(secret, public), OK);
    assert_int_equal(store_create(desk->dir), OK);
    desk_open_core(desk);
}

static inline void desk_close(struct desk *desk)
{
    char public[SCRATCH_BYTES + 64];
    desk_close_core(desk);
    wire_arena_deinit(&desk->arena);
    snprintf(public, sizeof public, "%s.client", desk->dir);
    scratch_remove(public);
    scratch_remove(desk->dir);
}

// Hands a request to the coordinator as the loop would.
static inline void desk_ask(struct desk *desk, Unlearn__Request *request, uint64_t number,
                            struct span raw)
{
    struct buf frame = {0};
    request->version = WIRE_VERSION;
    request->request_id = number;
    wire_put(&request->base, &frame);
    // As the loop's wait does: the socket learns how much the client has taken in, without which it takes
    // a client that asks very fast for one that does not read.
    bool ready = false;
    assert_int_equal(link_wait(&desk->core->clients, &ready, 1, NULL, 0, 0), OK);
    const struct link_message message = {
        .peer = desk->peer, .key = desk->key, .envelope = buf_span(&frame), .raw = raw};
    clients_message(desk->core, &message);
    buf_deinit(&frame);
}

static inline const Unlearn__Reply *desk_answer(struct desk *desk, uint64_t number)
{
    struct link_message message;
    const Unlearn__Reply *reply = NULL;
    bool ready = false;
    assert_int_equal(link_wait(&desk->client, &ready, 1, NULL, 0, DESK_PATIENCE_MS), OK);
    assert_int_equal(link_receive(desk->client, &message), OK);
    assert_int_equal(wire_get_reply(&desk->arena, message.envelope, &reply), OK);
    assert_int_equal(reply->request_id, number);
    desk->raw = message.raw;
    return reply;
}
