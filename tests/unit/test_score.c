// tests/unit/test_score.c: scores in parts are the scores.
//
// Method: a small model of texts with a context of 9; whatever bounds the parts, one after the other they
// give the values that learner_score gives at once, bit for bit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/tiny_learner.h"

static uint64_t values_of(const struct small *m)
{
    uint64_t values = 0;
    for (uint32_t i = 0; i < SMALL_RECORDS; i++) {
        values += learner_score_count(&m->stage.recipe, m->rows[i]);
    }
    return values;
}

static enum err part_from(const struct small *m, uint64_t from, uint64_t values_max,
                          struct score_part *part_out)
{
    return learner_score_part(&m->stage.recipe, m->rows, SMALL_RECORDS, from, values_max, part_out);
}

static void check_parts(const struct small *m, const float *params, uint64_t values_max)
{
    const struct recipe *const recipe = &m->stage.recipe;
    const uint64_t values = values_of(m);
    float *const whole = small_floats(values), *const parts = small_floats(values);
    assert_int_equal(learner_score(recipe, 1, params, m->rows, SMALL_RECORDS, whole), OK);
    uint64_t at = 0, part_count = 0;
    struct score_part part = {.more = true};
    for (; part.more; at += part.count, part_count++) {
        assert_int_equal(part_from(m, at, values_max, &part), OK);
        assert_true(part.from == at && part.count > 0 && at + part.count <= values);
        // More than is allowed only where a window alone is.
        assert_true(part.count <= values_max || part.count <= SMALL_CONTEXT);
        assert_int_equal(
            learner_score_some(recipe, 1, params, m->rows, SMALL_RECORDS, &part, parts + at), OK);
    }
    assert_int_equal(at, values);
    assert_memory_equal(parts, whole, values * sizeof *whole);
    assert_true(values_max < values ? part_count > 1 : part_count == 1);
    mem_free(parts);
    mem_free(whole);
}

static void test_parts_are_the_whole(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_TEXT, TASK_NONE, false, 1);
    float *const params = small_train(m, NULL);
    const uint64_t bounds[] = {0, 1, SMALL_CONTEXT, 20, values_of(m) - 1, values_of(m), UINT64_MAX};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        check_parts(m, params, bounds[i]);
    }
    mem_free(params);
    small_free(m);
}

// Record 1 has 7 bytes, record 2 has 14: windows begin at 0 (record 0 has its end alone), 1, 9, 18, 24.
static void test_parts_begin_at_windows(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_TEXT, TASK_NONE, false, 1);
    struct score_part part;
    const uint64_t begins[] = {0, 1, 9, 18, 24};
    for (size_t i = 0; i + 1 < sizeof begins / sizeof begins[0]; i++) {
        assert_int_equal(part_from(m, begins[i], 1, &part), OK);
        assert_int_equal(part.count, begins[i + 1] - begins[i]);
        assert_true(part.more);
    }
    assert_int_equal(part_from(m, 10, 1, &part), ERR_INVALID);
    assert_non_null(
        strstr(err_text(), "no window of the texts begins at value 10, the next one at 18"));
    assert_int_equal(part_from(m, values_of(m), 1, &part), ERR_INVALID);
    assert_non_null(strstr(err_text(), "expected one below"));
    assert_int_equal(part_from(m, UINT64_MAX, 1, &part), ERR_INVALID);
    assert_int_equal(learner_score_part(&m->stage.recipe, m->rows, 0, 0, 1, &part), ERR_INVALID);
    small_free(m);
}

static void test_only_texts_are_scored(void **state)
{
    (void)state;
    struct small *const m = small_new(BASE_VIT, TASK_CLASSES, false, 1);
    struct small *const text = small_new(BASE_TEXT, TASK_CLASSES, false, 1);
    struct score_part part;
    assert_false(learner_scores(&m->stage.recipe));
    assert_int_equal(part_from(m, 0, 1, &part), ERR_INVALID);
    assert_non_null(strstr(err_text(), "learner vit does not score"));
    assert_true(learner_scores(&text->stage.recipe)); // A label beside the text does not matter.
    assert_int_equal(part_from(text, 1, 1, &part), OK);
    assert_int_equal(part.count, 8);
    small_free(text);
    small_free(m);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_are_the_whole),
        cmocka_unit_test(test_parts_begin_at_windows),
        cmocka_unit_test(test_only_texts_are_scored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
