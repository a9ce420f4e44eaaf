// model/learner.h: training one stage and predicting with one component, as pure functions.
//
// bits(component) = F(name, spec, seed, schema, records now in its slices, numeric profile): no
// clock, no arrival order, no thread count enters. Every learner is one row of a table (learner.c)
// and one file; the loop over passes, batches and gradient chunks (stage.c) is shared.
//
// A component's parameters are one array of float32: the constants of the schema (see schema.h),
// then the learner's weights in its declared order (dense.c: for each layer W[out][in], b[out]). How
// many there are may depend on the length of the component's list: LoRA learners add a block of
// adapters with each slice. A stage trains the last of its weights, or all of them; the others are
// the parent's, bit for bit.
//
// Pieces. A long text is cut into windows, each a row of its own for order and batches: a learner
// tells how many pieces a record has, 1 for most.
//
// Passes. In each pass the pieces of the records seen are sorted by Philox(seed, shard, list, pass,
// rid, piece), ties by rid and piece, and cut into batches of spec.batch rows, the last one shorter. A batch
// of n rows is cut into C chunks, chunk c = rows floor(c*n/C) .. floor((c+1)*n/C)-1; chunks hold
// sums, empty ones are skipped, a fixed binary tree over the chunk index adds them, the total is
// divided once by n (text: by the predicted tokens of the batch). The optimiser starts fresh in each stage.
//
// Source    Bourtoule et al., "Machine Unlearning" (SISA), IEEE S&P 2021: slicing and epochs.
//           Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019: adamw.
// Threads   Any; BLAS must be pinned first (profile.h).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "model/base.h"
#include "model/schema.h"
#include "model/spec.h"

// What a model computes by. Borrowed and constant.
struct recipe {
    const struct spec *spec;
    const struct schema *schema;
    const struct base *base; // That spec->base names; NULL where it names none.
};

// What to train: component `shard:[list]` of a model.
struct stage {
    struct recipe recipe;
    uint32_t shard;
    const uint16_t *list; // Slices seen, in order; borrowed.
    uint32_t list_count;  // 1 ..
    uint32_t passes;      // Passes of this stage (scheduler/epochs.h).
};

// The records of the slices of the list, in the order of the list, within a slice in the order of
// the store (sid, rid). Borrowed.
struct stage_data {
    const struct span *rows;     // [count], checked by schema_check_row
    const struct id128 *rids;    // [count]
    const uint64_t *slice_count; // [list_count] rows of each slice; their sum is count
    uint64_t count;              // 1 ..
};

// Called between steps with the samples done so far and in all. Returning false stops the stage.
struct stage_watch {
    bool (*step)(void *context, uint64_t done, uint64_t total);
    void *context;
};

// How the members of a group train one stage together: each computes the sums of its own chunks of
// a batch, and partners exchange them along the same tree that one process would use.
//
// With m members (a power of two, 2 .. gradient_chunks), member i computes the aligned subtree of the
// chunks i*C/m .. (i+1)*C/m - 1. Then, for k = 1, 2, 4 .. m/2, member i and its partner i^k exchange
// the sums that they hold, and both add left + right in the order of the chunks: so each member ends
// each batch with the same bits, which are those of one process. All members give the same stage,
// data and parent.
struct stage_peers {
    uint32_t count; // m
    uint32_t index; // i: 0 .. m-1
    // Sends `mine` to the partner and receives `theirs_out` from it, float32[count] each. NULL: that
    // side holds no sum, since its chunks are empty; the partner knows it too, so nothing is sent.
    // Never both NULL. Does not change `mine`. An error ends the stage and is returned.
    enum err (*exchange)(void *context, uint32_t partner, const float *mine, float *theirs_out,
                         uint64_t count);
    void *context;
};

// True when a learner of this name exists.
bool learner_known(const char *name);
// "softmax, mlp": for messages. Static storage.
const char *learner_names(void);

// Checks that spec, schema and base fit each other and tells the number of float32 of a component
// whose list has `list_count` entries (1 ..). Of the base only the shape is looked at.
//   ERR_INVALID  the learner cannot learn this schema (a text column, no label, ...) or on this base;
//                or no block of layers is left for a list as long as that.
//   ERR_LIMIT    more than LIMIT_PARAM_COUNT.
MUST_USE enum err learner_param_count(const struct recipe *recipe, uint32_t list_count,
                                      uint64_t *count_out);

