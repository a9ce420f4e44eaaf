// model/attention.h: multi-head attention over the tokens of one sample, forward and backward.
//
// Head k of h reads the columns k*d/h .. (k+1)*d/h - 1 of query, key and value, and writes the same
// columns of its output: softmax(query key^T / sqrt(d/h)) value. Causal: token i sees tokens 0..i.
//
// Letters   T tokens of the sample, Q of them that ask (the first Q; the others are only seen), d
//           width, h heads.
// Arrays    qkv[T][3d], query, key and value side by side; probs[h][Q][T]; out[Q][d].
// Source    Vaswani et al., "Attention Is All You Need", 2017.
// Threads   Stateless.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct attention {
    uint32_t width, heads;
    bool causal;
    uint32_t tokens, queries; // T, Q
};

// Writes probs_out and out.
void attention_forward(const struct attention *attention, const float *qkv, float *probs_out,
                       float *out);

// Writes dqkv_out[T][3d], d loss / d qkv, from dout[Q][d]. scratch: float32[h][Q][T].
void attention_backward(const struct attention *attention, const float *qkv, const float *probs,
                        const float *dout, float *scratch, float *dqkv_out);
