// model/backbone.c: see backbone.h.
#include "model/backbone.h"

#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/transformer.h"
#include "model/window.h"

enum {
    PREDICT_TOKENS = 4096, // Of one block of predictions: large enough for BLAS.
};

uint64_t backbone_kept_bytes_max = (uint64_t)1 << 30;
_Thread_local uint64_t backbone_lower_count;

struct backbone {
    struct backbone_plan plan;
    const struct stage *stage; // NULL: predicting.
    const struct recipe *recipe;
    uint32_t column, low; // low: the first layer that is trained.
    uint32_t rows_max, tokens_max;
    struct transformer *transformer;
    struct transformer_batch batch;
    const float *adapters[LIMIT_BASE_LAYERS];
    uint32_t *offsets; // [rows_max + 1]. Owned.
    float *pixels;     // vit: [rows_max][rows * cols]. Owned.
    uint16_t *tokens;  // text: [N]. Owned.
    struct buf name;   // What dropout belongs to.
    size_t name_bytes; // Length of the part that the stage decides.

    // On a base, while training: activations that the trained block reads.
    struct transformer *lower; // Of one sample.
    uint64_t *first_token;     // [records + 1]: where a record's activations begin. Owned.
    uint64_t *first_sample;    // [records + 1]: the number of its first sample. Owned.
    uint64_t kept_records;     // The first so many records' are kept.
    float *kept;               // [first_token[kept_records]][d]. Owned.
    bool *is_kept;             // [first_sample[kept_records]]: computed already. Owned.
};

// --- The plan ---

uint32_t backbone_column(const struct schema *schema, enum base_kind kind)
{
    const enum column_kind wanted = kind == BASE_VIT ? COLUMN_PIXELS : COLUMN_TEXT;
    for (uint32_t i = 0; i < schema->column_count; i++) {
        if (schema->columns[i].kind == wanted) {
            return i;
        }
    }
    check_failed("a checked schema", __FILE__, __LINE__);
}

static enum err check_columns(const struct schema *schema, enum base_kind kind)
{
    const enum column_kind wanted = kind == BASE_VIT ? COLUMN_PIXELS : COLUMN_TEXT;
    const char *const learner = kind == BASE_VIT ? "vit" : "text";
    const char *const what = kind == BASE_VIT ? "pixels" : "text";
    uint32_t found = 0;
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column *const column = &schema->columns[i];
        found += column->kind == wanted;
        if (column->kind != wanted && column->kind != COLUMN_IGNORED) {
            FAIL(
                ERR_INVALID,
                "column %u, \"%s\", is not %s: learner %s reads one column of %s and no other; let "
                "the schema ignore it",
                i, column->name, what, learner, what);
        }
    }
    if (found != 1) {
        FAIL(ERR_INVALID, "the schema has %u columns of %s, expected 1 for learner %s", found, what,
             learner);
    }
    return OK;
}

// The shape of a transformer that is trained from nothing: GPT-2's choices for texts; for images
// ViT's, with pixels from -1 to 1.
static enum err shape_from_spec(const struct recipe *recipe, enum base_kind kind,
                                struct base_shape *shape_out)
{
    const struct spec *const spec = recipe->spec;
    struct base_shape shape = {
        .kind = kind,
        .layers = spec->layers,
        .width = spec->width,
        .heads = spec->heads,
        .inner = spec->inner,
    };
    if (kind == BASE_VIT) {
        const struct column *const column =
            &recipe->schema->columns[backbone_column(recipe->schema, kind)];
        shape.gelu = BASE_GELU_ERF;
        shape.epsilon = 1e-6;
        shape.rows = column->rows;
        shape.cols = column->cols;
        shape.channels = 1;
        shape.patch = spec->patch;
        shape.mean[0] = shape.deviation[0] = 0.5f;
    } else {
        shape.gelu = BASE_GELU_TANH;
        shape.epsilon = 1e-5;
        shape.context = spec->context;
    }
    TRY(base_shape_check(&shape));
    *shape_out = shape;
    return OK;
}

