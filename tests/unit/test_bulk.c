// tests/unit/test_bulk.c: a deletion of many answers each id as if all had been asked at once, whatever
// comes between its steps.
//
// Method: requests are handed to a coordinator without a loop (desk.h); the store thread's results are taken
// one by one where a test looks between the steps. What must be answered is worked out from the list of
// records alone. A crash is bulk_stop and a restart from the store. No model: what a part invalidates is in
// test_fence.c and, trained, in tests/e2e/test_bulk.sh.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <time.h>

#include <cmocka.h>

#include "store/bulk.h"
#include "store/hold.h"
#include "store/private.h"
#include "store/tally.h"
#include "tests/unit/desk_people.h"

// Records 0 to 1499 belong to "crowd", the others ten by ten to "s150", "s151", ...
enum { RECORDS = 3000, CROWD = 1500, IDS_MAX = 6000 };

static struct desk desk;
static uint64_t number; // Of the last request sent.

static void subject_of(uint32_t record, char out[static DESK_PEOPLE_TEXT])
{
    snprintf(out, DESK_PEOPLE_TEXT, record < CROWD ? "crowd" : "s%u", record / 10);
}

static int set_up(void **state)
{
    (void)state;
    desk_open(&desk);
    number = 10;
    desk_people(&desk, RECORDS, subject_of);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bulk_stop(desk.core);
    desk_close(&desk);
    return 0;
}

// ---------------------------------------------------------------- asking

static struct {
    char texts[IDS_MAX][24];
    char *records[IDS_MAX], *subjects[IDS_MAX];
    uint8_t expected[2 * IDS_MAX]; // Of records, then of subjects.
    uint32_t record_count, subject_count, text_count;
} asked;

static char *text_of(const char *format, uint32_t value)
{
    assert_true(asked.text_count < IDS_MAX);
    char *const text = asked.texts[asked.text_count++];
    snprintf(text, sizeof asked.texts[0], "%s%u", format, value);
    return text;
}

static void add_record(uint32_t id, enum id_answer answer)
{
    asked.expected[asked.record_count] = (uint8_t)answer;
    asked.records[asked.record_count++] = text_of("", id);
}

static void add_subject(char *text, enum id_answer answer) // After all records.
{
    asked.expected[asked.record_count + asked.subject_count] = (uint8_t)answer;
    asked.subjects[asked.subject_count++] = text;
}

static uint32_t expected_count(enum id_answer answer)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < asked.record_count + asked.subject_count; i++) {
        count += asked.expected[i] == answer;
    }
    return count;
}

static uint64_t send_body(Unlearn__Delete *body)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = body;
    desk_ask(&desk, &request, ++number, span_of(NULL, 0));
    return number;
}

static uint8_t uuid_bytes[ID_BYTES];

static Unlearn__Delete body_of(uint8_t uuid)
{
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    uuid_bytes[0] = uuid;
    body.dataset = wire_text("people");
    body.uuid = wire_bytes(span_of(uuid_bytes, sizeof uuid_bytes));
    return body;
}

// As one part, whose answer is awaited: its number.
static uint64_t send_whole(uint8_t uuid)
{
    Unlearn__Delete body = body_of(uuid);
    body.records = asked.records;
    body.n_records = asked.record_count;
    return send_body(&body);
}

// In parts of 700; takes the answers to all but the last, which it returns the number of.
static uint64_t send_all(uint8_t uuid)
{
    const uint32_t total = asked.record_count + asked.subject_count;
    Unlearn__Delete body = body_of(uuid);
    for (uint32_t at = 0; at < total;) {
        const uint32_t end = at + 700 < total ? at + 700 : total;
        const uint32_t records_end = end < asked.record_count ? end : asked.record_count;
        const uint32_t subjects_from = at < asked.record_count ? asked.record_count : at;
        body.records = asked.records + at;
        body.n_records = at < records_end ? records_end - at : 0;
        body.subjects = asked.subjects + (subjects_from - asked.record_count);
        body.n_subjects = end > subjects_from ? end - subjects_from : 0;
        body.more = end < total;
        send_body(&body);
        body.part++;
        at = end;
        if (body.more) {
            storage_drain(desk.core->storage, desk.core);
            assert_int_equal(desk_answer(&desk, number)->body_case,
                             UNLEARN__REPLY__BODY_DELETE_PART);
        }
    }
    return number;
}

