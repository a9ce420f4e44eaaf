// model/vectorised.h: loops that use the processor's widest registers without changing a bit.
//
// gcc makes a VECTORISED function twice, for AVX2 and for any x86-64, and the loader takes the one
// that fits the machine. Both do the same additions, multiplications, divisions, roots and
// conversions in the same order: IEEE 754 fixes the result of each, products and sums are not
// contracted (-ffp-contract=off), and nothing else may stand in such a function. What it calls must
// be INLINED, or it stays as it was. Elsewhere there is one version, with the same bits. Only which
// of the many patterns of NaN comes out is open.
//
// Vectors are those of gcc and clang. Each lane is computed by itself; where lanes are added up
// (lanes_sum) the order is written out.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef VECTORISED // The test of this promise defines it as nothing.
#if defined(__x86_64__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif
#endif
#define INLINED static inline __attribute__((always_inline))

enum { LANES = 4, WIDE_LANES = 8 };
typedef float singles __attribute__((vector_size(LANES * sizeof(float))));
typedef float wide_singles __attribute__((vector_size(WIDE_LANES * sizeof(float))));
typedef uint32_t wide_bits __attribute__((vector_size(WIDE_LANES * sizeof(uint32_t))));
typedef double reals __attribute__((vector_size(LANES * sizeof(double))));
typedef uint64_t masks __attribute__((vector_size(LANES * sizeof(uint64_t)))); // Or bits.

INLINED reals all(double value)
{
    return (reals){value, value, value, value};
}

// The lanes of a where the mask is all ones, those of b where it is 0.
INLINED reals select(masks mask, reals a, reals b)
{
    return (reals)((mask & (masks)a) | (~mask & (masks)b));
}

INLINED reals load_reals(const float *x)
{
    singles in;
    memcpy(&in, x, sizeof in);
    return __builtin_convertvector(in, reals);
}

INLINED double lanes_sum(reals x)
{
    return (x[0] + x[1]) + (x[2] + x[3]);
}

INLINED wide_singles load_wide(const float *x)
{
    wide_singles in;
    memcpy(&in, x, sizeof in);
    return in;
}

INLINED void store_wide(float *out, wide_singles x)
{
    memcpy(out, &x, sizeof x);
}
