// tests/unit/test_specfile.c: a YAML file says the same as --set, or is refused with line and key.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/specfile.h"
#include "tests/unit/feed.h"

static const char full[] = "# a comment\n"
                           "learner: mlp\n"
                           "hidden: [64, 32]\n"
                           "activation: tanh\n"
                           "shards: 8\n"
                           "risk: [1=6-7/3, 2=*/3]\n"
                           "optimizer: { kind: adamw, rate: 0.01 }\n"
                           "seed: 7\n";

static void test_specfile_says_the_same_as_set(void **state)
{
    (void)state;
    struct spec from_file = spec_default(), by_hand = spec_default();
    assert_int_equal(specfile_get("s.yaml", span_text(full), &from_file), OK);
    assert_int_equal(spec_set(&by_hand, "hidden", "64,32"), OK);
    assert_int_equal(spec_set(&by_hand, "activation", "tanh"), OK);
    assert_int_equal(spec_set(&by_hand, "shards", "8"), OK);
    assert_int_equal(spec_set(&by_hand, "risk", "2=0-7/3,1=6-7/3"), OK);
    assert_int_equal(spec_set(&by_hand, "optimizer.kind", "adamw"), OK);
    assert_int_equal(spec_set(&by_hand, "optimizer.rate", "0.01"), OK);
    assert_int_equal(spec_set(&by_hand, "seed", "7"), OK);
    const struct digest a = spec_digest(&from_file), b = spec_digest(&by_hand);
    assert_memory_equal(&a, &b, sizeof a);
    const struct spec fresh = spec_default();
    const struct digest c = spec_digest(&fresh);
    assert_memory_not_equal(&a, &c, sizeof a); // The control: something was set at all.
    // Block style says the same; an empty file says nothing; JSON is YAML.
    struct spec block = spec_default();
    assert_int_equal(specfile_get("s.yaml",
                                  span_text("seed: 7\nhidden:\n  - 64\n  - 32\nactivation: 'tanh'\n"
                                            "optimizer:\n  kind: adamw\n  rate: 0.01\nshards: 8\n"
                                            "risk:\n- 1=6-7/3\n- 2=*/3\n"),
                                  &block),
                     OK);
    const struct digest d = spec_digest(&block);
    assert_memory_equal(&a, &d, sizeof a);
    struct spec empty = spec_default();
    assert_int_equal(specfile_get("s.yaml", span_text(""), &empty), OK);
    const struct digest e = spec_digest(&empty);
    assert_memory_equal(&c, &e, sizeof c);
    assert_int_equal(specfile_get("s.json", span_text("{\"seed\": 9}"), &empty), OK);
    assert_int_equal(empty.seed, 9);
}

// A list as long as a spec's longest one: 200 numbers of 20 characters.
static void test_specfile_reads_long_lists(void **state)
{
    (void)state;
    char text[6000] = "slice_probabilities: [";
    for (int i = 0; i < LIMIT_SLICES; i++) {
        const size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s0.12345678901234567%d", i == 0 ? "" : ", ",
                 i % 10);
    }
    snprintf(text + strlen(text), 3, "]\n");
    struct spec spec = spec_default();
    assert_int_equal(specfile_get("s.yaml", span_text(text), &spec), OK);
    assert_int_equal(spec.probability_count, LIMIT_SLICES);
    assert_true(spec.probabilities[0] == 0.123456789012345670);
}

// The spec stays as it was, even where the first line was good.
static void refuse(const char *text, const char *said)
{
    struct spec spec = spec_default();
    const struct digest before = spec_digest(&spec);
    assert_int_equal(specfile_get("s.yaml", span_text(text), &spec), ERR_INVALID);
    assert_said(said);
    const struct digest after = spec_digest(&spec);
    assert_memory_equal(&before, &after, sizeof before);
}

static void test_specfile_names_line_and_key(void **state)
{
    (void)state;
    refuse("seed: 9\nshards: 0\n", "s.yaml line 2: shards is 0, expected 1 to");
    refuse("seed: 9\n\nepochs: -1\n", "s.yaml line 3: ");
    refuse("seed: 9\nshard: 3\n", "s.yaml line 2: ");
    assert_said("shard");
    refuse("optimizer:\n  kind: sgd\n  speed: 1\n", "s.yaml line 3: ");
    assert_said("optimizer.speed");
    refuse("hidden:\n- 64\n- -3\n", "s.yaml line 2: "); // A list is set where it began.
}

static void test_specfile_refuses_what_no_spec_needs(void **state)
{
    (void)state;
    refuse("seed: 1\nseed: 2\n", "s.yaml line 2: key \"seed\" comes twice");
    refuse("optimizer: {rate: 1}\noptimizer.rate: 2\n", "key \"optimizer.rate\" comes twice");
    refuse("seed: &a 1\n", "s.yaml line 1: found an anchor");
    refuse("optimizer: &a {rate: 1}\n", "found an anchor");
    refuse("hidden: &a [1]\n", "found an anchor");
    refuse("seed: *a\n", "found an alias");
    refuse("seed: !!int 1\n", "found a tag");
    refuse("seed: 1\n---\nseed: 2\n", "s.yaml line 2: a second document begins");
    refuse("[1, 2]\n", "s.yaml line 1: found a list, expected \"key: value\"");
    refuse("seed\n", "found a value, expected \"key: value\"");
    refuse("? [a]\n: 1\n", "s.yaml line 1: found a list, expected a key");
    refuse("hidden: [[1]]\n", "the list of \"hidden\" holds a list");
    refuse("hidden: [\"1,2\"]\n", "holds a comma");
    refuse("a: {b: {c: {d: {e: 1}}}}\n", "nested deeper than 4");
    refuse("seed: [1\n", "s.yaml line 2: not valid YAML");
    refuse("\tseed: 1\n", "s.yaml line 1: not valid YAML");
    refuse("seed: \"1\\0\"\n", "without NUL");
    char text[256];
    memset(text, 'k', 200);
    snprintf(text + 200, 10, ": 1\n");
    refuse(text, "s.yaml line 1: a text of 200 bytes, expected at most 127");
}

static void test_specfile_reads_files(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    assert_int_equal(specfile_read(feed_text("s.yaml", full), &spec), OK);
    assert_int_equal(spec.shards, 8);
    assert_int_equal(specfile_read(feed_path("none.yaml"), &spec), ERR_NOT_FOUND);
    char text[LIMIT_SPEC_BYTES + 1];
    memset(text, '\n', sizeof text);
    memcpy(text, "seed: 11", 8);
    assert_int_equal(specfile_read(feed_bytes("s.yaml", text, sizeof text), &spec), ERR_LIMIT);
    assert_said("s.yaml is longer than 8192 bytes");
    assert_int_equal(spec.seed, 7);
    assert_int_equal(specfile_read(feed_bytes("s.yaml", text, sizeof text - 1), &spec), OK);
    assert_int_equal(spec.seed, 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specfile_says_the_same_as_set),
        cmocka_unit_test(test_specfile_reads_long_lists),
        cmocka_unit_test(test_specfile_names_line_and_key),
        cmocka_unit_test(test_specfile_refuses_what_no_spec_needs),
        cmocka_unit_test(test_specfile_reads_files),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