// Takes the result of one job of the store thread.
static void turn(void)
{
    struct job *job = NULL;
    while ((job = storage_finished(desk.core->storage)) == NULL) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    job->done(job, desk.core);
}

static void drain(void)
{
    storage_drain(desk.core->storage, desk.core);
}

// ---------------------------------------------------------------- what must be

static void expect_answers(uint8_t uuid)
{
    const uint32_t total = asked.record_count + asked.subject_count;
    uuid_bytes[0] = uuid;
    for (uint32_t at = 0; at <= total;) {
        Unlearn__Request request = UNLEARN__REQUEST__INIT;
        Unlearn__AnswersGet body = UNLEARN__ANSWERS_GET__INIT;
        body.uuid = wire_bytes(span_of(uuid_bytes, sizeof uuid_bytes));
        body.from = at;
        request.body_case = UNLEARN__REQUEST__BODY_ANSWERS_GET;
        request.answers_get = &body;
        desk_ask(&desk, &request, ++number, span_of(NULL, 0));
        drain();
        const Unlearn__Reply *const reply = desk_answer(&desk, number);
        assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_ANSWER_PAGE);
        assert_int_equal(reply->answer_page->total, total);
        assert_memory_equal(reply->answer_page->answers.data, asked.expected + at,
                            reply->answer_page->answers.len);
        if (at == total) { // Behind the last.
            assert_int_equal(reply->answer_page->answers.len, 0);
            break;
        }
        at += (uint32_t)reply->answer_page->answers.len;
        assert_true(reply->answer_page->answers.len > 0);
    }
}

static void expect_ack(const Unlearn__Reply *reply, uint64_t records, uint64_t held)
{
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_REQUEST_STATE);
    const Unlearn__RequestState *const got = reply->request_state;
    assert_int_equal(got->ids_deleted, expected_count(ANSWER_DELETED));
    assert_int_equal(got->ids_gone, expected_count(ANSWER_GONE));
    assert_int_equal(got->ids_not_found, expected_count(ANSWER_NOT_FOUND));
    assert_int_equal(got->ids_held, expected_count(ANSWER_HELD));
    assert_int_equal(got->records_deleted, records);
    assert_int_equal(got->records_held, held);
    assert_true(got->accepted.len > 0);
}

struct counted {
    struct job job;
    uint64_t left, rows[KV_TABLE_COUNT_];
    uint64_t tally[4];
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
    static const enum kv_table tables[] = {KV_ASKED, KV_BULK, KV_ANSWER, KV_REQUEST, KV_PENDING};
    static const struct tally first = {.day = 0};
    struct dataset_row row = {0};
    TRY(dataset_get(txn, 1, &row));
    counted->left = row.record_count;
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
    return counted;
}

// Nothing of how it was done is left.
static void expect_clear(uint64_t left)
{
    const struct counted counted = count();
    assert_int_equal(counted.left, left);
    assert_int_equal(counted.rows[KV_ASKED] + counted.rows[KV_BULK], 0);
    assert_int_equal(desk.core->datasets[0]->fencing, 0);
}

static void hold(const char *record, const char *subject)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__HoldPut body = UNLEARN__HOLD_PUT__INIT;
    body.dataset = wire_text("people");
    body.record = wire_text(record);
    body.subject = wire_text(subject);
    body.reason = wire_text("why");
    request.body_case = UNLEARN__REQUEST__BODY_HOLD_PUT;
    request.hold_put = &body;
    desk_ask(&desk, &request, ++number, span_of(NULL, 0));
    drain();
    assert_int_equal(desk_answer(&desk, number)->status, UNLEARN__STATUS__STATUS_OK);
}

