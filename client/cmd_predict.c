// client/cmd_predict.c: evaluate and predict: rows of files, encoded with the model's own schema,
// answered by the ensemble; and texts that it continues.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/commands.h"
#include "client/encode.h"
#include "client/grid.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/metrics.h"
#include "client/prompt.h"
#include "client/show.h"
#include "client/token.h"
#include "proto/wire.h"

struct predict {
    struct ctl_globals globals;
    struct input input;
    const char *losses;           // evaluate
    struct prompt_options prompt; // predict
};

static const struct args_option predict_options[] = {
    CTL_GLOBAL_OPTIONS,
    INPUT_OPTIONS(struct predict),
    PROMPT_OPTIONS(struct predict, prompt),
};
static const struct args_option evaluate_options[] = {
    CTL_GLOBAL_OPTIONS,
    INPUT_OPTIONS(struct predict),
    {"losses", 1200, "FILE",
     "Write the loss of each record to FILE, a line each (-ln p; texts: the mean of it over their "
     "bytes "
     "and their end; numbers: the squared difference)",
     ARGS_TEXT, offsetof(struct predict, losses), 0},
};
enum { PREDICT_OPTION_COUNT = sizeof predict_options / sizeof predict_options[0] };

// What serves the rows while they are read. predict_rows acquires, predict_close releases.
struct predict_run {
    struct ctl *ctl;
    const char *model;
    struct reader_options files;
    struct schema schema;
    uint32_t context; // Of a model of texts, in tokens; else 0.
    struct reader *reader;
    struct encode *encode;
    struct unlearn_batch batch;
    uint64_t scores; // Of texts in the batch.
    struct buf row;
    struct buf notes; // What take needs to know of each row of the batch, written by note.
    struct progress progress;
    uint64_t rows;              // Answered so far.
    Unlearn__Prediction served; // What all replies say together.
    struct metrics metrics;     // evaluate
    FILE *losses;               // evaluate, or NULL
    json_t *predictions;        // predict with --json
    bool labelled;
    void (*note)(struct predict_run *run, const struct record *record);
    // Takes the answer to a row; returns how many values that was.
    size_t (*take)(struct predict_run *run, struct cursor *notes, const float *values);
};

static bool is_text(const struct predict_run *run)
{
    return run->context > 0;
}

// Bytes of the text in the row.
static uint32_t text_bytes(const struct predict_run *run)
{
    const uint32_t column = (uint32_t)schema_text_column(&run->schema);
    return (uint32_t)schema_value(&run->schema, buf_span(&run->row), column).bytes;
}

// --- Rows out, answers in ---

static enum err send_batch(struct predict_run *run)
{
    if (run->batch.rows == 0) {
        return OK;
    }
    const Unlearn__Prediction *answer;
    const float *values;
    TRY(run->scores > 0
            ? unlearn_score(run->ctl->client, run->model, &run->batch, run->scores, &answer,
                            &values)
            : unlearn_predict(run->ctl->client, run->model, &run->batch, &answer, &values));
    unlearn_prediction_add(&run->served, answer);
    struct cursor notes = cursor_of(buf_span(&run->notes));
    for (uint32_t i = 0; i < run->batch.rows; i++) {
        values += run->take(run, &notes, values);
    }
    run->rows += run->batch.rows;
    run->scores = 0;
    unlearn_batch_clear(&run->batch);
    buf_clear(&run->notes);
    return OK;
}

// A text is answered where it fits the context with its beginning; scored in windows of it.
static enum err check_text(struct predict_run *run)
{
    if (is_text(run) && !run->labelled && text_bytes(run) >= run->context) {
        FAIL(ERR_INVALID,
             "%s: the text has %u bytes, expected at most %u: the model's context is %u tokens, of "
             "which one marks the beginning",
             reader_where(run->reader), text_bytes(run), run->context - 1, run->context);
    }
    return OK;
}

static enum err add_row(struct predict_run *run, const struct record *record)
{
    TRY(encode_record(run->encode, &run->row));
    TRY(check_text(run));
    if (!unlearn_batch_add(&run->batch, buf_span(&run->row))) {
        TRY(send_batch(run));
        if (!unlearn_batch_add(&run->batch, buf_span(&run->row))) {
            FAIL(ERR_LIMIT, "a row of %zu bytes and %u outputs does not fit a message",
                 run->row.bytes, run->batch.width);
        }
    }
    run->note(run, record);
    run->scores += is_text(run) && run->labelled ? text_bytes(run) + (uint64_t)1 : 0;
    return OK;
}

