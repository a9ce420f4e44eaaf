// client/propose.c: see propose.h.
//
// Two passes. The first tells numbers from texts, the second collects the categories of the columns
// that turned out not to be numbers. One pass would have to keep the texts of every numeric column
// until a word in the last row may make them categories.
#include "client/propose.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/format.h"
#include "client/textset.h"

enum {
    CATEGORY_BYTES_MAX = 64, // A longer string is prose.
    MANY_VALUES = 50,        // From here on, mostly different texts are no categories.
    CLASS_NUMBERS_MAX = 100, // More different whole numbers are a quantity.
    VOCABULARY_BYTES_MAX = 4 * 1024 * 1024, // While collecting; a schema holds far less.
    STEP_ROWS = 256,
};

struct facts {
    uint64_t present;     // Rows with a value.
    bool missing;         // FLOATS: a NaN was among the values.
    bool text;            // A value that is no number.
    bool string;          // A JSON string.
    bool prose;           // A text that can be no category, where a column may be text.
    uint32_t width;       // SPARSE: greatest index + 1.
    bool overflow;        // Second pass: too many texts; the set is empty.
    struct textset texts; // Second pass.
};

struct labels {
    bool text, fraction;
    struct textset texts; // As written, at most LIMIT_CLASSES ...
    bool texts_overflow;
    struct textset whole; // ... and as whole numbers, at most CLASS_NUMBERS_MAX.
    bool whole_overflow;
    double max;
};

struct survey {
    struct reader *reader;
    const char *text;    // The column that is said to be text, or NULL.
    struct facts *facts; // [facts_count]: one for each column of the table so far
    uint32_t facts_count;
    struct labels labels;
    uint64_t records;
    const struct propose_watch *watch;
    uint32_t pass; // 0 or 1
};

static void survey_deinit(struct survey *survey)
{
    for (uint32_t i = 0; i < survey->facts_count; i++) {
        textset_deinit(&survey->facts[i].texts);
    }
    mem_free(survey->facts);
    textset_deinit(&survey->labels.texts);
    textset_deinit(&survey->labels.whole);
    reader_close(survey->reader);
}

static void cover_columns(struct survey *survey)
{
    const uint32_t count = reader_table(survey->reader)->column_count;
    if (count > survey->facts_count) {
        survey->facts = mem_resize(survey->facts, count, sizeof *survey->facts);
        memset(survey->facts + survey->facts_count, 0,
               (count - survey->facts_count) * sizeof *survey->facts);
        survey->facts_count = count;
    }
}

static bool is_named_text(const struct survey *survey, uint32_t column)
{
    return survey->text != NULL &&
           strcmp(reader_table(survey->reader)->columns[column].name, survey->text) == 0;
}

static void step(const struct survey *survey)
{
    if (survey->watch != NULL && survey->watch->step != NULL) {
        const struct reader_progress progress = reader_progress(survey->reader);
        survey->watch->step(survey->watch->context,
                            survey->pass * progress.bytes_all + progress.bytes_done,
                            2 * progress.bytes_all);
    }
}

// --- First pass: numbers or texts ---

static enum err note_number(double number)
{
    if (fabs(number) > (double)FLT_MAX) {
        FAIL(ERR_INVALID, "a number is beyond the range of float32");
    }
    return OK;
}

static bool is_prose(struct span text)
{
    return text.bytes > CATEGORY_BYTES_MAX || !text_is_clean(text);
}

static enum err note_value(const struct survey *survey, struct facts *facts,
                           const struct value *value)
{
    double number;
    facts->present += value->kind != VALUE_MISSING;
    switch (value->kind) {
    case VALUE_MISSING:
    case VALUE_PIXELS:
        break;
    case VALUE_FIELD:
    case VALUE_NUMBER:
        if (table_is_number(value, &number)) {
            return note_number(number);
        }
        facts->text = true;
        facts->prose = facts->prose || (reader_label(survey->reader) < 0 && is_prose(value->text));
        break;
    case VALUE_STRING:
        facts->text = facts->string = true;
        facts->prose = facts->prose || is_prose(value->text);
        break;
    case VALUE_FLOATS:
        for (uint32_t i = 0; i < value->count && !facts->missing; i++) {
            facts->missing = isnan(value->floats[i]);
        }
        break;
    case VALUE_SPARSE:
        if (value->count > 0 && value->index[value->count - 1] >= facts->width) {
            facts->width = value->index[value->count - 1] + 1;
        }
        break;
    }
    return OK;
}

