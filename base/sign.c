// base/sign.c: see sign.h. sodium.h is included here, in curvekey.c, in digest.c and in seal.c alone.
//
//   signing.key   "UNLRSK01" | seed [32] | public key [32]              72 bytes
//   receipt.pub   64 hex digits, a blank, 16 hex digits of the key id, a line end
#include "base/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/digest.h"
#include "base/keyfile.h"
#include "base/mem.h"

enum {
    MAGIC_BYTES = 8,
    DOMAIN_BYTES = 16,
    SEED_BYTES = crypto_sign_SEEDBYTES,
    FILE_BYTES = MAGIC_BYTES + SEED_BYTES + SIGN_PUBLIC_BYTES,
    PUBLIC_TEXT_BYTES = 2 * SIGN_PUBLIC_BYTES + 1 + 2 * SIGN_ID_BYTES + 1,
};
static const char magic[MAGIC_BYTES] = {'U', 'N', 'L', 'R', 'S', 'K', '0', '1'};

_Static_assert(SIGN_PUBLIC_BYTES == crypto_sign_PUBLICKEYBYTES && SIGN_BYTES == crypto_sign_BYTES,
               "Ed25519");

struct signer { // In memory that is locked, kept out of core files, and wiped when freed.
    struct sign_public public;
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
};

struct sign_id sign_id_of(const struct sign_public *key)
{
    const struct span part = span_of(key->bytes, sizeof key->bytes);
    const struct digest digest = digest_of("unlearnd-key", &part, 1);
    struct sign_id id;
    memcpy(id.bytes, digest.bytes, sizeof id.bytes);
    return id;
}

const struct sign_public *sign_public_of(const struct signer *signer)
{
    return &signer->public;
}

// --- Files ---

static enum err write_pair(const char *secret_path, const char *public_path,
                           const uint8_t file[static FILE_BYTES])
{
    struct sign_public public;
    char key_hex[2 * SIGN_PUBLIC_BYTES + 1], id_hex[SIGN_ID_HEX_BYTES], text[PUBLIC_TEXT_BYTES + 1];
    memcpy(public.bytes, file + MAGIC_BYTES + SEED_BYTES, SIGN_PUBLIC_BYTES);
    const struct sign_id id = sign_id_of(&public);
    hex_put(key_hex, public.bytes, sizeof public.bytes);
    hex_put(id_hex, id.bytes, sizeof id.bytes);
    snprintf(text, sizeof text, "%s %s\n", key_hex, id_hex);
    TRY(keyfile_write(secret_path, 0600, span_of(file, FILE_BYTES)));
    const enum err err = keyfile_write(public_path, 0644, span_text(text));
    if (err != OK) {
        (void)unlink(secret_path);
    }
    return err;
}

enum err sign_create(const char *secret_path, const char *public_path)
{
    uint8_t file[FILE_BYTES], secret[crypto_sign_SECRETKEYBYTES];
    uint8_t *const seed = file + MAGIC_BYTES;
    memcpy(file, magic, MAGIC_BYTES);
    randombytes_buf(seed, SEED_BYTES);
    CHECK(crypto_sign_seed_keypair(seed + SEED_BYTES, secret, seed) == 0);
    const enum err err = write_pair(secret_path, public_path, file);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(file, sizeof file);
    return err;
}

static enum err take(const char *path, const uint8_t *file, size_t bytes, struct signer *signer)
{
    if (bytes != FILE_BYTES || memcmp(file, magic, MAGIC_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "%s is not a signing key of ours", path);
    }
    const uint8_t *const seed = file + MAGIC_BYTES;
    CHECK(crypto_sign_seed_keypair(signer->public.bytes, signer->secret, seed) == 0);
    if (memcmp(signer->public.bytes, seed + SEED_BYTES, SIGN_PUBLIC_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "%s is damaged: its public half does not belong to its secret half",
             path);
    }
    return OK;
}

