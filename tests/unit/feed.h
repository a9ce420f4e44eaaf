// tests/unit/feed.h: input files for one test program, in a temporary directory.
//
// Use feed_open and feed_close as group setup and teardown. Include after cmocka.h.
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/digest.h"
#include "base/err.h"
#include "tests/unit/scratch.h"

static char feed_dir[SCRATCH_BYTES];
static char feed_names[16][SCRATCH_BYTES + 64]; // Paths given out, reused in turn.
static unsigned feed_next;

static inline int feed_open(void **state)
{
    (void)state;
    assert_int_equal(digest_start(), OK);
    assert_true(scratch_make(feed_dir));
    return 0;
}

static inline int feed_close(void **state)
{
    (void)state;
    scratch_remove(feed_dir);
    return 0;
}

// The path of a file in the directory. Valid until 15 further calls.
static inline const char *feed_path(const char *name)
{
    char *const path = feed_names[feed_next++ % 16];
    snprintf(path, sizeof feed_names[0], "%s/%s", feed_dir, name);
    return path;
}

static inline const char *feed_bytes(const char *name, const void *bytes, size_t count)
{
    const char *const path = feed_path(name);
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline const char *feed_text(const char *name, const char *text)
{
    return feed_bytes(name, text, strlen(text));
}

static inline const char *feed_gzip(const char *name, const void *bytes, size_t count)
{
    const char *const path = feed_path(name);
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)count), count);
    assert_int_equal(gzclose(file), Z_OK);
    return path;
}

// Fails the test unless the last error's sentence holds `part`.
#define assert_said(part)                                                                          \
    do {                                                                                           \
        if (strstr(err_text(), (part)) == NULL) {                                                  \
            fail_msg("expected \"%s\" in \"%s\"", (part), err_text());                             \
        }                                                                                          \
    } while (0)
