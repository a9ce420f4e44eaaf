// tests/unit/test_component_store.c: datasets, models, components, cells and weights come back as
// they were written.
//
// Method: rows with a distinct value in every field; weights of every size around a chunk's end,
// compared by bits; rows cut short are written past the writer and must be refused by name.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "store/component.h"
#include "tests/unit/people.h"

enum { CHUNK_FLOATS = LIMIT_CHUNK_BYTES / 4 };

static struct people people;

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    people_begin(&people);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    people_commit(&people);
    people_close(&people);
    return 0;
}

static struct component name_of(const char *text)
{
    struct component name;
    assert_int_equal(component_get(text, &name), OK);
    return name;
}

// --- Datasets and models ---

static struct dataset_row dataset(uint32_t number, const char *name)
{
    struct dataset_row row = {.number = number, .generation_closed = 3, .generation_next = 4};
    snprintf(row.name, sizeof row.name, "%s", name);
    return row;
}

static void test_dataset_fields_come_back(void **state)
{
    (void)state;
    struct dataset_row row = dataset(UINT32_MAX, "adult.2"), found;
    memset(row.name, 'n', LIMIT_NAME_BYTES);
    memset(row.placement_key, 0xA5, KEY_BYTES);
    row.public_data = true;
    row.record_count = UINT64_MAX;
    memset(buf_room(&row.schema, LIMIT_SCHEMA_BYTES), 0x5A, LIMIT_SCHEMA_BYTES);
    assert_int_equal(dataset_put(people.txn, &row), OK);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_int_equal(dataset_get(people.txn, row.number, &found), OK);
    assert_string_equal(found.name, row.name);
    assert_int_equal(found.number, row.number);
    assert_memory_equal(found.placement_key, row.placement_key, KEY_BYTES);
    assert_true(found.public_data);
    assert_false(found.removing);
    assert_int_equal(found.generation_closed, 3);
    assert_int_equal(found.generation_next, 4);
    assert_int_equal(found.record_count, UINT64_MAX);
    assert_true(span_equal(buf_span(&found.schema), buf_span(&row.schema)));
    dataset_row_deinit(&found);
    buf_clear(&row.schema); // Before the first commit there is none.
    row.public_data = false;
    row.removing = true;
    assert_int_equal(dataset_put(people.txn, &row), OK);
    assert_int_equal(dataset_get(people.txn, row.number, &found), OK);
    assert_int_equal(found.schema.bytes, 0);
    assert_false(found.public_data);
    assert_true(found.removing);
    dataset_row_deinit(&found);
    dataset_row_deinit(&row);
    assert_int_equal(dataset_get(people.txn, 77, &found), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "77"));
    dataset_row_deinit(&found); // Safe after an error.
    assert_int_equal(dataset_drop(people.txn, UINT32_MAX), OK);
    assert_int_equal(dataset_drop(people.txn, UINT32_MAX), OK);
    assert_int_equal(dataset_get(people.txn, UINT32_MAX, &found), ERR_NOT_FOUND);
}

struct numbers {
    size_t count, fail_after;
    uint32_t number[8];
};

static enum err note_dataset(void *context, const struct dataset_row *row)
{
    struct numbers *const seen = context;
    seen->number[seen->count++] = row->number;
    return seen->count == seen->fail_after ? err_raise(ERR_CANCELLED, "enough")
                                           : dataset_put(people.txn, row);
}

static void test_datasets_in_order_of_number(void **state)
{
    (void)state;
    const uint32_t numbers[] = {65536, 256, 255};
    for (size_t i = 0; i < 3; i++) {
        const struct dataset_row row = dataset(numbers[i], "d");
        assert_int_equal(dataset_put(people.txn, &row), OK);
    }
    struct numbers seen = {0};
    assert_int_equal(dataset_each(people.txn, note_dataset, &seen), OK);
    assert_int_equal(seen.count, 4); // With the one of set_up.
    const uint32_t expected[] = {PEOPLE_DATASET, 255, 256, 65536};
    assert_memory_equal(seen.number, expected, sizeof expected);
    seen = (struct numbers){.fail_after = 2};
    assert_int_equal(dataset_each(people.txn, note_dataset, &seen), ERR_CANCELLED);
    assert_int_equal(seen.count, 2);
}

