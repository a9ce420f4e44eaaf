// model/transformer.c: see transformer.h.
//
// What the backward step reads of a layer lies in its struct kept; layers that get no gradient, and
// all of them when predicting, share one. M is N, but in a vit's last layer the number of samples:
// there only the class tokens, the first row of each sample, go on after attention.
#include "model/transformer.h"

#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/attention.h"
#include "model/blas.h"
#include "model/elem.h"
#include "model/embed.h"
#include "model/norm.h"
#include "model/vec.h"

// The activations of one layer. Owned. NULL where nothing needs them.
struct kept {
    float *hat1, *scale1, *y1; // [N][d], [N], [N][d]: norm 1
    float *qkv;                // [N][3d]
    float *probs;              // for each sample [h][its M][its T]
    float *mixed;              // [M][d]: what attention gives to the output layer
    float *hat2, *scale2, *y2; // [M][d], [M], [M][d]: norm 2
    float *units, *slope;      // [M][f]: after GELU, and its derivative
    struct {
        float *factor; // [rows][in]: of dropout
        float *low;    // [rows][r]
    } adapters[LORA_TARGETS_MAX];
};

struct transformer {
    struct base_shape shape;
    struct base_at at;
    struct lora lora; // target_count 0: none.
    uint32_t tokens_max, samples_max;
    enum transformer_gradients gradients;
    uint32_t low, high;
    uint32_t first;      // The lowest layer that is kept; shape.layers: none is.
    enum linear deepest; // ADAPTERS: the first linear layer of a block that has an adapter.
    uint32_t sample_max; // Tokens of one sample at most.

    struct kept shared; // Of the layers that are not kept.
    struct kept *kept;  // [layers - first]
    float *x;           // [N][d]
    float *hat, *scale; // [rows][d], [rows]: the final norm
    float *y;           // [rows][d]
    float *patches;     // vit: [samples][patches][channels * patch * patch]
    uint16_t *tokens;   // text: [N]
    float *dropped;     // [N][widest in]

    float *dx;     // [N][d]: d loss / d x
    float *dnorm;  // [N][d]: by a norm's result, or by mixed
    float *dqkv;   // [N][3d]
    float *dunits; // [M][f]
    float *dprobs; // [h][T][T]
    float *dlow;   // [N][r]
    struct buf name;
};

// --- Memory ---

static bool is_last(const struct transformer *t, uint32_t layer)
{
    return t->shape.kind == BASE_VIT && layer == t->shape.layers - 1;
}

// Whether the adapters of a layer are trained, and so dropped from.
static bool is_trained(const struct transformer *t, uint32_t layer)
{
    return t->gradients == TRANSFORMER_ADAPTERS && layer >= t->low && layer < t->high;
}

static enum err take(size_t count, float **out)
{
    return mem_try_aligned(count, sizeof **out, out);
}

static enum err take_adapters(struct transformer *t, struct kept *kept, bool trained, size_t n,
                              size_t m)
{
    for (uint32_t i = 0; i < t->lora.target_count; i++) {
        const struct lora_target *const target = &t->lora.targets[i];
        const size_t rows = target->linear == LINEAR_QKV ? n : m;
        TRY(take(rows * t->lora.rank, &kept->adapters[i].low));
        if (trained && t->lora.dropout > 0.0f) {
            TRY(take(rows * target->in, &kept->adapters[i].factor));
        }
    }
    return OK;
}

// Memory for n rows that become m, in `score_rows` * h rows of scores.
static enum err take_kept(struct transformer *t, struct kept *kept, bool backward, size_t n,
                          size_t m, size_t score_rows)
{
    const size_t d = t->shape.width, f = t->shape.inner;
    TRY(take(n * d, &kept->y1));
    TRY(take(n * 3 * d, &kept->qkv));
    TRY(take(score_rows * t->shape.heads * t->sample_max, &kept->probs));
    TRY(take(m * d, &kept->mixed));
    TRY(take(m * d, &kept->y2));
    TRY(take(m * f, &kept->units));
    if (backward) {
        TRY(take(n * d, &kept->hat1));
        TRY(take(n, &kept->scale1));
        TRY(take(m * d, &kept->hat2));
        TRY(take(m, &kept->scale2));
        TRY(take(m * f, &kept->slope));
    }
    return OK;
}

