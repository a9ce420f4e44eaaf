// tests/unit/test_spec.c: one table decides what a spec is; its canonical text is one to one.
//
// Method: every error is provoked with its control beside it, and the canonical text of the default
// spec is written out here, so that a change of the table (and so of every digest) is noticed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "model/spec.h"

static const char default_text[] = "learner=mlp\n"
                                   "hidden=128\n"
                                   "activation=relu\n"
                                   "dropout=0\n"
                                   "base=-\n"
                                   "lora.rank=-\n"
                                   "lora.alpha=-\n"
                                   "lora.rslora=-\n"
                                   "lora.dropout=-\n"
                                   "lora.targets=-\n"
                                   "append_blocks=-\n"
                                   "layers=-\n"
                                   "width=-\n"
                                   "heads=-\n"
                                   "inner=-\n"
                                   "patch=-\n"
                                   "context=-\n"
                                   "shards=8\n"
                                   "slices=4\n"
                                   "sequences=1\n"
                                   "sequence_policy=rotation\n"
                                   "slice_probabilities=-\n"
                                   "append_slices=1\n"
                                   "risk=uniform\n"
                                   "epochs=10\n"
                                   "batch=16\n"
                                   "gradient_chunks=1\n"
                                   "optimizer.kind=sgd\n"
                                   "optimizer.rate=0.1\n"
                                   "optimizer.momentum=0.9\n"
                                   "optimizer.beta1=-\n"
                                   "optimizer.beta2=-\n"
                                   "optimizer.epsilon=-\n"
                                   "optimizer.weight_decay=0\n"
                                   "aggregate=mean_probability\n"
                                   "weighted=false\n"
                                   "seed=7\n";

// The canonical text of `spec`, valid until the next call.
static const char *text_of(const struct spec *spec)
{
    static char text[LIMIT_SPEC_BYTES];
    struct buf out = {0};
    spec_put(spec, &out);
    assert_true(out.bytes < sizeof text);
    memcpy(text, out.data, out.bytes);
    text[out.bytes] = '\0';
    buf_deinit(&out);
    return text;
}

static void assert_same_after_reading(const struct spec *spec)
{
    struct spec back;
    char before[LIMIT_SPEC_BYTES];
    snprintf(before, sizeof before, "%s", text_of(spec));
    assert_int_equal(spec_get(span_text(before), &back), OK);
    assert_string_equal(text_of(&back), before);
}

static void test_default_has_this_text(void **state)
{
    (void)state;
    const struct spec spec = spec_default();
    assert_string_equal(text_of(&spec), default_text);
    assert_int_equal(spec_check(&spec), OK);
    assert_same_after_reading(&spec);
    const struct digest digest = spec_digest(&spec);
    char hex[DIGEST_HEX_BYTES];
    hex_put(hex, digest.bytes, sizeof digest.bytes);
    assert_string_equal(hex, "3cca077c6b18a9a5f5f4f1587075ffb915d7f43ee7fa67a1c5ffe7f8505c5caa");
}

static void test_every_key_reads_back_what_it_wrote(void **state)
{
    (void)state;
    static const char *const values[][3] = {
        // key, given, written
        {"hidden", "[64, 32]", "64,32"},
        {"hidden", "64,32", "64,32"},
        {"hidden", "[7]", "7"},
        {"activation", "gelu", "gelu"},
        {"dropout", "0.30000", "0.3"},
        {"dropout", "-0", "0"},
        {"shards", "4096", "4096"},
        {"slices", "200", "200"},
        {"sequence_policy", "random", "random"},
        {"append_slices", "3", "3"},
        {"risk", "[1=6-7/3, 2=0-7/3]", "1=6-7/3,2=*/3"},
        {"risk", "9=0-7/0-3", "uniform"},
        {"epochs", "100000", "100000"},
        {"batch", "65536", "65536"},
        {"gradient_chunks", "8", "8"},
        {"optimizer.rate", "1e-3", "0.001"},
        {"optimizer.rate", "0.1000000000000000055", "0.1"},
        {"optimizer.rate", "0.10000000000000002", "0.10000000000000002"},
        {"optimizer.momentum", "0", "0"},
        {"optimizer.weight_decay", "5e-324", "5e-324"},
        {"aggregate", "vote", "vote"},
        {"weighted", "true", "true"},
        {"seed", "18446744073709551615", "18446744073709551615"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct spec spec = spec_default();
        assert_int_equal(spec_set(&spec, values[i][0], values[i][1]), OK);
        char line[128];
        snprintf(line, sizeof line, "%s=%s\n", values[i][0], values[i][2]);
        assert_non_null(strstr(text_of(&spec), line));
        if (spec_check(&spec) == OK) {
            assert_same_after_reading(&spec);
        }
    }
}

static void assert_refused(const char *key, const char *value, const char *message)
{
    struct spec spec = spec_default();
    const struct spec before = spec;
    assert_int_equal(spec_set(&spec, key, value), ERR_INVALID);
    if (strstr(err_text(), message) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err_text(), message);
    }
    assert_memory_equal(&spec, &before, sizeof spec);
}

