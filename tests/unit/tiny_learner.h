// tests/unit/tiny_learner.h: small models of images and texts, on a base and from nothing.
#pragma once

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "model/backbone.h"

enum {
    SMALL_ROWS = 4,
    SMALL_COLS = 6,
    SMALL_PIXELS = SMALL_ROWS * SMALL_COLS,
    SMALL_CLASSES = 3,
    SMALL_LAYERS = 4,
    SMALL_WIDTH = 12,
    SMALL_CONTEXT = 9,
    SMALL_RECORDS = 13,
    SMALL_TEXT_BYTES = 40,
};

struct small {
    struct spec spec;
    struct schema schema;
    struct base *base; // NULL: none.
    struct stage stage;
    uint16_t list[SMALL_LAYERS + 2];
    uint64_t slice_count[SMALL_LAYERS + 2];
    struct buf bytes[SMALL_RECORDS];
    struct span rows[SMALL_RECORDS];
    struct id128 rids[SMALL_RECORDS];
    struct stage_data data;
};

static inline void small_set(struct small *m, const char *key, const char *value)
{
    const enum err err = spec_set(&m->spec, key, value);
    if (err != OK) {
        fprintf(stderr, "%s\n", err_text());
    }
    CHECK(err == OK);
}

static inline struct base *small_base(enum base_kind kind)
{
    struct base_shape shape = {
        .kind = kind,
        .gelu = kind == BASE_VIT ? BASE_GELU_ERF : BASE_GELU_TANH,
        .layers = SMALL_LAYERS,
        .width = SMALL_WIDTH,
        .heads = 3,
        .inner = 20,
        .epsilon = 1e-6,
    };
    if (kind == BASE_VIT) {
        shape.rows = SMALL_ROWS;
        shape.cols = SMALL_COLS;
        shape.channels = 1;
        shape.patch = 2;
        shape.mean[0] = shape.deviation[0] = 0.5f;
    } else {
        shape.context = SMALL_CONTEXT;
    }
    float *weights = NULL;
    CHECK(mem_try_aligned(base_at(&shape).count, sizeof *weights, &weights) == OK);
    base_init(&shape, rng_key_of("small", span_text("base")), weights);
    for (uint64_t i = 0; i < base_at(&shape).count; i++) { // Livelier than first weights are.
        weights[i] *= 1.5f;
    }
    return base_new(&shape, weights);
}

static inline void small_schema(struct small *m, enum base_kind kind, enum task task)
{
    struct schema *const s = &m->schema;
    s->column_count = 2;
    s->columns = mem_alloc(2, sizeof *s->columns);
    s->columns[0] =
        (struct column){.name = mem_text("spare"), .kind = COLUMN_IGNORED, .width = 1, .scale = 1};
    s->columns[1] = (struct column){.name = mem_text("content"),
                                    .kind = kind == BASE_VIT ? COLUMN_PIXELS : COLUMN_TEXT,
                                    .width = kind == BASE_VIT ? SMALL_PIXELS : 1,
                                    .rows = kind == BASE_VIT ? SMALL_ROWS : 0,
                                    .cols = kind == BASE_VIT ? SMALL_COLS : 0,
                                    .scale = 1};
    s->task = task;
    s->label = mem_text(task == TASK_NONE ? "" : "label");
    if (task == TASK_CLASSES) {
        s->class_count = SMALL_CLASSES;
        s->classes = mem_alloc(SMALL_CLASSES, sizeof *s->classes);
        for (uint32_t i = 0; i < SMALL_CLASSES; i++) {
            const char name[2] = {(char)('a' + i), '\0'};
            s->classes[i] = mem_text(name);
        }
    }
    CHECK(schema_check(s) == OK);
}

// Record i: an image whose bright pixels tell its class, or a text that repeats itself.
static inline void small_row(const struct small *m, enum base_kind kind, uint32_t i,
                             struct buf *out)
{
    const uint32_t class = i % SMALL_CLASSES;
    if (m->schema.task == TASK_CLASSES) {
        buf_u16(out, (uint16_t) class);
    } else if (m->schema.task == TASK_NUMBER) {
        buf_f32(out, (float)class - 1.0f);
    }
    if (kind == BASE_VIT) {
        for (uint32_t p = 0; p < SMALL_PIXELS; p++) {
            const uint32_t noise = (p * 37 + i * 101) % 60;
            buf_u8(out, (uint8_t)(noise + (p % SMALL_CLASSES == class ? 170 : 0)));
        }
        return;
    }
    const uint32_t bytes = (i * 7) % (SMALL_TEXT_BYTES + 1); // 0 .. 40: up to five windows.
    buf_u32(out, bytes);
    for (uint32_t b = 0; b < bytes; b++) {
        buf_u8(out, (uint8_t)("abcde"[(b + i) % 5]));
    }
}

