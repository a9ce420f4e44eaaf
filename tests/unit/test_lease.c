// Goal: a worker believes no lease and no stream that does not fit together.
// Method: one good offer and one good set of chunks; each test damages one thing and names the
// guard that must fire; the undamaged control trains and equals stage_train called directly.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"
#include "tests/unit/tiny_stage.h"

// --- offers

static void refuses(struct tiny *tiny, enum err code, const char *guard)
{
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), code);
    assert_null(tiny->lease);
    assert_non_null(strstr(err_text(), guard));
}

static void test_offer_good_is_taken(void **state)
{
    struct tiny *const tiny = *state;
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
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
    assert_int_not_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
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
    tiny->offer.slice_records = first_only;
    refuses(tiny, ERR_INVALID, "that names instance 90");
    tiny->offer.parent_instance = 0; // An empty parent has none: this is the good case.
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
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
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
    assert_int_equal(lease_group(tiny->lease)->count, 1); // No group: alone.
    lease_free(tiny->lease);
    allow_groups(tiny);
    tiny->offer.group_ranks = ranks;
    for (uint32_t count = 2; count <= 4; count *= 2) {
        tiny->offer.n_group_ranks = count;
        tiny->offer.group_index = count - 1;
        assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
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
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
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

// --- the cache

// Fetches all that is asked for of the good offer, and returns how many chunks that was.
static uint32_t fetch(struct tiny *tiny)
{
    Unlearn__StreamKind stream;
    uint32_t sequence, chunks = 0;
    lease_free(tiny->lease);
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
    while (!lease_complete(tiny->lease)) {
        size_t skip_bytes = 0;
        const uint8_t *const skips = lease_skips(tiny->lease, &skip_bytes);
        const bool first = skip_bytes > 0 && (skips[0] & 1) != 0;
        const bool second = skip_bytes > 0 && (skips[0] & 2) != 0;
        assert_true(lease_wants(tiny->lease, &stream, &sequence));
        lease_asked(tiny->lease);
        chunks++;
        if (stream == UNLEARN__STREAM_KIND__STREAM_KIND_PARENT) {
            assert_int_equal(take_parent(tiny), OK);
        } else { // One chunk: cells are told apart by their counts.
            assert_false(first && second);
            assert_int_equal(take_records(tiny, sequence, first ? 4 : 0,
                                          first || second ? (first ? 2 : 4) : 6, true),
                             OK);
        }
    }
    return chunks;
}

static void test_what_is_kept_is_not_fetched_and_gives_the_same_bits(void **state)
{
    struct tiny *const tiny = *state;
    float *const params = mem_alloc((size_t)tiny->param_count, sizeof *params);
    const struct digest expected = tiny_expected(tiny, 3, params);
    tiny->cache.bytes_max = 1 << 20;
    for (int turn = 0; turn < 3; turn++) {
        assert_int_equal(fetch(tiny), turn == 0 ? 2 : 0);
        assert_int_equal(lease_train(tiny->lease, NULL, NULL), OK);
        const struct digest digest = lease_digest(tiny->lease);
        assert_memory_equal(digest.bytes, expected.bytes, sizeof digest.bytes);
    }
    assert_int_equal(tiny->cache.count, 3); // Two cells and the parent.
    assert_int_equal(tiny->cache.pulled_bytes * 2, tiny->cache.found_bytes);
    assert_int_equal(tiny->cache.pulled_bytes,
                     RECORDS * RECORD_BYTES + tiny->param_count * sizeof(float));
    mem_free(params);
}

static void test_another_version_or_instance_is_fetched(void **state)
{
    struct tiny *const tiny = *state;
    uint64_t raised[2] = {versions[0], versions[1] + 1};
    tiny->cache.bytes_max = 1 << 20;
    assert_int_equal(fetch(tiny), 2);
    tiny->offer.cell_versions = raised; // A deletion hit the second cell.
    assert_int_equal(fetch(tiny), 1);
    tiny->offer.parent_instance++; // The parent was trained anew.
    assert_int_equal(fetch(tiny), 1);
    tiny->offer.model_number++;
    assert_int_equal(fetch(tiny),
                     1); // Weights are found whatever the model: an instance names them.
    tiny->offer.model_number--;
    raised[0]++;
    assert_int_equal(fetch(tiny), 1);
    raised[0]--; // It was replaced by the later one.
    assert_int_equal(fetch(tiny), 1);
    assert_int_equal(fetch(tiny), 0);
}

static void test_a_cell_of_another_size_is_never_trained_on(void **state)
{
    struct tiny *const tiny = *state;
    uint64_t fewer[2] = {4, 1};
    tiny->cache.bytes_max = 1 << 20;
    assert_int_equal(fetch(tiny), 2);
    tiny->offer.slice_records = fewer; // Under the same version: that cannot be.
    tiny->offer.records = 5;
    lease_free(tiny->lease);
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
    assert_false(lease_complete(tiny->lease));
    size_t skip_bytes = 0;
    assert_int_equal(lease_skips(tiny->lease, &skip_bytes)[0], 1);
}

static void test_a_comparison_fetches_all_and_keeps_nothing(void **state)
{
    struct tiny *const tiny = *state;
    tiny->cache.bytes_max = 1 << 20;
    assert_int_equal(fetch(tiny), 2);
    tiny->offer.compare_only = true;
    assert_int_equal(fetch(tiny), 2);
    cache_clear(&tiny->cache);
    assert_int_equal(fetch(tiny), 2);
    assert_int_equal(tiny->cache.count, 0);
}

static void test_a_result_is_kept_as_a_parent(void **state)
{
    struct tiny *const tiny = *state;
    const struct kept_name name = {.model = 6, .shard = 3, .instance = 123};
    tiny->cache.bytes_max = 1 << 20;
    fetch(tiny);
    assert_int_equal(lease_train(tiny->lease, NULL, NULL), OK);
    struct buf weights = {0};
    buf_put(&weights, lease_weights(tiny->lease, 0));
    lease_keep_result(tiny->lease, 123);
    lease_free(tiny->lease);
    tiny->lease = NULL;
    struct kept *const kept = cache_find(&tiny->cache, &name);
    assert_non_null(kept);
    assert_int_equal(kept->param_count, tiny->param_count);
    assert_memory_equal(kept->params, weights.data, weights.bytes);
    kept_release(kept);
    buf_deinit(&weights);
}

// --- bases

// A model on a base: images of 4 x 4 pixels, a base of two layers whose weights fill a chunk and a half.
struct standing {
    struct tiny *tiny;
    struct base *base;
    struct buf shape;
    uint8_t records[RECORDS * (ID_BYTES + 4 + 2 + 16)];
};

static void stand(struct standing *on, struct tiny *tiny)
{
    static char pixels[] = "pixels", label[] = "y", no[] = "no", yes[] = "yes";
    static char *classes[] = {no, yes};
    static const struct base_shape shape = {.kind = BASE_VIT,
                                            .gelu = BASE_GELU_ERF,
                                            .layers = 2,
                                            .width = 4,
                                            .heads = 2,
                                            .inner = 21000,
                                            .epsilon = 1e-6,
                                            .rows = 4,
                                            .cols = 4,
                                            .channels = 1,
                                            .patch = 2,
                                            .mean = {0.5f},
                                            .deviation = {0.5f}};
    struct column column = {
        .name = pixels, .kind = COLUMN_PIXELS, .width = 16, .rows = 4, .cols = 4};
    const struct schema schema = {.columns = &column,
                                  .column_count = 1,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = classes,
                                  .class_count = 2};
    const uint64_t count = base_at(&shape).count;
    float *weights = NULL;
    *on = (struct standing){.tiny = tiny};
    assert_int_equal(base_shape_check(&shape), OK);
    assert_in_range(count * sizeof *weights, LIMIT_CHUNK_BYTES + 1, 2 * LIMIT_CHUNK_BYTES);
    assert_int_equal(mem_try_aligned((size_t)count, sizeof *weights, &weights), OK);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] = (float)(i % 17) * 0.001f - 0.007f;
    }
    on->base = base_new(&shape, weights);
    base_shape_put(&shape, &on->shape);
    buf_clear(&tiny->schema_bytes);
    schema_deinit(&tiny->schema);
    assert_int_equal(schema_check(&schema), OK);
    schema_put(&schema, &tiny->schema_bytes);
    assert_int_equal(schema_get(buf_span(&tiny->schema_bytes), &tiny->schema), OK);
    tiny->spec = spec_default();
    assert_int_equal(spec_set(&tiny->spec, "learner", "vit"), OK);
    assert_int_equal(spec_set(&tiny->spec, "base", "small"), OK);
    assert_int_equal(spec_set(&tiny->spec, "lora.rank", "1"), OK);
    assert_int_equal(spec_set(&tiny->spec, "shards", "4"), OK);
    assert_int_equal(spec_set(&tiny->spec, "slices", "2"), OK);
    buf_clear(&tiny->spec_text);
    spec_put(&tiny->spec, &tiny->spec_text);
    static char component[] = "s3:[1]";
    static uint64_t records[1] = {RECORDS}, cell_versions[1] = {0};
    Unlearn__Lease *const offer = &tiny->offer;
    offer->component = component;
    offer->spec = wire_bytes(buf_span(&tiny->spec_text));
    offer->schema = wire_bytes(buf_span(&tiny->schema_bytes));
    offer->passes = 1;
    offer->has_parent = false;
    offer->parent_instance = 0;
    offer->n_slice_records = offer->n_cell_versions = 1;
    offer->slice_records = records;
    offer->cell_versions = cell_versions;
    offer->base_shape = wire_bytes(buf_span(&on->shape));
    offer->base_digest = wire_bytes(span_of(on->base->digest.bytes, DIGEST_BYTES));
    offer->base_weight_count = count;
    assert_int_equal(
        learner_param_count(&(const struct recipe){&tiny->spec, &tiny->schema, on->base}, 1,
                            &offer->param_count),
        OK);
    uint8_t *at = on->records;
    for (uint32_t i = 0; i < RECORDS; i++) {
        const uint8_t head[ID_BYTES + 4 + 2] = {(uint8_t)(40 - i), [ID_BYTES] = 18,
                                                [ID_BYTES + 4] = (uint8_t)(i % 2)};
        memcpy(at, head, sizeof head);
        memset(at + sizeof head, (int)(40 * i), 16);
        at += sizeof head + 16;
    }
    tiny->bases.bytes_max = UINT64_MAX;
}

