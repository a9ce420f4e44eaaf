// coordinator/predict.c: predictions: computed by threads, fenced and aggregated by the loop.
//
// A request takes along the component that serves each shard at that moment. A thread computes one
// output per shard and hands the whole back; what takes no longer than the way to a thread and back
// the loop computes itself. Just before sending, the loop drops the outputs of components that are no
// longer valid (a deletion was acknowledged meanwhile) and aggregates the rest. One loop sends acks and
// replies, so no reply that follows an ack holds such an output. Only where no output is left, though a
// shard still has a component that can serve, is it computed once more.
#include <pthread.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/core.h"
#include "model/aggregate.h"
#include "model/learner.h"

enum {
    // Of one prediction. Each but the first follows on deletions that hit every shard which answered
    // while it was computed.
    ATTEMPTS_MAX = 8,
    // What a shard costs beside its multiply-adds, in these.
    SHARD_WORK = 2 * 1024,
};

struct answer {              // Of one shard.
    uint32_t model;          // Number: the asked one's, or its successor's.
    struct component name;   // Not its node: a trie may be extended meanwhile.
    struct weights *weights; // Held.
    float *outputs;          // float32[count][width]. Owned.
    uint64_t records;        // Of its slices, when it was found valid.
};

struct prediction {
    struct mail mail; // First.
    struct caller caller;
    char model[LIMIT_NAME_BYTES + 1];
    struct shape *shape; // Held.
    uint32_t row_count;
    bool score;       // What is asked for: scores or answers, and
    uint64_t from;    // from which one on.
    uint32_t width;   // Of one; of scores 1.
    uint32_t count;   // That were computed: answers or scores.
    bool more;        // Others follow them.
    struct buf bytes; // The raw frame.
    struct span *rows;
    struct answer *answers; // Room for every shard.
    uint32_t answer_count;
    uint32_t attempts;
    enum err result;
    char text[ERR_TEXT_BYTES];
};

struct predictor {
    struct mailbox *inbox;
    struct mailbox *outbox;
    pthread_t *threads;
    uint32_t thread_count;
    uint32_t under_way;
};

static void answer_deinit(struct answer *answer)
{
    weights_release(answer->weights);
    mem_free(answer->outputs);
}

static void prediction_free(struct prediction *prediction)
{
    for (uint32_t i = 0; i < prediction->answer_count; i++) {
        answer_deinit(&prediction->answers[i]);
    }
    shape_release(prediction->shape);
    buf_deinit(&prediction->bytes);
    mem_free(prediction->rows);
    mem_free(prediction->answers);
    mem_free(prediction);
}

// ---------------------------------------------------------------- in a thread

static enum err parse_rows(struct prediction *prediction)
{
    struct cursor cursor = cursor_of(buf_span(&prediction->bytes));
    for (uint32_t i = 0; i < prediction->row_count; i++) {
        prediction->rows[i] = cursor_take(&cursor, cursor_u32(&cursor));
        if (cursor.bad) {
            FAIL(ERR_INVALID, "the frame ends inside row %u of %u", i, prediction->row_count);
        }
        TRY_AS(schema_check_row(&prediction->shape->schema, prediction->rows[i]), "row %u", i);
    }
    if (cursor.left > 0) {
        FAIL(ERR_INVALID, "a frame of %u rows has %zu bytes left over", prediction->row_count,
             cursor.left);
    }
    return OK;
}

// Bytes of texts that one request may compute: each takes a multiply-add for each weight, and time
// enough for some more beside them (norms, exponentials of 257 logits).
static uint64_t bytes_allowed(const struct prediction *prediction)
{
    enum { MORE = 64 * 1024 };
    const uint64_t work = (uint64_t)LIMIT_PREDICT_WORK_GI << 30;
    const struct base *const base = prediction->shape->base;
    uint64_t weights = 1; // Not 0, however few there are.
    for (uint32_t i = 0; i < prediction->answer_count; i++) {
        weights += MORE + prediction->answers[i].weights->param_count;
        weights += base == NULL ? 0 : base->weight_count;
    }
    return work / weights;
}

