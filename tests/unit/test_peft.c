// tests/unit/test_peft.c: adapters go out under the names and with the arithmetic of PEFT, and come back to
// the bit.
//
// PEFT itself is not here. So the test does what its sources say: which modules target_modules and
// layers_to_transform match, which scale comes of r and lora_alpha, which weights A and B give; and compares
// with what our own adapters mean.
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/files.h"
#include "client/peft.h"
#include "client/peftmap.h"
#include "client/safetensors.h"
#include "tests/unit/feed.h"

enum { WIDTH = 4, INNER = 6, LAYERS = 12 };

// ---------------------------------------------------------------- an example

struct example {
    struct peft peft;
    float *values;
    char dir[SCRATCH_BYTES + 64];
};

// Numbers of full precision, none of them zero.
static float draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int32_t)(*state >> 33) - (1 << 30)) / 1.3e9f + 1e-9f;
}

static void example_init(struct example *example, enum base_kind kind, const char *targets,
                         uint32_t rank, double alpha, bool rslora)
{
    static unsigned number;
    struct peft *const peft = &example->peft;
    uint64_t state = 7 + number;
    *peft = (struct peft){
        .shape = {.kind = kind,
                  .gelu = kind == BASE_VIT ? BASE_GELU_ERF : BASE_GELU_TANH,
                  .layers = LAYERS,
                  .width = WIDTH,
                  .heads = 2,
                  .inner = INNER,
                  .epsilon = 1e-5},
        .lora = {.rank = rank, .dropout = 0.1f},
        .alpha = alpha,
        .rslora = rslora,
        .base_name = "vit-base",
        .head_rows = kind == BASE_VIT ? 3 : BASE_BYTES + 1,
    };
    memset(peft->base_digest.bytes, 0xab, DIGEST_BYTES);
    snprintf(peft->targets, sizeof peft->targets, "%s", targets);
    assert_int_equal(peftmap_targets(&peft->shape, targets, &peft->lora), OK);
    peft->lora.scale = (float)(alpha / (rslora ? sqrt((double)rank) : (double)rank));
    assert_int_equal(lora_check(&peft->lora), OK);

    const uint64_t one = lora_count(&peft->lora);
    const uint64_t all = 3 * one + (uint64_t)peft->head_rows * (WIDTH + 1);
    example->values = mem_alloc(all, sizeof(float));
    for (uint64_t i = 0; i < all; i++) {
        example->values[i] = draw(&state);
    }
    peft->adapters[2] = example->values;
    peft->adapters[10] = example->values + one;
    peft->adapters[11] = example->values + 2 * one;
    peft->head_weight = example->values + 3 * one;
    peft->head_bias = peft->head_weight + (uint64_t)peft->head_rows * WIDTH;
    snprintf(example->dir, sizeof example->dir, "%s/peft%u", feed_dir, number++);
}

static void example_deinit(struct example *example)
{
    mem_free(example->values);
    scratch_remove(example->dir);
}

static const char *file_of(const struct example *example, const char *name)
{
    static char path[sizeof example->dir + 64];
    snprintf(path, sizeof path, "%s/%s", example->dir, name);
    return path;
}

static void write_it(const struct example *example)
{
    if (peft_write(example->dir, &example->peft) != OK) {
        fail_msg("%s", err_text());
    }
}

static void same_floats(const float *a, const float *b, uint64_t count)
{
    assert_true((a == NULL) == (b == NULL));
    if (a != NULL) {
        assert_memory_equal(a, b, count * sizeof *a);
    }
}

// Reads the directory and compares every bit.
static void reads_back(const struct example *example)
{
    const struct peft *const peft = &example->peft;
    struct peft got;
    if (peft_read(example->dir, &peft->shape, &got) != OK) {
        fail_msg("%s", err_text());
    }
    assert_memory_equal(&got.lora, &peft->lora, sizeof got.lora);
    assert_true(got.alpha == peft->alpha && got.rslora == peft->rslora);
    assert_string_equal(got.targets, peft->targets);
    assert_string_equal(got.base_name, peft->base_name);
    assert_memory_equal(&got.base_digest, &peft->base_digest, DIGEST_BYTES);
    for (uint32_t layer = 0; layer < LIMIT_BASE_LAYERS; layer++) {
        same_floats(got.adapters[layer], peft->adapters[layer], lora_count(&peft->lora));
    }
    assert_int_equal(got.head_rows, peft->head_rows);
    same_floats(got.head_weight, peft->head_weight, (uint64_t)peft->head_rows * WIDTH);
    same_floats(got.head_bias, peft->head_bias, peft->head_rows);
    peft_deinit(&got);
}

