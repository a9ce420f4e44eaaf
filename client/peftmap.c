// client/peftmap.c: see peftmap.h.
#include "client/peftmap.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"

// ---------------------------------------------------------------- modules

static const char *module_name(const struct base_shape *shape, const struct lora_target *target)
{
    static const char *const vit_parts[3] = {"attention.attention.query", "attention.attention.key",
                                             "attention.attention.value"};
    const bool is_vit = shape->kind == BASE_VIT;
    switch (target->linear) {
    case LINEAR_QKV:
        CHECK(!is_vit || target->rows == shape->width);
        return is_vit ? vit_parts[target->from / shape->width] : "attn.c_attn";
    case LINEAR_OUTPUT:
        return is_vit ? "attention.output.dense" : "attn.c_proj";
    case LINEAR_UP:
        return is_vit ? "intermediate.dense" : "mlp.c_fc";
    case LINEAR_DOWN:
    case LINEAR_COUNT_:
        break;
    }
    return is_vit ? "output.dense" : "mlp.c_proj";
}

uint32_t peftmap_modules(const struct base_shape *shape, const struct lora *lora,
                         struct peftmap_module modules_out[static LORA_TARGETS_MAX])
{
    uint32_t count = 0;
    memset(modules_out, 0, LORA_TARGETS_MAX * sizeof *modules_out);
    for (uint32_t i = 0; i < lora->target_count; i++) {
        const struct lora_target *const target = &lora->targets[i];
        const char *const name = module_name(shape, target);
        uint32_t m = 0;
        while (m < count && modules_out[m].name != name) {
            m++;
        }
        struct peftmap_module *const module = &modules_out[m];
        if (m == count) {
            const bool fused = target->linear == LINEAR_QKV && shape->kind == BASE_TEXT;
            count++;
            *module = (struct peftmap_module){.name = name,
                                              .from = fused ? 0 : target->from,
                                              .rows = fused ? 3 * shape->width : target->rows,
                                              .in = target->in};
        }
        module->targets[module->target_count++] = i;
        module->rank += lora->rank;
    }
    return count;
}

bool peftmap_is_plain(const struct peftmap_module *module, const struct lora *lora)
{
    return module->target_count == 1 && lora->targets[module->targets[0]].rows == module->rows;
}

void peftmap_join(const struct peftmap_module *module, const struct lora *lora,
                  const float *adapters, float *a_out, float *b_out)
{
    const size_t r = lora->rank;
    memset(b_out, 0, (size_t)module->rows * module->rank * sizeof *b_out);
    for (uint32_t i = 0; i < module->target_count; i++) {
        const struct lora_target *const target = &lora->targets[module->targets[i]];
        const float *const a = adapters + lora_at(lora, module->targets[i]);
        const float *const b = a + r * target->in;
        memcpy(a_out + i * r * target->in, a, r * target->in * sizeof *a);
        for (size_t row = 0; row < target->rows; row++) {
            memcpy(b_out + (target->from - module->from + row) * module->rank + i * r, b + row * r,
                   r * sizeof *b);
        }
    }
}

// Whether b[row][] may have values in the columns of the module's i-th target.
static bool in_block(const struct peftmap_module *module, const struct lora *lora, uint32_t i,
                     size_t row)
{
    const struct lora_target *const target = &lora->targets[module->targets[i]];
    return module->from + row >= target->from &&
           module->from + row < (size_t)target->from + target->rows;
}

bool peftmap_split(const struct peftmap_module *module, const struct lora *lora, const float *a,
                   const float *b, float *adapters_out)
{
    const size_t r = lora->rank;
    for (uint32_t i = 0; i < module->target_count; i++) {
        const struct lora_target *const target = &lora->targets[module->targets[i]];
        float *const to_a = adapters_out + lora_at(lora, module->targets[i]);
        float *to_b = to_a + r * target->in;
        memcpy(to_a, a + i * r * target->in, r * target->in * sizeof *a);
        for (size_t row = 0; row < module->rows; row++) {
            const float *const from = b + row * module->rank + i * r;
            if (in_block(module, lora, i, row)) {
                memcpy(to_b, from, r * sizeof *from);
                to_b += r;
                continue;
            }
            for (size_t column = 0; column < r; column++) {
                if (from[column] != 0) {
                    return false;
                }
            }
        }
    }
    return true;
}

void peftmap_name(enum base_kind kind, uint32_t layer, const struct peftmap_module *module,
                  char matrix, char name_out[static PEFTMAP_NAME_BYTES])
{
    (void)snprintf(name_out, PEFTMAP_NAME_BYTES, "base_model.model.%s.%u.%s.lora_%c.weight",
                   kind == BASE_VIT ? "vit.encoder.layer" : "transformer.h", layer, module->name,
                   matrix);
}

// ---------------------------------------------------------------- settings

PRINTF_LIKE(2, 3) static void put(struct buf *json, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    const int bytes = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CHECK(bytes >= 0 && (size_t)bytes < sizeof text);
    buf_put(json, span_of(text, (size_t)bytes));
}

