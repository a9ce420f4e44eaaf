// client/encode.c: see encode.h.
#include "client/encode.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "client/format.h"

enum { MISSING_BITS = 0x7fc00000, NAMES_BYTES = 512 };

struct encode {
    const struct schema *schema;
    struct reader *reader;
    bool labelled;
    int64_t *from;        // [schema column_count] column of the table, or -1: not in the file
    uint32_t known_count; // Table columns that have been looked up.
};

// --- Matching columns ---

static int64_t schema_column(const struct schema *schema, const char *name, uint32_t hint)
{
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const uint32_t at = (uint32_t)(((uint64_t)hint + i) % schema->column_count);
        if (strcmp(schema->columns[at].name, name) == 0) {
            return at;
        }
    }
    return -1;
}

static enum err check_kind(const struct column *column, const struct table_column *from)
{
    const char *found = NULL;
    if (from->kind == VALUE_FIELD) {
        const bool array =
            column->kind == COLUMN_PIXELS || (column->kind == COLUMN_NUMERIC && column->width != 1);
        found = array ? "single values" : NULL;
    } else if (from->kind == VALUE_SPARSE) {
        found = column->kind != COLUMN_NUMERIC ? "sparse numbers" : NULL;
    } else if (from->kind == VALUE_FLOATS) {
        found = column->kind != COLUMN_NUMERIC ? "numbers" : NULL;
    } else {
        found = column->kind != COLUMN_NUMERIC && column->kind != COLUMN_PIXELS ? "bytes" : NULL;
    }
    static const char *const kinds[] = {"", "numbers", "categories", "pixels", "text", ""};
    if (found != NULL && column->kind != COLUMN_IGNORED) {
        FAIL(ERR_INVALID, "column \"%s\" holds %s, the schema expects %s", column->name, found,
             kinds[column->kind]);
    }
    const bool sized = from->kind == VALUE_FLOATS || from->kind == VALUE_PIXELS;
    if (sized && column->kind != COLUMN_IGNORED && from->width != column->width) {
        FAIL(ERR_INVALID, "column \"%s\" has %u values, the schema expects %u", column->name,
             from->width, column->width);
    }
    if (from->kind == VALUE_PIXELS && column->kind == COLUMN_PIXELS && from->rows != column->rows) {
        FAIL(ERR_INVALID, "column \"%s\" has images of %u x %u, the schema expects %u x %u",
             column->name, from->rows, from->cols, column->rows, column->cols);
    }
    return OK;
}

// Looks up the table's columns that came since the last time.
static enum err match_new(struct encode *encode)
{
    const struct table *const table = reader_table(encode->reader);
    const struct schema *const schema = encode->schema;
    uint32_t hint = 0;
    for (; encode->known_count < table->column_count; encode->known_count++) {
        const uint32_t i = encode->known_count;
        if (!reader_is_feature(encode->reader, i)) {
            continue;
        }
        const char *const name = table->columns[i].name;
        if (!encode->labelled && strcmp(name, schema->label) == 0) {
            continue; // Labelled data may be predicted.
        }
        const int64_t at = schema_column(schema, name, hint);
        if (at < 0) {
            FAIL(ERR_INVALID, "column \"%.60s\" is not in the schema; is it --id or --subject?",
                 name);
        }
        TRY(check_kind(&schema->columns[at], &table->columns[i]));
        encode->from[at] = i;
        hint = (uint32_t)at + 1;
    }
    return OK;
}

static enum err check_label(const struct encode *encode)
{
    const struct schema *const schema = encode->schema;
    const struct table *const table = reader_table(encode->reader);
    const int64_t label = reader_label(encode->reader);
    if (label >= 0 && schema->task == TASK_NONE && encode->labelled) {
        FAIL(ERR_INVALID, "%s has the label \"%.60s\", the schema expects none", table->file,
             table->columns[label].name);
    }
    if (label >= 0 && schema->task != TASK_NONE &&
        strcmp(table->columns[label].name, schema->label) != 0) {
        FAIL(ERR_INVALID, "the label is column \"%.60s\", the schema expects \"%.60s\"",
             table->columns[label].name, schema->label);
    }
    if (label < 0 && schema->task != TASK_NONE && encode->labelled &&
        !reader_format(encode->reader)->open_columns) {
        FAIL(ERR_INVALID, "%s has no column \"%.60s\", which is the schema's label", table->file,
             schema->label);
    }
    return OK;
}