static json_t *config_of(const struct example *example)
{
    json_error_t error;
    json_t *const config =
        json_load_file(file_of(example, "adapter_config.json"), JSON_REJECT_DUPLICATES, &error);
    assert_non_null(config);
    return config;
}

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
        assert_int_equal(peftmap_targets(&peft.shape, targets[i], &peft.lora), OK);
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
    for (int bias = 0; bias < 2; bias++) {
        struct example example;
        example_init(&example, BASE_TEXT, "c_attn", 1, 1, false);
        if (bias == 0) {
            example.peft.head_bias = NULL;
        }
        write_it(&example);
        reads_back(&example);
        struct safetensors *file;
        assert_int_equal(safetensors_open(file_of(&example, "head.safetensors"), &file), OK);
        assert_int_equal(safetensors_count(file), 1 + bias);
        float *const weight = tensor_of(file, "weight", 257, WIDTH);
        same_floats(weight, example.peft.head_weight, 257 * WIDTH);
        mem_free(weight);
        safetensors_close(file);
        example_deinit(&example);
    }
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

// ---------------------------------------------------------------- reading what was changed

static void refuse_as(const struct example *example, const struct base_shape *shape, enum err code,
                      const char *said)
{
    struct peft got;
    assert_int_equal(peft_read(example->dir, shape, &got), code);
    assert_null(got.owned);
    assert_said(said);
}

static void refuse(const struct example *example, const char *said)
{
    refuse_as(example, &example->peft.shape, ERR_INVALID, said);
}

static void test_peft_refuses_other_settings(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *said;
    } changes[] = {
        {"peft_type", "\"LOHA\"", "\"peft_type\" does not fit"},
        {"r", "5", "\"lora_alpha\" and \"r\" do not fit"},
        {"r", "0", "the scale of LoRA is inf"},
        {"r", "-1", "\"r\" is not a whole number"},
        {"lora_alpha", "17", "\"lora_alpha\" and \"r\" do not fit"},
        {"lora_alpha", "22.62741699796953", "\"lora_alpha\" does not fit"}, // The same float32.
        {"lora_alpha", "null", "the scale of LoRA is nan"},
        {"lora_alpha", "\"x\"", "\"lora_alpha\" is not a number"},
        {"lora_alpha", "1e300", "the scale of LoRA is inf"},
        {"lora_dropout", "2", "the dropout of LoRA is 2"},
        {"lora_dropout", "0.2000000001", "\"lora_dropout\" does not fit"},
        {"use_rslora", "false", "\"use_rslora\" does not fit"},
        {"fan_in_fan_out", "false", "\"fan_in_fan_out\" does not fit"},
        {"bias", "\"all\"", "\"bias\" does not fit"},
        {"target_modules", "[\"c_attn\"]", "\"target_modules\" does not fit"},
        {"target_modules", "\"all-linear\"", "\"target_modules\" does not fit"},
        {"layers_to_transform", "[2,10]", "adapter_model.safetensors has 6 tensors, expected 4"},
        {"layers_to_transform", "[2,9,10,11]", "h.9.attn.c_attn.lora_A.weight is missing"},
        {"layers_to_transform", "[10,2,11]", "\"layers_to_transform\" does not fit"},
        {"layers_to_transform", "[2,10,12]", "names a layer that is not below 12"},
        {"layers_to_transform", "[2,10,-1]", "names a layer that is not below 12"},
        {"layers_to_transform", "[]", "\"layers_to_transform\" names no layer"},
        {"layers_to_transform", "null", "\"layers_to_transform\" names no layer"},
        {"rank_pattern", "{\"x\":1}", "\"rank_pattern\" does not fit"},
        {"modules_to_save", "[\"lm_head\"]", "\"modules_to_save\" does not fit"},
        {"use_dora", "true", "has keys that peft_write does not write"},
        {"base_model_name_or_path", "null", "\"base_model_name_or_path\" has 0 bytes"},
        {"base_model_name_or_path", "\"a\\n\"", "\"base_model_name_or_path\" is not UTF-8"},
    };
    struct example example;
    example_init(&example, BASE_TEXT, "query,value", 2, 16, true);
    write_it(&example);
    json_t *const config = config_of(&example);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        json_t *const changed = json_copy(config);
        json_t *const value = json_loads(changes[i].value, JSON_DECODE_ANY, NULL);
        assert_int_equal(json_object_set_new(changed, changes[i].key, value), 0);
        assert_int_equal(json_dump_file(changed, file_of(&example, "adapter_config.json"), 0), 0);
        json_decref(changed);
        refuse(&example, changes[i].said);
    }
    // The name of the base may be set to where the base lies.
    assert_int_equal(
        json_object_set_new(config, "base_model_name_or_path", json_string("/models/\xc3\xa9 1")),
        0);
    assert_int_equal(json_dump_file(config, file_of(&example, "adapter_config.json"), 0), 0);
    json_decref(config);
    snprintf(example.peft.base_name, sizeof example.peft.base_name, "/models/\xc3\xa9 1");
    reads_back(&example);
    assert_int_equal(unlink(file_of(&example, "adapter_config.json")), 0);
    refuse_as(&example, &example.peft.shape, ERR_NOT_FOUND, "adapter_config.json: No such file");
    example_deinit(&example);
}

