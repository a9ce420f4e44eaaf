// client/export.c: see export.h.
#include "client/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/basefile.h"
#include "client/schemafile.h"
#include "scheduler/trie.h"

static const char *const files[] = {"export.json", "spec.txt",    "schema.bin",
                                    "schema.json", "records.bin", BASEFILE_NAME};

void export_deinit(struct export *export)
{
    buf_deinit(&export->spec_text);
    buf_deinit(&export->schema_bytes);
    schema_deinit(&export->schema);
    base_release(export->base);
    *export = (struct export){0};
}

static enum err path_of(const char *dir, const char *name, char out[static EXPORT_PATH_BYTES])
{
    if (snprintf(out, EXPORT_PATH_BYTES, "%s/%s", dir, name) >= EXPORT_PATH_BYTES) {
        FAIL(ERR_INVALID, "a path is longer than %d bytes", (int)EXPORT_PATH_BYTES);
    }
    return OK;
}

// ---------------------------------------------------------------- writing

static enum err create(const char *dir, const char *name, FILE **file_out)
{
    char path[EXPORT_PATH_BYTES];
    TRY(path_of(dir, name, path));
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    *file_out = fd < 0 ? NULL : fdopen(fd, "w");
    if (*file_out == NULL) {
        FAIL(ERR_IO, "cannot write %s: %s", path, strerror(errno));
    }
    return OK;
}

enum err export_records_close(FILE *file)
{
    const bool good = fflush(file) == 0 && ferror(file) == 0 && fsync(fileno(file)) == 0;
    const int why = errno;
    if (fclose(file) != 0 || !good) {
        FAIL(ERR_IO, "cannot write a file of the export: %s", strerror(good ? errno : why));
    }
    return OK;
}

static enum err write_file(const char *dir, const char *name, struct span bytes)
{
    FILE *file;
    TRY(create(dir, name, &file));
    (void)fwrite(bytes.data, 1, bytes.bytes, file); // export_records_close tells.
    return export_records_close(file);
}

static json_t *hex(const void *data, size_t bytes)
{
    char text[2 * DIGEST_BYTES + 1];
    CHECK(bytes <= DIGEST_BYTES);
    hex_put(text, data, bytes);
    return json_string(text);
}

static json_t *manifest(const struct export *export)
{
    json_t *const passes = json_array(), *const records = json_array();
    for (uint32_t i = 0; i < export->component.count; i++) {
        json_array_append_new(passes, json_integer(export->passes[i]));
        json_array_append_new(records, json_integer((json_int_t) export->slice_records[i]));
    }
    char trained[TEXT_TIME_BYTES];
    text_time(export->trained_us, trained);
    json_t *const out = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:b, s:b, s:s}", "format",
        (int)EXPORT_FORMAT, "model", export->model, "dataset", export->dataset, "component",
        export->name, "core", export->core, "build", export->build, "passes", passes,
        "slice_records", records, "records", (json_int_t) export->records, "param_count",
        (json_int_t) export->param_count, "has_records", (int)export->has_records, "with_ids",
        (int)export->with_ids, "trained_at", trained);
    json_object_set_new(out, "profile", hex(export->profile.bytes, DIGEST_BYTES));
    json_object_set_new(out, "digest", hex(export->digest.bytes, DIGEST_BYTES));
    json_object_set_new(out, "commitment", hex(export->commitment.bytes, DIGEST_BYTES));
    json_object_set_new(out, "commit_key", hex(export->commit_key, KEY_BYTES));
    const bool on_base = spec_has_base(&export->spec);
    json_object_set_new(out, "base", on_base ? json_string(export->spec.base) : json_null());
    json_object_set_new(out, "base_digest",
                        on_base ? hex(export->base_digest.bytes, DIGEST_BYTES) : json_null());
    json_object_set_new(out, "has_base", json_boolean(export->has_base));
    json_object_set_new(out, "placement_key",
                        export->has_placement_key ? hex(export->placement_key, KEY_BYTES)
                                                  : json_null());
    return out;
}

static enum err write_manifest(const char *dir, const struct export *export)
{
    json_t *const object = manifest(export);
    char *const text = json_dumps(object, JSON_SORT_KEYS | JSON_INDENT(2));
    CHECK(text != NULL);
    json_decref(object);
    struct buf bytes = {0};
    buf_put(&bytes, span_text(text));
    buf_u8(&bytes, '\n');
    free(text); // jansson's own.
    const enum err err = write_file(dir, files[0], buf_span(&bytes));
    buf_deinit(&bytes);
    return err;
}

static enum err write_schema_text(const char *dir, const struct export *export)
{
    struct buf text = {0};
    schemafile_put(&export->schema, &text);
    const enum err err = write_file(dir, files[3], buf_span(&text));
    buf_deinit(&text);
    return err;
}