static enum err check_base(const struct recipe *recipe, enum base_kind kind)
{
    const struct base_shape *const shape = &recipe->base->shape;
    const char *const name = recipe->spec->base;
    if (shape->kind != kind) {
        FAIL(ERR_INVALID, "base %s is for %s, expected one for learner %s", name,
             shape->kind == BASE_VIT ? "images" : "texts", recipe->spec->learner);
    }
    if (kind == BASE_TEXT) {
        return OK;
    }
    const struct column *const column =
        &recipe->schema->columns[backbone_column(recipe->schema, kind)];
    if (column->rows != shape->rows || column->cols != shape->cols) {
        FAIL(ERR_INVALID, "images of %u x %u pixels, but base %s reads %u x %u", column->rows,
             column->cols, name, shape->rows, shape->cols);
    }
    return OK;
}

static enum err lora_from_spec(const struct recipe *recipe, struct lora *lora_out)
{
    const struct spec *const spec = recipe->spec;
    const double r = spec->lora_rank;
    struct lora lora = {
        .rank = spec->lora_rank,
        .scale = (float)(spec->lora_alpha / (spec->lora_rslora ? sqrt(r) : r)),
        .dropout = (float)spec->lora_dropout,
    };
    TRY_AS(lora_targets(&recipe->base->shape, spec->lora_targets, &lora), "lora.targets");
    TRY(lora_check(&lora));
    *lora_out = lora;
    return OK;
}

static enum err plan_blocks(const struct recipe *recipe, uint32_t list_count,
                            struct backbone_plan *plan)
{
    const struct spec *const spec = recipe->spec;
    const uint32_t blocks = spec->slices + spec->append_blocks;
    plan->block_layers = plan->shape.layers / blocks;
    if (plan->block_layers == 0) {
        FAIL(ERR_INVALID, "slices and append_blocks make %u blocks, but base %s has %u layers",
             blocks, spec->base, plan->shape.layers);
    }
    if (list_count > blocks) {
        FAIL(ERR_INVALID,
             "no block of layers is left for slice number %u: append_blocks leaves room for %u",
             list_count, blocks);
    }
    TRY(lora_from_spec(recipe, &plan->lora));
    plan->blocks = list_count;
    plan->layer_count = lora_count(&plan->lora);
    plan->body_count = list_count * (plan->block_layers * plan->layer_count);
    plan->frozen_count = (list_count - 1) * (plan->block_layers * plan->layer_count);
    return OK;
}

enum err backbone_plan(const struct recipe *recipe, enum base_kind kind, uint32_t list_count,
                       struct backbone_plan *plan_out)
{
    TRY(check_columns(recipe->schema, kind));
    struct backbone_plan plan = {.on_base = recipe->base != NULL};
    CHECK(plan.on_base == spec_has_base(recipe->spec));
    if (plan.on_base) {
        TRY(check_base(recipe, kind));
        plan.shape = recipe->base->shape;
        TRY(plan_blocks(recipe, list_count, &plan));
    } else {
        TRY(shape_from_spec(recipe, kind, &plan.shape));
        plan.body_count = base_at(&plan.shape).count;
    }
    *plan_out = plan;
    return OK;
}

// --- First weights ---

uint64_t backbone_parent_body(const struct backbone_plan *plan)
{
    return plan->on_base ? plan->frozen_count : plan->body_count;
}

// The lowest layer of block number `block`, from 1.
static uint32_t block_low(const struct backbone_plan *plan, uint32_t block)
{
    return plan->shape.layers - block * plan->block_layers;
}

