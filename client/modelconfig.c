// client/modelconfig.c: see modelconfig.h.
#include "client/modelconfig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "client/settings.h"

// ---------------------------------------------------------------- both models

// Names of transformers.activations.ACT2FN. gelu_pytorch_tanh and gelu_new are one formula.
static enum err take_gelu(const struct settings *settings, const char *key, const char *absent,
                          enum base_gelu *gelu_out)
{
    char name[SETTINGS_TEXT_BYTES];
    TRY(settings_text(settings, key, absent, name));
    if (strcmp(name, "gelu") == 0) {
        *gelu_out = BASE_GELU_ERF;
    } else if (strcmp(name, "gelu_new") == 0 || strcmp(name, "gelu_pytorch_tanh") == 0) {
        *gelu_out = BASE_GELU_TANH;
    } else {
        FAIL(ERR_INVALID,
             "%.200s: \"%s\" is \"%s\", which is not supported: expected gelu, gelu_new or "
             "gelu_pytorch_tanh",
             settings->path, key, name);
    }
    return OK;
}

// Keys of any model of transformers that change what it computes.
static enum err check_common(const struct settings *settings)
{
    static const char *const absent[] = {"pruned_heads", "quantization_config"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        const json_t *json;
        TRY(settings_find(settings, absent[i], NULL, &json));
        if (json != NULL && !(json_is_object(json) && json_object_size(json) == 0)) {
            FAIL(ERR_INVALID, "%.200s: \"%s\" is set, which is not supported", settings->path,
                 absent[i]);
        }
    }
    TRY(settings_require(settings, "is_encoder_decoder", false));
    return settings_require(settings, "add_cross_attention", false);
}

// ---------------------------------------------------------------- vit

// A side, or a pair [rows, cols].
static enum err take_sides(const struct settings *settings, const char *key, uint32_t absent,
                           uint32_t *rows_out, uint32_t *cols_out)
{
    const json_t *json;
    TRY(settings_find(settings, key, NULL, &json));
    if (!json_is_array(json)) {
        TRY(settings_u32(settings, key, NULL, absent, rows_out));
        *cols_out = *rows_out;
        return OK;
    }
    const json_t *const rows = json_array_get(json, 0), *const cols = json_array_get(json, 1);
    if (json_array_size(json) != 2 || !json_is_integer(rows) || !json_is_integer(cols) ||
        json_integer_value(rows) < 0 || json_integer_value(rows) > UINT32_MAX ||
        json_integer_value(cols) < 0 || json_integer_value(cols) > UINT32_MAX) {
        FAIL(ERR_INVALID, "%.200s: \"%s\" is neither a whole number nor a pair of them",
             settings->path, key);
    }
    *rows_out = (uint32_t)json_integer_value(rows);
    *cols_out = (uint32_t)json_integer_value(cols);
    return OK;
}

// One number for each channel, or one for all.
static enum err take_channels(const struct settings *settings, const char *key, uint32_t channels,
                              float *values_out)
{
    const json_t *json;
    TRY(settings_find(settings, key, NULL, &json));
    if (json == NULL) {
        return OK;
    }
    if (json_is_array(json) && json_array_size(json) != channels) {
        FAIL(ERR_INVALID, "%.200s: \"%s\" has %zu numbers, expected one for each of %u channels",
             settings->path, key, json_array_size(json), channels);
    }
    for (uint32_t i = 0; i < channels; i++) {
        const json_t *const number = json_is_array(json) ? json_array_get(json, i) : json;
        if (!json_is_number(number)) {
            FAIL(ERR_INVALID, "%.200s: \"%s\" is not a number or a list of them", settings->path,
                 key);
        }
        values_out[i] = (float)json_number_value(number);
    }
    return OK;
}

