// client/propose.h: a schema from a first look at the data.
//
// The proposal does not depend on the order of the rows. It may hold vocabularies, classes and
// whether something was ever missing; no mean, no range, no single record. What is proposed for a
// column of single values:
//
//   no value at all               ignored
//   every value is a number       numeric, standardised unless the format is sparse
//   few different texts           category: at most LIMIT_CATEGORIES, and from 50 values on at most
//                                 one for every two values
//   other strings of JSON Lines   text, also where one is longer than 64 bytes
//   other columns of a CSV file   without a label text, as above; with one refused: a name or an
//                                 address is no category
//
// Without a label a text is what there is to learn (learner text): there may be one at most, and where
// there is one, found or named by the user, every other column is ignored.
//
// IDX and bytes of NPY are pixels; other NPY and LIBSVM one numeric column "x". Columns stand in the
// order of the file, those of JSON Lines sorted by name. The label is a class unless all labels are
// numbers and either one is not whole or there are more than 100 different ones.
//
// Threads   One.
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "client/reader.h"
#include "model/schema.h"

// Called now and then with the bytes read so far and in all (the files are read up to twice).
struct propose_watch {
    void (*step)(void *context, uint64_t bytes_done, uint64_t bytes_all);
    void *context;
};

// Reads the records that `options` gives and proposes a schema for them; schema_check has passed.
//
//   text         the column that the user says is text, whatever its values are, or NULL
//   watch        may be NULL.
//   schema_out   owned by the caller; {0} on error.
//   ERR_INVALID  no record; a label is missing or is no name; a column that is neither numbers nor
//                categories, or a second text (named, with what to do); no such column `text`, or a
//                label beside it; the schema breaks a limit of its own.
//   ERR_LIMIT    more than LIMIT_CLASSES classes; vocabularies that fit no schema.
//   Else as reader.h.
MUST_USE enum err propose_schema(const struct reader_options *options, const char *text,
                                 const struct propose_watch *watch, struct schema *schema_out);