static void test_bad_values_are_named(void **state)
{
    (void)state;
    assert_refused("shards", "0", "shards is 0, expected 1 to 4096");
    assert_refused("shards", "4097", "shards is 4097, expected 1 to 4096");
    assert_refused("epochs", "-1", "epochs is -1, expected 1 to 100000");
    assert_refused("slices", "3.5", "slices is 3.5, expected 1 to 200");
    assert_refused("gradient_chunks", "3", "gradient_chunks is 3, expected a power of two from 1");
    assert_refused("hidden", "[]", "hidden is [], expected widths from 1 to 65536");
    assert_refused("hidden", "64,,32", "hidden is 64,,32, expected widths");
    assert_refused("hidden", "[64", "hidden is [64, expected widths");
    assert_refused("hidden", "0", "hidden is 0, expected widths");
    assert_refused("hidden", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
                   "expected 1 to 32 widths");
    assert_refused("dropout", "1", "dropout is 1, expected 0 to below 1");
    assert_refused("optimizer.rate", "0", "optimizer.rate is 0, expected above 0 to 1000");
    assert_refused("optimizer.rate", "nan", "optimizer.rate is nan, expected above 0");
    assert_refused("optimizer.momentum", "1", "expected 0 to below 1");
    assert_refused("learner", "tree", "learner is tree, expected one of softmax, mlp");
    assert_refused("optimizer.kind", "adam", "expected one of sgd, adamw");
    assert_refused("weighted", "yes", "expected one of false, true");
    assert_refused("base", "", "base");
    assert_refused("lora.rank", "0", "lora.rank is 0, expected 1 to 4096");
    assert_refused("lora.targets", "[]", "expected at least one name");
    assert_refused("lora.targets", "query,,value", "expected at least one name, and none empty");
    assert_refused("lora.targets", "query,", "expected at least one name, and none empty");
    assert_refused("lora.targets", "query;value", "expected names joined by commas");
    assert_refused(
        "lora.targets",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "lora.targets has more than 159 bytes");
    assert_refused("seed", "18446744073709551616", "seed is 18446744073709551616");
    assert_refused("seed", "7\n", "not a short text");
    static char longer[LIMIT_SPEC_BYTES];
    memset(longer, '1', sizeof longer - 1);
    assert_refused("seed", longer, "not a short text");
    assert_refused("risk", "high", "risk is high, expected uniform or CLASS=SHARDS/SLICES");
    assert_refused("risk", "1=0/0,1=0/0", "risk names class 1 twice");
    assert_refused("sequence_policy", "best", "expected one of rotation, random, bms, sampling");
    assert_refused("slice_probabilities", "1,-1",
                   "is 1,-1, expected equal or numbers from 0 to 1e+09");
    assert_refused("slice_probabilities", "1,inf", "expected equal or numbers");
    assert_refused("slice_probabilities", "1,2e9", "expected equal or numbers");
    assert_refused("slice_probabilities", "[1,]", "expected equal or numbers");
    assert_refused("slice_probabilities", "[]", "expected equal or numbers");
    assert_refused("slice_probabilities", "0.1000000000000000000000000000000001,1",
                   "expected equal or numbers");
    for (size_t i = 1; i < 402; i += 2) { // 201 ones
        longer[i] = ',';
    }
    longer[401] = '\0';
    assert_refused("slice_probabilities", longer, "has more than 200 numbers");
}

