// model/vec.h: sums and products of arrays of float32, element by element.
//
// Each element is computed by itself, so that an element's bits do not depend on its place.
//
// Threads   Stateless.
#pragma once

#include <stddef.h>

void vec_add(float *out, const float *more, size_t count);        // out[i] += more[i]
void vec_multiply(float *out, const float *factor, size_t count); // out[i] *= factor[i]

// Adds row[width] to each row of x[rows][width].
void vec_add_row(float *x, const float *row, size_t rows, size_t width);
// sum_out[width] = the sum of the rows of x[rows][width], added in their order.
void vec_sum_rows(const float *x, size_t rows, size_t width, float *sum_out);
