// model/embed.c: see embed.h.
#include "model/embed.h"

#include "base/check.h"
#include "model/blas.h"
#include "model/vec.h"

// --- Images ---

struct image {
    size_t d, tokens, patches; // patches = tokens - 1
    size_t values;             // Of a patch.
};

static struct image image_of(const struct base_shape *shape)
{
    const size_t tokens = base_tokens_max(shape);
    return (struct image){shape->width, tokens, tokens - 1,
                          (size_t)shape->channels * shape->patch * shape->patch};
}

// Cuts one image into its patches.
static void cut(const struct base_shape *shape, const float *pixels, float *patches_out)
{
    float *at = patches_out;
    const size_t side = shape->patch;
    for (size_t top = 0; top < shape->rows; top += side) {
        for (size_t left = 0; left < shape->cols; left += side) {
            for (size_t c = 0; c < shape->channels; c++) {
                for (size_t i = 0; i < side * side; i++) {
                    const size_t row = top + i / side, col = left + i % side;
                    *at++ =
                        (pixels[row * shape->cols + col] - shape->mean[c]) / shape->deviation[c];
                }
            }
        }
    }
}

void embed_images(const struct base_shape *shape, const float *weights, uint32_t samples,
                  const float *pixels, float *patches_out, float *x_out)
{
    const struct image image = image_of(shape);
    const struct base_at at = base_at(shape);
    const size_t d = image.d;
    for (uint32_t s = 0; s < samples; s++) {
        float *const patches = patches_out + s * image.patches * image.values;
        float *const x = x_out + s * image.tokens * d;
        cut(shape, pixels + s * (size_t)shape->rows * shape->cols, patches);
        memcpy(x, weights + at.class_token, d * sizeof *x);
        blas_nt(image.patches, d, image.values, 1.0f, patches, image.values, weights + at.patches,
                image.values, 0.0f, x + d, d);
        vec_add_row(x + d, weights + at.patch_bias, image.patches, d);
        vec_add(x, weights + at.positions, image.tokens * d);
    }
}

void embed_images_backward(const struct base_shape *shape, uint32_t samples, const float *patches,
                           const float *dx, float *gradient_out)
{
    const struct image image = image_of(shape);
    const struct base_at at = base_at(shape);
    const size_t d = image.d;
    float *const positions = gradient_out + at.positions;
    memset(positions, 0, image.tokens * d * sizeof *positions);
    for (uint32_t s = 0; s < samples; s++) {
        const float *const rows = dx + s * image.tokens * d;
        vec_add(positions, rows, image.tokens * d);
        blas_tn(d, image.values, image.patches, 1.0f, rows + d, d,
                patches + s * image.patches * image.values, image.values, s == 0 ? 0.0f : 1.0f,
                gradient_out + at.patches, image.values);
    }
    memcpy(gradient_out + at.class_token, positions, d * sizeof *positions);
    vec_sum_rows(positions + d, image.patches, d, gradient_out + at.patch_bias);
}

// --- Tokens ---

void embed_tokens(const struct base_shape *shape, const float *weights, const uint32_t *offsets,
                  uint32_t samples, const uint16_t *tokens, float *x_out)
{
    const struct base_at at = base_at(shape);
    const size_t d = shape->width;
    for (uint32_t s = 0; s < samples; s++) {
        float *const x = x_out + offsets[s] * d;
        const size_t count = offsets[s + 1] - offsets[s];
        for (size_t i = 0; i < count; i++) {
            const size_t token = tokens[offsets[s] + i];
            CHECK(token < BASE_TOKENS);
            memcpy(x + i * d, weights + at.tokens + token * d, d * sizeof *x);
        }
        vec_add(x, weights + at.positions, count * d);
    }
}

void embed_tokens_backward(const struct base_shape *shape, const uint32_t *offsets,
                           uint32_t samples, const uint16_t *tokens, const float *dx,
                           float *gradient_out)
{
    const struct base_at at = base_at(shape);
    const size_t d = shape->width;
    float *const rows = gradient_out + at.tokens, *const positions = gradient_out + at.positions;
    memset(rows, 0, BASE_TOKENS * d * sizeof *rows);
    memset(positions, 0, shape->context * d * sizeof *positions);
    for (uint32_t s = 0; s < samples; s++) {
        const size_t from = offsets[s], count = offsets[s + 1] - from;
        vec_add(positions, dx + from * d, count * d);
        for (size_t i = from; i < from + count; i++) {
            vec_add(rows + tokens[i] * d, dx + i * d, d);
        }
    }
}