void backbone_init(const struct backbone_plan *plan, const struct stage *stage, const float *parent,
                   float *weights_out)
{
    if (!plan->on_base) {
        if (parent != NULL) {
            memcpy(weights_out, parent, plan->body_count * sizeof *parent);
        } else {
            base_init(&plan->shape, stage_key(stage, "unlearnd-init", 0), weights_out);
        }
        return;
    }
    if (parent != NULL) {
        memcpy(weights_out, parent, plan->frozen_count * sizeof *parent);
    } else {
        memset(weights_out, 0, plan->frozen_count * sizeof *weights_out);
    }
    float *adapters = weights_out + plan->frozen_count;
    for (uint32_t i = 0; i < plan->block_layers; i++) {
        const uint32_t layer = block_low(plan, plan->blocks) + i;
        lora_init(&plan->lora, stage_key(stage, "unlearnd-init", layer), adapters);
        adapters += plan->layer_count;
    }
}

// --- Memory ---

// Tokens that a sample of a row reads.
static uint32_t sample_length(const struct backbone *b, struct span row, uint32_t piece)
{
    const struct base_shape *const shape = &b->plan.shape;
    if (shape->kind == BASE_VIT) {
        return base_tokens_max(shape);
    }
    const struct span text = schema_value(b->recipe->schema, row, b->column);
    return window_length(shape->context, text.bytes, piece);
}

static uint32_t sample_count(const struct backbone *b, struct span row)
{
    if (b->plan.shape.kind == BASE_VIT) {
        return 1;
    }
    const struct span text = schema_value(b->recipe->schema, row, b->column);
    return window_count(b->plan.shape.context, text.bytes);
}

// Tokens of the longest sample of all records.
static uint32_t longest(const struct backbone *b, const struct stage_data *data)
{
    uint32_t most = 1;
    for (uint64_t i = 0; i < data->count; i++) {
        const uint32_t first = sample_length(b, data->rows[i], 0); // The later ones are no longer.
        most = first > most ? first : most;
    }
    return most;
}

// Finds where each record's activations would lie, and takes memory for as many records' as the
// limit allows. Where the system refuses it, none are kept.
static enum err take_kept(struct backbone *b, const struct stage_data *data)
{
    const uint64_t token_bytes = b->plan.shape.width * sizeof(float);
    TRY(mem_try_aligned(data->count + 1, sizeof *b->first_token, &b->first_token));
    TRY(mem_try_aligned(data->count + 1, sizeof *b->first_sample, &b->first_sample));
    for (uint64_t i = 0; i < data->count; i++) {
        const uint32_t samples = sample_count(b, data->rows[i]);
        uint64_t tokens = 0;
        for (uint32_t piece = 0; piece < samples; piece++) {
            tokens += sample_length(b, data->rows[i], piece);
        }
        b->first_sample[i + 1] = b->first_sample[i] + samples;
        b->first_token[i + 1] = b->first_token[i] + tokens;
        if (b->first_token[i + 1] <= backbone_kept_bytes_max / token_bytes) {
            b->kept_records = i + 1;
        }
    }
    if (mem_try_aligned(b->first_token[b->kept_records], token_bytes, &b->kept) != OK) {
        b->kept_records = 0;
    }
    return mem_try_aligned(b->first_sample[b->kept_records], sizeof *b->is_kept, &b->is_kept);
}

static enum err take_lower(struct backbone *b, uint32_t length, const struct stage_data *data)
{
    const struct transformer_plan one = {
        .shape = &b->plan.shape, .tokens_max = length, .samples_max = 1};
    TRY(transformer_new(&one, &b->lower));
    return take_kept(b, data);
}

