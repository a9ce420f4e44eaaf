// tests/unit/test_vectorised.c: what is compiled for AVX2 gives the bits of what is compiled for
// any processor.
//
// Method: the sources are included once more, without their AVX2 version and under other names; on
// a machine with AVX2 the archive's functions take theirs. Both compute the same inputs: many
// float32 bit patterns for the elementary functions, odd sizes and addresses for the rest. Without
// AVX2 this compares a thing with itself.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/attention.h"
#include "model/elem.h"
#include "model/norm.h"
#include "model/vec.h"

#define VECTORISED
#define elem_exp           any_elem_exp
#define elem_log           any_elem_log
#define elem_tanh          any_elem_tanh
#define elem_gelu          any_elem_gelu
#define elem_gelu_tanh     any_elem_gelu_tanh
#define vec_add            any_vec_add
#define vec_multiply       any_vec_multiply
#define vec_add_row        any_vec_add_row
#define vec_sum_rows       any_vec_sum_rows
#define norm_forward       any_norm_forward
#define norm_backward      any_norm_backward
#define norm_gradient      any_norm_gradient
#define attention_forward  any_attention_forward
#define attention_backward any_attention_backward
// The headers are in already, under the true names: these are the others.
void elem_exp(const float *x, float *out, size_t count);
void elem_log(const float *x, float *out, size_t count);
void elem_tanh(const float *x, float *out, size_t count);
void elem_gelu(const float *x, float *out, float *slope_out, size_t count);
void elem_gelu_tanh(const float *x, float *out, float *slope_out, size_t count);
void vec_add(float *out, const float *more, size_t count);
void vec_multiply(float *out, const float *factor, size_t count);
void vec_add_row(float *x, const float *row, size_t rows, size_t width);
void vec_sum_rows(const float *x, size_t rows, size_t width, float *sum_out);
void norm_forward(const float *x, const float *gain, const float *bias, double epsilon, size_t rows,
                  size_t width, float *hat_out, float *scale_out, float *y_out);
void norm_backward(const float *hat, const float *scale, const float *gain, const float *dy,
                   size_t rows, size_t width, float *dx);
void norm_gradient(const float *hat, const float *dy, size_t rows, size_t width, float *dgain_out,
                   float *dbias_out);
void attention_forward(const struct attention *attention, const float *qkv, float *probs_out,
                       float *out);
void attention_backward(const struct attention *attention, const float *qkv, const float *probs,
                        const float *dout, float *scratch, float *dqkv_out);
// NOLINTBEGIN(bugprone-suspicious-include)
#include "model/attention.c"
#include "model/elem.c"
#include "model/norm.c"
#include "model/vec.c"
// NOLINTEND(bugprone-suspicious-include)
#undef elem_exp
#undef elem_log
#undef elem_tanh
#undef elem_gelu
#undef elem_gelu_tanh
#undef vec_add
#undef vec_multiply
#undef vec_add_row
#undef vec_sum_rows
#undef norm_forward
#undef norm_backward
#undef norm_gradient
#undef attention_forward
#undef attention_backward

// That something is no number is promised, not which of its many patterns it has.
static void assert_same(float *x, float *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (isnan(x[i]) && isnan(y[i])) {
            x[i] = y[i] = 0.0f;
        }
    }
    assert_memory_equal(x, y, count * sizeof *x);
}

static void test_elementary_functions(void **state)
{
    (void)state;
    enum { ROOM = 4096 };
    static float x[ROOM], a[ROOM], b[ROOM], da[ROOM], db[ROOM];
    void (*const here[])(const float *, float *, size_t) = {elem_exp, elem_log, elem_tanh};
    void (*const there[])(const float *, float *, size_t) = {any_elem_exp, any_elem_log,
                                                             any_elem_tanh};
    for (uint64_t bits = 0; bits <= UINT32_MAX;) {
        for (size_t i = 0; i < ROOM; i++, bits += 1009) {
            const uint32_t pattern = (uint32_t)bits;
            memcpy(&x[i], &pattern, sizeof pattern);
        }
        for (size_t f = 0; f < 3; f++) {
            here[f](x, a, ROOM);
            there[f](x, b, ROOM);
            assert_same(a, b, ROOM);
        }
        elem_gelu(x, a, da, ROOM);
        any_elem_gelu(x, b, db, ROOM);
        assert_same(a, b, ROOM);
        assert_same(da, db, ROOM);
        elem_gelu_tanh(x, a, da, ROOM);
        any_elem_gelu_tanh(x, b, db, ROOM);
        assert_same(a, b, ROOM);
        assert_same(da, db, ROOM);
    }
}

enum { SIZE = 1200 };
static float in[4][SIZE], one[4][SIZE], two[4][SIZE];

static void draw(void)
{
    for (int i = 0; i < 4; i++) {
        const uint8_t purpose = (uint8_t)i;
        rng_fill_uniform(rng_key_of("vectorised", span_of(&purpose, 1)), 2.0f, in[i], SIZE);
    }
    memcpy(one, in, sizeof one);
    memcpy(two, in, sizeof two);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t width = 1; width <= 37; width++) {
        const size_t rows = 11, at = width % 5; // No multiple of anything; odd addresses.
        draw();
        vec_add(one[0] + at, in[1], rows * width);
        any_vec_add(two[0] + at, in[1], rows * width);
        vec_multiply(one[0] + at, in[2], rows * width);
        any_vec_multiply(two[0] + at, in[2], rows * width);
        vec_add_row(one[0] + at, in[3], rows, width);
        any_vec_add_row(two[0] + at, in[3], rows, width);
        vec_sum_rows(one[0] + at, rows, width, one[1]);
        any_vec_sum_rows(two[0] + at, rows, width, two[1]);
        assert_memory_equal(one, two, sizeof one);
        assert_memory_not_equal(one, in, sizeof one);

        draw();
        norm_forward(in[0] + at, in[1], in[2], 1e-6, rows, width, one[0], one[1], one[2]);
        any_norm_forward(in[0] + at, in[1], in[2], 1e-6, rows, width, two[0], two[1], two[2]);
        norm_backward(in[0], in[1], in[2], in[3], rows, width, one[3] + at);
        any_norm_backward(in[0], in[1], in[2], in[3], rows, width, two[3] + at);
        assert_memory_equal(one, two, sizeof one);
        norm_gradient(in[0], in[1], rows, width, one[0], one[1]);
        any_norm_gradient(in[0], in[1], rows, width, two[0], two[1]);
        assert_memory_equal(one, two, sizeof one);
        assert_memory_not_equal(one, in, sizeof one);
    }
}

static void test_attention(void **state)
{
    (void)state;
    for (uint32_t tokens = 1; tokens <= 19; tokens++) {
        for (int causal = 0; causal < 2; causal++) {
            const struct attention a = {6, 2, causal == 1, tokens, causal == 1 ? tokens : 1};
            draw();
            attention_forward(&a, in[0], one[0], one[1]);
            any_attention_forward(&a, in[0], two[0], two[1]);
            attention_backward(&a, in[0], one[0], in[1], one[2], one[3]);
            any_attention_backward(&a, in[0], two[0], in[1], two[2], two[3]);
            assert_memory_equal(one, two, sizeof one);
            assert_memory_not_equal(one, in, sizeof one);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementary_functions),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
