// tests/e2e/zmtpcurve.h: CurveZMQ (RFC 26, as ZMTP 3.1 carries it: RFC 25) of a client, without ZeroMQ.
//
// By it a peer that holds a valid key can break the rules that ZeroMQ would keep for it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/curvekey.h"

struct zmtpcurve {
    uint8_t shared[32]; // Of the connection's own keys: with it messages are sealed.
    uint64_t nonce;     // Of the next message.
};

// What the greeting says of the mechanism.
#define ZMTPCURVE_NAME "CURVE"
// Beside a message's bytes: its header, the name of its command, nonce, MAC, flags.
enum { ZMTPCURVE_FRAMING = 9 + 33 };

// The handshake, after the greetings. False: the other side has cut the connection, or is not who it should be.
bool zmtpcurve_shake(int fd, const struct curvekey *own,
                     const uint8_t server[static CURVEKEY_BYTES], const uint8_t *metadata,
                     size_t metadata_bytes, struct zmtpcurve *out);

// A frame of a message at `at`, with room for ZMTPCURVE_FRAMING more. How long it is.
size_t zmtpcurve_frame(struct zmtpcurve *curve, uint8_t *at, bool more, const uint8_t *bytes,
                       size_t count);
