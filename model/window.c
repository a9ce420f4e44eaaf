// model/window.c: see window.h.
#include "model/window.h"

#include "base/check.h"

uint32_t window_count(uint32_t context, uint64_t text_bytes)
{
    const uint64_t windows = text_bytes / context + 1; // Of text_bytes + 1 tokens read.
    CHECK(windows <= UINT32_MAX);
    return (uint32_t)windows;
}

uint32_t window_length(uint32_t context, uint64_t text_bytes, uint32_t window)
{
    CHECK(window < window_count(context, text_bytes));
    const uint64_t left = text_bytes + 1 - (uint64_t)window * context;
    return left < context ? (uint32_t)left : context;
}

void window_tokens(uint32_t context, struct span text, uint32_t window, uint16_t *tokens_out,
                   uint16_t *next_out)
{
    const uint8_t *const bytes = text.data;
    const uint32_t length = window_length(context, text.bytes, window);
    const uint64_t from = (uint64_t)window * context;
    for (uint32_t i = 0; i < length; i++) {
        const uint64_t at = from + i; // Token 0 is BOS, token t byte t - 1.
        if (tokens_out != NULL) {
            tokens_out[i] = at == 0 ? BASE_BOS : bytes[at - 1];
        }
        if (next_out != NULL) {
            next_out[i] = at == text.bytes ? BASE_BYTES : bytes[at];
        }
    }
}
