// client/schemafile.h: a schema as JSON text, for people to read, edit and give back.
//
//   {
//     "columns": [
//       {"name": "age", "type": "numeric", "width": 1, "missing": false, "standardise": true,
//        "offset": 0.0, "scale": 1.0},
//       {"name": "sex", "type": "category", "categories": ["Female", "Male"]},
//       {"name": "scan", "type": "pixels", "rows": 28, "cols": 28},
//       {"name": "note", "type": "text"},
//       {"name": "zip", "type": "ignored"}
//     ],
//     "label": {"name": "income", "type": "classes", "classes": ["<=50K", ">50K"]}
//   }
//
// A numeric column may leave out everything but name and type: width 1, nothing missing, not
// standardised, offset 0, scale 1. A label that is a number: {"name": .., "type": "number",
// "standardise": true}. Without a label: null, or no such key. Writing and reading again gives the
// same schema, bit for bit.
//
// Threads   Any.
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "model/schema.h"

// Appends the JSON text, keys sorted, indented by two blanks, with a line end.
void schemafile_put(const struct schema *schema, struct buf *text_out);

// Reads JSON text; `name` stands for it in messages. *schema_out is owned by the caller, {0} on
// error.
//   ERR_INVALID  not JSON (line and column), an unknown, missing or mistyped key, an unknown type,
//                or what schema_check refuses; the message names the column.
MUST_USE enum err schemafile_get(const char *name, struct span text, struct schema *schema_out);

// Reads a file. ERR_LIMIT: longer than SCHEMAFILE_BYTES. Else as above and as source.h.
MUST_USE enum err schemafile_read(const char *path, struct schema *schema_out);

// Texts of a schema of LIMIT_SCHEMA_BYTES, each column of 4 canonical bytes with all its keys
// spelled out, indented, and escaped.
enum { SCHEMAFILE_BYTES = 16 * 1024 * 1024 };