static enum err match_all(struct encode *encode)
{
    const struct schema *const schema = encode->schema;
    const struct table *const table = reader_table(encode->reader);
    reader_use_label(encode->reader, schema->label);
    TRY(check_label(encode));
    TRY_AS(match_new(encode), "%s", table->file);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        if (encode->from[i] < 0 && schema->columns[i].kind != COLUMN_IGNORED &&
            !reader_format(encode->reader)->open_columns) {
            char names[NAMES_BYTES];
            table_list(table, names, sizeof names);
            FAIL(ERR_INVALID, "%s has no column \"%.60s\", which the schema expects; it has %s",
                 table->file, schema->columns[i].name, names);
        }
    }
    return OK;
}

enum err encode_open(const struct schema *schema, struct reader *reader, bool labelled,
                     struct encode **encode_out)
{
    *encode_out = NULL;
    struct encode *const encode = mem_alloc(1, sizeof *encode);
    encode->schema = schema;
    encode->reader = reader;
    encode->labelled = labelled;
    encode->from = mem_alloc(schema->column_count, sizeof *encode->from);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        encode->from[i] = -1;
    }
    const enum err err = match_all(encode);
    if (err != OK) {
        encode_close(encode);
        return err;
    }
    *encode_out = encode;
    return OK;
}

void encode_close(struct encode *encode)
{
    if (encode != NULL) {
        mem_free(encode->from);
        mem_free(encode);
    }
}

// --- Values ---

static enum err put_number(double number, struct buf *row)
{
    if (fabs(number) > (double)FLT_MAX) {
        FAIL(ERR_INVALID, "the number is beyond the range of float32");
    }
    buf_f32(row, (float)number);
    return OK;
}

static enum err put_missing(const struct column *column, uint32_t count, struct buf *row)
{
    if (!column->missing) {
        FAIL(ERR_INVALID, "a value is missing, and the schema does not allow that");
    }
    for (uint32_t i = 0; i < count; i++) {
        buf_u32(row, MISSING_BITS); // The one NaN that a row may hold.
    }
    return OK;
}

static enum err put_floats(const struct column *column, const struct value *value, struct buf *row)
{
    for (uint32_t i = 0; i < value->count; i++) {
        if (isnan(value->floats[i])) {
            TRY(put_missing(column, 1, row));
        } else {
            buf_f32(row, value->floats[i]);
        }
    }
    return OK;
}

static enum err put_sparse(const struct column *column, const struct value *value, struct buf *row)
{
    if (value->count > 0 && value->index[value->count - 1] >= column->width) {
        FAIL(ERR_INVALID, "index %u, the schema expects at most %u",
             value->index[value->count - 1] + 1, column->width);
    }
    uint32_t next = 0;
    for (uint32_t i = 0; i < column->width; i++) {
        const bool named = next < value->count && value->index[next] == i;
        buf_f32(row, named ? value->floats[next] : 0.0f);
        next += named;
    }
    return OK;
}

static enum err put_numeric(const struct column *column, const struct value *value, struct buf *row)
{
    double number;
    switch (value->kind) {
    case VALUE_FLOATS:
        return put_floats(column, value, row);
    case VALUE_SPARSE:
        return put_sparse(column, value, row);
    case VALUE_PIXELS:
        for (uint32_t i = 0; i < value->count; i++) {
            buf_f32(row, (float)value->pixels[i]);
        }
        return OK;
    case VALUE_MISSING:
        return put_missing(column, column->width, row);
    case VALUE_FIELD:
    case VALUE_NUMBER:
    case VALUE_STRING:
        break;
    }
    if (!table_is_number(value, &number)) {
        FAIL(ERR_INVALID, "found a text, expected a number");
    }
    return put_number(number, row);
}

