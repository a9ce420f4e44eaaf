// client/npy.c: NumPy arrays (.npy), features X and, after each, optionally labels y.
//
// Read are format versions 1 and 2, C order, little-endian f4 f8 i4 i8 and u1. X has two dimensions
// or three, the first one counts records; unsigned bytes are pixels, everything else is one column
// "x" of float32 in which NaN is missing. y has one dimension, or two of which the second is 1.
// Objects are refused: they are Python pickles, which are programs.
//
// Source    numpy.lib.format: "\x93NUMPY", major, minor, header length (u16 LE in version 1, u32 in
//           2), then a Python dict literal {'descr': '<f4', 'fortran_order': False, 'shape': (n, w)}.
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/digest.h"
#include "base/limits.h"
#include "base/mem.h"
#include "client/format.h"
#include "client/source.h"

enum { DIMENSIONS_MAX = 3, HEADER_BYTES_MAX = 4096, ITEM_BYTES_MAX = 8 };

enum item { ITEM_F4, ITEM_F8, ITEM_I4, ITEM_I8, ITEM_U1, ITEM_COUNT_ };

static const struct {
    const char *descr;
    size_t bytes;
} items[ITEM_COUNT_] = {{"<f4", 4}, {"<f8", 8}, {"<i4", 4}, {"<i8", 8}, {"|u1", 1}};

struct array {
    enum item item;
    uint32_t dimensions;
    uint64_t size[DIMENSIONS_MAX]; // size[0] is the number of records.
    uint64_t width;                // Elements of one record.
};

struct npy {
    const char *const *files;
    size_t file_count, file_index; // file_index: the next file to open.
    struct source *x;              // NULL between files
    struct source *y;              // NULL where there are no labels
    struct array x_array, y_array;
    uint64_t record, done_bytes;
    bool has_labels;
    struct buf bytes; // One record as it lies.
    float *floats;    // [width], unless pixels
    char label[TABLE_NUMBER_BYTES];
};

// --- The header: a small reader of exactly the dict that NumPy writes, in any order ---

static void skip_blanks(struct cursor *text)
{
    while (text->left > 0 && (*text->at == ' ' || *text->at == '\n')) {
        (void)cursor_u8(text);
    }
}

static bool take(struct cursor *text, char expected)
{
    skip_blanks(text);
    if (text->left == 0 || *text->at != (uint8_t)expected) {
        return false;
    }
    (void)cursor_u8(text);
    return true;
}

static bool take_word(struct cursor *text, const char *word)
{
    skip_blanks(text);
    const size_t bytes = strlen(word);
    if (text->left < bytes || memcmp(text->at, word, bytes) != 0) {
        return false;
    }
    (void)cursor_take(text, bytes);
    return true;
}

static bool take_string(struct cursor *text, struct span *string_out)
{
    if (!take(text, '\'')) {
        return false;
    }
    const uint8_t *const end = text->left > 0 ? memchr(text->at, '\'', text->left) : NULL;
    if (end == NULL) {
        return false;
    }
    *string_out = cursor_take(text, (size_t)(end - text->at));
    (void)cursor_u8(text);
    return true;
}

// A tuple of whole numbers. Dimensions beyond DIMENSIONS_MAX are counted, not kept.
static bool take_shape(struct cursor *text, struct array *array)
{
    if (!take(text, '(')) {
        return false;
    }
    array->dimensions = 0;
    while (!take(text, ')')) {
        uint64_t size = 0;
        size_t digits = 0;
        skip_blanks(text);
        for (; text->left > 0 && *text->at >= '0' && *text->at <= '9' && digits < 18; digits++) {
            size = 10 * size + (uint64_t)(cursor_u8(text) - '0');
        }
        if (digits == 0) {
            return false;
        }
        if (array->dimensions < DIMENSIONS_MAX) {
            array->size[array->dimensions] = size;
        }
        array->dimensions++;
        if (!take(text, ',') && (text->left == 0 || *text->at != ')')) {
            return false;
        }
    }
    return true;
}

struct dict {
    struct span descr;
    bool plain_type; // False: a list of fields.
    bool fortran, has_descr, has_order, has_shape;
};

