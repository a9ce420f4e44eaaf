// tests/unit/test_stage.c: a stage is a pure function of its name, spec, schema and records.
//
// Method: small trainings whose parameters are compared by memcmp. Records are laid out anew for
// each training at other addresses and in another order of allocation.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/profile.h"
#include "model/stage.h"

enum { RECORDS = 53, CLASSES = 3, PARAMS_MAX = 2000 };

static char names[CLASSES][2] = {"a", "b", "c"}, label[] = "y", image[] = "image", age[] = "age";
static char *classes[CLASSES] = {names[0], names[1], names[2]};
static struct column columns[2];
static struct schema schema;
static struct spec spec;
static const struct recipe recipe = {&spec, &schema, NULL};
static const uint16_t list[3] = {2, 0, 1};
static uint64_t param_count;

// A training set: which records, in which slice of the list.
struct set {
    int record[RECORDS];
    uint64_t slice_count[3];
    int count;
};

static int reset(void **state)
{
    (void)state;
    columns[0] = (struct column){
        .name = image, .kind = COLUMN_PIXELS, .width = 12, .rows = 3, .cols = 4, .scale = 1};
    columns[1] = (struct column){.name = age,
                                 .kind = COLUMN_NUMERIC,
                                 .width = 1,
                                 .missing = true,
                                 .standardise = true,
                                 .scale = 1};
    schema = (struct schema){.columns = columns,
                             .column_count = 2,
                             .task = TASK_CLASSES,
                             .label = label,
                             .classes = classes,
                             .class_count = CLASSES};
    spec = spec_default();
    spec.batch = 8;
    spec.rate = 0.05;
    spec.dropout = 0.2;
    assert_int_equal(spec_set(&spec, "hidden", "9,7"), OK);
    assert_int_equal(learner_param_count(&recipe, 1, &param_count), OK);
    assert_true(param_count <= PARAMS_MAX);
    return 0;
}

// Records 0 .. count-1 without `left_out`, cut into three slices.
static struct set set_without(int left_out)
{
    struct set set = {.count = 0};
    for (int i = 0; i < RECORDS; i++) {
        if (i != left_out) {
            set.record[set.count++] = i;
            set.slice_count[i * 3 / RECORDS]++;
        }
    }
    return set;
}

static void put_record(int record, struct buf *row)
{
    buf_u16(row, (uint16_t)(record % CLASSES));
    for (int i = 0; i < 12; i++) {
        buf_u8(row, (uint8_t)(37 * record + 71 * i + (record % CLASSES) * i * 19));
    }
    if (record % 11 == 5) {
        buf_u32(row, 0x7fc00000);
    } else {
        buf_f32(row, (float)(record * record % 29));
    }
}

struct trained {
    enum err err;
    float params[PARAMS_MAX];
};

// Trains `list_count` slices of the set. `shuffle` decides the order of allocation.
static struct trained train_watched(const struct set *set, uint32_t list_count, uint32_t passes,
                                    const float *parent, unsigned shuffle,
                                    const struct stage_watch *watch)
{
    struct trained out = {0};
    uint64_t count = 0;
    for (uint32_t i = 0; i < list_count; i++) {
        count += set->slice_count[i];
    }
    struct buf rows[RECORDS] = {{0}};
    struct span spans[RECORDS];
    struct id128 *const rids = mem_alloc(RECORDS + shuffle, sizeof *rids);
    void *waste = mem_alloc(shuffle * 24 + 8, 1);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t at = (i * (2 * shuffle + 1) + shuffle) % count;
        buf_reserve(&rows[at], 200 + 16 * ((at * 7 + shuffle) % 5));
    }
    for (uint64_t i = 0; i < count; i++) {
        put_record(set->record[i], &rows[i]);
        spans[i] = buf_span(&rows[i]);
        assert_int_equal(schema_check_row(&schema, spans[i]), OK);
        const struct span parts = span_of(&set->record[i], sizeof(int));
        const struct digest digest = digest_of("test", &parts, 1);
        memcpy(rids[i].bytes, digest.bytes, sizeof rids[i].bytes);
    }
    const struct stage stage = {recipe, 1, list, list_count, passes};
    const struct stage_data data = {spans, rids, set->slice_count, count};
    float *params = NULL;
    assert_int_equal(mem_try_aligned(PARAMS_MAX, sizeof *params, &params), OK);
    out.err = stage_train(&stage, &data, parent, watch, params);
    memcpy(out.params, params, param_count * sizeof *params);
    mem_free(params);
    mem_free(waste);
    mem_free(rids);
    for (int i = 0; i < RECORDS; i++) {
        buf_deinit(&rows[i]);
    }
    return out;
}

