// client/table.h: the columns of an input and the values of its current row, whatever the format.
//
// A format fills the table row by row; the reader, the proposal and the encoder look at nothing
// else. So they never know which format they read.
//
// Lifetime  table_deinit frees. Values of a row are borrowed until the next row is read.
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum value_kind {
    VALUE_MISSING = 0, // Nothing there: empty, `?`, null, an absent key.
    VALUE_FIELD,       // Text that says nothing about its type: it is a number if it reads as one.
    VALUE_STRING,      // Text that is never a number: a JSON string, true, false.
    VALUE_NUMBER,      // A number, with its text.
    VALUE_PIXELS,      // pixels[count]
    VALUE_FLOATS,      // floats[count]; NaN is a missing value, all others are finite.
    VALUE_SPARSE,      // floats[count] at index[count], ascending from 0; the others are 0.
};

struct value {
    enum value_kind kind;
    uint32_t count;
    struct span text; // FIELD, STRING, NUMBER; MISSING: what stood there, for a column of texts
    double number;    // NUMBER
    const uint8_t *pixels;
    const float *floats;
    const uint32_t *index;
};

struct table_column {
    char *name;           // Owned.
    enum value_kind kind; // FIELD for single values; PIXELS, FLOATS or SPARSE for arrays.
    uint32_t width;       // PIXELS, FLOATS: values of a row; else 1.
    uint32_t rows, cols;  // PIXELS: the image's shape; else 0.
};

struct table {
    struct table_column *columns; // [column_count], owned
    struct value *values;         // [column_count], owned: the current row
    uint32_t column_count, capacity;
    const char *file;    // Borrowed: where the current row came from, for messages.
    uint64_t number;     // Its line (from 1) or record (from 0) in that file.
    uint64_t bytes_done; // Of all files, as they lie.
};

enum { TABLE_NUMBER_BYTES = 32 };

void table_deinit(struct table *table); // Accepts {0}.

// Appends a column of single values; its value is missing until set.
//   ERR_INVALID  not a name (1 to 255 bytes of clean UTF-8).  ERR_LIMIT  LIMIT_COLUMNS is reached.
MUST_USE enum err table_add(struct table *table, struct span name);

// Index of the column `name`, or -1. The search begins at `hint`, so that names that come in the
// same order each time are found at once.
int64_t table_find(const struct table *table, struct span name, uint32_t hint);

void table_clear_row(struct table *table); // All values missing.

// Whether a value is a number; then *number_out is set.
bool table_is_number(const struct value *value, double *number_out);

// Text of a number: whole numbers below 2^53 without point or exponent, others with 17 digits.
// Returns the span of out.
struct span table_number_text(double number, char out[static TABLE_NUMBER_BYTES]);

// Writes the names of the first columns, quoted, for messages: "age", "sex", ... (12 more).
void table_list(const struct table *table, char *out, size_t capacity);
