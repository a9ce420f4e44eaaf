// tests/unit/test_cells.c: the placement of a spec's text is that of the spec, however often it is asked and
// whatever was asked between.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <string.h>

#include <cmocka.h>

#include "coordinator/cells.h"
#include "tests/unit/draw.h"

enum { SPECS = 40 }; // More than are remembered.

static void test_as_the_spec_says(void **state)
{
    (void)state;
    static struct buf texts[SPECS];
    static struct spec specs[SPECS];
    struct draw draw = draw_new("test_cells");
    for (uint32_t i = 0; i < SPECS; i++) {
        specs[i] = spec_default();
        specs[i].shards = 1 + i;
        specs[i].slices = 2 + i % 3;
        specs[i].append_slices = 1 + i % 2;
        spec_put(&specs[i], &texts[i]);
    }
    for (int n = 0; n < 500; n++) {
        const uint32_t i = draw_below(&draw, n % 2 == 0 ? SPECS : 3); // Some often, some seldom.
        struct placement placement, expected;
        struct digest digest;
        memset(&placement, 0xEE, sizeof placement);
        assert_int_equal(model_placement_of(buf_span(&texts[i]), &placement, &digest), OK);
        model_placement(&specs[i], &expected);
        const struct digest same = spec_digest(&specs[i]);
        assert_memory_equal(&digest, &same, sizeof digest);
        assert_int_equal(placement.shards, expected.shards);
        assert_int_equal(placement.slices, expected.slices);
        assert_int_equal(placement.append, expected.append);
        assert_memory_equal(&placement.risk, &expected.risk, sizeof placement.risk);
    }
    for (uint32_t i = 0; i < SPECS; i++) {
        buf_deinit(&texts[i]);
    }
}

static void test_bad_text(void **state)
{
    (void)state;
    struct placement placement;
    struct digest digest;
    for (int n = 0; n < 2; n++) { // The second time as the first.
        assert_int_equal(model_placement_of(span_text("shards=0\n"), &placement, &digest),
                         ERR_INVALID);
        assert_non_null(strstr(err_text(), "canonical form"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_the_spec_says),
        cmocka_unit_test(test_bad_text),
    };
    if (digest_start() != OK) {
        return 1;
    }
    return cmocka_run_group_tests_name("cells", tests, NULL, NULL);
}
