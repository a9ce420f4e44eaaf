// model/base.c: see base.h. One table lists the keys of a shape with their ranges; checking,
// writing and reading all go through it.
#include "model/base.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"

static const char *const kind_names[] = {"vit", "text"};
static const char *const gelu_names[] = {"erf", "tanh"};

enum type { TYPE_KIND, TYPE_GELU, TYPE_U32, TYPE_F64, TYPE_CHANNELS };
enum { VIT = 1, TEXT = 2, BOTH = VIT | TEXT };

struct key {
    const char *name;
    size_t offset;
    enum type type;
    int in_effect;      // Kinds of base that have it.
    double least, most; // Of a number; of each number of a list.
};

#define KEY(name, ...)                                                                             \
    {                                                                                              \
#name, offsetof(struct base_shape, name), __VA_ARGS__                                      \
    }
static const struct key keys[] = {
    KEY(kind, TYPE_KIND, BOTH, 0, BASE_TEXT),
    KEY(gelu, TYPE_GELU, BOTH, 0, BASE_GELU_TANH),
    KEY(layers, TYPE_U32, BOTH, 1, LIMIT_BASE_LAYERS),
    KEY(width, TYPE_U32, BOTH, 1, LIMIT_WIDTH),
    KEY(heads, TYPE_U32, BOTH, 1, LIMIT_WIDTH),
    KEY(inner, TYPE_U32, BOTH, 1, LIMIT_WIDTH),
    // Above 0, so that the norm of a constant row stays finite in float32 too.
    KEY(epsilon, TYPE_F64, BOTH, 1e-12, 1),
    KEY(rows, TYPE_U32, VIT, 1, LIMIT_BASE_SIDE),
    KEY(cols, TYPE_U32, VIT, 1, LIMIT_BASE_SIDE),
    KEY(channels, TYPE_U32, VIT, 1, BASE_CHANNELS_MAX),
    KEY(patch, TYPE_U32, VIT, 1, LIMIT_BASE_SIDE),
    KEY(mean, TYPE_CHANNELS, VIT, -1000, 1000),
    KEY(deviation, TYPE_CHANNELS, VIT, 0.001, 1000),
    KEY(context, TYPE_U32, TEXT, 1, LIMIT_BASE_TOKENS),
};
enum { KEY_COUNT = sizeof keys / sizeof *keys, VALUE_BYTES = 160, NAME_BYTES = 9 };
_Static_assert(BASE_CHANNELS_MAX *(TEXT_NUMBER_BYTES + 1) <= VALUE_BYTES, "a list fits a value");
_Static_assert(KEY_COUNT *(NAME_BYTES + 2) + 3 * VALUE_BYTES + 9 * TEXT_NUMBER_BYTES <=
                   BASE_TEXT_BYTES,
               "a canonical text fits its bound");

static bool in_effect(const struct key *key, const struct base_shape *shape)
{
    return (key->in_effect & (shape->kind == BASE_VIT ? VIT : TEXT)) != 0;
}

// The first number of a key.
static const void *field(const struct key *key, const struct base_shape *shape)
{
    return (const uint8_t *)shape + key->offset;
}

// --- Layout ---

uint32_t base_tokens_max(const struct base_shape *shape)
{
    if (shape->kind == BASE_TEXT) {
        return shape->context;
    }
    return 1 + shape->rows / shape->patch * (shape->cols / shape->patch);
}

// Counts on from 0: within the limits of the keys no sum reaches 2^52.
static uint64_t part(uint64_t *at, uint64_t count)
{
    const uint64_t begin = *at;
    *at += count;
    return begin;
}

// Where the parts of a layer begin that begins at `at`; its end goes to *end_out.
static struct base_layer_at layer_at(const struct base_shape *shape, uint64_t at, uint64_t *end_out)
{
    const uint64_t d = shape->width, f = shape->inner;
    // An initialiser's members are evaluated in no fixed order: so one statement each.
    struct base_layer_at layer;
    layer.norm1 = part(&at, 2 * d);
    layer.qkv = part(&at, 3 * d * d);
    layer.qkv_bias = part(&at, 3 * d);
    layer.output = part(&at, d * d);
    layer.output_bias = part(&at, d);
    layer.norm2 = part(&at, 2 * d);
    layer.up = part(&at, f * d);
    layer.up_bias = part(&at, f);
    layer.down = part(&at, d * f);
    layer.down_bias = part(&at, d);
    *end_out = at;
    return layer;
}

