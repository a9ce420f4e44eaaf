// tests/unit/test_optim.c: a step moves the weights as optim.h says.
//
// Method: several steps are repeated here in float64 by the written formulas (with pow for the
// powers); 37 weights leave a remainder after whole blocks.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/optim.h"

enum { COUNT = 37, STEPS = 40, ROWS = 7 };

static float gradient_at(int step, int i)
{
    return (float)(sin(1.0 + i * 0.7 + step * 0.3) * ROWS);
}

static void start(float *w)
{
    for (int i = 0; i < COUNT; i++) {
        w[i] = (float)cos(i * 0.9);
    }
}

static void run(const struct spec *spec, float *w)
{
    struct optim optim;
    assert_int_equal(optim_init(&optim, spec, COUNT), OK);
    start(w);
    for (int step = 1; step <= STEPS; step++) {
        float gradient[COUNT];
        for (int i = 0; i < COUNT; i++) {
            gradient[i] = gradient_at(step, i);
        }
        optim_step(&optim, gradient, ROWS, w);
    }
    optim_deinit(&optim);
}

static void test_sgd_follows_its_formula(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    spec.rate = 0.05;
    spec.momentum = 0.8;
    spec.weight_decay = 0.01;
    float w[COUNT], first[COUNT];
    run(&spec, w);
    start(first);
    for (int i = 0; i < COUNT; i++) {
        double x = (double)first[i], v = 0;
        for (int step = 1; step <= STEPS; step++) {
            v = spec.momentum * v + (double)gradient_at(step, i) / ROWS + spec.weight_decay * x;
            x -= spec.rate * v;
        }
        assert_true(fabs(x - (double)w[i]) < 2e-6);
    }
}

static void test_adamw_follows_its_formula(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    spec.optimizer = OPTIMIZER_ADAMW;
    spec.rate = 0.01;
    spec.beta1 = 0.9;
    spec.beta2 = 0.99;
    spec.epsilon = 1e-4;
    spec.weight_decay = 0.1;
    float w[COUNT], first[COUNT];
    run(&spec, w);
    start(first);
    for (int i = 0; i < COUNT; i++) {
        double x = (double)first[i], m = 0, s = 0;
        for (int step = 1; step <= STEPS; step++) {
            const double g = (double)gradient_at(step, i) / ROWS;
            x -= spec.rate * spec.weight_decay * x;
            m = spec.beta1 * m + (1 - spec.beta1) * g;
            s = spec.beta2 * s + (1 - spec.beta2) * g * g;
            x -= spec.rate * (m / (1 - pow(spec.beta1, step))) /
                 (sqrt(s / (1 - pow(spec.beta2, step))) + spec.epsilon);
        }
        assert_true(fabs(x - (double)w[i]) < 2e-6);
    }
}

// An element must not depend on whether it stands in a block or in the remainder.
static void test_bits_do_not_depend_on_the_place(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct spec spec = spec_default();
        spec.optimizer = kind == 0 ? OPTIMIZER_SGD : OPTIMIZER_ADAMW;
        for (uint64_t count = 1; count <= COUNT; count++) {
            struct optim optim;
            assert_int_equal(optim_init(&optim, &spec, count), OK);
            float w[COUNT], gradient[COUNT], expected[COUNT];
            for (int i = 0; i < COUNT; i++) {
                w[i] = 0.3f;
                gradient[i] = 0.7f;
            }
            optim_step(&optim, gradient, 3, w);
            optim_step(&optim, gradient, 3, w);
            for (uint64_t i = 0; i < count; i++) {
                expected[i] = w[0];
            }
            assert_memory_equal(w, expected, count * sizeof *w);
            assert_true(count == COUNT || w[count] == 0.3f); // Nothing behind the end moves.
            optim_deinit(&optim);
        }
    }
}

// Denormal moments make training many times slower; they must become zero.
static void test_moments_do_not_stay_denormal(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    struct optim optim;
    assert_int_equal(optim_init(&optim, &spec, 1), OK);
    float w = 0, gradient = 1;
    optim_step(&optim, &gradient, 1, &w);
    gradient = 0;
    for (int step = 0; step < 1000; step++) {
        optim_step(&optim, &gradient, 1, &w);
        assert_true(optim.first[0] == 0 || fabsf(optim.first[0]) >= 0x1p-100f);
    }
    assert_true(optim.first[0] == 0);
    optim_deinit(&optim);
}

static void test_nan_passes_through(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    struct optim optim;
    assert_int_equal(optim_init(&optim, &spec, 1), OK);
    float w = 0, gradient = NAN;
    optim_step(&optim, &gradient, 1, &w);
    assert_true(isnan(w));
    optim_deinit(&optim);
}

static void test_init_refuses_what_memory_cannot_hold(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    struct optim optim;
    assert_int_equal(optim_init(&optim, &spec, UINT64_MAX / 2), ERR_LIMIT);
    optim_deinit(&optim); // Holds nothing: nothing to leak, nothing to free twice.
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd_follows_its_formula),
        cmocka_unit_test(test_adamw_follows_its_formula),
        cmocka_unit_test(test_bits_do_not_depend_on_the_place),
        cmocka_unit_test(test_moments_do_not_stay_denormal),
        cmocka_unit_test(test_nan_passes_through),
        cmocka_unit_test(test_init_refuses_what_memory_cannot_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
