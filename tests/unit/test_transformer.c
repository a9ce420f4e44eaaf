// tests/unit/test_transformer.c: the transformer computes what it says, forward and backward.
//
// Method: the loss is a fixed weighted sum of all outputs. First the plain version, in float64, is
// held against central differences: every weight and every adapter is moved a little to both sides.
// Then the fast one is held against the plain one: outputs and all gradients, for images and texts,
// for each LoRA target alone and all together, with dropout, for every range of trained layers.
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/transformer_plain.h"
#include "tests/unit/tiny_transformer.h"

static const struct base_shape *const shapes[] = {&tiny_vit, &tiny_text};

static double *doubles_of(const float *x, uint64_t count)
{
    double *const out = mem_alloc(count, sizeof *out);
    for (uint64_t i = 0; i < count; i++) {
        out[i] = (double)x[i];
    }
    return out;
}

// d loss / d output number i of sample `sample`; only the class token's outputs of an image count.
static double slope_of(const struct base_shape *shape, uint32_t sample, uint64_t i)
{
    return shape->kind == BASE_VIT && i >= TINY_WIDTH ? 0 : sin(1.3 * (double)i + sample + 0.5);
}

// --- The plain version, one sample ---

struct plain_case {
    struct plain_model model;
    const struct tiny_batch *b;
    uint32_t sample;
};

static struct plain *plain_of(const struct plain_case *c)
{
    const uint32_t from = c->b->offsets[c->sample];
    return plain_new(&c->model, c->b->pixels + c->sample * TINY_PIXELS, c->b->tokens + from,
                     c->b->offsets[c->sample + 1] - from);
}

static double plain_loss(const struct plain_case *c)
{
    struct plain *const p = plain_of(c);
    const double *const y = plain_forward(p);
    const uint64_t count =
        (uint64_t)(c->b->offsets[c->sample + 1] - c->b->offsets[c->sample]) * TINY_WIDTH;
    double loss = 0;
    for (uint64_t i = 0; i < count; i++) {
        loss += slope_of(c->model.shape, c->sample, i) * y[i];
    }
    plain_free(p);
    return loss;
}

static void plain_gradients(const struct plain_case *c, double *dweights, double *const *dadapters)
{
    struct plain *const p = plain_of(c);
    plain_forward(p);
    double dy[TINY_CONTEXT * TINY_WIDTH] = {0};
    const uint64_t count =
        (uint64_t)(c->b->offsets[c->sample + 1] - c->b->offsets[c->sample]) * TINY_WIDTH;
    for (uint64_t i = 0; i < count; i++) {
        dy[i] = slope_of(c->model.shape, c->sample, i);
    }
    plain_backward(p, dy, dweights, dadapters);
    plain_free(p);
}

// Moves each of numbers[count], which the case reads, and compares the change of the loss.
static void assert_slopes(const struct plain_case *c, double *numbers, uint64_t count,
                          const double *gradient)
{
    for (uint64_t i = 0; i < count; i++) {
        const double before = numbers[i], step = 1e-4;
        numbers[i] = before + step;
        const double above = plain_loss(c);
        numbers[i] = before - step;
        const double below = plain_loss(c);
        numbers[i] = before;
        const double slope = (above - below) / (2 * step);
        if (fabs(slope - gradient[i]) > 2e-6 * (1 + fabs(slope))) {
            fail_msg("number %llu: gradient %.9g, difference quotient %.9g", (unsigned long long)i,
                     gradient[i], slope);
        }
    }
}

// Dropout factors for every layer and target of one sample, as the transformer must draw them.
static void draw_factors(const struct lora *lora, const struct tiny_batch *b, uint32_t sample,
                         uint32_t low, uint32_t high, float **factors)
{
    struct buf name = {0};
    buf_put(&name, b->batch.name);
    const uint32_t tokens = b->offsets[sample + 1] - b->offsets[sample];
    for (uint32_t layer = low; layer < high; layer++) {
        for (uint32_t i = 0; i < lora->target_count; i++) {
            const uint64_t count = (uint64_t)tokens * lora->targets[i].in;
            float *const out = mem_alloc(count, sizeof *out);
            lora_drop(lora, lora_drop_key(&name, layer, i, &b->rids[sample], b->windows[sample]),
                      count, out);
            factors[layer * lora->target_count + i] = out;
        }
    }
    buf_deinit(&name);
}

