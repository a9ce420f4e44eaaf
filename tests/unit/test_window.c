// tests/unit/test_window.c: a text's windows read each token but the end once, and predict each but
// the beginning once, whatever the lengths.
//
// Method: for many lengths and contexts the windows' tokens are laid one behind the other and must
// be BOS and the bytes; what follows them the bytes and the end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/window.h"

static void test_windows_cover_a_text(void **state)
{
    (void)state;
    enum { MOST = 70 };
    uint8_t bytes[MOST];
    for (int i = 0; i < MOST; i++) {
        bytes[i] = (uint8_t)(255 - 3 * i); // Bytes of all kinds, 0xff and above 0x7f too.
    }
    for (uint32_t context = 1; context < 20; context++) {
        for (uint32_t length = 0; length <= MOST; length++) {
            uint16_t tokens[MOST + 1], next[MOST + 1];
            uint32_t at = 0;
            const uint32_t windows = window_count(context, length);
            assert_int_equal(windows, (length + context) / context); // Of length + 1 tokens.
            for (uint32_t w = 0; w < windows; w++) {
                const uint32_t count = window_length(context, length, w);
                assert_true(count >= 1 && count <= context);
                assert_true(w + 1 == windows || count == context);
                assert_true(at + count <= MOST + 1);
                window_tokens(context, span_of(bytes, length), w, tokens + at, next + at);
                at += count;
            }
            assert_int_equal(at, length + 1);
            assert_int_equal(tokens[0], BASE_BOS);
            assert_int_equal(next[length], BASE_BYTES);
            for (uint32_t i = 0; i < length; i++) {
                assert_int_equal(tokens[i + 1], bytes[i]);
                assert_int_equal(next[i], bytes[i]);
            }
        }
    }
}

static void test_either_may_be_left_out(void **state)
{
    (void)state;
    uint16_t out[3];
    window_tokens(3, span_of("abcd", 4), 1, out, NULL);
    assert_int_equal(out[0], 'c');
    assert_int_equal(out[1], 'd');
    window_tokens(3, span_of("abcd", 4), 1, NULL, out);
    assert_int_equal(out[0], 'd');
    assert_int_equal(out[1], BASE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows_cover_a_text),
        cmocka_unit_test(test_either_may_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
