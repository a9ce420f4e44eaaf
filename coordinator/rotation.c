// coordinator/rotation.c: see rotation.h.
//
//   1. DIR/keys/signing.key.new and DIR.client/receipt.pub.new are made
//   2. the log's head is signed by the new key, and committed
//   3. receipt.pub is linked as receipt-N.pub, and receipt.pub.new takes its place
//   4. signing.key is overwritten, and signing.key.new takes its place: it is done
#include "coordinator/rotation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sign.h"
#include "base/sync.h"
#include "store/ledger.h"

enum { PATH_BYTES = 4300, OLD_KEYS_MAX = 1000 };

struct files {
    char keys[PATH_BYTES], client[PATH_BYTES]; // Directories.
    char secret[PATH_BYTES], secret_new[PATH_BYTES], public[PATH_BYTES], public_new[PATH_BYTES];
};

static struct files files_of(const char *dir)
{
    struct files files;
    snprintf(files.keys, PATH_BYTES, "%.4000s/keys", dir);
    snprintf(files.client, PATH_BYTES, "%.4000s.client", dir);
    snprintf(files.secret, PATH_BYTES, "%.4000s/keys/signing.key", dir);
    snprintf(files.secret_new, PATH_BYTES, "%.4000s/keys/signing.key.new", dir);
    snprintf(files.public, PATH_BYTES, "%.4000s.client/receipt.pub", dir);
    snprintf(files.public_new, PATH_BYTES, "%.4000s.client/receipt.pub.new", dir);
    return files;
}

static enum err make(const struct files *files)
{
    if (access(files->secret_new, F_OK) == 0) {
        return OK;
    }
    (void)unlink(files->public_new); // Of an attempt that got no further.
    TRY(sign_create(files->secret_new, files->public_new));
    TRY(sync_dir(
        files->keys)); // Before it signs anything: without the key the log would be nobody's.
    return sync_dir(files->client);
}

static enum err sign_log(const char *dir, uint64_t map_bytes, const struct sign_public *old,
                         const struct signer *signer)
{
    struct store *store = NULL;
    struct txn *txn = NULL;
    TRY(store_open(dir, map_bytes, &store));
    enum err err = txn_begin(store, true, &txn);
    if (err == OK) {
        err = txn_end(txn, ledger_resign(txn, old, signer));
    }
    store_close(store);
    return err;
}

static enum err keep_old(const char *dir, const struct files *files)
{
    for (int i = 1; i <= OLD_KEYS_MAX; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%.4000s.client/receipt-%d.pub", dir, i);
        if (link(files->public, path) == 0) {
            return OK;
        }
        struct sign_public there, old;
        if (errno != EEXIST) {
            FAIL(ERR_IO, "cannot make %s: %s", path, strerror(errno));
        }
        if (sign_public_read(path, &there) == OK && sign_public_read(files->public, &old) == OK &&
            memcmp(&there, &old, sizeof there) == 0) {
            return OK; // An attempt that got no further.
        }
    }
    FAIL(ERR_LIMIT,
         "the signing key was changed %d times: take old %.200s.client/receipt-*.pub away",
         (int)OLD_KEYS_MAX, dir);
}

static enum err put_in_place(const char *dir, const char *fresh, const char *path)
{
    if (rename(fresh, path) != 0) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    return sync_dir(dir);
}

// On ext4 and xfs in place: unlearnd starts on no other.
static enum err overwrite(const char *path)
{
    static const uint8_t zeros[4096];
    struct stat status;
    const int file = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    bool good = file >= 0 && fstat(file, &status) == 0 && status.st_size <= (off_t)sizeof zeros;
    good = good && write(file, zeros, (size_t)status.st_size) == status.st_size && fsync(file) == 0;
    if (file >= 0) {
        close(file);
    }
    if (!good) {
        FAIL(ERR_IO, "cannot overwrite %s: %s", path, strerror(errno));
    }
    return OK;
}

static enum err change(const char *dir, uint64_t map_bytes, const struct files *files,
                       const struct signer *signer)
{
    struct sign_public old;
    TRY(sign_public_read(files->public, &old));
    TRY(sign_log(dir, map_bytes, &old, signer));
    if (memcmp(&old, sign_public_of(signer), sizeof old) != 0) {
        TRY(keep_old(dir, files));
        TRY(put_in_place(files->client, files->public_new, files->public));
    }
    TRY(overwrite(files->secret));
    return put_in_place(files->keys, files->secret_new, files->secret);
}

enum err rotation_signing(const char *dir, uint64_t map_bytes)
{
    const struct files files = files_of(dir);
    struct signer *signer = NULL;
    TRY(make(&files));
    TRY(sign_open(files.secret_new, &signer));
    const enum err err = change(dir, map_bytes, &files, signer);
    sign_close(signer);
    if (err == OK) {
        log_info("signing_key_changed", "public=%s", files.public);
    }
    return err;
}

enum err rotation_signing_resume(const char *dir, uint64_t map_bytes)
{
    const struct files files = files_of(dir);
    return access(files.secret_new, F_OK) == 0 ? rotation_signing(dir, map_bytes) : OK;
}