// A stage on all records, its list 0 .. list_count-1.
static inline struct small *small_new(enum base_kind kind, enum task task, bool on_base,
                                      uint32_t list_count)
{
    struct small *const m = mem_alloc(1, sizeof *m);
    m->spec = spec_default();
    small_set(m, "learner", kind == BASE_VIT ? "vit" : "text");
    small_set(m, "slices", "4");
    small_set(m, "batch", "5");
    small_set(m, "seed", "3");
    small_set(m, "optimizer.kind", "adamw");
    small_set(m, "optimizer.rate", "0.01");
    small_schema(m, kind, task);
    if (on_base) {
        m->base = small_base(kind);
        small_set(m, "base", "some");
        small_set(m, "lora.rank", "3");
        small_set(m, "lora.alpha", "4");
    } else {
        small_set(m, "layers", "2");
        small_set(m, "width", "12");
        small_set(m, "heads", "3");
        small_set(m, "inner", "20");
        small_set(m, kind == BASE_VIT ? "patch" : "context", kind == BASE_VIT ? "2" : "9");
    }
    for (uint32_t i = 0; i < SMALL_RECORDS; i++) {
        small_row(m, kind, i, &m->bytes[i]);
        m->rows[i] = buf_span(&m->bytes[i]);
        CHECK(schema_check_row(&m->schema, m->rows[i]) == OK);
        memset(&m->rids[i], (int)(11 * i + 1), sizeof m->rids[i]);
    }
    for (uint16_t i = 0; i < list_count; i++) {
        m->list[i] = i;
    }
    m->slice_count[0] = SMALL_RECORDS;
    m->data = (struct stage_data){m->rows, m->rids, m->slice_count, SMALL_RECORDS};
    m->stage = (struct stage){
        .recipe = {.spec = &m->spec, .schema = &m->schema, .base = m->base},
        .shard = 2,
        .list = m->list,
        .list_count = list_count,
        .passes = 2,
    };
    return m;
}

static inline void small_free(struct small *m)
{
    for (uint32_t i = 0; i < SMALL_RECORDS; i++) {
        buf_deinit(&m->bytes[i]);
    }
    schema_deinit(&m->schema);
    base_release(m->base);
    mem_free(m);
}

static inline float *small_floats(uint64_t count)
{
    float *memory = NULL;
    CHECK(mem_try_aligned(count, sizeof *memory, &memory) == OK);
    return memory;
}

static inline uint64_t small_count(const struct small *m, uint32_t list_count)
{
    uint64_t count = 0;
    CHECK(learner_param_count(&m->stage.recipe, list_count, &count) == OK);
    return count;
}

// Trains the stage. Caller frees.
static inline float *small_train(const struct small *m, const float *parent)
{
    const uint64_t count = small_count(m, m->stage.list_count);
    float *const params = small_floats(count);
    for (uint64_t i = 0; i < count; i++) {
        params[i] = NAN; // All of them must be written.
    }
    CHECK(stage_train(&m->stage, &m->data, parent, NULL, params) == OK);
    return params;
}

// All records and pieces as one batch.
struct small_batch {
    struct stage_rows rows;
    struct span row[8 * SMALL_RECORDS];
    float y[8 * SMALL_RECORDS];
    struct id128 rids[8 * SMALL_RECORDS];
    uint32_t pieces[8 * SMALL_RECORDS];
    uint64_t indices[8 * SMALL_RECORDS];
};

static inline struct small_batch *small_batch(const struct small *m)
{
    const struct learner *const learner = learner_find(m->spec.learner);
    struct small_batch *const b = mem_alloc(1, sizeof *b);
    uint32_t used = 0;
    for (uint32_t i = 0; i < SMALL_RECORDS; i++) {
        const uint32_t pieces =
            learner->piece_count == NULL ? 1 : learner->piece_count(&m->stage.recipe, m->rows[i]);
        for (uint32_t piece = 0; piece < pieces; piece++, used++) {
            CHECK(used < 8 * SMALL_RECORDS);
            b->row[used] = m->rows[i];
            b->y[used] = schema_label(&m->schema, NULL, m->rows[i]);
            b->rids[used] = m->rids[i];
            b->pieces[used] = piece;
            b->indices[used] = i;
        }
    }
    b->rows = (struct stage_rows){.y = b->y,
                                  .rids = b->rids,
                                  .count = used,
                                  .pass = 1,
                                  .rows = b->row,
                                  .pieces = b->pieces,
                                  .indices = b->indices};
    return b;
}

// Holds the gradient of the trained weights against the change of the loss, for every `every`th of
// them. Returns the largest distance, as a part of the largest slope.
static inline double small_slopes_off(const struct small *m, const float *parent, uint64_t every)
{
    const struct learner *const learner = learner_find(m->spec.learner);
    const uint64_t count = small_count(m, m->stage.list_count);
    const uint64_t trained = learner->trained_count(&m->stage.recipe, m->stage.list_count);
    float *const weights = small_floats(count), *const noise = small_floats(count);
    float *const gradient = small_floats(trained + 1), *const unused = small_floats(trained);
    learner->init(&m->stage, parent, weights);
    rng_fill_uniform(rng_key_of("small", span_text("noise")), 0.2f, noise, count);
    for (uint64_t i = count - trained; i < count; i++) {
        weights[i] += noise[i]; // B of an adapter starts as zeros.
    }
    struct small_batch *const b = small_batch(m);
    void *work = NULL;
    CHECK(learner->work_new(&m->stage.recipe, m->stage.list_count, &m->stage, &m->data,
                            b->rows.count, &work) == OK);
    double loss = 0;
    for (uint64_t i = 0; i <= trained; i++) {
        gradient[i] = NAN;
    }
    learner->gradient(work, weights, &b->rows, gradient, &loss);
    CHECK(isnan(gradient[trained])); // Not written.
    double most = 0, off = 0;
    for (uint64_t i = 0; i < trained; i += every) {
        float *const at = weights + (count - trained) + i;
        const float before = *at, step = 0.004f;
        double above = 0, below = 0;
        *at = before + step;
        learner->gradient(work, weights, &b->rows, unused, &above);
        *at = before - step;
        learner->gradient(work, weights, &b->rows, unused, &below);
        *at = before;
        const double slope = (above - below) / (2 * (double)step);
        const double apart = fabs(slope - (double)gradient[i]);
        most = fmax(most, fabs(slope));
        off = !(apart <= off) ? apart : off; // NaN too.
    }
    learner->work_free(work);
    mem_free(weights);
    mem_free(noise);
    mem_free(gradient);
    mem_free(unused);
    mem_free(b);
    return off / most;
}
