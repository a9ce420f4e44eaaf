// Goal: a worker believes no lease and no stream that does not fit together.
// Method: one good offer and one good set of chunks; each test damages one thing and names the
// guard that must fire; the undamaged control trains and equals stage_train called directly.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/tiny_stage.h"

// --- offers

static void refuses(struct tiny *tiny, enum err code, const char *guard)
{
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), code);
    assert_null(tiny->lease);
    assert_non_null(strstr(err_text(), guard));
}

static void test_offer_good_is_taken(void **state)
{
    struct tiny *const tiny = *state;
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), OK);
    assert_int_equal(lease_number(tiny->lease), 11);
    assert_int_equal(lease_records(tiny->lease), RECORDS);
    assert_int_equal(lease_samples(tiny->lease), 3 * RECORDS);
    assert_string_equal(lease_model(tiny->lease), "m");
    assert_string_equal(lease_component(tiny->lease), "s3:[2,0]");
    assert_false(lease_compare_only(tiny->lease));
    assert_false(lease_complete(tiny->lease));
}

static void test_offer_with_unreadable_parts_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    const Unlearn__Lease good = tiny->offer;
    static char bad_name[] = "s3:[2,2]", bad_shard[] = "s4:[2,0]";

    tiny->offer.spec.len--;
    refuses(tiny, ERR_INVALID, "the spec of a lease");
    tiny->offer = good;
    tiny->offer.schema.len--;
    assert_int_not_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), OK);
    assert_non_null(strstr(err_text(), "the schema of a lease"));
    tiny->offer = good;
    tiny->offer.component = bad_name;
    refuses(tiny, ERR_INVALID, "the component of a lease");
    tiny->offer.component = bad_shard;
    refuses(tiny, ERR_INVALID, "4 shards");
}

static void test_offer_with_wrong_counts_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    const Unlearn__Lease good = tiny->offer;
    uint64_t none[2] = {0, 0}, first_only[2] = {0, RECORDS};
    uint64_t huge[2] = {4, (uint64_t)LIMIT_STAGE_RECORDS + 1};
    uint64_t wrapping[2] = {UINT64_MAX, RECORDS + 1};
    uint64_t too_many[2] = {LIMIT_STAGE_RECORDS, 1};

    tiny->offer.n_slice_records = 1;
    refuses(tiny, ERR_INVALID, "expected 2 of each");
    tiny->offer = good;
    tiny->offer.n_cell_versions = 1;
    refuses(tiny, ERR_INVALID, "expected 2 of each");
    tiny->offer = good;
    tiny->offer.records = RECORDS + 1;
    refuses(tiny, ERR_INVALID, "whose slices hold 6");
    tiny->offer = good;
    tiny->offer.slice_records = none;
    tiny->offer.records = 0;
    refuses(tiny, ERR_INVALID, "an empty component is not trained");
    tiny->offer = good;
    tiny->offer.slice_records = huge;
    refuses(tiny, ERR_LIMIT, "a slice of");
    tiny->offer.slice_records = wrapping;
    refuses(tiny, ERR_LIMIT, "a slice of");
    tiny->offer.slice_records = too_many;
    tiny->offer.records = (uint64_t)LIMIT_STAGE_RECORDS + 1;
    refuses(tiny, ERR_LIMIT, "a lease of");
    tiny->offer = good;
    tiny->offer.has_parent = false;
    refuses(tiny, ERR_INVALID, "without its parent's weights");
    tiny->offer.slice_records = first_only; // An empty parent has none: this is the good case.
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), OK);
    lease_free(tiny->lease);
    tiny->offer.has_parent = true;
    refuses(tiny, ERR_INVALID, "with its parent's weights");
}

static void test_offer_with_wrong_sizes_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    const Unlearn__Lease good = tiny->offer;
    char long_name[LIMIT_NAME_BYTES + 2];
    memset(long_name, 'm', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';

    tiny->offer.param_count++;
    refuses(tiny, ERR_INVALID, "its spec and schema make");
    tiny->offer = good;
    tiny->offer.passes = 0;
    refuses(tiny, ERR_INVALID, "0 passes");
    tiny->offer.passes = LIMIT_EPOCHS + 1;
    refuses(tiny, ERR_INVALID, "passes, expected 1 to");
    tiny->offer = good;
    tiny->offer.model = long_name;
    refuses(tiny, ERR_INVALID, "a model name of 256 bytes");
}

