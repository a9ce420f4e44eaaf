// client/cmd_data.c: the commands for data: import, schema, dataset list|show|remove, sample.
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/ack.h"
#include "client/commands.h"
#include "client/encode.h"
#include "client/grid.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/propose.h"
#include "client/sample.h"
#include "client/schemafile.h"
#include "client/show.h"
#include "proto/wire.h"

// --- import ---

struct import {
    struct ctl_globals globals;
    struct input input;
    const char *schema_file;
    const char *text;
    bool public_data;
    const char *placement_key;
    struct args_u64 generation;
    bool readmit;
};

static const struct args_option import_options[] = {
    CTL_GLOBAL_OPTIONS,
    INPUT_OPTIONS(struct import),
    {"schema", 1200, "FILE",
     "The columns, as `unlearnctl schema` prints them (default: the "
     "dataset's; at the first import proposed from the data)",
     ARGS_TEXT, offsetof(struct import, schema_file), 0},
    {"public", 1201, NULL,
     "Declare the data public: a base may be pre-trained on it (base pretrain)", ARGS_FLAG,
     offsetof(struct import, public_data), 0},
    {"placement-key", 1202, "HEX",
     "Where records are placed, 64 hex digits (default: at the first "
     "import drawn at random)",
     ARGS_TEXT, offsetof(struct import, placement_key), 0},
    {"generation", 1203, "G", "The generation, to repeat a history (default: the open one)",
     ARGS_U64, offsetof(struct import, generation), LIMIT_GENERATION},
    {"text", 1205, "COL",
     "The column of texts to learn (learner text); the others are ignored. Where there is no label "
     "and "
     "one column of long or mostly different texts, it need not be said",
     ARGS_TEXT, offsetof(struct import, text), 0},
    {"readmit", 1204, NULL, "Take deleted ids as new records", ARGS_FLAG,
     offsetof(struct import, readmit), 0},
};

// What an import holds while it runs; import_into acquires, import_close releases.
struct import_run {
    struct ctl *ctl;
    const struct import *options;
    const char *dataset;
    struct reader_options files;
    bool first; // The dataset has no schema yet.
    struct schema schema;
    struct reader *reader;
    struct encode *encode;
    struct unlearn_import *import;
    struct progress progress;
    struct buf row;
    uint64_t records;
};

static void show_bytes(void *context, uint64_t bytes_done, uint64_t bytes_all)
{
    struct progress *const progress = context;
    progress_step(progress, bytes_done, bytes_all, clock_mono_ms());
}

// A schema that is given or there already is not changed by --text.
static enum err check_text(const struct import_run *run)
{
    const char *const name = run->options->text;
    const int64_t index = schema_text_column(&run->schema);
    const struct column *const column = index < 0 ? NULL : &run->schema.columns[index];
    if (name != NULL && column == NULL) {
        FAIL(ERR_INVALID, "--text names column \"%.60s\", and no column of the schema is text",
             name);
    }
    if (name != NULL && strcmp(column->name, name) != 0) {
        FAIL(ERR_INVALID, "--text names column \"%.60s\", the schema's text is \"%.60s\"", name,
             column->name);
    }
    return OK;
}

// The schema: the user's, else the dataset's, else one proposed from the data.
static enum err choose_schema(struct import_run *run)
{
    const Unlearn__Dataset *dataset;
    const enum err known = unlearn_dataset_show(run->ctl->client, run->dataset, &dataset);
    if (known != OK && known != ERR_NOT_FOUND) {
        return known;
    }
    run->first = known != OK || dataset->schema.len == 0;
    if (run->options->schema_file != NULL) {
        TRY(schemafile_read(run->options->schema_file, &run->schema));
        return check_text(run);
    }
    if (!run->first) {
        TRY_AS(schema_get(wire_span(dataset->schema), &run->schema), "the dataset's schema");
        return check_text(run);
    }
    struct progress progress;
    progress_init(&progress, "looking", "B", ctl_progress(run->ctl));
    const struct propose_watch watch = {show_bytes, &progress};
    const enum err err = propose_schema(&run->files, run->options->text, &watch, &run->schema);
    progress_end(&progress);
    return err;
}

