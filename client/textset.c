// client/textset.c: see textset.h. A hash table with linear probing, at most half full.
#include "client/textset.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "client/source.h"

enum { LENGTH_BITS = 16, SLOTS_MIN = 16 };

// FNV-1a. The texts are the user's own: nobody gains by making them collide.
static uint64_t hash(struct span text)
{
    uint64_t sum = 0xcbf29ce484222325u;
    const uint8_t *const at = text.data;
    for (size_t i = 0; i < text.bytes; i++) {
        sum = (sum ^ at[i]) * 0x100000001b3u;
    }
    return sum ^ sum >> 32;
}

static struct span slot_text(const struct textset *set, uint64_t slot)
{
    return span_of(set->texts.data + (slot >> LENGTH_BITS),
                   (size_t)(slot & ((1u << LENGTH_BITS) - 1)) - 1);
}

// The slot that holds `text`, or the free one where it would stand.
static size_t find(const struct textset *set, struct span text)
{
    size_t at = (size_t)hash(text) & (set->slot_count - 1);
    while (set->slots[at] != 0 && !span_equal(slot_text(set, set->slots[at]), text)) {
        at = (at + 1) & (set->slot_count - 1);
    }
    return at;
}

static void grow(struct textset *set)
{
    struct textset wide = *set;
    wide.slot_count = set->slot_count == 0 ? SLOTS_MIN : 2 * set->slot_count;
    wide.slots = mem_alloc(wide.slot_count, sizeof *wide.slots);
    for (size_t i = 0; i < set->slot_count; i++) {
        if (set->slots[i] != 0) {
            wide.slots[find(&wide, slot_text(set, set->slots[i]))] = set->slots[i];
        }
    }
    mem_free(set->slots);
    *set = wide;
}

void textset_deinit(struct textset *set)
{
    buf_deinit(&set->texts);
    mem_free(set->slots);
    *set = (struct textset){0};
}

bool textset_has(const struct textset *set, struct span text)
{
    return set->count > 0 && set->slots[find(set, text)] != 0;
}

enum err textset_add(struct textset *set, const char *what, struct span text, size_t count_max)
{
    if (textset_has(set, text)) {
        return OK;
    }
    TRY(text_check_name(what, text));
    if (set->count >= count_max) {
        FAIL(ERR_LIMIT, "more than %zu different texts", count_max);
    }
    if (2 * (set->count + 1) > set->slot_count) {
        grow(set);
    }
    set->slots[find(set, text)] = (uint64_t)set->texts.bytes << LENGTH_BITS | (text.bytes + 1);
    buf_put(&set->texts, text);
    set->count++;
    return OK;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **textset_sorted(const struct textset *set)
{
    if (set->count == 0) {
        return NULL;
    }
    char **const sorted = mem_alloc(set->count, sizeof *sorted);
    size_t at = 0;
    for (size_t i = 0; i < set->slot_count; i++) {
        if (set->slots[i] != 0) {
            const struct span text = slot_text(set, set->slots[i]);
            sorted[at] = mem_alloc(text.bytes + 1, 1);
            memcpy(sorted[at++], text.data, text.bytes);
        }
    }
    qsort(sorted, set->count, sizeof *sorted, compare_texts);
    return sorted;
}

static enum err read_all(struct source *source, struct buf *line, struct textset *set,
                         const char *what, size_t count_max)
{
    while (true) {
        bool more;
        TRY(source_line(source, line, &more));
        if (!more) {
            return OK;
        }
        if (line->bytes > 0) {
            TRY_AS(textset_add(set, what, buf_span(line), count_max), "%s line %llu", source->path,
                   (unsigned long long)source->line);
        }
    }
}

enum err textset_read(struct textset *set, const char *what, const char *path, size_t count_max)
{
    struct source *source;
    TRY(source_open(path, &source));
    struct buf line = {0};
    const enum err err = read_all(source, &line, set, what, count_max);
    buf_deinit(&line);
    source_close(source);
    return err;
}
