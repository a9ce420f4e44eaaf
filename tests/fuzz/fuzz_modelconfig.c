// tests/fuzz/fuzz_modelconfig.c: config.json, preprocessor_config.json and vocab.json alone: what is taken is
// a shape that we compute, and its canonical text comes back.
#include "base/check.h"
#include "client/modelconfig.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct modelconfig config;
    struct span rest = span_of(data, size);
    fuzz_put("config.json", fuzz_part(&rest));
    fuzz_put("preprocessor_config.json", fuzz_part(&rest));
    fuzz_put("vocab.json", rest);
    if (modelconfig_read(fuzz_dir(), &config) != OK) {
        return 0;
    }
    CHECK(base_shape_check(&config.shape) == OK);
    for (unsigned i = 0; config.shape.kind == BASE_TEXT && i < BASE_TOKENS; i++) {
        CHECK(config.tokens[i] < config.vocabulary);
    }
    struct buf text = {0}, again = {0};
    struct base_shape shape;
    base_shape_put(&config.shape, &text);
    CHECK(base_shape_get(buf_span(&text), &shape) == OK);
    base_shape_put(&shape, &again);
    CHECK(span_equal(buf_span(&text), buf_span(&again)));
    buf_deinit(&text);
    buf_deinit(&again);
    return 0;
}
