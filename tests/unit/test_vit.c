// tests/unit/test_vit.c: the learner of images: what its weights are, which of them a stage trains,
// and that it learns.
//
// Method: gradients are held against the change of the loss; stages are trained on one another and
// compared byte by byte; each way in which spec, schema and base can fail to fit is provoked, with
// the fitting control beside it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/tiny_learner.h"

enum { LAYER = 2 * 3 * (SMALL_WIDTH + SMALL_WIDTH), HEAD = (SMALL_WIDTH + 1) * SMALL_CLASSES };

static void test_gradients(void **state)
{
    (void)state;
    for (int on_base = 0; on_base < 2; on_base++) {
        for (int task = TASK_CLASSES; task <= TASK_NUMBER; task++) {
            struct small *const m = small_new(BASE_VIT, (enum task)task, on_base, 1);
            if (on_base) {
                small_set(m, "lora.dropout", "0.3");
            }
            assert_true(small_slopes_off(m, NULL, on_base ? 1 : 3) < 2e-3);
            small_free(m);
        }
    }
    // The second block, above which the first one's adapters are frozen.
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, true, 1);
    float *const parent = small_train(m, NULL);
    m->stage.list_count = 2;
    assert_true(small_slopes_off(m, parent, 1) < 2e-3);
    mem_free(parent);
    small_free(m);
}

static void test_layout(void **state)
{
    (void)state;
    struct small *m = small_new(BASE_VIT, TASK_CLASSES, true, 3);
    for (uint32_t k = 1; k <= 4; k++) {
        assert_int_equal(small_count(m, k), k * LAYER + HEAD);
        assert_int_equal(learner_vit.trained_count(&m->stage.recipe, k), LAYER + HEAD);
    }
    small_set(m, "slices", "2"); // Two layers for each.
    small_set(m, "lora.targets", "output.dense");
    const uint32_t down = 3 * (20 + SMALL_WIDTH);
    assert_int_equal(small_count(m, 2), 4 * down + HEAD);
    small_set(m, "slices", "1"); // Three layers are above the one block that is reserved.
    small_set(m, "append_blocks", "2");
    assert_int_equal(small_count(m, 3), 3 * down + HEAD);
    small_free(m);

    m = small_new(BASE_VIT, TASK_NUMBER, false, 3);
    struct base_shape shape;
    assert_int_equal(learner_vit.base_shape(&m->stage.recipe, &shape), OK);
    assert_int_equal(shape.rows, SMALL_ROWS);
    assert_int_equal(shape.layers, 2);
    const uint64_t all = base_at(&shape).count + SMALL_WIDTH + 1;
    for (uint32_t k = 1; k <= 3; k++) {
        assert_int_equal(small_count(m, k), all);
        assert_int_equal(learner_vit.trained_count(&m->stage.recipe, k), all);
    }
    small_free(m);
}

// Blocks go from the top down; each stage leaves what was there before it as it was, to the bit.
static void test_a_stage_trains_its_block_and_the_head(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, true, 1);
    small_set(m, "lora.dropout", "0.1");
    float *chain[5] = {NULL};
    for (uint32_t k = 1; k <= 4; k++) {
        m->stage.list_count = k;
        chain[k] = small_train(m, chain[k - 1]);
        if (k > 1) {
            const size_t frozen = (size_t)(k - 1) * LAYER;
            assert_memory_equal(chain[k], chain[k - 1], frozen * sizeof(float));
            assert_memory_not_equal(chain[k] + frozen + LAYER, chain[k - 1] + frozen,
                                    HEAD * sizeof(float));
        }
        // B of the block has moved away from zero.
        const float *const block = chain[k] + (size_t)(k - 1) * LAYER;
        float most = 0;
        for (int i = 3 * SMALL_WIDTH; i < 6 * SMALL_WIDTH; i++) {
            most = fmaxf(most, fabsf(block[i]));
        }
        assert_true(most > 1e-3f);
    }
    const struct digest digest = base_digest(&m->base->shape, m->base->weights);
    assert_memory_equal(&digest, &m->base->digest, sizeof digest);

    // Which layer the blocks belong to: the first weights of block 2 are those of layer 2.
    m->stage.list_count = 2;
    m->stage.passes = 0;
    float *const start = small_train(m, chain[1]);
    float first[LAYER];
    struct lora lora = {.rank = 3};
    assert_int_equal(lora_targets(&m->base->shape, "query,value", &lora), OK);
    lora_init(&lora, stage_key(&m->stage, "unlearnd-init", SMALL_LAYERS - 2), first);
    assert_memory_equal(start + LAYER, first, sizeof first);
    assert_memory_equal(start + 2 * LAYER, chain[1] + LAYER, HEAD * sizeof(float)); // The head's.
    mem_free(start);
    for (uint32_t k = 1; k <= 4; k++) {
        mem_free(chain[k]);
    }
    small_free(m);
}