static bool parse_dict(struct cursor *text, struct dict *dict, struct array *array)
{
    if (!take(text, '{')) {
        return false;
    }
    while (!take(text, '}')) {
        struct span key;
        if (!take_string(text, &key) || !take(text, ':')) {
            return false;
        }
        if (span_equal(key, span_text("descr")) && !dict->has_descr) {
            dict->has_descr = true;
            dict->plain_type = take_string(text, &dict->descr);
            if (!dict->plain_type) {
                return true; // A structured type: refused by the caller.
            }
        } else if (span_equal(key, span_text("fortran_order")) && !dict->has_order) {
            dict->has_order = true;
            dict->fortran = take_word(text, "True");
            if (!dict->fortran && !take_word(text, "False")) {
                return false;
            }
        } else if (span_equal(key, span_text("shape")) && !dict->has_shape) {
            dict->has_shape = take_shape(text, array);
            if (!dict->has_shape) {
                return false;
            }
        } else {
            return false;
        }
        (void)take(text, ',');
    }
    return dict->has_descr && dict->has_order && dict->has_shape;
}

static enum err check_type(const char *path, const struct dict *dict, struct array *array)
{
    const struct span descr = dict->plain_type ? dict->descr : span_text("[...]");
    for (enum item item = 0; dict->plain_type && item < ITEM_COUNT_; item++) {
        if (span_equal(descr, span_text(items[item].descr))) {
            array->item = item;
            return OK;
        }
    }
    const char *const text = descr.data;
    const int bytes = descr.bytes < 16 ? (int)descr.bytes : 16;
    if (descr.bytes > 1 && text[1] == 'O') {
        FAIL(ERR_INVALID,
             "%s holds Python objects (a pickle, which is a program): expected numbers of type "
             "f4, f8, i4, i8 or u1",
             path);
    }
    FAIL(ERR_INVALID,
         "%s has elements of type \"%.*s\", expected little-endian f4, f8, i4, i8 or u1", path,
         bytes, text);
}

static enum err check_dict(const char *path, struct span header, struct array *array)
{
    struct cursor text = cursor_of(header);
    struct dict dict = {0};
    if (!parse_dict(&text, &dict, array)) {
        FAIL(ERR_INVALID,
             "%s has a header that is not NumPy's: expected descr, fortran_order and "
             "shape",
             path);
    }
    TRY(check_type(path, &dict, array));
    if (dict.fortran) {
        FAIL(ERR_INVALID,
             "%s is in Fortran order, expected C order: save numpy.ascontiguousarray(array)", path);
    }
    return OK;
}

static enum err read_header(struct source *source, struct array *array_out)
{
    static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};
    uint8_t head[8], length[4] = {0}, header[HEADER_BYTES_MAX];
    size_t got;
    *array_out = (struct array){0};
    TRY(source_read(source, head, sizeof head, &got));
    if (got < sizeof head || memcmp(head, magic, sizeof magic) != 0) {
        char hex[2 * sizeof head + 1];
        hex_put(hex, head, got);
        FAIL(ERR_INVALID, "%s is no NumPy file: it begins with %s, expected 934e554d5059",
             source->path, got > 0 ? hex : "nothing");
    }
    if (head[6] != 1 && head[6] != 2) {
        FAIL(ERR_INVALID, "%s is of NPY version %u, expected 1 or 2", source->path, head[6]);
    }
    TRY(source_read(source, length, head[6] == 1 ? 2 : 4, &got));
    struct cursor cursor = cursor_of(span_of(length, sizeof length));
    const uint32_t bytes = cursor_u32(&cursor);
    if (bytes > sizeof header) {
        FAIL(ERR_INVALID, "%s has a header of %u bytes, expected at most %zu", source->path, bytes,
             sizeof header);
    }
    TRY(source_read(source, header, bytes, &got));
    if (got < bytes) {
        FAIL(ERR_INVALID, "%s ends inside its NPY header", source->path);
    }
    return check_dict(source->path, span_of(header, bytes), array_out);
}

// --- Files ---

static enum err open_part(const char *path, struct source **source_out, struct array *array_out)
{
    TRY(source_open(path, source_out));
    const enum err err = read_header(*source_out, array_out);
    if (err != OK) {
        source_close(*source_out);
        *source_out = NULL;
    }
    return err;
}

static bool is_labels(const struct array *array, uint64_t x_width)
{
    return array->dimensions == 1 ||
           (array->dimensions == 2 && array->size[1] == 1 && x_width != 1);
}

static enum err open_y(struct npy *npy)
{
    const char *const path = npy->files[npy->file_index];
    TRY(open_part(path, &npy->y, &npy->y_array));
    if (!is_labels(&npy->y_array, npy->x_array.width)) { // The next X: this one has no labels.
        source_close(npy->y);
        npy->y = NULL;
        return OK;
    }
    npy->y_array.width = 1;
    npy->file_index++;
    if (npy->y_array.size[0] != npy->x_array.size[0]) {
        FAIL(ERR_INVALID, "%s holds %llu labels, expected %llu, one for each record of %s", path,
             (unsigned long long)npy->y_array.size[0], (unsigned long long)npy->x_array.size[0],
             npy->x->path);
    }
    return OK;
}