static void test_unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    assert_refused("shard", "1", "nearest known one is shards");
    assert_refused("rate", "1", "nearest known one is optimizer.rate");
    assert_refused("optimiser.rate", "1", "nearest known one is optimizer.rate");
    assert_refused("hiden", "1", "nearest known one is hidden");
    assert_refused("", "1", "unknown key");
    char longer[70];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_refused(longer, "1", "69 bytes");
}

static void test_check_sees_keys_together(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    spec.gradient_chunks = 32;
    assert_int_equal(spec_check(&spec), ERR_INVALID);
    assert_non_null(strstr(err_text(), "gradient_chunks is 32, expected at most batch"));
    spec.batch = 32;
    assert_int_equal(spec_check(&spec), OK);

    spec.slices = 3;
    spec.sequences = 7; // 3! = 6
    assert_int_equal(spec_check(&spec), ERR_INVALID);
    assert_non_null(strstr(err_text(), "sequences is 7"));
    spec.sequences = 6;
    assert_int_equal(spec_check(&spec), OK);

    spec.shards = 4096;
    spec.slices = 200;
    spec.sequences = 2;
    assert_int_equal(spec_check(&spec), ERR_INVALID);
    assert_non_null(strstr(err_text(), "1638400, expected at most 1048576"));
    spec.sequences = 1;
    assert_int_equal(spec_check(&spec), OK);
}

// What a transformer's keys mean depends on whether a base is named.
static void test_keys_of_transformers(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    snprintf(spec.learner, sizeof spec.learner, "vit");
    assert_true(spec_passes_each(&spec) && !spec_has_base(&spec));
    assert_non_null(strstr(text_of(&spec), "\nbase=none\nlora.rank=-\n"));
    assert_non_null(strstr(text_of(&spec), "\nlayers=4\nwidth=64\nheads=4\ninner=256\npatch=7\n"
                                           "context=-\n"));
    assert_int_equal(spec_set(&spec, "base", "digits"), OK);
    assert_int_equal(spec_set(&spec, "lora.targets", "[query, attention.output.dense]"), OK);
    assert_true(spec_has_base(&spec));
    assert_non_null(strstr(text_of(&spec),
                           "\nbase=digits\nlora.rank=16\nlora.alpha=16\nlora.rslora=true\n"
                           "lora.dropout=0\nlora.targets=query,attention.output.dense\n"
                           "append_blocks=0\nlayers=-\nwidth=-\nheads=-\ninner=-\npatch=-\n"));
    snprintf(spec.learner, sizeof spec.learner, "text");
    spec.aggregate = AGGREGATE_VOTE;
    assert_int_equal(spec_check(&spec), ERR_INVALID);
    assert_non_null(strstr(err_text(), "aggregate is vote, expected mean_probability"));
    spec.aggregate = AGGREGATE_MEAN_PROBABILITY;
    assert_int_equal(spec_check(&spec), OK);
    snprintf(spec.learner, sizeof spec.learner, "mlp");
    assert_true(!spec_passes_each(&spec) && !spec_has_base(&spec));
    assert_non_null(strstr(text_of(&spec), "\nbase=-\n"));
}

static void assert_check_says(const struct spec *spec, const char *message)
{
    assert_int_equal(spec_check(spec), ERR_INVALID);
    if (strstr(err_text(), message) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err_text(), message);
    }
}