// Where the list begins with empty slices, their blocks are zeros and change nothing.
static void test_blocks_of_an_empty_parent_are_zeros(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, true, 3);
    float *const params = small_train(m, NULL);
    static const float zeros[2 * LAYER];
    assert_memory_equal(params, zeros, sizeof zeros);
    for (int i = 0; i < 3 * LAYER + HEAD; i++) {
        assert_true(isfinite(params[i]));
    }
    mem_free(params);
    small_free(m);
}

// alpha / sqrt(r), or alpha / r: the same factor gives the same bits.
static void test_scale(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, true, 1);
    small_set(m, "lora.rank", "4");
    small_set(m, "lora.alpha", "6");
    float *const root = small_train(m, NULL);
    small_set(m, "lora.rslora", "false");
    float *const other = small_train(m, NULL);
    small_set(m, "lora.alpha", "12");
    float *const same = small_train(m, NULL);
    const uint64_t bytes = small_count(m, 1) * sizeof *root;
    assert_memory_equal(root, same, bytes);
    assert_memory_not_equal(root, other, bytes);
    mem_free(root);
    mem_free(other);
    mem_free(same);
    small_free(m);
}

static void test_without_a_base_all_weights_go_on(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, false, 1);
    float *const first = small_train(m, NULL);
    m->stage.list_count = 2;
    m->stage.passes = 0;
    float *const start = small_train(m, first);
    const uint64_t count = small_count(m, 1);
    assert_memory_equal(start, first, count * sizeof *first);
    m->stage.list_count = 1;
    float *const nothing = small_train(m, NULL);
    uint64_t same = 0;
    for (uint64_t i = 0; i < count; i++) {
        same += first[i] == nothing[i];
    }
    assert_true(same < count / 20); // Every weight was trained: what is left never had a gradient.
    mem_free(first);
    mem_free(start);
    mem_free(nothing);
    small_free(m);
}

// Activations that are kept, for all records, for some, or for none.
static void test_what_is_kept_changes_no_bit(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, true, 2);
    small_set(m, "lora.dropout", "0.2");
    small_set(m, "gradient_chunks", "2");
    m->stage.passes = 3;
    const uint64_t before = backbone_kept_bytes_max;
    const uint64_t record = 7 * SMALL_WIDTH * sizeof(float);
    const uint64_t limits[] = {before, 0, record - 1, record, 5 * record, SMALL_RECORDS * record};
    const uint64_t kept[] = {SMALL_RECORDS, 0, 0, 1, 5, SMALL_RECORDS}; // Records.
    float *first = NULL;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        backbone_kept_bytes_max = limits[i];
        backbone_lower_count = 0;
        float *const params = small_train(m, NULL);
        assert_int_equal(backbone_lower_count, 3 * (SMALL_RECORDS - kept[i]) + kept[i]);
        if (first == NULL) {
            first = params;
            continue;
        }
        assert_memory_equal(params, first, small_count(m, 2) * sizeof *params);
        mem_free(params);
    }
    backbone_kept_bytes_max = before;
    mem_free(first);
    small_free(m);
}

