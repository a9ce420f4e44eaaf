// proto/wire.h: envelopes to bytes and back, distrusting the bytes.
//
// Unpacking spends a fixed budget of memory, refuses what is not in canonical form (a field twice, a
// default written out, a string with a NUL inside: whatever packs again to another length; the order
// of fields is free), and then checks every string, number and enum of the message against the rules
// at the head of unlearn.proto by walking its descriptor, and that no field of it is unknown. What it
// returns is safe to read; whether it makes sense is for the caller.
//
// Lifetime  An unpacked message lives in the arena until the arena's next use or wire_arena_deinit.
// Threads   One arena per thread.
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "proto/unlearn.pb-c.h"

enum { WIRE_VERSION = 1, WIRE_MESSAGE_BYTES_MAX = 1023 };

// Memory for unpacked messages: LIMIT_UNPACK_BYTES, taken back at each use. {0} is ready.
struct wire_arena {
    uint8_t *data;
    size_t used;
};
void wire_arena_deinit(struct wire_arena *arena);
// Wipes what was unpacked last, ids and subjects among it: when the message has been dealt with.
void wire_arena_clear(struct wire_arena *arena);

// Each takes the envelope of its kind out of `frame`. The message is borrowed from the arena.
//   ERR_INVALID  not such an envelope: too long, not canonical, no body, another version, a rule
//                broken; the message names the field. *out is NULL, or what could be unpacked: only
//                its request_id may be looked at, for the answer.
MUST_USE enum err wire_get_request(struct wire_arena *arena, struct span frame,
                                   const Unlearn__Request **out);
MUST_USE enum err wire_get_reply(struct wire_arena *arena, struct span frame,
                                 const Unlearn__Reply **out);
MUST_USE enum err wire_get_from_worker(struct wire_arena *arena, struct span frame,
                                       const Unlearn__FromWorker **out);
MUST_USE enum err wire_get_to_worker(struct wire_arena *arena, struct span frame,
                                     const Unlearn__ToWorker **out);

// Replaces the bytes of *frame_out by the packed message. The caller has kept it within
// LIMIT_CONTROL_BYTES (checked).
void wire_put(const ProtobufCMessage *message, struct buf *frame_out);

// Statuses and errors. ERR_CORRUPT, ERR_INCOMPATIBLE, ERR_IO and ERR_CANCELLED are INTERNAL.
Unlearn__Status wire_status(enum err err);
enum err wire_err(Unlearn__Status status);

// A span as a protobuf bytes field: borrowed.
static inline ProtobufCBinaryData wire_bytes(struct span span)
{
    // protobuf-c's struct has no const; packing does not write.
    return (ProtobufCBinaryData){span.bytes, (uint8_t *)(uintptr_t)span.data};
}
static inline struct span wire_span(ProtobufCBinaryData bytes)
{
    return span_of(bytes.data, bytes.len);
}
// The same for a text that is only read.
static inline char *wire_text(const char *text)
{
    return (char *)(uintptr_t)text;
}
// Copies a bytes field of exactly `bytes` bytes. ERR_INVALID: another length; `what` names it.
MUST_USE enum err wire_copy(ProtobufCBinaryData field, void *out, size_t bytes, const char *what);
