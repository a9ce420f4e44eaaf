// tests/unit/test_component.c: the text of a component's name, both ways, and the lineage rule.
//
// Method: names that must pass are read and written back to the same text; each text that must not
// differs from a good one in one thing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/component.h"

static void test_text_is_read_and_written_back(void **state)
{
    (void)state;
    static const char *const good[] = {"s0:[0]", "s3:[2,0,1]", "s4095:[199,0,100]", "s10:[10,1]"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct component component;
        char text[COMPONENT_TEXT_BYTES];
        assert_int_equal(component_get(good[i], &component), OK);
        component_put(&component, text);
        assert_string_equal(text, good[i]);
    }
    struct component component;
    assert_int_equal(component_get("s3:[2,0,1]", &component), OK);
    assert_int_equal(component.shard, 3);
    assert_int_equal(component.count, 3);
    assert_int_equal(component.list[0], 2);
    assert_int_equal(component.list[1], 0);
    assert_int_equal(component.list[2], 1);
}

static void test_other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "s",
        "s3",
        "s3:",
        "s3:[",
        "s3:[]",
        "3:[2]",
        "S3:[2]",
        "s:[2]",
        "s3:[2",
        "s3:[2,]",
        "s3:[,2]",
        "s3:[2]x",
        "s3:[2] ",
        " s3:[2]",
        "s3 :[2]",
        "s3:[2, 0]",
        "s3:[2,2]",
        "s3:[2;0]",
        "s03:[2]",
        "s3:[02]",
        "s3:[-1]",
        "s+3:[2]",
        "s4096:[0]",
        "s0:[200]",
        "s3:(2)",
        "s3:[2.0]",
        "s3:[2]]",
        "s3[2]",
        "s99999999999:[0]",
        "s0:[4294967296]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct component component;
        assert_int_equal(component_get(bad[i], &component), ERR_INVALID);
        assert_non_null(strstr(err_text(), "s3:[2,0,1]")); // Says what was expected.
    }
}

static void test_longest_name_fits(void **state)
{
    (void)state;
    struct component component = {.shard = LIMIT_SHARDS - 1, .count = LIMIT_SLICES}, back;
    for (uint16_t i = 0; i < LIMIT_SLICES; i++) {
        component.list[i] = (uint16_t)(LIMIT_SLICES - 1 - i);
    }
    char text[COMPONENT_TEXT_BYTES], longer[COMPONENT_TEXT_BYTES + 16];
    component_put(&component, text);
    assert_int_equal(component_get(text, &back), OK);
    assert_true(component_equal(&component, &back));
    snprintf(longer, sizeof longer, "%.*s,0]", (int)strlen(text) - 1, text);
    assert_int_equal(component_get(longer, &back), ERR_INVALID);
    component.count = 0; // The parent of a first stage.
    component_put(&component, text);
    assert_string_equal(text, "");
}

static void test_contains_and_equal(void **state)
{
    (void)state;
    struct component a, b;
    assert_int_equal(component_get("s3:[2,0,11]", &a), OK);
    for (uint32_t slice = 0; slice < LIMIT_SLICES; slice++) {
        assert_int_equal(component_contains(&a, slice), slice == 2 || slice == 0 || slice == 11);
    }
    assert_false(component_contains(&a, 65536)); // Not cut to 16 bits.
    static const char *const others[] = {"s4:[2,0,11]", "s3:[2,11,0]", "s3:[2,0]", "s3:[2,0,11,1]"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(component_get(others[i], &b), OK);
        assert_false(component_equal(&a, &b));
    }
    assert_int_equal(component_get("s3:[2,0,11]", &b), OK);
    b.list[5] = 77; // Beyond its count: not part of the name.
    assert_true(component_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_read_and_written_back),
        cmocka_unit_test(test_other_texts_are_refused),
        cmocka_unit_test(test_longest_name_fits),
        cmocka_unit_test(test_contains_and_equal),
    };
    return cmocka_run_group_tests_name("component", tests, NULL, NULL);
}
