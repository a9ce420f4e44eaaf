// client/peftmap.h: how our adapters lie in those of PEFT, and the settings that say so.
//
// What peft_write writes and peft_read expects is decided here, once.
#pragma once

#include "base/bytes.h"
#include "client/peft.h"

enum { PEFTMAP_NAME_BYTES = 128 };

// A module of the model that has an adapter: it holds those of one or more targets.
struct peftmap_module {
    const char *name; // Within a layer: "attention.attention.query", "attn.c_attn".
    uint32_t from;    // Its first output among those of the linear layer.
    uint32_t rows, in;
    uint32_t rank; // target_count times that of a target
    uint32_t target_count;
    uint32_t targets[LORA_TARGETS_MAX]; // Numbers of targets, in their order.
};

// Modules in the order of their first targets; returns how many.
uint32_t peftmap_modules(const struct base_shape *shape, const struct lora *lora,
                         struct peftmap_module modules_out[static LORA_TARGETS_MAX]);
// True when the module's adapter is that of its one target, value by value.
bool peftmap_is_plain(const struct peftmap_module *module, const struct lora *lora);

// The adapters of one layer <-> the adapter of one module: a [rank][in], b [rows][rank].
void peftmap_join(const struct peftmap_module *module, const struct lora *lora,
                  const float *adapters, float *a_out, float *b_out);
// Writes the parts of `adapters_out` that the module holds. False: b has a value outside its blocks.
bool peftmap_split(const struct peftmap_module *module, const struct lora *lora, const float *a,
                   const float *b, float *adapters_out);

// "base_model.model.vit.encoder.layer.3.attention.attention.query.lora_A.weight"
void peftmap_name(enum base_kind kind, uint32_t layer, const struct peftmap_module *module,
                  char matrix, char name_out[static PEFTMAP_NAME_BYTES]);

// What PEFT scales an adapter by: it divides in double precision and multiplies in that of the weights.
float peftmap_scale(double alpha, uint32_t rank, bool rslora);

// adapter_config.json.
void peftmap_config(const struct peft *peft, struct buf *json_out);
