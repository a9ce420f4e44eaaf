// coordinator/config.c: DIR/config.yaml; see core.h.
//
// One table: key, range, where the value goes. `unlearnctl init` writes the file with its comments;
// a key that is left out has its default.
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/yaml.h"
#include "coordinator/core.h"
#include "model/profile.h"

enum { CONFIG_BYTES_MAX = 16 * 1024 };

static enum err set_core(struct config *config, const char *value)
{
    if (value[0] != '\0' && !profile_core_is_name(value)) {
        FAIL(ERR_INVALID, "blas_core is \"%.60s\", expected a core type of OpenBLAS, like %s",
             value, profile_default());
    }
    snprintf(config->blas_core, sizeof config->blas_core, "%s", value);
    return OK;
}

static enum err set_due(struct config *config, const char *value)
{
    int64_t due_us = 0;
    if (strchr(value, '-') != NULL) { // 2026-12-24
        FAIL(ERR_INVALID, "due is a date, expected gdpr, ccpa, or a number of days or hours");
    }
    TRY_AS(due_parse(value, clock_wall_us(), &due_us), "due");
    snprintf(config->due, sizeof config->due, "%s", value); // What is accepted is short.
    return OK;
}

static const struct {
    const char *key;
    size_t offset;
    uint64_t least, most; // most 0: a text.
    bool wide;            // u64, else u32.
} table[] = {
    {"listen", offsetof(struct config, listen), 0, 0, false},
    {"listen_workers", offsetof(struct config, listen_workers), 0, 0, false},
    {"map_bytes", offsetof(struct config, map_bytes), 1 << 20, (uint64_t)1 << 46, true},
    {"predict_threads", offsetof(struct config, predict_threads), 1, 256, false},
    {"ranks", offsetof(struct config, ranks), 1, LIMIT_WORKERS, false},
    {"lease_ms", offsetof(struct config, lease_ms), 500, 600000, false},
    {"requests_per_s", offsetof(struct config, quota_requests), 1, UINT32_MAX, false},
    {"bytes_per_s", offsetof(struct config, quota_bytes), 1 << 16, (uint64_t)1 << 46, true},
    {"delete_ids_per_s", offsetof(struct config, quota_ids), 1, UINT32_MAX, false},
    {"approve_above", offsetof(struct config, approve_above), 0, UINT32_MAX, false},
    {"recheck_percent", offsetof(struct config, recheck_percent), 0, 100, false},
    {"approve_hours", offsetof(struct config, approve_hours), 1, LIMIT_APPROVE_HOURS, false},
};

static enum err set(void *context, const char *key, const char *value)
{
    if (strcmp(key, "blas_core") == 0) {
        return set_core(context, value);
    }
    if (strcmp(key, "due") == 0) {
        return set_due(context, value);
    }
    if (strcmp(key, "log_level") == 0) {
        return log_level_get(value, &((struct config *)context)->log_level);
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        uint8_t *const at = (uint8_t *)context + table[i].offset;
        if (strcmp(table[i].key, key) != 0) {
            continue;
        }
        if (table[i].most == 0) {
            if (strlen(value) >= LINK_ENDPOINT_BYTES || strncmp(value, "tcp://", 6) != 0) {
                FAIL(ERR_INVALID, "%s is \"%.60s\", expected tcp://ADDRESS:PORT", key, value);
            }
            memcpy(at, value, strlen(value) + 1);
            return OK;
        }
        uint64_t number = 0;
        TRY_AS(text_u64(value, table[i].most, &number), "%s", key);
        if (number < table[i].least) {
            FAIL(ERR_INVALID, "%s is %llu, expected at least %llu", key, (unsigned long long)number,
                 (unsigned long long)table[i].least);
        }
        if (table[i].wide) {
            memcpy(at, &number, sizeof number);
        } else {
            const uint32_t narrow = (uint32_t)number;
            memcpy(at, &narrow, sizeof narrow);
        }
        return OK;
    }
    FAIL(ERR_INVALID,
         "unknown key \"%.60s\", expected listen, listen_workers, map_bytes, "
         "predict_threads, ranks, lease_ms, requests_per_s, bytes_per_s, delete_ids_per_s, "
         "approve_above, approve_hours, recheck_percent, due, log_level or blas_core",
         key);
}

struct config config_default(void)
{
    return (struct config){
        .listen = "tcp://127.0.0.1:*",
        .listen_workers = "tcp://127.0.0.1:*",
        .map_bytes = (uint64_t)64 << 30,
        .predict_threads = 2,
        .ranks = 2,
        .due = DUE_DEFAULT,
        .log_level = LOG_INFO,
        // Several times what the loop can do (10,000 to 60,000 requests and 400 MB a second): they stop who
        // does nothing else.
        .quota_requests = 20000,
        .quota_bytes = (uint64_t)400 << 20,
        .quota_ids = 500000, // A whole LIMIT_DELETE_IDS at once.
        .approve_hours = 72, // A week-end.
        .lease_ms = 4000,    // 8 beats missed; the ranks of a dead member are free within 6 s.
    };
}

enum err config_load(const char *dir, struct config *config_out)
{
    char path[4200], text[CONFIG_BYTES_MAX + 1];
    snprintf(path, sizeof path, "%s/config.yaml", dir);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO,
             "%s: %s: make a data directory with unlearnctl init %s", path, strerror(errno), dir);
    }
    const ssize_t bytes = read(fd, text, sizeof text);
    close(fd);
    if (bytes < 0 || bytes > CONFIG_BYTES_MAX) {
        FAIL(ERR_INVALID, "%s cannot be read, or is longer than %d bytes", path,
             (int)CONFIG_BYTES_MAX);
    }
    *config_out = config_default();
    return yaml_pairs(path, span_of(text, (size_t)bytes), set, config_out);
}

static void put_key(struct buf *keys, const char *key)
{
    buf_put(keys, span_text(" "));
    buf_put(keys, span_text(key));
}

void config_take(struct config *config, const struct config *fresh, struct buf *taken,
                 struct buf *waiting)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const uint8_t *const was = (const uint8_t *)config + table[i].offset;
        const uint8_t *const is = (const uint8_t *)fresh + table[i].offset;
        const bool same = table[i].most == 0 ? strcmp((const char *)was, (const char *)is) == 0
                                             : memcmp(was, is, table[i].wide ? 8 : 4) == 0;
        if (!same) {
            // `ranks` is read by `unlearnctl up` alone.
            put_key(strcmp(table[i].key, "ranks") == 0 ? taken : waiting, table[i].key);
        }
    }
    config->ranks = fresh->ranks;
    if (strcmp(config->due, fresh->due) != 0) {
        memcpy(config->due, fresh->due, sizeof config->due);
        put_key(taken, "due");
    }
    if (config->log_level != fresh->log_level) {
        config->log_level = fresh->log_level;
        log_level_set(config->log_level);
        put_key(taken, "log_level");
    }
    if (strcmp(config->blas_core, fresh->blas_core) != 0) {
        put_key(waiting, "blas_core");
    }
}
