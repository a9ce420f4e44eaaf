// model/schema.c: see schema.h: checks, canonical bytes, and the check of one row.
//
// Canonical bytes, little-endian, short text = u16 length and bytes (docs/format.md, "Schema"):
//
//   u16 format (1), u8 task, short text label, u8 label_standardise, u32 class_count, then each
//   class as short text; u32 column_count, then each column: short text name, u8 kind, and
//     NUMERIC   u32 width, u8 flags (1 missing, 2 standardise), f32 offset, f32 scale
//     CATEGORY  u32 category_count, then each category as short text
//     PIXELS    u32 rows, u32 cols
//     TEXT, IGNORED  nothing more
//
// Equal schemas have equal bytes: there is one way to write each value, and reading refuses others.
#include "model/schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"

enum {
    FORMAT = 1,
    FLAG_MISSING = 1,
    FLAG_STANDARDISE = 2,
    COLUMN_BYTES_MIN = 4,
    TEXT_BYTES_MIN = 3
};

void schema_deinit(struct schema *schema)
{
    for (uint32_t i = 0; schema->columns != NULL && i < schema->column_count; i++) {
        struct column *const column = &schema->columns[i];
        for (uint32_t j = 0; column->categories != NULL && j < column->category_count; j++) {
            mem_free(column->categories[j]);
        }
        mem_free(column->categories);
        mem_free(column->name);
    }
    for (uint32_t i = 0; schema->classes != NULL && i < schema->class_count; i++) {
        mem_free(schema->classes[i]);
    }
    mem_free(schema->classes);
    mem_free(schema->columns);
    mem_free(schema->label);
    *schema = (struct schema){0};
}

// --- Checks ---

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// True when two of texts[count] are equal.
static bool has_twins(char *const *texts, size_t count)
{
    if (count < 2) {
        return false;
    }
    char **const sorted = mem_alloc(count, sizeof *sorted);
    memcpy(sorted, texts, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_texts);
    bool twins = false;
    for (size_t i = 1; i < count; i++) {
        twins = twins || strcmp(sorted[i - 1], sorted[i]) == 0;
    }
    mem_free(sorted);
    return twins;
}

static enum err check_label(const struct schema *schema)
{
    if (schema->task != TASK_NONE && schema->task != TASK_CLASSES && schema->task != TASK_NUMBER) {
        FAIL(ERR_INVALID, "the schema's task is %u, expected 0 to 2", (unsigned)schema->task);
    }
    CHECK(schema->label != NULL);
    if (schema->task == TASK_NONE) {
        if (schema->label[0] != '\0') {
            FAIL(ERR_INVALID, "the schema names a label column but has no task");
        }
    } else {
        TRY(text_check_name("the schema's label column", span_text(schema->label)));
    }
    if (schema->label_standardise && schema->task != TASK_NUMBER) {
        FAIL(ERR_INVALID, "the schema standardises a label that is no number");
    }
    if (schema->task != TASK_CLASSES) {
        if (schema->class_count != 0) {
            FAIL(ERR_INVALID, "the schema lists %u classes but its label is no class",
                 schema->class_count);
        }
        return OK;
    }
    if (schema->class_count < 1 || schema->class_count > LIMIT_CLASSES) {
        FAIL(ERR_INVALID, "the schema lists %u classes, expected 1 to %d", schema->class_count,
             (int)LIMIT_CLASSES);
    }
    for (uint32_t i = 0; i < schema->class_count; i++) {
        TRY_AS(text_check_name("its name", span_text(schema->classes[i])), "class %u", i);
    }
    if (has_twins(schema->classes, schema->class_count)) {
        FAIL(ERR_INVALID, "the schema lists the same class twice");
    }
    return OK;
}

static enum err check_categories(const struct column *column)
{
    if (column->category_count > LIMIT_CATEGORIES) {
        FAIL(ERR_INVALID, "found %u categories, expected at most %d", column->category_count,
             (int)LIMIT_CATEGORIES);
    }
    for (uint32_t i = 0; i < column->category_count; i++) {
        TRY(text_check_name("the name of a category", span_text(column->categories[i])));
        if (i > 0 && strcmp(column->categories[i - 1], column->categories[i]) >= 0) {
            FAIL(ERR_INVALID, "categories are not sorted by bytes without repetition");
        }
    }
    return OK;
}

