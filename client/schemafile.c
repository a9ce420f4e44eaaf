// client/schemafile.c: see schemafile.h.
#include "client/schemafile.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "client/source.h"

// Indices are enum column_kind.
static const char *const types[] = {"", "numeric", "category", "pixels", "text", "ignored"};

// --- Writing ---

static void set(json_t *object, const char *key, json_t *value)
{
    CHECK(json_object_set_new(object, key, value) == 0); // Clean UTF-8, and memory does not fail.
}

static json_t *texts_json(char *const *texts, uint32_t count)
{
    json_t *const array = json_array();
    for (uint32_t i = 0; i < count; i++) {
        CHECK(json_array_append_new(array, json_string(texts[i])) == 0);
    }
    return array;
}

static json_t *column_json(const struct column *column)
{
    json_t *const json = json_object();
    set(json, "name", json_string(column->name));
    set(json, "type", json_string(types[column->kind]));
    if (column->kind == COLUMN_NUMERIC) {
        set(json, "width", json_integer(column->width));
        set(json, "missing", json_boolean(column->missing));
        set(json, "standardise", json_boolean(column->standardise));
        set(json, "offset", json_real((double)column->offset));
        set(json, "scale", json_real((double)column->scale));
    } else if (column->kind == COLUMN_CATEGORY) {
        set(json, "categories", texts_json(column->categories, column->category_count));
    } else if (column->kind == COLUMN_PIXELS) {
        set(json, "rows", json_integer(column->rows));
        set(json, "cols", json_integer(column->cols));
    }
    return json;
}

static json_t *label_json(const struct schema *schema)
{
    if (schema->task == TASK_NONE) {
        return json_null();
    }
    json_t *const json = json_object();
    set(json, "name", json_string(schema->label));
    if (schema->task == TASK_CLASSES) {
        set(json, "type", json_string("classes"));
        set(json, "classes", texts_json(schema->classes, schema->class_count));
    } else {
        set(json, "type", json_string("number"));
        set(json, "standardise", json_boolean(schema->label_standardise));
    }
    return json;
}

static int append(const char *text, size_t bytes, void *out)
{
    buf_put(out, span_of(text, bytes));
    return 0;
}

void schemafile_put(const struct schema *schema, struct buf *text_out)
{
    json_t *const root = json_object();
    json_t *const columns = json_array();
    for (uint32_t i = 0; i < schema->column_count; i++) {
        CHECK(json_array_append_new(columns, column_json(&schema->columns[i])) == 0);
    }
    set(root, "columns", columns);
    set(root, "label", label_json(schema));
    CHECK(json_dump_callback(root, append, text_out, JSON_INDENT(2) | JSON_SORT_KEYS) == 0);
    buf_u8(text_out, '\n');
    json_decref(root);
}

// --- Reading ---

// Refuses keys that are not in the list, which ends with NULL.
static enum err check_keys(const json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;
    // The iteration does not change the object, but jansson 2.14 has no const form of it.
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0) {
            i++;
        }
        if (known[i] == NULL) {
            FAIL(ERR_INVALID, "unknown key \"%.60s\"", key);
        }
    }
    return OK;
}

static enum err get_text(const json_t *object, const char *key, const char **text_out)
{
    const json_t *const json = json_object_get(object, key);
    if (!json_is_string(json)) {
        FAIL(ERR_INVALID, "\"%s\" is %s, expected a string", key,
             json == NULL ? "missing" : "no string");
    }
    *text_out = json_string_value(json);
    return OK;
}

static enum err get_bool(const json_t *object, const char *key, bool *value_out)
{
    const json_t *const json = json_object_get(object, key);
    if (json != NULL && !json_is_boolean(json)) {
        FAIL(ERR_INVALID, "\"%s\" is neither true nor false", key);
    }
    *value_out = json_is_true(json);
    return OK;
}

static enum err get_count(const json_t *object, const char *key, uint32_t *count_out)
{
    const json_t *const json = json_object_get(object, key);
    const json_int_t count = json_integer_value(json);
    if (!json_is_integer(json) || count < 1 || count > LIMIT_RECORD_VALUES) {
        FAIL(ERR_INVALID, "\"%s\" is %s, expected a whole number from 1 to %d", key,
             json == NULL ? "missing" : "something else", (int)LIMIT_RECORD_VALUES);
    }
    *count_out = (uint32_t)count;
    return OK;
}

