// client/idx.c: IDX images and labels, the format of MNIST.
//
// A file is: two zero bytes, the type of its elements (08: unsigned byte, the only one read here),
// the number of dimensions, each dimension as a big-endian u32, then the elements. Images have
// three dimensions (records, rows, columns) or two; labels have one. Files come as images, then the
// labels of these images, and so on; without labels every file is images. The header says how many
// bytes must follow, and neither fewer nor more are accepted.
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "client/format.h"
#include "client/source.h"

enum { TYPE_U8 = 0x08, DIMENSIONS_MAX = 3 };

struct header {
    uint32_t dimensions;
    uint32_t size[DIMENSIONS_MAX]; // size[0] is the number of records.
};

struct idx {
    const char *const *files;
    size_t file_count, file_index; // file_index: the next file to open.
    struct source *images;         // NULL between files
    struct source *labels;         // NULL where there are none
    struct header shape;           // Of the open images.
    uint64_t record, done_bytes;
    bool has_labels;
    uint8_t *pixels; // [width]
    char label[TABLE_NUMBER_BYTES];
};

static enum err read_header(struct source *source, struct header *header_out)
{
    uint8_t magic[4];
    size_t got;
    *header_out = (struct header){0};
    TRY(source_read(source, magic, sizeof magic, &got));
    if (got < sizeof magic) {
        FAIL(ERR_INVALID, "%s has %zu bytes, expected an IDX file of at least 8", source->path,
             got);
    }
    if (magic[0] != 0 || magic[1] != 0 || magic[3] == 0) {
        FAIL(ERR_INVALID,
             "%s is no IDX file: it begins with %02x%02x%02x%02x, expected 00000803 (images) or "
             "00000801 (labels)",
             source->path, magic[0], magic[1], magic[2], magic[3]);
    }
    if (magic[2] != TYPE_U8) {
        FAIL(ERR_INVALID, "%s holds IDX elements of type %02x, expected 08 (unsigned bytes)",
             source->path, magic[2]);
    }
    if (magic[3] > DIMENSIONS_MAX) {
        FAIL(ERR_INVALID, "%s has %u dimensions, expected 3 (images) or 1 (labels)", source->path,
             magic[3]);
    }
    header_out->dimensions = magic[3];
    for (uint32_t i = 0; i < header_out->dimensions; i++) {
        uint8_t size[4];
        TRY(source_read(source, size, sizeof size, &got));
        if (got < sizeof size) {
            FAIL(ERR_INVALID, "%s ends inside its IDX header", source->path);
        }
        header_out->size[i] = be_get32(size);
    }
    return OK;
}

// Opens a file and reads its header; *source_out is NULL on error.
static enum err open_part(const char *path, struct source **source_out, struct header *header_out)
{
    TRY(source_open(path, source_out));
    const enum err err = read_header(*source_out, header_out);
    if (err != OK) {
        source_close(*source_out);
        *source_out = NULL;
    }
    return err;
}

static enum err open_labels(struct idx *idx)
{
    const char *const path = idx->files[idx->file_index];
    struct header header;
    TRY(open_part(path, &idx->labels, &header));
    if (header.dimensions != 1) { // The next images: these have no labels.
        source_close(idx->labels);
        idx->labels = NULL;
        return OK;
    }
    idx->file_index++;
    if (header.size[0] != idx->shape.size[0]) {
        FAIL(ERR_INVALID, "%s holds %u labels, expected %u, one for each image of %s", path,
             header.size[0], idx->shape.size[0], idx->images->path);
    }
    return OK;
}

static enum err open_images(struct idx *idx, struct table *table)
{
    const char *const path = idx->files[idx->file_index];
    TRY(open_part(path, &idx->images, &idx->shape));
    idx->file_index++;
    table->file = path;
    if (idx->shape.dimensions == 1) {
        FAIL(ERR_INVALID,
             "%s holds labels, expected images: give each images file before its "
             "labels file",
             path);
    }
    if (idx->shape.dimensions == 2) {
        idx->shape.size[2] = idx->shape.size[1];
        idx->shape.size[1] = 1;
    }
    const uint64_t width = (uint64_t)idx->shape.size[1] * idx->shape.size[2];
    if (width == 0 || width > LIMIT_RECORD_BYTES) {
        FAIL(ERR_INVALID, "%s has images of %u x %u, expected 1 to %d pixels", path,
             idx->shape.size[1], idx->shape.size[2], (int)LIMIT_RECORD_BYTES);
    }
    if (idx->file_index < idx->file_count) {
        TRY(open_labels(idx));
    }
    idx->record = 0;
    return OK;
}

