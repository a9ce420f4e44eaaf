// tests/unit/test_textset.c: a set holds each text once, finds it again, and knows its limit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/textset.h"
#include "tests/unit/feed.h"

static void test_textset_holds_each_text_once(void **state)
{
    (void)state;
    struct textset set = {0};
    assert_false(textset_has(&set, span_text("7")));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i++) { // Through several growths of the table.
            char text[16];
            snprintf(text, sizeof text, "%d", i * 3);
            assert_int_equal(textset_add(&set, "it", span_text(text), 5000), OK);
        }
        assert_int_equal(set.count, 5000);
    }
    for (int i = 0; i < 15000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(textset_has(&set, span_text(text)), i % 3 == 0);
    }
    textset_deinit(&set);
    assert_int_equal(set.count, 0);
}

static void test_textset_is_bounded(void **state)
{
    (void)state;
    struct textset set = {0};
    assert_int_equal(textset_add(&set, "it", span_text("a"), 2), OK);
    assert_int_equal(textset_add(&set, "it", span_text("b"), 2), OK);
    assert_int_equal(textset_add(&set, "it", span_text("c"), 2), ERR_LIMIT);
    assert_said("more than 2 different texts");
    assert_int_equal(textset_add(&set, "it", span_text("b"), 2), OK); // No new one.
    assert_int_equal(set.count, 2);
    assert_int_equal(textset_add(&set, "it", span_text(""), 9), ERR_INVALID);
    assert_said("it has 0 bytes, expected 1 to 255");
    const char *const path = feed_text("texts", "a\nd\n");
    assert_int_equal(textset_read(&set, "it", path, 2), ERR_LIMIT);
    assert_said("texts line 2: more than 2 different texts");
    assert_int_equal(textset_read(&set, "it", path, 3), OK);
    textset_deinit(&set);
}

static void test_textset_sorts_by_bytes(void **state)
{
    (void)state;
    struct textset set = {0};
    assert_null(textset_sorted(&set));
    static const char *const texts[] = {"b", "\xc3\xa9", "a", "B", "ab"};
    static const char *const sorted[] = {"B", "a", "ab", "b", "\xc3\xa9"};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(textset_add(&set, "it", span_text(texts[i]), 5), OK);
    }
    char **const found = textset_sorted(&set);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(found[i], sorted[i]);
        mem_free(found[i]);
    }
    mem_free(found);
    textset_deinit(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_textset_holds_each_text_once),
        cmocka_unit_test(test_textset_is_bounded),
        cmocka_unit_test(test_textset_sorts_by_bytes),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
