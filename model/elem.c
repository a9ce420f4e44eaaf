// model/elem.c: see elem.h.
//
// Each function is written without branches and computed in float64: with 29 bits to spare, one
// rounding to float32 at the end decides the error. Four numbers are computed at once, with the
// vectors of gcc and clang: each lane does what IEEE 754 says, so that one register of AVX2 or two
// of SSE2 give the same bits. Which is taken is decided where the program runs (VECTORISED).
#include "model/elem.h"

#include "model/vectorised.h"

INLINED masks is_nan(reals x)
{
    return (masks)(x != x); // NOLINT(misc-redundant-expression)
}

// exp(x) for |x| <= 300: x = n * ln 2 + r, |r| <= ln 2 / 2, the series of exp to r^11, times 2^n.
// Adding 1.5 * 2^52 leaves n in the low bits of the sum; shifted by 52 they are an exponent.
INLINED reals exp_of(reals x)
{
    const double shifter = 0x1.8p52;
    const reals shifted = x * 0x1.71547652b82fep0 + shifter;
    const reals n = shifted - shifter;
    const reals r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    reals p = r * (1.0 / 39916800.0) + 1.0 / 3628800.0;
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
    return (reals)((masks)p + ((masks)shifted << 52));
}

// NaN stays NaN.
INLINED reals between(reals x, double low, double high)
{
    const reals raised = select((masks)(x < low), all(low), x);
    return select((masks)(raised > high), all(high), raised);
}

INLINED reals size_of(reals x)
{
    return select((masks)(x < 0.0), -x, x);
}

INLINED reals exp_one(reals x)
{
    // Beyond these float32 has only 0 and infinity, which the last conversion gives.
    return select(is_nan(x), x, exp_of(between(x, -110.0, 100.0)));
}

// log(x): x = 2^k * m with m from sqrt(1/2) to sqrt 2, s = (m - 1) / (m + 1), log m = 2 atanh s
// by its series to s^17.
INLINED reals log_one(reals x)
{
    const uint64_t root_half = 0x3fe6a09e667f3bcdu;
    const uint64_t bias = (uint64_t)1024 << 52;
    const masks bits = (masks)x;
    const masks exponent = (bits - root_half + bias) >> 52;
    const reals k = (reals)(0x4330000000000000u | exponent) - (0x1p52 + 1024.0);
    const reals m = (reals)(bits - (exponent << 52) + bias);
    const reals s = (m - 1.0) / (m + 1.0);
    const reals z = s * s;
    reals p = z * (2.0 / 17.0) + 2.0 / 15.0;
    p = p * z + 2.0 / 13.0;
    p = p * z + 2.0 / 11.0;
    p = p * z + 2.0 / 9.0;
    p = p * z + 2.0 / 7.0;
    p = p * z + 2.0 / 5.0;
    p = p * z + 2.0 / 3.0;
    p = p * z + 2.0;
    const reals value = k * 0x1.62e42fefa39efp-1 + s * p;
    const reals infinity = all(__builtin_inf());
    const reals above = select((masks)(x == infinity), x, value);
    const reals floor = select((masks)(x == 0.0), -infinity, above);
    const reals real = select((masks)(x < 0.0), all(__builtin_nan("")), floor);
    return select(is_nan(x), x, real);
}

// tanh(x): near 0 its series to x^19, elsewhere 1 - 2 / (exp 2|x| + 1) with the sign of x.
INLINED reals tanh_one(reals x)
{
    const reals z = x * x;
    reals p = z * (-443861162.0 / 1856156927625.0) + 6404582.0 / 10854718875.0;
    p = p * z - 929569.0 / 638512875.0;
    p = p * z + 21844.0 / 6081075.0;
    p = p * z - 1382.0 / 155925.0;
    p = p * z + 62.0 / 2835.0;
    p = p * z - 17.0 / 315.0;
    p = p * z + 2.0 / 15.0;
    p = p * z - 1.0 / 3.0;
    const reals near_zero = x + x * (z * p);
    const reals size = between(size_of(x), 0.0, 20.0);
    const reals far = 1.0 - 2.0 / (exp_of(2.0 * size) + 1.0);
    const reals far_signed = select((masks)(x < 0.0), -far, far);
    const reals value = select((masks)(size < 0.3), near_zero, far_signed);
    return select(is_nan(x) | (masks)(x == 0.0), x, value); // Keeps the sign of 0.
}

// --- Over arrays ---

#define OVER_ARRAY(x, out, count, one)                                                             \
    do {                                                                                           \
        for (size_t at_ = 0; at_ < (count); at_ += LANES) {                                        \
            const size_t left_ = (count)-at_;                                                      \
            store((out) + at_, left_, one(load((x) + at_, left_)));                                \
        }                                                                                          \
    } while (0)

