// tests/unit/test_base_shape.c: the shape of a base has one text, one layout and one digest.
//
// Method: layouts are compared with sums done by hand here; every key is put out of its range with
// its control beside it, and the message must name it; texts that differ in one byte are refused;
// the digest stands in docs/format.md, made by another program.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "model/base.h"

static const struct base_shape vit = {
    .kind = BASE_VIT,
    .gelu = BASE_GELU_ERF,
    .layers = 2,
    .width = 6,
    .heads = 3,
    .inner = 10,
    .epsilon = 1e-6,
    .rows = 4,
    .cols = 6,
    .channels = 3,
    .patch = 2,
    .mean = {0.485f, 0.0f, -1.5f},
    .deviation = {0.229f, 1.0f, 0.225f},
};
static const struct base_shape text = {
    .kind = BASE_TEXT,
    .gelu = BASE_GELU_TANH,
    .layers = 3,
    .width = 4,
    .heads = 2,
    .inner = 5,
    .epsilon = 1e-5,
    .context = 7,
};
static const char vit_text[] = "kind=vit\n"
                               "gelu=erf\n"
                               "layers=2\n"
                               "width=6\n"
                               "heads=3\n"
                               "inner=10\n"
                               "epsilon=1e-06\n"
                               "rows=4\n"
                               "cols=6\n"
                               "channels=3\n"
                               "patch=2\n"
                               "mean=0.485,0,-1.5\n"
                               "deviation=0.229,1,0.225\n"
                               "context=-\n";
static const char text_text[] = "kind=text\n"
                                "gelu=tanh\n"
                                "layers=3\n"
                                "width=4\n"
                                "heads=2\n"
                                "inner=5\n"
                                "epsilon=1e-05\n"
                                "rows=-\n"
                                "cols=-\n"
                                "channels=-\n"
                                "patch=-\n"
                                "mean=-\n"
                                "deviation=-\n"
                                "context=7\n";

static void test_layout(void **state)
{
    (void)state;
    const struct base_at a = base_at(&vit);
    assert_int_equal(base_tokens_max(&vit), 7); // 2 x 3 patches and the class token.
    assert_int_equal(a.class_token, 0);
    assert_int_equal(a.positions, 6);
    assert_int_equal(a.patches, 6 + 7 * 6);
    assert_int_equal(a.patch_bias, 48 + 6 * 3 * 2 * 2);
    assert_int_equal(a.layers, 120 + 6);
    const uint64_t layer = 12 + 18 * 6 + 18 + 6 * 6 + 6 + 12 + 10 * 6 + 10 + 6 * 10 + 6;
    assert_int_equal(a.layer_count, layer);
    assert_int_equal(a.norm, 126 + 2 * layer);
    assert_int_equal(a.count, 126 + 2 * layer + 12);

    const struct base_layer_at one = base_layer_at(&vit, 1);
    const uint64_t at = 126 + layer;
    assert_int_equal(one.norm1, at);
    assert_int_equal(one.qkv, at + 12);
    assert_int_equal(one.qkv_bias, at + 12 + 108);
    assert_int_equal(one.output, at + 120 + 18);
    assert_int_equal(one.output_bias, at + 138 + 36);
    assert_int_equal(one.norm2, at + 174 + 6);
    assert_int_equal(one.up, at + 180 + 12);
    assert_int_equal(one.up_bias, at + 192 + 60);
    assert_int_equal(one.down, at + 252 + 10);
    assert_int_equal(one.down_bias, at + 262 + 60);
    assert_int_equal(one.down_bias + 6, a.norm);

    const struct base_at b = base_at(&text);
    assert_int_equal(base_tokens_max(&text), 7);
    assert_int_equal(b.tokens, 0);
    assert_int_equal(b.positions, 258 * 4);
    assert_int_equal(b.layers, 258 * 4 + 7 * 4);
    assert_int_equal(b.layer_count, 8 + 48 + 12 + 16 + 4 + 8 + 20 + 5 + 20 + 4);
    assert_int_equal(b.count, b.layers + 3 * b.layer_count + 8);
}

static void assert_writes(const struct base_shape *shape, const char *expected)
{
    struct buf out = {0};
    base_shape_put(shape, &out);
    assert_int_equal(out.bytes, strlen(expected));
    assert_memory_equal(out.data, expected, out.bytes);
    buf_deinit(&out);
    struct base_shape back;
    assert_int_equal(base_shape_get(span_text(expected), &back), OK);
    assert_memory_equal(&back, shape, sizeof back); // Both zero where nothing was set.
}

