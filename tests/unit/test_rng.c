// tests/unit/test_rng.c: Philox4x32-10 is the published one, and draws depend on nothing else.
//
// The known answers are those of the Random123 library (kat_vectors, "philox4x32 10").
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

static void test_philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct rng_key key = {{known[i].key[0], known[i].key[1]}};
        uint32_t out[4];
        rng_philox(key, known[i].counter, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

// The key is the first 8 bytes of BLAKE2b-128, domain as personalisation; made with Python's
// hashlib.blake2b(data, digest_size=16, person=domain).
static void test_key_is_the_documented_hash(void **state)
{
    (void)state;
    static const uint8_t expected[8] = {0x5b, 0x57, 0x6e, 0xe1, 0xf9, 0xb7, 0x13, 0xe5};
    const struct rng_key key = rng_key_of("unlearnd-order", span_text("abc"));
    const struct rng_key other = rng_key_of("unlearnd-init", span_text("abc"));
    assert_memory_equal(key.word, expected, sizeof expected);
    assert_memory_not_equal(&key, &other, sizeof key);
}

static void test_id_is_the_counter(void **state)
{
    (void)state;
    const struct rng_key key = {{1, 2}};
    struct id128 id;
    for (uint8_t i = 0; i < sizeof id.bytes; i++) {
        id.bytes[i] = i;
    }
    const uint32_t counter[4] = {0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c};
    uint32_t out[4];
    rng_philox(key, counter, out);
    assert_true(rng_u64_of_id(key, &id) == ((uint64_t)out[1] << 32 | out[0]));
}

static void test_fill_element_depends_on_its_index_alone(void **state)
{
    (void)state;
    const struct rng_key key = {{3, 4}};
    float all[103], part[103];
    rng_fill_uniform(key, 0.5f, all, 103);
    double sum = 0;
    for (size_t i = 0; i < 103; i++) {
        assert_true(all[i] >= -0.5f && all[i] < 0.5f);
        sum += (double)all[i];
        rng_fill_uniform(key, 0.5f, part, i);
        assert_memory_equal(part, all, i * sizeof *all);
    }
    assert_true(sum > -15 && sum < 15); // Five standard deviations: not one-sided.
    assert_true(rng_unit(0) == 0.0f);
    assert_true(rng_unit(UINT32_MAX) == 1.0f - 0x1p-24f);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_key_is_the_documented_hash),
        cmocka_unit_test(test_id_is_the_counter),
        cmocka_unit_test(test_fill_element_depends_on_its_index_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
