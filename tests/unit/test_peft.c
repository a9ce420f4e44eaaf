// tests/unit/test_peft.c: adapters go out under the names and with the arithmetic of PEFT, and come back to
// the bit.
//
// PEFT itself is not here. So the test does what its sources say: which modules target_modules and
// layers_to_transform match, which scale comes of r and lora_alpha, which weights A and B give; and compares
// with what our own adapters mean. Changed files: test_peft_changed.c.
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/files.h"
#include "tests/unit/peftcase.h"

static double number_of(const json_t *config, const char *key)
{
    const json_t *const json = json_object_get(config, key);
    assert_true(json_is_number(json));
    return json_number_value(json);
}

// ---------------------------------------------------------------- the arithmetic of PEFT

// peft.tuners.tuners_utils.check_target_module_exists, for a list.
static bool peft_matches(const json_t *config, const char *key, uint32_t layer)
{
    size_t i;
    json_t *json;
    bool found = false;
    json_array_foreach(json_object_get(config, "target_modules"), i, json)
    {
        const char *const target = json_string_value(json);
        const size_t key_bytes = strlen(key), bytes = strlen(target);
        found |= strcmp(key, target) == 0;
        found |= key_bytes > bytes && key[key_bytes - bytes - 1] == '.' &&
                 strcmp(key + key_bytes - bytes, target) == 0;
    }
    bool named = false;
    json_array_foreach(json_object_get(config, "layers_to_transform"), i, json)
    {
        named |= json_integer_value(json) == layer;
    }
    return found && named;
}

// The rank or alpha of a module: that of a pattern that its name ends in, else the default.
static double peft_setting(const json_t *config, const char *pattern, const char *key,
                           const char *module)
{
    const char *name;
    json_t *json;
    json_object_foreach(json_object_get(config, pattern), name, json)
    {
        const size_t bytes = strlen(name), all = strlen(module);
        if (all > bytes && module[all - bytes - 1] == '.' &&
            strcmp(module + all - bytes, name) == 0) {
            return json_number_value(json);
        }
    }
    return number_of(config, key);
}

static float *tensor_of(const struct safetensors *file, const char *name, uint64_t rows,
                        uint64_t cols)
{
    const struct safetensors_tensor *const tensor = safetensors_find(file, name);
    if (tensor == NULL) {
        fail_msg("no tensor %s", name);
        return NULL;
    }
    assert_int_equal(tensor->dimensions, 2);
    assert_int_equal(tensor->shape[0], rows);
    assert_int_equal(tensor->shape[1], cols);
    float *const values = mem_alloc(tensor->count, sizeof *values);
    assert_int_equal(safetensors_read(file, tensor, 0, tensor->count, values), OK);
    return values;
}

// What our adapters add to rows `from` .. of a linear layer's weights, one layer's.
static void add_delta(const struct peft *peft, uint32_t layer, enum linear linear, uint32_t from,
                      uint32_t rows, float *delta)
{
    const uint32_t r = peft->lora.rank;
    for (uint32_t t = 0; t < peft->lora.target_count; t++) {
        const struct lora_target *const target = &peft->lora.targets[t];
        const float *const a = peft->adapters[layer] + lora_at(&peft->lora, t);
        const float *const b = a + (size_t)r * target->in;
        for (uint32_t row = 0; row < target->rows && target->linear == linear; row++) {
            if (target->from + row < from || target->from + row >= from + rows) {
                continue;
            }
            for (uint32_t i = 0; i < target->in; i++) {
                float sum = 0;
                for (uint32_t k = 0; k < r; k++) {
                    sum += b[row * r + k] * a[k * target->in + i];
                }
                delta[(target->from + row - from) * target->in + i] += sum * peft->lora.scale;
            }
        }
    }
}

