// tests/unit/hfmodel.h: tiny models as Hugging Face's transformers writes them, made by the test.
//
// A model is a list of tensors by name. The values of a tensor depend on its name without the model's
// prefix, so that the same model can be written with and without it and read by name later. Include
// after cmocka.h.
#pragma once

#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"
#include "client/safetensors.h"
#include "tests/unit/feed.h"

enum { HFMODEL_TENSORS = 96, HFMODEL_NAME_BYTES = 128 };

struct hfmodel {
    char dir[SCRATCH_BYTES + 64];
    const char *prefix; // Of the names that hfmodel_add is given.
    struct safetensors_part parts[HFMODEL_TENSORS];
    char names[HFMODEL_TENSORS][HFMODEL_NAME_BYTES];
    float *values[HFMODEL_TENSORS];
    size_t count;
};

// Value i of the tensor of that name: a float of 12 bits, so that halves hold it exactly.
static inline float hfmodel_value(const char *name, uint64_t i)
{
    const uint64_t bits = digest_u64("test-hfmodel", span_text(name)) + i * 0x9e3779b97f4a7c15u;
    return (float)((int32_t)(bits >> 57) - 64) / 64;
}

static inline void hfmodel_init(struct hfmodel *model, const char *dir, const char *prefix)
{
    *model = (struct hfmodel){.prefix = prefix};
    snprintf(model->dir, sizeof model->dir, "%s/%s", feed_dir, dir);
    scratch_remove(model->dir);
    assert_int_equal(mkdir(model->dir, 0700), 0);
}

static inline void hfmodel_deinit(struct hfmodel *model)
{
    for (size_t i = 0; i < model->count; i++) {
        mem_free(model->values[i]);
    }
}

// A tensor whose name is given with its prefix; `bare` is what its values depend on.
static inline void hfmodel_add_as(struct hfmodel *model, const char *name, const char *bare,
                                  uint32_t dimensions, const uint64_t *shape)
{
    assert_true(model->count < HFMODEL_TENSORS);
    const size_t at = model->count++;
    struct safetensors_part *const part = &model->parts[at];
    snprintf(model->names[at], HFMODEL_NAME_BYTES, "%s", name);
    *part = (struct safetensors_part){.name = model->names[at], .dimensions = dimensions};
    uint64_t count = 1;
    for (uint32_t i = 0; i < dimensions; i++) {
        part->shape[i] = shape[i];
        count *= shape[i];
    }
    model->values[at] = mem_alloc(count, sizeof(float));
    for (uint64_t i = 0; i < count; i++) {
        model->values[at][i] = hfmodel_value(bare, i);
    }
    part->values = model->values[at];
}

