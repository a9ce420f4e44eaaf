// tests/unit/test_lora.c: names, layout, first weights and dropout of adapters. Their products and
// gradients: test_transformer.c.
//
// Method: what each name covers is written out here; each check is provoked; draws are held against
// docs/format.md and against each other with one thing changed.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "model/lora.h"

static const struct base_shape vit = {.kind = BASE_VIT, .width = 6, .heads = 2, .inner = 10};
static const struct base_shape text = {.kind = BASE_TEXT, .width = 6, .heads = 2, .inner = 10};

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const struct base_shape *shape;
        const char *name;
        struct lora_target target;
    } all[] = {
        {&vit, "query", {LINEAR_QKV, 0, 6, 6}},
        {&vit, "key", {LINEAR_QKV, 6, 6, 6}},
        {&vit, "value", {LINEAR_QKV, 12, 6, 6}},
        {&vit, "attention.output.dense", {LINEAR_OUTPUT, 0, 6, 6}},
        {&vit, "intermediate.dense", {LINEAR_UP, 0, 10, 6}},
        {&vit, "output.dense", {LINEAR_DOWN, 0, 6, 10}},
        {&text, "query", {LINEAR_QKV, 0, 6, 6}},
        {&text, "key", {LINEAR_QKV, 6, 6, 6}},
        {&text, "value", {LINEAR_QKV, 12, 6, 6}},
        {&text, "c_attn", {LINEAR_QKV, 0, 18, 6}},
        {&text, "attn.c_proj", {LINEAR_OUTPUT, 0, 6, 6}},
        {&text, "c_fc", {LINEAR_UP, 0, 10, 6}},
        {&text, "mlp.c_proj", {LINEAR_DOWN, 0, 6, 10}},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct lora_target target;
        assert_int_equal(lora_target_find(all[i].shape, all[i].name, &target), OK);
        assert_memory_equal(&target, &all[i].target, sizeof target);
    }
    struct lora_target target;
    static const char *const bad[] = {"", "c_attn", "Query", "query ", "dense", "classifier"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lora_target_find(&vit, bad[i], &target), ERR_INVALID);
        assert_non_null(strstr(err_text(), "a vit base one of query, key, value, "
                                           "attention.output.dense, intermediate.dense, "
                                           "output.dense"));
    }
    assert_int_equal(lora_target_find(&text, "output.dense", &target), ERR_INVALID);
    assert_non_null(strstr(err_text(), "\"output.dense\", expected with a text base one of query, "
                                       "key, value, c_attn, attn.c_proj, c_fc, mlp.c_proj"));
    assert_int_equal(lora_target_find(&vit, "a\nb", &target), ERR_INVALID);
    assert_null(strchr(err_text(), '\n'));
}

static struct lora lora_of(const struct base_shape *shape, const char *first, const char *second)
{
    struct lora lora = {.rank = 3, .scale = 0.5f, .dropout = 0.25f, .target_count = 2};
    assert_int_equal(lora_target_find(shape, first, &lora.targets[0]), OK);
    assert_int_equal(lora_target_find(shape, second, &lora.targets[1]), OK);
    return lora;
}

static void assert_refused(struct lora lora, const char *names)
{
    assert_int_equal(lora_check(&lora), ERR_INVALID);
    if (strstr(err_text(), names) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err_text(), names);
    }
}

static void test_check(void **state)
{
    (void)state;
    struct lora lora = lora_of(&vit, "query", "value");
    assert_int_equal(lora_check(&lora), OK);
    lora.rank = 0;
    assert_refused(lora, "rank of LoRA is 0, expected 1 to 4096");
    lora.rank = LIMIT_LORA_RANK + 1;
    assert_refused(lora, "rank of LoRA is 4097");
    lora = lora_of(&vit, "query", "value");
    lora.target_count = 0;
    assert_refused(lora, "LoRA has 0 targets");
    lora.target_count = LORA_TARGETS_MAX + 1;
    assert_refused(lora, "LoRA has 7 targets");
    lora.target_count = 2;
    lora.scale = INFINITY;
    assert_refused(lora, "scale of LoRA is inf");
    lora.scale = 1;
    lora.dropout = 1;
    assert_refused(lora, "dropout of LoRA is 1, expected 0 to below 1");
    lora.dropout = -0.1f;
    assert_refused(lora, "dropout of LoRA is -0.1");
    lora.dropout = NAN;
    assert_refused(lora, "dropout of LoRA is");
    assert_refused(lora_of(&vit, "value", "value"), "targets 1 and 2 of LoRA cover the same");
    assert_refused(lora_of(&text, "c_attn", "value"), "targets 1 and 2 of LoRA cover the same");
    assert_refused(lora_of(&text, "query", "c_attn"), "targets 1 and 2 of LoRA cover the same");
    lora = lora_of(&text, "attn.c_proj", "mlp.c_proj");
    assert_int_equal(lora_check(&lora), OK);
}

