// client/libsvm.c: LIBSVM (svmlight) text: "label index:value index:value ...", sparse.
//
// One record a line; indices begin at 1 and ascend; what is not named is 0; text after # is a
// comment; a line with nothing else is no record. The label is a number. All values are one column
// "x", whose width the file does not say: the proposal takes the greatest index, later the schema
// tells. Not read: qid (ranking) and lists of labels.
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/format.h"
#include "client/source.h"

struct libsvm {
    const char *const *files;
    size_t file_count, file_index;
    struct source *source; // NULL between files
    uint64_t done_bytes;
    struct buf line;
    uint32_t *index; // [capacity]
    float *floats;   // [capacity]
    uint32_t count, capacity;
};

// Cuts the next word off *text; empty at the end.
static struct span next_word(struct span *text)
{
    const char *at = text->data, *const end = at + text->bytes;
    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    const char *const begin = at;
    while (at < end && *at != ' ' && *at != '\t') {
        at++;
    }
    *text = span_of(at, (size_t)(end - at));
    return span_of(begin, (size_t)(at - begin));
}

// A whole number from 1 to LIMIT_RECORD_VALUES, or 0.
static uint32_t read_index(struct span text)
{
    uint32_t index = 0;
    const char *const at = text.data;
    for (size_t i = 0; i < text.bytes; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return 0;
        }
        index = 10 * index + (uint32_t)(at[i] - '0');
        if (index > LIMIT_RECORD_VALUES) {
            return 0;
        }
    }
    return index;
}

static void add_pair(struct libsvm *svm, uint32_t index, float number)
{
    if (svm->count == svm->capacity) {
        svm->capacity = svm->capacity == 0 ? 64 : 2 * svm->capacity;
        svm->index = mem_resize(svm->index, svm->capacity, sizeof *svm->index);
        svm->floats = mem_resize(svm->floats, svm->capacity, sizeof *svm->floats);
    }
    svm->index[svm->count] = index - 1;
    svm->floats[svm->count++] = number;
}

static enum err take_pair(struct libsvm *svm, struct span word)
{
    const uint32_t position = svm->count + 1;
    const char *const colon = memchr(word.data, ':', word.bytes);
    if (colon == NULL) {
        FAIL(ERR_INVALID, "pair %u has no colon, expected index:value", position);
    }
    const size_t index_bytes = (size_t)(colon - (const char *)word.data);
    const uint32_t index = read_index(span_of(word.data, index_bytes));
    if (index == 0) {
        FAIL(ERR_INVALID,
             "pair %u has no index that can be read, expected a whole number from 1 "
             "to %d before the colon",
             position, (int)LIMIT_RECORD_VALUES);
    }
    if (svm->count > 0 && index <= svm->index[svm->count - 1] + 1) {
        FAIL(ERR_INVALID, "index %u follows index %u, expected ascending indices", index,
             svm->index[svm->count - 1] + 1);
    }
    double number;
    if (text_f64(span_of(colon + 1, word.bytes - index_bytes - 1), &number) != OK ||
        fabs(number) > (double)FLT_MAX) {
        FAIL(ERR_INVALID, "the value of index %u is not a number in the range of float32", index);
    }
    add_pair(svm, index, (float)number);
    return OK;
}

static enum err take_line(struct libsvm *svm, struct table *table, struct span label,
                          struct span rest)
{
    double number;
    if (memchr(label.data, ':', label.bytes) != NULL || text_f64(label, &number) != OK) {
        FAIL(ERR_INVALID, "the line does not begin with a number, expected a label");
    }
    svm->count = 0;
    for (struct span word = next_word(&rest); word.bytes > 0; word = next_word(&rest)) {
        TRY(take_pair(svm, word));
    }
    table->values[0] = (struct value){
        .kind = VALUE_SPARSE, .count = svm->count, .floats = svm->floats, .index = svm->index};
    table->values[1] =
        (struct value){.kind = VALUE_NUMBER, .count = 1, .number = number, .text = label};
    return OK;
}

static enum err libsvm_next(void *state, struct table *table, bool *more_out)
{
    struct libsvm *const svm = state;
    *more_out = false;
    while (svm->file_index < svm->file_count) {
        if (svm->source == NULL) {
            table->file = svm->files[svm->file_index];
            TRY(source_open(table->file, &svm->source));
        }
        bool more;
        TRY(source_line(svm->source, &svm->line, &more));
        table->bytes_done = svm->done_bytes + svm->source->offset;
        table->number = svm->source->line;
        if (!more) {
            svm->done_bytes += svm->source->offset;
            source_close(svm->source);
            svm->source = NULL;
            svm->file_index++;
            continue;
        }
        struct span text = buf_span(&svm->line);
        const char *const comment = text.bytes > 0 ? memchr(text.data, '#', text.bytes) : NULL;
        if (comment != NULL) {
            text.bytes = (size_t)(comment - (const char *)text.data);
        }
        const struct span label = text.bytes > 0 ? next_word(&text) : text;
        if (label.bytes > 0) {
            TRY_AS(take_line(svm, table, label, text), "%s line %llu", table->file,
                   (unsigned long long)table->number);
            *more_out = true;
            return OK;
        }
    }
    return OK;
}

static void libsvm_close(void *state)
{
    struct libsvm *const svm = state;
    source_close(svm->source);
    buf_deinit(&svm->line);
    mem_free(svm->index);
    mem_free(svm->floats);
    mem_free(svm);
}

static enum err start(struct libsvm *svm, struct table *table)
{
    table->file = svm->files[0];
    TRY(source_open(table->file, &svm->source));
    TRY(table_add(table, span_text("x")));
    table->columns[0].kind = VALUE_SPARSE;
    return table_add(table, span_text("label"));
}

static enum err libsvm_open(const char *const *files, size_t file_count, struct table *table,
                            void **state_out)
{
    struct libsvm *const svm = mem_alloc(1, sizeof *svm);
    svm->files = files;
    svm->file_count = file_count;
    const enum err err = start(svm, table);
    if (err != OK) {
        libsvm_close(svm);
        return err;
    }
    *state_out = svm;
    return OK;
}

const struct format libsvm_format = {
    .name = "libsvm",
    .unit = "line",
    .label = "label",
    .extension = ".libsvm",
    .open = libsvm_open,
    .next = libsvm_next,
    .close = libsvm_close,
};
