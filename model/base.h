// model/base.h: a frozen transformer that LoRA learners stand on: its shape, the order of its
// weights, its digest.
//
// A base is immutable and public (imported, or pre-trained on a dataset declared public), and named
// by its digest in every component that stands on it. Its weights are one run of float32, each
// matrix [out][in] row-major, in this order:
//
//   vit    class token [d], positions [1 + patches][d],
//          patch projection [d][channels * patch * patch], its bias [d]
//   text   tokens [BASE_TOKENS][d], positions [context][d]
//   then, for each layer from the bottom:
//          norm 1 gain [d], bias [d]; query, key, value as one matrix [3d][d], bias [3d];
//          attention output [d][d], bias [d]; norm 2 gain [d], bias [d];
//          up [inner][d], bias [inner]; down [d][inner], bias [d]
//   then   final norm gain [d], bias [d]
//
// Blocks are pre-norm: x += attention(norm1(x)); x += down(gelu(up(norm2(x)))). A text's token is
// its byte, with BASE_BOS and BASE_EOS around the record; vit prepends the class token and answers
// from it. A grey image is given to each channel; patches are taken row by row, a patch's values
// channel by channel, then row by row (the layout of Hugging Face's Conv2d weight).
//
// Source    Dosovitskiy et al., arXiv 2010.11929 (ViT); Radford et al., 2019 (GPT-2).
// Lifetime  base_shape is a plain value. struct base: base_new to the last base_release.
// Threads   A base is constant: any may read.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/rng.h"

enum base_kind { BASE_VIT, BASE_TEXT };
// The exact GELU, x Phi(x) (ViT), or its approximation by tanh (GPT-2's gelu_new).
enum base_gelu { BASE_GELU_ERF, BASE_GELU_TANH };

enum {
    BASE_BYTES = 256, // Token b is byte b.
    BASE_BOS = 256,
    BASE_EOS = 257,
    BASE_TOKENS = 258,
    BASE_CHANNELS_MAX = 4,
    BASE_TEXT_BYTES = 1024, // Of the canonical text of a shape.
};

struct base_shape {
    enum base_kind kind;
    enum base_gelu gelu;
    uint32_t layers; // n
    uint32_t width;  // d, a multiple of heads
    uint32_t heads;
    uint32_t inner; // Width of the feed-forward part.
    double epsilon; // Of every norm.
    // vit; else 0
    uint32_t rows, cols; // Of an image; multiples of patch.
    uint32_t channels;
    uint32_t patch; // Side of a patch.
    // A channel's input is (pixel / 255 - mean) / deviation.
    float mean[BASE_CHANNELS_MAX], deviation[BASE_CHANNELS_MAX];
    // text; else 0
    uint32_t context; // Tokens of a window at most.
};

// Where each part begins in the run of weights.
struct base_layer_at {
    uint64_t norm1, qkv, qkv_bias, output, output_bias, norm2, up, up_bias, down, down_bias;
};
struct base_at {
    uint64_t class_token; // vit
    uint64_t tokens;      // text
    uint64_t positions;
    uint64_t patches, patch_bias; // vit
    uint64_t layers;              // The first layer's; all layers have the same size.
    uint64_t layer_count;         // float32 of one layer.
    uint64_t norm;                // The final one: gain, then bias.
    uint64_t count;               // float32 in all.
};
struct base_at base_at(const struct base_shape *shape);
struct base_layer_at base_layer_at(const struct base_shape *shape, uint32_t layer);

// Tokens of one image (1 + patches), or the context of a text.
uint32_t base_tokens_max(const struct base_shape *shape);

// ERR_INVALID, ERR_LIMIT: a part is 0, out of its range, or does not divide; more weights than
// LIMIT_PARAM_COUNT. The message names it.
MUST_USE enum err base_shape_check(const struct base_shape *shape);

// Canonical text, "key=value\n" lines: what travels, is stored and is hashed.
void base_shape_put(const struct base_shape *shape, struct buf *text_out);
// Reads canonical text and nothing else, then checks. ERR_INVALID: *shape_out is unspecified.
MUST_USE enum err base_shape_get(struct span text, struct base_shape *shape_out);

// The weights that a base is trained from, as GPT-2's: uniform with deviation 0.02, but matrices
// that end a branch (attention output, down) 0.02 / sqrt(2 * layers); gains 1, biases 0. Weight i
// is drawn by the key and i alone. Glorot's weights, larger at small widths, generalise worse: 4
// layers of width 64, 30 passes over 1,036 images of 5 digits: 0.964 of 1,030 others right, with
// Glorot's 0.941 (means of four seeds); adapters trained on these bases with all digits: 0.856 and
// 0.849 (of three).
void base_init(const struct base_shape *shape, struct rng_key key, float *weights_out);

// Domain "unlearnd-base" over the canonical text and the weights as little-endian float32.
struct digest base_digest(const struct base_shape *shape, const float *weights);

struct base {
    _Atomic uint32_t references;
    struct base_shape shape;
    struct digest digest;
    float *weights; // float32[base_at().count], 64-byte aligned. Owned.
    uint64_t weight_count;
};
// Takes the weights over, allocated with mem_try_aligned; computes the digest. One reference.
struct base *base_new(const struct base_shape *shape, float *weights);
struct base *base_hold(struct base *base);
void base_release(struct base *base); // Accepts NULL. Any thread.
