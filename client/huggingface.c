// client/huggingface.c: see huggingface.h. list_vit and list_gpt2 say where each tensor goes; what is missing,
// has another shape or is left over is found before any memory for the weights is asked for.
#include "client/huggingface.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "client/modelconfig.h"
#include "client/shards.h"

enum { NAME_BYTES = 128, DIMENSIONS_MAX = 4, LAYER_PARTS = 16, OTHER_PARTS = 6 };

// A tensor and its place in the run of weights.
struct place {
    char name[NAME_BYTES]; // Without the model's prefix.
    uint32_t dimensions;
    uint64_t shape[DIMENSIONS_MAX]; // In the file.
    uint64_t at;                    // Of its first value among the weights.
    bool transposed;                // [in][out] in the file, as transformers' Conv1D has it.
    struct shard_entry *entry;
};

struct reading {
    struct modelconfig config;
    struct base_at at;
    struct shards shards;
    const char *prefix; // Of names in the file: "vit.", "transformer." or none.
    char block[32];     // Of the layer that is being listed: "h.3."
    struct place *places;
    size_t place_count;
    float *weights;
    float *held; // Room for the largest tensor that must be transposed.
};

// ---------------------------------------------------------------- where each tensor goes

// The next place. Its name is the block that is being listed, the stem, and what of it: "weight".
static struct place *add(struct reading *reading, const char *stem, const char *what, uint64_t at)
{
    struct place *const place = &reading->places[reading->place_count++];
    (void)snprintf(place->name, sizeof place->name, "%s%s%s", reading->block, stem, what);
    place->at = at;
    return place;
}

static void add_vector(struct reading *reading, const char *stem, const char *what, uint64_t at,
                       uint64_t count)
{
    struct place *const place = add(reading, stem, what, at);
    place->dimensions = 1;
    place->shape[0] = count;
}

static void add_matrix(struct reading *reading, const char *stem, uint64_t at, uint64_t rows,
                       uint64_t cols)
{
    struct place *const place = add(reading, stem, ".weight", at);
    place->dimensions = 2;
    place->shape[0] = rows;
    place->shape[1] = cols;
}

static void add_linear(struct reading *reading, const char *stem, uint64_t at, uint64_t bias_at,
                       uint64_t out, uint64_t in)
{
    add_matrix(reading, stem, at, out, in);
    add_vector(reading, stem, ".bias", bias_at, out);
}

static void add_conv1d(struct reading *reading, const char *stem, uint64_t at, uint64_t bias_at,
                       uint64_t out, uint64_t in)
{
    add_matrix(reading, stem, at, in, out);
    reading->places[reading->place_count - 1].transposed = true;
    add_vector(reading, stem, ".bias", bias_at, out);
}

// Gain, then bias.
static void add_norm(struct reading *reading, const char *stem, uint64_t at)
{
    const uint64_t d = reading->config.shape.width;
    add_vector(reading, stem, ".weight", at, d);
    add_vector(reading, stem, ".bias", at + d, d);
}

static void list_vit_layer(struct reading *reading, const struct base_layer_at *at)
{
    static const char *const stems[3] = {"attention.attention.query", "attention.attention.key",
                                         "attention.attention.value"};
    const struct base_shape *const shape = &reading->config.shape;
    const uint64_t d = shape->width;
    add_norm(reading, "layernorm_before", at->norm1);
    for (uint32_t i = 0; i < 3; i++) {
        add_matrix(reading, stems[i], at->qkv + i * d * d, d, d);
        if (reading->config.qkv_bias) {
            add_vector(reading, stems[i], ".bias", at->qkv_bias + i * d, d);
        }
    }
    add_linear(reading, "attention.output.dense", at->output, at->output_bias, d, d);
    add_norm(reading, "layernorm_after", at->norm2);
    add_linear(reading, "intermediate.dense", at->up, at->up_bias, shape->inner, d);
    add_linear(reading, "output.dense", at->down, at->down_bias, d, shape->inner);
}