// A JSON string, with what must be escaped.
static void put_string(struct buf *json, const char *text)
{
    json_t *const string = json_string(text);
    char *const written = json_dumps(string, JSON_ENCODE_ANY);
    CHECK(written != NULL);
    buf_put(json, span_text(written));
    free(written);
    json_decref(string);
}

// A whole number without a point, as LoraConfig expects it; else the shortest text of the same number.
static void put_number(struct buf *json, double number)
{
    char text[TEXT_NUMBER_BYTES];
    if (number == floor(number) && fabs(number) < 1e15) {
        put(json, "%.0f", number);
        return;
    }
    text_f64_put(number, text);
    put(json, "%s", text);
}

float peftmap_scale(double alpha, uint32_t rank, bool rslora)
{
    return (float)(alpha / (rslora ? sqrt((double)rank) : (double)rank));
}

// The lora_alpha with which PEFT scales an adapter of this rank by lora.scale. With rsLoRA the root and the
// quotient are rounded, each by less than 2^-52 of it, so that the nearest float32 is lora.scale again.
static double alpha_of(const struct peft *peft, uint32_t rank)
{
    if (rank == peft->lora.rank) {
        return peft->alpha;
    }
    const double by = peft->rslora ? sqrt((double)rank) : (double)rank;
    const double alpha = (double)peft->lora.scale * by;
    CHECK(peftmap_scale(alpha, rank, peft->rslora) == peft->lora.scale);
    return alpha;
}

struct list {
    struct buf *json;
    bool begun;
};

static void put_item(struct list *list, const char *text)
{
    put(list->json, "%s\n    ", list->begun ? "," : "");
    put_string(list->json, text);
    list->begun = true;
}

// PEFT adapts each module whose name ends in one of these, after a dot.
static void put_target_modules(const struct peft *peft, const struct peftmap_module *modules,
                               uint32_t module_count, struct buf *json)
{
    struct list list = {.json = json};
    bool has_output = false;
    for (uint32_t i = 0; i < module_count; i++) {
        has_output |= strcmp(modules[i].name, "attention.output.dense") == 0;
    }
    for (uint32_t i = 0; i < module_count; i++) {
        const char *const name = modules[i].name;
        // "output.dense" would also match attention.output.dense.
        if (strcmp(name, "output.dense") == 0 && !has_output) {
            for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
                char text[32];
                (void)snprintf(text, sizeof text, "%u.output.dense", layer);
                if (peft->adapters[layer] != NULL) {
                    put_item(&list, text);
                }
            }
        } else if (strncmp(name, "attention.attention.", 20) == 0) {
            put_item(&list, name + 20);
        } else {
            put_item(&list, name);
        }
    }
}

static void put_layers(const struct peft *peft, struct buf *json)
{
    bool begun = false;
    for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
        if (peft->adapters[layer] != NULL) {
            put(json, "%s\n    %u", begun ? "," : "", layer);
            begun = true;
        }
    }
}

void peftmap_config(const struct peft *peft, struct buf *json)
{
    struct peftmap_module modules[LORA_TARGETS_MAX];
    const uint32_t count = peftmap_modules(&peft->shape, &peft->lora, modules);
    const struct peftmap_module *other = NULL; // Of another rank than the rest; only c_attn can be.
    uint32_t rank = modules[0].rank;
    for (uint32_t i = 1; i < count; i++) {
        if (modules[i].rank != modules[0].rank) {
            rank = peft->lora.rank;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        other = modules[i].rank != rank ? &modules[i] : other;
    }
    const bool is_vit = peft->shape.kind == BASE_VIT;
    char dropout[TEXT_NUMBER_BYTES];
    text_f32_put(peft->lora.dropout, dropout);

    put(json, "{\n  \"alpha_pattern\": {");
    if (other != NULL) {
        put(json, "\n    \"%s\": ", other->name);
        put_number(json, alpha_of(peft, other->rank));
        put(json, "\n  ");
    }
    put(json, "},\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
    put_string(json, peft->base_name);
    put(json, ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": %s,\n  \"inference_mode\": true,\n",
        is_vit ? "false" : "true");
    put(json, "  \"init_lora_weights\": true,\n  \"layers_pattern\": null,\n"
              "  \"layers_to_transform\": [");
    put_layers(peft, json);
    put(json, "\n  ],\n  \"lora_alpha\": ");
    put_number(json, alpha_of(peft, rank));
    put(json, ",\n  \"lora_dropout\": %s,\n  \"modules_to_save\": %s,\n", dropout,
        is_vit ? "[\n    \"classifier\"\n  ]" : "null");
    put(json, "  \"peft_type\": \"LORA\",\n  \"r\": %u,\n  \"rank_pattern\": {", rank);
    if (other != NULL) {
        put(json, "\n    \"%s\": %u\n  ", other->name, other->rank);
    }
    put(json, "},\n  \"revision\": null,\n  \"target_modules\": [");
    put_target_modules(peft, modules, count, json);
    put(json, "\n  ],\n  \"task_type\": %s,\n  \"use_rslora\": %s\n}\n",
        is_vit ? "null" : "\"CAUSAL_LM\"", peft->rslora ? "true" : "false");
}
