// client/specfile.c: see specfile.h.
#include "client/specfile.h"

#include "base/limits.h"
#include "base/yaml.h"
#include "client/source.h"

static enum err set(void *context, const char *key, const char *value)
{
    return spec_set(context, key, value);
}

enum err specfile_get(const char *name, struct span text, struct spec *spec)
{
    if (text.bytes > LIMIT_SPEC_BYTES) {
        FAIL(ERR_LIMIT, "%s is longer than %d bytes", name, (int)LIMIT_SPEC_BYTES);
    }
    struct spec changed = *spec;
    TRY(yaml_pairs(name, text, set, &changed));
    *spec = changed;
    return OK;
}

enum err specfile_read(const char *path, struct spec *spec)
{
    char text[LIMIT_SPEC_BYTES + 1];
    struct source *source;
    size_t got;
    TRY(source_open(path, &source));
    const enum err err = source_read(source, text, sizeof text, &got);
    source_close(source);
    TRY(err);
    return specfile_get(path, span_of(text, got), spec);
}