// Adds to a set that may be full: then *overflow is set and nothing is added any more.
static enum err add_or_overflow(struct textset *set, const char *what, struct span text,
                                size_t count_max, bool *overflow)
{
    if (*overflow) {
        return OK;
    }
    const enum err err = textset_add(set, what, text, count_max);
    *overflow = err == ERR_LIMIT;
    return *overflow ? OK : err;
}

static enum err note_label(struct labels *labels, const struct value *value)
{
    if (value->kind == VALUE_MISSING || value->text.bytes == 0) {
        FAIL(ERR_INVALID, "the label is missing");
    }
    double number;
    if (!table_is_number(value, &number)) {
        labels->text = true;
    } else {
        TRY(note_number(number));
        char digits[TABLE_NUMBER_BYTES];
        const struct span text = table_number_text(number, digits);
        labels->fraction = labels->fraction || trunc(number) != number;
        labels->max = number > labels->max ? number : labels->max;
        TRY(add_or_overflow(&labels->whole, "the label", text, CLASS_NUMBERS_MAX,
                            &labels->whole_overflow));
    }
    return add_or_overflow(&labels->texts, "the label", value->text, LIMIT_CLASSES,
                           &labels->texts_overflow);
}

static enum err note_row(struct survey *survey)
{
    const struct table *const table = reader_table(survey->reader);
    cover_columns(survey);
    for (uint32_t i = 0; i < table->column_count; i++) {
        if (reader_is_feature(survey->reader, i) && survey->text == NULL) {
            TRY_AS(note_value(survey, &survey->facts[i], &table->values[i]), "column %u \"%s\"",
                   i + 1, table->columns[i].name);
        }
    }
    const int64_t label = reader_label(survey->reader);
    if (label >= 0) {
        TRY_AS(note_label(&survey->labels, &table->values[label]), "column \"%s\"",
               table->columns[label].name);
    }
    return OK;
}

// --- Second pass: categories ---

static bool wants_texts(const struct survey *survey, uint32_t column)
{
    const struct facts *const facts = &survey->facts[column];
    return facts->text && !facts->prose && !facts->overflow;
}

static enum err collect_row(struct survey *survey)
{
    const struct table *const table = reader_table(survey->reader);
    size_t bytes = 0;
    cover_columns(survey);
    for (uint32_t i = 0; i < table->column_count; i++) {
        struct facts *const facts = &survey->facts[i];
        const struct span text = table->values[i].text;
        if (!reader_is_feature(survey->reader, i) || !wants_texts(survey, i)) {
            continue;
        }
        if (table->values[i].kind != VALUE_MISSING &&
            text.bytes > 0) { // An empty string is a missing category.
            TRY_AS(add_or_overflow(&facts->texts, "the name of a category", text, LIMIT_CATEGORIES,
                                   &facts->overflow),
                   "column %u \"%s\"", i + 1, table->columns[i].name);
        }
        if (facts->overflow) {
            textset_deinit(&facts->texts);
        }
        bytes += facts->texts.texts.bytes;
    }
    if (bytes > VOCABULARY_BYTES_MAX) {
        FAIL(ERR_LIMIT,
             "the categories of all columns take more than %d bytes; give --schema FILE "
             "in which columns are \"ignored\"",
             (int)VOCABULARY_BYTES_MAX);
    }
    return OK;
}

// --- Both ---

static enum err run_pass(struct survey *survey, const struct reader_options *options,
                         enum err (*take)(struct survey *))
{
    reader_close(survey->reader);
    survey->reader = NULL;
    TRY(reader_open(options, &survey->reader));
    struct record record;
    bool more;
    TRY(reader_next(survey->reader, &record, &more));
    for (uint64_t row = 0; more; row++) {
        TRY_AS(take(survey), "%s", reader_where(survey->reader));
        if (row % STEP_ROWS == 0) {
            step(survey);
        }
        TRY(reader_next(survey->reader, &record, &more));
    }
    survey->records = reader_progress(survey->reader).records;
    return OK;
}

static bool needs_second_pass(const struct survey *survey)
{
    for (uint32_t i = 0; i < survey->facts_count; i++) {
        if (wants_texts(survey, i)) {
            return true;
        }
    }
    return false;
}