enum err export_write(const char *dir, const struct export *export)
{
    // An empty directory that is there already is taken.
    if (mkdir(dir, 0700) != 0 && !(errno == EEXIST && rmdir(dir) == 0 && mkdir(dir, 0700) == 0)) {
        if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) {
            FAIL(ERR_CONFLICT, "%s exists already, expected a new or an empty directory", dir);
        }
        FAIL(ERR_IO, "cannot make %s: %s", dir, strerror(errno));
    }
    TRY(write_manifest(dir, export));
    TRY(write_file(dir, files[1], buf_span(&export->spec_text)));
    TRY(write_file(dir, files[2], buf_span(&export->schema_bytes)));
    TRY(write_schema_text(dir, export));
    return export->has_base ? basefile_write(dir, export->base) : OK;
}

void export_remove(const char *dir)
{
    char path[EXPORT_PATH_BYTES];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (path_of(dir, files[i], path) == OK) {
            (void)unlink(path);
        }
    }
    (void)rmdir(dir);
}

enum err export_records_open(const char *dir, const struct export *export, FILE **file_out)
{
    struct buf head = {0};
    buf_put(&head, span_of("ulexport", 8));
    buf_u32(&head, EXPORT_FORMAT);
    buf_u8(&head, export->with_ids ? 1 : 0);
    buf_u64(&head, export->records);
    const enum err err = create(dir, files[4], file_out);
    if (err == OK) {
        (void)fwrite(head.data, 1, head.bytes, *file_out);
    }
    buf_deinit(&head);
    return err;
}

// ---------------------------------------------------------------- reading

enum err export_file(const char *dir, const char *name, uint64_t bytes_max, struct buf *out)
{
    char path[EXPORT_PATH_BYTES];
    struct stat found;
    TRY(path_of(dir, name, path));
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // A FIFO must not hold us up.
    if (fd < 0 || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) {
        const int why = fd < 0 ? errno : EINVAL;
        if (fd >= 0) {
            close(fd);
        }
        FAIL(why == EINVAL || why == ENOENT || why == ENOTDIR ? ERR_NOT_FOUND : ERR_IO,
             "%s cannot be read: %s", name, why == EINVAL ? "not a regular file" : strerror(why));
    }
    if ((uint64_t)found.st_size > bytes_max) {
        close(fd);
        FAIL(ERR_CORRUPT, "%s has %" PRIu64 " bytes, expected at most %" PRIu64, name,
             (uint64_t)found.st_size, bytes_max);
    }
    // One byte more than the file has: it must not grow while it is read.
    const size_t bytes = (size_t)found.st_size;
    size_t got = 0;
    uint8_t *const room = buf_room(out, bytes + 1);
    for (ssize_t now = 1; now > 0 && got <= bytes; got += (size_t)(now > 0 ? now : 0)) {
        now = read(fd, room + got, bytes + 1 - got);
    }
    close(fd);
    out->bytes -= 1;
    if (got != bytes) {
        FAIL(ERR_CORRUPT, "%s changed while it was read", name);
    }
    return OK;
}

// A field of export.json. Each marks what it has seen, so that unknown ones are found.
struct fields {
    json_t *object; // Fields are taken out of it; none may be left.
    json_t *held;   // The one taken last; keeps texts alive.
};

static enum err take(struct fields *fields, const char *key, json_type type, json_t **out)
{
    json_decref(fields->held);
    fields->held = NULL;
    json_t *const value = json_object_get(fields->object, key);
    if (value == NULL || json_typeof(value) != type) {
        FAIL(ERR_CORRUPT, "export.json: \"%s\" is missing or of another type", key);
    }
    fields->held = json_incref(value);
    (void)json_object_del(fields->object, key);
    *out = value;
    return OK;
}

static enum err take_text(struct fields *fields, const char *key, bool may_be_empty, char *out,
                          size_t capacity)
{
    json_t *value;
    TRY(take(fields, key, JSON_STRING, &value));
    const struct span text = span_of(json_string_value(value), json_string_length(value));
    if (text.bytes >= capacity || (text.bytes == 0 && !may_be_empty) || !text_is_clean(text)) {
        FAIL(ERR_CORRUPT, "export.json: \"%s\" is no text of %s%zu bytes at most", key,
             may_be_empty ? "" : "1 to ", capacity - 1);
    }
    snprintf(out, capacity, "%.*s", (int)text.bytes, (const char *)text.data);
    return OK;
}

static enum err take_hex(struct fields *fields, const char *key, void *out, size_t bytes)
{
    char text[2 * DIGEST_BYTES + 1];
    TRY(take_text(fields, key, false, text, sizeof text));
    if (hex_get(out, bytes, text) != OK) {
        return err_context(ERR_CORRUPT, "export.json: \"%s\"", key);
    }
    return OK;
}