// A spec with 4 chunks in a batch, so that up to 4 ranks may share the stage.
static void allow_groups(struct tiny *tiny)
{
    assert_int_equal(spec_set(&tiny->spec, "batch", "8"), OK);
    assert_int_equal(spec_set(&tiny->spec, "gradient_chunks", "4"), OK);
    buf_clear(&tiny->spec_text);
    spec_put(&tiny->spec, &tiny->spec_text);
    tiny->offer.spec = (ProtobufCBinaryData){tiny->spec_text.bytes, tiny->spec_text.data};
}

static void test_offer_to_a_group_is_taken(void **state)
{
    struct tiny *const tiny = *state;
    static uint32_t ranks[4] = {2, 3, 5, 900};
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), OK);
    assert_int_equal(lease_group(tiny->lease)->count, 1); // No group: alone.
    lease_free(tiny->lease);
    allow_groups(tiny);
    tiny->offer.group_ranks = ranks;
    for (uint32_t count = 2; count <= 4; count *= 2) {
        tiny->offer.n_group_ranks = count;
        tiny->offer.group_index = count - 1;
        assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), OK);
        const struct lease_group *const group = lease_group(tiny->lease);
        assert_int_equal(group->count, count);
        assert_int_equal(group->index, count - 1);
        assert_memory_equal(group->ranks, ranks, count * sizeof *ranks);
        lease_free(tiny->lease);
        tiny->lease = NULL;
    }
}

static void test_offer_to_a_wrong_group_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    static uint32_t ranks[8] = {0, 1, 2, 3, 4, 5, 6, 7}, twice[2] = {3, 3}, falling[2] = {3, 2};
    tiny->offer.group_ranks = ranks;
    tiny->offer.n_group_ranks = 2; // The spec has one chunk.
    refuses(tiny, ERR_INVALID, "gradient_chunks, which is 1");
    allow_groups(tiny);
    tiny->offer.n_group_ranks = 1;
    refuses(tiny, ERR_INVALID, "a group of 1 ranks");
    tiny->offer.n_group_ranks = 3;
    refuses(tiny, ERR_INVALID, "a group of 3 ranks");
    tiny->offer.n_group_ranks = 8;
    refuses(tiny, ERR_INVALID, "gradient_chunks, which is 4");
    tiny->offer.n_group_ranks = 2;
    tiny->offer.group_index = 2;
    refuses(tiny, ERR_INVALID, "member 2 of a group of 2");
    tiny->offer.group_index = 0;
    tiny->offer.group_ranks = twice;
    refuses(tiny, ERR_INVALID, "rank 3 after rank 3");
    tiny->offer.group_ranks = falling;
    refuses(tiny, ERR_INVALID, "rank 2 after rank 3");
}

// --- streams

static enum err take(struct tiny *tiny, Unlearn__StreamKind stream, uint32_t sequence,
                     uint32_t count, bool last, struct span raw)
{
    Unlearn__Chunk chunk = UNLEARN__CHUNK__INIT;
    chunk.lease = 11;
    chunk.stream = stream;
    chunk.sequence = sequence;
    chunk.count = count;
    chunk.last = last;
    return lease_take(tiny->lease, &chunk, raw);
}

static enum err take_parent(struct tiny *tiny)
{
    return take(tiny, UNLEARN__STREAM_KIND__STREAM_KIND_PARENT, 0, 0, true,
                span_of(tiny->parent, tiny->param_count * sizeof(float)));
}

// Records first .. first + count - 1 as chunk `sequence`.
static enum err take_records(struct tiny *tiny, uint32_t sequence, uint32_t first, uint32_t count,
                             bool last)
{
    return take(tiny, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS, sequence, count, last,
                span_of(tiny->records + first * RECORD_BYTES, count * RECORD_BYTES));
}

