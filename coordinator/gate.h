// coordinator/gate.h: the two sockets, and who may connect to them.
//
// Threads   The main loop.
#pragma once

#include "coordinator/core.h"
#include "proto/address.h"

// What the ZAP handler knows the peers of each socket by.
#define GATE_CLIENTS "clients"
#define GATE_WORKERS "workers"

// Opens core->clients and core->workers_link where config says, and tells where they are. With keys: the
// handler runs first and has been seen to refuse; who may connect is gate_allow's. core->insecure: without
// any. After access_open.
//   ERR_DENIED   a key file is missing, or others may read it.
//   ERR_CORRUPT  one is damaged, or DIR.client/server.pub is not the server's.
//   ERR_INVALID  insecure, and an address is not of this machine alone.
//   ERR_IO       an address is taken; the test of the handler failed.
MUST_USE enum err gate_open(struct core *core, struct address *clients_out,
                            struct address *workers_out);
void gate_close(struct core *core);

// The keys of access.h that are not revoked may connect: those of workers to the workers' socket, the others
// to the clients'. After each change of them; before gate_open nothing happens.
void gate_allow(struct core *core);
