// client/csv.c: comma-separated text as in RFC 4180, with a header line.
//
// Fields are separated by commas; a field in double quotes may hold commas, line ends and doubled
// quotes. Lines end in LF or CRLF. A UTF-8 byte order mark is dropped. An empty field and `?` are
// missing values; a column of texts takes the `?` as it stands. Every line has as many fields as the header; blank lines are allowed at the end
// only, since a blank line in the middle would shift every row number after it. All files have the
// same header. What this refuses, it refuses with file and line, because a row that was guessed at
// would be trained on.
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "client/format.h"
#include "client/source.h"

struct csv {
    const char *const *files;
    size_t file_count, file_index; // file_index: the file that is open, or to be opened next
    struct source *source;         // NULL between files
    uint64_t line;                 // Line at which the next row begins, from 1.
    uint64_t done_bytes;           // Of the files before this one.
    struct buf text;               // The row's fields, one after the other.
    size_t *ends;                  // [field_count] end of each field in text
    size_t field_count, field_capacity;
};

enum field_state { FIELD_START, FIELD_PLAIN, FIELD_QUOTED, FIELD_CLOSED };

static enum err end_field(struct csv *csv)
{
    if (csv->field_count >= LIMIT_COLUMNS) {
        FAIL(ERR_LIMIT, "more than %d fields", (int)LIMIT_COLUMNS);
    }
    if (csv->field_count == csv->field_capacity) {
        csv->field_capacity = csv->field_capacity == 0 ? 64 : 2 * csv->field_capacity;
        csv->ends = mem_resize(csv->ends, csv->field_capacity, sizeof *csv->ends);
    }
    csv->ends[csv->field_count++] = csv->text.bytes;
    return OK;
}

// One character of a field that is no separator. Advances *state.
static enum err take_byte(struct csv *csv, int byte, enum field_state *state)
{
    if (byte == '\0') {
        FAIL(ERR_INVALID, "holds a NUL byte, expected text");
    }
    if (csv->text.bytes >= LIMIT_ROW_TEXT_BYTES) {
        FAIL(ERR_LIMIT, "the row is longer than %d bytes%s", (int)LIMIT_ROW_TEXT_BYTES,
             *state == FIELD_QUOTED ? "; perhaps a quote is not closed" : "");
    }
    if (byte == '"' && *state == FIELD_START) {
        *state = FIELD_QUOTED;
        return OK;
    }
    if (byte == '"' && *state == FIELD_PLAIN) {
        FAIL(ERR_INVALID, "field %zu has a quote inside, expected the whole field in quotes",
             csv->field_count + 1);
    }
    if (*state == FIELD_CLOSED) {
        FAIL(ERR_INVALID, "field %zu goes on after its closing quote, expected a comma",
             csv->field_count + 1);
    }
    if (*state == FIELD_START) {
        *state = FIELD_PLAIN;
    }
    buf_u8(&csv->text, (uint8_t)byte);
    return OK;
}

// Reads one row; the fields are in text and ends. *more_out false: the file has ended. Sets
// *lines_out to the line ends that the row holds.
static enum err parse_row(struct csv *csv, bool *more_out, uint64_t *lines_out)
{
    enum field_state state = FIELD_START;
    bool any = false;
    buf_clear(&csv->text);
    csv->field_count = 0;
    *lines_out = 0;
    *more_out = false;
    while (true) {
        const int byte = source_byte(csv->source);
        if (byte == SOURCE_ERROR) {
            return csv->source->failed;
        }
        if (byte == SOURCE_END) {
            if (state == FIELD_QUOTED) {
                FAIL(ERR_INVALID, "a quoted field is not closed before the end of the file");
            }
            *more_out = any;
            return any ? end_field(csv) : OK;
        }
        any = true;
        if (state == FIELD_QUOTED) {
            if (byte == '"') {
                state = FIELD_CLOSED; // Or the first of two: see below.
            } else {
                *lines_out += byte == '\n';
                TRY(take_byte(csv, byte, &state));
            }
        } else if (state == FIELD_CLOSED && byte == '"') {
            state = FIELD_QUOTED;
            TRY(take_byte(csv, byte, &state));
        } else if (byte == ',') {
            TRY(end_field(csv));
            state = FIELD_START;
        } else if (byte == '\n' || byte == '\r') {
            const int next = byte == '\r' ? source_byte(csv->source) : '\n';
            if (next == SOURCE_ERROR) {
                return csv->source->failed;
            }
            if (next != '\n') {
                FAIL(ERR_INVALID, "a carriage return without a line feed, expected CRLF or LF");
            }
            *lines_out += 1;
            *more_out = true;
            return end_field(csv);
        } else {
            TRY(take_byte(csv, byte, &state));
        }
    }
}

static struct span field(const struct csv *csv, size_t index)
{
    const size_t begin = index == 0 ? 0 : csv->ends[index - 1];
    const uint8_t *const text = csv->text.data;
    return text == NULL ? span_of("", 0) : span_of(text + begin, csv->ends[index] - begin);
}

static bool is_blank(const struct csv *csv)
{
    return csv->field_count == 1 && csv->ends[0] == 0;
}

