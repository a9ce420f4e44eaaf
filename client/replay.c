// client/replay.c: see replay.h.
#include "client/replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "client/basefile.h"
#include "client/encode.h"
#include "client/huggingface.h"
#include "client/interrupt.h"
#include "scheduler/placement.h"
#include "scheduler/trie.h"

void replay_deinit(struct replay_data *data)
{
    mem_free(data->rows);
    mem_free(data->rids);
    buf_deinit(&data->bytes);
    *data = (struct replay_data){0};
}

static uint64_t hash_of(const struct id128 *sid)
{
    return be_get64(sid->bytes);
}

static struct placement placement_of(const struct export *export)
{
    struct placement placement =
        placement_uniform(export->spec.shards, export->spec.slices, export->spec.append_slices);
    placement.risk = export->spec.risk;
    return placement;
}

static void ids_of(const struct export *export, struct span id, struct span subject,
                   struct id128 *rid_out, struct id128 *sid_out)
{
    *rid_out = digest_id("unlearnd-rid", export->placement_key, id);
    *sid_out = digest_id("unlearnd-sid", export->placement_key, subject.bytes > 0 ? subject : id);
}

static enum err make_room(struct replay_data *data, uint64_t count)
{
    TRY(mem_try_aligned((size_t)count, sizeof *data->rows, &data->rows));
    return mem_try_aligned((size_t)count, sizeof *data->rids, &data->rids);
}

// ---------------------------------------------------------------- records.bin

static struct id128 take_id(struct cursor *cursor)
{
    struct id128 id = {{0}};
    const struct span bytes = cursor_take(cursor, ID_BYTES);
    if (bytes.bytes == ID_BYTES) {
        memcpy(id.bytes, bytes.data, ID_BYTES);
    }
    return id;
}

static enum err check_ids(const struct export *export, struct cursor *cursor, uint64_t number,
                          const struct id128 *sid, const struct id128 *rid)
{
    const struct span id = cursor_take(cursor, cursor_u16(cursor));
    const struct span subject = cursor_take(cursor, cursor_u16(cursor));
    struct id128 real_rid, real_sid;
    ids_of(export, id, subject, &real_rid, &real_sid);
    if (cursor->bad || id.bytes == 0 || id128_compare(&real_rid, rid) != 0 ||
        id128_compare(&real_sid, sid) != 0) {
        FAIL(ERR_CORRUPT, "records.bin: record %" PRIu64 " does not belong to its id", number);
    }
    return OK;
}

// A record's place in the order of storage.
struct place {
    uint8_t risk;
    struct id128 sid, rid;
};

static int compare_places(const struct place *a, const struct place *b)
{
    const int subject = id128_compare(&a->sid, &b->sid);
    return a->risk != b->risk ? (a->risk < b->risk ? -1 : 1)
           : subject != 0     ? subject
                              : id128_compare(&a->rid, &b->rid);
}

// It lies in its slice, behind the one before, if any.
static enum err check_place(const struct export *export, uint32_t position, uint64_t number,
                            const struct place *before, const struct place *place)
{
    const struct placement placement = placement_of(export);
    const struct cell cell = {export->component.shard, export->component.list[position]};
    const uint32_t generation = placement_generation(&placement, cell.slice);
    if (place->risk >= LIMIT_RISK_CLASSES) {
        FAIL(ERR_CORRUPT, "records.bin: record %" PRIu64 " has risk class %u, expected 0 to %d",
             number, place->risk, (int)LIMIT_RISK_CLASSES - 1);
    }
    const struct cell found =
        placement_cell(&placement, generation, place->risk, hash_of(&place->sid));
    if (found.shard != cell.shard || found.slice != cell.slice) {
        FAIL(ERR_CORRUPT, "records.bin: record %" PRIu64 " lies outside slice %u", number,
             cell.slice);
    }
    if (before != NULL && compare_places(before, place) >= 0) {
        FAIL(ERR_CORRUPT, "records.bin: record %" PRIu64 " is out of order, or comes twice",
             number);
    }
    return OK;
}

