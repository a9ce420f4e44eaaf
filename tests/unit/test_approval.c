// tests/unit/test_approval.c: a deletion of many records changes nothing for good before a second person
// agrees, and what is refused is as if it had never been asked for.
//
// Method: requests are handed to a coordinator without a loop (desk.h), under one key or another. What is
// visible is counted in the store and in memory; a record is there again when a later deletion finds it. A
// crash is a restart from the store. What is trained again after a refusal is in tests/e2e/test_approval.sh.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <time.h>

#include <cmocka.h>

#include "store/bulk.h"
#include "store/private.h"
#include "store/tally.h"
#include "tests/unit/desk_people.h"

// Ten by ten the records belong to "s0", "s1", ...
enum { RECORDS = 2000, ABOVE = 5, SMALL = 5, LARGE = 20, MANY = 900 };

static struct desk desk;
static uint64_t number; // Of the last request sent.
static const uint8_t first_key[CURVEKEY_BYTES] = {1}, second_key[CURVEKEY_BYTES] = {2};

static void drain(void)
{
    storage_drain(desk.core->storage, desk.core);
}

static const Unlearn__Reply *ask(Unlearn__Request *request, struct span raw)
{
    desk_ask(&desk, request, ++number, raw);
    drain();
    return desk_answer(&desk, number);
}

static void subject_of(uint32_t record, char out[static DESK_PEOPLE_TEXT])
{
    snprintf(out, DESK_PEOPLE_TEXT, "s%u", record / 10);
}

static void give_key(const char *name, Unlearn__Role role, const uint8_t *key)
{
    Unlearn__KeyAdd body = UNLEARN__KEY_ADD__INIT;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    body.name = wire_text(name);
    body.role = role;
    body.public_ = wire_bytes(span_of(key, CURVEKEY_BYTES));
    request.body_case = UNLEARN__REQUEST__BODY_KEY_ADD;
    request.key_add = &body;
    assert_int_equal(ask(&request, span_of(NULL, 0))->status, UNLEARN__STATUS__STATUS_OK);
}

static int set_up(void **state)
{
    (void)state;
    desk.key = NULL;
    desk_open(&desk);
    number = 10;
    desk_people(&desk, RECORDS, subject_of);
    give_key("first", UNLEARN__ROLE__ROLE_ADMIN, first_key);
    give_key("second", UNLEARN__ROLE__ROLE_OWNER, second_key);
    desk.core->config.approve_above = ABOVE;
    desk.key = first_key;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bulk_stop(desk.core);
    approval_stop(desk.core);
    desk_close(&desk);
    return 0;
}

static void restart(void)
{
    approval_stop(desk.core);
    bulk_stop(desk.core);
    desk_restart(&desk);
    desk.core->config.approve_above = ABOVE;
    bulk_resume(desk.core);
    erasure_resume(desk.core);
}

// ---------------------------------------------------------------- asking

static uint8_t uuid_bytes[ID_BYTES];

static ProtobufCBinaryData uuid_of(uint8_t uuid)
{
    uuid_bytes[0] = uuid;
    return wire_bytes(span_of(uuid_bytes, sizeof uuid_bytes));
}

// Sends a deletion of `count` records from number `from` on, in one message.
static void send_delete(uint8_t uuid, uint32_t from, uint32_t count)
{
    static char texts[MANY][24];
    static char *records[MANY];
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    for (uint32_t i = 0; i < count; i++) {
        records[i] = texts[i];
        snprintf(texts[i], sizeof texts[i], "%u", from + i);
    }
    body.dataset = wire_text("people");
    body.uuid = uuid_of(uuid);
    body.records = records;
    body.n_records = count;
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = &body;
    desk_ask(&desk, &request, ++number, span_of(NULL, 0));
}

static const Unlearn__RequestState *state_of(const Unlearn__Reply *reply)
{
    if (reply->status != UNLEARN__STATUS__STATUS_OK) {
        fail_msg("%s", reply->message);
    }
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_REQUEST_STATE);
    return reply->request_state;
}

static const Unlearn__RequestState *delete_some(uint8_t uuid, uint32_t from, uint32_t count)
{
    send_delete(uuid, from, count);
    drain();
    return state_of(desk_answer(&desk, number));
}

static const Unlearn__Reply *delete_subject(uint8_t uuid, const char *subject)
{
    char *subjects[] = {wire_text(subject)};
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    body.dataset = wire_text("people");
    body.uuid = uuid_of(uuid);
    body.subjects = subjects;
    body.n_subjects = 1;
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = &body;
    return ask(&request, span_of(NULL, 0));
}

