// tests/unit/test_interchange.c: an imported base computes what transformers computes with those files, and an
// exported adapter changes the model under PEFT as it changes ours.
//
// hfforward.h has the models in transformers' and PEFT's own terms. What comes out after the final norm is
// compared with model/transformer_plain.h on the imported weights, and the logits of a whole component with
// what the learner predicts.
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/adapters.h"
#include "client/huggingface.h"
#include "client/peft.h"
#include "client/peftmap.h"
#include "model/transformer_plain.h"
#include "tests/unit/hfforward.h"

enum { RANK = 3 };

// ---------------------------------------------------------------- the same in ours

static float adapter_values[4096];

// Adapters that do something, on one layer; returns what plain_model wants of them.
static void make_peft(const struct base_shape *shape, const char *targets, bool rslora,
                      struct peft *peft)
{
    *peft = (struct peft){.shape = *shape,
                          .base_name = "tiny",
                          .alpha = 5,
                          .rslora = rslora,
                          .lora = {.rank = RANK},
                          .head_rows = shape->kind == BASE_VIT ? 2 : BASE_BYTES + 1};
    snprintf(peft->targets, sizeof peft->targets, "%s", targets);
    assert_int_equal(lora_targets(shape, targets, &peft->lora), OK);
    peft->lora.scale = peftmap_scale(peft->alpha, RANK, rslora);
    for (size_t i = 0; i < 4096; i++) {
        adapter_values[i] = hfmodel_value("adapters", i) / 4;
    }
    peft->adapters[1] = adapter_values;
    peft->head_weight = adapter_values;
    peft->head_bias = shape->kind == BASE_VIT ? adapter_values : NULL;
}

static void compare(const struct hf *hf, const char *dir, const struct peft *peft, uint32_t count,
                    double (*theirs)[D], const float *pixels, const uint16_t *tokens)
{
    struct base_shape shape;
    float *weights;
    assert_int_equal(huggingface_read(dir, &shape, &weights), OK);
    const uint64_t weight_count = base_at(&shape).count;
    double *const wide = mem_alloc(weight_count, sizeof *wide);
    double *const adapters = mem_alloc(4096, sizeof *adapters);
    for (uint64_t i = 0; i < weight_count; i++) {
        wide[i] = (double)weights[i];
    }
    for (size_t i = 0; i < 4096; i++) {
        adapters[i] = (double)adapter_values[i];
    }
    const double *const layers[MODEL_LAYERS] = {NULL, adapters};
    const struct plain_model model = {.shape = &shape,
                                      .weights = wide,
                                      .lora = peft == NULL ? NULL : &peft->lora,
                                      .adapters = peft == NULL ? NULL : layers};
    struct plain *const plain = plain_new(&model, pixels, tokens, count);
    const double *const ours = plain_forward(plain);
    double largest = 0;
    for (uint32_t t = 0; t < count; t++) {
        for (uint32_t i = 0; i < D; i++) {
            const double difference = fabs(ours[t * D + i] - theirs[t][i]);
            largest = difference > largest ? difference : largest;
        }
    }
    // float64 throughout, but for pixels, mean, deviation and scale, which are float32 in ours.
    if (!(largest < (hf->is_vit || peft != NULL ? 1e-6 : 1e-12))) {
        fail_msg("the outputs differ by up to %g", largest);
    }
    plain_free(plain);
    mem_free(wide);
    mem_free(adapters);
    mem_free(weights);
}

static void with_peft(struct hf *hf, const char *dir, const struct peft *peft)
{
    char path[SCRATCH_BYTES + 128];
    json_error_t error;
    scratch_remove(dir);
    if (peft_write(dir, peft) != OK) {
        fail_msg("%s", err_text());
    }
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    assert_int_equal(safetensors_open(path, &hf->adapters), OK);
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    hf->config = json_load_file(path, 0, &error);
    assert_non_null(hf->config);
}

