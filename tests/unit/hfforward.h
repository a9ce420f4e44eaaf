// tests/unit/hfforward.h: transformers' ViTModel and GPT2Model, with PEFT's LoRA, written down a second time: in
// float64, in plain loops and in their own terms. Tensors come by name out of the files; Linear is
// x W^T + b, Conv1D x W + b, c_attn is split in three along its columns, Conv2d goes over patches; LoRA adds
// lora_B(lora_A(x)) * scaling to a module. For the models of hfmodel.h. Include after cmocka.h.
#pragma once

#include <jansson.h>
#include <math.h>

#include "base/mem.h"
#include "client/safetensors.h"
#include "tests/unit/hfmodel.h"

enum { D = 4, HEADS = 2, TOKENS_MAX = 7, MODEL_LAYERS = 2 };

// ---------------------------------------------------------------- the model in their terms

struct hf {
    bool is_vit;
    struct safetensors *model, *adapters; // adapters: NULL without PEFT
    json_t *config;                       // adapter_config.json
    uint32_t inner;
};

static inline double *tensor(const struct safetensors *file, const char *name)
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
static inline void module(const struct hf *hf, const char *stem, uint32_t in, uint32_t out,
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

static inline void layer_norm(const struct hf *hf, const char *stem, double epsilon,
                              const double *x, double *y)
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

static inline double activation(const struct hf *hf, double x)
{
    if (hf->is_vit) { // gelu
        return x * 0.5 * (1 + erf(x / sqrt(2)));
    }
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3)))); // gelu_new
}

static inline void attend(const struct hf *hf, uint32_t count, double (*q)[D], double (*k)[D],
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

static inline void block(const struct hf *hf, uint32_t number, uint32_t count, double (*x)[D])
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
static inline void embed_image(const struct hf *hf, const double *pixels, double (*x)[D])
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
static inline void embed_tokens(const struct hf *hf, const uint32_t *ids, uint32_t count,
                                double (*x)[D])
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

static inline void run(const struct hf *hf, uint32_t count, double (*x)[D])
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

// logits[rows] = W y + b from the file that holds the head.
static inline void head(const struct safetensors *file, const char *weight_name,
                        const char *bias_name, uint32_t rows, const double *y, double *logits)
{
    double *const weight = tensor(file, weight_name);
    double *const bias = bias_name == NULL ? NULL : tensor(file, bias_name);
    for (uint32_t row = 0; row < rows; row++) {
        logits[row] = bias == NULL ? 0 : bias[row];
        for (uint32_t i = 0; i < D; i++) {
            logits[row] += weight[row * D + i] * y[i];
        }
    }
    mem_free(weight);
    mem_free(bias);
}
