// model/backbone.h: what vit and text share: the transformer below their heads.
//
// On a base (S3T): its n layers are divided into blocks of q = floor(n / (L + append_blocks))
// layers from the top; a component whose list has k entries has adapters in the blocks 1 .. k and
// its own stage trains those of block k and a head; what was trained before it is frozen, and what
// comes after it is absent. Its weights are the adapters of block 1, of block 2, .., within a block
// the layers ascending; then the head. Blocks before the first that was trained (the list began
// with empty slices) are zeros.
//
// Without a base: all weights of a transformer whose shape the spec gives, in the order of base.h,
// then the head; every stage trains them all.
//
// Activations below the trained block are the same in each pass: they are computed one sample at a
// time, when a sample is first met, and kept as far as memory allows; the others are computed
// again, one at a time, to the same bits.
//
// Letters   N tokens in all, d width, M rows of output: one for each image, N for texts.
// Source    S3T, arXiv 2406.16257: blocks from the top, cumulative data.
// Threads   One backbone per thread.
#pragma once

#include "model/lora.h"
#include "model/stage.h"

struct backbone_plan {
    struct base_shape shape;
    bool on_base;
    struct lora lora;      // On a base; else all 0.
    uint32_t blocks;       // k on a base; else 0.
    uint32_t block_layers; // q
    uint64_t layer_count;  // float32 of one layer's adapters.
    uint64_t body_count;   // Weights before the head.
    uint64_t frozen_count; // The first so many of them are the parent's.
};

// Checks that spec, schema and base fit.
//   ERR_INVALID  the learner needs another kind of base, the columns are not one of pixels (vit) or one
//                of text and ignored ones, images have another size, a LoRA target is unknown, there
//                are more slices than layers, or more in the list than blocks, or the spec gives an
//                impossible shape.   ERR_LIMIT  as base_shape_check.
MUST_USE enum err backbone_plan(const struct recipe *recipe, enum base_kind kind,
                                uint32_t list_count, struct backbone_plan *plan_out);

// Writes the weights before the head that training starts from, given the parent's or NULL.
void backbone_init(const struct backbone_plan *plan, const struct stage *stage, const float *parent,
                   float *weights_out);
// Where the head begins in the weights of the component's parent.
uint64_t backbone_parent_body(const struct backbone_plan *plan);

// The column that is read: a checked schema has it.
uint32_t backbone_column(const struct schema *schema, enum base_kind kind);

// How many samples of the longest kind a transformer should be given at once to predict.
uint32_t backbone_predict_rows(const struct backbone_plan *plan);

struct backbone;

// To train `stage` on `data`, or, both NULL, to predict; recipe, stage and data are borrowed until
// backbone_free. ERR_LIMIT: not enough memory; *backbone_out is NULL then.
MUST_USE enum err backbone_new(const struct recipe *recipe, const struct backbone_plan *plan,
                               const struct stage *stage, const struct stage_data *data,
                               uint32_t rows_max, struct backbone **backbone_out);
void backbone_free(struct backbone *backbone); // Accepts NULL.

uint32_t backbone_tokens_max(const struct backbone *backbone); // N at most.

// Runs samples: gives float32[M][d] for the head, borrowed until the next call. `weights`: the
// component's.
const float *backbone_forward(struct backbone *backbone, const float *weights,
                              const struct stage_rows *rows);
// Of the last forward: M, and for texts where each sample's rows begin, [count + 1].
uint32_t backbone_rows(const struct backbone *backbone);
const uint32_t *backbone_offsets(const struct backbone *backbone);

// After a forward while training: writes the gradients of the trained weights before the head, from
// dy[M][d].
void backbone_backward(struct backbone *backbone, const float *weights, const float *dy,
                       float *gradient_out);

// For tests only: bytes of activations that are kept at most; samples for which this thread has computed
// what lies below a trained block.
extern uint64_t backbone_kept_bytes_max;
extern _Thread_local uint64_t backbone_lower_count;
