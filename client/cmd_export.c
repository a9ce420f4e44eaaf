// client/cmd_export.c: the commands for auditors: export and replay (replayer.c is the program).
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/commands.h"
#include "client/export.h"
#include "client/exportpeft.h"
#include "client/interrupt.h"
#include "proto/wire.h"

struct export_options {
    struct ctl_globals globals;
    const char *component, *out, *peft;
    bool with_ids, without_records, without_base;
};

static const struct args_option options_table[] = {
    CTL_GLOBAL_OPTIONS,
    {"component", 1200, "NAME", "The component, as `unlearnctl components` names it", ARGS_TEXT,
     offsetof(struct export_options, component), 0},
    {"out", 'o', "DIR", "Where to write it: a new directory", ARGS_TEXT,
     offsetof(struct export_options, out), 0},
    {"peft", 1204, "DIR",
     "Write the adapters of a LoRA model for PEFT: of --component, or of those that serve, that of "
     "shard 3 into DIR/s3",
     ARGS_TEXT, offsetof(struct export_options, peft), 0},
    {"with-ids", 1201, NULL, "Also write each record's id and subject", ARGS_FLAG,
     offsetof(struct export_options, with_ids), 0},
    {"without-records", 1202, NULL,
     "Write no record: the auditor has a copy of the data and gets the placement key", ARGS_FLAG,
     offsetof(struct export_options, without_records), 0},
    {"without-base", 1203, NULL,
     "Name the base that the model stands on by its digest alone: the auditor has it", ARGS_FLAG,
     offsetof(struct export_options, without_base), 0},
};

static enum err copy_text(const char *what, const char *text, char *out, size_t capacity)
{
    if (strlen(text) >= capacity) {
        FAIL(ERR_CORRUPT, "the coordinator's %s has %zu bytes, expected fewer than %zu", what,
             strlen(text), capacity);
    }
    memcpy(out, text, strlen(text) + 1);
    return OK;
}

// What came over the wire, as files.
static enum err take_answer(const Unlearn__Exported *answer, const struct export_options *options,
                            struct export *export)
{
    TRY(copy_text("model name", answer->model, export->model, sizeof export->model));
    TRY(copy_text("dataset name", answer->dataset, export->dataset, sizeof export->dataset));
    TRY(copy_text("core type", answer->core, export->core, sizeof export->core));
    TRY(copy_text("build", answer->build, export->build, sizeof export->build));
    TRY(copy_text("component name", answer->component, export->name, sizeof export->name));
    TRY(component_get(export->name, &export->component));
    buf_put(&export->spec_text, wire_span(answer->spec));
    buf_put(&export->schema_bytes, wire_span(answer->schema));
    TRY(spec_get(wire_span(answer->spec), &export->spec));
    TRY(schema_get(wire_span(answer->schema), &export->schema));
    TRY(wire_copy(answer->profile, export->profile.bytes, DIGEST_BYTES, "the profile"));
    TRY(wire_copy(answer->digest, export->digest.bytes, DIGEST_BYTES, "the digest"));
    TRY(wire_copy(answer->commit_key, export->commit_key, KEY_BYTES, "the commitment's key"));
    TRY(wire_copy(answer->placement_key, export->placement_key, KEY_BYTES, "the placement key"));
    const size_t count = export->component.count;
    if (answer->n_passes != count || answer->n_slice_records != count) {
        FAIL(ERR_CORRUPT, "the coordinator tells of %zu slices, the component has %zu",
             answer->n_slice_records, count);
    }
    for (size_t i = 0; i < count; i++) {
        export->passes[i] = answer->passes[i];
        export->slice_records[i] = answer->slice_records[i];
        export->records += answer->slice_records[i];
    }
    export->commitment = digest_commit(export->commit_key, &export->digest);
    export->param_count = answer->param_count;
    export->trained_us = answer->trained_us;
    export->with_ids = options->with_ids;
    export->has_records = !options->without_records;
    export->has_placement_key = options->with_ids || options->without_records;
    if (spec_has_base(&export->spec)) {
        TRY(copy_text("base's name", answer->base_name, export->base_name,
                      sizeof export->base_name));
        TRY(wire_copy(answer->base_digest, export->base_digest.bytes, DIGEST_BYTES,
                      "the base's digest"));
        export->has_base = !options->without_base;
    }
    return OK;
}