static inline void hfmodel_add(struct hfmodel *model, const char *bare, uint32_t dimensions,
                               const uint64_t *shape)
{
    char name[2 * HFMODEL_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", model->prefix, bare);
    hfmodel_add_as(model, name, bare, dimensions, shape);
}

#define HFMODEL_ADD(model, name, dimensions, ...)                                                  \
    hfmodel_add(model, name, dimensions, (const uint64_t[]){__VA_ARGS__})

static inline struct safetensors_part *hfmodel_find(struct hfmodel *model, const char *name)
{
    for (size_t i = 0; i < model->count; i++) {
        if (strcmp(model->names[i], name) == 0) {
            return &model->parts[i];
        }
    }
    fail_msg("the test's model has no tensor %s", name);
    return NULL;
}

static inline void hfmodel_text(const struct hfmodel *model, const char *name, const char *text)
{
    char path[sizeof model->dir + 64];
    snprintf(path, sizeof path, "%s/%s", model->dir, name);
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static inline void hfmodel_remove(const struct hfmodel *model, const char *name)
{
    char path[sizeof model->dir + 64];
    snprintf(path, sizeof path, "%s/%s", model->dir, name);
    (void)unlink(path);
}

// Writes tensors first .. first + count - 1 to a file of the directory.
static inline void hfmodel_save(const struct hfmodel *model, const char *name, size_t first,
                                size_t count)
{
    static const struct safetensors_text texts[] = {{"format", "pt"}};
    char path[sizeof model->dir + 64];
    snprintf(path, sizeof path, "%s/%s", model->dir, name);
    assert_int_equal(safetensors_write(path, model->parts + first, count, texts, 1), OK);
}

static inline void hfmodel_linear(struct hfmodel *model, const char *block, const char *stem,
                                  uint64_t rows, uint64_t cols, uint64_t bias)
{
    char name[HFMODEL_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s.weight", block, stem);
    if (cols == 0) {
        HFMODEL_ADD(model, name, 1, rows);
    } else {
        HFMODEL_ADD(model, name, 2, rows, cols);
    }
    if (bias > 0) {
        snprintf(name, sizeof name, "%s%s.bias", block, stem);
        HFMODEL_ADD(model, name, 1, bias);
    }
}

// --- ViT: 8 x 12 pixels, 3 channels, patches of 4, width 4, inner 6, 2 layers ---

#define HFMODEL_VIT_CONFIG                                                                         \
    "{\"model_type\":\"vit\",\"hidden_size\":4,\"num_hidden_layers\":2,"                           \
    "\"num_attention_heads\":2,\"intermediate_size\":6,\"hidden_act\":\"gelu\","                   \
    "\"layer_norm_eps\":1e-12,\"image_size\":[8,12],\"patch_size\":4,\"num_channels\":3,"          \
    "\"qkv_bias\":true,\"hidden_dropout_prob\":0.1,\"architectures\":[\"ViTModel\"],"              \
    "\"id2label\":{\"0\":\"cat\"},\"torch_dtype\":\"float32\",\"encoder_stride\":16"

static inline void hfmodel_vit(struct hfmodel *model, bool qkv_bias)
{
    static const char *const heads[3] = {"query", "key", "value"};
    HFMODEL_ADD(model, "embeddings.cls_token", 3, 1, 1, 4);
    HFMODEL_ADD(model, "embeddings.position_embeddings", 3, 1, 7, 4);
    HFMODEL_ADD(model, "embeddings.patch_embeddings.projection.weight", 4, 4, 3, 4, 4);
    HFMODEL_ADD(model, "embeddings.patch_embeddings.projection.bias", 1, 4);
    for (int layer = 0; layer < 2; layer++) {
        char block[64], stem[64];
        snprintf(block, sizeof block, "encoder.layer.%d.", layer);
        hfmodel_linear(model, block, "layernorm_before", 4, 0, 4);
        for (int i = 0; i < 3; i++) {
            snprintf(stem, sizeof stem, "attention.attention.%s", heads[i]);
            hfmodel_linear(model, block, stem, 4, 4, qkv_bias ? 4 : 0);
        }
        hfmodel_linear(model, block, "attention.output.dense", 4, 4, 4);
        hfmodel_linear(model, block, "layernorm_after", 4, 0, 4);
        hfmodel_linear(model, block, "intermediate.dense", 6, 4, 6);
        hfmodel_linear(model, block, "output.dense", 4, 6, 4);
    }
    hfmodel_linear(model, "", "layernorm", 4, 0, 4);
    hfmodel_text(model, "config.json", HFMODEL_VIT_CONFIG "}");
}

// --- GPT-2: 260 tokens, context 5, width 4, inner 16, 2 layers ---

#define HFMODEL_GPT2_CONFIG                                                                        \
    "{\"model_type\":\"gpt2\",\"n_embd\":4,\"n_layer\":2,\"n_head\":2,\"n_inner\":null,"           \
    "\"n_positions\":5,\"n_ctx\":5,\"vocab_size\":260,\"activation_function\":\"gelu_new\","       \
    "\"layer_norm_epsilon\":1e-05,\"bos_token_id\":259,\"eos_token_id\":259,"                      \
    "\"attn_pdrop\":0.1,\"task_specific_params\":{\"x\":1}"

// Row of wte of a byte in the vocabulary below: neither its own number nor in its order.
static inline uint32_t hfmodel_row(uint32_t byte)
{
    return byte * 77 % 257;
}

// GPT-2's vocabulary writes a byte as a character; these are the ranges of its bytes_to_unicode.
static inline void hfmodel_vocabulary(const struct hfmodel *model, int without)
{
    static char text[16384];
    size_t at = (size_t)snprintf(text, sizeof text, "{");
    uint32_t other = 256;
    for (uint32_t byte = 0; byte < 256; byte++) {
        const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
                            (byte >= 174 && byte <= 255);
        const uint32_t code = itself ? byte : other++;
        if ((int)byte != without) {
            at += (size_t)snprintf(text + at, sizeof text - at, "\"\\u%04x\":%u,", code,
                                   hfmodel_row(byte));
        }
    }
    snprintf(text + at, sizeof text - at, "\"\\u0120the\":258,\"<|endoftext|>\":259}");
    hfmodel_text(model, "vocab.json", text);
}

static inline void hfmodel_gpt2(struct hfmodel *model)
{
    HFMODEL_ADD(model, "wte.weight", 2, 260, 4);
    HFMODEL_ADD(model, "wpe.weight", 2, 5, 4);
    for (int layer = 0; layer < 2; layer++) {
        char block[64];
        snprintf(block, sizeof block, "h.%d.", layer);
        hfmodel_linear(model, block, "ln_1", 4, 0, 4);
        hfmodel_linear(model, block, "attn.c_attn", 4, 12, 12);
        hfmodel_linear(model, block, "attn.c_proj", 4, 4, 4);
        hfmodel_linear(model, block, "ln_2", 4, 0, 4);
        hfmodel_linear(model, block, "mlp.c_fc", 4, 16, 16);
        hfmodel_linear(model, block, "mlp.c_proj", 16, 4, 4);
    }
    hfmodel_linear(model, "", "ln_f", 4, 0, 4);
    hfmodel_text(model, "config.json", HFMODEL_GPT2_CONFIG "}");
    hfmodel_vocabulary(model, -1);
}