static enum err read_rows(struct predict_run *run)
{
    for (;;) {
        struct record record;
        bool more;
        TRY(interrupt_check());
        TRY(reader_next(run->reader, &record, &more));
        if (!more) {
            break;
        }
        TRY(add_row(run, &record));
        const struct reader_progress at = reader_progress(run->reader);
        progress_step(&run->progress, at.bytes_done, at.bytes_all, clock_mono_ms());
    }
    TRY(send_batch(run));
    if (run->rows == 0) {
        FAIL(ERR_INVALID, "the input has no record");
    }
    return OK;
}

static enum err predict_rows(struct predict_run *run)
{
    const Unlearn__Model *model;
    TRY(unlearn_model_show(run->ctl->client, run->model, &model));
    TRY_AS(schema_get(wire_span(model->schema), &run->schema), "the model's schema");
    run->context = model->context;
    run->batch.width = !is_text(run)   ? schema_output_width(&run->schema)
                       : run->labelled ? 0 // Scores come in as many answers as they need.
                                       : TOKEN_COUNT;
    if (is_text(run) && schema_text_column(&run->schema) < 0) {
        FAIL(ERR_CORRUPT, "a model of texts, and no column of texts in its schema");
    }
    metrics_init(&run->metrics, run->schema.class_count);
    TRY(reader_open(&run->files, &run->reader));
    // A text is its own truth, whatever label stands beside it.
    TRY(encode_open(&run->schema, run->reader, run->labelled && !is_text(run), &run->encode));
    TRY(read_rows(run));
    progress_end(&run->progress);
    return OK;
}

static void predict_close(struct predict_run *run)
{
    progress_end(&run->progress);
    encode_close(run->encode);
    reader_close(run->reader);
    unlearn_batch_deinit(&run->batch);
    metrics_deinit(&run->metrics);
    schema_deinit(&run->schema);
    buf_deinit(&run->row);
    buf_deinit(&run->notes);
    json_decref(run->predictions); // Accepts NULL.
}

static enum err start(struct predict_run *run, struct ctl *ctl, const struct predict *options,
                      const struct args_list *words, const char *what)
{
    run->ctl = ctl;
    run->model = words->texts[0];
    TRY(input_options(&options->input, words->texts + 1, words->count - 1, &run->files));
    TRY(ctl_connect(ctl));
    unlearn__prediction__init(&run->served);
    interrupt_watch();
    progress_init(&run->progress, what, "B", ctl_progress(ctl));
    return OK;
}

// --- evaluate ---

// What the truth is: a text's length, since its bytes are what was scored; else the label, which stands
// at the head of an encoded row (model/schema.h).
static void note_truth(struct predict_run *run, const struct record *record)
{
    (void)record;
    if (is_text(run)) {
        buf_u32(&run->notes, text_bytes(run));
        return;
    }
    const size_t bytes = run->schema.task == TASK_CLASSES ? sizeof(uint16_t) : sizeof(float);
    buf_put(&run->notes, span_of(run->row.data, bytes));
}

static void note_loss(const struct predict_run *run, double loss)
{
    if (run->losses != NULL) { // Whether it could be written, evaluate asks at the end.
        fprintf(run->losses, "%.9g\n", loss);
    }
}

static size_t take_evaluated(struct predict_run *run, struct cursor *notes, const float *values)
{
    if (is_text(run)) {
        const uint32_t bytes = cursor_u32(notes);
        note_loss(run, metrics_add_text(&run->metrics, values, bytes));
        return (size_t)bytes + 1;
    }
    if (run->schema.task == TASK_CLASSES) {
        const uint16_t truth = cursor_u16(notes);
        metrics_add_class(&run->metrics, values, truth);
        note_loss(run, -log(fmax((double)values[truth], 1e-12)));
        return run->schema.class_count;
    }
    const double truth = (double)cursor_f32(notes), off = (double)values[0] - truth;
    metrics_add_number(&run->metrics, (double)values[0], truth);
    note_loss(run, off * off);
    return 1;
}

// An object for each class that occurs.
static json_t *per_class_json(const struct predict_run *run)
{
    json_t *const rows = json_array();
    for (uint32_t i = 0; i < run->schema.class_count; i++) {
        if (run->metrics.class_rows[i] > 0) {
            json_t *const row = json_pack("{s:s, s:I}", "label", run->schema.classes[i], "records",
                                          (json_int_t)run->metrics.class_rows[i]);
            json_object_set_new(row, "accuracy",
                                ctl_real(metrics_class_accuracy(&run->metrics, i)));
            json_array_append_new(rows, row);
        }
    }
    return rows;
}

