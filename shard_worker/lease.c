// shard_worker/lease.c: see lease.h.
#include "shard_worker/lease.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/component.h"
#include "base/limits.h"
#include "base/mem.h"
#include "model/schema.h"
#include "model/spec.h"
#include "proto/wire.h"
#include "shard_worker/inputs.h"

_Static_assert(BYTE_ORDER == LITTLE_ENDIAN && sizeof(float) == 4, "weights are sent as they lie");

struct lease {
    uint64_t number;
    uint8_t stream_key[SEAL_KEY_BYTES];
    char model[LIMIT_NAME_BYTES + 1];
    char name[COMPONENT_TEXT_BYTES];
    struct component component;
    struct spec spec;
    struct schema schema;
    uint32_t passes;
    uint64_t param_count, parent_count; // Of the component, of its parent.
    uint64_t records;
    bool compare_only;
    struct bases *bases; // Kept between stages. Borrowed.
    struct base *base;   // Held; NULL: the spec names none, or it is not there yet.
    bool has_base;
    struct base awaited; // Its shape, digest and size; has no weights.
    struct lease_group group;

    Unlearn__StreamKind stream; // Being fetched; UNSPECIFIED: all is there.
    uint32_t asked, taken;      // Chunks of that stream.
    float *base_weights;        // While the base is fetched.
    size_t weights_taken;       // Bytes received so far of base or parent.

    struct inputs inputs;

    float *params;
    bool trained;
    struct digest digest;
};

static size_t params_bytes(const struct lease *lease)
{
    return (size_t)lease->param_count * sizeof(float);
}

// To count parameters the shape of the base is enough.
static struct recipe recipe_of(const struct lease *lease)
{
    return (struct recipe){&lease->spec, &lease->schema,
                           lease->base != NULL ? lease->base
                           : lease->has_base   ? &lease->awaited
                                               : NULL};
}

static const char *stream_name(Unlearn__StreamKind stream)
{
    return stream == UNLEARN__STREAM_KIND__STREAM_KIND_BASE     ? "base's weights"
           : stream == UNLEARN__STREAM_KIND__STREAM_KIND_PARENT ? "parent's weights"
                                                                : "records";
}

// Where weights that are being fetched go, and how many there are; NULL while records are.
static float *fetched(const struct lease *lease, size_t *bytes_out)
{
    const bool base = lease->stream == UNLEARN__STREAM_KIND__STREAM_KIND_BASE;
    const bool parent = lease->stream == UNLEARN__STREAM_KIND__STREAM_KIND_PARENT;
    *bytes_out = (size_t)(base     ? lease->awaited.weight_count
                          : parent ? lease->parent_count
                                   : 0) *
                 sizeof(float);
    return base ? lease->base_weights : parent ? lease->inputs.parent->params : NULL;
}

static size_t chunks_of(size_t bytes)
{
    return (bytes + LIMIT_CHUNK_BYTES - 1) / LIMIT_CHUNK_BYTES;
}

// The one place where what a stage is trained on is given back.
static void free_inputs(struct lease *lease)
{
    inputs_free(&lease->inputs);
    mem_free(lease->base_weights);
    lease->base_weights = NULL;
}

void lease_free(struct lease *lease)
{
    if (lease != NULL) {
        free_inputs(lease);
        mem_free(lease->params);
        schema_deinit(&lease->schema);
        base_release(lease->base);
        mem_free(lease);
    }
}

static enum err read_component(const Unlearn__Lease *offer, struct lease *lease)
{
    TRY_AS(component_get(offer->component, &lease->component), "the component of a lease");
    component_put(&lease->component, lease->name);
    if (lease->component.shard >= lease->spec.shards) {
        FAIL(ERR_INVALID, "component %s of a model with %u shards", lease->name,
             lease->spec.shards);
    }
    return OK;
}

