// tests/unit/test_elem.c: our elementary functions are as accurate as they say, wherever an
// element stands in its array.
//
// Method: every 997th float32 bit pattern (4.3 million, all signs, denormals, infinities, NaN) and
// every pattern near the seams is compared with libm's float64 function, whose own error is far
// below a float32 unit in the last place. A wrong coefficient, seam, sign or overflow shows.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/elem.h"

static float of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Distance of `got` from the exact value, in units in the last place of float32 there.
static double ulps(float got, double exact)
{
    if (isnan(exact)) {
        return isnan(got) ? 0 : HUGE_VAL;
    }
    const float rounded = (float)exact;
    if (isinf(rounded) || isinf(got)) {
        return rounded == got ? 0 : HUGE_VAL;
    }
    int exponent = 0;
    frexp(exact, &exponent);
    const double ulp = ldexp(1.0, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs((double)got - exact) / ulp;
}

static double worst(void (*ours)(const float *, float *, size_t), double (*exact)(double),
                    const char *name)
{
    enum { ROOM = 1009 };
    static float x[ROOM], y[ROOM];
    double most = 0;
    float at = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX;) {
        size_t count = 0;
        for (; count < ROOM && bits <= UINT32_MAX; bits += 997) {
            x[count++] = of_bits((uint32_t)bits);
        }
        ours(x, y, count);
        for (size_t i = 0; i < count; i++) {
            const double error = ulps(y[i], exact((double)x[i]));
            if (error > most) {
                most = error;
                at = x[i];
            }
        }
    }
    printf("%s: at most %.4f ulp, at %a\n", name, most, (double)at);
    return most;
}

static void test_accuracy_over_the_whole_range(void **state)
{
    (void)state;
    assert_true(worst(elem_exp, exp, "exp") <= 0.501);
    assert_true(worst(elem_log, log, "log") <= 0.501);
    assert_true(worst(elem_tanh, tanh, "tanh") <= 0.501);
}

// Every float within 2000 steps of where a function changes its method.
static void test_accuracy_at_the_seams(void **state)
{
    (void)state;
    static const float seams[] = {0.3f,       1.0f,        4.0f,  0.70710678f, 1.41421356f,
                                  88.72284f,  0.34657359f, -0.3f, -1.0f,       -4.0f,
                                  -87.33655f, -103.97f,    20.0f, 9.01f};
    for (size_t i = 0; i < sizeof seams / sizeof *seams; i++) {
        for (uint32_t step = 0; step < 4000; step++) {
            const float x = of_bits(bits_of(seams[i]) - 2000 + step);
            float y;
            elem_exp(&x, &y, 1);
            assert_true(ulps(y, exp((double)x)) <= 0.501);
            elem_log(&x, &y, 1);
            assert_true(ulps(y, log((double)x)) <= 0.501);
            elem_tanh(&x, &y, 1);
            assert_true(ulps(y, tanh((double)x)) <= 0.501);
        }
    }
}

static float one(void (*ours)(const float *, float *, size_t), float x)
{
    float y;
    ours(&x, &y, 1);
    return y;
}

static void test_special_values(void **state)
{
    (void)state;
    assert_true(one(elem_exp, 0.0f) == 1.0f);
    assert_true(one(elem_exp, INFINITY) == INFINITY);
    assert_true(one(elem_exp, -INFINITY) == 0.0f);
    assert_true(one(elem_exp, 89.0f) == INFINITY);
    assert_true(one(elem_exp, -104.0f) == 0.0f);
    assert_true(one(elem_log, 1.0f) == 0.0f);
    assert_true(one(elem_log, 0.0f) == -INFINITY);
    assert_true(one(elem_log, -0.0f) == -INFINITY);
    assert_true(one(elem_log, INFINITY) == INFINITY);
    assert_true(isnan(one(elem_log, -1.0f)));
    assert_true(isnan(one(elem_log, -INFINITY)));
    assert_true(one(elem_tanh, INFINITY) == 1.0f);
    assert_true(one(elem_tanh, -INFINITY) == -1.0f);
    assert_int_equal(bits_of(one(elem_tanh, -0.0f)), bits_of(-0.0f));
    assert_true(isnan(one(elem_exp, NAN)) && isnan(one(elem_log, NAN)));
    assert_true(isnan(one(elem_tanh, NAN)));
}

