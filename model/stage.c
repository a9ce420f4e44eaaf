// model/stage.c: the loop that trains one stage, whatever the learner: passes, order, batches,
// gradient chunks, steps. See learner.h for what decides bits and stage.h for the learner's part.
//
// Rows are copied into one aligned block before any product, and a product's shape depends on the
// batch's rows n and the spec's C alone, so neither addresses nor who computes which chunk reach
// the bits. sum_chunks is one subtree of the tree over chunk indices: the members of a group each
// compute an aligned subtree of a batch and add them up the same tree (sum_batch).
#include "model/stage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/optim.h"

enum {
    DEPTH_MAX = 6, // log2 of LIMIT_GRADIENT_CHUNKS.
};
_Static_assert(1 << DEPTH_MAX == LIMIT_GRADIENT_CHUNKS, "a buffer for each level of the tree");

uint64_t stage_expanded_bytes_max = (uint64_t)1 << 30;

void stage_put_name(const struct stage *stage, struct buf *out)
{
    buf_u64(out, stage->spec->seed);
    buf_u32(out, stage->shard);
    CHECK(stage->list_count <= UINT16_MAX);
    buf_u16(out, (uint16_t)stage->list_count);
    for (uint32_t i = 0; i < stage->list_count; i++) {
        buf_u16(out, stage->list[i]);
    }
}

struct rng_key stage_key(const struct stage *stage, const char *domain, uint32_t number)
{
    struct buf name = {0};
    stage_put_name(stage, &name);
    buf_u32(&name, number);
    const struct rng_key key = rng_key_of(domain, buf_span(&name));
    buf_deinit(&name);
    return key;
}

// A row's place in a pass.
struct place {
    uint64_t draw;
    const struct id128 *rid;
    uint64_t index; // In the stage's data.
};

struct run {
    const struct learner *learner;
    const struct stage *stage;
    const struct stage_data *data;
    const struct stage_peers *peers; // NULL: alone.
    const float *constants;
    float *weights;
    uint32_t input_width;
    uint64_t weight_count;

    void *work; // The learner's.
    struct optim *optim;
    struct place *order;  // [data->count] of the current pass. Owned.
    float *all_x, *all_y; // [data->count] expanded rows, or NULL. Owned.
    float *x, *y;         // [rows_max] of one chunk. Owned.
    struct id128 *rids;   // [rows_max] of one chunk. Owned.
    float
        *sum[DEPTH_MAX + 1]; // [weight_count] gradient sums, one for each level. Owned. With peers
                             // sum[1] also takes what a partner sends.
};

// --- One chunk and the tree ---

static void gather(struct run *run, const struct place *places, uint32_t count)
{
    const size_t width = run->input_width;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t index = places[i].index;
        float *const x = run->x + i * width;
        if (run->all_x != NULL) {
            memcpy(x, run->all_x + index * width, width * sizeof *x);
            run->y[i] = run->all_y[index];
        } else {
            schema_expand(run->stage->schema, run->constants, run->data->rows[index], x,
                          &run->y[i]);
        }
        run->rids[i] = *places[i].rid;
    }
}

// out[i] += more[i], in blocks of fixed size so that compilers vectorise it.
static void add(float *restrict out, const float *restrict more, uint64_t count)
{
    enum { BLOCK = 16 };
    const uint64_t whole = count - count % BLOCK;
    for (uint64_t i = 0; i < whole; i += BLOCK) {
        for (int j = 0; j < BLOCK; j++) {
            out[i + (uint64_t)j] += more[i + (uint64_t)j];
        }
    }
    for (uint64_t i = whole; i < count; i++) {
        out[i] += more[i];
    }
}

struct batch {
    const struct place *places;
    uint32_t count; // n
    uint32_t pass;
};

// Writes the sum of the chunks [from, to) of a batch to run->sum[level]; false when all are empty
// and nothing was written. to - from is a power of two.
static bool sum_chunks(struct run *run, const struct batch *batch, uint32_t from, uint32_t to,
                       uint32_t level)
{
    CHECK(level <= DEPTH_MAX);
    float *const out = run->sum[level];
    if (to - from == 1) {
        const uint64_t n = batch->count, chunks = run->stage->spec->gradient_chunks;
        const uint64_t first = from * n / chunks, end = to * n / chunks;
        if (first == end) {
            return false;
        }
        const uint32_t count = (uint32_t)(end - first);
        gather(run, batch->places + first, count);
        const struct stage_rows rows = {run->x, run->y, run->rids, count, batch->pass};
        run->learner->gradient(run->work, run->weights, &rows, out, NULL);
        return true;
    }
    const uint32_t middle = from + (to - from) / 2;
    const bool left = sum_chunks(run, batch, from, middle, level);
    // Without a left part the right one is the sum: it goes straight to this level.
    const bool right = sum_chunks(run, batch, middle, to, left ? level + 1 : level);
    if (left && right) {
        add(out, run->sum[level + 1], run->weight_count);
    }
    return left || right;
}