struct base_at base_at(const struct base_shape *shape)
{
    const uint64_t d = shape->width;
    struct base_at base = {0};
    uint64_t at = 0;
    if (shape->kind == BASE_VIT) {
        base.class_token = part(&at, d);
        base.positions = part(&at, base_tokens_max(shape) * d);
        base.patches = part(&at, d * shape->channels * shape->patch * shape->patch);
        base.patch_bias = part(&at, d);
    } else {
        base.tokens = part(&at, BASE_TOKENS * d);
        base.positions = part(&at, shape->context * d);
    }
    layer_at(shape, 0, &base.layer_count);
    base.layers = part(&at, shape->layers * base.layer_count);
    base.norm = part(&at, 2 * d);
    base.count = at;
    return base;
}

struct base_layer_at base_layer_at(const struct base_shape *shape, uint32_t layer)
{
    CHECK(layer < shape->layers);
    const struct base_at base = base_at(shape);
    uint64_t end;
    return layer_at(shape, base.layers + layer * base.layer_count, &end);
}

// --- Check ---

static enum err check_number(const struct key *key, double value)
{
    if (!(value >= key->least && value <= key->most)) { // Also where it is NaN.
        FAIL(ERR_INVALID, "%s of the base is %.9g, expected %.9g to %.9g", key->name, value,
             key->least, key->most);
    }
    return OK;
}

static enum err check_channels(const struct key *key, const struct base_shape *shape)
{
    const float *const value = field(key, shape);
    const uint32_t used = in_effect(key, shape) ? shape->channels : 0;
    for (uint32_t i = 0; i < used; i++) {
        TRY(check_number(key, (double)value[i]));
    }
    for (uint32_t i = used; i < BASE_CHANNELS_MAX; i++) {
        if (value[i] != 0.0f) {
            FAIL(ERR_INVALID, "%s of the base names more than %u channels", key->name, used);
        }
    }
    return OK;
}

static enum err check_key(const struct key *key, const struct base_shape *shape)
{
    uint32_t number = 0;
    double real = 0;
    switch (key->type) {
    case TYPE_CHANNELS:
        return check_channels(key, shape);
    case TYPE_F64:
        memcpy(&real, field(key, shape), sizeof real);
        return check_number(key, real);
    case TYPE_U32:
        memcpy(&number, field(key, shape), sizeof number);
        if (!in_effect(key, shape) && number != 0) {
            FAIL(ERR_INVALID, "%s of the base is %u, expected 0 with kind %s", key->name, number,
                 kind_names[shape->kind]);
        }
        return in_effect(key, shape) ? check_number(key, (double)number) : OK;
    case TYPE_KIND:
    case TYPE_GELU:
        break;
    }
    memcpy(&number, field(key, shape), sizeof number);
    return check_number(key, (double)number);
}

static enum err check_divides(const char *whole, uint32_t whole_count, const char *part_name,
                              uint32_t part_count)
{
    if (whole_count % part_count != 0) {
        FAIL(ERR_INVALID, "%s of the base is %u, expected a multiple of %s, which is %u", whole,
             whole_count, part_name, part_count);
    }
    return OK;
}

enum err base_shape_check(const struct base_shape *shape)
{
    for (size_t i = 0; i < KEY_COUNT; i++) { // The kind first: it decides about the rest.
        TRY(check_key(&keys[i], shape));
    }
    TRY(check_divides("width", shape->width, "heads", shape->heads));
    if (shape->kind == BASE_VIT) {
        TRY(check_divides("rows", shape->rows, "patch", shape->patch));
        TRY(check_divides("cols", shape->cols, "patch", shape->patch));
    }
    if (base_tokens_max(shape) > LIMIT_BASE_TOKENS) {
        FAIL(ERR_LIMIT, "an image would be %u tokens with patch %u, expected at most %d",
             base_tokens_max(shape), shape->patch, (int)LIMIT_BASE_TOKENS);
    }
    const uint64_t count = base_at(shape).count;
    if (count > LIMIT_PARAM_COUNT) {
        FAIL(ERR_LIMIT, "the base would have %llu weights, expected at most %d",
             (unsigned long long)count, (int)LIMIT_PARAM_COUNT);
    }
    return OK;
}

// --- Canonical text ---