static void test_lists_of_names(void **state)
{
    (void)state;
    struct lora lora = {.target_count = 5};
    assert_int_equal(lora_targets(&text, "mlp.c_proj,query", &lora), OK);
    assert_int_equal(lora.target_count, 2);
    assert_int_equal(lora.targets[0].linear, LINEAR_DOWN);
    assert_int_equal(lora.targets[1].linear, LINEAR_QKV);
    assert_int_equal(lora_targets(&text, "value", &lora), OK);
    assert_int_equal(lora.target_count, 1);
    assert_int_equal(lora_targets(&text, "", &lora), ERR_INVALID);
    assert_int_equal(lora_targets(&text, "query,", &lora), ERR_INVALID);
    assert_int_equal(lora_targets(&text, "query,values", &lora), ERR_INVALID);
    assert_non_null(strstr(err_text(), "\"values\", expected"));
    assert_int_equal(lora_targets(&vit, "key,key,key,key,key,key", &lora), OK);
    assert_int_equal(lora_targets(&vit, "key,key,key,key,key,key,key", &lora), ERR_INVALID);
    assert_non_null(strstr(err_text(), "more than 6 targets"));
    char longer[LIMIT_LORA_TARGETS_BYTES + 1];
    memset(longer, 'q', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(lora_targets(&vit, longer, &lora), ERR_INVALID);
}

static void test_layout_and_first_weights(void **state)
{
    (void)state;
    const struct lora lora = lora_of(&vit, "output.dense", "query"); // in 10, rows 6; in 6, rows 6
    assert_int_equal(lora_at(&lora, 0), 0);
    assert_int_equal(lora_at(&lora, 1), 3 * (10 + 6));
    assert_int_equal(lora_count(&lora), 3 * (10 + 6) + 3 * (6 + 6));
    float run[84], again[84];
    const struct rng_key key = rng_key_of("test", span_text("lora"));
    lora_init(&lora, key, run);
    float most[2] = {0};
    for (int i = 0; i < 84; i++) {
        const bool second = i >= 48, is_b = second ? i >= 48 + 18 : i >= 30;
        assert_true(!is_b || run[i] == 0.0f);
        most[second] = fmaxf(most[second], fabsf(run[i]));
    }
    assert_true(most[0] > 0.8f / sqrtf(10) && most[0] <= 1 / sqrtf(10));
    assert_true(most[1] > 0.8f / sqrtf(6) && most[1] <= 1 / sqrtf(6));
    lora_init(&lora, key, again);
    assert_memory_equal(run, again, sizeof run);
    lora_init(&lora, rng_key_of("test", span_text("other")), again);
    assert_memory_not_equal(run, again, sizeof run);
}

static void test_dropout(void **state)
{
    (void)state;
    const struct lora lora = lora_of(&vit, "query", "value");
    struct id128 rid;
    for (uint8_t i = 0; i < sizeof rid.bytes; i++) {
        rid.bytes[i] = i;
    }
    struct buf name = {0}; // docs/format.md: seed 7, shard 3, list [2,0,1], pass 5.
    uint8_t bytes[26];
    assert_int_equal(hex_get(bytes, sizeof bytes,
                             "0700000000000000030000000300020000000100"
                             "05000000"
                             "0000"),
                     OK);
    buf_put(&name, span_of(bytes, 24));
    const struct rng_key key = lora_drop_key(&name, 11, 1, &rid, 2);
    assert_int_equal(name.bytes, 24);
    char hex[17];
    uint8_t word[8];
    memcpy(word, key.word, sizeof word);
    hex_put(hex, word, sizeof word);
    assert_string_equal(hex, "a36e078d71fe48c2");

    float factor[4001];
    lora_drop(&lora, key, 10, factor);
    static const int kept[] = {1, 1, 1, 1, 1, 0, 1, 1, 0, 1};
    for (int i = 0; i < 10; i++) {
        assert_true(factor[i] == (kept[i] ? 1.0f / 0.75f : 0.0f));
    }
    lora_drop(&lora, key, 4001, factor);
    int dropped = 0;
    for (int i = 0; i < 4001; i++) {
        dropped += factor[i] == 0.0f;
    }
    assert_in_range(dropped, 900, 1100); // A quarter, within four deviations.

    struct id128 other = rid;
    other.bytes[0] ^= 1;
    const struct rng_key keys[] = {
        lora_drop_key(&name, 10, 1, &rid, 2), lora_drop_key(&name, 11, 0, &rid, 2),
        lora_drop_key(&name, 11, 1, &other, 2), lora_drop_key(&name, 11, 1, &rid, 3)};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_memory_not_equal(&keys[i], &key, sizeof key);
    }
    buf_deinit(&name);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),          cmocka_unit_test(test_check),
        cmocka_unit_test(test_lists_of_names), cmocka_unit_test(test_layout_and_first_weights),
        cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