INLINED reals load(const float *x, size_t left)
{
    if (left >= LANES) {
        return load_reals(x);
    }
    float rest[LANES] = {0};
    memcpy(rest, x, left * sizeof *x);
    return load_reals(rest);
}

INLINED void store(float *out, size_t left, reals values)
{
    const singles result = __builtin_convertvector(values, singles);
    if (left >= LANES) {
        memcpy(out, &result, sizeof result);
    } else {
        memcpy(out, &result, left * sizeof *out);
    }
}

VECTORISED void elem_exp(const float *x, float *out, size_t count)
{
    OVER_ARRAY(x, out, count, exp_one);
}

VECTORISED void elem_log(const float *x, float *out, size_t count)
{
    OVER_ARRAY(x, out, count, log_one);
}

VECTORISED void elem_tanh(const float *x, float *out, size_t count)
{
    OVER_ARRAY(x, out, count, tanh_one);
}

// --- GELU ---

// Both forms are x times a share of 1, and their slope is the share plus x times the share's slope.
struct gelu {
    reals share, slope;
};

// The share is the normal distribution's: below 0 density times Mills' ratio of |x|, above 0 one
// minus it. The ratio is a Chebyshev fit over t = (|x| - 4.25) / (|x| + 4.25), |x| up to 20 (degree
// 12, relative error 1e-10), fitted at Chebyshev nodes to erfc in float64 and written as powers of
// t.
INLINED struct gelu gelu_erf(reals x)
{
    const reals near = between(x, -20.0, 20.0); // Beyond, the share is 0 or 1 and its slope 0.
    const reals size = size_of(near);
    const reals density = 0x1.9884533d43651p-2 * exp_of(-0.5 * near * near);
    const reals t = (size - 4.25) / (size + 4.25);
    reals p = t * -0x1.1f9f7dc634b2bp-17 - 0x1.b83b90a20c404p-17;
    p = p * t + 0x1.4d612811d77cep-14;
    p = p * t + 0x1.fa20bbe553000p-15;
    p = p * t - 0x1.8ae8a0fb237e8p-11;
    p = p * t + 0x1.bfee449949e1cp-11;
    p = p * t + 0x1.67b961219707fp-8;
    p = p * t - 0x1.f988bbf71cca7p-6;
    p = p * t + 0x1.715c857f1c92cp-4;
    p = p * t - 0x1.81c4e546316e1p-3;
    p = p * t + 0x1.3b115b8f4730cp-2;
    p = p * t - 0x1.a223d1fa3bd2dp-2;
    p = p * t + 0x1.cabb94b556292p-3;
    const reals tail = density * p;
    const reals share = select((masks)(near < 0.0), tail, 1.0 - tail);
    return (struct gelu){share, share + near * density};
}

// The share is 1 / (1 + exp(-2u)), u = sqrt(2 / pi) * (x + 0.044715 x^3).
INLINED struct gelu gelu_tanh(reals x)
{
    const reals near = between(x, -20.0, 20.0);
    const reals square = near * near;
    const reals twice = near * (1.0 + 0.044715 * square) * 0x1.9884533d43651p+0; // 2u
    const reals power = exp_of(between(-twice, -300.0, 300.0));
    const reals share = 1.0 / (1.0 + power);
    const reals twice_slope = (1.0 + 0.134145 * square) * 0x1.9884533d43651p+0;
    return (struct gelu){share, share + near * (power * share * share * twice_slope)};
}

// NaN stays NaN. Minus infinity times a share of 0, or of nearly 0, would be no number or minus
// infinity, where the limit is 0.
INLINED reals gelu_value(reals x, struct gelu gelu)
{
    return select((masks)(gelu.share == 0.0) | (masks)(x < -20.0), all(0.0), x * gelu.share);
}

#define GELU(x, out, slope_out, count, form)                                                       \
    do {                                                                                           \
        for (size_t at_ = 0; at_ < (count); at_ += LANES) {                                        \
            const size_t left_ = (count)-at_;                                                      \
            const reals in_ = load((x) + at_, left_);                                              \
            const struct gelu gelu_ = form(in_);                                                   \
            if ((slope_out) != NULL) {                                                             \
                store((slope_out) + at_, left_, select(is_nan(in_), in_, gelu_.slope));            \
            }                                                                                      \
            if ((out) != NULL) {                                                                   \
                store((out) + at_, left_, gelu_value(in_, gelu_));                                 \
            }                                                                                      \
        }                                                                                          \
    } while (0)

VECTORISED void elem_gelu(const float *x, float *out, float *slope_out, size_t count)
{
    GELU(x, out, slope_out, count, gelu_erf);
}

VECTORISED void elem_gelu_tanh(const float *x, float *out, float *slope_out, size_t count)
{
    GELU(x, out, slope_out, count, gelu_tanh);
}
