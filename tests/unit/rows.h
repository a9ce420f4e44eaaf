// tests/unit/rows.h: reads a whole input as text, so that a test can say what it expects in one line.
//
// A record becomes id|subject|value,value,...; or, where a risk class is declared, id|subject#class|...;  missing values are "-" and what stood there, pixels and numbers decimal,
// sparse ones index:number.
#pragma once

#include <math.h>

#include "base/mem.h"
#include "base/risk.h"
#include "client/reader.h"
#include "tests/unit/feed.h"

static char rows_text[8192];

static inline void rows_add(const char *text, size_t bytes)
{
    const size_t used = strlen(rows_text);
    const size_t room = sizeof rows_text - used - 1;
    memcpy(rows_text + used, text, bytes < room ? bytes : room);
    rows_text[used + (bytes < room ? bytes : room)] = '\0';
}

static inline void rows_add_number(double number)
{
    char digits[32];
    const int bytes = isnan(number) ? snprintf(digits, sizeof digits, "-")
                                    : snprintf(digits, sizeof digits, "%g", number);
    rows_add(digits, (size_t)bytes);
}

static inline void rows_add_value(const struct value *value)
{
    if (value->kind == VALUE_MISSING) {
        rows_add("-", 1);
    }
    rows_add(value->text.bytes > 0 ? value->text.data : "", value->text.bytes);
    for (uint32_t i = 0; value->text.bytes == 0 && i < value->count; i++) {
        rows_add(" ", i > 0 ? 1 : 0);
        if (value->kind == VALUE_SPARSE) {
            rows_add_number(value->index[i]);
            rows_add(":", 1);
        }
        if (value->kind == VALUE_PIXELS) {
            rows_add_number(value->pixels[i]);
        } else if (value->floats != NULL) {
            rows_add_number((double)value->floats[i]);
        }
    }
}

static inline enum err rows_take(struct reader *reader)
{
    while (true) {
        struct record record;
        bool more;
        TRY(reader_next(reader, &record, &more));
        if (!more) {
            return OK;
        }
        rows_add(record.id.data, record.id.bytes);
        rows_add("|", 1);
        rows_add(record.subject.bytes > 0 ? record.subject.data : "", record.subject.bytes);
        if (record.risk != RISK_UNDECLARED) {
            rows_add("#", 1);
            rows_add_number(record.risk);
        }
        rows_add("|", 1);
        const struct table *const table = reader_table(reader);
        for (uint32_t i = 0; i < table->column_count; i++) {
            rows_add(",", i > 0 ? 1 : 0);
            rows_add_value(&table->values[i]);
        }
        rows_add(";", 1);
    }
}

// Reads everything into rows_text; the error of opening or of the first bad row.
static inline enum err rows_read(const struct reader_options *options)
{
    rows_text[0] = '\0';
    struct reader *reader;
    TRY(reader_open(options, &reader));
    const enum err err = rows_take(reader);
    reader_close(reader);
    return err;
}

// The same for one file of a format.
static inline enum err rows_of(const char *format, const char *path)
{
    return rows_read(&(struct reader_options){.files = &path, .file_count = 1, .format = format});
}

static inline enum err rows_of_two(const char *format, const char *first, const char *second)
{
    const char *const paths[2] = {first, second};
    return rows_read(&(struct reader_options){.files = paths, .file_count = 2, .format = format});
}
