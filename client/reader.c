// client/reader.c: see reader.h. The table of formats, and the rules that all formats share.
#include "client/reader.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/format.h"
#include "client/riskfile.h"
#include "client/source.h"
#include "client/textset.h"

// A new format is one more file and one more row.
static const struct format *const formats[] = {&csv_format, &idx_format, &npy_format,
                                               &libsvm_format, &jsonl_format};
enum { FORMAT_COUNT = sizeof formats / sizeof formats[0], WHERE_BYTES = 512 };

struct reader {
    struct reader_options options;
    const struct format *format;
    void *state; // The format's.
    struct table table;
    int64_t label, subject, id, risk; // Columns, or -1.
    struct source *subjects;          // NULL: none
    struct buf subject_line;          // Of the current row.
    struct textset except;
    struct riskfile risks;
    struct buf id_text; // Prefix and id of the current record.
    struct reader_progress progress;
    bool ended;
    char where[WHERE_BYTES];
};

const char *reader_formats(void)
{
    return "csv, idx, npy, libsvm, jsonl";
}

// --- Which format ---

static bool ends_with(const char *path, const char *extension)
{
    const size_t path_bytes = strlen(path), extension_bytes = strlen(extension);
    const size_t tail = strcmp(path + (path_bytes > 3 ? path_bytes - 3 : 0), ".gz") == 0 ? 3 : 0;
    return path_bytes >= extension_bytes + tail &&
           memcmp(path + path_bytes - tail - extension_bytes, extension, extension_bytes) == 0;
}

// The first bytes decide where a format has a mark of its own, then the name.
static enum err guess_format(const char *path, const struct format **format_out)
{
    uint8_t head[16];
    size_t got;
    TRY(source_head(path, head, sizeof head, &got));
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        const bool marked =
            formats[i]->recognises != NULL && formats[i]->recognises(span_of(head, got));
        if (ends_with(path, formats[i]->extension) && (marked || formats[i]->recognises == NULL)) {
            *format_out = formats[i];
            return OK;
        }
    }
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        if (formats[i]->recognises != NULL && formats[i]->recognises(span_of(head, got))) {
            *format_out = formats[i];
            return OK;
        }
    }
    for (size_t i = 0; i < FORMAT_COUNT; i++) { // Its own reader says best what is wrong with it.
        if (ends_with(path, formats[i]->extension)) {
            *format_out = formats[i];
            return OK;
        }
    }
    FAIL(ERR_INVALID, "cannot tell the format of %s: expected --format with one of %s", path,
         reader_formats());
}

static enum err choose_format(const struct reader_options *options, const struct format **out)
{
    if (options->format == NULL) {
        return guess_format(options->files[0], out);
    }
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        if (strcmp(options->format, formats[i]->name) == 0) {
            *out = formats[i];
            return OK;
        }
    }
    FAIL(ERR_INVALID, "unknown format \"%.40s\", expected one of %s", options->format,
         reader_formats());
}

// --- Opening ---

static enum err find_column(struct reader *reader, const char *option, const char *name,
                            int64_t *column_out)
{
    *column_out = -1;
    if (name == NULL) {
        return OK;
    }
    *column_out = table_find(&reader->table, span_text(name), 0);
    if (*column_out >= 0) {
        return OK;
    }
    if (reader->format->open_columns) { // It may come with any line.
        TRY_AS(table_add(&reader->table, span_text(name)), "%s", option);
        *column_out = reader->table.column_count - 1;
        return OK;
    }
    char names[WHERE_BYTES];
    table_list(&reader->table, names, sizeof names);
    FAIL(ERR_INVALID, "%s has no column \"%.60s\" for %s; it has %s", reader->table.file, name,
         option, names);
}

static enum err find_columns(struct reader *reader)
{
    const struct reader_options *const options = &reader->options;
    TRY(find_column(reader, "--label", options->label, &reader->label));
    TRY(find_column(reader, "--subject", options->subject, &reader->subject));
    TRY(find_column(reader, "--id", options->id, &reader->id));
    TRY(find_column(reader, "--risk", options->risk, &reader->risk));
    if (reader->label < 0 && reader->format->label != NULL) {
        reader->label = table_find(&reader->table, span_text(reader->format->label), 0);
    }
    if (reader->label >= 0 && (reader->label == reader->subject || reader->label == reader->id ||
                               reader->label == reader->risk)) {
        FAIL(ERR_INVALID, "column \"%.60s\" is both the label and the %s, expected two columns",
             reader->table.columns[reader->label].name,
             reader->label == reader->id        ? "id"
             : reader->label == reader->subject ? "subject"
                                                : "risk class");
    }
    return OK;
}

