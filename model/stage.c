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
    buf_u64(out, stage->recipe.spec->seed);
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

// The place of a piece of a record in a pass.
struct place {
    uint64_t draw;
    const struct id128 *rid;
    uint64_t index; // Of the record in the stage's data.
    uint32_t piece;
};

struct run {
    const struct learner *learner;
    const struct stage *stage;
    const struct stage_data *data;
    const struct stage_peers *peers; // NULL: alone.
    const float *constants;
    float *weights;
    float *trained; // The last ones of the weights.
    uint64_t trained_count;
    uint32_t input_width; // 0: the learner takes rows.
    uint64_t place_count; // Pieces of all records.
    uint32_t piece_most;  // Of one record.

    void *work; // The learner's.
    struct optim *optim;
    struct place *order;  // [place_count] of the current pass. Owned.
    float *all_x, *all_y; // [data->count] expanded rows, or NULL. Owned.
    float *x, *y;         // [rows_max] of one chunk. Owned.
    struct id128 *rids;   // [rows_max] of one chunk. Owned.
    struct span *rows;    // The same three for a learner that takes rows, else NULL. Owned.
    uint32_t *pieces;
    uint64_t *indices;
    float
        *sum[DEPTH_MAX + 1]; // [trained_count] gradient sums, one for each level. Owned. With peers
                             // sum[1] also takes what a partner sends.
};

// --- One chunk and the tree ---

static void gather(struct run *run, const struct place *places, uint32_t count)
{
    const size_t width = run->input_width;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t index = places[i].index;
        float *const x = run->x + i * width;
        if (run->rows != NULL) {
            run->rows[i] = run->data->rows[index];
            run->y[i] = schema_label(run->stage->recipe.schema, run->constants, run->rows[i]);
            run->pieces[i] = places[i].piece;
            run->indices[i] = index;
        } else if (run->all_x != NULL) {
            memcpy(x, run->all_x + index * width, width * sizeof *x);
            run->y[i] = run->all_y[index];
        } else {
            schema_expand(run->stage->recipe.schema, run->constants, run->data->rows[index], x,
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
        const uint64_t n = batch->count, chunks = run->stage->recipe.spec->gradient_chunks;
        const uint64_t first = from * n / chunks, end = to * n / chunks;
        if (first == end) {
            return false;
        }
        const uint32_t count = (uint32_t)(end - first);
        gather(run, batch->places + first, count);
        const struct stage_rows rows = {.x = run->x,
                                        .y = run->y,
                                        .rids = run->rids,
                                        .count = count,
                                        .pass = batch->pass,
                                        .rows = run->rows,
                                        .pieces = run->pieces,
                                        .indices = run->indices};
        run->learner->gradient(run->work, run->weights, &rows, out, NULL);
        return true;
    }
    const uint32_t middle = from + (to - from) / 2;
    const bool left = sum_chunks(run, batch, from, middle, level);
    // Without a left part the right one is the sum: it goes straight to this level.
    const bool right = sum_chunks(run, batch, middle, to, left ? level + 1 : level);
    if (left && right) {
        add(out, run->sum[level + 1], run->trained_count);
    }
    return left || right;
}

// Whether a subtree of chunks holds no row: known to each member without asking.
static bool is_empty(const struct run *run, const struct batch *batch, uint32_t from, uint32_t to)
{
    const uint64_t n = batch->count, chunks = run->stage->recipe.spec->gradient_chunks;
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
                             theirs ? run->sum[1] : NULL, run->trained_count));
    if (theirs && !(mine && hold_left)) { // Theirs is the left one, or the only one.
        float *const swap = run->sum[0];
        run->sum[0] = run->sum[1];
        run->sum[1] = swap;
    }
    if (mine && theirs) {
        add(run->sum[0], run->sum[1], run->trained_count);
    }
    return OK;
}

// Writes the sum of all chunks of a batch to run->sum[0].
static enum err sum_batch(struct run *run, const struct batch *batch)
{
    const uint32_t chunks = run->stage->recipe.spec->gradient_chunks;
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
    const int by_rid = id128_compare(left->rid, right->rid);
    return by_rid != 0 ? by_rid : (left->piece > right->piece) - (left->piece < right->piece);
}