static enum err take_backward(struct transformer *t)
{
    const size_t n = t->tokens_max, d = t->shape.width;
    TRY(take(n * d, &t->dx));
    TRY(take(n * d, &t->dnorm));
    TRY(take(n * 3 * d, &t->dqkv));
    TRY(take(n * t->shape.inner, &t->dunits));
    TRY(take((size_t)t->shape.heads * t->sample_max * t->sample_max, &t->dprobs));
    TRY(take(n * t->lora.rank, &t->dlow));
    for (uint32_t layer = t->first; layer < t->shape.layers; layer++) {
        const size_t m = is_last(t, layer) ? t->samples_max : n;
        struct kept *const kept = &t->kept[layer - t->first];
        TRY(take_kept(t, kept, true, n, m, m));
        TRY(take_adapters(t, kept, is_trained(t, layer), n, m));
    }
    return OK;
}

static enum err take_memory(struct transformer *t)
{
    const size_t n = t->tokens_max, d = t->shape.width;
    const size_t rows = t->shape.kind == BASE_VIT ? t->samples_max : n;
    TRY(take(n * d, &t->x));
    TRY(take(rows * d, &t->y));
    if (t->first > 0) {
        TRY(take_kept(t, &t->shared, false, n, n, t->sample_max));
        TRY(take_adapters(t, &t->shared, false, n, n));
    }
    if (t->gradients != TRANSFORMER_NONE) {
        TRY(take(rows * d, &t->hat));
        TRY(take(rows, &t->scale));
        TRY(take_backward(t));
    }
    if (t->lora.dropout > 0.0f) {
        const size_t in = d > t->shape.inner ? d : t->shape.inner;
        TRY(take(n * in, &t->dropped));
    }
    if (t->shape.kind == BASE_TEXT) {
        return mem_try_aligned(n, sizeof *t->tokens, &t->tokens);
    }
    const size_t values = (size_t)t->shape.channels * t->shape.rows * t->shape.cols;
    return take(t->samples_max * values, &t->patches);
}

static void kept_deinit(struct kept *kept)
{
    float *const all[] = {kept->hat1, kept->scale1, kept->y1, kept->qkv,   kept->probs, kept->mixed,
                          kept->hat2, kept->scale2, kept->y2, kept->units, kept->slope};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        mem_free(all[i]);
    }
    for (uint32_t i = 0; i < LORA_TARGETS_MAX; i++) {
        mem_free(kept->adapters[i].factor);
        mem_free(kept->adapters[i].low);
    }
}

void transformer_free(struct transformer *transformer)
{
    struct transformer *const t = transformer;
    if (t == NULL) {
        return;
    }
    kept_deinit(&t->shared);
    for (uint32_t layer = t->first; layer < t->shape.layers; layer++) {
        kept_deinit(&t->kept[layer - t->first]);
    }
    float *const all[] = {t->x,  t->hat,   t->scale, t->y,      t->patches, t->dropped,
                          t->dx, t->dnorm, t->dqkv,  t->dunits, t->dprobs,  t->dlow};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        mem_free(all[i]);
    }
    mem_free(t->kept);
    mem_free(t->tokens);
    buf_deinit(&t->name);
    mem_free(t);
}

static enum linear deepest_of(const struct lora *lora)
{
    enum linear deepest = LINEAR_COUNT_;
    for (uint32_t i = 0; i < lora->target_count; i++) {
        if (lora->targets[i].linear < deepest) {
            deepest = lora->targets[i].linear;
        }
    }
    return deepest;
}

enum err transformer_new(const struct transformer_plan *plan, struct transformer **transformer_out)
{
    *transformer_out = NULL;
    const bool adapters = plan->gradients == TRANSFORMER_ADAPTERS;
    CHECK(plan->tokens_max > 0 && plan->samples_max > 0);
    CHECK(plan->gradients != TRANSFORMER_WEIGHTS || plan->lora == NULL);
    CHECK(!adapters ||
          (plan->lora != NULL && plan->low < plan->high && plan->high <= plan->shape->layers));
    struct transformer *const t = mem_alloc(1, sizeof *t);
    t->shape = *plan->shape;
    t->at = base_at(plan->shape);
    t->lora = plan->lora != NULL ? *plan->lora : (struct lora){0};
    t->tokens_max = plan->tokens_max;
    t->samples_max = plan->samples_max;
    t->gradients = plan->gradients;
    t->low = adapters ? plan->low : 0;
    t->high = adapters ? plan->high : 0;
    t->first = t->gradients == TRANSFORMER_NONE ? t->shape.layers : t->low;
    t->deepest = deepest_of(&t->lora);
    const uint32_t most = base_tokens_max(plan->shape);
    t->sample_max = plan->tokens_max < most ? plan->tokens_max : most;
    t->kept = mem_alloc(t->shape.layers, sizeof *t->kept);
    const enum err err = take_memory(t);
    if (err != OK) {
        transformer_free(t);
        return err;
    }
    *transformer_out = t;
    return OK;
}