static void hf_open(struct hf *hf, const struct hfmodel *model, bool is_vit)
{
    char path[SCRATCH_BYTES + 128];
    *hf = (struct hf){.is_vit = is_vit, .inner = is_vit ? 6 : 16};
    snprintf(path, sizeof path, "%s/model.safetensors", model->dir);
    assert_int_equal(safetensors_open(path, &hf->model), OK);
}

static void hf_close(struct hf *hf)
{
    safetensors_close(hf->model);
    safetensors_close(hf->adapters);
    json_decref(hf->config);
}

// NULL first: the base alone.
static const char *const vit_targets[] = {NULL, "query,value", "key,output.dense",
                                          "attention.output.dense,intermediate.dense"};
static const char *const gpt2_targets[] = {NULL, "query,value", "value,key,query", "c_attn,c_fc",
                                           "attn.c_proj,mlp.c_proj"};

static void test_interchange_vit(void **state)
{
    (void)state;
    static const double mean[3] = {0.485, 0.456, 0.406}, deviation[3] = {0.229, 0.224, 0.225};
    struct hfmodel model;
    hfmodel_init(&model, "vit", "vit.");
    hfmodel_vit(&model, true);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    hfmodel_text(&model, "preprocessor_config.json",
                 "{\"image_mean\":[0.485,0.456,0.406],\"image_std\":[0.229,0.224,0.225]}");
    uint8_t image[96];
    float pixels[96];
    double values[3 * 96];
    for (int i = 0; i < 96; i++) {
        image[i] = (uint8_t)(i * i * 37 % 256);
        pixels[i] = (float)image[i] / 255;
        for (int c = 0; c < 3; c++) {
            values[c * 96 + i] = (image[i] * (1 / 255.0) - mean[c]) / deviation[c];
        }
    }
    for (size_t i = 0; i < sizeof vit_targets / sizeof vit_targets[0]; i++) {
        struct hf hf;
        struct base_shape shape;
        struct peft peft;
        float *weights;
        double x[TOKENS_MAX][D];
        hf_open(&hf, &model, true);
        if (vit_targets[i] != NULL) {
            assert_int_equal(huggingface_read(model.dir, &shape, &weights), OK);
            mem_free(weights);
            make_peft(&shape, vit_targets[i], i % 2 == 1, &peft);
            with_peft(&hf, feed_path("vit-peft"), &peft);
        }
        embed_image(&hf, values, x);
        run(&hf, 7, x);
        compare(&hf, model.dir, vit_targets[i] != NULL ? &peft : NULL, 7, x, pixels, NULL);
        hf_close(&hf);
    }
    hfmodel_deinit(&model);
}

static void test_interchange_gpt2(void **state)
{
    (void)state;
    struct hfmodel model;
    hfmodel_init(&model, "gpt2", "transformer.");
    hfmodel_gpt2(&model);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    static const uint16_t tokens[5] = {BASE_BOS, ' ', 0xe9, 0, '~'};
    uint32_t ids[5] = {259};
    for (int t = 1; t < 5; t++) {
        ids[t] = hfmodel_row(tokens[t]);
    }
    for (size_t i = 0; i < sizeof gpt2_targets / sizeof gpt2_targets[0]; i++) {
        struct hf hf;
        struct base_shape shape;
        struct peft peft;
        float *weights;
        double x[TOKENS_MAX][D];
        hf_open(&hf, &model, false);
        if (gpt2_targets[i] != NULL) {
            assert_int_equal(huggingface_read(model.dir, &shape, &weights), OK);
            mem_free(weights);
            make_peft(&shape, gpt2_targets[i], i % 2 == 1, &peft);
            with_peft(&hf, feed_path("gpt2-peft"), &peft);
        }
        embed_tokens(&hf, ids, 5, x);
        run(&hf, 5, x);
        compare(&hf, model.dir, gpt2_targets[i] != NULL ? &peft : NULL, 5, x, NULL, tokens);
        hf_close(&hf);
    }
    hfmodel_deinit(&model);
}

// ---------------------------------------------------------------- whole components