static struct trained train(const struct set *set, uint32_t list_count, uint32_t passes,
                            const float *parent, unsigned shuffle)
{
    return train_watched(set, list_count, passes, parent, shuffle, NULL);
}

static bool same(const struct trained *a, const struct trained *b)
{
    assert_int_equal(a->err, OK);
    assert_int_equal(b->err, OK);
    return memcmp(a->params, b->params, param_count * sizeof *a->params) == 0;
}

static void test_same_bits_whatever_the_addresses(void **state)
{
    (void)state;
    const struct set set = set_without(-1);
    static const char *const kinds[] = {"sgd", "adamw"};
    static const char *const learners[] = {"mlp", "softmax"};
    for (int kind = 0; kind < 2; kind++) {
        for (int learner = 0; learner < 2; learner++) {
            assert_int_equal(spec_set(&spec, "optimizer.kind", kinds[kind]), OK);
            assert_int_equal(spec_set(&spec, "learner", learners[learner]), OK);
            assert_int_equal(learner_param_count(&recipe, 1, &param_count), OK);
            const struct trained first = train(&set, 3, 3, NULL, 0);
            for (unsigned shuffle = 0; shuffle < 6; shuffle++) {
                const struct trained again = train(&set, 3, 3, NULL, shuffle);
                assert_true(same(&first, &again));
            }
        }
    }
}

// The order in which a slice's records are handed over decides nothing but the constants, and those
// only by the order of a sum: with exact sums the bits are equal.
static void test_arrival_does_not_matter(void **state)
{
    (void)state;
    struct set set = set_without(-1);
    const struct trained first = train(&set, 3, 2, NULL, 0);
    columns[1].standardise = false; // Constants are summed in the given order; see learner.h.
    const uint64_t before = param_count;
    assert_int_equal(learner_param_count(&recipe, 1, &param_count), OK);
    assert_int_equal(before - param_count, 2);
    const struct trained plain = train(&set, 3, 2, NULL, 0);
    const int kept = set.record[3];
    set.record[3] = set.record[11];
    set.record[11] = kept;
    const struct trained swapped = train(&set, 3, 2, NULL, 0);
    assert_true(same(&plain, &swapped));
    assert_int_equal(first.err, OK);
}

// The name of the component decides: shard is fixed here, list, seed and passes are not.
static void test_what_must_change_bits_does(void **state)
{
    (void)state;
    const struct set set = set_without(-1);
    const struct trained first = train(&set, 3, 2, NULL, 0);
    const struct trained longer = train(&set, 3, 3, NULL, 0);
    assert_false(same(&first, &longer));
    const struct set less = set_without(40); // Any record's absence shows.
    const struct trained without = train(&less, 3, 2, NULL, 0);
    assert_false(same(&first, &without));
    spec.seed++;
    const struct trained seeded = train(&set, 3, 2, NULL, 0);
    assert_false(same(&first, &seeded));
}

// Trains the chain of the three stages and keeps each.
static void train_chain(const struct set *set, struct trained out[static 3])
{
    for (uint32_t i = 0; i < 3; i++) {
        out[i] = train(set, i + 1, 2, i == 0 ? NULL : out[i - 1].params, i);
    }
}

// Deleting a record of the second slice leaves the first component as it was; repaired from it, the
// others equal a training that never had the record.
static void test_removal_changes_what_it_must_and_nothing_else(void **state)
{
    (void)state;
    const int record = 25; // In the second slice.
    const struct set all = set_without(-1), less = set_without(record);
    assert_true(all.slice_count[0] == less.slice_count[0]);
    assert_true(all.slice_count[1] == less.slice_count[1] + 1);
    struct trained before[3], never[3];
    train_chain(&all, before);
    train_chain(&less, never);
    assert_true(same(&before[0], &never[0]));
    assert_false(same(&before[1], &never[1]));
    const struct trained second = train(&less, 2, 2, before[0].params, 5);
    const struct trained third = train(&less, 3, 2, second.params, 4);
    assert_true(same(&second, &never[1]));
    assert_true(same(&third, &never[2]));
}