static enum err get_float(const json_t *object, const char *key, float *number_out)
{
    const json_t *const json = json_object_get(object, key);
    if (json == NULL) {
        return OK;
    }
    const double number = json_number_value(json);
    if (!json_is_number(json) || fabs(number) > (double)FLT_MAX) {
        FAIL(ERR_INVALID, "\"%s\" is no number in the range of float32", key);
    }
    *number_out = (float)number;
    return OK;
}

// An array of strings, as owned texts.
static enum err get_texts(const json_t *object, const char *key, uint32_t count_max,
                          char ***texts_out, uint32_t *count_out)
{
    const json_t *const array = json_object_get(object, key);
    if (!json_is_array(array) || json_array_size(array) > count_max) {
        FAIL(ERR_INVALID, "\"%s\" is %s, expected a list of at most %u strings", key,
             array == NULL ? "missing" : "something else", count_max);
    }
    const uint32_t count = (uint32_t)json_array_size(array);
    for (uint32_t i = 0; i < count; i++) {
        if (!json_is_string(json_array_get(array, i))) {
            FAIL(ERR_INVALID, "\"%s\" entry %u is no string", key, i + 1);
        }
    }
    char **const texts = count > 0 ? mem_alloc(count, sizeof *texts) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        texts[i] = mem_text(json_string_value(json_array_get(array, i)));
    }
    *texts_out = texts;
    *count_out = count;
    return OK;
}

static enum err get_numeric(const json_t *json, struct column *column)
{
    static const char *const keys[] = {"name",        "type",   "width", "missing",
                                       "standardise", "offset", "scale", NULL};
    TRY(check_keys(json, keys));
    if (json_object_get(json, "width") != NULL) {
        TRY(get_count(json, "width", &column->width));
    }
    TRY(get_bool(json, "missing", &column->missing));
    TRY(get_bool(json, "standardise", &column->standardise));
    TRY(get_float(json, "offset", &column->offset));
    return get_float(json, "scale", &column->scale);
}

static enum err get_pixels(const json_t *json, struct column *column)
{
    static const char *const keys[] = {"name", "type", "rows", "cols", NULL};
    TRY(check_keys(json, keys));
    TRY(get_count(json, "rows", &column->rows));
    TRY(get_count(json, "cols", &column->cols));
    const uint64_t width = (uint64_t)column->rows * column->cols;
    column->width = width <= LIMIT_RECORD_VALUES ? (uint32_t)width : 0; // 0: schema_check refuses.
    return OK;
}

static enum err get_type(const char *type, struct column *column)
{
    for (uint32_t kind = COLUMN_NUMERIC; kind <= COLUMN_IGNORED; kind++) {
        if (strcmp(types[kind], type) == 0) {
            column->kind = (enum column_kind)kind;
            return OK;
        }
    }
    FAIL(ERR_INVALID, "unknown type \"%.40s\", expected numeric, category, pixels, text or ignored",
         type);
}

// What follows the name, by type.
static enum err get_body(const json_t *json, struct column *column)
{
    static const char *const keys_category[] = {"name", "type", "categories", NULL};
    static const char *const keys_plain[] = {"name", "type", NULL};
    const char *type = "";
    TRY(get_text(json, "type", &type));
    TRY(get_type(type, column));
    switch (column->kind) {
    case COLUMN_NUMERIC:
        return get_numeric(json, column);
    case COLUMN_CATEGORY:
        TRY(check_keys(json, keys_category));
        return get_texts(json, "categories", LIMIT_CATEGORIES, &column->categories,
                         &column->category_count);
    case COLUMN_PIXELS:
        return get_pixels(json, column);
    case COLUMN_TEXT:
    case COLUMN_IGNORED:
        break;
    }
    return check_keys(json, keys_plain);
}

