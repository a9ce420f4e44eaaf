// tests/fuzz/fuzz_keyfile.c: files of keys: pairs and public halves of connections, signing keys and theirs.
//
// Every reader gets the same file: that one is taken for another must not happen.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/curvekey.h"
#include "base/digest.h"
#include "base/sign.h"
#include "tests/fuzz/fuzz.h"

enum { TEXT_BYTES = 512 };

// What was taken is what would be written, to the byte; but digits may be capital.
static void expect_start(struct span file, const char *text)
{
    CHECK(file.bytes >= strlen(text) && strncasecmp(file.data, text, strlen(text)) == 0);
}

static bool is_pair(const char *path, struct span file)
{
    struct curvekey key;
    if (curvekey_read(path, &key) != OK) {
        for (size_t i = 0; i < sizeof key.secret; i++) {
            CHECK(key.secret[i] == 0);
        }
        return false;
    }
    char public[CURVEKEY_HEX_BYTES], secret[CURVEKEY_HEX_BYTES], text[TEXT_BYTES];
    hex_put(public, key.public, sizeof key.public);
    hex_put(secret, key.secret, sizeof key.secret);
    snprintf(text, sizeof text, "unlearnd-key-1\npublic %s\nsecret %s\n", public, secret);
    expect_start(file, text);
    CHECK(file.bytes == strlen(text));
    return true;
}

static bool is_public(const char *path, struct span file, bool pair)
{
    uint8_t key[CURVEKEY_BYTES];
    if (curvekey_read_public(path, key) != OK) {
        CHECK(!pair);
        return false;
    }
    char public[CURVEKEY_HEX_BYTES], text[TEXT_BYTES];
    hex_put(public, key, sizeof key);
    snprintf(text, sizeof text, "unlearnd-key-1\npublic %s\n", public);
    expect_start(file, text);
    CHECK((file.bytes == strlen(text)) == !pair);
    return true;
}

static bool is_signer(const char *path)
{
    struct signer *signer;
    if (sign_open(path, &signer) != OK) {
        return false;
    }
    const struct signature signature = sign_message(signer, "fuzz", span_text("message"));
    CHECK(sign_check(sign_public_of(signer), "fuzz", span_text("message"), &signature));
    sign_close(signer);
    return true;
}

static bool is_signer_public(const char *path)
{
    struct sign_public key;
    return sign_public_read(path, &key) == OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[TEXT_BYTES];
    const struct span file = span_of(data, size);
    fuzz_put("any.key", file);
    snprintf(path, sizeof path, "%.400s/any.key", fuzz_dir());
    const bool pair = is_pair(path, file);
    const bool curve = is_public(path, file, pair);
    CHECK((int)curve + (int)is_signer(path) + (int)is_signer_public(path) <= 1);
    return 0;
}