static uint32_t piece_count(const struct run *run, uint64_t index)
{
    return run->learner->piece_count == NULL
               ? 1
               : run->learner->piece_count(&run->stage->recipe, run->data->rows[index]);
}

// What the sum over a batch is divided by.
static uint64_t count_units(const struct run *run, const struct batch *batch)
{
    if (run->learner->unit_count == NULL) {
        return batch->count;
    }
    uint64_t units = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct place *const place = &batch->places[i];
        units += run->learner->unit_count(&run->stage->recipe, run->data->rows[place->index],
                                          place->piece);
    }
    return units;
}

// Each piece has a key of its own, so that records of many pieces are spread over the pass. The first
// piece's is the pass's.
static struct rng_key order_key(const struct stage *stage, uint32_t pass, uint32_t piece)
{
    struct buf name = {0};
    stage_put_name(stage, &name);
    buf_u32(&name, pass);
    if (piece > 0) {
        buf_u32(&name, piece);
    }
    const struct rng_key key = rng_key_of("unlearnd-order", buf_span(&name));
    buf_deinit(&name);
    return key;
}

static void draw_order(struct run *run, uint32_t pass)
{
    struct rng_key *const keys = mem_alloc(run->piece_most, sizeof *keys);
    for (uint32_t piece = 0; piece < run->piece_most; piece++) {
        keys[piece] = order_key(run->stage, pass, piece);
    }
    uint64_t at = 0;
    for (uint64_t i = 0; i < run->data->count; i++) {
        const struct id128 *const rid = &run->data->rids[i];
        const uint32_t pieces = piece_count(run, i);
        for (uint32_t piece = 0; piece < pieces; piece++) {
            run->order[at++] = (struct place){rng_u64_of_id(keys[piece], rid), rid, i, piece};
        }
    }
    CHECK(at == run->place_count);
    mem_free(keys);
    qsort(run->order, run->place_count, sizeof *run->order, compare_places);
}

// --- Passes ---

static enum err check_weights(const struct run *run)
{
    for (uint64_t i = 0; i < run->trained_count; i++) {
        if (!isfinite(run->trained[i])) {
            FAIL(ERR_CORRUPT,
                 "the weights became infinite or NaN while training: optimizer.rate %g is too "
                 "large, try %g",
                 run->stage->recipe.spec->rate, run->stage->recipe.spec->rate / 10);
        }
    }
    return OK;
}

static enum err train_pass(struct run *run, uint32_t pass, const struct stage_watch *watch)
{
    const struct spec *const spec = run->stage->recipe.spec;
    const uint64_t count = run->place_count, records = run->data->count;
    draw_order(run, pass);
    for (uint64_t at = 0; at < count; at += spec->batch) {
        const uint64_t left = count - at;
        const uint32_t n = left < spec->batch ? (uint32_t)left : spec->batch;
        const struct batch batch = {run->order + at, n, pass};
        TRY(sum_batch(run, &batch));
        optim_step(run->optim, run->sum[0], count_units(run, &batch), run->trained);
        // Progress is told in records, whatever they are cut into.
        const uint64_t done = pass * records + (at + n) * records / count;
        if (watch != NULL && !watch->step(watch->context, done, run->stage->passes * records)) {
            FAIL(ERR_CANCELLED, "training of shard %u was stopped after %llu of %llu samples",
                 run->stage->shard, (unsigned long long)done,
                 (unsigned long long)(run->stage->passes * records));
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
            schema_constants(stage->recipe.schema, data->rows + at, count, constants_out);
            return;
        }
        at += count;
    }
}

static enum err count_places(struct run *run)
{
    for (uint64_t i = 0; i < run->data->count; i++) {
        const uint32_t pieces = piece_count(run, i);
        CHECK(pieces > 0);
        run->place_count += pieces;
        run->piece_most = pieces > run->piece_most ? pieces : run->piece_most;
    }
    if (run->place_count > LIMIT_STAGE_RECORDS) {
        FAIL(ERR_LIMIT, "a stage of %llu pieces of records, expected at most %d",
             (unsigned long long)run->place_count, (int)LIMIT_STAGE_RECORDS);
    }
    return OK;
}

