// tests/fuzz/fuzz_safetensors.c: a safetensors file: whatever opens is whole, and can be read.
#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *file;
    if (safetensors_open(fuzz_file(0, span_of(data, size)), &file) != OK) {
        return 0;
    }
    uint64_t end = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_tensor *const tensor = safetensors_at(file, i);
        CHECK(tensor->from == end); // Neither overlap nor gap.
        end += tensor->bytes;
        CHECK(end <= size && tensor->dimensions <= SAFETENSORS_DIMENSIONS_MAX);
        CHECK(tensor->count <= tensor->bytes || tensor->count == 0);
        CHECK(text_check_name("tensor", span_text(tensor->name)) == OK);
        CHECK(safetensors_find(file, tensor->name) == tensor);
        char shape[SAFETENSORS_SHAPE_BYTES];
        safetensors_shape_text(tensor->dimensions, tensor->shape, shape);
        float *const values = mem_alloc((size_t)tensor->count, sizeof *values);
        if (safetensors_read(file, tensor, 0, tensor->count, values) == OK && tensor->count > 1) {
            CHECK(safetensors_read(file, tensor, tensor->count - 1, 1, values) == OK);
        }
        mem_free(values);
    }
    CHECK(safetensors_find(file, "") == NULL);
    (void)safetensors_note(file, "format");
    safetensors_close(file);
    return 0;
}