static enum err open_x(struct npy *npy, struct table *table)
{
    const char *const path = npy->files[npy->file_index];
    struct array *const array = &npy->x_array;
    TRY(open_part(path, &npy->x, array));
    npy->file_index++;
    table->file = path;
    if (array->dimensions != 2 && array->dimensions != 3) {
        FAIL(ERR_INVALID, "%s has %u dimensions, expected features with 2 or 3%s", path,
             array->dimensions,
             array->dimensions == 1 ? " (labels come after their features)" : "");
    }
    if (array->dimensions == 2) {
        array->size[2] = array->size[1];
        array->size[1] = 1;
    }
    const uint64_t width_max =
        array->item == ITEM_U1 ? LIMIT_RECORD_BYTES : LIMIT_RECORD_BYTES / sizeof(float);
    if (__builtin_mul_overflow(array->size[1], array->size[2], &array->width) ||
        array->width == 0 || array->width > width_max) {
        FAIL(ERR_INVALID, "%s has records of %llu x %llu values, expected 1 to %llu in all", path,
             (unsigned long long)array->size[1], (unsigned long long)array->size[2],
             (unsigned long long)width_max);
    }
    if (npy->file_index < npy->file_count) {
        TRY(open_y(npy));
    }
    npy->record = 0;
    return OK;
}

static enum err check_same(const struct npy *npy, const struct table *table)
{
    const struct table_column *const column = &table->columns[0];
    const bool pixels = npy->x_array.item == ITEM_U1;
    const bool same_shape = !pixels || npy->x_array.size[1] == column->rows;
    if (npy->x_array.width != column->width || pixels != (column->kind == VALUE_PIXELS) ||
        !same_shape) {
        FAIL(ERR_INVALID, "%s has records of %llu x %llu values of type %s, not the same as %s",
             table->file, (unsigned long long)npy->x_array.size[1],
             (unsigned long long)npy->x_array.size[2], items[npy->x_array.item].descr,
             npy->files[0]);
    }
    if ((npy->y != NULL) != npy->has_labels) {
        FAIL(ERR_INVALID, "%s has %s labels file, expected the same for all feature files",
             table->file, npy->y != NULL ? "a" : "no");
    }
    return OK;
}

static enum err check_end(struct source *source)
{
    uint8_t extra;
    size_t got;
    TRY(source_read(source, &extra, 1, &got));
    if (got > 0) {
        FAIL(ERR_INVALID, "%s goes on after the elements that its header announces", source->path);
    }
    return OK;
}

static enum err end_files(struct npy *npy)
{
    TRY(check_end(npy->x));
    npy->done_bytes += npy->x->offset;
    if (npy->y != NULL) {
        TRY(check_end(npy->y));
        npy->done_bytes += npy->y->offset;
    }
    source_close(npy->y);
    source_close(npy->x);
    npy->y = npy->x = NULL;
    return OK;
}

// --- Rows ---

static enum err read_record(struct npy *npy, struct source *source, const struct array *array)
{
    const size_t bytes = (size_t)array->width * items[array->item].bytes;
    buf_clear(&npy->bytes);
    size_t got;
    TRY(source_read(source, buf_room(&npy->bytes, bytes), bytes, &got));
    if (got < bytes) {
        FAIL(ERR_INVALID, "%s is cut off: found %llu bytes of elements, expected %llu",
             source->path, (unsigned long long)(npy->record * bytes + got),
             (unsigned long long)(array->size[0] * bytes));
    }
    return OK;
}

static double next_item(struct cursor *cursor, enum item item)
{
    switch (item) {
    case ITEM_F4:
        return (double)cursor_f32(cursor);
    case ITEM_F8:
        return cursor_f64(cursor);
    case ITEM_I4:
        return (double)(int32_t)cursor_u32(cursor);
    case ITEM_I8:
        return (double)(int64_t)cursor_u64(cursor);
    case ITEM_U1:
        return (double)cursor_u8(cursor);
    case ITEM_COUNT_:
        break;
    }
    return 0;
}