static enum err take_memory(struct backbone *b, const struct stage_data *data)
{
    const struct base_shape *const shape = &b->plan.shape;
    const uint32_t length = data != NULL ? longest(b, data) : base_tokens_max(shape);
    const uint64_t tokens = (uint64_t)b->rows_max * length;
    if (tokens > UINT32_MAX) {
        FAIL(ERR_LIMIT, "%u samples of %u tokens at once are more than can be counted", b->rows_max,
             length);
    }
    b->tokens_max = (uint32_t)tokens;
    struct transformer_plan plan = {
        .shape = shape,
        .lora = b->plan.on_base ? &b->plan.lora : NULL,
        .tokens_max = b->tokens_max,
        .samples_max = b->rows_max,
    };
    if (b->stage != NULL && b->plan.on_base) {
        plan.gradients = TRANSFORMER_ADAPTERS;
        plan.low = b->low;
        plan.high = b->low + b->plan.block_layers;
    } else if (b->stage != NULL) {
        plan.gradients = TRANSFORMER_WEIGHTS;
    }
    TRY(transformer_new(&plan, &b->transformer));
    TRY(mem_try_aligned((size_t)b->rows_max + 1, sizeof *b->offsets, &b->offsets));
    if (shape->kind == BASE_VIT) {
        const size_t image = (size_t)shape->rows * shape->cols;
        TRY(mem_try_aligned(b->rows_max * image, sizeof *b->pixels, &b->pixels));
    } else {
        TRY(mem_try_aligned(tokens, sizeof *b->tokens, &b->tokens));
    }
    return data != NULL && b->plan.on_base ? take_lower(b, length, data) : OK;
}

uint32_t backbone_predict_rows(const struct backbone_plan *plan)
{
    const uint32_t rows = PREDICT_TOKENS / base_tokens_max(&plan->shape);
    return rows == 0 ? 1 : rows > 256 ? 256 : rows;
}

enum err backbone_new(const struct recipe *recipe, const struct backbone_plan *plan,
                      const struct stage *stage, const struct stage_data *data, uint32_t rows_max,
                      struct backbone **backbone_out)
{
    CHECK((stage == NULL) == (data == NULL));
    *backbone_out = NULL;
    struct backbone *const b = mem_alloc(1, sizeof *b);
    b->plan = *plan;
    b->stage = stage;
    b->recipe = recipe;
    b->rows_max = rows_max;
    b->column = backbone_column(recipe->schema, plan->shape.kind);
    b->low = plan->on_base ? block_low(plan, plan->blocks) : 0;
    if (stage != NULL) {
        stage_put_name(stage, &b->name);
        b->name_bytes = b->name.bytes;
        buf_u32(&b->name, 0); // Room for the pass.
    }
    const enum err err = take_memory(b, data);
    if (err != OK) {
        backbone_free(b);
        return err;
    }
    *backbone_out = b;
    return OK;
}

void backbone_free(struct backbone *backbone)
{
    if (backbone == NULL) {
        return;
    }
    transformer_free(backbone->transformer);
    transformer_free(backbone->lower);
    mem_free(backbone->offsets);
    mem_free(backbone->pixels);
    mem_free(backbone->tokens);
    mem_free(backbone->first_token);
    mem_free(backbone->first_sample);
    mem_free(backbone->kept);
    mem_free(backbone->is_kept);
    buf_deinit(&backbone->name);
    mem_free(backbone);
}

// --- Samples ---

// Embeds `count` samples of rows into a transformer.
static void embed(struct backbone *b, struct transformer *transformer, const float *weights,
                  const struct transformer_batch *batch, const struct span *rows,
                  const uint32_t *pieces)
{
    const struct base_shape *const shape = &b->plan.shape;
    const size_t image = (size_t)shape->rows * shape->cols;
    for (uint32_t s = 0; s < batch->samples; s++) {
        const struct span value = schema_value(b->recipe->schema, rows[s], b->column);
        if (shape->kind == BASE_TEXT) {
            window_tokens(shape->context, value, pieces[s], b->tokens + batch->offsets[s], NULL);
            continue;
        }
        CHECK(value.bytes == image);
        const uint8_t *const bytes = value.data;
        for (size_t i = 0; i < image; i++) {
            b->pixels[s * image + i] = (float)bytes[i] / 255.0f;
        }
    }
    if (shape->kind == BASE_TEXT) {
        transformer_embed_tokens(transformer, weights, batch, b->tokens);
    } else {
        transformer_embed_images(transformer, weights, batch, b->pixels);
    }
}

