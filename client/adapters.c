// client/adapters.c: see adapters.h.
#include "client/adapters.h"

#include <stdio.h>
#include <string.h>

#include "model/backbone.h"

static enum err kind_of(const struct spec *spec, enum base_kind *kind_out)
{
    const bool is_vit = strcmp(spec->learner, "vit") == 0;
    if (!is_vit && strcmp(spec->learner, "text") != 0) {
        FAIL(ERR_INVALID, "learner %s has no adapters: only vit and text on a base have",
             spec->learner);
    }
    *kind_out = is_vit ? BASE_VIT : BASE_TEXT;
    return OK;
}

enum err adapters_of(const struct recipe *recipe, uint32_t list_count, const float *params,
                     struct peft *peft_out)
{
    const struct spec *const spec = recipe->spec;
    enum base_kind kind;
    struct backbone_plan plan;
    TRY(kind_of(spec, &kind));
    if (recipe->base == NULL) {
        FAIL(ERR_INVALID, "the model stands on no base and so has no adapters");
    }
    if (schema_constant_count(recipe->schema) > 0) {
        FAIL(ERR_INVALID, "the label is standardised, and PEFT has no place for its constants");
    }
    TRY(backbone_plan(recipe, kind, list_count, &plan));
    *peft_out = (struct peft){
        .shape = plan.shape,
        .base_digest = recipe->base->digest,
        .lora = plan.lora,
        .alpha = spec->lora_alpha,
        .rslora = spec->lora_rslora,
        .head_rows = kind == BASE_VIT ? schema_output_width(recipe->schema) : BASE_BYTES + 1,
        .head_weight = params + plan.body_count,
    };
    (void)snprintf(peft_out->base_name, sizeof peft_out->base_name, "%s", spec->base);
    (void)snprintf(peft_out->targets, sizeof peft_out->targets, "%s", spec->lora_targets);
    if (kind == BASE_VIT) {
        peft_out->head_bias =
            peft_out->head_weight + (uint64_t)peft_out->head_rows * plan.shape.width;
    }
    for (uint32_t block = 1; block <= plan.blocks; block++) { // From the top down.
        const uint32_t low = plan.shape.layers - block * plan.block_layers;
        for (uint32_t i = 0; i < plan.block_layers; i++) {
            peft_out->adapters[low + i] = params;
            params += plan.layer_count;
        }
    }
    return OK;
}