// Every record has the shape that was said; nothing is left over.
static enum err check_chunk(const Unlearn__ExportChunk *chunk, struct span raw, bool with_ids)
{
    struct cursor cursor = cursor_of(raw);
    for (uint32_t i = 0; i < chunk->count && !cursor.bad; i++) {
        (void)cursor_take(&cursor, (size_t)2 * ID_BYTES + 1);
        (void)cursor_take(&cursor, cursor_u32(&cursor));
        if (with_ids) {
            (void)cursor_take(&cursor, cursor_u16(&cursor));
            (void)cursor_take(&cursor, cursor_u16(&cursor));
        }
    }
    return cursor_done(&cursor, "a chunk of exported records");
}

static enum err pull_records(struct ctl *ctl, const struct export *export, uint64_t instance,
                             FILE *file, struct buf *cursor)
{
    struct progress progress;
    uint64_t records = 0;
    enum err err = OK;
    progress_init(&progress, "exporting", "records", ctl_progress(ctl));
    for (bool last = false; err == OK && !last;) {
        const Unlearn__ExportChunk *chunk = NULL;
        struct span raw;
        err = interrupt_check();
        err = err != OK ? err
                        : unlearn_export_pull(ctl->client, export->model, export->name, instance,
                                              buf_span(cursor), export->with_ids, &chunk, &raw);
        err = err != OK ? err : check_chunk(chunk, raw, export->with_ids);
        if (err != OK) {
            break;
        }
        records += chunk->count;
        last = chunk->last;
        (void)fwrite(raw.data, 1, raw.bytes, file); // export_records_close tells.
        if (!last && chunk->count == 0) {
            err = err_raise(ERR_CORRUPT, "the coordinator sent an empty chunk before the last");
        }
        buf_clear(cursor);
        buf_put(cursor, wire_span(chunk->next));
        progress_step(&progress, records, export->records, clock_mono_ms());
    }
    progress_end(&progress);
    if (err == OK && records != export->records) {
        FAIL(ERR_CORRUPT, "%" PRIu64 " records came, expected %" PRIu64, records, export->records);
    }
    return err;
}

static enum err write_records(struct ctl *ctl, const char *dir, const struct export *export,
                              uint64_t instance)
{
    FILE *file;
    struct buf cursor = {0};
    TRY(export_records_open(dir, export, &file));
    const enum err pulled = pull_records(ctl, export, instance, file, &cursor);
    char why[ERR_TEXT_BYTES];
    snprintf(why, sizeof why, "%s", err_text());
    buf_deinit(&cursor);
    const enum err closed = export_records_close(file);
    return pulled != OK ? err_raise(pulled, "%s", why) : closed;
}

static void step(void *context, uint64_t done, uint64_t total)
{
    progress_step(context, done, total, clock_mono_ms());
}

// The base that the component stands on, if any: its name never stands for another.
static enum err fetch_base(struct ctl *ctl, struct export *export, struct span shape)
{
    struct progress progress;
    progress_init(&progress, "fetching the base", "B", ctl_progress(ctl));
    const struct unlearn_watch watch = {step, &progress};
    const enum err err = unlearn_base_pull(ctl->client, export->spec.base, shape,
                                           &export->base_digest, &watch, &export->base);
    progress_end(&progress);
    return err;
}

static enum err export_to(struct ctl *ctl, const char *dir, const struct export *export,
                          uint64_t instance)
{
    enum err err = export_write(dir, export);
    if (err == ERR_CONFLICT) {
        return err; // What is there is not ours.
    }
    err = err != OK || !export->has_records ? err : write_records(ctl, dir, export, instance);
    if (err != OK) { // Half an export holds records all the same.
        char why[ERR_TEXT_BYTES];
        snprintf(why, sizeof why, "%s", err_text());
        export_remove(dir);
        return err_raise(err, "%s", why);
    }
    return OK;
}

