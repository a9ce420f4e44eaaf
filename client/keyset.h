// client/keyset.h: the key files of a cluster on this machine, by which its programs know each other.
//
//   DIR/keys/server.key       the coordinator's pair          DIR.client/server.pub  its public half
//   DIR/keys/worker.key       the workers' pair
//   DIR.client/admin.key      the first client's pair         DIR/keys/admin.pub     its public half
//
// Threads   One.
#pragma once

#include <stdbool.h>

#include "base/err.h"

// Makes all of them, in directories that are there and hold none. On error none is left.
// ERR_CONFLICT: one is there already. ERR_IO: the kernel refused.
MUST_USE enum err keyset_create(const char *dir);
void keyset_remove(const char *dir); // All of them.

// Which files were made.
struct keyset_made {
    bool server, server_public, worker, admin, admin_public;
};
// Makes what is missing: a cluster of an earlier version has none. Where the admin's public half is there,
// its pair is left to whoever has it. ERR_CORRUPT, ERR_DENIED: of a file that is there (base/curvekey.h).
MUST_USE enum err keyset_complete(const char *dir, struct keyset_made *made_out);

// Puts a new pair in the server's place. Nobody may be connected: the caller has seen that no coordinator
// runs. A crash leaves one that does not start, and says why; the same again helps.
MUST_USE enum err keyset_rotate_server(const char *dir);
