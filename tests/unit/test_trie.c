// tests/unit/test_trie.c: the sequences are those of the iterative cyclic rotation, and components
// are shared exactly where they begin alike.
//
// Method: the lists of the trie are compared with a set of all prefixes of the sequences; the order
// for L = 4 is written out from the description in sequence.h, independently of the code.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "scheduler/trie.h"
#include "tests/unit/rotation.h"

// Sequence b, read from the leaf that it was the first to reach.
static void sequence_of(const struct trie *trie, uint32_t b, struct component *name_out)
{
    for (uint32_t node = 0; node < trie->count; node++) {
        if (trie->nodes[node].depth == trie->slice_count && trie->nodes[node].sequence == b) {
            trie_name(trie, 0, node, name_out);
            return;
        }
    }
    *name_out = (struct component){0};
    fail_msg("sequence %u has no leaf", b);
}

// L = 4. Round 0: rotations. Round 1: each earlier one, first kept, rest rotated by 1, then by 2.
// Round 2: each earlier one, two kept, rest rotated by 1.
static const char *const four[] = {
    "0123", "1230", "2301", "3012", // round 0
    "0231", "1302", "2013", "3120", // round 1, j = 1
    "0312", "1023", "2130", "3201", // round 1, j = 2
    "0132", "1203", "2310", "3021", // round 2, j = 1
    "0213", "1320", "2031", "3102", //
    "0321", "1032", "2103", "3210",
};

static void test_order_of_four(void **state)
{
    (void)state;
    for (uint32_t budget = 1; budget <= 24; budget++) {
        struct trie trie;
        rotation_trie(&trie, 4, 4, budget);
        for (uint32_t b = 0; b < budget; b++) {
            struct component name;
            sequence_of(&trie, b, &name);
            assert_int_equal(name.count, 4);
            for (uint32_t i = 0; i < 4; i++) {
                assert_int_equal(name.list[i], four[b][i] - '0');
            }
        }
        trie_deinit(&trie);
    }
}

// Every permutation once: 3! and 5! too.
static void test_all_permutations_are_reached(void **state)
{
    (void)state;
    uint32_t factorial = 1;
    for (uint32_t slices = 1; slices <= 6; slices++) {
        factorial *= slices;
        struct trie trie;
        rotation_trie(&trie, slices, slices, factorial);
        uint32_t leaves = 0;
        for (uint32_t node = 0; node < trie.count; node++) {
            leaves += trie.nodes[node].depth == slices;
        }
        assert_int_equal(leaves, factorial); // Distinct, since a leaf is one list.
        trie_deinit(&trie);
    }
}

// What must be there: each prefix of each sequence with the appended slices behind, once.
static void test_components_are_the_distinct_prefixes(void **state)
{
    (void)state;
    for (uint32_t budget = 1; budget <= 24; budget++) {
        for (uint32_t appended = 0; appended <= 3; appended++) {
            struct trie trie;
            rotation_trie(&trie, 4, 4 + appended, budget);
            uint32_t distinct = 0;
            for (uint32_t b = 0; b < budget; b++) {
                struct component name = {.count = 0};
                for (uint32_t i = 0; i < 4 + appended; i++) {
                    name.list[name.count++] = (uint16_t)(i < 4 ? (uint32_t)(four[b][i] - '0') : i);
                    const int32_t node = trie_find(&trie, &name);
                    assert_true(node >= 0);
                    struct component back;
                    trie_name(&trie, 7, (uint32_t)node, &back);
                    name.shard = 7;
                    assert_true(component_equal(&back, &name));
                    const struct trie_node *const at = &trie.nodes[node];
                    assert_true(at->parent < node && at->depth == name.count);
                    assert_true(at->sequence <= b); // The first that passes through.
                    for (int32_t lower = 0; lower < node; lower++) { // By sequence in each depth.
                        assert_true(trie.nodes[lower].depth != at->depth ||
                                    trie.nodes[lower].sequence < at->sequence);
                    }
                    distinct += at->sequence == b;
                }
            }
            assert_int_equal(trie.count, distinct);
            trie_deinit(&trie);
        }
    }
}

