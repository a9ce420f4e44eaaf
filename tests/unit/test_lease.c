// Goal: a worker believes no lease and no stream that does not fit together.
// Method: one good offer and one good set of chunks; each test damages one thing and names the
// guard that must fire; the undamaged control trains and equals stage_train called directly.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "shard_worker/lease.h"

enum { RECORDS = 6, ROW_BYTES = 2 + 2 * 4, RECORD_BYTES = ID_BYTES + 4 + ROW_BYTES };

static const uint64_t slice_records[2] = {4, 2};
static const uint64_t versions[2] = {0, 3};

struct world {
    struct buf spec_text, schema_bytes;
    struct spec spec;
    struct schema schema;
    uint64_t param_count;
    float *parent;
    uint8_t records[RECORDS * RECORD_BYTES];
    Unlearn__Lease offer;
    struct lease *lease;
};

static void make_schema(struct buf *bytes_out)
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

static void make_records(uint8_t *out)
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

static int setup(void **state)
{
    struct world *const world = mem_alloc(1, sizeof *world);
    world->spec = spec_default();
    assert_int_equal(spec_set(&world->spec, "learner", "mlp"), OK);
    assert_int_equal(spec_set(&world->spec, "hidden", "5"), OK);
    assert_int_equal(spec_set(&world->spec, "batch", "2"), OK);
    assert_int_equal(spec_set(&world->spec, "shards", "4"), OK);
    spec_put(&world->spec, &world->spec_text);
    make_schema(&world->schema_bytes);
    assert_int_equal(schema_get(buf_span(&world->schema_bytes), &world->schema), OK);
    assert_int_equal(learner_param_count(&world->spec, &world->schema, &world->param_count), OK);
    assert_int_equal(mem_try_aligned(world->param_count, sizeof(float), &world->parent), OK);
    for (uint64_t i = 0; i < world->param_count; i++) {
        world->parent[i] = 0.01f * (float)(i % 13) + 0.1f;
    }
    make_records(world->records);

    static char model[] = "m", component[] = "s3:[2,0]";
    unlearn__lease__init(&world->offer);
    world->offer.lease = 11;
    world->offer.deadline_ms = 5000;
    world->offer.model = model;
    world->offer.component = component;
    world->offer.spec = (ProtobufCBinaryData){world->spec_text.bytes, world->spec_text.data};
    world->offer.schema =
        (ProtobufCBinaryData){world->schema_bytes.bytes, world->schema_bytes.data};
    world->offer.passes = 3;
    world->offer.has_parent = true;
    world->offer.param_count = world->param_count;
    world->offer.records = RECORDS;
    world->offer.n_slice_records = 2;
    world->offer.slice_records = (uint64_t *)(uintptr_t)slice_records;
    world->offer.n_cell_versions = 2;
    world->offer.cell_versions = (uint64_t *)(uintptr_t)versions;
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *const world = *state;
    lease_free(world->lease);
    buf_deinit(&world->spec_text);
    buf_deinit(&world->schema_bytes);
    schema_deinit(&world->schema);
    mem_free(world->parent);
    mem_free(world);
    return 0;
}

// --- offers

static void refuses(struct world *world, enum err code, const char *guard)
{
    assert_int_equal(lease_begin(&world->offer, &world->lease), code);
    assert_null(world->lease);
    assert_non_null(strstr(err_text(), guard));
}

static void test_offer_good_is_taken(void **state)
{
    struct world *const world = *state;
    assert_int_equal(lease_begin(&world->offer, &world->lease), OK);
    assert_int_equal(lease_number(world->lease), 11);
    assert_int_equal(lease_records(world->lease), RECORDS);
    assert_int_equal(lease_samples(world->lease), 3 * RECORDS);
    assert_string_equal(lease_model(world->lease), "m");
    assert_string_equal(lease_component(world->lease), "s3:[2,0]");
    assert_false(lease_compare_only(world->lease));
    assert_false(lease_complete(world->lease));
}

