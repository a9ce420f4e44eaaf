// model/dense.c: see dense.h.
//
// Letters in comments: B rows, D inputs of a layer, H its outputs. For each hidden layer the
// forward step keeps out[B][H], the units after activation and dropout, and slope[B][H], the
// derivative of out by the unit's sum, so that the backward step is a product and one
// multiplication whatever the activation is.
#include "model/dense.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/blas.h"
#include "model/elem.h"
#include "model/loss.h"

enum { LAYERS_MAX = LIMIT_LAYERS + 1 };

struct shape {
    uint32_t layers;
    uint32_t width[LAYERS_MAX + 1]; // width[i] goes into layer i, width[i + 1] comes out.
};

struct dense_work {
    struct shape shape;
    enum task task;
    enum activation activation;
    float dropout, kept_scale; // kept_scale = 1 / (1 - dropout)
    uint32_t rows_max;
    float *out[LAYERS_MAX];   // [rows_max][width[i + 1]]; the last one holds the outputs. Owned.
    float *slope[LAYERS_MAX]; // The same, for hidden layers; NULL when predicting. Owned.
    float *delta[2];          // [rows_max][widest]: loss by sums, of a layer and the one below.
    struct buf name;          // What the draws of dropout belong to, with room for the rest.
    size_t name_bytes;        // Length of the part that the stage decides.
};

static enum err shape_of(const struct recipe *recipe, bool hidden, const char *learner,
                         struct shape *shape_out)
{
    const struct spec *const spec = recipe->spec;
    *shape_out = (struct shape){0};
    TRY(schema_input_width(recipe->schema, learner, &shape_out->width[0]));
    const uint32_t hidden_count = hidden ? spec->hidden_count : 0;
    CHECK(hidden_count <= LIMIT_LAYERS);
    for (uint32_t i = 0; i < hidden_count; i++) {
        shape_out->width[i + 1] = spec->hidden[i];
    }
    shape_out->layers = hidden_count + 1;
    shape_out->width[shape_out->layers] = schema_output_width(recipe->schema);
    return OK;
}

static uint64_t layer_weights(const struct shape *shape, uint32_t layer)
{
    return ((uint64_t)shape->width[layer] + 1) * shape->width[layer + 1];
}

static uint64_t count_weights(const struct shape *shape)
{
    uint64_t count = 0; // At most 33 layers of below 2^48 weights: no overflow.
    for (uint32_t i = 0; i < shape->layers; i++) {
        count += layer_weights(shape, i);
    }
    return count;
}

static enum err weight_count(const struct recipe *recipe, bool hidden, const char *learner,
                             uint64_t *count_out)
{
    struct shape shape;
    TRY(shape_of(recipe, hidden, learner, &shape));
    const uint64_t count = count_weights(&shape);
    if (count > LIMIT_PARAM_COUNT) {
        FAIL(ERR_LIMIT, "learner %s would have %llu parameters, expected at most %d", learner,
             (unsigned long long)count, (int)LIMIT_PARAM_COUNT);
    }
    *count_out = count;
    return OK;
}

static void init(const struct stage *stage, bool hidden, const float *parent, float *weights_out)
{
    struct shape shape;
    CHECK(shape_of(&stage->recipe, hidden, "dense", &shape) == OK);
    if (parent != NULL) {
        memcpy(weights_out, parent, count_weights(&shape) * sizeof *weights_out);
        return;
    }
    for (uint32_t i = 0; i < shape.layers; i++) {
        const uint64_t in = shape.width[i], out = shape.width[i + 1];
        const float bound = (float)sqrt(6.0 / (double)(in + out));
        rng_fill_uniform(stage_key(stage, "unlearnd-init", i), bound, weights_out, in * out);
        memset(weights_out + in * out, 0, out * sizeof *weights_out);
        weights_out += (in + 1) * out;
    }
}

// --- Memory ---

static void work_free(void *memory)
{
    struct dense_work *const work = memory;
    if (work == NULL) {
        return;
    }
    for (uint32_t i = 0; i < LAYERS_MAX; i++) {
        mem_free(work->out[i]);
        mem_free(work->slope[i]);
    }
    mem_free(work->delta[0]);
    mem_free(work->delta[1]);
    buf_deinit(&work->name);
    mem_free(work);
}

