// base/yaml.c: see yaml.h. The only file that includes libyaml's header.
#include "base/yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/bytes.h"

// A value holds a list of LIMIT_SLICES numbers of 24 characters.
enum { DEPTH_MAX = 4, KEY_BYTES_MAX = 128, VALUE_BYTES_MAX = 6 * 1024 };

struct reading {
    yaml_parser_t parser;
    const char *name;
    enum err (*set)(void *context, const char *key, const char *value);
    void *context;
    struct buf keys; // Seen so far, each with its NUL.
};

static const char *event_name(yaml_event_type_t type)
{
    return type == YAML_SEQUENCE_START_EVENT  ? "a list"
           : type == YAML_MAPPING_START_EVENT ? "a mapping"
           : type == YAML_ALIAS_EVENT         ? "an alias"
           : type == YAML_SCALAR_EVENT        ? "a value"
                                              : "the end";
}

static size_t line_of(const yaml_event_t *event)
{
    return event->start_mark.line + 1;
}

static enum err check_plain(const struct reading *file, const yaml_event_t *event)
{
    const bool scalar = event->type == YAML_SCALAR_EVENT;
    const bool list = event->type == YAML_SEQUENCE_START_EVENT;
    const bool mapping = event->type == YAML_MAPPING_START_EVENT;
    const bool anchored = (scalar && event->data.scalar.anchor != NULL) ||
                          (list && event->data.sequence_start.anchor != NULL) ||
                          (mapping && event->data.mapping_start.anchor != NULL);
    const bool tagged = (scalar && event->data.scalar.tag != NULL) ||
                        (list && event->data.sequence_start.tag != NULL) ||
                        (mapping && event->data.mapping_start.tag != NULL);
    if (anchored || tagged || event->type == YAML_ALIAS_EVENT) {
        FAIL(ERR_INVALID,
             "%s line %zu: found %s, expected a plain value: anchors, aliases and "
             "tags are not used in this file",
             file->name, line_of(event),
             anchored ? "an anchor"
             : tagged ? "a tag"
                      : "an alias");
    }
    return OK;
}

// The next event; the caller deletes it, unless this fails.
static enum err next_event(struct reading *file, yaml_event_t *event)
{
    if (yaml_parser_parse(&file->parser, event) == 0) {
        const yaml_parser_t *const parser = &file->parser;
        FAIL(ERR_INVALID, "%s line %zu: not valid YAML: %s", file->name,
             parser->problem_mark.line + 1,
             parser->problem != NULL ? parser->problem : "out of memory");
    }
    const enum err err = check_plain(file, event);
    if (err != OK) {
        yaml_event_delete(event);
    }
    return err;
}

// Copies a scalar as text. A NUL in it would cut it short.
static enum err take_scalar(const struct reading *file, const yaml_event_t *event, char *out,
                            size_t capacity)
{
    const size_t bytes = event->data.scalar.length;
    if (bytes >= capacity || memchr(event->data.scalar.value, '\0', bytes) != NULL) {
        FAIL(ERR_INVALID, "%s line %zu: a text of %zu bytes, expected at most %zu without NUL",
             file->name, line_of(event), bytes, capacity - 1);
    }
    memcpy(out, event->data.scalar.value, bytes);
    out[bytes] = '\0';
    return OK;
}

static bool seen(const struct reading *file, const char *key)
{
    const char *const keys = (const char *)file->keys.data; // NULL before the first.
    for (size_t at = 0; at < file->keys.bytes; at += strlen(keys + at) + 1) {
        if (strcmp(keys + at, key) == 0) {
            return true;
        }
    }
    return false;
}

static enum err set_key(struct reading *file, size_t line, const char *key, const char *value)
{
    if (seen(file, key)) {
        FAIL(ERR_INVALID, "%s line %zu: key \"%s\" comes twice, expected once", file->name, line,
             key);
    }
    buf_put(&file->keys, span_of(key, strlen(key) + 1));
    TRY_AS(file->set(file->context, key, value), "%s line %zu", file->name, line);
    return OK;
}

// One element of a list: appended to value as ",text". `event` is the caller's.
static enum err add_element(const struct reading *file, const yaml_event_t *event, const char *key,
                            char value[static VALUE_BYTES_MAX])
{
    if (event->type != YAML_SCALAR_EVENT) {
        FAIL(ERR_INVALID, "%s line %zu: the list of \"%s\" holds %s, expected plain values",
             file->name, line_of(event), key, event_name(event->type));
    }
    const size_t at = strlen(value);
    char element[VALUE_BYTES_MAX];
    TRY(take_scalar(file, event, element, sizeof element));
    if (strchr(element, ',') != NULL || at + strlen(element) + 2 > VALUE_BYTES_MAX) {
        FAIL(ERR_INVALID, "%s line %zu: the list of \"%s\" is too long or holds a comma",
             file->name, line_of(event), key);
    }
    snprintf(value + at, VALUE_BYTES_MAX - at, "%s%s", at > 0 ? "," : "", element);
    return OK;
}

