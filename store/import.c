// store/import.c: staged imports (record.h, "Imports"): begin, commit, abort, tidying. Staging is in
// import_stage.c.
//
//   import  key    import u64
//           value  dataset u32 | generation u32 | state u8 | readmit u8 | records u64, of which of each
//                  risk class u64 [16] | subjects u64 | skipped u64
//   staged  key    import u64 | key of the record [41]         One row for each row that was staged.
//   mark    key    import u64 | kind u8 | rid or sid [16]      What the commit must know:
//             r, s   the rid or sid was tombstoned while the import was open; value empty
//             R      the rid was tombstoned before and is readmitted; value sid [16]
//
// The list of imports in memory is in import_list.c.
//
// A record's row carries the number of its import for ever; while that number stands in the list of
// open or aborted imports, nobody sees the row. So a commit writes one small row however large the
// import was. An aborted import leaves the list when its last row is erased.
#include "store/import.h"

#include <string.h>

#include "base/check.h"
#include "store/dataset.h"

// --- Rows ---

static struct kv_key import_key_of(uint64_t import)
{
    struct kv_key key = {0};
    kv_key_u64(&key, import);
    return key;
}

struct kv_key import_staged_key(uint64_t import, const struct record_key *record, size_t bytes)
{
    uint8_t record_bytes[RECORD_KEY_BYTES];
    record_key_put(record, record_bytes);
    struct kv_key key = import_key_of(import);
    kv_key_put(&key, record_bytes, bytes);
    return key;
}

struct kv_key import_mark_key(uint64_t import, int kind, const struct id128 *id)
{
    struct kv_key key = import_key_of(import);
    kv_key_u8(&key, (uint8_t)kind);
    kv_key_put(&key, id->bytes, ID_BYTES);
    return key;
}

static enum err info_get(struct span key, struct span value, struct import_info *info_out)
{
    struct cursor cursor = cursor_of(value);
    *info_out = (struct import_info){0};
    if (key.bytes != 8) {
        FAIL(ERR_CORRUPT, "table import: a key of %zu bytes, expected 8", key.bytes);
    }
    info_out->entry.number = be_get64(key.data);
    info_out->entry.dataset = cursor_u32(&cursor);
    info_out->entry.generation = cursor_u32(&cursor);
    const uint8_t state = cursor_u8(&cursor);
    info_out->readmit = cursor_u8(&cursor) != 0;
    info_out->counts.records = cursor_u64(&cursor);
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        info_out->counts.risk_records[risk] = cursor_u64(&cursor);
    }
    info_out->counts.subjects = cursor_u64(&cursor);
    info_out->counts.skipped = cursor_u64(&cursor);
    TRY_AS(cursor_done(&cursor, "an import"), "%s", kv_label_of(KV_IMPORT, key).text);
    if (state < IMPORT_OPEN || state > IMPORT_COMMITTED) {
        FAIL(ERR_CORRUPT, "%s: state %u, expected %d to %d", kv_label_of(KV_IMPORT, key).text,
             state, (int)IMPORT_OPEN, (int)IMPORT_COMMITTED);
    }
    info_out->entry.state = (enum import_state)state;
    return OK;
}

enum err import_info_put(struct txn *txn, const struct import_info *info)
{
    const struct kv_key key = import_key_of(info->entry.number);
    struct buf buf = {0};
    buf_u32(&buf, info->entry.dataset);
    buf_u32(&buf, info->entry.generation);
    buf_u8(&buf, (uint8_t)info->entry.state);
    buf_u8(&buf, info->readmit ? 1 : 0);
    buf_u64(&buf, info->counts.records);
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        buf_u64(&buf, info->counts.risk_records[risk]);
    }
    buf_u64(&buf, info->counts.subjects);
    buf_u64(&buf, info->counts.skipped);
    const enum err err = value_put(txn, KV_IMPORT, kv_key_span(&key), buf_span(&buf));
    buf_deinit(&buf);
    if (err == OK) {
        import_list_set(txn, &info->entry);
    }
    return err;
}

enum err import_info_open(struct txn *txn, uint64_t import, struct import_info *info_out)
{
    const struct import_entry *const entry = import_entry_of(txn->store, import);
    if (entry == NULL || entry->state != IMPORT_OPEN) {
        FAIL(ERR_NOT_FOUND, "import %llu is not open", (unsigned long long)import);
    }
    const struct kv_key key = import_key_of(import);
    struct span value;
    TRY(value_get(txn, KV_IMPORT, kv_key_span(&key), &value));
    return info_get(kv_key_span(&key), value, info_out);
}