static void send_decision(uint8_t uuid, bool refuse)
{
    Unlearn__Approve body = UNLEARN__APPROVE__INIT;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    body.uuid = uuid_of(uuid);
    body.refuse = refuse;
    request.body_case = UNLEARN__REQUEST__BODY_APPROVE;
    request.approve = &body;
    desk_ask(&desk, &request, ++number, span_of(NULL, 0));
}

static const Unlearn__Reply *decide(uint8_t uuid, bool refuse)
{
    send_decision(uuid, refuse);
    drain();
    return desk_answer(&desk, number);
}

static const Unlearn__Reply *show(uint8_t uuid)
{
    Unlearn__RequestShow body = UNLEARN__REQUEST_SHOW__INIT;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    body.uuid = uuid_of(uuid);
    request.body_case = UNLEARN__REQUEST__BODY_REQUEST_SHOW;
    request.request_show = &body;
    return ask(&request, span_of(NULL, 0));
}

static int phase_of(uint8_t uuid)
{
    return (int)state_of(show(uuid))->phase;
}

static void expect_refusal(const Unlearn__Reply *reply, Unlearn__Status status, const char *words)
{
    assert_int_equal(reply->status, status);
    if (strstr(reply->message, words) == NULL) {
        fail_msg("\"%s\", expected \"%s\"", reply->message, words);
    }
}

// ---------------------------------------------------------------- what is there

struct counted {
    struct job job;
    uint64_t left, rows[KV_TABLE_COUNT_], tally[TALLY_REFUSED + 1];
};

static bool count_tally(void *context, const struct tally *tally)
{
    ((struct counted *)context)->tally[tally->reason] += tally->count;
    return true;
}

static enum err count_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct counted *const counted = (struct counted *)job;
    static const enum kv_table tables[] = {KV_PENDING, KV_TOMBSTONE, KV_RECORD, KV_AWAITED,
                                           KV_REQUEST_OPEN};
    static const struct tally first = {.day = 0};
    struct dataset_row row = {0};
    TRY(dataset_get(txn, 1, &row));
    counted->left = row.record_count;
    assert_true(row.risk_records[0] == row.record_count);
    dataset_row_deinit(&row);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct kv_cursor cursor;
        TRY(kv_cursor_open(&txn->kv, tables[i], &cursor));
        enum err err = kv_cursor_seek(&cursor, span_of("", 0));
        for (; err == OK && !cursor.at_end; counted->rows[tables[i]]++) {
            err = kv_cursor_next(&cursor);
        }
        kv_cursor_close(&cursor);
        TRY(err);
    }
    return tally_walk(txn, &first, count_tally, counted);
}

static struct counted count(void)
{
    struct counted counted = {.job = {.kind = JOB_READ, .run = count_run}};
    drain();
    assert_int_equal(storage_call(desk.core->storage, &counted.job), OK);
    assert_int_equal(desk.core->datasets[0]->row.record_count, counted.left);
    assert_int_equal(desk.core->datasets[0]->fencing, 0);
    return counted;
}

// As if it had never been asked for.
static void expect_all_back(void)
{
    const struct counted counted = count();
    assert_int_equal(counted.left, RECORDS);
    assert_int_equal(counted.rows[KV_RECORD], RECORDS);
    assert_int_equal(counted.rows[KV_PENDING] + counted.rows[KV_TOMBSTONE], 0);
    assert_int_equal(counted.rows[KV_AWAITED] + counted.rows[KV_REQUEST_OPEN], 0);
    assert_int_equal(desk.core->request_count, 0);
}

static void later(int64_t ms) // For what waits for its time after a restart.
{
    desk.core->now_ms += ms;
    desk.core->wall_us += ms * 1000;
    erasure_tick(desk.core);
    approval_tick(desk.core);
    drain();
}

// ---------------------------------------------------------------- tests

static void test_only_large_ones_wait(void **state)
{
    (void)state;
    const Unlearn__RequestState *got = delete_some(1, 0, SMALL);
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED);
    assert_true(got->accepted.len > 0 && got->approve_by_us == 0);
    got = delete_some(2, 100, LARGE);
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL);
    assert_int_equal(got->accepted.len, 0); // Nothing is proved that may be taken back.
    assert_int_equal(got->records_deleted, LARGE);
    assert_true(got->approve_by_us == got->fenced_us + 72 * INT64_C(3600000000));
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED);
    const struct counted counted = count();
    assert_int_equal(counted.left, RECORDS - SMALL - LARGE);    // Hidden,
    assert_int_equal(counted.rows[KV_RECORD], RECORDS - SMALL); // but there.
    assert_int_equal(counted.rows[KV_PENDING], LARGE);
    desk.core->config.approve_above = 0;
    got = delete_some(3, 200, LARGE);
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED);
}

