// model/features.c: what dense learners see of a row; see schema.h.
//
// Each value is computed from its own row and the component's constants alone, in float32 and in
// a fixed order of operations, so that a row gives the same inputs wherever it is expanded.
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/schema.h"

static const float CLAMP = 8.0f;

enum err schema_input_width(const struct schema *schema, const char *learner, uint32_t *width_out)
{
    uint64_t width = 0;
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        switch (column->kind) {
        case COLUMN_NUMERIC:
            width += (uint64_t)column->width * (column->missing ? 2 : 1);
            break;
        case COLUMN_CATEGORY:
            width += column->category_count + 2;
            break;
        case COLUMN_PIXELS:
            width += column->width;
            break;
        case COLUMN_TEXT:
            FAIL(ERR_INVALID, "learner %s cannot learn from text: column %u (%s); learner text does", learner, i + 1,
                 column->name);
        case COLUMN_IGNORED:
            break;
        }
    }
    if (schema->task == TASK_NONE) {
        FAIL(ERR_INVALID, "learner %s needs a label, and the dataset has none", learner);
    }
    if (width == 0) {
        FAIL(ERR_INVALID, "learner %s needs at least one column, and all are ignored", learner);
    }
    CHECK(width <= UINT32_MAX); // schema_check bounds the values and the categories' bytes.
    *width_out = (uint32_t)width;
    return OK;
}

uint32_t schema_constant_count(const struct schema *schema)
{
    uint32_t count = schema->task == TASK_NUMBER && schema->label_standardise ? 1 : 0;
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        if (column->kind == COLUMN_NUMERIC && column->standardise) {
            count += column->width;
        }
    }
    return count;
}

// (x - offset) * scale, kept finite so that no sum over it becomes NaN.
static float scaled(const struct column *column, float x)
{
    const float value = (x - column->offset) * column->scale;
    return value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value;
}

static float standardised(float value, const float *constant)
{
    return constant[1] == 0.0f ? 0.0f : (value - constant[0]) / constant[1];
}

static float clamped(float value)
{
    return value > CLAMP ? CLAMP : value < -CLAMP ? -CLAMP : value;
}

// Reads the label: a class index or a number.
static float take_label(const struct schema *schema, struct cursor *row)
{
    switch (schema->task) {
    case TASK_CLASSES:
        return (float)cursor_u16(row);
    case TASK_NUMBER:
        return cursor_f32(row);
    case TASK_NONE:
        break;
    }
    return 0.0f;
}

// Steps over a column without looking at it.
static void skip_column(const struct column *column, struct cursor *row)
{
    switch (column->kind) {
    case COLUMN_NUMERIC:
        cursor_take(row, (size_t)column->width * sizeof(float));
        break;
    case COLUMN_CATEGORY:
        cursor_take(row, sizeof(uint16_t));
        break;
    case COLUMN_PIXELS:
        cursor_take(row, column->width);
        break;
    case COLUMN_TEXT:
        cursor_take(row, cursor_u32(row));
        break;
    case COLUMN_IGNORED:
        break;
    }
}

// Running sums of one standardised value.
struct moment {
    double sum;
    double square_sum; // Of the distances from the mean.
    double mean;
    uint64_t count;
};

static void meet(struct moment *moment, float value, bool second_pass)
{
    if (isnan(value)) {
        return;
    }
    if (second_pass) {
        const double distance = (double)value - moment->mean;
        moment->square_sum += distance * distance;
    } else {
        moment->sum += (double)value;
        moment->count++;
    }
}

static void meet_row(const struct schema *schema, struct span bytes, bool second_pass,
                     struct moment *moments)
{
    struct cursor row = cursor_of(bytes);
    const float label = take_label(schema, &row);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        if (column->kind != COLUMN_NUMERIC || !column->standardise) {
            skip_column(column, &row);
            continue;
        }
        for (uint32_t j = 0; j < column->width; j++) {
            meet(moments++, scaled(column, cursor_f32(&row)), second_pass);
        }
    }
    if (schema->task == TASK_NUMBER && schema->label_standardise) {
        meet(moments, label, second_pass);
    }
    CHECK(!row.bad);
}

