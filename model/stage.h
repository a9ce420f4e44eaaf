// model/stage.h: what a learner gives to the shared training loop (stage.c), and the keys of its
// random draws.
//
// Inside model/ only; the rest of the project includes learner.h.
//
// A learner that trains by gradient steps is one constant of this struct, `learner_<name>`, and
// one line in learner_list.h. Its weights are one run of float32; `work` is the memory it computes
// in, made once for a stage or a prediction, so that no step allocates.
#pragma once

#include "base/rng.h"
#include "model/learner.h"

// Rows given to a learner at once: records, or pieces of them. Arrays are aligned to 64 bytes;
// borrowed.
struct stage_rows {
    const float *x;           // float32[count][input width]; NULL for a learner that takes_rows
    const float *y;           // float32[count]: class index or number; NULL when predicting, and so
    const struct id128 *rids; // [count]
    uint32_t count;           // 1 ..
    uint32_t pass;            // From 0.
    // For a learner that takes_rows, else NULL.
    const struct span *rows; // [count] as stored, checked
    const uint32_t *pieces;  // [count]: which piece of its record a row is
    const uint64_t *indices; // [count]: its record in the stage's data; NULL when predicting
};

struct learner {
    const char *name;

    // True: rows come as stored, in stage_rows.rows. False: expanded by the schema, in stage_rows.x.
    bool takes_rows;

    // Checks that the recipe's parts fit and tells the number of weights of a component whose list
    // has list_count entries, constants not included. ERR_INVALID, ERR_LIMIT: as
    // learner_param_count; the functions below are called only where this gave OK.
    enum err (*weight_count)(const struct recipe *recipe, uint32_t list_count, uint64_t *count_out);

    // How many of them, the last ones, the component's own stage trains. NULL: all.
    uint64_t (*trained_count)(const struct recipe *recipe, uint32_t list_count);

    // Writes the weights that training starts from, given the parent's or NULL. Those that are not
    // trained are the parent's.
    void (*init)(const struct stage *stage, const float *parent, float *weights_out);

    // Pieces that a row is cut into, 1 ..; and what a piece counts, 1 .., in the number that the sum
    // of a batch is divided by. NULL: 1.
    uint32_t (*piece_count)(const struct recipe *recipe, struct span row);
    uint32_t (*unit_count)(const struct recipe *recipe, struct span row, uint32_t piece);

    // Makes memory for up to rows_max rows, to train `stage` on `data`, both borrowed until
    // work_free, or, where these are NULL, to predict with a component whose list has list_count
    // entries. ERR_LIMIT: not enough memory; *work_out is NULL then.
    enum err (*work_new)(const struct recipe *recipe, uint32_t list_count,
                         const struct stage *stage, const struct stage_data *data,
                         uint32_t rows_max, void **work_out);
    void (*work_free)(void *work); // Accepts NULL.

    // Writes the sum over the rows of the gradient of their losses by the trained weights. The sum
    // of the losses goes to *loss_out unless NULL.
    void (*gradient)(void *work, const float *weights, const struct stage_rows *rows,
                     float *gradient_out, double *loss_out);

    // Writes float32[count][output width]: logits, or the (standardised) number.
    void (*forward)(void *work, const float *weights, const struct stage_rows *rows,
                    float *outputs_out);

    // Most rows predicted at once. NULL: PREDICT_ROWS of learner.c.
    uint32_t (*predict_rows_max)(const struct recipe *recipe);

    // The shape of the base that a component is where the spec names none: the first
    // base_at(shape_out).count of its weights are the base's. ERR_INVALID: as weight_count. NULL: the
    // learner trains no transformer.
    enum err (*base_shape)(const struct recipe *recipe, struct base_shape *shape_out);

    // What is not answered by the schema's label: NULL for all but text.
    uint32_t (*output_width)(const struct recipe *recipe);                  // Of logits.
    enum err (*check_prompt)(const struct recipe *recipe, struct span row); // As learner_predict.
    // Values of learner_score for one row, and those of a piece of each row, packed.
    uint64_t (*score_count)(const struct recipe *recipe, struct span row);
    void (*score)(void *work, const float *weights, const struct stage_rows *rows,
                  float *outputs_out);
};

#define LEARNER(name) extern const struct learner learner_##name;
#include "model/learner_list.h"

// NULL: no learner of this name.
const struct learner *learner_find(const char *name);

// Writes what every draw of a stage belongs to: u64 seed, u32 shard, u16 list_count, u16 each.
void stage_put_name(const struct stage *stage, struct buf *out);

// The key of a draw that belongs to the stage and one number: the pass for "unlearnd-order", the
// layer for "unlearnd-init".
struct rng_key stage_key(const struct stage *stage, const char *domain, uint32_t number);

// A stage whose expanded rows take at most this many bytes expands them once; else each chunk is
// expanded whenever it is trained on, to the same bits. A variable for tests only.
extern uint64_t stage_expanded_bytes_max;
