// base/text.h: strict reading and writing of small texts: names, numbers, times, UUIDs.
//
// Everything here refuses what it does not fully understand: no locale, no trailing garbage, no
// silent clipping.
//
// Threads   Any.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"

enum { TEXT_TIME_BYTES = 32, TEXT_UUID_BYTES = 37, TEXT_NUMBER_BYTES = 32 };

// True for well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms) without control
// characters (U+0000-U+001F, U+007F-U+009F).
bool text_is_clean(struct span text);

// Appends any bytes as text that can be shown and told apart: well-formed UTF-8 as it is, but a
// backslash as \\, and what is not UTF-8 and control characters byte by byte as \x0a, but for line ends
// and tabs.
void text_put_visible(struct span bytes, struct buf *out);

// A name from outside: clean, 1 to LIMIT_NAME_BYTES bytes. ERR_INVALID says what is wrong;
// `what` names the thing ("dataset name"). The text itself is never repeated in the message.
MUST_USE enum err text_check_name(const char *what, struct span name);

// A name of a dataset or model: as above, and only letters, digits, '.', '_', '-', not starting
// with '-' or '.': it stands in component names, file names and URLs.
MUST_USE enum err text_check_label(const char *what, const char *name);

// Decimal without sign or spaces, 0 .. max. ERR_INVALID: anything else.
MUST_USE enum err text_u64(const char *text, uint64_t max, uint64_t *value_out);
// A finite decimal number, independent of the locale. ERR_INVALID: anything else. `bytes` of text
// need not be terminated.
MUST_USE enum err text_f64(struct span text, double *value_out);
// The first of "%.1g", "%.2g", ... "%.17g" that reads back as the same double, or float; with a dot
// whatever the locale. The number is finite.
void text_f64_put(double number, char out[static TEXT_NUMBER_BYTES]);
void text_f32_put(float number, char out[static TEXT_NUMBER_BYTES]);

// "2026-01-02T03:04:05.678901Z" from microseconds since 1970 UTC; "" for 0.
void text_time(int64_t time_us, char out[static TEXT_TIME_BYTES]);

// A day of the calendar, "2026-01-31", from 1970 on: its first microsecond in UTC. ERR_INVALID: anything
// else, also the 30th of February.
MUST_USE enum err text_date(const char *text, int64_t *time_us_out);

// 8-4-4-4-12 hex. ERR_INVALID: anything else. Case does not matter.
MUST_USE enum err text_uuid(const char *text, struct id128 *uuid_out);
void text_uuid_put(const struct id128 *uuid, char out[static TEXT_UUID_BYTES]);
struct id128 text_uuid_new(void); // Random, version 4 (RFC 9562).
