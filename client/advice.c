// client/advice.c: see advice.h.
#include "client/advice.h"

#include <math.h>
#include <string.h>

enum { NAME_BYTES_MAX = 32, CHANGES_MAX = 3 };

bool advice_cells(uint32_t shards, uint32_t slices, uint32_t cells, uint32_t empty,
                  uint32_t *shards_out, uint32_t *slices_out)
{
    if (cells == 0 || (uint64_t)empty * 10 <= cells) {
        return false;
    }
    // All empty: as if one cell had a record.
    const double left = empty < cells ? empty : cells - 1.0;
    const double subjects = left < 1 ? 1 : -(double)cells * log(left / cells);
    const double fit = subjects / 3 < 1 ? 1 : subjects / 3; // exp(-3) is one in twenty.
    // Slices first: they save less work than shards do, and cost accuracy no less.
    uint32_t new_slices = slices, new_shards = shards;
    while (new_slices > 1 && (double)new_shards * new_slices > fit) {
        new_slices--;
    }
    while (new_shards > 1 && (double)new_shards * new_slices > fit) {
        new_shards--;
    }
    *shards_out = new_shards;
    *slices_out = new_slices;
    return true;
}

static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES_MAX + 1];
    const size_t a_bytes = strlen(a), b_bytes = strlen(b);
    if (a_bytes > NAME_BYTES_MAX || b_bytes > NAME_BYTES_MAX) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= b_bytes; j++) {
        row[j] = j;
    }
    for (size_t i = 0; i < a_bytes; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_bytes; j++) {
            const size_t change = diagonal + (a[i] != b[j]);
            const size_t least = row[j] < row[j + 1] ? row[j] + 1 : row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = change < least ? change : least;
        }
    }
    return row[b_bytes];
}

int advice_nearest(const char *text, const char *const *names, size_t count)
{
    int nearest = -1;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        const size_t changes = distance(text, names[i]);
        if (changes <= CHANGES_MAX && changes * 3 <= strlen(names[i]) + 1 && changes < least) {
            least = changes;
            nearest = (int)i;
        }
    }
    return nearest;
}