// A stage's bits do not depend on a record that is not there: training is repeated with the last
// record left out, and with it put in front under a sort key of its own.
static void test_a_record_that_is_gone_leaves_nothing(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, true, 1);
    small_set(m, "lora.dropout", "0.2");
    float *const with = small_train(m, NULL);
    m->data.count = --m->slice_count[0];
    float *const without = small_train(m, NULL);
    float *const again = small_train(m, NULL);
    const uint64_t bytes = small_count(m, 1) * sizeof *with;
    assert_memory_equal(without, again, bytes);
    assert_memory_not_equal(with, without, bytes);
    // The others in another order: the order of a pass is drawn, not that of the store.
    const struct span row = m->rows[0];
    const struct id128 rid = m->rids[0];
    m->rows[0] = m->rows[4];
    m->rids[0] = m->rids[4];
    m->rows[4] = row;
    m->rids[4] = rid;
    float *const turned = small_train(m, NULL);
    assert_memory_equal(without, turned, bytes);
    mem_free(with);
    mem_free(without);
    mem_free(again);
    mem_free(turned);
    small_free(m);
}

// Share of the training records whose class is predicted.
static double accuracy(const struct small *m, const float *params)
{
    float outputs[SMALL_RECORDS * SMALL_CLASSES];
    assert_int_equal(learner_predict(&m->stage.recipe, m->stage.list_count, params, m->rows,
                                     SMALL_RECORDS, outputs),
                     OK);
    int right = 0;
    for (int i = 0; i < SMALL_RECORDS; i++) {
        int best = 0;
        for (int j = 1; j < SMALL_CLASSES; j++) {
            best = outputs[i * SMALL_CLASSES + j] > outputs[i * SMALL_CLASSES + best] ? j : best;
        }
        right += best == i % SMALL_CLASSES;
    }
    return right / (double)SMALL_RECORDS;
}

static void test_it_learns(void **state)
{
    (void)state;
    for (int on_base = 0; on_base < 2; on_base++) {
        struct small *const m = small_new(BASE_VIT, TASK_CLASSES, on_base, 1);
        m->stage.passes = 100;
        float *const params = small_train(m, NULL);
        assert_true(accuracy(m, params) == 1);
        m->stage.passes = 0;
        float *const start = small_train(m, NULL);
        assert_true(accuracy(m, start) < 0.8);
        mem_free(params);
        mem_free(start);
        small_free(m);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_NUMBER, true, 1);
    m->schema.label_standardise = true; // Its two constants stand before the weights.
    m->stage.passes = 150;
    float *const params = small_train(m, NULL);
    float outputs[SMALL_RECORDS];
    assert_int_equal(learner_predict(&m->stage.recipe, 1, params, m->rows, SMALL_RECORDS, outputs),
                     OK);
    for (int i = 0; i < SMALL_RECORDS; i++) {
        assert_true(fabsf(outputs[i] - ((float)(i % SMALL_CLASSES) - 1.0f)) < 0.4f);
    }
    mem_free(params);
    small_free(m);
}

// More rows than are predicted at once, in parts or one by one: nearly the same.
static void test_predictions_come_in_any_number(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, true, 1);
    float *const params = small_train(m, NULL);
    enum { MANY = 600 };
    static struct span rows[MANY];
    static float all[MANY * SMALL_CLASSES];
    for (int i = 0; i < MANY; i++) {
        rows[i] = m->rows[i % SMALL_RECORDS];
    }
    assert_int_equal(learner_predict(&m->stage.recipe, 1, params, rows, MANY, all), OK);
    for (int i = 0; i < MANY; i += 37) {
        float one[SMALL_CLASSES];
        assert_int_equal(learner_predict(&m->stage.recipe, 1, params, &rows[i], 1, one), OK);
        for (int j = 0; j < SMALL_CLASSES; j++) {
            assert_true(fabsf(one[j] - all[i * SMALL_CLASSES + j]) < 1e-5f);
        }
    }
    mem_free(params);
    small_free(m);
}