static void test_chunks_are_deterministic(void **state)
{
    (void)state;
    // 53 records in batches of 8: the last one has 5 rows, fewer than 8 chunks.
    const struct set set = set_without(-1);
    for (uint32_t chunks = 1; chunks <= 8; chunks *= 2) {
        spec.gradient_chunks = chunks;
        const struct trained first = train(&set, 3, 2, NULL, 0);
        const struct trained again = train(&set, 3, 2, NULL, 3);
        assert_true(same(&first, &again));
    }
}

// Chunks change the order of sums, not the sum: after one step the weights nearly agree.
static void test_chunks_sum_every_row_once(void **state)
{
    (void)state;
    const struct set set = set_without(-1);
    spec.batch = RECORDS;
    struct trained one = train(&set, 3, 1, NULL, 0);
    for (uint32_t chunks = 2; chunks <= 32; chunks *= 2) {
        spec.gradient_chunks = chunks;
        const struct trained more = train(&set, 3, 1, NULL, 0);
        assert_int_equal(more.err, OK);
        for (uint64_t i = 0; i < param_count; i++) {
            assert_true(fabsf(one.params[i] - more.params[i]) < 1e-5f);
        }
    }
    spec.gradient_chunks = 64; // More chunks than rows.
    spec.batch = 64;
    const struct trained more = train(&set, 3, 1, NULL, 0);
    for (uint64_t i = 0; i < param_count; i++) {
        assert_true(fabsf(one.params[i] - more.params[i]) < 1e-5f);
    }
}

static void test_expanding_later_gives_the_same_bits(void **state)
{
    (void)state;
    const struct set set = set_without(-1);
    spec.gradient_chunks = 2;
    const struct trained first = train(&set, 3, 2, NULL, 0);
    const uint64_t kept = stage_expanded_bytes_max;
    stage_expanded_bytes_max = 0;
    const struct trained later = train(&set, 3, 2, NULL, 0);
    stage_expanded_bytes_max = kept;
    assert_true(same(&first, &later));
}

// Constants come from the first slice that has records, and stay with the descendants.
static void test_constants_come_from_the_first_slice_with_records(void **state)
{
    (void)state;
    struct set set = set_without(-1);
    const struct trained first = train(&set, 1, 1, NULL, 0);
    const struct trained child = train(&set, 3, 1, first.params, 0);
    assert_memory_equal(first.params, child.params, 2 * sizeof(float));
    set.slice_count[1] += set.slice_count[0]; // The same records, the first slice empty.
    set.slice_count[0] = 0;
    const struct trained second = train(&set, 2, 1, NULL, 0);
    assert_int_equal(second.err, OK);
    assert_memory_not_equal(first.params, second.params, 2 * sizeof(float));
    struct span rows[RECORDS];
    struct buf bytes[RECORDS] = {{0}};
    float expected[2];
    for (uint64_t i = 0; i < set.slice_count[1]; i++) {
        put_record(set.record[i], &bytes[i]);
        rows[i] = buf_span(&bytes[i]);
    }
    schema_constants(&schema, rows, set.slice_count[1], expected);
    assert_memory_equal(second.params, expected, sizeof expected);
    for (int i = 0; i < RECORDS; i++) {
        buf_deinit(&bytes[i]);
    }
}

struct watcher {
    uint64_t calls, last, total, stop_at;
};

static bool watch_step(void *context, uint64_t done, uint64_t total)
{
    struct watcher *const watcher = context;
    assert_true(done > watcher->last && done <= total);
    watcher->calls++;
    watcher->last = done;
    watcher->total = total;
    return done < watcher->stop_at;
}

