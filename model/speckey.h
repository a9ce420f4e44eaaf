// model/speckey.h: the one table of a spec's keys, which spec.c walks.
//
// Inside model/ only; the rest of the project includes spec.h. A new key is one field of struct spec
// and one row of speckey.c.
//
// Threads   Constant.
#pragma once

#include "model/spec.h"

enum speckey_type {
    TYPE_LEARNER,
    TYPE_NAME,
    TYPE_NAMES,
    TYPE_WIDTHS,
    TYPE_PROBABILITIES,
    TYPE_RISK,
    TYPE_CHOICE,
    TYPE_BOOL,
    TYPE_U32,
    TYPE_U64,
    TYPE_F64,
};
enum speckey_range { CLOSED, OPEN_LOW, OPEN_HIGH }; // Which end of a number's range is left out.

enum { SPECKEY_NAME_BYTES = 64 };

struct speckey {
    const char *name;
    enum speckey_type type;
    size_t offset;                          // Of the field in struct spec.
    double low, high;                       // TYPE_U32, TYPE_F64, and widths.
    enum speckey_range range;               // TYPE_F64.
    bool power_of_two;                      // TYPE_U32.
    const char *const *choices;             // TYPE_CHOICE, TYPE_LEARNER, TYPE_BOOL; ends with NULL.
    bool (*in_effect)(const struct spec *); // NULL: always.
    const char *fallback;
    const char *values; // For people.
};

extern const struct speckey speckey_table[];
extern const size_t speckey_count;

// Whether slice_probabilities have an effect.
bool speckey_has_probabilities(const struct spec *spec);