// Which of the answers are computed now: all that are asked for; of texts at least one, and no more
// than is allowed.
static enum err choose_answers(const struct recipe *recipe, struct prediction *prediction)
{
    if (prediction->from >= prediction->row_count) {
        FAIL(ERR_INVALID, "answers from row %llu on, expected one of %u",
             (unsigned long long)prediction->from, prediction->row_count);
    }
    TRY(learner_check_prompts(recipe, prediction->rows, prediction->row_count));
    const uint64_t allowed = learner_scores(recipe) ? bytes_allowed(prediction) : UINT64_MAX;
    uint32_t end = (uint32_t)prediction->from;
    uint64_t bytes = 0;
    do {
        bytes += prediction->rows[end++].bytes;
    } while (end < prediction->row_count && bytes + prediction->rows[end].bytes <= allowed);
    prediction->count = end - (uint32_t)prediction->from;
    prediction->more = end < prediction->row_count;
    return OK;
}

// The same for scores; what they fill must also fit the reply.
static enum err choose_scores(const struct recipe *recipe, struct prediction *prediction,
                              struct score_part *part_out)
{
    const uint64_t most = LIMIT_CHUNK_BYTES / sizeof(float);
    const uint64_t allowed = bytes_allowed(prediction);
    TRY(learner_score_part(recipe, prediction->rows, prediction->row_count, prediction->from,
                           allowed < most ? allowed : most, part_out));
    CHECK(part_out->count <= most); // A window has LIMIT_BASE_TOKENS at most.
    prediction->count = (uint32_t)part_out->count;
    prediction->more = part_out->more;
    return OK;
}

static enum err compute(struct prediction *prediction)
{
    const struct recipe recipe = shape_recipe(prediction->shape);
    struct score_part part = {0};
    TRY(parse_rows(prediction));
    TRY(prediction->score ? choose_scores(&recipe, prediction, &part)
                          : choose_answers(&recipe, prediction));
    for (uint32_t i = 0; i < prediction->answer_count; i++) {
        struct answer *const answer = &prediction->answers[i];
        const float *const params = answer->weights->params;
        TRY(mem_try_aligned((size_t)prediction->count * prediction->width, sizeof(float),
                            &answer->outputs));
        TRY(prediction->score
                ? learner_score_some(&recipe, answer->name.count, params, prediction->rows,
                                     prediction->row_count, &part, answer->outputs)
                : learner_predict(&recipe, answer->name.count, params,
                                  prediction->rows + prediction->from, prediction->count,
                                  answer->outputs));
    }
    return OK;
}

static void compute_it(struct prediction *prediction)
{
    prediction->result = compute(prediction);
    if (prediction->result != OK) {
        memcpy(prediction->text, err_text(), sizeof prediction->text);
    }
}

static void *work(void *argument)
{
    struct predictor *const predictor = argument;
    for (;;) {
        struct prediction *const prediction =
            (struct prediction *)mailbox_take(predictor->inbox, true);
        if (prediction == NULL) {
            return NULL;
        }
        compute_it(prediction);
        mailbox_put(predictor->outbox, &prediction->mail);
    }
}

// ---------------------------------------------------------------- in the loop

enum err predict_open(struct core *core)
{
    struct predictor *const predictor = mem_alloc(1, sizeof *predictor);
    core->predictor = predictor;
    TRY(mailbox_open(&predictor->inbox));
    TRY(mailbox_open(&predictor->outbox));
    predictor->threads = mem_alloc(core->config.predict_threads, sizeof *predictor->threads);
    for (uint32_t i = 0; i < core->config.predict_threads; i++) {
        if (pthread_create(&predictor->threads[i], NULL, work, predictor) != 0) {
            FAIL(ERR_IO, "prediction thread %u could not be started", i);
        }
        predictor->thread_count++;
    }
    return OK;
}

void predict_free(struct core *core)
{
    struct predictor *const predictor = core->predictor;
    if (predictor == NULL) {
        return;
    }
    if (predictor->inbox != NULL) {
        mailbox_stop(predictor->inbox);
    }
    for (uint32_t i = 0; i < predictor->thread_count; i++) {
        pthread_join(predictor->threads[i], NULL);
    }
    for (struct mail *mail;
         predictor->outbox != NULL && (mail = mailbox_take(predictor->outbox, false)) != NULL;) {
        prediction_free((struct prediction *)mail);
    }
    mailbox_close(predictor->inbox);
    mailbox_close(predictor->outbox);
    mem_free(predictor->threads);
    mem_free(predictor);
    core->predictor = NULL;
}

