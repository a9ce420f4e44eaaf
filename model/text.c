// model/text.c: what comes next in a text: a causal transformer over bytes.
//
// A record is cut into windows (window.h), each a piece of its own. The head is linear without a
// bias: row i predicts byte i, the last row the end. On a base each stage goes on with its parent's
// head; the first one is the base's token rows, through which a base that was trained here
// predicts: so training starts from what the base knows. Without a base the head is the token rows
// themselves (tied).
//
// Weights: what stands before the head (backbone.h), then on a base the head W[257][d].
#include "base/check.h"
#include "base/mem.h"
#include "model/backbone.h"
#include "model/blas.h"
#include "model/elem.h"
#include "model/loss.h"
#include "model/vec.h"
#include "model/window.h"

struct text {
    const struct recipe *recipe;
    struct backbone *backbone; // Owned.
    struct base_shape shape;
    uint64_t body_count, frozen_count;
    bool tied;
    uint32_t column;
    // N: tokens of a step at most. Owned.
    uint16_t *next; // [N]
    float *logits;  // [N][257], then d loss / d logits
    float *dy;      // [N][d]
    float *head;    // tied: [257][d], the token rows one after the other
    float *dhead;   // tied: [257][d]
};

// --- Sizes ---

static enum err weight_count(const struct recipe *recipe, uint32_t list_count, uint64_t *count_out)
{
    struct backbone_plan plan;
    TRY(backbone_plan(recipe, BASE_TEXT, list_count, &plan));
    *count_out = plan.body_count + (plan.on_base ? (uint64_t)WINDOW_OUTPUTS * plan.shape.width : 0);
    return OK;
}

static enum err base_shape(const struct recipe *recipe, struct base_shape *shape_out)
{
    struct backbone_plan plan;
    TRY(backbone_plan(recipe, BASE_TEXT, 1, &plan));
    *shape_out = plan.shape;
    return OK;
}

static struct backbone_plan plan_of(const struct recipe *recipe, uint32_t list_count)
{
    struct backbone_plan plan;
    CHECK(backbone_plan(recipe, BASE_TEXT, list_count, &plan) == OK); // weight_count said so.
    return plan;
}

static uint64_t trained_count(const struct recipe *recipe, uint32_t list_count)
{
    uint64_t count = 0;
    CHECK(weight_count(recipe, list_count, &count) == OK);
    return count - plan_of(recipe, list_count).frozen_count;
}

static struct span text_of(const struct recipe *recipe, struct span row)
{
    return schema_value(recipe->schema, row, backbone_column(recipe->schema, BASE_TEXT));
}

// Looked up often: without the checks of a plan.
static uint32_t context_of(const struct recipe *recipe)
{
    return recipe->base != NULL ? recipe->base->shape.context : recipe->spec->context;
}

static uint32_t piece_count(const struct recipe *recipe, struct span row)
{
    return window_count(context_of(recipe), text_of(recipe, row).bytes);
}

static uint32_t unit_count(const struct recipe *recipe, struct span row, uint32_t piece)
{
    return window_length(context_of(recipe), text_of(recipe, row).bytes, piece);
}

static uint64_t score_count(const struct recipe *recipe, struct span row)
{
    return (uint64_t)text_of(recipe, row).bytes + 1; // Each byte, and the end.
}

static uint32_t output_width(const struct recipe *recipe)
{
    (void)recipe;
    return WINDOW_OUTPUTS;
}

static uint32_t predict_rows_max(const struct recipe *recipe)
{
    const struct backbone_plan plan = plan_of(recipe, 1);
    return backbone_predict_rows(&plan);
}

static enum err check_prompt(const struct recipe *recipe, struct span row)
{
    const size_t bytes = text_of(recipe, row).bytes;
    const uint32_t context = context_of(recipe);
    if (bytes + 1 > context) {
        FAIL(ERR_INVALID, "a text of %zu bytes, expected at most %u, which the model can look at",
             bytes, context - 1);
    }
    return OK;
}

