// model/norm.h: LayerNorm over the rows of a matrix, forward and backward.
//
// hat = (x - mean) / sqrt(variance + epsilon), y = hat * gain + bias; mean and variance (of the
// population) belong to the row. They are added up in float64, in four lanes and a fixed order, and
// used in float32.
//
// Letters   N rows, d width.   gain, bias float32[d].
// Source    Ba, Kiros, Hinton, arXiv 1607.06450.
// Threads   Stateless.
#pragma once

#include <stddef.h>

// y_out[N][d] from x[N][d]. hat_out[N][d] and scale_out[N], 1 / sqrt(variance + epsilon), are what
// the backward step needs; both NULL when there is none.
void norm_forward(const float *x, const float *gain, const float *bias, double epsilon, size_t rows,
                  size_t width, float *hat_out, float *scale_out, float *y_out);

// dx[N][d] += d loss / d x, from dy[N][d], d loss / d y.
void norm_backward(const float *hat, const float *scale, const float *gain, const float *dy,
                   size_t rows, size_t width, float *dx);

// d loss / d gain and bias, float32[d] each: written.
void norm_gradient(const float *hat, const float *dy, size_t rows, size_t width, float *dgain_out,
                   float *dbias_out);
