// tests/unit/test_risk.c: the text of a table of risk classes is one to one, and says what it must.
//
// Method: random tables are written, read and written again; each error has its control beside it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/risk.h"
#include "tests/unit/draw.h"

static void expect_text(const char *given, uint32_t shards, uint32_t slices, const char *written)
{
    struct risk_table table;
    char text[RISK_TEXT_BYTES];
    assert_int_equal(risk_get("risk", given, &table), OK);
    assert_int_equal(risk_check("risk", &table, shards, slices), OK);
    risk_put(&table, shards, slices, text);
    assert_string_equal(text, written);
}

static void test_one_text_for_one_table(void **state)
{
    (void)state;
    expect_text("uniform", 8, 4, "uniform");
    expect_text("1=6-7/3", 8, 4, "1=6-7/3");
    expect_text("1=6-7/3-3", 8, 4, "1=6-7/3");
    expect_text("[2 = * / 3, 1 = 6 - 7 / 3]", 8, 4, "1=6-7/3,2=*/3");
    expect_text("2=0-7/3,1=6-7/0-3", 8, 4, "1=6-7/*,2=*/3");
    expect_text("5=*/*", 8, 4, "uniform");
    expect_text("5=0-7/0-3,0=0/0", 8, 4, "0=0/0");
    expect_text("15=4095/199", 4096, 200, "15=4095/199");
    expect_text("0=0/0", 1, 1, "uniform");
}

static void test_fields_are_those_of_the_text(void **state)
{
    (void)state;
    struct risk_table table;
    assert_int_equal(risk_get("risk", "3=6-7/1-3, 4=*/2, 5=1/*", &table), OK);
    const struct risk_share three = {6, 2, 1, 3}, four = {0, 0, 2, 1}, five = {1, 1, 0, 0};
    assert_memory_equal(&table.of[3], &three, sizeof three);
    assert_memory_equal(&table.of[4], &four, sizeof four);
    assert_memory_equal(&table.of[5], &five, sizeof five);
    static const struct risk_share none;
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        if (risk < 3 || risk > 5) {
            assert_memory_equal(&table.of[risk], &none, sizeof none);
        }
    }
}

static void test_the_longest_table_fits(void **state)
{
    (void)state;
    struct risk_table table, back;
    char text[RISK_TEXT_BYTES], again[RISK_TEXT_BYTES];
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        table.of[risk] = (struct risk_share){4094, 2, 198, 2};
    }
    risk_put(&table, 4096, 200, text);
    assert_non_null(strstr(text, ",15=4094-4095/198-199"));
    assert_int_equal(risk_get("risk", text, &back), OK);
    risk_put(&back, 4096, 200, again);
    assert_string_equal(text, again);
}

static void test_random_tables_read_back(void **state)
{
    (void)state;
    struct draw draw = draw_new("test_risk");
    for (int i = 0; i < 20000; i++) {
        const uint32_t shards = 1 + draw_below(&draw, 12), slices = 1 + draw_below(&draw, 12);
        struct risk_table table = {0}, back;
        for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
            struct risk_share *const share = &table.of[risk];
            if (draw_below(&draw, 2) == 0) {
                share->shard_first = (uint16_t)draw_below(&draw, shards);
                share->shard_count = (uint16_t)(1 + draw_below(&draw, shards - share->shard_first));
            }
            if (draw_below(&draw, 2) == 0) {
                share->slice_first = (uint16_t)draw_below(&draw, slices);
                share->slice_count = (uint16_t)(1 + draw_below(&draw, slices - share->slice_first));
            }
        }
        char text[RISK_TEXT_BYTES], again[RISK_TEXT_BYTES];
        assert_int_equal(risk_check("risk", &table, shards, slices), OK);
        risk_put(&table, shards, slices, text);
        assert_int_equal(risk_get("risk", text, &back), OK);
        assert_int_equal(risk_check("risk", &back, shards, slices), OK);
        risk_put(&back, shards, slices, again);
        assert_string_equal(text, again);
        for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
            const struct risk_share *const a = &table.of[risk], *const b = &back.of[risk];
            const bool all = a->shard_count == 0 || a->shard_count == shards;
            assert_int_equal(b->shard_first, all ? 0 : a->shard_first);
            assert_int_equal(b->shard_count, all ? 0 : a->shard_count);
            const bool every = a->slice_count == 0 || a->slice_count == slices;
            assert_int_equal(b->slice_first, every ? 0 : a->slice_first);
            assert_int_equal(b->slice_count, every ? 0 : a->slice_count);
        }
    }
}