// GELU and its slope in float64, by libm.
static void gelu_exact(double v, double *out, double *slope_out)
{
    const double share = 0.5 * (1.0 + erf(v / sqrt(2.0)));
    *out = v * share;
    *slope_out = share + v * exp(-v * v / 2) / sqrt(2 * acos(-1.0));
}

static void gelu_tanh_exact(double v, double *out, double *slope_out)
{
    const double root = sqrt(2.0 / acos(-1.0));
    const double t = tanh(root * (v + 0.044715 * v * v * v));
    *out = 0.5 * v * (1.0 + t);
    *slope_out = 0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * root * (1.0 + 3 * 0.044715 * v * v);
}

static void assert_gelu(void (*ours)(const float *, float *, float *, size_t),
                        void (*exact)(double, double *, double *))
{
    for (int i = -25000; i <= 25000; i++) {
        const float x = (float)i / 1000.0f;
        const double bound = 1e-7 * (fabs((double)x) > 1 ? fabs((double)x) : 1);
        double value, slope;
        exact((double)x, &value, &slope);
        float y, dy;
        ours(&x, &y, &dy, 1);
        assert_true(fabs((double)y - value) <= bound);
        assert_true(fabs((double)dy - slope) <= bound);
    }
    const float ends[5] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f};
    float y[5], dy[5];
    ours(ends, y, dy, 5);
    assert_true(y[0] == INFINITY && y[1] == 0.0f && isnan(y[2]) && y[3] == 3e38f && y[4] == 0.0f);
    assert_true(dy[0] == 1.0f && fabsf(dy[1]) < 1e-7f && isnan(dy[2]));
    assert_true(dy[3] == 1.0f && fabsf(dy[4]) < 1e-7f);
    ours(ends, NULL, dy, 5); // Either may be left out.
    float both[5], alone[5] = {0.5f, -3.0f, 7.0f, -0.1f, 0.0f};
    ours(alone, both, dy, 5);
    ours(alone, alone, dy, 5); // In place, with the slope of what was there.
    assert_memory_equal(both, alone, sizeof both);
    assert_true(dy[1] < 0.0f);
    const float again[5] = {0.5f, -3.0f, 7.0f, -0.1f, 0.0f};
    ours(again, y, NULL, 5);
    assert_memory_equal(both, y, sizeof both);
}

static void test_gelu(void **state)
{
    (void)state;
    assert_gelu(elem_gelu, gelu_exact);
    assert_gelu(elem_gelu_tanh, gelu_tanh_exact);
}

static void gelu_of(const float *x, float *out, size_t count)
{
    elem_gelu(x, out, NULL, count);
}

static void gelu_tanh_of(const float *x, float *out, size_t count)
{
    elem_gelu_tanh(x, out, NULL, count);
}

// A remainder, a vector lane or an odd address must not change an element.
static void test_bits_do_not_depend_on_the_place(void **state)
{
    (void)state;
    void (*const all[])(const float *, float *, size_t) = {elem_exp, elem_log, elem_tanh, gelu_of,
                                                           gelu_tanh_of};
    for (size_t f = 0; f < sizeof all / sizeof *all; f++) {
        float x[41], whole[41], part[41];
        for (int i = 0; i < 41; i++) {
            x[i] = 0.37f * (float)i - 6.0f;
        }
        all[f](x, whole, 41);
        for (size_t start = 0; start < 41; start++) {
            for (size_t count = 1; start + count <= 41; count++) {
                all[f](x + start, part, count);
                assert_memory_equal(part, whole + start, count * sizeof *part);
            }
        }
        all[f](x, x, 41); // In place.
        assert_memory_equal(x, whole, sizeof x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accuracy_over_the_whole_range),
        cmocka_unit_test(test_accuracy_at_the_seams),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_bits_do_not_depend_on_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
