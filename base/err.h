// base/err.h: the one way a function says that it could not do its work.
//
// A fallible function returns `enum err` and nothing else; results go through `*_out` pointers.
// Where an error begins, FAIL writes one sentence: what was found, what was expected, where.
// Where it passes through, TRY hands it on; TRY_AS puts "<context>: " before the sentence, so that
// the person at the other end learns which file, line or component it was about. The text lives in
// fixed per-thread memory and allocates nothing, so it also works when memory is what ran out.
//
// The sentence may reach a log or a client: it must never hold record content, an id or a subject.
//
// Threads   Any; each thread has a text of its own.
#pragma once

#include <stdbool.h>

#define MUST_USE               __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum err {
    OK = 0,
    ERR_INVALID,      // A value from outside (user, file, peer) breaks its stated contract.
    ERR_NOT_FOUND,    // The named thing does not exist. Often an answer, not a failure.
    ERR_CONFLICT,     // The named thing exists and differs, or the state forbids the action.
    ERR_DENIED,       // The caller's role lacks the verb.
    ERR_LIMIT,        // A bound of base/limits.h was reached.
    ERR_UNAVAILABLE,  // Right now there is nobody to do it: try again later.
    ERR_CORRUPT,      // Saved or received bytes fail their digest or their shape.
    ERR_INCOMPATIBLE, // Written by another format version, numeric profile or build.
    ERR_IO,           // The kernel, LMDB, ZeroMQ or MPI refused. The message carries their text.
    ERR_CANCELLED,    // Stopped on request: a lease ended, a signal came.
    ERR_COUNT_,
};

enum { ERR_TEXT_BYTES = 1024 };

// Clears the thread's text, writes a new one, returns `code`. `code` must not be OK.
PRINTF_LIKE(2, 3) enum err err_raise(enum err code, const char *format, ...);

// Puts "<context>: " before the thread's text and returns `code` as it is.
PRINTF_LIKE(2, 3) enum err err_context(enum err code, const char *format, ...);

const char *err_text(void);          // Borrowed; valid until this thread's next err_raise.
const char *err_name(enum err code); // "CONFLICT"; static storage.

// The code is returned, not what err_raise returns: so an analyser sees that it is not OK.
#define FAIL(code, ...)                                                                            \
    do {                                                                                           \
        const enum err err_fail_ = (code);                                                         \
        (void)err_raise(err_fail_, __VA_ARGS__);                                                   \
        return err_fail_;                                                                          \
    } while (0)

// Both return from the calling function, which therefore must hold nothing to release at that
// point: outer functions acquire and release, inner ones work.
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        const enum err err_try_ = (expr);                                                          \
        if (err_try_ != OK) {                                                                      \
            return err_try_;                                                                       \
        }                                                                                          \
    } while (0)
#define TRY_AS(expr, ...)                                                                          \
    do {                                                                                           \
        const enum err err_try_ = (expr);                                                          \
        if (err_try_ != OK) {                                                                      \
            (void)err_context(err_try_, __VA_ARGS__);                                              \
            return err_try_;                                                                       \
        }                                                                                          \
    } while (0)