static void test_approved(void **state)
{
    (void)state;
    delete_some(1, 0, LARGE);
    expect_refusal(decide(1, false), UNLEARN__STATUS__STATUS_PERMISSION_DENIED,
                   "somebody else must approve it");
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL);
    desk.key = second_key;
    const Unlearn__RequestState *got = state_of(decide(1, false));
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED);
    assert_true(got->accepted.len > 0);
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED);
    const struct counted counted = count();
    assert_int_equal(counted.left, RECORDS - LARGE);
    assert_int_equal(counted.rows[KV_RECORD], RECORDS - LARGE);
    assert_int_equal(counted.rows[KV_PENDING], 0);
    assert_true(state_of(decide(1, false))->accepted.len > 0); // Again is the same.
    expect_refusal(decide(1, true), UNLEARN__STATUS__STATUS_CONFLICT, "does not come back");
}

static void test_refused(void **state)
{
    (void)state;
    delete_some(1, 0, LARGE);
    const Unlearn__RequestState *got = state_of(decide(1, true)); // Who asked may do that.
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_RETURNING);
    got = state_of(show(1));
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED);
    assert_true(got->records_deleted == 0 && got->ids_deleted == 0 && got->completed_us != 0);
    expect_all_back();
    assert_int_equal(count().tally[TALLY_REFUSED], 1);
    got = delete_some(1, 0, LARGE); // The same UUID has the same answer.
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED);
    assert_int_equal(got->accepted.len, 0);
    assert_int_equal(state_of(decide(1, true))->phase,
                     UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED);
    desk.key = second_key;
    expect_refusal(decide(1, false), UNLEARN__STATUS__STATUS_CONFLICT, "was refused");
    got = delete_some(2, 0, SMALL); // They are there, and can be deleted.
    assert_int_equal(got->ids_deleted, SMALL);
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED);
}

static void test_what_is_asked_of_it(void **state)
{
    (void)state;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ReceiptGet get = UNLEARN__RECEIPT_GET__INIT;
    Unlearn__AnswersGet answers = UNLEARN__ANSWERS_GET__INIT;
    delete_some(1, 0, LARGE);
    get.uuid = answers.uuid = uuid_of(1);
    request.body_case = UNLEARN__REQUEST__BODY_RECEIPT_GET;
    request.receipt_get = &get;
    expect_refusal(ask(&request, span_of(NULL, 0)), UNLEARN__STATUS__STATUS_CONFLICT,
                   "waits for approval: there is no receipt of it");
    decide(1, true);
    get.uuid = answers.uuid = uuid_of(1);
    expect_refusal(ask(&request, span_of(NULL, 0)), UNLEARN__STATUS__STATUS_CONFLICT,
                   "was refused: there is no receipt of it");
    request.body_case = UNLEARN__REQUEST__BODY_ANSWERS_GET;
    request.answers_get = &answers;
    expect_refusal(ask(&request, span_of(NULL, 0)), UNLEARN__STATUS__STATUS_CONFLICT,
                   "it has deleted nothing");
    expect_refusal(decide(9, false), UNLEARN__STATUS__STATUS_NOT_FOUND, "no request with this");
    expect_refusal(decide(9, true), UNLEARN__STATUS__STATUS_NOT_FOUND, "no request with this");
    Unlearn__Approve approve = UNLEARN__APPROVE__INIT;
    approve.uuid = wire_bytes(span_of("short", 5));
    request.body_case = UNLEARN__REQUEST__BODY_APPROVE;
    request.approve = &approve;
    expect_refusal(ask(&request, span_of(NULL, 0)), UNLEARN__STATUS__STATUS_INVALID_ARGUMENT,
                   "UUID");
}

static void test_out_of_time(void **state)
{
    (void)state;
    delete_some(1, 0, LARGE);
    later(71 * 3600000);
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL);
    later(3600000 + 2000);
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED);
    expect_all_back();
}

static void test_restarts(void **state)
{
    (void)state;
    send_delete(1, 0, MANY); // In steps.
    drain();
    assert_int_equal(state_of(desk_answer(&desk, number))->phase,
                     UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL);
    restart();
    later(6000);
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL);
    struct counted counted = count();
    assert_int_equal(counted.left, RECORDS - MANY);
    assert_int_equal(counted.rows[KV_RECORD], RECORDS);
    send_decision(1, true);
    int steps = 0;
    storage_flush(desk.core->storage);
    while (desk.core->datasets[0]->row.record_count < RECORDS - MANY / 2) { // Half way
        struct job *const job = storage_finished(desk.core->storage);
        if (job == NULL) {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        } else {
            job->done(job, desk.core);
            steps++;
        }
    }
    assert_true(steps > 1 && desk.core->datasets[0]->row.record_count < RECORDS);
    assert_int_equal(desk.core->datasets[0]->fencing, 1); // Nothing is trained meanwhile.
    restart();
    assert_int_equal(desk.core->datasets[0]->fencing, 1);
    later(6000);
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED);
    expect_all_back();
    restart();
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED);
    expect_all_back();
}

