// Goal: an export is of one state of its slices, or fails: a deletion between its metadata and its
// records, or between two chunks of records, is told; made-up cursors are refused.
// Method: a real coordinator and worker, started by the programs in $UNLEARN_BIN, else bin/; this
// program is the client.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/text.h"
#include "client/unlearn.h"
#include "model/learner.h"
#include "tests/e2e/cluster.h"
#include "tests/unit/scratch.h"

// Of four risk classes in turn: shard 0 has half of class 0, all of 1, half of 2 and nothing of 3.
enum { RECORDS = 60000 };

static char dir[SCRATCH_BYTES];
static struct unlearn *client;

// Runs `unlearnctl ARGUMENTS` on the cluster; its answer goes away.
static int ctl(const char *arguments)
{
    return cluster_ctl(dir, arguments);
}

static int setup(void **state)
{
    (void)state;
    char text[512];
    unsetenv("OPENBLAS_CORETYPE"); // Of whoever runs the test: the worker would be refused.
    assert_true(scratch_make(dir));
    snprintf(text, sizeof text, "%s/rows.csv", dir);
    FILE *const file = fopen(text, "w");
    assert_non_null(file);
    fprintf(file, "id,c,a,y\n"); // So many that the records need several chunks.
    for (int i = 0; i < RECORDS; i++) {
        fprintf(file, "r%d,%d,%d,%s\n", i, i % 4, i % 97, i % 2 == 0 ? "no" : "yes");
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(cluster_start(dir, 1), 0);
    snprintf(text, sizeof text, "import d %s/rows.csv --label y --id id --risk c", dir);
    assert_int_equal(ctl(text), 0);
    assert_int_equal(
        ctl("train m --dataset d --wait --set learner=softmax shards=2 slices=1 epochs=1 "
            "batch=512 'risk=1=0/0,3=1/0'"),
        0);
    snprintf(text, sizeof text, "%s/c", dir);
    assert_int_equal(digest_start(), OK);
    assert_int_equal(unlearn_open_dir(text, NULL, &client), OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char text[512];
    unlearn_close(client);
    snprintf(text, sizeof text, "down %s/c", dir);
    (void)!ctl(text);
    scratch_remove(dir);
    return 0;
}

static uint64_t records_said; // By the metadata.

static uint64_t begin(void)
{
    const Unlearn__Exported *exported;
    assert_int_equal(unlearn_export(client, "m", "s0:[0]", &exported), OK);
    assert_int_equal(exported->n_slice_records, 1);
    records_said = exported->slice_records[0];
    return exported->instance;
}

// Class, sid and rid of the last record that came, and how many of each class have come.
static uint8_t last_place[1 + 2 * ID_BYTES];
static uint64_t class_counts[LIMIT_RISK_CLASSES];

static void take_records(struct span raw, uint32_t count)
{
    struct cursor cursor = cursor_of(raw);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t place[sizeof last_place];
        const struct span ids = cursor_take(&cursor, 2 * ID_BYTES);
        assert_int_equal(ids.bytes, 2 * ID_BYTES);
        memcpy(place + 1, ids.data, ids.bytes);
        place[0] = cursor_u8(&cursor);
        (void)cursor_take(&cursor, cursor_u32(&cursor));
        assert_true(place[0] < LIMIT_RISK_CLASSES);
        assert_true(memcmp(last_place, place, sizeof place) <
                    0); // The order of storage; none twice.
        memcpy(last_place, place, sizeof place);
        class_counts[place[0]]++;
    }
    assert_int_equal(cursor_done(&cursor, "records"), OK);
}

static enum err pull(uint64_t instance, struct buf *cursor, uint32_t *count_out, bool *last_out)
{
    const Unlearn__ExportChunk *chunk;
    struct span raw;
    TRY(unlearn_export_pull(client, "m", "s0:[0]", instance, buf_span(cursor), false, &chunk,
                            &raw));
    *count_out = chunk->count;
    *last_out = chunk->last;
    assert_int_equal(raw.bytes, chunk->count * (2 * ID_BYTES + 1 + 4 + 2 + 4));
    if (cursor->bytes <= 4) { // From the first record on.
        memset(last_place, 0, sizeof last_place);
        memset(class_counts, 0, sizeof class_counts);
    }
    take_records(raw, chunk->count);
    buf_clear(cursor);
    buf_put(cursor, span_of(chunk->next.data, chunk->next.len));
    return OK;
}

static void delete_one(const char *id)
{
    const struct id128 uuid = text_uuid_new();
    const struct unlearn_ids records = {&id, 1}, none = {NULL, 0};
    const Unlearn__RequestState *state;
    assert_int_equal(unlearn_delete(client, "d", &uuid, records, none, NULL, &state), OK);
    assert_int_equal(state->components_invalidated, 1);
    assert_int_equal(ctl("train m --wait"), 0); // Valid again, and another instance.
}

static void test_records_come_in_chunks(void **state)
{
    (void)state;
    const uint64_t instance = begin();
    struct buf cursor = {0};
    uint64_t records = 0;
    uint32_t chunks = 0, count = 0;
    for (bool last = false; !last; chunks++) {
        assert_int_equal(pull(instance, &cursor, &count, &last), OK);
        records += count;
    }
    assert_int_equal(records, records_said);
    assert_true(chunks > 1);
    assert_int_equal(class_counts[1], RECORDS / 4);
    assert_int_equal(class_counts[3], 0);
    assert_true(class_counts[0] > 0 && class_counts[0] < RECORDS / 4 && class_counts[2] > 0 &&
                class_counts[2] < RECORDS / 4);
    assert_int_equal(class_counts[0] + class_counts[1] + class_counts[2], records);
    buf_deinit(&cursor);
}

static void test_a_deletion_in_the_middle_is_told(void **state)
{
    (void)state;
    struct buf cursor = {0};
    uint32_t count = 0;
    bool last = false;
    uint64_t instance = begin(); // Between metadata and records.
    delete_one("r5");
    assert_int_equal(pull(instance, &cursor, &count, &last), ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(), "a deletion hit these slices: export again"));
    instance = begin(); // Between two chunks.
    assert_int_equal(pull(instance, &cursor, &count, &last), OK);
    assert_false(last);
    delete_one("r9");
    assert_int_equal(pull(instance, &cursor, &count, &last), ERR_UNAVAILABLE);
    instance = begin(); // Control.
    buf_clear(&cursor);
    assert_int_equal(pull(instance, &cursor, &count, &last), OK);
    buf_deinit(&cursor);
}

