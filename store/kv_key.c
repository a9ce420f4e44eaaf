// store/kv_key.c: names of the tables, and the bytes of keys (kv.h).
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "store/kv.h"

struct table {
    const char *name;
    size_t number_bytes; // Of the number that each key begins with; 0: none.
};
static const struct table tables[KV_TABLE_COUNT_] = {
    [KV_META] = {"meta", 1},
    [KV_DATASET] = {"dataset", 4},
    [KV_MODEL] = {"model", 4},
    [KV_COMPONENT] = {"component", 4},
    [KV_CELL] = {"cell", 4},
    [KV_WEIGHTS] = {"weights", 8},
    [KV_RECORD] = {"record", 4},
    [KV_INDEX] = {"index", 4},
    [KV_TOMBSTONE] = {"tombstone", 4},
    [KV_IMPORT] = {"import", 8},
    [KV_STAGED] = {"staged", 8},
    [KV_MARK] = {"mark", 8},
    [KV_REQUEST] = {"request", 8},
    [KV_REQUEST_UUID] = {"request_uuid", 0},
    [KV_REQUEST_OPEN] = {"request_open", 8},
    [KV_PENDING] = {"pending", 8},
    [KV_AWAITED] = {"awaited", 8},
    [KV_REQUEST_MODEL] = {"request_model", 8},
    [KV_LOG_ENTRY] = {"log_entry", 8},
    [KV_LOG_NODE] = {"log_node", 1},
    [KV_BASE] = {"base", 4},
    [KV_DOOMED] = {"doomed", 8},
    [KV_TALLY] = {"tally", 4},
    [KV_HOLD] = {"hold", 4},
    [KV_BULK] = {"bulk", 8},
    [KV_ASKED] = {"asked", 8},
    [KV_ANSWER] = {"answer", 8},
    [KV_PRINCIPAL] = {"principal", 4},
};

const char *kv_table_name(enum kv_table table)
{
    CHECK((unsigned)table < KV_TABLE_COUNT_);
    return tables[table].name;
}

struct kv_label kv_label_of(enum kv_table table, struct span key)
{
    struct kv_label label;
    const size_t bytes = tables[table].number_bytes;
    if (bytes == 0 || key.bytes < bytes) {
        snprintf(label.text, sizeof label.text, "table %s", tables[table].name);
        return label;
    }
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++) {
        number = number << 8 | ((const uint8_t *)key.data)[i];
    }
    snprintf(label.text, sizeof label.text, "table %s, entry %llu", tables[table].name,
             (unsigned long long)number);
    return label;
}

void kv_key_put(struct kv_key *key, const void *data, size_t bytes)
{
    CHECK(bytes <= sizeof key->at - key->bytes);
    memcpy(key->at + key->bytes, data, bytes);
    key->bytes += bytes;
}

void kv_key_u8(struct kv_key *key, uint8_t value)
{
    kv_key_put(key, &value, 1);
}

void kv_key_u16(struct kv_key *key, uint16_t value)
{
    kv_key_u8(key, (uint8_t)(value >> 8));
    kv_key_u8(key, (uint8_t)value);
}

void kv_key_u32(struct kv_key *key, uint32_t value)
{
    uint8_t bytes[4];
    be_put32(bytes, value);
    kv_key_put(key, bytes, sizeof bytes);
}

void kv_key_u64(struct kv_key *key, uint64_t value)
{
    uint8_t bytes[8];
    be_put64(bytes, value);
    kv_key_put(key, bytes, sizeof bytes);
}
