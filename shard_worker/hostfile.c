// shard_worker/hostfile.c: see hostfile.h.
#include "shard_worker/hostfile.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { SLOTS_MAX = INT32_MAX }; // mpirun counts in int.

static const char blanks[] = " \t\r\n";

// One setting behind a host, "slots=4". Those that count something count from 1.
static enum err setting_check(const char *setting)
{
    static const char *const counts[] = {"slots", "max_slots", "max-slots"};
    const size_t key_bytes = strcspn(setting, "=");
    if (setting[key_bytes] == '\0') {
        FAIL(ERR_INVALID, "found %.100s behind the host, expected settings as slots=4", setting);
    }
    const char *const value = setting + key_bytes + 1;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint64_t count = 0;
        if (strlen(counts[i]) == key_bytes && strncmp(setting, counts[i], key_bytes) == 0 &&
            (text_u64(value, SLOTS_MAX, &count) != OK || count == 0)) {
            FAIL(ERR_INVALID, "%s: found %.100s, expected a number from 1 on", counts[i],
                 *value == '\0' ? "nothing" : value);
        }
    }
    return OK;
}

// Takes the blanks around each '=' away, which mpirun allows, and what a comment says.
static void tidy(char *line)
{
    line[strcspn(line, "#")] = '\0';
    char *const comment = strstr(line, "//");
    if (comment != NULL) {
        *comment = '\0';
    }
    char *out = line;
    for (const char *at = line; *at != '\0'; at++) {
        const char *const next = at + strspn(at, blanks);
        if (next > at && (*next == '=' || (out > line && out[-1] == '='))) {
            at = next - 1;
        } else {
            *out++ = *at;
        }
    }
    *out = '\0';
}

static enum err line_check(char *line, bool *host_out)
{
    tidy(line);
    char *rest = NULL;
    const char *word = strtok_r(line, blanks, &rest);
    *host_out = word != NULL;
    if (word == NULL || strpbrk(word, "\"+^=*/") != NULL) { // mpirun's alone.
        return OK;
    }
    while ((word = strtok_r(NULL, blanks, &rest)) != NULL) {
        TRY(setting_check(word));
    }
    return OK;
}

enum err hostfile_check(const char *path)
{
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        FAIL(ERR_UNAVAILABLE, "the host file %s cannot be read: %s", path, strerror(errno));
    }
    enum err err = OK;
    char *line = NULL;
    size_t capacity = 0;
    uint32_t number = 0, hosts = 0;
    while (err == OK && getline(&line, &capacity, file) >= 0) {
        bool host = false;
        number++;
        err = line_check(line, &host);
        hosts += host ? 1 : 0;
        if (err != OK) {
            err = err_context(err, "%s, line %u", path, number);
        }
    }
    const int failed = ferror(file) != 0 ? errno : 0;
    free(line);
    fclose(file);
    if (err == OK && failed != 0) {
        FAIL(ERR_UNAVAILABLE, "the host file %s cannot be read: %s", path, strerror(failed));
    }
    if (err == OK && hosts == 0) {
        FAIL(ERR_INVALID,
             "the host file %s names no host: found %u lines, expected one as \"host1 slots=4\"",
             path, number);
    }
    return err;
}
