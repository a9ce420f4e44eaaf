// model/vit.c: classes or numbers from images: a vision transformer and a linear head on its class
// token.
//
// Weights: what stands before the head (backbone.h), then the head's W[outputs][d] and b[outputs].
// Each stage goes on with its parent's head; the first one is uniform within +-sqrt(6 / (d +
// outputs)), b zero.
#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/backbone.h"
#include "model/blas.h"
#include "model/loss.h"
#include "model/vec.h"

struct vit {
    struct backbone *backbone; // Owned.
    uint64_t body_count, frozen_count;
    uint32_t d, outputs;
    enum task task;
    float *logits; // [rows_max][outputs]: outputs, then d loss / d outputs. Owned.
    float *dy;     // [rows_max][d]. Owned.
};

static uint64_t head_count(const struct recipe *recipe, const struct backbone_plan *plan)
{
    return ((uint64_t)plan->shape.width + 1) * schema_output_width(recipe->schema);
}

static enum err weight_count(const struct recipe *recipe, uint32_t list_count, uint64_t *count_out)
{
    struct backbone_plan plan;
    if (recipe->schema->task == TASK_NONE) {
        FAIL(ERR_INVALID, "the schema has no label, which learner vit needs");
    }
    TRY(backbone_plan(recipe, BASE_VIT, list_count, &plan));
    *count_out = plan.body_count + head_count(recipe, &plan);
    return OK;
}

static enum err base_shape(const struct recipe *recipe, struct base_shape *shape_out)
{
    struct backbone_plan plan;
    TRY(backbone_plan(recipe, BASE_VIT, 1, &plan));
    *shape_out = plan.shape;
    return OK;
}

static struct backbone_plan plan_of(const struct recipe *recipe, uint32_t list_count)
{
    struct backbone_plan plan;
    CHECK(backbone_plan(recipe, BASE_VIT, list_count, &plan) == OK); // weight_count said so.
    return plan;
}

static uint64_t trained_count(const struct recipe *recipe, uint32_t list_count)
{
    const struct backbone_plan plan = plan_of(recipe, list_count);
    return plan.body_count - plan.frozen_count + head_count(recipe, &plan);
}

static void init(const struct stage *stage, const float *parent, float *weights_out)
{
    const struct backbone_plan plan = plan_of(&stage->recipe, stage->list_count);
    const uint64_t count = head_count(&stage->recipe, &plan);
    const uint64_t d = plan.shape.width, outputs = schema_output_width(stage->recipe.schema);
    float *const head = weights_out + plan.body_count;
    backbone_init(&plan, stage, parent, weights_out);
    if (parent != NULL) {
        memcpy(head, parent + backbone_parent_body(&plan), count * sizeof *head);
        return;
    }
    rng_fill_uniform(stage_key(stage, "unlearnd-init", plan.shape.layers),
                     (float)sqrt(6.0 / (double)(d + outputs)), head, d * outputs);
    memset(head + d * outputs, 0, outputs * sizeof *head);
}

static void work_free(void *work)
{
    struct vit *const vit = work;
    if (vit != NULL) {
        backbone_free(vit->backbone);
        mem_free(vit->logits);
        mem_free(vit->dy);
        mem_free(vit);
    }
}

static enum err take_memory(struct vit *vit, const struct recipe *recipe,
                            const struct backbone_plan *plan, const struct stage *stage,
                            const struct stage_data *data, uint32_t rows_max)
{
    TRY(mem_try_aligned((size_t)rows_max * vit->outputs, sizeof *vit->logits, &vit->logits));
    TRY(mem_try_aligned((size_t)rows_max * vit->d, sizeof *vit->dy, &vit->dy));
    return backbone_new(recipe, plan, stage, data, rows_max, &vit->backbone);
}

static enum err work_new(const struct recipe *recipe, uint32_t list_count,
                         const struct stage *stage, const struct stage_data *data,
                         uint32_t rows_max, void **work_out)
{
    const struct backbone_plan plan = plan_of(recipe, list_count);
    struct vit *vit = mem_alloc(1, sizeof *vit);
    vit->body_count = plan.body_count;
    vit->frozen_count = plan.frozen_count;
    vit->d = plan.shape.width;
    vit->outputs = schema_output_width(recipe->schema);
    vit->task = recipe->schema->task;
    const enum err err = take_memory(vit, recipe, &plan, stage, data, rows_max);
    if (err != OK) {
        work_free(vit);
        vit = NULL;
    }
    *work_out = vit;
    return err;
}

// outputs_out[rows][outputs] = y W^T + b
static const float *run(struct vit *vit, const float *weights, const struct stage_rows *rows,
                        float *outputs_out)
{
    const float *const head = weights + vit->body_count;
    const float *const y = backbone_forward(vit->backbone, weights, rows);
    blas_product_nt(rows->count, vit->outputs, vit->d, y, head, outputs_out);
    vec_add_row(outputs_out, head + (size_t)vit->outputs * vit->d, rows->count, vit->outputs);
    return y;
}

static void forward(void *work, const float *weights, const struct stage_rows *rows,
                    float *outputs_out)
{
    run(work, weights, rows, outputs_out);
}

static double loss_rows(const struct vit *vit, const struct stage_rows *rows, float *outputs)
{
    double loss = 0;
    for (uint32_t row = 0; row < rows->count; row++) {
        float *const at = outputs + (size_t)row * vit->outputs;
        loss += vit->task == TASK_CLASSES
                    ? loss_softmax(at, vit->outputs, (uint32_t)rows->y[row], at)
                    : loss_square(at[0], rows->y[row], at);
    }
    return loss;
}

static void gradient(void *work, const float *weights, const struct stage_rows *rows,
                     float *gradient_out, double *loss_out)
{
    struct vit *const vit = work;
    const float *const y = run(vit, weights, rows, vit->logits);
    const double loss = loss_rows(vit, rows, vit->logits);
    if (loss_out != NULL) {
        *loss_out = loss;
    }
    float *const head = gradient_out + (vit->body_count - vit->frozen_count);
    blas_product_tn(vit->outputs, vit->d, rows->count, vit->logits, y, head);
    vec_sum_rows(vit->logits, rows->count, vit->outputs, head + (size_t)vit->outputs * vit->d);
    blas_product_nn(rows->count, vit->d, vit->outputs, vit->logits, weights + vit->body_count,
                    vit->dy);
    backbone_backward(vit->backbone, weights, vit->dy, gradient_out);
}

static uint32_t predict_rows_max(const struct recipe *recipe)
{
    const struct backbone_plan plan = plan_of(recipe, 1);
    return backbone_predict_rows(&plan);
}

const struct learner learner_vit = {
    .name = "vit",
    .takes_rows = true,
    .weight_count = weight_count,
    .trained_count = trained_count,
    .init = init,
    .work_new = work_new,
    .work_free = work_free,
    .gradient = gradient,
    .forward = forward,
    .predict_rows_max = predict_rows_max,
    .base_shape = base_shape,
};