static enum err open_inner(struct reader *reader)
{
    const struct reader_options *const options = &reader->options;
    if (options->subject != NULL && options->subjects_file != NULL) {
        FAIL(ERR_INVALID, "--subject and --subjects are both given, expected one of them");
    }
    if (options->risk != NULL && options->risk_file != NULL) {
        FAIL(ERR_INVALID, "--risk and --risk-file are both given, expected one of them");
    }
    if (options->risk_file != NULL) {
        TRY(riskfile_read(&reader->risks, options->risk_file));
    }
    if (options->except_file != NULL) {
        TRY(textset_read(&reader->except, "the id", options->except_file, LIMIT_EXCEPT_IDS));
        reader->progress.except_ids = reader->except.count;
    }
    if (options->subjects_file != NULL) {
        TRY(source_open(options->subjects_file, &reader->subjects));
    }
    for (size_t i = 0; i < options->file_count; i++) {
        reader->progress.bytes_all += source_file_bytes(options->files[i]);
    }
    TRY(choose_format(options, &reader->format));
    TRY(reader->format->open(options->files, options->file_count, &reader->table, &reader->state));
    return find_columns(reader);
}

enum err reader_open(const struct reader_options *options, struct reader **reader_out)
{
    *reader_out = NULL;
    if (options->file_count == 0) {
        FAIL(ERR_INVALID, "no input file is given, expected at least one");
    }
    struct reader *const reader = mem_alloc(1, sizeof *reader);
    reader->options = *options;
    reader->label = reader->subject = reader->id = reader->risk = -1;
    const enum err err = open_inner(reader);
    if (err != OK) {
        reader_close(reader);
        return err;
    }
    *reader_out = reader;
    return OK;
}

void reader_close(struct reader *reader)
{
    if (reader == NULL) {
        return;
    }
    if (reader->state != NULL) {
        reader->format->close(reader->state);
    }
    source_close(reader->subjects);
    table_deinit(&reader->table);
    textset_deinit(&reader->except);
    riskfile_deinit(&reader->risks);
    buf_deinit(&reader->subject_line);
    buf_deinit(&reader->id_text);
    mem_free(reader);
}

// --- Rows ---

// Reads the subjects file's line for the row that was just read.
static enum err next_subject(struct reader *reader)
{
    bool more;
    TRY(source_line(reader->subjects, &reader->subject_line, &more));
    if (!more) {
        FAIL(ERR_INVALID, "%s has %llu lines, expected one for each row: %s has none",
             reader->subjects->path, (unsigned long long)reader->subjects->line,
             reader_where(reader));
    }
    return OK;
}

static enum err end_of_rows(struct reader *reader)
{
    reader->ended = true;
    if (reader->subjects == NULL) {
        return OK;
    }
    bool more;
    TRY(source_line(reader->subjects, &reader->subject_line, &more));
    if (more) {
        FAIL(ERR_INVALID, "%s has more lines than the input has rows, expected %llu",
             reader->subjects->path, (unsigned long long)reader->progress.rows);
    }
    return OK;
}

// Text of a column that names something; 0 bytes when missing.
static struct span name_text(const struct reader *reader, int64_t column)
{
    const struct value *const value = &reader->table.values[column];
    return value->kind == VALUE_FIELD || value->kind == VALUE_STRING || value->kind == VALUE_NUMBER
               ? value->text
               : span_of("", 0);
}

