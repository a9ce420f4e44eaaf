// tests/unit/access_desk.h: a coordinator (desk.h) with two datasets, a model on each, and keys of every role.
//
//   dataset  "hers" of alice, "his" of bob; both have the records 0 to 9 of the subjects s0 to s4
//   model    "m-hers", "m-his": never trained
//   key      admin; alice (owner of hers), bob (owner of his), eve (predict, hers), una (auditor, hers),
//            wally (worker), ivan (owner of all)
#pragma once

#include <stdlib.h>

#include "model/spec.h"
#include "tests/unit/desk.h"

enum { ROWS = 10 };
enum who { NOBODY, ADMIN, ALICE, BOB, EVE, UNA, WALLY, IVAN, WHO_COUNT };

static struct desk desk;
static uint64_t number; // Of the last request sent.
static uint8_t keys[WHO_COUNT + 32][PRINCIPAL_KEY_BYTES];

// With its body at the place where every body of the oneof stands.
static inline Unlearn__Request request_of(const char *verb, void *body)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    const ProtobufCFieldDescriptor *const field =
        protobuf_c_message_descriptor_get_field_by_name(&unlearn__request__descriptor, verb);
    assert_non_null(field);
    request.body_case = (Unlearn__Request__BodyCase)field->id;
    memcpy((uint8_t *)&request + field->offset, &body, sizeof body);
    return request;
}

static inline uint64_t send_as(enum who who, const char *verb, void *body, struct span raw)
{
    Unlearn__Request request = request_of(verb, body);
    desk.key = who == NOBODY ? NULL : keys[who];
    desk_ask(&desk, &request, ++number, raw);
    return number;
}

static inline const Unlearn__Reply *ask_with(enum who who, const char *verb, void *body,
                                             struct span raw)
{
    const uint64_t sent = send_as(who, verb, body, raw);
    storage_drain(desk.core->storage, desk.core);
    return desk_answer(&desk, sent);
}

static inline const Unlearn__Reply *ask(enum who who, const char *verb, void *body)
{
    return ask_with(who, verb, body, span_of(NULL, 0));
}

static inline const Unlearn__Reply *good(const Unlearn__Reply *reply)
{
    if (reply->status != UNLEARN__STATUS__STATUS_OK) {
        fail_msg("status %d: %s", reply->status, reply->message);
    }
    return reply;
}

// --- Keys

static inline const Unlearn__Reply *add_key(enum who by, const char *name, enum role role,
                                            const uint8_t *key, const char *dataset)
{
    Unlearn__KeyAdd body = UNLEARN__KEY_ADD__INIT;
    char *datasets[1] = {wire_text(dataset)};
    body.name = wire_text(name);
    body.role = (Unlearn__Role)role;
    body.public_ = wire_bytes(span_of(key, PRINCIPAL_KEY_BYTES));
    body.datasets = datasets;
    body.n_datasets = dataset != NULL;
    return ask(by, "key_add", &body);
}

static inline const Unlearn__Reply *revoke_key(enum who by, const char *name)
{
    Unlearn__KeyRevoke body = UNLEARN__KEY_REVOKE__INIT;
    body.name = wire_text(name);
    return ask(by, "key_revoke", &body);
}

// --- Datasets and models

static inline Unlearn__ImportBegin begin_of(const char *dataset, struct buf *schema_out)
{
    Unlearn__ImportBegin begin = UNLEARN__IMPORT_BEGIN__INIT;
    desk_schema(schema_out);
    begin.dataset = wire_text(dataset);
    begin.schema = wire_bytes(buf_span(schema_out));
    return begin;
}

static inline void put_rows(struct buf *raw)
{
    for (uint32_t i = 0; i < ROWS; i++) {
        char text[24];
        snprintf(text, sizeof text, "%u", i);
        buf_short_text(raw, text);
        snprintf(text, sizeof text, "s%u", i / 2);
        buf_short_text(raw, text);
        buf_u32(raw, 6);
        buf_u16(raw, (uint16_t)(i % 2)); // Class.
        buf_f32(raw, (float)i);
    }
}

static inline void import_into(enum who who, const char *dataset)
{
    struct buf schema = {0}, raw = {0};
    Unlearn__ImportBegin begin = begin_of(dataset, &schema);
    Unlearn__ImportChunk chunk = UNLEARN__IMPORT_CHUNK__INIT;
    Unlearn__ImportCommit commit = UNLEARN__IMPORT_COMMIT__INIT;
    chunk.import = commit.import = good(ask(who, "import_begin", &begin))->import_ready->import;
    chunk.count = ROWS;
    put_rows(&raw);
    good(ask_with(who, "import_chunk", &chunk, buf_span(&raw)));
    assert_int_equal(good(ask(who, "import_commit", &commit))->import_done->records, ROWS);
    buf_deinit(&schema);
    buf_deinit(&raw);
}

static inline void train_on(const char *model, const char *dataset)
{
    struct spec spec = spec_default();
    struct buf text = {0};
    Unlearn__Train body = UNLEARN__TRAIN__INIT;
    spec.shards = spec.slices = 2;
    spec_put(&spec, &text);
    body.model = wire_text(model);
    body.dataset = wire_text(dataset);
    body.spec = wire_bytes(buf_span(&text));
    good(ask(NOBODY, "train", &body));
    buf_deinit(&text);
}

static inline int access_set_up(void **state)
{
    (void)state;
    desk_open(&desk);
    desk.core->config.predict_threads = 1;
    assert_int_equal(predict_open(desk.core), OK);
    number = 0;
    for (int i = 1; i < WHO_COUNT + 32; i++) {
        memset(keys[i], 100 - i, sizeof keys[i]); // Not in the order of the numbers.
    }
    good(add_key(NOBODY, "admin", ROLE_ADMIN, keys[ADMIN], NULL));
    import_into(ADMIN, "hers");
    import_into(ADMIN, "his");
    train_on("m-hers", "hers");
    train_on("m-his", "his");
    good(add_key(ADMIN, "alice", ROLE_OWNER, keys[ALICE], "hers"));
    good(add_key(ADMIN, "bob", ROLE_OWNER, keys[BOB], "his"));
    good(add_key(ADMIN, "eve", ROLE_PREDICT, keys[EVE], "hers"));
    good(add_key(ADMIN, "una", ROLE_AUDITOR, keys[UNA], "hers"));
    good(add_key(ADMIN, "wally", ROLE_WORKER, keys[WALLY], NULL));
    good(add_key(ADMIN, "ivan", ROLE_OWNER, keys[IVAN], NULL));
    return 0;
}

// As after a crash.
static inline void access_restart(void)
{
    predict_free(desk.core);
    desk_restart(&desk);
    desk.core->config.predict_threads = 1;
    assert_int_equal(predict_open(desk.core), OK);
}

static inline int access_tear_down(void **state)
{
    (void)state;
    bulk_stop(desk.core);
    predict_free(desk.core);
    desk_close(&desk);
    return 0;
}

// --- Deletions

static inline Unlearn__Delete deletion_of(const char *dataset, uint8_t uuid[static ID_BYTES],
                                          char **record)
{
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    body.dataset = wire_text(dataset);
    body.uuid = wire_bytes(span_of(uuid, ID_BYTES));
    body.records = record;
    body.n_records = 1;
    return body;
}

static inline uint64_t records_of(const char *name)
{
    struct dataset *dataset = NULL;
    assert_int_equal(catalog_dataset(desk.core, NULL, name, &dataset), OK);
    return dataset->row.record_count;
}
