// tests/unit/test_npy.c: NumPy arrays of the documented kinds are read, all others refused by name.
//
// Files are made here, byte by byte, as numpy.lib.format documents them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "tests/unit/rows.h"

static const char *make_npy(const char *name, int version, const char *dict, const void *elements,
                            size_t bytes)
{
    struct buf file = {0};
    buf_put(&file, span_of("\x93NUMPY", 6));
    buf_u8(&file, (uint8_t)version);
    buf_u8(&file, 0);
    if (version == 1) {
        buf_u16(&file, (uint16_t)strlen(dict));
    } else {
        buf_u32(&file, (uint32_t)strlen(dict));
    }
    buf_put(&file, span_text(dict));
    buf_put(&file, span_of(elements, bytes));
    const char *const path = feed_bytes(name, file.data, file.bytes);
    buf_deinit(&file);
    return path;
}

#define DICT(descr, shape) "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", } \n"

static void test_npy_reads_each_type(void **state)
{
    (void)state;
    static const float f4[4] = {1.5f, -2, 0, 3};
    static const double f8[4] = {0.25, 2, 1e30, -1};
    static const int32_t i4[4] = {1, -2, 3, 4};
    static const int64_t i8[4] = {-1, 2, 3, 1 << 20};
    static const uint8_t u1[4] = {0, 255, 7, 9};
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("<f4", "(2, 2)"), f4, 16)), OK);
    assert_string_equal(rows_text, "0||1.5 -2;1||0 3;");
    assert_int_equal(rows_of("npy", make_npy("x.npy", 2, DICT("<f8", "(2, 2)"), f8, 32)), OK);
    assert_string_equal(rows_text, "0||0.25 2;1||1e+30 -1;");
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("<i4", "(4, 1)"), i4, 16)), OK);
    assert_string_equal(rows_text, "0||1;1||-2;2||3;3||4;");
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("<i8", "(1, 2, 2)"), i8, 32)), OK);
    assert_string_equal(rows_text, "0||-1 2 3 1.04858e+06;");
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("|u1", "(2, 1, 2)"), u1, 4)), OK);
    assert_string_equal(rows_text, "0||0 255;1||7 9;");
}

static void test_npy_reads_labels_and_missing(void **state)
{
    (void)state;
    static const uint32_t f4[2] = {0x7fc00001, 0x3f800000}; // A NaN and 1.
    static const int64_t y[2] = {7, -1};
    static const double z[2] = {0.5, 3};
    const char *const x = make_npy("x.npy", 1, DICT("<f4", "(2, 1)"), f4, 8);
    assert_int_equal(rows_of_two(NULL, x, make_npy("y.npy", 1, DICT("<i8", "(2,)"), y, 16)), OK);
    assert_string_equal(rows_text, "0||-,7;1||1,-1;");
    assert_int_equal(rows_of_two(NULL, x, make_npy("y.npy", 1, DICT("<f8", "(2,)"), z, 16)), OK);
    assert_string_equal(rows_text, "0||-,0.5;1||1,3;");
    assert_int_equal(rows_of_two(NULL, x, make_npy("y.npy", 1, DICT("<i8", "(1,)"), y, 8)),
                     ERR_INVALID);
    assert_said("y.npy holds 1 labels, expected 2");
    assert_int_equal(rows_of("npy", feed_path("y.npy")), ERR_INVALID);
    assert_said("has 1 dimensions, expected features with 2 or 3 (labels come after");
}

static enum err read_dict(const char *dict)
{
    static const uint8_t elements[32];
    return rows_of("npy", make_npy("x.npy", 1, dict, elements, sizeof elements));
}

static void test_npy_refuses_other_arrays(void **state)
{
    (void)state;
    assert_int_equal(read_dict(DICT("<f4", "(4, 2)")), OK);
    assert_int_equal(read_dict("{'shape': (4, 2), 'fortran_order': False, 'descr': '<f4'}"), OK);
    assert_int_equal(read_dict(DICT(">f4", "(4, 2)")), ERR_INVALID);
    assert_said("elements of type \">f4\", expected little-endian f4, f8, i4, i8 or u1");
    assert_int_equal(read_dict(DICT("<c8", "(4, 2)")), ERR_INVALID);
    assert_said("\"<c8\"");
    assert_int_equal(read_dict(DICT("|O", "(4, 2)")), ERR_INVALID);
    assert_said("Python objects");
    assert_int_equal(read_dict("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (8,)}"),
                     ERR_INVALID);
    assert_said("elements of type \"[...]\"");
    assert_int_equal(read_dict("{'descr': '<f4', 'fortran_order': True, 'shape': (4, 2), }"),
                     ERR_INVALID);
    assert_said("Fortran order, expected C order");
    assert_int_equal(read_dict(DICT("<f4", "(2, 2, 2, 1)")), ERR_INVALID);
    assert_said("has 4 dimensions");
    assert_int_equal(read_dict(DICT("<f4", "(4, 0)")), ERR_INVALID);
    assert_said("records of 1 x 0 values");
    assert_int_equal(read_dict(DICT("<f4", "(1, 999999999999)")), ERR_INVALID);
    assert_said("x 999999999999 values, expected 1 to");
    assert_int_equal(read_dict("{'descr': '<f4'}"), ERR_INVALID);
    assert_said("header that is not NumPy's");
    assert_int_equal(read_dict("import os"), ERR_INVALID);
    assert_said("header that is not NumPy's");
}

static void test_npy_refuses_damage(void **state)
{
    (void)state;
    static const float f4[3] = {1, 2, 3};
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("<f4", "(1, 2)"), f4, 8)), OK);
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("<f4", "(2, 2)"), f4, 12)),
                     ERR_INVALID);
    assert_said("x.npy is cut off: found 12 bytes of elements, expected 16");
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("<f4", "(1, 2)"), f4, 12)),
                     ERR_INVALID);
    assert_said("x.npy goes on after the elements");
    assert_int_equal(rows_of("npy", make_npy("x.npy", 3, DICT("<f4", "(1, 2)"), f4, 8)),
                     ERR_INVALID);
    assert_said("NPY version 3, expected 1 or 2");
    assert_int_equal(rows_of("npy", feed_text("x.npy", "PK\x03\x04zipped")), ERR_INVALID);
    assert_said("x.npy is no NumPy file: it begins with 504b03047a697070");
    assert_int_equal(rows_of("npy", feed_text("x.npy", "\x93NUMPY\x01")), ERR_INVALID);
    assert_int_equal(rows_of("npy", feed_bytes("x.npy", "\x93NUMPY\x01\0\x40\0{", 11)),
                     ERR_INVALID);
    assert_said("ends inside its NPY header");
    static const double huge[2] = {1, 1e300};
    assert_int_equal(rows_of("npy", make_npy("x.npy", 1, DICT("<f8", "(1, 2)"), huge, 16)),
                     ERR_INVALID);
    assert_said("x.npy record 0: value 1 is infinite or beyond float32");
    const float other[4] = {1, 2, 3, 4};
    const char *const wide = make_npy("w.npy", 1, DICT("<f4", "(1, 4)"), other, 16);
    assert_int_equal(rows_of_two("npy", make_npy("x.npy", 1, DICT("<f4", "(1, 2)"), f4, 8), wide),
                     ERR_INVALID);
    assert_said("not the same as");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_npy_reads_each_type),
        cmocka_unit_test(test_npy_reads_labels_and_missing),
        cmocka_unit_test(test_npy_refuses_other_arrays),
        cmocka_unit_test(test_npy_refuses_damage),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
