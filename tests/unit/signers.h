// tests/unit/signers.h: signing keys for a test, made in its scratch directory.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/sign.h"
#include "tests/unit/scratch.h"

// Draws a key of its own for each name. Ends the program where it cannot: sign_close is the test's.
static inline struct signer *signers_open(const char *dir, const char *name)
{
    char secret[SCRATCH_BYTES + 64], public[SCRATCH_BYTES + 64];
    struct signer *signer = NULL;
    snprintf(secret, sizeof secret, "%s/%.32s.key", dir, name);
    snprintf(public, sizeof public, "%s/%.32s.pub", dir, name);
    if (sign_create(secret, public) != OK || sign_open(secret, &signer) != OK) {
        fprintf(stderr, "no signing key: %s\n", err_text());
        abort();
    }
    return signer;
}