static void refuse(const char *text, const char *said)
{
    struct risk_table table, before;
    memset(&table, 5, sizeof table);
    before = table;
    assert_int_equal(risk_get("risk", text, &table), ERR_INVALID);
    if (strstr(err_text(), said) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err_text(), said);
    }
    assert_memory_equal(&table, &before, sizeof table);
}

static void test_bad_tables_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "1",
        "1=",
        "1=2",
        "1=2/",
        "1=/2",
        "=1/2",
        "16=1/2",
        "-1=1/2",
        "1=2-1/0",
        "1=1/3-2",
        "1=1-/2",
        "1=-1/2",
        "1=1-2-3/0",
        "1=1/2,",
        ",1=1/2",
        "1=1/2,,2=1/1",
        "1=1/2;2=1/1",
        "1=**/2",
        "1=a/2",
        "1=1/2/3",
        "1=1/2=3",
        "1=70000/2",
        "01x=1/2",
        "Uniform",
        "1=1/1111111111111111",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refuse(bad[i], "expected uniform or CLASS=SHARDS/SLICES joined by commas");
    }
    refuse("1=1/2]", "expected uniform or");
    refuse("[1=1/2]x", "expected uniform or");
    refuse("[1=1/2", "expected a ] at its end");
    refuse("1=1/2,2=0/0,1=1/2", "risk names class 1 twice, expected each class once");
    struct risk_table table;
    assert_int_equal(risk_get("risk", "[1=1/2,2=0/0]", &table), OK); // Control.
}

static void test_ranges_must_exist(void **state)
{
    (void)state;
    struct risk_table table;
    assert_int_equal(risk_get("risk", "2=6-7/3", &table), OK);
    assert_int_equal(risk_check("risk", &table, 8, 4), OK);
    assert_int_equal(risk_check("risk", &table, 7, 4), ERR_INVALID);
    assert_string_equal(err_text(),
                        "risk puts class 2 into shards 6 to 7, expected some of 0 to 6");
    assert_int_equal(risk_check("risk", &table, 8, 3), ERR_INVALID);
    assert_string_equal(err_text(),
                        "risk puts class 2 into slices 3 to 3, expected some of 0 to 2");
    assert_int_equal(risk_get("risk", "2=*/*", &table), OK);
    assert_int_equal(risk_check("risk", &table, 1, 1), OK);
}

static void test_classes(void **state)
{
    (void)state;
    uint8_t risk = 99;
    assert_int_equal(risk_class("0", &risk), OK);
    assert_int_equal(risk, 0);
    assert_int_equal(risk_class("15", &risk), OK);
    assert_int_equal(risk, 15);
    static const char *const bad[] = {"16", "-1", "", "1.0", "high", " 1", "256"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(risk_class(bad[i], &risk), ERR_INVALID);
        assert_string_equal(err_text(), "a risk class is a whole number from 0 to 15");
    }
    assert_int_equal(risk, 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_text_for_one_table),
        cmocka_unit_test(test_fields_are_those_of_the_text),
        cmocka_unit_test(test_the_longest_table_fits),
        cmocka_unit_test(test_random_tables_read_back),
        cmocka_unit_test(test_bad_tables_are_named),
        cmocka_unit_test(test_ranges_must_exist),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