static enum err note_model(void *context, const struct model_row *row)
{
    struct numbers *const seen = context;
    seen->number[seen->count++] = row->number;
    return seen->count == seen->fail_after ? err_raise(ERR_CANCELLED, "enough") : OK;
}

static void test_model_fields_come_back(void **state)
{
    (void)state;
    struct model_row row = {.number = 300,
                            .name = "digits",
                            .dataset = 5,
                            .removing = true,
                            .generations = 6,
                            .created_us = INT64_MIN,
                            .replaces = 77},
                     found;
    buf_put(&row.spec, span_text("learner: mlp\n"));
    assert_int_equal(model_put(people.txn, &row), OK);
    row.number = 2;
    row.removing = false;
    assert_int_equal(model_put(people.txn, &row), OK);
    assert_int_equal(model_get(people.txn, 300, &found), OK);
    assert_int_equal(found.number, 300);
    assert_string_equal(found.name, "digits");
    assert_int_equal(found.dataset, 5);
    assert_true(found.removing);
    assert_int_equal(found.generations, 6);
    assert_int_equal(found.created_us, INT64_MIN);
    assert_int_equal(found.replaces, 77);
    assert_true(span_equal(buf_span(&found.spec), span_text("learner: mlp\n")));
    model_row_deinit(&found);
    model_row_deinit(&row);
    struct numbers seen = {0};
    assert_int_equal(model_each(people.txn, note_model, &seen), OK);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.number[0], 2);
    assert_int_equal(seen.number[1], 300);
    seen = (struct numbers){.fail_after = 1};
    assert_int_equal(model_each(people.txn, note_model, &seen), ERR_CANCELLED);
    assert_int_equal(model_drop(people.txn, 300), OK);
    assert_int_equal(model_drop(people.txn, 300), OK);
    assert_int_equal(model_get(people.txn, 300, &found), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "300"));
}

// --- Components ---

static void test_component_fields_come_back(void **state)
{
    (void)state;
    const struct component_row row = {.state = COMPONENT_INVALID,
                                      .instance = UINT64_MAX,
                                      .param_count = 2,
                                      .records = 3,
                                      .samples = 4,
                                      .seconds = 0x1.8p-3,
                                      .trained_us = -5,
                                      .profile = {{6, 7}},
                                      .commitment = {{10, 11}}};
    struct component_row found;
    struct component longest = {.shard = LIMIT_SHARDS - 1, .count = LIMIT_SLICES};
    for (uint16_t i = 0; i < LIMIT_SLICES; i++) {
        longest.list[i] = (uint16_t)(LIMIT_SLICES - 1 - i);
    }
    const struct component names[] = {name_of("s0:[0]"), name_of("s300:[2,0,199]"), longest};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(component_row_get(people.txn, 1, &names[i], &found), ERR_NOT_FOUND);
        assert_int_equal(component_row_put(people.txn, 1, &names[i], &row), OK);
        assert_int_equal(component_row_get(people.txn, 2, &names[i], &found), ERR_NOT_FOUND);
        assert_int_equal(component_row_get(people.txn, 1, &names[i], &found), OK);
        assert_int_equal(found.state, row.state);
        assert_int_equal(found.instance, row.instance);
        assert_int_equal(found.param_count, row.param_count);
        assert_int_equal(found.records, row.records);
        assert_int_equal(found.samples, row.samples);
        assert_memory_equal(&found.seconds, &row.seconds, sizeof row.seconds);
        assert_int_equal(found.trained_us, row.trained_us);
        assert_memory_equal(&found.profile, &row.profile, sizeof row.profile);
        assert_memory_equal(&found.commitment, &row.commitment, sizeof row.commitment);
    }
    const struct component never = name_of("s3:[2,1]");
    assert_int_equal(component_row_get(people.txn, 1, &never, &found), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "s3:[2,1]"));
}

