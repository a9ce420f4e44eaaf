// client/unlearnctl.c: the command line. One table of commands; argp and JSON around it.
//
// A new command is one file or function of cmd_*.c, one line of commands.h.
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/build.h"
#include "base/digest.h"
#include "base/guard.h"
#include "base/mem.h"
#include "client/advice.h"
#include "client/commands.h"
#include "client/ctl.h"
#include "client/process.h"
#include "proto/wire.h"

static const struct ctl_command *const commands[] = {
#define COMMAND(name) &cmd_##name,
    COMMANDS(COMMAND)
#undef COMMAND
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0], TITLE_BYTES = 64 };

// argp prints these by itself.
const char *argp_program_version;

// --- The program's own options and help ---

struct program {
    struct ctl_globals globals;
    int command_at; // Index in argv; 0: none.
};

static const struct argp_option program_options[] = {
    {"dir", 1000, "DIR", 0, "The cluster (default: UNLEARN_DIR)", 0},
    {"json", 1001, NULL, 0, "Print one JSON object and nothing else", 0},
    {"key", 1002, "FILE", 0, "The key to connect with (default: DIR.client/admin.key)", 0},
    {0},
};

// NOLINTNEXTLINE(readability-non-const-parameter): argp fixes the type.
static error_t take_program_option(int key, char *text, struct argp_state *state)
{
    struct program *const program = state->input;
    switch (key) {
    case 1000:
        program->globals.dir = text;
        return 0;
    case 1001:
        program->globals.json = true;
        return 0;
    case 1002:
        program->globals.key = text;
        return 0;
    case ARGP_KEY_ARG: // The command: the rest is its own.
        program->command_at = state->next - 1;
        state->next = state->argc;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "no command is given");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

// The help's text: above the options the first line, below them the list of commands.
static char *program_doc(void)
{
    struct buf doc = {0};
    buf_put(&doc, span_text("Train ensembles on data that people may ask to have deleted, and "
                            "delete it exactly.\vCommands:\n"));
    for (int i = 0; i < COMMAND_COUNT; i++) {
        char line[256];
        const int bytes =
            snprintf(line, sizeof line, "  %-17s %s\n", commands[i]->name, commands[i]->summary);
        buf_put(&doc, span_of(line, (size_t)bytes));
    }
    buf_put(&doc, span_text("\nunlearnctl COMMAND --help has each command's options and examples.\n"
                            "\nExit codes: 0 done, 1 failed, 2 usage (also a bad spec or input), "
                            "3 not found, 4 refused, 5 unavailable."));
    buf_u8(&doc, 0);
    return (char *)doc.data;
}

// --- Choosing and running a command ---

// How many words of argv the name of `command` takes; 0: it is another command.
static int words_matched(const struct ctl_command *command, int argc, char **argv)
{
    const size_t first = strlen(argv[0]);
    if (strcmp(argv[0], command->name) == 0) {
        return 1;
    }
    const bool two = argc > 1 && strncmp(argv[0], command->name, first) == 0 &&
                     command->name[first] == ' ' && strcmp(argv[1], command->name + first + 1) == 0;
    return two ? 2 : 0;
}

static enum err unknown_command(int argc, char **argv)
{
    const size_t first = strlen(argv[0]);
    char group[256] = "";
    const char *names[COMMAND_COUNT];
    for (int i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i]->name;
        if (strncmp(names[i], argv[0], first) == 0 && names[i][first] == ' ') {
            const size_t at = strlen(group);
            snprintf(group + at, sizeof group - at, "%s%s", at == 0 ? "" : ", ",
                     names[i] + first + 1);
        }
    }
    if (group[0] != '\0') {
        FAIL(ERR_INVALID, "expected one of %s after \"%s\"", group, argv[0]);
    }
    char both[TITLE_BYTES];
    snprintf(both, sizeof both, "%s %s", argv[0], argc > 1 ? argv[1] : "");
    int nearest = advice_nearest(argv[0], names, COMMAND_COUNT);
    nearest = nearest >= 0 ? nearest : advice_nearest(both, names, COMMAND_COUNT);
    if (nearest < 0) {
        FAIL(ERR_INVALID, "unknown command \"%.40s\": unlearnctl --help lists them", argv[0]);
    }
    FAIL(ERR_INVALID, "unknown command \"%.40s\", did you mean \"%s\"?", argv[0], names[nearest]);
}

static const struct args_option global_options[] = {CTL_GLOBAL_OPTIONS};

