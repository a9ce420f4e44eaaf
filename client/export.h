// client/export.h: a component as an auditor gets it: a directory of five or six files.
//
//   export.json   what is claimed: names, passes, profile, opening of the commitment (docs/format.md)
//   spec.txt      the spec's canonical text
//   schema.bin    the schema's canonical bytes; schema.json the same for people
//   records.bin   the surviving records of its slices, in the order of the list and of the store;
//                 absent where the auditor uses a copy of his own
//   base.bin      shape and weights of the base that the model stands on (basefile.h); absent where it
//                 stands on none, or where the auditor has it already: the digest names it
//
// Whoever has an export knows what it holds for ever; docs/exactness.md says what that means.
//
// Reading trusts nothing: sizes and limits first, then every value, then that they fit each other.
//
// Lifetime  export_read to export_deinit. Threads  One.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/component.h"
#include "base/digest.h"
#include "base/limits.h"
#include "model/base.h"
#include "model/schema.h"
#include "model/spec.h"

enum { EXPORT_FORMAT = 2, EXPORT_JSON_BYTES = 64 * 1024, EXPORT_PATH_BYTES = 4096 };

struct export
{
    char model[LIMIT_NAME_BYTES + 1], dataset[LIMIT_NAME_BYTES + 1];
    char core[LIMIT_NAME_BYTES + 1]; // BLAS core type; "" where nobody knows it any more.
    char build[LIMIT_NAME_BYTES + 1];
    struct component component;
    char name[COMPONENT_TEXT_BYTES];    // Its text.
    struct buf spec_text, schema_bytes; // Owned.
    struct spec spec;
    struct schema schema;                 // Owned.
    uint32_t passes[LIMIT_SLICES];        // Of each stage.
    uint64_t slice_records[LIMIT_SLICES]; // In the order of the list.
    uint64_t records, param_count;
    struct digest profile, digest, commitment;
    uint8_t commit_key[KEY_BYTES];
    bool has_records, with_ids; // records.bin is there; with ids and subjects.
    bool has_placement_key;     // With ids, and without records.
    uint8_t placement_key[KEY_BYTES];
    int64_t trained_us;
    char base_name[LIMIT_NAME_BYTES + 1]; // As the spec says; "": none.
    struct digest base_digest;            // Of the base that the spec names; zeros: none.
    bool has_base;                        // base.bin is there.
    struct base *base;                    // Held; NULL: none, or not there.
};

void export_deinit(struct export *export); // Accepts {0}.

// Makes `dir` (0700) and writes everything but records.bin; base.bin where has_base.
//   ERR_CONFLICT  it exists and is not empty.   ERR_IO  the kernel refused.
MUST_USE enum err export_write(const char *dir, const struct export *export);
// Removes the files that export_write and export_records_* made, and the directory.
void export_remove(const char *dir);

// records.bin: opened with its head, then records as they come (proto/unlearn.proto, ExportChunk),
// then closed. ERR_IO: the kernel refused.
MUST_USE enum err export_records_open(const char *dir, const struct export *export,
                                      FILE **file_out);
MUST_USE enum err export_records_close(FILE *file); // Also after an error.

// Reads and checks everything but records.bin. *export_out is {0} on error.
//   ERR_NOT_FOUND     a file is missing.
//   ERR_INCOMPATIBLE  a newer format.
//   ERR_CORRUPT       anything else that is not what export_write writes; names file and field.
MUST_USE enum err export_read(const char *dir, struct export *export_out);

// Reads a whole file. ERR_NOT_FOUND: none there, or no regular file. ERR_CORRUPT: longer than
// `bytes_max`.
MUST_USE enum err export_file(const char *dir, const char *name, uint64_t bytes_max,
                              struct buf *out);
