// model/schema.h: the columns of a dataset, their encoding in a row, and their place in a model's
// input.
//
// A schema is proposed or given at a dataset's first import, then frozen and public: it may hold
// vocabularies, classes and ranges, and nothing of any single record. Its canonical bytes are
// hashed into every component.
//
// A row is the label followed by the columns, in schema order, without padding, little-endian:
//
//   label     TASK_CLASSES u16 class index | TASK_NUMBER f32 | TASK_NONE nothing
//   NUMERIC   f32 x width; a missing value is the quiet NaN 0x7fc00000, allowed only where the
//             column says missing; every other value is finite
//   CATEGORY  u16 code: 0 .. n-1 a listed category, n any other, n+1 missing
//   PIXELS    u8 x width
//   TEXT      u32 bytes, then that many bytes
//   IGNORED   nothing
//
// A dense learner sees, per column in order:
//
//   NUMERIC   (x - offset) * scale, then, where standardise, (x - mean) / deviation from the
//             component's own constants, 0 where the deviation is 0, clamped to [-8, 8]; missing
//             becomes 0. Where the column says missing, `width` further inputs follow, 1 where the
//             value was missing, else 0.
//   CATEGORY  n + 2 inputs, one of them 1: listed categories, other, missing
//   PIXELS    x / 255
//
// Source    docs/format.md has the byte layout of the canonical form.
// Lifetime  schema_get fills a struct that owns its memory; schema_deinit frees it.
// Threads   Stateless; a const schema may be read by many.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"

enum column_kind {
    COLUMN_NUMERIC = 1,
    COLUMN_CATEGORY = 2,
    COLUMN_PIXELS = 3,
    COLUMN_TEXT = 4,
    COLUMN_IGNORED = 5,
};
enum task { TASK_NONE = 0, TASK_CLASSES = 1, TASK_NUMBER = 2 };

struct column {
    char *name; // Owned; 1 to 255 bytes, clean UTF-8, unique in the schema.
    enum column_kind kind;
    uint32_t width;      // NUMERIC: values; PIXELS: rows * cols. Else 1.
    uint32_t rows, cols; // PIXELS: the image's shape. Else 0.
    bool missing;        // NUMERIC: a value may be missing.
    bool standardise;    // NUMERIC: by constants learnt from data, in each component.
    float offset, scale; // NUMERIC: fixed; 0 and 1 by default; scale is finite and not 0.
    char **categories;   // CATEGORY: owned, sorted by bytes, unique.
    uint32_t category_count;
};

struct schema {
    struct column *columns; // Owned.
    uint32_t column_count;
    enum task task;
    char *label;    // Owned: the label column's name; "" with TASK_NONE.
    char **classes; // TASK_CLASSES: owned, at least 1, unique; class i is classes[i].
    uint32_t class_count;
    bool label_standardise; // TASK_NUMBER: learn (y - mean) / deviation, predict in y's own unit.
};

void schema_deinit(struct schema *schema); // Accepts {0}.

// ERR_INVALID: breaks a rule above or a limit; the message names the column by its number and
// name.
MUST_USE enum err schema_check(const struct schema *schema);

void schema_put(const struct schema *schema, struct buf *out); // Canonical bytes.
// Reads canonical bytes and checks them. ERR_CORRUPT, ERR_INVALID: *schema_out is {0}.
MUST_USE enum err schema_get(struct span bytes, struct schema *schema_out);
struct digest schema_digest(const struct schema *schema); // Domain "unlearnd-schema".

// Checks that `row` is one row of this schema, byte for byte. Every row that a client or a store
// hands over goes through here once. ERR_INVALID: names the column, never the value.
MUST_USE enum err schema_check_row(const struct schema *schema, struct span row);

// A checked row's label: a class index, or the number, standardised by the constants (below) where
// the schema says so; 0 without one.
float schema_label(const struct schema *schema, const float *constants, struct span row);
// The bytes of a column's value in a checked row; of a TEXT without their length. Borrowed.
struct span schema_value(const struct schema *schema, struct span row, uint32_t column);

// The TEXT column, or -1 where there is none or more than one.
int64_t schema_text_column(const struct schema *schema);

// Index of a category or class by its text, or -1.
int64_t schema_category(const struct column *column, struct span text);
int64_t schema_class(const struct schema *schema, struct span text);

// Outputs of a model: class_count, or 1 with TASK_NUMBER.
uint32_t schema_output_width(const struct schema *schema);

// --- What dense learners see (features.c) ---

// Inputs of one row. ERR_INVALID: a TEXT column (named), or no label to learn: `learner` names the
// learner in the message.
MUST_USE enum err schema_input_width(const struct schema *schema, const char *learner,
                                     uint32_t *width_out);

// Constants of a component: for each standardised value in schema order mean and deviation, then
// for a standardised label the same. float32[2 * schema_constant_count()].
uint32_t schema_constant_count(const struct schema *schema);

// Computes the constants over rows[row_count] in the given order, two passes in double. Missing
// values do not count; a value that never occurs gets mean 0, deviation 0.
void schema_constants(const struct schema *schema, const struct span *rows, size_t row_count,
                      float *constants_out);

// Writes the inputs of one checked row to x_out[input width]; and its label, as a class index or
// as the (standardised) number, to *y_out unless NULL.
void schema_expand(const struct schema *schema, const float *constants, struct span row,
                   float *x_out, float *y_out);