static enum err take_slice(const struct export *export, uint32_t position, struct cursor *cursor,
                           struct replay_data *data)
{
    struct place before = {0};
    for (uint64_t i = 0; i < export->slice_records[position]; i++) {
        const uint64_t number = data->count;
        struct place place;
        place.sid = take_id(cursor);
        place.rid = take_id(cursor);
        place.risk = cursor_u8(cursor);
        const struct span row = cursor_take(cursor, cursor_u32(cursor));
        if (cursor->bad) {
            FAIL(ERR_CORRUPT, "records.bin ends inside record %" PRIu64 " of %" PRIu64, number,
                 export->records);
        }
        if (schema_check_row(&export->schema, row) != OK) {
            return err_context(ERR_CORRUPT, "records.bin: record %" PRIu64, number);
        }
        TRY(check_place(export, position, number, i == 0 ? NULL : &before, &place));
        if (export->with_ids) {
            TRY(check_ids(export, cursor, number, &place.sid, &place.rid));
        }
        before = place;
        data->rids[data->count] = place.rid;
        data->rows[data->count++] = row;
    }
    data->slice_records[position] = export->slice_records[position];
    return OK;
}

static enum err load(const char *dir, const struct export *export, struct replay_data *data)
{
    const size_t least = 2 * ID_BYTES + 1 + 4;
    const uint64_t most = 21 + export->records * (least + LIMIT_RECORD_BYTES + 1024);
    TRY(export_file(dir, "records.bin", most, &data->bytes));
    struct cursor cursor = cursor_of(buf_span(&data->bytes));
    const struct span magic = cursor_take(&cursor, 8);
    const uint32_t format = cursor_u32(&cursor);
    const uint8_t with_ids = cursor_u8(&cursor);
    const uint64_t records = cursor_u64(&cursor);
    if (!span_equal(magic, span_of("ulexport", 8)) || format != EXPORT_FORMAT ||
        with_ids != export->with_ids || records != export->records) {
        FAIL(ERR_CORRUPT, "records.bin does not begin as export.json says");
    }
    // Before anything is allocated: so many records must be able to stand in the file.
    if (records > cursor.left / least) {
        FAIL(ERR_CORRUPT, "records.bin of %zu bytes cannot hold %" PRIu64 " records",
             data->bytes.bytes, records);
    }
    TRY(make_room(data, records));
    for (uint32_t i = 0; i < export->component.count; i++) {
        TRY(take_slice(export, i, &cursor, data));
    }
    return cursor_done(&cursor, "records.bin");
}

enum err replay_load(const char *dir, const struct export *export, struct replay_data *data_out)
{
    *data_out = (struct replay_data){0};
    const enum err err = load(dir, export, data_out);
    if (err != OK) {
        replay_deinit(data_out);
        return err_context(err, "%.200s", dir);
    }
    return OK;
}

// ---------------------------------------------------------------- the auditor's own copy

struct found { // A record of one of the slices.
    uint32_t position;
    struct place place;
    size_t at, bytes; // Its row.
};

struct collecting {
    const struct export *export;
    uint32_t generation;
    struct reader *reader;
    struct encode *encode;
    struct buf row;
    struct found *found;
    uint64_t count, capacity;
    struct replay_data *data;
};

static int compare_found(const void *a_, const void *b_)
{
    const struct found *const a = a_, *const b = b_;
    const int slice = a->position < b->position ? -1 : a->position > b->position;
    return slice != 0 ? slice : compare_places(&a->place, &b->place);
}

// Where in the list the slice stands, or -1.
static int32_t position_of(const struct export *export, struct cell cell)
{
    for (uint16_t i = 0; i < export->component.count; i++) {
        if (cell.shard == export->component.shard && cell.slice == export->component.list[i]) {
            return i;
        }
    }
    return -1;
}