static enum err make_id(struct reader *reader, uint64_t row)
{
    buf_clear(&reader->id_text);
    if (reader->options.id_prefix != NULL) {
        buf_put(&reader->id_text, span_text(reader->options.id_prefix));
    }
    if (reader->id >= 0) {
        const struct span text = name_text(reader, reader->id);
        if (text.bytes == 0) {
            FAIL(ERR_INVALID, "column \"%.60s\" is empty, expected an id", reader->options.id);
        }
        buf_put(&reader->id_text, text);
    } else {
        char digits[24];
        const int bytes = snprintf(digits, sizeof digits, "%llu", (unsigned long long)row);
        buf_put(&reader->id_text, span_of(digits, (size_t)bytes));
    }
    return text_check_name("the id", buf_span(&reader->id_text));
}

// The class of the record's subject.
static enum err find_class(const struct reader *reader, struct record *record)
{
    record->risk = RISK_UNDECLARED;
    if (reader->options.risk_file != NULL) {
        record->risk = riskfile_class(&reader->risks,
                                      record->subject.bytes > 0 ? record->subject : record->id);
    }
    if (reader->risk < 0) {
        return OK;
    }
    const struct span given = name_text(reader, reader->risk);
    char text[4] = "?"; // What is too long is no class.
    if (given.bytes == 0) {
        return OK;
    }
    if (given.bytes < sizeof text) {
        memcpy(text, given.data, given.bytes);
        text[given.bytes] = '\0';
    }
    TRY_AS(risk_class(text, &record->risk), "column \"%.60s\"", reader->options.risk);
    return OK;
}

static enum err make_record(struct reader *reader, uint64_t row, struct record *record_out)
{
    TRY(make_id(reader, row));
    *record_out = (struct record){.row = row, .id = buf_span(&reader->id_text)};
    if (reader->subject >= 0) {
        record_out->subject = name_text(reader, reader->subject);
    } else if (reader->subjects != NULL) {
        record_out->subject = buf_span(&reader->subject_line);
    }
    if (record_out->subject.bytes > 0) {
        TRY(text_check_name("the subject", record_out->subject));
    }
    return find_class(reader, record_out);
}

enum err reader_next(struct reader *reader, struct record *record_out, bool *more_out)
{
    *more_out = false;
    const struct reader_options *const options = &reader->options;
    struct reader_progress *const progress = &reader->progress;
    while (!reader->ended) {
        if (options->limit > 0 && progress->rows >= options->skip &&
            progress->rows - options->skip >= options->limit) {
            reader->ended = true; // What follows is not looked at, and neither are its subjects.
            return OK;
        }
        bool more;
        TRY(reader->format->next(reader->state, &reader->table, &more));
        progress->bytes_done = reader->table.bytes_done;
        if (!more) {
            return end_of_rows(reader);
        }
        const uint64_t row = progress->rows++;
        if (reader->subjects != NULL) {
            TRY(next_subject(reader));
        }
        if (row < options->skip) {
            progress->skipped++;
            continue;
        }
        TRY_AS(make_record(reader, row, record_out), "%s", reader_where(reader));
        if (textset_has(&reader->except, record_out->id)) {
            progress->excepted++;
            continue;
        }
        progress->records++;
        *more_out = true;
        return OK;
    }
    return OK;
}

// --- What the others see ---

const struct table *reader_table(const struct reader *reader)
{
    return &reader->table;
}

int64_t reader_label(const struct reader *reader)
{
    return reader->label;
}

bool reader_is_feature(const struct reader *reader, uint32_t column)
{
    return column != reader->label && column != reader->subject && column != reader->id &&
           column != reader->risk;
}

void reader_use_label(struct reader *reader, const char *name)
{
    if (reader->label >= 0 || name[0] == '\0') {
        return;
    }
    const int64_t column = table_find(&reader->table, span_text(name), 0);
    if (column >= 0 && reader_is_feature(reader, (uint32_t)column)) {
        reader->label = column;
    }
}

const struct format *reader_format(const struct reader *reader)
{
    return reader->format;
}

const char *reader_where(struct reader *reader)
{
    snprintf(reader->where, sizeof reader->where, "%s %s %llu", reader->table.file,
             reader->format->unit, (unsigned long long)reader->table.number);
    return reader->where;
}

struct reader_progress reader_progress(const struct reader *reader)
{
    struct reader_progress progress = reader->progress;
    if (progress.bytes_done > progress.bytes_all) {
        progress.bytes_done = progress.bytes_all; // The file grew while it was read.
    }
    return progress;
}
