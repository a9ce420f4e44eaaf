// tests/fuzz/fuzz_export.c: an export: export.json, spec.txt, schema.bin, schema.json, records.bin, base.bin;
// an empty part is no such file. What is read may be replayed, which needs sizes that fit each other.
#include "base/check.h"
#include "client/basefile.h"
#include "client/replay.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = span_of(data, size);
    static const char *const names[] = {"export.json", "spec.txt", "schema.bin", "schema.json",
                                        "records.bin"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        fuzz_put(names[i], fuzz_part(&rest));
    }
    fuzz_put(BASEFILE_NAME, rest);
    struct export export;
    if (export_read(fuzz_dir(), &export) == OK) {
        struct replay_data records;
        uint32_t position;
        if (replay_check(&export) == OK && replay_load(fuzz_dir(), &export, &records) == OK) {
            CHECK(records.count == export.records);
            for (uint64_t i = 0; i < records.count; i++) {
                CHECK(schema_check_row(&export.schema, records.rows[i]) == OK);
            }
            (void)replay_fits(&records, &export, &position);
            (void)replay_samples(&export);
            replay_deinit(&records);
        }
        export_deinit(&export);
    }
    struct base *base;
    if (basefile_read(fuzz_dir(), &base) == OK) {
        CHECK(base_shape_check(&base->shape) == OK);
        base_release(base);
    }
    return 0;
}
