// tests/fuzz/fuzz_spec.c: specs: YAML as people write it, and the canonical text, which is the only one of a spec.
#include "base/check.h"
#include "client/specfile.h"
#include "tests/fuzz/fuzz.h"

static void round_trip(const struct spec *spec)
{
    struct buf text = {0}, again = {0};
    struct spec read;
    spec_put(spec, &text);
    CHECK(text.bytes <= LIMIT_SPEC_BYTES);
    CHECK(spec_get(buf_span(&text), &read) == OK);
    spec_put(&read, &again);
    CHECK(span_equal(buf_span(&text), buf_span(&again)));
    buf_deinit(&text);
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = span_of(data, size);
    const struct span yaml = fuzz_part(&rest);
    struct spec spec = spec_default();
    if (yaml.bytes <= LIMIT_SPEC_BYTES && specfile_get("input", yaml, &spec) == OK &&
        spec_check(&spec) == OK) {
        round_trip(&spec);
    }
    if (spec_get(rest, &spec) == OK) {
        struct buf text = {0};
        spec_put(&spec, &text);
        CHECK(span_equal(buf_span(&text), rest));
        buf_deinit(&text);
    }
    return 0;
}