// Every module of the model: PEFT must adapt it if and only if we do, by the same float32 numbers.
static void means_the_same(const struct example *example)
{
    static const struct {
        const char *name;
        enum linear linear;
        uint32_t from, rows, in;
    } vit[] = {{"attention.attention.query", LINEAR_QKV, 0, WIDTH, WIDTH},
               {"attention.attention.key", LINEAR_QKV, WIDTH, WIDTH, WIDTH},
               {"attention.attention.value", LINEAR_QKV, 2 * WIDTH, WIDTH, WIDTH},
               {"attention.output.dense", LINEAR_OUTPUT, 0, WIDTH, WIDTH},
               {"intermediate.dense", LINEAR_UP, 0, INNER, WIDTH},
               {"output.dense", LINEAR_DOWN, 0, WIDTH, INNER}},
      gpt2[] = {{"attn.c_attn", LINEAR_QKV, 0, 3 * WIDTH, WIDTH},
                {"attn.c_proj", LINEAR_OUTPUT, 0, WIDTH, WIDTH},
                {"mlp.c_fc", LINEAR_UP, 0, INNER, WIDTH},
                {"mlp.c_proj", LINEAR_DOWN, 0, WIDTH, INNER}};
    const struct peft *const peft = &example->peft;
    const bool is_vit = peft->shape.kind == BASE_VIT;
    json_t *const config = config_of(example);
    struct safetensors *file;
    assert_int_equal(safetensors_open(file_of(example, "adapter_model.safetensors"), &file), OK);
    size_t tensors = is_vit ? 2 : 0; // classifier
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        for (size_t m = 0; m < (is_vit ? 6 : 4); m++) {
            const uint32_t from = is_vit ? vit[m].from : gpt2[m].from;
            const uint32_t rows = is_vit ? vit[m].rows : gpt2[m].rows;
            const uint32_t in = is_vit ? vit[m].in : gpt2[m].in;
            char module[128], name[256];
            snprintf(module, sizeof module, "%s.%u.%s",
                     is_vit ? "vit.encoder.layer" : "transformer.h", layer,
                     is_vit ? vit[m].name : gpt2[m].name);
            float ours[3 * WIDTH * INNER] = {0}, theirs[3 * WIDTH * INNER] = {0};
            if (peft->adapters[layer] != NULL) {
                add_delta(peft, layer, is_vit ? vit[m].linear : gpt2[m].linear, from, rows, ours);
            }
            if (peft_matches(config, module, layer)) {
                const uint32_t r = (uint32_t)peft_setting(config, "rank_pattern", "r", module);
                const double alpha = peft_setting(config, "alpha_pattern", "lora_alpha", module);
                const bool root = json_is_true(json_object_get(config, "use_rslora"));
                const float scale = (float)(alpha / (root ? sqrt(r) : r));
                snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module);
                float *const a = tensor_of(file, name, r, in);
                snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module);
                float *const b = tensor_of(file, name, rows, r);
                for (uint32_t row = 0; row < rows; row++) {
                    for (uint32_t i = 0; i < in; i++) {
                        float sum = 0;
                        for (uint32_t k = 0; k < r; k++) {
                            sum += b[row * r + k] * a[k * in + i];
                        }
                        theirs[row * in + i] = sum * scale;
                    }
                }
                mem_free(a);
                mem_free(b);
                tensors += 2;
            }
            for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
                assert_true(ours[i] == theirs[i]);
            }
        }
    }
    assert_int_equal(safetensors_count(file), tensors); // And nothing besides.
    safetensors_close(file);
    json_decref(config);
}

// ---------------------------------------------------------------- writing

static void test_peft_writes_vit_as_peft_does(void **state)
{
    (void)state;
    struct example example;
    example_init(&example, BASE_VIT, "query,value", 2, 16, true);
    write_it(&example);
    means_the_same(&example);
    reads_back(&example);
    static const char expected[] = "{\n"
                                   "  \"alpha_pattern\": {},\n"
                                   "  \"auto_mapping\": null,\n"
                                   "  \"base_model_name_or_path\": \"vit-base\",\n"
                                   "  \"bias\": \"none\",\n"
                                   "  \"fan_in_fan_out\": false,\n"
                                   "  \"inference_mode\": true,\n"
                                   "  \"init_lora_weights\": true,\n"
                                   "  \"layers_pattern\": null,\n"
                                   "  \"layers_to_transform\": [\n    2,\n    10,\n    11\n  ],\n"
                                   "  \"lora_alpha\": 16,\n"
                                   "  \"lora_dropout\": 0.1,\n"
                                   "  \"modules_to_save\": [\n    \"classifier\"\n  ],\n"
                                   "  \"peft_type\": \"LORA\",\n"
                                   "  \"r\": 2,\n"
                                   "  \"rank_pattern\": {},\n"
                                   "  \"revision\": null,\n"
                                   "  \"target_modules\": [\n    \"query\",\n    \"value\"\n  ],\n"
                                   "  \"task_type\": null,\n"
                                   "  \"use_rslora\": true\n"
                                   "}\n";
    struct buf config = {0};
    assert_int_equal(files_read(file_of(&example, "adapter_config.json"), 4096, &config), OK);
    buf_u8(&config, 0);
    assert_string_equal((const char *)config.data, expected);
    buf_deinit(&config);

    struct safetensors *file;
    assert_int_equal(safetensors_open(file_of(&example, "adapter_model.safetensors"), &file), OK);
    static const char *const names[] = {
        "base_model.model.classifier.bias",
        "base_model.model.classifier.weight",
        "base_model.model.vit.encoder.layer.10.attention.attention.query.lora_A.weight",
        "base_model.model.vit.encoder.layer.10.attention.attention.query.lora_B.weight",
        "base_model.model.vit.encoder.layer.10.attention.attention.value.lora_A.weight",
    };
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(safetensors_at(file, i)->name, names[i]);
    }
    assert_string_equal(safetensors_note(file, "format"), "pt");
    safetensors_close(file);
    struct stat found;
    assert_int_equal(stat(file_of(&example, "head.safetensors"), &found), -1);
    assert_int_equal(stat(example.dir, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0700);
    example_deinit(&example);
}

