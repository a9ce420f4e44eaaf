// model/transformer_plain.h: the transformer of transformer.h in plain loops over float64: slow,
// obviously right, the reference of the tests. Nothing that is kept is computed by it.
//
// One sample at a time, so that there is no packing; all layers and tokens, so that nothing is left
// out; all gradients. Its exp, erf and tanh are libm's: independent of model/elem.c.
//
// Lifetime  plain_new to plain_free. One forward, then at most one backward.
// Threads   One.
#pragma once

#include "model/lora.h"

struct plain;

// Borrows everything until plain_free.
struct plain_model {
    const struct base_shape *shape;
    const double *weights; // As base.h orders them.
    const struct lora *lora;
    const double *const *adapters; // [layers], NULL where a layer has none; NULL: none at all.
    // Of dropout, [layers * target_count], each [T][in] or NULL; NULL: none at all.
    const float *const *factors;
};

// A sample: pixels[rows * cols] with vit, tokens[T] with text.
struct plain *plain_new(const struct plain_model *model, const float *pixels,
                        const uint16_t *tokens, uint32_t token_count);
void plain_free(struct plain *plain); // Accepts NULL.

// float64[T][d] after the final norm. Borrowed until plain_free.
const double *plain_forward(struct plain *plain);

// Adds the gradients to dweights[base_at().count] and, unless NULL, dadapters[layers], where a
// layer has adapters; from dy[T][d].
void plain_backward(struct plain *plain, const double *dy, double *dweights,
                    double *const *dadapters);
