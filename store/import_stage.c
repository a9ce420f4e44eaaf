// store/import_stage.c: the rows of an open import (record.h, "Imports"): what each meets in the store, whether
// a tombstone keeps it out, which risk class it has, and where its key lies.
#include <stdlib.h>

#include "base/mem.h"
#include "base/risk.h"
#include "store/dataset.h"
#include "store/import.h"

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
    TRY(import_is_struck(txn, info->entry.number, &row->rid, &row->sid, &struck));
    if (struck) {
        return OK;
    }
    *pass_out = true;
    const struct kv_key mark = import_mark_key(info->entry.number, MARK_READMITTED, &row->rid);
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
    TRY(import_has_subject(txn, info->entry.number, &key, &known));
    const struct record_value value = {info->entry.number, row->id, row->subject, row->row};
    TRY(record_put(txn, &key, &value, run));
    const struct kv_key staged = import_staged_key(info->entry.number, &key, RECORD_KEY_BYTES);
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
        const struct kv_key staged = import_staged_key(met_import, &met, RECORD_KEY_BYTES);
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
    TRY(import_info_open(txn, import, &staging->info));
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
    return err == OK ? import_info_put(txn, &staging.info) : err;
}
