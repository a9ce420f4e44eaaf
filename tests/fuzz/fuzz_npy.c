// tests/fuzz/fuzz_npy.c: NumPy's arrays; see readers.h.
#include "tests/fuzz/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_reader("npy", data, size);
    return 0;
}
