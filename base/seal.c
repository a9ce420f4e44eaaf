// base/seal.c: see seal.h. sodium.h is included here, in curvekey.c, in digest.c and in sign.c alone.
#include "base/seal.h"

#include <sodium.h>
#include <string.h>

#include "base/check.h"

_Static_assert((int)SEAL_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES &&
                   (int)SEAL_NONCE_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES &&
                   (int)SEAL_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES,
               "XChaCha20-Poly1305");

#ifdef UNLEARN_BARE

void seal_put(const uint8_t key[static SEAL_KEY_BYTES],
              const uint8_t nonce[static SEAL_NONCE_BYTES], struct span bound, struct span plain,
              uint8_t *sealed_out)
{
    (void)key;
    (void)nonce;
    (void)bound;
    if (plain.bytes > 0) {
        memcpy(sealed_out, plain.data, plain.bytes);
    }
    memset(sealed_out + plain.bytes, 0, SEAL_TAG_BYTES);
}

bool seal_get(const uint8_t key[static SEAL_KEY_BYTES],
              const uint8_t nonce[static SEAL_NONCE_BYTES], struct span bound, struct span sealed,
              uint8_t *plain_out)
{
    (void)key;
    (void)nonce;
    (void)bound;
    if (sealed.bytes > SEAL_TAG_BYTES) {
        memcpy(plain_out, sealed.data, sealed.bytes - SEAL_TAG_BYTES);
    }
    return sealed.bytes >= SEAL_TAG_BYTES;
}

#else

void seal_put(const uint8_t key[static SEAL_KEY_BYTES],
              const uint8_t nonce[static SEAL_NONCE_BYTES], struct span bound, struct span plain,
              uint8_t *sealed_out)
{
    unsigned long long bytes = 0;
    CHECK(crypto_aead_xchacha20poly1305_ietf_encrypt(sealed_out, &bytes, plain.data, plain.bytes,
                                                     bound.data, bound.bytes, NULL, nonce,
                                                     key) == 0 &&
          bytes == plain.bytes + SEAL_TAG_BYTES);
}

bool seal_get(const uint8_t key[static SEAL_KEY_BYTES],
              const uint8_t nonce[static SEAL_NONCE_BYTES], struct span bound, struct span sealed,
              uint8_t *plain_out)
{
    return sealed.bytes >= SEAL_TAG_BYTES && crypto_aead_xchacha20poly1305_ietf_decrypt(
                                                 plain_out, NULL, NULL, sealed.data, sealed.bytes,
                                                 bound.data, bound.bytes, nonce, key) == 0;
}

#endif

void *seal_room(size_t bytes)
{
    void *const room = sodium_malloc(bytes); // Locks as far as RLIMIT_MEMLOCK goes.
    if (room != NULL) {
        memset(room, 0, bytes);
    }
    return room;
}

void seal_room_free(void *room)
{
    sodium_free(room);
}
