// client/settings.c: see settings.h.
#include "client/settings.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "client/files.h"

enum err settings_path(const char *dir, const char *name, char path_out[static SETTINGS_PATH_BYTES])
{
    if (snprintf(path_out, SETTINGS_PATH_BYTES, "%s/%s", dir, name) >= SETTINGS_PATH_BYTES) {
        FAIL(ERR_INVALID, "a path is longer than %d bytes", (int)SETTINGS_PATH_BYTES - 1);
    }
    return OK;
}

static enum err parse(struct settings *settings, struct span text)
{
    json_error_t error;
    settings->object = json_loadb(text.data, text.bytes, JSON_REJECT_DUPLICATES, &error);
    if (settings->object == NULL || !json_is_object(settings->object)) {
        FAIL(ERR_INVALID, "%.200s: %s, expected one JSON object", settings->path,
             settings->object != NULL                                 ? "another JSON value"
             : json_error_code(&error) == json_error_duplicate_key    ? "a key comes twice"
             : json_error_code(&error) == json_error_numeric_overflow ? "a number is too large"
                                                                      : "no valid JSON");
    }
    return OK;
}

enum err settings_open(const char *dir, const char *name, struct settings *settings_out)
{
    *settings_out = (struct settings){.object = NULL};
    TRY(settings_path(dir, name, settings_out->path));
    struct buf text = {0};
    enum err err = files_read(settings_out->path, LIMIT_MODEL_JSON_BYTES, &text);
    if (err == OK) {
        err = parse(settings_out, buf_span(&text));
    }
    buf_deinit(&text);
    if (err != OK) {
        settings_close(settings_out);
    }
    return err;
}

void settings_close(struct settings *settings)
{
    json_decref(settings->object);
    settings->object = NULL;
}

static const json_t *find(const struct settings *settings, const char *key)
{
    const json_t *const json = key == NULL ? NULL : json_object_get(settings->object, key);
    return json_is_null(json) ? NULL : json;
}

enum err settings_find(const struct settings *settings, const char *key, const char *other,
                       const json_t **json_out)
{
    const json_t *const first = find(settings, key), *const second = find(settings, other);
    *json_out = first != NULL ? first : second;
    if (first != NULL && second != NULL && !json_equal(first, second)) {
        FAIL(ERR_INVALID, "%.200s: \"%s\" and \"%s\" differ, though they are two names of one",
             settings->path, key, other);
    }
    return OK;
}

static enum err wrong(const struct settings *settings, const char *key, const char *expected)
{
    FAIL(ERR_INVALID, "%.200s: \"%s\" is not %s", settings->path, key, expected);
}

enum err settings_u32(const struct settings *settings, const char *key, const char *other,
                      uint32_t absent, uint32_t *value_out)
{
    const json_t *json;
    *value_out = absent;
    TRY(settings_find(settings, key, other, &json));
    if (json == NULL) {
        return OK;
    }
    if (!json_is_integer(json) || json_integer_value(json) < 0 ||
        json_integer_value(json) > UINT32_MAX) {
        return wrong(settings, json == find(settings, key) ? key : other,
                     "a whole number of 0 to 2^32 - 1");
    }
    *value_out = (uint32_t)json_integer_value(json);
    return OK;
}

enum err settings_f64(const struct settings *settings, const char *key, double absent,
                      double *value_out)
{
    const json_t *const json = find(settings, key);
    *value_out = absent;
    if (json != NULL && !json_is_number(json)) {
        return wrong(settings, key, "a number");
    }
    if (json != NULL) {
        *value_out = json_number_value(json);
    }
    return OK;
}

enum err settings_bool(const struct settings *settings, const char *key, bool absent,
                       bool *value_out)
{
    const json_t *const json = find(settings, key);
    *value_out = absent;
    if (json != NULL && !json_is_boolean(json)) {
        return wrong(settings, key, "true or false");
    }
    if (json != NULL) {
        *value_out = json_is_true(json);
    }
    return OK;
}

enum err settings_text(const struct settings *settings, const char *key, const char *absent,
                       char value_out[static SETTINGS_TEXT_BYTES])
{
    const json_t *const json = find(settings, key);
    const char *const text = json == NULL ? absent : json_string_value(json);
    if (text == NULL || strlen(text) >= SETTINGS_TEXT_BYTES || !text_is_clean(span_text(text))) {
        return wrong(settings, key, "a short text");
    }
    (void)snprintf(value_out, SETTINGS_TEXT_BYTES, "%s", text);
    return OK;
}

enum err settings_require(const struct settings *settings, const char *key, bool expected)
{
    bool value;
    TRY(settings_bool(settings, key, expected, &value));
    if (value != expected) {
        FAIL(ERR_INVALID, "%.200s: \"%s\" is %s, which is not supported: expected %s",
             settings->path, key, value ? "true" : "false", expected ? "true" : "false");
    }
    return OK;
}
