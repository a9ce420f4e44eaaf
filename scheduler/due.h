// scheduler/due.h: by when a deletion has to be carried out.
//
// A due date is written as one of
//   gdpr          one calendar month: the same day and time of the next month, or its last day
//                 (Regulation (EU) 2016/679, Art. 12(3))
//   ccpa          45 days of 24 hours (11 CCR 7021)
//   30d, 12h      so many days or hours
//   2026-12-24    the beginning of that day, UTC
//   2026-12-24T18:00:00Z
// The first three count from when the request is accepted. They err on the early side of the law, which
// counts to the end of a day.
//
// Threads   Stateless.
#pragma once

#include <stdint.h>

#include "base/err.h"

enum { DUE_TEXT_BYTES = 32 };
#define DUE_DEFAULT "gdpr"

// Times in microseconds since 1970, UTC.
//   ERR_INVALID  not of these forms, not after `accepted_us`, or more than LIMIT_DUE_DAYS after it;
//                the message says which.
MUST_USE enum err due_parse(const char *text, int64_t accepted_us, int64_t *due_us_out);
