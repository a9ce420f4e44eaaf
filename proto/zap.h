// proto/zap.h: who may come in: the ZAP handler (ZeroMQ RFC 27) that links with keys ask.
//
// A thread answers for each handshake whether the peer's public key is in the set of the link's domain.
// The key, as hex, becomes the peer's User-Id, by which link.h tells who sent a message. The set is looked
// at when a peer connects: one that was taken out of it stays connected, so whoever serves it has to look
// at its key with every message.
//
// Whatever is not a well-formed request for CURVE in a known domain by a key in its set is refused. Where
// there is no handler, or it has ended, nobody comes in: links enforce their domain.
//
// Lifetime  zap_open to zap_close, inside the life of the context; opened before any link is bound.
// Threads   zap_open and zap_close: the same one. The rest: any.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/curvekey.h"
#include "base/err.h"
#include "proto/link.h"

enum {
    ZAP_DOMAINS = 4,       // clients, workers, the self-test, and one to spare.
    ZAP_NAME_BYTES = 16,   // Of a domain, with its end.
    ZAP_FRAMES = 7,        // Of a request for CURVE.
    ZAP_FRAME_BYTES = 255, // Of each of them at most (RFC 27).
};

struct zap;

// Starts the thread; it answers when this returns. ERR_IO: ZeroMQ refused, most often because the context
// has a handler already.
MUST_USE enum err zap_open(struct link_context *context, struct zap **zap_out);
void zap_close(struct zap *zap); // Accepts NULL.

// From now on these keys and no others may connect in the domain. Replaces the set as one.
void zap_allow(struct zap *zap, const char *domain, const uint8_t (*keys)[CURVEKEY_BYTES],
               size_t count);

// Requests answered so far.
struct zap_counts {
    uint64_t allowed, refused;
};
struct zap_counts zap_counts(struct zap *zap);

// Shows with a ROUTER of its own on loopback that the handler is asked and heeded: a key that is allowed
// comes in, one that is not does not, nor does a peer without a key. Some 10 ms.
// ERR_IO: it is not so, and nothing may be served; or ZeroMQ refused.
MUST_USE enum err zap_self_test(struct link_context *context, struct zap *zap);

// --- The decision, apart from the thread

struct zap_domain {
    char name[ZAP_NAME_BYTES];       // "": not in use.
    uint8_t (*keys)[CURVEKEY_BYTES]; // In order.
    size_t count;
};
struct zap_answer {
    const char *status; // "200" or "400".
    const char *why;
    char user[CURVEKEY_HEX_BYTES]; // "" unless 200.
};
// frames: version, request id, domain, address, routing id, mechanism, credentials.
struct zap_answer zap_decide(const struct zap_domain domains[static ZAP_DOMAINS],
                             const struct span *frames, size_t frame_count);
