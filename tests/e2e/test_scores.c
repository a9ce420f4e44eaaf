// Goal: what a coordinator says of texts is right: a score is the mean over the shards of what they give
// to that byte, an answer that goes on `from` somewhere is the rest of the whole, and what makes no
// sense is refused.
//
// Method: a real coordinator with a model of texts of two shards, and raw requests, which ask for what
// unlearnctl never would. What is predicted after each beginning of a text must give to its next byte
// the probability that the score of the text says, though two kinds of request are answered.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/call.h"
#include "client/token.h"
#include "tests/e2e/cluster.h"
#include "tests/unit/scratch.h"

enum { ROWS = 3 };

static char dir[SCRATCH_BYTES];
static struct unlearn *client;
// In a context of 16: 13 values in one window; 39 in three that begin at 13, 29 and 45; the end, at 52.
static const char *const texts[ROWS] = {"abcabd cabca", "a text of more than two windows of 16.",
                                        ""};
enum { VALUES = 13 + 39 + 1, ROOM = ROWS * TOKEN_COUNT };

static int ctl(const char *arguments)
{
    return cluster_ctl(dir, arguments);
}

static int setup(void **state)
{
    (void)state;
    char text[512];
    unsetenv("OPENBLAS_CORETYPE"); // Of whoever runs the test: the worker would be refused.
    assert_true(scratch_make(dir));
    snprintf(text, sizeof text, "%s/rows.csv", dir);
    FILE *const file = fopen(text, "w");
    assert_non_null(file);
    fprintf(file, "t,y\n");
    for (int i = 0; i < 200; i++) {
        fprintf(file, "%.*s text,%d\n", 3 + i % 9, &"abcabcabcabcabc"[i % 3], i % 2);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(cluster_start(dir, 1), 0);
    snprintf(text, sizeof text, "import texts %s/rows.csv --text t", dir);
    assert_int_equal(ctl(text), 0);
    assert_int_equal(
        ctl("train writer --dataset texts --wait --set learner=text layers=1 width=8 "
            "heads=2 inner=8 context=16 shards=2 slices=1 epochs=2 optimizer.kind=adamw "
            "optimizer.rate=0.01"),
        0);
    snprintf(text, sizeof text, "%s/c", dir);
    assert_int_equal(digest_start(), OK);
    assert_int_equal(unlearn_open_dir(text, NULL, &client), OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char text[512];
    unlearn_close(client);
    snprintf(text, sizeof text, "down %s/c", dir);
    (void)!ctl(text);
    scratch_remove(dir);
    return 0;
}

static void add_text(struct unlearn_batch *batch, const char *text, size_t bytes)
{
    struct buf row = {0};
    buf_u32(&row, (uint32_t)bytes);
    buf_put(&row, span_of(text, bytes));
    assert_true(unlearn_batch_add(batch, buf_span(&row)));
    buf_deinit(&row);
}

static struct unlearn_batch all_texts(void)
{
    struct unlearn_batch batch = {0};
    for (int i = 0; i < ROWS; i++) {
        add_text(&batch, texts[i], strlen(texts[i]));
    }
    return batch;
}

// One request, whatever it asks for. values_out: float32[ROOM], of which rows x width are set.
static enum err ask(const char *model, const struct unlearn_batch *batch, bool score, uint64_t from,
                    Unlearn__Prediction *answer_out, float *values_out)
{
    Unlearn__Predict body;
    unlearn__predict__init(&body);
    body.model = wire_text(model);
    body.rows = batch->rows;
    body.score = score;
    body.from = from;
    Unlearn__Request request = CALL_REQUEST(PREDICT, predict, &body);
    const Unlearn__Reply *reply;
    TRY(call(client, &request, buf_span(&batch->raw), CALL_AGAIN, CALL_ANSWER(PREDICTION), &reply));
    *answer_out = *reply->prediction;
    assert_true(client->raw.bytes <= ROOM * sizeof *values_out);
    memcpy(values_out, client->raw.data, client->raw.bytes);
    return OK;
}

static void test_scores_are_what_is_predicted(void **state)
{
    (void)state;
    struct unlearn_batch batch = all_texts();
    const Unlearn__Prediction *answer;
    const float *values;
    float scores[VALUES];
    assert_int_equal(unlearn_score(client, "writer", &batch, VALUES, &answer, &values), OK);
    assert_int_equal(answer->shards_used, 2);
    memcpy(scores, values, sizeof scores);
    unlearn_batch_deinit(&batch);

    batch = (struct unlearn_batch){.width = TOKEN_COUNT};
    const size_t bytes = strlen(texts[0]);
    for (size_t i = 0; i <= bytes; i++) {
        add_text(&batch, texts[0], i);
    }
    assert_int_equal(unlearn_predict(client, "writer", &batch, &answer, &values), OK);
    for (size_t i = 0; i <= bytes; i++) {
        const size_t next = i < bytes ? (uint8_t)texts[0][i] : TOKEN_END;
        const float predicted = values[i * TOKEN_COUNT + next];
        assert_true(fabs((double)(predicted - scores[i])) < 1e-5);
        assert_true(scores[i] > 0 && scores[i] < 1);
    }
    // The end of the empty text: what follows nothing.
    assert_true(fabs((double)(values[TOKEN_END] - scores[VALUES - 1])) < 1e-5);
    unlearn_batch_deinit(&batch);
}

static void test_from_gives_the_rest(void **state)
{
    (void)state;
    struct unlearn_batch batch = all_texts();
    Unlearn__Prediction answer = UNLEARN__PREDICTION__INIT;
    float whole[ROOM] = {0}, rest[ROOM] = {0}, first[ROOM] = {0};
    assert_int_equal(ask("writer", &batch, true, 0, &answer, whole), OK);
    assert_int_equal(answer.rows, VALUES);
    assert_int_equal(answer.width, 1);
    assert_false(answer.more);
    static const uint64_t begins[] = {13, 29, 45, 52};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        assert_int_equal(ask("writer", &batch, true, begins[i], &answer, rest), OK);
        assert_int_equal(answer.rows, VALUES - begins[i]);
        assert_memory_equal(rest, whole + begins[i], answer.rows * sizeof *rest);
    }
    unlearn_batch_deinit(&batch);
    batch = (struct unlearn_batch){0};
    add_text(&batch, "abc", 3);
    add_text(&batch, "b", 1);
    assert_int_equal(ask("writer", &batch, false, 0, &answer, first), OK);
    assert_int_equal(answer.rows, 2);
    assert_int_equal(ask("writer", &batch, false, 1, &answer, rest), OK);
    assert_int_equal(answer.rows, 1);
    assert_int_equal(answer.width, TOKEN_COUNT);
    for (uint32_t i = 0; i < TOKEN_COUNT; i++) {
        assert_true(fabs((double)(rest[i] - first[TOKEN_COUNT + i])) < 1e-6);
    }
    unlearn_batch_deinit(&batch);
}

static void assert_refused(const char *model, const struct unlearn_batch *batch, bool score,
                           uint64_t from, const char *words)
{
    Unlearn__Prediction answer = UNLEARN__PREDICTION__INIT;
    float values[ROOM] = {0};
    assert_int_equal(ask(model, batch, score, from, &answer, values), ERR_INVALID);
    if (strstr(err_text(), words) == NULL) {
        fprintf(stderr, "expected \"%s\" in \"%s\"\n", words, err_text());
        fail();
    }
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct unlearn_batch batch = all_texts();
    assert_refused("writer", &batch, true, 1, "no window of the texts begins at value 1, the next");
    assert_refused("writer", &batch, true, VALUES, "expected one below 53");
    assert_refused("writer", &batch, true, UINT64_MAX, "expected one below 53");
    // The row is named, though it is not the one from which on answers are asked for.
    assert_refused("writer", &batch, false, 2, "row 1: a text of 38 bytes, expected at most 15");
    unlearn_batch_deinit(&batch);
    batch = (struct unlearn_batch){0};
    add_text(&batch, "abc", 3);
    assert_refused("writer", &batch, false, 1, "answers from row 1 on, expected one of 1");

    char command[512];
    snprintf(command, sizeof command, "import classes %s/rows.csv --label y", dir);
    assert_int_equal(ctl(command), 0);
    assert_int_equal(ctl("train m --dataset classes --wait --set learner=softmax shards=1 slices=1 "
                         "epochs=1"),
                     0);
    assert_refused("m", &batch, true, 0, "learner softmax, which does not score");
    unlearn_batch_deinit(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_are_what_is_predicted),
        cmocka_unit_test(test_from_gives_the_rest),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