float *transformer_x(struct transformer *transformer)
{
    return transformer->x;
}

// --- What belongs to which rows ---

static uint32_t tokens_of(const struct transformer_batch *batch, uint32_t sample)
{
    return batch->offsets[sample + 1] - batch->offsets[sample];
}

static uint32_t check_batch(const struct transformer *t, const struct transformer_batch *batch)
{
    CHECK(batch->samples > 0 && batch->samples <= t->samples_max && batch->offsets[0] == 0);
    for (uint32_t s = 0; s < batch->samples; s++) {
        CHECK(batch->offsets[s + 1] > batch->offsets[s] && tokens_of(batch, s) <= t->sample_max);
    }
    CHECK(batch->offsets[batch->samples] <= t->tokens_max);
    return batch->offsets[batch->samples];
}

static struct attention attention_of(const struct transformer *t, uint32_t layer, uint32_t tokens)
{
    return (struct attention){
        .width = t->shape.width,
        .heads = t->shape.heads,
        .causal = t->shape.kind == BASE_TEXT,
        .tokens = tokens,
        .queries = is_last(t, layer) ? 1 : tokens,
    };
}

// --- Linear layers ---

struct linear_at {
    const float *weights, *bias; // [out][in], [out]
    uint64_t weights_at, bias_at;
    size_t in, out;
};

static struct linear_at linear_at(const struct transformer *t, const float *weights, uint32_t layer,
                                  enum linear linear)
{
    const struct base_layer_at at = base_layer_at(&t->shape, layer);
    const size_t d = t->shape.width, f = t->shape.inner;
    struct linear_at where = {.weights_at = at.qkv, .bias_at = at.qkv_bias, .in = d, .out = 3 * d};
    switch (linear) {
    case LINEAR_OUTPUT:
        where = (struct linear_at){NULL, NULL, at.output, at.output_bias, d, d};
        break;
    case LINEAR_UP:
        where = (struct linear_at){NULL, NULL, at.up, at.up_bias, d, f};
        break;
    case LINEAR_DOWN:
        where = (struct linear_at){NULL, NULL, at.down, at.down_bias, f, d};
        break;
    case LINEAR_QKV:
    case LINEAR_COUNT_:
        break;
    }
    where.weights = weights + where.weights_at;
    where.bias = weights + where.bias_at;
    return where;
}

// One call of transformer_run or transformer_backward.
struct step {
    struct transformer *t;
    const float *weights;
    const float *const *adapters;
    const struct transformer_batch *batch;
    uint32_t layer;
    struct kept *kept;
    size_t n, m;
};

static const float *adapters_of(const struct step *step)
{
    const float *const adapters = step->adapters == NULL ? NULL : step->adapters[step->layer];
    CHECK(adapters != NULL || !is_trained(step->t, step->layer));
    return adapters;
}

// Draws what is dropped before a target, row by row, and gives what is left of x.
static const float *drop(const struct step *step, uint32_t target, size_t rows, const float *x)
{
    struct transformer *const t = step->t;
    const struct transformer_batch *const batch = step->batch;
    const size_t in = t->lora.targets[target].in;
    float *const factor = step->kept->adapters[target].factor;
    buf_clear(&t->name);
    buf_put(&t->name, batch->name);
    for (uint32_t s = 0; s < batch->samples; s++) {
        const bool all = rows == step->n; // Else one row of each sample.
        const size_t row = all ? batch->offsets[s] : s, count = all ? tokens_of(batch, s) : 1;
        const uint32_t window = batch->windows == NULL ? 0 : batch->windows[s];
        const struct rng_key key =
            lora_drop_key(&t->name, step->layer, target, &batch->rids[s], window);
        lora_drop(&t->lora, key, count * in, factor + row * in);
    }
    memcpy(t->dropped, x, rows * in * sizeof *x);
    vec_multiply(t->dropped, factor, rows * in);
    return t->dropped;
}

