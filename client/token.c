// client/token.c: see token.h.
#include "client/token.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/rng.h"
#include "base/text.h"
#include "client/metrics.h"

void token_label(uint32_t token, char out[static TOKEN_LABEL_BYTES])
{
    CHECK(token < TOKEN_COUNT);
    const char *const written = token == TOKEN_END ? "<end>"
                                : token == '\n'    ? "\\n"
                                : token == '\t'    ? "\\t"
                                : token == '\r'    ? "\\r"
                                                   : NULL;
    if (written != NULL) {
        snprintf(out, TOKEN_LABEL_BYTES, "%s", written);
        return;
    }
    const uint8_t byte = (uint8_t)token;
    struct buf text = {0};
    text_put_visible(span_of(&byte, 1), &text);
    CHECK(text.bytes < TOKEN_LABEL_BYTES);
    memcpy(out, text.data, text.bytes);
    out[text.bytes] = '\0';
    buf_deinit(&text);
}

uint32_t token_top(const float probabilities[static TOKEN_COUNT])
{
    return metrics_top(probabilities, TOKEN_COUNT);
}

// Domain "unlearnd-token" over u64 seed; the counter is the index of the draw.
static double unit_of(uint64_t seed, uint64_t index)
{
    struct buf belongs_to = {0};
    buf_u64(&belongs_to, seed);
    const struct rng_key key = rng_key_of("unlearnd-token", buf_span(&belongs_to));
    buf_deinit(&belongs_to);
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32)};
    uint32_t words[4];
    rng_philox(key, counter, words);
    return (double)((uint64_t)words[0] << 21 | words[1] >> 11) * 0x1p-53;
}

uint32_t token_draw(const float probabilities[static TOKEN_COUNT], double temperature,
                    uint64_t seed, uint64_t index)
{
    CHECK(temperature > 0);
    // Relative to the greatest, which stays 1 whatever the temperature: nothing overflows.
    const uint32_t top = token_top(probabilities);
    const double most = (double)probabilities[top];
    double weights[TOKEN_COUNT], sum = 0;
    for (uint32_t i = 0; i < TOKEN_COUNT; i++) {
        const double share = (double)probabilities[i] / most;
        weights[i] = share > 0 ? pow(share, 1 / temperature) : 0;
        sum += weights[i];
    }
    double left = unit_of(seed, index) * sum;
    for (uint32_t i = 0; i < TOKEN_COUNT; i++) {
        if (left < weights[i]) {
            return i;
        }
        left -= weights[i];
    }
    return top; // A sum that is off by a rounding, or numbers that are none.
}
