// model/blas.h: matrix products, and the only way to BLAS.
//
// All matrices are float32, row-major, without gaps between rows. Arrays should be aligned to 64
// bytes: some kernels choose their path by alignment, and equal paths give equal bits. The result
// is written, never added to. A product with k = 0 is not asked for.
//
// Threads   Any; OpenBLAS must run with one thread (profile.h), or bits may change.
#pragma once

#include <stddef.h>

// c[m][n] = a[m][k] * transpose(b[n][k])
void blas_product_nt(size_t m, size_t n, size_t k, const float *a, const float *b, float *c);

// c[m][n] = a[m][k] * b[k][n]
void blas_product_nn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c);

// c[m][n] = transpose(a[k][m]) * b[k][n]
void blas_product_tn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c);

const char *blas_core(void); // The core type in use, "Haswell"; static storage.