// A small request, in one transaction.
static void delete_one(uint8_t uuid, uint32_t id)
{
    Unlearn__Delete body = body_of(uuid);
    char text[24], *texts[] = {text};
    snprintf(text, sizeof text, "%u", id);
    body.n_records = 1;
    body.records = texts;
    send_body(&body);
    drain();
    assert_int_equal(desk_answer(&desk, number)->body_case, UNLEARN__REPLY__BODY_REQUEST_STATE);
}

// 900 records with 20 of s200 on hold or deleted before, one of them ten times, and unknown ones.
static void ask_for_many(void)
{
    memset(&asked, 0, sizeof asked);
    hold("2000", "");
    hold("", "s201"); // 2010 to 2019
    delete_one(1, 2001);
    for (uint32_t i = 0; i < 900; i++) {
        const uint32_t id = 1900 + i;
        add_record(id, id == 2000 || (id >= 2010 && id < 2020) ? ANSWER_HELD
                       : id == 2001                            ? ANSWER_GONE
                                                               : ANSWER_DELETED);
        if (i % 3 == 0) {
            add_record(100000 + i, ANSWER_NOT_FOUND);
        }
        if (i % 90 == 0) {
            add_record(1950, ANSWER_DELETED); // Ten times, before and after its own turn.
        }
    }
}
enum { MANY = 900 - 12, MANY_HELD = 11 };

// ---------------------------------------------------------------- tests

static void test_each_id_gets_its_answer(void **state)
{
    (void)state;
    ask_for_many();
    send_all(2);
    drain();
    expect_ack(desk_answer(&desk, number), MANY, MANY_HELD);
    expect_answers(2);
    expect_clear(RECORDS - 1 - MANY);
}

// Subjects are looked for before the records that are named, too.
static void test_subjects_and_their_records(void **state)
{
    (void)state;
    memset(&asked, 0, sizeof asked);
    hold("1605", "");
    hold("", "s170");
    for (uint32_t i = 0; i < 300; i++) {
        add_record(1600 + i, 1600 + i == 1605 || i / 10 == 10 ? ANSWER_HELD : ANSWER_DELETED);
    }
    static char part[] = "s160", one[] = "s161", held[] = "s170", nobody[] = "nobody";
    add_subject(part, ANSWER_DELETED); // One of its ten stays.
    add_subject(one, ANSWER_DELETED);
    add_subject(nobody, ANSWER_NOT_FOUND);
    add_subject(held, ANSWER_HELD);
    add_subject(part, ANSWER_DELETED); // Again: by now it has but the one.
    send_all(3);
    drain();
    expect_ack(desk_answer(&desk, number), 300 - 11, 11);
    expect_answers(3);
    expect_clear(RECORDS - 289);
}

static void test_a_subject_of_many_records(void **state)
{
    (void)state;
    memset(&asked, 0, sizeof asked);
    static char crowd[] = "crowd";
    Unlearn__Delete body = body_of(4);
    char *texts[] = {crowd, crowd};
    hold("700", "");
    add_subject(crowd, ANSWER_DELETED);
    add_subject(crowd, ANSWER_DELETED);
    body.n_subjects = 2;
    body.subjects = texts;
    send_body(&body);
    drain();
    expect_ack(desk_answer(&desk, number), CROWD - 1, 1);
    expect_answers(4);
    expect_clear(RECORDS - CROWD + 1);
    send_body(&body); // Again, and in the same way.
    drain();
    expect_ack(desk_answer(&desk, number), CROWD - 1, 1);
    expect_clear(RECORDS - CROWD + 1);
}

static uint64_t left_now(void)
{
    return desk.core->datasets[0]->row.record_count;
}