static void test_watch_counts_and_cancels(void **state)
{
    (void)state;
    const struct set set = set_without(-1);
    struct watcher watcher = {.stop_at = UINT64_MAX};
    const struct stage_watch watch = {watch_step, &watcher};
    struct trained all = train_watched(&set, 3, 2, NULL, 0, &watch);
    assert_int_equal(all.err, OK);
    assert_int_equal(watcher.calls, 2 * 7);
    assert_int_equal(watcher.last, 2 * RECORDS);
    assert_int_equal(watcher.total, 2 * RECORDS);
    const struct trained alone = train(&set, 3, 2, NULL, 0);
    assert_true(same(&all, &alone)); // Watching changes nothing.
    watcher = (struct watcher){.stop_at = 60};
    all = train_watched(&set, 3, 2, NULL, 0, &watch);
    assert_int_equal(all.err, ERR_CANCELLED);
    assert_non_null(strstr(err_text(), "stopped after 61 of 106 samples"));
}

static void test_divergence_is_found(void **state)
{
    (void)state;
    static const char *const activations[] = {"relu", "tanh", "gelu"};
    const struct set set = set_without(-1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(spec_set(&spec, "activation", activations[i]), OK);
        spec.rate = 1000;
        spec.weight_decay = 1000;
        const struct trained bad = train(&set, 3, 30, NULL, 0);
        assert_int_equal(bad.err, ERR_CORRUPT);
        assert_non_null(strstr(err_text(), "optimizer.rate 1000 is too large, try 100"));
        spec.rate = 0.05; // Control.
        spec.weight_decay = 0;
        const struct trained good = train(&set, 3, 30, NULL, 0);
        assert_int_equal(good.err, OK);
    }
}

static void test_param_count(void **state)
{
    (void)state;
    // Inputs 12 + 2; 9 and 7 units, 3 classes; two constants.
    assert_int_equal(param_count, 2 + 15 * 9 + 10 * 7 + 8 * 3);
    spec.hidden_count = 2;
    spec.hidden[0] = spec.hidden[1] = LIMIT_WIDTH;
    uint64_t count = 0;
    assert_int_equal(learner_param_count(&recipe, 1, &count), ERR_LIMIT);
    assert_non_null(strstr(err_text(), "expected at most 268435456"));
    columns[0].kind = COLUMN_TEXT;
    assert_int_equal(learner_param_count(&recipe, 1, &count), ERR_INVALID);
    assert_non_null(strstr(err_text(), "column 1 (image)"));
    reset(NULL);
    schema.task = TASK_NONE;
    assert_int_equal(learner_param_count(&recipe, 1, &count), ERR_INVALID);
    reset(NULL);
    memcpy(spec.learner, "tree", 5);
    assert_int_equal(learner_param_count(&recipe, 1, &count), ERR_INVALID);
    assert_non_null(strstr(err_text(), "learner is tree, expected one of softmax, mlp"));
    const struct set set = set_without(-1); // Training and predicting refuse it too.
    param_count = 0;
    assert_int_equal(train(&set, 3, 1, NULL, 0).err, ERR_INVALID);
    assert_int_equal(learner_predict(&recipe, 1, NULL, NULL, 0, NULL), ERR_INVALID);
}

static void test_learners_are_named(void **state)
{
    (void)state;
    assert_true(learner_known("mlp") && learner_known("softmax"));
    assert_false(learner_known("") || learner_known("ml"));
    assert_string_equal(learner_names(), "softmax, mlp, vit, text");
}

// Trained to the end, a small set is learnt; more rows than one block of predictions.
static void test_prediction_learns(void **state)
{
    (void)state;
    enum { MANY = 600 };
    const struct set set = set_without(-1);
    spec.dropout = 0;
    const struct trained t = train(&set, 3, 200, NULL, 0);
    assert_int_equal(t.err, OK);
    struct buf bytes[MANY] = {{0}};
    struct span rows[MANY];
    static float outputs[MANY * CLASSES];
    for (int i = 0; i < MANY; i++) {
        put_record(i % RECORDS, &bytes[i]);
        rows[i] = buf_span(&bytes[i]);
    }
    assert_int_equal(learner_predict(&recipe, 1, t.params, rows, MANY, outputs), OK);
    int right = 0;
    for (int i = 0; i < MANY; i++) {
        const float *const o = outputs + i * CLASSES;
        const int best = o[1] > o[0] ? (o[2] > o[1] ? 2 : 1) : (o[2] > o[0] ? 2 : 0);
        right += best == i % RECORDS % CLASSES ? 1 : 0;
    }
    assert_true(right > MANY * 9 / 10);
    for (int i = 0; i < MANY; i++) {
        buf_deinit(&bytes[i]);
    }
}

