// client/safetensors.c: see safetensors.h.
//
//   u64 LE   bytes of the header
//   header   {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [from, to]}, ...,
//             "__metadata__": {"key": "text", ...}}, padded with spaces
//   data     offsets count from here
#include "client/safetensors.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/files.h"

_Static_assert(BYTE_ORDER == LITTLE_ENDIAN && sizeof(float) == 4, "F32 is copied as it lies");

enum { LENGTH_BYTES = 8, PIECE_BYTES = 65536, ALIGNMENT = 8 };
static const char metadata_key[] = "__metadata__";

// Every type that the reference library writes and whose values are whole bytes.
static const struct {
    const char *name;
    uint32_t bytes;
} types[] = {
    {"F32", 4},  {"F16", 2},     {"BF16", 2},    {"F64", 8}, {"I64", 8},     {"I32", 4},
    {"I16", 2},  {"I8", 1},      {"U64", 8},     {"U32", 4}, {"U16", 2},     {"U8", 1},
    {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"C64", 8}, {"F8_E8M0", 1},
};

struct safetensors {
    char *path;
    int file;
    uint64_t data_at, data_bytes;
    json_t *header; // Owns the names.
    size_t count;
    struct safetensors_tensor *tensors; // By `from`.
};

void safetensors_shape_text(uint32_t dimensions, const uint64_t *shape,
                            char out[static SAFETENSORS_SHAPE_BYTES])
{
    size_t at = (size_t)snprintf(out, SAFETENSORS_SHAPE_BYTES, "[");
    for (uint32_t i = 0; i < dimensions && at < SAFETENSORS_SHAPE_BYTES; i++) {
        at += (size_t)snprintf(out + at, SAFETENSORS_SHAPE_BYTES - at, "%s%" PRIu64,
                               i == 0 ? "" : ", ", shape[i]);
    }
    if (at < SAFETENSORS_SHAPE_BYTES) {
        (void)snprintf(out + at, SAFETENSORS_SHAPE_BYTES - at, "]");
    }
}

// ---------------------------------------------------------------- the header

static enum err whole(const json_t *json, const char *what, uint64_t *value_out)
{
    if (!json_is_integer(json) || json_integer_value(json) < 0) {
        FAIL(ERR_INVALID, "%s is not a whole number of 0 to 2^63 - 1", what);
    }
    *value_out = (uint64_t)json_integer_value(json);
    return OK;
}

static enum err take_type(const json_t *json, struct safetensors_tensor *tensor,
                          uint32_t *value_bytes_out)
{
    const char *const name = json_string_value(json);
    if (name == NULL) {
        FAIL(ERR_INVALID, "no \"dtype\"");
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(name, types[i].name) == 0) {
            tensor->type = types[i].name;
            *value_bytes_out = types[i].bytes;
            return OK;
        }
    }
    const bool clean = text_is_clean(span_text(name));
    FAIL(ERR_INVALID, "the type \"%.16s\" is not known, expected F32, F16 or BF16",
         clean ? name : "?");
}

static enum err take_shape(const json_t *json, struct safetensors_tensor *tensor)
{
    if (!json_is_array(json)) {
        FAIL(ERR_INVALID, "no \"shape\"");
    }
    const size_t dimensions = json_array_size(json);
    if (dimensions > SAFETENSORS_DIMENSIONS_MAX) {
        FAIL(ERR_INVALID, "%zu dimensions, expected at most %d", dimensions,
             (int)SAFETENSORS_DIMENSIONS_MAX);
    }
    tensor->dimensions = (uint32_t)dimensions;
    tensor->count = 1;
    bool too_many = false;
    for (uint32_t i = 0; i < tensor->dimensions; i++) {
        TRY(whole(json_array_get(json, i), "a part of \"shape\"", &tensor->shape[i]));
        too_many |= __builtin_mul_overflow(tensor->count, tensor->shape[i], &tensor->count);
    }
    if (too_many) {
        FAIL(ERR_INVALID, "\"shape\" has more than 2^64 values");
    }
    return OK;
}

