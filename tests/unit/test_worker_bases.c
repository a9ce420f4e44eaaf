// tests/unit/test_worker_bases.c: a worker finds the bases that it keeps, and keeps no more than it may.
//
// Method: tiny bases that differ in one weight; their reference counts tell who still holds them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/mem.h"
#include "shard_worker/bases.h"

enum { MADE = BASES_KEPT_MAX + 2 };

static struct base *made[MADE]; // Each with one reference of the test's.
static uint64_t bytes;          // Of one.

static int set_up(void **state)
{
    (void)state;
    static const struct base_shape shape = {.kind = BASE_TEXT,
                                            .layers = 1,
                                            .width = 2,
                                            .heads = 1,
                                            .inner = 2,
                                            .epsilon = 1e-5,
                                            .context = 2};
    const uint64_t count = base_at(&shape).count;
    for (uint32_t i = 0; i < MADE; i++) {
        float *weights = NULL;
        assert_int_equal(mem_try_aligned((size_t)count, sizeof *weights, &weights), OK);
        weights[0] = (float)i;
        made[i] = base_new(&shape, weights);
    }
    bytes = count * sizeof(float);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MADE; i++) {
        assert_int_equal(made[i]->references, 1); // Nobody else holds one.
        base_release(made[i]);
    }
    return 0;
}

static bool has(struct bases *bases, uint32_t index)
{
    struct base *const found = bases_find(bases, &made[index]->digest);
    assert_true(found == NULL || found == made[index]);
    base_release(found);
    return found != NULL;
}

static void test_what_is_kept_is_found(void **state)
{
    (void)state;
    struct bases bases = {.bytes_max = UINT64_MAX};
    assert_false(has(&bases, 0));
    bases_keep(&bases, made[0]);
    bases_keep(&bases, made[1]);
    bases_keep(&bases, made[0]); // Twice is once.
    assert_int_equal(made[0]->references, 2);
    assert_true(has(&bases, 0));
    assert_true(has(&bases, 1));
    assert_false(has(&bases, 2));
    struct base *const held = bases_find(&bases, &made[1]->digest);
    bases_deinit(&bases);
    assert_int_equal(held->references, 2); // The finder's own outlives what kept it.
    base_release(held);
}

static void test_the_longest_unused_goes_first(void **state)
{
    (void)state;
    struct bases bases = {.bytes_max = 3 * bytes};
    for (uint32_t i = 0; i < 3; i++) {
        bases_keep(&bases, made[i]);
    }
    assert_true(has(&bases, 0)); // Now 1 is the longest unused.
    bases_keep(&bases, made[3]);
    assert_false(has(&bases, 1));
    assert_true(has(&bases, 0));
    assert_true(has(&bases, 2));
    assert_true(has(&bases, 3));
    bases_deinit(&bases);
}

static void test_one_too_large_is_kept_alone(void **state)
{
    (void)state;
    struct bases bases = {.bytes_max = bytes - 1};
    bases_keep(&bases, made[0]);
    assert_true(has(&bases, 0));
    bases_keep(&bases, made[1]);
    assert_false(has(&bases, 0));
    assert_true(has(&bases, 1));
    bases_deinit(&bases);
}

static void test_no_more_than_so_many(void **state)
{
    (void)state;
    struct bases bases = {.bytes_max = UINT64_MAX};
    for (uint32_t i = 0; i < MADE; i++) {
        bases_keep(&bases, made[i]);
    }
    for (uint32_t i = 0; i < MADE; i++) {
        assert_int_equal(has(&bases, i), i >= MADE - BASES_KEPT_MAX);
    }
    bases_deinit(&bases);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_what_is_kept_is_found),
        CASE(test_the_longest_unused_goes_first),
        CASE(test_one_too_large_is_kept_alone),
        CASE(test_no_more_than_so_many),
    };
#undef CASE
    return digest_start() != OK ||
           cmocka_run_group_tests_name("worker_bases", tests, NULL, NULL) != 0;
}
