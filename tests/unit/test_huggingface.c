// tests/unit/test_huggingface.c: every weight of a Hugging Face model arrives at its place, and a model
// that we would compute differently does not arrive at all.
//
// The expected run of weights is put together here, tensor by tensor in the order of model/base.h,
// from the values that each named tensor was given.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/huggingface.h"
#include "client/shards.h"
#include "tests/unit/hfmodel.h"

// ---------------------------------------------------------------- the expected run

static float expected[4096];
static size_t expected_count;

static void expect_rows(const char *name, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        expected[expected_count++] = hfmodel_value(name, i);
    }
}

static void expect_layer(const char *layer, const char *stem, uint64_t weight, uint64_t bias)
{
    char name[HFMODEL_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s.weight", layer, stem);
    expect_rows(name, 0, weight);
    snprintf(name, sizeof name, "%s%s.bias", layer, stem);
    expect_rows(name, 0, bias);
}

// [in][out] in the file.
static void expect_turned(const char *layer, const char *stem, uint64_t out, uint64_t in)
{
    char name[HFMODEL_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s.weight", layer, stem);
    for (uint64_t row = 0; row < out; row++) {
        for (uint64_t i = 0; i < in; i++) {
            expect_rows(name, i * out + row, 1);
        }
    }
    snprintf(name, sizeof name, "%s%s.bias", layer, stem);
    expect_rows(name, 0, out);
}

static void expect_vit(bool qkv_bias)
{
    static const char *const heads[3] = {"query", "key", "value"};
    expected_count = 0;
    expect_rows("embeddings.cls_token", 0, 4);
    expect_rows("embeddings.position_embeddings", 0, 28);
    expect_rows("embeddings.patch_embeddings.projection.weight", 0, 192);
    expect_rows("embeddings.patch_embeddings.projection.bias", 0, 4);
    for (int layer = 0; layer < 2; layer++) {
        char block[32], name[HFMODEL_NAME_BYTES];
        snprintf(block, sizeof block, "encoder.layer.%d.", layer);
        expect_layer(block, "layernorm_before", 4, 4);
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "%sattention.attention.%s.weight", block, heads[i]);
            expect_rows(name, 0, 16);
        }
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "%sattention.attention.%s.bias", block, heads[i]);
            if (qkv_bias) {
                expect_rows(name, 0, 4);
            } else {
                memset(expected + expected_count, 0, 4 * sizeof(float));
                expected_count += 4;
            }
        }
        expect_layer(block, "attention.output.dense", 16, 4);
        expect_layer(block, "layernorm_after", 4, 4);
        expect_layer(block, "intermediate.dense", 24, 6);
        expect_layer(block, "output.dense", 24, 4);
    }
    expect_layer("", "layernorm", 4, 4);
}

static void expect_gpt2(void)
{
    expected_count = 0;
    for (uint32_t token = 0; token < BASE_TOKENS; token++) {
        expect_rows("wte.weight", 4 * (token < 256 ? hfmodel_row(token) : 259), 4);
    }
    expect_rows("wpe.weight", 0, 20);
    for (int layer = 0; layer < 2; layer++) {
        char block[32];
        snprintf(block, sizeof block, "h.%d.", layer);
        expect_layer(block, "ln_1", 4, 4);
        expect_turned(block, "attn.c_attn", 12, 4);
        expect_turned(block, "attn.c_proj", 4, 4);
        expect_layer(block, "ln_2", 4, 4);
        expect_turned(block, "mlp.c_fc", 16, 4);
        expect_turned(block, "mlp.c_proj", 4, 16);
    }
    expect_layer("", "ln_f", 4, 4);
}

static void expect_same(const struct hfmodel *model, struct base_shape *shape_out)
{
    float *weights;
    const enum err err = huggingface_read(model->dir, shape_out, &weights);
    if (err != OK) {
        fail_msg("%s", err_text());
    }
    assert_int_equal(base_at(shape_out).count, expected_count);
    assert_memory_equal(weights, expected, expected_count * sizeof(float));
    mem_free(weights);
}

