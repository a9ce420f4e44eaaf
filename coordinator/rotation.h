// coordinator/rotation.h: a new signing key in the place of the old one.
//
// The receipt log goes on: its head is signed anew by the new key, in one commit. The old public key stays as
// DIR.client/receipt-N.pub, by which receipts that were signed before are checked, and heads that clients have
// seen. The old secret is overwritten. A crash at any point is put right by doing it again, which the next start
// does by itself.
//
// Threads   Before the store thread is there.
#pragma once

#include <stdint.h>

#include "base/err.h"

// ERR_*: of the store, and of key files (base/sign.h). The old key is in force, or it is done at the next start.
MUST_USE enum err rotation_signing(const char *dir, uint64_t map_bytes);
// Finishes what an earlier process began; else does nothing.
MUST_USE enum err rotation_signing_resume(const char *dir, uint64_t map_bytes);
