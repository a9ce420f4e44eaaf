// model/elem.h: elementary functions over arrays of float32, ours, so that every machine has the
// same bits.
//
// libm chooses its code by the processor (with or without FMA) and its last bits with it. These
// functions use only +, -, *, / and comparisons of float64, which IEEE 754 fixes, in a fixed
// order; the compiler may vectorise them without changing a bit, as it is told not to contract.
// Element i of the result depends on element i of the input alone.
//
//   x     float32[count]; may be the same array as out, but must not overlap it otherwise
//   NaN   gives NaN.
//
// Accuracy (tests/unit/test_elem.c), in units in the last place of the float32 result, against
// the exact value: exp, log, tanh at most 0.501, denormal results included.
//
// Threads   Stateless.
// Source    Own series and Chebyshev fits; the coefficients' origin stands beside them in elem.c.
#pragma once

#include <stddef.h>

void elem_exp(const float *x, float *out, size_t count); // exp(88.8) and above: infinity.
void elem_log(const float *x, float *out, size_t count); // 0: -infinity, below 0: NaN.
void elem_tanh(const float *x, float *out, size_t count);

// gelu(x) = x * (1 + erf(x / sqrt 2)) / 2 and its slope; each within 1e-7 * max(1, |x|). Either
// result may be NULL. elem_gelu_tanh: x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2,
// GPT-2's approximation of it.
void elem_gelu(const float *x, float *out, float *slope_out, size_t count);
void elem_gelu_tanh(const float *x, float *out, float *slope_out, size_t count);
