// model/elem.c: see elem.h.
//
// Each function is written without branches (the compiler turns ?: into masks) and computed in
// float64: with 29 bits to spare, one rounding to float32 at the end decides the error. Arrays are
// walked in blocks of fixed size, which the compiler vectorises without a run-time check.
#include "model/elem.h"

#include <stdint.h>
#include <string.h>

enum { BLOCK = 8 };

static inline uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// exp(x) for |x| <= 300: x = n * ln 2 + r, |r| <= ln 2 / 2, the series of exp to r^11, times 2^n.
// Adding 1.5 * 2^52 leaves n in the low bits of the sum; shifted by 52 they are an exponent.
static inline double exp_of(double x)
{
    const double shifter = 0x1.8p52;
    const double shifted = x * 0x1.71547652b82fep0 + shifter;
    const double n = shifted - shifter;
    const double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return of_bits(bits_of(p) + (bits_of(shifted) << 52));
}

static inline double between(double x, double low, double high)
{
    const double raised = x < low ? low : x;
    return raised > high ? high : raised;
}

static inline float exp_one(float x)
{
    // Beyond these float32 has only 0 and infinity, which the last conversion gives.
    const double value = exp_of(between((double)x, -110.0, 100.0));
    return x != x ? x : (float)value;
}

// log(x): x = 2^k * m with m from sqrt(1/2) to sqrt 2, s = (m - 1) / (m + 1), log m = 2 atanh s
// by its series to s^17.
static inline float log_one(float x)
{
    const uint64_t root_half = 0x3fe6a09e667f3bcdu;
    const uint64_t bias = (uint64_t)1024 << 52;
    const uint64_t bits = bits_of((double)x);
    const uint64_t exponent = (bits - root_half + bias) >> 52;
    const double k = of_bits(0x4330000000000000u | exponent) - (0x1p52 + 1024.0);
    const double m = of_bits(bits - (exponent << 52) + bias);
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double p = 2.0 / 17.0;
    p = p * z + 2.0 / 15.0;
    p = p * z + 2.0 / 13.0;
    p = p * z + 2.0 / 11.0;
    p = p * z + 2.0 / 9.0;
    p = p * z + 2.0 / 7.0;
    p = p * z + 2.0 / 5.0;
    p = p * z + 2.0 / 3.0;
    p = p * z + 2.0;
    const float value = (float)(k * 0x1.62e42fefa39efp-1 + s * p);
    const float nan = __builtin_nanf(""), infinity = __builtin_inff();
    const float above = x == infinity ? infinity : value;
    const float floor = x == 0.0f ? -infinity : above;
    return x < 0.0f ? nan : x != x ? x : floor;
}

// tanh(x): near 0 its series to x^19, elsewhere 1 - 2 / (exp 2|x| + 1) with the sign of x.
static inline float tanh_one(float x)
{
    const double v = (double)x;
    const double z = v * v;
    double p = -443861162.0 / 1856156927625.0;
    p = p * z + 6404582.0 / 10854718875.0;
    p = p * z - 929569.0 / 638512875.0;
    p = p * z + 21844.0 / 6081075.0;
    p = p * z - 1382.0 / 155925.0;
    p = p * z + 62.0 / 2835.0;
    p = p * z - 17.0 / 315.0;
    p = p * z + 2.0 / 15.0;
    p = p * z - 1.0 / 3.0;
    const double near_zero = v + v * (z * p);
    const double size = between(v < 0.0 ? -v : v, 0.0, 20.0);
    const double far = 1.0 - 2.0 / (exp_of(2.0 * size) + 1.0);
    const double value = size < 0.3 ? near_zero : v < 0.0 ? -far : far;
    return x != x || x == 0.0f ? x : (float)value; // Keeps the sign of 0.
}