// Reads a row and says where it was, unless the source has said so.
static enum err read_row(struct csv *csv, bool *more_out)
{
    uint64_t lines;
    const enum err err = parse_row(csv, more_out, &lines);
    if (err != OK && csv->source->failed == OK) {
        return err_context(err, "%s line %llu", csv->source->path, (unsigned long long)csv->line);
    }
    csv->line += lines;
    return err;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err check_unique(const struct table *table)
{
    const char **const names = mem_alloc(table->column_count, sizeof *names);
    for (uint32_t i = 0; i < table->column_count; i++) {
        names[i] = table->columns[i].name;
    }
    qsort(names, table->column_count, sizeof *names, compare_names);
    const char *twice = NULL;
    for (uint32_t i = 1; i < table->column_count && twice == NULL; i++) {
        twice = strcmp(names[i - 1], names[i]) == 0 ? names[i] : NULL;
    }
    mem_free(names);
    if (twice != NULL) {
        FAIL(ERR_INVALID, "the header names \"%.60s\" twice, expected different names", twice);
    }
    return OK;
}

static enum err take_header(struct csv *csv, struct table *table)
{
    const bool first = table->column_count == 0;
    if (!first && csv->field_count != table->column_count) {
        FAIL(ERR_INVALID, "found %zu columns, expected %u as in %s", csv->field_count,
             table->column_count, csv->files[0]);
    }
    for (size_t i = 0; i < csv->field_count; i++) {
        if (first) {
            TRY_AS(table_add(table, field(csv, i)), "header, column %zu", i + 1);
        } else if (!span_equal(field(csv, i), span_text(table->columns[i].name))) {
            FAIL(ERR_INVALID, "column %zu has another name than in %s, expected \"%.60s\"", i + 1,
                 csv->files[0], table->columns[i].name);
        }
    }
    return first ? check_unique(table) : OK;
}

static enum err drop_mark(struct csv *csv)
{
    static const uint8_t mark[3] = {0xEF, 0xBB, 0xBF};
    bool more;
    TRY(source_fill(csv->source, &more));
    if (csv->source->end >= sizeof mark && memcmp(csv->source->buffer, mark, sizeof mark) == 0) {
        csv->source->at = sizeof mark;
    }
    return OK;
}

static enum err open_file(struct csv *csv, struct table *table)
{
    const char *const path = csv->files[csv->file_index];
    TRY(source_open(path, &csv->source));
    csv->line = 1;
    table->file = path;
    TRY(drop_mark(csv));
    bool more;
    TRY(read_row(csv, &more));
    if (!more) {
        FAIL(ERR_INVALID, "%s is empty, expected a header line with the names of the columns",
             path);
    }
    TRY_AS(take_header(csv, table), "%s line 1", path);
    return OK;
}

static void close_file(struct csv *csv)
{
    csv->done_bytes += csv->source->offset;
    source_close(csv->source);
    csv->source = NULL;
    csv->file_index++;
}

static void set_values(const struct csv *csv, struct table *table)
{
    for (uint32_t i = 0; i < table->column_count; i++) {
        const struct span text = field(csv, i);
        const bool missing = text.bytes == 0 || span_equal(text, span_text("?"));
        table->values[i] = (struct value){
            .kind = missing ? VALUE_MISSING : VALUE_FIELD, .text = text, .count = missing ? 0 : 1};
    }
}

static enum err csv_next(void *state, struct table *table, bool *more_out)
{
    struct csv *const csv = state;
    uint64_t blank_line = 0;
    *more_out = false;
    while (csv->file_index < csv->file_count) {
        if (csv->source == NULL) {
            TRY(open_file(csv, table));
        }
        const uint64_t line = csv->line;
        bool more;
        TRY(read_row(csv, &more));
        table->bytes_done = csv->done_bytes + csv->source->offset;
        if (!more) {
            close_file(csv);
            blank_line = 0;
        } else if (is_blank(csv) && table->column_count > 1) {
            blank_line = blank_line == 0 ? line : blank_line;
        } else {
            const uint64_t bad_line = blank_line != 0 ? blank_line : line;
            const size_t found = blank_line != 0 ? 0 : csv->field_count;
            if (found != table->column_count) {
                FAIL(ERR_INVALID, "%s line %llu: found %zu fields, expected %u", table->file,
                     (unsigned long long)bad_line, found, table->column_count);
            }
            table->number = line;
            set_values(csv, table);
            *more_out = true;
            return OK;
        }
    }
    return OK;
}

static void csv_close(void *state)
{
    struct csv *const csv = state;
    source_close(csv->source);
    buf_deinit(&csv->text);
    mem_free(csv->ends);
    mem_free(csv);
}

static enum err csv_open(const char *const *files, size_t file_count, struct table *table,
                         void **state_out)
{
    struct csv *const csv = mem_alloc(1, sizeof *csv);
    csv->files = files;
    csv->file_count = file_count;
    const enum err err = open_file(csv, table);
    if (err != OK) {
        csv_close(csv);
        return err;
    }
    *state_out = csv;
    return OK;
}

const struct format csv_format = {
    .name = "csv",
    .unit = "line",
    .standardise = true,
    .extension = ".csv",
    .open = csv_open,
    .next = csv_next,
    .close = csv_close,
};