static enum err check_shape(const struct column *column)
{
    const bool numeric = column->kind == COLUMN_NUMERIC;
    const bool pixels = column->kind == COLUMN_PIXELS;
    if (column->width < 1 || column->width > LIMIT_RECORD_VALUES) {
        FAIL(ERR_INVALID, "width is %u, expected 1 to %d", column->width, (int)LIMIT_RECORD_VALUES);
    }
    if (!numeric && !pixels && column->width != 1) {
        FAIL(ERR_INVALID, "width is %u, expected 1 for this kind", column->width);
    }
    if (pixels ? (uint64_t)column->rows * column->cols != column->width
               : column->rows != 0 || column->cols != 0) {
        FAIL(ERR_INVALID, "rows x cols is %u x %u, which does not fit width %u", column->rows,
             column->cols, column->width);
    }
    if (!numeric && (column->missing || column->standardise)) {
        FAIL(ERR_INVALID, "only a numeric column can say missing or standardise");
    }
    if (numeric && (!isfinite(column->offset) || !isfinite(column->scale) || column->scale == 0)) {
        FAIL(ERR_INVALID, "offset and scale must be finite, and scale not 0");
    }
    if (column->kind != COLUMN_CATEGORY && column->category_count != 0) {
        FAIL(ERR_INVALID, "lists categories but is no categorical column");
    }
    return OK;
}

static enum err check_column(const struct column *column)
{
    if (column->kind < COLUMN_NUMERIC || column->kind > COLUMN_IGNORED) {
        FAIL(ERR_INVALID, "kind is %u, expected 1 to 5", (unsigned)column->kind);
    }
    TRY(check_shape(column));
    return column->kind == COLUMN_CATEGORY ? check_categories(column) : OK;
}

// Bytes that a row of this column takes at least.
static uint64_t row_bytes_min(const struct column *column)
{
    switch (column->kind) {
    case COLUMN_NUMERIC:
        return (uint64_t)column->width * sizeof(float);
    case COLUMN_CATEGORY:
        return sizeof(uint16_t);
    case COLUMN_PIXELS:
        return column->width;
    case COLUMN_TEXT:
        return sizeof(uint32_t);
    case COLUMN_IGNORED:
        break;
    }
    return 0;
}

static enum err check_names(const struct schema *schema)
{
    char **const names = mem_alloc(schema->column_count + 1, sizeof *names);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        names[i] = schema->columns[i].name;
    }
    names[schema->column_count] = schema->label; // "" with no task: no column has that name.
    const bool twins = has_twins(names, schema->column_count + 1);
    mem_free(names);
    if (twins) {
        FAIL(ERR_INVALID, "two columns of the schema have the same name");
    }
    return OK;
}

enum err schema_check(const struct schema *schema)
{
    TRY(check_label(schema));
    if (schema->column_count < 1 || schema->column_count > LIMIT_COLUMNS) {
        FAIL(ERR_INVALID, "the schema has %u columns, expected 1 to %d", schema->column_count,
             (int)LIMIT_COLUMNS);
    }
    uint64_t bytes = sizeof(float), values = 0;
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        TRY_AS(text_check_name("its name", span_text(column->name)), "column %u", i + 1);
        TRY_AS(check_column(column), "column %u (%s)", i + 1, column->name);
        bytes += row_bytes_min(column);
        values += column->width;
    }
    if (values > LIMIT_RECORD_VALUES || bytes > LIMIT_RECORD_BYTES) {
        FAIL(ERR_INVALID,
             "a row has %llu values in %llu bytes, expected at most %d values in %d bytes",
             (unsigned long long)values, (unsigned long long)bytes, (int)LIMIT_RECORD_VALUES,
             (int)LIMIT_RECORD_BYTES);
    }
    TRY(check_names(schema));
    struct buf text = {0};
    schema_put(schema, &text);
    const size_t schema_bytes = text.bytes;
    buf_deinit(&text);
    if (schema_bytes > LIMIT_SCHEMA_BYTES) {
        FAIL(ERR_INVALID, "the schema takes %zu bytes, expected at most %d", schema_bytes,
             (int)LIMIT_SCHEMA_BYTES);
    }
    return OK;
}

// --- Canonical bytes ---

