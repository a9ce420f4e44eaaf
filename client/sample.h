// client/sample.h: the built-in sample data: digits drawn in many handwritings.
//
// For trying the service where no other data is at hand. Each digit is a few strokes; each writer has
// a slant, a width, a size, a pen and a shake of their own, and each drawing differs a little again.
// A writer is a subject. What is drawn is a function of the seed alone.
//
// Threads   Any.
#pragma once

#include <stdint.h>

#include "base/err.h"

enum {
    SAMPLE_SIDE = 28,
    SAMPLE_DIGITS = 10,
    SAMPLE_WRITERS = 40,       // By default.
    SAMPLE_WRITERS_MAX = 4096, // 204,800 images, 160 MB, which are drawn in memory.
    SAMPLE_TRAIN = 5,          // Drawings of each digit by each writer.
    SAMPLE_TEST = 1,
};

struct sample_counts {
    uint64_t writers;
    uint64_t train_records, test_records;
};

// Draws one digit as grey values, 0 is paper. Instances differ; the test set's are the last ones.
void sample_draw(uint64_t seed, uint32_t writer, uint32_t digit, uint32_t instance,
                 uint8_t pixels_out[static SAMPLE_SIDE * SAMPLE_SIDE]);

// Writes train-images-idx3-ubyte, train-labels-idx1-ubyte, train-subjects.txt and the same with
// test- into `dir`, which is made where it is missing. Files of these names are replaced. Records
// stand by instance, then writer, then digit; subjects are writer-000, writer-001, ...
//   ERR_INVALID   writers is not 1 to SAMPLE_WRITERS_MAX.
//   ERR_CONFLICT  `dir` holds anything else, or is no directory: nothing was written.
//   ERR_IO        the kernel refused; what was written stays.
MUST_USE enum err sample_write(const char *dir, uint32_t writers, uint64_t seed,
                               struct sample_counts *counts_out);