static enum err take_pixels_from(const struct settings *settings, struct base_shape *shape)
{
    bool normalize;
    double factor;
    TRY(settings_require(settings, "do_rescale", true));
    TRY(settings_f64(settings, "rescale_factor", 1.0 / 255, &factor));
    if (fabs(factor * 255 - 1) > 1e-6) {
        FAIL(ERR_INVALID,
             "%.200s: \"rescale_factor\" is %.9g, which is not supported: expected 1/255",
             settings->path, factor);
    }
    TRY(settings_bool(settings, "do_normalize", true, &normalize));
    if (!normalize) {
        for (uint32_t i = 0; i < shape->channels; i++) {
            shape->mean[i] = 0;
            shape->deviation[i] = 1;
        }
        return OK;
    }
    TRY(take_channels(settings, "image_mean", shape->channels, shape->mean));
    return take_channels(settings, "image_std", shape->channels, shape->deviation);
}

static enum err take_pixels(const char *dir, struct base_shape *shape)
{
    for (uint32_t i = 0; i < shape->channels; i++) { // IMAGENET_STANDARD_MEAN and _STD
        shape->mean[i] = shape->deviation[i] = 0.5f;
    }
    struct settings settings;
    enum err err = settings_open(dir, "preprocessor_config.json", &settings);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    if (err == OK) {
        err = take_pixels_from(&settings, shape);
        settings_close(&settings);
    }
    return err;
}

static enum err take_vit(const char *dir, const struct settings *settings,
                         struct modelconfig *config)
{
    struct base_shape *const shape = &config->shape;
    uint32_t patch_cols;
    shape->kind = BASE_VIT;
    TRY(settings_u32(settings, "hidden_size", NULL, 768, &shape->width));
    TRY(settings_u32(settings, "num_hidden_layers", NULL, 12, &shape->layers));
    TRY(settings_u32(settings, "num_attention_heads", NULL, 12, &shape->heads));
    TRY(settings_u32(settings, "intermediate_size", NULL, 3072, &shape->inner));
    TRY(take_gelu(settings, "hidden_act", "gelu", &shape->gelu));
    TRY(settings_f64(settings, "layer_norm_eps", 1e-12, &shape->epsilon));
    TRY(take_sides(settings, "image_size", 224, &shape->rows, &shape->cols));
    TRY(take_sides(settings, "patch_size", 16, &shape->patch, &patch_cols));
    if (patch_cols != shape->patch) {
        FAIL(ERR_INVALID, "%.200s: \"patch_size\" is %u x %u, expected a square", settings->path,
             shape->patch, patch_cols);
    }
    TRY(settings_u32(settings, "num_channels", NULL, 3, &shape->channels));
    if (shape->channels < 1 || shape->channels > BASE_CHANNELS_MAX) {
        FAIL(ERR_INVALID, "%.200s: \"num_channels\" is %u, expected 1 to %d", settings->path,
             shape->channels, (int)BASE_CHANNELS_MAX);
    }
    TRY(settings_bool(settings, "qkv_bias", true, &config->qkv_bias));
    return take_pixels(dir, shape);
}

// ---------------------------------------------------------------- gpt2