// What the trained block reads of one sample: float32[length][d], borrowed until the next call.
static const float *lower_of(struct backbone *b, const struct stage_rows *rows, uint32_t row,
                             uint32_t length)
{
    const size_t d = b->plan.shape.width;
    const uint64_t index = rows->indices[row];
    const bool keeps = index < b->kept_records;
    float *place = NULL;
    bool *done = NULL;
    if (keeps) { // All pieces before the last of a record are as long as the context.
        const uint64_t before = (uint64_t)rows->pieces[row] * b->plan.shape.context;
        place = b->kept + (b->first_token[index] + before) * d;
        done = &b->is_kept[b->first_sample[index] + rows->pieces[row]];
        if (*done) {
            return place;
        }
    }
    const uint32_t offsets[2] = {0, length};
    const struct transformer_batch one = {.offsets = offsets, .samples = 1};
    const float *const weights = b->recipe->base->weights;
    embed(b, b->lower, weights, &one, &rows->rows[row], &rows->pieces[row]);
    transformer_run(b->lower, weights, NULL, &one, 0, b->low);
    backbone_lower_count++;
    if (keeps) {
        memcpy(place, transformer_x(b->lower), length * d * sizeof *place);
        *done = true;
    }
    return transformer_x(b->lower);
}

// --- Runs ---

static void find_adapters(struct backbone *b, const float *weights)
{
    const struct backbone_plan *const plan = &b->plan;
    for (uint32_t block = 1; block <= plan->blocks; block++) {
        for (uint32_t i = 0; i < plan->block_layers; i++) {
            b->adapters[block_low(plan, block) + i] = weights;
            weights += plan->layer_count;
        }
    }
}

static const float *body_of(const struct backbone *b, const float *weights)
{
    return b->plan.on_base ? b->recipe->base->weights : weights;
}

const float *backbone_forward(struct backbone *backbone, const float *weights,
                              const struct stage_rows *rows)
{
    struct backbone *const b = backbone;
    CHECK(rows->count > 0 && rows->count <= b->rows_max);
    const size_t d = b->plan.shape.width;
    const float *const body = body_of(b, weights);
    for (uint32_t s = 0; s < rows->count; s++) {
        b->offsets[s + 1] = b->offsets[s] + sample_length(b, rows->rows[s], rows->pieces[s]);
    }
    b->batch = (struct transformer_batch){
        .offsets = b->offsets, .samples = rows->count, .rids = rows->rids, .windows = rows->pieces};
    if (b->stage != NULL) {
        b->name.bytes = b->name_bytes;
        buf_u32(&b->name, rows->pass);
        b->batch.name = buf_span(&b->name);
    }
    find_adapters(b, weights);
    uint32_t from = 0;
    if (b->lower != NULL) {
        float *const x = transformer_x(b->transformer);
        for (uint32_t s = 0; s < rows->count; s++) {
            const uint32_t length = b->offsets[s + 1] - b->offsets[s];
            memcpy(x + b->offsets[s] * d, lower_of(b, rows, s, length), length * d * sizeof *x);
        }
        from = b->low;
    } else {
        embed(b, b->transformer, body, &b->batch, rows->rows, rows->pieces);
    }
    transformer_run(b->transformer, body, b->adapters, &b->batch, from, b->plan.shape.layers);
    return transformer_finish(b->transformer, body, &b->batch);
}

uint32_t backbone_tokens_max(const struct backbone *backbone)
{
    return backbone->tokens_max;
}

uint32_t backbone_rows(const struct backbone *backbone)
{
    return backbone->plan.shape.kind == BASE_VIT ? backbone->batch.samples
                                                 : backbone->offsets[backbone->batch.samples];
}

const uint32_t *backbone_offsets(const struct backbone *backbone)
{
    return backbone->offsets;
}

void backbone_backward(struct backbone *backbone, const float *weights, const float *dy,
                       float *gradient_out)
{
    transformer_backward(backbone->transformer, body_of(backbone, weights), backbone->adapters,
                         &backbone->batch, dy, gradient_out);
}
