// client/reader.h: one or more files as a stream of records: id, subject, label, columns.
//
// The formats differ (format.h), the rules do not:
//
//   row      Number of the data row over all files, from 0; a header is no row.
//   id       The text of the --id column, else the row's number; --id-prefix is put before either.
//   --skip   So many rows are read and not given. --limit: so many rows after these are looked at.
//   --except A file of ids, one a line, as they stand with their prefix: these rows are left out.
//            They still count as rows for the numbers, for --skip and for --limit, so that an import
//            without some records gives all others the same ids.
//   subject  The text of the --subject column, or line `row` of the --subjects file; where it is
//            missing the record has none.
//   risk     Class of the subject: the number in the --risk column; or what the --risk-file says of the
//            subject, or of the id where there is none; else undeclared.
//   label    The --label column. IDX, NPY and LIBSVM have a column "label" that is used by itself.
//
// Lifetime  reader_open .. reader_close. The options and their texts are kept until reader_close.
// Threads   One reader, one thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/table.h"

struct format;
struct reader;

// What the command line says. {0} plus files is valid.
struct reader_options {
    const char *const *files; // [file_count], 1 .. ; idx, npy: features, then their labels, ...
    size_t file_count;
    const char *format; // NULL: told from names and first bytes.
    const char *label;  // Column names, or NULL.
    const char *subject;
    const char *id;
    const char *id_prefix;     // NULL: none.
    const char *subjects_file; // NULL: none. Not together with subject.
    const char *risk;          // A column's name, or NULL.
    const char *risk_file;     // NULL: none. Not together with risk.
    const char *except_file;   // NULL: none.
    uint64_t skip;
    uint64_t limit; // 0: all.
};

// One record. Everything is borrowed until the next call on the reader.
struct record {
    uint64_t row;
    struct span id;      // 1 to 255 bytes of clean UTF-8.
    struct span subject; // As id, or 0 bytes: none.
    uint8_t risk;        // Or RISK_UNDECLARED (base/risk.h).
};

// Opens the files and makes the table's columns. *reader_out is NULL on error.
//   ERR_NOT_FOUND  a file does not exist.
//   ERR_INVALID    unknown format, or it cannot be told; a named column does not exist (the message
//                  lists the first ones); options that exclude each other; a damaged file.
//   ERR_LIMIT, ERR_IO   as source.h.
MUST_USE enum err reader_open(const struct reader_options *options, struct reader **reader_out);
void reader_close(struct reader *reader); // Accepts NULL.

// Reads the next record; *more_out is false after the last. Its values are in reader_table.
// Messages begin with file and line or record; they never hold an id, a subject or a value.
//   ERR_INVALID    the row breaks the format; an id is missing or is no name; a class is no number
//                  from 0 to 15; the subjects file has not one line for each row.
//   ERR_LIMIT, ERR_IO   as source.h.
MUST_USE enum err reader_next(struct reader *reader, struct record *record_out, bool *more_out);

// The columns and the values of the current row. In JSON Lines columns are added while rows are
// read. Borrowed until reader_close.
const struct table *reader_table(const struct reader *reader);

// Column indices, -1 for none. Label, id, subject and risk columns are no features.
int64_t reader_label(const struct reader *reader);
bool reader_is_feature(const struct reader *reader, uint32_t column);

// Makes `name` the label column where the user has named none; nothing where no such column is.
// For files that belong to a schema, which knows its label.
void reader_use_label(struct reader *reader, const char *name);

const struct format *reader_format(const struct reader *reader);

// "adult.csv line 17": where the current row is. Borrowed until the next call on the reader.
const char *reader_where(struct reader *reader);

struct reader_progress {
    uint64_t bytes_done, bytes_all; // Of the files as they lie (compressed). done <= all.
    uint64_t rows;                  // Data rows read.
    uint64_t records;               // Records given.
    uint64_t skipped;               // Rows before --skip.
    uint64_t excepted;              // Rows left out by --except.
    uint64_t except_ids;            // Different ids in the --except file.
};
struct reader_progress reader_progress(const struct reader *reader);

// "csv, idx, npy, libsvm, jsonl": for help texts. Static storage.
const char *reader_formats(void);