static void list_vit(struct reading *reading)
{
    const struct base_shape *const shape = &reading->config.shape;
    const struct base_at *const at = &reading->at;
    const uint64_t d = shape->width;
    struct place *place = add(reading, "embeddings.cls_token", "", at->class_token);
    place->dimensions = 3;
    place->shape[0] = place->shape[1] = 1;
    place->shape[2] = d;
    place = add(reading, "embeddings.position_embeddings", "", at->positions);
    place->dimensions = 3;
    place->shape[0] = 1;
    place->shape[1] = base_tokens_max(shape);
    place->shape[2] = d;
    place = add(reading, "embeddings.patch_embeddings.projection", ".weight", at->patches);
    place->dimensions = 4;
    place->shape[0] = d;
    place->shape[1] = shape->channels;
    place->shape[2] = place->shape[3] = shape->patch;
    add_vector(reading, "embeddings.patch_embeddings.projection", ".bias", at->patch_bias, d);
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        const struct base_layer_at layer_at = base_layer_at(shape, layer);
        (void)snprintf(reading->block, sizeof reading->block, "encoder.layer.%u.", layer);
        list_vit_layer(reading, &layer_at);
    }
    reading->block[0] = '\0';
    add_norm(reading, "layernorm", at->norm);
}

static void list_gpt2(struct reading *reading)
{
    const struct base_shape *const shape = &reading->config.shape;
    const uint64_t d = shape->width;
    add_matrix(reading, "wte", reading->at.tokens, reading->config.vocabulary, d);
    add_matrix(reading, "wpe", reading->at.positions, shape->context, d);
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        const struct base_layer_at at = base_layer_at(shape, layer);
        (void)snprintf(reading->block, sizeof reading->block, "h.%u.", layer);
        add_norm(reading, "ln_1", at.norm1);
        add_conv1d(reading, "attn.c_attn", at.qkv, at.qkv_bias, 3 * d, d);
        add_conv1d(reading, "attn.c_proj", at.output, at.output_bias, d, d);
        add_norm(reading, "ln_2", at.norm2);
        add_conv1d(reading, "mlp.c_fc", at.up, at.up_bias, shape->inner, d);
        add_conv1d(reading, "mlp.c_proj", at.down, at.down_bias, d, shape->inner);
    }
    reading->block[0] = '\0';
    add_norm(reading, "ln_f", reading->at.norm);
}

// ---------------------------------------------------------------- what is in the files

static bool begins_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

// Heads, poolers and buffers, which are no part of a base. `name` is without the prefix.
static bool is_beside(const char *name, enum base_kind kind)
{
    static const char *const vit[] = {"pooler.", "classifier.", "decoder.",
                                      "embeddings.mask_token"};
    static const char *const gpt2[] = {"lm_head.", "score.", "classifier.", "qa_outputs.",
                                       "multiple_choice_head."};
    const char *const *const list = kind == BASE_VIT ? vit : gpt2;
    const size_t count = kind == BASE_VIT ? sizeof vit / sizeof *vit : sizeof gpt2 / sizeof *gpt2;
    for (size_t i = 0; i < count; i++) {
        if (begins_with(name, list[i])) {
            return true;
        }
    }
    // The causal mask and its value for what is masked.
    return kind == BASE_TEXT && begins_with(name, "h.") &&
           (ends_with(name, ".attn.bias") || ends_with(name, ".attn.masked_bias"));
}

static enum err check_left_over(const struct reading *reading)
{
    const size_t prefix_bytes = strlen(reading->prefix);
    for (size_t i = 0; i < reading->shards.entry_count; i++) {
        const struct shard_entry *const entry = &reading->shards.entries[i];
        // With a prefix, what lacks it belongs to a head.
        if (entry->used || !begins_with(entry->name, reading->prefix) ||
            is_beside(entry->name + prefix_bytes, reading->config.shape.kind)) {
            continue;
        }
        FAIL(ERR_INVALID, "%.200s: tensor %s belongs to no part of a model with this config.json",
             safetensors_path(entry->file), entry->name);
    }
    return OK;
}