// Whether a subtree of chunks holds no row: known to each member without asking.
static bool is_empty(const struct run *run, const struct batch *batch, uint32_t from, uint32_t to)
{
    const uint64_t n = batch->count, chunks = run->stage->spec->gradient_chunks;
    return from * n / chunks == to * n / chunks;
}

// Adds up the subtrees [left, middle) and [middle, right), of which this member holds one in sum[0]
// and its partner the other; both then hold their parent.
static enum err join_subtrees(struct run *run, const struct batch *batch, uint32_t left,
                              uint32_t middle, uint32_t right, bool hold_left, uint32_t partner)
{
    const bool left_empty = is_empty(run, batch, left, middle);
    const bool right_empty = is_empty(run, batch, middle, right);
    const bool mine = hold_left ? !left_empty : !right_empty;
    const bool theirs = hold_left ? !right_empty : !left_empty;
    if (!mine && !theirs) {
        return OK;
    }
    TRY(run->peers->exchange(run->peers->context, partner, mine ? run->sum[0] : NULL,
                             theirs ? run->sum[1] : NULL, run->weight_count));
    if (theirs && !(mine && hold_left)) { // Theirs is the left one, or the only one.
        float *const swap = run->sum[0];
        run->sum[0] = run->sum[1];
        run->sum[1] = swap;
    }
    if (mine && theirs) {
        add(run->sum[0], run->sum[1], run->weight_count);
    }
    return OK;
}

// Writes the sum of all chunks of a batch to run->sum[0].
static enum err sum_batch(struct run *run, const struct batch *batch)
{
    const uint32_t chunks = run->stage->spec->gradient_chunks;
    if (run->peers == NULL) {
        CHECK(sum_chunks(run, batch, 0, chunks, 0));
        return OK;
    }
    uint32_t width = chunks / run->peers->count; // Chunks of the subtree that is held.
    const uint32_t index = run->peers->index;
    sum_chunks(run, batch, index * width, (index + 1) * width, 0);
    for (uint32_t apart = 1; apart < run->peers->count; apart *= 2, width *= 2) {
        const uint32_t left = index / (2 * apart) * 2 * width;
        TRY(join_subtrees(run, batch, left, left + width, left + 2 * width, (index & apart) == 0,
                          index ^ apart));
    }
    return OK;
}

// --- Order ---

static int compare_places(const void *a, const void *b)
{
    const struct place *const left = a, *const right = b;
    if (left->draw != right->draw) {
        return left->draw < right->draw ? -1 : 1;
    }
    return id128_compare(left->rid, right->rid);
}

static void draw_order(struct run *run, uint32_t pass)
{
    const struct rng_key key = stage_key(run->stage, "unlearnd-order", pass);
    for (uint64_t i = 0; i < run->data->count; i++) {
        const struct id128 *const rid = &run->data->rids[i];
        run->order[i] = (struct place){rng_u64_of_id(key, rid), rid, i};
    }
    qsort(run->order, run->data->count, sizeof *run->order, compare_places);
}

// --- Passes ---

static enum err check_weights(const struct run *run)
{
    for (uint64_t i = 0; i < run->weight_count; i++) {
        if (!isfinite(run->weights[i])) {
            FAIL(ERR_CORRUPT,
                 "the weights became infinite or NaN while training: optimizer.rate %g is too "
                 "large, try %g",
                 run->stage->spec->rate, run->stage->spec->rate / 10);
        }
    }
    return OK;
}

static enum err train_pass(struct run *run, uint32_t pass, const struct stage_watch *watch)
{
    const struct spec *const spec = run->stage->spec;
    const uint64_t count = run->data->count;
    draw_order(run, pass);
    for (uint64_t at = 0; at < count; at += spec->batch) {
        const uint64_t left = count - at;
        const uint32_t n = left < spec->batch ? (uint32_t)left : spec->batch;
        const struct batch batch = {run->order + at, n, pass};
        TRY(sum_batch(run, &batch));
        optim_step(run->optim, run->sum[0], n, run->weights);
        const uint64_t done = pass * count + at + n;
        if (watch != NULL && !watch->step(watch->context, done, run->stage->passes * count)) {
            FAIL(ERR_CANCELLED, "training of shard %u was stopped after %llu of %llu samples",
                 run->stage->shard, (unsigned long long)done,
                 (unsigned long long)(run->stage->passes * count));
        }
    }
    return check_weights(run);
}

