// tests/unit/test_peft_changed.c: adapters that were changed after they were written are refused by name.
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/files.h"
#include "tests/unit/peftcase.h"

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
    refuse(&example, "has no classifier of 1 to 4096 rows");
    copy_close(&copy, count);
    example_deinit(&example);

    example_init(&example, BASE_TEXT, "query", 1, 1, false);
    write_it(&example);
    struct safetensors_part head[2] = {
        {.name = "weight", .dimensions = 2, .shape = {257, WIDTH}},
        {.name = "bias", .dimensions = 1, .shape = {257}},
    };
    for (size_t i = 0; i < 2; i++) {
        head[i].values = example.peft.head_weight;
    }
    const char *const path = file_of(&example, "head.safetensors");
    assert_int_equal(safetensors_write(path, head, 2, NULL, 0), OK);
    refuse(&example, "head.safetensors has tensors beside the head");
    head[0].shape[0] = 256;
    assert_int_equal(safetensors_write(path, head, 1, NULL, 0), OK);
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
        cmocka_unit_test(test_peft_refuses_other_settings),
        cmocka_unit_test(test_peft_refuses_other_tensors),
        cmocka_unit_test(test_peft_refuses_other_heads),
        cmocka_unit_test(test_peft_survives_bit_flips),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