static enum err take_tensor(const json_t *json, uint64_t data_bytes,
                            struct safetensors_tensor *tensor)
{
    uint32_t value_bytes;
    uint64_t to, expected;
    if (!json_is_object(json)) {
        FAIL(ERR_INVALID, "not a JSON object");
    }
    TRY(take_type(json_object_get(json, "dtype"), tensor, &value_bytes));
    TRY(take_shape(json_object_get(json, "shape"), tensor));
    const json_t *const offsets = json_object_get(json, "data_offsets");
    if (json_array_size(offsets) != 2) {
        FAIL(ERR_INVALID, "\"data_offsets\" is not a pair");
    }
    TRY(whole(json_array_get(offsets, 0), "a part of \"data_offsets\"", &tensor->from));
    TRY(whole(json_array_get(offsets, 1), "a part of \"data_offsets\"", &to));
    if (json_object_size(json) != 3) {
        FAIL(ERR_INVALID, "keys beside \"dtype\", \"shape\" and \"data_offsets\"");
    }
    if (tensor->from > to || to > data_bytes) {
        FAIL(ERR_INVALID,
             "\"data_offsets\" are %" PRIu64 " to %" PRIu64 ", though the file has %" PRIu64
             " bytes of data",
             tensor->from, to, data_bytes);
    }
    tensor->bytes = to - tensor->from;
    if (__builtin_mul_overflow(tensor->count, value_bytes, &expected) ||
        expected != tensor->bytes) {
        char shape[SAFETENSORS_SHAPE_BYTES];
        safetensors_shape_text(tensor->dimensions, tensor->shape, shape);
        FAIL(ERR_INVALID, "%" PRIu64 " bytes, which is not the size of %s values of type %s",
             tensor->bytes, shape, tensor->type);
    }
    return OK;
}

static enum err check_metadata(const json_t *metadata)
{
    const char *key;
    json_t *text;
    if (!json_is_object(metadata)) {
        FAIL(ERR_INVALID, "%s is not a JSON object", metadata_key);
    }
    json_object_foreach((json_t *)(uintptr_t)metadata, key, text)
    {
        if (!json_is_string(text)) {
            FAIL(ERR_INVALID, "%s holds something else than texts", metadata_key);
        }
    }
    return OK;
}

static int by_place(const void *a_, const void *b_)
{
    const struct safetensors_tensor *const a = a_, *const b = b_;
    if (a->from != b->from) {
        return a->from < b->from ? -1 : 1;
    }
    // An empty tensor lies before the one that begins where it is.
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

// The tensors fill the data exactly: so nothing is hidden between them and no two share a byte.
static enum err check_places(const struct safetensors *file)
{
    uint64_t at = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct safetensors_tensor *const tensor = &file->tensors[i];
        if (tensor->from < at) {
            FAIL(ERR_INVALID, "tensor %s begins at byte %" PRIu64 ", inside tensor %s",
                 tensor->name, tensor->from, file->tensors[i - 1].name);
        }
        if (tensor->from > at) {
            FAIL(ERR_INVALID, "tensor %s begins at byte %" PRIu64 ", after a gap of %" PRIu64,
                 tensor->name, tensor->from, tensor->from - at);
        }
        at = tensor->from + tensor->bytes;
    }
    if (at != file->data_bytes) {
        FAIL(ERR_INVALID, "%" PRIu64 " bytes of data, though its tensors end at %" PRIu64,
             file->data_bytes, at);
    }
    return OK;
}

static enum err take_tensors(struct safetensors *file)
{
    const char *name;
    json_t *json;
    const size_t keys = json_object_size(file->header);
    file->tensors = mem_alloc(keys, sizeof *file->tensors);
    json_object_foreach(file->header, name, json)
    {
        if (strcmp(name, metadata_key) == 0) {
            TRY(check_metadata(json));
            continue;
        }
        TRY(text_check_name("a tensor's name", span_text(name)));
        struct safetensors_tensor *const tensor = &file->tensors[file->count++];
        tensor->name = name;
        TRY_AS(take_tensor(json, file->data_bytes, tensor), "tensor %s", name);
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, by_place);
    return check_places(file);
}

static enum err parse_header(struct safetensors *file, struct span text)
{
    json_error_t error;
    if (text.bytes == 0 || *(const char *)text.data != '{') {
        FAIL(ERR_INVALID, "not a safetensors file: its header does not begin with {");
    }
    file->header = json_loadb(text.data, text.bytes, JSON_REJECT_DUPLICATES, &error);
    if (file->header == NULL) {
        FAIL(ERR_INVALID, "%s at byte %d of its header, expected one JSON object",
             json_error_code(&error) == json_error_duplicate_key      ? "a key comes twice"
             : json_error_code(&error) == json_error_numeric_overflow ? "a number is too large"
                                                                      : "no valid JSON",
             error.position);
    }
    return take_tensors(file);
}

// ---------------------------------------------------------------- the file

// Reads all of it. ERR_CORRUPT: the file ends before.
static enum err read_at(const struct safetensors *file, void *out, size_t bytes, uint64_t from)
{
    uint8_t *at = out;
    while (bytes > 0) {
        const ssize_t got = pread(file->file, at, bytes, (off_t)from);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            FAIL(ERR_IO, "%.200s: cannot read: %s", file->path, strerror(errno));
        }
        if (got == 0) {
            FAIL(ERR_CORRUPT, "%.200s became shorter while it was read", file->path);
        }
        at += got;
        bytes -= (size_t)got;
        from += (uint64_t)got;
    }
    return OK;
}