static void test_plain_gradients_are_slopes(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        struct base_shape shape = *shapes[s];
        shape.layers = 2;
        const struct lora lora = tiny_lora(&shape, 0.3f);
        float *const single = tiny_weights(&shape);
        const uint64_t count = base_at(&shape).count, adapter_count = lora_count(&lora);
        double *const weights = doubles_of(single, count), *adapters[2], *dadapters[2];
        float *runs[TINY_LAYERS], *factors[2 * LORA_TARGETS_MAX] = {0};
        tiny_adapters(&lora, runs);
        for (int i = 0; i < 2; i++) {
            adapters[i] = doubles_of(runs[i], adapter_count);
            dadapters[i] = mem_alloc(adapter_count, sizeof(double));
        }
        struct tiny_batch *const b = tiny_batch(&shape, 0, 1);
        draw_factors(&lora, b, 0, 1, 2, factors); // Only the upper layer drops.
        const struct plain_case c = {
            .model = {&shape, weights, &lora, (const double *const *)adapters,
                      (const float *const *)factors},
            .b = b,
        };
        double *const dweights = mem_alloc(count, sizeof *dweights);
        plain_gradients(&c, dweights, dadapters);
        // Of the token table only what the sample uses, and one row that it does not.
        const struct base_at at = base_at(&shape);
        const uint64_t skip = shape.kind == BASE_TEXT ? at.positions - 160 * TINY_WIDTH : 0;
        assert_slopes(&c, weights + skip, count - skip, dweights + skip);
        for (int i = 0; i < 2; i++) {
            assert_slopes(&c, adapters[i], adapter_count, dadapters[i]);
        }
        mem_free(single);
        mem_free(weights);
        mem_free(dweights);
        mem_free(b);
        for (int i = 0; i < 2; i++) {
            mem_free(adapters[i]);
            mem_free(dadapters[i]);
        }
        for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
            mem_free(factors[i]);
        }
        for (int i = 0; i < TINY_LAYERS; i++) {
            mem_free(runs[i]);
        }
    }
}

// --- The fast version against the plain one ---

// Largest distance, as a part of the largest number.
static double distance(const float *got, const double *expected, uint64_t count)
{
    double most = 0, off = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (!isfinite(got[i])) {
            return HUGE_VAL;
        }
        most = fmax(most, fabs(expected[i]));
        off = fmax(off, fabs((double)got[i] - expected[i]));
    }
    return off / fmax(most, DBL_MIN);
}

// The parts of the gradient of all weights differ in size by far, so each is compared by itself.
static void assert_parts(const struct base_shape *shape, const float *got, const double *expected)
{
    const struct base_at at = base_at(shape);
    uint64_t begin[8 + 12 * TINY_LAYERS];
    size_t parts = 0;
    begin[parts++] = 0; // Class token or tokens.
    begin[parts++] = at.positions;
    if (shape->kind == BASE_VIT) {
        begin[parts++] = at.patches;
        begin[parts++] = at.patch_bias;
    }
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        const struct base_layer_at l = base_layer_at(shape, layer);
        const uint64_t of_layer[] = {
            l.norm1, l.norm1 + TINY_WIDTH, l.qkv, l.qkv_bias, l.output, l.output_bias,
            l.norm2, l.norm2 + TINY_WIDTH, l.up,  l.up_bias,  l.down,   l.down_bias};
        memcpy(begin + parts, of_layer, sizeof of_layer);
        parts += sizeof of_layer / sizeof *of_layer;
    }
    begin[parts++] = at.norm;
    begin[parts++] = at.norm + TINY_WIDTH;
    begin[parts] = at.count;
    for (size_t i = 0; i < parts; i++) {
        const double off = distance(got + begin[i], expected + begin[i], begin[i + 1] - begin[i]);
        if (!(off < 1e-5)) {
            fail_msg("part %zu, from weight %llu: off by %g", i, (unsigned long long)begin[i], off);
        }
    }
}

struct setting {
    const struct base_shape *shape;
    const struct lora *lora; // NULL: gradients of all weights.
    uint32_t low, high;      // Trained.
    uint32_t present;        // Layers from here on have adapters.
};