static void put_value(const struct key *key, const struct base_shape *shape,
                      char out[static VALUE_BYTES])
{
    uint32_t number = 0;
    double real = 0;
    const float *const channels = field(key, shape);
    memcpy(&number, field(key, shape), sizeof number);
    if (!in_effect(key, shape)) {
        snprintf(out, VALUE_BYTES, "-");
        return;
    }
    switch (key->type) {
    case TYPE_KIND:
        snprintf(out, VALUE_BYTES, "%s", kind_names[number]);
        break;
    case TYPE_GELU:
        snprintf(out, VALUE_BYTES, "%s", gelu_names[number]);
        break;
    case TYPE_U32:
        snprintf(out, VALUE_BYTES, "%u", number);
        break;
    case TYPE_F64:
        memcpy(&real, field(key, shape), sizeof real);
        text_f64_put(real, out);
        break;
    case TYPE_CHANNELS:
        out[0] = '\0';
        for (uint32_t i = 0; i < shape->channels; i++) {
            char text[TEXT_NUMBER_BYTES];
            text_f32_put(channels[i] + 0.0f, text); // + 0: there is one way to write zero.
            const size_t used = strlen(out);
            snprintf(out + used, VALUE_BYTES - used, "%s%s", i == 0 ? "" : ",", text);
        }
        break;
    }
}

void base_shape_put(const struct base_shape *shape, struct buf *text_out)
{
    CHECK(base_shape_check(shape) == OK);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        char value[VALUE_BYTES];
        put_value(&keys[i], shape, value);
        buf_put(text_out, span_text(keys[i].name));
        buf_u8(text_out, '=');
        buf_put(text_out, span_text(value));
        buf_u8(text_out, '\n');
    }
}

static enum err get_choice(const struct key *key, const char *value, const char *const names[2],
                           uint32_t *out)
{
    for (*out = 0; *out < 2; ++*out) {
        if (strcmp(value, names[*out]) == 0) {
            return OK;
        }
    }
    FAIL(ERR_INVALID, "%s of the base is none of %s, %s", key->name, names[0], names[1]);
}

// Reads up to BASE_CHANNELS_MAX numbers; that they are as many as channels shows when they are
// written again.
static enum err get_channels(const char *value, float *out)
{
    uint32_t count = 0;
    for (const char *at = value;; at++) {
        const size_t bytes = strcspn(at, ",");
        double number = 0;
        if (count == BASE_CHANNELS_MAX) {
            FAIL(ERR_INVALID, "expected at most %d numbers", (int)BASE_CHANNELS_MAX);
        }
        TRY(text_f64(span_of(at, bytes), &number));
        out[count++] = (float)number;
        at += bytes;
        if (*at == '\0') {
            return OK;
        }
    }
}

static enum err get_value(const struct key *key, const char *value, struct base_shape *shape)
{
    void *const out = (uint8_t *)shape + key->offset;
    if (!in_effect(key, shape)) {
        return OK; // Stays 0; whether "-" stands there shows when it is written again.
    }
    uint32_t number = 0;
    uint64_t wide = 0;
    double real = 0;
    switch (key->type) {
    case TYPE_KIND:
        TRY(get_choice(key, value, kind_names, &number));
        memcpy(out, &number, sizeof number);
        break;
    case TYPE_GELU:
        TRY(get_choice(key, value, gelu_names, &number));
        memcpy(out, &number, sizeof number);
        break;
    case TYPE_U32:
        TRY_AS(text_u64(value, UINT32_MAX, &wide), "%s of the base", key->name);
        number = (uint32_t)wide;
        memcpy(out, &number, sizeof number);
        break;
    case TYPE_F64:
        TRY_AS(text_f64(span_text(value), &real), "%s of the base", key->name);
        memcpy(out, &real, sizeof real);
        break;
    case TYPE_CHANNELS:
        TRY_AS(get_channels(value, out), "%s of the base", key->name);
        break;
    }
    return OK;
}
_Static_assert(sizeof(enum base_kind) == sizeof(uint32_t) &&
                   sizeof(enum base_gelu) == sizeof(uint32_t),
               "choices are copied as u32");

static enum err get_line(struct cursor *text, const struct key *key, struct base_shape *shape)
{
    const uint8_t *const end = text->left == 0 ? NULL : memchr(text->at, '\n', text->left);
    const size_t name_bytes = strlen(key->name);
    const size_t bytes = end == NULL ? 0 : (size_t)(end - text->at);
    if (bytes <= name_bytes || bytes - name_bytes > VALUE_BYTES ||
        memcmp(text->at, key->name, name_bytes) != 0 || text->at[name_bytes] != '=') {
        FAIL(ERR_INVALID, "the shape of the base is not in canonical form: expected the line of %s",
             key->name);
    }
    char value[VALUE_BYTES];
    const size_t value_bytes = bytes - name_bytes - 1;
    memcpy(value, text->at + name_bytes + 1, value_bytes);
    value[value_bytes] = '\0';
    cursor_take(text, bytes + 1);
    if (!text_is_clean(span_of(value, value_bytes))) {
        FAIL(ERR_INVALID, "%s of the base is no clean text", key->name);
    }
    return get_value(key, value, shape);
}

