// client/peft.h: the adapters of one component as a directory that PEFT (Hugging Face) loads.
//
//   adapter_config.json         settings, as PEFT's LoraConfig has them
//   adapter_model.safetensors   lora_A [rank][in] and lora_B [out][rank] of each layer that has adapters,
//                               under PEFT's names; with vit also the head, as the module `classifier`
//   head.safetensors            text alone: `weight` [257][d]
//
// PEFT gives each module of the model one adapter, and GPT-2 has query, key and value in one module,
// c_attn. Several adapters on it become one whose rank is their sum: the A stand one below the other,
// and B is made of blocks, each in its own rows and columns, with zeros elsewhere. Its lora_alpha is then
// chosen so that lora_alpha / rank, or lora_alpha / sqrt(rank) with use_rslora, is the same float32 as
// before: scale * rank, scale * sqrt(rank).
//
// PEFT has no module for a head over bytes on GPT-2, so that of a text lies in a file of its own, which PEFT
// does not look at. Row b is byte b, row 256 the end of the text.
//
// Lifetime  A plain value that borrows, except what peft_read gives: until peft_deinit.
// Threads   Any.
// Source    peft: utils/save_and_load.py (names), tuners/lora/layer.py (scaling), tuners/tuners_utils.py
//           (check_target_module_exists: what target_modules and layers_to_transform match).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/limits.h"
#include "model/base.h"
#include "model/lora.h"

struct peft {
    struct base_shape shape;
    struct digest base_digest;
    char base_name[LIMIT_NAME_BYTES + 1];   // base_model_name_or_path
    char targets[LIMIT_LORA_TARGETS_BYTES]; // Names of lora.targets, in their order, joined by ','.
    struct lora lora;
    double
        alpha; // lora.scale is the float32 of alpha / rank, or of alpha / sqrt(rank) with rslora.
    bool rslora;
    // Of each layer of the shape: float32[lora_count(lora)] as model/lora.h lays them out, or NULL.
    const float *adapters[LIMIT_BASE_LAYERS];
    uint32_t head_rows;       // Classes, or 1 for a number; BASE_BYTES + 1 with text.
    const float *head_weight; // float32[head_rows][d]
    const float *head_bias;   // float32[head_rows]; NULL with text.
    float *owned;             // Of peft_read.
};

// Makes the directory and writes the files; adapter_config.json comes last. On error nothing is left.
//   ERR_CONFLICT  `dir` exists already.   ERR_INVALID  a value is infinite or no number.
//   ERR_IO        the kernel refused.
MUST_USE enum err peft_write(const char *dir, const struct peft *peft);

// Removes what peft_write wrote, as far as it is there.
void peft_remove(const char *dir);

// Reads back what peft_write wrote, to the bit, for a base of this shape. base_model_name_or_path may have
// been changed meanwhile, nothing else.
//   peft_out       to be released with peft_deinit; on error there is nothing to release.
//   ERR_NOT_FOUND  no such directory, or a file is missing.
//   ERR_INVALID    not written by peft_write, changed since, or for a base of another shape.
//   ERR_LIMIT      above a bound, or no memory.   ERR_CORRUPT, ERR_IO  as safetensors_read.
MUST_USE enum err peft_read(const char *dir, const struct base_shape *shape, struct peft *peft_out);
void peft_deinit(struct peft *peft); // Accepts {0}.
