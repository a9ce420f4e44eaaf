// tests/unit/test_seal.c: what is sealed opens with its key, nonce and bond alone.
//
// Method: a known answer made with another implementation (Python's cryptography has no XChaCha20;
// the vector is A.3.1 of draft-irtf-cfrg-xchacha-03), then every byte changed in turn.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdlib.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/seal.h"

static const char plain_text[] =
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    "sunscreen would be it.";
enum { PLAIN_BYTES = sizeof plain_text - 1, SEALED_BYTES = PLAIN_BYTES + SEAL_TAG_BYTES };

static uint8_t key[SEAL_KEY_BYTES], nonce[SEAL_NONCE_BYTES], bound[12], sealed[SEALED_BYTES];

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof key; i++) {
        key[i] = (uint8_t)(0x80 + i);
    }
    for (size_t i = 0; i < sizeof nonce; i++) {
        nonce[i] = (uint8_t)(0x40 + i);
    }
    if (hex_get(bound, sizeof bound, "50515253c0c1c2c3c4c5c6c7") != OK) {
        return -1;
    }
    seal_put(key, nonce, span_of(bound, sizeof bound), span_of(plain_text, PLAIN_BYTES), sealed);
    return 0;
}

static bool opens(void)
{
    uint8_t plain[PLAIN_BYTES];
    return seal_get(key, nonce, span_of(bound, sizeof bound), span_of(sealed, sizeof sealed),
                    plain) &&
           memcmp(plain, plain_text, PLAIN_BYTES) == 0;
}

static void test_known_answer(void **state)
{
    (void)state;
    char hex[2 * SEALED_BYTES + 1];
    hex_put(hex, sealed, sizeof sealed);
    assert_string_equal(hex,
                        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b"
                        "0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945"
                        "b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f6"
                        "15c68b13b52ec0875924c1c7987947deafd8780acf49");
    assert_true(opens());
}

static void test_any_change_is_noticed(void **state)
{
    (void)state;
    const struct {
        uint8_t *at;
        size_t bytes;
    } parts[] = {
        {key, sizeof key}, {nonce, sizeof nonce}, {bound, sizeof bound}, {sealed, sizeof sealed}};
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
        for (size_t i = 0; i < parts[p].bytes; i++) {
            parts[p].at[i] ^= 0x10;
            assert_false(opens());
            parts[p].at[i] ^= 0x10;
        }
    }
    assert_true(opens()); // Control.
}

static void test_short_and_empty(void **state)
{
    (void)state;
    uint8_t plain[PLAIN_BYTES];
    for (size_t bytes = 0; bytes < sizeof sealed; bytes++) {
        assert_false(
            seal_get(key, nonce, span_of(bound, sizeof bound), span_of(sealed, bytes), plain));
    }
    seal_put(key, nonce, span_of("", 0), span_of("", 0), sealed);
    assert_true(seal_get(key, nonce, span_of("", 0), span_of(sealed, SEAL_TAG_BYTES), plain));
    assert_false(seal_get(key, nonce, span_of("x", 1), span_of(sealed, SEAL_TAG_BYTES), plain));
}

static void test_rooms(void **state)
{
    (void)state;
    uint8_t *const room = seal_room(100);
    assert_non_null(room);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(room[i], 0);
    }
    seal_room_free(room);
    seal_room_free(NULL);
}

#ifndef __SANITIZE_ADDRESS__
// Freed memory is looked at on purpose, through a pointer that the compiler does not follow.
static bool holds(const volatile uint8_t *memory, uint8_t byte, size_t from, size_t bytes)
{
    for (size_t i = from; i < bytes; i++) {
        if (memory[i] == byte) {
            return true;
        }
    }
    return false;
}

static void test_freed_memory_is_wiped(void **state)
{
    (void)state;
    enum { BYTES = 1000, LINKS = 32 }; // The allocator puts its own links into the first bytes.
    volatile uintptr_t old;
    uint8_t *memory = mem_alloc(BYTES, 1);
    memset(memory, 0xA5, BYTES);
    old = (uintptr_t)memory;
    assert_true(holds((const volatile uint8_t *)old, 0xA5, LINKS, BYTES)); // Control.
    mem_free(memory);
    assert_false(holds((const volatile uint8_t *)old, 0xA5, LINKS, BYTES));

    memory = mem_alloc(BYTES, 1); // What is moved leaves nothing behind.
    memset(memory, 0xA5, BYTES);
    old = (uintptr_t)memory;
    memory = mem_resize(memory, 64 * BYTES, 1);
    assert_int_equal(memory[BYTES - 1], 0xA5);
    if ((uintptr_t)memory != old) {
        assert_false(holds((const volatile uint8_t *)old, 0xA5, LINKS, BYTES));
    }
    mem_free(memory);

    char *line = strdup("a library's own memory, freed by the library's free"); // As libzmq does.
    const size_t bytes = strlen(line);
    old = (uintptr_t)line;
    free(line);
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): that is what is looked at.
    assert_false(holds((const volatile uint8_t *)old, 'b', LINKS, bytes));
}
#endif

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup(test, set_up)
    const struct CMUnitTest tests[] = {
        CASE(test_known_answer),          CASE(test_any_change_is_noticed),
        CASE(test_short_and_empty),       CASE(test_rooms),
#ifndef __SANITIZE_ADDRESS__
        CASE(test_freed_memory_is_wiped),
#endif
    };
#undef CASE
    return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
