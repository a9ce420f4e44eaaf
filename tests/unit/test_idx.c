// tests/unit/test_idx.c: IDX images and labels come in pairs, complete, or not at all.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/rows.h"

// Two images of 1 x 2 pixels, and their labels.
static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 255};
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 7, 4};

static enum err read_pair(const void *image_bytes, size_t image_count, const void *label_bytes,
                          size_t label_count)
{
    return rows_of_two("idx", feed_bytes("x-ubyte", image_bytes, image_count),
                       feed_bytes("y-ubyte", label_bytes, label_count));
}

// Reads the good pair with images[at] = value.
static enum err read_with(size_t at, uint8_t value)
{
    uint8_t bytes[sizeof images];
    memcpy(bytes, images, sizeof bytes);
    bytes[at] = value;
    return read_pair(bytes, sizeof bytes, labels, sizeof labels);
}

static void test_idx_reads_pairs(void **state)
{
    (void)state;
    assert_int_equal(read_pair(images, sizeof images, labels, sizeof labels), OK);
    assert_string_equal(rows_text, "0||1 2,7;1||3 255,4;");
    const char *const x = feed_bytes("x-ubyte", images, sizeof images);
    assert_int_equal(rows_of("idx", x), OK); // Without labels.
    assert_string_equal(rows_text, "0||1 2;1||3 255;");
    assert_int_equal(rows_of_two("idx", x, x), OK);
    assert_string_equal(rows_text, "0||1 2;1||3 255;2||1 2;3||3 255;");
    const char *const y = feed_gzip("y-ubyte.gz", labels, sizeof labels);
    const char *const files[4] = {x, y, x, y};
    assert_int_equal(rows_read(&(struct reader_options){.files = files, .file_count = 4}), OK);
    assert_string_equal(rows_text, "0||1 2,7;1||3 255,4;2||1 2,7;3||3 255,4;");
}

static void test_idx_refuses_other_files(void **state)
{
    (void)state;
    assert_int_equal(rows_of("idx", feed_text("x", "hello, world")), ERR_INVALID);
    assert_said("x is no IDX file: it begins with 68656c6c, expected 00000803");
    assert_int_equal(rows_of("idx", feed_text("x", "ab")), ERR_INVALID);
    assert_said("x has 2 bytes, expected an IDX file");
    assert_int_equal(read_with(2, 0x0D), ERR_INVALID);
    assert_said("IDX elements of type 0d, expected 08");
    assert_int_equal(read_with(3, 4), ERR_INVALID);
    assert_said("has 4 dimensions, expected 3");
    assert_int_equal(rows_of("idx", feed_bytes("x-ubyte", images, 10)), ERR_INVALID);
    assert_said("ends inside its IDX header");
    assert_int_equal(read_with(15, 0), ERR_INVALID); // 1 x 0 pixels
    assert_said("images of 1 x 0");
}

static void test_idx_refuses_wrong_lengths(void **state)
{
    (void)state;
    assert_int_equal(read_pair(images, sizeof images - 1, labels, sizeof labels), ERR_INVALID);
    assert_said("x-ubyte is cut off: found 3 bytes of elements, expected 4");
    assert_int_equal(read_pair(images, sizeof images, labels, sizeof labels - 1), ERR_INVALID);
    assert_said("y-ubyte is cut off: found 1 bytes of elements, expected 2");
    uint8_t longer[sizeof images + 1] = {0};
    memcpy(longer, images, sizeof images);
    assert_int_equal(read_pair(longer, sizeof longer, labels, sizeof labels), ERR_INVALID);
    assert_said("x-ubyte goes on after the 4 bytes");
    memcpy(longer, labels, sizeof labels);
    longer[sizeof labels] = 0;
    assert_int_equal(read_pair(images, sizeof images, longer, sizeof labels + 1), ERR_INVALID);
    assert_said("y-ubyte goes on after the 2 bytes");
}

static void test_idx_refuses_unequal_parts(void **state)
{
    (void)state;
    assert_int_equal(read_with(7, 1), ERR_INVALID); // one image, two labels
    assert_said("holds 2 labels, expected 1");
    const char *const x = feed_bytes("x-ubyte", images, sizeof images);
    const char *const y = feed_bytes("y-ubyte", labels, sizeof labels);
    assert_int_equal(rows_of_two("idx", y, x), ERR_INVALID);
    assert_said("y-ubyte holds labels, expected images");
    const char *const some[3] = {x, y, x};
    assert_int_equal(rows_read(&(struct reader_options){.files = some, .file_count = 3}),
                     ERR_INVALID);
    assert_said("has no labels file");
    static const uint8_t tall[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 1, 2};
    assert_int_equal(rows_of_two("idx", x, feed_bytes("z-ubyte", tall, sizeof tall)), ERR_INVALID);
    assert_said("z-ubyte has images of 2 x 1, expected 1 x 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx_reads_pairs),
        cmocka_unit_test(test_idx_refuses_other_files),
        cmocka_unit_test(test_idx_refuses_wrong_lengths),
        cmocka_unit_test(test_idx_refuses_unequal_parts),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
