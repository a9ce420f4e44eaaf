// shard_worker/peerkeys.h: the keys of workers and fleets, as their command lines name them.
//
// Threads   Any.
#pragma once

#include <argp.h>
#include <stdbool.h>

#include "base/err.h"
#include "proto/link.h"

struct peerkeys {
    const char *own;    // --key: file of the workers' pair.
    const char *server; // --server-key: file of the coordinator's public key.
    bool insecure;      // --insecure-loopback
};

// Their options, for the children of a program's parser; its input is the struct peerkeys, which the program
// hands over at ARGP_KEY_INIT.
extern const struct argp peerkeys_argp;

// The two files, or --insecure-loopback, and not both. ERR_INVALID says what is missing.
MUST_USE enum err peerkeys_check(const struct peerkeys *keys);
// Reads the files, which the caller wipes. Not where they are insecure. Errors: base/curvekey.h.
MUST_USE enum err peerkeys_read(const struct peerkeys *keys, struct link_security *security_out);