static enum err take_x(struct npy *npy, struct table *table)
{
    TRY(read_record(npy, npy->x, &npy->x_array));
    const uint32_t width = table->columns[0].width;
    if (npy->x_array.item == ITEM_U1) {
        table->values[0] =
            (struct value){.kind = VALUE_PIXELS, .count = width, .pixels = npy->bytes.data};
        return OK;
    }
    struct cursor cursor = cursor_of(buf_span(&npy->bytes));
    for (uint32_t i = 0; i < width; i++) {
        const double number = next_item(&cursor, npy->x_array.item);
        if (!isnan(number) && fabs(number) > (double)FLT_MAX) {
            FAIL(ERR_INVALID, "%s record %llu: value %u is infinite or beyond float32", table->file,
                 (unsigned long long)npy->record, i);
        }
        npy->floats[i] = (float)number;
    }
    table->values[0] = (struct value){.kind = VALUE_FLOATS, .count = width, .floats = npy->floats};
    return OK;
}

// Reads after X's bytes were used up, except where these are the pixels: then they are kept.
static enum err take_y(struct npy *npy, struct table *table)
{
    uint8_t bytes[ITEM_BYTES_MAX];
    const size_t item_bytes = items[npy->y_array.item].bytes;
    size_t got;
    TRY(source_read(npy->y, bytes, item_bytes, &got));
    if (got < item_bytes) {
        FAIL(ERR_INVALID, "%s is cut off: found %llu bytes of elements, expected %llu",
             npy->y->path, (unsigned long long)(npy->record * item_bytes + got),
             (unsigned long long)(npy->y_array.size[0] * item_bytes));
    }
    struct cursor cursor = cursor_of(span_of(bytes, item_bytes));
    const double number = next_item(&cursor, npy->y_array.item);
    if (isnan(number)) {
        table->values[1] = (struct value){0};
        return OK;
    }
    if (isinf(number)) {
        FAIL(ERR_INVALID, "%s record %llu: the label is infinite", npy->y->path,
             (unsigned long long)npy->record);
    }
    table->values[1] = (struct value){.kind = VALUE_NUMBER,
                                      .count = 1,
                                      .number = number,
                                      .text = table_number_text(number, npy->label)};
    return OK;
}

static enum err npy_next(void *state, struct table *table, bool *more_out)
{
    struct npy *const npy = state;
    *more_out = false;
    while (npy->x == NULL || npy->record == npy->x_array.size[0]) {
        if (npy->x != NULL) {
            TRY(end_files(npy));
        }
        if (npy->file_index == npy->file_count) {
            return OK;
        }
        TRY(open_x(npy, table));
        TRY(check_same(npy, table));
    }
    TRY(take_x(npy, table));
    table->bytes_done = npy->done_bytes + npy->x->offset;
    if (npy->y != NULL) {
        TRY(take_y(npy, table));
        table->bytes_done += npy->y->offset;
    }
    table->number = npy->record++;
    *more_out = true;
    return OK;
}

static void npy_close(void *state)
{
    struct npy *const npy = state;
    source_close(npy->x);
    source_close(npy->y);
    buf_deinit(&npy->bytes);
    mem_free(npy->floats);
    mem_free(npy);
}

static enum err start(struct npy *npy, struct table *table)
{
    TRY(open_x(npy, table));
    const bool pixels = npy->x_array.item == ITEM_U1;
    TRY(table_add(table, span_text(pixels ? "pixels" : "x")));
    struct table_column *const column = &table->columns[0];
    column->kind = pixels ? VALUE_PIXELS : VALUE_FLOATS;
    column->width = (uint32_t)npy->x_array.width;
    column->rows = pixels ? (uint32_t)npy->x_array.size[1] : 0;
    column->cols = pixels ? (uint32_t)npy->x_array.size[2] : 0;
    if (!pixels) {
        npy->floats = mem_alloc(column->width, sizeof *npy->floats);
    }
    npy->has_labels = npy->y != NULL;
    return npy->has_labels ? table_add(table, span_text("label")) : OK;
}

static enum err npy_open(const char *const *files, size_t file_count, struct table *table,
                         void **state_out)
{
    struct npy *const npy = mem_alloc(1, sizeof *npy);
    npy->files = files;
    npy->file_count = file_count;
    const enum err err = start(npy, table);
    if (err != OK) {
        npy_close(npy);
        return err;
    }
    *state_out = npy;
    return OK;
}

static bool npy_recognises(struct span head)
{
    return head.bytes >= 6 && memcmp(head.data, "\x93NUMPY", 6) == 0;
}

const struct format npy_format = {
    .name = "npy",
    .unit = "record",
    .label = "label",
    .standardise = true,
    .extension = ".npy",
    .recognises = npy_recognises,
    .open = npy_open,
    .next = npy_next,
    .close = npy_close,
};
