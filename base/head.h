// base/head.h: signed tree heads: what a whole tree of receipts stands or falls with.
//
// 120 bytes: size u64 | root [32] | time i64, microseconds since 1970 UTC | key id [8] |
// signature [64] over the 56 bytes before it. docs/format.md, "Receipts", has a vector.
//
// Lifetime  Plain value. Threads  Any.
#pragma once

#include "base/digest.h"
#include "base/sign.h"

enum { HEAD_BYTES = 120 };

// Which tree: the signature's domain.
enum head_kind {
    HEAD_LOG,   // The receipt log: only ever grows.
    HEAD_BATCH, // The accepted receipts of one commit.
};

struct head {
    uint64_t size; // Leaves.
    struct digest root;
    int64_t time_us;
    struct sign_id key;
    struct signature signature;
};

// Sets key and signature; size, root and time are given.
void head_sign(struct head *head, enum head_kind kind, const struct signer *signer);

// ERR_CORRUPT: another key's, or the signature does not verify; the message says which.
MUST_USE enum err head_check(const struct head *head, enum head_kind kind,
                             const struct sign_public *key);

void head_put(const struct head *head, uint8_t out[static HEAD_BYTES]);
void head_get(const uint8_t in[static HEAD_BYTES], struct head *head_out);
// ERR_CORRUPT: not of 120 bytes.
MUST_USE enum err head_of(struct span bytes, struct head *head_out);
