// tests/fuzz/fuzz_libsvm.c: LIBSVM's sparse lines; see readers.h.
#include "tests/fuzz/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_reader("libsvm", data, size);
    return 0;
}