static json_t *evaluation_json(const struct predict_run *run)
{
    const struct metrics *const metrics = &run->metrics;
    json_t *const answer =
        json_pack("{s:s, s:I}", "model", run->model, "records", (json_int_t)metrics->rows);
    if (is_text(run)) {
        json_object_set_new(answer, "bytes", json_integer((json_int_t)metrics->bytes));
        json_object_set_new(answer, "loss", ctl_real(metrics_token_loss(metrics)));
        json_object_set_new(answer, "bits_per_byte", ctl_real(metrics_bits_per_byte(metrics)));
    } else if (run->schema.task == TASK_CLASSES) {
        json_object_set_new(answer, "loss", ctl_real(metrics_loss(metrics)));
        json_object_set_new(answer, "accuracy", ctl_real(metrics_accuracy(metrics)));
        json_object_set_new(answer, "ece", ctl_real(metrics_ece(metrics)));
        json_object_set_new(answer, "per_class", per_class_json(run));
    } else {
        json_object_set_new(answer, "rmse", ctl_real(metrics_rmse(metrics)));
        json_object_set_new(answer, "mae", ctl_real(metrics_mae(metrics)));
        json_object_set_new(answer, "r2", ctl_real(metrics_r2(metrics)));
    }
    show_served(&run->served, answer);
    return answer;
}

static void print_evaluation(const struct predict_run *run)
{
    const struct metrics *const metrics = &run->metrics;
    printf("records   %llu\n", (unsigned long long)metrics->rows);
    if (is_text(run)) {
        printf("bytes     %llu\nloss      %.4f\nbits/byte %.4f\n",
               (unsigned long long)metrics->bytes, metrics_token_loss(metrics),
               metrics_bits_per_byte(metrics));
    } else if (run->schema.task == TASK_CLASSES) {
        printf("accuracy  %.4f\nloss      %.4f\nece       %.4f\n", metrics_accuracy(metrics),
               metrics_loss(metrics), metrics_ece(metrics));
    } else {
        printf("rmse      %.6g\nmae       %.6g\nr2        %.4f\n", metrics_rmse(metrics),
               metrics_mae(metrics), metrics_r2(metrics));
    }
    printf("answered  ");
    show_served_line(&run->served, stdout);
    if (is_text(run) || run->schema.task != TASK_CLASSES) {
        return;
    }
    putchar('\n');
    struct grid *const grid = grid_new("CLASS|>RECORDS|>ACCURACY");
    for (uint32_t i = 0; i < run->schema.class_count; i++) {
        if (metrics->class_rows[i] > 0) {
            grid_cell(grid, "%s", run->schema.classes[i]);
            grid_cell(grid, "%llu", (unsigned long long)metrics->class_rows[i]);
            grid_cell(grid, "%.4f", metrics_class_accuracy(metrics, i));
        }
    }
    grid_print(grid, stdout);
    grid_free(grid);
}

static enum err evaluate(struct predict_run *run)
{
    TRY(predict_rows(run));
    if (run->losses != NULL && (fflush(run->losses) != 0 || ferror(run->losses) != 0)) {
        FAIL(ERR_IO, "the file of losses could not be written");
    }
    if (run->ctl->json) {
        ctl_print(evaluation_json(run));
    } else {
        print_evaluation(run);
    }
    return OK;
}

static enum err run_evaluate(struct ctl *ctl, const void *options, const struct args_list *words)
{
    struct predict_run run = {.labelled = true, .note = note_truth, .take = take_evaluated};
    const struct predict *const predict = options;
    TRY(start(&run, ctl, options, words, "evaluating"));
    enum err err = OK;
    if (predict->losses != NULL && (run.losses = fopen(predict->losses, "we")) == NULL) {
        err = err_raise(ERR_IO, "cannot write %s: %s", predict->losses, strerror(errno));
    }
    err = err != OK ? err : evaluate(&run);
    if (run.losses != NULL && fclose(run.losses) != 0 && err == OK) {
        err = err_raise(ERR_IO, "cannot write %s: %s", predict->losses, strerror(errno));
    }
    predict_close(&run);
    return err;
}

const struct ctl_command cmd_evaluate = {
    .name = "evaluate",
    .summary = "Measure a model on labelled data",
    .words = "MODEL FILE...",
    .words_min = 2,
    .words_max = SIZE_MAX,
    .help =
        "The files are read as import reads them; --id and --subject columns are left aside.\n\n"
        "Classes: loss (mean -ln p), accuracy, ece (15 bins), and accuracy by class. Numbers: "
        "rmse, mae, r2. Texts: every byte and each end of a text is predicted from what stands "
        "before "
        "it; loss is the mean -ln p of these, bits_per_byte the sum of their -log2 p divided by "
        "the "
        "number of bytes.\n\n"
        "Examples:\n"
        "  unlearnctl evaluate income adult-test.csv\n"
        "  unlearnctl evaluate digits images.gz labels.gz --skip 8000\n"
        "  unlearnctl evaluate bard new.jsonl --subject subject --id id",
    .options = evaluate_options,
    .option_count = sizeof evaluate_options / sizeof evaluate_options[0],
    .options_bytes = sizeof(struct predict),
    .run = run_evaluate,
};