static enum err read_records(const Unlearn__Lease *offer, struct lease *lease)
{
    const size_t slices = lease->component.count;
    if (offer->n_slice_records != slices || offer->n_cell_versions != slices) {
        FAIL(ERR_INVALID,
             "a lease of component %s with %zu numbers of records and %zu cell versions, expected "
             "%zu of each",
             lease->name, offer->n_slice_records, offer->n_cell_versions, slices);
    }
    uint64_t sum = 0;
    uint64_t earlier = 0; // Records that the parent has seen.
    for (size_t i = 0; i < slices; i++) {
        if (offer->slice_records[i] > LIMIT_STAGE_RECORDS) {
            FAIL(ERR_LIMIT, "a slice of %llu records, expected at most %d",
                 (unsigned long long)offer->slice_records[i], (int)LIMIT_STAGE_RECORDS);
        }
        earlier = sum;
        sum += offer->slice_records[i];
    }
    if (sum != offer->records) {
        FAIL(ERR_INVALID, "a lease of %llu records whose slices hold %llu",
             (unsigned long long)offer->records, (unsigned long long)sum);
    }
    if (sum == 0) {
        FAIL(ERR_INVALID,
             "a lease of component %s without records: an empty component is not "
             "trained",
             lease->name);
    }
    if (sum > LIMIT_STAGE_RECORDS) {
        FAIL(ERR_LIMIT, "a lease of %llu records, expected at most %d", (unsigned long long)sum,
             (int)LIMIT_STAGE_RECORDS);
    }
    // A parent that has seen records has weights, and to start without them would give other bits.
    if (offer->has_parent != (earlier > 0)) {
        FAIL(ERR_INVALID,
             "a lease of component %s %s its parent's weights, though its parent has "
             "seen %llu records",
             lease->name, offer->has_parent ? "with" : "without", (unsigned long long)earlier);
    }
    if (offer->has_parent != (offer->parent_instance != 0)) {
        FAIL(ERR_INVALID,
             "a lease of component %s %s its parent's weights that names instance %llu",
             lease->name, offer->has_parent ? "with" : "without",
             (unsigned long long)offer->parent_instance);
    }
    lease->records = sum;
    return OK;
}

static enum err read_group(const Unlearn__Lease *offer, struct lease *lease)
{
    const size_t count = offer->n_group_ranks;
    lease->group.count = 1;
    if (count == 0) {
        return OK;
    }
    // Chunks are shared out evenly, so that the tree over them stays the one of a single rank.
    if (count < 2 || (count & (count - 1)) != 0 || count > lease->spec.gradient_chunks) {
        FAIL(ERR_INVALID,
             "a lease for a group of %zu ranks, expected a power of two from 2 to the spec's "
             "gradient_chunks, which is %u",
             count, lease->spec.gradient_chunks);
    }
    if (offer->group_index >= count) {
        FAIL(ERR_INVALID, "a lease for member %u of a group of %zu", offer->group_index, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && offer->group_ranks[i] <= offer->group_ranks[i - 1]) {
            FAIL(ERR_INVALID, "a lease for a group with rank %u after rank %u, expected ascending",
                 offer->group_ranks[i], offer->group_ranks[i - 1]);
        }
        lease->group.ranks[i] = offer->group_ranks[i];
    }
    lease->group.count = (uint32_t)count;
    lease->group.index = offer->group_index;
    return OK;
}

static enum err read_base(const Unlearn__Lease *offer, struct lease *lease)
{
    lease->has_base = offer->base_shape.len > 0;
    if (lease->has_base != spec_has_base(&lease->spec)) {
        FAIL(ERR_INVALID, "a lease %s a base, though its spec names %s",
             lease->has_base ? "with" : "without", lease->has_base ? "none" : "one");
    }
    if (!lease->has_base) {
        return OK;
    }
    TRY_AS(base_shape_get(wire_span(offer->base_shape), &lease->awaited.shape),
           "the base of a lease");
    TRY(wire_copy(offer->base_digest, lease->awaited.digest.bytes, DIGEST_BYTES,
                  "the digest of a lease's base"));
    lease->awaited.weight_count = base_at(&lease->awaited.shape).count;
    if (offer->base_weight_count != lease->awaited.weight_count) {
        FAIL(ERR_INVALID, "a lease with a base of %llu weights, its shape has %llu",
             (unsigned long long)offer->base_weight_count,
             (unsigned long long)lease->awaited.weight_count);
    }
    return OK;
}