struct names {
    size_t count, fail_after;
    char text[64][COMPONENT_TEXT_BYTES];
};

// Invalidates each row it sees, as a fence does.
static enum err note_and_invalidate(void *context, const struct component *name,
                                    const struct component_row *row)
{
    struct names *const seen = context;
    struct component_row changed = *row;
    changed.state = COMPONENT_INVALID;
    component_put(name, seen->text[seen->count++]);
    return seen->count == seen->fail_after ? err_raise(ERR_CANCELLED, "enough")
                                           : component_row_put(people.txn, 1, name, &changed);
}

static void test_components_in_key_order(void **state)
{
    (void)state;
    static const char *const in_order[] = {"s0:[0]",   "s0:[0,1]", "s0:[1]",
                                           "s0:[199]", "s1:[0]",   "s256:[0]"};
    const struct component_row row = {.state = COMPONENT_VALID};
    struct component_row found;
    for (size_t i = 6; i-- > 0;) {
        const struct component name = name_of(in_order[i]);
        for (uint32_t model = 0; model <= 2; model++) {
            assert_int_equal(component_row_put(people.txn, model, &name, &row), OK);
        }
    }
    struct names *const seen = mem_alloc(1, sizeof *seen);
    assert_int_equal(component_row_each(people.txn, 1, note_and_invalidate, seen), OK);
    assert_int_equal(seen->count, 6);
    for (size_t i = 0; i < 6; i++) {
        const struct component name = name_of(in_order[i]);
        assert_string_equal(seen->text[i], in_order[i]);
        assert_int_equal(component_row_get(people.txn, 1, &name, &found), OK);
        assert_int_equal(found.state, COMPONENT_INVALID);
        assert_int_equal(component_row_get(people.txn, 2, &name, &found), OK);
        assert_int_equal(found.state, COMPONENT_VALID);
    }
    *seen = (struct names){.count = 0};
    assert_int_equal(component_row_each_of(people.txn, 1, 1, note_and_invalidate, seen), OK);
    assert_int_equal(seen->count, 1);
    assert_string_equal(seen->text[0], "s1:[0]");
    *seen = (struct names){.count = 0};
    assert_int_equal(component_row_each_of(people.txn, 1, 0, note_and_invalidate, seen), OK);
    assert_int_equal(seen->count, 4);
    *seen = (struct names){.count = 0};
    assert_int_equal(component_row_each_of(people.txn, 1, 2, note_and_invalidate, seen), OK);
    assert_int_equal(seen->count, 0);
    *seen = (struct names){.fail_after = 3};
    assert_int_equal(component_row_each(people.txn, 1, note_and_invalidate, seen), ERR_CANCELLED);
    assert_int_equal(seen->count, 3);
    mem_free(seen);
}

static void test_rows_and_cells_are_dropped_in_parts(void **state)
{
    (void)state;
    const struct component_row row = {.state = COMPONENT_VALID};
    struct component_row found;
    const struct component name = name_of("s0:[3]");
    for (uint16_t i = 0; i < 5; i++) {
        const struct component each = {.count = 1, .list = {i}};
        assert_int_equal(component_row_put(people.txn, 1, &each, &row), OK);
        assert_int_equal(cell_version_raise(people.txn, 1, 0, i), OK);
    }
    assert_int_equal(component_row_put(people.txn, 2, &name, &row), OK);
    assert_int_equal(cell_version_raise(people.txn, 2, 0, 3), OK);
    bool more = true;
    int calls = 0;
    for (; more; calls++) {
        assert_true(calls < 10);
        assert_int_equal(component_rows_drop(people.txn, 1, 3, &more), OK);
    }
    assert_int_equal(calls, 4); // Ten rows by threes.
    uint64_t version;
    assert_int_equal(component_row_get(people.txn, 1, &name, &found), ERR_NOT_FOUND);
    assert_int_equal(cell_version_get(people.txn, 1, 0, 3, &version), OK);
    assert_int_equal(version, 0);
    assert_int_equal(component_row_get(people.txn, 2, &name, &found), OK); // Another model's stay.
    assert_int_equal(cell_version_get(people.txn, 2, 0, 3, &version), OK);
    assert_int_equal(version, 1);
}