// --- Start ---

// Row `output` of the head among the token rows of a base.
static const float *token_row(const struct base_shape *shape, const float *weights, uint32_t output)
{
    const uint64_t token = output < BASE_BYTES ? output : BASE_EOS;
    return weights + base_at(shape).tokens + token * shape->width;
}

static void copy_token_rows(const struct base_shape *shape, const float *weights, float *head_out)
{
    for (uint32_t i = 0; i < WINDOW_OUTPUTS; i++) {
        memcpy(head_out + (size_t)i * shape->width, token_row(shape, weights, i),
               shape->width * sizeof *head_out);
    }
}

static void init(const struct stage *stage, const float *parent, float *weights_out)
{
    const struct backbone_plan plan = plan_of(&stage->recipe, stage->list_count);
    const uint64_t d = plan.shape.width;
    backbone_init(&plan, stage, parent, weights_out);
    float *const head = weights_out + plan.body_count;
    if (plan.on_base && parent != NULL) {
        memcpy(head, parent + backbone_parent_body(&plan), WINDOW_OUTPUTS * d * sizeof *head);
    } else if (plan.on_base) {
        copy_token_rows(&plan.shape, stage->recipe.base->weights, head);
    }
}

static void work_free(void *work)
{
    struct text *const text = work;
    if (text != NULL) {
        backbone_free(text->backbone);
        mem_free(text->next);
        mem_free(text->logits);
        mem_free(text->dy);
        mem_free(text->head);
        mem_free(text->dhead);
        mem_free(text);
    }
}

static enum err take_memory(struct text *text, const struct backbone_plan *plan,
                            const struct stage *stage, const struct stage_data *data,
                            uint32_t rows_max)
{
    const size_t d = text->shape.width;
    TRY(backbone_new(text->recipe, plan, stage, data, rows_max, &text->backbone));
    const size_t n = backbone_tokens_max(text->backbone);
    TRY(mem_try_aligned(n, sizeof *text->next, &text->next));
    TRY(mem_try_aligned(n * WINDOW_OUTPUTS, sizeof *text->logits, &text->logits));
    TRY(mem_try_aligned(n * d, sizeof *text->dy, &text->dy));
    if (text->tied) {
        TRY(mem_try_aligned(WINDOW_OUTPUTS * d, sizeof *text->head, &text->head));
        TRY(mem_try_aligned(WINDOW_OUTPUTS * d, sizeof *text->dhead, &text->dhead));
    }
    return OK;
}

static enum err work_new(const struct recipe *recipe, uint32_t list_count,
                         const struct stage *stage, const struct stage_data *data,
                         uint32_t rows_max, void **work_out)
{
    const struct backbone_plan plan = plan_of(recipe, list_count);
    struct text *text = mem_alloc(1, sizeof *text);
    text->recipe = recipe;
    text->shape = plan.shape;
    text->body_count = plan.body_count;
    text->frozen_count = plan.frozen_count;
    text->tied = !plan.on_base;
    text->column = backbone_column(recipe->schema, BASE_TEXT);
    const enum err err = take_memory(text, &plan, stage, data, rows_max);
    if (err != OK) {
        work_free(text);
        text = NULL;
    }
    *work_out = text;
    return err;
}

// --- Training ---

static const float *head_of(struct text *text, const float *weights)
{
    if (!text->tied) {
        return weights + text->body_count;
    }
    copy_token_rows(&text->shape, weights, text->head);
    return text->head;
}

// Finds what follows each token of the rows.
static void find_next(struct text *text, const struct stage_rows *rows)
{
    const uint32_t *const offsets = backbone_offsets(text->backbone);
    for (uint32_t i = 0; i < rows->count; i++) {
        window_tokens(text->shape.context,
                      schema_value(text->recipe->schema, rows->rows[i], text->column),
                      rows->pieces[i], NULL, text->next + offsets[i]);
    }
}