static enum err get_column(const json_t *json, uint32_t number, struct column *column)
{
    *column = (struct column){.width = 1, .scale = 1};
    if (!json_is_object(json)) {
        column->name = mem_text("");
        FAIL(ERR_INVALID, "column %u is no object", number);
    }
    const char *name = "";
    const enum err err = get_text(json, "name", &name);
    column->name = mem_text(name);
    if (err != OK) {
        return err_context(err, "column %u", number);
    }
    TRY_AS(get_body(json, column), "column %u \"%.60s\"", number, name);
    return OK;
}

static enum err get_label_body(const json_t *json, struct schema *schema)
{
    static const char *const keys_classes[] = {"name", "type", "classes", NULL};
    static const char *const keys_number[] = {"name", "type", "standardise", NULL};
    const char *type = "";
    TRY(get_text(json, "type", &type));
    if (strcmp(type, "classes") == 0) {
        schema->task = TASK_CLASSES;
        TRY(check_keys(json, keys_classes));
        return get_texts(json, "classes", LIMIT_CLASSES, &schema->classes, &schema->class_count);
    }
    if (strcmp(type, "number") == 0) {
        schema->task = TASK_NUMBER;
        TRY(check_keys(json, keys_number));
        return get_bool(json, "standardise", &schema->label_standardise);
    }
    FAIL(ERR_INVALID, "unknown type \"%.40s\", expected classes or number", type);
}

static enum err get_label(const json_t *json, struct schema *schema)
{
    const char *name = "";
    enum err err = OK;
    if (json != NULL && !json_is_null(json)) {
        err = json_is_object(json) ? get_text(json, "name", &name)
                                   : err_raise(ERR_INVALID, "expected an object or null");
    }
    schema->label = mem_text(name);
    if (err == OK && json_is_object(json)) {
        err = get_label_body(json, schema);
    }
    return err == OK ? OK : err_context(err, "label");
}

static enum err get_schema(const json_t *root, struct schema *schema)
{
    static const char *const keys[] = {"columns", "label", NULL};
    schema->label = NULL;
    if (!json_is_object(root)) {
        FAIL(ERR_INVALID, "expected a JSON object with \"columns\" and \"label\"");
    }
    TRY(check_keys(root, keys));
    const json_t *const columns = json_object_get(root, "columns");
    if (!json_is_array(columns) || json_array_size(columns) > LIMIT_COLUMNS) {
        FAIL(ERR_INVALID, "\"columns\" is %s, expected a list of at most %d columns",
             columns == NULL ? "missing" : "something else", (int)LIMIT_COLUMNS);
    }
    const uint32_t count = (uint32_t)json_array_size(columns);
    schema->columns = mem_alloc(count, sizeof *schema->columns);
    for (uint32_t i = 0; i < count; i++) {
        schema->column_count = i + 1;
        TRY(get_column(json_array_get(columns, i), i + 1, &schema->columns[i]));
    }
    TRY(get_label(json_object_get(root, "label"), schema));
    return schema_check(schema);
}

enum err schemafile_get(const char *name, struct span text, struct schema *schema_out)
{
    *schema_out = (struct schema){0};
    json_error_t error;
    json_t *const root = json_loadb(text.bytes > 0 ? text.data : "", text.bytes,
                                    JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (root == NULL) {
        FAIL(ERR_INVALID, "%s line %d column %d: not valid JSON: %s", name, error.line,
             error.column, error.text);
    }
    const enum err err = get_schema(root, schema_out);
    json_decref(root);
    if (err != OK) {
        schema_deinit(schema_out);
        return err_context(err, "%s", name);
    }
    return OK;
}

static enum err read_text(struct source *source, struct buf *text)
{
    size_t got;
    TRY(source_read(source, buf_room(text, SCHEMAFILE_BYTES + 1), SCHEMAFILE_BYTES + 1, &got));
    text->bytes = got;
    if (got > SCHEMAFILE_BYTES) {
        FAIL(ERR_LIMIT, "%s is longer than %d bytes", source->path, (int)SCHEMAFILE_BYTES);
    }
    return OK;
}

enum err schemafile_read(const char *path, struct schema *schema_out)
{
    *schema_out = (struct schema){0};
    struct source *source;
    TRY(source_open(path, &source));
    struct buf text = {0};
    enum err err = read_text(source, &text);
    source_close(source);
    if (err == OK) {
        err = schemafile_get(path, buf_span(&text), schema_out);
    }
    buf_deinit(&text);
    return err;
}