enum err base_shape_get(struct span text, struct base_shape *shape_out)
{
    if (text.bytes > BASE_TEXT_BYTES) {
        FAIL(ERR_INVALID, "the shape of the base has %zu bytes, expected at most %d", text.bytes,
             (int)BASE_TEXT_BYTES);
    }
    *shape_out = (struct base_shape){0};
    struct cursor cursor = cursor_of(text);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        TRY(get_line(&cursor, &keys[i], shape_out));
    }
    TRY(base_shape_check(shape_out));
    struct buf again = {0};
    base_shape_put(shape_out, &again);
    const bool same = span_equal(buf_span(&again), text);
    buf_deinit(&again);
    if (!same) {
        FAIL(ERR_INVALID, "the shape of the base is not in canonical form: a value is written "
                          "differently or something follows the last line");
    }
    return OK;
}

// --- The weights that a base is trained from ---

// Multiplies weights drawn from [-1, 1).
static void scale(float *weights, uint64_t count, double bound)
{
    for (uint64_t i = 0; i < count; i++) {
        weights[i] *= (float)bound;
    }
}

static void fill(float *weights, uint64_t count, float value)
{
    for (uint64_t i = 0; i < count; i++) {
        weights[i] = value;
    }
}

void base_init(const struct base_shape *shape, struct rng_key key, float *weights_out)
{
    float *const w = weights_out;
    const struct base_at at = base_at(shape);
    const uint64_t d = shape->width, f = shape->inner;
    const double all = 0.02 * sqrt(3.0), branch = all / sqrt(2.0 * shape->layers);
    rng_fill_uniform(key, 1.0f, w, at.count);
    if (shape->kind == BASE_VIT) {
        const uint64_t values = (uint64_t)shape->channels * shape->patch * shape->patch;
        scale(w + at.class_token, d, all);
        scale(w + at.patches, d * values, all);
        fill(w + at.patch_bias, d, 0.0f);
    } else {
        scale(w + at.tokens, BASE_TOKENS * d, all);
    }
    scale(w + at.positions, base_tokens_max(shape) * d, all);
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        const struct base_layer_at l = base_layer_at(shape, layer);
        fill(w + l.norm1, d, 1.0f);
        fill(w + l.norm1 + d, d, 0.0f);
        scale(w + l.qkv, 3 * d * d, all);
        fill(w + l.qkv_bias, 3 * d, 0.0f);
        scale(w + l.output, d * d, branch);
        fill(w + l.output_bias, d, 0.0f);
        fill(w + l.norm2, d, 1.0f);
        fill(w + l.norm2 + d, d, 0.0f);
        scale(w + l.up, f * d, all);
        fill(w + l.up_bias, f, 0.0f);
        scale(w + l.down, d * f, branch);
        fill(w + l.down_bias, d, 0.0f);
    }
    fill(w + at.norm, d, 1.0f);
    fill(w + at.norm + d, d, 0.0f);
}

// --- The base ---

struct digest base_digest(const struct base_shape *shape, const float *weights)
{
    struct buf text = {0};
    base_shape_put(shape, &text);
    const struct span parts[] = {
        buf_span(&text),
        span_of(weights, base_at(shape).count * sizeof *weights),
    };
    const struct digest digest = digest_of("unlearnd-base", parts, 2);
    buf_deinit(&text);
    return digest;
}

struct base *base_new(const struct base_shape *shape, float *weights)
{
    struct base *const base = mem_alloc(1, sizeof *base);
    atomic_init(&base->references, 1);
    base->shape = *shape;
    base->digest = base_digest(shape, weights);
    base->weights = weights;
    base->weight_count = base_at(shape).count;
    return base;
}

struct base *base_hold(struct base *base)
{
    CHECK(atomic_fetch_add(&base->references, 1) > 0);
    return base;
}

void base_release(struct base *base)
{
    if (base != NULL && atomic_fetch_sub(&base->references, 1) == 1) {
        mem_free(base->weights);
        mem_free(base);
    }
}