// --- From facts to columns ---

static bool are_categories(const struct facts *facts)
{
    return !facts->prose && !facts->overflow &&
           (facts->present < MANY_VALUES || facts->texts.count <= facts->present / 2);
}

static enum err propose_texts(const struct survey *survey, const struct facts *facts,
                              struct column *column)
{
    if (are_categories(facts)) {
        column->kind = COLUMN_CATEGORY;
        column->categories = textset_sorted(&facts->texts);
        column->category_count = (uint32_t)facts->texts.count;
        return OK;
    }
    if (facts->string || reader_label(survey->reader) < 0) {
        column->kind = COLUMN_TEXT;
        return OK;
    }
    if (facts->overflow) {
        FAIL(ERR_INVALID,
             "more than %d different texts are no categories; if it names the record or the person "
             "give --id or --subject, else --schema FILE in which it is \"ignored\"",
             (int)LIMIT_CATEGORIES);
    }
    FAIL(ERR_INVALID,
         "%zu different texts in %llu rows are no categories; if it names the record or the person "
         "give --id or --subject, else --schema FILE in which it is \"ignored\"",
         facts->texts.count, (unsigned long long)facts->present);
}

static enum err propose_column(const struct survey *survey, uint32_t index, struct column *column)
{
    const struct table_column *const from = &reader_table(survey->reader)->columns[index];
    const struct facts *const facts = &survey->facts[index];
    *column = (struct column){.name = mem_text(from->name), .width = 1, .scale = 1};
    if (survey->text != NULL || facts->present == 0) {
        column->kind = is_named_text(survey, index) ? COLUMN_TEXT : COLUMN_IGNORED;
        return OK;
    }
    if (facts->text) {
        return propose_texts(survey, facts, column);
    }
    column->kind = COLUMN_NUMERIC;
    column->standardise = reader_format(survey->reader)->standardise;
    if (from->kind == VALUE_PIXELS) {
        column->kind = COLUMN_PIXELS;
        column->standardise = false;
        column->rows = from->rows;
        column->cols = from->cols;
        column->width = from->width;
    } else if (from->kind == VALUE_SPARSE) {
        column->width = facts->width > 0 ? facts->width : 1;
    } else {
        column->width = from->width;
        column->missing = facts->missing || facts->present < survey->records;
    }
    return OK;
}

static int compare_columns(const void *a, const void *b)
{
    return strcmp(((const struct column *)a)->name, ((const struct column *)b)->name);
}

static void ignore(struct column *column)
{
    for (uint32_t i = 0; i < column->category_count; i++) {
        mem_free(column->categories[i]);
    }
    mem_free(column->categories);
    *column = (struct column){.name = column->name, .kind = COLUMN_IGNORED, .width = 1, .scale = 1};
}

// Without a label a text is what there is to learn: one, and nothing beside it.
static enum err keep_one_text(struct schema *schema)
{
    struct column *text = NULL;
    for (uint32_t i = 0; i < schema->column_count; i++) {
        struct column *const column = &schema->columns[i];
        if (column->kind == COLUMN_TEXT && text != NULL) {
            FAIL(ERR_INVALID,
                 "columns \"%.60s\" and \"%.60s\" both hold texts, expected one to learn: name it "
                 "by "
                 "--text; if one names the record or the person give --id or --subject; to learn "
                 "something else give --label",
                 text->name, column->name);
        }
        text = column->kind == COLUMN_TEXT ? column : text;
    }
    for (uint32_t i = 0; text != NULL && i < schema->column_count; i++) {
        if (&schema->columns[i] != text) {
            ignore(&schema->columns[i]);
        }
    }
    return OK;
}

static enum err propose_columns(const struct survey *survey, struct schema *schema)
{
    schema->columns = mem_alloc(survey->facts_count, sizeof *schema->columns);
    for (uint32_t i = 0; i < survey->facts_count; i++) {
        if (reader_is_feature(survey->reader, i)) {
            struct column *const column = &schema->columns[schema->column_count++];
            TRY_AS(propose_column(survey, i, column), "column %u \"%s\"", i + 1, column->name);
        }
    }
    if (survey->text == NULL && reader_label(survey->reader) < 0) {
        TRY(keep_one_text(schema));
    }
    if (reader_format(survey->reader)->open_columns) {
        qsort(schema->columns, schema->column_count, sizeof *schema->columns, compare_columns);
    }
    return OK;
}

