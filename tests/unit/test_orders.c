// tests/unit/test_orders.c: the orders of a model are a function of its spec, for every policy.
//
// Method: the vectors of docs/format.md, written out there from an independent program; and what each
// key of the spec must and must not change.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "coordinator/core.h"
#include "scheduler/sequence.h"

// Makes the orders of a spec with these settings: "key=value key=value".
static enum err make(const char *settings, char text_out[static 256])
{
    struct spec spec = spec_default();
    char copy[256];
    snprintf(copy, sizeof copy, "%s", settings);
    for (char *save = NULL, *pair = strtok_r(copy, " ", &save); pair != NULL;
         pair = strtok_r(NULL, " ", &save)) {
        char *const equals = strchr(pair, '=');
        *equals = '\0';
        assert_int_equal(spec_set(&spec, pair, equals + 1), OK);
    }
    assert_int_equal(spec_check(&spec), OK);
    uint16_t *orders = NULL;
    TRY(orders_make(&spec, &orders));
    text_out[0] = '\0';
    for (uint32_t i = 0, used = 0; i < spec.sequences * spec.slices; i++) {
        used += (uint32_t)snprintf(text_out + used, 256 - used, "%s%u",
                                   i > 0 && i % spec.slices == 0 ? " " : "", orders[i]);
    }
    mem_free(orders);
    return OK;
}

static void assert_made(const char *settings, const char *expected)
{
    char text[256];
    assert_int_equal(make(settings, text), OK);
    assert_string_equal(text, expected);
}

static void test_vectors(void **state)
{
    (void)state;
    assert_made("slices=4 sequences=3", "0123 1230 2301");
    assert_made("slices=4 sequences=3 sequence_policy=random", "1320 1302 1032");
    assert_made("slices=4 sequences=3 sequence_policy=bms", "0123 1032 2301");
    assert_made("slices=4 sequences=3 sequence_policy=bms slice_probabilities=6,2,1,1",
                "2301 3210 1032");
    assert_made("slices=4 sequences=3 sequence_policy=sampling slice_probabilities=6,2,1,1",
                "0132 1230 0321");
    assert_made("slices=4 sequences=3 sequence_policy=sampling slice_probabilities=6,2,1,1 seed=8",
                "0132 3021 2130");
}

static void test_what_the_orders_depend_on(void **state)
{
    (void)state;
    static const struct {
        const char *settings; // Added to "sequence_policy=POLICY slices=4 sequences=3".
        bool changes[4];      // By policy.
    } rows[] = {
        {"seed=8", {false, true, false, true}},
        {"slice_probabilities=40,3,2,1", {false, false, true, true}},
        {"slice_probabilities=1,1,1,1", {false, false, false, false}}, // As equal.
        {"shards=3 epochs=2 hidden=7 append_slices=2", {false, false, false, false}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (enum sequence_policy policy = SEQUENCE_ROTATION; policy <= SEQUENCE_SAMPLING;
             policy++) {
            char settings[128], plain[256], changed[256];
            const char *const name = sequence_policy_name(policy); // The spec knows each by it.
            snprintf(settings, sizeof settings, "sequence_policy=%s slices=4 sequences=3", name);
            assert_int_equal(make(settings, plain), OK);
            snprintf(settings, sizeof settings, "sequence_policy=%s slices=4 sequences=3 %s", name,
                     rows[i].settings);
            assert_int_equal(make(settings, changed), OK);
            assert_true((strcmp(plain, changed) != 0) == rows[i].changes[policy]);
        }
    }
}

// Slice 0 can never be drawn while another is left, so there are two orders, not six.
static void test_sampling_that_ends_early_is_refused(void **state)
{
    (void)state;
    char text[256];
    const char *const most =
        "slices=3 sequences=3 sequence_policy=sampling slice_probabilities=1,0,0";
    assert_int_equal(make(most, text), ERR_INVALID);
    assert_non_null(strstr(err_text(), "sequence_policy sampling found 2 different orders of 3 "
                                       "slices, expected 3: set fewer sequences"));
    assert_made("slices=3 sequences=2 sequence_policy=sampling slice_probabilities=1,0,0",
                "120 210");
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_what_the_orders_depend_on),
        cmocka_unit_test(test_sampling_that_ends_early_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
