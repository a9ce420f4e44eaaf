// client/replayer.c: unlearn-replay, the auditor's program: trains an exported component again from
// nothing, without any coordinator, and compares digest and commitment. `unlearnctl replay` runs it.
//
// A program of its own because it computes: it pins OpenBLAS to the export's core type before main's
// first work (model/profile.h), which unlearnctl need not carry.
//
// Exit codes: 0 identical, 1 different, or the export is damaged; else as ctl.h.
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/mem.h"
#include "client/ctl.h"
#include "client/files.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/replay.h"
#include "model/profile.h"
#include "proto/receipt.h"

const char *argp_program_version;

struct options {
    struct ctl_globals globals;
    struct input input;
    struct args_list data;
    struct args_u64 generation;
    const char *receipt, *key, *base;
};

static const struct args_option option_table[] = {
    CTL_GLOBAL_OPTIONS_BUT_KEY,
    INPUT_OPTIONS(struct options),
    {"data", 1200, "FILE", "Your own copy of the data, as it was imported; may be several files",
     ARGS_LIST, offsetof(struct options, data), 0},
    {"generation", 1201, "G", "The generation that the data were imported with (default: 0)",
     ARGS_U64, offsetof(struct options, generation), LIMIT_GENERATION},
    {"receipt", 1202, "FILE", "Also check that this completed receipt names the component's bytes",
     ARGS_TEXT, offsetof(struct options, receipt), 0},
    {"key", 1203, "PUBLIC", "With --receipt: the cluster's receipt.pub, or its hex", ARGS_TEXT,
     offsetof(struct options, key), 0},
    {"base", 1204, "DIR",
     "Where the export names its base by digest alone: Hugging Face files, or an export with it",
     ARGS_TEXT, offsetof(struct options, base), 0},
};

