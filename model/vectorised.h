// model/vectorised.h: loops that use the processor's widest registers without changing a bit.
//
// gcc makes a VECTORISED function twice, for AVX2 and for any x86-64, and the loader takes the one
// that fits the machine. Both do the same additions, multiplications, divisions, roots and
// conversions in the same order: IEEE 754 fixes the result of each, products and sums are not
// contracted (-ffp-contract=off), and nothing else may stand in such a function. What it calls must
// be INLINED, or it stays as it was. Elsewhere there is one version, with the same bits.
#pragma once

#if defined(__x86_64__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif
#define INLINED static inline __attribute__((always_inline))