int predict_fd(const struct core *core)
{
    return mailbox_fd(core->predictor->outbox);
}

uint32_t predict_count(const struct core *core)
{
    return core->predictor->under_way;
}

static enum err check(struct core *core, const struct caller *caller, const Unlearn__Predict *body,
                      struct span raw, struct model **model_out)
{
    TRY(catalog_model(core, caller, body->model, model_out));
    const struct recipe recipe = shape_recipe((*model_out)->shape);
    if (body->score && !learner_scores(&recipe)) {
        FAIL(ERR_INVALID, "model \"%s\" has learner %s, which does not score: texts do",
             body->model, recipe.spec->learner);
    }
    const uint32_t width = learner_output_width(&recipe);
    const uint64_t most =
        body->score ? LIMIT_ROWS_PREDICT : LIMIT_CHUNK_BYTES / sizeof(float) / width;
    if (body->rows == 0 || body->rows > LIMIT_ROWS_PREDICT || body->rows > most ||
        body->rows > raw.bytes / 4) {
        FAIL(ERR_INVALID, "%u rows in a frame of %zu bytes, expected 1 to %llu rows", body->rows,
             raw.bytes,
             (unsigned long long)(most < LIMIT_ROWS_PREDICT ? most : LIMIT_ROWS_PREDICT));
    }
    if (core->predictor->under_way >= LIMIT_PREDICT_QUEUE) {
        FAIL(ERR_LIMIT, "%u predictions are waiting already: try again later",
             core->predictor->under_way);
    }
    return OK;
}

static enum err no_shard(const struct model *model)
{
    const bool empty = ensemble_sum(&model->ensemble).empty == ensemble_count(&model->ensemble);
    FAIL(ERR_UNAVAILABLE, "no shard of model \"%s\" has a valid component: %s", model->name,
         empty             ? "all that it was trained on was deleted"
         : model->run == 0 ? "its repair has not begun"
                           : "its training is under way");
}

// Estimated from above: all that a learner sees of a row is made of its bytes, and a weight meets each of
// these once. What a transformer's attention takes is not in it: rows and weights as few as these have little.
static bool is_small(const struct prediction *prediction)
{
    uint64_t work = 0;
    for (uint32_t i = 0; i < prediction->answer_count; i++) {
        work += SHARD_WORK + prediction->bytes.bytes * prediction->answers[i].weights->param_count;
    }
    return prediction->shape->base == NULL && work <= LIMIT_PREDICT_SMALL_WORK;
}

// Takes along what serves each shard now. A small prediction is computed here, and lies with those that
// the threads have finished; others are handed to them. False: nothing serves.
static bool begin(struct core *core, struct prediction *prediction, const struct model *model)
{
    for (uint32_t shard = 0; shard < model->ensemble.placement.shards; shard++) {
        const struct model *const answering = catalog_answering(core, model, shard);
        const int32_t node = ensemble_serving(&answering->ensemble, shard);
        if (node >= 0) {
            struct answer *const answer = &prediction->answers[prediction->answer_count++];
            *answer = (struct answer){.model = answering->number};
            trie_name(&answering->ensemble.trie, shard, (uint32_t)node, &answer->name);
            answer->weights = weights_hold(model_extra(answering, shard, (uint32_t)node)->weights);
        }
    }
    if (prediction->answer_count == 0) {
        return false;
    }
    prediction->attempts++;
    core->predictor->under_way++;
    if (is_small(prediction)) {
        compute_it(prediction);
        mailbox_put(core->predictor->outbox, &prediction->mail);
    } else {
        mailbox_put(core->predictor->inbox, &prediction->mail);
    }
    return true;
}

VERB(on_predict, Unlearn__Predict)
{
    struct model *model = NULL;
    const enum err refused = check(core, caller, body, raw, &model);
    if (refused != OK) {
        reply_error(core, caller, refused, err_text());
        return;
    }
    struct prediction *const prediction = mem_alloc(1, sizeof *prediction);
    const uint32_t shards = model->ensemble.placement.shards;
    prediction->caller = *caller;
    memcpy(prediction->model, model->name, sizeof prediction->model);
    prediction->shape = shape_hold(model->shape);
    prediction->row_count = body->rows;
    const struct recipe recipe = shape_recipe(model->shape);
    prediction->score = body->score;
    prediction->from = body->from;
    prediction->width = body->score ? 1 : learner_output_width(&recipe);
    prediction->rows = mem_alloc(body->rows, sizeof *prediction->rows);
    prediction->answers = mem_alloc(shards, sizeof *prediction->answers);
    buf_put(&prediction->bytes, raw);
    if (!begin(core, prediction, model)) {
        const enum err err = no_shard(model);
        reply_error(core, caller, err, err_text());
        prediction_free(prediction);
    }
}