static enum err begin_import(struct import_run *run)
{
    uint8_t key[KEY_BYTES];
    const char *const key_text = run->options->placement_key;
    if (key_text != NULL) {
        TRY_AS(hex_get(key, sizeof key, key_text), "--placement-key");
    }
    struct buf schema = {0};
    schema_put(&run->schema, &schema);
    const struct unlearn_import_options options = {
        .dataset = run->dataset,
        .schema = buf_span(&schema),
        .placement_key = key_text == NULL ? NULL : key,
        .public_data = run->options->public_data,
        .has_generation = run->options->generation.given,
        .generation = (uint32_t)run->options->generation.value,
        .readmit = run->options->readmit,
    };
    const enum err err = unlearn_import_begin(run->ctl->client, &options, &run->import);
    buf_deinit(&schema);
    return err;
}

static enum err send_records(struct import_run *run)
{
    for (;;) {
        struct record record;
        bool more;
        TRY(interrupt_check());
        TRY(reader_next(run->reader, &record, &more));
        if (!more) {
            break;
        }
        TRY(encode_record(run->encode, &run->row));
        TRY_AS(unlearn_import_add(run->import, record.id, record.subject, record.risk,
                                  buf_span(&run->row)),
               "up to %s", reader_where(run->reader));
        if (run->records++ % 64 == 0) {
            const struct reader_progress at = reader_progress(run->reader);
            show_bytes(&run->progress, at.bytes_done, at.bytes_all);
        }
    }
    // Nothing to import is a slip, except where a history is repeated whose records are all gone: the
    // generation counts all the same.
    if (run->records == 0 && !run->options->generation.given &&
        reader_progress(run->reader).excepted == 0) {
        FAIL(ERR_INVALID, "the input has no record to import");
    }
    return OK;
}

static enum err import_into(struct import_run *run, const Unlearn__ImportDone **done_out)
{
    TRY(choose_schema(run));
    TRY(reader_open(&run->files, &run->reader));
    TRY(encode_open(&run->schema, run->reader, true, &run->encode));
    TRY(begin_import(run));
    progress_init(&run->progress, "importing", "B", ctl_progress(run->ctl));
    TRY(send_records(run));
    progress_end(&run->progress);
    return unlearn_import_commit(run->import, done_out);
}

static void import_close(struct import_run *run)
{
    progress_end(&run->progress);
    unlearn_import_end(run->import);
    encode_close(run->encode);
    reader_close(run->reader);
    schema_deinit(&run->schema);
    buf_deinit(&run->row);
}

// What was proposed, in a line: a newcomer should see how the data was understood.
static void print_schema(const struct schema *schema)
{
    static const char *const kinds[] = {[COLUMN_NUMERIC] = "numeric",
                                        [COLUMN_CATEGORY] = "categorical",
                                        [COLUMN_PIXELS] = "image",
                                        [COLUMN_TEXT] = "text",
                                        [COLUMN_IGNORED] = "ignored"};
    uint32_t counts[COLUMN_IGNORED + 1] = {0};
    for (uint32_t i = 0; i < schema->column_count; i++) {
        counts[schema->columns[i].kind]++;
    }
    printf("schema:");
    for (int i = COLUMN_NUMERIC; i <= COLUMN_IGNORED; i++) {
        if (counts[i] > 0) {
            printf(" %u %s,", counts[i], kinds[i]);
        }
    }
    putchar(' ');
    if (schema->task == TASK_NONE) {
        printf("no label\n");
    } else if (schema->task == TASK_CLASSES) {
        printf("label \"%s\" of %u classes\n", schema->label, schema->class_count);
    } else {
        printf("label \"%s\", a number\n", schema->label);
    }
}