void schema_constants(const struct schema *schema, const struct span *rows, size_t row_count,
                      float *constants_out)
{
    const uint32_t count = schema_constant_count(schema);
    if (count == 0) {
        return;
    }
    struct moment *const moments = mem_alloc(count, sizeof *moments);
    for (size_t i = 0; i < row_count; i++) {
        meet_row(schema, rows[i], false, moments);
    }
    for (uint32_t i = 0; i < count; i++) {
        moments[i].mean = moments[i].count == 0 ? 0.0 : moments[i].sum / (double)moments[i].count;
    }
    for (size_t i = 0; i < row_count; i++) {
        meet_row(schema, rows[i], true, moments);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct moment *const moment = &moments[i];
        float *const constant = constants_out + 2 * (size_t)i;
        constant[0] = (float)moment->mean;
        constant[1] =
            moment->count == 0 ? 0.0f : (float)sqrt(moment->square_sum / (double)moment->count);
    }
    mem_free(moments);
}

// Writes a numeric column's inputs and returns how many.
static size_t expand_numbers(const struct column *column, const float *constants,
                             struct cursor *row, float *x)
{
    float *const flags = x + column->width;
    for (uint32_t i = 0; i < column->width; i++) {
        const float value = cursor_f32(row);
        const bool missing = isnan(value);
        if (missing) {
            x[i] = 0.0f;
        } else if (column->standardise) {
            x[i] = clamped(standardised(scaled(column, value), constants + 2 * (size_t)i));
        } else {
            x[i] = scaled(column, value);
        }
        if (column->missing) {
            flags[i] = missing ? 1.0f : 0.0f;
        }
    }
    return (size_t)column->width * (column->missing ? 2 : 1);
}

static size_t expand_column(const struct column *column, const float *constants, struct cursor *row,
                            float *x)
{
    if (column->kind == COLUMN_NUMERIC) {
        return expand_numbers(column, constants, row, x);
    }
    if (column->kind == COLUMN_CATEGORY) {
        const size_t width = (size_t)column->category_count + 2;
        const uint16_t code = cursor_u16(row);
        CHECK(code < width);
        memset(x, 0, width * sizeof *x);
        x[code] = 1.0f;
        return width;
    }
    if (column->kind == COLUMN_PIXELS) {
        const struct span pixels = cursor_take(row, column->width);
        const uint8_t *const at = pixels.data;
        for (size_t i = 0; i < pixels.bytes; i++) {
            x[i] = (float)at[i] / 255.0f;
        }
        return column->width;
    }
    skip_column(column, row);
    return 0;
}

float schema_label(const struct schema *schema, const float *constants, struct span row)
{
    struct cursor cursor = cursor_of(row);
    const float label = take_label(schema, &cursor);
    CHECK(!cursor.bad);
    const bool standardise = schema->task == TASK_NUMBER && schema->label_standardise;
    // The label's constants are the last ones.
    return standardise
               ? standardised(label, constants + 2 * ((size_t)schema_constant_count(schema) - 1))
               : label;
}

struct span schema_value(const struct schema *schema, struct span row, uint32_t column)
{
    CHECK(column < schema->column_count);
    struct cursor cursor = cursor_of(row);
    take_label(schema, &cursor);
    for (uint32_t i = 0; i < column; i++) {
        skip_column(&schema->columns[i], &cursor);
    }
    const bool text = schema->columns[column].kind == COLUMN_TEXT;
    struct cursor end = cursor;
    skip_column(&schema->columns[column], &end);
    const size_t bytes = cursor.left - end.left;
    const struct span value = cursor_take(&cursor, bytes);
    CHECK(!cursor.bad && !end.bad);
    return text ? span_of((const uint8_t *)value.data + 4, bytes - 4) : value;
}

void schema_expand(const struct schema *schema, const float *constants, struct span row,
                   float *x_out, float *y_out)
{
    struct cursor cursor = cursor_of(row);
    const float label = take_label(schema, &cursor);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        x_out += expand_column(column, constants, &cursor, x_out);
        if (column->kind == COLUMN_NUMERIC && column->standardise) {
            constants += 2 * (size_t)column->width;
        }
    }
    CHECK(!cursor.bad);
    if (y_out != NULL) {
        const bool standardise = schema->task == TASK_NUMBER && schema->label_standardise;
        *y_out = standardise ? standardised(label, constants) : label;
    }
}