static enum err take_list(struct reading *file, size_t line, const char *key)
{
    char value[VALUE_BYTES_MAX] = "";
    while (true) {
        yaml_event_t event;
        TRY(next_event(file, &event));
        const bool end = event.type == YAML_SEQUENCE_END_EVENT;
        const enum err err = end ? OK : add_element(file, &event, key, value);
        yaml_event_delete(&event);
        TRY(err);
        if (end) {
            break;
        }
    }
    return set_key(file, line, key, value);
}

static enum err take_mapping(struct reading *file, const char *prefix, int depth);

// The value of `key`, whose first event is given and the caller's.
static enum err take_value(struct reading *file, const yaml_event_t *event, const char *key,
                           int depth)
{
    const size_t line = line_of(event);
    if (event->type == YAML_SEQUENCE_START_EVENT) {
        return take_list(file, line, key);
    }
    if (event->type == YAML_MAPPING_START_EVENT) {
        if (depth >= DEPTH_MAX) {
            FAIL(ERR_INVALID, "%s line %zu: nested deeper than %d", file->name, line,
                 (int)DEPTH_MAX);
        }
        return take_mapping(file, key, depth + 1);
    }
    char value[VALUE_BYTES_MAX];
    TRY(take_scalar(file, event, value, sizeof value));
    return set_key(file, line, key, value);
}

static enum err join_key(const struct reading *file, const yaml_event_t *event, const char *prefix,
                         char key_out[static KEY_BYTES_MAX])
{
    if (event->type != YAML_SCALAR_EVENT) {
        FAIL(ERR_INVALID, "%s line %zu: found %s, expected a key", file->name, line_of(event),
             event_name(event->type));
    }
    const int at = snprintf(key_out, KEY_BYTES_MAX, "%s%s", prefix, prefix[0] != '\0' ? "." : "");
    if (at < 0 || at >= KEY_BYTES_MAX) {
        FAIL(ERR_INVALID, "%s line %zu: the key is longer than %d bytes", file->name,
             line_of(event), (int)KEY_BYTES_MAX - 1);
    }
    return take_scalar(file, event, key_out + at, (size_t)(KEY_BYTES_MAX - at));
}

// The pairs of a mapping whose start was read.
static enum err take_mapping(struct reading *file, const char *prefix, int depth)
{
    while (true) {
        yaml_event_t event;
        TRY(next_event(file, &event));
        const bool end = event.type == YAML_MAPPING_END_EVENT;
        char key[KEY_BYTES_MAX] = "";
        enum err err = end ? OK : join_key(file, &event, prefix, key);
        yaml_event_delete(&event);
        TRY(err);
        if (end) {
            return OK;
        }
        TRY(next_event(file, &event));
        err = take_value(file, &event, key, depth);
        yaml_event_delete(&event);
        TRY(err);
    }
}

// Stream and document are brackets around one mapping; an empty file sets nothing.
static enum err take_stream(struct reading *file)
{
    bool document = false;
    while (true) {
        yaml_event_t event;
        TRY(next_event(file, &event));
        const yaml_event_type_t type = event.type;
        const size_t line = line_of(&event);
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT) {
            return OK;
        }
        if (type == YAML_DOCUMENT_START_EVENT) {
            if (document) {
                FAIL(ERR_INVALID, "%s line %zu: a second document begins, expected one", file->name,
                     line);
            }
            document = true;
        } else if (type == YAML_MAPPING_START_EVENT) {
            TRY(take_mapping(file, "", 1));
        } else if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT) {
            FAIL(ERR_INVALID, "%s line %zu: found %s, expected \"key: value\"", file->name, line,
                 event_name(type));
        }
    }
}

enum err yaml_pairs(const char *name, struct span text,
                    enum err (*set)(void *context, const char *key, const char *value),
                    void *context)
{
    struct reading file = {.name = name, .set = set, .context = context};
    if (yaml_parser_initialize(&file.parser) == 0) {
        FAIL(ERR_LIMIT, "the system refused memory for reading %s", name);
    }
    yaml_parser_set_input_string(&file.parser, text.bytes > 0 ? text.data : (const void *)"",
                                 text.bytes);
    const enum err err = take_stream(&file);
    yaml_parser_delete(&file.parser);
    buf_deinit(&file.keys);
    return err;
}