// The tensors and texts of a file, to be written again with a change.
struct copy {
    struct safetensors_part parts[64];
    char names[64][128];
    size_t count;
    struct safetensors_text texts[8];
    char values[8][256];
};
static const char *const keys[] = {"format",          "unlearnd.alpha", "unlearnd.base",
                                   "unlearnd.format", "unlearnd.rank",  "unlearnd.rslora",
                                   "unlearnd.targets"};

static void copy_open(const struct example *example, struct copy *copy)
{
    struct safetensors *file;
    *copy = (struct copy){.count = 0};
    assert_int_equal(safetensors_open(file_of(example, "adapter_model.safetensors"), &file), OK);
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_tensor *const tensor = safetensors_at(file, i);
        struct safetensors_part *const part = &copy->parts[copy->count];
        float *const values = mem_alloc(tensor->count, sizeof *values);
        assert_int_equal(safetensors_read(file, tensor, 0, tensor->count, values), OK);
        snprintf(copy->names[copy->count], sizeof copy->names[0], "%s", tensor->name);
        *part = (struct safetensors_part){.name = copy->names[copy->count],
                                          .dimensions = tensor->dimensions,
                                          .shape = {tensor->shape[0], tensor->shape[1]},
                                          .values = values};
        copy->count++;
    }
    for (size_t i = 0; i < 7; i++) {
        snprintf(copy->values[i], sizeof copy->values[i], "%s", safetensors_note(file, keys[i]));
        copy->texts[i] = (struct safetensors_text){keys[i], copy->values[i]};
    }
    safetensors_close(file);
}

static void copy_save(const struct example *example, const struct copy *copy)
{
    assert_int_equal(safetensors_write(file_of(example, "adapter_model.safetensors"), copy->parts,
                                       copy->count, copy->texts, 7),
                     OK);
}

static void copy_close(struct copy *copy, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mem_free((float *)(uintptr_t)copy->parts[i].values);
    }
}

