// tests/fuzz/fuzz_peft.c: a directory of adapters: adapter_config.json, adapter_model.safetensors,
// head.safetensors, for a vit or (first byte 1) a text of twelve layers.
#include <math.h>

#include "base/check.h"
#include "client/peft.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct base_shape shapes[2] = {
        {.kind = BASE_VIT,
         .gelu = BASE_GELU_ERF,
         .layers = 12,
         .width = 4,
         .heads = 2,
         .inner = 6,
         .epsilon = 1e-5,
         .rows = 4,
         .cols = 4,
         .channels = 1,
         .patch = 2,
         .mean = {0.5F},
         .deviation = {0.5F}},
        {.kind = BASE_TEXT,
         .gelu = BASE_GELU_TANH,
         .layers = 12,
         .width = 4,
         .heads = 2,
         .inner = 6,
         .epsilon = 1e-5,
         .context = 16},
    };
    if (size == 0) {
        return 0;
    }
    struct span rest = span_of(data + 1, size - 1);
    fuzz_put("adapter_config.json", fuzz_part(&rest));
    fuzz_put("adapter_model.safetensors", fuzz_part(&rest));
    fuzz_put("head.safetensors", rest);
    struct peft peft;
    if (peft_read(fuzz_dir(), &shapes[data[0] & 1], &peft) != OK) {
        return 0;
    }
    CHECK(peft.head_rows > 0 && isfinite(peft.head_weight[0]));
    peft_deinit(&peft);
    return 0;
}