static void test_orders_are_checked(void **state)
{
    (void)state;
    struct spec spec = spec_default(); // 4 slices
    assert_int_equal(spec_set(&spec, "sequences", "5"), OK);
    assert_int_equal(spec_check(&spec), OK);
    assert_int_equal(spec_set(&spec, "sequence_policy", "bms"), OK);
    assert_check_says(&spec, "sequences is 5, expected at most the number of slices, 4, with "
                             "sequence_policy bms");
    assert_int_equal(spec_set(&spec, "sequences", "4"), OK);
    assert_int_equal(spec_check(&spec), OK);
    assert_int_equal(spec_set(&spec, "slices", "101"), OK);
    assert_check_says(&spec, "slices is 101, expected at most 100 with sequence_policy bms");
    assert_int_equal(spec_set(&spec, "sequence_policy", "sampling"), OK);
    assert_int_equal(spec_check(&spec), OK);
    assert_int_equal(spec_set(&spec, "slices", "4"), OK);
    assert_int_equal(spec_set(&spec, "slice_probabilities", "[1, 2, 3]"), OK);
    assert_check_says(&spec, "slice_probabilities has 3 numbers, expected one for each of 4");
    assert_int_equal(spec_set(&spec, "slice_probabilities", "[0, 0, 0, 0]"), OK);
    assert_check_says(&spec, "slice_probabilities are all 0");
    assert_int_equal(spec_set(&spec, "slice_probabilities", "[0, 0, 0.50, 1e-3]"), OK);
    assert_int_equal(spec_check(&spec), OK);
    assert_non_null(strstr(text_of(&spec), "\nslice_probabilities=0,0,0.5,0.001\n"));
    assert_same_after_reading(&spec);
    assert_int_equal(spec_set(&spec, "slice_probabilities", "equal"), OK);
    assert_non_null(strstr(text_of(&spec), "\nslice_probabilities=equal\n"));
    assert_same_after_reading(&spec);
    // Without effect they may be anything, and do not count.
    assert_int_equal(spec_set(&spec, "sequence_policy", "rotation"), OK);
    struct spec other = spec;
    assert_int_equal(spec_set(&other, "slice_probabilities", "[1, 2, 3]"), OK);
    assert_int_equal(spec_check(&other), OK);
    const struct digest left = spec_digest(&spec), right = spec_digest(&other);
    assert_memory_equal(&left, &right, sizeof left);
}

// A table is read before or after the shards and slices that it speaks of, and checked against them.
static void test_risk_is_checked(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    assert_int_equal(spec_set(&spec, "risk", "1=10-11/5"), OK);
    assert_check_says(&spec, "risk puts class 1 into shards 10 to 11, expected some of 0 to 7");
    assert_int_equal(spec_set(&spec, "shards", "12"), OK);
    assert_check_says(&spec, "risk puts class 1 into slices 5 to 5, expected some of 0 to 3");
    assert_int_equal(spec_set(&spec, "slices", "6"), OK);
    assert_int_equal(spec_check(&spec), OK);
    assert_same_after_reading(&spec);
    const struct spec uniform = spec_default();
    struct spec all = uniform;
    assert_int_equal(spec_set(&all, "risk", "1=0-7/0-3"), OK);
    struct digest left = spec_digest(&all), right = spec_digest(&uniform);
    assert_memory_equal(&left, &right, sizeof left);
    assert_int_equal(spec_set(&all, "risk", "1=0-7/0-2"), OK);
    left = spec_digest(&all);
    assert_memory_not_equal(&left, &right, sizeof left);
}

// As many numbers as there can be slices, each as long as a number gets, in a text that may travel.
static void test_longest_probabilities(void **state)
{
    (void)state;
    struct spec spec = spec_default();
    spec.slices = LIMIT_SLICES;
    spec.policy = SEQUENCE_SAMPLING;
    spec.probability_count = LIMIT_SLICES;
    for (uint32_t i = 0; i < LIMIT_SLICES; i++) {
        spec.probabilities[i] = 1.2345678901234567e-300;
    }
    struct spec back;
    char text[LIMIT_SPEC_BYTES];
    snprintf(text, sizeof text, "%s", text_of(&spec));
    assert_int_equal(spec_get(span_text(text), &back), OK);
    assert_memory_equal(back.probabilities, spec.probabilities, sizeof spec.probabilities);
}

