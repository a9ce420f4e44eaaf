// client/token.h: the tokens of learner text: bytes, and the end of a text.
//
// A prediction of a text is TOKEN_COUNT probabilities: of each byte that may come next, and of the
// end.
//
// Threads   Stateless.
#pragma once

#include <stdint.h>

#include "base/err.h"

enum { TOKEN_END = 256, TOKEN_COUNT = 257, TOKEN_LABEL_BYTES = 8 };

// How a token is written where it stands alone: the byte itself, \n \t \r for these, \\ for a
// backslash, \x1b for what cannot be shown; <end>.
void token_label(uint32_t token, char out[static TOKEN_LABEL_BYTES]);

// The most probable token; ties: the lowest.
uint32_t token_top(const float probabilities[static TOKEN_COUNT]);

// The token that draw number `index` of `seed` gives: each with a probability proportional to
// p ^ (1 / temperature). temperature > 0: below 1 likely ones become likelier. The same arguments
// give the same token.
uint32_t token_draw(const float probabilities[static TOKEN_COUNT], double temperature,
                    uint64_t seed, uint64_t index);