static enum err take_bool(struct fields *fields, const char *key, bool *out)
{
    json_t *const value = json_object_get(fields->object, key);
    if (!json_is_boolean(value)) {
        FAIL(ERR_CORRUPT, "export.json: \"%s\" is missing or of another type", key);
    }
    *out = json_is_true(value);
    (void)json_object_del(fields->object, key);
    return OK;
}

static enum err number_of(json_t *value, const char *key, uint64_t max, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max) {
        FAIL(ERR_CORRUPT, "export.json: \"%s\" has no number from 0 to %" PRIu64, key, max);
    }
    *out = (uint64_t)json_integer_value(value);
    return OK;
}

static enum err take_number(struct fields *fields, const char *key, uint64_t max, uint64_t *out)
{
    json_t *value;
    TRY(take(fields, key, JSON_INTEGER, &value));
    return number_of(value, key, max, out);
}

static enum err take_numbers(struct fields *fields, const char *key, size_t count, uint64_t max,
                             uint64_t out[static LIMIT_SLICES])
{
    json_t *value;
    TRY(take(fields, key, JSON_ARRAY, &value));
    if (json_array_size(value) != count) {
        FAIL(ERR_CORRUPT, "export.json: \"%s\" has %zu entries, the component's list %zu", key,
             json_array_size(value), count);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(number_of(json_array_get(value, i), key, max, &out[i]));
    }
    return OK;
}

static enum err take_component(struct fields *fields, struct export *export)
{
    uint64_t passes[LIMIT_SLICES];
    TRY(take_text(fields, "component", false, export->name, sizeof export->name));
    if (component_get(export->name, &export->component) != OK) {
        return err_context(ERR_CORRUPT, "export.json: \"component\"");
    }
    const uint16_t count = export->component.count;
    TRY(take_numbers(fields, "passes", count, LIMIT_EPOCHS, passes));
    TRY(take_numbers(fields, "slice_records", count, LIMIT_STAGE_RECORDS, export->slice_records));
    TRY(take_number(fields, "records", LIMIT_STAGE_RECORDS, &export->records));
    uint64_t sum = 0;
    for (uint16_t i = 0; i < count; i++) {
        export->passes[i] = (uint32_t)passes[i];
        sum += export->slice_records[i];
    }
    if (sum != export->records || sum == 0) {
        FAIL(ERR_CORRUPT, "export.json: %" PRIu64 " records, though its slices have %" PRIu64,
             export->records, sum);
    }
    return OK;
}

// True when the value is null: then it is taken.
static bool take_null(struct fields *fields, const char *key)
{
    const bool null = json_is_null(json_object_get(fields->object, key));
    if (null) {
        (void)json_object_del(fields->object, key);
    }
    return null;
}

// The base's name is the spec's: compared in `check`.
static enum err take_base(struct fields *fields, struct export *export)
{
    const struct digest none = {{0}};
    TRY(take_bool(fields, "has_base", &export->has_base));
    const bool named = !take_null(fields, "base");
    if (named) {
        TRY(take_text(fields, "base", false, export->base_name, sizeof export->base_name));
        TRY(take_hex(fields, "base_digest", export->base_digest.bytes, DIGEST_BYTES));
    } else if (!take_null(fields, "base_digest")) {
        FAIL(ERR_CORRUPT, "export.json: the digest of a base that has no name");
    }
    if ((export->has_base && !named) ||
        (named && memcmp(&export->base_digest, &none, sizeof none) == 0)) {
        FAIL(ERR_CORRUPT, "export.json: \"base\", \"base_digest\" and \"has_base\" do not fit "
                          "each other");
    }
    return OK;
}

static enum err take_fields(struct fields *fields, struct export *export)
{
    uint64_t format = 0;
    char trained[TEXT_TIME_BYTES];
    TRY(take_number(fields, "format", UINT32_MAX, &format));
    if (format != EXPORT_FORMAT) {
        FAIL(ERR_INCOMPATIBLE, "export.json has format %" PRIu64 ", this program knows %d", format,
             (int)EXPORT_FORMAT);
    }
    TRY(take_text(fields, "model", false, export->model, sizeof export->model));
    TRY(take_text(fields, "dataset", false, export->dataset, sizeof export->dataset));
    TRY(take_text(fields, "core", true, export->core, sizeof export->core));
    TRY(take_text(fields, "build", true, export->build, sizeof export->build));
    TRY(take_text(fields, "trained_at", true, trained, sizeof trained));
    TRY(take_component(fields, export));
    TRY(take_number(fields, "param_count", LIMIT_PARAM_COUNT, &export->param_count));
    TRY(take_bool(fields, "has_records", &export->has_records));
    TRY(take_bool(fields, "with_ids", &export->with_ids));
    TRY(take_hex(fields, "profile", export->profile.bytes, DIGEST_BYTES));
    TRY(take_hex(fields, "digest", export->digest.bytes, DIGEST_BYTES));
    TRY(take_hex(fields, "commitment", export->commitment.bytes, DIGEST_BYTES));
    TRY(take_hex(fields, "commit_key", export->commit_key, KEY_BYTES));
    TRY(take_base(fields, export));
    export->has_placement_key = !take_null(fields, "placement_key");
    if (export->has_placement_key) {
        TRY(take_hex(fields, "placement_key", export->placement_key, KEY_BYTES));
    }
    if (json_object_size(fields->object) != 0) {
        FAIL(ERR_CORRUPT, "export.json has %zu fields that are not known",
             json_object_size(fields->object));
    }
    if ((export->with_ids && !export->has_records) ||
        export->has_placement_key != (export->with_ids || !export->has_records)) {
        FAIL(ERR_CORRUPT, "export.json: ids, records and placement key do not fit each other");
    }
    return OK;
}

