// base/digest.h: BLAKE2b (RFC 7693) for everything that is named, compared or drawn by hash.
//
// Each use has a domain of its own: its name, at most 16 bytes, is BLAKE2b's personalisation, so
// that a digest made for one purpose is never one for another.
//
// Threads   Any, after digest_start.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum { DIGEST_BYTES = 32, DIGEST_HEX_BYTES = 2 * DIGEST_BYTES + 1, KEY_BYTES = 32, ID_BYTES = 16 };

struct digest {
    uint8_t bytes[DIGEST_BYTES];
};

// A 128-bit keyed name: of a record (rid), of a subject (sid).
struct id128 {
    uint8_t bytes[ID_BYTES];
};

// Must be called once at the start of each program. ERR_IO: libsodium found no source of randomness.
MUST_USE enum err digest_start(void);

// BLAKE2b-256 over the parts in order. `domain` is at most 16 bytes of text.
struct digest digest_of(const char *domain, const struct span *parts, size_t part_count);

// BLAKE2b-128 over `data`, keyed with key[KEY_BYTES].
struct id128 digest_id(const char *domain, const uint8_t key[static KEY_BYTES], struct span data);

// The commitment to a component: BLAKE2b-256 keyed with `key`, domain "unlearnd-commit", over its
// digest. Whoever has the key and trains the component again can check it; without the key it
// confirms nothing, however deterministic training is.
struct digest digest_commit(const uint8_t key[static KEY_BYTES], const struct digest *digest);

// A key that follows from another and tells nothing of it: BLAKE2b-256 keyed with `key` over nothing.
void digest_derive(const char *domain, const uint8_t key[static KEY_BYTES],
                   uint8_t key_out[static KEY_BYTES]);

// SHA-256 (FIPS 180-4) over the parts in order: for the receipt log alone, whose tree RFC 9162 fixes.
struct digest digest_sha256(const struct span *parts, size_t part_count);

// The first 8 bytes of BLAKE2b-128 over `data`, unkeyed, as a little-endian number.
uint64_t digest_u64(const char *domain, struct span data);

int id128_compare(const struct id128 *a, const struct id128 *b); // As memcmp.

// Fills bytes from the kernel's generator: for keys and request ids, never for what decides bits.
void digest_random(void *out, size_t bytes);

// Lower-case hex with a terminating NUL; hex_out[2 * bytes + 1].
void hex_put(char *hex_out, const void *data, size_t bytes);
// ERR_INVALID: not exactly 2 * bytes hex digits.
MUST_USE enum err hex_get(void *out, size_t bytes, const char *hex);