// Must be refused with this code and a sentence that holds `said`.
static void refuse(const struct hfmodel *model, enum err code, const char *said)
{
    struct base_shape shape;
    float other = 0, *weights = &other;
    assert_int_equal(huggingface_read(model->dir, &shape, &weights), code);
    assert_null(weights);
    assert_said(said);
}

// ---------------------------------------------------------------- good models

static void test_huggingface_reads_vit(void **state)
{
    (void)state;
    static const char *const prefixes[2] = {"", "vit."};
    for (int i = 0; i < 2; i++) {
        struct hfmodel model;
        struct base_shape shape;
        hfmodel_init(&model, "vit", prefixes[i]);
        hfmodel_vit(&model, true);
        if (i == 0) {
            HFMODEL_ADD(&model, "pooler.dense.weight", 2, 4, 4);
            HFMODEL_ADD(&model, "embeddings.mask_token", 3, 1, 1, 4);
        } else { // Of ViTForImageClassification: beside the prefix.
            hfmodel_add_as(&model, "classifier.weight", "c", 2, (const uint64_t[]){3, 4});
            hfmodel_add_as(&model, "classifier.bias", "c", 1, (const uint64_t[]){3});
        }
        hfmodel_save(&model, "model.safetensors", 0, model.count);
        expect_vit(true);
        expect_same(&model, &shape);
        hfmodel_deinit(&model);

        const struct base_shape read = {.kind = BASE_VIT,
                                        .gelu = BASE_GELU_ERF,
                                        .layers = 2,
                                        .width = 4,
                                        .heads = 2,
                                        .inner = 6,
                                        .epsilon = 1e-12,
                                        .rows = 8,
                                        .cols = 12,
                                        .channels = 3,
                                        .patch = 4,
                                        .mean = {0.5f, 0.5f, 0.5f},
                                        .deviation = {0.5f, 0.5f, 0.5f}};
        struct buf a = {0}, b = {0};
        base_shape_put(&read, &a);
        base_shape_put(&shape, &b);
        assert_true(span_equal(buf_span(&a), buf_span(&b)));
        buf_deinit(&a);
        buf_deinit(&b);
    }
}

static void test_huggingface_reads_gpt2(void **state)
{
    (void)state;
    static const char *const prefixes[2] = {"", "transformer."};
    for (int i = 0; i < 2; i++) {
        struct hfmodel model;
        struct base_shape shape;
        hfmodel_init(&model, "gpt2", prefixes[i]);
        hfmodel_gpt2(&model);
        HFMODEL_ADD(&model, "h.0.attn.bias", 4, 1, 1, 5, 5);
        HFMODEL_ADD(&model, "h.1.attn.masked_bias", 0, 0);
        hfmodel_add_as(&model, "lm_head.weight", "l", 2, (const uint64_t[]){260, 4});
        hfmodel_save(&model, "model.safetensors", 0, model.count);
        expect_gpt2();
        expect_same(&model, &shape);
        assert_int_equal(shape.kind, BASE_TEXT);
        assert_int_equal(shape.gelu, BASE_GELU_TANH);
        assert_int_equal(shape.inner, 16);
        assert_int_equal(shape.context, 5);
        assert_int_equal(shape.rows + shape.channels + shape.patch, 0);
        assert_true(shape.epsilon == 1e-5);
        hfmodel_deinit(&model);
    }
}