static void stand_down(struct standing *on)
{
    lease_free(on->tiny->lease);
    on->tiny->lease = NULL;
    bases_deinit(&on->tiny->bases);
    assert_int_equal(on->base->references, 1);
    base_release(on->base);
    buf_deinit(&on->shape);
}

static enum err take_base(struct standing *on, uint32_t sequence)
{
    const size_t bytes = (size_t)on->base->weight_count * sizeof(float);
    const size_t from = (size_t)sequence * LIMIT_CHUNK_BYTES;
    const size_t left = bytes - from;
    return take(on->tiny, UNLEARN__STREAM_KIND__STREAM_KIND_BASE, sequence, 0,
                left <= LIMIT_CHUNK_BYTES,
                span_of((const uint8_t *)on->base->weights + from,
                        left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES));
}

static enum err take_images(struct standing *on)
{
    return take(on->tiny, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS, 0, RECORDS, true,
                span_of(on->records, sizeof on->records));
}

static void begin_with_base(struct standing *on)
{
    lease_free(on->tiny->lease);
    assert_int_equal(
        lease_begin(&on->tiny->offer, &on->tiny->bases, &on->tiny->cache, &on->tiny->lease), OK);
    assert_int_equal(ask(on->tiny), 2); // Nothing past its end.
}

