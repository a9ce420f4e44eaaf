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

// Rows given to a learner at once. Arrays are aligned to 64 bytes; borrowed.
struct stage_rows {
    const float *x;           // float32[count][input width]
    const float *y;           // float32[count]: class index or number; NULL when predicting
    const struct id128 *rids; // [count]; NULL when predicting
    uint32_t count;           // 1 ..
    uint32_t pass;            // From 0.
};

struct learner {
    const char *name;

    // Checks that spec and schema fit and tells the number of weights, constants not included.
    // ERR_INVALID, ERR_LIMIT: as learner_param_count.
    enum err (*weight_count)(const struct spec *spec, const struct schema *schema,
                             uint64_t *count_out);

    // Writes the weights that training starts from.
    void (*init)(const struct stage *stage, float *weights_out);

    // Makes memory for up to rows_max rows. `stage` is NULL for predictions, else borrowed until
    // work_free. ERR_LIMIT: not enough memory; *work_out is NULL then.
    enum err (*work_new)(const struct spec *spec, const struct schema *schema,
                         const struct stage *stage, uint32_t rows_max, void **work_out);
    void (*work_free)(void *work); // Accepts NULL.

    // Writes the sum over the rows of the gradient of their losses. The sum of the losses goes to
    // *loss_out unless NULL.
    void (*gradient)(void *work, const float *weights, const struct stage_rows *rows,
                     float *gradient_out, double *loss_out);

    // Writes float32[count][output width]: logits, or the (standardised) number.
    void (*forward)(void *work, const float *weights, const struct stage_rows *rows,
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
