// Goal: what is found in a rank's cache is exactly what was asked for, it stays within its limits, and
// what is forgotten is gone for whoever asks later, but not for who uses it.
// Method: small cells and weights; each limit and each part of a name alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "shard_worker/cache.h"

static const struct kept_name cell_name = {.model = 1, .shard = 2, .slice = 3, .version = 4};
static const struct kept_name weights_name = {.model = 1, .shard = 2, .instance = 9};

static void keep_cell(struct cache *cache, const struct kept_name *name, size_t bytes)
{
    uint8_t records[1000];
    struct kept *const cell = kept_cell(name);
    memset(records, 'r', sizeof records);
    assert_int_equal(kept_add(cell, span_of(records, bytes), 1), OK);
    cache_keep(cache, cell);
    kept_release(cell);
}

static bool has(struct cache *cache, const struct kept_name *name)
{
    struct kept *const kept = cache_find(cache, name);
    kept_release(kept);
    return kept != NULL;
}

static void test_only_the_same_cell_and_version_is_found(void **state)
{
    (void)state;
    struct cache cache = {.bytes_max = 1000};
    keep_cell(&cache, &cell_name, 10);
    assert_true(has(&cache, &cell_name));
    struct kept_name other = cell_name;
    other.model++;
    assert_false(has(&cache, &other));
    other = cell_name;
    other.shard++;
    assert_false(has(&cache, &other));
    other = cell_name;
    other.slice++;
    assert_false(has(&cache, &other));
    other = cell_name;
    other.version++;
    assert_false(has(&cache, &other));
    other.version -= 2;
    assert_false(has(&cache, &other));
    other = cell_name;
    other.instance = 9;
    assert_false(has(&cache, &other));
    assert_int_equal(cache.found_bytes, 10);
    cache_clear(&cache);
    assert_false(has(&cache, &cell_name));
    assert_int_equal(cache.bytes, 0);
}

static void test_a_new_version_takes_the_place_of_the_old(void **state)
{
    (void)state;
    struct cache cache = {.bytes_max = 1000};
    struct kept_name next = cell_name;
    next.version++;
    keep_cell(&cache, &cell_name, 10);
    keep_cell(&cache, &next, 20);
    assert_false(has(&cache, &cell_name));
    assert_true(has(&cache, &next));
    assert_int_equal(cache.count, 1);
    assert_int_equal(cache.bytes, 20);
    cache_clear(&cache);
}

static void test_the_longest_unused_goes_first(void **state)
{
    (void)state;
    struct cache cache = {.bytes_max = 100};
    struct kept_name names[4];
    for (uint32_t i = 0; i < 4; i++) {
        names[i] = cell_name;
        names[i].slice = i;
    }
    for (uint32_t i = 0; i < 3; i++) {
        keep_cell(&cache, &names[i], 33);
    }
    assert_true(has(&cache, &names[0])); // Used: now the second one is the oldest.
    keep_cell(&cache, &names[3], 33);
    assert_true(has(&cache, &names[0]));
    assert_false(has(&cache, &names[1]));
    assert_true(has(&cache, &names[2]));
    assert_true(has(&cache, &names[3]));
    keep_cell(&cache, &names[1], 100); // Fills it alone.
    assert_int_equal(cache.count, 1);
    assert_true(has(&cache, &names[1]));
    keep_cell(&cache, &names[0], 101); // More than there is room for: nothing goes for it.
    assert_int_equal(cache.count, 1);
    assert_true(has(&cache, &names[1]));
    assert_false(has(&cache, &names[0]));
    cache_clear(&cache);
}

static void test_it_is_bounded_by_number_too(void **state)
{
    (void)state;
    struct cache cache = {.bytes_max = 1 << 20};
    struct kept_name name = cell_name;
    for (uint32_t i = 0; i < LIMIT_COPIES + 3; i++) {
        name.slice = i;
        keep_cell(&cache, &name, 1);
    }
    assert_int_equal(cache.count, LIMIT_COPIES);
    name.slice = 2;
    assert_false(has(&cache, &name));
    name.slice = 3;
    assert_true(has(&cache, &name));
    cache_clear(&cache);
}

static void test_without_room_nothing_is_kept(void **state)
{
    (void)state;
    struct cache cache = {.bytes_max = 0};
    keep_cell(&cache, &cell_name, 1);
    assert_int_equal(cache.count, 0);
    assert_false(has(&cache, &cell_name));
}

static void test_forget_takes_every_version_and_nothing_else(void **state)
{
    (void)state;
    struct cache cache = {.bytes_max = 1000};
    struct kept_name other = cell_name, asked = cell_name;
    other.slice++;
    keep_cell(&cache, &cell_name, 10);
    keep_cell(&cache, &other, 10);
    float *params = NULL;
    assert_int_equal(mem_try_aligned(4, sizeof *params, &params), OK);
    struct kept *const weights = kept_weights(&weights_name, params, 4);
    cache_keep(&cache, weights);
    asked.version = 77; // The coordinator names none.
    cache_forget(&cache, &asked);
    assert_false(has(&cache, &cell_name));
    assert_true(has(&cache, &other));
    assert_true(has(&cache, &weights_name));
    cache_forget(&cache, &weights_name);
    assert_false(has(&cache, &weights_name));
    assert_true(has(&cache, &other));
    assert_int_equal(cache.bytes, 10);
    assert_int_equal(weights->references, 1); // Ours: who uses it has it to the end.
    assert_int_equal(weights->param_count, 4);
    weights->params[3] = 1;
    kept_release(weights);
    cache_clear(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_same_cell_and_version_is_found),
        cmocka_unit_test(test_a_new_version_takes_the_place_of_the_old),
        cmocka_unit_test(test_the_longest_unused_goes_first),
        cmocka_unit_test(test_it_is_bounded_by_number_too),
        cmocka_unit_test(test_without_room_nothing_is_kept),
        cmocka_unit_test(test_forget_takes_every_version_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
