// tests/fuzz/fuzz_reply.c: what the coordinator answers a client; see envelope.h.
#include "proto/wire.h"
#include "tests/fuzz/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_arena arena;
    const Unlearn__Reply *message = NULL;
    const enum err err = wire_get_reply(&arena, span_of(data, size), &message);
    envelope_check(&arena, span_of(data, size), err, (const ProtobufCMessage *)message);
    return 0;
}
