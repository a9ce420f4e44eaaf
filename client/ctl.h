// client/ctl.h: what a command of unlearnctl is, and what every command stands on.
//
// A command is one `struct ctl_command`, listed in unlearnctl.c: its options as a table, its help,
// and a function. The function returns an error or OK, and prints its answer: one JSON object with
// --json, else text for people. The caller prints errors and chooses the exit code.
//
// Exit codes
//   0  done
//   1  failed: something inside refused (I/O, a damaged reply), or verify found a difference
//   2  usage: the command line, a spec, a schema or the input breaks a rule (INVALID_ARGUMENT)
//   3  not found (NOT_FOUND), also an input file
//   4  refused (CONFLICT, PERMISSION_DENIED, RESOURCE_EXHAUSTED)
//   5  unavailable: no coordinator, no worker, a program missing (UNAVAILABLE), or interrupted
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/args.h"
#include "client/progress.h"
#include "client/unlearn.h"

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_UNAVAILABLE };

// The options of every command: the first member of each command's own struct.
struct ctl_globals {
    const char *dir; // --dir or UNLEARN_DIR; NULL: neither.
    bool json;
    const char *key; // --key; NULL: the cluster's admin's.
};

// Rows of args_option for these; the keys 1000 to 1002 are theirs. `receipt verify` and `replay`, which
// connect to nobody, have a --key of another kind, of who signed: CTL_GLOBAL_OPTIONS_BUT_KEY.
#define CTL_GLOBAL_OPTIONS                                                                         \
    CTL_GLOBAL_OPTIONS_BUT_KEY,                                                                    \
    {                                                                                              \
        "key", 1002, "FILE", "The key to connect with (default: DIR.client/admin.key)", ARGS_TEXT, \
            offsetof(struct ctl_globals, key), 0                                                   \
    }
#define CTL_GLOBAL_OPTIONS_BUT_KEY                                                                 \
    {"dir",     1000,                                                                              \
     "DIR",     "The cluster (default: UNLEARN_DIR)",                                              \
     ARGS_TEXT, offsetof(struct ctl_globals, dir),                                                 \
     0},                                                                                           \
    {                                                                                              \
        "json", 1001, NULL, "Print one JSON object", ARGS_FLAG,                                    \
            offsetof(struct ctl_globals, json), 0                                                  \
    }

struct ctl {
    const char *dir;
    const char *key;
    bool json;
    struct unlearn *client; // NULL until ctl_connect.
    bool different;         // The command did its work, and the answer is a failure: exit code 1.
};

struct ctl_command {
    const char *name;    // "import", "dataset list"
    const char *summary; // One line of the list of commands.
    const char *words;   // As args_syntax.words.
    size_t words_min, words_max;
    const char *help;                  // What else there is to know, with examples.
    void (*more_help)(struct buf *);   // Appends to it what is not a constant; or NULL.
    const struct args_option *options; // NULL: the global ones alone.
    size_t option_count;
    size_t options_bytes; // Of the command's struct.
    enum err (*run)(struct ctl *ctl, const void *options, const struct args_list *words);
    // Not NULL: this program beside unlearnctl does it all: it gets what follows the command's name,
    // and `run` is NULL.
    const char *program;
};

// Opens ctl->client. ERR_INVALID: no cluster is named. Else as unlearn_open_dir.
MUST_USE enum err ctl_connect(struct ctl *ctl);

// The cluster that a command works on: its only word, or --dir. ERR_INVALID: neither.
MUST_USE enum err ctl_dir(const struct ctl *ctl, const struct args_list *words,
                          const char **dir_out);

// Prints the answer as one line of JSON and takes it. With --json only.
void ctl_print(json_t *answer);

// Ends a list: prints `answer` or `grid` as --json says, or neither on an error; frees both.
struct grid;
void ctl_finish_list(const struct ctl *ctl, enum err err, json_t *answer, struct grid *grid);

// The progress style that suits: none with --json.
enum progress_style ctl_progress(const struct ctl *ctl);

// Small conversions for answers; the texts are new references.
json_t *ctl_hex(ProtobufCBinaryData bytes);  // null when empty
json_t *ctl_real(double value);              // null when not finite
json_t *ctl_time(int64_t time_us);           // RFC 3339; null for 0
json_t *ctl_uuid(ProtobufCBinaryData bytes); // null unless 16 bytes

int ctl_exit_code(enum err err);