// Trains one stage.
//
//   parent      float32[its param count] of the component named by the list without its last entry,
//               or NULL where the list has one entry or the parent is empty: then constants come
//               from the first slice of the list that has records and weights from Philox.
//   watch       may be NULL.
//   params_out  float32[param count], 64-byte aligned; unspecified on error.
//   ERR_CANCELLED  watch said so.   ERR_LIMIT  not enough memory.   ERR_INVALID as above.
//   ERR_CORRUPT    the weights became infinite or NaN: the message proposes a smaller rate.
MUST_USE enum err stage_train(const struct stage *stage, const struct stage_data *data,
                              const float *parent, const struct stage_watch *watch,
                              float *params_out);

// The same as one member of a group; `peers` NULL: alone. More errors: those of peers->exchange.
MUST_USE enum err stage_train_shared(const struct stage *stage, const struct stage_data *data,
                                     const float *parent, const struct stage_watch *watch,
                                     const struct stage_peers *peers, float *params_out);

// Values of one prediction: classes, 1 for a number, BASE_BYTES + 1 for a text (its next byte, or the
// end as the last one).
uint32_t learner_output_width(const struct recipe *recipe);
// True when the outputs are logits of classes, false when they are a number.
bool learner_predicts_classes(const struct recipe *recipe);

// Predicts rows with one component whose list has `list_count` entries:
// outputs_out float32[row_count][learner_output_width], logits of the classes or of what follows the
// text, or the number in its own unit. Rows must have been checked; their labels are not looked at.
//   ERR_INVALID  a text longer than the base's context.   ERR_LIMIT  not enough memory.
MUST_USE enum err learner_predict(const struct recipe *recipe, uint32_t list_count,
                                  const float *params, const struct span *rows, size_t row_count,
                                  float *outputs_out);

// Checks what learner_predict says of rows, before anything is computed. ERR_INVALID: "row 3: ...".
MUST_USE enum err learner_check_prompts(const struct recipe *recipe, const struct span *rows,
                                        size_t row_count);

// True for learners of texts: they score.
bool learner_scores(const struct recipe *recipe);

// Scoring: what probability a text learner gives to each byte of a row and to its end, given what
// stands before it in its window. 0 for learners that do not score.
uint64_t learner_score_count(const struct recipe *recipe, struct span row);
// outputs_out: the probabilities of all rows, one after the other.
//   ERR_INVALID  the learner does not score.   ERR_LIMIT  not enough memory.
MUST_USE enum err learner_score(const struct recipe *recipe, uint32_t list_count,
                                const float *params, const struct span *rows, size_t row_count,
                                float *outputs_out);

// A part of what learner_score gives for many rows or a long one: the values from .. from + count - 1,
// which are whole pieces.
struct score_part {
    uint64_t from, count;
    bool more; // Values follow.
};
// The part that begins at `from` and has as many pieces as make at most values_max values, but one at
// least.
//   ERR_INVALID  no piece begins at `from`, or all values stand before it; the learner does not score.
MUST_USE enum err learner_score_part(const struct recipe *recipe, const struct span *rows,
                                     size_t row_count, uint64_t from, uint64_t values_max,
                                     struct score_part *part_out);
// outputs_out: float32[part->count]. Errors: learner_score's.
MUST_USE enum err learner_score_some(const struct recipe *recipe, uint32_t list_count,
                                     const float *params, const struct span *rows, size_t row_count,
                                     const struct score_part *part, float *outputs_out);

// What a component is to others where its learner trains all weights of a transformer from nothing: a
// base to stand on. `params` may be NULL: the shape alone is asked for. *weights_out is borrowed from
// it, float32[base_at(shape_out).count] in the order of model/base.h.
//   ERR_INVALID  the learner trains no transformer, or stands on a base itself; or as
//                learner_param_count.
MUST_USE enum err learner_base(const struct recipe *recipe, const float *params,
                               struct base_shape *shape_out, const float **weights_out);

// The digest that names a component's content: domain "unlearnd-comp" over component name text
// ("s3:[2,0,1]"), spec digest, schema digest, the base's digest where there is one, parameters as
// little-endian float32.
struct digest component_digest(const char *name, const struct digest *spec,
                               const struct digest *schema, const struct base *base,
                               const float *params, uint64_t count);
