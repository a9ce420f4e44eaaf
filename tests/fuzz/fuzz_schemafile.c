// tests/fuzz/fuzz_schemafile.c: a schema as JSON text.
#include "base/check.h"
#include "client/schemafile.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct schema schema, again;
    if (schemafile_get("input", span_of(data, size), &schema) != OK) {
        CHECK(schema.columns == NULL);
        return 0;
    }
    struct buf bytes = {0}, more = {0};
    schema_put(&schema, &bytes);
    CHECK(schema_get(buf_span(&bytes), &again) == OK);
    schema_put(&again, &more);
    CHECK(span_equal(buf_span(&bytes), buf_span(&more)));
    buf_deinit(&bytes);
    buf_deinit(&more);
    schema_deinit(&again);
    schema_deinit(&schema);
    return 0;
}