static const struct args_syntax syntax = {
    .words = "DIR",
    .words_min = 1,
    .words_max = 1,
    .doc =
        "Train an exported component again and compare.\v"
        "DIR is what `unlearnctl export` wrote. The whole chain of stages is trained from nothing, "
        "without any coordinator, under the core type that the export names. With --data the "
        "records come from your own files, read with the options of the import; leave deleted "
        "records out with --except. With --receipt the bytes must be those that the receipt of a "
        "deletion says it repaired the component to.\n\n"
        "Exit codes: 0 identical, 1 different or a damaged export, 2 usage, 3 not found, 4 "
        "refused, 5 "
        "interrupted.\n\n"
        "Examples:\n"
        "  unlearnctl replay audit\n"
        "  unlearnctl replay audit --receipt bob.receipt --key cluster.client/receipt.pub\n"
        "  unlearnctl replay audit --data adult.csv --label income --except deleted.txt",
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

struct outcome {
    bool identical;
    char text[512]; // One sentence.
    uint64_t samples;
    double seconds;
    struct digest digest;
};

static bool step(void *context, uint64_t done, uint64_t total)
{
    progress_step(context, done, total, clock_mono_ms());
    return interrupt_check() == OK;
}

static enum err check_profile(const struct export *export)
{
    struct digest probe;
    TRY(profile_probe(&probe));
    if (memcmp(&probe, &export->profile, sizeof probe) != 0) {
        FAIL(ERR_INCOMPATIBLE,
             "this program computes under another numeric profile (BLAS core type %s) than the "
             "component was trained under (%s): use the export's build, %s, and the same OpenBLAS, "
             "on "
             "a processor that has this core type",
             profile_core(), export->core[0] == '\0' ? "unknown" : export->core, export->build);
    }
    return OK;
}

static void differs(struct outcome *outcome, const char *format, ...) PRINTF_LIKE(2, 3);
static void differs(struct outcome *outcome, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(outcome->text, sizeof outcome->text, format, args);
    va_end(args);
    outcome->identical = false;
}

// The component of this name in the receipt's account of this model, as it was repaired; or NULL.
static const struct receipt_component *find_repaired(const struct receipt *receipt,
                                                     const struct export *export)
{
    const struct digest spec = spec_digest(&export->spec);
    const struct digest schema = schema_digest(&export->schema);
    for (uint32_t i = 0; i < receipt->model_count; i++) {
        const struct receipt_model *const model = &receipt->models[i];
        if (memcmp(&model->spec, &spec, sizeof spec) != 0 ||
            memcmp(&model->schema, &schema, sizeof schema) != 0) {
            continue;
        }
        for (uint32_t j = model->first; j < model->first + model->count; j++) {
            if (strcmp(receipt_component_name(receipt, j), export->name) == 0 &&
                receipt->components[j].fate == RECEIPT_REPAIRED) {
                return &receipt->components[j];
            }
        }
    }
    return NULL;
}

// Compares the export's commitment with the one that a signed receipt names. Sets outcome->text and
// gives false where they differ.
static enum err check_receipt(const struct export *export, const struct options *options,
                              struct outcome *outcome, bool *agrees_out)
{
    struct sign_public key;
    struct buf file = {0};
    struct receipt receipt = {0};
    struct receipt_file parts;
    *agrees_out = true;
    if (options->receipt == NULL) {
        return OK;
    }
    if (options->key == NULL) {
        FAIL(ERR_INVALID, "--receipt needs --key: the cluster's receipt.pub, or its 64 hex digits");
    }
    TRY_AS(sign_public_read(options->key, &key), "--key");
    enum err err = files_read(options->receipt, 2 * (size_t)LIMIT_RECEIPT_BYTES, &file);
    if (err == OK) {
        err = receipt_verify(buf_span(&file), &key, &receipt, &parts);
        err = err == OK ? OK : err_context(err, "%s", options->receipt);
    }
    if (err == OK) {
        const struct receipt_component *const repaired = find_repaired(&receipt, export);
        *agrees_out = repaired != NULL &&
                      memcmp(&repaired->after, &export->commitment, sizeof export->commitment) == 0;
        if (!*agrees_out) {
            differs(outcome,
                    repaired == NULL
                        ? "different: the receipt says of no model with this spec and schema that "
                          "%.300s was repaired"
                        : "different: the receipt names another commitment for %.300s: a later "
                          "deletion has replaced it, or the export is not of this cluster",
                    export->name);
        }
    }
    receipt_deinit(&receipt);
    buf_deinit(&file);
    return err;
}

static enum err compare(const struct export *export, const struct replay_data *data,
                        const struct options *options, struct outcome *outcome)
{
    struct progress progress;
    uint32_t position = 0;
    bool agrees = true;
    TRY(check_receipt(export, options, outcome, &agrees));
    if (!agrees) {
        return OK;
    }
    if (!replay_fits(data, export, &position)) {
        differs(outcome,
                "different: slice %u has %" PRIu64
                " records here, the component was trained on %" PRIu64,
                export->component.list[position], data->slice_records[position],
                export->slice_records[position]);
        return OK;
    }
    const int64_t began_ms = clock_mono_ms();
    progress_init(&progress, "replaying", "samples", progress_style_of(options->globals.json));
    const struct stage_watch watch = {step, &progress};
    const enum err err = replay_train(export, data, &watch, &outcome->digest);
    progress_end(&progress);
    TRY(err);
    outcome->samples = replay_samples(export);
    outcome->seconds = (double)(clock_mono_ms() - began_ms) / 1000.0;
    const struct digest commitment = digest_commit(export->commit_key, &outcome->digest);
    if (memcmp(&outcome->digest, &export->digest, sizeof outcome->digest) != 0) {
        differs(
            outcome,
            "different: training %.300s again from nothing gives another digest than the export's",
            export->name);
    } else if (memcmp(&commitment, &export->commitment, sizeof commitment) != 0) {
        differs(outcome,
                "different: the digest is the export's, but the key in it does not open its "
                "commitment");
    } else {
        outcome->identical = true;
        snprintf(outcome->text, sizeof outcome->text,
                 "identical: %.200s, trained again from nothing on %" PRIu64 " records (%" PRIu64
                 " samples), has the export's digest and opens its commitment%s",
                 export->name, export->records, outcome->samples,
                 options->receipt == NULL ? "" : ", which the receipt names");
    }
    return OK;
}

static enum err load_data(const char *dir, const struct options *options,
                          const struct export *export, struct replay_data *data_out)
{
    if (options->data.count == 0) {
        if (!export->has_records) {
            FAIL(ERR_INVALID, "the export has no records: give your own copy with --data FILE...");
        }
        return replay_load(dir, export, data_out);
    }
    struct reader_options files;
    TRY(input_options(&options->input, options->data.texts, options->data.count, &files));
    return replay_collect(&files, (uint32_t)options->generation.value, export, data_out);
}

static json_t *hex(const struct digest *digest)
{
    char text[DIGEST_HEX_BYTES];
    hex_put(text, digest->bytes, sizeof digest->bytes);
    return json_string(text);
}

static void print(const struct options *options, const struct export *export,
                  const struct outcome *outcome)
{
    if (!options->globals.json) {
        puts(outcome->text);
        return;
    }
    json_t *const answer = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:f}", "result",
        outcome->identical ? "identical" : "different", "reason", outcome->text, "model",
        export->model, "component", export->name, "records", (json_int_t) export->records,
        "samples", (json_int_t)outcome->samples, "stages", (json_int_t) export->component.count,
        "core", profile_core(), "seconds", outcome->seconds);
    json_object_set_new(answer, "digest", hex(&outcome->digest));
    json_object_set_new(answer, "digest_exported", hex(&export->digest));
    json_object_set_new(answer, "commitment", hex(&export->commitment));
    ctl_print(answer);
}

