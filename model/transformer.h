// model/transformer.h: pre-norm transformer layers forward and backward, with LoRA adapters.
//
// Letters: N tokens in all, d width, h heads, f inner width, r rank of an adapter. Samples are packed
// without padding: sample s has the rows offsets[s] .. offsets[s+1]-1 of every [N][...] array, and
// attends to its own rows alone (text: to those not after it).
//
// A linear layer with an adapter computes x W^T + b + scale * (drop(x) A^T) B^T, A [r][in], B [rows][r],
// where the adapter covers `rows` outputs of the layer (query: the first d of the 3d of qkv). So W is
// never changed, and an adapter that is absent costs nothing.
//
// Which gradients are computed is a choice of the caller: of all weights (a base that is trained from
// nothing) or of the adapters of a range of layers; nothing is computed below the lowest of them.
//
// model/transformer_plain.h is the same in plain loops: slow, obviously right, the reference of the
// tests. Source: Vaswani et al. 2017; Hu et al., arXiv 2106.09685 (LoRA); Kalajdzievski, arXiv
// 2312.03732 (rsLoRA).
// Threads   One transformer per thread. BLAS must be pinned (profile.h).
#pragma once

#include <stdbool.h>

#include "model/base.h"

// --- Adapters ---

// The linear layers of a block.
enum linear { LINEAR_QKV, LINEAR_OUTPUT, LINEAR_UP, LINEAR_DOWN, LINEAR_COUNT_ };

enum { LORA_TARGETS_MAX = 6 };

struct lora_target {
    enum linear linear;
    uint32_t from, rows; // Outputs of the linear layer that the adapter covers.
    uint32_t in;         // Inputs of the linear layer.
};
struct lora {
    uint32_t rank;
    float scale; // alpha / r, or alpha / sqrt(r) with rsLoRA
    float dropout;
    uint32_t target_count;
    struct lora_target targets[LORA_TARGETS_MAX];
};
