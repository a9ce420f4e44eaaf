// tests/fuzz/fuzz_to_worker.c: what the coordinator says to a worker; see envelope.h.
#include "proto/wire.h"
#include "tests/fuzz/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_arena arena;
    const Unlearn__ToWorker *message = NULL;
    const enum err err = wire_get_to_worker(&arena, span_of(data, size), &message);
    envelope_check(&arena, span_of(data, size), err, (const ProtobufCMessage *)message);
    return 0;
}