// y[rows][out] = x[rows][in] W^T + b + adapters, or with `add` y is added to.
static void run_linear(const struct step *step, enum linear linear, size_t rows, const float *x,
                       bool add, float *y)
{
    struct transformer *const t = step->t;
    const struct linear_at at = linear_at(t, step->weights, step->layer, linear);
    blas_nt(rows, at.out, at.in, 1.0f, x, at.in, at.weights, at.in, add ? 1.0f : 0.0f, y, at.out);
    vec_add_row(y, at.bias, rows, at.out);
    const float *const adapters = adapters_of(step);
    for (uint32_t i = 0; adapters != NULL && i < t->lora.target_count; i++) {
        if (t->lora.targets[i].linear == linear) {
            const bool dropping = step->kept->adapters[i].factor != NULL;
            lora_forward(&t->lora, i, adapters, rows, dropping ? drop(step, i, rows, x) : x,
                         step->kept->adapters[i].low, y + t->lora.targets[i].from, at.out);
        }
    }
}

// Writes the gradients of a linear layer, and d loss / d x to dx unless NULL.
static void unwind_linear(const struct step *step, enum linear linear, size_t rows, const float *x,
                          const float *dy, float *dx, float *gradient_out)
{
    struct transformer *const t = step->t;
    const struct linear_at at = linear_at(t, step->weights, step->layer, linear);
    if (t->gradients == TRANSFORMER_WEIGHTS) {
        blas_product_tn(at.out, at.in, rows, dy, x, gradient_out + at.weights_at);
        vec_sum_rows(dy, rows, at.out, gradient_out + at.bias_at);
    }
    if (dx != NULL) {
        blas_product_nn(rows, at.in, at.out, dy, at.weights, dx);
    }
    const float *const adapters = adapters_of(step);
    for (uint32_t i = 0; adapters != NULL && i < t->lora.target_count; i++) {
        if (t->lora.targets[i].linear != linear) {
            continue;
        }
        const float *const factor = step->kept->adapters[i].factor;
        struct lora_backward back = {
            .lora = &t->lora,
            .target = i,
            .adapters = adapters,
            .row_count = rows,
            .x = x,
            .low = step->kept->adapters[i].low,
            .dy = dy + t->lora.targets[i].from,
            .dy_stride = at.out,
            .factor = factor,
            .dlow = t->dlow,
            .dropped = t->dropped,
        };
        if (factor != NULL) {
            memcpy(t->dropped, x, rows * at.in * sizeof *x);
            vec_multiply(t->dropped, factor, rows * at.in);
            back.x = t->dropped;
        }
        float *const gradient = is_trained(t, step->layer)
                                    ? gradient_out + (step->layer - t->low) * lora_count(&t->lora)
                                    : NULL;
        lora_backward(&back, gradient, dx);
    }
}

// --- Forward ---

static void run_attention(const struct step *step)
{
    struct transformer *const t = step->t;
    const size_t d = t->shape.width;
    const bool kept = step->kept != &t->shared;
    float *probs = step->kept->probs, *mixed = step->kept->mixed;
    for (uint32_t s = 0; s < step->batch->samples; s++) {
        const struct attention attention = attention_of(t, step->layer, tokens_of(step->batch, s));
        attention_forward(&attention, step->kept->qkv + (size_t)step->batch->offsets[s] * 3 * d,
                          probs, mixed);
        mixed += attention.queries * d;
        if (kept) {
            probs += (size_t)attention.heads * attention.queries * attention.tokens;
        }
    }
}

static void run_gelu(const struct transformer *t, float *units, float *slope, size_t count)
{
    if (t->shape.gelu == BASE_GELU_ERF) {
        elem_gelu(units, units, slope, count);
    } else {
        elem_gelu_tanh(units, units, slope, count);
    }
}

