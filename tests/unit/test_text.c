// tests/unit/test_text.c: the learner of texts: its head, its windows, its probabilities, and that
// it learns.
//
// Method: gradients are held against the change of the loss; scores against predictions of each
// beginning of a text; stages byte by byte against each other. Windows: test_window.c; what it has
// in common with vit: test_vit.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/window.h"
#include "tests/unit/tiny_learner.h"

enum { LAYER = 2 * 3 * (SMALL_WIDTH + SMALL_WIDTH), HEAD = WINDOW_OUTPUTS * SMALL_WIDTH };

static void test_gradients(void **state)
{
    (void)state;
    for (int on_base = 0; on_base < 2; on_base++) {
        struct small *const m = small_new(BASE_TEXT, TASK_NONE, on_base, 1);
        if (on_base) {
            small_set(m, "lora.dropout", "0.3");
        }
        assert_true(small_slopes_off(m, NULL, 7) < 2e-3);
        small_free(m);
    }
}

static void test_layout(void **state)
{
    (void)state;
    struct small *m = small_new(BASE_TEXT, TASK_NONE, true, 2);
    assert_int_equal(small_count(m, 2), 2 * LAYER + HEAD);
    assert_int_equal(learner_text.trained_count(&m->stage.recipe, 2), LAYER + HEAD);
    small_set(m, "lora.targets", "c_attn,mlp.c_proj");
    assert_int_equal(small_count(m, 1), 3 * (12 + 36) + 3 * (20 + 12) + HEAD);
    assert_int_equal(learner_output_width(&m->stage.recipe), WINDOW_OUTPUTS);
    small_free(m);

    m = small_new(BASE_TEXT, TASK_NONE, false, 2);
    struct base_shape shape;
    assert_int_equal(learner_text.base_shape(&m->stage.recipe, &shape), OK);
    assert_int_equal(shape.context, SMALL_CONTEXT);
    assert_int_equal(small_count(m, 2), base_at(&shape).count); // The head is the token rows.
    assert_int_equal(learner_text.trained_count(&m->stage.recipe, 2), base_at(&shape).count);
    small_free(m);
}

// On a base the head starts as the base's token rows, then goes on from stage to stage.
static void test_heads(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_TEXT, TASK_NONE, true, 1);
    m->stage.passes = 0;
    float *const start = small_train(m, NULL);
    const float *const tokens = m->base->weights + base_at(&m->base->shape).tokens;
    assert_memory_equal(start + LAYER, tokens, 256 * SMALL_WIDTH * sizeof *tokens);
    assert_memory_equal(start + LAYER + 256 * SMALL_WIDTH, tokens + BASE_EOS * SMALL_WIDTH,
                        SMALL_WIDTH * sizeof *tokens);
    m->stage.passes = 1;
    float *const first = small_train(m, NULL);
    assert_memory_not_equal(first + LAYER, start + LAYER, HEAD * sizeof *start);
    m->stage.list_count = 2;
    m->stage.passes = 0;
    float *const second = small_train(m, first);
    assert_memory_equal(second, first, LAYER * sizeof *first);
    assert_memory_equal(second + 2 * LAYER, first + LAYER, HEAD * sizeof *first);
    const struct digest digest = base_digest(&m->base->shape, m->base->weights);
    assert_memory_equal(&digest, &m->base->digest, sizeof digest);
    mem_free(start);
    mem_free(first);
    mem_free(second);
    small_free(m);
}

// Softmax of what follows the first `length` bytes of a text.
static double probability(const struct small *m, const float *params, const char *text,
                          uint32_t length, uint32_t next)
{
    struct buf row = {0};
    buf_u32(&row, length);
    buf_put(&row, span_of(text, length));
    const struct span span = buf_span(&row);
    float logits[WINDOW_OUTPUTS];
    assert_int_equal(
        learner_predict(&m->stage.recipe, m->stage.list_count, params, &span, 1, logits), OK);
    buf_deinit(&row);
    double sum = 0;
    for (int i = 0; i < WINDOW_OUTPUTS; i++) {
        sum += exp((double)logits[i]);
    }
    return exp((double)logits[next]) / sum;
}

// Scores of a text; caller frees.
static float *score(const struct small *m, const float *params, const char *text, uint64_t *count)
{
    struct buf row = {0};
    buf_u32(&row, (uint32_t)strlen(text));
    buf_put(&row, span_text(text));
    const struct span span = buf_span(&row);
    *count = learner_score_count(&m->stage.recipe, span);
    assert_int_equal(*count, strlen(text) + 1);
    float *const out = small_floats(*count);
    assert_int_equal(learner_score(&m->stage.recipe, m->stage.list_count, params, &span, 1, out),
                     OK);
    buf_deinit(&row);
    return out;
}