// Turns the logits of n tokens into d loss / d logits.
static double loss_tokens(struct text *text, size_t n)
{
    double loss = 0;
    for (size_t i = 0; i < n; i++) {
        float *const logits = text->logits + i * WINDOW_OUTPUTS;
        loss += loss_softmax(logits, WINDOW_OUTPUTS, text->next[i], logits);
    }
    return loss;
}

static void add_to_token_rows(const struct text *text, float *gradient)
{
    const size_t d = text->shape.width;
    float *const tokens = gradient + base_at(&text->shape).tokens;
    vec_add(tokens, text->dhead, BASE_BYTES * d);
    vec_add(tokens + BASE_EOS * d, text->dhead + BASE_BYTES * d, d);
}

static void gradient(void *work, const float *weights, const struct stage_rows *rows,
                     float *gradient_out, double *loss_out)
{
    struct text *const text = work;
    const size_t d = text->shape.width;
    const float *const y = backbone_forward(text->backbone, weights, rows);
    const float *const head = head_of(text, weights);
    const size_t n = backbone_rows(text->backbone);
    find_next(text, rows);
    blas_product_nt(n, WINDOW_OUTPUTS, d, y, head, text->logits);
    const double loss = loss_tokens(text, n);
    if (loss_out != NULL) {
        *loss_out = loss;
    }
    float *const dhead =
        text->tied ? text->dhead : gradient_out + (text->body_count - text->frozen_count);
    blas_product_tn(WINDOW_OUTPUTS, d, n, text->logits, y, dhead);
    blas_product_nn(n, d, WINDOW_OUTPUTS, text->logits, head, text->dy);
    backbone_backward(text->backbone, weights, text->dy, gradient_out);
    if (text->tied) {
        add_to_token_rows(text, gradient_out);
    }
}

// --- Predictions ---

// What follows each prompt.
static void forward(void *work, const float *weights, const struct stage_rows *rows,
                    float *outputs_out)
{
    struct text *const text = work;
    const size_t d = text->shape.width;
    const float *const y = backbone_forward(text->backbone, weights, rows);
    const uint32_t *const offsets = backbone_offsets(text->backbone);
    for (uint32_t i = 0; i < rows->count; i++) { // Of each only the last token.
        memcpy(text->dy + i * d, y + (offsets[i + 1] - 1) * d, d * sizeof *y);
    }
    blas_product_nt(rows->count, WINDOW_OUTPUTS, d, text->dy, head_of(text, weights), outputs_out);
}

// The probability of each token that follows in a window.
static void score(void *work, const float *weights, const struct stage_rows *rows,
                  float *outputs_out)
{
    struct text *const text = work;
    const float *const y = backbone_forward(text->backbone, weights, rows);
    const size_t n = backbone_rows(text->backbone);
    find_next(text, rows);
    blas_product_nt(n, WINDOW_OUTPUTS, text->shape.width, y, head_of(text, weights), text->logits);
    for (size_t i = 0; i < n; i++) {
        float *const logits = text->logits + i * WINDOW_OUTPUTS;
        outputs_out[i] = -(float)loss_softmax(logits, WINDOW_OUTPUTS, text->next[i], logits);
    }
    elem_exp(outputs_out, outputs_out, n);
}

const struct learner learner_text = {
    .name = "text",
    .takes_rows = true,
    .weight_count = weight_count,
    .trained_count = trained_count,
    .init = init,
    .piece_count = piece_count,
    .unit_count = unit_count,
    .work_new = work_new,
    .work_free = work_free,
    .gradient = gradient,
    .forward = forward,
    .predict_rows_max = predict_rows_max,
    .base_shape = base_shape,
    .output_width = output_width,
    .check_prompt = check_prompt,
    .score_count = score_count,
    .score = score,
};