static enum err run_parsed(struct ctl *ctl, const struct ctl_command *command,
                           const struct ctl_globals *options, const struct args_list *words)
{
    ctl->dir = options->dir;
    ctl->json = options->json;
    ctl->key = options->key;
    const enum err err = command->run(ctl, options, words);
    unlearn_close(ctl->client);
    ctl->client = NULL;
    return err;
}

// argv[0] is what the command is called in messages; the rest its options and words.
static enum err run_command(struct ctl *ctl, const struct ctl_command *command, int argc,
                            char **argv)
{
    struct buf doc = {0};
    buf_put(&doc, span_text(command->summary));
    buf_put(&doc, span_text(".\v"));
    buf_put(&doc, span_text(command->help));
    if (command->more_help != NULL) {
        command->more_help(&doc);
    }
    buf_u8(&doc, 0);
    const struct args_syntax syntax = {
        .words = command->words,
        .words_min = command->words_min,
        .words_max = command->words_max,
        .doc = (const char *)doc.data,
        .options = command->options == NULL ? global_options : command->options,
        .option_count = command->options == NULL ? sizeof global_options / sizeof global_options[0]
                                                 : command->option_count,
    };
    const size_t bytes =
        command->options == NULL ? sizeof(struct ctl_globals) : command->options_bytes;
    struct ctl_globals *const options = mem_alloc(1, bytes);
    *options = (struct ctl_globals){ctl->dir, ctl->json, ctl->key};
    struct args_list words = {0};
    enum err err = args_parse(&syntax, 0, argc, argv, options, &words);
    if (err == OK) {
        err = run_parsed(ctl, command, options, &words);
    }
    args_deinit(&syntax, options, &words);
    mem_free(options);
    buf_deinit(&doc);
    return err;
}

// Becomes the command's program. Comes back only on an error.
static enum err become(const struct ctl *ctl, const struct ctl_command *command, char **arguments,
                       int argument_count)
{
    char path[PROCESS_PATH_BYTES];
    TRY(process_beside(command->program, path));
    char **const argv = mem_alloc((size_t)argument_count + 3, sizeof *argv);
    int count = 0;
    argv[count++] = path;
    if (ctl->json) {
        argv[count++] = mem_text("--json");
    }
    for (int i = 0; i < argument_count; i++) {
        argv[count++] = arguments[i];
    }
    execv(path, argv);
    mem_free(argv);
    FAIL(ERR_IO, "cannot execute %s: %s", path, strerror(errno));
}

static enum err run(struct ctl *ctl, int argc, char **argv)
{
    TRY(digest_start());
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const int matched = words_matched(commands[i], argc, argv);
        if (matched > 0 && commands[i]->program != NULL) {
            return become(ctl, commands[i], argv + matched, argc - matched);
        }
        if (matched > 0) {
            char title[TITLE_BYTES];
            snprintf(title, sizeof title, "unlearnctl %s", commands[i]->name);
            argv[matched - 1] = title;
            return run_command(ctl, commands[i], argc - matched + 1, argv + matched - 1);
        }
    }
    return unknown_command(argc, argv);
}

static int report(const struct ctl *ctl, enum err err)
{
    if (err == OK) {
        return ctl->different ? EXIT_FAILED : EXIT_DONE;
    }
    fprintf(stderr, "unlearnctl: %s\n", err_text());
    if (ctl->json) {
        char message[ERR_TEXT_BYTES];
        snprintf(message, sizeof message, "%s", err_text());
        json_t *const text = json_string(message);
        ctl_print(json_pack("{s:{s:s, s:o}}", "error", "status", err_name(err), "message",
                            text == NULL ? json_string("(not UTF-8)") : text));
    }
    return ctl_exit_code(err);
}

int main(int argc, char **argv)
{
    guard_no_core();
    argp_program_version = build_id;
    argp_err_exit_status = EXIT_USAGE;
    char *const doc = program_doc();
    const struct argp argp = {.options = program_options,
                              .parser = take_program_option,
                              .args_doc = "COMMAND ...",
                              .doc = doc};
    struct program program = {.globals = {.dir = getenv("UNLEARN_DIR")}};
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &program) != 0) {
        return EXIT_USAGE;
    }
    mem_free(doc);
    struct ctl ctl = {
        .dir = program.globals.dir, .key = program.globals.key, .json = program.globals.json};
    const enum err err = run(&ctl, argc - program.command_at, argv + program.command_at);
    int code = report(&ctl, err);
    if (fflush(stdout) != 0 && code == EXIT_DONE) {
        fprintf(stderr, "unlearnctl: cannot write the answer\n");
        code = EXIT_FAILED;
    }
    return code;
}