static void test_peft_joins_what_gpt2_has_in_one(void **state)
{
    (void)state;
    struct example example;
    example_init(&example, BASE_TEXT, "query,value", 2, 16, true);
    write_it(&example);
    means_the_same(&example);
    reads_back(&example);
    json_t *const config = config_of(&example);
    assert_true(number_of(config, "r") == 4);
    assert_true(json_is_true(json_object_get(config, "fan_in_fan_out")));
    assert_string_equal(json_string_value(json_object_get(config, "task_type")), "CAUSAL_LM");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(config, "target_modules"), 0)),
        "attn.c_attn");
    assert_int_equal(json_array_size(json_object_get(config, "target_modules")), 1);
    assert_int_equal(json_object_size(json_object_get(config, "rank_pattern")), 0);
    json_decref(config);

    // A: query's rows, then value's. B: blocks, zero elsewhere.
    const char *const c_attn = "base_model.model.transformer.h.10.attn.c_attn";
    char name[128];
    struct safetensors *file;
    assert_int_equal(safetensors_open(file_of(&example, "adapter_model.safetensors"), &file), OK);
    snprintf(name, sizeof name, "%s.lora_A.weight", c_attn);
    float *const a = tensor_of(file, name, 4, WIDTH);
    snprintf(name, sizeof name, "%s.lora_B.weight", c_attn);
    float *const b = tensor_of(file, name, 3 * WIDTH, 4);
    const float *const ours = example.peft.adapters[10];
    const float *const value = ours + lora_at(&example.peft.lora, 1);
    assert_memory_equal(a, ours, 2 * WIDTH * sizeof *a);
    assert_memory_equal(a + 2 * WIDTH, value, 2 * WIDTH * sizeof *a);
    for (uint32_t row = 0; row < 3 * WIDTH; row++) {
        for (uint32_t k = 0; k < 4; k++) {
            float expected = 0;
            if (row < WIDTH && k < 2) {
                expected = ours[2 * WIDTH + row * 2 + k];
            } else if (row >= 2 * WIDTH && k >= 2) {
                expected = value[2 * WIDTH + (row - 2 * WIDTH) * 2 + k - 2];
            }
            assert_true(b[row * 4 + k] == expected);
        }
    }
    mem_free(a);
    mem_free(b);
    safetensors_close(file);
    example_deinit(&example);
}

static void test_peft_joins_into_memory_that_was_used(void **state)
{
    (void)state;
    struct example example;
    struct peftmap_module modules[LORA_TARGETS_MAX];
    float a[4 * WIDTH], b[3 * WIDTH * 4], again[2 * 2 * 2 * WIDTH];
    example_init(&example, BASE_TEXT, "value,query", 2, 1, false);
    const struct lora *const lora = &example.peft.lora;
    assert_int_equal(peftmap_modules(&example.peft.shape, lora, modules), 1);
    for (size_t i = 0; i < sizeof b / sizeof b[0]; i++) {
        b[i] = 9;
    }
    peftmap_join(&modules[0], lora, example.values, a, b);
    assert_true(peftmap_split(&modules[0], lora, a, b, again));
    same_floats(again, example.values, lora_count(lora));
    example_deinit(&example);
}

static void test_peft_maps_every_set_of_targets(void **state)
{
    (void)state;
    static const struct {
        enum base_kind kind;
        const char *targets;
    } sets[] = {
        {BASE_VIT, "query"},
        {BASE_VIT, "value,key,query"},
        {BASE_VIT, "output.dense"}, // PEFT would also match attention.output.dense.
        {BASE_VIT, "output.dense,intermediate.dense,query"},
        {BASE_VIT, "attention.output.dense"},
        {BASE_VIT, "attention.output.dense,output.dense"},
        {BASE_VIT, "output.dense,attention.output.dense,intermediate.dense,query,key,value"},
        {BASE_TEXT, "query"},
        {BASE_TEXT, "key"},
        {BASE_TEXT, "value,query"}, // The other way round.
        {BASE_TEXT, "query,key,value"},
        {BASE_TEXT, "c_attn"},
        {BASE_TEXT, "c_attn,c_fc"},
        {BASE_TEXT, "attn.c_proj"},
        {BASE_TEXT, "mlp.c_proj"},
        {BASE_TEXT, "mlp.c_proj,c_fc,attn.c_proj"},
        {BASE_TEXT, "key,c_fc"},
        {BASE_TEXT, "c_fc,query,value"}, // Two ranks.
        {BASE_TEXT, "query,value,mlp.c_proj,key,attn.c_proj,c_fc"},
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        struct example example;
        example_init(&example, sets[i].kind, sets[i].targets, 3, 7, i % 2 == 1);
        write_it(&example);
        means_the_same(&example);
        reads_back(&example);
        example_deinit(&example);
    }
}

