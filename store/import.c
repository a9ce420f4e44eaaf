// store/import.c: staged imports (record.h, "Imports").
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
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/risk.h"
#include "store/dataset.h"
#include "store/private.h"

enum { MARK_READMITTED = 'R' };

struct import_info {
    struct import_entry entry;
    bool readmit;
    struct import_counts counts; // So far.
};

// --- Rows ---

static struct kv_key import_key_of(uint64_t import)
{
    struct kv_key key = {0};
    kv_key_u64(&key, import);
    return key;
}

static struct kv_key staged_key_of(uint64_t import, const struct record_key *record, size_t bytes)
{
    uint8_t record_bytes[RECORD_KEY_BYTES];
    record_key_put(record, record_bytes);
    struct kv_key key = import_key_of(import);
    kv_key_put(&key, record_bytes, bytes);
    return key;
}

static struct kv_key mark_key_of(uint64_t import, int kind, const struct id128 *id)
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

// Writes the row and brings the list in memory up to it.
static enum err info_put(struct txn *txn, const struct import_info *info)
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

static enum err info_of_open(struct txn *txn, uint64_t import, struct import_info *info_out)
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
            TRY(info_put(txn, &info));
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

// --- Begin and stage ---

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
    TRY(info_put(txn, &info));
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

// True when the import has a staged row of the subject and risk class of `key`.
static enum err has_subject(struct txn *txn, uint64_t import, const struct record_key *key,
                            bool *has_out)
{
    const struct kv_key prefix = staged_key_of(import, key, RECORD_KEY_BYTES - ID_BYTES);
    return has_prefix(txn, KV_STAGED, &prefix, has_out);
}

static enum err is_marked(struct txn *txn, uint64_t import, int kind, const struct id128 *id,
                          bool *marked_out)
{
    const struct kv_key key = mark_key_of(import, kind, id);
    return value_exists(txn, KV_MARK, kv_key_span(&key), marked_out);
}

// True when rid or sid was tombstoned while the import was open.
static enum err is_struck(struct txn *txn, uint64_t import, const struct id128 *rid,
                          const struct id128 *sid, bool *struck_out)
{
    TRY(is_marked(txn, import, TOMBSTONE_RECORD, rid, struck_out));
    return *struck_out ? OK : is_marked(txn, import, TOMBSTONE_SUBJECT, sid, struck_out);
}

static enum err is_tombstoned(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                              const struct id128 *id, bool *found_out)
{
    uint64_t request;
    const enum err err = tombstone_get(txn, dataset, kind, id, &request);
    *found_out = err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}

// What the row that the dataset has for the same rid means for the new one.
enum meeting { MEETS_NOTHING, MEETS_EQUAL, MEETS_OTHER, MEETS_FENCED, MEETS_STALE };

static enum err meet(struct txn *txn, const struct import_info *info, const struct import_row *row,
                     struct record_key *key_out, uint64_t *import_out, enum meeting *meeting_out)
{
    *meeting_out = MEETS_NOTHING;
    const enum err err = record_locate(txn, info->entry.dataset, &row->rid, key_out);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    struct record_value value;
    TRY(record_value_read(txn, key_out, &value));
    *import_out = value.import;
    if (value.import != info->entry.number && import_is_hidden(txn->store, value.import)) {
        *meeting_out = MEETS_STALE; // Of an aborted import.
    } else if (deny_has(&txn->store->deny, key_out)) {
        *meeting_out = MEETS_FENCED;
    } else if (span_equal(value.id, row->id) && span_equal(value.subject, row->subject) &&
               span_equal(value.row, row->row)) {
        *meeting_out = MEETS_EQUAL;
    } else {
        *meeting_out = MEETS_OTHER;
    }
    return OK;
}

// Settles whether the row is kept out by a tombstone; notes a readmission.
static enum err pass_tombstones(struct txn *txn, const struct import_info *info,
                                const struct import_row *row, bool *pass_out)
{
    bool record = false, subject = false, struck = false;
    TRY(is_tombstoned(txn, info->entry.dataset, TOMBSTONE_RECORD, &row->rid, &record));
    TRY(is_tombstoned(txn, info->entry.dataset, TOMBSTONE_SUBJECT, &row->sid, &subject));
    *pass_out = !record && !subject;
    if (*pass_out || !info->readmit) {
        return OK;
    }
    TRY(is_struck(txn, info->entry.number, &row->rid, &row->sid, &struck));
    if (struck) {
        return OK;
    }
    *pass_out = true;
    const struct kv_key mark = mark_key_of(info->entry.number, MARK_READMITTED, &row->rid);
    return value_put(txn, KV_MARK, kv_key_span(&mark), span_of(row->sid.bytes, ID_BYTES));
}