static enum err check_same(const struct idx *idx, const struct table *table)
{
    const struct table_column *const column = &table->columns[0];
    if (idx->shape.size[1] != column->rows || idx->shape.size[2] != column->cols) {
        FAIL(ERR_INVALID, "%s has images of %u x %u, expected %u x %u as in %s", table->file,
             idx->shape.size[1], idx->shape.size[2], column->rows, column->cols, idx->files[0]);
    }
    if ((idx->labels != NULL) != idx->has_labels) {
        FAIL(ERR_INVALID, "%s has %s labels file, expected the same for all images files",
             table->file, idx->labels != NULL ? "a" : "no");
    }
    return OK;
}

// Checks that nothing follows the last element.
static enum err check_end(struct source *source, uint64_t expected_bytes)
{
    uint8_t extra;
    size_t got;
    TRY(source_read(source, &extra, 1, &got));
    if (got > 0) {
        FAIL(ERR_INVALID, "%s goes on after the %llu bytes that its header announces", source->path,
             (unsigned long long)expected_bytes);
    }
    return OK;
}

static enum err end_files(struct idx *idx)
{
    const uint64_t width = (uint64_t)idx->shape.size[1] * idx->shape.size[2];
    TRY(check_end(idx->images, idx->shape.size[0] * width));
    idx->done_bytes += idx->images->offset;
    if (idx->labels != NULL) {
        TRY(check_end(idx->labels, idx->shape.size[0]));
        idx->done_bytes += idx->labels->offset;
    }
    source_close(idx->labels);
    source_close(idx->images);
    idx->labels = idx->images = NULL;
    return OK;
}

static enum err read_part(struct idx *idx, struct source *source, uint8_t *out, size_t bytes)
{
    size_t got;
    TRY(source_read(source, out, bytes, &got));
    if (got < bytes) {
        FAIL(ERR_INVALID, "%s is cut off: found %llu bytes of elements, expected %llu",
             source->path, (unsigned long long)(idx->record * bytes + got),
             (unsigned long long)((uint64_t)idx->shape.size[0] * bytes));
    }
    return OK;
}

static enum err idx_next(void *state, struct table *table, bool *more_out)
{
    struct idx *const idx = state;
    *more_out = false;
    while (idx->images == NULL || idx->record == idx->shape.size[0]) {
        if (idx->images != NULL) {
            TRY(end_files(idx));
        }
        if (idx->file_index == idx->file_count) {
            return OK;
        }
        TRY(open_images(idx, table));
        TRY(check_same(idx, table));
    }
    const uint32_t width = table->columns[0].width;
    TRY(read_part(idx, idx->images, idx->pixels, width));
    table->values[0] = (struct value){.kind = VALUE_PIXELS, .count = width, .pixels = idx->pixels};
    table->bytes_done = idx->done_bytes + idx->images->offset;
    if (idx->labels != NULL) {
        uint8_t label = 0;
        TRY(read_part(idx, idx->labels, &label, 1));
        table->values[1] = (struct value){.kind = VALUE_NUMBER,
                                          .count = 1,
                                          .number = label,
                                          .text = table_number_text(label, idx->label)};
        table->bytes_done += idx->labels->offset;
    }
    table->number = idx->record++;
    *more_out = true;
    return OK;
}

static void idx_close(void *state)
{
    struct idx *const idx = state;
    source_close(idx->images);
    source_close(idx->labels);
    mem_free(idx->pixels);
    mem_free(idx);
}

static enum err start(struct idx *idx, struct table *table)
{
    TRY(open_images(idx, table));
    TRY(table_add(table, span_text("pixels")));
    const uint32_t rows = idx->shape.size[1], cols = idx->shape.size[2];
    table->columns[0].kind = VALUE_PIXELS;
    table->columns[0].rows = rows;
    table->columns[0].cols = cols;
    table->columns[0].width = rows * cols;
    idx->pixels = mem_alloc(table->columns[0].width, 1);
    idx->has_labels = idx->labels != NULL;
    return idx->has_labels ? table_add(table, span_text("label")) : OK;
}

static enum err idx_open(const char *const *files, size_t file_count, struct table *table,
                         void **state_out)
{
    struct idx *const idx = mem_alloc(1, sizeof *idx);
    idx->files = files;
    idx->file_count = file_count;
    const enum err err = start(idx, table);
    if (err != OK) {
        idx_close(idx);
        return err;
    }
    *state_out = idx;
    return OK;
}

static bool idx_recognises(struct span head)
{
    const uint8_t *const at = head.data;
    return head.bytes >= 4 && at[0] == 0 && at[1] == 0 && at[2] >= TYPE_U8 && at[2] <= 0x0E &&
           at[3] >= 1 && at[3] <= 8;
}

const struct format idx_format = {
    .name = "idx",
    .unit = "record",
    .label = "label",
    .classes_from_zero = true,
    .extension = "-ubyte",
    .recognises = idx_recognises,
    .open = idx_open,
    .next = idx_next,
    .close = idx_close,
};