struct component {
    struct spec spec;
    struct schema schema;
    struct recipe recipe;
    struct base *base;
    float *params;
};

// A component with made-up weights on the base in `dir`, of two slices at most.
static void component_init(struct component *c, const char *dir, bool is_vit, uint32_t list_count)
{
    static const char *const settings[][2] = {{"slices", "2"},         {"base", "tiny"},
                                              {"lora.rank", "3"},      {"lora.alpha", "5"},
                                              {"lora.rslora", "true"}, {"lora.dropout", "0.3"}};
    struct base_shape shape;
    float *weights;
    uint64_t count;
    *c = (struct component){.spec = spec_default()};
    assert_int_equal(huggingface_read(dir, &shape, &weights), OK);
    c->base = base_new(&shape, weights);
    assert_int_equal(spec_set(&c->spec, "learner", is_vit ? "vit" : "text"), OK);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        assert_int_equal(spec_set(&c->spec, settings[i][0], settings[i][1]), OK);
    }
    c->schema.columns = mem_alloc(1, sizeof *c->schema.columns);
    c->schema.column_count = 1;
    c->schema.columns[0] = (struct column){.name = mem_text("x"),
                                           .kind = is_vit ? COLUMN_PIXELS : COLUMN_TEXT,
                                           .width = is_vit ? 96 : 1,
                                           .rows = is_vit ? 8 : 0,
                                           .cols = is_vit ? 12 : 0,
                                           .scale = 1};
    c->schema.label = mem_text(is_vit ? "y" : "");
    c->schema.task = is_vit ? TASK_CLASSES : TASK_NONE;
    if (is_vit) {
        c->schema.class_count = 2;
        c->schema.classes = mem_alloc(2, sizeof *c->schema.classes);
        c->schema.classes[0] = mem_text("a");
        c->schema.classes[1] = mem_text("b");
    }
    assert_int_equal(schema_check(&c->schema), OK);
    c->recipe = (struct recipe){.spec = &c->spec, .schema = &c->schema, .base = c->base};
    assert_int_equal(learner_param_count(&c->recipe, list_count, &count), OK);
    assert_int_equal(mem_try_aligned(count, sizeof(float), &c->params), OK);
    for (uint64_t i = 0; i < count; i++) {
        c->params[i] = hfmodel_value("params", i) / 4;
    }
}

static void component_deinit(struct component *c)
{
    schema_deinit(&c->schema);
    base_release(c->base);
    mem_free(c->params);
}

static void assert_logits(const float *ours, const double *theirs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!(fabs((double)ours[i] - theirs[i]) < 1e-5)) {
            fail_msg("logit %u is %g, expected %g", i, (double)ours[i], theirs[i]);
        }
    }
}

// What a component predicts here is what PEFT's model with its adapters gives, and so for each length of
// its list: the blocks are those of the right layers.
static void test_interchange_component_of_vit(void **state)
{
    (void)state;
    struct hfmodel model;
    hfmodel_init(&model, "vit", "vit.");
    hfmodel_vit(&model, true);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    struct buf row = {0};
    double values[3 * 96];
    buf_u16(&row, 1); // Its class, which is not looked at.
    for (int i = 0; i < 96; i++) {
        buf_u8(&row, (uint8_t)(i * i * 41 % 256));
        for (int c = 0; c < 3; c++) {
            values[c * 96 + i] = (i * i * 41 % 256 / 255.0 - 0.5) / 0.5;
        }
    }
    for (uint32_t list_count = 1; list_count <= 2; list_count++) {
        struct component c;
        struct hf hf;
        struct peft peft;
        double x[TOKENS_MAX][D], theirs[2];
        float ours[2];
        component_init(&c, model.dir, true, list_count);
        assert_int_equal(adapters_of(&c.recipe, list_count, c.params, &peft), OK);
        hf_open(&hf, &model, true);
        with_peft(&hf, feed_path("vit-peft"), &peft);
        embed_image(&hf, values, x);
        run(&hf, 7, x);
        head(hf.adapters, "base_model.model.classifier.weight", "base_model.model.classifier.bias",
             2, x[0], theirs);
        const struct span rows[1] = {buf_span(&row)};
        assert_int_equal(schema_check_row(&c.schema, rows[0]), OK);
        assert_int_equal(learner_predict(&c.recipe, list_count, c.params, rows, 1, ours), OK);
        assert_logits(ours, theirs, 2);
        hf_close(&hf);
        component_deinit(&c);
    }
    buf_deinit(&row);
    hfmodel_deinit(&model);
}