// What the lease must come to, without a worker.
static struct digest trained_by_hand(const struct standing *on)
{
    const struct tiny *const tiny = on->tiny;
    struct span rows[RECORDS];
    struct id128 rids[RECORDS];
    float *params = NULL;
    for (size_t i = 0; i < RECORDS; i++) {
        const uint8_t *const at = on->records + i * (ID_BYTES + 4 + 18);
        memcpy(rids[i].bytes, at, ID_BYTES);
        rows[i] = span_of(at + ID_BYTES + 4, 18);
    }
    static const uint16_t list[] = {1};
    static const uint64_t counts[] = {RECORDS};
    const struct stage stage = {{&tiny->spec, &tiny->schema, on->base}, 3, list, 1, 1};
    const struct stage_data data = {rows, rids, counts, RECORDS};
    assert_int_equal(mem_try_aligned((size_t)tiny->offer.param_count, sizeof *params, &params), OK);
    assert_int_equal(stage_train(&stage, &data, NULL, NULL, params), OK);
    const struct digest spec = spec_digest(&tiny->spec), schema = schema_digest(&tiny->schema);
    const struct digest digest =
        component_digest("s3:[1]", &spec, &schema, on->base, params, tiny->offer.param_count);
    mem_free(params);
    return digest;
}

static void test_a_base_is_fetched_once(void **state)
{
    struct standing on;
    stand(&on, *state);
    const struct digest expected = trained_by_hand(&on);
    for (int turn = 0; turn < 2; turn++) {
        lease_free(on.tiny->lease);
        assert_int_equal(
            lease_begin(&on.tiny->offer, &on.tiny->bases, &on.tiny->cache, &on.tiny->lease), OK);
        if (turn == 0) { // The second finds it kept.
            assert_int_equal(ask(on.tiny), 2);
            assert_int_equal(take_base(&on, 0), OK);
            assert_int_equal(take_base(&on, 1), OK);
        }
        assert_int_equal(ask(on.tiny), LIMIT_CREDIT); // Of records.
        assert_int_equal(take_images(&on), OK);
        assert_true(lease_complete(on.tiny->lease));
        assert_int_equal(lease_train(on.tiny->lease, NULL, NULL), OK);
        const struct digest digest = lease_digest(on.tiny->lease);
        assert_memory_equal(digest.bytes, expected.bytes, sizeof digest.bytes);
        assert_int_equal(on.tiny->bases.count, 1);
    }
    stand_down(&on);
}