// Stopped after each number of steps in turn, it goes on at the next start.
static void test_goes_on_after_a_crash(void **state)
{
    (void)state;
    ask_for_many();
    uint32_t restarts = 0;
    bool stopped = false;
    send_all(5);
    turn(); // The seal.
    for (uint64_t before = left_now(); left_now() > RECORDS - 1 - MANY; before = left_now()) {
        turn();
        if (left_now() < before && left_now() > RECORDS - 1 - MANY && restarts < 5) {
            const uint64_t left = left_now();
            bulk_stop(desk.core);
            stopped = true;
            desk_restart(&desk);
            assert_int_equal(desk.core->datasets[0]->fencing, 1);
            assert_true(left_now() <= left); // What was under way was finished.
            bulk_resume(desk.core);
            restarts++;
        }
    }
    assert_true(stopped && restarts >= 2);
    drain();
    expect_answers(5);
    expect_clear(RECORDS - 1 - MANY);
    send_all(5); // The client asks again: the same answer.
    drain();
    expect_ack(desk_answer(&desk, number), MANY, MANY_HELD);
    expect_clear(RECORDS - 1 - MANY);
}

static void test_what_was_not_sealed_is_dropped(void **state)
{
    (void)state;
    ask_for_many();
    Unlearn__Delete body = body_of(6);
    body.records = asked.records;
    body.n_records = 700;
    body.more = true;
    send_body(&body);
    drain();
    assert_int_equal(desk_answer(&desk, number)->body_case, UNLEARN__REPLY__BODY_DELETE_PART);
    assert_true(count().rows[KV_ASKED] > 0);
    desk_restart(&desk);
    bulk_resume(desk.core);
    drain();
    expect_clear(RECORDS - 1);
    body.part = 1;
    send_body(&body);
    drain();
    const Unlearn__Reply *const reply = desk_answer(&desk, number);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_non_null(strstr(reply->message, "part 1 came without the parts before it"));
    // Nor does an upload that stands still.
    body.part = 0;
    send_body(&body);
    drain();
    desk_answer(&desk, number);
    desk.core->now_ms += 60001;
    bulk_tick(desk.core);
    drain();
    expect_clear(RECORDS - 1);
}

static void expect_refused(Unlearn__Status status, const char *words)
{
    const Unlearn__Reply *const reply = desk_answer(&desk, number);
    assert_int_equal(reply->status, status);
    if (strstr(reply->message, words) == NULL) {
        fail_msg("%s", reply->message);
    }
}

static void test_the_same_uuid(void **state)
{
    (void)state;
    ask_for_many();
    const uint64_t first = send_whole(7);
    turn();
    turn();
    const uint64_t second = send_whole(7); // While it is being fenced.
    asked.record_count--;
    send_whole(7); // With another body.
    asked.record_count++;
    assert_true(left_now() > RECORDS - 1 - MANY); // It was not over meanwhile.
    drain();
    uint32_t acks = 0, refused = 0;
    for (uint64_t i = 0; i < 3; i++) {
        struct link_message message;
        const Unlearn__Reply *reply = NULL;
        bool ready = false;
        assert_int_equal(link_wait(&desk.client, &ready, 1, NULL, 0, DESK_PATIENCE_MS), OK);
        assert_int_equal(link_receive(desk.client, &message), OK);
        assert_int_equal(wire_get_reply(&desk.arena, message.envelope, &reply), OK);
        if (reply->request_id == first || reply->request_id == second) {
            expect_ack(reply, MANY, MANY_HELD);
            acks++;
        } else {
            assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
            refused++;
        }
    }
    assert_true(acks == 2 && refused == 1);
    asked.record_count--;
    send_whole(7); // When it is over.
    drain();
    expect_refused(UNLEARN__STATUS__STATUS_CONFLICT, "used before with another body");
    expect_clear(RECORDS - 1 - MANY);
}

