// client/format.h: what a file format must be able to do: one file and one row of reader.c's table.
//
// A format turns a list of files into rows of a table. It knows nothing of ids, subjects, labels,
// limits or schemas: these are the same for all and live in reader.c.
//
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/table.h"

struct format {
    const char *name;       // As --format takes it.
    const char *unit;       // What table.number counts: "line" or "record".
    const char *label;      // Column that is the label unless the user says otherwise, or NULL.
    bool open_columns;      // Any row may bring a new column; an absent one is missing.
    bool standardise;       // Numeric columns are proposed as standardised.
    bool classes_from_zero; // Labels are the classes 0, 1, .. to the greatest that occurs.
    const char *extension;  // ".csv"; a file is recognised by it (also before ".gz") ...
    bool (*recognises)(struct span head); // ... or by its first 16 bytes; NULL: never.

    // Opens the first file and makes the table's columns. `files` stays valid until close.
    //   Any error of source.h; ERR_INVALID names the file and what was found and expected.
    //   On error nothing is held.
    enum err (*open)(const char *const *files, size_t file_count, struct table *table,
                     void **state_out);
    // Reads the next row, going on to the next file by itself; *more_out is false after the last.
    enum err (*next)(void *state, struct table *table, bool *more_out);
    void (*close)(void *state);
};

extern const struct format csv_format;
extern const struct format idx_format;
extern const struct format npy_format;
extern const struct format libsvm_format;
extern const struct format jsonl_format;
