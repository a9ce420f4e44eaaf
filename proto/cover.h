// proto/cover.h: the chunks of a lease's streams, sealed: records, parents, bases, results.
//
// Sockets, ZeroMQ and the kernel keep what passed through them for as long as they like. So a chunk is
// sealed under a key that lives as long as its lease, and no buffer on the way ever holds a record. The
// key itself travels in the lease: against who can read the wire CURVE is needed, not this.
//
// A chunk is sealed once under its number: (stream, member, sequence) is the nonce. Bound to it is the
// lease. It is SEAL_TAG_BYTES longer than what it holds.
//
// Threads   Any.
#pragma once

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/seal.h"

enum { COVER_RESULT = 255 }; // Stream of the weights that come back; the others are StreamKind.

struct cover {
    uint64_t lease;
    uint32_t stream;   // StreamKind, or COVER_RESULT.
    uint32_t member;   // Of the lease: 0 where one worker trains alone.
    uint32_t sequence; // Of the chunk.
};

// Replaces the bytes of *sealed_out. An empty chunk has a tag, too.
void cover_put(const uint8_t key[static SEAL_KEY_BYTES], const struct cover *cover,
               struct span plain, struct buf *sealed_out);
// Writes sealed.bytes - SEAL_TAG_BYTES bytes. ERR_CORRUPT: it does not open.
MUST_USE enum err cover_get(const uint8_t key[static SEAL_KEY_BYTES], const struct cover *cover,
                            struct span sealed, uint8_t *plain_out);
