// model/lora.c: see lora.h.
#include "model/lora.h"

#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/text.h"
#include "model/blas.h"
#include "model/vec.h"

// --- Targets ---

struct named {
    const char *name;
    enum linear linear;
    uint32_t third, thirds; // QKV: the first of the parts query, key, value, and how many.
};
static const struct named vit_names[] = {
    {"query", LINEAR_QKV, 0, 1},
    {"key", LINEAR_QKV, 1, 1},
    {"value", LINEAR_QKV, 2, 1},
    {"attention.output.dense", LINEAR_OUTPUT, 0, 0},
    {"intermediate.dense", LINEAR_UP, 0, 0},
    {"output.dense", LINEAR_DOWN, 0, 0},
    {NULL, LINEAR_COUNT_, 0, 0},
};
static const struct named text_names[] = {
    {"query", LINEAR_QKV, 0, 1},          {"key", LINEAR_QKV, 1, 1},
    {"value", LINEAR_QKV, 2, 1},          {"c_attn", LINEAR_QKV, 0, 3},
    {"attn.c_proj", LINEAR_OUTPUT, 0, 0}, {"c_fc", LINEAR_UP, 0, 0},
    {"mlp.c_proj", LINEAR_DOWN, 0, 0},    {NULL, LINEAR_COUNT_, 0, 0},
};

static struct lora_target target_of(const struct base_shape *shape, const struct named *named)
{
    struct lora_target target = {.linear = named->linear, .in = shape->width};
    switch (named->linear) {
    case LINEAR_QKV:
        target.from = named->third * shape->width;
        target.rows = named->thirds * shape->width;
        break;
    case LINEAR_UP:
        target.rows = shape->inner;
        break;
    case LINEAR_DOWN:
        target.in = shape->inner;
        target.rows = shape->width;
        break;
    case LINEAR_OUTPUT:
    case LINEAR_COUNT_:
        target.rows = shape->width;
        break;
    }
    return target;
}

enum err lora_target_find(const struct base_shape *shape, const char *name,
                          struct lora_target *target_out)
{
    const struct named *const names = shape->kind == BASE_VIT ? vit_names : text_names;
    char all[256] = "";
    for (const struct named *named = names; named->name != NULL; named++) {
        if (strcmp(named->name, name) == 0) {
            *target_out = target_of(shape, named);
            return OK;
        }
        const size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", used == 0 ? "" : ", ", named->name);
    }
    FAIL(ERR_INVALID, "a LoRA target is \"%.40s\", expected with a %s base one of %s",
         text_is_clean(span_text(name)) ? name : "?", shape->kind == BASE_VIT ? "vit" : "text",
         all);
}

enum err lora_targets(const struct base_shape *shape, const char *names, struct lora *lora_out)
{
    lora_out->target_count = 0;
    for (const char *at = names;; at++) {
        char name[LIMIT_LORA_TARGETS_BYTES];
        const size_t bytes = strcspn(at, ",");
        if (lora_out->target_count == LORA_TARGETS_MAX || bytes >= sizeof name) {
            FAIL(ERR_INVALID, "LoRA has more than %d targets", (int)LORA_TARGETS_MAX);
        }
        memcpy(name, at, bytes);
        name[bytes] = '\0';
        TRY(lora_target_find(shape, name, &lora_out->targets[lora_out->target_count]));
        lora_out->target_count++;
        at += bytes;
        if (*at == '\0') {
            return OK;
        }
    }
}

static bool overlap(const struct lora_target *a, const struct lora_target *b)
{
    return a->linear == b->linear && a->from < b->from + b->rows && b->from < a->from + a->rows;
}

enum err lora_check(const struct lora *lora)
{
    if (lora->rank == 0 || lora->rank > LIMIT_LORA_RANK) {
        FAIL(ERR_INVALID, "the rank of LoRA is %u, expected 1 to %d", lora->rank,
             (int)LIMIT_LORA_RANK);
    }
    if (lora->target_count == 0 || lora->target_count > LORA_TARGETS_MAX) {
        FAIL(ERR_INVALID, "LoRA has %u targets, expected 1 to %d", lora->target_count,
             (int)LORA_TARGETS_MAX);
    }
    if (!isfinite(lora->scale)) {
        FAIL(ERR_INVALID, "the scale of LoRA is %g, expected a finite number", (double)lora->scale);
    }
    if (!(lora->dropout >= 0.0f && lora->dropout < 1.0f)) {
        FAIL(ERR_INVALID, "the dropout of LoRA is %g, expected 0 to below 1",
             (double)lora->dropout);
    }
    for (uint32_t i = 0; i < lora->target_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (overlap(&lora->targets[i], &lora->targets[j])) {
                FAIL(ERR_INVALID, "targets %u and %u of LoRA cover the same outputs", j + 1, i + 1);
            }
        }
    }
    return OK;
}

