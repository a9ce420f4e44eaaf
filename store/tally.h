// store/tally.h: how many deletions were refused, by day, dataset and reason.
//
// What is deleted is journaled; what is refused changes nothing and leaves no request, so this is all
// that is known of it later: numbers, for reports (coordinator/account.h). Days are those of UTC, counted
// from 1970-01-01. Numbers of days longer ago than TALLY_DAYS are dropped, some with each new day.
//
// Errors    ERR_CORRUPT: a row without its shape. Else as store.h says.
// Threads   The store thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "store/store.h"

// 24 months, and one more: a report over 24 whole months finds all of them.
enum { TALLY_DAYS = 762 };

enum tally_reason {      // Numbers of the format.
    TALLY_NOT_FOUND = 1, // None of the records or subjects is or was known.
    TALLY_HELD = 2,      // On legal hold.
    TALLY_CONFLICT =
        3,             // The state forbids it: a base stands on the dataset, the UUID was used, ...
    TALLY_REFUSED = 4, // Nobody approved it, who had to.
};

struct tally {
    uint32_t day;
    uint32_t dataset; // Number: names are used again.
    enum tally_reason reason;
    uint64_t count;
    char name[LIMIT_NAME_BYTES + 1]; // Of the dataset.
};

uint32_t tally_day(int64_t time_us); // The day of a time since 1970.

// Counts one more. Writes one row, and drops at most a few old ones. Any error: nothing is counted.
MUST_USE enum err tally_add(struct txn *txn, int64_t now_us, uint32_t dataset, const char *name,
                            enum tally_reason reason);
// Walks the rows from (from->day, from->dataset, from->reason) on, in that order. `each` returns false
// to stop; it must not write.
MUST_USE enum err tally_walk(struct txn *txn, const struct tally *from,
                             bool (*each)(void *context, const struct tally *tally), void *context);
