// model/learner.c: see learner.h: the table of learners, prediction and the name of a component's
// content. Training is in stage.c, each learner's arithmetic in a file of its own.
#include "model/learner.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/stage.h"

#define LEARNER(name) &learner_##name,
static const struct learner *const learners[] = {
#include "model/learner_list.h"
    NULL};
enum {
    PREDICT_ROWS = 256, // Rows predicted at once: large enough for BLAS, small enough for memory.
};

const struct learner *learner_find(const char *name)
{
    for (size_t i = 0; learners[i] != NULL; i++) {
        if (strcmp(learners[i]->name, name) == 0) {
            return learners[i];
        }
    }
    return NULL;
}

bool learner_known(const char *name)
{
    return learner_find(name) != NULL;
}

const char *learner_names(void)
{
#define LEARNER(name) ", " #name
    static const char names[] =
#include "model/learner_list.h"
        ;
    return names + 2;
}

enum err learner_param_count(const struct spec *spec, const struct schema *schema,
                             uint64_t *count_out)
{
    const struct learner *const learner = learner_find(spec->learner);
    if (learner == NULL) {
        FAIL(ERR_INVALID, "learner is %.15s, expected one of %s", spec->learner, learner_names());
    }
    uint64_t weights = 0;
    TRY(learner->weight_count(spec, schema, &weights));
    const uint64_t count = weights + 2 * (uint64_t)schema_constant_count(schema);
    if (count > LIMIT_PARAM_COUNT) {
        FAIL(ERR_LIMIT, "learner %s would have %llu parameters, expected at most %d", learner->name,
             (unsigned long long)count, (int)LIMIT_PARAM_COUNT);
    }
    *count_out = count;
    return OK;
}

// --- Predict ---

struct prediction {
    const struct learner *learner;
    const struct schema *schema;
    const float *params;
    uint32_t input_width;
    float *x;   // [PREDICT_ROWS][input_width]. Owned.
    void *work; // The learner's.
};

// Turns standardised numbers back into their own unit.
static void restore_unit(const struct prediction *p, float *outputs, size_t count)
{
    if (p->schema->task != TASK_NUMBER || !p->schema->label_standardise) {
        return;
    }
    const float *const constant = p->params + 2 * (size_t)schema_constant_count(p->schema) - 2;
    for (size_t i = 0; i < count; i++) {
        outputs[i] = outputs[i] * constant[1] + constant[0];
    }
}

static void predict_block(const struct prediction *p, const struct span *rows, size_t row_count,
                          float *outputs_out)
{
    for (size_t i = 0; i < row_count; i++) {
        schema_expand(p->schema, p->params, rows[i], p->x + i * p->input_width, NULL);
    }
    const struct stage_rows block = {.x = p->x, .count = (uint32_t)row_count};
    const float *const weights = p->params + 2 * (size_t)schema_constant_count(p->schema);
    p->learner->forward(p->work, weights, &block, outputs_out);
    restore_unit(p, outputs_out, row_count);
}

static enum err predict_in(struct prediction *p, const struct spec *spec, const struct span *rows,
                           size_t row_count, float *outputs_out)
{
    const size_t most = row_count < PREDICT_ROWS ? row_count : PREDICT_ROWS;
    TRY(mem_try_aligned(most * p->input_width, sizeof *p->x, &p->x));
    TRY(p->learner->work_new(spec, p->schema, NULL, (uint32_t)most, &p->work));
    for (size_t at = 0; at < row_count; at += most) {
        const size_t left = row_count - at;
        predict_block(p, rows + at, left < most ? left : most,
                      outputs_out + at * schema_output_width(p->schema));
    }
    return OK;
}

enum err learner_predict(const struct spec *spec, const struct schema *schema, const float *params,
                         const struct span *rows, size_t row_count, float *outputs_out)
{
    uint64_t param_count = 0;
    TRY(learner_param_count(spec, schema, &param_count));
    if (row_count == 0) {
        return OK;
    }
    struct prediction p = {
        .learner = learner_find(spec->learner), .schema = schema, .params = params};
    TRY(schema_input_width(schema, spec->learner, &p.input_width));
    const enum err err = predict_in(&p, spec, rows, row_count, outputs_out);
    p.learner->work_free(p.work);
    mem_free(p.x);
    return err;
}

struct digest component_digest(const char *name, const struct digest *spec,
                               const struct digest *schema, const float *params, uint64_t count)
{
    const struct span parts[] = {
        span_text(name),
        span_of(spec->bytes, sizeof spec->bytes),
        span_of(schema->bytes, sizeof schema->bytes),
        span_of(params, count * sizeof *params),
    };
    return digest_of("unlearnd-comp", parts, sizeof parts / sizeof *parts);
}