static struct record_key row_key(const struct import_info *info, const struct import_row *row,
                                 uint8_t risk)
{
    return (struct record_key){.dataset = info->entry.dataset,
                               .generation = info->entry.generation,
                               .risk = risk,
                               .sid = row->sid,
                               .rid = row->rid};
}

// What the rows of one call have in common.
struct staging {
    struct import_info info;
    uint32_t generation_last; // Of the dataset, and of this import.
    bool all_zero;            // No class but 0 is stored or declared: it need not be looked for.
};

// The class of the row's subject: declared by the row, or else the one it has.
static enum err class_of_row(struct txn *txn, const struct staging *staging,
                             const struct import_row *row, uint8_t *risk_out)
{
    const uint8_t declared = row->risk == RISK_UNDECLARED ? 0 : row->risk;
    *risk_out = declared;
    if (staging->all_zero) {
        return OK;
    }
    uint8_t has = 0;
    const enum err err = record_class(txn, staging->info.entry.dataset, staging->generation_last,
                                      &row->sid, staging->info.entry.number, &has);
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    if (row->risk != RISK_UNDECLARED && row->risk != has) {
        FAIL(ERR_CONFLICT,
             "it declares risk class %u for its subject, of which another record has class %u",
             row->risk, has);
    }
    *risk_out = has;
    return OK;
}

static enum err stage_put(struct txn *txn, struct import_info *info, const struct import_row *row,
                          uint8_t risk, uint64_t run)
{
    const struct record_key key = row_key(info, row, risk);
    bool known = false;
    TRY(has_subject(txn, info->entry.number, &key, &known));
    const struct record_value value = {info->entry.number, row->id, row->subject, row->row};
    TRY(record_put(txn, &key, &value, run));
    const struct kv_key staged = staged_key_of(info->entry.number, &key, RECORD_KEY_BYTES);
    TRY(value_put(txn, KV_STAGED, kv_key_span(&staged), span_of("", 0)));
    info->counts.records++;
    info->counts.risk_records[key.risk]++;
    info->counts.subjects += known ? 0 : 1;
    return OK;
}

static enum err stage_row(struct txn *txn, struct staging *staging, const struct import_row *row,
                          uint64_t run)
{
    struct import_info *const info = &staging->info;
    if (row->id.bytes == 0 || row->id.bytes > LIMIT_NAME_BYTES ||
        row->subject.bytes > LIMIT_NAME_BYTES || row->row.bytes > LIMIT_RECORD_BYTES) {
        FAIL(ERR_INVALID,
             "id of %zu, subject of %zu and values of %zu bytes, expected at most %d, "
             "%d and %d",
             row->id.bytes, row->subject.bytes, row->row.bytes, (int)LIMIT_NAME_BYTES,
             (int)LIMIT_NAME_BYTES, (int)LIMIT_RECORD_BYTES);
    }
    if (row->risk >= LIMIT_RISK_CLASSES && row->risk != RISK_UNDECLARED) {
        FAIL(ERR_INVALID, "risk class %u, expected 0 to %d", row->risk,
             (int)LIMIT_RISK_CLASSES - 1);
    }
    struct record_key met;
    uint64_t met_import = 0;
    enum meeting meeting;
    TRY(meet(txn, info, row, &met, &met_import, &meeting));
    if (meeting == MEETS_OTHER) {
        FAIL(ERR_CONFLICT, "its id is there already with other values or another subject; where "
                           "ids repeat, name a column with --id COL or set --id-prefix TEXT");
    }
    if (meeting == MEETS_FENCED && info->readmit) {
        FAIL(ERR_UNAVAILABLE,
             "it was deleted and its erasure is under way: try again when that is done");
    }
    uint8_t risk = 0;
    TRY(class_of_row(txn, staging, row, &risk));
    bool pass = false;
    if (meeting == MEETS_NOTHING || meeting == MEETS_STALE) {
        TRY(pass_tombstones(txn, info, row, &pass));
    }
    if (!pass) {
        info->counts.skipped++;
        return OK;
    }
    if (meeting == MEETS_STALE) {
        const struct kv_key staged = staged_key_of(met_import, &met, RECORD_KEY_BYTES);
        TRY(record_remove(txn, &met));
        TRY(kv_drop(&txn->kv, KV_STAGED, kv_key_span(&staged)));
    }
    return stage_put(txn, info, row, risk, run);
}

// A row's place in the order of storage.
struct place {
    uint8_t key[RECORD_KEY_BYTES];
    size_t row;
};