static bool is_missing(const struct value *value)
{
    return value->kind == VALUE_MISSING || value->text.bytes == 0;
}

static void put_category(const struct column *column, const struct value *value, struct buf *row)
{
    if (is_missing(value)) {
        buf_u16(row, (uint16_t)(column->category_count + 1));
        return;
    }
    const int64_t code = schema_category(column, value->text);
    buf_u16(row, code >= 0 ? (uint16_t)code : (uint16_t)column->category_count);
}

static enum err put_value(const struct column *column, const struct value *value, struct buf *row)
{
    switch (column->kind) {
    case COLUMN_NUMERIC:
        return put_numeric(column, value, row);
    case COLUMN_CATEGORY:
        put_category(column, value, row);
        break;
    case COLUMN_PIXELS:
        if (value->kind == VALUE_MISSING) {
            FAIL(ERR_INVALID, "the pixels are missing");
        }
        buf_put(row, span_of(value->pixels, value->count));
        break;
    case COLUMN_TEXT:
        if (value->text.bytes > LIMIT_RECORD_BYTES) {
            FAIL(ERR_LIMIT, "the text has %zu bytes, expected at most %d", value->text.bytes,
                 (int)LIMIT_RECORD_BYTES);
        }
        buf_u32(row, (uint32_t)value->text.bytes);
        buf_put(row, value->text);
        break;
    case COLUMN_IGNORED:
        break;
    }
    return OK;
}

// --- The label ---

static enum err put_class(const struct schema *schema, const struct value *value, struct buf *row)
{
    int64_t index = schema_class(schema, value->text);
    double number;
    if (index < 0 && table_is_number(value, &number)) {
        char digits[TABLE_NUMBER_BYTES];
        index = schema_class(schema, table_number_text(number, digits));
    }
    if (index < 0) {
        FAIL(ERR_INVALID, "the label is none of the schema's %u classes", schema->class_count);
    }
    buf_u16(row, (uint16_t)index);
    return OK;
}

static enum err put_label(const struct encode *encode, struct buf *row)
{
    const struct schema *const schema = encode->schema;
    if (schema->task == TASK_NONE) {
        return OK;
    }
    if (!encode->labelled) {
        if (schema->task == TASK_CLASSES) {
            buf_u16(row, 0);
        } else {
            buf_f32(row, 0);
        }
        return OK;
    }
    const int64_t label = reader_label(encode->reader);
    const struct value *const value =
        label >= 0 ? &reader_table(encode->reader)->values[label] : &(struct value){0};
    if (is_missing(value)) {
        FAIL(ERR_INVALID, "the label is missing");
    }
    if (schema->task == TASK_CLASSES) {
        return put_class(schema, value, row);
    }
    double number;
    if (!table_is_number(value, &number)) {
        FAIL(ERR_INVALID, "found a text, expected a number");
    }
    return put_number(number, row);
}

static enum err put_row(struct encode *encode, struct buf *row)
{
    static const struct value missing = {0};
    const struct schema *const schema = encode->schema;
    const struct table *const table = reader_table(encode->reader);
    TRY_AS(put_label(encode, row), "column \"%s\"", schema->label);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        const struct value *const value =
            encode->from[i] >= 0 ? &table->values[encode->from[i]] : &missing;
        TRY_AS(put_value(column, value, row), "column %u \"%s\"", i + 1, column->name);
        if (row->bytes > LIMIT_RECORD_BYTES) {
            FAIL(ERR_LIMIT, "the record takes more than %d bytes", (int)LIMIT_RECORD_BYTES);
        }
    }
    return OK;
}

enum err encode_record(struct encode *encode, struct buf *row_out)
{
    buf_clear(row_out);
    if (encode->known_count < reader_table(encode->reader)->column_count) {
        if (reader_label(encode->reader) < 0) {
            reader_use_label(encode->reader, encode->schema->label);
        }
        TRY_AS(match_new(encode), "%s", reader_where(encode->reader));
    }
    TRY_AS(put_row(encode, row_out), "%s", reader_where(encode->reader));
    return OK;
}