static enum err read_header(struct safetensors *file, uint64_t file_bytes)
{
    uint64_t header_bytes;
    if (file_bytes < LENGTH_BYTES) {
        FAIL(ERR_INVALID, "%.200s: %" PRIu64 " bytes are no safetensors file", file->path,
             file_bytes);
    }
    TRY(read_at(file, &header_bytes, LENGTH_BYTES, 0));
    if (header_bytes > file_bytes - LENGTH_BYTES) {
        FAIL(ERR_INVALID,
             "%.200s: not a safetensors file, or cut off: its header would have %" PRIu64
             " bytes, though the file has %" PRIu64,
             file->path, header_bytes, file_bytes);
    }
    if (header_bytes > LIMIT_SAFETENSORS_HEADER_BYTES) {
        FAIL(ERR_LIMIT, "%.200s: a header of %" PRIu64 " bytes, expected at most %d", file->path,
             header_bytes, (int)LIMIT_SAFETENSORS_HEADER_BYTES);
    }
    file->data_at = LENGTH_BYTES + header_bytes;
    file->data_bytes = file_bytes - file->data_at;
    struct buf text = {0};
    enum err err = read_at(file, buf_room(&text, header_bytes), header_bytes, LENGTH_BYTES);
    if (err == OK) {
        err = parse_header(file, buf_span(&text));
        err = err == OK ? OK : err_context(err, "%.200s", file->path);
    }
    buf_deinit(&text);
    return err;
}

static enum err open_it(struct safetensors *file)
{
    struct stat found;
    // O_NONBLOCK: a pipe of that name must not hold us.
    file->file = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->file < 0) {
        FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "cannot open %.200s: %s",
             file->path, strerror(errno));
    }
    if (fstat(file->file, &found) != 0) {
        FAIL(ERR_IO, "cannot read %.200s: %s", file->path, strerror(errno));
    }
    if (!S_ISREG(found.st_mode)) {
        FAIL(ERR_INVALID, "%.200s is not a file", file->path);
    }
    return read_header(file, (uint64_t)found.st_size);
}

enum err safetensors_open(const char *path, struct safetensors **file_out)
{
    struct safetensors *const file = mem_alloc(1, sizeof *file);
    file->path = mem_text(path);
    const enum err err = open_it(file);
    if (err != OK) {
        safetensors_close(file);
        *file_out = NULL;
        return err;
    }
    *file_out = file;
    return OK;
}

void safetensors_close(struct safetensors *file)
{
    if (file == NULL) {
        return;
    }
    if (file->file >= 0) {
        close(file->file);
    }
    json_decref(file->header);
    mem_free(file->tensors);
    mem_free(file->path);
    mem_free(file);
}

const char *safetensors_path(const struct safetensors *file)
{
    return file->path;
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *file, size_t index)
{
    CHECK(index < file->count);
    return &file->tensors[index];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++) {
        if (strcmp(file->tensors[i].name, name) == 0) {
            return &file->tensors[i];
        }
    }
    return NULL;
}

const char *safetensors_note(const struct safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, metadata_key), key));
}

// ---------------------------------------------------------------- numbers

// The bits of the float32 of the same value; every binary16 has one.
static uint32_t bits_of_half(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 0x1f;
    uint32_t fraction = half & 0x3ff;
    if (exponent == 0x1f) {
        return sign | 0x7f800000 | fraction << 13;
    }
    if (exponent == 0) {
        if (fraction == 0) {
            return sign;
        }
        // Denormal: fraction * 2^-24. Moved up until its first one is the implied one.
        for (exponent = 1; (fraction & 0x400) == 0; exponent--) {
            fraction <<= 1;
        }
        fraction &= 0x3ff;
    }
    return sign | (exponent + 127 - 15) << 23 | fraction << 13;
}

static bool is_finite(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7f800000) != 0x7f800000;
}

static bool all_finite(const float *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (!is_finite(values[i])) {
            return false;
        }
    }
    return true;
}

static enum err read_halves(const struct safetensors *file, uint64_t from, bool brain,
                            uint64_t count, float *values_out)
{
    uint16_t halves[PIECE_BYTES / 2] = {0};
    while (count > 0) {
        const size_t piece = count < PIECE_BYTES / 2 ? (size_t)count : PIECE_BYTES / 2;
        TRY(read_at(file, halves, piece * sizeof halves[0], from));
        for (size_t i = 0; i < piece; i++) {
            const uint32_t bits = brain ? (uint32_t)halves[i] << 16 : bits_of_half(halves[i]);
            memcpy(&values_out[i], &bits, sizeof bits);
        }
        from += piece * sizeof halves[0];
        values_out += piece;
        count -= piece;
    }
    return OK;
}