static void test_cell_versions_rise_apart(void **state)
{
    (void)state;
    uint64_t version;
    assert_int_equal(cell_version_get(people.txn, 1, 2, 3, &version), OK);
    assert_int_equal(version, 0);
    assert_int_equal(cell_version_raise(people.txn, 1, 2, 3), OK);
    assert_int_equal(cell_version_raise(people.txn, 1, 2, 3), OK);
    assert_int_equal(cell_version_get(people.txn, 1, 2, 3, &version), OK);
    assert_int_equal(version, 2);
    const uint32_t others[][3] = {{2, 2, 3}, {1, 3, 3}, {1, 2, 2}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(
            cell_version_get(people.txn, others[i][0], others[i][1], others[i][2], &version), OK);
        assert_int_equal(version, 0);
    }
}

// --- Weights ---

static void test_weights_of_every_length(void **state)
{
    (void)state;
    const uint64_t counts[] = {0,
                               1,
                               CHUNK_FLOATS - 1,
                               CHUNK_FLOATS,
                               CHUNK_FLOATS + 1,
                               3 * (uint64_t)CHUNK_FLOATS,
                               3 * (uint64_t)CHUNK_FLOATS + 17};
    const size_t most = 4 * (size_t)CHUNK_FLOATS;
    uint32_t *const bits = mem_alloc(most, sizeof *bits);
    float *const params = mem_alloc(most, sizeof *params), *const found =
                                                               mem_alloc(most, sizeof *found);
    for (uint32_t i = 0; i < most; i++) { // NaN patterns and minus zero among them.
        bits[i] = i * 2654435761u;
    }
    memcpy(params, bits, most * sizeof *params);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        assert_int_equal(weights_get(people.txn, i, found, counts[i]), ERR_NOT_FOUND);
        assert_int_equal(weights_put(people.txn, i, params, counts[i]), OK);
    }
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        memset(found, 0, most * sizeof *found);
        assert_int_equal(weights_get(people.txn, i, found, counts[i]), OK);
        assert_int_equal(memcmp(found, params, (size_t)counts[i] * sizeof *found), 0);
        assert_int_equal(weights_get(people.txn, i, found, counts[i] + 1), ERR_CORRUPT);
        if (counts[i] > 0) {
            assert_int_equal(weights_get(people.txn, i, found, counts[i] - 1), ERR_CORRUPT);
        }
    }
    assert_int_equal(weights_drop(people.txn, 5), OK);
    assert_int_equal(weights_drop(people.txn, 5), OK); // Gone already.
    assert_int_equal(weights_get(people.txn, 5, found, counts[5]), ERR_NOT_FOUND);
    assert_int_equal(weights_get(people.txn, 4, found, counts[4]), OK); // Its neighbours stay.
    assert_int_equal(weights_get(people.txn, 6, found, counts[6]), OK);
    mem_free(found);
    mem_free(params);
    mem_free(bits);
}

// --- Damage ---

static enum err ignore_component(void *context, const struct component *name,
                                 const struct component_row *row)
{
    (void)context;
    (void)name;
    (void)row;
    return OK;
}