static void test_offer_with_unreadable_parts_is_refused(void **state)
{
    struct world *const world = *state;
    const Unlearn__Lease good = world->offer;
    static char bad_name[] = "s3:[2,2]", bad_shard[] = "s4:[2,0]";

    world->offer.spec.len--;
    refuses(world, ERR_INVALID, "the spec of a lease");
    world->offer = good;
    world->offer.schema.len--;
    assert_int_not_equal(lease_begin(&world->offer, &world->lease), OK);
    assert_non_null(strstr(err_text(), "the schema of a lease"));
    world->offer = good;
    world->offer.component = bad_name;
    refuses(world, ERR_INVALID, "the component of a lease");
    world->offer.component = bad_shard;
    refuses(world, ERR_INVALID, "4 shards");
}

static void test_offer_with_wrong_counts_is_refused(void **state)
{
    struct world *const world = *state;
    const Unlearn__Lease good = world->offer;
    uint64_t none[2] = {0, 0}, first_only[2] = {0, RECORDS};
    uint64_t huge[2] = {4, (uint64_t)LIMIT_STAGE_RECORDS + 1};
    uint64_t wrapping[2] = {UINT64_MAX, RECORDS + 1};
    uint64_t too_many[2] = {LIMIT_STAGE_RECORDS, 1};

    world->offer.n_slice_records = 1;
    refuses(world, ERR_INVALID, "expected 2 of each");
    world->offer = good;
    world->offer.n_cell_versions = 1;
    refuses(world, ERR_INVALID, "expected 2 of each");
    world->offer = good;
    world->offer.records = RECORDS + 1;
    refuses(world, ERR_INVALID, "whose slices hold 6");
    world->offer = good;
    world->offer.slice_records = none;
    world->offer.records = 0;
    refuses(world, ERR_INVALID, "an empty component is not trained");
    world->offer = good;
    world->offer.slice_records = huge;
    refuses(world, ERR_LIMIT, "a slice of");
    world->offer.slice_records = wrapping;
    refuses(world, ERR_LIMIT, "a slice of");
    world->offer.slice_records = too_many;
    world->offer.records = (uint64_t)LIMIT_STAGE_RECORDS + 1;
    refuses(world, ERR_LIMIT, "a lease of");
    world->offer = good;
    world->offer.has_parent = false;
    refuses(world, ERR_INVALID, "without its parent's weights");
    world->offer.slice_records = first_only; // An empty parent has none: this is the good case.
    assert_int_equal(lease_begin(&world->offer, &world->lease), OK);
    lease_free(world->lease);
    world->offer.has_parent = true;
    refuses(world, ERR_INVALID, "with its parent's weights");
}