static void test_interchange_component_of_gpt2(void **state)
{
    (void)state;
    struct hfmodel model;
    hfmodel_init(&model, "gpt2", "transformer.");
    hfmodel_gpt2(&model);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    struct buf row = {0};
    buf_u32(&row, 3);
    buf_put(&row, span_text("a\xffZ"));
    const uint32_t ids[4] = {259, hfmodel_row('a'), hfmodel_row(0xff), hfmodel_row('Z')};
    for (uint32_t list_count = 1; list_count <= 2; list_count++) {
        struct component c;
        struct hf hf;
        struct peft peft;
        struct safetensors *head_file;
        double x[TOKENS_MAX][D], theirs[257];
        float ours[257];
        component_init(&c, model.dir, false, list_count);
        assert_int_equal(adapters_of(&c.recipe, list_count, c.params, &peft), OK);
        hf_open(&hf, &model, false);
        const char *const dir = feed_path("gpt2-peft");
        with_peft(&hf, dir, &peft);
        assert_int_equal(safetensors_open(feed_path("gpt2-peft/head.safetensors"), &head_file), OK);
        embed_tokens(&hf, ids, 4, x);
        run(&hf, 4, x);
        head(head_file, "weight", NULL, 257, x[3], theirs);
        const struct span rows[1] = {buf_span(&row)};
        assert_int_equal(schema_check_row(&c.schema, rows[0]), OK);
        assert_int_equal(learner_predict(&c.recipe, list_count, c.params, rows, 1, ours), OK);
        assert_logits(ours, theirs, 257);
        safetensors_close(head_file);
        hf_close(&hf);
        component_deinit(&c);
    }
    buf_deinit(&row);
    hfmodel_deinit(&model);
}

static void test_interchange_refuses_what_has_no_adapters(void **state)
{
    (void)state;
    struct hfmodel model;
    struct component c;
    struct peft peft;
    hfmodel_init(&model, "vit", "vit.");
    hfmodel_vit(&model, true);
    hfmodel_save(&model, "model.safetensors", 0, model.count);
    component_init(&c, model.dir, true, 1);
    assert_int_equal(adapters_of(&c.recipe, 1, c.params, &peft), OK); // Control.
    assert_int_equal(adapters_of(&c.recipe, 3, c.params, &peft), ERR_INVALID);
    assert_said("no block of layers is left");
    c.recipe.base = NULL;
    assert_int_equal(adapters_of(&c.recipe, 1, c.params, &peft), ERR_INVALID);
    assert_said("the model stands on no base and so has no adapters");
    c.recipe.base = c.base;
    assert_int_equal(spec_set(&c.spec, "learner", "mlp"), OK);
    assert_int_equal(adapters_of(&c.recipe, 1, c.params, &peft), ERR_INVALID);
    assert_said("learner mlp has no adapters");
    assert_int_equal(spec_set(&c.spec, "learner", "vit"), OK);
    c.schema.task = TASK_NUMBER;
    c.schema.label_standardise = true;
    assert_int_equal(adapters_of(&c.recipe, 1, c.params, &peft), ERR_INVALID);
    assert_said("the label is standardised");
    component_deinit(&c);
    hfmodel_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interchange_vit),
        cmocka_unit_test(test_interchange_gpt2),
        cmocka_unit_test(test_interchange_component_of_vit),
        cmocka_unit_test(test_interchange_component_of_gpt2),
        cmocka_unit_test(test_interchange_refuses_what_has_no_adapters),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
