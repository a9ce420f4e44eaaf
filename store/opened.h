// store/opened.h: values that were opened or sealed last, for rows that every request reads: datasets,
// models, components, cells, counters.
//
// What a row opens to depends on nothing but its table, its key and its stored bytes (the sealing key is
// the store's, or named in those bytes and never used for another). So a value is found only by all three, and no
// write, roll-back or change of the file can make what is found here wrong: nothing has to be told.
// Only what must not be found in memory any more, once its row is gone, has to be: opened_forget.
//
// Bounded: one value a place, OPENED_PLACES places, by the hash of table and key; longer values are not kept.
//
// Lifetime  opened_new to opened_free, which wipes.
// Threads   The store thread.
#pragma once

#include <stdbool.h>

#include "base/bytes.h"
#include "store/kv.h"

enum {
    OPENED_PLACES = 1024,     // Some ten shards' components and cells beside the rest; 2 MiB.
    OPENED_KEY_BYTES = 64,    // A component's name of 28 slices.
    OPENED_VALUE_BYTES = 960, // As stored. A model's spec, a schema of some tens of columns.
};

struct opened;

struct opened *opened_new(void);
void opened_free(struct opened *opened); // Accepts NULL.

// False: not known. Else *value_out is borrowed until the next opened_put or opened_forget.
bool opened_get(const struct opened *opened, enum kv_table table, struct span key,
                struct span stored, struct span *value_out);
void opened_put(struct opened *opened, enum kv_table table, struct span key, struct span stored,
                struct span value);
void opened_forget(struct opened *opened, enum kv_table table, struct span key);
