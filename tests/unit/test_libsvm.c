// tests/unit/test_libsvm.c: LIBSVM lines are read sparse, or refused with file and line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/rows.h"

static enum err read_line(const char *line)
{
    char text[256];
    snprintf(text, sizeof text, "1 1:1\n%s\n", line);
    return rows_of("libsvm", feed_text("a.libsvm", text));
}

static void test_libsvm_reads_pairs(void **state)
{
    (void)state;
    assert_int_equal(
        rows_of(NULL, feed_text("a.libsvm", "+1 1:0.5 7:-2e1 # a comment\n\n-1\t3:1 \r\n0.5\n")),
        OK);
    assert_string_equal(rows_text, "0||0:0.5 6:-20,+1;1||2:1,-1;2||,0.5;");
}

static void test_libsvm_refuses_bad_lines(void **state)
{
    (void)state;
    assert_int_equal(read_line("1 1:1 2:2"), OK);
    assert_int_equal(read_line("1 2:1 2:2"), ERR_INVALID);
    assert_said("a.libsvm line 2: index 2 follows index 2, expected ascending");
    assert_int_equal(read_line("1 3:1 2:2"), ERR_INVALID);
    assert_said("index 2 follows index 3");
    assert_int_equal(read_line("1 0:1"), ERR_INVALID);
    assert_said("line 2: pair 1 has no index that can be read");
    assert_int_equal(read_line("1 1048577:1"), ERR_INVALID);
    assert_said("from 1 to 1048576");
    assert_int_equal(read_line("1 qid:3 1:1"), ERR_INVALID);
    assert_said("pair 1 has no index");
    assert_int_equal(read_line("1 1:1 2"), ERR_INVALID);
    assert_said("pair 2 has no colon");
    assert_int_equal(read_line("1 1:x"), ERR_INVALID);
    assert_said("the value of index 1 is not a number");
    assert_int_equal(read_line("1 1:1e39"), ERR_INVALID);
    assert_said("the value of index 1 is not a number in the range of float32");
    assert_int_equal(read_line("1:1 2:2"), ERR_INVALID);
    assert_said("line 2: the line does not begin with a number, expected a label");
    assert_int_equal(read_line("1,2 1:1"), ERR_INVALID);
    assert_said("expected a label");
    assert_int_equal(rows_of("libsvm", feed_bytes("a.libsvm", "1 1:1\n1 \0\n", 10)), ERR_INVALID);
    assert_said("a.libsvm line 2: holds a NUL byte");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_libsvm_reads_pairs),
        cmocka_unit_test(test_libsvm_refuses_bad_lines),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