static void test_peft_refuses_other_tensors(void **state)
{
    (void)state;
    struct example example;
    struct copy copy;
    example_init(&example, BASE_TEXT, "query,value", 2, 16, true);
    write_it(&example);
    copy_open(&example, &copy);
    copy_save(&example, &copy);
    reads_back(&example); // Control.
    const size_t count = copy.count;

    struct safetensors_part *const b = &copy.parts[1];
    assert_non_null(strstr(b->name, "lora_B"));
    float *const values = (float *)(uintptr_t)b->values;
    values[2] = 1e-30f; // In query's rows, value's columns.
    copy_save(&example, &copy);
    refuse(&example, "lora_B.weight has values outside the blocks of its targets");
    values[2] = 0;
    values[WIDTH * 4] = 1; // In key's rows.
    copy_save(&example, &copy);
    refuse(&example, "lora_B.weight has values outside the blocks of its targets");
    values[WIDTH * 4] = 0;

    copy.count--;
    copy_save(&example, &copy);
    refuse(&example, "h.2.attn.c_attn.lora_B.weight is missing");
    copy.count = count;
    b->shape[0] = 4;
    b->shape[1] = 3 * WIDTH;
    copy_save(&example, &copy);
    refuse(&example, "lora_B.weight is F32 [4, 12], expected F32 [12, 4]");
    b->shape[0] = 3 * WIDTH;
    b->shape[1] = 4;
    copy.parts[copy.count++] = (struct safetensors_part){
        .name = "base_model.model.lm_head.weight", .dimensions = 1, .shape = {1}, .values = values};
    copy_save(&example, &copy);
    refuse(&example, "has 7 tensors, expected 6");
    copy.count = count;

    static const struct {
        size_t text;
        const char *value, *said;
    } changes[] = {
        {1, "17", "\"lora_alpha\" and \"r\" do not fit"},
        {1, "x", "\"unlearnd.alpha\": "},
        {1, "inf", "\"unlearnd.alpha\": "},
        {2, "ab", "\"unlearnd.base\": "},
        {3, "2", "the adapters are of another format than 1"},
        {4, "4", "\"lora_alpha\" and \"r\" do not fit"},
        {4, "0", "the rank of LoRA is 0"},
        {4, "99999999", "\"unlearnd.rank\": "},
        {5, "false", "\"lora_alpha\" and \"r\" do not fit"},
        {6, "query,key", "values outside the blocks of its targets"},
        {6, "query,query", "cover the same outputs"},
        {6, "c_attn", "\"lora_alpha\" does not fit"},
        {6, "query,valu", "a LoRA target is \"valu\""},
        {6, "", "a LoRA target is \"\""},
        {6, "query,value,", "a LoRA target is \"\""},
        {6, "c_fc,c_fc,c_fc,c_fc,c_fc,c_fc,c_fc", "more than 6 targets"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        const struct safetensors_text old = copy.texts[changes[i].text];
        copy.texts[changes[i].text].text = changes[i].value;
        copy_save(&example, &copy);
        copy.texts[changes[i].text] = old;
        refuse(&example, changes[i].said);
    }
    for (size_t i = 1; i < 7; i++) { // A file of PEFT's own.
        const struct safetensors_text old = copy.texts[i];
        copy.texts[i].key = "other";
        copy_save(&example, &copy);
        copy.texts[i] = old;
        refuse(&example, "it was not written by unlearnctl");
        assert_said(keys[i]);
    }
    copy_save(&example, &copy);
    struct base_shape other = example.peft.shape;
    other.width = 8;
    refuse_as(&example, &other, ERR_INVALID, "expected F32");
    other = example.peft.shape;
    other.layers = 11;
    refuse_as(&example, &other, ERR_INVALID, "names a layer that is not below 11");
    assert_int_equal(unlink(file_of(&example, "head.safetensors")), 0);
    refuse_as(&example, &example.peft.shape, ERR_NOT_FOUND, "head.safetensors: No such file");
    copy_close(&copy, count);
    example_deinit(&example);
}

static void test_peft_refuses_other_heads(void **state)
{
    (void)state;
    struct example example;
    struct copy copy;
    example_init(&example, BASE_VIT, "query", 1, 1, false);
    write_it(&example);
    copy_open(&example, &copy);
    const size_t count = copy.count;
    copy.parts[0].shape[0] = 2; // classifier.bias
    copy_save(&example, &copy);
    refuse(&example, "classifier.bias is F32 [2], expected F32 [3]");
    copy.parts[0].shape[0] = 3;
    snprintf(copy.names[1], sizeof copy.names[1], "score.weight");
    copy_save(&example, &copy);
    refuse(&example, "has no head of 1 to 4096 rows");
    copy_close(&copy, count);
    example_deinit(&example);

    example_init(&example, BASE_TEXT, "query", 1, 1, false);
    write_it(&example);
    struct safetensors_part head[3] = {
        {.name = "weight", .dimensions = 2, .shape = {257, WIDTH}},
        {.name = "bias", .dimensions = 1, .shape = {257}},
        {.name = "other", .dimensions = 1, .shape = {1}},
    };
    for (size_t i = 0; i < 3; i++) {
        head[i].values = example.peft.head_weight;
    }
    const char *const path = file_of(&example, "head.safetensors");
    assert_int_equal(safetensors_write(path, head, 3, NULL, 0), OK);
    refuse(&example, "head.safetensors has tensors beside the head");
    head[0].shape[0] = 256;
    assert_int_equal(safetensors_write(path, head, 2, NULL, 0), OK);
    refuse(&example, "tensor weight is F32 [256, 4], expected F32 [257, 4]");
    assert_int_equal(safetensors_write(path, head + 1, 1, NULL, 0), OK);
    refuse(&example, "tensor weight is missing");
    example_deinit(&example);
}

// Bits of each file in turn: refused, or read within bounds. The sanitizers watch.
static void test_peft_survives_bit_flips(void **state)
{
    (void)state;
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "head.safetensors"};
    struct example example;
    example_init(&example, BASE_TEXT, "query,value,c_fc", 2, 16, true);
    write_it(&example);
    unsigned refusals = 0;
    for (size_t f = 0; f < 3; f++) {
        struct buf bytes = {0};
        assert_int_equal(files_read(file_of(&example, names[f]), 65536, &bytes), OK);
        for (size_t at = 0; at < bytes.bytes && at < 1500; at++) {
            struct peft got;
            bytes.data[at] ^= (uint8_t)(1u << at % 8);
            FILE *const file = fopen(file_of(&example, names[f]), "wb");
            assert_non_null(file);
            assert_int_equal(fwrite(bytes.data, 1, bytes.bytes, file), bytes.bytes);
            fclose(file);
            refusals += peft_read(example.dir, &example.peft.shape, &got) != OK;
            peft_deinit(&got);
            bytes.data[at] ^= (uint8_t)(1u << at % 8);
        }
        assert_int_equal(files_write(file_of(&example, names[f]), buf_span(&bytes)), OK);
        buf_deinit(&bytes);
    }
    assert_true(refusals > 1500);
    reads_back(&example);
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
        cmocka_unit_test(test_peft_refuses_other_settings),
        cmocka_unit_test(test_peft_refuses_other_tensors),
        cmocka_unit_test(test_peft_refuses_other_heads),
        cmocka_unit_test(test_peft_survives_bit_flips),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
