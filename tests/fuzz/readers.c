// tests/fuzz/readers.c: see readers.h.
#include "tests/fuzz/readers.h"

#include "base/check.h"
#include "base/limits.h"
#include "base/risk.h"
#include "base/text.h"
#include "client/encode.h"
#include "client/propose.h"
#include "client/reader.h"

enum {
    LABEL = 1,
    ID = 2,
    SUBJECT = 4,
    RISK = 8,
    SECOND_FILE = 16,
    SIDE_FILE = 32,
    EXCEPT = 64,
    SKIP = 128
};
enum { ROWS_MAX = 200 }; // A few lines of gzip can be millions of rows.

// Reads all records; with a schema, encodes them.
static void read_all(const struct reader_options *options, const struct schema *schema)
{
    struct reader *reader;
    if (reader_open(options, &reader) != OK) {
        CHECK(reader == NULL);
        return;
    }
    struct encode *encode = NULL;
    if (schema != NULL && encode_open(schema, reader, true, &encode) != OK) {
        encode = NULL;
    }
    struct buf row = {0};
    struct record record;
    bool more = true;
    while (reader_next(reader, &record, &more) == OK && more) {
        CHECK(record.id.bytes >= 1 && record.id.bytes <= LIMIT_NAME_BYTES);
        CHECK(text_is_clean(record.id));
        CHECK(record.subject.bytes == 0 || text_check_name("subject", record.subject) == OK);
        CHECK(record.risk < LIMIT_RISK_CLASSES || record.risk == RISK_UNDECLARED);
        if (encode != NULL && encode_record(encode, &row) == OK) {
            CHECK(row.bytes <= LIMIT_RECORD_BYTES);
            CHECK(schema_check_row(schema, buf_span(&row)) == OK); // The coordinator takes it, too.
        }
    }
    const struct reader_progress progress = reader_progress(reader);
    CHECK(progress.bytes_done <= progress.bytes_all);
    CHECK(progress.records <= ROWS_MAX);
    buf_deinit(&row);
    encode_close(encode);
    reader_close(reader);
}

void fuzz_reader(const char *format, const uint8_t *data, size_t size)
{
    if (size == 0) {
        return;
    }
    const uint8_t chosen = data[0];
    struct span rest = span_of(data + 1, size - 1);
    const char *files[2];
    files[0] = fuzz_file(0, fuzz_part(&rest));
    files[1] = (chosen & SECOND_FILE) != 0 ? fuzz_file(1, fuzz_part(&rest)) : NULL;
    const char *const side = fuzz_file(2, rest);
    const struct reader_options options = {
        .files = files,
        .file_count = files[1] == NULL ? 1 : 2,
        .format = format,
        .label = (chosen & LABEL) != 0 ? "label" : NULL,
        .id = (chosen & ID) != 0 ? "id" : NULL,
        .id_prefix = (chosen & SKIP) != 0 ? "p-" : NULL,
        .subject = (chosen & SUBJECT) != 0 && (chosen & SIDE_FILE) == 0 ? "subject" : NULL,
        .subjects_file = (chosen & SUBJECT) != 0 && (chosen & SIDE_FILE) != 0 ? side : NULL,
        .risk = (chosen & RISK) != 0 && (chosen & SIDE_FILE) == 0 ? "risk" : NULL,
        .risk_file = (chosen & RISK) != 0 && (chosen & SIDE_FILE) != 0 ? side : NULL,
        .except_file = (chosen & EXCEPT) != 0 ? side : NULL,
        .skip = (chosen & SKIP) != 0 ? 1 : 0,
        .limit = ROWS_MAX,
    };
    struct schema schema;
    const bool proposed = propose_schema(&options, NULL, NULL, &schema) == OK;
    if (proposed) {
        CHECK(schema_check(&schema) == OK);
        struct buf bytes = {0};
        struct schema again;
        schema_put(&schema, &bytes);
        CHECK(schema_get(buf_span(&bytes), &again) == OK);
        schema_deinit(&again);
        buf_deinit(&bytes);
    }
    read_all(&options, proposed ? &schema : NULL);
    schema_deinit(&schema);
}