// Nothing is known, or all of it is on hold: refused, counted, and nothing is left of it.
static void test_refused(void **state)
{
    (void)state;
    memset(&asked, 0, sizeof asked);
    for (uint32_t i = 0; i < 1000; i++) {
        add_record(50000 + i, ANSWER_NOT_FOUND);
    }
    send_all(8);
    drain();
    expect_refused(UNLEARN__STATUS__STATUS_NOT_FOUND, "none of the 1000 records and 0 subjects");
    hold("", "s250");
    add_record(2500, ANSWER_HELD);
    send_all(9);
    drain();
    expect_refused(UNLEARN__STATUS__STATUS_CONFLICT,
                   "some of it is on legal hold, and nothing else of it is there: why");
    const struct counted counted = count();
    assert_int_equal(counted.tally[TALLY_NOT_FOUND], 1);
    assert_int_equal(counted.tally[TALLY_HELD], 1);
    assert_int_equal(counted.rows[KV_REQUEST] + counted.rows[KV_ANSWER], 0);
    expect_clear(RECORDS);
}

// All of it was deleted before: OK, and the earlier request is named.
static void test_nothing_left(void **state)
{
    (void)state;
    memset(&asked, 0, sizeof asked);
    for (uint32_t i = 0; i < 300; i++) {
        add_record(1600 + i, ANSWER_DELETED);
    }
    send_all(10);
    drain();
    expect_ack(desk_answer(&desk, number), 300, 0);
    memset(asked.expected, ANSWER_GONE, 300);
    send_all(11);
    drain();
    const Unlearn__Reply *const reply = desk_answer(&desk, number);
    expect_ack(reply, 0, 0);
    assert_int_equal(reply->request_state->phase, UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED);
    assert_int_equal(reply->request_state->earlier.data[0], 10);
    expect_answers(11);
    assert_int_equal(count().rows[KV_ANSWER], 0); // All the same: no row.
    expect_clear(RECORDS - 300);
}

// Single deletions go on between the steps; one that comes too late names the request of many.
static void test_others_go_on_meanwhile(void **state)
{
    (void)state;
    ask_for_many();
    const uint64_t bulk = send_all(12);
    turn();
    while (left_now() == RECORDS - 1) {
        turn();
    }
    Unlearn__Delete body = body_of(13);
    char text[24] = "2900", *texts[] = {text};
    body.n_records = 1;
    body.records = texts;
    send_body(&body); // Not one of the many.
    const uint64_t other = number;
    snprintf(text, sizeof text, "1900"); // The first of them.
    uuid_bytes[0] = 14;
    send_body(&body);
    const uint64_t late = number;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__RequestShow show = UNLEARN__REQUEST_SHOW__INIT;
    uint8_t of_bulk[ID_BYTES] = {12};
    show.uuid = wire_bytes(span_of(of_bulk, sizeof of_bulk));
    request.body_case = UNLEARN__REQUEST__BODY_REQUEST_SHOW;
    request.request_show = &show;
    desk_ask(&desk, &request, ++number, span_of(NULL, 0));
    expect_refused(UNLEARN__STATUS__STATUS_UNAVAILABLE, "not acknowledged yet");
    Unlearn__DatasetRemove removal = UNLEARN__DATASET_REMOVE__INIT;
    removal.dataset = wire_text("people");
    removal.uuid = body.uuid;
    request.body_case = UNLEARN__REQUEST__BODY_DATASET_REMOVE;
    request.dataset_remove = &removal;
    desk_ask(&desk, &request, ++number, span_of(NULL, 0));
    expect_refused(UNLEARN__STATUS__STATUS_CONFLICT, "deletion of many is being fenced");
    assert_int_equal(desk.core->datasets[0]->fencing, 1);
    drain();
    assert_int_equal(desk_answer(&desk, other)->request_state->records_deleted, 1);
    const Unlearn__Reply *const reply = desk_answer(&desk, late);
    assert_string_equal(reply->message, "");
    assert_int_equal(reply->request_state->ids_gone, 1);
    assert_int_equal(reply->request_state->earlier.data[0], 12);
    expect_ack(desk_answer(&desk, bulk), MANY, MANY_HELD);
    expect_answers(12);
    expect_clear(RECORDS - 2 - MANY);
}

