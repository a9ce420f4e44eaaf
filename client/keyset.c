// client/keyset.c: see keyset.h.
#include "client/keyset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/curvekey.h"
#include "client/process.h"

enum file { SERVER, SERVER_PUBLIC, WORKER, ADMIN, ADMIN_PUBLIC, FILES };

static const char *const tails[FILES] = {
    [SERVER] = "/keys/server.key",      [SERVER_PUBLIC] = ".client/server.pub",
    [WORKER] = "/keys/worker.key",      [ADMIN] = ".client/admin.key",
    [ADMIN_PUBLIC] = "/keys/admin.pub",
};

struct path {
    char text[PROCESS_PATH_BYTES];
};

static struct path path_of(const char *dir, enum file file)
{
    struct path path;
    size_t bytes = strlen(dir);
    while (bytes > 1 && dir[bytes - 1] == '/') {
        bytes--;
    }
    snprintf(path.text, sizeof path.text, "%.*s%s", (int)bytes, dir, tails[file]);
    return path;
}

static bool is_there(const char *dir, enum file file)
{
    const struct path path = path_of(dir, file);
    return access(path.text, F_OK) == 0 || errno != ENOENT;
}

static enum err read_pair(const char *dir, enum file file, struct curvekey *key_out)
{
    const struct path path = path_of(dir, file);
    return curvekey_read(path.text, key_out);
}

static enum err make_pair(const char *dir, enum file file, struct curvekey *key_out)
{
    const struct path path = path_of(dir, file);
    curvekey_make(key_out);
    return curvekey_write(path.text, key_out);
}

static enum err write_public(const char *dir, enum file file, const struct curvekey *key)
{
    const struct path path = path_of(dir, file);
    return curvekey_write_public(path.text, key->public);
}

// The pair, made where it is missing, and its public half.
static enum err complete(const char *dir, enum file pair, enum file public, bool *pair_made,
                         bool *public_made)
{
    struct curvekey key;
    const bool made = !is_there(dir, pair), told = is_there(dir, public);
    enum err err = made ? make_pair(dir, pair, &key) : read_pair(dir, pair, &key);
    *pair_made = made && err == OK;
    if (err == OK && !told) {
        err = write_public(dir, public, &key);
        *public_made = err == OK;
    }
    curvekey_wipe(&key);
    return err;
}

enum err keyset_complete(const char *dir, struct keyset_made *made_out)
{
    struct curvekey worker;
    *made_out = (struct keyset_made){0};
    if (!is_there(dir, SERVER) && is_there(dir, SERVER_PUBLIC)) {
        const struct path path = path_of(dir, SERVER_PUBLIC), pair = path_of(dir, SERVER);
        FAIL(ERR_CONFLICT,
             "%s is there, but %s is not: put that back, or make both anew with unlearnctl key "
             "rotate server",
             path.text, pair.text);
    }
    TRY(complete(dir, SERVER, SERVER_PUBLIC, &made_out->server, &made_out->server_public));
    if (!is_there(dir, WORKER)) {
        const enum err err = make_pair(dir, WORKER, &worker);
        curvekey_wipe(&worker);
        TRY(err);
        made_out->worker = true;
    }
    if (is_there(dir, ADMIN) || !is_there(dir, ADMIN_PUBLIC)) {
        TRY(complete(dir, ADMIN, ADMIN_PUBLIC, &made_out->admin, &made_out->admin_public));
    }
    return OK;
}

enum err keyset_create(const char *dir)
{
    struct keyset_made made;
    for (int file = 0; file < FILES; file++) {
        if (is_there(dir, (enum file)file)) {
            const struct path path = path_of(dir, (enum file)file);
            FAIL(ERR_CONFLICT, "%s exists already", path.text);
        }
    }
    const enum err err = keyset_complete(dir, &made);
    if (err != OK) {
        keyset_remove(dir);
    }
    return err;
}

void keyset_remove(const char *dir)
{
    for (int file = 0; file < FILES; file++) {
        const struct path path = path_of(dir, (enum file)file);
        (void)unlink(path.text);
    }
}

// --- Another key

static struct path fresh_path(const char *dir, enum file file)
{
    struct path path = path_of(dir, file);
    const size_t bytes = strlen(path.text);
    snprintf(path.text + bytes, sizeof path.text - bytes, ".new");
    (void)unlink(path.text); // Of a change that did not come to its end.
    return path;
}

static enum err put_in_place(const struct path *fresh, const char *dir, enum file file)
{
    const struct path path = path_of(dir, file);
    if (rename(fresh->text, path.text) != 0) {
        const int why = errno;
        (void)unlink(fresh->text);
        FAIL(ERR_IO, "%s: %s", path.text, strerror(why));
    }
    return OK;
}

enum err keyset_rotate_server(const char *dir)
{
    struct curvekey key;
    const struct path pair = fresh_path(dir, SERVER), public = fresh_path(dir, SERVER_PUBLIC);
    curvekey_make(&key);
    enum err err = curvekey_write(pair.text, &key);
    err = err == OK ? curvekey_write_public(public.text, key.public) : err;
    curvekey_wipe(&key);
    err = err == OK ? put_in_place(&pair, dir, SERVER) : err;
    err = err == OK ? put_in_place(&public, dir, SERVER_PUBLIC) : err;
    return err;
}