static enum err add_record(struct collecting *collecting, const struct record *record)
{
    struct found found;
    const struct placement placement = placement_of(collecting->export);
    ids_of(collecting->export, record->id, record->subject, &found.place.rid, &found.place.sid);
    found.place.risk = record->risk == RISK_UNDECLARED ? 0 : record->risk;
    const int32_t position = position_of(
        collecting->export, placement_cell(&placement, collecting->generation, found.place.risk,
                                           hash_of(&found.place.sid)));
    if (position < 0) {
        return OK;
    }
    TRY(encode_record(collecting->encode, &collecting->row));
    if (collecting->count >= LIMIT_STAGE_RECORDS) {
        FAIL(ERR_LIMIT, "more than %d records belong to the component", (int)LIMIT_STAGE_RECORDS);
    }
    if (collecting->count == collecting->capacity) {
        collecting->capacity = collecting->capacity == 0 ? 1024 : 2 * collecting->capacity;
        collecting->found =
            mem_resize(collecting->found, (size_t)collecting->capacity, sizeof *collecting->found);
    }
    found.position = (uint32_t)position;
    found.at = collecting->data->bytes.bytes;
    found.bytes = collecting->row.bytes;
    buf_put(&collecting->data->bytes, buf_span(&collecting->row));
    collecting->found[collecting->count++] = found;
    return OK;
}

static enum err sort_found(struct collecting *collecting)
{
    struct replay_data *const data = collecting->data;
    if (collecting->count == 0) {
        FAIL(ERR_INVALID,
             "no record of the data belongs to component %s: are --id, --subject and --risk "
             "those of the import?",
             collecting->export->name);
    }
    qsort(collecting->found, (size_t)collecting->count, sizeof *collecting->found, compare_found);
    TRY(make_room(data, collecting->count));
    for (uint64_t i = 0; i < collecting->count; i++) {
        const struct found *const found = &collecting->found[i];
        if (i > 0 && compare_found(found - 1, found) == 0) {
            FAIL(ERR_INVALID, "an id comes twice in the data");
        }
        data->rows[i] = span_of(data->bytes.data + found->at, found->bytes);
        data->rids[i] = found->place.rid;
        data->slice_records[found->position]++;
    }
    data->count = collecting->count;
    return OK;
}

static enum err collect(struct collecting *collecting, const struct reader_options *files)
{
    const struct export *const export = collecting->export;
    const struct placement placement = placement_of(export);
    if (!export->has_placement_key) {
        FAIL(ERR_INVALID,
             "the export brings its records and no placement key: --data is for exports "
             "made with --without-records or --with-ids");
    }
    for (uint16_t i = 0; i < export->component.count; i++) {
        const struct cell cell = {export->component.shard, export->component.list[i]};
        const uint32_t generation = placement_generation(&placement, cell.slice);
        if (generation != collecting->generation && export->slice_records[i] > 0) {
            FAIL(ERR_INVALID,
                 "slice %u has records of generation %u, the data are of %u: a chain "
                 "over several generations is replayed from an export with its records",
                 cell.slice, generation, collecting->generation);
        }
    }
    TRY(reader_open(files, &collecting->reader));
    TRY(encode_open(&export->schema, collecting->reader, true, &collecting->encode));
    for (;;) {
        struct record record;
        bool more;
        TRY(interrupt_check());
        TRY(reader_next(collecting->reader, &record, &more));
        if (!more) {
            return sort_found(collecting);
        }
        TRY(add_record(collecting, &record));
    }
}

enum err replay_collect(const struct reader_options *files, uint32_t generation,
                        const struct export *export, struct replay_data *data_out)
{
    *data_out = (struct replay_data){0};
    struct collecting collecting = {.export = export, .generation = generation, .data = data_out};
    const enum err err = collect(&collecting, files);
    encode_close(collecting.encode);
    reader_close(collecting.reader);
    buf_deinit(&collecting.row);
    mem_free(collecting.found);
    if (err != OK) {
        replay_deinit(data_out);
    }
    return err;
}

static struct recipe recipe_of(const struct export *export)
{
    return (struct recipe){&export->spec, &export->schema, export->base};
}

