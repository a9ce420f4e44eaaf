// tests/unit/tiny_transformer.h: small transformers with nothing special in them: widths that are
// no multiples of a vector, gains that are not 1, biases that are not 0, adapters that do
// something.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/transformer.h"

enum {
    TINY_LAYERS = 3,
    TINY_WIDTH = 12,
    TINY_INNER = 21,
    TINY_CONTEXT = 11,
    TINY_TOKENS = 7, // Of an image: 2 x 3 patches and the class token.
    TINY_PIXELS = 24,
    TINY_RANK = 2,
    TINY_SAMPLES = 4,
    TINY_ROWS = 40, // Tokens of a batch at most.
};

static const struct base_shape tiny_vit = {
    .kind = BASE_VIT,
    .gelu = BASE_GELU_ERF,
    .layers = TINY_LAYERS,
    .width = TINY_WIDTH,
    .heads = 3,
    .inner = TINY_INNER,
    .epsilon = 1e-6,
    .rows = 4,
    .cols = 6,
    .channels = 2,
    .patch = 2,
    .mean = {0.3f, 0.6f},
    .deviation = {0.5f, 0.8f},
};
static const struct base_shape tiny_text = {
    .kind = BASE_TEXT,
    .gelu = BASE_GELU_TANH,
    .layers = TINY_LAYERS,
    .width = TINY_WIDTH,
    .heads = 2,
    .inner = TINY_INNER,
    .epsilon = 1e-5,
    .context = TINY_CONTEXT,
};

// Uniform in [-bound, bound).
static inline void tiny_fill(const char *purpose, float bound, float *out, uint64_t count)
{
    rng_fill_uniform(rng_key_of("tiny", span_text(purpose)), bound, out, count);
}

static inline float *tiny_floats(uint64_t count)
{
    float *memory = NULL;
    CHECK(mem_try_aligned(count, sizeof *memory, &memory) == OK);
    return memory;
}

// Caller frees.
static inline float *tiny_weights(const struct base_shape *shape)
{
    const uint64_t count = base_at(shape).count;
    float *const weights = tiny_floats(count), *const noise = tiny_floats(count);
    base_init(shape, rng_key_of("tiny", span_text("weights")), weights);
    tiny_fill("noise", 0.3f, noise, count);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] += noise[i];
    }
    mem_free(noise);
    return weights;
}

// All targets of a kind of base that do not overlap.
static inline struct lora tiny_lora(const struct base_shape *shape, float dropout)
{
    static const char *const vit[] = {
        "value", "query", "key", "output.dense", "attention.output.dense", "intermediate.dense"};
    static const char *const text[] = {"mlp.c_proj", "c_attn", "c_fc", "attn.c_proj"};
    const bool is_vit = shape->kind == BASE_VIT;
    struct lora lora = {.rank = TINY_RANK,
                        .scale = 0.7f,
                        .dropout = dropout,
                        .target_count =
                            is_vit ? sizeof vit / sizeof *vit : sizeof text / sizeof *text};
    for (uint32_t i = 0; i < lora.target_count; i++) {
        CHECK(lora_target_find(shape, is_vit ? vit[i] : text[i], &lora.targets[i]) == OK);
    }
    CHECK(lora_check(&lora) == OK);
    return lora;
}

// Adapters of every layer, with B not zero. Caller frees each.
static inline void tiny_adapters(const struct lora *lora, float *adapters[TINY_LAYERS])
{
    for (int layer = 0; layer < TINY_LAYERS; layer++) {
        adapters[layer] = tiny_floats(lora_count(lora));
        char purpose[] = "adapters 0";
        purpose[9] = (char)('0' + layer);
        tiny_fill(purpose, 0.5f, adapters[layer], lora_count(lora));
    }
}

// A batch of up to TINY_SAMPLES samples; sample s is the same in every batch that has it.
struct tiny_batch {
    struct transformer_batch batch;
    uint32_t offsets[TINY_SAMPLES + 1];
    struct id128 rids[TINY_SAMPLES];
    uint32_t windows[TINY_SAMPLES];
    float pixels[TINY_SAMPLES * TINY_PIXELS];
    uint16_t tokens[TINY_ROWS];
};

static inline uint32_t tiny_length(const struct base_shape *shape, uint32_t sample)
{
    static const uint32_t lengths[TINY_SAMPLES] = {5, TINY_CONTEXT, 1, 8};
    return shape->kind == BASE_VIT ? TINY_TOKENS : lengths[sample];
}

static inline void tiny_add(const struct base_shape *shape, uint32_t sample, struct tiny_batch *b)
{
    const uint32_t s = b->batch.samples++, from = b->offsets[s];
    const uint32_t length = tiny_length(shape, sample);
    CHECK(s < TINY_SAMPLES && from + length <= TINY_ROWS);
    b->offsets[s + 1] = from + length;
    memset(&b->rids[s], (int)(31 * sample + 1), sizeof b->rids[s]);
    b->windows[s] = sample % 2;
    char purpose[] = "sample 0";
    purpose[7] = (char)('0' + sample);
    if (shape->kind == BASE_VIT) {
        float *const pixels = b->pixels + s * TINY_PIXELS;
        tiny_fill(purpose, 0.5f, pixels, TINY_PIXELS);
        for (int i = 0; i < TINY_PIXELS; i++) {
            pixels[i] += 0.5f;
        }
    } else {
        for (uint32_t i = 0; i < length; i++) {
            b->tokens[from + i] =
                (uint16_t)(i == 0 ? BASE_BOS : (97 + 7 * sample + 5 * i * i) % 256);
        }
    }
    b->batch.offsets = b->offsets;
    b->batch.rids = b->rids;
    b->batch.windows = b->windows;
    b->batch.name = span_text("stage and pass");
}

// The samples from .. to-1.
static inline struct tiny_batch *tiny_batch(const struct base_shape *shape, uint32_t from,
                                            uint32_t to)
{
    struct tiny_batch *const b = mem_alloc(1, sizeof *b);
    for (uint32_t sample = from; sample < to; sample++) {
        tiny_add(shape, sample, b);
    }
    return b;
}

static inline void tiny_embed(struct transformer *t, const struct base_shape *shape,
                              const float *weights, const struct tiny_batch *b)
{
    if (shape->kind == BASE_VIT) {
        transformer_embed_images(t, weights, &b->batch, b->pixels);
    } else {
        transformer_embed_tokens(t, weights, &b->batch, b->tokens);
    }
}

static inline uint32_t tiny_rows(const struct base_shape *shape, const struct tiny_batch *b)
{
    return shape->kind == BASE_VIT ? b->batch.samples : b->offsets[b->batch.samples];
}