// What is fetched after a stream, UNSPECIFIED: first of all. The base, the parent, the records, each where
// there is one and it is not here.
static Unlearn__StreamKind stream_after(const struct lease *lease, Unlearn__StreamKind ended)
{
    const bool first = ended == UNLEARN__STREAM_KIND__STREAM_KIND_UNSPECIFIED;
    if (first && lease->has_base && lease->base == NULL) {
        return UNLEARN__STREAM_KIND__STREAM_KIND_BASE;
    }
    if ((first || ended == UNLEARN__STREAM_KIND__STREAM_KIND_BASE) &&
        lease->inputs.parent != NULL && !lease->inputs.parent_found) {
        return UNLEARN__STREAM_KIND__STREAM_KIND_PARENT;
    }
    return ended != UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS && lease->inputs.records_wanted > 0
               ? UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS
               : UNLEARN__STREAM_KIND__STREAM_KIND_UNSPECIFIED;
}

static enum err begin_fetching(struct lease *lease)
{
    if (lease->has_base) {
        lease->base = bases_find(lease->bases, &lease->awaited.digest);
    }
    lease->stream = stream_after(lease, UNLEARN__STREAM_KIND__STREAM_KIND_UNSPECIFIED);
    if (lease->stream == UNLEARN__STREAM_KIND__STREAM_KIND_BASE) {
        return mem_try_aligned((size_t)lease->awaited.weight_count, sizeof(float),
                               &lease->base_weights);
    }
    return OK;
}

static enum err read_offer(const Unlearn__Lease *offer, struct lease *lease)
{
    lease->number = offer->lease;
    TRY(wire_copy(offer->stream_key, lease->stream_key, SEAL_KEY_BYTES, "the key of a lease"));
    if (strlen(offer->model) > LIMIT_NAME_BYTES) {
        FAIL(ERR_INVALID, "a lease with a model name of %zu bytes, expected at most %d",
             strlen(offer->model), (int)LIMIT_NAME_BYTES);
    }
    snprintf(lease->model, sizeof lease->model, "%s", offer->model);
    lease->compare_only = offer->compare_only;
    TRY_AS(spec_get(span_of(offer->spec.data, offer->spec.len), &lease->spec),
           "the spec of a lease");
    TRY_AS(schema_get(span_of(offer->schema.data, offer->schema.len), &lease->schema),
           "the schema of a lease");
    TRY(read_base(offer, lease));
    TRY(read_component(offer, lease));
    TRY(read_records(offer, lease));
    TRY(read_group(offer, lease));
    if (offer->passes < 1 || offer->passes > LIMIT_EPOCHS) {
        FAIL(ERR_INVALID, "a lease with %u passes, expected 1 to %d", offer->passes,
             (int)LIMIT_EPOCHS);
    }
    lease->passes = offer->passes;
    const struct recipe recipe = recipe_of(lease);
    TRY(learner_param_count(&recipe, lease->component.count, &lease->param_count));
    if (lease->param_count != offer->param_count) {
        FAIL(ERR_INVALID, "a lease of %llu parameters, but its spec and schema make %llu",
             (unsigned long long)offer->param_count, (unsigned long long)lease->param_count);
    }
    if (offer->has_parent) {
        CHECK(lease->component.count > 1); // Slices before the last one have records.
        TRY(learner_param_count(&recipe, lease->component.count - 1u, &lease->parent_count));
    }
    TRY(inputs_find(offer, &lease->component, lease->parent_count, &lease->inputs));
    return begin_fetching(lease);
}

enum err lease_begin(const Unlearn__Lease *offer, struct bases *bases, struct cache *cache,
                     struct lease **lease_out)
{
    struct lease *lease = mem_alloc(1, sizeof *lease);
    lease->bases = bases;
    lease->inputs.cache = offer->compare_only ? NULL : cache;
    const enum err err = read_offer(offer, lease);
    if (err != OK) {
        lease_free(lease);
        lease = NULL;
    }
    *lease_out = lease;
    return err;
}

uint64_t lease_number(const struct lease *lease)
{
    return lease->number;
}

const uint8_t *lease_stream_key(const struct lease *lease)
{
    return lease->stream_key;
}

bool lease_compare_only(const struct lease *lease)
{
    return lease->compare_only;
}

const char *lease_model(const struct lease *lease)
{
    return lease->model;
}

const char *lease_component(const struct lease *lease)
{
    return lease->name;
}

uint64_t lease_records(const struct lease *lease)
{
    return lease->records;
}

uint64_t lease_samples(const struct lease *lease)
{
    return lease->records * lease->passes;
}