static void test_text_round_trip(void **state)
{
    (void)state;
    assert_writes(&vit, vit_text);
    assert_writes(&text, text_text);

    struct base_shape shape = vit; // Numbers that need all their digits; a zero with a sign.
    shape.mean[0] = nextafterf(1.0f, 2.0f);
    shape.mean[1] = -0.0f;
    shape.epsilon = nextafter(1e-6, 1);
    struct buf out = {0};
    base_shape_put(&shape, &out);
    struct base_shape back;
    assert_int_equal(base_shape_get(buf_span(&out), &back), OK);
    assert_true(back.mean[0] == shape.mean[0] && back.epsilon == shape.epsilon);
    assert_false(signbit(back.mean[1]));
    buf_deinit(&out);
}

static void assert_refused(const struct base_shape *shape, enum err err, const char *names)
{
    assert_int_equal(base_shape_check(shape), err);
    if (strstr(err_text(), names) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err_text(), names);
    }
}

// Runs a check on a copy of `from` with one member changed.
#define REFUSED(from, member, value, err, names)                                                   \
    do {                                                                                           \
        struct base_shape changed_ = (from);                                                       \
        changed_.member = (value);                                                                 \
        assert_refused(&changed_, (err), (names));                                                 \
    } while (0)

static void test_each_key_has_a_range(void **state)
{
    (void)state;
    assert_int_equal(base_shape_check(&vit), OK);
    assert_int_equal(base_shape_check(&text), OK);
    REFUSED(vit, kind, (enum base_kind)2, ERR_INVALID, "kind of the base is 2");
    REFUSED(vit, gelu, (enum base_gelu)2, ERR_INVALID, "gelu of the base is 2");
    REFUSED(vit, layers, 0, ERR_INVALID, "layers of the base is 0, expected 1 to 256");
    REFUSED(vit, layers, LIMIT_BASE_LAYERS + 1, ERR_INVALID, "layers of the base is 257");
    REFUSED(vit, width, 0, ERR_INVALID, "width of the base is 0");
    REFUSED(vit, width, 65538, ERR_INVALID, "width of the base is 65538");
    REFUSED(vit, heads, 0, ERR_INVALID, "heads of the base is 0");
    REFUSED(vit, inner, 0, ERR_INVALID, "inner of the base is 0");
    REFUSED(vit, epsilon, 0, ERR_INVALID, "epsilon of the base is 0");
    REFUSED(vit, epsilon, NAN, ERR_INVALID, "epsilon of the base is");
    REFUSED(vit, rows, 0, ERR_INVALID, "rows of the base is 0");
    REFUSED(vit, cols, LIMIT_BASE_SIDE + 2, ERR_INVALID, "cols of the base is 1026");
    REFUSED(vit, channels, 0, ERR_INVALID, "channels of the base is 0");
    REFUSED(vit, channels, 5, ERR_INVALID, "channels of the base is 5");
    REFUSED(vit, patch, 0, ERR_INVALID, "patch of the base is 0");
    REFUSED(vit, mean[2], INFINITY, ERR_INVALID, "mean of the base is inf");
    REFUSED(vit, deviation[2], 0, ERR_INVALID, "deviation of the base is 0");
    REFUSED(vit, mean[3], 1, ERR_INVALID, "mean of the base names more than 3 channels");
    REFUSED(text, deviation[0], 1, ERR_INVALID, "deviation of the base names more than 0");
    REFUSED(text, context, 0, ERR_INVALID, "context of the base is 0");
    REFUSED(text, context, LIMIT_BASE_TOKENS + 1, ERR_INVALID, "context of the base is 2049");
    REFUSED(vit, context, 7, ERR_INVALID, "context of the base is 7, expected 0 with kind vit");
    REFUSED(text, patch, 2, ERR_INVALID, "patch of the base is 2, expected 0 with kind text");
}

static void test_parts_fit_each_other(void **state)
{
    (void)state;
    REFUSED(vit, heads, 4, ERR_INVALID, "width of the base is 6, expected a multiple of heads");
    REFUSED(vit, rows, 5, ERR_INVALID, "rows of the base is 5, expected a multiple of patch");
    REFUSED(vit, cols, 7, ERR_INVALID, "cols of the base is 7, expected a multiple of patch");

    struct base_shape many = vit; // 46 x 46 patches are too many, 45 x 45 are not.
    many.rows = many.cols = 92;
    assert_refused(&many, ERR_LIMIT, "an image would be 2117 tokens with patch 2");
    many.rows = many.cols = 90;
    assert_int_equal(base_shape_check(&many), OK);

    struct base_shape large = text;
    large.width = 2048;
    large.inner = 8192;
    large.layers = 5; // Of 50,358,272 weights each.
    assert_int_equal(base_shape_check(&large), OK);
    large.layers = 6;
    assert_refused(&large, ERR_LIMIT, "the base would have");
    large.layers = LIMIT_BASE_LAYERS; // The largest number there can be must not wrap round.
    large.width = large.inner = LIMIT_WIDTH;
    assert_refused(&large, ERR_LIMIT, "the base would have");
}

