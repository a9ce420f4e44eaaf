// model/lora.h: low-rank adapters on the linear layers of a frozen transformer.
//
// A linear layer with an adapter computes x W^T + b + scale * (drop(x) A^T) B^T, A [r][in], B
// [rows][r], where the adapter covers `rows` outputs of the layer (query: the first d of the 3d of
// qkv). So W is never changed, and an adapter that is absent costs nothing.
//
// The adapters of one layer are one run of float32: for each target in order A, then B.
//
// Dropout is inverted: while a layer's adapters are trained, each input of each adapter is dropped
// with the given probability, else divided by one minus it. A draw belongs to (what the caller
// says: stage and pass; layer, target, record, window) and the input's place in the window: nobody
// else's draws shift it.
//
// Letters   N rows, r rank.
// Source    Hu et al., arXiv 2106.09685; Kalajdzievski, arXiv 2312.03732 (rsLoRA).
// Threads   Stateless. BLAS must be pinned (profile.h).
#pragma once

#include "base/rng.h"
#include "model/base.h"

// The linear layers of a block, from its input on.
enum linear { LINEAR_QKV, LINEAR_OUTPUT, LINEAR_UP, LINEAR_DOWN, LINEAR_COUNT_ };

enum { LORA_TARGETS_MAX = 6 };

struct lora_target {
    enum linear linear;
    uint32_t from, rows; // Outputs of the linear layer that the adapter covers.
    uint32_t in;         // Inputs of the linear layer.
};
struct lora {
    uint32_t rank;
    float scale;   // alpha / r, or alpha / sqrt(r) with rsLoRA.
    float dropout; // [0, 1)
    uint32_t target_count;
    struct lora_target targets[LORA_TARGETS_MAX];
};

// Finds a target by its Hugging Face name: with vit query, key, value, attention.output.dense,
// intermediate.dense, output.dense; with text query, key, value, c_attn (these three in one),
// attn.c_proj, c_fc, mlp.c_proj.
//   ERR_INVALID  no such name; the message lists those there are.
MUST_USE enum err lora_target_find(const struct base_shape *shape, const char *name,
                                   struct lora_target *target_out);

// Finds each of the names, joined by ',', and writes targets and target_count.
//   ERR_INVALID  as above, or more than LORA_TARGETS_MAX.
MUST_USE enum err lora_targets(const struct base_shape *shape, const char *names,
                               struct lora *lora_out);

// ERR_INVALID: rank or target_count is 0 or too large, a number is out of its range, or two targets
// cover the same outputs.
MUST_USE enum err lora_check(const struct lora *lora);

uint64_t lora_count(const struct lora *lora); // float32 of one layer's adapters.
// Where a target's A begins in them; its B follows.
uint64_t lora_at(const struct lora *lora, uint32_t target);

// Adapters that change nothing yet: A uniform within +-1/sqrt(in), as in PEFT; B zero.
// Element i of the run is drawn by the key and i alone.
void lora_init(const struct lora *lora, struct rng_key key, float *adapters_out);

// --- Inside a transformer ---

// What a draw of dropout belongs to. `name` says stage and pass; it is as long afterwards.
struct rng_key lora_drop_key(struct buf *name, uint32_t layer, uint32_t target,
                             const struct id128 *rid, uint32_t window);
// factor_out[count]: 0 where dropped, else 1 / (1 - dropout).
void lora_drop(const struct lora *lora, struct rng_key key, uint64_t count, float *factor_out);

// y[N][rows] += scale * (x A^T) B^T, and low_out[N][r] = x A^T, which the backward step needs.
//   x         float32[N][in], after dropout.
//   adapters  of the layer.   y  the first output that the target covers, with the stride of a row.
void lora_forward(const struct lora *lora, uint32_t target, const float *adapters, size_t row_count,
                  const float *x, float *low_out, float *y, size_t y_stride);

struct lora_backward {
    const struct lora *lora;
    uint32_t target;
    const float *adapters; // Of the layer.
    size_t row_count;
    const float *x, *low; // As lora_forward had and made them.
    const float *dy;      // d loss / d y, addressed as y.
    size_t dy_stride;
    const float *factor; // Of lora_drop; NULL: no dropout.
    float *dlow;         // Scratch: float32[N][r].
    float *dropped;      // Scratch: float32[N][in]; x may lie there. NULL without dropout.
};
// Writes the target's part of gradient_out, that of a layer's adapters, and adds to dx[N][in];
// either may be NULL.
void lora_backward(const struct lora_backward *back, float *gradient_out, float *dx);