// True while the component that made the answer is what training without any deleted record gives;
// then answer->records is set.
static bool still_valid(struct core *core, struct answer *answer)
{
    const struct model *const model = catalog_model_number(core, answer->model);
    if (model == NULL) { // Removed, or its successor took its place.
        return false;
    }
    const int32_t node = trie_find(&model->ensemble.trie, &answer->name);
    CHECK(node >= 0);
    const struct slot *const slot =
        ensemble_slot(&model->ensemble, answer->name.shard, (uint32_t)node);
    answer->records = slot->records;
    return slot->state == SLOT_VALID && slot->instance == answer->weights->instance;
}

static void drop_invalid(struct core *core, struct prediction *prediction)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < prediction->answer_count; i++) {
        struct answer *const answer = &prediction->answers[i];
        if (still_valid(core, answer)) {
            prediction->answers[kept++] = *answer;
        } else {
            answer_deinit(answer);
        }
    }
    prediction->answer_count = kept;
}

// Of the answers that are left, at least one.
static void send_answer(struct core *core, const struct prediction *prediction,
                        const struct model *model)
{
    const uint32_t used = prediction->answer_count;
    const size_t values = (size_t)prediction->count * prediction->width;
    const float **const outputs = mem_alloc(used, sizeof *outputs);
    double *const weights = mem_alloc(used, sizeof *weights);
    float *const answer = mem_alloc(values, sizeof *answer);
    const struct recipe recipe = shape_recipe(model->shape);
    for (uint32_t i = 0; i < used; i++) {
        outputs[i] = prediction->answers[i].outputs;
        weights[i] = (double)prediction->answers[i].records;
    }
    aggregate_rows(prediction->score ? AGGREGATE_MEAN_PROBABILITY : model->spec.aggregate,
                   !prediction->score && learner_predicts_classes(&recipe), outputs,
                   model->spec.weighted ? weights : NULL, used, prediction->count,
                   prediction->width, answer);
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Prediction out = UNLEARN__PREDICTION__INIT;
    out.shards_used = used;
    out.shards_total = model->ensemble.placement.shards;
    out.degraded = used < out.shards_total;
    out.epoch = core->epoch;
    out.rows = prediction->count;
    out.width = prediction->width;
    out.more = prediction->more;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_PREDICTION;
    reply.prediction = &out;
    reply_send(core, &prediction->caller, &reply, span_of(answer, values * sizeof *answer));
    mem_free(answer);
    mem_free(outputs);
    mem_free(weights);
}

// False: the prediction is being computed once more.
static bool finish(struct core *core, struct prediction *prediction)
{
    struct model *model = NULL;
    if (prediction->result != OK) {
        reply_error(core, &prediction->caller, prediction->result, prediction->text);
        return true;
    }
    if (catalog_model(core, &prediction->caller, prediction->model, &model) != OK) {
        reply_error(core, &prediction->caller, ERR_NOT_FOUND, "the model was removed");
        return true;
    }
    drop_invalid(core, prediction);
    if (prediction->answer_count > 0) {
        send_answer(core, prediction, model);
        return true;
    }
    // Another shape: the name stands for another model now.
    if (prediction->attempts < ATTEMPTS_MAX && prediction->shape == model->shape &&
        begin(core, prediction, model)) {
        return false;
    }
    const enum err err = no_shard(model);
    reply_error(core, &prediction->caller, err, err_text());
    return true;
}

void predict_finished(struct core *core)
{
    for (struct mail *mail; (mail = mailbox_take(core->predictor->outbox, false)) != NULL;) {
        struct prediction *const prediction = (struct prediction *)mail;
        core->predictor->under_way--;
        if (finish(core, prediction)) {
            prediction_free(prediction);
        }
    }
}