// The character that GPT-2's vocabulary writes for a byte (bytes_to_unicode): printable ones of
// Latin-1 stand for themselves, the 68 others follow from U+0100 in their order.
static void put_character(uint8_t byte, uint32_t *others, char out[static 3])
{
    const bool itself =
        (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    const uint32_t code = itself ? byte : 0x100 + (*others)++;
    if (code < 0x80) {
        out[0] = (char)code;
        out[1] = '\0';
        return;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    out[2] = '\0';
}

static enum err take_token(const struct settings *vocabulary, const char *text, const char *what,
                           uint32_t rows, uint32_t *row_out)
{
    const json_t *const json = json_object_get(vocabulary->object, text);
    if (json == NULL) {
        FAIL(ERR_INVALID, "%.200s has no token for %s", vocabulary->path, what);
    }
    if (!json_is_integer(json) || json_integer_value(json) < 0 ||
        json_integer_value(json) >= rows) {
        FAIL(ERR_INVALID, "%.200s: the token for %s is not a whole number below vocab_size, %u",
             vocabulary->path, what, rows);
    }
    *row_out = (uint32_t)json_integer_value(json);
    return OK;
}

static enum err take_tokens_from(const struct settings *vocabulary, struct modelconfig *config)
{
    uint32_t others = 0;
    for (uint32_t byte = 0; byte < BASE_BYTES; byte++) {
        char character[3], what[16];
        put_character((uint8_t)byte, &others, character);
        (void)snprintf(what, sizeof what, "byte 0x%02x", byte);
        TRY(take_token(vocabulary, character, what, config->vocabulary, &config->tokens[byte]));
    }
    TRY(take_token(vocabulary, "<|endoftext|>", "<|endoftext|>", config->vocabulary,
                   &config->tokens[BASE_EOS]));
    config->tokens[BASE_BOS] = config->tokens[BASE_EOS];
    return OK;
}

static enum err take_tokens(const char *dir, const struct settings *settings,
                            struct modelconfig *config)
{
    struct settings vocabulary;
    enum err err = settings_open(dir, "vocab.json", &vocabulary);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_INVALID, "%.200s has no vocab.json, which tells the token of each byte", dir);
    }
    TRY(err);
    err = take_tokens_from(&vocabulary, config);
    settings_close(&vocabulary);
    TRY(err);
    // A model that was trained with other marks would not know ours.
    static const char *const marks[] = {"bos_token_id", "eos_token_id"};
    for (size_t i = 0; i < 2; i++) {
        uint32_t mark;
        TRY(settings_u32(settings, marks[i], NULL, config->tokens[BASE_EOS], &mark));
        if (mark != config->tokens[BASE_EOS]) {
            FAIL(ERR_INVALID,
                 "%.200s: \"%s\" is %u, which is not supported: expected %u, <|endoftext|>",
                 settings->path, marks[i], mark, config->tokens[BASE_EOS]);
        }
    }
    return OK;
}

static enum err take_gpt2(const char *dir, const struct settings *settings,
                          struct modelconfig *config)
{
    struct base_shape *const shape = &config->shape;
    shape->kind = BASE_TEXT;
    TRY(settings_u32(settings, "n_embd", "hidden_size", 768, &shape->width));
    TRY(settings_u32(settings, "n_layer", "num_hidden_layers", 12, &shape->layers));
    TRY(settings_u32(settings, "n_head", "num_attention_heads", 12, &shape->heads));
    const uint64_t inner = 4 * (uint64_t)shape->width;
    TRY(settings_u32(settings, "n_inner", NULL, inner > UINT32_MAX ? UINT32_MAX : (uint32_t)inner,
                     &shape->inner));
    TRY(settings_u32(settings, "n_positions", "max_position_embeddings", 1024, &shape->context));
    TRY(settings_u32(settings, "vocab_size", NULL, 50257, &config->vocabulary));
    TRY(take_gelu(settings, "activation_function", "gelu_new", &shape->gelu));
    TRY(settings_f64(settings, "layer_norm_epsilon", 1e-5, &shape->epsilon));
    TRY(settings_require(settings, "scale_attn_weights", true));
    TRY(settings_require(settings, "scale_attn_by_inverse_layer_idx", false));
    TRY(settings_require(settings, "reorder_and_upcast_attn", false));
    return take_tokens(dir, settings, config);
}

// ----------------------------------------------------------------

static enum err take(const char *dir, const struct settings *settings, struct modelconfig *config)
{
    char type[SETTINGS_TEXT_BYTES];
    TRY(settings_text(settings, "model_type", "", type));
    TRY(check_common(settings));
    if (strcmp(type, "vit") == 0) {
        TRY(take_vit(dir, settings, config));
    } else if (strcmp(type, "gpt2") == 0) {
        TRY(take_gpt2(dir, settings, config));
    } else {
        FAIL(ERR_INVALID, "%.200s: \"model_type\" is \"%s\", expected vit or gpt2", settings->path,
             type);
    }
    TRY_AS(base_shape_check(&config->shape), "%.200s", settings->path);
    return OK;
}

enum err modelconfig_read(const char *dir, struct modelconfig *config_out)
{
    struct settings settings;
    *config_out = (struct modelconfig){.qkv_bias = true};
    TRY(settings_open(dir, "config.json", &settings));
    const enum err err = take(dir, &settings, config_out);
    settings_close(&settings);
    return err;
}