static enum err take_memory(struct dense_work *work, bool training)
{
    const struct shape *const shape = &work->shape;
    const size_t rows = work->rows_max;
    uint32_t widest = 0;
    for (uint32_t i = 0; i < shape->layers; i++) {
        const uint32_t width = shape->width[i + 1];
        widest = width > widest ? width : widest;
        TRY(mem_try_aligned(rows * width, sizeof(float), &work->out[i]));
        if (training && i + 1 < shape->layers) {
            TRY(mem_try_aligned(rows * width, sizeof(float), &work->slope[i]));
        }
    }
    for (int i = 0; training && i < 2; i++) {
        TRY(mem_try_aligned(rows * widest, sizeof(float), &work->delta[i]));
    }
    return OK;
}

static enum err work_new(const struct recipe *recipe, const struct stage *stage, uint32_t rows_max,
                         bool hidden, void **work_out)
{
    const struct spec *const spec = recipe->spec;
    *work_out = NULL;
    struct dense_work *const work = mem_alloc(1, sizeof *work);
    CHECK(shape_of(recipe, hidden, "dense", &work->shape) == OK);
    work->task = recipe->schema->task;
    work->activation = spec->activation;
    work->rows_max = rows_max;
    if (stage != NULL) {
        work->dropout = hidden ? (float)spec->dropout : 0.0f;
        work->kept_scale = (float)(1.0 / (1.0 - spec->dropout));
        stage_put_name(stage, &work->name);
        work->name_bytes = work->name.bytes;
    }
    const enum err err = take_memory(work, stage != NULL);
    if (err != OK) {
        work_free(work);
        return err;
    }
    *work_out = work;
    return OK;
}

// --- Forward ---

// Turns the sums in out[count] into units, and slope[count] (unless NULL) into their derivative.
static void activate(enum activation activation, float *out, float *slope, size_t count)
{
    switch (activation) {
    case ACTIVATION_RELU:
        for (size_t i = 0; i < count; i++) {
            const bool on = out[i] > 0.0f || out[i] != out[i]; // NaN goes on, to be found.
            out[i] = on ? out[i] : 0.0f;
            if (slope != NULL) {
                slope[i] = on ? 1.0f : 0.0f;
            }
        }
        break;
    case ACTIVATION_TANH:
        elem_tanh(out, out, count);
        for (size_t i = 0; slope != NULL && i < count; i++) {
            slope[i] = 1.0f - out[i] * out[i];
        }
        break;
    case ACTIVATION_GELU:
        elem_gelu(out, out, slope, count);
        break;
    }
}

// Drops units of one record in one layer: unit u by word u mod 4 of draw u / 4.
static void drop_units(struct dense_work *work, uint32_t pass, uint32_t layer,
                       const struct id128 *rid, float *out, float *slope)
{
    work->name.bytes = work->name_bytes;
    buf_u32(&work->name, pass);
    buf_u32(&work->name, layer);
    buf_put(&work->name, span_of(rid->bytes, sizeof rid->bytes));
    const struct rng_key key = rng_key_of("unlearnd-drop", buf_span(&work->name));
    const uint32_t width = work->shape.width[layer + 1];
    for (uint32_t unit = 0; unit < width; unit += 4) {
        const uint32_t counter[4] = {unit / 4, 0, 0, 0};
        uint32_t words[4];
        rng_philox(key, counter, words);
        for (uint32_t i = 0; i < 4 && unit + i < width; i++) {
            const float factor = rng_unit(words[i]) < work->dropout ? 0.0f : work->kept_scale;
            out[unit + i] *= factor;
            slope[unit + i] *= factor;
        }
    }
}

// Fills out[] (and slope[] while training) of all layers.
static void run_layers(struct dense_work *work, const float *weights, const struct stage_rows *rows)
{
    CHECK(rows->count > 0 && rows->count <= work->rows_max);
    const struct shape *const shape = &work->shape;
    const float *x = rows->x;
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        const size_t in = shape->width[layer], width = shape->width[layer + 1];
        float *const out = work->out[layer];
        const float *const bias = weights + in * width;
        blas_product_nt(rows->count, width, in, x, weights, out);
        for (size_t row = 0; row < rows->count; row++) {
            for (size_t unit = 0; unit < width; unit++) {
                out[row * width + unit] += bias[unit];
            }
        }
        if (layer + 1 < shape->layers) {
            float *const slope = work->slope[layer];
            activate(work->activation, out, slope, rows->count * width);
            for (size_t row = 0; work->dropout > 0.0f && row < rows->count; row++) {
                drop_units(work, rows->pass, layer, &rows->rids[row], out + row * width,
                           slope + row * width);
            }
        }
        x = out;
        weights = bias + width;
    }
}