static enum err replay(const char *dir, const struct options *options, struct export *export,
                       bool *identical_out)
{
    struct replay_data data = {0};
    struct outcome outcome = {0};
    if (options->base != NULL) {
        TRY(replay_take_base(export, options->base));
    }
    TRY(replay_check(export));
    TRY(check_profile(export));
    interrupt_watch();
    TRY(load_data(dir, options, export, &data));
    const enum err err = compare(export, &data, options, &outcome);
    replay_deinit(&data);
    TRY(err);
    print(options, export, &outcome);
    *identical_out = outcome.identical;
    return OK;
}

static enum err run(char **argv, const char *dir, const struct options *options,
                    bool *identical_out)
{
    struct export export;
    TRY(digest_start());
    TRY(export_read(dir, &export));
    // The first call that computes comes after this; the program may be executed anew here.
    enum err err =
        profile_core_is_name(export.core) ? profile_pin_to(argv, export.core) : profile_pin(argv);
    err = err != OK ? err : replay(dir, options, &export, identical_out);
    export_deinit(&export);
    return err;
}

int main(int argc, char **argv)
{
    guard_no_core();
    argp_program_version = build_id;
    argp_err_exit_status = EXIT_USAGE;
    // argp moves words; what is executed anew shall get them as they came.
    char **const as_came = mem_alloc((size_t)argc + 1, sizeof *as_came);
    memcpy(as_came, argv, (size_t)argc * sizeof *as_came);
    struct options options = {0};
    struct args_list words = {0};
    bool identical = false;
    enum err err = args_parse(&syntax, 0, argc, argv, &options, &words);
    err = err != OK ? err : run(as_came, words.texts[0], &options, &identical);
    if (err != OK) {
        fprintf(stderr, "unlearn-replay: %s\n", err_text());
    }
    if (err != OK && options.globals.json) {
        ctl_print(
            json_pack("{s:{s:s, s:s}}", "error", "status", err_name(err), "message", err_text()));
    }
    args_deinit(&syntax, &options, &words);
    mem_free(as_came);
    return err != OK ? ctl_exit_code(err) : identical ? EXIT_DONE : EXIT_FAILED;
}