static void test_scores_are_predictions(void **state)
{
    (void)state;
    for (int on_base = 0; on_base < 2; on_base++) {
        struct small *const m = small_new(BASE_TEXT, TASK_NONE, on_base, 1);
        float *const params = small_train(m, NULL);
        const char *const text = "abxdeab"; // One window.
        uint64_t count = 0;
        float *const scores = score(m, params, text, &count);
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t next = i + 1 == count ? BASE_BYTES : (uint32_t)text[i];
            const double expected = probability(m, params, text, i, next);
            assert_true(fabs((double)scores[i] - expected) < 1e-5 * expected);
        }
        mem_free(scores);
        mem_free(params);
        small_free(m);
    }
}

// The second window knows nothing of the first: only that its first token is byte 8.
static void test_windows_are_apart(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_TEXT, TASK_NONE, true, 1);
    float *const params = small_train(m, NULL);
    uint64_t count = 0;
    float *const one = score(m, params, "abcdeabcdeabcd", &count);
    float *const two = score(m, params, "zzzzzzzzdeabcd", &count);
    assert_int_equal(count, 15);
    assert_memory_equal(one + 9, two + 9, 6 * sizeof *one); // From byte 9 on.
    assert_memory_not_equal(one + 8, two + 8, sizeof *one);
    float *const three = score(m, params, "abcdeabczeabcd", &count);
    assert_memory_not_equal(one + 9, three + 9, sizeof *one);
    mem_free(one);
    mem_free(two);
    mem_free(three);
    mem_free(params);
    small_free(m);
}

// Mean bits for each byte and end of the training records.
static double bits_per_token(const struct small *m, const float *params)
{
    double bits = 0;
    uint64_t tokens = 0;
    for (int i = 0; i < SMALL_RECORDS; i++) {
        const uint64_t count = learner_score_count(&m->stage.recipe, m->rows[i]);
        float *const out = small_floats(count);
        assert_int_equal(
            learner_score(&m->stage.recipe, m->stage.list_count, params, &m->rows[i], 1, out), OK);
        for (uint64_t j = 0; j < count; j++) {
            bits -= log2((double)out[j]);
        }
        tokens += count;
        mem_free(out);
    }
    return bits / (double)tokens;
}

static void test_it_learns(void **state)
{
    (void)state;
    for (int on_base = 0; on_base < 2; on_base++) {
        struct small *const m = small_new(BASE_TEXT, TASK_NONE, on_base, 1);
        m->stage.passes = 100;
        float *const params = small_train(m, NULL);
        m->stage.passes = 0;
        float *const start = small_train(m, NULL);
        assert_true(bits_per_token(m, start) > 6);
        assert_true(bits_per_token(m, params) < 1.2); // Little is open but where a text ends.
        mem_free(params);
        mem_free(start);
        small_free(m);
    }
}

static void test_what_is_kept_changes_no_bit(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_TEXT, TASK_NONE, true, 2);
    small_set(m, "lora.dropout", "0.2");
    small_set(m, "gradient_chunks", "4");
    const uint64_t before = backbone_kept_bytes_max;
    const uint64_t token = SMALL_WIDTH * sizeof(float);
    const uint64_t limits[] = {before, 0, token, 20 * token, 60 * token, 61 * token};
    float *first = NULL;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        backbone_kept_bytes_max = limits[i];
        float *const params = small_train(m, NULL);
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

// The loss of one window in one pass, with fixed weights.
static double loss_of(const struct small *m, const float *weights, struct span row, uint32_t piece,
                      uint32_t pass)
{
    float *const gradient = small_floats(small_count(m, 1));
    const uint64_t index = 0;
    const struct stage_rows one = {.rids = m->rids,
                                   .rows = &row,
                                   .count = 1,
                                   .pass = pass,
                                   .pieces = &piece,
                                   .indices = &index};
    const struct stage_data data = {&row, m->rids, m->slice_count, 1};
    void *work = NULL;
    double loss = 0;
    assert_int_equal(learner_text.work_new(&m->stage.recipe, 1, &m->stage, &data, 1, &work), OK);
    learner_text.gradient(work, weights, &one, gradient, &loss);
    learner_text.work_free(work);
    mem_free(gradient);
    return loss;
}

