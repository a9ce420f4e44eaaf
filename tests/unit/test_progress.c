// tests/unit/test_progress.c: what the progress line says: share, rate, remaining time.
//
// Method: progress_text is pure; each expected line is written out. Writing to stderr is not looked
// at here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/progress.h"

static struct progress samples(uint64_t first_done)
{
    struct progress progress;
    progress_init(&progress, "training", "samples", PROGRESS_NONE);
    progress.first_done = first_done;
    return progress;
}

static void assert_line(const struct progress *progress, uint64_t done, uint64_t total,
                        int64_t elapsed_ms, int places, const char *expected)
{
    char text[PROGRESS_TEXT_BYTES];
    progress_text(text, progress, done, total, elapsed_ms, places);
    assert_string_equal(text, expected);
}

static void test_rate_and_remaining_time(void **state)
{
    (void)state;
    const struct progress progress = samples(0);
    assert_line(&progress, 500, 2000, 1000, 0,
                "training   25 %  500 of 2.0 k samples  500/s  3 s left");
    assert_line(&progress, 500, 2000, 1000, 8,
                "training  [##------]   25 %  500 of 2.0 k samples  500/s  3 s left");
}

static void test_what_was_done_before_counts_for_no_rate(void **state)
{
    (void)state;
    const struct progress progress = samples(1000);
    assert_line(&progress, 1500, 2000, 1000, 0,
                "training   75 %  1.5 k of 2.0 k samples  500/s  1 s left");
}

static void test_no_rate_without_time_or_work(void **state)
{
    (void)state;
    const struct progress progress = samples(0);
    assert_line(&progress, 500, 2000, 100, 0, "training   25 %  500 of 2.0 k samples");
    assert_line(&progress, 0, 2000, 60000, 0, "training    0 %  0 of 2.0 k samples");
}

static void test_end_and_beyond(void **state)
{
    (void)state;
    const struct progress progress = samples(0);
    assert_line(&progress, 2000, 2000, 1000, 4,
                "training  [####]  100 %  2.0 k of 2.0 k samples  2.0 k/s");
    assert_line(&progress, 3000, 2000, 1000, 4,
                "training  [####]  100 %  3.0 k of 2.0 k samples  3.0 k/s");
}

static void test_unknown_total(void **state)
{
    (void)state;
    const struct progress progress = samples(0);
    assert_line(&progress, 1500, 0, 1000, 20, "training  1.5 k samples  1.5 k/s");
}

static void test_bytes_and_long_times(void **state)
{
    (void)state;
    struct progress progress;
    progress_init(&progress, "importing", "B", PROGRESS_NONE);
    assert_line(&progress, 2000000, 1000000000, 1000, 0,
                "importing    0 %  2.0 M of 1.0 GB  2.0 MB/s  8 min 19 s left");
    assert_line(&progress, 2000, 100000000, 1000, 0,
                "importing    0 %  2.0 k of 100 MB  2.0 kB/s  13 h 53 min left");
}

static void test_counts(void **state)
{
    (void)state;
    const struct {
        double count;
        const char *text;
    } cases[] = {{0, "0"},          {999, "999"},      {1000, "1.0 k"},   {12345, "12.3 k"},
                 {99949, "99.9 k"}, {99951, "100 k"},  {999499, "999 k"}, {999600, "1.0 M"},
                 {1e9, "1.0 G"},    {1.5e18, "1500 P"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[PROGRESS_COUNT_BYTES];
        progress_count(cases[i].count, text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_and_remaining_time),
        cmocka_unit_test(test_what_was_done_before_counts_for_no_rate),
        cmocka_unit_test(test_no_rate_without_time_or_work),
        cmocka_unit_test(test_end_and_beyond),
        cmocka_unit_test(test_unknown_total),
        cmocka_unit_test(test_bytes_and_long_times),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
