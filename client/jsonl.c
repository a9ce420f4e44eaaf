// client/jsonl.c: JSON Lines: one flat JSON object a line; its keys are columns.
//
// Strings, numbers and true/false are values; null and an absent key are missing; arrays and
// objects inside are refused, and so is a key that comes twice. Keys may come in any order and may
// first appear in any line, so the columns are known only after the last. Blank lines are no
// records.
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "client/format.h"
#include "client/source.h"

struct jsonl {
    const char *const *files;
    size_t file_count, file_index;
    struct source *source; // NULL between files
    uint64_t done_bytes;
    struct buf line;
    struct buf numbers; // Texts of the row's numbers, TABLE_NUMBER_BYTES each.
    json_t *object;     // Of the current row: its strings are borrowed by the table.
};

static const char *type_name(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a truth value";
    case JSON_NULL:
        break;
    }
    return "null";
}

static struct value number_value(struct jsonl *jsonl, const json_t *json)
{
    // Room for all numbers of the row was reserved: the text does not move.
    char *const out = (char *)buf_room(&jsonl->numbers, TABLE_NUMBER_BYTES);
    const double number = json_number_value(json);
    struct span text = {0};
    if (json_is_integer(json)) { // Its own digits: an id may be above 2^53.
        const int bytes =
            snprintf(out, TABLE_NUMBER_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
        text = span_of(out, (size_t)bytes);
    } else {
        text = table_number_text(number, out);
    }
    return (struct value){.kind = VALUE_NUMBER, .count = 1, .number = number, .text = text};
}

static enum err take_value(struct jsonl *jsonl, const char *key, const json_t *json,
                           struct value *value_out)
{
    *value_out = (struct value){0};
    if (json_is_object(json) || json_is_array(json)) {
        FAIL(ERR_INVALID,
             "key \"%.60s\" holds %s, expected a string, a number, true, false or null", key,
             type_name(json));
    }
    if (json_is_number(json)) {
        *value_out = number_value(jsonl, json);
    } else if (!json_is_null(json)) {
        const struct span text = json_is_string(json)
                                     ? span_of(json_string_value(json), json_string_length(json))
                                     : span_text(json_is_true(json) ? "true" : "false");
        *value_out = (struct value){.kind = VALUE_STRING, .count = 1, .text = text};
    }
    return OK;
}

static enum err take_object(struct jsonl *jsonl, struct table *table)
{
    table_clear_row(table);
    buf_clear(&jsonl->numbers);
    buf_reserve(&jsonl->numbers, json_object_size(jsonl->object) * TABLE_NUMBER_BYTES);
    const char *key;
    json_t *json;
    uint32_t hint = 0;
    json_object_foreach(jsonl->object, key, json)
    {
        struct value value;
        TRY(take_value(jsonl, key, json, &value));
        int64_t column = table_find(table, span_text(key), hint);
        if (column < 0) {
            column = table->column_count;
            TRY(table_add(table, span_text(key)));
        }
        table->values[column] = value;
        hint = (uint32_t)column + 1;
    }
    return OK;
}

static enum err take_line(struct jsonl *jsonl, struct table *table)
{
    json_decref(jsonl->object);
    json_error_t error;
    jsonl->object = json_loadb((const char *)jsonl->line.data, jsonl->line.bytes,
                               JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (jsonl->object == NULL) {
        // The library's own text repeats what it found there: record content.
        FAIL(ERR_INVALID, "%s at character %d, expected one JSON object",
             json_error_code(&error) == json_error_duplicate_key      ? "a key comes twice"
             : json_error_code(&error) == json_error_numeric_overflow ? "a number is too large"
                                                                      : "not valid JSON",
             error.column);
    }
    if (!json_is_object(jsonl->object)) {
        FAIL(ERR_INVALID, "found %s, expected one JSON object", type_name(jsonl->object));
    }
    return take_object(jsonl, table);
}

static bool is_blank(struct span line)
{
    const char *const at = line.data;
    for (size_t i = 0; i < line.bytes; i++) {
        if (at[i] != ' ' && at[i] != '\t') {
            return false;
        }
    }
    return true;
}

static enum err jsonl_next(void *state, struct table *table, bool *more_out)
{
    struct jsonl *const jsonl = state;
    *more_out = false;
    while (jsonl->file_index < jsonl->file_count) {
        if (jsonl->source == NULL) {
            table->file = jsonl->files[jsonl->file_index];
            TRY(source_open(table->file, &jsonl->source));
        }
        bool more;
        TRY(source_line(jsonl->source, &jsonl->line, &more));
        table->bytes_done = jsonl->done_bytes + jsonl->source->offset;
        table->number = jsonl->source->line;
        if (!more) {
            jsonl->done_bytes += jsonl->source->offset;
            source_close(jsonl->source);
            jsonl->source = NULL;
            jsonl->file_index++;
        } else if (!is_blank(buf_span(&jsonl->line))) {
            TRY_AS(take_line(jsonl, table), "%s line %llu", table->file,
                   (unsigned long long)table->number);
            *more_out = true;
            return OK;
        }
    }
    return OK;
}

static void jsonl_close(void *state)
{
    struct jsonl *const jsonl = state;
    source_close(jsonl->source);
    buf_deinit(&jsonl->line);
    buf_deinit(&jsonl->numbers);
    json_decref(jsonl->object);
    mem_free(jsonl);
}

static enum err jsonl_open(const char *const *files, size_t file_count, struct table *table,
                           void **state_out)
{
    struct jsonl *const jsonl = mem_alloc(1, sizeof *jsonl);
    jsonl->files = files;
    jsonl->file_count = file_count;
    table->file = files[0];
    const enum err err = source_open(files[0], &jsonl->source);
    if (err != OK) {
        jsonl_close(jsonl);
        return err;
    }
    *state_out = jsonl;
    return OK;
}

static bool jsonl_recognises(struct span head)
{
    return head.bytes > 0 && *(const char *)head.data == '{';
}

const struct format jsonl_format = {
    .name = "jsonl",
    .unit = "line",
    .open_columns = true,
    .standardise = true,
    .extension = ".jsonl",
    .recognises = jsonl_recognises,
    .open = jsonl_open,
    .next = jsonl_next,
    .close = jsonl_close,
};