// y = 1000 + 50 x, standardised: predictions come back in y's own unit.
static void test_regression_predicts_in_its_unit(void **state)
{
    (void)state;
    schema = (struct schema){.columns = &columns[1],
                             .column_count = 1,
                             .task = TASK_NUMBER,
                             .label = label,
                             .label_standardise = true};
    columns[1].missing = false;
    assert_int_equal(spec_set(&spec, "hidden", "8"), OK);
    assert_int_equal(spec_set(&spec, "activation", "tanh"), OK);
    spec.dropout = 0;
    assert_int_equal(learner_param_count(&recipe, 1, &param_count), OK);
    struct buf bytes = {0};
    struct span rows[40];
    struct id128 rids[40];
    buf_reserve(&bytes, 40 * 8);
    for (int i = 0; i < 40; i++) {
        buf_f32(&bytes, 1000.0f + 50.0f * (float)i);
        buf_f32(&bytes, (float)i);
        rows[i] = span_of(bytes.data + 8 * i, 8);
        memset(&rids[i], i, sizeof rids[i]);
    }
    const uint64_t slice_count[1] = {40};
    const struct stage stage = {recipe, 0, list, 1, 400};
    const struct stage_data data = {rows, rids, slice_count, 40};
    float *params = NULL, outputs[40];
    assert_int_equal(mem_try_aligned(param_count, sizeof *params, &params), OK);
    assert_int_equal(stage_train(&stage, &data, NULL, NULL, params), OK);
    assert_int_equal(learner_predict(&recipe, 1, params, rows, 40, outputs), OK);
    for (int i = 0; i < 40; i++) {
        assert_true(fabsf(outputs[i] - (1000.0f + 50.0f * (float)i)) < 60.0f);
    }
    mem_free(params);
    buf_deinit(&bytes);
}

static void test_component_digest_covers_each_part(void **state)
{
    (void)state;
    float params[3] = {1, 2, 3};
    const struct digest s = spec_digest(&spec), m = schema_digest(&schema);
    const struct digest first = component_digest("s1:[2,0,1]", &s, &m, NULL, params, 3);
    const struct digest named = component_digest("s1:[2,0]", &s, &m, NULL, params, 3);
    const struct digest swapped = component_digest("s1:[2,0,1]", &m, &s, NULL, params, 3);
    const struct digest shorter = component_digest("s1:[2,0,1]", &s, &m, NULL, params, 2);
    params[2] = -3;
    const struct digest changed = component_digest("s1:[2,0,1]", &s, &m, NULL, params, 3);
    assert_memory_not_equal(&first, &named, sizeof first);
    assert_memory_not_equal(&first, &swapped, sizeof first);
    assert_memory_not_equal(&first, &shorter, sizeof first);
    assert_memory_not_equal(&first, &changed, sizeof first);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (profile_pin(argv) != OK || digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_same_bits_whatever_the_addresses, reset),
        cmocka_unit_test_setup(test_arrival_does_not_matter, reset),
        cmocka_unit_test_setup(test_what_must_change_bits_does, reset),
        cmocka_unit_test_setup(test_removal_changes_what_it_must_and_nothing_else, reset),
        cmocka_unit_test_setup(test_chunks_are_deterministic, reset),
        cmocka_unit_test_setup(test_chunks_sum_every_row_once, reset),
        cmocka_unit_test_setup(test_expanding_later_gives_the_same_bits, reset),
        cmocka_unit_test_setup(test_constants_come_from_the_first_slice_with_records, reset),
        cmocka_unit_test_setup(test_watch_counts_and_cancels, reset),
        cmocka_unit_test_setup(test_divergence_is_found, reset),
        cmocka_unit_test_setup(test_param_count, reset),
        cmocka_unit_test_setup(test_learners_are_named, reset),
        cmocka_unit_test_setup(test_prediction_learns, reset),
        cmocka_unit_test_setup(test_regression_predicts_in_its_unit, reset),
        cmocka_unit_test_setup(test_component_digest_covers_each_part, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
