// tests/fuzz/fuzz_huggingface.c: a directory of Hugging Face's: config.json, preprocessor_config.json,
// vocab.json, model.safetensors.index.json, model.safetensors; an empty part is no such file.
#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "client/huggingface.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = span_of(data, size);
    fuzz_put("config.json", fuzz_part(&rest));
    fuzz_put("preprocessor_config.json", fuzz_part(&rest));
    fuzz_put("vocab.json", fuzz_part(&rest));
    fuzz_put("model.safetensors.index.json", fuzz_part(&rest));
    fuzz_put("model.safetensors", rest);
    struct base_shape shape;
    float *weights = NULL;
    if (huggingface_read(fuzz_dir(), &shape, &weights) != OK) {
        CHECK(weights == NULL);
        return 0;
    }
    CHECK(base_shape_check(&shape) == OK);
    for (uint64_t i = 0; i < base_at(&shape).count; i++) {
        CHECK(isfinite(weights[i]));
    }
    mem_free(weights);
    return 0;
}
