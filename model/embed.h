// model/embed.h: what a transformer's first layer reads: patches of images, or tokens, each with
// its position. Forward and backward, inside a transformer.
//
// Arrays    x, dx[N][d], samples packed as in transformer.h; patches[samples][patches of an image]
//           [channels * patch * patch], values as the projection sees them.
// Threads   Stateless.
#pragma once

#include "model/base.h"

// Cuts images, float32[samples][rows * cols], x / 255, into patches_out, and writes x_out: class
// token, then each patch projected; positions added. A sample's bits do not depend on the others'.
void embed_images(const struct base_shape *shape, const float *weights, uint32_t samples,
                  const float *pixels, float *patches_out, float *x_out);
// Writes the gradients of class token, positions, projection and its bias to gradient_out, that of
// all weights.
void embed_images_backward(const struct base_shape *shape, uint32_t samples, const float *patches,
                           const float *dx, float *gradient_out);

// offsets[samples + 1]; tokens[N], each below BASE_TOKENS.
void embed_tokens(const struct base_shape *shape, const float *weights, const uint32_t *offsets,
                  uint32_t samples, const uint16_t *tokens, float *x_out);
// Writes the gradients of tokens and positions.
void embed_tokens_backward(const struct base_shape *shape, const uint32_t *offsets,
                           uint32_t samples, const uint16_t *tokens, const float *dx,
                           float *gradient_out);
