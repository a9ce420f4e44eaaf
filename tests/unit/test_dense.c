// tests/unit/test_dense.c: the gradients of the dense learners are those of their losses.
//
// Method: each weight is moved a little to both sides and the change of the summed loss compared
// with its gradient, for every activation, both tasks, with and without dropout (whose draws are
// fixed by the record, so the loss is a function). A wrong slope, a missing bias, a transposed
// product or a mask that differs between forward and backward shows.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/stage.h"

enum { INPUTS = 5, ROWS = 7, CLASSES = 3, WEIGHTS_MAX = 200 };

static char *classes[CLASSES];
static char names[CLASSES][2], label[] = "y", input[] = "x";
static struct column column = {.kind = COLUMN_NUMERIC, .width = INPUTS, .scale = 1};
static struct schema schema;
static struct spec spec;
static const uint16_t list[2] = {2, 0};
static struct stage stage;
static float x[ROWS * INPUTS], y[ROWS];
static struct id128 rids[ROWS];

static void set_up(enum task task, enum activation activation, double dropout)
{
    column.name = input;
    for (int i = 0; i < CLASSES; i++) {
        names[i][0] = (char)('a' + i);
        classes[i] = names[i];
    }
    schema = (struct schema){.columns = &column, .column_count = 1, .task = task, .label = label};
    if (task == TASK_CLASSES) {
        schema.classes = classes;
        schema.class_count = CLASSES;
    }
    spec = spec_default();
    assert_int_equal(spec_set(&spec, "hidden", "6,4"), OK);
    spec.activation = activation;
    spec.dropout = dropout;
    stage = (struct stage){
        .recipe = {&spec, &schema, NULL}, .shard = 3, .list = list, .list_count = 2, .passes = 1};
    for (int i = 0; i < ROWS * INPUTS; i++) {
        x[i] = (float)sin(i * 1.7);
    }
    for (int i = 0; i < ROWS; i++) {
        y[i] = task == TASK_CLASSES ? (float)(i % CLASSES) : (float)cos(i * 0.9);
        memset(&rids[i], 17 * i + 1, sizeof rids[i]);
    }
}

static const struct stage_rows rows = {.x = x, .y = y, .rids = rids, .count = ROWS, .pass = 1};

static double loss_of(const struct learner *learner, void *work, const float *weights)
{
    float gradient[WEIGHTS_MAX];
    double loss = 0;
    learner->gradient(work, weights, &rows, gradient, &loss);
    return loss;
}

static void check_gradient(const struct learner *learner)
{
    uint64_t count = 0;
    assert_int_equal(learner->weight_count(&stage.recipe, 1, &count), OK);
    assert_true(count <= WEIGHTS_MAX);
    float *weights = NULL;
    assert_int_equal(mem_try_aligned(count, sizeof *weights, &weights), OK);
    learner->init(&stage, NULL, weights);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] += 0.05f * (float)cos((double)i); // Biases too must not be zero.
    }
    void *work = NULL;
    assert_int_equal(learner->work_new(&stage.recipe, 1, &stage, NULL, ROWS, &work), OK);
    float gradient[WEIGHTS_MAX], again[WEIGHTS_MAX];
    learner->gradient(work, weights, &rows, gradient, NULL);
    double size = 0;
    for (uint64_t i = 0; i < count; i++) {
        const float kept = weights[i], step = 1.0f / 512;
        weights[i] = kept + step;
        const double above = loss_of(learner, work, weights);
        weights[i] = kept - step;
        const double below = loss_of(learner, work, weights);
        weights[i] = kept;
        const double expected = (above - below) / (2 * (double)step);
        size += fabs(expected);
        if (fabs(expected - (double)gradient[i]) > 2e-3 + 2e-3 * fabs(expected)) {
            fail_msg("weight %d: gradient %g, by difference %g", (int)i, (double)gradient[i],
                     expected);
        }
    }
    assert_true(size > 1); // The check did not compare zeros.
    learner->gradient(work, weights, &rows, again, NULL);
    assert_memory_equal(gradient, again, count * sizeof *gradient);
    learner->work_free(work);
    mem_free(weights);
}

