// client/cmd_upkeep.c: compact, and show: all that is held on a subject (an access request).
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/commands.h"
#include "model/schema.h"
#include "proto/wire.h"

// ---------------------------------------------------------------- compact

enum { POLL_MS = 200 };

static enum err wait_end(struct unlearn *client, const Unlearn__CompactState **state_out)
{
    while ((*state_out)->running) {
        nanosleep(&(struct timespec){0, (long)POLL_MS * 1000000}, NULL);
        TRY(unlearn_compact(client, true, state_out));
    }
    if ((*state_out)->problem[0] != '\0') {
        FAIL(ERR_IO, "the store was not compacted: %s", (*state_out)->problem);
    }
    return OK;
}

static enum err run_compact(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    (void)words;
    const Unlearn__CompactState *state;
    TRY(ctl_connect(ctl));
    TRY(unlearn_compact(ctl->client, false, &state));
    TRY(wait_end(ctl->client, &state));
    if (ctl->json) {
        ctl_print(json_pack("{s:I, s:I}", "bytes_before", (json_int_t)state->bytes_before,
                            "bytes_after", (json_int_t)state->bytes_after));
    } else {
        printf("compacted: %" PRIu64 " bytes before, %" PRIu64 " after\n", state->bytes_before,
               state->bytes_after);
    }
    return OK;
}

const struct ctl_command cmd_compact = {
    .name = "compact",
    .summary = "Write the store anew, without old pages",
    .help =
        "A fresh process copies what is live into a new database file, the coordinator swaps the "
        "two, "
        "and the old file is overwritten and removed. Deleted bytes in old pages cannot be opened "
        "in any "
        "case; this takes them, and the room that they take, away. Predictions go on meanwhile; "
        "everything else waits.\n\n"
        "Example:\n  unlearnctl compact --json",
    .run = run_compact,
};

// ---------------------------------------------------------------- show

struct show_options {
    struct ctl_globals globals;
    const char *subject;
};

static const struct args_option option_table[] = {
    CTL_GLOBAL_OPTIONS,
    {"subject", 's', "SUBJECT", "The person whose records are asked for", ARGS_TEXT,
     offsetof(struct show_options, subject), 0},
};

static json_t *text_json(struct span text)
{
    return json_stringn(text.bytes == 0 ? "" : text.data, text.bytes);
}

static json_t *numeric_json(const struct column *column, struct span value)
{
    struct cursor cursor = cursor_of(value);
    json_t *const list = json_array();
    for (uint32_t i = 0; i < column->width; i++) {
        json_array_append_new(list, ctl_real((double)cursor_f32(&cursor)));
    }
    if (column->width != 1) {
        return list;
    }
    json_t *const one = json_incref(json_array_get(list, 0));
    json_decref(list);
    return one;
}

static json_t *pixels_json(struct span value)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < value.bytes; i++) {
        json_array_append_new(list, json_integer(((const uint8_t *)value.data)[i]));
    }
    return list;
}

static json_t *value_json(const struct column *column, struct span value)
{
    struct cursor cursor = cursor_of(value);
    uint32_t index;
    switch (column->kind) {
    case COLUMN_NUMERIC:
        return numeric_json(column, value);
    case COLUMN_CATEGORY:
        index = cursor_u16(&cursor);
        return index < column->category_count    ? json_string(column->categories[index])
               : index == column->category_count ? json_string("(other)")
                                                 : json_null();
    case COLUMN_PIXELS:
        return pixels_json(value);
    case COLUMN_TEXT:
        return text_json(value);
    case COLUMN_IGNORED:
    default:
        return json_null();
    }
}

static json_t *label_json(const struct schema *schema, struct span row)
{
    struct cursor cursor = cursor_of(row);
    if (schema->task == TASK_CLASSES) {
        const uint32_t index = cursor_u16(&cursor);
        return index < schema->class_count ? json_string(schema->classes[index]) : json_null();
    }
    return ctl_real((double)cursor_f32(&cursor));
}

