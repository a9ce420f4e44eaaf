// client/settings.h: a JSON object of settings that another program wrote, read key by key.
//
// A key that is absent or null has the default that the other program would take. A key that is there
// has the expected type and range, or is refused with file, key and what was expected. Keys that are
// not asked for are none of our business.
//
// Lifetime  settings_open to settings_close.
// Threads   One per object.
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { SETTINGS_PATH_BYTES = 1024, SETTINGS_TEXT_BYTES = 64 };

struct settings {
    char path[SETTINGS_PATH_BYTES]; // For messages.
    json_t *object;
};

// Reads DIR/NAME. On error there is nothing to close.
//   ERR_NOT_FOUND  no such file.   ERR_INVALID  not one JSON object, or a key twice.
//   ERR_LIMIT      above LIMIT_MODEL_JSON_BYTES.   ERR_IO  the kernel refused.
MUST_USE enum err settings_open(const char *dir, const char *name, struct settings *settings_out);
void settings_close(struct settings *settings); // Accepts {0}.

// "DIR/NAME", for other files of the same directory. ERR_INVALID: too long.
MUST_USE enum err settings_path(const char *dir, const char *name,
                                char path_out[static SETTINGS_PATH_BYTES]);

// A key, or where it is absent its other name. ERR_INVALID: both are there and differ. *json_out is
// borrowed; NULL where the key is absent or null. `other` may be NULL.
MUST_USE enum err settings_find(const struct settings *settings, const char *key, const char *other,
                                const json_t **json_out);

// Whole numbers 0 .. UINT32_MAX; what is too large for us, base_shape_check says.
MUST_USE enum err settings_u32(const struct settings *settings, const char *key, const char *other,
                               uint32_t absent, uint32_t *value_out);
MUST_USE enum err settings_f64(const struct settings *settings, const char *key, double absent,
                               double *value_out);
MUST_USE enum err settings_bool(const struct settings *settings, const char *key, bool absent,
                                bool *value_out);
// Copies a text of less than SETTINGS_TEXT_BYTES bytes.
MUST_USE enum err settings_text(const struct settings *settings, const char *key,
                                const char *absent, char value_out[static SETTINGS_TEXT_BYTES]);
// A switch that must stand as `expected`, also where it is absent; what it would do otherwise is not
// what we compute.
MUST_USE enum err settings_require(const struct settings *settings, const char *key, bool expected);
