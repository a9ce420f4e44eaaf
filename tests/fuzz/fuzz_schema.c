// tests/fuzz/fuzz_schema.c: a schema's canonical bytes and a row of it, as an import and a worker get them.
#include "base/check.h"
#include "base/mem.h"
#include "client/schemafile.h"
#include "tests/fuzz/fuzz.h"

static void expand(const struct schema *schema, struct span row)
{
    uint32_t width;
    if (schema_input_width(schema, "softmax", &width) != OK || width > 100000) {
        return;
    }
    float *const constants =
        mem_alloc(2 * (size_t)schema_constant_count(schema) + 1, sizeof(float));
    float *const x = mem_alloc(width, sizeof *x);
    float y = 0;
    schema_constants(schema, &row, 1, constants);
    schema_expand(schema, constants, row, x, &y);
    CHECK(schema->task != TASK_CLASSES || (y >= 0 && y < (float)schema->class_count));
    mem_free(x);
    mem_free(constants);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = span_of(data, size);
    const struct span bytes = fuzz_part(&rest);
    struct schema schema;
    if (schema_get(bytes, &schema) != OK) {
        CHECK(schema.columns == NULL);
        return 0;
    }
    struct buf again = {0}, json = {0};
    schema_put(&schema, &again);
    CHECK(span_equal(buf_span(&again), bytes));
    schemafile_put(&schema, &json);
    struct schema read;
    CHECK(schemafile_get("schema", buf_span(&json), &read) == OK);
    buf_clear(&again);
    schema_put(&read, &again);
    CHECK(span_equal(buf_span(&again), bytes));
    schema_deinit(&read);
    buf_deinit(&json);
    buf_deinit(&again);
    if (schema_check_row(&schema, rest) == OK) {
        for (uint32_t i = 0; i < schema.column_count; i++) {
            (void)schema_value(&schema, rest, i);
        }
        expand(&schema, rest);
    }
    schema_deinit(&schema);
    return 0;
}