// --- Start ---

// Constants of a component without a parent: learnt from the first slice that has records.
static void learn_constants(const struct stage *stage, const struct stage_data *data,
                            float *constants_out)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < stage->list_count; i++) {
        const uint64_t count = data->slice_count[i];
        if (count > 0) {
            schema_constants(stage->schema, data->rows + at, count, constants_out);
            return;
        }
        at += count;
    }
}

static void expand_all(struct run *run)
{
    for (uint64_t i = 0; i < run->data->count; i++) {
        schema_expand(run->stage->schema, run->constants, run->data->rows[i],
                      run->all_x + i * run->input_width, &run->all_y[i]);
    }
}

static enum err take_memory(struct run *run, bool expand)
{
    const struct spec *const spec = run->stage->spec;
    const uint64_t count = run->data->count, width = run->input_width;
    const uint64_t n = count < spec->batch ? count : spec->batch;
    const uint64_t rows_max = (n + spec->gradient_chunks - 1) / spec->gradient_chunks;
    TRY(mem_try_aligned(rows_max * width, sizeof(float), &run->x));
    TRY(mem_try_aligned(rows_max, sizeof(float), &run->y));
    TRY(mem_try_aligned(rows_max, sizeof *run->rids, &run->rids));
    TRY(mem_try_aligned(count, sizeof *run->order, &run->order));
    if (expand) {
        TRY(mem_try_aligned(count * width, sizeof(float), &run->all_x));
        TRY(mem_try_aligned(count, sizeof(float), &run->all_y));
    }
    for (uint32_t level = 0; 1u << level <= spec->gradient_chunks; level++) {
        TRY(mem_try_aligned(run->weight_count, sizeof(float), &run->sum[level]));
    }
    return run->learner->work_new(spec, run->stage->schema, run->stage, (uint32_t)rows_max,
                                  &run->work);
}

static void give_memory(struct run *run)
{
    run->learner->work_free(run->work);
    mem_free(run->x);
    mem_free(run->y);
    mem_free(run->rids);
    mem_free(run->order);
    mem_free(run->all_x);
    mem_free(run->all_y);
    for (uint32_t level = 0; level <= DEPTH_MAX; level++) {
        mem_free(run->sum[level]);
    }
}

static enum err train_in(struct run *run, const struct stage_watch *watch)
{
    const uint64_t bytes = run->data->count * run->input_width * sizeof(float);
    const bool expand = bytes <= stage_expanded_bytes_max;
    TRY(take_memory(run, expand));
    if (expand) {
        expand_all(run);
    }
    for (uint32_t pass = 0; pass < run->stage->passes; pass++) {
        TRY(train_pass(run, pass, watch));
    }
    return OK;
}

enum err stage_train(const struct stage *stage, const struct stage_data *data, const float *parent,
                     const struct stage_watch *watch, float *params_out)
{
    return stage_train_shared(stage, data, parent, watch, NULL, params_out);
}

enum err stage_train_shared(const struct stage *stage, const struct stage_data *data,
                            const float *parent, const struct stage_watch *watch,
                            const struct stage_peers *peers, float *params_out)
{
    CHECK(stage->list_count > 0 && data->count > 0);
    CHECK(peers == NULL ||
          (peers->count >= 2 && peers->index < peers->count &&
           stage->spec->gradient_chunks % peers->count == 0)); // Both are powers of two.
    uint64_t param_count = 0;
    TRY(learner_param_count(stage->spec, stage->schema, &param_count));
    const uint64_t constant_count = 2 * (uint64_t)schema_constant_count(stage->schema);
    struct run run = {
        .learner = learner_find(stage->spec->learner),
        .stage = stage,
        .data = data,
        .peers = peers,
        .constants = params_out,
        .weights = params_out + constant_count,
        .weight_count = param_count - constant_count,
    };
    TRY(schema_input_width(stage->schema, stage->spec->learner, &run.input_width));
    if (parent != NULL) {
        memcpy(params_out, parent, param_count * sizeof *params_out);
    } else {
        learn_constants(stage, data, params_out);
        run.learner->init(stage, run.weights);
    }
    struct optim optim;
    TRY(optim_init(&optim, stage->spec, run.weight_count));
    run.optim = &optim;
    const enum err err = train_in(&run, watch);
    give_memory(&run);
    optim_deinit(&optim);
    return err;
}
