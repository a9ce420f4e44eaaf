// tests/unit/test_args.c: options from a command line into a struct.
//
// Method: argv as a shell would make it; usage errors are returned instead of ending the program.
#include <argp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "client/args.h"

struct target {
    bool wait;
    const char *dir;
    struct args_u64 limit;
    struct args_list record, subject;
};

static const struct args_option options[] = {
    {"wait", 1, NULL, "", ARGS_FLAG, offsetof(struct target, wait), 0},
    {"dir", 2, "DIR", "", ARGS_TEXT, offsetof(struct target, dir), 0},
    {"limit", 3, "N", "", ARGS_U64, offsetof(struct target, limit), 100},
    {"record", 4, "ID", "", ARGS_LIST, offsetof(struct target, record), 0},
    {"subject", 5, "S", "", ARGS_LIST, offsetof(struct target, subject), 0},
};
static const struct args_syntax syntax = {.words = "DATASET [FILE]",
                                          .words_min = 1,
                                          .words_max = 2,
                                          .doc = "",
                                          .options = options,
                                          .option_count = sizeof options / sizeof options[0]};

enum { ARGS_MAX = 16 };

// Parses the words of `line`, which it cuts up.
static enum err parse(char *line, struct target *target, struct args_list *words)
{
    char *argv[ARGS_MAX + 1] = {NULL};
    int argc = 0;
    for (char *word; argc < ARGS_MAX && (word = strsep(&line, " ")) != NULL;) {
        argv[argc++] = word;
    }
    *target = (struct target){0};
    return args_parse(&syntax, ARGP_NO_EXIT | ARGP_NO_ERRS, argc, argv, target, words);
}

static void assert_list(const struct args_list *list, size_t count, const char *const *texts)
{
    assert_int_equal(list->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(list->texts[i], texts[i]);
    }
}

static void test_every_kind(void **state)
{
    (void)state;
    struct target target;
    struct args_list words;
    char line[] = "x data --wait --dir=d file --limit 7";
    assert_int_equal(parse(line, &target, &words), OK);
    assert_true(target.wait);
    assert_string_equal(target.dir, "d");
    assert_true(target.limit.given);
    assert_int_equal(target.limit.value, 7);
    assert_list(&words, 2, (const char *[]){"data", "file"});
    args_deinit(&syntax, &target, &words);
}

static void test_nothing_given(void **state)
{
    (void)state;
    struct target target;
    struct args_list words;
    char line[] = "x data";
    assert_int_equal(parse(line, &target, &words), OK);
    assert_false(target.wait);
    assert_null(target.dir);
    assert_false(target.limit.given);
    assert_int_equal(target.record.count, 0);
    args_deinit(&syntax, &target, &words);
}

static void test_lists_take_words_up_to_the_next_option(void **state)
{
    (void)state;
    struct target target;
    struct args_list words;
    char line[] = "x data --record 1 2 3 --wait --subject a --record 4 --record=5 6";
    assert_int_equal(parse(line, &target, &words), OK);
    assert_list(&target.record, 6, (const char *[]){"1", "2", "3", "4", "5", "6"});
    assert_list(&target.subject, 1, (const char *[]){"a"});
    assert_list(&words, 1, (const char *[]){"data"});
    assert_true(target.wait);
    args_deinit(&syntax, &target, &words);
}

static void test_an_option_closes_the_list(void **state)
{
    (void)state;
    struct target target;
    struct args_list words;
    char line[] = "x --record 1 --wait data";
    assert_int_equal(parse(line, &target, &words), OK);
    assert_list(&target.record, 1, (const char *[]){"1"});
    assert_list(&words, 1, (const char *[]){"data"});
    args_deinit(&syntax, &target, &words);
}

static void assert_refused(const char *text)
{
    char line[128];
    snprintf(line, sizeof line, "%s", text);
    struct target target;
    struct args_list words;
    assert_int_equal(parse(line, &target, &words), ERR_INVALID);
    args_deinit(&syntax, &target, &words);
}

static void test_usage_errors(void **state)
{
    (void)state;
    struct target target;
    struct args_list words;
    char control[] = "x data file --limit 100";
    assert_int_equal(parse(control, &target, &words), OK);
    args_deinit(&syntax, &target, &words);
    assert_refused("x data file --limit 101"); // Above max.
    assert_refused("x data file --limit 1x");
    assert_refused("x data file --limit=-1");
    assert_refused("x data file more --limit 100"); // A word too many,
    assert_refused("x --limit 100");                // and too few.
    assert_refused("x data --unknown");
    assert_refused("x data --dir");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_nothing_given),
        cmocka_unit_test(test_lists_take_words_up_to_the_next_option),
        cmocka_unit_test(test_an_option_closes_the_list),
        cmocka_unit_test(test_usage_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
