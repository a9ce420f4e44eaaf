// tests/fuzz/fuzz_idx.c: IDX (MNIST's files), plain or gzip; see readers.h.
#include "tests/fuzz/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_reader("idx", data, size);
    return 0;
}
