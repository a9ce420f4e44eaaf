// store/record.c: see record.h. Imports are in import.c.
//
//   record  key    dataset u32 | generation u32 | risk u8 | sid [16] | rid [16]     big-endian
//           value  import u64 | id u16 text | subject u16 text | row to the end
//   index   key    dataset u32 | rid [16]                    Where the row of a rid is. One row a rid.
//           value  generation u32 | risk u8 | sid [16]
//   tombstone  key dataset u32 | kind u8 | rid or sid [16]
//           value  request u64
#include "store/record.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/private.h"

void record_key_put(const struct record_key *key, uint8_t out[static RECORD_KEY_BYTES])
{
    be_put32(out, key->dataset);
    be_put32(out + 4, key->generation);
    out[8] = key->risk;
    memcpy(out + 9, key->sid.bytes, ID_BYTES);
    memcpy(out + 9 + ID_BYTES, key->rid.bytes, ID_BYTES);
}

enum err record_key_get(struct span bytes, struct record_key *key_out)
{
    if (bytes.bytes != RECORD_KEY_BYTES) {
        FAIL(ERR_CORRUPT, "the key of a record has %zu bytes, expected %d", bytes.bytes,
             (int)RECORD_KEY_BYTES);
    }
    const uint8_t *const in = bytes.data;
    key_out->dataset = be_get32(in);
    key_out->generation = be_get32(in + 4);
    key_out->risk = in[8];
    memcpy(key_out->sid.bytes, in + 9, ID_BYTES);
    memcpy(key_out->rid.bytes, in + 9 + ID_BYTES, ID_BYTES);
    if (key_out->risk >= LIMIT_RISK_CLASSES) {
        FAIL(ERR_CORRUPT, "the key of a record has risk class %u, expected 0 to %d", key_out->risk,
             (int)LIMIT_RISK_CLASSES - 1);
    }
    return OK;
}

uint64_t record_hash(const struct id128 *sid)
{
    return be_get64(sid->bytes);
}

static struct kv_key index_key_of(uint32_t dataset, const struct id128 *rid)
{
    struct kv_key key = {0};
    kv_key_u32(&key, dataset);
    kv_key_put(&key, rid->bytes, ID_BYTES);
    return key;
}

// --- Rows ---

enum err record_value_get(struct txn *txn, struct span key, struct span value,
                          struct record_value *value_out)
{
    (void)txn;
    struct cursor cursor = cursor_of(value);
    value_out->import = cursor_u64(&cursor);
    value_out->id = cursor_take(&cursor, cursor_u16(&cursor));
    value_out->subject = cursor_take(&cursor, cursor_u16(&cursor));
    value_out->row = cursor_take(&cursor, cursor.left);
    TRY_AS(cursor_done(&cursor, "a record"), "%s", kv_label_of(KV_RECORD, key).text);
    return OK;
}

enum err record_value_read(struct txn *txn, const struct record_key *key,
                           struct record_value *value_out)
{
    uint8_t bytes[RECORD_KEY_BYTES];
    record_key_put(key, bytes);
    const struct span at = span_of(bytes, sizeof bytes);
    struct span value;
    const enum err err = value_get(txn, KV_RECORD, at, &value);
    if (err == ERR_NOT_FOUND) {
        FAIL(ERR_CORRUPT, "%s: the index names a row that is not there",
             kv_label_of(KV_RECORD, at).text);
    }
    TRY(err);
    return record_value_get(txn, at, value, value_out);
}

enum err record_put(struct txn *txn, const struct record_key *key, const struct record_value *value,
                    uint64_t run)
{
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    keyring_make(txn->store->keyring, run, &name, seal_key);
    uint8_t bytes[RECORD_KEY_BYTES];
    record_key_put(key, bytes);
    struct buf buf = {0};
    buf_reserve(&buf, 12 + value->id.bytes + value->subject.bytes + value->row.bytes);
    buf_u64(&buf, value->import);
    buf_u16(&buf, (uint16_t)value->id.bytes);
    buf_put(&buf, value->id);
    buf_u16(&buf, (uint16_t)value->subject.bytes);
    buf_put(&buf, value->subject);
    buf_put(&buf, value->row);
    enum err err = value_put_under(txn, KV_RECORD, span_of(bytes, sizeof bytes), &name, seal_key,
                                   buf_span(&buf));
    mem_wipe(seal_key, sizeof seal_key);
    if (err == OK) {
        const struct kv_key index = index_key_of(key->dataset, &key->rid);
        buf_clear(&buf);
        buf_u32(&buf, key->generation);
        buf_u8(&buf, key->risk);
        buf_put(&buf, span_of(key->sid.bytes, ID_BYTES));
        err = value_put(txn, KV_INDEX, kv_key_span(&index), buf_span(&buf));
    }
    buf_deinit(&buf);
    return err;
}