enum err safetensors_read(const struct safetensors *file, const struct safetensors_tensor *tensor,
                          uint64_t first, uint64_t count, float *values_out)
{
    CHECK(first <= tensor->count && count <= tensor->count - first);
    const uint64_t at = file->data_at + tensor->from;
    if (strcmp(tensor->type, "F32") == 0) {
        TRY(read_at(file, values_out, count * sizeof(float), at + first * sizeof(float)));
    } else if (strcmp(tensor->type, "F16") == 0 || strcmp(tensor->type, "BF16") == 0) {
        TRY(read_halves(file, at + 2 * first, tensor->type[0] == 'B', count, values_out));
    } else {
        FAIL(ERR_INVALID, "%.200s: tensor %s is of type %s, expected F32, F16 or BF16", file->path,
             tensor->name, tensor->type);
    }
    if (!all_finite(values_out, count)) {
        FAIL(ERR_INVALID, "%.200s: tensor %s has a value that is infinite or no number", file->path,
             tensor->name);
    }
    return OK;
}

// ---------------------------------------------------------------- writing

static uint64_t part_count_of(const struct safetensors_part *part)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < part->dimensions; i++) {
        count *= part->shape[i];
    }
    return count;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct safetensors_part *const *)a)->name,
                  (*(const struct safetensors_part *const *)b)->name);
}

// json_* return NULL or -1 only without memory or for text that is not UTF-8: neither is input.
static void put(json_t *object, const char *key, json_t *value)
{
    CHECK(json_object_set_new(object, key, value) == 0);
}

static json_t *numbers_of(const uint64_t *numbers, size_t count)
{
    json_t *const array = json_array();
    for (size_t i = 0; i < count; i++) {
        CHECK(json_array_append_new(array, json_integer((json_int_t)numbers[i])) == 0);
    }
    return array;
}

static void put_header(const struct safetensors_part *const *sorted, size_t part_count,
                       const struct safetensors_text *texts, size_t text_count, struct buf *out)
{
    json_t *const header = json_object();
    if (text_count > 0) {
        json_t *const metadata = json_object();
        for (size_t i = 0; i < text_count; i++) {
            put(metadata, texts[i].key, json_string(texts[i].text));
        }
        put(header, metadata_key, metadata);
    }
    uint64_t offsets[2] = {0, 0};
    for (size_t i = 0; i < part_count; i++) {
        json_t *const tensor = json_object();
        offsets[1] = offsets[0] + part_count_of(sorted[i]) * sizeof(float);
        put(tensor, "dtype", json_string("F32"));
        put(tensor, "shape", numbers_of(sorted[i]->shape, sorted[i]->dimensions));
        put(tensor, "data_offsets", numbers_of(offsets, 2));
        CHECK(json_object_get(header, sorted[i]->name) == NULL);
        put(header, sorted[i]->name, tensor);
        offsets[0] = offsets[1];
    }
    char *const text = json_dumps(header, JSON_COMPACT);
    CHECK(text != NULL);
    const size_t bytes = strlen(text);
    const size_t padding = (ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT;
    buf_u64(out, bytes + padding);
    buf_put(out, span_of(text, bytes));
    memset(buf_room(out, padding), ' ', padding);
    free(text);
    json_decref(header);
}

enum err safetensors_write(const char *path, const struct safetensors_part *parts,
                           size_t part_count, const struct safetensors_text *texts,
                           size_t text_count)
{
    for (size_t i = 0; i < part_count; i++) {
        CHECK(parts[i].dimensions <= SAFETENSORS_DIMENSIONS_MAX);
        if (!all_finite(parts[i].values, part_count_of(&parts[i]))) {
            FAIL(ERR_INVALID, "%.200s: tensor %s has a value that is infinite or no number", path,
                 parts[i].name);
        }
    }
    const struct safetensors_part **const sorted = mem_alloc(part_count, sizeof *sorted);
    struct span *const spans = mem_alloc(part_count + 1, sizeof *spans);
    struct buf header = {0};
    for (size_t i = 0; i < part_count; i++) {
        sorted[i] = &parts[i];
    }
    qsort(sorted, part_count, sizeof(const struct safetensors_part *), by_name);
    put_header(sorted, part_count, texts, text_count, &header);
    spans[0] = buf_span(&header);
    for (size_t i = 0; i < part_count; i++) {
        spans[i + 1] = span_of(sorted[i]->values, part_count_of(sorted[i]) * sizeof(float));
    }
    const enum err err = files_write_parts(path, spans, part_count + 1);
    buf_deinit(&header);
    mem_free(spans);
    mem_free(sorted);
    return err;
}