static void put_column(const struct column *column, struct buf *out)
{
    buf_short_text(out, column->name);
    buf_u8(out, (uint8_t)column->kind);
    if (column->kind == COLUMN_NUMERIC) {
        buf_u32(out, column->width);
        buf_u8(out, (uint8_t)((column->missing ? FLAG_MISSING : 0) |
                              (column->standardise ? FLAG_STANDARDISE : 0)));
        buf_f32(out, column->offset + 0.0f); // -0 is written as 0.
        buf_f32(out, column->scale);
    } else if (column->kind == COLUMN_CATEGORY) {
        buf_u32(out, column->category_count);
        for (uint32_t i = 0; i < column->category_count; i++) {
            buf_short_text(out, column->categories[i]);
        }
    } else if (column->kind == COLUMN_PIXELS) {
        buf_u32(out, column->rows);
        buf_u32(out, column->cols);
    }
}

void schema_put(const struct schema *schema, struct buf *out)
{
    buf_u16(out, FORMAT);
    buf_u8(out, (uint8_t)schema->task);
    buf_short_text(out, schema->label);
    buf_u8(out, schema->label_standardise ? 1 : 0);
    buf_u32(out, schema->class_count);
    for (uint32_t i = 0; i < schema->class_count; i++) {
        buf_short_text(out, schema->classes[i]);
    }
    buf_u32(out, schema->column_count);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        put_column(&schema->columns[i], out);
    }
}

static char *get_text(struct cursor *cursor)
{
    char text[LIMIT_NAME_BYTES + 1];
    cursor_short_text(cursor, text, sizeof text);
    return mem_text(text);
}

// Reads `count` texts. A count that cannot be true marks the cursor bad before it costs memory.
static char **get_texts(struct cursor *cursor, uint32_t count)
{
    if (count > cursor->left / TEXT_BYTES_MIN) {
        cursor->bad = true;
    }
    if (cursor->bad || count == 0) {
        return NULL;
    }
    char **const texts = mem_alloc(count, sizeof *texts);
    for (uint32_t i = 0; i < count; i++) {
        texts[i] = get_text(cursor);
    }
    return texts;
}

// A column whose fields cannot be told marks the cursor bad.
static void get_column(struct cursor *cursor, struct column *column)
{
    *column = (struct column){.width = 1, .scale = 1};
    column->name = get_text(cursor);
    column->kind = (enum column_kind)cursor_u8(cursor);
    if (column->kind == COLUMN_NUMERIC) {
        column->width = cursor_u32(cursor);
        const uint8_t flags = cursor_u8(cursor);
        column->missing = (flags & FLAG_MISSING) != 0;
        column->standardise = (flags & FLAG_STANDARDISE) != 0;
        column->offset = cursor_f32(cursor);
        column->scale = cursor_f32(cursor);
        if (flags > (FLAG_MISSING | FLAG_STANDARDISE) ||
            (column->offset == 0 && signbit(column->offset))) {
            cursor->bad = true;
        }
    } else if (column->kind == COLUMN_CATEGORY) {
        const uint32_t count = cursor_u32(cursor);
        column->categories = get_texts(cursor, count);
        column->category_count = column->categories == NULL ? 0 : count;
    } else if (column->kind == COLUMN_PIXELS) {
        column->rows = cursor_u32(cursor);
        column->cols = cursor_u32(cursor);
        const uint64_t width = (uint64_t)column->rows * column->cols;
        column->width = width > UINT32_MAX ? 0 : (uint32_t)width;
    }
}

// Fills *schema as far as the bytes go, so that schema_deinit may follow whatever is returned.
static enum err get_all(struct span bytes, struct schema *schema)
{
    struct cursor cursor = cursor_of(bytes);
    const uint16_t format = cursor_u16(&cursor);
    schema->task = (enum task)cursor_u8(&cursor);
    schema->label = get_text(&cursor);
    const uint8_t standardise = cursor_u8(&cursor);
    schema->label_standardise = standardise == 1;
    const uint32_t class_count = cursor_u32(&cursor);
    schema->classes = get_texts(&cursor, class_count);
    schema->class_count = schema->classes == NULL ? 0 : class_count;
    const uint32_t column_count = cursor_u32(&cursor);
    if (!cursor.bad && format != FORMAT) {
        FAIL(ERR_CORRUPT, "the schema has format %u, expected %d", format, (int)FORMAT);
    }
    if (standardise > 1 || column_count > cursor.left / COLUMN_BYTES_MIN) {
        cursor.bad = true;
    }
    if (!cursor.bad && column_count > 0) {
        schema->columns = mem_alloc(column_count, sizeof *schema->columns);
        schema->column_count = column_count;
        for (uint32_t i = 0; i < column_count; i++) {
            get_column(&cursor, &schema->columns[i]);
        }
    }
    if (cursor.bad) {
        FAIL(ERR_CORRUPT, "the schema's bytes end too early or hold a value that is never written");
    }
    TRY(cursor_done(&cursor, "the schema"));
    return schema_check(schema);
}

