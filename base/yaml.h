// base/yaml.h: small YAML files (specs, settings) as flat "key = value" pairs.
//
// Nested mappings are joined by dots (optimizer.rate), lists of scalars by commas. Whoever reads a
// file keeps one table of its keys and checks values as text; that is why this walks libyaml's events
// instead of loading into a struct by a second table.
//
// Refused: anchors, aliases and tags (nothing here needs them, and aliases grow), a second document, a
// key that comes twice.
//
// Threads   Any.
#pragma once

#include "base/bytes.h"
#include "base/err.h"

// Calls `set` for every pair in the order of the text, which the caller has bounded; an error of
// `set` ends the reading and gets "name line N: " put before it.
//   name         stands for the text in messages.
//   ERR_INVALID  line, what was found and expected.
MUST_USE enum err yaml_pairs(const char *name, struct span text,
                             enum err (*set)(void *context, const char *key, const char *value),
                             void *context);