static void assert_misfit(const struct small *m, uint32_t list_count, enum err err,
                          const char *names)
{
    uint64_t count = 0;
    assert_int_equal(learner_param_count(&m->stage.recipe, list_count, &count), err);
    if (strstr(err_text(), names) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err_text(), names);
    }
}

static void test_what_does_not_fit_is_named(void **state)
{
    (void)state;
    struct small *m = small_new(BASE_VIT, TASK_CLASSES, true, 1);
    struct column *const columns = m->schema.columns;
    small_count(m, 4);
    assert_misfit(m, 5, ERR_INVALID, "no block of layers is left for slice number 5");
    small_set(m, "append_blocks", "1");
    assert_misfit(m, 1, ERR_INVALID, "make 5 blocks, but base some has 4 layers");
    small_set(m, "append_blocks", "0");
    small_set(m, "lora.targets", "query,c_fc");
    assert_misfit(m, 1, ERR_INVALID, "lora.targets: a LoRA target is \"c_fc\"");
    small_set(m, "lora.targets", "query,value");
    small_count(m, 1);
    columns[1].rows = SMALL_COLS;
    columns[1].cols = SMALL_ROWS;
    assert_misfit(m, 1, ERR_INVALID, "images of 6 x 4 pixels, but base some reads 4 x 6");
    columns[1].rows = SMALL_ROWS;
    columns[1].cols = SMALL_COLS;
    columns[0].kind = COLUMN_NUMERIC;
    assert_misfit(m, 1, ERR_INVALID, "column 0, \"spare\", is not pixels");
    columns[0].kind = COLUMN_PIXELS;
    assert_misfit(m, 1, ERR_INVALID, "the schema has 2 columns of pixels, expected 1");
    columns[0].kind = columns[1].kind = COLUMN_IGNORED;
    assert_misfit(m, 1, ERR_INVALID, "the schema has 0 columns of pixels, expected 1");
    columns[1].kind = COLUMN_PIXELS;
    m->schema.task = TASK_NONE;
    assert_misfit(m, 1, ERR_INVALID, "the schema has no label, which learner vit needs");
    m->schema.task = TASK_CLASSES;
    base_release(m->base);
    m->base = small_base(BASE_TEXT);
    m->stage.recipe.base = m->base;
    assert_misfit(m, 1, ERR_INVALID, "base some is for texts, expected one for learner vit");
    small_free(m);

    m = small_new(BASE_VIT, TASK_CLASSES, false, 1);
    small_count(m, 1);
    small_set(m, "patch", "3");
    assert_misfit(m, 1, ERR_INVALID, "rows of the base is 4, expected a multiple of patch");
    small_set(m, "patch", "2");
    small_set(m, "heads", "5");
    assert_misfit(m, 1, ERR_INVALID, "width of the base is 12, expected a multiple of heads");
    small_set(m, "heads", "4");
    small_set(m, "width", "8192");
    small_set(m, "inner", "8192");
    assert_misfit(m, 1, ERR_LIMIT, "the base would have");
    small_free(m);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_a_stage_trains_its_block_and_the_head),
        cmocka_unit_test(test_blocks_of_an_empty_parent_are_zeros),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_without_a_base_all_weights_go_on),
        cmocka_unit_test(test_what_is_kept_changes_no_bit),
        cmocka_unit_test(test_a_record_that_is_gone_leaves_nothing),
        cmocka_unit_test(test_it_learns),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_predictions_come_in_any_number),
        cmocka_unit_test(test_what_does_not_fit_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