// erf(v): up to 1, v times a Chebyshev fit of erf(v) / v over v^2 (degree 9, error 2e-14); from 1
// to 4 a Chebyshev fit of erf over v (degree 18, error 2e-11); beyond 4 it is 1 in float32. Both
// were fitted at Chebyshev nodes to erf in float64 and written as powers of t in [-1, 1].
static inline double erf_of(double v)
{
    const double size = between(v < 0.0 ? -v : v, 0.0, 4.0);
    const double low = size > 1.0 ? 1.0 : size;
    const double s = 2.0 * (low * low) - 1.0;
    double p = -0x1.c12e666666667p-33;
    p = p * s + 0x1.1c6a933333333p-28;
    p = p * s - 0x1.429e256666667p-24;
    p = p * s + 0x1.4864d59cccccep-20;
    p = p * s - 0x1.263991bb0ccccp-16;
    p = p * s + 0x1.c82aa348c4ccdp-13;
    p = p * s - 0x1.2b902b7b39b34p-9;
    p = p * s + 0x1.454368013aa8dp-6;
    p = p * s - 0x1.1fd1629215216p-3;
    p = p * s + 0x1.ee51eb23cb896p-1;
    const double high = size < 1.0 ? 1.0 : size;
    const double t = (high - 2.5) / 1.5;
    double q = -0x1.111ae435e50d7p-16;
    q = q * t + 0x1.14dad7af286bcp-15;
    q = q * t + 0x1.52511206bca1ap-14;
    q = q * t - 0x1.346276caf286cp-12;
    q = q * t + 0x1.858b769af286cp-14;
    q = q * t + 0x1.e203a0caa1af2p-11;
    q = q * t - 0x1.e59e61399435fp-10;
    q = q * t + 0x1.d07e54a6f286cp-12;
    q = q * t + 0x1.2a74c2c8a35e7p-8;
    q = q * t - 0x1.3b4a9b8c9b435p-7;
    q = q * t + 0x1.b5acecb0aa86ap-8;
    q = q * t + 0x1.2faf28a7f4943p-7;
    q = q * t - 0x1.052160356f1e4p-5;
    q = q * t + 0x1.7c8c3d62d70ffp-5;
    q = q * t - 0x1.6596577293e1cp-5;
    q = q * t + 0x1.cdba00f121d12p-6;
    q = q * t - 0x1.918057da02ee3p-7;
    q = q * t + 0x1.ac44a25bb470ap-9;
    q = q * t + 0x1.ffcaa8f4c9beap-1;
    const double magnitude = size < 1.0 ? low * p : size < 4.0 ? q : 1.0;
    return v < 0.0 ? -magnitude : magnitude;
}

static inline float erf_one(float x)
{
    const float value = (float)erf_of((double)x);
    return x != x || x == 0.0f ? x : value; // Keeps the sign of 0.
}

static inline float gelu_one(float x)
{
    const double v = (double)x;
    const double share = 0.5 + 0.5 * erf_of(v * 0x1.6a09e667f3bcdp-1);
    // A share of 0 times minus infinity would be NaN: the limit is 0.
    return x != x ? x : share == 0.0 ? 0.0f : (float)(v * share);
}

static inline float gelu_slope_one(float x)
{
    const double v = between((double)x, -20.0, 20.0); // Beyond, the slope is 0 or 1.
    const double share = 0.5 + 0.5 * erf_of(v * 0x1.6a09e667f3bcdp-1);
    const double density = 0x1.9884533d43651p-2 * exp_of(-0.5 * v * v);
    return x != x ? x : (float)(share + v * density);
}

// Defines name(x, out, count) from one(x). The block is copied in and out so that the loop between
// is free of aliases and of a remainder.
#define OVER_ARRAY(name, one)                                                                      \
    static void name##_block(const float *x, float *out)                                           \
    {                                                                                              \
        float in[BLOCK], result[BLOCK];                                                            \
        memcpy(in, x, sizeof in);                                                                  \
        for (int i = 0; i < BLOCK; i++) {                                                          \
            result[i] = one(in[i]);                                                                \
        }                                                                                          \
        memcpy(out, result, sizeof result);                                                        \
    }                                                                                              \
    static void name##_array(const float *x, float *out, size_t count)                             \
    {                                                                                              \
        const size_t whole = count - count % BLOCK;                                                \
        for (size_t i = 0; i < whole; i += BLOCK) {                                                \
            name##_block(x + i, out + i);                                                          \
        }                                                                                          \
        if (whole < count) {                                                                       \
            float rest[BLOCK] = {0};                                                               \
            memcpy(rest, x + whole, (count - whole) * sizeof *x);                                  \
            name##_block(rest, rest);                                                              \
            memcpy(out + whole, rest, (count - whole) * sizeof *x);                                \
        }                                                                                          \
    }

OVER_ARRAY(exp, exp_one)
OVER_ARRAY(log, log_one)
OVER_ARRAY(tanh, tanh_one)
OVER_ARRAY(erf, erf_one)
OVER_ARRAY(gelu, gelu_one)
OVER_ARRAY(gelu_slope, gelu_slope_one)

void elem_exp(const float *x, float *out, size_t count)
{
    exp_array(x, out, count);
}

void elem_log(const float *x, float *out, size_t count)
{
    log_array(x, out, count);
}

void elem_tanh(const float *x, float *out, size_t count)
{
    tanh_array(x, out, count);
}

void elem_erf(const float *x, float *out, size_t count)
{
    erf_array(x, out, count);
}

void elem_gelu(const float *x, float *out, float *slope_out, size_t count)
{
    if (slope_out != NULL) { // First: out may be x.
        gelu_slope_array(x, slope_out, count);
    }
    if (out != NULL) {
        gelu_array(x, out, count);
    }
}