enum err record_locate(struct txn *txn, uint32_t dataset, const struct id128 *rid,
                       struct record_key *key_out)
{
    const struct kv_key index = index_key_of(dataset, rid);
    struct span value;
    TRY(value_get(txn, KV_INDEX, kv_key_span(&index), &value));
    struct cursor cursor = cursor_of(value);
    *key_out = (struct record_key){.dataset = dataset, .rid = *rid};
    key_out->generation = cursor_u32(&cursor);
    key_out->risk = cursor_u8(&cursor);
    const struct span sid = cursor_take(&cursor, ID_BYTES);
    TRY_AS(cursor_done(&cursor, "a place of a record"), "%s",
           kv_label_of(KV_INDEX, kv_key_span(&index)).text);
    memcpy(key_out->sid.bytes, sid.data, ID_BYTES);
    return OK;
}

enum err record_find(struct txn *txn, uint32_t dataset, const struct id128 *rid,
                     struct record *record_out)
{
    struct record_key key;
    struct record_value value;
    TRY(record_locate(txn, dataset, rid, &key));
    TRY(record_value_read(txn, &key, &value));
    if (deny_has(&txn->store->deny, &key) || import_is_hidden(txn->store, value.import)) {
        FAIL(ERR_NOT_FOUND, "no such record");
    }
    *record_out = (struct record){key, value.id, value.subject, value.row};
    return OK;
}

// --- Walks ---

// What a walk covers: in each generation of a range and each risk class of a range, the sids of a range.
// Both walks of record.h are of this kind.
struct band {
    uint32_t dataset;
    uint32_t generation_first, generation_last;
    uint8_t risk_first, risk_last;
    struct id128 sid_first, sid_last;
    const struct record_key *after;
    bool keys_only;
    bool denied;         // The denied ones instead of the others.
    uint64_t own_import; // Whose rows are seen though they are hidden; 0: none.
    bool (*each)(void *context, const struct record *record);
    void *context;
};

static enum err band_seek(struct kv_cursor *cursor, const struct band *band, uint32_t generation,
                          uint8_t risk)
{
    const struct record_key key = {
        .dataset = band->dataset, .generation = generation, .risk = risk, .sid = band->sid_first};
    uint8_t bytes[RECORD_KEY_BYTES];
    record_key_put(&key, bytes);
    return kv_cursor_seek(cursor, span_of(bytes, sizeof bytes));
}

// Shows the row at the cursor unless it is hidden.
static enum err band_show(struct txn *txn, const struct kv_cursor *cursor, const struct band *band,
                          const struct record_key *key, bool *go_on_out)
{
    *go_on_out = true;
    if (deny_has(&txn->store->deny, key) != band->denied) {
        return OK;
    }
    struct record record = {.key = *key};
    const bool may_hide = import_hides_in(txn->store, key->dataset, key->generation);
    if (may_hide || !band->keys_only) {
        const struct span at = kv_key_span(&cursor->key);
        struct span bytes;
        struct record_value value;
        TRY(value_of(txn, KV_RECORD, at, cursor->value, &bytes));
        TRY(record_value_get(txn, at, bytes, &value));
        if (may_hide && value.import != band->own_import &&
            import_is_hidden(txn->store, value.import)) {
            return OK;
        }
        if (!band->keys_only) {
            record.id = value.id;
            record.subject = value.subject;
            record.row = value.row;
        }
    }
    *go_on_out = band->each(band->context, &record);
    return OK;
}