static enum err read_manifest(const char *dir, struct export *export)
{
    struct buf text = {0};
    enum err err = export_file(dir, files[0], EXPORT_JSON_BYTES, &text);
    if (err == OK) {
        json_error_t error;
        struct fields fields = {0};
        fields.object =
            json_loadb((const char *)text.data, text.bytes, JSON_REJECT_DUPLICATES, &error);
        err = json_is_object(fields.object)
                  ? take_fields(&fields, export)
                  : err_raise(ERR_CORRUPT, "export.json line %d: not a JSON object", error.line);
        json_decref(fields.held);
        json_decref(fields.object);
    }
    buf_deinit(&text);
    return err;
}

// The base that the spec names is the one that the manifest names, and the one in base.bin.
static enum err check_base(const struct export *export)
{
    if (spec_has_base(&export->spec) != (export->base_name[0] != '\0') ||
        (spec_has_base(&export->spec) && strcmp(export->spec.base, export->base_name) != 0)) {
        FAIL(ERR_CORRUPT, "export.json and spec.txt name two bases");
    }
    if (export->base != NULL &&
        memcmp(&export->base->digest, &export->base_digest, sizeof export->base_digest) != 0) {
        FAIL(ERR_CORRUPT, BASEFILE_NAME " holds another base than export.json names");
    }
    return OK;
}

// What the files say must hold together before anything is trained.
static enum err check(const struct export *export)
{
    TRY(check_base(export));
    if (export->component.shard >= export->spec.shards) {
        FAIL(ERR_CORRUPT, "export.json: component %s, though the spec has %u shards", export->name,
             export->spec.shards);
    }
    for (uint32_t i = 0; i < export->component.count; i++) {
        const uint32_t passes = trie_passes(spec_passes_each(&export->spec), export->spec.epochs,
                                            export->spec.slices, i + 1);
        if (export->passes[i] != passes) {
            FAIL(ERR_CORRUPT, "export.json: %u passes in stage %u, the spec makes %u",
                 export->passes[i], i + 1, passes);
        }
    }
    return OK;
}

static enum err read_all(const char *dir, struct export *export)
{
    struct schema same = {0};
    struct buf text = {0};
    TRY(read_manifest(dir, export));
    TRY(export_file(dir, files[1], LIMIT_SPEC_BYTES, &export->spec_text));
    if (spec_get(buf_span(&export->spec_text), &export->spec) != OK) {
        return err_context(ERR_CORRUPT, "spec.txt");
    }
    TRY(export_file(dir, files[2], LIMIT_SCHEMA_BYTES, &export->schema_bytes));
    if (schema_get(buf_span(&export->schema_bytes), &export->schema) != OK) {
        return err_context(ERR_CORRUPT, "schema.bin");
    }
    enum err err = export_file(dir, files[3], SCHEMAFILE_BYTES, &text);
    if (err == OK && schemafile_get("schema.json", buf_span(&text), &same) != OK) {
        err = err_context(ERR_CORRUPT, "the export");
    }
    buf_clear(&text);
    if (err == OK) {
        schema_put(&same, &text);
        if (!span_equal(buf_span(&text), buf_span(&export->schema_bytes))) {
            err = err_raise(ERR_CORRUPT, "schema.json and schema.bin are two schemas");
        }
    }
    schema_deinit(&same);
    buf_deinit(&text);
    TRY(err);
    if (export->has_base) {
        TRY(basefile_read(dir, &export->base));
    }
    return check(export);
}

enum err export_read(const char *dir, struct export *export_out)
{
    *export_out = (struct export){0};
    const enum err err = read_all(dir, export_out);
    if (err != OK) {
        export_deinit(export_out);
        return err_context(err, "%.200s", dir);
    }
    return OK;
}
