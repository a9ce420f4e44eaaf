// model/optim.h: how a gradient moves the weights.
//
// Elementwise, in float32, in a fixed order of operations. g is the sum of the gradients of a batch
// divided by its n rows (text: tokens). The state starts at zero with each stage.
//
//   sgd     g' = g + decay * w;  v = momentum * v + g';  w = w - rate * v
//   adamw   w = w - (rate * decay) * w;  m = beta1 * m + (1 - beta1) * g;
//           s = beta2 * s + (1 - beta2) * g * g;
//           w = w - rate * (m / c1) / (sqrt(s / c2) + epsilon),  c = 1 - beta^step
//
// v, m and s below 2^-100 in size become 0. c1 and c2 come from running products in float64, so no pow is needed.
//
// Lifetime  optim_init allocates, optim_deinit frees.
// Source    Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "model/spec.h"

struct optim {
    const struct spec *spec; // Borrowed until optim_deinit.
    uint64_t count;
    float *first;  // float32[count]: sgd v, adamw m. Owned.
    float *second; // float32[count]: adamw s, else NULL. Owned.
    double beta1_power, beta2_power;
};

// ERR_LIMIT: not enough memory; nothing is held then.
MUST_USE enum err optim_init(struct optim *optim, const struct spec *spec, uint64_t count);
void optim_deinit(struct optim *optim); // Accepts {0}.

// One step: weights[count] moves by gradient_sum[count] divided by `units`, the rows or tokens that
// the sum is over.
void optim_step(struct optim *optim, const float *gradient_sum, uint64_t units, float *weights);
