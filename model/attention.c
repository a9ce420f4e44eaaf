// model/attention.c: see attention.h.
//
// A head's columns are read where they lie, by their stride: OpenBLAS copies what it multiplies
// into its own buffers anyway, and its products of 17 x 17 x 16 are as fast as loops written for
// them. A slice's address need not be a multiple of 64, but where it lies in its array follows from
// the shapes and the sample's place in the batch, and arrays begin at 64 bytes: so address and bits
// do too.
#include "model/attention.h"

#include <math.h>

#include "model/blas.h"
#include "model/elem.h"
#include "model/vectorised.h"

// --- Softmax ---

// The same in whatever order it is looked for. NaN may be passed over: it shows in the sum.
INLINED float largest(const float *x, size_t count)
{
    float most = x[0];
    size_t i = 0;
    if (count >= WIDE_LANES) {
        wide_singles lanes = load_wide(x);
        for (i = WIDE_LANES; i + WIDE_LANES <= count; i += WIDE_LANES) {
            const wide_singles next = load_wide(x + i);
            const wide_bits more = (wide_bits)(next > lanes);
            lanes = (wide_singles)((more & (wide_bits)next) | (~more & (wide_bits)lanes));
        }
        for (int lane = 0; lane < WIDE_LANES; lane++) {
            most = lanes[lane] > most ? lanes[lane] : most;
        }
    }
    for (; i < count; i++) {
        most = x[i] > most ? x[i] : most;
    }
    return most;
}

// Subtracts each row's largest score, so that no exp overflows; what is not seen gets minus
// infinity, whose exp is 0.
VECTORISED static void lower_rows(const struct attention *a, float *scores)
{
    for (size_t row = 0; row < (size_t)a->heads * a->queries; row++) {
        float *const score = scores + row * a->tokens;
        const size_t seen = a->causal ? row % a->queries + 1 : a->tokens;
        const float most = largest(score, seen);
        size_t i = 0;
        for (; i + WIDE_LANES <= seen; i += WIDE_LANES) {
            store_wide(score + i, load_wide(score + i) - most);
        }
        for (; i < seen; i++) {
            score[i] -= most;
        }
        for (; i < a->tokens; i++) {
            score[i] = -INFINITY;
        }
    }
}

// Divides each row by its sum.
VECTORISED static void normalise_rows(const struct attention *a, float *powers)
{
    for (size_t row = 0; row < (size_t)a->heads * a->queries; row++) {
        float *const power = powers + row * a->tokens;
        reals sum = all(0.0);
        double rest = 0;
        size_t i = 0;
        for (; i + LANES <= a->tokens; i += LANES) {
            sum += load_reals(power + i);
        }
        for (; i < a->tokens; i++) {
            rest += (double)power[i];
        }
        const float scale = (float)(1.0 / (lanes_sum(sum) + rest));
        for (i = 0; i + WIDE_LANES <= a->tokens; i += WIDE_LANES) {
            store_wide(power + i, load_wide(power + i) * scale);
        }
        for (; i < a->tokens; i++) {
            power[i] *= scale;
        }
    }
}

// Turns d loss / d probs in `slopes` into d loss / d scores: p * (dp - sum(p * dp)).
VECTORISED static void softmax_backward(const struct attention *a, const float *probs,
                                        float *slopes)
{
    for (size_t row = 0; row < (size_t)a->heads * a->queries; row++) {
        const float *const p = probs + row * a->tokens;
        float *const slope = slopes + row * a->tokens;
        reals sum = all(0.0);
        double rest = 0;
        size_t i = 0;
        for (; i + LANES <= a->tokens; i += LANES) {
            sum += load_reals(p + i) * load_reals(slope + i);
        }
        for (; i < a->tokens; i++) {
            rest += (double)p[i] * (double)slope[i];
        }
        const float mean = (float)(lanes_sum(sum) + rest);
        for (i = 0; i + WIDE_LANES <= a->tokens; i += WIDE_LANES) {
            store_wide(slope + i, load_wide(p + i) * (load_wide(slope + i) - mean));
        }
        for (; i < a->tokens; i++) {
            slope[i] = p[i] * (slope[i] - mean);
        }
    }
}

// --- Heads ---

struct head {
    size_t d, stride, width; // Of a token, of a row of qkv, of a head.
    size_t tokens, queries;
    float scale;
};

static struct head head_of(const struct attention *a)
{
    const size_t width = a->width / a->heads;
    return (struct head){a->width,  3 * (size_t)a->width, width,
                         a->tokens, a->queries,           (float)(1.0 / sqrt((double)width))};
}

void attention_forward(const struct attention *attention, const float *qkv, float *probs_out,
                       float *out)
{
    const struct head head = head_of(attention);
    const size_t scores = head.queries * head.tokens;
    for (size_t k = 0; k < attention->heads; k++) {
        const float *const query = qkv + k * head.width;
        blas_nt(head.queries, head.tokens, head.width, head.scale, query, head.stride,
                query + head.d, head.stride, 0.0f, probs_out + k * scores, head.tokens);
    }
    lower_rows(attention, probs_out);
    elem_exp(probs_out, probs_out, attention->heads * scores);
    normalise_rows(attention, probs_out);
    for (size_t k = 0; k < attention->heads; k++) {
        blas_nn(head.queries, head.width, head.tokens, 1.0f, probs_out + k * scores, head.tokens,
                qkv + 2 * head.d + k * head.width, head.stride, 0.0f, out + k * head.width, head.d);
    }
}

void attention_backward(const struct attention *attention, const float *qkv, const float *probs,
                        const float *dout, float *scratch, float *dqkv_out)
{
    const struct head head = head_of(attention);
    const size_t scores = head.queries * head.tokens;
    for (size_t k = 0; k < attention->heads; k++) {
        const size_t column = k * head.width;
        blas_nt(head.queries, head.tokens, head.width, 1.0f, dout + column, head.d,
                qkv + 2 * head.d + column, head.stride, 0.0f, scratch + k * scores, head.tokens);
        blas_tn(head.tokens, head.width, head.queries, 1.0f, probs + k * scores, head.tokens,
                dout + column, head.d, 0.0f, dqkv_out + 2 * head.d + column, head.stride);
    }
    softmax_backward(attention, probs, scratch);
    for (size_t k = 0; k < attention->heads; k++) {
        const float *const query = qkv + k * head.width, *const slope = scratch + k * scores;
        float *const dquery = dqkv_out + k * head.width;
        blas_nn(head.queries, head.width, head.tokens, head.scale, slope, head.tokens,
                query + head.d, head.stride, 0.0f, dquery, head.stride);
        blas_tn(head.tokens, head.width, head.queries, head.scale, slope, head.tokens, query,
                head.stride, 0.0f, dquery + head.d, head.stride);
    }
    for (size_t token = head.queries; token < head.tokens; token++) { // They did not ask.
        memset(dqkv_out + token * head.stride, 0, head.d * sizeof *dqkv_out);
    }
}
