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

enum err learner_param_count(const struct recipe *recipe, uint32_t list_count, uint64_t *count_out)
{
    const struct learner *const learner = learner_find(recipe->spec->learner);
    if (learner == NULL) {
        FAIL(ERR_INVALID, "learner is %.15s, expected one of %s", recipe->spec->learner,
             learner_names());
    }
    CHECK(list_count > 0);
    uint64_t weights = 0;
    TRY(learner->weight_count(recipe, list_count, &weights));
    const uint64_t count = weights + 2 * (uint64_t)schema_constant_count(recipe->schema);
    if (count > LIMIT_PARAM_COUNT) {
        FAIL(ERR_LIMIT, "learner %s would have %llu parameters, expected at most %d", learner->name,
             (unsigned long long)count, (int)LIMIT_PARAM_COUNT);
    }
    *count_out = count;
    return OK;
}

// The learner of a spec, which has been checked.
static const struct learner *learner_of(const struct recipe *recipe)
{
    const struct learner *const learner = learner_find(recipe->spec->learner);
    CHECK(learner != NULL);
    return learner;
}

uint32_t learner_output_width(const struct recipe *recipe)
{
    const struct learner *const learner = learner_of(recipe);
    return learner->output_width == NULL ? schema_output_width(recipe->schema)
                                         : learner->output_width(recipe);
}

bool learner_predicts_classes(const struct recipe *recipe)
{
    const struct learner *const learner = learner_of(recipe);
    return learner->output_width != NULL || recipe->schema->task == TASK_CLASSES;
}

enum err learner_base(const struct recipe *recipe, const float *params,
                      struct base_shape *shape_out, const float **weights_out)
{
    uint64_t count = 0;
    TRY(learner_param_count(recipe, 1, &count));
    const struct learner *const learner = learner_of(recipe);
    const uint64_t constants = 2 * (uint64_t)schema_constant_count(recipe->schema);
    if (learner->base_shape == NULL || recipe->base != NULL) {
        FAIL(ERR_INVALID, "learner %s %s: a base comes of vit or text with base: none",
             learner->name,
             recipe->base != NULL ? "stands on a base here" : "trains no transformer");
    }
    TRY(learner->base_shape(recipe, shape_out));
    CHECK(constants + base_at(shape_out).count <= count);
    *weights_out = params == NULL ? NULL : params + constants;
    return OK;
}

// --- Predict ---

struct prediction {
    const struct learner *learner;
    const struct recipe *recipe;
    const float *params;
    uint32_t rows_max; // At once.
    uint32_t input_width;
    float *x;   // [rows_max][input_width], or NULL. Owned.
    void *work; // The learner's.
};

static enum err prediction_begin(struct prediction *p, uint32_t list_count, uint64_t row_count)
{
    const uint32_t most = p->learner->predict_rows_max == NULL
                              ? PREDICT_ROWS
                              : p->learner->predict_rows_max(p->recipe);
    p->rows_max = row_count < most ? (uint32_t)row_count : most;
    if (!p->learner->takes_rows) {
        TRY(schema_input_width(p->recipe->schema, p->learner->name, &p->input_width));
        TRY(mem_try_aligned((size_t)p->rows_max * p->input_width, sizeof *p->x, &p->x));
    }
    return p->learner->work_new(p->recipe, list_count, NULL, NULL, p->rows_max, &p->work);
}

static void prediction_end(struct prediction *p)
{
    p->learner->work_free(p->work);
    mem_free(p->x);
}

static const float *weights_of(const struct prediction *p)
{
    return p->params + 2 * (size_t)schema_constant_count(p->recipe->schema);
}

// Turns standardised numbers back into their own unit.
static void restore_unit(const struct prediction *p, float *outputs, size_t count)
{
    const struct schema *const schema = p->recipe->schema;
    if (schema->task != TASK_NUMBER || !schema->label_standardise) {
        return;
    }
    const float *const constant = weights_of(p) - 2;
    for (size_t i = 0; i < count; i++) {
        outputs[i] = outputs[i] * constant[1] + constant[0];
    }
}

static void predict_block(const struct prediction *p, const struct span *rows, uint32_t row_count,
                          float *outputs_out)
{
    static const uint32_t first_pieces[PREDICT_ROWS] = {0};
    CHECK(row_count <= PREDICT_ROWS);
    struct stage_rows block = {.x = p->x, .count = row_count};
    if (p->learner->takes_rows) {
        block.rows = rows;
        block.pieces = first_pieces;
    } else {
        for (uint32_t i = 0; i < row_count; i++) {
            schema_expand(p->recipe->schema, p->params, rows[i], p->x + (size_t)i * p->input_width,
                          NULL);
        }
    }
    p->learner->forward(p->work, weights_of(p), &block, outputs_out);
    restore_unit(p, outputs_out, row_count);
}

enum err learner_check_prompts(const struct recipe *recipe, const struct span *rows,
                               size_t row_count)
{
    const struct learner *const learner = learner_of(recipe);
    for (size_t i = 0; learner->check_prompt != NULL && i < row_count; i++) {
        TRY_AS(learner->check_prompt(recipe, rows[i]), "row %zu", i);
    }
    return OK;
}