static void test_base_parent_and_records_come_in_this_order(void **state)
{
    struct standing on;
    stand(&on, *state);
    struct tiny *const tiny = on.tiny;
    static char component[] = "s3:[1,0]";
    static uint64_t records[2] = {RECORDS - 1, 1}, cell_versions[2] = {0, 0};
    const struct recipe recipe = {&tiny->spec, &tiny->schema, on.base};
    uint64_t parent_count = 0;
    Unlearn__StreamKind stream;
    uint32_t sequence;
    tiny->offer.component = component;
    tiny->offer.n_slice_records = tiny->offer.n_cell_versions = 2;
    tiny->offer.slice_records = records;
    tiny->offer.cell_versions = cell_versions;
    tiny->offer.has_parent = true;
    on.tiny->offer.parent_instance = 90;
    assert_int_equal(learner_param_count(&recipe, 1, &parent_count), OK);
    assert_int_equal(learner_param_count(&recipe, 2, &tiny->offer.param_count), OK);
    assert_true(tiny->offer.param_count > parent_count); // A block of adapters more.
    float *const parent = mem_alloc((size_t)parent_count, sizeof *parent);
    for (int turn = 0; turn < 2; turn++) { // The second time the base is kept.
        lease_free(tiny->lease);
        assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
        if (turn == 0) {
            assert_true(lease_wants(tiny->lease, &stream, &sequence));
            assert_int_equal(stream, UNLEARN__STREAM_KIND__STREAM_KIND_BASE);
            assert_int_equal(ask(tiny), 2);
            assert_int_equal(take_base(&on, 0), OK);
            assert_int_equal(take_base(&on, 1), OK);
        }
        assert_true(lease_wants(tiny->lease, &stream, &sequence));
        assert_int_equal(stream, UNLEARN__STREAM_KIND__STREAM_KIND_PARENT);
        assert_int_equal(ask(tiny), 1);
        assert_int_equal(
            take(tiny, stream, 0, 0, true, span_of(parent, (size_t)parent_count * sizeof *parent)),
            OK);
        assert_true(lease_wants(tiny->lease, &stream, &sequence));
        assert_int_equal(stream, UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS);
        assert_int_equal(ask(tiny), LIMIT_CREDIT);
        assert_int_equal(take_images(&on), OK);
        assert_true(lease_complete(tiny->lease));
    }
    mem_free(parent);
    stand_down(&on);
}