// --- Start ---

static enum err load_in(struct txn *txn, struct kv_cursor *cursor)
{
    TRY(kv_cursor_seek(cursor, span_of("", 0)));
    while (!cursor->at_end) {
        const struct span key = kv_key_span(&cursor->key);
        struct span value;
        struct import_info info;
        TRY(value_of(txn, KV_IMPORT, key, cursor->value, &value));
        TRY(info_get(key, value, &info));
        if (info.entry.state == IMPORT_OPEN) { // Its process died.
            info.entry.state = IMPORT_ABORTED;
            TRY(import_info_put(txn, &info));
        } else {
            import_list_set(txn, &info.entry);
        }
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

enum err import_load(struct txn *txn)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_IMPORT, &cursor));
    const enum err err = load_in(txn, &cursor);
    kv_cursor_close(&cursor);
    return err;
}

// --- Begin ---

enum err import_begin(struct txn *txn, uint32_t dataset, uint32_t generation, bool readmit,
                      uint64_t *import_out)
{
    // A dataset's row comes with the commit of its first import: until then nothing is closed.
    struct dataset_row row = {0};
    const enum err found = dataset_get(txn, dataset, &row);
    const uint32_t closed = row.generation_closed;
    dataset_row_deinit(&row);
    if (found != OK && found != ERR_NOT_FOUND) {
        return found;
    }
    if (generation < closed) {
        FAIL(ERR_CONFLICT, "generation %u is closed: the open one is %u", generation, closed);
    }
    if (generation >= LIMIT_GENERATION) {
        FAIL(ERR_LIMIT, "generation %u is above the greatest, %d", generation,
             (int)LIMIT_GENERATION - 1);
    }
    if (import_open_of(txn->store, dataset) != NULL) {
        FAIL(ERR_CONFLICT, "another import into the dataset is under way");
    }
    size_t open_count = 0;
    for (size_t i = 0; i < txn->store->imports.count; i++) {
        open_count += txn->store->imports.at[i].state == IMPORT_OPEN ? 1 : 0;
    }
    if (open_count >= LIMIT_IMPORTS_OPEN) {
        FAIL(ERR_LIMIT, "%zu imports are under way, the most at once: try again later", open_count);
    }
    struct import_info info = {.readmit = readmit};
    TRY(counter_next(txn, COUNTER_IMPORT, &info.entry.number));
    info.entry.dataset = dataset;
    info.entry.generation = generation;
    info.entry.state = IMPORT_OPEN;
    TRY(import_info_put(txn, &info));
    *import_out = info.entry.number;
    return OK;
}

static enum err has_prefix(struct txn *txn, enum kv_table table, const struct kv_key *prefix,
                           bool *has_out)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, table, &cursor));
    const enum err err = kv_cursor_seek(&cursor, kv_key_span(prefix));
    *has_out = err == OK && kv_cursor_within(&cursor, kv_key_span(prefix));
    kv_cursor_close(&cursor);
    return err;
}

enum err import_has_subject(struct txn *txn, uint64_t import, const struct record_key *key,
                            bool *has_out)
{
    const struct kv_key prefix = import_staged_key(import, key, RECORD_KEY_BYTES - ID_BYTES);
    return has_prefix(txn, KV_STAGED, &prefix, has_out);
}

static enum err is_marked(struct txn *txn, uint64_t import, int kind, const struct id128 *id,
                          bool *marked_out)
{
    const struct kv_key key = import_mark_key(import, kind, id);
    return value_exists(txn, KV_MARK, kv_key_span(&key), marked_out);
}

enum err import_is_struck(struct txn *txn, uint64_t import, const struct id128 *rid,
                          const struct id128 *sid, bool *struck_out)
{
    TRY(is_marked(txn, import, TOMBSTONE_RECORD, rid, struck_out));
    return *struck_out ? OK : is_marked(txn, import, TOMBSTONE_SUBJECT, sid, struck_out);
}

// --- Commit and abort ---

enum err import_strike(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                       const struct id128 *id)
{
    const struct import_entry *const open = import_open_of(txn->store, dataset);
    if (open == NULL) {
        return OK;
    }
    const struct kv_key key = import_mark_key(open->number, (int)kind, id);
    return value_put(txn, KV_MARK, kv_key_span(&key), span_of("", 0));
}