// What others ask for meanwhile: a hidden record is on hold; a person who is deleted stays so.
static void test_others_ask_meanwhile(void **state)
{
    (void)state;
    delete_some(1, 100, LARGE); // All of s10 and s11.
    const Unlearn__RequestState *got = delete_some(2, 98, 4);
    assert_int_equal(got->ids_deleted, 2);
    assert_int_equal(got->ids_held, 2);
    assert_int_equal(memcmp(got->hold_reason, "it waits for the approval of request 01000000", 45),
                     0);
    send_delete(3, 100, 2);
    drain();
    expect_refusal(desk_answer(&desk, number), UNLEARN__STATUS__STATUS_CONFLICT,
                   "all of it is on hold: it waits for the approval of request 01000000");
    expect_refusal(delete_subject(4, "s10"), UNLEARN__STATUS__STATUS_CONFLICT, // By its records.
                   "it is on hold: it waits for the approval");
    decide(1, true);
    drain();
    assert_int_equal(count().left, RECORDS - 2);
    delete_some(5, 205, LARGE);               // Of s20, s21 and s22 some, so that
    got = state_of(delete_subject(6, "s20")); // the rest of s20 can be asked for.
    assert_int_equal(got->records_deleted, 5);
    decide(5, true);
    got = state_of(show(5));
    assert_int_equal(got->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED);
    assert_int_equal(got->records_deleted, 5); // They stay deleted, for the other's sake,
    const struct counted counted = count();
    assert_int_equal(counted.left, RECORDS - 2 - 10);
    assert_int_equal(counted.rows[KV_RECORD], RECORDS - 2 - 10); // and are erased.
    assert_int_equal(counted.rows[KV_PENDING], 0);
}

// While a deletion of many is fenced step by step, nobody knows yet whether it will have to wait.
static void test_many_in_the_making(void **state)
{
    (void)state;
    send_delete(1, 0, MANY);
    const uint64_t many = number;
    storage_flush(desk.core->storage);
    while (desk.core->datasets[0]->row.record_count == RECORDS) {
        struct job *const job = storage_finished(desk.core->storage);
        if (job == NULL) {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        } else {
            job->done(job, desk.core);
        }
    }
    send_delete(2, 0, 1);
    drain();
    expect_refusal(desk_answer(&desk, number), UNLEARN__STATUS__STATUS_CONFLICT,
                   "it waits for the approval of request 01000000");
    assert_int_equal(state_of(desk_answer(&desk, many))->phase,
                     UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL);
}

static void test_a_dataset_that_goes(void **state)
{
    (void)state;
    delete_some(1, 0, LARGE);
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__DatasetRemove removal = UNLEARN__DATASET_REMOVE__INIT;
    removal.dataset = wire_text("people");
    removal.uuid = uuid_of(2);
    request.body_case = UNLEARN__REQUEST__BODY_DATASET_REMOVE;
    request.dataset_remove = &removal;
    assert_int_equal(ask(&request, span_of(NULL, 0))->status, UNLEARN__STATUS__STATUS_OK);
    state_of(decide(1, true));
    later(100);
    assert_int_equal(phase_of(1), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED);
    assert_int_equal(phase_of(2), UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED);
}

// ---------------------------------------------------------------- a component

static struct component_row component(uint64_t instance)
{
    struct component_job put = {.job = {.kind = JOB_WRITE_ALONE, .run = component_run},
                                .instance = instance};
    drain();
    assert_int_equal(storage_call(desk.core->storage, &put.job), OK);
    return put.row;
}

// What was trained while the records were hidden has not seen them: it is invalid when they are back.
static void test_what_was_trained_without_them(void **state)
{
    (void)state;
    component(70);
    delete_some(1, 0, LARGE);
    assert_int_equal(component(0).state, COMPONENT_INVALID);
    component(71);
    const uint64_t before = state_of(show(1))->epoch;
    decide(1, true);
    const Unlearn__RequestState *const got = state_of(show(1));
    const uint64_t after = got->epoch;
    assert_int_equal(got->components_invalidated, 2);
    assert_int_equal(component(0).state, COMPONENT_INVALID);
    assert_true(after > before);
    expect_all_back(); // The weights of both, too.
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_large_ones_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_approved, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_asked_of_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restarts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others_ask_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_in_the_making, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_dataset_that_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_trained_without_them, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
