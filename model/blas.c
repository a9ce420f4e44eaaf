// model/blas.c: see blas.h. The only file that includes cblas.h.
#include "model/blas.h"

#include <cblas.h>
#include <limits.h>

#include "base/check.h"

static blasint size(size_t count)
{
    CHECK(count > 0 && count <= INT_MAX); // Within LIMIT_WIDTH, LIMIT_BATCH and the like.
    return (blasint)count;
}

void blas_nt(size_t m, size_t n, size_t k, float alpha, const float *a, size_t a_stride,
             const float *b, size_t b_stride, float beta, float *c, size_t c_stride)
{
    CHECK(a_stride >= k && b_stride >= k && c_stride >= n);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, size(m), size(n), size(k), alpha, a,
                size(a_stride), b, size(b_stride), beta, c, size(c_stride));
}

void blas_nn(size_t m, size_t n, size_t k, float alpha, const float *a, size_t a_stride,
             const float *b, size_t b_stride, float beta, float *c, size_t c_stride)
{
    CHECK(a_stride >= k && b_stride >= n && c_stride >= n);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, size(m), size(n), size(k), alpha, a,
                size(a_stride), b, size(b_stride), beta, c, size(c_stride));
}

void blas_tn(size_t m, size_t n, size_t k, float alpha, const float *a, size_t a_stride,
             const float *b, size_t b_stride, float beta, float *c, size_t c_stride)
{
    CHECK(a_stride >= m && b_stride >= n && c_stride >= n);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, size(m), size(n), size(k), alpha, a,
                size(a_stride), b, size(b_stride), beta, c, size(c_stride));
}

void blas_product_nt(size_t m, size_t n, size_t k, const float *a, const float *b, float *c)
{
    blas_nt(m, n, k, 1.0f, a, k, b, k, 0.0f, c, n);
}

void blas_product_nn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c)
{
    blas_nn(m, n, k, 1.0f, a, k, b, n, 0.0f, c, n);
}

void blas_product_tn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c)
{
    blas_tn(m, n, k, 1.0f, a, m, b, n, 0.0f, c, n);
}

const char *blas_core(void)
{
    return openblas_get_corename();
}