// Replaces the first `old` in `from`; they must be there.
static const char *with(const char *from, const char *old, const char *new)
{
    static char out[2048];
    const char *const at = strstr(from, old);
    assert_non_null(at);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - from), from, new, at + strlen(old));
    return out;
}

static void assert_unreadable(const char *bytes, const char *names)
{
    struct base_shape shape;
    assert_int_equal(base_shape_get(span_text(bytes), &shape), ERR_INVALID);
    if (strstr(err_text(), names) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err_text(), names);
    }
}

static void test_only_canonical_text_is_read(void **state)
{
    (void)state;
    const char *const form = "not in canonical form";
    assert_unreadable("", "expected the line of kind");
    assert_unreadable(with(vit_text, "layers=2\n", ""), "expected the line of layers");
    assert_unreadable(with(vit_text, "context=-\n", "context=-"), "expected the line of context");
    assert_unreadable(with(vit_text, "context=-\n", "context=-\n\n"), form);
    assert_unreadable(with(vit_text, "layers=2", "layers=02"), form);
    assert_unreadable(with(vit_text, "1e-06", "1e-6"), form);
    assert_unreadable(with(vit_text, "0.485,0,", "0.485,-0,"), form);
    assert_unreadable(with(vit_text, "0.485", "0.4850"), form);
    assert_unreadable(with(vit_text, "context=-", "context=7"), form);
    assert_unreadable(with(text_text, "rows=-", "rows=0"), form);
    assert_unreadable(with(vit_text, "mean=0.485,0,-1.5", "mean=0.485,0"), form);
    assert_unreadable(with(vit_text, "mean=0.485", "mean=1,2,3,4,0.485"), "at most 4 numbers");
    assert_unreadable(with(vit_text, "mean=0.485", "mean="), "mean of the base");
    assert_unreadable(with(vit_text, "kind=vit", "kind=bert"), "none of vit, text");
    assert_unreadable(with(vit_text, "gelu=erf", "gelu=relu"), "none of erf, tanh");
    assert_unreadable(with(vit_text, "layers=2", "layers=-"), "layers of the base");
    assert_unreadable(with(vit_text, "layers=2", "layers=0"), "layers of the base is 0");
    assert_unreadable(with(vit_text, "epsilon=1e-06", "epsilon=nan"), "epsilon of the base");
    assert_unreadable(with(vit_text, "epsilon=1e-06", "epsilon=\t1"), "no clean text");
    char zero[sizeof vit_text];
    memcpy(zero, vit_text, sizeof zero);
    zero[strlen("kind=vit\ngelu=erf\nlayers=")] = '\0';
    struct base_shape shape;
    assert_int_equal(base_shape_get(span_of(zero, sizeof zero - 1), &shape), ERR_INVALID);
    char longer[BASE_TEXT_BYTES + 2];
    memset(longer, 'a', sizeof longer);
    longer[BASE_TEXT_BYTES + 1] = '\0';
    assert_unreadable(longer, "has 1025 bytes, expected at most 1024");
}

// The longest text there can be fits BASE_TEXT_BYTES.
static void test_the_longest_text_can_be_read(void **state)
{
    (void)state;
    struct base_shape shape = vit;
    shape.epsilon = nextafter(1e-7, 1);
    shape.channels = BASE_CHANNELS_MAX;
    for (int i = 0; i < BASE_CHANNELS_MAX; i++) {
        shape.mean[i] = -1.17549463e-38f;
        shape.deviation[i] = nextafterf(0.00123456789f, 1.0f);
    }
    struct buf out = {0};
    base_shape_put(&shape, &out);
    struct base_shape back;
    assert_int_equal(base_shape_get(buf_span(&out), &back), OK);
    buf_deinit(&out);
}

static float *weights_of(const struct base_shape *shape)
{
    float *weights = NULL;
    const uint64_t count = base_at(shape).count;
    assert_int_equal(mem_try_aligned(count, sizeof *weights, &weights), OK);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] = (float)i;
    }
    return weights;
}