static void forward(void *memory, const float *weights, const struct stage_rows *rows,
                    float *outputs_out)
{
    struct dense_work *const work = memory;
    run_layers(work, weights, rows);
    const uint32_t last = work->shape.layers - 1;
    memcpy(outputs_out, work->out[last],
           (size_t)rows->count * work->shape.width[last + 1] * sizeof *outputs_out);
}

// --- Backward ---

static double loss_rows(struct dense_work *work, const struct stage_rows *rows, float *delta)
{
    const uint32_t width = work->shape.width[work->shape.layers];
    const float *const outputs = work->out[work->shape.layers - 1];
    double loss = 0;
    for (size_t row = 0; row < rows->count; row++) {
        if (work->task == TASK_CLASSES) {
            loss += loss_softmax(outputs + row * width, width, (uint32_t)rows->y[row],
                                 delta + row * width);
        } else {
            loss += loss_square(outputs[row], rows->y[row], &delta[row]);
        }
    }
    return loss;
}

static void gradient(void *memory, const float *weights, const struct stage_rows *rows,
                     float *gradient_out, double *loss_out)
{
    struct dense_work *const work = memory;
    const struct shape *const shape = &work->shape;
    run_layers(work, weights, rows);
    float *delta = work->delta[0], *below = work->delta[1];
    const double loss = loss_rows(work, rows, delta);
    if (loss_out != NULL) {
        *loss_out = loss;
    }
    uint64_t at = count_weights(shape);
    for (uint32_t layer = shape->layers; layer-- > 0;) {
        const size_t in = shape->width[layer], width = shape->width[layer + 1];
        at -= layer_weights(shape, layer);
        const float *const x = layer == 0 ? rows->x : work->out[layer - 1];
        blas_product_tn(width, in, rows->count, delta, x, gradient_out + at);
        float *const bias = gradient_out + at + in * width;
        memcpy(bias, delta, width * sizeof *bias);
        for (size_t row = 1; row < rows->count; row++) {
            for (size_t unit = 0; unit < width; unit++) {
                bias[unit] += delta[row * width + unit];
            }
        }
        if (layer > 0) {
            blas_product_nn(rows->count, in, width, delta, weights + at, below);
            const float *const slope = work->slope[layer - 1];
            for (size_t i = 0; i < rows->count * in; i++) {
                below[i] *= slope[i];
            }
            float *const swap = delta;
            delta = below;
            below = swap;
        }
    }
}

// --- The two learners ---

#define DENSE(stem, hidden)                                                                        \
    static enum err stem##_weight_count(const struct recipe *recipe, uint32_t list_count,          \
                                        uint64_t *count_out)                                       \
    {                                                                                              \
        (void)list_count;                                                                          \
        return weight_count(recipe, hidden, #stem, count_out);                                     \
    }                                                                                              \
    static void stem##_init(const struct stage *stage, const float *parent, float *weights_out)    \
    {                                                                                              \
        init(stage, hidden, parent, weights_out);                                                  \
    }                                                                                              \
    static enum err stem##_work_new(const struct recipe *recipe, uint32_t list_count,              \
                                    const struct stage *stage, const struct stage_data *data,      \
                                    uint32_t rows_max, void **work_out)                            \
    {                                                                                              \
        (void)list_count;                                                                          \
        (void)data;                                                                                \
        return work_new(recipe, stage, rows_max, hidden, work_out);                                \
    }                                                                                              \
    const struct learner learner_##stem = {                                                        \
        .name = #stem,                                                                             \
        .weight_count = stem##_weight_count,                                                       \
        .init = stem##_init,                                                                       \
        .work_new = stem##_work_new,                                                               \
        .work_free = work_free,                                                                    \
        .gradient = gradient,                                                                      \
        .forward = forward,                                                                        \
    };

DENSE(softmax, false)
DENSE(mlp, true)
