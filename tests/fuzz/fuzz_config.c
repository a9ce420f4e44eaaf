// tests/fuzz/fuzz_config.c: a cluster's config.yaml, as the coordinator and as `up` reads it.
#include "base/check.h"
#include "client/cluster.h"
#include "coordinator/core.h"
#include "scheduler/due.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    uint32_t ranks = 0;
    int64_t due;
    fuzz_put("config.yaml", span_of(data, size));
    if (config_load(fuzz_dir(), &config) == OK) {
        CHECK(memchr(config.listen, '\0', sizeof config.listen) != NULL);
        CHECK(memchr(config.listen_workers, '\0', sizeof config.listen_workers) != NULL);
        CHECK(config.predict_threads > 0 && config.lease_ms > 0 && config.map_bytes > 0);
        // A day of the calendar may have passed since it was written.
        fuzz_either(due_parse(config.due, INT64_C(1700000000000000), &due));
    }
    fuzz_either(cluster_ranks(fuzz_dir(), &ranks));
    return 0;
}
