// base/sign.h: Ed25519 signatures (RFC 8032): who said that, checkable without asking anybody.
//
// Each use has a domain of its own: its name, at most 16 bytes, stands padded with zeros before the
// message that is signed, so that a signature made for one purpose is never one for another.
//
// A key is named by the first 8 bytes of BLAKE2b-256, domain "unlearnd-key", of its public half.
// The secret half lies in one file of mode 0600 and, while a signer is open, in locked memory.
//
// Lifetime  sign_open to sign_close. A signer is constant: any thread may sign with it.
// Threads   Any, after digest_start.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    SIGN_PUBLIC_BYTES = 32,
    SIGN_BYTES = 64,
    SIGN_ID_BYTES = 8,
    SIGN_ID_HEX_BYTES = 2 * SIGN_ID_BYTES + 1
};

struct sign_public {
    uint8_t bytes[SIGN_PUBLIC_BYTES];
};
struct sign_id {
    uint8_t bytes[SIGN_ID_BYTES];
};
struct signature {
    uint8_t bytes[SIGN_BYTES];
};

struct signer;

// Draws a key pair and writes it: the secret half to `secret_path` (0600), the public half to
// `public_path` as text (0644). Both are made anew.
//   ERR_CONFLICT  one of them is there already.   ERR_IO  the kernel refused.
// On error neither file is left that was not there before.
MUST_USE enum err sign_create(const char *secret_path, const char *public_path);

//   ERR_NOT_FOUND  no such file.
//   ERR_DENIED     it is no plain file, another user's, or one that others may read (keyfile.h).
//   ERR_CORRUPT    it is not a key of ours, or its two halves do not belong together.
//   ERR_IO         the kernel refused.
MUST_USE enum err sign_open(const char *secret_path, struct signer **signer_out);
void sign_close(struct signer *signer); // Accepts NULL. Wipes the secret.

const struct sign_public *sign_public_of(const struct signer *signer); // Borrowed.
struct sign_id sign_id_of(const struct sign_public *key);

// Reads a public key: a file as sign_create wrote it, or 64 hex digits.
//   ERR_NOT_FOUND  no such file (and no hex).
//   ERR_INVALID    neither a public key nor a file with one, or its key id is another's.
MUST_USE enum err sign_public_read(const char *file_or_hex, struct sign_public *key_out);

struct signature sign_message(const struct signer *signer, const char *domain, struct span message);
bool sign_check(const struct sign_public *key, const char *domain, struct span message,
                const struct signature *signature);
