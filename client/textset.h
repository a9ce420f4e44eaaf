// client/textset.h: a set of short texts: ids to leave out, categories, classes.
//
// Lifetime  {0} is empty and ready; textset_deinit frees.
// Threads   One; a const set may be read by many.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct textset {
    struct buf texts;  // The texts, one after the other.
    uint64_t *slots;   // [slot_count] offset << 16 | bytes + 1 of a text in texts; 0: free.
    size_t slot_count; // A power of two, or 0.
    size_t count;      // Different texts.
};

void textset_deinit(struct textset *set); // Empties; may be used again.

// Adds a text if it is new. `what` names it in messages.
//   ERR_INVALID  not 1 to 255 bytes of clean UTF-8.
//   ERR_LIMIT    it is new and the set holds count_max already; the set is unchanged.
MUST_USE enum err textset_add(struct textset *set, const char *what, struct span text,
                              size_t count_max);
bool textset_has(const struct textset *set, struct span text);

// The texts sorted by bytes: an array of set->count owned texts, for the caller to free one by one
// with mem_free and then itself. NULL for an empty set.
char **textset_sorted(const struct textset *set);

// Adds texts from a file, one a line; LF or CRLF; blank lines are passed over.
//   ERR_INVALID, ERR_LIMIT  as textset_add, naming the line. Else as source.h.
MUST_USE enum err textset_read(struct textset *set, const char *what, const char *path,
                               size_t count_max);