static void print_export(const struct ctl *ctl, const struct export *export, const char *dir)
{
    if (ctl->json) {
        char hex[DIGEST_HEX_BYTES];
        hex_put(hex, export->commitment.bytes, DIGEST_BYTES);
        ctl_print(json_pack("{s:s, s:s, s:s, s:I, s:b, s:b, s:s}", "dir", dir, "model",
                            export->model, "component", export->name, "records",
                            (json_int_t) export->records, "has_records", (int)export->has_records,
                            "with_ids", (int)export->with_ids, "commitment", hex));
        return;
    }
    printf("exported %s of %s: trained on %" PRIu64 " records%s\n"
           "hint: unlearnctl replay %s%s\n",
           export->name, export->model, export->records,
           export->has_records ? "" : ", which are not in it", dir,
           export->has_records ? "" : " --data FILE...");
}

static enum err run_peft(struct ctl *ctl, const struct export_options *options, const char *model)
{
    json_t *rows;
    if (options->out != NULL || options->with_ids || options->without_records ||
        options->without_base) {
        FAIL(ERR_INVALID, "--peft DIR goes with --component alone: it writes no records");
    }
    TRY(ctl_connect(ctl));
    interrupt_watch();
    TRY(exportpeft_run(ctl, model, options->component, options->peft, &rows));
    if (ctl->json) {
        ctl_print(
            json_pack("{s:s, s:s, s:o}", "dir", options->peft, "model", model, "components", rows));
        return OK;
    }
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        printf("%s: adapters of %zu layers in %s\n",
               json_string_value(json_object_get(row, "component")),
               json_array_size(json_object_get(row, "layers")),
               json_string_value(json_object_get(row, "dir")));
    }
    json_decref(rows);
    return OK;
}

static enum err run_export(struct ctl *ctl, const void *options_, const struct args_list *words)
{
    const struct export_options *const options = options_;
    if (options->peft != NULL) {
        return run_peft(ctl, options, words->texts[0]);
    }
    if (options->component == NULL || options->out == NULL) {
        FAIL(ERR_INVALID, "expected --component NAME and -o DIR, or --peft DIR");
    }
    if (options->with_ids && options->without_records) {
        FAIL(ERR_INVALID, "--with-ids and --without-records exclude each other");
    }
    TRY(ctl_connect(ctl));
    interrupt_watch();
    const Unlearn__Exported *answer;
    struct export export = {0};
    TRY(unlearn_export(ctl->client, words->texts[0], options->component, &answer));
    const uint64_t instance = answer->instance;
    struct buf shape = {0}; // The answer is gone with the next call.
    buf_put(&shape, wire_span(answer->base_shape));
    enum err err = take_answer(answer, options, &export);
    err = err != OK || !export.has_base ? err : fetch_base(ctl, &export, buf_span(&shape));
    buf_deinit(&shape);
    err = err != OK ? err : export_to(ctl, options->out, &export, instance);
    if (err == OK) {
        print_export(ctl, &export, options->out);
    }
    export_deinit(&export);
    return err;
}

const struct ctl_command cmd_export = {
    .name = "export",
    .summary = "Write what an auditor needs to train a component again, or adapters for PEFT",
    .words = "MODEL",
    .words_min = 1,
    .words_max = 1,
    .help =
        "Only a valid component can be exported. The directory holds the spec, the schema, the "
        "numeric profile, the opening of the commitment that receipts name, and the records that "
        "the "
        "component was trained on, and the base that it stands on. What it holds it keeps: a later "
        "deletion does not reach it.\n\n"
        "With --peft the adapters and heads of a vit or text model on a base go out in the format "
        "of "
        "Hugging Face's PEFT instead, without records (docs/interchange.md). The same holds for "
        "them: what is written is out of reach of later deletions.\n\n"
        "Examples:\n"
        "  unlearnctl export digits --component 's0:[0,1]' -o audit\n"
        "  unlearnctl export digits --component 's0:[0,1]' -o audit --without-records\n"
        "  unlearnctl export digits --peft adapters",
    .options = options_table,
    .option_count = sizeof options_table / sizeof options_table[0],
    .options_bytes = sizeof(struct export_options),
    .run = run_export,
};

const struct ctl_command cmd_replay = {
    .name = "replay",
    .summary = "Train an exported component again and compare",
    .program = "unlearn-replay",
};
