// tests/unit/tiny_stage.h: a good lease of a tiny mlp, with its records and its parent, for the tests
// of the worker.
#pragma once

#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "shard_worker/lease.h"

enum { RECORDS = 6, ROW_BYTES = 2 + 2 * 4, RECORD_BYTES = ID_BYTES + 4 + ROW_BYTES };

static const uint64_t slice_records[2] = {4, 2};
static const uint64_t versions[2] = {0, 3};

struct tiny {
    struct buf spec_text, schema_bytes;
    struct spec spec;
    struct schema schema;
    uint64_t param_count;
    float *parent;
    uint8_t records[RECORDS * RECORD_BYTES];
    Unlearn__Lease offer;
    struct bases bases;
    struct cache cache; // Of no room, unless a test gives it some.
    struct lease *lease;
};

static inline void tiny_make_schema(struct buf *bytes_out)
{
    static char names[2][2] = {"a", "b"};
    static char label[] = "y", no[] = "no", yes[] = "yes";
    static char *classes[] = {no, yes};
    struct column columns[2] = {
        {.name = names[0], .kind = COLUMN_NUMERIC, .width = 1, .scale = 1, .standardise = true},
        {.name = names[1], .kind = COLUMN_NUMERIC, .width = 1, .scale = 1},
    };
    const struct schema schema = {.columns = columns,
                                  .column_count = 2,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = classes,
                                  .class_count = 2};
    assert_int_equal(schema_check(&schema), OK);
    schema_put(&schema, bytes_out);
}

static inline void tiny_make_records(uint8_t *out)
{
    struct buf buf = {0};
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint8_t rid[ID_BYTES] = {(uint8_t)(40 - i), 7};
        buf_put(&buf, span_of(rid, sizeof rid));
        buf_u32(&buf, ROW_BYTES);
        buf_u16(&buf, (uint16_t)(i % 2));
        buf_f32(&buf, (float)i * 0.5f - 1);
        buf_f32(&buf, i % 2 == 0 ? -1.0f : 1.5f);
    }
    assert_int_equal(buf.bytes, RECORDS * RECORD_BYTES);
    memcpy(out, buf.data, buf.bytes);
    buf_deinit(&buf);
}

static inline int tiny_setup(void **state)
{
    struct tiny *const tiny = mem_alloc(1, sizeof *tiny);
    tiny->spec = spec_default();
    assert_int_equal(spec_set(&tiny->spec, "learner", "mlp"), OK);
    assert_int_equal(spec_set(&tiny->spec, "hidden", "32,32"), OK);
    assert_int_equal(spec_set(&tiny->spec, "batch", "1"), OK);
    assert_int_equal(spec_set(&tiny->spec, "shards", "4"), OK);
    spec_put(&tiny->spec, &tiny->spec_text);
    tiny_make_schema(&tiny->schema_bytes);
    assert_int_equal(schema_get(buf_span(&tiny->schema_bytes), &tiny->schema), OK);
    assert_int_equal(learner_param_count(&(const struct recipe){&tiny->spec, &tiny->schema, NULL},
                                         1, &tiny->param_count),
                     OK);
    assert_int_equal(mem_try_aligned(tiny->param_count, sizeof(float), &tiny->parent), OK);
    for (uint64_t i = 0; i < tiny->param_count; i++) {
        tiny->parent[i] = 0.01f * (float)(i % 13) + 0.1f;
    }
    tiny_make_records(tiny->records);

    static char model[] = "m", component[] = "s3:[2,0]";
    unlearn__lease__init(&tiny->offer);
    tiny->offer.lease = 11;
    tiny->offer.deadline_ms = 5000;
    tiny->offer.model = model;
    tiny->offer.component = component;
    tiny->offer.spec = (ProtobufCBinaryData){tiny->spec_text.bytes, tiny->spec_text.data};
    tiny->offer.schema = (ProtobufCBinaryData){tiny->schema_bytes.bytes, tiny->schema_bytes.data};
    tiny->offer.passes = 3;
    static uint8_t stream_key[SEAL_KEY_BYTES] = {1, 2, 3};
    tiny->offer.stream_key = (ProtobufCBinaryData){sizeof stream_key, stream_key};
    tiny->offer.has_parent = true;
    tiny->offer.model_number = 6;
    tiny->offer.parent_instance = 90;
    tiny->offer.param_count = tiny->param_count;
    tiny->offer.records = RECORDS;
    tiny->offer.n_slice_records = 2;
    tiny->offer.slice_records = (uint64_t *)(uintptr_t)slice_records;
    tiny->offer.n_cell_versions = 2;
    tiny->offer.cell_versions = (uint64_t *)(uintptr_t)versions;
    *state = tiny;
    return 0;
}

static inline int tiny_teardown(void **state)
{
    struct tiny *const tiny = *state;
    lease_free(tiny->lease);
    bases_deinit(&tiny->bases);
    cache_clear(&tiny->cache);
    buf_deinit(&tiny->spec_text);
    buf_deinit(&tiny->schema_bytes);
    schema_deinit(&tiny->schema);
    mem_free(tiny->parent);
    mem_free(tiny);
    return 0;
}

// Trains the same stage without a worker: the bits that must come back.
static inline struct digest tiny_expected(const struct tiny *tiny, uint32_t passes,
                                          float *params_out)
{
    struct span rows[RECORDS];
    struct id128 rids[RECORDS];
    for (size_t i = 0; i < RECORDS; i++) {
        const uint8_t *const at = tiny->records + i * RECORD_BYTES;
        memcpy(rids[i].bytes, at, ID_BYTES);
        rows[i] = span_of(at + ID_BYTES + 4, ROW_BYTES);
    }
    const uint16_t list[] = {2, 0};
    const struct stage stage = {{&tiny->spec, &tiny->schema, NULL}, 3, list, 2, passes};
    const struct stage_data data = {rows, rids, slice_records, RECORDS};
    assert_int_equal(stage_train(&stage, &data, tiny->parent, NULL, params_out), OK);
    const struct digest spec = spec_digest(&tiny->spec), schema = schema_digest(&tiny->schema);
    return component_digest("s3:[2,0]", &spec, &schema, NULL, params_out, tiny->param_count);
}