static void compare(const struct setting *setting)
{
    const struct base_shape *const shape = setting->shape;
    const struct lora *const lora = setting->lora;
    const uint64_t count = base_at(shape).count, run = lora == NULL ? 0 : lora_count(lora);
    float *const weights = tiny_weights(shape), *runs[TINY_LAYERS] = {0};
    double *const wide = doubles_of(weights, count), *wide_runs[TINY_LAYERS] = {0};
    double *dweights = mem_alloc(count, sizeof *dweights), *druns[TINY_LAYERS] = {0};
    if (lora != NULL) {
        tiny_adapters(lora, runs);
    }
    for (uint32_t i = 0; i < TINY_LAYERS; i++) {
        if (lora != NULL && i >= setting->present) {
            wide_runs[i] = doubles_of(runs[i], run);
            druns[i] = mem_alloc(run, sizeof(double));
        } else {
            mem_free(runs[i]);
            runs[i] = NULL;
        }
    }
    struct tiny_batch *const b = tiny_batch(shape, 0, TINY_SAMPLES);
    struct transformer *t = NULL;
    const struct transformer_plan plan = {
        .shape = shape,
        .lora = lora,
        .tokens_max = TINY_ROWS,
        .samples_max = TINY_SAMPLES,
        .gradients = lora == NULL ? TRANSFORMER_WEIGHTS : TRANSFORMER_ADAPTERS,
        .low = setting->low,
        .high = setting->high,
    };
    assert_int_equal(transformer_new(&plan, &t), OK);
    const float *const *const adapters = lora == NULL ? NULL : (const float *const *)runs;
    tiny_embed(t, shape, weights, b);
    transformer_run(t, weights, adapters, &b->batch, 0, shape->layers);
    const float *const y = transformer_finish(t, weights, &b->batch);

    // What one sample after the other gives.
    const uint64_t rows = tiny_rows(shape, b);
    double *const expected = mem_alloc(rows * TINY_WIDTH, sizeof *expected);
    float *const dy = tiny_floats(rows * TINY_WIDTH);
    for (uint32_t s = 0; s < TINY_SAMPLES; s++) {
        float *factors[TINY_LAYERS * LORA_TARGETS_MAX] = {0};
        if (lora != NULL && lora->dropout > 0.0f) {
            draw_factors(lora, b, s, setting->low, setting->high, factors);
        }
        const struct plain_case c = {
            .model = {shape, wide, lora, lora == NULL ? NULL : (const double *const *)wide_runs,
                      (const float *const *)factors},
            .b = b,
            .sample = s,
        };
        struct plain *const p = plain_of(&c);
        const double *const out = plain_forward(p);
        const bool vit = shape->kind == BASE_VIT;
        const uint64_t from = vit ? s : b->offsets[s];
        const uint64_t to = vit ? s + 1 : b->offsets[s + 1];
        for (uint64_t i = 0; i < (to - from) * TINY_WIDTH; i++) {
            expected[from * TINY_WIDTH + i] = out[i];
            dy[from * TINY_WIDTH + i] = (float)slope_of(shape, s, i);
        }
        plain_free(p);
        plain_gradients(&c, dweights, lora == NULL ? NULL : druns);
        for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
            mem_free(factors[i]);
        }
    }
    assert_true(distance(y, expected, rows * TINY_WIDTH) < 3e-6);

    const uint64_t trained = lora == NULL ? count : (setting->high - setting->low) * run;
    float *const gradient = tiny_floats(trained + 1);
    for (uint64_t i = 0; i <= trained; i++) {
        gradient[i] = NAN; // All of it must be written, and nothing behind it.
    }
    transformer_backward(t, weights, adapters, &b->batch, dy, gradient);
    assert_true(isnan(gradient[trained]));
    if (lora == NULL) {
        assert_parts(shape, gradient, dweights);
    }
    for (uint32_t layer = setting->low; lora != NULL && layer < setting->high; layer++) {
        for (uint32_t i = 0; i < lora->target_count; i++) { // Each by its own size.
            const uint64_t at = lora_at(lora, i), end = lora_at(lora, i + 1);
            const double off =
                distance(gradient + (layer - setting->low) * run + at, druns[layer] + at, end - at);
            if (!(off < 1e-5)) {
                fail_msg("layer %u, target %u: off by %g", layer, i, off);
            }
        }
    }
    for (uint64_t i = 0; i < count; i++) { // The frozen base is as it was.
        assert_true((double)weights[i] == wide[i]);
    }
    transformer_free(t);
    for (uint32_t i = 0; i < TINY_LAYERS; i++) {
        mem_free(runs[i]);
        mem_free(wide_runs[i]);
        mem_free(druns[i]);
    }
    mem_free(weights);
    mem_free(wide);
    mem_free(dweights);
    mem_free(expected);
    mem_free(dy);
    mem_free(gradient);
    mem_free(b);
}

static void test_all_weights(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        compare(&(struct setting){.shape = shapes[s]});
    }
    struct base_shape other = tiny_text; // The other GELU for each; one head; one layer.
    other.gelu = BASE_GELU_ERF;
    other.heads = 1;
    compare(&(struct setting){.shape = &other});
    other = tiny_vit;
    other.gelu = BASE_GELU_TANH;
    other.heads = TINY_WIDTH;
    other.layers = 1;
    compare(&(struct setting){.shape = &other});
}

static void test_each_range_of_layers(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        for (int dropping = 0; dropping < 2; dropping++) {
            const struct lora lora = tiny_lora(shapes[s], dropping ? 0.3f : 0.0f);
            for (uint32_t low = 0; low < TINY_LAYERS; low++) {
                for (uint32_t high = low + 1; high <= TINY_LAYERS; high++) {
                    compare(&(struct setting){shapes[s], &lora, low, high, low});
                    compare(&(struct setting){shapes[s], &lora, low, high, 0});
                }
            }
        }
    }
}

static void test_each_target_alone(void **state)
{
    (void)state;
    static const char *const names[2][8] = {
        {"query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"},
        {"query", "key", "value", "c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"},
    };
    for (size_t s = 0; s < 2; s++) {
        for (int i = 0; names[s][i] != NULL; i++) {
            struct lora lora = tiny_lora(shapes[s], 0.2f);
            lora.target_count = 1;
            assert_int_equal(lora_target_find(shapes[s], names[s][i], &lora.targets[0]), OK);
            compare(&(struct setting){shapes[s], &lora, TINY_LAYERS - 1, TINY_LAYERS, 1});
            compare(&(struct setting){shapes[s], &lora, 1, 2, 1});
        }
    }
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_gradients_are_slopes),
        cmocka_unit_test(test_all_weights),
        cmocka_unit_test(test_each_range_of_layers),
        cmocka_unit_test(test_each_target_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