// Fetches the parameters and compares with the digest that the metadata name; returns the instance.
static uint64_t fetch(const char *model, uint64_t *count_out)
{
    const Unlearn__Exported *exported;
    assert_int_equal(unlearn_export(client, model, "s0:[0]", &exported), OK);
    const uint64_t instance = exported->instance, count = exported->param_count;
    struct digest named;
    struct spec spec;
    struct schema schema = {0};
    memcpy(named.bytes, exported->digest.data, DIGEST_BYTES);
    assert_int_equal(spec_get(span_of(exported->spec.data, exported->spec.len), &spec), OK);
    assert_int_equal(schema_get(span_of(exported->schema.data, exported->schema.len), &schema), OK);
    float *const params = mem_alloc(count, sizeof *params);
    assert_int_equal(unlearn_params_pull(client, model, "s0:[0]", instance, count, params), OK);
    const struct digest spec_is = spec_digest(&spec), schema_is = schema_digest(&schema);
    const struct digest came =
        component_digest("s0:[0]", &spec_is, &schema_is, NULL, params, count);
    assert_memory_equal(came.bytes, named.bytes, DIGEST_BYTES);
    schema_deinit(&schema);
    mem_free(params);
    *count_out = count;
    return instance;
}

static void test_parameters_are_those_of_one_instance(void **state)
{
    (void)state;
    uint64_t count;
    const uint64_t instance = fetch("m", &count);
    float *const params = mem_alloc(count + 1, sizeof *params);
    assert_int_equal(unlearn_params_pull(client, "m", "s0:[0]", instance, count + 1, params),
                     ERR_CORRUPT); // More than there are: the last chunk is too short.
    assert_int_equal(unlearn_params_pull(client, "m", "s0:[0]", instance + 1, count, params),
                     ERR_UNAVAILABLE);
    assert_int_equal(unlearn_params_pull(client, "m", "s0:[1]", instance, count, params),
                     ERR_NOT_FOUND);
    assert_int_equal(unlearn_params_pull(client, "n", "s0:[0]", instance, count, params),
                     ERR_NOT_FOUND);
    assert_int_equal(unlearn_params_pull(client, "m", "s0", instance, count, params), ERR_INVALID);
    delete_one("r13");
    assert_int_equal(unlearn_params_pull(client, "m", "s0:[0]", instance, count, params),
                     ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(), "a deletion hit these slices: export again"));
    fetch("m", &count);
    mem_free(params);
}

static void test_parameters_come_in_chunks(void **state)
{
    (void)state;
    uint64_t count;
    char text[512];
    snprintf(text, sizeof text, "import few %s/rows.csv --label y --id id --risk c --limit 50",
             dir);
    assert_int_equal(ctl(text), 0);
    assert_int_equal(ctl("train wide --dataset few --wait --set hidden=65536 shards=1 slices=1 "
                         "epochs=1"),
                     0);
    fetch("wide", &count);
    assert_int_equal(count, 4 * 65536 + 4); // One chunk and 16 bytes of another.
}

static void test_made_up_cursors_are_refused(void **state)
{
    (void)state;
    const uint64_t instance = begin();
    struct buf good = {0};
    uint32_t count = 0;
    bool last = false;
    assert_int_equal(pull(instance, &good, &count, &last), OK);
    assert_int_equal(good.bytes, 4 + 41);
    // Position 1 of a list of one; another dataset; another generation; a class that lies elsewhere, one
    // that is none; short; long.
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 1}, {4, 9}, {11, 9}, {12, 3}, {12, 16}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct buf bad = {0};
        buf_put(&bad, buf_span(&good));
        bad.data[changes[i].at] = changes[i].value;
        assert_int_equal(pull(instance, &bad, &count, &last), ERR_INVALID);
        buf_deinit(&bad);
    }
    for (size_t bytes = 1; bytes < good.bytes; bytes++) {
        struct buf bad = {0};
        buf_put(&bad, span_of(good.data, bytes));
        const enum err err = pull(instance, &bad, &count, &last);
        assert_int_equal(err, bytes == 4 ? OK : ERR_INVALID); // 4: the start of the first slice.
        buf_deinit(&bad);
    }
    assert_int_equal(pull(instance, &good, &count, &last), OK); // Control.
    buf_deinit(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_come_in_chunks),
        cmocka_unit_test(test_made_up_cursors_are_refused),
        cmocka_unit_test(test_a_deletion_in_the_middle_is_told),
        cmocka_unit_test(test_parameters_are_those_of_one_instance),
        cmocka_unit_test(test_parameters_come_in_chunks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
