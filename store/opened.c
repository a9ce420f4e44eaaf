// store/opened.c: see opened.h.
#include "store/opened.h"

#include <string.h>

#include "base/mem.h"

struct place {
    enum kv_table table;
    uint16_t key_bytes, stored_bytes, value_bytes; // key_bytes 0: empty.
    uint8_t key[OPENED_KEY_BYTES];
    uint8_t stored[OPENED_VALUE_BYTES];
    uint8_t value[OPENED_VALUE_BYTES];
};

struct opened {
    struct place places[OPENED_PLACES];
};

struct opened *opened_new(void)
{
    return mem_alloc(1, sizeof(struct opened));
}

void opened_free(struct opened *opened)
{
    mem_free(opened);
}

// FNV-1a.
static size_t place_of(enum kv_table table, struct span key)
{
    const uint8_t *const bytes = key.data;
    uint64_t hash = (14695981039346656037U ^ (uint64_t)table) * 1099511628211U;
    for (size_t i = 0; i < key.bytes; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211U;
    }
    return (hash ^ hash >> 32) % OPENED_PLACES;
}

static bool holds(const struct place *place, enum kv_table table, struct span key)
{
    return place->key_bytes > 0 && place->table == table &&
           span_equal(span_of(place->key, place->key_bytes), key);
}

bool opened_get(const struct opened *opened, enum kv_table table, struct span key,
                struct span stored, struct span *value_out)
{
    const struct place *const place = &opened->places[place_of(table, key)];
    if (!holds(place, table, key) ||
        !span_equal(span_of(place->stored, place->stored_bytes), stored)) {
        return false;
    }
    *value_out = span_of(place->value, place->value_bytes);
    return true;
}

static void empty(struct place *place)
{
    mem_wipe(place->value, place->value_bytes);
    place->key_bytes = place->value_bytes = 0;
}

void opened_put(struct opened *opened, enum kv_table table, struct span key, struct span stored,
                struct span value)
{
    struct place *const place = &opened->places[place_of(table, key)];
    empty(place);
    if (key.bytes == 0 || key.bytes > sizeof place->key || stored.bytes > sizeof place->stored ||
        value.bytes > sizeof place->value) {
        return;
    }
    place->table = table;
    place->key_bytes = (uint16_t)key.bytes;
    place->stored_bytes = (uint16_t)stored.bytes;
    place->value_bytes = (uint16_t)value.bytes;
    memcpy(place->key, key.data, key.bytes);
    memcpy(place->stored, stored.data, stored.bytes);
    if (value.bytes > 0) {
        memcpy(place->value, value.data, value.bytes);
    }
}

void opened_forget(struct opened *opened, enum kv_table table, struct span key)
{
    struct place *const place = &opened->places[place_of(table, key)];
    if (holds(place, table, key)) {
        empty(place);
    }
}
