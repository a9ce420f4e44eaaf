// proto/address.h: the line by which a coordinator says where it is, in DIR.client/address and
// DIR/run/workers:
//
//   tcp://HOST:PORT             who connects proves who it is (link.h)
//   tcp://HOST:PORT insecure    without keys: for this machine alone
//
// Threads   Any.
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "proto/link.h"

struct address {
    char endpoint[LINK_ENDPOINT_BYTES];
    bool insecure;
};

enum { ADDRESS_LINE_BYTES = LINK_ENDPOINT_BYTES + sizeof " insecure\n" };

// Reads one line, with or without its end. ERR_INVALID: it is not one of the two.
MUST_USE enum err address_get(const char *text, struct address *address_out);
// Without a line end.
void address_put(const struct address *address, char out[static ADDRESS_LINE_BYTES]);

// Whether nobody can listen or connect there but this machine: tcp://127.x.x.x:PORT, in digits: a name
// may come to mean another.
bool address_is_loopback(const char *endpoint);
// ERR_INVALID: it is not loopback; `what` names the endpoint.
MUST_USE enum err address_check_loopback(const char *what, const char *endpoint);
