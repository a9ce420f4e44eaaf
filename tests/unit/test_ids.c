// tests/unit/test_ids.c: the names that the store and the placement go by are those of docs/format.md.
//
// Method: the vectors of that page, which were computed by another implementation of BLAKE2b.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/core.h"

static uint8_t key[KEY_BYTES];

static void assert_hex(const struct id128 *id, const char *expected)
{
    char hex[2 * ID_BYTES + 1];
    hex_put(hex, id->bytes, ID_BYTES);
    assert_string_equal(hex, expected);
}

static void test_ids_are_those_of_the_format(void **state)
{
    (void)state;
    struct id128 rid, sid;
    dataset_ids(key, span_text("17"), span_text("writer-007"), &rid, &sid);
    assert_hex(&rid, "8c64f35ebf899d547536a6f0352f4516");
    assert_hex(&sid, "28940237f1c0a69a8efb135e35343df8");
    const struct id128 asked_by_subject = dataset_sid(key, span_text("writer-007"));
    assert_int_equal(id128_compare(&sid, &asked_by_subject), 0);
    const struct placement placement = placement_uniform(4, 3, 1);
    const struct cell cell = placement_cell(&placement, 0, 0, record_hash(&sid));
    assert_int_equal(cell.shard, 0);
    assert_int_equal(cell.slice, 1);
}

static void test_a_record_without_a_subject_is_its_own(void **state)
{
    (void)state;
    struct id128 rid, sid;
    dataset_ids(key, span_text("17"), span_of(NULL, 0), &rid, &sid);
    assert_hex(
        &rid,
        "8c64f35ebf899d547536a6f0352f4516"); // The same id gives the same rid whoever it belongs to.
    assert_hex(&sid, "5e477a65a15ff5fcd0234a7ae2401a24");
}

static void test_another_key_gives_other_names(void **state)
{
    (void)state;
    uint8_t other[KEY_BYTES] = {1};
    struct id128 rid, sid, rid_other, sid_other;
    dataset_ids(key, span_text("17"), span_of(NULL, 0), &rid, &sid);
    dataset_ids(other, span_text("17"), span_of(NULL, 0), &rid_other, &sid_other);
    assert_int_not_equal(id128_compare(&rid, &rid_other), 0);
    assert_int_not_equal(id128_compare(&sid, &sid_other), 0);
    assert_int_not_equal(id128_compare(&rid, &sid), 0); // The domains differ.
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    for (uint8_t i = 0; i < KEY_BYTES; i++) {
        key[i] = i;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_those_of_the_format),
        cmocka_unit_test(test_a_record_without_a_subject_is_its_own),
        cmocka_unit_test(test_another_key_gives_other_names),
    };
    return cmocka_run_group_tests_name("ids", tests, NULL, NULL);
}