static struct component_row component(uint64_t instance)
{
    struct component_job put = {.job = {.kind = JOB_WRITE_ALONE, .run = component_run},
                                .instance = instance};
    storage_submit(desk.core->storage, &put.job, STORAGE_OURS);
    put.job.done = NULL;
    storage_flush(desk.core->storage);
    for (struct job *job = NULL; job != &put.job;) { // Steps may come back before it.
        while ((job = storage_finished(desk.core->storage)) == NULL) {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        }
        if (job != &put.job) {
            job->done(job, desk.core);
        }
    }
    assert_int_equal(put.job.result, OK);
    return put.row;
}

// What became valid between two steps, in a cell that was hit before, is found by the next.
static void test_nothing_valid_is_passed_over(void **state)
{
    (void)state;
    component(70);
    ask_for_many();
    assert_int_equal(component(0).state, COMPONENT_INVALID); // delete_one hit it.
    component(71);
    send_whole(16);
    while (component(0).state == COMPONENT_VALID) {
        turn();
    }
    assert_true(left_now() > RECORDS - 1 - MANY);
    component(72);
    drain();
    expect_ack(desk_answer(&desk, number), MANY, MANY_HELD);
    const struct component_row row = component(0);
    assert_true(row.state == COMPONENT_INVALID && row.instance == 72);
    const struct counted counted = count();
    assert_int_equal(counted.left, RECORDS - 1 - MANY);
}

static void test_bad_parts(void **state)
{
    (void)state;
    desk.core->config.quota_ids = UINT32_MAX; // Many a request in one moment.
    memset(&asked, 0, sizeof asked);
    for (uint32_t i = 0; i < LIMIT_PART_IDS + 1; i++) {
        add_record(i % 10, ANSWER_DELETED);
    }
    Unlearn__Delete body = body_of(15);
    body.records = asked.records;
    send_body(&body);
    expect_refused(UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "no record and no subject");
    body.n_records = LIMIT_PART_IDS + 1;
    send_body(&body);
    expect_refused(UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED, "4097 ids in one message");
    body.n_records = LIMIT_PART_IDS;
    body.more = true;
    for (; body.part < LIMIT_DELETE_IDS / LIMIT_PART_IDS; body.part++) {
        send_body(&body);
        drain();
        assert_int_equal(desk_answer(&desk, number)->body_case, UNLEARN__REPLY__BODY_DELETE_PART);
    }
    body.n_records = 1;
    send_body(&body);
    expect_refused(UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED, "more than 1048576 ids");
    body.part = 0;
    send_body(&body);
    drain();
    desk_answer(&desk, number);
    body.part = 2;
    send_body(&body);
    expect_refused(UNLEARN__STATUS__STATUS_CONFLICT, "part 2 of the upload came, expected 1");
    body.part = 0;
    send_body(&body);
    body.part = 1;
    send_body(&body); // Before the answer to the first.
    expect_refused(UNLEARN__STATUS__STATUS_CONFLICT, "before the one before it was answered");
    drain();
    desk_answer(&desk, number - 1);
    bulk_stop(desk.core);
}

// ---------------------------------------------------------------- rows

struct damage_job {
    struct job job;
};

