// client/modelconfig.h: config.json (and preprocessor_config.json, vocab.json) of Hugging Face's
// transformers as a shape of ours.
//
// Every key that changes what the frozen model computes is looked at; a value that we do not compute
// is refused by name. Drop-out, initialisation, labels and generation change nothing here. The
// settings that are supported stand in docs/interchange.md.
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "model/base.h"

struct modelconfig {
    struct base_shape shape;      // Passes base_shape_check.
    bool qkv_bias;                // vit: false where there are none (they are 0).
    uint32_t vocabulary;          // text: rows of wte.
    uint32_t tokens[BASE_TOKENS]; // text: the row of wte of each of our tokens.
};

//   ERR_NOT_FOUND  no config.json.   ERR_INVALID  unsupported or contradictory; the sentence names file
//   and key.   ERR_LIMIT  a shape or a file above its bound.   ERR_IO  the kernel refused.
MUST_USE enum err modelconfig_read(const char *dir, struct modelconfig *config_out);