static void print_import(const struct import_run *run, const Unlearn__ImportDone *done)
{
    const struct reader_progress at = reader_progress(run->reader);
    if (run->ctl->json) {
        ctl_print(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "dataset", run->dataset, "records",
                            (json_int_t)done->records, "subjects", (json_int_t)done->subjects,
                            "skipped", (json_int_t)done->skipped, "generation",
                            (json_int_t)done->generation, "excepted", (json_int_t)at.excepted));
        return;
    }
    printf("imported %llu records of %llu subjects into %s, generation %u",
           (unsigned long long)done->records, (unsigned long long)done->subjects, run->dataset,
           done->generation);
    if (done->skipped > 0) {
        printf("; %llu skipped: known already, or deleted", (unsigned long long)done->skipped);
    }
    if (at.excepted > 0) {
        printf("; %llu left out by --except", (unsigned long long)at.excepted);
    }
    putchar('\n');
    if (run->first) {
        print_schema(&run->schema);
        printf("hint: unlearnctl train MODEL --dataset %s%s --wait\n", run->dataset,
               schema_text_column(&run->schema) >= 0
                   ? " --set learner=text optimizer.kind=adamw optimizer.rate=0.003"
                   : "");
    }
}

static enum err run_import(struct ctl *ctl, const void *options, const struct args_list *words)
{
    struct import_run run = {.ctl = ctl, .options = options, .dataset = words->texts[0]};
    TRY(input_options(&run.options->input, words->texts + 1, words->count - 1, &run.files));
    TRY(ctl_connect(ctl));
    interrupt_watch();
    const Unlearn__ImportDone *done;
    const enum err err = import_into(&run, &done);
    if (err == OK) {
        print_import(&run, done);
    }
    import_close(&run);
    return err;
}

const struct ctl_command cmd_import = {
    .name = "import",
    .summary = "Import records, whole or not at all",
    .words = "DATASET FILE...",
    .words_min = 2,
    .words_max = SIZE_MAX,
    .help =
        "The first import makes the dataset and freezes its schema: given by --schema, else "
        "proposed from the data. Files may be compressed with gzip. With idx, FILEs are images "
        "and then their labels. On an error nothing is imported.\n\n"
        "People may have a risk class, 0 to 15 (--risk, --risk-file): how likely they are to ask "
        "for "
        "deletion. A spec's `risk` gives classes their own shards and slices. It belongs to the "
        "person: with the first import, and the same in every other.\n\n"
        "A text is learnt byte by byte, as it stands in the file; its column needs no label.\n\n"
        "Examples:\n"
        "  unlearnctl import adult adult.csv --label income\n"
        "  unlearnctl import digits images.gz labels.gz --subjects people.txt\n"
        "  unlearnctl import plays shakespeare.jsonl --subject subject --id id\n"
        "  unlearnctl import people people.csv --label y --subject name --risk class\n"
        "  unlearnctl import notes notes.csv --text note --subject author --id uuid",
    .options = import_options,
    .option_count = sizeof import_options / sizeof import_options[0],
    .options_bytes = sizeof(struct import),
    .run = run_import,
};

// --- schema ---

// The schema's text form. ERR_NOT_FOUND: the dataset has none yet.
static enum err schema_text(const Unlearn__Dataset *dataset, struct buf *text_out)
{
    if (dataset->schema.len == 0) {
        FAIL(ERR_NOT_FOUND, "the dataset has no schema yet: nothing was imported");
    }
    struct schema schema;
    TRY(schema_get(wire_span(dataset->schema), &schema));
    schemafile_put(&schema, text_out);
    schema_deinit(&schema);
    return OK;
}

// People get the text as it is written for them, scripts one line; both can be read again.
static enum err run_schema(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    const Unlearn__Dataset *dataset;
    TRY(unlearn_dataset_show(ctl->client, words->texts[0], &dataset));
    struct buf text = {0};
    const enum err err = schema_text(dataset, &text);
    if (err == OK && ctl->json) {
        ctl_print(json_loadb((const char *)text.data, text.bytes, 0, NULL));
    } else if (err == OK) {
        fwrite(text.data, 1, text.bytes, stdout);
    }
    buf_deinit(&text);
    return err;
}

const struct ctl_command cmd_schema = {
    .name = "schema",
    .summary = "Print a dataset's schema, as import --schema reads it",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help = "Example:\n  unlearnctl schema adult > adult.json",
    .run = run_schema,
};

