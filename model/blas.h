// model/blas.h: matrix products, and the only way to BLAS.
//
// All matrices are float32, row-major. A stride is the number of floats from the start of a row to
// that of the next, so that columns of a wider matrix can be read and written. Arrays should begin
// at 64 bytes: some kernels may choose their path by alignment, and so it follows from shapes
// alone. m, n and k are at least 1.
//
// Threads   Any; OpenBLAS must run with one thread (profile.h), or bits may change.
#pragma once

#include <stddef.h>

// Without gaps between rows; the result is written, never added to.
// c[m][n] = a[m][k] * transpose(b[n][k])
void blas_product_nt(size_t m, size_t n, size_t k, const float *a, const float *b, float *c);
// c[m][n] = a[m][k] * b[k][n]
void blas_product_nn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c);
// c[m][n] = transpose(a[k][m]) * b[k][n]
void blas_product_tn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c);

// The same with strides: c = beta * c + alpha * product. With beta = 0 c is not read.
void blas_nt(size_t m, size_t n, size_t k, float alpha, const float *a, size_t a_stride,
             const float *b, size_t b_stride, float beta, float *c, size_t c_stride);
void blas_nn(size_t m, size_t n, size_t k, float alpha, const float *a, size_t a_stride,
             const float *b, size_t b_stride, float beta, float *c, size_t c_stride);
void blas_tn(size_t m, size_t n, size_t k, float alpha, const float *a, size_t a_stride,
             const float *b, size_t b_stride, float beta, float *c, size_t c_stride);

const char *blas_core(void); // The core type in use, "Haswell"; static storage.
