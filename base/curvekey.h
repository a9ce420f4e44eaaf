// base/curvekey.h: X25519 key pairs, by which programs know each other over the network (CurveZMQ), and
// their files.
//
//   unlearnd-key-1
//   public <64 hex digits>
//   secret <64 hex digits>
//
// A public file has no third line. A file with a secret is refused where anybody else could read it.
//
// Lifetime  Whoever holds a secret wipes it: curvekey_wipe.
// Threads   Any, after digest_start.
#pragma once

#include <stdint.h>

#include "base/err.h"

enum { CURVEKEY_BYTES = 32, CURVEKEY_HEX_BYTES = 2 * CURVEKEY_BYTES + 1 };

struct curvekey {
    uint8_t public[CURVEKEY_BYTES];
    uint8_t secret[CURVEKEY_BYTES];
};

void curvekey_make(struct curvekey *key_out); // Draws a new pair.
void curvekey_wipe(struct curvekey *key);

// Both make their file anew: the pair with mode 0600, the public half with 0644.
//   ERR_CONFLICT  there is one already.   ERR_IO  the kernel refused; nothing is left.
MUST_USE enum err curvekey_write(const char *path, const struct curvekey *key);
MUST_USE enum err curvekey_write_public(const char *path, const uint8_t key[static CURVEKEY_BYTES]);

//   ERR_NOT_FOUND  no such file.
//   ERR_DENIED     base/keyfile.h: a symbolic link, another's, or one that others may read.
//   ERR_CORRUPT    not a key file of ours, no secret half in it, or one of another public half.
//   ERR_IO         the kernel refused.
MUST_USE enum err curvekey_read(const char *path, struct curvekey *key_out);
// The public half of either file. One with a secret must be as safe as for curvekey_read.
MUST_USE enum err curvekey_read_public(const char *path, uint8_t key_out[static CURVEKEY_BYTES]);
