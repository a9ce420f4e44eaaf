// model/window.h: how a text becomes the tokens of windows.
//
// A text is BASE_BOS, its bytes, BASE_EOS. All but the last are read, all but the first are
// predicted, each from the one before it and what stands before that in its window: window w of a
// context of c tokens reads the tokens w*c .. w*c + c-1, the last window what is left. So every
// byte and the end are predicted once, and no window knows of another.
//
// Threads   Stateless.
#pragma once

#include "model/base.h"

enum { WINDOW_OUTPUTS = BASE_BYTES + 1 }; // What can follow: a byte, or the end as the last one.

// Windows of a text of so many bytes, 1 ..; tokens that a window reads, 1 .. context.
uint32_t window_count(uint32_t context, uint64_t text_bytes);
uint32_t window_length(uint32_t context, uint64_t text_bytes, uint32_t window);

// Writes what a window reads, each below BASE_TOKENS, and what follows each, below WINDOW_OUTPUTS.
// Either may be NULL.
void window_tokens(uint32_t context, struct span text, uint32_t window, uint16_t *tokens_out,
                   uint16_t *next_out);
