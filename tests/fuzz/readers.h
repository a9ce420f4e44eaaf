// tests/fuzz/readers.h: data files of one format, through reader, proposal and encoder.
//
// The first byte of the input chooses what the command line would say; the rest is up to two data files
// (features and labels), then a file of subjects or risk classes.
#pragma once

#include "tests/fuzz/fuzz.h"

void fuzz_reader(const char *format, const uint8_t *data, size_t size);