static enum err damage_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)job;
    (void)store;
    struct asked ids[ASKED_IDS] = {{.subject = true, .id = {{1}}}, {.subject = false, .id = {{2}}}};
    struct asked found[ASKED_IDS];
    uint32_t found_count = 0;
    bool more = false;
    struct kv_key key = {0};
    assert_int_equal(asked_get(txn, 99, 0, found, &found_count), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "row 0 is not there"));
    assert_int_equal(asked_put(txn, 99, 0, ids, 2), OK);
    assert_int_equal(asked_get(txn, 99, 0, found, &found_count), OK);
    assert_int_equal(found_count, 2);
    assert_true(found[0].subject && !found[1].subject && found[0].id.bytes[0] == 1);
    kv_key_u64(&key, 99);
    kv_key_u32(&key, 0);
    assert_int_equal(value_put(txn, KV_ASKED, kv_key_span(&key), span_of("x23456789012345678", 17)),
                     OK);
    assert_int_equal(asked_get(txn, 99, 0, found, &found_count), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "expected r or s"));
    assert_int_equal(value_put(txn, KV_ASKED, kv_key_span(&key), span_of("r2345", 5)), OK);
    assert_int_equal(asked_get(txn, 99, 0, found, &found_count), ERR_CORRUPT);

    struct bulk_row row = {.state = BULK_FENCING, .rows = 1, .ids = 2, .subjects = 1}, got;
    row.request = (struct request_row){.sequence = 99,
                                       .kind = REQUEST_DELETE,
                                       .state = REQUEST_FENCED,
                                       .name = "people",
                                       .records_deleted = 7};
    assert_int_equal(bulk_get(txn, 99, &got), ERR_NOT_FOUND);
    assert_int_equal(bulk_put(txn, &row), OK);
    assert_int_equal(bulk_get(txn, 99, &got), OK);
    assert_true(got.state == BULK_FENCING && got.rows == 1 && got.ids == 2 && got.subjects == 1);
    assert_true(got.request.sequence == 99 && got.request.records_deleted == 7);
    row.subjects = 3;
    assert_int_equal(bulk_put(txn, &row), OK);
    assert_int_equal(bulk_get(txn, 99, &got), ERR_CORRUPT);
    assert_int_equal(bulk_clear(txn, 99, 1, &more), OK); // One row is there, perhaps others.
    assert_true(more);
    assert_int_equal(bulk_clear(txn, 99, 1, &more), OK);
    assert_false(more);
    assert_int_equal(bulk_get(txn, 99, &got), ERR_NOT_FOUND);

    static uint8_t answers[ANSWERS_ROW + 5], out[ANSWERS_ROW];
    memset(answers, ANSWER_GONE, sizeof answers);
    answers[ANSWERS_ROW + 2] = ANSWER_DELETED;
    row.request.answered[ANSWER_GONE] = ANSWERS_ROW + 4;
    row.request.answered[ANSWER_DELETED] = 1;
    assert_int_equal(answers_put(txn, &row.request, answers), OK);
    assert_int_equal(answers_get(txn, &row.request, 3, out, &found_count), OK);
    assert_true(found_count == ANSWERS_ROW - 3 && out[0] == ANSWER_GONE);
    assert_int_equal(answers_get(txn, &row.request, ANSWERS_ROW + 1, out, &found_count), OK);
    assert_true(found_count == 4 && out[0] == ANSWER_GONE && out[1] == ANSWER_DELETED);
    assert_int_equal(answers_get(txn, &row.request, ANSWERS_ROW + 5, out, &found_count), OK);
    assert_int_equal(found_count, 0);
    row.request.answered[ANSWER_GONE]++; // One more than the rows have.
    assert_int_equal(answers_get(txn, &row.request, ANSWERS_ROW, out, &found_count), ERR_CORRUPT);
    row.request.sequence = 98;
    assert_int_equal(answers_get(txn, &row.request, 0, out, &found_count), ERR_CORRUPT);
    FAIL(ERR_CANCELLED, "none of it shall stay");
}

static void test_rows_and_their_damage(void **state)
{
    (void)state;
    struct damage_job damage = {.job = {.kind = JOB_WRITE_ALONE, .run = damage_run}};
    assert_int_equal(storage_call(desk.core->storage, &damage.job), ERR_CANCELLED);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define WITH_DESK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DESK(test_each_id_gets_its_answer),
        WITH_DESK(test_subjects_and_their_records),
        WITH_DESK(test_a_subject_of_many_records),
        WITH_DESK(test_goes_on_after_a_crash),
        WITH_DESK(test_what_was_not_sealed_is_dropped),
        WITH_DESK(test_the_same_uuid),
        WITH_DESK(test_refused),
        WITH_DESK(test_nothing_left),
        WITH_DESK(test_others_go_on_meanwhile),
        WITH_DESK(test_nothing_valid_is_passed_over),
        WITH_DESK(test_bad_parts),
        WITH_DESK(test_rows_and_their_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
