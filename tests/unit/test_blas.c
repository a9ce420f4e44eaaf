// tests/unit/test_blas.c: products are products, whatever the strides.
//
// Method: small matrices inside wider ones, against sums in float64; what lies between the rows
// must stay as it was. Then the promise that the transformer's slices rest on: the bits of a
// product do not depend on strides, nor on where in an array its operands begin.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/blas.h"

typedef void product(size_t m, size_t n, size_t k, float alpha, const float *a, size_t a_stride,
                     const float *b, size_t b_stride, float beta, float *c, size_t c_stride);

// How a and b are read: [m][k] or [k][m], [k][n] or [n][k].
static const struct form {
    product *run;
    bool a_turned, b_turned;
} forms[] = {{blas_nt, false, true}, {blas_nn, false, false}, {blas_tn, true, false}};

enum { ROOM = 1 << 16 };
static float *a, *b, *c, *before;

static int take(void **state)
{
    (void)state;
    float **const all[] = {&a, &b, &c, &before};
    for (uint8_t i = 0; i < 4; i++) {
        if (mem_try_aligned(ROOM, sizeof(float), all[i]) != OK) {
            return 1;
        }
        rng_fill_uniform(rng_key_of("blas", span_of(&i, 1)), 1.0f, *all[i], ROOM);
    }
    return 0;
}

static int give(void **state)
{
    (void)state;
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(before);
    return 0;
}

static void assert_product(const struct form *form, size_t m, size_t n, size_t k, float alpha,
                           float beta, size_t gap)
{
    const size_t a_stride = (form->a_turned ? m : k) + gap;
    const size_t b_stride = (form->b_turned ? k : n) + gap, c_stride = n + gap;
    memcpy(c, before, ROOM * sizeof *c);
    form->run(m, n, k, alpha, a, a_stride, b, b_stride, beta, c, c_stride);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < c_stride; j++) {
            double sum = 0;
            for (size_t l = 0; l < k && j < n; l++) {
                sum += (double)a[form->a_turned ? l * a_stride + i : i * a_stride + l] *
                       (double)b[form->b_turned ? j * b_stride + l : l * b_stride + j];
            }
            const double old = (double)before[i * c_stride + j];
            const double expected = j < n ? (double)beta * old + (double)alpha * sum : old;
            const bool last = i + 1 == m && j >= n;
            if (!last) { // What lies behind the last row may belong to others.
                assert_true(fabs((double)c[i * c_stride + j] - expected) <= (j < n ? 1e-5 : 0));
            }
        }
    }
}

static void test_products(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{1, 1, 1},   {1, 17, 16}, {17, 16, 17}, {17, 17, 16},
                                      {33, 5, 64}, {40, 70, 3}, {7, 1, 100}};
    for (size_t f = 0; f < 3; f++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const size_t *const s = sizes[i];
            assert_product(&forms[f], s[0], s[1], s[2], 1.0f, 0.0f, 0);
            assert_product(&forms[f], s[0], s[1], s[2], 1.0f, 1.0f, 0);
            assert_product(&forms[f], s[0], s[1], s[2], 0.25f, 0.0f, 5);
            assert_product(&forms[f], s[0], s[1], s[2], -0.5f, 1.0f, 48);
        }
    }
}

// With beta = 0 what was there does not matter, not even NaN.
static void test_nothing_is_read_with_beta_0(void **state)
{
    (void)state;
    for (size_t f = 0; f < 3; f++) {
        for (size_t i = 0; i < 12; i++) {
            c[i] = NAN;
        }
        forms[f].run(3, 4, 5, 1.0f, a, 8, b, 8, 0.0f, c, 4);
        for (size_t i = 0; i < 12; i++) {
            assert_true(isfinite(c[i]));
        }
    }
}

// Copies the rows of a matrix to where they lie `at` floats behind an aligned address.
static const float *placed(const float *from, size_t rows, size_t stride, size_t width, size_t at,
                           float *room)
{
    for (size_t i = 0; i < rows; i++) {
        memcpy(room + at + i * width, from + i * stride, width * sizeof *room);
    }
    return room + at;
}

static void test_bits_do_not_depend_on_place_or_stride(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{17, 17, 16}, {17, 16, 17}, {1, 17, 16}, {9, 64, 16},
                                      {5, 3, 7},    {64, 49, 16}, {100, 24, 8}};
    static float first[ROOM];
    float *a_room = NULL, *b_room = NULL;
    assert_int_equal(mem_try_aligned(ROOM, sizeof *a_room, &a_room), OK);
    assert_int_equal(mem_try_aligned(ROOM, sizeof *b_room, &b_room), OK);
    for (size_t f = 0; f < 3; f++) {
        const struct form *const form = &forms[f];
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const size_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2], wide = 200;
            const size_t a_rows = form->a_turned ? k : m, a_width = form->a_turned ? m : k;
            const size_t b_rows = form->b_turned ? n : k, b_width = form->b_turned ? k : n;
            form->run(m, n, k, 0.3f, a, wide, b, wide, 0.0f, first, n);
            for (size_t at = 0; at < 33; at++) {
                float *const out = c + at;
                form->run(m, n, k, 0.3f, placed(a, a_rows, wide, a_width, at, a_room), a_width,
                          placed(b, b_rows, wide, b_width, 33 - at, b_room), b_width, 0.0f, out,
                          n + 3);
                for (size_t row = 0; row < m; row++) {
                    assert_memory_equal(out + row * (n + 3), first + row * n, n * sizeof *out);
                }
            }
        }
    }
    mem_free(a_room);
    mem_free(b_room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_nothing_is_read_with_beta_0),
        cmocka_unit_test(test_bits_do_not_depend_on_place_or_stride),
    };
    return cmocka_run_group_tests(tests, take, give);
}
