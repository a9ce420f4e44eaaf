// base/log.h: one line an event, logfmt, on stderr, UTC.
//
//   t=2026-01-02T03:04:05.678901Z level=info who=worker/3 event=stage_trained shard=3 ms=181
//
// The event is a literal, in the past tense, so that it can be searched for. A line never holds
// record content, an id or a subject: the log would remember what we were asked to forget.
//
// Threads   Any; each line is one write. The level may be changed at any time.
#pragma once

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_ERROR };

// Names the process in every line and sets the least level that is written. `who` is copied.
void log_start(const char *who, enum log_level least);

void log_level_set(enum log_level least);
// "debug", "info", "error". ERR_INVALID: none of them.
MUST_USE enum err log_level_get(const char *text, enum log_level *level_out);

PRINTF_LIKE(3, 4) void log_event(enum log_level level, const char *event, const char *format, ...);

#define log_info(event, ...)  log_event(LOG_INFO, (event), __VA_ARGS__)
#define log_debug(event, ...) log_event(LOG_DEBUG, (event), __VA_ARGS__)
#define log_error(event, ...) log_event(LOG_ERROR, (event), __VA_ARGS__)
