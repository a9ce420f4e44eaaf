// client/safetensors.h: safetensors files: named arrays of numbers, and nothing that could be run.
//
// The reader believes nothing: the header's length, every name, shape, type and offset are checked
// against each other and against the file's size before one number is read, so that a file which opens
// is whole and its tensors fill it without overlap or gap. Numbers are then read on demand. The writer
// gives the bytes that the reference library gives for the same float32 tensors.
//
// Lifetime  safetensors_open to safetensors_close; what it lends lives as long.
// Threads   One per open file.
// Source    github.com/huggingface/safetensors, README "Format" and safetensors/src/tensor.rs: header
//           length (u64 LE), header (JSON, padded with spaces), data.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { SAFETENSORS_DIMENSIONS_MAX = 8, SAFETENSORS_SHAPE_BYTES = 200 };

struct safetensors; // An open file.

struct safetensors_tensor {
    const char *name; // Clean UTF-8, 1 to LIMIT_NAME_BYTES bytes.
    const char *type; // As the file says: "F32", "BF16", "I64", ...
    uint32_t dimensions;
    uint64_t shape[SAFETENSORS_DIMENSIONS_MAX];
    uint64_t count;       // Product of the shape; 1 without dimensions.
    uint64_t from, bytes; // In the data, which begins after the header.
};

// Opens the file and checks all of its header. On error there is nothing to close; the sentence names
// the file, and the tensor where it is about one.
//   ERR_NOT_FOUND  no such file.
//   ERR_INVALID    not a safetensors file, or one that contradicts itself.
//   ERR_LIMIT      a header above LIMIT_SAFETENSORS_HEADER_BYTES.   ERR_IO  the kernel refused.
MUST_USE enum err safetensors_open(const char *path, struct safetensors **file_out);
void safetensors_close(struct safetensors *file); // Accepts NULL.

const char *safetensors_path(const struct safetensors *file);
// Tensors in the order of their data.
size_t safetensors_count(const struct safetensors *file);
const struct safetensors_tensor *safetensors_at(const struct safetensors *file, size_t index);
// NULL: no tensor of that name.
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);
// The text of a key of the header's __metadata__; NULL: there is none.
const char *safetensors_note(const struct safetensors *file, const char *key);

// Reads values `first` .. `first + count - 1` of a tensor of this file, in the order of its data (the
// last dimension runs fastest). F16 and BF16 become the float32 of the same value.
//   values_out   float32[count]; unspecified on error.
//   ERR_INVALID  a type other than F32, F16, BF16, or a value that is infinite or no number.
//   ERR_CORRUPT  the file became shorter.   ERR_IO  the kernel refused.
MUST_USE enum err safetensors_read(const struct safetensors *file,
                                   const struct safetensors_tensor *tensor, uint64_t first,
                                   uint64_t count, float *values_out);

// "[768, 3, 16, 16]", for messages; shortened where it does not fit.
void safetensors_shape_text(uint32_t dimensions, const uint64_t *shape,
                            char out[static SAFETENSORS_SHAPE_BYTES]);

// --- Writing ---

struct safetensors_part {
    const char *name;
    uint32_t dimensions;
    uint64_t shape[SAFETENSORS_DIMENSIONS_MAX];
    const float *values; // Borrowed.
};
struct safetensors_text {
    const char *key, *text;
};

// Writes the parts as F32, in the order of their names (bytewise), and the texts as __metadata__ in the
// order given, so that the same input always gives the same bytes. The file appears whole (see
// files_write), or what was there stays. Names must differ.
//   ERR_INVALID  a value that is infinite or no number: it could not be read back.
//   ERR_IO       the kernel refused.
MUST_USE enum err safetensors_write(const char *path, const struct safetensors_part *parts,
                                    size_t part_count, const struct safetensors_text *texts,
                                    size_t text_count);
