// tests/unit/test_interchange.c: an imported base computes what transformers computes with those files, and an
// exported adapter changes the model under PEFT as it changes ours.
//
// Here transformers' ViTModel and GPT2Model are written down a second time, in float64 and in their own
// terms: tensors by name out of the files, Linear as x W^T + b, Conv1D as x W + b, c_attn split in three
// along its columns, Conv2d over patches; PEFT's LoRA adds lora_B(lora_A(x)) * scaling to a module. What
// comes out after the final norm is compared with model/transformer_plain.h on the imported weights.
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/huggingface.h"
#include "client/peft.h"
#include "client/peftmap.h"
#include "model/transformer_plain.h"
#include "tests/unit/hfmodel.h"

enum { D = 4, HEADS = 2, TOKENS_MAX = 7, MODEL_LAYERS = 2, RANK = 3 };

// ---------------------------------------------------------------- the model in their terms

struct hf {
    bool is_vit;
    struct safetensors *model, *adapters; // adapters: NULL without PEFT
    json_t *config;                       // adapter_config.json
    uint32_t inner;
};

static double *tensor(const struct safetensors *file, const char *name)
{
    const struct safetensors_tensor *const found = safetensors_find(file, name);
    if (found == NULL) {
        fail_msg("no tensor %s", name);
        return NULL;
    }
    float *const floats = mem_alloc(found->count, sizeof *floats);
    double *const values = mem_alloc(found->count, sizeof *values);
    assert_int_equal(safetensors_read(file, found, 0, found->count, floats), OK);
    for (uint64_t i = 0; i < found->count; i++) {
        values[i] = (double)floats[i];
    }
    mem_free(floats);
    return values;
}

// y[out] = W x + b; `stem` without the model's prefix.
static void module(const struct hf *hf, const char *stem, uint32_t in, uint32_t out,
                   const double *x, double *y)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s.weight", hf->is_vit ? "vit." : "transformer.", stem);
    double *const weight = tensor(hf->model, name);
    snprintf(name, sizeof name, "%s%s.bias", hf->is_vit ? "vit." : "transformer.", stem);
    double *const bias = tensor(hf->model, name);
    for (uint32_t o = 0; o < out; o++) {
        y[o] = bias[o];
        for (uint32_t i = 0; i < in; i++) { // Linear is [out][in], Conv1D [in][out].
            y[o] += x[i] * weight[hf->is_vit ? o * in + i : i * out + o];
        }
    }
    mem_free(weight);
    mem_free(bias);
    snprintf(name, sizeof name, "base_model.model.%s%s.lora_A.weight",
             hf->is_vit ? "vit." : "transformer.", stem);
    if (hf->adapters == NULL || safetensors_find(hf->adapters, name) == NULL) {
        return;
    }
    const uint32_t r = (uint32_t)safetensors_find(hf->adapters, name)->shape[0];
    const double alpha =
        json_number_value(json_object_get(hf->config, "lora_alpha")); // One rank in these examples.
    const bool root = json_is_true(json_object_get(hf->config, "use_rslora"));
    assert_int_equal(json_integer_value(json_object_get(hf->config, "r")), r);
    double *const a = tensor(hf->adapters, name);
    snprintf(name, sizeof name, "base_model.model.%s%s.lora_B.weight",
             hf->is_vit ? "vit." : "transformer.", stem);
    double *const b = tensor(hf->adapters, name);
    for (uint32_t k = 0; k < r; k++) {
        double low = 0;
        for (uint32_t i = 0; i < in; i++) {
            low += a[k * in + i] * x[i];
        }
        for (uint32_t o = 0; o < out; o++) {
            y[o] += b[o * r + k] * low * (alpha / (root ? sqrt(r) : r));
        }
    }
    mem_free(a);
    mem_free(b);
}

static void layer_norm(const struct hf *hf, const char *stem, double epsilon, const double *x,
                       double *y)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s.weight", hf->is_vit ? "vit." : "transformer.", stem);
    double *const weight = tensor(hf->model, name);
    snprintf(name, sizeof name, "%s%s.bias", hf->is_vit ? "vit." : "transformer.", stem);
    double *const bias = tensor(hf->model, name);
    double mean = 0, variance = 0;
    for (int i = 0; i < D; i++) {
        mean += x[i] / D;
    }
    for (int i = 0; i < D; i++) {
        variance += (x[i] - mean) * (x[i] - mean) / D;
    }
    for (int i = 0; i < D; i++) {
        y[i] = (x[i] - mean) / sqrt(variance + epsilon) * weight[i] + bias[i];
    }
    mem_free(weight);
    mem_free(bias);
}

static double activation(const struct hf *hf, double x)
{
    if (hf->is_vit) { // gelu
        return x * 0.5 * (1 + erf(x / sqrt(2)));
    }
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3)))); // gelu_new
}

static void attend(const struct hf *hf, uint32_t count, double (*q)[D], double (*k)[D],
                   double (*v)[D], double (*out)[D])
{
    const int size = D / HEADS;
    for (uint32_t t = 0; t < count; t++) {
        for (int head = 0; head < HEADS; head++) {
            double weights[TOKENS_MAX], sum = 0;
            const uint32_t seen = hf->is_vit ? count : t + 1;
            for (uint32_t s = 0; s < seen; s++) {
                double dot = 0;
                for (int i = head * size; i < (head + 1) * size; i++) {
                    dot += q[t][i] * k[s][i];
                }
                weights[s] = exp(dot / sqrt(size));
                sum += weights[s];
            }
            for (int i = head * size; i < (head + 1) * size; i++) {
                out[t][i] = 0;
                for (uint32_t s = 0; s < seen; s++) {
                    out[t][i] += weights[s] / sum * v[s][i];
                }
            }
        }
    }
}

