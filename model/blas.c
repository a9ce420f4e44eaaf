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

void blas_product_nt(size_t m, size_t n, size_t k, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, size(m), size(n), size(k), 1.0f, a,
                size(k), b, size(k), 0.0f, c, size(n));
}

void blas_product_nn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, size(m), size(n), size(k), 1.0f, a,
                size(k), b, size(n), 0.0f, c, size(n));
}

void blas_product_tn(size_t m, size_t n, size_t k, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, size(m), size(n), size(k), 1.0f, a,
                size(m), b, size(n), 0.0f, c, size(n));
}

const char *blas_core(void)
{
    return openblas_get_corename();
}