static void expand_all(struct run *run)
{
    for (uint64_t i = 0; i < run->data->count; i++) {
        schema_expand(run->stage->recipe.schema, run->constants, run->data->rows[i],
                      run->all_x + i * run->input_width, &run->all_y[i]);
    }
}

static enum err take_memory(struct run *run, bool expand)
{
    const struct spec *const spec = run->stage->recipe.spec;
    const uint64_t count = run->data->count, width = run->input_width;
    const uint64_t n = run->place_count < spec->batch ? run->place_count : spec->batch;
    const uint64_t rows_max = (n + spec->gradient_chunks - 1) / spec->gradient_chunks;
    if (run->learner->takes_rows) {
        TRY(mem_try_aligned(rows_max, sizeof *run->rows, &run->rows));
        TRY(mem_try_aligned(rows_max, sizeof *run->pieces, &run->pieces));
        TRY(mem_try_aligned(rows_max, sizeof *run->indices, &run->indices));
    } else {
        TRY(mem_try_aligned(rows_max * width, sizeof(float), &run->x));
    }
    TRY(mem_try_aligned(rows_max, sizeof(float), &run->y));
    TRY(mem_try_aligned(rows_max, sizeof *run->rids, &run->rids));
    TRY(mem_try_aligned(run->place_count, sizeof *run->order, &run->order));
    if (expand) {
        TRY(mem_try_aligned(count * width, sizeof(float), &run->all_x));
        TRY(mem_try_aligned(count, sizeof(float), &run->all_y));
    }
    for (uint32_t level = 0; 1u << level <= spec->gradient_chunks; level++) {
        TRY(mem_try_aligned(run->trained_count, sizeof(float), &run->sum[level]));
    }
    return run->learner->work_new(&run->stage->recipe, run->stage->list_count, run->stage,
                                  run->data, (uint32_t)rows_max, &run->work);
}

static void give_memory(struct run *run)
{
    run->learner->work_free(run->work);
    mem_free(run->x);
    mem_free(run->y);
    mem_free(run->rids);
    mem_free(run->rows);
    mem_free(run->pieces);
    mem_free(run->indices);
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
    const bool expand = !run->learner->takes_rows && bytes <= stage_expanded_bytes_max;
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
           stage->recipe.spec->gradient_chunks % peers->count == 0)); // Both are powers of two.
    uint64_t param_count = 0;
    TRY(learner_param_count(&stage->recipe, stage->list_count, &param_count));
    const uint64_t constant_count = 2 * (uint64_t)schema_constant_count(stage->recipe.schema);
    struct run run = {
        .learner = learner_find(stage->recipe.spec->learner),
        .stage = stage,
        .data = data,
        .peers = peers,
        .constants = params_out,
        .weights = params_out + constant_count,
    };
    const uint64_t weight_count = param_count - constant_count;
    run.trained_count = run.learner->trained_count == NULL
                            ? weight_count
                            : run.learner->trained_count(&stage->recipe, stage->list_count);
    run.trained = run.weights + (weight_count - run.trained_count);
    if (!run.learner->takes_rows) {
        TRY(schema_input_width(stage->recipe.schema, stage->recipe.spec->learner,
                               &run.input_width));
    }
    TRY(count_places(&run));
    if (parent != NULL) {
        memcpy(params_out, parent, constant_count * sizeof *params_out);
    } else {
        learn_constants(stage, data, params_out);
    }
    run.learner->init(stage, parent == NULL ? NULL : parent + constant_count, run.weights);
    struct optim optim;
    TRY(optim_init(&optim, stage->recipe.spec, run.trained_count));
    run.optim = &optim;
    const enum err err = train_in(&run, watch);
    give_memory(&run);
    optim_deinit(&optim);
    return err;
}