// Every seek goes to a larger key than the cursor's, so the walk ends.
static enum err band_walk(struct txn *txn, struct kv_cursor *cursor, const struct band *band)
{
    if (band->after != NULL) {
        uint8_t bytes[RECORD_KEY_BYTES];
        record_key_put(band->after, bytes);
        const struct span after = span_of(bytes, sizeof bytes);
        TRY(kv_cursor_seek(cursor, after));
        if (!cursor->at_end && span_equal(kv_key_span(&cursor->key), after)) {
            TRY(kv_cursor_next(cursor));
        }
    } else {
        TRY(band_seek(cursor, band, band->generation_first, band->risk_first));
    }
    while (!cursor->at_end) {
        struct record_key key;
        TRY(record_key_get(kv_key_span(&cursor->key), &key));
        if (key.dataset != band->dataset || key.generation > band->generation_last) {
            break;
        }
        if (key.generation < band->generation_first) { // Only with an `after` before the range.
            TRY(band_seek(cursor, band, band->generation_first, band->risk_first));
        } else if (key.risk < band->risk_first) {
            TRY(band_seek(cursor, band, key.generation, band->risk_first));
        } else if (key.risk <= band->risk_last && id128_compare(&key.sid, &band->sid_first) < 0) {
            TRY(band_seek(cursor, band, key.generation, key.risk));
        } else if (key.risk <= band->risk_last && id128_compare(&key.sid, &band->sid_last) <= 0) {
            bool go_on;
            TRY(band_show(txn, cursor, band, &key, &go_on));
            if (!go_on) {
                break;
            }
            TRY(kv_cursor_next(cursor));
        } else if (key.risk < band->risk_last) {
            TRY(band_seek(cursor, band, key.generation, (uint8_t)(key.risk + 1)));
        } else if (key.generation < band->generation_last) {
            TRY(band_seek(cursor, band, key.generation + 1, band->risk_first));
        } else {
            break;
        }
    }
    return OK;
}

static enum err band_run(struct txn *txn, const struct band *band)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_RECORD, &cursor));
    const enum err err = band_walk(txn, &cursor, band);
    kv_cursor_close(&cursor);
    return err;
}

struct record_range record_range_all(uint32_t generation)
{
    return (struct record_range){generation, 0, UINT8_MAX, 0, UINT64_MAX};
}

enum err record_walk(struct txn *txn, uint32_t dataset, const struct record_range *range,
                     const struct record_key *after, bool keys_only,
                     bool (*each)(void *context, const struct record *record), void *context)
{
    CHECK(range->hash_low <= range->hash_high && range->risk_first <= range->risk_last);
    CHECK(after == NULL || (after->dataset == dataset && after->generation == range->generation));
    struct band band = {.dataset = dataset,
                        .generation_first = range->generation,
                        .generation_last = range->generation,
                        .risk_first = range->risk_first,
                        .risk_last = range->risk_last,
                        .after = after,
                        .keys_only = keys_only,
                        .each = each,
                        .context = context};
    memset(band.sid_last.bytes, 0xFF, ID_BYTES);
    be_put64(band.sid_first.bytes, range->hash_low);
    be_put64(band.sid_last.bytes, range->hash_high);
    return band_run(txn, &band);
}

// All records of one subject, over all generations below generation_next.
static enum err subject_walk(struct txn *txn, const struct id128 *sid, uint32_t generation_next,
                             struct band *band)
{
    if (generation_next == 0) {
        return OK;
    }
    band->generation_last = generation_next - 1;
    band->risk_last = UINT8_MAX;
    band->sid_first = band->sid_last = *sid;
    return band_run(txn, band);
}

enum err record_walk_subject(struct txn *txn, uint32_t dataset, uint32_t generation_next,
                             const struct id128 *sid,
                             bool (*each)(void *context, const struct record *record),
                             void *context)
{
    struct band band = {.dataset = dataset, .each = each, .context = context};
    return subject_walk(txn, sid, generation_next, &band);
}

enum err record_walk_subject_keys(struct txn *txn, uint32_t dataset, uint32_t generation_next,
                                  const struct id128 *sid, const struct record_key *after,
                                  bool (*each)(void *context, const struct record *record),
                                  void *context)
{
    struct band band = {
        .dataset = dataset, .after = after, .keys_only = true, .each = each, .context = context};
    return subject_walk(txn, sid, generation_next, &band);
}

enum err record_walk_subject_denied(struct txn *txn, uint32_t dataset, uint32_t generation_next,
                                    const struct id128 *sid,
                                    bool (*each)(void *context, const struct record *record),
                                    void *context)
{
    struct band band = {
        .dataset = dataset, .denied = true, .keys_only = true, .each = each, .context = context};
    return subject_walk(txn, sid, generation_next, &band);
}

static bool note_class(void *context, const struct record *record)
{
    *(int *)context = record->key.risk;
    return false;
}

enum err record_class(struct txn *txn, uint32_t dataset, uint32_t generation_last,
                      const struct id128 *sid, uint64_t import, uint8_t *risk_out)
{
    int risk = -1;
    const struct band band = {.dataset = dataset,
                              .generation_last = generation_last,
                              .risk_last = UINT8_MAX,
                              .sid_first = *sid,
                              .sid_last = *sid,
                              .keys_only = true,
                              .own_import = import,
                              .each = note_class,
                              .context = &risk};
    TRY(band_run(txn, &band));
    if (risk < 0) {
        FAIL(ERR_NOT_FOUND, "the subject has no records");
    }
    *risk_out = (uint8_t)risk;
    return OK;
}