static enum err record_json(const struct schema *schema, struct cursor *cursor, json_t **out)
{
    const uint32_t generation = cursor_u32(cursor);
    const struct span row = cursor_take(cursor, cursor_u32(cursor));
    const struct span id = cursor_take(cursor, cursor_u16(cursor));
    if (cursor->bad || schema_check_row(schema, row) != OK) {
        FAIL(ERR_CORRUPT, "the coordinator sent a record that is none of the dataset's schema");
    }
    json_t *const values = json_object();
    if (schema->task != TASK_NONE) {
        json_object_set_new(values, schema->label, label_json(schema, row));
    }
    for (uint32_t i = 0; i < schema->column_count; i++) {
        if (schema->columns[i].kind != COLUMN_IGNORED) {
            json_object_set_new(values, schema->columns[i].name,
                                value_json(&schema->columns[i], schema_value(schema, row, i)));
        }
    }
    *out = json_pack("{s:o, s:I, s:o}", "id", text_json(id), "generation", (json_int_t)generation,
                     "values", values);
    return OK;
}

static enum err take_page(const struct schema *schema, const Unlearn__SubjectPage *page,
                          struct span raw, json_t *records)
{
    struct cursor cursor = cursor_of(raw);
    for (uint32_t i = 0; i < page->count; i++) {
        json_t *record = NULL;
        TRY(record_json(schema, &cursor, &record));
        json_array_append_new(records, record);
    }
    return cursor_done(&cursor, "a page of records");
}

static enum err pull_all(struct ctl *ctl, const struct schema *schema, const char *dataset,
                         const char *subject, struct buf *next, json_t *records, uint32_t *risk_out)
{
    for (bool last = false; !last;) {
        const Unlearn__SubjectPage *page;
        struct span raw;
        TRY(unlearn_subject_show(ctl->client, dataset, subject, buf_span(next), &page, &raw));
        TRY(take_page(schema, page, raw, records));
        if (page->count > 0) {
            *risk_out = page->risk;
        }
        last = page->last;
        if (!last && page->count == 0) {
            FAIL(ERR_CORRUPT, "the coordinator sent an empty page before the last");
        }
        buf_clear(next);
        buf_put(next, wire_span(page->next));
    }
    return OK;
}

static void print_records(const json_t *records)
{
    size_t index;
    json_t *record;
    json_array_foreach(records, index, record)
    {
        char *const values = json_dumps(json_object_get(record, "values"), JSON_SORT_KEYS);
        printf("%s  generation %" JSON_INTEGER_FORMAT "  %s\n",
               json_string_value(json_object_get(record, "id")),
               json_integer_value(json_object_get(record, "generation")),
               values == NULL ? "" : values);
        free(values); // jansson's own.
    }
}

static enum err run_show(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct show_options *const given = options;
    const Unlearn__Dataset *dataset;
    struct schema schema;
    struct buf next = {0};
    if (given->subject == NULL) {
        FAIL(ERR_INVALID, "whose records? name them with --subject");
    }
    TRY(ctl_connect(ctl));
    TRY(unlearn_dataset_show(ctl->client, words->texts[0], &dataset));
    TRY_AS(schema_get(wire_span(dataset->schema), &schema), "the schema of the dataset");
    json_t *const records = json_array();
    uint32_t risk = 0;
    const enum err err =
        pull_all(ctl, &schema, words->texts[0], given->subject, &next, records, &risk);
    if (err == OK && ctl->json) {
        ctl_print(json_pack("{s:s, s:s, s:I, s:O}", "dataset", words->texts[0], "subject",
                            given->subject, "risk", (json_int_t)risk, "records", records));
    } else if (err == OK) {
        printf("risk class %u\n", risk);
        print_records(records);
    }
    json_decref(records);
    buf_deinit(&next);
    schema_deinit(&schema);
    return err;
}

const struct ctl_command cmd_show = {
    .name = "show",
    .summary = "List all that is held on a subject",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help = "The risk class of the subject (import --risk), and every record as it is stored: id, "
            "generation, values by column. What a "
            "column "
            "is scaled or encoded to is its schema's (unlearnctl schema DATASET). Exit code 3 when "
            "nothing is "
            "held, so also once a deletion was acknowledged.\n\n"
            "Example:\n  unlearnctl show people --subject alice --json",
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
    .options_bytes = sizeof(struct show_options),
    .run = run_show,
};