enum err learner_predict(const struct recipe *recipe, uint32_t list_count, const float *params,
                         const struct span *rows, size_t row_count, float *outputs_out)
{
    uint64_t param_count = 0;
    TRY(learner_param_count(recipe, list_count, &param_count));
    if (row_count == 0) {
        return OK;
    }
    struct prediction p = {.learner = learner_of(recipe), .recipe = recipe, .params = params};
    TRY(learner_check_prompts(recipe, rows, row_count));
    const enum err err = prediction_begin(&p, list_count, row_count);
    const size_t width = learner_output_width(recipe);
    for (size_t at = 0; err == OK && at < row_count; at += p.rows_max) {
        const size_t left = row_count - at;
        predict_block(&p, rows + at, left < p.rows_max ? (uint32_t)left : p.rows_max,
                      outputs_out + at * width);
    }
    prediction_end(&p);
    return err;
}

// --- Score ---

uint64_t learner_score_count(const struct recipe *recipe, struct span row)
{
    const struct learner *const learner = learner_of(recipe);
    return learner->score_count == NULL ? 0 : learner->score_count(recipe, row);
}

bool learner_scores(const struct recipe *recipe)
{
    return learner_of(recipe)->score != NULL;
}

static enum err check_scores(const struct recipe *recipe)
{
    if (!learner_scores(recipe)) {
        FAIL(ERR_INVALID, "learner %s does not score texts", recipe->spec->learner);
    }
    return OK;
}

// The pieces of all rows, one after the other; each row has one at least.
struct walk {
    const struct recipe *recipe;
    const struct span *rows;
    size_t row_count;
    size_t row;           // Of the current piece; row_count after the last.
    uint32_t piece;       // The current one of the row's
    uint32_t piece_count; // ... so many.
    uint64_t units;       // Its values; 0 after the last.
    uint64_t from;        // Values of all pieces before it.
};

static void walk_look(struct walk *walk)
{
    const struct learner *const learner = learner_of(walk->recipe);
    walk->units = 0;
    if (walk->row == walk->row_count) {
        return;
    }
    const struct span row = walk->rows[walk->row];
    if (walk->piece == 0) {
        walk->piece_count =
            learner->piece_count == NULL ? 1 : learner->piece_count(walk->recipe, row);
    }
    walk->units = learner->unit_count(walk->recipe, row, walk->piece);
    CHECK(walk->units > 0);
}

static struct walk walk_begin(const struct recipe *recipe, const struct span *rows,
                              size_t row_count)
{
    struct walk walk = {.recipe = recipe, .rows = rows, .row_count = row_count};
    walk_look(&walk);
    return walk;
}

static void walk_next(struct walk *walk)
{
    walk->from += walk->units;
    if (++walk->piece == walk->piece_count) {
        walk->piece = 0;
        walk->row++;
    }
    walk_look(walk);
}

enum err learner_score_part(const struct recipe *recipe, const struct span *rows, size_t row_count,
                            uint64_t from, uint64_t values_max, struct score_part *part_out)
{
    TRY(check_scores(recipe));
    struct walk walk = walk_begin(recipe, rows, row_count);
    while (walk.units > 0 && walk.from < from) {
        walk_next(&walk);
    }
    if (walk.units == 0) {
        FAIL(ERR_INVALID, "scores from value %llu on, expected one below %llu",
             (unsigned long long)from, (unsigned long long)walk.from);
    }
    if (walk.from != from) {
        FAIL(ERR_INVALID, "no window of the texts begins at value %llu, the next one at %llu",
             (unsigned long long)from, (unsigned long long)walk.from);
    }
    *part_out = (struct score_part){.from = from, .count = walk.units};
    for (walk_next(&walk); walk.units > 0 && part_out->count + walk.units <= values_max;) {
        part_out->count += walk.units;
        walk_next(&walk);
    }
    part_out->more = walk.units > 0;
    return OK;
}

static void score_pieces(const struct prediction *p, struct walk walk,
                         const struct score_part *part, float *outputs_out)
{
    while (walk.units > 0 && walk.from < part->from) {
        walk_next(&walk);
    }
    for (; walk.units > 0 && walk.from < part->from + part->count; walk_next(&walk)) {
        const struct stage_rows one = {
            .rows = &walk.rows[walk.row], .pieces = &walk.piece, .count = 1};
        p->learner->score(p->work, weights_of(p), &one, outputs_out + (walk.from - part->from));
    }
}

enum err learner_score_some(const struct recipe *recipe, uint32_t list_count, const float *params,
                            const struct span *rows, size_t row_count,
                            const struct score_part *part, float *outputs_out)
{
    uint64_t param_count = 0;
    TRY(learner_param_count(recipe, list_count, &param_count));
    TRY(check_scores(recipe));
    struct prediction p = {.learner = learner_of(recipe), .recipe = recipe, .params = params};
    const enum err err = prediction_begin(&p, list_count, 1);
    if (err == OK) {
        score_pieces(&p, walk_begin(recipe, rows, row_count), part, outputs_out);
    }
    prediction_end(&p);
    return err;
}

enum err learner_score(const struct recipe *recipe, uint32_t list_count, const float *params,
                       const struct span *rows, size_t row_count, float *outputs_out)
{
    const struct score_part all = {.count = UINT64_MAX};
    return learner_score_some(recipe, list_count, params, rows, row_count, &all, outputs_out);
}

struct digest component_digest(const char *name, const struct digest *spec,
                               const struct digest *schema, const struct base *base,
                               const float *params, uint64_t count)
{
    struct span parts[5];
    size_t used = 0;
    parts[used++] = span_text(name);
    parts[used++] = span_of(spec->bytes, sizeof spec->bytes);
    parts[used++] = span_of(schema->bytes, sizeof schema->bytes);
    if (base != NULL) {
        parts[used++] = span_of(base->digest.bytes, sizeof base->digest.bytes);
    }
    parts[used++] = span_of(params, count * sizeof *params);
    return digest_of("unlearnd-comp", parts, used);
}