static void test_gradients(void **state)
{
    (void)state;
    static const enum activation all[] = {ACTIVATION_TANH, ACTIVATION_GELU, ACTIVATION_RELU};
    for (int task = TASK_CLASSES; task <= TASK_NUMBER; task++) {
        for (int i = 0; i < 3; i++) {
            for (int dropped = 0; dropped < 2; dropped++) {
                set_up((enum task)task, all[i], dropped == 0 ? 0 : 0.4);
                check_gradient(&learner_mlp);
            }
        }
        set_up((enum task)task, ACTIVATION_RELU, 0.4);
        check_gradient(&learner_softmax);
    }
}

// A record's dropped units must not depend on its batch, its place in it, or other records.
static void test_dropout_belongs_to_the_record(void **state)
{
    (void)state;
    set_up(TASK_NUMBER, ACTIVATION_TANH, 0.5);
    uint64_t count = 0;
    assert_int_equal(learner_mlp.weight_count(&stage.recipe, 1, &count), OK);
    float *weights = NULL;
    assert_int_equal(mem_try_aligned(count, sizeof *weights, &weights), OK);
    learner_mlp.init(&stage, NULL, weights);
    void *work = NULL;
    assert_int_equal(learner_mlp.work_new(&stage.recipe, 1, &stage, NULL, ROWS, &work), OK);
    float together[ROWS], other_pass[ROWS], undropped[ROWS];
    learner_mlp.forward(work, weights, &rows, together);
    for (int i = 0; i < ROWS; i++) {
        const struct stage_rows one = {
            .x = x + i * INPUTS, .y = y + i, .rids = rids + i, .count = 1, .pass = 1};
        float alone;
        learner_mlp.forward(work, weights, &one, &alone);
        assert_true(fabsf(alone - together[i]) < 1e-6f);
    }
    struct stage_rows next = rows;
    next.pass = 2;
    learner_mlp.forward(work, weights, &next, other_pass);
    assert_memory_not_equal(other_pass, together, sizeof together);
    learner_mlp.work_free(work);
    assert_int_equal(learner_mlp.work_new(&stage.recipe, 1, NULL, NULL, ROWS, &work), OK);
    learner_mlp.forward(work, weights, &rows, undropped); // Predictions drop nothing.
    assert_memory_not_equal(undropped, together, sizeof together);
    spec.dropout = 0;
    learner_mlp.work_free(work);
    assert_int_equal(learner_mlp.work_new(&stage.recipe, 1, &stage, NULL, ROWS, &work), OK);
    learner_mlp.forward(work, weights, &rows, together);
    assert_memory_equal(undropped, together, sizeof together);
    learner_mlp.work_free(work);
    mem_free(weights);
}

// First weights belong to seed, shard, list and layer, within Glorot's bound, and biases are 0.
static void test_first_weights(void **state)
{
    (void)state;
    set_up(TASK_CLASSES, ACTIVATION_RELU, 0);
    float a[WEIGHTS_MAX] = {0}, b[WEIGHTS_MAX] = {0};
    learner_mlp.init(&stage, NULL, a);
    const float bound = (float)sqrt(6.0 / (INPUTS + 6));
    float most = 0;
    for (int i = 0; i < INPUTS * 6; i++) {
        assert_true(fabsf(a[i]) <= bound);
        most = fabsf(a[i]) > most ? fabsf(a[i]) : most;
    }
    assert_true(most > 0.8f * bound);
    for (int i = INPUTS * 6; i < INPUTS * 6 + 6; i++) {
        assert_true(a[i] == 0);
    }
    assert_memory_not_equal(a, a + INPUTS * 6 + 6, 24 * sizeof *a); // Another layer's.
    learner_mlp.init(&stage, NULL, b);
    assert_memory_equal(a, b, sizeof a);
    stage.shard = 4;
    learner_mlp.init(&stage, NULL, b);
    assert_memory_not_equal(a, b, sizeof a);
    stage.shard = 3;
    stage.list_count = 1;
    learner_mlp.init(&stage, NULL, b);
    assert_memory_not_equal(a, b, sizeof a);
    stage.list_count = 2;
    spec.seed = 8;
    learner_mlp.init(&stage, NULL, b);
    assert_memory_not_equal(a, b, sizeof a);
}