// Erases one staged row for good.
static enum err unstage(struct txn *txn, struct import_info *info, const struct record_key *key)
{
    const struct kv_key staged = import_staged_key(info->entry.number, key, RECORD_KEY_BYTES);
    TRY(record_remove(txn, key));
    TRY(kv_drop(&txn->kv, KV_STAGED, kv_key_span(&staged)));
    bool others = false;
    TRY(import_has_subject(txn, info->entry.number, key, &others));
    info->counts.records--;
    info->counts.risk_records[key->risk]--;
    info->counts.subjects -= others ? 0 : 1;
    info->counts.skipped++;
    return OK;
}

static enum err unstage_record(struct txn *txn, struct import_info *info, const struct id128 *rid)
{
    struct record_key key;
    const enum err err = record_locate(txn, info->entry.dataset, rid, &key);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    struct record_value value;
    TRY(record_value_read(txn, &key, &value));
    return value.import == info->entry.number ? unstage(txn, info, &key) : OK;
}

static enum err unstage_subject(struct txn *txn, struct import_info *info, struct kv_cursor *cursor,
                                const struct id128 *sid)
{
    struct record_key seek = {
        .dataset = info->entry.dataset, .generation = info->entry.generation, .sid = *sid};
    const struct kv_key all = import_key_of(info->entry.number);
    for (;;) {
        // Each turn erases a row or goes on to the next risk class that has any.
        const struct kv_key from =
            import_staged_key(info->entry.number, &seek, RECORD_KEY_BYTES - ID_BYTES);
        TRY(kv_cursor_seek(cursor, kv_key_span(&from)));
        if (!kv_cursor_within(cursor, kv_key_span(&all))) {
            return OK;
        }
        struct record_key key;
        TRY(record_key_get(span_of(cursor->key.at + all.bytes, cursor->key.bytes - all.bytes),
                           &key));
        const int order = id128_compare(&key.sid, sid);
        if (order == 0) {
            TRY(unstage(txn, info, &key));
        } else if (order > 0 && key.risk == UINT8_MAX) {
            return OK;
        }
        seek.risk = (uint8_t)(key.risk + (order > 0 ? 1 : 0));
    }
}

static enum err unstage_struck(struct txn *txn, struct import_info *info, struct kv_cursor *marks,
                               struct kv_cursor *staged)
{
    const struct kv_key all = import_key_of(info->entry.number);
    TRY(kv_cursor_seek(marks, kv_key_span(&all)));
    while (kv_cursor_within(marks, kv_key_span(&all))) {
        if (marks->key.bytes != all.bytes + 1 + ID_BYTES) {
            FAIL(ERR_CORRUPT, "%s: a key of %zu bytes",
                 kv_label_of(KV_MARK, kv_key_span(&marks->key)).text, marks->key.bytes);
        }
        const uint8_t kind = marks->key.at[all.bytes];
        struct id128 id;
        memcpy(id.bytes, marks->key.at + all.bytes + 1, ID_BYTES);
        if (kind == TOMBSTONE_RECORD) {
            TRY(unstage_record(txn, info, &id));
        } else if (kind == TOMBSTONE_SUBJECT) {
            TRY(unstage_subject(txn, info, staged, &id));
        } else {
            struct span value;
            TRY(value_of(txn, KV_MARK, kv_key_span(&marks->key), marks->value, &value));
            if (kind != MARK_READMITTED || value.bytes != ID_BYTES) {
                FAIL(ERR_CORRUPT, "%s: kind %u with %zu bytes",
                     kv_label_of(KV_MARK, kv_key_span(&marks->key)).text, kind, value.bytes);
            }
            struct id128 sid;
            memcpy(sid.bytes, value.data, ID_BYTES);
            bool struck = false;
            TRY(import_is_struck(txn, info->entry.number, &id, &sid, &struck));
            if (!struck) {
                TRY(tombstone_drop(txn, info->entry.dataset, TOMBSTONE_RECORD, &id));
                TRY(tombstone_drop(txn, info->entry.dataset, TOMBSTONE_SUBJECT, &sid));
            }
        }
        TRY(kv_cursor_next(marks));
    }
    return OK;
}

static enum err settle_marks(struct txn *txn, struct import_info *info)
{
    struct kv_cursor marks = {0}, staged = {0};
    enum err err = kv_cursor_open(&txn->kv, KV_MARK, &marks);
    if (err == OK) {
        err = kv_cursor_open(&txn->kv, KV_STAGED, &staged);
    }
    if (err == OK) {
        err = unstage_struck(txn, info, &marks, &staged);
    }
    kv_cursor_close(&staged);
    kv_cursor_close(&marks);
    return err;
}