static void test_offer_with_wrong_sizes_is_refused(void **state)
{
    struct world *const world = *state;
    const Unlearn__Lease good = world->offer;
    char long_name[LIMIT_NAME_BYTES + 2];
    memset(long_name, 'm', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';

    world->offer.param_count++;
    refuses(world, ERR_INVALID, "its spec and schema make");
    world->offer = good;
    world->offer.passes = 0;
    refuses(world, ERR_INVALID, "0 passes");
    world->offer.passes = LIMIT_EPOCHS + 1;
    refuses(world, ERR_INVALID, "passes, expected 1 to");
    world->offer = good;
    world->offer.model = long_name;
    refuses(world, ERR_INVALID, "a model name of 256 bytes");
}

// --- streams

static enum err take(struct world *world, Unlearn__StreamKind stream, uint32_t sequence,
                     uint32_t count, bool last, struct span raw)
{
    Unlearn__Chunk chunk = UNLEARN__CHUNK__INIT;
    chunk.lease = 11;
    chunk.stream = stream;
    chunk.sequence = sequence;
    chunk.count = count;
    chunk.last = last;
    return lease_take(world->lease, &chunk, raw);
}

static enum err take_parent(struct world *world)
{
    return take(world, UNLEARN__STREAM_KIND__STREAM_KIND_PARENT, 0, 0, true,
                span_of(world->parent, world->param_count * sizeof(float)));
}

// Records first .. first + count - 1 as chunk `sequence`.
static enum err take_records(struct world *world, uint32_t sequence, uint32_t first, uint32_t count,
                             bool last)
{
    return take(world, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS, sequence, count, last,
                span_of(world->records + first * RECORD_BYTES, count * RECORD_BYTES));
}

// Asks as often as the lease wants to; returns how often that was.
static uint32_t ask(struct world *world)
{
    Unlearn__StreamKind stream;
    uint32_t sequence, asked = 0;
    while (lease_wants(world->lease, &stream, &sequence)) {
        lease_asked(world->lease);
        asked++;
    }
    return asked;
}

static void begin_with_parent(struct world *world)
{
    lease_free(world->lease);
    assert_int_equal(lease_begin(&world->offer, &world->lease), OK);
    assert_int_equal(ask(world), 1); // A small parent is one chunk: nothing past it is asked for.
}

static void begin_with_records(struct world *world)
{
    begin_with_parent(world);
    assert_int_equal(take_parent(world), OK);
    assert_int_equal(ask(world), LIMIT_CREDIT);
}

static void test_stream_good_trains_the_same_bits(void **state)
{
    struct world *const world = *state;
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, 4, false), OK);
    assert_int_equal(ask(world), 1); // Credit comes back with each chunk.
    assert_false(lease_complete(world->lease));
    assert_int_equal(take_records(world, 1, 4, 2, true), OK);
    assert_true(lease_complete(world->lease));
    assert_int_equal(ask(world), 0);
    // Answers to pulls past the end are ignored.
    assert_int_equal(take_records(world, 2, 0, 0, true), OK);
    assert_int_equal(lease_train(world->lease, NULL), OK);

    struct span rows[RECORDS];
    struct id128 rids[RECORDS];
    for (size_t i = 0; i < RECORDS; i++) {
        const uint8_t *const at = world->records + i * RECORD_BYTES;
        memcpy(rids[i].bytes, at, ID_BYTES);
        rows[i] = span_of(at + ID_BYTES + 4, ROW_BYTES);
    }
    const uint16_t list[] = {2, 0};
    const struct stage stage = {&world->spec, &world->schema, 3, list, 2, 3};
    const struct stage_data data = {rows, rids, slice_records, RECORDS};
    float *params = NULL;
    assert_int_equal(mem_try_aligned(world->param_count, sizeof *params, &params), OK);
    assert_int_equal(stage_train(&stage, &data, world->parent, NULL, params), OK);
    const struct span weights = lease_weights(world->lease, 0);
    assert_int_equal(weights.bytes, world->param_count * sizeof(float));
    assert_memory_equal(weights.data, params, weights.bytes);
    assert_int_equal(lease_weights(world->lease, 1).bytes, 0);
    const struct digest spec = spec_digest(&world->spec), schema = schema_digest(&world->schema);
    const struct digest expected =
        component_digest("s3:[2,0]", &spec, &schema, params, world->param_count);
    const struct digest digest = lease_digest(world->lease);
    assert_memory_equal(digest.bytes, expected.bytes, sizeof digest.bytes);
    mem_free(params);
}

static void test_stream_may_end_with_an_empty_chunk(void **state)
{
    struct world *const world = *state;
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, RECORDS, false), OK);
    assert_false(lease_complete(world->lease));
    assert_int_equal(take_records(world, 1, 0, 0, true), OK);
    assert_true(lease_complete(world->lease));
}

static void test_stream_out_of_order_is_refused(void **state)
{
    struct world *const world = *state;
    begin_with_records(world);
    assert_int_equal(take_records(world, 1, 0, 2, false), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "chunk 1 of the records came, expected 0"));
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, 2, false), OK);
    assert_int_equal(take_records(world, 0, 0, 2, false), ERR_CORRUPT); // Twice.
    begin_with_parent(world);
    assert_int_equal(take_records(world, 0, 0, 2, false), ERR_CORRUPT); // The other stream.
    assert_non_null(strstr(err_text(), "not asked for"));
    begin_with_parent(world);
    assert_int_equal(take_parent(world), OK);
    assert_int_equal(take_records(world, 0, 0, 2, false), ERR_CORRUPT); // Pushed, not pulled.
    assert_non_null(strstr(err_text(), "expected 0 of the 0"));
}

static void test_parent_of_wrong_length_is_refused(void **state)
{
    struct world *const world = *state;
    const size_t bytes = world->param_count * sizeof(float);
    const Unlearn__StreamKind parent = UNLEARN__STREAM_KIND__STREAM_KIND_PARENT;
    begin_with_parent(world);
    assert_int_equal(take(world, parent, 0, 0, true, span_of(world->parent, bytes - 4)),
                     ERR_CORRUPT);
    begin_with_parent(world);
    assert_int_equal(take(world, parent, 0, 0, false, span_of(world->parent, bytes)), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "of the parent's weights"));
    begin_with_parent(world);
    assert_int_equal(take_parent(world), OK);
}

