// base/curvekey.c: see curvekey.h. sodium.h is included here, in digest.c, in sign.c and in seal.c alone.
#include "base/curvekey.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/digest.h"
#include "base/keyfile.h"
#include "base/mem.h"

static const char head[] = "unlearnd-key-1\n", public_word[] = "public ", secret_word[] = "secret ";

enum {
    HEAD_BYTES = sizeof head - 1,
    WORD_BYTES = sizeof public_word - 1,
    LINE_BYTES = WORD_BYTES + 2 * CURVEKEY_BYTES + 1,
    PUBLIC_FILE_BYTES = HEAD_BYTES + LINE_BYTES,
    FILE_BYTES = PUBLIC_FILE_BYTES + LINE_BYTES,
};
_Static_assert(sizeof public_word == sizeof secret_word, "lines of one length");
_Static_assert(CURVEKEY_BYTES == crypto_box_PUBLICKEYBYTES, "X25519");
_Static_assert(CURVEKEY_BYTES == crypto_box_SECRETKEYBYTES, "X25519");

void curvekey_make(struct curvekey *key_out)
{
    CHECK(crypto_box_keypair(key_out->public, key_out->secret) == 0);
}

void curvekey_wipe(struct curvekey *key)
{
    mem_wipe(key, sizeof *key);
}

enum err curvekey_write(const char *path, const struct curvekey *key)
{
    char public[CURVEKEY_HEX_BYTES], secret[CURVEKEY_HEX_BYTES], text[FILE_BYTES + 1];
    hex_put(public, key->public, sizeof key->public);
    hex_put(secret, key->secret, sizeof key->secret);
    snprintf(text, sizeof text, "%s%s%s\n%s%s\n", head, public_word, public, secret_word, secret);
    const enum err err = keyfile_write(path, 0600, span_of(text, FILE_BYTES));
    mem_wipe(secret, sizeof secret);
    mem_wipe(text, sizeof text);
    return err;
}

enum err curvekey_write_public(const char *path, const uint8_t key[static CURVEKEY_BYTES])
{
    char public[CURVEKEY_HEX_BYTES], text[PUBLIC_FILE_BYTES + 1];
    hex_put(public, key, CURVEKEY_BYTES);
    snprintf(text, sizeof text, "%s%s%s\n", head, public_word, public);
    return keyfile_write(path, 0644, span_of(text, PUBLIC_FILE_BYTES));
}

// Reads "<word><hex>\n".
static bool take_line(const char *line, const char *word, uint8_t out[static CURVEKEY_BYTES])
{
    char hex[CURVEKEY_HEX_BYTES];
    memcpy(hex, line + WORD_BYTES, sizeof hex - 1);
    hex[sizeof hex - 1] = '\0';
    const bool good = memcmp(line, word, WORD_BYTES) == 0 && line[LINE_BYTES - 1] == '\n' &&
                      hex_get(out, CURVEKEY_BYTES, hex) == OK;
    mem_wipe(hex, sizeof hex);
    return good;
}

static enum err take(const char *path, const char *text, size_t bytes, struct curvekey *key_out)
{
    const bool whole = bytes == FILE_BYTES || bytes == PUBLIC_FILE_BYTES;
    if (!whole || memcmp(text, head, HEAD_BYTES) != 0 ||
        !take_line(text + HEAD_BYTES, public_word, key_out->public)) {
        FAIL(ERR_CORRUPT,
             "%s is no key file of ours, expected a line unlearnd-key-1, one with the public key, "
             "and one with the secret key if it is not only public",
             path);
    }
    if (bytes == FILE_BYTES) {
        uint8_t derived[CURVEKEY_BYTES];
        const bool good = take_line(text + PUBLIC_FILE_BYTES, secret_word, key_out->secret) &&
                          crypto_scalarmult_base(derived, key_out->secret) == 0 &&
                          memcmp(derived, key_out->public, sizeof derived) == 0;
        if (!good) {
            FAIL(ERR_CORRUPT, "%s is damaged: its secret half does not belong to its public half",
                 path);
        }
    }
    return OK;
}

static enum err read_either(const char *path, enum keyfile_kind kind, struct curvekey *key_out,
                            bool *secret_out)
{
    char text[FILE_BYTES + 1]; // One more tells a longer file.
    size_t bytes = 0;
    TRY(keyfile_read(path, kind == KEYFILE_SECRET ? "key" : "public key", kind, (uint8_t *)text,
                     sizeof text, &bytes));
    const enum err err = take(path, text, bytes, key_out);
    *secret_out = bytes == FILE_BYTES;
    mem_wipe(text, sizeof text);
    return err;
}

enum err curvekey_read(const char *path, struct curvekey *key_out)
{
    bool secret = false;
    *key_out = (struct curvekey){0};
    enum err err = read_either(path, KEYFILE_SECRET, key_out, &secret);
    if (err == OK && !secret) {
        err = err_raise(ERR_CORRUPT, "%s holds a public key alone, expected one with its secret",
                        path);
    }
    if (err != OK) {
        curvekey_wipe(key_out);
    }
    return err;
}

enum err curvekey_read_public(const char *path, uint8_t key_out[static CURVEKEY_BYTES])
{
    struct curvekey key = {0};
    bool secret = false;
    enum err err = read_either(path, KEYFILE_PUBLIC, &key, &secret);
    if (err == OK && secret) {
        err = read_either(path, KEYFILE_SECRET, &key, &secret);
    }
    if (err == OK) {
        memcpy(key_out, key.public, CURVEKEY_BYTES);
    }
    curvekey_wipe(&key);
    return err;
}
