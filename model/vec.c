// model/vec.c: see vec.h.
#include "model/vec.h"

#include "model/vectorised.h"

INLINED void add(float *out, const float *more, size_t count)
{
    size_t i = 0;
    for (; i + WIDE_LANES <= count; i += WIDE_LANES) {
        store_wide(out + i, load_wide(out + i) + load_wide(more + i));
    }
    for (; i < count; i++) {
        out[i] += more[i];
    }
}

VECTORISED void vec_add(float *out, const float *more, size_t count)
{
    add(out, more, count);
}

VECTORISED void vec_multiply(float *out, const float *factor, size_t count)
{
    size_t i = 0;
    for (; i + WIDE_LANES <= count; i += WIDE_LANES) {
        store_wide(out + i, load_wide(out + i) * load_wide(factor + i));
    }
    for (; i < count; i++) {
        out[i] *= factor[i];
    }
}

VECTORISED void vec_add_row(float *x, const float *row, size_t rows, size_t width)
{
    for (size_t i = 0; i < rows; i++) {
        add(x + i * width, row, width);
    }
}

VECTORISED void vec_sum_rows(const float *x, size_t rows, size_t width, float *sum_out)
{
    memset(sum_out, 0, width * sizeof *sum_out);
    for (size_t i = 0; i < rows; i++) {
        add(sum_out, x + i * width, width);
    }
}
