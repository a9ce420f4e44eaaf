// tests/unit/test_heap.c: the heap gives back the least (key, number) of what is in it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scheduler/heap.h"
#include "tests/unit/draw.h"

enum { BOUND = 70 };

// Against a plain search, over random histories with many equal keys.
static void test_the_least_comes_first(void **state)
{
    (void)state;
    struct draw draw = draw_new("heap");
    struct heap heap;
    bool there[BOUND] = {0};
    int64_t keys[BOUND] = {0};
    heap_init(&heap, BOUND);
    for (int step = 0; step < 20000; step++) {
        const uint32_t member = draw_below(&draw, BOUND);
        assert_true(heap_has(&heap, member) == there[member]);
        if (there[member]) {
            heap_remove(&heap, member);
        } else {
            keys[member] = (int64_t)draw_below(&draw, 8) - 4;
            heap_add(&heap, member, keys[member]);
        }
        there[member] = !there[member];
        int32_t best = -1;
        uint32_t count = 0;
        for (uint32_t i = 0; i < BOUND; i++) {
            count += there[i];
            best = there[i] && (best < 0 || keys[i] < keys[best]) ? (int32_t)i : best;
        }
        uint32_t least = 0;
        int64_t key = 0;
        assert_int_equal(heap.count, count);
        assert_true(heap_least(&heap, &least, &key) == (best >= 0));
        if (best >= 0) {
            assert_int_equal(least, best);
            assert_true(key == keys[best]);
        }
        for (uint32_t i = 1; i < heap.count; i++) { // A wrong place may show only much later.
            const uint32_t child = heap.members[i], parent = heap.members[(i - 1) / 2];
            const bool lower = parent < child;
            assert_true(keys[parent] < keys[child] || (keys[parent] == keys[child] && lower));
        }
    }
    heap_deinit(&heap);
}

static void test_keys_at_both_ends(void **state)
{
    (void)state;
    struct heap heap;
    uint32_t least = 0;
    int64_t key = 0;
    heap_init(&heap, 3);
    assert_false(heap_least(&heap, &least, &key));
    heap_add(&heap, 0, INT64_MAX);
    heap_add(&heap, 1, INT64_MIN);
    heap_add(&heap, 2, INT64_MAX);
    assert_true(heap_least(&heap, &least, &key) && least == 1 && key == INT64_MIN);
    heap_remove(&heap, 1);
    assert_true(heap_least(&heap, &least, &key) && least == 0 && key == INT64_MAX);
    heap_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_least_comes_first),
        cmocka_unit_test(test_keys_at_both_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