enum err schema_get(struct span bytes, struct schema *schema_out)
{
    *schema_out = (struct schema){0};
    if (bytes.bytes > LIMIT_SCHEMA_BYTES) {
        FAIL(ERR_INVALID, "the schema takes %zu bytes, expected at most %d", bytes.bytes,
             (int)LIMIT_SCHEMA_BYTES);
    }
    const enum err err = get_all(bytes, schema_out);
    if (err != OK) {
        schema_deinit(schema_out);
    }
    return err;
}

struct digest schema_digest(const struct schema *schema)
{
    struct buf bytes = {0};
    schema_put(schema, &bytes);
    const struct span span = buf_span(&bytes);
    const struct digest digest = digest_of("unlearnd-schema", &span, 1);
    buf_deinit(&bytes);
    return digest;
}

// --- Rows ---

static enum err check_numbers(const struct column *column, struct cursor *row)
{
    static const uint32_t missing_bits = 0x7fc00000;
    for (uint32_t i = 0; i < column->width; i++) {
        const float value = cursor_f32(row);
        if (isfinite(value)) {
            continue;
        }
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (bits != missing_bits) {
            FAIL(ERR_INVALID, "holds an infinite number or a NaN other than 0x7fc00000");
        }
        if (!column->missing) {
            FAIL(ERR_INVALID, "a value is missing, and the column does not allow that");
        }
    }
    return OK;
}

static enum err check_values(const struct column *column, struct cursor *row)
{
    switch (column->kind) {
    case COLUMN_NUMERIC:
        return check_numbers(column, row);
    case COLUMN_CATEGORY:
        if (cursor_u16(row) > column->category_count + 1) {
            FAIL(ERR_INVALID, "holds a code beyond its %u categories, other and missing",
                 column->category_count);
        }
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
    return OK;
}

enum err schema_check_row(const struct schema *schema, struct span row)
{
    if (row.bytes > LIMIT_RECORD_BYTES) {
        FAIL(ERR_INVALID, "the row has %zu bytes, expected at most %d", row.bytes,
             (int)LIMIT_RECORD_BYTES);
    }
    struct cursor cursor = cursor_of(row);
    if (schema->task == TASK_CLASSES && cursor_u16(&cursor) >= schema->class_count) {
        FAIL(ERR_INVALID, "label (%s): no such class, expected one of %u", schema->label,
             schema->class_count);
    }
    if (schema->task == TASK_NUMBER && !isfinite(cursor_f32(&cursor))) {
        FAIL(ERR_INVALID, "label (%s): not a finite number", schema->label);
    }
    if (cursor.bad) {
        FAIL(ERR_INVALID, "the row ends within its label");
    }
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        TRY_AS(check_values(column, &cursor), "column %u (%s)", i + 1, column->name);
        if (cursor.bad) {
            FAIL(ERR_INVALID, "column %u (%s): the row ends too early", i + 1, column->name);
        }
    }
    if (cursor.left != 0) {
        FAIL(ERR_INVALID, "the row has %zu bytes more than its columns", cursor.left);
    }
    return OK;
}

// --- Look-up ---

int64_t schema_text_column(const struct schema *schema)
{
    int64_t found = -1;
    for (uint32_t i = 0; i < schema->column_count; i++) {
        if (schema->columns[i].kind == COLUMN_TEXT) {
            if (found >= 0) {
                return -1;
            }
            found = i;
        }
    }
    return found;
}

static int compare_span(struct span text, const char *name)
{
    const size_t name_bytes = strlen(name);
    const size_t shorter = text.bytes < name_bytes ? text.bytes : name_bytes;
    const int order = shorter == 0 ? 0 : memcmp(text.data, name, shorter);
    if (order != 0 || text.bytes == name_bytes) {
        return order;
    }
    return text.bytes < name_bytes ? -1 : 1;
}

int64_t schema_category(const struct column *column, struct span text)
{
    uint32_t low = 0, high = column->category_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = compare_span(text, column->categories[middle]);
        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return -1;
}

int64_t schema_class(const struct schema *schema, struct span text)
{
    for (uint32_t i = 0; i < schema->class_count; i++) {
        if (compare_span(text, schema->classes[i]) == 0) {
            return i;
        }
    }
    return -1;
}

uint32_t schema_output_width(const struct schema *schema)
{
    return schema->task == TASK_CLASSES ? schema->class_count : 1;
}
