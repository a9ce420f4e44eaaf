// store/value.c: see value.h.
#include "store/value.h"

#include <string.h>

#include "store/private.h"

enum err value_put(struct txn *txn, enum kv_table table, struct span key, struct span value)
{
    uint8_t *room = NULL;
    TRY(kv_put_room(&txn->kv, table, key, VALUE_HEAD_BYTES + value.bytes, &room));
    room[0] = VALUE_FORMAT_PLAIN;
    if (value.bytes > 0) {
        memcpy(room + VALUE_HEAD_BYTES, value.data, value.bytes);
    }
    return OK;
}

enum err value_of(struct txn *txn, enum kv_table table, struct span key, struct span stored,
                  struct span *value_out)
{
    (void)txn;
    const uint8_t *const bytes = stored.data;
    if (stored.bytes < VALUE_HEAD_BYTES) {
        FAIL(ERR_CORRUPT, "%s: the value is empty, expected a format byte",
             kv_label_of(table, key).text);
    }
    if (bytes[0] != VALUE_FORMAT_PLAIN) {
        FAIL(ERR_CORRUPT, "%s: the value has format %u, expected %d", kv_label_of(table, key).text,
             bytes[0], (int)VALUE_FORMAT_PLAIN);
    }
    *value_out = span_of(bytes + VALUE_HEAD_BYTES, stored.bytes - VALUE_HEAD_BYTES);
    return OK;
}

enum err value_get(struct txn *txn, enum kv_table table, struct span key, struct span *value_out)
{
    struct span stored;
    TRY(kv_get(&txn->kv, table, key, &stored));
    return value_of(txn, table, key, stored, value_out);
}

enum err value_exists(struct txn *txn, enum kv_table table, struct span key, bool *exists_out)
{
    struct span stored;
    const enum err err = kv_get(&txn->kv, table, key, &stored);
    *exists_out = err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}
