// proto/cover.c: see cover.h.
//
//   nonce   stream u32 | member u32 | sequence u32 | zeros [12]        bound   lease u64
#include "proto/cover.h"

#include <string.h>

static void nonce_of(const struct cover *cover, uint8_t out[static SEAL_NONCE_BYTES])
{
    memset(out, 0, SEAL_NONCE_BYTES);
    memcpy(out, &cover->stream, 4);
    memcpy(out + 4, &cover->member, 4);
    memcpy(out + 8, &cover->sequence, 4);
}

void cover_put(const uint8_t key[static SEAL_KEY_BYTES], const struct cover *cover,
               struct span plain, struct buf *sealed_out)
{
    uint8_t nonce[SEAL_NONCE_BYTES];
    nonce_of(cover, nonce);
    buf_clear(sealed_out);
    seal_put(key, nonce, span_of(&cover->lease, sizeof cover->lease), plain,
             buf_room(sealed_out, plain.bytes + SEAL_TAG_BYTES));
}

enum err cover_get(const uint8_t key[static SEAL_KEY_BYTES], const struct cover *cover,
                   struct span sealed, uint8_t *plain_out)
{
    uint8_t nonce[SEAL_NONCE_BYTES];
    nonce_of(cover, nonce);
    if (!seal_get(key, nonce, span_of(&cover->lease, sizeof cover->lease), sealed, plain_out)) {
        FAIL(ERR_CORRUPT, "chunk %u of stream %u of lease %llu does not open with the lease's key",
             cover->sequence, cover->stream, (unsigned long long)cover->lease);
    }
    return OK;
}