static void test_a_base_that_does_not_fit_is_refused(void **state)
{
    struct standing on;
    stand(&on, *state);
    const Unlearn__Lease good = on.tiny->offer;
    on.tiny->offer.base_shape.len--;
    refuses(on.tiny, ERR_INVALID, "the base of a lease");
    on.tiny->offer = good;
    on.tiny->offer.base_digest.len--;
    refuses(on.tiny, ERR_INVALID, "the digest of a lease's base");
    on.tiny->offer = good;
    on.tiny->offer.base_weight_count++;
    refuses(on.tiny, ERR_INVALID, "its shape has");
    on.tiny->offer = good;
    on.tiny->offer.base_shape.len = 0;
    refuses(on.tiny, ERR_INVALID, "without a base, though its spec names one");
    on.tiny->offer = good;
    begin_with_base(&on); // control
    stand_down(&on);
}

static void test_a_base_for_who_stands_on_none_is_refused(void **state)
{
    struct tiny *const tiny = *state;
    static uint8_t shape[] = "kind=vit\n";
    tiny->offer.base_shape = (ProtobufCBinaryData){sizeof shape - 1, shape};
    refuses(tiny, ERR_INVALID, "with a base, though its spec names none");
}

static void test_weights_of_another_base_are_refused(void **state)
{
    struct standing on;
    stand(&on, *state);
    float *const last = &on.base->weights[on.base->weight_count - 1];
    const float was = *last;
    begin_with_base(&on);
    assert_int_equal(take_base(&on, 0), OK);
    *last += 1;
    assert_int_equal(take_base(&on, 1), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "do not have the digest"));
    assert_int_equal(on.tiny->bases.count, 0); // Nobody will find it.
    *last = was;
    begin_with_base(&on);
    assert_int_equal(take_base(&on, 1), ERR_CORRUPT); // Out of turn.
    assert_non_null(strstr(err_text(), "chunk 1 of the base's weights came, expected 0"));
    begin_with_base(&on);
    assert_int_equal(take(on.tiny, UNLEARN__STREAM_KIND__STREAM_KIND_BASE, 0, 0, true,
                          span_of(on.base->weights, LIMIT_CHUNK_BYTES)),
                     ERR_CORRUPT); // Too short, as if it were the last.
    begin_with_base(&on);
    assert_int_equal(take_images(&on), ERR_CORRUPT); // Another stream.
    assert_non_null(strstr(err_text(), "not asked for"));
    begin_with_base(&on); // control
    assert_int_equal(take_base(&on, 0), OK);
    assert_int_equal(take_base(&on, 1), OK);
    assert_int_equal(on.tiny->bases.count, 1);
    stand_down(&on);
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
    tiny->offer.parent_instance = 0;
    tiny->offer.passes = 1;
    assert_int_equal(lease_begin(&tiny->offer, &tiny->bases, &tiny->cache, &tiny->lease), OK);
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
        cmocka_unit_test_setup_teardown(test_what_is_kept_is_not_fetched_and_gives_the_same_bits,
                                        tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_another_version_or_instance_is_fetched, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_a_cell_of_another_size_is_never_trained_on, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_a_comparison_fetches_all_and_keeps_nothing, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_a_result_is_kept_as_a_parent, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_a_base_is_fetched_once, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_base_parent_and_records_come_in_this_order, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_a_base_that_does_not_fit_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_a_base_for_who_stands_on_none_is_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_weights_of_another_base_are_refused, tiny_setup,
                                        tiny_teardown),
        cmocka_unit_test_setup_teardown(test_chunk_too_large_is_refused, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_training_stops_when_told, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_weights_travel_in_chunks, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
