// tests/unit/test_sample.c: the sample is a function of its seed, is readable, and harms no directory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/sample.h"
#include "tests/unit/rows.h"

static size_t slurp(const char *dir, const char *name, uint8_t *out, size_t capacity)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *const file = fopen(path, "rb");
    assert_non_null(file);
    const size_t got = fread(out, 1, capacity, file);
    fclose(file);
    return got;
}

static void test_sample_is_a_function_of_the_seed(void **state)
{
    (void)state;
    enum { CAPACITY = 1 << 20 };
    static const char *const names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                        "train-subjects.txt",      "test-images-idx3-ubyte",
                                        "test-labels-idx1-ubyte",  "test-subjects.txt"};
    uint8_t *const a = mem_alloc(CAPACITY, 1), *const b = mem_alloc(CAPACITY, 1);
    struct sample_counts counts;
    assert_int_equal(sample_write(feed_path("one"), 3, 7, &counts), OK);
    assert_int_equal(counts.writers, 3);
    assert_int_equal(counts.train_records, 150);
    assert_int_equal(counts.test_records, 30);
    assert_int_equal(sample_write(feed_path("two"), 3, 7, &counts), OK);
    assert_int_equal(sample_write(feed_path("other"), 3, 8, &counts), OK);
    for (int i = 0; i < 6; i++) {
        const size_t bytes = slurp(feed_path("one"), names[i], a, CAPACITY);
        assert_true(bytes > 0 && bytes < CAPACITY);
        assert_int_equal(slurp(feed_path("two"), names[i], b, CAPACITY), bytes);
        assert_memory_equal(a, b, bytes);
        assert_int_equal(slurp(feed_path("other"), names[i], b, CAPACITY), bytes);
        assert_int_equal(memcmp(a, b, bytes) == 0, i % 3 != 0); // Only the images differ.
    }
    // The test set is new drawings, not those of the training set.
    (void)slurp(feed_path("one"), names[0], a, CAPACITY);
    (void)slurp(feed_path("one"), names[3], b, CAPACITY);
    for (int i = 0; i < 150; i++) {
        assert_memory_not_equal(a + 16 + 784 * i, b + 16, 784);
    }
    mem_free(a);
    mem_free(b);
}

// A digit is a few strokes near the middle, in every hand.
static void test_sample_draws_within_the_paper(void **state)
{
    (void)state;
    uint8_t pixels[SAMPLE_SIDE * SAMPLE_SIDE];
    unsigned cut = 0;
    for (uint32_t writer = 0; writer < 40; writer++) {
        for (uint32_t digit = 0; digit < SAMPLE_DIGITS; digit++) {
            sample_draw(1, writer, digit, 0, pixels);
            unsigned ink = 0, edge = 0;
            for (uint32_t i = 0; i < SAMPLE_SIDE * SAMPLE_SIDE; i++) {
                const uint32_t x = i % SAMPLE_SIDE, y = i / SAMPLE_SIDE;
                ink += pixels[i] > 100;
                edge += pixels[i] > 100 &&
                        (x == 0 || y == 0 || x == SAMPLE_SIDE - 1 || y == SAMPLE_SIDE - 1);
            }
            assert_in_range(ink, 15, 350); // Neither paper nor a blot.
            cut += edge > 2;
        }
    }
    assert_in_range(cut, 0, 12); // 3 in 100 may touch the edge.
}

// Nearest of the ten mean images over other writers: far above chance, below certainty.
static void test_sample_can_be_learnt(void **state)
{
    (void)state;
    enum { PIXELS = SAMPLE_SIDE * SAMPLE_SIDE, WRITERS = 30 };
    static float mean[SAMPLE_DIGITS][PIXELS];
    uint8_t pixels[PIXELS];
    for (uint32_t i = 0; i < WRITERS * SAMPLE_DIGITS; i++) {
        sample_draw(1, i / SAMPLE_DIGITS, i % SAMPLE_DIGITS, 0, pixels);
        for (uint32_t p = 0; p < PIXELS; p++) {
            mean[i % SAMPLE_DIGITS][p] += (float)pixels[p] / WRITERS;
        }
    }
    unsigned right = 0;
    for (uint32_t i = 0; i < WRITERS * SAMPLE_DIGITS; i++) {
        sample_draw(1, WRITERS + i / SAMPLE_DIGITS, i % SAMPLE_DIGITS, 0, pixels);
        uint32_t best = 0;
        float best_distance = INFINITY;
        for (uint32_t digit = 0; digit < SAMPLE_DIGITS; digit++) {
            float distance = 0;
            for (uint32_t p = 0; p < PIXELS; p++) {
                const float d = (float)pixels[p] - mean[digit][p];
                distance += d * d;
            }
            best = distance < best_distance ? digit : best;
            best_distance = distance < best_distance ? distance : best_distance;
        }
        right += best == i % SAMPLE_DIGITS;
    }
    assert_in_range(right, 165, 285); // 55 to 95 in 100.
}

static void test_sample_can_be_read(void **state)
{
    (void)state;
    struct sample_counts counts;
    const char *const dir = feed_path("read");
    assert_int_equal(sample_write(dir, 2, 7, &counts), OK);
    char paths[3][512];
    snprintf(paths[0], sizeof paths[0], "%s/test-images-idx3-ubyte", dir);
    snprintf(paths[1], sizeof paths[1], "%s/test-labels-idx1-ubyte", dir);
    snprintf(paths[2], sizeof paths[2], "%s/test-subjects.txt", dir);
    const char *const files[2] = {paths[0], paths[1]};
    const struct reader_options options = {
        .files = files, .file_count = 2, .subjects_file = paths[2], .skip = 13, .limit = 1};
    assert_int_equal(rows_read(&options), OK);
    assert_memory_equal(rows_text, "13|writer-001|", 14);
    assert_string_equal(strrchr(rows_text, ','), ",3;");
}

static void test_sample_replaces_only_its_own_files(void **state)
{
    (void)state;
    struct sample_counts counts;
    const char *const dir = feed_path("mine");
    assert_int_equal(sample_write(dir, 1, 7, &counts), OK);
    assert_int_equal(sample_write(dir, 1, 8, &counts), OK); // Again.
    feed_text("mine/diary.txt", "dear diary");
    assert_int_equal(sample_write(dir, 1, 9, &counts), ERR_CONFLICT);
    assert_said("mine holds other files, expected an empty directory or earlier samples");
    const char *const file = feed_text("plain", "");
    assert_int_equal(sample_write(file, 1, 7, &counts), ERR_CONFLICT);
    assert_said("plain: Not a directory");
    assert_int_equal(sample_write(feed_path("no/such/dir"), 1, 7, &counts), ERR_IO);
    assert_int_equal(sample_write(feed_path("none"), 0, 7, &counts), ERR_INVALID);
    assert_said("0 writers, expected 1 to 4096");
    assert_int_equal(sample_write(feed_path("none"), 4097, 7, &counts), ERR_INVALID);
    assert_int_equal(access(feed_path("none"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_is_a_function_of_the_seed),
        cmocka_unit_test(test_sample_draws_within_the_paper),
        cmocka_unit_test(test_sample_can_be_learnt),
        cmocka_unit_test(test_sample_can_be_read),
        cmocka_unit_test(test_sample_replaces_only_its_own_files),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