static void test_damaged_rows_are_corrupt(void **state)
{
    (void)state;
    static const enum kv_table tables[] = {KV_DATASET, KV_MODEL, KV_COMPONENT, KV_CELL};
    const struct component name = name_of("s0:[0]");
    const struct component_row good = {.state = COMPONENT_VALID};
    struct dataset_row dataset_found;
    struct model_row model_found;
    struct component_row component_found;
    struct numbers seen = {0};
    uint64_t version;
    for (size_t i = 0; i < 4; i++) {
        struct kv_key key = {0};
        kv_key_u32(&key, 9);
        if (tables[i] == KV_COMPONENT || tables[i] == KV_CELL) {
            kv_key_u32(&key, 0);
            kv_key_put(&key, "\0\0\0\0", tables[i] == KV_CELL ? 4 : 2);
        }
        assert_int_equal(value_put(people.txn, tables[i], kv_key_span(&key), span_of("abc", 3)),
                         OK);
    }
    assert_int_equal(dataset_get(people.txn, 9, &dataset_found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table dataset, entry 9"));
    assert_int_equal(dataset_each(people.txn, note_dataset, &seen), ERR_CORRUPT);
    assert_int_equal(model_get(people.txn, 9, &model_found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table model, entry 9"));
    assert_int_equal(model_each(people.txn, note_model, &seen), ERR_CORRUPT);
    assert_int_equal(component_row_get(people.txn, 9, &name, &component_found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table component, entry 9"));
    assert_int_equal(component_row_each(people.txn, 9, ignore_component, NULL), ERR_CORRUPT);
    assert_int_equal(cell_version_get(people.txn, 9, 0, 0, &version), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "table cell, entry 9"));
    assert_int_equal(cell_version_raise(people.txn, 9, 0, 0), ERR_CORRUPT);

    assert_int_equal(component_row_put(people.txn, 9, &name, &good), OK); // Control.
    assert_int_equal(component_row_get(people.txn, 9, &name, &component_found), OK);
    struct component_row odd = good;
    memset(&odd.state, 3, 1);
    assert_int_equal(component_row_put(people.txn, 9, &name, &odd), OK);
    assert_int_equal(component_row_get(people.txn, 9, &name, &component_found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "state 3"));

    struct kv_key key = {0}; // A name with half a slice.
    kv_key_u32(&key, 10);
    kv_key_put(&key, "\0\0\0\0\0\0\0", 7);
    assert_int_equal(value_put(people.txn, KV_COMPONENT, kv_key_span(&key), span_of("", 0)), OK);
    assert_int_equal(component_row_each(people.txn, 10, ignore_component, NULL), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "a key of 11 bytes"));
}

static void test_values_of_another_format_are_corrupt(void **state)
{
    (void)state;
    uint8_t *room;
    struct kv_key key = {0};
    struct dataset_row found;
    kv_key_u32(&key, 9);
    assert_int_equal(kv_put_room(&people.txn->kv, KV_DATASET, kv_key_span(&key), 4, &room), OK);
    memcpy(room, "\2abc", 4);
    assert_int_equal(dataset_get(people.txn, 9, &found), ERR_CORRUPT);
    assert_non_null(
        strstr(err_text(), "table dataset, entry 9: the value is of kind 2, expected 3"));
    assert_int_equal(kv_put_room(&people.txn->kv, KV_DATASET, kv_key_span(&key), 0, &room), OK);
    assert_int_equal(dataset_get(people.txn, 9, &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "the value is of kind 0"));
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_dataset_fields_come_back), CASE(test_datasets_in_order_of_number),
        CASE(test_model_fields_come_back),   CASE(test_component_fields_come_back),
        CASE(test_components_in_key_order),  CASE(test_rows_and_cells_are_dropped_in_parts),
        CASE(test_cell_versions_rise_apart), CASE(test_weights_of_every_length),
        CASE(test_damaged_rows_are_corrupt), CASE(test_values_of_another_format_are_corrupt),
    };
#undef CASE
    return cmocka_run_group_tests_name("component_store", tests, NULL, NULL);
}
