// client/ctl.c: see ctl.h.
#include "client/ctl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/grid.h"

// Every decimal number of so many digits survives a float64, and 0.93 stays 0.93.
enum { REAL_DIGITS = 15 };

enum err ctl_connect(struct ctl *ctl)
{
    if (ctl->dir == NULL) {
        FAIL(ERR_INVALID, "no cluster is named: give --dir DIR or set UNLEARN_DIR");
    }
    return unlearn_open_dir(ctl->dir, ctl->key, &ctl->client);
}

enum err ctl_dir(const struct ctl *ctl, const struct args_list *words, const char **dir_out)
{
    *dir_out = words->count > 0 ? words->texts[0] : ctl->dir;
    if (*dir_out == NULL || (*dir_out)[0] == '\0') {
        FAIL(ERR_INVALID, "no cluster is named: give DIR");
    }
    return OK;
}

void ctl_print(json_t *answer)
{
    CHECK(answer != NULL);
    CHECK(json_dumpf(answer, stdout, JSON_SORT_KEYS | JSON_REAL_PRECISION(REAL_DIGITS)) == 0);
    putchar('\n');
    json_decref(answer);
}

void ctl_finish_list(const struct ctl *ctl, enum err err, json_t *answer, struct grid *grid)
{
    if (err == OK && !ctl->json) {
        grid_print(grid, stdout);
    }
    grid_free(grid);
    if (err == OK && ctl->json) {
        ctl_print(answer);
    } else {
        json_decref(answer);
    }
}

enum progress_style ctl_progress(const struct ctl *ctl)
{
    return progress_style_of(ctl->json);
}

json_t *ctl_hex(ProtobufCBinaryData bytes)
{
    if (bytes.len == 0) {
        return json_null();
    }
    char *const text = mem_alloc(2 * bytes.len + 1, 1);
    hex_put(text, bytes.data, bytes.len);
    json_t *const hex = json_string(text);
    mem_free(text);
    return hex;
}

json_t *ctl_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *ctl_time(int64_t time_us)
{
    char text[TEXT_TIME_BYTES];
    text_time(time_us, text);
    return time_us == 0 ? json_null() : json_string(text);
}

json_t *ctl_uuid(ProtobufCBinaryData bytes)
{
    if (bytes.len != ID_BYTES) {
        return json_null();
    }
    struct id128 uuid;
    memcpy(&uuid, bytes.data, sizeof uuid);
    char text[TEXT_UUID_BYTES];
    text_uuid_put(&uuid, text);
    return json_string(text);
}

int ctl_exit_code(enum err err)
{
    switch (err) {
    case OK:
        return EXIT_DONE;
    case ERR_INVALID:
        return EXIT_USAGE;
    case ERR_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case ERR_CONFLICT:
    case ERR_DENIED:
    case ERR_LIMIT:
        return EXIT_REFUSED;
    case ERR_UNAVAILABLE:
    case ERR_CANCELLED:
        return EXIT_UNAVAILABLE;
    case ERR_CORRUPT:
    case ERR_INCOMPATIBLE:
    case ERR_IO:
    case ERR_COUNT_:
    default:
        return EXIT_FAILED;
    }
}
