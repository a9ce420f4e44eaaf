// client/unlearn_continue.c: the part of unlearn.h that continues texts, one prediction a token.
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "client/call.h"
#include "client/token.h"
#include "model/schema.h"

struct writing {
    struct unlearn *client;
    const char *model;
    const struct unlearn_continue *how;
    enum task task;   // A label stands at the head of a row, and is not looked at.
    uint32_t context; // The model's, in tokens; the first one marks the beginning of a text.
    struct buf text;  // The prompt and what was added to it.
    struct buf row;
    struct unlearn_batch batch;
    Unlearn__Prediction sum; // Of all answers so far.
};

// What a model must be to continue a text, and the prompt.
static enum err check(struct writing *writing)
{
    const Unlearn__Model *model;
    struct schema schema;
    TRY(unlearn_model_show(writing->client, writing->model, &model));
    if (model->context == 0) {
        FAIL(ERR_INVALID, "model \"%s\" does not continue texts, expected one of learner text",
             writing->model);
    }
    writing->context = model->context;
    writing->batch.width = model->outputs;
    if (model->outputs != TOKEN_COUNT || model->context > LIMIT_BASE_TOKENS) {
        FAIL(ERR_CORRUPT,
             "a model of texts with %u outputs and a context of %u, expected %d and %d",
             model->outputs, model->context, (int)TOKEN_COUNT, (int)LIMIT_BASE_TOKENS);
    }
    TRY_AS(schema_get(wire_span(model->schema), &schema), "the model's schema");
    writing->task = schema.task;
    bool alone = schema_text_column(&schema) >= 0;
    for (uint32_t i = 0; i < schema.column_count; i++) {
        const enum column_kind kind = schema.columns[i].kind;
        alone = alone && (kind == COLUMN_TEXT || kind == COLUMN_IGNORED);
    }
    schema_deinit(&schema);
    if (!alone) {
        FAIL(ERR_INVALID,
             "the rows of model \"%s\" have more columns than a text, expected it alone to "
             "continue it",
             writing->model);
    }
    if (writing->how->prompt.bytes >= writing->context) {
        FAIL(ERR_INVALID,
             "the prompt has %zu bytes, expected at most %u: the model's context is %u tokens, of "
             "which one marks the beginning",
             writing->how->prompt.bytes, writing->context - 1, writing->context);
    }
    return OK;
}

// Asks what follows the text: its end, where it is longer than the context.
static enum err ask(struct writing *writing, const float **values_out)
{
    const Unlearn__Prediction *prediction;
    const size_t most = writing->context - 1;
    const size_t bytes = writing->text.bytes < most ? writing->text.bytes : most;
    buf_clear(&writing->row);
    if (writing->task == TASK_CLASSES) {
        buf_u16(&writing->row, 0);
    } else if (writing->task == TASK_NUMBER) {
        buf_f32(&writing->row, 0);
    }
    buf_u32(&writing->row, (uint32_t)bytes);
    if (bytes > 0) {
        buf_put(&writing->row, span_of(writing->text.data + writing->text.bytes - bytes, bytes));
    }
    unlearn_batch_clear(&writing->batch);
    CHECK(unlearn_batch_add(&writing->batch, buf_span(&writing->row))); // A context is short.
    TRY(unlearn_predict(writing->client, writing->model, &writing->batch, &prediction, values_out));
    unlearn_prediction_add(&writing->sum, prediction);
    return OK;
}

static enum err write_on(struct writing *writing)
{
    const struct unlearn_continue *const how = writing->how;
    TRY(check(writing));
    buf_put(&writing->text, how->prompt);
    for (uint32_t i = 0; i < how->token_count; i++) {
        const float *values;
        TRY(ask(writing, &values));
        const uint32_t token =
            how->sampled ? token_draw(values, how->temperature, how->seed, i) : token_top(values);
        TRY(how->take(how->context, token, values[token]));
        if (token == TOKEN_END) {
            return OK;
        }
        buf_u8(&writing->text, (uint8_t)token);
    }
    return OK;
}

enum err unlearn_continue_text(struct unlearn *client, const char *model,
                               const struct unlearn_continue *how,
                               const Unlearn__Prediction **prediction_out)
{
    CHECK(how->token_count > 0);
    CHECK(!how->sampled || how->temperature > 0);
    struct writing writing = {.client = client, .model = model, .how = how};
    unlearn__prediction__init(&writing.sum);
    const enum err err = write_on(&writing);
    buf_deinit(&writing.text);
    buf_deinit(&writing.row);
    unlearn_batch_deinit(&writing.batch);
    client->prediction = writing.sum;
    *prediction_out = &client->prediction;
    return err;
}
