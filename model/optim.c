// model/optim.c: see optim.h. Loops run in blocks of fixed size, which the compiler vectorises
// without changing bits.
#include "model/optim.h"

#include <math.h>
#include <string.h>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "base/check.h"
#include "base/mem.h"

enum { BLOCK = 16 };

enum err optim_init(struct optim *optim, const struct spec *spec, uint64_t count)
{
    *optim = (struct optim){.spec = spec, .count = count, .beta1_power = 1, .beta2_power = 1};
    enum err err = mem_try_aligned(count, sizeof(float), &optim->first);
    if (err == OK && spec->optimizer == OPTIMIZER_ADAMW) {
        err = mem_try_aligned(count, sizeof(float), &optim->second);
    }
    if (err != OK) {
        optim_deinit(optim);
    }
    return err;
}

void optim_deinit(struct optim *optim)
{
    mem_free(optim->first);
    mem_free(optim->second);
    *optim = (struct optim){0};
}

// Replaces numbers of a block that are too small to matter by 0. A moving average of a gradient that
// has become zero shrinks to denormal numbers and stays there, and arithmetic on those is many times
// slower. Bits are compared, since compilers vectorise that without further flags.
static void settle(float values[static BLOCK])
{
    const int32_t tiny = 27 << 23; // 2^-100
    int32_t bits[BLOCK];
    memcpy(bits, values, sizeof bits);
    for (int i = 0; i < BLOCK; i++) {
        bits[i] &= (bits[i] & INT32_MAX) < tiny ? 0 : -1;
    }
    memcpy(values, bits, sizeof bits);
}

// --- sgd ---

struct sgd {
    float units, rate, momentum, decay;
};

static void sgd_block(struct sgd k, const float *restrict gradient, float *restrict v,
                      float *restrict w)
{
    float next[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        next[i] = k.momentum * v[i] + (gradient[i] / k.units + k.decay * w[i]);
    }
    settle(next);
    for (int i = 0; i < BLOCK; i++) {
        v[i] = next[i];
        w[i] = w[i] - k.rate * next[i];
    }
}

static void sgd_step(struct optim *optim, const float *gradient, uint64_t units, float *w)
{
    const struct spec *const spec = optim->spec;
    const struct sgd k = {(float)units, (float)spec->rate, (float)spec->momentum,
                          (float)spec->weight_decay};
    const uint64_t whole = optim->count - optim->count % BLOCK;
    for (uint64_t i = 0; i < whole; i += BLOCK) {
        sgd_block(k, gradient + i, optim->first + i, w + i);
    }
    const size_t bytes = (size_t)(optim->count - whole) * sizeof(float);
    if (bytes > 0) { // The same code over a padded copy: the same bits for every element.
        float g[BLOCK] = {0}, v[BLOCK] = {0}, u[BLOCK] = {0};
        memcpy(g, gradient + whole, bytes);
        memcpy(v, optim->first + whole, bytes);
        memcpy(u, w + whole, bytes);
        sgd_block(k, g, v, u);
        memcpy(optim->first + whole, v, bytes);
        memcpy(w + whole, u, bytes);
    }
}

// --- adamw ---

struct adamw {
    float units, rate, shrink, epsilon;
    float beta1, rest1, beta2, rest2;
    float correct1, correct2; // 1 - beta^step
};

// Square roots of a block. sqrtf sets errno, which keeps compilers from vectorising it; the
// instruction gives the same bits, as IEEE 754 fixes the square root.
static void roots(float values[static BLOCK])
{
#ifdef __SSE__
    for (int i = 0; i < BLOCK; i += 4) {
        _mm_storeu_ps(values + i, _mm_sqrt_ps(_mm_loadu_ps(values + i)));
    }
#else
    for (int i = 0; i < BLOCK; i++) {
        values[i] = sqrtf(values[i]);
    }
#endif
}

static void adamw_block(struct adamw k, const float *restrict gradient, float *restrict m,
                        float *restrict s, float *restrict w)
{
    float mean[BLOCK], square[BLOCK], root[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        const float g = gradient[i] / k.units;
        mean[i] = k.beta1 * m[i] + k.rest1 * g;
        square[i] = k.beta2 * s[i] + k.rest2 * g * g;
    }
    settle(mean);
    settle(square);
    for (int i = 0; i < BLOCK; i++) {
        m[i] = mean[i];
        s[i] = square[i];
        root[i] = square[i] / k.correct2;
    }
    roots(root);
    for (int i = 0; i < BLOCK; i++) {
        const float kept = w[i] - k.shrink * w[i];
        w[i] = kept - k.rate * (mean[i] / k.correct1) / (root[i] + k.epsilon);
    }
}

static void adamw_step(struct optim *optim, const float *gradient, uint64_t units, float *w)
{
    const struct spec *const spec = optim->spec;
    optim->beta1_power *= spec->beta1;
    optim->beta2_power *= spec->beta2;
    const struct adamw k = {
        .units = (float)units,
        .rate = (float)spec->rate,
        .shrink = (float)(spec->rate * spec->weight_decay),
        .epsilon = (float)spec->epsilon,
        .beta1 = (float)spec->beta1,
        .rest1 = (float)(1.0 - spec->beta1),
        .beta2 = (float)spec->beta2,
        .rest2 = (float)(1.0 - spec->beta2),
        .correct1 = (float)(1.0 - optim->beta1_power),
        .correct2 = (float)(1.0 - optim->beta2_power),
    };
    const uint64_t whole = optim->count - optim->count % BLOCK;
    for (uint64_t i = 0; i < whole; i += BLOCK) {
        adamw_block(k, gradient + i, optim->first + i, optim->second + i, w + i);
    }
    const size_t bytes = (size_t)(optim->count - whole) * sizeof(float);
    if (bytes > 0) {
        float g[BLOCK] = {0}, m[BLOCK] = {0}, s[BLOCK] = {0}, v[BLOCK] = {0};
        memcpy(g, gradient + whole, bytes);
        memcpy(m, optim->first + whole, bytes);
        memcpy(s, optim->second + whole, bytes);
        memcpy(v, w + whole, bytes);
        adamw_block(k, g, m, s, v);
        memcpy(optim->first + whole, m, bytes);
        memcpy(optim->second + whole, s, bytes);
        memcpy(w + whole, v, bytes);
    }
}

void optim_step(struct optim *optim, const float *gradient_sum, uint64_t units, float *weights)
{
    CHECK(units > 0);
    if (optim->spec->optimizer == OPTIMIZER_SGD) {
        sgd_step(optim, gradient_sum, units, weights);
    } else {
        adamw_step(optim, gradient_sum, units, weights);
    }
}
