// base/component.c: see component.h.
#include "base/component.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

bool component_contains(const struct component *component, uint32_t slice)
{
    for (uint32_t i = 0; i < component->count; i++) {
        if (component->list[i] == slice) {
            return true;
        }
    }
    return false;
}

bool component_equal(const struct component *a, const struct component *b)
{
    return a->shard == b->shard && a->count == b->count &&
           memcmp(a->list, b->list, a->count * sizeof a->list[0]) == 0;
}

void component_put(const struct component *component, char out[static COMPONENT_TEXT_BYTES])
{
    CHECK(component->count <= LIMIT_SLICES);
    out[0] = '\0';
    if (component->count == 0) {
        return;
    }
    size_t used = (size_t)snprintf(out, COMPONENT_TEXT_BYTES, "s%u:[", component->shard);
    for (uint32_t i = 0; i < component->count; i++) {
        used += (size_t)snprintf(out + used, COMPONENT_TEXT_BYTES - used, i == 0 ? "%u" : ",%u",
                                 component->list[i]);
    }
    snprintf(out + used, COMPONENT_TEXT_BYTES - used, "]");
}

// Reads digits at *at; false when there is none or the value exceeds max.
static bool number(const char **at, uint32_t max, uint32_t *value_out)
{
    uint32_t value = 0;
    const char *const start = *at;
    for (; **at >= '0' && **at <= '9' && *at - start < 9; (*at)++) {
        value = value * 10 + (uint32_t)(**at - '0');
    }
    *value_out = value;
    return *at != start && value <= max && (*start != '0' || *at - start == 1);
}

enum err component_get(const char *text, struct component *component_out)
{
    *component_out = (struct component){0};
    const char *at = text;
    bool good = *at++ == 's' && number(&at, LIMIT_SHARDS - 1, &component_out->shard) &&
                at[0] == ':' && at[1] == '[';
    for (at += good ? 2 : 0; good;) {
        uint32_t slice = 0;
        good = component_out->count < LIMIT_SLICES && number(&at, LIMIT_SLICES - 1, &slice) &&
               !component_contains(component_out, slice) && (*at == ',' || *at == ']');
        if (good) {
            component_out->list[component_out->count++] = (uint16_t)slice;
            if (*at++ == ']') {
                break;
            }
        }
    }
    if (!good || *at != '\0') {
        FAIL(ERR_INVALID, "not a component name, expected for example s3:[2,0,1]");
    }
    return OK;
}