static int compare_places(const void *a_, const void *b_)
{
    const struct place *const a = a_, *const b = b_;
    const int order = memcmp(a->key, b->key, sizeof a->key);
    return order != 0 ? order : a->row < b->row ? -1 : a->row > b->row;
}

// Reserves a slot for the key of each row. Slots lie in the order of storage, so that erasing many of
// an import's records is sequential. slots_out[row_count].
static void reserve_slots(struct txn *txn, const struct import_info *info,
                          const struct import_row *rows, size_t row_count, uint64_t *slots_out)
{
    struct place *const places = mem_alloc(row_count, sizeof *places);
    uint64_t run = 0;
    for (size_t i = 0; i < row_count; i++) {
        const struct record_key key =
            row_key(info, &rows[i], rows[i].risk == RISK_UNDECLARED ? 0 : rows[i].risk);
        record_key_put(&key, places[i].key);
        places[i].row = i;
    }
    if (row_count > 1) {
        qsort(places, row_count, sizeof *places, compare_places);
    }
    keyring_reserve(txn->store->keyring, row_count, &run);
    for (size_t i = 0; i < row_count; i++) {
        slots_out[places[i].row] = run + i;
    }
    mem_free(places);
}

static enum err staging_begin(struct txn *txn, uint64_t import, const struct import_row *rows,
                              size_t row_count, struct staging *staging)
{
    TRY(info_of_open(txn, import, &staging->info));
    struct dataset_row row = {0};
    const enum err err = dataset_get(txn, staging->info.entry.dataset, &row);
    const uint32_t last = row.generation_next > 0 ? row.generation_next - 1 : 0;
    dataset_row_deinit(&row);
    if (err != ERR_NOT_FOUND) { // A first import brings the dataset with its commit.
        TRY(err);
    }
    const uint32_t own = staging->info.entry.generation;
    staging->generation_last = last > own ? last : own;
    bool classes = false;
    TRY(record_has_classes(txn, staging->info.entry.dataset, staging->generation_last, &classes));
    for (size_t i = 0; i < row_count && !classes; i++) {
        classes = rows[i].risk != 0 && rows[i].risk != RISK_UNDECLARED;
    }
    staging->all_zero = !classes;
    return OK;
}

enum err import_stage(struct txn *txn, uint64_t import, const struct import_row *rows,
                      size_t row_count, uint64_t first_row)
{
    struct staging staging;
    TRY(staging_begin(txn, import, rows, row_count, &staging));
    uint64_t *const slots = mem_alloc(row_count, sizeof *slots);
    reserve_slots(txn, &staging.info, rows, row_count, slots);
    enum err err = OK;
    for (size_t i = 0; i < row_count && err == OK; i++) {
        err = stage_row(txn, &staging, &rows[i], slots[i]);
        if (err != OK) {
            (void)err_context(err, "row %llu", (unsigned long long)first_row + i);
        }
    }
    mem_free(slots);
    return err == OK ? info_put(txn, &staging.info) : err;
}

// --- Commit and abort ---

enum err import_strike(struct txn *txn, uint32_t dataset, enum tombstone_kind kind,
                       const struct id128 *id)
{
    const struct import_entry *const open = import_open_of(txn->store, dataset);
    if (open == NULL) {
        return OK;
    }
    const struct kv_key key = mark_key_of(open->number, (int)kind, id);
    return value_put(txn, KV_MARK, kv_key_span(&key), span_of("", 0));
}

// Erases one staged row for good.
static enum err unstage(struct txn *txn, struct import_info *info, const struct record_key *key)
{
    const struct kv_key staged = staged_key_of(info->entry.number, key, RECORD_KEY_BYTES);
    TRY(record_remove(txn, key));
    TRY(kv_drop(&txn->kv, KV_STAGED, kv_key_span(&staged)));
    bool others = false;
    TRY(has_subject(txn, info->entry.number, key, &others));
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
            staged_key_of(info->entry.number, &seek, RECORD_KEY_BYTES - ID_BYTES);
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
            TRY(is_struck(txn, info->entry.number, &id, &sid, &struck));
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
    return info_put(txn, info);
}

enum err import_commit(struct txn *txn, uint64_t import, struct import_counts *counts_out)
{
    struct import_info info;
    struct dataset_row row;
    TRY(info_of_open(txn, import, &info));
    TRY(dataset_get(txn, info.entry.dataset, &row));
    const enum err err = commit_in(txn, &info, &row);
    dataset_row_deinit(&row);
    *counts_out = info.counts;
    return err;
}

enum err import_abort(struct txn *txn, uint64_t import)
{
    struct import_info info;
    TRY(info_of_open(txn, import, &info));
    info.entry.state = IMPORT_ABORTED;
    return info_put(txn, &info);
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