static void assert_digest(const struct base_shape *shape, const float *weights, const char *hex)
{
    const struct digest digest = base_digest(shape, weights);
    char got[DIGEST_HEX_BYTES];
    hex_put(got, digest.bytes, sizeof digest.bytes);
    assert_string_equal(got, hex);
}

static void test_digest_vector(void **state)
{
    (void)state;
    float *const weights = weights_of(&vit);
    assert_digest(&vit, weights,
                  "20a66dc4714d7e46027f7ca3b99fb9b06663730c45a4d7f1086806123814d674");
    weights[5] += 1;
    const struct digest other = base_digest(&vit, weights);
    weights[5] -= 1;
    const struct digest same = base_digest(&vit, weights);
    assert_memory_not_equal(other.bytes, same.bytes, sizeof same.bytes);
    mem_free(weights);
    float *const texts = weights_of(&text);
    assert_digest(&text, texts, "8fcd5153ad14df99f8f644b9553b461ce4ed6a00201a718214a34eee7aa2f4bf");
    mem_free(texts);
}

// Largest size among weights[count].
static float most(const float *weights, uint64_t count)
{
    float most = 0;
    for (uint64_t i = 0; i < count; i++) {
        most = fmaxf(most, fabsf(weights[i]));
    }
    return most;
}

// That weights[count] reach out to +-bound and not beyond.
static void assert_reaches(const float *weights, uint64_t count, double bound)
{
    const double reached = (double)most(weights, count);
    assert_true(reached <= bound * (1 + 1e-6) && reached > 0.9 * bound);
}

static void test_first_weights(void **state)
{
    (void)state;
    struct base_shape shapes[2] = {vit, text};
    for (int i = 0; i < 2; i++) {
        struct base_shape *const shape = &shapes[i];
        shape->width = 48; // Enough weights for the largest to be near the bound.
        shape->heads = 3;
        shape->inner = 96;
        shape->layers = 2;
        float *const w = weights_of(shape);
        base_init(shape, rng_key_of("test", span_text("init")), w);
        const struct base_at at = base_at(shape);
        const double small = 0.02 * sqrt(3);
        if (shape->kind == BASE_VIT) {
            assert_reaches(w + at.class_token, 48, small);
            assert_reaches(w + at.patches, 48 * 12, small);
            assert_true(most(w + at.patch_bias, 48) == 0);
        } else {
            assert_reaches(w + at.tokens, BASE_TOKENS * 48, small);
        }
        assert_reaches(w + at.positions, 7 * 48, small);
        for (uint32_t layer = 0; layer < 2; layer++) {
            const struct base_layer_at l = base_layer_at(shape, layer);
            assert_reaches(w + l.qkv, 3 * 48 * 48, small);
            assert_reaches(w + l.output, 48 * 48, small / 2);
            assert_reaches(w + l.up, 48 * 96, small);
            assert_reaches(w + l.down, 48 * 96, small / 2);
            assert_true(most(w + l.qkv_bias, 3 * 48) == 0 && most(w + l.output_bias, 48) == 0);
            assert_true(most(w + l.up_bias, 96) == 0 && most(w + l.down_bias, 48) == 0);
            for (uint64_t j = 0; j < 48; j++) {
                assert_true(w[l.norm1 + j] == 1 && w[l.norm1 + 48 + j] == 0);
                assert_true(w[l.norm2 + j] == 1 && w[l.norm2 + 48 + j] == 0);
            }
        }
        for (uint64_t j = 0; j < 48; j++) {
            assert_true(w[at.norm + j] == 1 && w[at.norm + 48 + j] == 0);
        }
        mem_free(w);
    }
}

static void test_a_base_lives_as_long_as_it_is_held(void **state)
{
    (void)state;
    struct base *const base = base_new(&text, weights_of(&text));
    const struct digest digest = base_digest(&text, base->weights);
    assert_memory_equal(base->digest.bytes, digest.bytes, sizeof digest.bytes);
    assert_int_equal(base->weight_count, base_at(&text).count);
    assert_ptr_equal(base_hold(base), base);
    base_release(base);
    assert_true(base->weights[1] == 1.0f); // Still there: a sanitizer would say otherwise.
    base_release(base);                    // A sanitizer would report what this leaks.
    base_release(NULL);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_text_round_trip),
        cmocka_unit_test(test_each_key_has_a_range),
        cmocka_unit_test(test_parts_fit_each_other),
        cmocka_unit_test(test_only_canonical_text_is_read),
        cmocka_unit_test(test_the_longest_text_can_be_read),
        cmocka_unit_test(test_digest_vector),
        cmocka_unit_test(test_first_weights),
        cmocka_unit_test(test_a_base_lives_as_long_as_it_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