static void test_records_in_wrong_number_are_refused(void **state)
{
    struct world *const world = *state;
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, 4, true), ERR_CORRUPT); // Too few.
    assert_non_null(strstr(err_text(), "has 4 of them and is the last"));
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, 0, false), ERR_CORRUPT); // Would never end.
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, 4, false), OK);
    assert_int_equal(take_records(world, 1, 0, 3, true), ERR_CORRUPT); // One too many.
    assert_non_null(strstr(err_text(), "expected 1 to 2"));
}

static void test_records_of_wrong_shape_are_refused(void **state)
{
    struct world *const world = *state;
    const Unlearn__StreamKind records = UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS;
    begin_with_records(world); // Cut within the second record.
    assert_int_equal(take(world, records, 0, 2, false, span_of(world->records, RECORD_BYTES + 9)),
                     ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "ends within record 1"));
    begin_with_records(world); // One record more than counted.
    assert_int_equal(take(world, records, 0, 1, false, span_of(world->records, 2 * RECORD_BYTES)),
                     ERR_CORRUPT);
    begin_with_records(world); // A class that the schema does not have.
    world->records[ID_BYTES + 4] = 2;
    assert_int_equal(take_records(world, 0, 0, 4, false), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "record 0 of component s3:[2,0]"));
    world->records[ID_BYTES + 4] = 0;
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, 4, false), OK);
}

static void test_chunk_too_large_is_refused(void **state)
{
    struct world *const world = *state;
    begin_with_records(world);
    uint8_t *const large = mem_alloc(LIMIT_CHUNK_BYTES + 1, 1);
    const enum err err = take(world, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS, 0, 1, false,
                              span_of(large, LIMIT_CHUNK_BYTES + 1));
    mem_free(large);
    assert_int_equal(err, ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "expected at most 1048576"));
}

static bool stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ++*(int *)context;
    return false;
}

static void test_training_stops_when_told(void **state)
{
    struct world *const world = *state;
    int calls = 0;
    begin_with_records(world);
    assert_int_equal(take_records(world, 0, 0, RECORDS, true), OK);
    const struct stage_watch watch = {stop_at_once, &calls};
    assert_int_equal(lease_train(world->lease, &watch), ERR_CANCELLED);
    assert_int_equal(calls, 1);
}

static void test_weights_travel_in_chunks(void **state)
{
    // 4 x 65,536 + ... parameters: more than one chunk, the last one shorter.
    struct world *const world = *state;
    assert_int_equal(spec_set(&world->spec, "hidden", "65536"), OK);
    buf_clear(&world->spec_text);
    spec_put(&world->spec, &world->spec_text);
    world->offer.spec = (ProtobufCBinaryData){world->spec_text.bytes, world->spec_text.data};
    assert_int_equal(learner_param_count(&world->spec, &world->schema, &world->offer.param_count),
                     OK);
    uint64_t first_only[2] = {0, RECORDS};
    world->offer.slice_records = first_only;
    world->offer.has_parent = false;
    world->offer.passes = 1;
    assert_int_equal(lease_begin(&world->offer, &world->lease), OK);
    assert_int_equal(ask(world), LIMIT_CREDIT);
    assert_int_equal(take_records(world, 0, 0, RECORDS, true), OK);
    assert_int_equal(lease_train(world->lease, NULL), OK);
    const size_t bytes = world->offer.param_count * sizeof(float);
    assert_in_range(bytes, LIMIT_CHUNK_BYTES + 1, 2 * LIMIT_CHUNK_BYTES - 1);
    assert_int_equal(lease_weights(world->lease, 0).bytes, LIMIT_CHUNK_BYTES);
    assert_int_equal(lease_weights(world->lease, 1).bytes, bytes - LIMIT_CHUNK_BYTES);
    assert_int_equal(lease_weights(world->lease, 2).bytes, 0);
    assert_int_equal(lease_weights(world->lease, UINT32_MAX).bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_offer_good_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_offer_with_unreadable_parts_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_offer_with_wrong_counts_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_offer_with_wrong_sizes_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_good_trains_the_same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_may_end_with_an_empty_chunk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_out_of_order_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parent_of_wrong_length_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_in_wrong_number_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_of_wrong_shape_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chunk_too_large_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_training_stops_when_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_weights_travel_in_chunks, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