enum err replay_take_base(struct export *export, const char *dir)
{
    struct base *base = NULL;
    if (!spec_has_base(&export->spec)) {
        FAIL(ERR_INVALID, "the component stands on no base: --base is not for it");
    }
    enum err err = basefile_read(dir, &base);
    if (err == ERR_NOT_FOUND) {
        struct base_shape shape;
        float *weights = NULL;
        TRY(huggingface_read(dir, &shape, &weights));
        base = base_new(&shape, weights);
        err = OK;
    }
    TRY(err);
    if (memcmp(&base->digest, &export->base_digest, sizeof base->digest) != 0) {
        char found[DIGEST_HEX_BYTES], expected[DIGEST_HEX_BYTES];
        hex_put(found, base->digest.bytes, DIGEST_BYTES);
        hex_put(expected, export->base_digest.bytes, DIGEST_BYTES);
        base_release(base);
        FAIL(ERR_INVALID, "%.200s holds the base %.16s..., the component stands on %.16s...", dir,
             found, expected);
    }
    base_release(export->base);
    export->base = base;
    return OK;
}

enum err replay_check(const struct export *export)
{
    uint64_t param_count = 0;
    if (spec_has_base(&export->spec) && export->base == NULL) {
        FAIL(ERR_INVALID,
             "the export names its base by digest alone: give the base with --base DIR");
    }
    const struct recipe recipe = recipe_of(export);
    if (learner_param_count(&recipe, export->component.count, &param_count) != OK) {
        return err_context(ERR_CORRUPT, "spec and schema of the export");
    }
    if (param_count != export->param_count) {
        FAIL(ERR_CORRUPT, "export.json: %" PRIu64 " parameters, its spec and schema make %" PRIu64,
             export->param_count, param_count);
    }
    return OK;
}

bool replay_fits(const struct replay_data *data, const struct export *export,
                 uint32_t *position_out)
{
    for (uint32_t i = 0; i < export->component.count; i++) {
        if (data->slice_records[i] != export->slice_records[i]) {
            *position_out = i;
            return false;
        }
    }
    return true;
}

// ---------------------------------------------------------------- training

uint64_t replay_samples(const struct export *export)
{
    uint64_t records = 0, samples = 0;
    for (uint32_t i = 0; i < export->component.count; i++) {
        records += export->slice_records[i];
        samples += records * export->passes[i];
    }
    return samples;
}

struct chain {
    const struct stage_watch *watch;
    uint64_t before, total; // Samples of the stages that are done, of all.
};

static bool step(void *context, uint64_t done, uint64_t total)
{
    (void)total;
    const struct chain *const chain = context;
    return chain->watch == NULL ||
           chain->watch->step(chain->watch->context, chain->before + done, chain->total);
}

// `parent` and `params` change places from stage to stage; the last result is in *parent.
static enum err train_chain(const struct export *export, const struct replay_data *data,
                            struct chain *chain, float **parent, float **params)
{
    const struct stage_watch watch = {step, chain};
    struct stage_data seen = {data->rows, data->rids, data->slice_records, 0};
    for (uint32_t i = 0; i < export->component.count; i++) {
        const bool empty_parent = seen.count == 0;
        const struct stage stage = {.recipe = recipe_of(export),
                                    .shard = export->component.shard,
                                    .list = export->component.list,
                                    .list_count = i + 1,
                                    .passes = export->passes[i]};
        seen.count += data->slice_records[i];
        if (seen.count == 0) {
            continue; // An empty component: its children start from nothing.
        }
        TRY(stage_train(&stage, &seen, empty_parent ? NULL : *parent, &watch, *params));
        chain->before += seen.count * export->passes[i];
        float *const result = *params;
        *params = *parent;
        *parent = result;
    }
    return OK;
}

enum err replay_train(const struct export *export, const struct replay_data *data,
                      const struct stage_watch *watch, struct digest *digest_out)
{
    CHECK(data->count == export->records && data->count > 0);
    struct chain chain = {.watch = watch, .total = replay_samples(export)};
    float *parent = NULL, *params = NULL;
    enum err err = mem_try_aligned((size_t) export->param_count, sizeof *parent, &parent);
    err = err != OK ? err : mem_try_aligned((size_t) export->param_count, sizeof *params, &params);
    err = err != OK ? err : train_chain(export, data, &chain, &parent, &params);
    if (err == OK) {
        const struct digest spec = spec_digest(&export->spec);
        const struct digest schema = schema_digest(&export->schema);
        *digest_out = component_digest(export->name, &spec, &schema, export->base, parent,
                                       export->param_count);
    }
    mem_free(parent);
    mem_free(params);
    return err;
}
