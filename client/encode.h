// client/encode.h: records of a reader as rows of a schema (model/schema.h has the layout).
//
// Columns are matched by name. Where the file and the schema do not fit, the import stops with the
// name of the column: a guess would be trained on.
//
//   NUMERIC   one number, or an array of the column's width; missing only where the schema says so
//   CATEGORY  any text or number: its text; unknown texts are "other"
//   PIXELS    bytes of the same rows and columns
//   TEXT      any text or number: its bytes as they are, UTF-8 or not; an absent key, null and an
//             empty field are the empty text; the `?` of a CSV file is a text
//   IGNORED   anything, or no such column in the file
//   label     classes: its text, or for whole numbers the class of that number ("1", "1.0", "+1");
//             number: a number
//
// Lifetime  encode_open .. encode_close; schema and reader are kept until then.
// Threads   One.
#pragma once

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/reader.h"
#include "model/schema.h"

struct encode;

// Matches the reader's columns with the schema. Where the user named no label column, the schema's
// is used.
//
//   labelled     true: every record needs a label (import, evaluate). false: labels are not looked
//                at and written as 0 (predict).
//   ERR_INVALID  a column of the schema is not in the file, or one of the file is not in the schema;
//                kinds that do not fit; another label column than the schema's.
MUST_USE enum err encode_open(const struct schema *schema, struct reader *reader, bool labelled,
                              struct encode **encode_out);
void encode_close(struct encode *encode); // Accepts NULL.

// Writes the reader's current row to row_out, cleared first. On error its bytes are unspecified.
//
//   ERR_INVALID  a value does not fit its column, the label is missing or none of the classes; JSON
//                Lines: an unknown key. Messages name file, line and column, never the value.
//   ERR_LIMIT    the row is longer than LIMIT_RECORD_BYTES.
MUST_USE enum err encode_record(struct encode *encode, struct buf *row_out);