// Asks as often as the lease wants to; returns how often that was.
static uint32_t ask(struct tiny *tiny)
{
    Unlearn__StreamKind stream;
    uint32_t sequence, asked = 0;
    while (lease_wants(tiny->lease, &stream, &sequence)) {
        lease_asked(tiny->lease);
        asked++;
    }
    return asked;
}

static void begin_with_parent(struct tiny *tiny)
{
    lease_free(tiny->lease);
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), OK);
    assert_int_equal(ask(tiny), 1); // A small parent is one chunk: nothing past it is asked for.
}

static void begin_with_records(struct tiny *tiny)
{
    begin_with_parent(tiny);
    assert_int_equal(take_parent(tiny), OK);
    assert_int_equal(ask(tiny), LIMIT_CREDIT);
}

static void test_stream_good_trains_the_same_bits(void **state)
{
    struct tiny *const tiny = *state;
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, 4, false), OK);
    assert_int_equal(ask(tiny), 1); // Credit comes back with each chunk.
    assert_false(lease_complete(tiny->lease));
    assert_int_equal(take_records(tiny, 1, 4, 2, true), OK);
    assert_true(lease_complete(tiny->lease));
    assert_int_equal(ask(tiny), 0);
    // Answers to pulls past the end are ignored.
    assert_int_equal(take_records(tiny, 2, 0, 0, true), OK);
    assert_int_equal(lease_train(tiny->lease, NULL, NULL), OK);

    float *params = NULL;
    assert_int_equal(mem_try_aligned(tiny->param_count, sizeof *params, &params), OK);
    const struct digest expected = tiny_expected(tiny, 3, params);
    const struct span weights = lease_weights(tiny->lease, 0);
    assert_int_equal(weights.bytes, tiny->param_count * sizeof(float));
    assert_memory_equal(weights.data, params, weights.bytes);
    assert_int_equal(lease_weights(tiny->lease, 1).bytes, 0);
    const struct digest digest = lease_digest(tiny->lease);
    assert_memory_equal(digest.bytes, expected.bytes, sizeof digest.bytes);
    mem_free(params);
}

static void test_stream_may_end_with_an_empty_chunk(void **state)
{
    struct tiny *const tiny = *state;
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, RECORDS, false), OK);
    assert_false(lease_complete(tiny->lease));
    assert_int_equal(take_records(tiny, 1, 0, 0, true), OK);
    assert_true(lease_complete(tiny->lease));
}

static void test_stream_out_of_order_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 1, 0, 2, false), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "chunk 1 of the records came, expected 0"));
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, 2, false), OK);
    assert_int_equal(take_records(tiny, 0, 0, 2, false), ERR_CORRUPT); // Twice.
    begin_with_parent(tiny);
    assert_int_equal(take_records(tiny, 0, 0, 2, false), ERR_CORRUPT); // The other stream.
    assert_non_null(strstr(err_text(), "not asked for"));
    begin_with_parent(tiny);
    assert_int_equal(take_parent(tiny), OK);
    assert_int_equal(take_records(tiny, 0, 0, 2, false), ERR_CORRUPT); // Pushed, not pulled.
    assert_non_null(strstr(err_text(), "expected 0 of the 0"));
}

static void test_parent_of_wrong_length_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    const size_t bytes = tiny->param_count * sizeof(float);
    const Unlearn__StreamKind parent = UNLEARN__STREAM_KIND__STREAM_KIND_PARENT;
    begin_with_parent(tiny);
    assert_int_equal(take(tiny, parent, 0, 0, true, span_of(tiny->parent, bytes - 4)), ERR_CORRUPT);
    begin_with_parent(tiny);
    assert_int_equal(take(tiny, parent, 0, 0, false, span_of(tiny->parent, bytes)), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "of the parent's weights"));
    begin_with_parent(tiny);
    assert_int_equal(take_parent(tiny), OK);
}

static void test_records_in_wrong_number_are_refused(void **state)
{
    struct tiny *const tiny = *state;
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, 4, true), ERR_CORRUPT); // Too few.
    assert_non_null(strstr(err_text(), "has 4 of them and is the last"));
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, 0, false), ERR_CORRUPT); // Would never end.
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, 4, false), OK);
    assert_int_equal(take_records(tiny, 1, 0, 3, true), ERR_CORRUPT); // One too many.
    assert_non_null(strstr(err_text(), "expected 1 to 2"));
}