// --- predict ---

static void note_id(struct predict_run *run, const struct record *record)
{
    buf_u8(&run->notes, (uint8_t)record->id.bytes);
    buf_put(&run->notes, record->id);
}

// The most probable class or token of a row; its label is borrowed, or stands in `text`. A number has
// none: NULL.
static const char *top_label(const struct predict_run *run, const float *values,
                             char text[static TOKEN_LABEL_BYTES], double *probability_out)
{
    if (!is_text(run) && run->schema.task != TASK_CLASSES) {
        return NULL;
    }
    const uint32_t top = metrics_top(values, run->batch.width);
    *probability_out = (double)values[top];
    if (!is_text(run)) {
        return run->schema.classes[top];
    }
    token_label(top, text);
    return text;
}

static size_t take_json(struct predict_run *run, struct cursor *notes, const float *values)
{
    (void)notes;
    char text[TOKEN_LABEL_BYTES];
    double probability;
    const char *const label = top_label(run, values, text, &probability);
    json_array_append_new(run->predictions,
                          label == NULL ? json_pack("{s:o}", "value", ctl_real((double)values[0]))
                                        : json_pack("{s:s, s:o}", "label", label, "probability",
                                                    ctl_real(probability)));
    return run->batch.width;
}

// People get a line a row as soon as it is known.
static size_t take_line(struct predict_run *run, struct cursor *notes, const float *values)
{
    char text[TOKEN_LABEL_BYTES];
    double probability;
    const char *const label = top_label(run, values, text, &probability);
    const struct span id = cursor_take(notes, cursor_u8(notes));
    progress_end(&run->progress);
    printf("%.*s\t", (int)id.bytes, (const char *)id.data);
    if (label != NULL) {
        printf("%s\t%.4f\n", label, probability);
    } else {
        printf("%.9g\n", (double)values[0]);
    }
    return run->batch.width;
}

static enum err predict(struct predict_run *run)
{
    TRY(predict_rows(run));
    if (run->ctl->json) {
        json_t *const answer =
            json_pack("{s:s, s:O}", "model", run->model, "predictions", run->predictions);
        show_served(&run->served, answer);
        ctl_print(answer);
    } else {
        fprintf(stderr, "%llu rows, ", (unsigned long long)run->rows);
        show_served_line(&run->served, stderr);
    }
    return OK;
}

static enum err run_predict(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct predict *const given = options;
    const struct prompt_options *const prompt = &given->prompt;
    if (prompt->text == NULL && words->count == 1) {
        FAIL(ERR_INVALID, "neither a FILE nor --prompt is given, expected one of them");
    }
    TRY(prompt_check(prompt, words->count - 1));
    if (prompt->text != NULL) {
        return prompt_run(ctl, words->texts[0], prompt);
    }
    struct predict_run run = {.note = note_id, .take = ctl->json ? take_json : take_line};
    TRY(start(&run, ctl, options, words, "predicting"));
    run.predictions = json_array();
    const enum err err = predict(&run);
    predict_close(&run);
    return err;
}

const struct ctl_command cmd_predict = {
    .name = "predict",
    .summary = "Predict the rows of files, or continue a text",
    .words = "MODEL [FILE...]",
    .words_min = 1,
    .words_max = SIZE_MAX,
    .help =
        "The files are read as import reads them; a label column may be missing and is not "
        "looked at. A line a row: its id, the most probable class and its probability (or the "
        "number), separated by tabs. Of texts it is what follows them: a byte, or <end>.\n\n"
        "With --prompt a model of texts continues TEXT by N tokens (bytes), or fewer where the "
        "text "
        "ends: always with the most probable one, or with --seed with one drawn by its "
        "probability. A "
        "prompt is as long as the model's context at most; once the text is longer, its end stands "
        "for "
        "it. Bytes that are not UTF-8 and control characters are shown as \\x1b, a backslash as "
        "\\\\.\n\n"
        "Examples:\n"
        "  unlearnctl predict income people.csv\n"
        "  unlearnctl predict digits images.gz --limit 10 --json\n"
        "  unlearnctl predict bard --prompt 'To be, or ' --tokens 200 --seed 7 --temperature 0.8",
    .options = predict_options,
    .option_count = PREDICT_OPTION_COUNT,
    .options_bytes = sizeof(struct predict),
    .run = run_predict,
};