// --- dataset list, show, remove ---

static json_t *dataset_json(const Unlearn__Dataset *dataset)
{
    json_t *const models = json_array();
    for (size_t i = 0; i < dataset->n_models; i++) {
        json_array_append_new(models, json_string(dataset->models[i]));
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:b, s:o}", "dataset", dataset->name, "records",
                     (json_int_t)dataset->records, "generations", (json_int_t)dataset->generations,
                     "generations_closed", (json_int_t)dataset->generations_closed, "public",
                     (int)dataset->public_data, "models", models);
}

static enum err run_dataset_list(struct ctl *ctl, const void *options,
                                 const struct args_list *words)
{
    (void)options, (void)words;
    TRY(ctl_connect(ctl));
    json_t *const rows = json_array();
    struct grid *const grid = grid_new("DATASET|>RECORDS|>GENERATIONS|>MODELS");
    enum err err = OK;
    for (uint32_t at = 0, total = 1; at < total;) {
        const Unlearn__DatasetPage *page;
        err = unlearn_dataset_list(ctl->client, at, &page);
        if (err != OK || page->n_datasets == 0) {
            break;
        }
        for (size_t i = 0; i < page->n_datasets; i++) {
            const Unlearn__Dataset *const dataset = page->datasets[i];
            json_array_append_new(rows, dataset_json(dataset));
            grid_cell(grid, "%s", dataset->name);
            grid_cell(grid, "%llu", (unsigned long long)dataset->records);
            grid_cell(grid, "%u", dataset->generations);
            grid_cell(grid, "%zu", dataset->n_models);
        }
        at += (uint32_t)page->n_datasets;
        total = page->total;
    }
    json_t *const answer = json_pack("{s:o}", "datasets", rows);
    ctl_finish_list(ctl, err, answer, grid);
    return err;
}

const struct ctl_command cmd_dataset_list = {
    .name = "dataset list",
    .summary = "List the datasets",
    .help = "Example:\n  unlearnctl dataset list --json",
    .run = run_dataset_list,
};

// A line where any record has another class than 0.
static void print_classes(const Unlearn__Dataset *dataset)
{
    bool any = false;
    for (size_t risk = 1; risk < dataset->n_risk_records; risk++) {
        any = any || dataset->risk_records[risk] > 0;
    }
    if (!any) {
        return;
    }
    printf("risk classes  ");
    for (size_t risk = 0; risk < dataset->n_risk_records; risk++) {
        if (dataset->risk_records[risk] > 0) {
            printf(" %zu: %llu", risk, (unsigned long long)dataset->risk_records[risk]);
        }
    }
    putchar('\n');
}

// Records of class 0, 1, ... up to the last one that has any.
static json_t *classes_json(const Unlearn__Dataset *dataset)
{
    json_t *const array = json_array();
    size_t count = dataset->n_risk_records;
    while (count > 0 && dataset->risk_records[count - 1] == 0) {
        count--;
    }
    for (size_t risk = 0; risk < count; risk++) {
        json_array_append_new(array, json_integer((json_int_t)dataset->risk_records[risk]));
    }
    return array;
}

static void print_dataset(const Unlearn__Dataset *dataset)
{
    printf("dataset        %s%s\n", dataset->name, dataset->public_data ? " (public)" : "");
    printf("records        %llu\n", (unsigned long long)dataset->records);
    print_classes(dataset);
    printf("generations    %u, of which %u closed\n", dataset->generations,
           dataset->generations_closed);
    if (dataset->placement_key.len == KEY_BYTES) {
        char hex[2 * KEY_BYTES + 1];
        hex_put(hex, dataset->placement_key.data, KEY_BYTES);
        printf("placement key  %s\n", hex);
    }
    printf("models        ");
    for (size_t i = 0; i < dataset->n_models; i++) {
        printf(" %s", dataset->models[i]);
    }
    printf("%s\n", dataset->n_models == 0 ? " none" : "");
}