uint64_t lora_at(const struct lora *lora, uint32_t target)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < target; i++) {
        at += (uint64_t)lora->rank * (lora->targets[i].in + (uint64_t)lora->targets[i].rows);
    }
    return at;
}

uint64_t lora_count(const struct lora *lora)
{
    return lora_at(lora, lora->target_count);
}

void lora_init(const struct lora *lora, struct rng_key key, float *adapters_out)
{
    rng_fill_uniform(key, 1.0f, adapters_out, lora_count(lora));
    float *at = adapters_out;
    for (uint32_t i = 0; i < lora->target_count; i++) {
        const struct lora_target *const target = &lora->targets[i];
        const float bound = (float)(1.0 / sqrt((double)target->in));
        const size_t a = (size_t)lora->rank * target->in, b = (size_t)lora->rank * target->rows;
        for (size_t j = 0; j < a; j++) {
            at[j] *= bound;
        }
        memset(at + a, 0, b * sizeof *at);
        at += a + b;
    }
}

// --- Dropout ---

struct rng_key lora_drop_key(struct buf *name, uint32_t layer, uint32_t target,
                             const struct id128 *rid, uint32_t window)
{
    const size_t bytes = name->bytes;
    buf_u32(name, layer);
    buf_u32(name, target);
    buf_put(name, span_of(rid->bytes, sizeof rid->bytes));
    buf_u32(name, window);
    const struct rng_key key = rng_key_of("unlearnd-lora", buf_span(name));
    name->bytes = bytes;
    return key;
}

void lora_drop(const struct lora *lora, struct rng_key key, uint64_t count, float *factor_out)
{
    const float kept = 1.0f / (1.0f - lora->dropout);
    for (uint64_t i = 0; i < count; i += 4) {
        const uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), 0, 0};
        uint32_t words[4];
        rng_philox(key, counter, words);
        for (uint64_t j = 0; j < 4 && i + j < count; j++) {
            factor_out[i + j] = rng_unit(words[j]) < lora->dropout ? 0.0f : kept;
        }
    }
}

// --- Products ---

void lora_forward(const struct lora *lora, uint32_t target, const float *adapters, size_t row_count,
                  const float *x, float *low_out, float *y, size_t y_stride)
{
    const size_t r = lora->rank, in = lora->targets[target].in, rows = lora->targets[target].rows;
    const float *const a = adapters + lora_at(lora, target), *const b = a + r * in;
    blas_product_nt(row_count, r, in, x, a, low_out);
    blas_nt(row_count, rows, r, lora->scale, low_out, r, b, r, 1.0f, y, y_stride);
}

void lora_backward(const struct lora_backward *back, float *gradient_out, float *dx)
{
    const struct lora *const lora = back->lora;
    const struct lora_target *const target = &lora->targets[back->target];
    const size_t n = back->row_count, r = lora->rank, in = target->in, rows = target->rows;
    const float *const a = back->adapters + lora_at(lora, back->target), *const b = a + r * in;
    blas_nn(n, r, rows, lora->scale, back->dy, back->dy_stride, b, r, 0.0f, back->dlow, r);
    if (gradient_out != NULL) {
        float *const da = gradient_out + lora_at(lora, back->target), *const db = da + r * in;
        blas_product_tn(r, in, n, back->dlow, back->x, da);
        blas_tn(rows, r, n, lora->scale, back->dy, back->dy_stride, back->low, r, 0.0f, db, r);
    }
    if (dx != NULL && back->factor == NULL) {
        blas_nn(n, in, r, 1.0f, back->dlow, r, a, in, 1.0f, dx, in);
    } else if (dx != NULL) {
        blas_product_nn(n, in, r, back->dlow, a, back->dropped);
        vec_multiply(back->dropped, back->factor, n * in);
        vec_add(dx, back->dropped, n * in);
    }
}
