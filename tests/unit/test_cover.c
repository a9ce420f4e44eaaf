// tests/unit/test_cover.c: a chunk of a stream opens in its place alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/digest.h"
#include "proto/cover.h"

static void test_a_chunk_opens_in_its_place(void **state)
{
    (void)state;
    const uint8_t key[SEAL_KEY_BYTES] = {7};
    const struct cover good = {.lease = 1, .stream = 2, .member = 3, .sequence = 4};
    struct buf sealed = {0};
    uint8_t plain[5];
    cover_put(key, &good, span_text("chunk"), &sealed);
    assert_int_equal(sealed.bytes, 5 + SEAL_TAG_BYTES);
    assert_int_equal(cover_get(key, &good, buf_span(&sealed), plain), OK);
    assert_memory_equal(plain, "chunk", 5);
    const struct cover others[] = {
        {9, 2, 3, 4}, {1, 9, 3, 4}, {1, 2, 9, 4}, {1, 2, 3, 9}, {1, 3, 2, 4}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(cover_get(key, &others[i], buf_span(&sealed), plain), ERR_CORRUPT);
    }
    const uint8_t other_key[SEAL_KEY_BYTES] = {8};
    assert_int_equal(cover_get(other_key, &good, buf_span(&sealed), plain), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "chunk 4 of stream 2 of lease 1"));
    assert_int_equal(cover_get(key, &good, span_of(sealed.data, 3), plain), ERR_CORRUPT);
    cover_put(key, &good, span_of(NULL, 0), &sealed);
    assert_int_equal(sealed.bytes, SEAL_TAG_BYTES);
    assert_int_equal(cover_get(key, &good, buf_span(&sealed), plain), OK);
    buf_deinit(&sealed);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_chunk_opens_in_its_place)};
    return cmocka_run_group_tests_name("cover", tests, NULL, NULL);
}
