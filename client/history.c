// client/history.c: see history.h.
//
//   log.head   "UNLRLH01" | head [120]
#include "client/history.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/merkle.h"
#include "client/files.h"

enum { MAGIC_BYTES = 8, FILE_BYTES = MAGIC_BYTES + HEAD_BYTES, OLD_KEYS_MAX = 1000 };
static const char magic[MAGIC_BYTES] = {'U', 'N', 'L', 'R', 'L', 'H', '0', '1'};

static int dir_bytes(const char *dir)
{
    size_t bytes = strlen(dir);
    while (bytes > 1 && dir[bytes - 1] == '/') {
        bytes--;
    }
    return bytes > 4000 ? 4000 : (int)bytes;
}

// Whether one of the keys that were in force before signed it: receipt-1.pub, ... beside `path`.
static bool was_signed_before(const char *path, const struct head *head)
{
    const int bytes = (int)(strrchr(path, '/') - path);
    struct sign_public key;
    for (int i = 1; i <= OLD_KEYS_MAX; i++) {
        char file[4300];
        snprintf(file, sizeof file, "%.*s/receipt-%d.pub", bytes, path, i);
        const enum err err = sign_public_read(file, &key);
        if (err != OK) {
            return false;
        }
        if (head_check(head, HEAD_LOG, &key) == OK) {
            return true;
        }
    }
    return false;
}

static enum err take_last(const struct sign_public *key, const char *path, struct span file,
                          struct head *last_out)
{
    if (file.bytes != FILE_BYTES || memcmp(file.data, magic, MAGIC_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "%s is damaged: it no longer tells what was seen of the receipt log",
             path);
    }
    TRY(head_of(span_of((const uint8_t *)file.data + MAGIC_BYTES, HEAD_BYTES), last_out));
    const enum err err = head_check(last_out, HEAD_LOG, key);
    return err == OK || was_signed_before(path, last_out) ? OK : err_context(err, "%s", path);
}

static enum err read_last(const char *path, const struct sign_public *key, struct head *last_out,
                          bool *seen_out)
{
    struct buf file = {0};
    *seen_out = false;
    *last_out = (struct head){0};
    enum err err = files_read(path, FILE_BYTES, &file);
    if (err == ERR_NOT_FOUND) {
        err = OK;
    } else if (err == OK || err == ERR_LIMIT) {
        err = take_last(key, path, buf_span(&file), last_out);
        *seen_out = err == OK;
    }
    buf_deinit(&file);
    return err;
}

enum err history_open(const char *dir, struct history *history_out)
{
    char path[4200];
    *history_out = (struct history){.seen = false};
    snprintf(path, sizeof path, "%.*s.client/receipt.pub", dir_bytes(dir), dir);
    TRY(sign_public_read(path, &history_out->key));
    snprintf(history_out->path, sizeof history_out->path, "%.*s.client/log.head", dir_bytes(dir),
             dir);
    return read_last(history_out->path, &history_out->key, &history_out->last, &history_out->seen);
}

enum err history_compare(struct unlearn *client, const struct head *before, const struct head *now)
{
    const unsigned long long old_size = before->size, new_size = now->size;
    if (now->size < before->size) {
        FAIL(ERR_CORRUPT,
             "the receipt log was rolled back: it has %llu entries, and %llu were seen before",
             new_size, old_size);
    }
    if (now->size == before->size &&
        memcmp(now->root.bytes, before->root.bytes, DIGEST_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "the receipt log was forked: two logs of %llu entries are signed",
             old_size);
    }
    struct merkle_path path = {.count = 0};
    struct digest root;
    if (before->size > 0 && now->size > before->size) {
        TRY(unlearn_log_consistency(client, before->size, now->size, &path, &root));
    }
    if (now->size > before->size && before->size > 0) {
        TRY_AS(merkle_check_consistency(before->size, now->size, &before->root, &now->root, &path),
               "the receipt log was rewritten");
    }
    return OK;
}

// Remembers the head unless another process has seen a longer log meanwhile.
static enum err remember(const struct history *history, const struct head *head)
{
    uint8_t file[FILE_BYTES];
    struct head last;
    bool seen;
    memcpy(file, magic, MAGIC_BYTES);
    head_put(head, file + MAGIC_BYTES);
    char lock_path[sizeof history->path + 8];
    snprintf(lock_path, sizeof lock_path, "%s.lock", history->path);
    const int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        if (lock >= 0) {
            close(lock);
        }
        FAIL(ERR_IO, "cannot lock %s", lock_path);
    }
    enum err err = read_last(history->path, &history->key, &last, &seen);
    const bool newer = last.size < head->size ||
                       memcmp(&last.key, &head->key, sizeof last.key) != 0; // By a new key.
    if (err == OK && (!seen || newer)) {
        err = files_write(history->path, span_of(file, sizeof file));
    }
    close(lock);
    return err;
}

enum err history_check(const struct history *history, struct unlearn *client, struct head *head_out)
{
    TRY(unlearn_log_head(client, head_out));
    TRY_AS(head_check(head_out, HEAD_LOG, &history->key), "the receipt log");
    if (history->seen) {
        TRY(history_compare(client, &history->last, head_out));
    }
    return remember(history, head_out);
}