static enum err run_dataset_show(struct ctl *ctl, const void *options,
                                 const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    const Unlearn__Dataset *dataset;
    TRY(unlearn_dataset_show(ctl->client, words->texts[0], &dataset));
    struct buf text = {0};
    const enum err err = dataset->schema.len == 0 ? OK : schema_text(dataset, &text);
    if (err == OK && ctl->json) {
        json_t *const answer = dataset_json(dataset);
        json_object_set_new(answer, "risk_records", classes_json(dataset));
        json_object_set_new(answer, "placement_key", ctl_hex(dataset->placement_key));
        json_object_set_new(answer, "schema",
                            text.bytes == 0
                                ? json_null()
                                : json_loadb((const char *)text.data, text.bytes, 0, NULL));
        ctl_print(answer);
    } else if (err == OK) {
        print_dataset(dataset);
        if (text.bytes > 0) {
            printf("schema\n%.*s", (int)text.bytes, (const char *)text.data);
        }
    }
    buf_deinit(&text);
    return err;
}

const struct ctl_command cmd_dataset_show = {
    .name = "dataset show",
    .summary = "Show a dataset, its placement key and schema",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help = "Example:\n  unlearnctl dataset show adult",
    .run = run_dataset_show,
};

static enum err run_dataset_remove(struct ctl *ctl, const void *options,
                                   const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    const struct id128 uuid = text_uuid_new();
    const Unlearn__RequestState *state;
    TRY(unlearn_dataset_remove(ctl->client, words->texts[0], &uuid, &state));
    ack_check(ctl, &uuid, state->accepted);
    show_request(ctl, state);
    ack_check_history(ctl);
    return OK;
}

const struct ctl_command cmd_dataset_remove = {
    .name = "dataset remove",
    .summary = "Remove a dataset, its models and all its records",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help =
        "Nothing is asked: what is removed is gone. The request goes on by itself; unlearnctl "
        "status REQUEST shows how far it is. A public dataset that a base was pre-trained on stays "
        "until the base is retired.\n\nExample:\n  unlearnctl dataset remove adult",
    .run = run_dataset_remove,
};

// --- sample ---

struct sample {
    struct ctl_globals globals;
    struct args_u64 writers, seed;
};

static const struct args_option sample_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"writers", 1200, "N", "Handwritings, 1 to 4096 (default: 40)", ARGS_U64,
     offsetof(struct sample, writers), SAMPLE_WRITERS_MAX},
    {"seed", 1201, "S", "Other handwritings (default: 0)", ARGS_U64, offsetof(struct sample, seed),
     0},
};

static enum err run_sample(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct sample *const sample = options;
    const char *const dir = words->texts[0];
    struct sample_counts counts;
    TRY(sample_write(dir, sample->writers.given ? (uint32_t)sample->writers.value : SAMPLE_WRITERS,
                     sample->seed.value, &counts));
    if (ctl->json) {
        ctl_print(json_pack("{s:s, s:I, s:I, s:I}", "dir", dir, "writers",
                            (json_int_t)counts.writers, "train_records",
                            (json_int_t)counts.train_records, "test_records",
                            (json_int_t)counts.test_records));
        return OK;
    }
    printf("%llu digits to learn and %llu to test by %llu writers in %s\n",
           (unsigned long long)counts.train_records, (unsigned long long)counts.test_records,
           (unsigned long long)counts.writers, dir);
    printf("hint: unlearnctl import digits %s/train-images-idx3-ubyte %s/train-labels-idx1-ubyte "
           "--subjects %s/train-subjects.txt\n",
           dir, dir, dir);
    return OK;
}

const struct ctl_command cmd_sample = {
    .name = "sample",
    .summary = "Make sample data: digits in many handwritings",
    .words = "DIR",
    .words_min = 1,
    .words_max = 1,
    .help = "IDX images and labels, and a file of subjects: the writers.\n\n"
            "Example:\n  unlearnctl sample digits --writers 100",
    .options = sample_options,
    .option_count = sizeof sample_options / sizeof sample_options[0],
    .options_bytes = sizeof(struct sample),
    .run = run_sample,
};
