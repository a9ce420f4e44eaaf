// model/loss.h: what training makes smaller.
//
// Threads   Stateless.
#pragma once

#include <stdint.h>

// Cross-entropy of softmax(logits) against class `target`, below width: writes d loss / d logits to
// delta_out[width] (may be logits) and returns the loss. The sum of the powers is made in float32,
// in order.
double loss_softmax(const float *logits, uint32_t width, uint32_t target, float *delta_out);

// Half the squared distance to a number: the same.
double loss_square(float output, float target, float *delta_out);
