// model/spec.h: what a model is: learner, hyperparameters, shards, slices, sequences, seed.
//
// One table (speckey.c) lists every key with its type, range and default. The YAML file, `--set
// key=value`, the wire, the store and the digest all go through that table and the one canonical
// text it writes: one "key=value\n" line for every key, in table order. Nested YAML keys are joined
// by a dot: optimizer.rate. A key without effect (momentum with adamw, hidden with softmax) has the
// value "-" there.
//
// A spec decides bits: every field is part of the digest that names it.
//
// Lifetime  Plain value, no pointers; copy freely.
// Threads   Stateless.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/policy.h"
#include "base/risk.h"

enum activation { ACTIVATION_RELU, ACTIVATION_TANH, ACTIVATION_GELU };
enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_ADAMW };
enum aggregate_kind { AGGREGATE_MEAN_PROBABILITY, AGGREGATE_MEAN_LOGIT, AGGREGATE_VOTE };

struct spec {
    char learner[16];              // learner            softmax | mlp | ...; see model/learner.h
    uint32_t hidden[LIMIT_LAYERS]; // hidden             widths of hidden layers: 128 or [64, 32]
    uint32_t hidden_count;
    enum activation activation; // activation         relu | tanh | gelu
    double dropout;             // dropout            [0, 1), on hidden units while training
    // Transformers (vit, text). On a base that is named, adapters and heads are trained; without one,
    // all weights of a transformer of this shape.
    char base[LIMIT_NAME_BYTES + 1]; // base             a base's name, or none
    uint32_t lora_rank;              // lora.rank
    double lora_alpha;               // lora.alpha
    bool lora_rslora;    // lora.rslora        scale alpha / sqrt(rank), else alpha / rank
    double lora_dropout; // lora.dropout       [0, 1), on an adapter's input in training
    char lora_targets[LIMIT_LORA_TARGETS_BYTES]; // lora.targets    names joined by ","
    uint32_t append_blocks;        // append_blocks      blocks of layers kept for later generations
    uint32_t layers, width, heads; // layers, width, heads      without a base
    uint32_t inner;                // inner              width of the feed-forward part
    uint32_t patch;                // patch              vit: side of a patch
    uint32_t context;              // context            text: tokens of a window
    uint32_t shards;               // shards             S, 1 ..
    uint32_t slices;               // slices             L, 1 ..
    uint32_t sequences;            // sequences          B, 1 ..
    enum sequence_policy policy;   // sequence_policy    rotation | random | bms | sampling
    uint32_t append_slices;        // append_slices      slices that each later generation appends
    struct risk_table risk;        // risk               class -> shards and slices; see base/risk.h
    uint32_t epochs;               // epochs             e0: passes of a training without slices
    uint32_t batch;                // batch              rows of one step
    uint32_t gradient_chunks;      // gradient_chunks    C, a power of two
    enum optimizer_kind optimizer; // optimizer.kind     sgd | adamw
    double rate;                   // optimizer.rate
    double momentum;               // optimizer.momentum       sgd, [0, 1)
    double beta1, beta2, epsilon;  // optimizer.beta1, .beta2, .epsilon    adamw
    double weight_decay;           // optimizer.weight_decay   sgd: L2, adamw: decoupled
    enum aggregate_kind aggregate; // aggregate          mean_probability | mean_logit | vote
    bool weighted;                 // weighted           weight shards by their records
    uint64_t seed;                 // seed
    // slice_probabilities: how often each slice is deleted from, on any scale.
    uint32_t probability_count; // L, or 0: all equal
    double probabilities[LIMIT_SLICES];
};

// The defaults of the table: learner mlp, hidden 128, shards 8, slices 4, ...
struct spec spec_default(void);

// Sets one key from text. Lists may be written "64,32" or "[64, 32]".
//   ERR_INVALID  unknown key (the message names the nearest known one), or a value out of its
//                range ("shards is 0, expected 1 to 4096"). *spec is unchanged.
MUST_USE enum err spec_set(struct spec *spec, const char *key, const char *value);

// Checks what one key alone cannot tell: gradient_chunks <= batch, B <= L!, for bms B <= L and
// L <= LIMIT_BMS_SLICES, S * L * B within LIMIT_COMPONENTS, slice_probabilities one for each of L
// slices and not all 0, the ranges of risk within S and L. ERR_INVALID says which.
MUST_USE enum err spec_check(const struct spec *spec);

// The canonical text. Two specs are the same model exactly when these bytes are equal.
void spec_put(const struct spec *spec, struct buf *text_out);
// Reads canonical text and nothing else: every key once, in order, then spec_check.
//   ERR_INVALID  otherwise; *spec_out is unspecified.
MUST_USE enum err spec_get(struct span text, struct spec *spec_out);

// True when each stage makes `epochs` passes (vit, text); else SISA's share of them.
bool spec_passes_each(const struct spec *spec);
// True when the spec names a base.
bool spec_has_base(const struct spec *spec);

struct digest spec_digest(const struct spec *spec); // Domain "unlearnd-spec" over the text.

// For help texts: calls `each` for every key in order with a one-line description of its values
// and its default.
void spec_each(void (*each)(void *context, const char *key, const char *values,
                            const char *fallback),
               void *context);
