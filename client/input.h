// client/input.h: the reading options that import, evaluate and predict share.
#pragma once

#include "client/args.h"
#include "client/reader.h"

struct input {
    const char *format, *label, *subject, *subjects, *id, *id_prefix, *except, *risk, *risk_file;
    struct args_u64 skip, limit;
};

#define INPUT_TEXT(name, key, value, help, type, field)                                            \
    {                                                                                              \
        name, key, value, help, ARGS_TEXT, offsetof(type, field), 0                                \
    }
#define INPUT_U64(name, key, value, help, type, field)                                             \
    {                                                                                              \
        name, key, value, help, ARGS_U64, offsetof(type, field), 0                                 \
    }
// Rows of args_option for a struct `type` with a member `struct input input`. Keys 1100 to 1110.
#define INPUT_OPTIONS(type)                                                                        \
    INPUT_TEXT("format", 1100, "NAME",                                                             \
               "csv, idx, npy, libsvm or jsonl (default: by name and "                             \
               "first bytes)",                                                                     \
               type, input.format),                                                                \
        INPUT_TEXT("label", 1101, "COL", "The column to learn", type, input.label),                \
        INPUT_TEXT("subject", 1102, "COL", "The column that names the person", type,               \
                   input.subject),                                                                 \
        INPUT_TEXT("subjects", 1103, "FILE", "A file with a person on each line, one a row", type, \
                   input.subjects),                                                                \
        INPUT_TEXT("id", 1104, "COL",                                                              \
                   "The column of ids (default: the number of the row, from 0)", type, input.id),  \
        INPUT_TEXT("id-prefix", 1105, "TEXT", "Put before every id", type, input.id_prefix),       \
        INPUT_TEXT("except", 1106, "FILE", "Leave out the ids in FILE, one a line", type,          \
                   input.except),                                                                  \
        INPUT_TEXT("risk", 1109, "COL",                                                            \
                   "The column of risk classes of people, 0 to 15; the spec's `risk` says where "  \
                   "they lie",                                                                     \
                   type, input.risk),                                                              \
        INPUT_TEXT("risk-file", 1110, "FILE",                                                      \
                   "A file with a line PERSON,CLASS each (or ID,CLASS where there is no person)",  \
                   type, input.risk_file),                                                         \
        INPUT_U64("skip", 1107, "N", "Pass over the first N rows", type, input.skip),              \
        INPUT_U64("limit", 1108, "N", "Read N rows at most", type, input.limit)

// The reader's options for `files`; everything is borrowed. ERR_INVALID: --limit 0.
MUST_USE enum err input_options(const struct input *input, const char *const *files,
                                size_t file_count, struct reader_options *options_out);