const struct lease_group *lease_group(const struct lease *lease)
{
    return &lease->group;
}

bool lease_wants(const struct lease *lease, Unlearn__StreamKind *stream_out, uint32_t *sequence_out)
{
    size_t bytes;
    // Chunks of weights are full but for the last, so their number is known.
    const bool all_asked = fetched(lease, &bytes) != NULL && lease->asked >= chunks_of(bytes);
    if (lease_complete(lease) || all_asked || lease->asked - lease->taken >= LIMIT_CREDIT) {
        return false;
    }
    *stream_out = lease->stream;
    *sequence_out = lease->asked;
    return true;
}

void lease_asked(struct lease *lease)
{
    lease->asked++;
}

const uint8_t *lease_skips(const struct lease *lease, size_t *bytes_out)
{
    *bytes_out = (lease->component.count + 7u) / 8;
    while (*bytes_out > 0 && lease->inputs.skips[*bytes_out - 1] == 0) {
        (*bytes_out)--;
    }
    return lease->inputs.skips;
}

static enum err take_weights(struct lease *lease, const Unlearn__Chunk *chunk, struct span raw)
{
    size_t bytes;
    float *const weights = fetched(lease, &bytes);
    const size_t left = bytes - lease->weights_taken;
    const size_t expected = left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES;
    if (raw.bytes != expected || chunk->last != (left == expected)) {
        FAIL(ERR_CORRUPT,
             "chunk %u of the %s has %zu bytes%s, expected %zu of the %zu that are left",
             chunk->sequence, stream_name(lease->stream), raw.bytes,
             chunk->last ? " and is the last" : "", expected, left);
    }
    memcpy((uint8_t *)weights + lease->weights_taken, raw.data, raw.bytes);
    lease->weights_taken += raw.bytes;
    return OK;
}

// The last chunk of the base has come: what has its digest is it.
static enum err finish_base(struct lease *lease)
{
    lease->base = base_new(&lease->awaited.shape, lease->base_weights);
    lease->base_weights = NULL;
    if (memcmp(&lease->base->digest, &lease->awaited.digest, sizeof lease->awaited.digest) != 0) {
        FAIL(ERR_CORRUPT, "the base's weights do not have the digest that the lease named");
    }
    bases_keep(lease->bases, lease->base);
    return OK;
}

// The last chunk of a stream has come.
static enum err next_stream(struct lease *lease)
{
    const Unlearn__StreamKind ended = lease->stream;
    lease->asked = 0;
    lease->taken = 0;
    lease->weights_taken = 0;
    if (ended == UNLEARN__STREAM_KIND__STREAM_KIND_BASE) {
        TRY(finish_base(lease));
    } else if (ended == UNLEARN__STREAM_KIND__STREAM_KIND_PARENT) {
        inputs_whole(&lease->inputs, lease->inputs.parent);
    }
    lease->stream = stream_after(lease, ended);
    return OK;
}

static enum err check_records(const struct lease *lease, uint32_t count, struct span raw)
{
    struct cursor cursor = cursor_of(raw);
    for (uint32_t i = 0; i < count; i++) {
        struct id128 rid;
        const struct span row = inputs_next_record(&cursor, &rid);
        if (cursor.bad) {
            FAIL(ERR_CORRUPT, "a chunk of %u records ends within record %u", count, i);
        }
        // The rules of a row are a caller's error elsewhere; here they say that bytes got damaged.
        if (schema_check_row(&lease->schema, row) != OK) {
            return err_context(ERR_CORRUPT, "record %llu of component %s",
                               (unsigned long long)lease->inputs.records_taken + i, lease->name);
        }
    }
    return cursor_done(&cursor, "a chunk of records");
}

static enum err take_records(struct lease *lease, const Unlearn__Chunk *chunk, struct span raw)
{
    const uint64_t left = lease->inputs.records_wanted - lease->inputs.records_taken;
    // A sender that reads ahead knows the last chunk; one that does not ends with an empty one.
    const bool good = chunk->count <= left && (!chunk->last || chunk->count == left) &&
                      (chunk->count > 0 || chunk->last);
    if (!good) {
        FAIL(ERR_CORRUPT,
             "chunk %u of the records has %u of them%s, expected 1 to %llu and the last one to "
             "bring all that are left",
             chunk->sequence, chunk->count, chunk->last ? " and is the last" : "",
             (unsigned long long)left);
    }
    TRY(check_records(lease, chunk->count, raw));
    return inputs_fill(&lease->inputs, chunk->count, raw);
}