// A key without effect must not split one model into two digests.
static void test_keys_without_effect_do_not_count(void **state)
{
    (void)state;
    struct spec a = spec_default(), b = spec_default();
    assert_int_equal(spec_set(&a, "learner", "softmax"), OK);
    b = a;
    assert_int_equal(spec_set(&b, "hidden", "64"), OK);
    assert_int_equal(spec_set(&b, "dropout", "0.5"), OK);
    assert_int_equal(spec_set(&b, "optimizer.beta1", "0.8"), OK);
    struct digest left = spec_digest(&a), right = spec_digest(&b);
    assert_memory_equal(&left, &right, sizeof left);
    assert_same_after_reading(&b);
    assert_int_equal(spec_set(&b, "optimizer.momentum", "0.8"), OK); // Control.
    right = spec_digest(&b);
    assert_memory_not_equal(&left, &right, sizeof left);
}

// One change to the canonical text: replaces `from` by `to`.
static void assert_text_refused(const char *from, const char *to)
{
    char text[LIMIT_SPEC_BYTES];
    const char *const at = strstr(default_text, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - default_text), default_text, to,
             at + strlen(from));
    struct spec spec;
    assert_int_equal(spec_get(span_text(text), &spec), ERR_INVALID);
}

static void test_only_canonical_text_is_read(void **state)
{
    (void)state;
    struct spec spec;
    assert_int_equal(spec_get(span_text(default_text), &spec), OK); // Control.
    assert_text_refused("shards=8\n", "");
    assert_text_refused("shards=8\n", "shards=8\nshards=8\n");
    assert_text_refused("shards=8\nslices=4\n", "slices=4\nshards=8\n");
    assert_text_refused("shards=8", "shards=08");
    assert_text_refused("shards=8", "shards= 8");
    assert_text_refused("shards=8", "shards=0");
    assert_text_refused("shards=8", "shards=-");
    assert_text_refused("hidden=128", "hidden=-");
    assert_text_refused("beta1=-", "beta1=0.9");
    assert_text_refused("rate=0.1", "rate=1e-1");
    assert_text_refused("seed=7\n", "seed=7");
    assert_text_refused("seed=7\n", "seed=7\nx");
    assert_text_refused("gradient_chunks=1\n", "gradient_chunks=32\n"); // spec_check
    assert_text_refused("risk=uniform", "risk=1=8/0");                  // spec_check
    assert_text_refused("risk=uniform", "risk=1=0-7/0");
    assert_text_refused("risk=uniform", "risk=2=0/0,1=0/0");
    assert_text_refused("risk=uniform\n", "");
    assert_int_equal(spec_get(span_of(default_text, sizeof default_text), &spec), ERR_INVALID);
    assert_int_equal(spec_get(span_of(NULL, 0), &spec), ERR_INVALID);
    static const char huge[LIMIT_SPEC_BYTES + 1];
    assert_int_equal(spec_get(span_of(huge, sizeof huge), &spec), ERR_INVALID);
    assert_non_null(strstr(err_text(), "8193 bytes"));
}

static void count_key(void *context, const char *key, const char *values, const char *fallback)
{
    struct spec spec = spec_default();
    assert_true(strlen(values) > 0);
    assert_int_equal(spec_set(&spec, key, fallback), OK);
    *(int *)context += 1;
}

static void test_each_lists_every_key(void **state)
{
    (void)state;
    int count = 0;
    spec_each(count_key, &count);
    int lines = 0;
    for (const char *at = default_text; *at != '\0'; at++) {
        lines += *at == '\n' ? 1 : 0;
    }
    assert_int_equal(count, lines);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_has_this_text),
        cmocka_unit_test(test_every_key_reads_back_what_it_wrote),
        cmocka_unit_test(test_bad_values_are_named),
        cmocka_unit_test(test_unknown_keys_name_the_nearest),
        cmocka_unit_test(test_check_sees_keys_together),
        cmocka_unit_test(test_keys_of_transformers),
        cmocka_unit_test(test_orders_are_checked),
        cmocka_unit_test(test_risk_is_checked),
        cmocka_unit_test(test_longest_probabilities),
        cmocka_unit_test(test_keys_without_effect_do_not_count),
        cmocka_unit_test(test_only_canonical_text_is_read),
        cmocka_unit_test(test_each_lists_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
