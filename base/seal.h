// base/seal.h: sealed bytes: XChaCha20-Poly1305, and memory for the keys.
//
// What is sealed can neither be read nor changed, moved or swapped without its key: `bound` is what
// it belongs to, is not stored with it, and must be the same when it is opened.
//
// A nonce must never serve twice with one key. Callers draw it (digest_random) or make it of numbers
// that do not repeat; each says which.
//
// The flavour `bare` (make FLAVOUR=bare), which only tests build, leaves bytes as they are and writes
// zeros for the tag: it shows that what a scan does not find would be found.
//
// Threads   Any, after digest_start.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { SEAL_KEY_BYTES = 32, SEAL_NONCE_BYTES = 24, SEAL_TAG_BYTES = 16 };

// Writes plain.bytes + SEAL_TAG_BYTES bytes to sealed_out, which must not overlap plain.
void seal_put(const uint8_t key[static SEAL_KEY_BYTES],
              const uint8_t nonce[static SEAL_NONCE_BYTES], struct span bound, struct span plain,
              uint8_t *sealed_out);

// Writes sealed.bytes - SEAL_TAG_BYTES bytes. False: too short, another key, or bytes that were
// changed; plain_out then holds nothing of use.
bool seal_get(const uint8_t key[static SEAL_KEY_BYTES],
              const uint8_t nonce[static SEAL_NONCE_BYTES], struct span bound, struct span sealed,
              uint8_t *plain_out);

// Zeroed memory for keys: locked where the system allows it, left out of core files, between guard
// pages. NULL: the system has none. Freeing wipes it and accepts NULL.
void *seal_room(size_t bytes);
void seal_room_free(void *room);