static void block(const struct hf *hf, uint32_t number, uint32_t count, double (*x)[D])
{
    double q[TOKENS_MAX][D], k[TOKENS_MAX][D], v[TOKENS_MAX][D], mixed[TOKENS_MAX][D];
    double normed[D], three[3 * D], inner[64], y[D];
    char stem[128];
#define STEM(vit, gpt2)                                                                            \
    (snprintf(stem, sizeof stem, hf->is_vit ? "encoder.layer.%u." vit : "h.%u." gpt2, number),     \
     (const char *)stem)
    for (uint32_t t = 0; t < count; t++) {
        layer_norm(hf, STEM("layernorm_before", "ln_1"), hf->is_vit ? 1e-12 : 1e-5, x[t], normed);
        if (hf->is_vit) {
            module(hf, STEM("attention.attention.query", ""), D, D, normed, q[t]);
            module(hf, STEM("attention.attention.key", ""), D, D, normed, k[t]);
            module(hf, STEM("attention.attention.value", ""), D, D, normed, v[t]);
        } else { // query, key, value = c_attn(x).split(d, dim=2)
            module(hf, STEM("", "attn.c_attn"), D, 3 * D, normed, three);
            memcpy(q[t], three, sizeof q[t]);
            memcpy(k[t], three + D, sizeof k[t]);
            memcpy(v[t], three + 2 * D, sizeof v[t]);
        }
    }
    attend(hf, count, q, k, v, mixed);
    for (uint32_t t = 0; t < count; t++) {
        module(hf, STEM("attention.output.dense", "attn.c_proj"), D, D, mixed[t], y);
        for (int i = 0; i < D; i++) {
            x[t][i] += y[i];
        }
        layer_norm(hf, STEM("layernorm_after", "ln_2"), hf->is_vit ? 1e-12 : 1e-5, x[t], normed);
        module(hf, STEM("intermediate.dense", "mlp.c_fc"), D, hf->inner, normed, inner);
        for (uint32_t i = 0; i < hf->inner; i++) {
            inner[i] = activation(hf, inner[i]);
        }
        module(hf, STEM("output.dense", "mlp.c_proj"), hf->inner, D, inner, y);
        for (int i = 0; i < D; i++) {
            x[t][i] += y[i];
        }
    }
#undef STEM
}

// ViTModel: pixel_values[3][8][12], what ViTImageProcessor makes of a grey image.
static void embed_image(const struct hf *hf, const double *pixels, double (*x)[D])
{
    enum { ROWS = 8, COLS = 12, PATCH = 4, CHANNELS = 3 };
    double *const weight = tensor(hf->model, "vit.embeddings.patch_embeddings.projection.weight");
    double *const bias = tensor(hf->model, "vit.embeddings.patch_embeddings.projection.bias");
    double *const first = tensor(hf->model, "vit.embeddings.cls_token");
    double *const places = tensor(hf->model, "vit.embeddings.position_embeddings");
    memcpy(x[0], first, sizeof x[0]);
    for (int p = 0; p < 6; p++) { // flatten(2): rows of patches, then columns
        const int top = p / (COLS / PATCH) * PATCH, left = p % (COLS / PATCH) * PATCH;
        for (int o = 0; o < D; o++) {
            x[1 + p][o] = bias[o];
            for (int c = 0; c < CHANNELS; c++) {
                for (int i = 0; i < PATCH * PATCH; i++) {
                    x[1 + p][o] +=
                        weight[(o * CHANNELS + c) * PATCH * PATCH + i] *
                        pixels[c * ROWS * COLS + (top + i / PATCH) * COLS + left + i % PATCH];
                }
            }
        }
    }
    for (int t = 0; t < 7; t++) {
        for (int i = 0; i < D; i++) {
            x[t][i] += places[t * D + i];
        }
    }
    mem_free(weight);
    mem_free(bias);
    mem_free(first);
    mem_free(places);
}

// GPT2Model: inputs_embeds = wte(input_ids) + wpe(positions)
static void embed_tokens(const struct hf *hf, const uint32_t *ids, uint32_t count, double (*x)[D])
{
    double *const tokens = tensor(hf->model, "transformer.wte.weight");
    double *const places = tensor(hf->model, "transformer.wpe.weight");
    for (uint32_t t = 0; t < count; t++) {
        for (uint32_t i = 0; i < D; i++) {
            x[t][i] = tokens[ids[t] * D + i] + places[t * D + i];
        }
    }
    mem_free(tokens);
    mem_free(places);
}

static void run(const struct hf *hf, uint32_t count, double (*x)[D])
{
    for (uint32_t layer = 0; layer < MODEL_LAYERS; layer++) {
        block(hf, layer, count, x);
    }
    for (uint32_t t = 0; t < count; t++) {
        double y[D];
        layer_norm(hf, hf->is_vit ? "layernorm" : "ln_f", hf->is_vit ? 1e-12 : 1e-5, x[t], y);
        memcpy(x[t], y, sizeof y);
    }
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interchange_vit),
        cmocka_unit_test(test_interchange_gpt2),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