static void test_find_refuses_what_is_not_there(void **state)
{
    (void)state;
    struct trie trie;
    rotation_trie(&trie, 4, 5, 2); // 0123 and 1230, then 4.
    static const struct component absent[] = {
        {.count = 1, .list = {2}},
        {.count = 2, .list = {0, 2}},
        {.count = 1, .list = {4}},
        {.count = 2, .list = {0, 0}},
        {.count = 4, .list = {0, 1, 2, 4}},
        {.count = 6, .list = {0, 1, 2, 3, 4, 5}},
        {.count = 0},
    };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        assert_int_equal(trie_find(&trie, &absent[i]), -1);
    }
    const struct component there = {.count = 5, .list = {0, 1, 2, 3, 4}}; // control
    assert_true(trie_find(&trie, &there) >= 0);
    trie_deinit(&trie);
}

// A chain for B = 1 up to the bound of slices, and many sequences over many slices.
static void test_large_ones(void **state)
{
    (void)state;
    struct trie trie;
    rotation_trie(&trie, LIMIT_SLICES, LIMIT_SLICES, 1);
    assert_int_equal(trie.count, LIMIT_SLICES);
    trie_deinit(&trie);
    rotation_trie(&trie, 100, LIMIT_SLICES, LIMIT_SEQUENCES);
    for (uint32_t node = 0; node < trie.count; node++) {
        struct component name;
        trie_name(&trie, 0, node, &name);
        assert_int_equal(trie_find(&trie, &name), node);
    }
    trie_deinit(&trie);
}

// e_i of the paper in integers, and its sum: floor(2 e0 L / (L + 1)) when no stage is lifted to 1.
static void test_passes(void **state)
{
    (void)state;
    static const uint32_t known[] = {4, 4, 4, 4}; // e0 = 10, L = 4: floor(4 i) - floor(4 (i - 1))
    for (uint32_t i = 1; i <= 4; i++) {
        assert_int_equal(trie_passes(false, 10, 4, i), known[i - 1]);
    }
    for (uint32_t e0 = 1; e0 <= 60; e0++) {
        for (uint32_t slices = 1; slices <= 40; slices++) {
            uint64_t sum = 0, lifted = 0;
            for (uint32_t i = 1; i <= slices; i++) {
                const uint32_t a = 2 * e0 * i / (slices + 1);
                const uint32_t b = 2 * e0 * (i - 1) / (slices + 1);
                const uint32_t expected = a - b > 1 ? a - b : 1;
                assert_int_equal(trie_passes(false, e0, slices, i), expected);
                sum += expected;
                lifted += a == b;
            }
            assert_int_equal(sum - lifted, 2 * e0 * slices / (slices + 1));
            // Appended stages use the last one's.
            assert_int_equal(trie_passes(false, e0, slices, slices + 1),
                             trie_passes(false, e0, slices, slices));
            assert_int_equal(trie_passes(false, e0, slices, slices + 90),
                             trie_passes(false, e0, slices, slices));
        }
    }
    // SISA's one slice is plain training: e0 passes.
    assert_int_equal(trie_passes(false, 17, 1, 1), 17);
    assert_int_equal(trie_passes(true, 17, 4, 1), 17);
    assert_int_equal(trie_passes(true, 17, 4, 9), 17);
    // No overflow at the bounds.
    assert_int_equal(trie_passes(false, LIMIT_EPOCHS, 1, 1), LIMIT_EPOCHS);
    assert_int_equal(trie_passes(false, 1, LIMIT_SLICES, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_four),
        cmocka_unit_test(test_all_permutations_are_reached),
        cmocka_unit_test(test_components_are_the_distinct_prefixes),
        cmocka_unit_test(test_find_refuses_what_is_not_there),
        cmocka_unit_test(test_large_ones),
        cmocka_unit_test(test_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