static enum err commit_in(struct txn *txn, struct import_info *info, struct dataset_row *row)
{
    if (info->entry.generation < row->generation_closed) {
        FAIL(ERR_CONFLICT, "generation %u was closed while the import was under way",
             info->entry.generation);
    }
    TRY(settle_marks(txn, info));
    row->record_count += info->counts.records;
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        row->risk_records[risk] += info->counts.risk_records[risk];
    }
    if (row->generation_next <= info->entry.generation) {
        row->generation_next = info->entry.generation + 1;
    }
    TRY(dataset_put(txn, row));
    info->entry.state = IMPORT_COMMITTED;
    return import_info_put(txn, info);
}

enum err import_commit(struct txn *txn, uint64_t import, struct import_counts *counts_out)
{
    struct import_info info;
    struct dataset_row row;
    TRY(import_info_open(txn, import, &info));
    TRY(dataset_get(txn, info.entry.dataset, &row));
    const enum err err = commit_in(txn, &info, &row);
    dataset_row_deinit(&row);
    *counts_out = info.counts;
    return err;
}

enum err import_abort(struct txn *txn, uint64_t import)
{
    struct import_info info;
    TRY(import_info_open(txn, import, &info));
    info.entry.state = IMPORT_ABORTED;
    return import_info_put(txn, &info);
}

// --- Tidying ---

// Erases the row of an aborted import that a staging row names, if the import still owns it.
static enum err erase_staged(struct txn *txn, uint64_t import, const struct record_key *key)
{
    uint8_t bytes[RECORD_KEY_BYTES];
    record_key_put(key, bytes);
    const struct span at = span_of(bytes, sizeof bytes);
    struct span stored;
    const enum err err = value_get(txn, KV_RECORD, at, &stored);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    struct record_value value;
    TRY(record_value_get(txn, at, stored, &value));
    return value.import == import ? record_remove(txn, key) : OK;
}

static enum err tidy_staged(struct txn *txn, const struct import_entry *entry,
                            struct kv_cursor *cursor, size_t *left)
{
    const struct kv_key all = import_key_of(entry->number);
    TRY(kv_cursor_seek(cursor, kv_key_span(&all)));
    while (*left > 0 && kv_cursor_within(cursor, kv_key_span(&all))) {
        if (entry->state == IMPORT_ABORTED) {
            struct record_key key;
            TRY(record_key_get(span_of(cursor->key.at + all.bytes, cursor->key.bytes - all.bytes),
                               &key));
            TRY(erase_staged(txn, entry->number, &key));
        }
        TRY(kv_drop(&txn->kv, KV_STAGED, kv_key_span(&cursor->key)));
        --*left;
        TRY(kv_cursor_next(cursor));
    }
    return OK;
}

// Erases what is left of one import, as far as *left rows go; *done_out when nothing is.
static enum err tidy_one(struct txn *txn, const struct import_entry *entry, size_t *left,
                         bool *done_out)
{
    *done_out = false;
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, KV_STAGED, &cursor));
    const enum err err = tidy_staged(txn, entry, &cursor, left);
    kv_cursor_close(&cursor);
    TRY(err);
    const struct kv_key key = import_key_of(entry->number);
    size_t dropped = 0;
    TRY(kv_drop_prefix(&txn->kv, KV_MARK, kv_key_span(&key), *left, &dropped));
    *left -= dropped;
    if (*left == 0) {
        return OK; // Perhaps done, perhaps not: the next call finds out.
    }
    *done_out = true;
    --*left;
    return kv_drop(&txn->kv, KV_IMPORT, kv_key_span(&key));
}

enum err import_tidy(struct txn *txn, size_t row_count_max, bool *more_out)
{
    CHECK(row_count_max > 0);
    size_t left = row_count_max;
    *more_out = false;
    for (size_t i = 0; i < txn->store->imports.count;) {
        const struct import_entry entry = txn->store->imports.at[i];
        if (entry.state == IMPORT_OPEN) {
            i++;
            continue;
        }
        bool done = false;
        if (left > 0) {
            TRY(tidy_one(txn, &entry, &left, &done));
        }
        if (!done) {
            *more_out = true;
            return OK;
        }
        import_list_drop(txn, i);
    }
    return OK;
}
