// tests/fuzz/fuzz_jsonl.c: JSON Lines; see readers.h.
#include "tests/fuzz/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_reader("jsonl", data, size);
    return 0;
}