// --- The label ---

static int compare_whole(const void *a, const void *b)
{
    const long long x = strtoll(*(char *const *)a, NULL, 10);
    const long long y = strtoll(*(char *const *)b, NULL, 10);
    return (x > y) - (x < y);
}

static void count_from_zero(uint32_t count, struct schema *schema)
{
    schema->classes = mem_alloc(count, sizeof *schema->classes);
    for (uint32_t i = 0; i < count; i++) {
        char digits[TABLE_NUMBER_BYTES];
        (void)table_number_text(i, digits);
        schema->classes[i] = mem_text(digits);
    }
    schema->class_count = count;
}

static enum err propose_label(const struct survey *survey, struct schema *schema)
{
    const struct labels *const labels = &survey->labels;
    const int64_t column = reader_label(survey->reader);
    if (column < 0) {
        schema->task = TASK_NONE;
        schema->label = mem_text("");
        return OK;
    }
    schema->label = mem_text(reader_table(survey->reader)->columns[column].name);
    schema->task = TASK_CLASSES;
    if (reader_format(survey->reader)->classes_from_zero) {
        count_from_zero((uint32_t)labels->max + 1, schema);
    } else if (labels->text) {
        if (labels->texts_overflow) {
            FAIL(ERR_LIMIT,
                 "label \"%s\" has more than %d different texts, expected classes or "
                 "numbers",
                 schema->label, (int)LIMIT_CLASSES);
        }
        schema->classes = textset_sorted(&labels->texts);
        schema->class_count = (uint32_t)labels->texts.count;
    } else if (!labels->fraction && !labels->whole_overflow) {
        schema->classes = textset_sorted(&labels->whole);
        schema->class_count = (uint32_t)labels->whole.count;
        qsort(schema->classes, schema->class_count, sizeof *schema->classes, compare_whole);
    } else {
        schema->task = TASK_NUMBER;
        schema->label_standardise = true;
    }
    return OK;
}

// The column that is said to be text is there, and can be.
static enum err check_named_text(const struct survey *survey)
{
    const struct table *const table = reader_table(survey->reader);
    const int64_t column = table_find(table, span_text(survey->text), 0);
    if (column < 0) {
        char names[512];
        table_list(table, names, sizeof names);
        FAIL(ERR_INVALID, "no column \"%.60s\" for --text; there is %s", survey->text, names);
    }
    if (!reader_is_feature(survey->reader, (uint32_t)column)) {
        FAIL(ERR_INVALID, "column \"%.60s\" is both --text and %s, expected two columns",
             survey->text, column == reader_label(survey->reader) ? "the label" : "id or subject");
    }
    if (table->columns[column].kind != VALUE_FIELD) {
        FAIL(ERR_INVALID, "column \"%.60s\" holds arrays, expected texts", survey->text);
    }
    if (reader_label(survey->reader) >= 0) {
        FAIL(ERR_INVALID,
             "there is a text to learn, \"%.60s\", and a label, \"%.60s\", expected one of them",
             survey->text, table->columns[reader_label(survey->reader)].name);
    }
    return OK;
}

static enum err propose(struct survey *survey, const struct reader_options *options,
                        struct schema *schema)
{
    TRY(run_pass(survey, options, note_row));
    if (survey->text != NULL) {
        TRY_AS(check_named_text(survey), "%s", options->files[0]);
    }
    if (survey->records == 0) {
        FAIL(ERR_INVALID, "%s gives no record, expected at least one to propose a schema",
             options->files[0]);
    }
    if (needs_second_pass(survey)) {
        survey->pass = 1;
        TRY(run_pass(survey, options, collect_row));
    }
    TRY_AS(propose_columns(survey, schema), "%s", options->files[0]);
    TRY_AS(propose_label(survey, schema), "%s", options->files[0]);
    return schema_check(schema);
}

enum err propose_schema(const struct reader_options *options, const char *text,
                        const struct propose_watch *watch, struct schema *schema_out)
{
    *schema_out = (struct schema){0};
    struct survey survey = {.text = text, .watch = watch};
    const enum err err = propose(&survey, options, schema_out);
    survey_deinit(&survey);
    if (err != OK) {
        schema_deinit(schema_out);
    }
    return err;
}