static enum err has_classes_in(struct kv_cursor *cursor, uint32_t dataset, uint32_t generation_last,
                               bool *has_out)
{
    *has_out = false;
    for (uint32_t generation = 0; generation <= generation_last && !*has_out; generation++) {
        const struct record_key from = {.dataset = dataset, .generation = generation, .risk = 1};
        uint8_t bytes[RECORD_KEY_BYTES];
        record_key_put(&from, bytes);
        TRY(kv_cursor_seek(cursor, span_of(bytes, sizeof bytes)));
        if (cursor->at_end) {
            break;
        }
        struct record_key key;
        TRY(record_key_get(kv_key_span(&cursor->key), &key));
        *has_out = key.dataset == dataset && key.generation == generation;
    }
    return OK;
}

enum err record_has_classes(struct txn *txn, uint32_t dataset, uint32_t generation_last,
                            bool *has_out)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_RECORD, &cursor));
    const enum err err = has_classes_in(&cursor, dataset, generation_last, has_out);
    kv_cursor_close(&cursor);
    return err;
}

// --- Denying and removing ---

void record_deny(struct store *store, const struct record_key *key)
{
    deny_add(&store->deny, key);
}

void record_undeny(struct store *store, const struct record_key *key)
{
    deny_drop(&store->deny, key);
}

enum err record_remove(struct txn *txn, const struct record_key *key)
{
    uint8_t bytes[RECORD_KEY_BYTES];
    record_key_put(key, bytes);
    TRY(value_drop(txn, KV_RECORD, span_of(bytes, sizeof bytes)));
    // The index entry may by now belong to another row of the same rid.
    struct record_key indexed;
    const enum err err = record_locate(txn, key->dataset, &key->rid, &indexed);
    if (err == OK && indexed.generation == key->generation && indexed.risk == key->risk &&
        id128_compare(&indexed.sid, &key->sid) == 0) {
        const struct kv_key index = index_key_of(key->dataset, &key->rid);
        TRY(kv_drop(&txn->kv, KV_INDEX, kv_key_span(&index)));
    } else if (err != ERR_NOT_FOUND) {
        TRY(err);
    }
    deny_add(&txn->undeny, key);
    return OK;
}

// --- Tombstones ---

static struct kv_key tombstone_key_of(uint32_t dataset, enum tombstone_kind kind,
                                      const struct id128 *id)
{
    struct kv_key key = {0};
    kv_key_u32(&key, dataset);
    kv_key_u8(&key, (uint8_t)kind);
    kv_key_put(&key, id->bytes, ID_BYTES);
    return key;
}

enum err tombstone_get(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                       const struct id128 *id, uint64_t *request_out)
{
    const struct kv_key key = tombstone_key_of(dataset, kind, id);
    struct span value;
    TRY(value_get(txn, KV_TOMBSTONE, kv_key_span(&key), &value));
    struct cursor cursor = cursor_of(value);
    *request_out = cursor_u64(&cursor);
    TRY_AS(cursor_done(&cursor, "a tombstone"), "%s",
           kv_label_of(KV_TOMBSTONE, kv_key_span(&key)).text);
    return OK;
}

enum err tombstone_put(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                       const struct id128 *id, uint64_t request)
{
    const struct kv_key key = tombstone_key_of(dataset, kind, id);
    struct buf buf = {0};
    buf_u64(&buf, request);
    enum err err = value_put(txn, KV_TOMBSTONE, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    return err == OK ? import_strike(txn, dataset, kind, id) : err;
}

enum err tombstone_drop(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                        const struct id128 *id)
{
    const struct kv_key key = tombstone_key_of(dataset, kind, id);
    return kv_drop(&txn->kv, KV_TOMBSTONE, kv_key_span(&key));
}

enum err tombstone_drop_some(struct txn *txn, uint32_t dataset, size_t row_count_max,
                             bool *more_out)
{
    struct kv_key key = {0};
    kv_key_u32(&key, dataset);
    size_t dropped;
    TRY(kv_drop_prefix(&txn->kv, KV_TOMBSTONE, kv_key_span(&key), row_count_max, &dropped));
    *more_out = dropped == row_count_max;
    return OK;
}