static void run_layer(const struct step *step)
{
    struct transformer *const t = step->t;
    const struct base_layer_at at = base_layer_at(&t->shape, step->layer);
    const float *const w = step->weights;
    struct kept *const kept = step->kept;
    const size_t d = t->shape.width, n = step->n, m = step->m;

    norm_forward(t->x, w + at.norm1, w + at.norm1 + d, t->shape.epsilon, n, d, kept->hat1,
                 kept->scale1, kept->y1);
    run_linear(step, LINEAR_QKV, n, kept->y1, false, kept->qkv);
    run_attention(step);
    for (uint32_t s = 0; m != n && s < step->batch->samples; s++) {
        memmove(t->x + s * d, t->x + step->batch->offsets[s] * d, d * sizeof *t->x);
    }
    run_linear(step, LINEAR_OUTPUT, m, kept->mixed, true, t->x);

    norm_forward(t->x, w + at.norm2, w + at.norm2 + d, t->shape.epsilon, m, d, kept->hat2,
                 kept->scale2, kept->y2);
    run_linear(step, LINEAR_UP, m, kept->y2, false, kept->units);
    run_gelu(t, kept->units, kept->slope, m * t->shape.inner);
    run_linear(step, LINEAR_DOWN, m, kept->units, true, t->x);
}

static void step_to(struct step *step, uint32_t layer)
{
    struct transformer *const t = step->t;
    step->layer = layer;
    step->kept = layer >= t->first ? &t->kept[layer - t->first] : &t->shared;
    step->m = is_last(t, layer) ? step->batch->samples : step->n;
}

void transformer_run(struct transformer *transformer, const float *weights,
                     const float *const *adapters, const struct transformer_batch *batch,
                     uint32_t from, uint32_t to)
{
    CHECK(from <= to && to <= transformer->shape.layers);
    struct step step = {transformer, weights, adapters, batch, 0, NULL, 0, 0};
    step.n = check_batch(transformer, batch);
    for (uint32_t layer = from; layer < to; layer++) {
        step_to(&step, layer);
        run_layer(&step);
    }
}

static size_t rows_of(const struct transformer *t, const struct transformer_batch *batch)
{
    return t->shape.kind == BASE_VIT ? batch->samples : batch->offsets[batch->samples];
}

const float *transformer_finish(struct transformer *transformer, const float *weights,
                                const struct transformer_batch *batch)
{
    struct transformer *const t = transformer;
    const size_t d = t->shape.width;
    norm_forward(t->x, weights + t->at.norm, weights + t->at.norm + d, t->shape.epsilon,
                 rows_of(t, batch), d, t->hat, t->scale, t->y);
    return t->y;
}

// --- Backward ---

static void unwind_attention(const struct step *step, const float *dmixed)
{
    struct transformer *const t = step->t;
    const size_t d = t->shape.width;
    const float *probs = step->kept->probs;
    for (uint32_t s = 0; s < step->batch->samples; s++) {
        const struct attention attention = attention_of(t, step->layer, tokens_of(step->batch, s));
        const size_t at = (size_t)step->batch->offsets[s] * 3 * d;
        attention_backward(&attention, step->kept->qkv + at, probs, dmixed, t->dprobs,
                           t->dqkv + at);
        dmixed += attention.queries * d;
        probs += (size_t)attention.heads * attention.queries * attention.tokens;
    }
}

// Puts the class tokens' rows back where they were among all; the others' are 0.
static void spread_rows(const struct step *step)
{
    const size_t d = step->t->shape.width;
    float *const dx = step->t->dx;
    for (uint32_t s = step->batch->samples; s-- > 0;) { // From the end: nothing is overwritten.
        float *const rows = dx + step->batch->offsets[s] * d;
        memmove(rows, dx + s * d, d * sizeof *dx);
        memset(rows + d, 0, (tokens_of(step->batch, s) - 1) * d * sizeof *dx);
    }
}

static void unwind_norm(const struct step *step, uint64_t at, const float *hat, const float *scale,
                        size_t rows, float *gradient_out)
{
    struct transformer *const t = step->t;
    const size_t d = t->shape.width;
    if (t->gradients == TRANSFORMER_WEIGHTS) {
        norm_gradient(hat, t->dnorm, rows, d, gradient_out + at, gradient_out + at + d);
    }
    norm_backward(hat, scale, step->weights + at, t->dnorm, rows, d, t->dx);
}