static void test_records_of_wrong_shape_are_refused(void **state)
{
    struct tiny *const tiny = *state;
    const Unlearn__StreamKind records = UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS;
    begin_with_records(tiny); // Cut within the second record.
    assert_int_equal(take(tiny, records, 0, 2, false, span_of(tiny->records, RECORD_BYTES + 9)),
                     ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "ends within record 1"));
    begin_with_records(tiny); // One record more than counted.
    assert_int_equal(take(tiny, records, 0, 1, false, span_of(tiny->records, 2 * RECORD_BYTES)),
                     ERR_CORRUPT);
    begin_with_records(tiny); // A class that the schema does not have.
    tiny->records[ID_BYTES + 4] = 2;
    assert_int_equal(take_records(tiny, 0, 0, 4, false), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "record 0 of component s3:[2,0]"));
    tiny->records[ID_BYTES + 4] = 0;
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, 4, false), OK);
}

static void test_chunk_too_large_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    begin_with_records(tiny);
    uint8_t *const large = mem_alloc(LIMIT_CHUNK_BYTES + 1, 1);
    const enum err err = take(tiny, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS, 0, 1, false,
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
    struct tiny *const tiny = *state;
    int calls = 0;
    begin_with_records(tiny);
    assert_int_equal(take_records(tiny, 0, 0, RECORDS, true), OK);
    const struct stage_watch watch = {stop_at_once, &calls};
    assert_int_equal(lease_train(tiny->lease, &watch, NULL), ERR_CANCELLED);
    assert_int_equal(calls, 1);
}

static void test_weights_travel_in_chunks(void **state)
{
    // 4 x 65,536 + ... parameters: more than one chunk, the last one shorter.
    struct tiny *const tiny = *state;
    assert_int_equal(spec_set(&tiny->spec, "hidden", "65536"), OK);
    buf_clear(&tiny->spec_text);
    spec_put(&tiny->spec, &tiny->spec_text);
    tiny->offer.spec = (ProtobufCBinaryData){tiny->spec_text.bytes, tiny->spec_text.data};
    assert_int_equal(learner_param_count(&(const struct recipe){&tiny->spec, &tiny->schema, NULL},
                                         1, &tiny->offer.param_count),
                     OK);
    uint64_t first_only[2] = {0, RECORDS};
    tiny->offer.slice_records = first_only;
    tiny->offer.has_parent = false;
    tiny->offer.passes = 1;
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->lease), OK);
    assert_int_equal(ask(tiny), LIMIT_CREDIT);
    assert_int_equal(take_records(tiny, 0, 0, RECORDS, true), OK);
    assert_int_equal(lease_train(tiny->lease, NULL, NULL), OK);
    const size_t bytes = tiny->offer.param_count * sizeof(float);
    assert_in_range(bytes, LIMIT_CHUNK_BYTES + 1, 2 * LIMIT_CHUNK_BYTES - 1);
    assert_int_equal(lease_weights(tiny->lease, 0).bytes, LIMIT_CHUNK_BYTES);
    assert_int_equal(lease_weights(tiny->lease, 1).bytes, bytes - LIMIT_CHUNK_BYTES);
    assert_int_equal(lease_weights(tiny->lease, 2).bytes, 0);
    assert_int_equal(lease_weights(tiny->lease, UINT32_MAX).bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_offer_good_is_taken, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_offer_with_unreadable_parts_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_offer_with_wrong_counts_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_offer_with_wrong_sizes_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_offer_to_a_group_is_taken, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_offer_to_a_wrong_group_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_stream_good_trains_the_same_bits, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_stream_may_end_with_an_empty_chunk, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_stream_out_of_order_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_parent_of_wrong_length_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_records_in_wrong_number_are_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_records_of_wrong_shape_are_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_chunk_too_large_is_refused, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_training_stops_when_told, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_weights_travel_in_chunks, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