// The scale of each rank, alpha and number of joined targets is the same float32.
static void test_peft_keeps_the_scale(void **state)
{
    (void)state;
    static const double alphas[] = {1, 16, 0.1, 32, 3.7e-5, 12345.678, 0};
    static const char *const targets[] = {"key", "query,value", "query,key,value",
                                          "c_fc,query,key"};
    struct peft peft = {.shape = {.kind = BASE_TEXT, .layers = 1, .width = 4, .inner = 6}};
    peft.adapters[0] = (const float[]){0};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(lora_targets(&peft.shape, targets[i], &peft.lora), OK);
        for (uint32_t rank = 1; rank <= 200; rank++) {
            for (uint32_t j = 0; j < 14; j++) {
                peft.rslora = j % 2 == 1;
                peft.alpha = alphas[j / 2];
                peft.lora.rank = rank;
                peft.lora.scale =
                    (float)(peft.alpha / (peft.rslora ? sqrt((double)rank) : (double)rank));
                struct buf text = {0};
                json_error_t error;
                peftmap_config(&peft, &text);
                json_t *const config = json_loadb((const char *)text.data, text.bytes, 0, &error);
                assert_non_null(config);
                const double r = peft_setting(config, "rank_pattern", "r", "h.0.attn.c_attn");
                const double alpha =
                    peft_setting(config, "alpha_pattern", "lora_alpha", "h.0.attn.c_attn");
                assert_true(r == rank * (i == 0 ? 1 : i == 2 ? 3 : 2));
                assert_true((float)(alpha / (peft.rslora ? sqrt(r) : r)) == peft.lora.scale);
                if (i == 0) {
                    assert_true(alpha == peft.alpha); // As the spec has it.
                }
                json_decref(config);
                buf_deinit(&text);
            }
        }
    }
}

static void test_peft_keeps_the_head_of_a_text_apart(void **state)
{
    (void)state;
    struct example example;
    struct safetensors *file;
    example_init(&example, BASE_TEXT, "c_attn", 1, 1, false);
    write_it(&example);
    assert_int_equal(safetensors_open(file_of(&example, "head.safetensors"), &file), OK);
    assert_int_equal(safetensors_count(file), 1);
    float *const weight = tensor_of(file, "weight", 257, WIDTH);
    same_floats(weight, example.peft.head_weight, 257 * WIDTH);
    mem_free(weight);
    safetensors_close(file);
    example_deinit(&example);
}

static void test_peft_writes_all_or_nothing(void **state)
{
    (void)state;
    struct example example;
    struct stat found;
    example_init(&example, BASE_TEXT, "query,value", 2, 16, true);
    float *const weight = example.values + 3 * lora_count(&example.peft.lora);
    weight[5] = INFINITY; // Of the head: the second file.
    assert_int_equal(peft_write(example.dir, &example.peft), ERR_INVALID);
    assert_said("head.safetensors: tensor weight has a value that is infinite");
    assert_int_equal(stat(example.dir, &found), -1);
    weight[5] = 1;
    example.values[3] = NAN;
    assert_int_equal(peft_write(example.dir, &example.peft), ERR_INVALID);
    assert_said("tensor base_model.model.transformer.h.2.attn.c_attn.lora_A.weight has a value");
    assert_int_equal(stat(example.dir, &found), -1);
    example.values[3] = 1;
    write_it(&example); // Control.
    assert_int_equal(peft_write(example.dir, &example.peft), ERR_CONFLICT);
    assert_said("it exists already");
    reads_back(&example);
    assert_int_equal(peft_write(feed_path("no/such/place"), &example.peft), ERR_IO);
    char longer[2048];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(peft_write(longer, &example.peft), ERR_INVALID);
    example_deinit(&example);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peft_writes_vit_as_peft_does),
        cmocka_unit_test(test_peft_joins_what_gpt2_has_in_one),
        cmocka_unit_test(test_peft_joins_into_memory_that_was_used),
        cmocka_unit_test(test_peft_maps_every_set_of_targets),
        cmocka_unit_test(test_peft_keeps_the_scale),
        cmocka_unit_test(test_peft_keeps_the_head_of_a_text_apart),
        cmocka_unit_test(test_peft_writes_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