// The vocabulary of GPT-2 itself: what its vocab.json says of some bytes.
static void test_huggingface_knows_the_bytes_of_gpt2(void **state)
{
    (void)state;
    struct hfmodel model;
    hfmodel_init(&model, "bytes", "");
    hfmodel_gpt2(&model);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    // Each of these characters stands in GPT-2's vocab.json for the byte beside it.
    static const struct {
        const char *character, *missing;
    } known[] = {{"\\u0120", "byte 0x20"}, {"\\u010a", "byte 0x0a"}, {"!", "byte 0x21"},
                 {"\\u0100", "byte 0x00"}, {"\\u0121", "byte 0x7f"}, {"\\u0142", "byte 0xa0"},
                 {"\\u0143", "byte 0xad"}, {"\\u00a1", "byte 0xa1"}, {"\\u00ff", "byte 0xff"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        // A vocabulary that has everything but that character.
        char needle[32], text[16384], path[sizeof model.dir + 32];
        hfmodel_vocabulary(&model, -1);
        snprintf(path, sizeof path, "%s/vocab.json", model.dir);
        FILE *const file = fopen(path, "rb");
        assert_non_null(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        snprintf(needle, sizeof needle,
                 "\"%s\":", known[i].character[0] == '!' ? "\\u0021" : known[i].character);
        char *const at = strstr(text, needle);
        assert_non_null(at);
        at[1] = 'x'; // The escape becomes a text of several characters.
        hfmodel_text(&model, "vocab.json", text);
        char said[64];
        snprintf(said, sizeof said, "vocab.json has no token for %s", known[i].missing);
        refuse(&model, ERR_INVALID, said);
    }
    hfmodel_deinit(&model);
}

static void test_huggingface_reads_shards(void **state)
{
    (void)state;
    struct hfmodel model;
    struct base_shape shape;
    char index[8192] = "{\"metadata\":{\"total_size\":1},\"weight_map\":{";
    hfmodel_init(&model, "shards", "transformer.");
    hfmodel_gpt2(&model);
    hfmodel_save(&model, "model-00001-of-00002.safetensors", 0, 9);
    hfmodel_save(&model, "model-00002-of-00002.safetensors", 9, model.count - 9);
    for (size_t i = 0; i < model.count; i++) {
        const size_t at = strlen(index);
        snprintf(index + at, sizeof index - at, "\"%s\":\"model-0000%d-of-00002.safetensors\"%s",
                 model.names[i], i < 9 ? 1 : 2, i + 1 < model.count ? "," : "}}");
    }
    hfmodel_text(&model, "model.safetensors.index.json", index);
    expect_gpt2();
    expect_same(&model, &shape);
    struct shards shards;
    assert_int_equal(shards_open(model.dir, &shards), OK);
    assert_int_equal(shards.file_count, 2); // Each is opened once.
    assert_int_equal(shards.entry_count, model.count);
    shards_close(&shards);

    char *const place = strstr(index, "model-00001");
    place[10] = '2'; // A tensor in the other file.
    hfmodel_text(&model, "model.safetensors.index.json", index);
    refuse(&model, ERR_INVALID,
           "index.json: tensor transformer.wte.weight is not in model-00002-of-00002.safetensors");
    place[10] = '3';
    hfmodel_text(&model, "model.safetensors.index.json", index);
    refuse(&model, ERR_INVALID, "names the file model-00003-of-00002.safetensors, which is not");
    static const char *const elsewhere[] = {"../m", "sub/", "/etc", ".hid", "\\n-a"};
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++) {
        memcpy(place, elsewhere[i], 4);
        hfmodel_text(&model, "model.safetensors.index.json", index);
        refuse(&model, ERR_INVALID,
               "tensor transformer.wte.weight is in no file of this directory");
    }
    hfmodel_text(&model, "model.safetensors.index.json", "{\"metadata\":{}}");
    refuse(&model, ERR_INVALID, "has no \"weight_map\"");
    hfmodel_text(&model, "model.safetensors.index.json", "{\"weight_map\":{}}");
    refuse(&model, ERR_INVALID, "tensor wte.weight is missing");
    hfmodel_text(&model, "model.safetensors.index.json", "{\"weight_map\":{\"a\\nb\":\"x\"}}");
    refuse(&model, ERR_INVALID, "a tensor's name");
    hfmodel_text(&model, "model.safetensors.index.json", "[]");
    refuse(&model, ERR_INVALID, "expected one JSON object");
    hfmodel_deinit(&model);
}

static void test_huggingface_bounds_the_number_of_shards(void **state)
{
    (void)state;
    struct hfmodel model;
    static char index[65536] = "{\"weight_map\":{";
    hfmodel_init(&model, "many", "");
    hfmodel_gpt2(&model);
    for (int i = 0; i <= 256; i++) {
        char name[32];
        const size_t at = strlen(index);
        snprintf(name, sizeof name, "%d.safetensors", i);
        snprintf(index + at, sizeof index - at, "\"%s\":\"%s\"%s", model.names[0], name,
                 i < 256 ? "," : "}}");
        hfmodel_save(&model, name, 0, 1);
    }
    // Keys must differ: so each tensor name is made its own.
    char *at = index;
    for (int i = 0; i <= 256; i++) {
        at = strstr(at, "wte.weight");
        assert_non_null(at);
        char number[8];
        snprintf(number, sizeof number, "%03d", i);
        memcpy(at + 7, number, 3);
        // And the file must hold it.
        char file[32];
        snprintf(file, sizeof file, "%d.safetensors", i);
        memcpy(model.names[0] + 7, number, 3);
        hfmodel_save(&model, file, 0, 1);
    }
    hfmodel_text(&model, "model.safetensors.index.json", index);
    refuse(&model, ERR_LIMIT, "names more than 256 files");
    hfmodel_deinit(&model);
}

static void test_huggingface_reads_without_biases(void **state)
{
    (void)state;
    struct hfmodel model;
    struct base_shape shape;
    hfmodel_init(&model, "unbiased", "vit.");
    hfmodel_vit(&model, false);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    refuse(&model, ERR_INVALID,
           "tensor vit.encoder.layer.0.attention.attention.query.bias is missing");
    hfmodel_text(&model, "config.json",
                 "{\"model_type\":\"vit\",\"hidden_size\":4,"
                 "\"num_hidden_layers\":2,\"num_attention_heads\":2,"
                 "\"intermediate_size\":6,\"image_size\":[8,12],"
                 "\"patch_size\":[4,4],\"qkv_bias\":false,"
                 "\"hidden_act\":\"gelu_pytorch_tanh\"}");
    expect_vit(false);
    expect_same(&model, &shape);
    assert_int_equal(shape.gelu, BASE_GELU_TANH);
    assert_true(shape.epsilon == 1e-12);
    hfmodel_deinit(&model);
}

static void test_huggingface_reads_pixel_settings(void **state)
{
    (void)state;
    struct hfmodel model;
    struct base_shape shape;
    hfmodel_init(&model, "pixels", "");
    hfmodel_vit(&model, true);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    expect_vit(true);
    hfmodel_text(
        &model, "preprocessor_config.json",
        "{\"do_normalize\":true,\"do_rescale\":true,\"rescale_factor\":0.00392156862745098,"
        "\"image_mean\":[0.485,0.456,0.406],\"image_std\":[0.229,0.224,0.225],"
        "\"size\":{\"height\":8,\"width\":12},\"resample\":2}");
    expect_same(&model, &shape);
    assert_true(shape.mean[0] == 0.485f && shape.mean[1] == 0.456f && shape.mean[2] == 0.406f);
    assert_true(shape.deviation[0] == 0.229f && shape.deviation[2] == 0.225f);
    assert_true(shape.mean[3] == 0 && shape.deviation[3] == 0);
    hfmodel_text(&model, "preprocessor_config.json", "{\"image_mean\":0.25,\"image_std\":null}");
    expect_same(&model, &shape);
    assert_true(shape.mean[2] == 0.25f && shape.deviation[2] == 0.5f);
    hfmodel_text(&model, "preprocessor_config.json", "{\"do_normalize\":false,\"image_mean\":9}");
    expect_same(&model, &shape);
    assert_true(shape.mean[0] == 0 && shape.deviation[0] == 1);

    static const char *const bad[][2] = {
        {"{\"do_rescale\":false}",
         "\"do_rescale\" is false, which is not supported: expected true"},
        {"{\"rescale_factor\":1}",
         "\"rescale_factor\" is 1, which is not supported: expected 1/255"},
        {"{\"image_mean\":[0.5]}", "\"image_mean\" has 1 numbers, expected one for each of 3"},
        {"{\"image_std\":\"x\"}", "\"image_std\" is not a number or a list of them"},
        {"{\"image_std\":[1,2,null]}", "\"image_std\" is not a number or a list of them"},
        {"{\"image_std\":0}", "deviation of the base is 0"},
        {"{\"image_mean\":1e300}", "mean of the base is inf"},
        {"{\"do_normalize\":1}", "\"do_normalize\" is not true or false"},
        {"{\"image_mean\":NaN}", "preprocessor_config.json: no valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hfmodel_text(&model, "preprocessor_config.json", bad[i][0]);
        refuse(&model, ERR_INVALID, bad[i][1]);
    }
    hfmodel_deinit(&model);
}

// ---------------------------------------------------------------- bad models

// Writes config.json with one more setting; of two keys alike JSON readers take none.
static void set(const struct hfmodel *model, const char *config, const char *key, const char *value)
{
    char text[2048], needle[64];
    snprintf(needle, sizeof needle, "\"%s\":", key);
    const char *const found = strstr(config, needle);
    if (found == NULL) {
        snprintf(text, sizeof text, "%s,%s%s}", config, needle, value);
    } else { // In place of the value that stands there.
        const char *end = found + strlen(needle);
        const bool list = *end == '[';
        end += strcspn(end, list ? "]" : ",}") + (list ? 1 : 0);
        snprintf(text, sizeof text, "%.*s%s%s}", (int)(found - config) + (int)strlen(needle),
                 config, value, end);
    }
    hfmodel_text(model, "config.json", text);
}

static void test_huggingface_refuses_settings_of_vit(void **state)
{
    (void)state;
    struct hfmodel model;
    struct base_shape shape;
    hfmodel_init(&model, "vitsettings", "vit.");
    hfmodel_vit(&model, true);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    static const struct {
        const char *key, *value;
        enum err code;
        const char *said;
    } bad[] = {
        {"hidden_act", "\"relu\"", ERR_INVALID, "\"hidden_act\" is \"relu\", which is not"},
        {"hidden_act", "1", ERR_INVALID, "\"hidden_act\" is not a short text"},
        {"hidden_act", "\"\\u001b[2J\"", ERR_INVALID, "\"hidden_act\" is not a short text"},
        {"layer_norm_eps", "0", ERR_INVALID, "epsilon of the base is 0"},
        {"layer_norm_eps", "\"x\"", ERR_INVALID, "\"layer_norm_eps\" is not a number"},
        {"image_size", "[8,13]", ERR_INVALID, "cols of the base is 13, expected a multiple of"},
        {"image_size", "[8,12,1]", ERR_INVALID, "\"image_size\" is neither a whole number nor"},
        {"image_size", "[8,-12]", ERR_INVALID, "\"image_size\" is neither a whole number nor"},
        {"image_size", "8.5", ERR_INVALID, "\"image_size\" is not a whole number"},
        {"image_size", "0", ERR_INVALID, "rows of the base is 0"},
        {"image_size", "8", ERR_INVALID, "shape [1, 7, 4], expected [1, 5, 4] by config.json"},
        {"patch_size", "[4,2]", ERR_INVALID, "\"patch_size\" is 4 x 2, expected a square"},
        {"patch_size", "2", ERR_INVALID, "shape [1, 7, 4], expected [1, 25, 4]"},
        {"num_channels", "5", ERR_INVALID, "\"num_channels\" is 5, expected 1 to 4"},
        {"num_channels", "1", ERR_INVALID, "[4, 3, 4, 4], expected [4, 1, 4, 4] by config.json"},
        {"hidden_size", "5", ERR_INVALID, "width of the base is 5, expected a multiple of heads"},
        {"hidden_size", "-4", ERR_INVALID, "\"hidden_size\" is not a whole number"},
        {"hidden_size", "4294967296", ERR_INVALID, "\"hidden_size\" is not a whole number"},
        {"hidden_size", "8", ERR_INVALID, "has the shape [1, 1, 4], expected [1, 1, 8]"},
        {"intermediate_size", "7", ERR_INVALID,
         "tensor vit.encoder.layer.0.intermediate.dense.weight has the shape [6, 4], expected [7, "
         "4]"},
        {"num_hidden_layers", "3", ERR_INVALID,
         "tensor vit.encoder.layer.2.layernorm_before.weight is missing"},
        {"num_hidden_layers", "1", ERR_INVALID,
         "tensor vit.encoder.layer.1.attention.attention.key.bias belongs to no part of a model"},
        {"num_hidden_layers", "0", ERR_INVALID, "layers of the base is 0"},
        {"num_hidden_layers", "100000", ERR_INVALID, "layers of the base is 100000"},
        {"num_attention_heads", "0", ERR_INVALID, "heads of the base is 0"},
        {"qkv_bias", "\"yes\"", ERR_INVALID, "\"qkv_bias\" is not true or false"},
        {"pruned_heads", "{\"0\":[1]}", ERR_INVALID, "\"pruned_heads\" is set, which is not"},
        {"quantization_config", "{\"bits\":4}", ERR_INVALID, "\"quantization_config\" is set"},
        {"is_encoder_decoder", "true", ERR_INVALID, "\"is_encoder_decoder\" is true, which is not"},
        {"model_type", "\"vit_mae\"", ERR_INVALID,
         "\"model_type\" is \"vit_mae\", expected vit or"},
        {"model_type", "null", ERR_INVALID, "\"model_type\" is \"\", expected vit or gpt2"},
        {"intermediate_size", "1048576", ERR_INVALID, "inner of the base is 1048576"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set(&model, HFMODEL_VIT_CONFIG, bad[i].key, bad[i].value);
        refuse(&model, bad[i].code, bad[i].said);
        assert_said(model.dir); // Which file it was.
    }
    set(&model, HFMODEL_VIT_CONFIG, "pruned_heads", "{}"); // Control.
    expect_vit(true);
    expect_same(&model, &shape);
    hfmodel_text(&model, "config.json", "{\"model_type\":\"vit\",\"model_type\":\"vit\"}");
    refuse(&model, ERR_INVALID, "config.json: a key comes twice");
    // 1 GiB of weights is the bound, and nothing of that size is asked for before.
    hfmodel_text(&model, "config.json",
                 "{\"model_type\":\"vit\",\"hidden_size\":8192,\"num_attention_heads\":1,"
                 "\"intermediate_size\":8192,\"num_hidden_layers\":2}");
    refuse(&model, ERR_LIMIT, "weights, expected at most 268435456");
    hfmodel_deinit(&model);
}

static void test_huggingface_refuses_settings_of_gpt2(void **state)
{
    (void)state;
    struct hfmodel model;
    struct base_shape shape;
    hfmodel_init(&model, "gpt2settings", "");
    hfmodel_gpt2(&model);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    static const struct {
        const char *key, *value, *said;
    } bad[] = {
        {"activation_function", "\"silu\"", "\"activation_function\" is \"silu\", which is not"},
        {"scale_attn_weights", "false", "\"scale_attn_weights\" is false, which is not supported"},
        {"scale_attn_by_inverse_layer_idx", "true", "\"scale_attn_by_inverse_layer_idx\" is true"},
        {"reorder_and_upcast_attn", "true", "\"reorder_and_upcast_attn\" is true, which is not"},
        {"add_cross_attention", "true", "\"add_cross_attention\" is true, which is not"},
        {"n_head", "3", "width of the base is 4, expected a multiple of heads, which is 3"},
        {"num_attention_heads", "4", "\"n_head\" and \"num_attention_heads\" differ"},
        {"num_hidden_layers", "12", "\"n_layer\" and \"num_hidden_layers\" differ"},
        {"hidden_size", "8", "\"n_embd\" and \"hidden_size\" differ"},
        {"max_position_embeddings", "9", "\"n_positions\" and \"max_position_embeddings\" differ"},
        {"n_inner", "8", "tensor h.0.mlp.c_fc.weight has the shape [4, 16], expected [4, 8]"},
        {"n_positions", "4", "tensor wpe.weight has the shape [5, 4], expected [4, 4]"},
        {"n_positions", "1000000", "context of the base is 1000000"},
        {"vocab_size", "261", "tensor wte.weight has the shape [260, 4], expected [261, 4]"},
        {"vocab_size", "200", "is not a whole number below vocab_size, 200"},
        {"bos_token_id", "0", "\"bos_token_id\" is 0, which is not supported: expected 259"},
        {"eos_token_id", "258", "\"eos_token_id\" is 258, which is not supported: expected 259"},
        {"eos_token_id", "[259]", "\"eos_token_id\" is not a whole number"},
        {"n_layer", "1", "tensor h.1.attn.c_attn.bias belongs to no part of a model"},
        {"layer_norm_epsilon", "2", "epsilon of the base is 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set(&model, HFMODEL_GPT2_CONFIG, bad[i].key, bad[i].value);
        refuse(&model, ERR_INVALID, bad[i].said);
    }
    // The other names alone are as good.
    hfmodel_text(&model, "config.json",
                 "{\"model_type\":\"gpt2\",\"hidden_size\":4,\"num_hidden_layers\":2,"
                 "\"num_attention_heads\":2,\"max_position_embeddings\":5,\"vocab_size\":260,"
                 "\"activation_function\":\"gelu\",\"eos_token_id\":null,\"n_head\":2}");
    expect_gpt2();
    expect_same(&model, &shape);
    assert_int_equal(shape.gelu, BASE_GELU_ERF);
    hfmodel_deinit(&model);
}

static void test_huggingface_refuses_vocabularies(void **state)
{
    (void)state;
    struct hfmodel model;
    hfmodel_init(&model, "vocabulary", "");
    hfmodel_gpt2(&model);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    hfmodel_vocabulary(&model, 'Q');
    refuse(&model, ERR_INVALID, "vocab.json has no token for byte 0x51");
    hfmodel_vocabulary(&model, 0);
    refuse(&model, ERR_INVALID, "vocab.json has no token for byte 0x00");
    hfmodel_text(&model, "vocab.json", "{\"!\":-1,\"\\u0100\":1.5}");
    refuse(&model, ERR_INVALID, "the token for byte 0x00 is not a whole number below vocab_size");
    hfmodel_text(&model, "vocab.json", "[]");
    refuse(&model, ERR_INVALID, "vocab.json: another JSON value, expected one JSON object");
    hfmodel_remove(&model, "vocab.json");
    refuse(&model, ERR_INVALID, "has no vocab.json, which tells the token of each byte");
    hfmodel_deinit(&model);
}

static void test_huggingface_refuses_files(void **state)
{
    (void)state;
    struct hfmodel model;
    struct base_shape shape;
    hfmodel_init(&model, "files", "vit.");
    refuse(&model, ERR_NOT_FOUND, "config.json: No such file");
    hfmodel_vit(&model, true);
    refuse(&model, ERR_NOT_FOUND, "has neither model.safetensors nor model.safetensors.index.json");
    static const char *const others[][2] = {
        {"flax_model.msgpack", "is weights of Flax, and never read"},
        {"tf_model.h5", "is weights of TensorFlow, and never read"},
        {"pytorch_model.bin.index.json", "is pickles, which are programs, and never read"},
        {"pytorch_model.bin", "is a pickle, which is a program, and never read: expected "
                              "model.safetensors"},
    };
    for (size_t i = 0; i < 4; i++) {
        hfmodel_text(&model, others[i][0], "PK");
        refuse(&model, ERR_INVALID, others[i][1]);
    }
    hfmodel_text(&model, "model.safetensors", "PK\3\4 a pickle by another name");
    refuse(&model, ERR_INVALID, "model.safetensors: not a safetensors file");

    hfmodel_save(&model, "model.safetensors", 0, model.count); // Control.
    expect_vit(true);
    expect_same(&model, &shape);
    struct safetensors_part *const last = &model.parts[model.count - 1];
    hfmodel_save(&model, "model.safetensors", 0, model.count - 1);
    refuse(&model, ERR_INVALID, "tensor vit.layernorm.bias is missing");
    last->dimensions = 2;
    last->shape[1] = 1;
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    refuse(&model, ERR_INVALID,
           "model.safetensors: tensor vit.layernorm.bias has the shape [4, 1], expected [4]");
    last->dimensions = 1;
    HFMODEL_ADD(&model, "encoder.layer.0.lambda", 1, 4);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    refuse(&model, ERR_INVALID, "tensor vit.encoder.layer.0.lambda belongs to no part of a model");
    hfmodel_deinit(&model);

    char longer[2048];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    float *weights;
    assert_int_equal(huggingface_read(longer, &shape, &weights), ERR_INVALID);
    assert_said("a path is longer than 1023 bytes");
}

// Values that are no numbers, and integers in place of floats.
static void test_huggingface_refuses_values(void **state)
{
    (void)state;
    struct hfmodel model;
    hfmodel_init(&model, "values", "");
    hfmodel_vit(&model, true);
    char path[sizeof model.dir + 32];
    snprintf(path, sizeof path, "%s/model.safetensors", model.dir);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    FILE *const file = fopen(path, "r+b"); // The last four bytes: of layernorm.weight.
    assert_non_null(file);
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fwrite("\0\0\x80\x7f", 1, 4, file), 4);
    assert_int_equal(fclose(file), 0);
    refuse(&model, ERR_INVALID, "tensor layernorm.weight has a value that is infinite");
    hfmodel_deinit(&model);
}

// Every byte of the settings and of the weights' header, some bits each: refused or read, never a crash.
static void test_huggingface_survives_bit_flips(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "vocab.json", "model.safetensors"};
    struct hfmodel model;
    hfmodel_init(&model, "flips", "transformer.");
    hfmodel_gpt2(&model);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    unsigned refused = 0;
    for (size_t f = 0; f < 3; f++) {
        static uint8_t bytes[32768];
        char path[sizeof model.dir + 32];
        snprintf(path, sizeof path, "%s/%s", model.dir, names[f]);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        const size_t count = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        for (size_t at = 0; at < count && at < 4000; at += f == 0 ? 1 : 7) {
            bytes[at] ^= (uint8_t)(1u << at % 8);
            file = fopen(path, "wb");
            assert_non_null(file);
            assert_int_equal(fwrite(bytes, 1, count, file), count);
            fclose(file);
            struct base_shape shape;
            float *weights;
            if (huggingface_read(model.dir, &shape, &weights) != OK) {
                assert_null(weights);
                refused++;
            }
            mem_free(weights);
            bytes[at] ^= (uint8_t)(1u << at % 8);
        }
        file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, count, file), count);
        fclose(file);
    }
    assert_true(refused > 600);
    struct base_shape shape;
    expect_gpt2();
    expect_same(&model, &shape); // Everything is as it was.
    hfmodel_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_huggingface_reads_vit),
        cmocka_unit_test(test_huggingface_reads_gpt2),
        cmocka_unit_test(test_huggingface_knows_the_bytes_of_gpt2),
        cmocka_unit_test(test_huggingface_reads_shards),
        cmocka_unit_test(test_huggingface_bounds_the_number_of_shards),
        cmocka_unit_test(test_huggingface_reads_without_biases),
        cmocka_unit_test(test_huggingface_reads_pixel_settings),
        cmocka_unit_test(test_huggingface_refuses_settings_of_vit),
        cmocka_unit_test(test_huggingface_refuses_settings_of_gpt2),
        cmocka_unit_test(test_huggingface_refuses_vocabularies),
        cmocka_unit_test(test_huggingface_refuses_files),
        cmocka_unit_test(test_huggingface_refuses_values),
        cmocka_unit_test(test_huggingface_survives_bit_flips),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
