// tests/fuzz/fuzz_csv.c: CSV, plain or gzip; see readers.h.
#include "tests/fuzz/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_reader("csv", data, size);
    return 0;
}