enum err sign_open(const char *secret_path, struct signer **signer_out)
{
    *signer_out = NULL;
    uint8_t file[FILE_BYTES + 1]; // One more tells a longer file.
    size_t bytes = 0;
    TRY(keyfile_read(secret_path, "signing key", KEYFILE_SECRET, file, sizeof file, &bytes));
    struct signer *const signer = sodium_malloc(sizeof *signer);
    if (signer == NULL) {
        sodium_memzero(file, sizeof file);
        FAIL(ERR_IO, "no locked memory for the signing key: raise `ulimit -l`");
    }
    const enum err err = take(secret_path, file, bytes, signer);
    sodium_memzero(file, sizeof file);
    if (err != OK) {
        sodium_free(signer);
        return err;
    }
    CHECK(sodium_mprotect_readonly(signer) == 0);
    *signer_out = signer;
    return OK;
}

void sign_close(struct signer *signer)
{
    sodium_free(signer); // Wipes; accepts NULL.
}

static enum err public_of_text(const char *text, struct sign_public *key_out)
{
    char key_hex[2 * SIGN_PUBLIC_BYTES + 1], id_hex[SIGN_ID_HEX_BYTES];
    const size_t bytes = strlen(text);
    const size_t key_bytes = sizeof key_hex - 1, id_bytes = sizeof id_hex - 1;
    const bool named = bytes == key_bytes + 1 + id_bytes && text[key_bytes] == ' ';
    if (bytes != key_bytes && !named) {
        FAIL(ERR_INVALID, "%zu characters, expected 64 hex digits, or these and a key id", bytes);
    }
    memcpy(key_hex, text, key_bytes);
    key_hex[key_bytes] = '\0';
    TRY(hex_get(key_out->bytes, sizeof key_out->bytes, key_hex));
    if (named) {
        struct sign_id told;
        const struct sign_id id = sign_id_of(key_out);
        memcpy(id_hex, text + key_bytes + 1, sizeof id_hex);
        TRY(hex_get(told.bytes, sizeof told.bytes, id_hex));
        if (memcmp(told.bytes, id.bytes, sizeof id.bytes) != 0) {
            hex_put(id_hex, id.bytes, sizeof id.bytes);
            FAIL(ERR_INVALID, "the key id beside the key is not its own, which is %s", id_hex);
        }
    }
    return OK;
}

enum err sign_public_read(const char *file_or_hex, struct sign_public *key_out)
{
    char text[PUBLIC_TEXT_BYTES + 2]; // One more tells a longer file.
    if (strlen(file_or_hex) == 2 * sizeof key_out->bytes &&
        hex_get(key_out->bytes, sizeof key_out->bytes, file_or_hex) == OK) {
        return OK;
    }
    const int file = open(file_or_hex, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_INVALID,
             "the public key %.200s: %s", file_or_hex, strerror(errno));
    }
    const ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    if (got < 0) {
        FAIL(ERR_INVALID, "the public key %.200s cannot be read", file_or_hex);
    }
    text[got] = '\0';
    if (got > 0 && text[got - 1] == '\n') {
        text[got - 1] = '\0';
    }
    TRY_AS(public_of_text(text, key_out), "the public key %.200s", file_or_hex);
    return OK;
}

// --- Signatures ---

static void put_domain(const char *domain, struct buf *buf)
{
    const size_t bytes = strlen(domain);
    CHECK(bytes <= DOMAIN_BYTES);
    static const uint8_t zeros[DOMAIN_BYTES];
    buf_put(buf, span_of(domain, bytes));
    buf_put(buf, span_of(zeros, DOMAIN_BYTES - bytes));
}

struct signature sign_message(const struct signer *signer, const char *domain, struct span message)
{
    struct buf whole = {0};
    struct signature signature;
    put_domain(domain, &whole);
    buf_put(&whole, message);
    CHECK(crypto_sign_detached(signature.bytes, NULL, whole.data, whole.bytes, signer->secret) ==
          0);
    buf_deinit(&whole);
    return signature;
}

bool sign_check(const struct sign_public *key, const char *domain, struct span message,
                const struct signature *signature)
{
    struct buf whole = {0};
    put_domain(domain, &whole);
    buf_put(&whole, message);
    const bool good =
        crypto_sign_verify_detached(signature->bytes, whole.data, whole.bytes, key->bytes) == 0;
    buf_deinit(&whole);
    return good;
}