// From d loss / d of a layer's result in dx to d loss / d of what it was given. Of the lowest layer
// that is trained, only as far as an adapter is.
static void unwind_layer(const struct step *step, float *gradient_out)
{
    struct transformer *const t = step->t;
    const struct base_layer_at at = base_layer_at(&t->shape, step->layer);
    struct kept *const kept = step->kept;
    const size_t n = step->n, m = step->m;
    const bool lowest = t->gradients == TRANSFORMER_ADAPTERS && step->layer == t->low;
    const enum linear end = lowest ? t->deepest : LINEAR_COUNT_;

    float *const dunits = end == LINEAR_DOWN ? NULL : t->dunits;
    unwind_linear(step, LINEAR_DOWN, m, kept->units, t->dx, dunits, gradient_out);
    if (end == LINEAR_DOWN) {
        return;
    }
    vec_multiply(dunits, kept->slope, m * t->shape.inner);
    unwind_linear(step, LINEAR_UP, m, kept->y2, dunits, end == LINEAR_UP ? NULL : t->dnorm,
                  gradient_out);
    if (end == LINEAR_UP) {
        return;
    }
    unwind_norm(step, at.norm2, kept->hat2, kept->scale2, m, gradient_out);
    unwind_linear(step, LINEAR_OUTPUT, m, kept->mixed, t->dx,
                  end == LINEAR_OUTPUT ? NULL : t->dnorm, gradient_out);
    if (end == LINEAR_OUTPUT) {
        return;
    }
    unwind_attention(step, t->dnorm);
    unwind_linear(step, LINEAR_QKV, n, kept->y1, t->dqkv, end == LINEAR_QKV ? NULL : t->dnorm,
                  gradient_out);
    if (end == LINEAR_QKV) {
        return;
    }
    if (m != n) {
        spread_rows(step);
    }
    unwind_norm(step, at.norm1, kept->hat1, kept->scale1, n, gradient_out);
}

void transformer_backward(struct transformer *transformer, const float *weights,
                          const float *const *adapters, const struct transformer_batch *batch,
                          const float *dy, float *gradient_out)
{
    struct transformer *const t = transformer;
    CHECK(t->gradients != TRANSFORMER_NONE);
    const size_t d = t->shape.width, rows = rows_of(t, batch);
    struct step step = {t, weights, adapters, batch, 0, NULL, 0, 0};
    step.n = check_batch(t, batch);
    memset(t->dx, 0, rows * d * sizeof *t->dx);
    if (t->gradients == TRANSFORMER_WEIGHTS) {
        norm_gradient(t->hat, dy, rows, d, gradient_out + t->at.norm,
                      gradient_out + t->at.norm + d);
    }
    norm_backward(t->hat, t->scale, weights + t->at.norm, dy, rows, d, t->dx);
    for (uint32_t layer = t->shape.layers; layer-- > t->first;) {
        step_to(&step, layer);
        unwind_layer(&step, gradient_out);
    }
    if (t->gradients == TRANSFORMER_WEIGHTS) {
        if (t->shape.kind == BASE_VIT) {
            embed_images_backward(&t->shape, batch->samples, t->patches, t->dx, gradient_out);
        } else {
            embed_tokens_backward(&t->shape, batch->offsets, batch->samples, t->tokens, t->dx,
                                  gradient_out);
        }
    }
}

// --- Embedding ---

void transformer_embed_images(struct transformer *transformer, const float *weights,
                              const struct transformer_batch *batch, const float *pixels)
{
    struct transformer *const t = transformer;
    CHECK(t->shape.kind == BASE_VIT);
    check_batch(t, batch);
    for (uint32_t s = 0; s < batch->samples; s++) {
        CHECK(tokens_of(batch, s) == base_tokens_max(&t->shape));
    }
    embed_images(&t->shape, weights, batch->samples, pixels, t->patches, t->x);
}

void transformer_embed_tokens(struct transformer *transformer, const float *weights,
                              const struct transformer_batch *batch, const uint16_t *tokens)
{
    struct transformer *const t = transformer;
    CHECK(t->shape.kind == BASE_TEXT);
    memcpy(t->tokens, tokens, check_batch(t, batch) * sizeof *tokens);
    embed_tokens(&t->shape, weights, batch->offsets, batch->samples, tokens, t->x);
}