enum err lease_take(struct lease *lease, const Unlearn__Chunk *chunk, struct span raw)
{
    const char *const what = stream_name(chunk->stream);
    if (lease_complete(lease)) {
        return OK; // The answer to a pull past the end of the records.
    }
    if (chunk->stream != lease->stream) {
        FAIL(ERR_CORRUPT, "a chunk of the %s came, which was not asked for", what);
    }
    if (chunk->sequence != lease->taken || lease->taken >= lease->asked) {
        FAIL(ERR_CORRUPT, "chunk %u of the %s came, expected %u of the %u that were asked for",
             chunk->sequence, what, lease->taken, lease->asked);
    }
    if (raw.bytes > LIMIT_CHUNK_BYTES) {
        FAIL(ERR_CORRUPT, "a chunk of %zu bytes, expected at most %d", raw.bytes,
             (int)LIMIT_CHUNK_BYTES);
    }
    TRY(lease->stream == UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS
            ? take_records(lease, chunk, raw)
            : take_weights(lease, chunk, raw));
    lease->taken++;
    return chunk->last ? next_stream(lease) : OK;
}

bool lease_complete(const struct lease *lease)
{
    return lease->stream == UNLEARN__STREAM_KIND__STREAM_KIND_UNSPECIFIED;
}

static enum err train(struct lease *lease, struct span *rows, struct id128 *rids,
                      const struct stage_watch *watch, const struct stage_peers *peers)
{
    inputs_index(&lease->inputs, rows, rids);
    const struct stage stage = {
        .recipe = recipe_of(lease),
        .shard = lease->component.shard,
        .list = lease->component.list,
        .list_count = lease->component.count,
        .passes = lease->passes,
    };
    const struct stage_data data = {rows, rids, lease->inputs.slice_records, lease->records};
    const struct kept *const kept = lease->inputs.parent;
    const float *const parent = kept == NULL ? NULL : kept->params;
    TRY(stage_train_shared(&stage, &data, parent, watch, peers, lease->params));
    const struct digest spec = spec_digest(&lease->spec);
    const struct digest schema = schema_digest(&lease->schema);
    lease->digest = component_digest(lease->name, &spec, &schema, lease->base, lease->params,
                                     lease->param_count);
    lease->trained = true;
    return OK;
}

enum err lease_train(struct lease *lease, const struct stage_watch *watch,
                     const struct stage_peers *peers)
{
    CHECK(lease_complete(lease) && !lease->trained && lease->params == NULL);
    CHECK((peers == NULL) == (lease->group.count == 1));
    struct span *rows = NULL;
    struct id128 *rids = NULL;
    enum err err = mem_try_aligned((size_t)lease->records, sizeof *rows, &rows);
    err = err != OK ? err : mem_try_aligned((size_t)lease->records, sizeof *rids, &rids);
    err = err != OK ? err
                    : mem_try_aligned((size_t)lease->param_count, sizeof(float), &lease->params);
    err = err != OK ? err : train(lease, rows, rids, watch, peers);
    mem_free(rows);
    mem_free(rids);
    free_inputs(lease);
    return err;
}

struct digest lease_digest(const struct lease *lease)
{
    CHECK(lease->trained);
    return lease->digest;
}

struct span lease_weights(const struct lease *lease, uint32_t sequence)
{
    CHECK(lease->trained);
    const size_t at = (size_t)sequence * LIMIT_CHUNK_BYTES;
    const size_t bytes = params_bytes(lease);
    if (at >= bytes) {
        return span_of(NULL, 0);
    }
    const size_t left = bytes - at;
    return span_of((const uint8_t *)lease->params + at,
                   left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES);
}

void lease_keep_result(struct lease *lease, uint64_t instance)
{
    CHECK(lease->trained && lease->params != NULL);
    inputs_keep_result(&lease->inputs, instance, lease->params, lease->param_count);
    lease->params = NULL;
}

const struct inputs *lease_inputs(const struct lease *lease)
{
    return &lease->inputs;
}