static void test_key_vectors(void **state)
{
    (void)state;
    const uint16_t order[3] = {2, 0, 1};
    set_up(TASK_CLASSES, ACTIVATION_RELU, 0);
    stage.list = order;
    stage.list_count = 3;
    struct buf name = {0};
    stage_put_name(&stage, &name);
    char hex[64];
    hex_put(hex, name.data, name.bytes);
    assert_string_equal(hex, "0700000000000000030000000300020000000100");
    // Made with Python's hashlib.blake2b(data, digest_size=16, person=domain)[:8].
    struct rng_key key = stage_key(&stage, "unlearnd-order", 5);
    hex_put(hex, key.word, sizeof key.word);
    assert_string_equal(hex, "9c9e10b0b9e1bdfe");
    key = stage_key(&stage, "unlearnd-init", 1);
    hex_put(hex, key.word, sizeof key.word);
    assert_string_equal(hex, "75b64feeba9f886b");
    buf_deinit(&name);
}

// The mask is read off a model that adds 2^u for each kept unit u, and compared with draws from the
// documented key (made with Python as above, for pass 5, layer 0 and the rid 00 01 .. 0f).
static void test_dropout_vector(void **state)
{
    (void)state;
    enum { UNITS = 10 };
    const uint16_t order[3] = {2, 0, 1};
    set_up(TASK_NUMBER, ACTIVATION_RELU, 0.5);
    assert_int_equal(spec_set(&spec, "hidden", "10"), OK);
    stage.list = order;
    stage.list_count = 3;
    for (uint8_t i = 0; i < sizeof rids[0].bytes; i++) {
        rids[0].bytes[i] = i;
    }
    float weights[(INPUTS + 1) * UNITS + UNITS + 1] = {0};
    for (int u = 0; u < UNITS; u++) {
        weights[INPUTS * UNITS + u] = 1.0f;
        weights[(INPUTS + 1) * UNITS + u] = (float)(1 << u);
    }
    void *work = NULL;
    assert_int_equal(learner_mlp.work_new(&stage.recipe, 1, &stage, NULL, 1, &work), OK);
    const struct stage_rows one = {.x = x, .y = y, .rids = rids, .count = 1, .pass = 5};
    float output = 0;
    learner_mlp.forward(work, weights, &one, &output);
    learner_mlp.work_free(work);

    static const uint8_t key_bytes[8] = {0xff, 0x5f, 0xb7, 0x7d, 0x74, 0x46, 0x10, 0x92};
    struct rng_key key;
    memcpy(key.word, key_bytes, sizeof key.word);
    float expected = 0;
    for (uint32_t u = 0; u < UNITS; u++) {
        const uint32_t counter[4] = {u / 4, 0, 0, 0};
        uint32_t words[4];
        rng_philox(key, counter, words);
        expected += rng_unit(words[u % 4]) < 0.5f ? 0.0f : 2.0f * (float)(1 << u);
    }
    assert_true(output == expected);
    assert_int_equal((int)(expected / 2.0f), 0x22f); // Units 0 1 2 3 5 9.
}

static void test_work_refuses_what_memory_cannot_hold(void **state)
{
    (void)state;
    set_up(TASK_CLASSES, ACTIVATION_RELU, 0);
    spec.hidden[0] = UINT32_MAX; // Times as many rows: more bytes than can be counted.
    void *work = &spec;
    assert_int_equal(learner_mlp.work_new(&stage.recipe, 1, &stage, NULL, UINT32_MAX, &work),
                     ERR_LIMIT);
    assert_null(work);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_dropout_belongs_to_the_record),
        cmocka_unit_test(test_first_weights),
        cmocka_unit_test(test_key_vectors),
        cmocka_unit_test(test_dropout_vector),
        cmocka_unit_test(test_work_refuses_what_memory_cannot_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
