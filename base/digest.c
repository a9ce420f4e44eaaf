// base/digest.c: see digest.h. sodium.h is included here, in curvekey.c, in sign.c and in seal.c alone.
#include "base/digest.h"

#include <sodium.h>
#include <string.h>

#include "base/check.h"

_Static_assert(KEY_BYTES <= crypto_generichash_blake2b_KEYBYTES_MAX, "a BLAKE2b key");

enum err digest_start(void)
{
    if (sodium_init() < 0) {
        FAIL(ERR_IO, "libsodium could not start: no source of randomness");
    }
    return OK;
}

static void start(crypto_generichash_blake2b_state *state, const char *domain, const uint8_t *key,
                  size_t key_bytes, size_t out_bytes)
{
    uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = {0};
    static const uint8_t salt[crypto_generichash_blake2b_SALTBYTES] = {0};
    const size_t domain_bytes = strlen(domain);
    CHECK(domain_bytes <= sizeof personal);
    memcpy(personal, domain, domain_bytes);
    CHECK(crypto_generichash_blake2b_init_salt_personal(state, key, key_bytes, out_bytes, salt,
                                                        personal) == 0);
}

struct digest digest_of(const char *domain, const struct span *parts, size_t part_count)
{
    crypto_generichash_blake2b_state state;
    struct digest out;
    start(&state, domain, NULL, 0, sizeof out.bytes);
    for (size_t i = 0; i < part_count; i++) {
        crypto_generichash_blake2b_update(&state, parts[i].data, parts[i].bytes);
    }
    crypto_generichash_blake2b_final(&state, out.bytes, sizeof out.bytes);
    return out;
}

struct id128 digest_id(const char *domain, const uint8_t key[static KEY_BYTES], struct span data)
{
    crypto_generichash_blake2b_state state;
    struct id128 out;
    start(&state, domain, key, KEY_BYTES, sizeof out.bytes);
    crypto_generichash_blake2b_update(&state, data.data, data.bytes);
    crypto_generichash_blake2b_final(&state, out.bytes, sizeof out.bytes);
    return out;
}

struct digest digest_commit(const uint8_t key[static KEY_BYTES], const struct digest *digest)
{
    crypto_generichash_blake2b_state state;
    struct digest out;
    start(&state, "unlearnd-commit", key, KEY_BYTES, sizeof out.bytes);
    crypto_generichash_blake2b_update(&state, digest->bytes, sizeof digest->bytes);
    crypto_generichash_blake2b_final(&state, out.bytes, sizeof out.bytes);
    return out;
}

void digest_derive(const char *domain, const uint8_t key[static KEY_BYTES],
                   uint8_t key_out[static KEY_BYTES])
{
    crypto_generichash_blake2b_state state;
    start(&state, domain, key, KEY_BYTES, KEY_BYTES);
    crypto_generichash_blake2b_final(&state, key_out, KEY_BYTES);
    sodium_memzero(&state, sizeof state);
}

struct digest digest_sha256(const struct span *parts, size_t part_count)
{
    crypto_hash_sha256_state state;
    struct digest out;
    crypto_hash_sha256_init(&state);
    for (size_t i = 0; i < part_count; i++) {
        crypto_hash_sha256_update(&state, parts[i].data, parts[i].bytes);
    }
    crypto_hash_sha256_final(&state, out.bytes);
    return out;
}

uint64_t digest_u64(const char *domain, struct span data)
{
    // BLAKE2b of libsodium gives at least 16 bytes: the first 8 of a 16-byte digest are used.
    crypto_generichash_blake2b_state state;
    uint8_t out[crypto_generichash_blake2b_BYTES_MIN];
    start(&state, domain, NULL, 0, sizeof out);
    crypto_generichash_blake2b_update(&state, data.data, data.bytes);
    crypto_generichash_blake2b_final(&state, out, sizeof out);
    uint64_t value;
    memcpy(&value, out, sizeof value);
    return value;
}

int id128_compare(const struct id128 *a, const struct id128 *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

void digest_random(void *out, size_t bytes)
{
    randombytes_buf(out, bytes);
}

void hex_put(char *hex_out, const void *data, size_t bytes)
{
    sodium_bin2hex(hex_out, 2 * bytes + 1, data, bytes);
}

enum err hex_get(void *out, size_t bytes, const char *hex)
{
    size_t got = 0;
    const char *end = NULL;
    const size_t hex_bytes = strlen(hex);
    if (hex_bytes != 2 * bytes ||
        sodium_hex2bin(out, bytes, hex, hex_bytes, NULL, &got, &end) != 0 || got != bytes ||
        *end != '\0') {
        FAIL(ERR_INVALID, "found %zu characters where %zu hex digits are expected", hex_bytes,
             2 * bytes);
    }
    return OK;
}
