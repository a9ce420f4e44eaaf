// tests/unit/desk_people.h: people to delete, on a coordinator without a loop (desk.h), and a model of one
// component that is trained whenever the test says so.
#pragma once

#include "coordinator/core.h"
#include "model/spec.h"
#include "store/component.h"
#include "tests/unit/desk.h"

enum { DESK_PEOPLE_TEXT = 24 };

// Imports records 0, 1, ... into the new dataset "people", number 1; subject_of says whose each one is.
static inline void desk_people(struct desk *desk, uint32_t records,
                               void (*subject_of)(uint32_t record,
                                                  char out[static DESK_PEOPLE_TEXT]))
{
    struct buf bytes = {0}, raw = {0};
    desk_schema(&bytes);
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ImportBegin begin = UNLEARN__IMPORT_BEGIN__INIT;
    begin.dataset = wire_text("people");
    begin.schema = wire_bytes(buf_span(&bytes));
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_BEGIN;
    request.import_begin = &begin;
    desk_ask(desk, &request, 1, span_of(NULL, 0));
    storage_drain(desk->core->storage, desk->core);
    const uint64_t import = desk_answer(desk, 1)->import_ready->import;
    for (uint32_t i = 0; i < records; i++) {
        char text[DESK_PEOPLE_TEXT];
        snprintf(text, sizeof text, "%u", i);
        buf_short_text(&raw, text);
        subject_of(i, text);
        buf_short_text(&raw, text);
        buf_u32(&raw, 6);
        buf_u16(&raw, 1); // Class.
        buf_f32(&raw, (float)i);
    }
    Unlearn__ImportChunk chunk = UNLEARN__IMPORT_CHUNK__INIT;
    chunk.import = import;
    chunk.count = records;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_CHUNK;
    request.import_chunk = &chunk;
    desk_ask(desk, &request, 2, buf_span(&raw));
    Unlearn__ImportCommit commit = UNLEARN__IMPORT_COMMIT__INIT;
    commit.import = import;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_COMMIT;
    request.import_commit = &commit;
    desk_ask(desk, &request, 3, span_of(NULL, 0));
    storage_drain(desk->core->storage, desk->core);
    assert_int_equal(desk_answer(desk, 2)->status, UNLEARN__STATUS__STATUS_OK);
    assert_int_equal(desk_answer(desk, 3)->import_done->records, records);
    buf_deinit(&bytes);
    buf_deinit(&raw);
}

struct component_job {
    struct job job;
    uint64_t instance; // 0: only look.
    struct component_row row;
};

// The only component of model 5, of one cell, as if it had been trained just now.
static inline enum err component_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct component_job *const put = (struct component_job *)job;
    const struct component name = {.count = 1};
    uint64_t epoch = 0;
    if (put->instance == 0) {
        return component_row_get(txn, 5, &name, &put->row);
    }
    struct spec spec = spec_default();
    spec.shards = spec.slices = spec.sequences = 1;
    struct model_row model = {.number = 5, .name = "m", .dataset = 1, .generations = 1};
    spec_put(&spec, &model.spec);
    const enum err err = model_put(txn, &model);
    model_row_deinit(&model);
    TRY(err);
    put->row = (struct component_row){.state = COMPONENT_VALID, .instance = put->instance};
    TRY(component_row_put(txn, 5, &name, &put->row));
    return counter_next(txn, COUNTER_EPOCH, &epoch);
}
