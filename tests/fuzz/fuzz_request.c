// tests/fuzz/fuzz_request.c: what a client says to the coordinator; see envelope.h.
#include "proto/wire.h"
#include "tests/fuzz/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_arena arena;
    const Unlearn__Request *message = NULL;
    const enum err err = wire_get_request(&arena, span_of(data, size), &message);
    envelope_check(&arena, span_of(data, size), err, (const ProtobufCMessage *)message);
    return 0;
}
