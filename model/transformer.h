// model/transformer.h: a pre-norm transformer forward and backward, all weights or adapters of a
// base.
//
// Letters: N tokens in all, d width, h heads, f inner width. Samples are packed without padding:
// sample s has the rows offsets[s] .. offsets[s+1]-1 of every [N][...] array, and attends to its
// own rows alone (text: to those not after it).
//
// The caller brings head and loss. A step is: embed (or put kept activations into transformer_x),
// transformer_run through the layers, transformer_finish, then transformer_backward with d loss / d
// of what transformer_finish gave: for vit the class token of each sample, for text every token. A
// vit's other tokens are not computed beyond what the class token sees of them in the last layer.
//
// Which gradients are computed is a choice made once: of all weights (a base that is trained from
// nothing) or of the adapters of a range of layers; nothing is computed below the lowest of them,
// so the layers below may be run once per record and their activations kept. Gradients are sums
// over the samples.
//
// Bits follow from what is given and its order: products have the shapes of the batch, arrays begin
// at 64 bytes, sums have a fixed order. The same sample in another batch may come out different in
// last bits.
//
// model/transformer_plain.h is the same in plain loops: slow, obviously right, the reference of the
// tests. Source: Vaswani et al. 2017; see lora.h for adapters, base.h for the weights.
// Lifetime  transformer_new takes all memory there will be; no step allocates.
// Threads   One transformer per thread. BLAS must be pinned (profile.h).
#pragma once

#include "model/lora.h"

enum transformer_gradients { TRANSFORMER_NONE, TRANSFORMER_WEIGHTS, TRANSFORMER_ADAPTERS };

struct transformer_plan {
    const struct base_shape *shape; // Checked; copied.
    const struct lora *lora;        // Checked; copied. NULL: no adapters.
    uint32_t tokens_max;            // N at most, 1 ..
    uint32_t samples_max;           // 1 ..
    enum transformer_gradients gradients;
    uint32_t low, high; // ADAPTERS: the layers [low, high) whose adapters are trained; else 0.
};

struct transformer_batch {
    const uint32_t *offsets; // [samples + 1], from 0; each sample has 1 .. base_tokens_max tokens.
    uint32_t samples;
    // What the draws of dropout belong to; looked at with ADAPTERS and dropout alone.
    struct span name;         // Stage and pass.
    const struct id128 *rids; // [samples]
    const uint32_t *windows;  // [samples], number of the sample in its record; NULL: 0.
};

struct transformer;

// ERR_LIMIT: not enough memory; *transformer_out is NULL then.
MUST_USE enum err transformer_new(const struct transformer_plan *plan,
                                  struct transformer **transformer_out);
void transformer_free(struct transformer *transformer); // Accepts NULL.

// x[N][d], what the next layer reads: written by embed and run, or by the caller, who may also read
// it. Borrowed until transformer_free, 64-byte aligned.
float *transformer_x(struct transformer *transformer);

// `weights` below: the base's, in the order of base.h. Like adapters they begin at 64 bytes, or at
// a place behind it that follows from shapes alone.

// vit. pixels: float32[samples][rows * cols], x / 255, row by row; each channel sees the same ones.
// Each sample has base_tokens_max tokens.
void transformer_embed_images(struct transformer *transformer, const float *weights,
                              const struct transformer_batch *batch, const float *pixels);
// text. tokens[N], below BASE_TOKENS.
void transformer_embed_tokens(struct transformer *transformer, const float *weights,
                              const struct transformer_batch *batch, const uint16_t *tokens);

// Runs x through the layers [from, to). `adapters`: [layers], NULL where a layer has none; NULL:
// none at all. Those of the layers that are trained must be there. After a vit's last layer
// x[samples][d] holds class tokens alone.
void transformer_run(struct transformer *transformer, const float *weights,
                     const float *const *adapters, const struct transformer_batch *batch,
                     uint32_t from, uint32_t to);

// Applies the final norm, after the last layer: [samples][d] with vit, [N][d] with text. Borrowed
// until the next call.
const float *transformer_finish(struct transformer *transformer, const float *weights,
                                const struct transformer_batch *batch);

// Writes the gradients, from dy, d loss / d of what transformer_finish gave. Weights, adapters and
// batch are those of the run, which went from the embedding (WEIGHTS) or from `low` or below
// (ADAPTERS).
//
//   gradient_out  WEIGHTS: float32[base_at().count], in the order of base.h. A head that is tied to
//                 the tokens adds its own part to them afterwards.
//                 ADAPTERS: float32[(high - low) * lora_count()], layers ascending.
void transformer_backward(struct transformer *transformer, const float *weights,
                          const float *const *adapters, const struct transformer_batch *batch,
                          const float *dy, float *gradient_out);
