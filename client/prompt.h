// client/prompt.h: predict --prompt: a text that a model continues, for people or as JSON.
#pragma once

#include "base/limits.h"
#include "client/ctl.h"

struct prompt_options {
    const char *text;        // --prompt; NULL: not given
    struct args_u64 tokens;  // --tokens
    struct args_u64 seed;    // --seed
    const char *temperature; // --temperature
};

enum { PROMPT_TOKENS_DEFAULT = 100 };

// Rows of args_option for a struct `type` with a member `struct prompt_options member`. Keys 1300 to
// 1303.
#define PROMPT_OPTIONS(type, member)                                                               \
    {"prompt", 1300, "TEXT", "Continue TEXT", ARGS_TEXT, offsetof(type, member.text), 0},          \
        {"tokens",                                                                                 \
         1301,                                                                                     \
         "N",                                                                                      \
         "By N tokens at most (default: 100)",                                                     \
         ARGS_U64,                                                                                 \
         offsetof(type, member.tokens),                                                            \
         LIMIT_PROMPT_TOKENS},                                                                     \
        {"seed",                                                                                   \
         1302,                                                                                     \
         "S",                                                                                      \
         "Draw each token by its probability; the same S draws the same ones (default: take the "  \
         "most probable)",                                                                         \
         ARGS_U64,                                                                                 \
         offsetof(type, member.seed),                                                              \
         0},                                                                                       \
    {                                                                                              \
        "temperature", 1303, "T",                                                                  \
            "With --seed: below 1 likely tokens become likelier, above 1 less likely (default: "   \
            "1)",                                                                                  \
            ARGS_TEXT, offsetof(type, member.temperature), 0                                       \
    }

// Checks what the options say together; file_count: FILEs on the same command line. ERR_INVALID.
MUST_USE enum err prompt_check(const struct prompt_options *options, size_t file_count);

// Continues options->text, which is given, and prints it. Errors: unlearn_continue_text's.
MUST_USE enum err prompt_run(struct ctl *ctl, const char *model,
                             const struct prompt_options *options);
