// client/specfile.h: a spec from a YAML file.
//
//   learner: mlp
//   hidden: [128, 64]
//   optimizer: { kind: sgd, rate: 0.1 }
//
// Nested mappings are joined by dots (optimizer.rate), lists of scalars by commas, and each pair goes
// through spec_set: one table serves YAML, --set, the wire and the digest.
//
// Refused: what base/yaml.h refuses, and anything longer than LIMIT_SPEC_BYTES.
//
// Threads   Any.
#pragma once

#include "base/err.h"
#include "model/spec.h"

// Sets what the file says in *spec, which holds the defaults before. Keys in the order of the file;
// spec_check is the caller's, after --set. On error *spec is unchanged.
//   ERR_INVALID  file, line, key, what was found and expected.
//   ERR_LIMIT    longer than LIMIT_SPEC_BYTES. Else as source.h.
MUST_USE enum err specfile_read(const char *path, struct spec *spec);

// The same from text; `name` stands for it in messages.
MUST_USE enum err specfile_get(const char *name, struct span text, struct spec *spec);