static enum err find(const struct reading *reading, struct place *place)
{
    char name[2 * NAME_BYTES];
    (void)snprintf(name, sizeof name, "%s%s", reading->prefix, place->name);
    struct shard_entry *const entry = shards_find(&reading->shards, name);
    if (entry == NULL) {
        FAIL(ERR_INVALID, "%.200s: tensor %s is missing", reading->shards.dir, name);
    }
    const struct safetensors_tensor *const tensor = entry->tensor;
    if (tensor->dimensions != place->dimensions ||
        memcmp(tensor->shape, place->shape, place->dimensions * sizeof place->shape[0]) != 0) {
        char found[SAFETENSORS_SHAPE_BYTES], expected[SAFETENSORS_SHAPE_BYTES];
        safetensors_shape_text(tensor->dimensions, tensor->shape, found);
        safetensors_shape_text(place->dimensions, place->shape, expected);
        FAIL(ERR_INVALID, "%.200s: tensor %s has the shape %s, expected %s by config.json",
             safetensors_path(entry->file), name, found, expected);
    }
    entry->used = true;
    place->entry = entry;
    return OK;
}

static enum err find_all(struct reading *reading)
{
    const bool is_vit = reading->config.shape.kind == BASE_VIT;
    const char *const prefix = is_vit ? "vit." : "transformer.";
    char first[NAME_BYTES];
    (void)snprintf(first, sizeof first, "%s%s", prefix, reading->places[0].name);
    reading->prefix = shards_find(&reading->shards, first) != NULL ? prefix : "";
    for (size_t i = 0; i < reading->place_count; i++) {
        TRY(find(reading, &reading->places[i]));
    }
    return check_left_over(reading);
}

// ---------------------------------------------------------------- reading

static enum err read_tokens(const struct reading *reading, const struct place *place)
{
    const uint64_t d = reading->config.shape.width;
    for (uint32_t token = 0; token < BASE_TOKENS; token++) {
        TRY(safetensors_read(place->entry->file, place->entry->tensor,
                             reading->config.tokens[token] * d, d,
                             reading->weights + place->at + token * d));
    }
    return OK;
}

static enum err read_place(const struct reading *reading, const struct place *place)
{
    float *const out = reading->weights + place->at;
    const struct safetensors_tensor *const tensor = place->entry->tensor;
    if (!place->transposed) {
        return safetensors_read(place->entry->file, tensor, 0, tensor->count, out);
    }
    TRY(safetensors_read(place->entry->file, tensor, 0, tensor->count, reading->held));
    const uint64_t in = place->shape[0], rows = place->shape[1];
    for (uint64_t row = 0; row < rows; row++) {
        for (uint64_t i = 0; i < in; i++) {
            out[row * in + i] = reading->held[i * rows + row];
        }
    }
    return OK;
}

static enum err read_all(struct reading *reading)
{
    uint64_t held_count = 0;
    for (size_t i = 0; i < reading->place_count; i++) {
        const struct place *const place = &reading->places[i];
        if (place->transposed && place->entry->tensor->count > held_count) {
            held_count = place->entry->tensor->count;
        }
    }
    TRY(mem_try_aligned(held_count, sizeof(float), &reading->held));
    TRY(mem_try_aligned(reading->at.count, sizeof(float), &reading->weights));
    for (size_t i = 0; i < reading->place_count; i++) {
        const struct place *const place = &reading->places[i];
        const bool tokens = reading->config.shape.kind == BASE_TEXT && i == 0;
        TRY(tokens ? read_tokens(reading, place) : read_place(reading, place));
    }
    return OK;
}

static enum err read_model(const char *dir, struct reading *reading)
{
    TRY(modelconfig_read(dir, &reading->config));
    TRY(shards_open(dir, &reading->shards));
    const struct base_shape *const shape = &reading->config.shape;
    reading->at = base_at(shape);
    reading->places = mem_alloc(shape->layers * LAYER_PARTS + OTHER_PARTS, sizeof *reading->places);
    if (shape->kind == BASE_VIT) {
        list_vit(reading);
    } else {
        list_gpt2(reading);
    }
    TRY(find_all(reading));
    return read_all(reading);
}

enum err huggingface_read(const char *dir, struct base_shape *shape_out, float **weights_out)
{
    struct reading reading = {.prefix = ""};
    const enum err err = read_model(dir, &reading);
    shards_close(&reading.shards);
    mem_free(reading.places);
    mem_free(reading.held);
    *shape_out = reading.config.shape;
    *weights_out = reading.weights;
    if (err != OK) {
        mem_free(reading.weights);
        *weights_out = NULL;
    }
    return err;
}
