// tests/unit/test_minset.c: a minset holds what was put in and not taken out, and finds the least.
//
// Method: random changes to sets of all sorts of bounds, beside a plain array of flags.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/mem.h"
#include "scheduler/minset.h"
#include "tests/unit/draw.h"

static uint32_t least(const bool *there, uint32_t bound, uint32_t from)
{
    while (from < bound && !there[from]) {
        from++;
    }
    return from;
}

static void run(uint32_t bound, int changes, struct draw *draw)
{
    struct minset set;
    bool *const there = mem_alloc(bound, sizeof *there);
    uint32_t count = 0;
    minset_init(&set, bound);
    for (int i = 0; i < changes; i++) {
        // In the second half more is taken out than put in, so that whole words empty again.
        const uint32_t at = draw_below(draw, bound);
        if (there[at] && (i >= changes / 2 || draw_below(draw, 4) == 0)) {
            minset_remove(&set, at);
            there[at] = false;
            count--;
        } else if (!there[at] && (i < changes / 2 || draw_below(draw, 4) == 0)) {
            minset_add(&set, at);
            there[at] = true;
            count++;
        }
        const uint32_t from = draw_below(draw, bound + 1);
        assert_int_equal(set.count, count);
        assert_true(minset_has(&set, at) == there[at]);
        assert_int_equal(minset_from(&set, 0), least(there, bound, 0));
        assert_int_equal(minset_from(&set, from), least(there, bound, from));
        assert_int_equal(minset_from(&set, at), least(there, bound, at));
    }
    minset_deinit(&set);
    mem_free(there);
}

static void test_against_flags(void **state)
{
    (void)state;
    struct draw draw = draw_new("minset");
    static const uint32_t bounds[] = {1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 5000};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        for (int times = 0; times < 5; times++) {
            run(bounds[i], 2000, &draw);
        }
    }
    run(300000, 300, &draw);
}

// Few members far apart: the way up and down through every level.
static void test_far_apart(void **state)
{
    (void)state;
    struct minset set;
    const uint32_t bound = 20000000;
    minset_init(&set, bound);
    assert_int_equal(minset_from(&set, 0), bound);
    minset_add(&set, bound - 1);
    assert_int_equal(minset_from(&set, 0), bound - 1);
    minset_add(&set, 64 * 64 * 64);
    assert_int_equal(minset_from(&set, 0), 64 * 64 * 64);
    assert_int_equal(minset_from(&set, 64 * 64 * 64), 64 * 64 * 64);
    assert_int_equal(minset_from(&set, 64 * 64 * 64 + 1), bound - 1);
    assert_int_equal(minset_from(&set, bound), bound);
    minset_remove(&set, bound - 1);
    assert_int_equal(minset_from(&set, 64 * 64 * 64 + 1), bound);
    minset_deinit(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_flags),
        cmocka_unit_test(test_far_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
