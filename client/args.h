// client/args.h: a command's options as a table, read into a struct of the command's own.
//
//   static const struct args_option options[] = {
//       {"wait", 'w', NULL, "Wait until it is trained", ARGS_FLAG, offsetof(struct train, wait), 0},
//       {"set", 's', "KEY=VALUE", "Set a key", ARGS_LIST, offsetof(struct train, set), 0},
//   };
//
// A list option may come several times and takes every word up to the next option, so that both
// `--record 1 2 3` and `--record 1 --record 2` work; words before any list option are the command's
// own. argp does the rest: long and short names, --name=value, --help, --usage, --version.
//
// Lifetime  Texts are borrowed from argv. args_deinit frees the lists.
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum args_kind {
    ARGS_FLAG, // bool
    ARGS_TEXT, // const char *
    ARGS_U64,  // struct args_u64
    ARGS_LIST, // struct args_list
};

struct args_u64 {
    bool given;
    uint64_t value;
};

struct args_list {
    const char **texts; // Owned array of borrowed texts.
    size_t count;
};

struct args_option {
    const char *name;
    int key;           // Short name, or any number from 256 on: unique in its command.
    const char *value; // What the help calls the value; NULL with ARGS_FLAG.
    const char *help;
    enum args_kind kind;
    size_t offset; // Of the field in the command's struct.
    uint64_t max;  // ARGS_U64: greatest value; 0: any.
};

struct args_syntax {
    const char *words; // "DATASET FILE...": what the help shows; NULL: none.
    size_t words_min, words_max;
    const char *doc; // Above the options in the help; after a \v: below them.
    const struct args_option *options;
    size_t option_count;
};

// Reads argv[1 ..] into `target`, a zeroed struct, and *words_out. argv[0] is the name in messages.
// A usage error is printed with the way to the help, and the program ends with
// argp_err_exit_status; --help and --version print and end with 0. With flags ARGP_NO_EXIT |
// ARGP_NO_ERRS a usage error is returned as ERR_INVALID, without text.
MUST_USE enum err args_parse(const struct args_syntax *syntax, unsigned flags, int argc,
                             char **argv, void *target, struct args_list *words_out);

void args_list_add(struct args_list *list, const char *text);
// Frees the lists of `target` and `words`.
void args_deinit(const struct args_syntax *syntax, void *target, struct args_list *words);
