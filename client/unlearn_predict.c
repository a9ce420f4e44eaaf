// client/unlearn_predict.c: the part of unlearn.h that asks for predictions and scores.
//
// A coordinator may answer a part of the rows, since what one request may compute is bounded: the rest
// is asked for until all is there.
#include <string.h>

#include "base/limits.h"
#include "client/call.h"

bool unlearn_batch_add(struct unlearn_batch *batch, struct span row)
{
    const size_t answer_bytes = (batch->rows + (size_t)1) * batch->width * sizeof(float);
    if (batch->rows == LIMIT_ROWS_PREDICT ||
        batch->raw.bytes + sizeof(uint32_t) + row.bytes > LIMIT_CHUNK_BYTES ||
        answer_bytes > LIMIT_CHUNK_BYTES) {
        return false;
    }
    buf_u32(&batch->raw, (uint32_t)row.bytes);
    buf_put(&batch->raw, row);
    batch->rows++;
    return true;
}

void unlearn_batch_clear(struct unlearn_batch *batch)
{
    buf_clear(&batch->raw);
    batch->rows = 0;
}

void unlearn_batch_deinit(struct unlearn_batch *batch)
{
    buf_deinit(&batch->raw);
    batch->rows = 0;
}

void unlearn_prediction_add(Unlearn__Prediction *sum, const Unlearn__Prediction *answer)
{
    const bool first = sum->rows == 0;
    sum->shards_used =
        first || answer->shards_used < sum->shards_used ? answer->shards_used : sum->shards_used;
    sum->shards_total = answer->shards_total;
    sum->degraded = sum->degraded || answer->degraded;
    sum->epoch = answer->epoch > sum->epoch ? answer->epoch : sum->epoch;
    sum->width = answer->width;
    sum->rows += answer->rows;
}

// Appends the numbers of the raw frame, whatever byte order and alignment this machine has.
static enum err take_values(struct unlearn *client, uint64_t count)
{
    if (client->raw.bytes != count * sizeof(float)) {
        FAIL(ERR_CORRUPT, "a prediction of %llu values has %zu bytes, expected %llu",
             (unsigned long long)count, client->raw.bytes,
             (unsigned long long)(count * sizeof(float)));
    }
    struct cursor cursor = cursor_of(client->raw);
    uint8_t *const room = buf_room(&client->values, client->raw.bytes);
    for (uint64_t i = 0; i < count; i++) {
        const float value = cursor_f32(&cursor);
        memcpy(room + i * sizeof value, &value, sizeof value);
    }
    return OK;
}

// Adds one answer to what client->prediction says of them all.
static enum err take_part(struct unlearn *client, const Unlearn__Prediction *part, uint32_t width,
                          uint64_t rows)
{
    Unlearn__Prediction *const all = &client->prediction;
    if (part->width != width || part->rows == 0 || part->rows > rows - all->rows ||
        part->more != (part->rows < rows - all->rows)) {
        FAIL(ERR_CORRUPT, "a prediction of %u rows and %u outputs, %s, expected %llu and %u",
             part->rows, part->width, part->more ? "and more" : "the last",
             (unsigned long long)(rows - all->rows), width);
    }
    TRY(take_values(client, (uint64_t)part->rows * width));
    unlearn_prediction_add(all, part);
    return OK;
}

// Asks until `rows` answers of `width` values are there.
static enum err predict(struct unlearn *client, const char *model,
                        const struct unlearn_batch *batch, bool score, uint32_t width,
                        uint64_t rows, const Unlearn__Prediction **prediction_out,
                        const float **values_out)
{
    unlearn__prediction__init(&client->prediction);
    buf_clear(&client->values);
    do {
        Unlearn__Predict body;
        unlearn__predict__init(&body);
        body.model = wire_text(model);
        body.rows = batch->rows;
        body.score = score;
        body.from = client->prediction.rows;
        Unlearn__Request request = CALL_REQUEST(PREDICT, predict, &body);
        const Unlearn__Reply *reply;
        TRY(call(client, &request, buf_span(&batch->raw), CALL_AGAIN, CALL_ANSWER(PREDICTION),
                 &reply));
        TRY(take_part(client, reply->prediction, width, rows));
    } while (client->prediction.rows < rows);
    *prediction_out = &client->prediction;
    *values_out = (const float *)(const void *)client->values.data; // mem_resize aligns for it.
    return OK;
}

enum err unlearn_predict(struct unlearn *client, const char *model,
                         const struct unlearn_batch *batch,
                         const Unlearn__Prediction **prediction_out, const float **values_out)
{
    return predict(client, model, batch, false, batch->width, batch->rows, prediction_out,
                   values_out);
}

enum err unlearn_score(struct unlearn *client, const char *model, const struct unlearn_batch *batch,
                       uint64_t value_count, const Unlearn__Prediction **prediction_out,
                       const float **values_out)
{
    return predict(client, model, batch, true, 1, value_count, prediction_out, values_out);
}