// Dropout: each window of a record has draws of its own, and each pass.
static void test_windows_and_passes_drop_apart(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_TEXT, TASK_NONE, true, 1);
    float *const weights = small_floats(small_count(m, 1));
    learner_text.init(&m->stage, NULL, weights);
    rng_fill_uniform(rng_key_of("small", span_text("noise")), 0.5f, weights, LAYER);
    struct buf bytes = {0}; // Windows 1 and 2 read the same tokens.
    buf_u32(&bytes, 30);
    buf_put(&bytes, span_text("qabcdefghiabcdefghiabcdefghiab"));
    const struct span row = buf_span(&bytes);
    const double bare = loss_of(m, weights, row, 1, 0);
    assert_true(bare == loss_of(m, weights, row, 2, 0)); // Without it nothing tells them apart.
    assert_true(bare == loss_of(m, weights, row, 1, 3));
    small_set(m, "lora.dropout", "0.5");
    const double dropped = loss_of(m, weights, row, 1, 0);
    assert_true(dropped == loss_of(m, weights, row, 1, 0));
    assert_true(fabs(dropped - bare) > 1e-4);
    assert_true(fabs(dropped - loss_of(m, weights, row, 2, 0)) > 1e-4);
    assert_true(fabs(dropped - loss_of(m, weights, row, 1, 3)) > 1e-4);
    buf_deinit(&bytes);
    mem_free(weights);
    small_free(m);
}

// The sum of a batch is divided by the predicted tokens: 13 records of 7i mod 41 bytes.
static void test_units(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_TEXT, TASK_NONE, true, 1);
    const struct recipe *const recipe = &m->stage.recipe;
    for (uint32_t i = 0; i < SMALL_RECORDS; i++) {
        const uint32_t bytes = 7 * i % 41;
        const uint32_t pieces = learner_text.piece_count(recipe, m->rows[i]);
        assert_int_equal(pieces, (bytes + 1 + 8) / 9);
        uint32_t units = 0;
        for (uint32_t piece = 0; piece < pieces; piece++) {
            units += learner_text.unit_count(recipe, m->rows[i], piece);
        }
        assert_int_equal(units, bytes + 1);
    }
    small_free(m);
}

static void assert_misfit(const struct small *m, const char *names)
{
    uint64_t count = 0;
    assert_int_equal(learner_param_count(&m->stage.recipe, 1, &count), ERR_INVALID);
    if (strstr(err_text(), names) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err_text(), names);
    }
}

static void test_what_does_not_fit_is_named(void **state)
{
    (void)state;
    struct small *m = small_new(BASE_TEXT, TASK_CLASSES, true, 1);
    struct column *const columns = m->schema.columns;
    small_count(m, 1); // A label may be there: it is not looked at.
    columns[0].kind = COLUMN_CATEGORY;
    assert_misfit(m, "column 0, \"spare\", is not text");
    columns[0].kind = COLUMN_TEXT;
    assert_misfit(m, "the schema has 2 columns of text, expected 1 for learner text");
    columns[0].kind = COLUMN_IGNORED;
    small_set(m, "lora.targets", "output.dense");
    assert_misfit(m, "lora.targets: a LoRA target is \"output.dense\"");
    small_set(m, "lora.targets", "query,c_attn");
    assert_misfit(m, "targets 1 and 2 of LoRA cover the same outputs");
    small_set(m, "lora.targets", "query");
    base_release(m->base);
    m->base = small_base(BASE_VIT);
    m->stage.recipe.base = m->base;
    assert_misfit(m, "base some is for images, expected one for learner text");
    small_free(m);

    m = small_new(BASE_TEXT, TASK_NONE, true, 1);
    float *const params = small_train(m, NULL);
    struct buf row = {0};
    float logits[WINDOW_OUTPUTS];
    buf_u32(&row, 8); // With BOS as many tokens as the context.
    buf_put(&row, span_text("abcdefgh"));
    struct span span = buf_span(&row);
    assert_int_equal(learner_predict(&m->stage.recipe, 1, params, &span, 1, logits), OK);
    buf_clear(&row);
    buf_u32(&row, 9);
    buf_put(&row, span_text("abcdefghi"));
    span = buf_span(&row);
    assert_int_equal(learner_predict(&m->stage.recipe, 1, params, &span, 1, logits), ERR_INVALID);
    assert_non_null(strstr(err_text(), "row 0: a text of 9 bytes, expected at most 8"));
    assert_null(strstr(err_text(), "abc"));
    buf_deinit(&row);
    mem_free(params);
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
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_scores_are_predictions),
        cmocka_unit_test(test_windows_are_apart),
        cmocka_unit_test(test_it_learns),
        cmocka_unit_test(test_what_is_kept_changes_no_bit),
        cmocka_unit_test(test_windows_and_passes_drop_apart),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_what_does_not_fit_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
