// tests/unit/test_erasure.c: erased, repaired, completed: for many requests together, whatever ends in
// between.
//
// Method: a coordinator without a loop (desk.h) is asked to delete records one by one; the test says
// what time it is and takes the store thread's jobs. What must hold is read from the rows of the store:
// also after a stop behind each single step, where the memory of the coordinator is lost.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "coordinator/fleetdom.h"
#include "store/private.h"
#include "tests/unit/desk.h"

enum { DATASET = 1, MODEL = 1, MANY = 300, AT_ONCE = 30, BULK = 4000, PAUSE_MS = 1500 };

static struct desk desk;
static uint32_t records; // Of the dataset.

// ---------------------------------------------------------------- the store

struct look {
    struct job job;
    enum err (*look)(struct txn *txn, void *context);
    void *context;
};

static enum err look_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct look *const look = (struct look *)job;
    return look->look(txn, look->context);
}

static void in_store(enum err (*work)(struct txn *txn, void *context), void *context)
{
    struct look look = {.job = {.kind = JOB_WRITE_ALONE, .run = look_run}};
    look.look = work;
    look.context = context;
    const enum err err = storage_call(desk.core->storage, &look.job);
    if (err != OK) {
        fail_msg("%s", err_text());
    }
}

struct count {
    enum kv_table table;
    size_t rows;
};

static enum err count_rows(struct txn *txn, void *context)
{
    struct count *const count = context;
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&txn->kv, count->table, &cursor));
    enum err err = kv_cursor_seek(&cursor, span_of("", 0));
    while (err == OK && !cursor.at_end) {
        count->rows++;
        err = kv_cursor_next(&cursor);
    }
    kv_cursor_close(&cursor);
    return err;
}

static size_t rows_of(enum kv_table table)
{
    struct count count = {.table = table};
    in_store(count_rows, &count);
    return count.rows;
}

static enum err put_dataset(struct txn *txn, void *context)
{
    struct core *const core = context;
    struct dataset_row row = {.number = DATASET, .name = "people"}, now = {0};
    struct import_counts counts;
    uint64_t import = 0, number = 0;
    desk_schema(&row.schema);
    TRY(counter_next(txn, COUNTER_DATASET, &number));
    TRY(dataset_put(txn, &row));
    TRY(import_begin(txn, DATASET, 0, false, &import));
    for (uint32_t i = 0; i < records; i++) {
        char id[16];
        struct buf bytes = {0};
        snprintf(id, sizeof id, "%u", i);
        buf_u16(&bytes, (uint16_t)(i % 2));
        buf_f32(&bytes, (float)i);
        struct import_row record = {.id = span_text(id), .row = buf_span(&bytes)};
        dataset_ids(row.placement_key, record.id, record.subject, &record.rid, &record.sid);
        TRY(import_stage(txn, import, &record, 1, i));
        buf_deinit(&bytes);
    }
    TRY(import_commit(txn, import, &counts));
    TRY(dataset_get(txn, DATASET, &now));
    dataset_row_deinit(&row);
    return catalog_put_dataset(core, &now);
}

// Stores weights of the one component, as a worker's result does.
static enum err put_component(struct txn *txn, void *context)
{
    struct core *const core = context;
    struct model *const model = catalog_model_number(core, MODEL);
    struct component name;
    struct component_row row = {.state = COMPONENT_VALID};
    float *params = NULL;
    TRY(component_get("s0:[0]", &name));
    TRY(counter_next(txn, COUNTER_INSTANCE, &row.instance));
    row.param_count = model_param_count(model, 1);
    TRY(mem_try_aligned((size_t)row.param_count, sizeof *params, &params));
    memset(params, 0, (size_t)row.param_count * sizeof *params);
    TRY(weights_put(txn, row.instance, params, row.param_count));
    model_set_valid(core, model, 0, 0, weights_new(row.instance, params, row.param_count), records,
                    &row.profile);
    return component_row_put(txn, MODEL, &name, &row);
}

static enum err put_model(struct txn *txn, void *context)
{
    struct core *const core = context;
    struct model_row row = {.number = MODEL, .dataset = DATASET, .generations = 1, .name = "m"};
    struct spec spec = spec_default();
    uint16_t *orders = NULL;
    const uint64_t cells[1] = {records};
    spec.shards = spec.slices = 1;
    TRY(spec_set(&spec, "learner", "softmax"));
    spec_put(&spec, &row.spec);
    TRY(model_put(txn, &row));
    TRY(orders_make(&spec, &orders));
    TRY(catalog_put_model(core, &row, cells, orders));
    mem_free(orders);
    model_row_deinit(&row);
    return put_component(txn, core);
}

static enum err drop_model(struct txn *txn, void *context)
{
    bool more = true;
    catalog_drop_model(context, MODEL);
    TRY(component_rows_drop(txn, MODEL, 100, &more));
    return model_drop(txn, MODEL);
}

// ---------------------------------------------------------------- requests

static void open_with(uint32_t count)
{
    records = count;
    desk_open(&desk);
    in_store(put_dataset, desk.core);
}

static int tear_down(void **state)
{
    (void)state;
    desk_close(&desk);
    return 0;
}

// One request for records `first` on.
static void ask_for(uint32_t first, uint32_t count)
{
    static char ids[BULK][16], *list[BULK];
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    uint8_t uuid[ID_BYTES] = {1, (uint8_t)first, (uint8_t)(first >> 8)};
    for (uint32_t i = 0; i < count; i++) {
        snprintf(ids[i], sizeof ids[i], "%u", first + i);
        list[i] = ids[i];
    }
    body.dataset = wire_text("people");
    body.uuid = wire_bytes(span_of(uuid, sizeof uuid));
    body.records = list;
    body.n_records = count;
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = &body;
    desk_ask(&desk, &request, first, span_of(NULL, 0));
}

static void drain(void)
{
    storage_drain(desk.core->storage, desk.core);
}

// Deletes records from `first` on, as many at once as a client has answers under way; all are
// acknowledged.
static void delete_some(uint32_t first, uint32_t count)
{
    for (uint32_t from = first, end; from < first + count; from = end) {
        end = from + AT_ONCE < first + count ? from + AT_ONCE : first + count;
        for (uint32_t i = from; i < end; i++) {
            ask_for(i, 1);
        }
        drain();
        for (uint32_t i = from; i < end; i++) {
            const Unlearn__Reply *const reply = desk_answer(&desk, i);
            assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_OK);
            assert_int_equal(reply->request_state->records_deleted, 1);
        }
    }
}

// Time passes, and the loop turns.
static void pass(int64_t ms)
{
    desk.core->now_ms += ms;
    erasure_tick(desk.core);
}

static void hurry(void)
{
    for (int i = 0; i < 64; i++) {
        erasure_asked(desk.core);
    }
}

static void all_is_gone(uint32_t requests)
{
    const uint32_t left = requests == 1 && records == BULK ? 0 : records - requests;
    assert_int_equal(desk.core->request_count, 0);
    assert_int_equal(rows_of(KV_RECORD), left);
    assert_int_equal(rows_of(KV_INDEX), left);
    assert_int_equal(rows_of(KV_PENDING), 0);
    assert_int_equal(rows_of(KV_DOOMED), 0);
    assert_int_equal(rows_of(KV_REQUEST_OPEN), 0);
    assert_int_equal(rows_of(KV_AWAITED), 0);
    assert_int_equal(rows_of(KV_REQUEST), requests);
    assert_int_equal(rows_of(KV_LOG_ENTRY), requests); // Each its receipt, once.
}

// ---------------------------------------------------------------- what holds at any time

struct check {
    struct txn *txn;
    uint32_t fenced, erased, completed;
    uint64_t doomed_for; // Looked for.
    bool found;
};

static bool note_pending(void *context, uint64_t sequence, uint32_t index,
                         const struct pending *pending)
{
    (void)sequence;
    (void)index;
    (void)pending;
    *(bool *)context = true;
    return false;
}

static enum err find_doomed(struct check *check)
{
    struct kv_cursor cursor;
    TRY(kv_cursor_open(&check->txn->kv, KV_DOOMED, &cursor));
    enum err err = kv_cursor_seek(&cursor, span_of("", 0));
    while (err == OK && !cursor.at_end) {
        struct span value;
        err = value_of(check->txn, KV_DOOMED, kv_key_span(&cursor.key), cursor.value, &value);
        uint64_t request = 0;
        if (err == OK) {
            assert_int_equal(value.bytes, 16);
            memcpy(&request, (const uint8_t *)value.data + 8, sizeof request);
            check->found = check->found || request == check->doomed_for;
            err = kv_cursor_next(&cursor);
        }
    }
    kv_cursor_close(&cursor);
    return err;
}

// A request that says `erased` has no row and no key left; one that is completed has counted its key.
static bool check_request(void *context, const struct request_row *row)
{
    struct check *const check = context;
    bool pending = false;
    check->fenced += row->state == REQUEST_FENCED;
    check->erased += row->state == REQUEST_ERASED;
    check->completed += row->state == REQUEST_COMPLETED;
    if (row->state != REQUEST_FENCED) {
        assert_int_equal(pending_walk(check->txn, row->sequence, note_pending, &pending), OK);
        assert_false(pending);
        check->doomed_for = row->sequence;
        check->found = false;
        assert_int_equal(find_doomed(check), OK);
        assert_false(check->found);
        assert_int_equal(row->keys_destroyed, row->records_deleted);
    }
    return true;
}

static enum err check_all(struct txn *txn, void *context)
{
    struct check *const check = context;
    check->txn = txn;
    return request_walk(txn, 0, check_request, check);
}

// ---------------------------------------------------------------- tests

static void test_many_requests_share_the_steps(void **state)
{
    (void)state;
    open_with(MANY);
    delete_some(0, MANY);
    // Asked for fast: nothing but the acks has been done.
    assert_int_equal(desk.core->request_count, MANY);
    assert_int_equal(rows_of(KV_RECORD), MANY);
    pass(PAUSE_MS);
    uint32_t steps = 0;
    while (storage_count(desk.core->storage) > 0) {
        struct job *const job = storage_finished(desk.core->storage);
        if (job != NULL) {
            job->done(job, desk.core);
            steps++;
        }
    }
    all_is_gone(MANY);
    assert_true(steps >= 6 && steps < 30); // Two of each kind, more on a slow disk; not 900.
}

static void test_a_single_request_goes_on_at_once(void **state)
{
    (void)state;
    open_with(3);
    delete_some(1, 1);
    all_is_gone(1);
}

static void test_late_steps_go_with_acks(void **state)
{
    (void)state;
    open_with(MANY);
    delete_some(0, MANY);
    hurry();
    pass(0);
    assert_int_equal(storage_count(desk.core->storage), 0); // Not late yet.
    desk.core->now_ms += ERASE_LAG_MS;
    hurry();
    pass(0);
    assert_int_equal(storage_count(desk.core->storage), 1);
    drain(); // And no other behind it,
    const size_t left = rows_of(KV_RECORD);
    assert_true(left < MANY);
    pass(0); // until a client asks again.
    assert_int_equal(storage_count(desk.core->storage), 0);
    for (int i = 0; desk.core->request_count > 0; i++) {
        assert_true(i < 2000);
        hurry();
        pass(50);
        drain();
    }
    all_is_gone(MANY);
}

// After each single job the process ends, and another one goes on. `bulk`: one request, whose keys take
// two steps; else many.
static void stop_behind_each_step(bool bulk)
{
    const uint32_t requests = bulk ? 1 : MANY;
    bool went_through = false;
    for (uint32_t stop = 0; !went_through; stop++) {
        struct check check = {.fenced = 0};
        assert_true(stop < 100);
        open_with(bulk ? BULK : MANY);
        hurry();
        if (bulk) {
            ask_for(0, BULK);
            drain();
            const Unlearn__Reply *const reply = desk_answer(&desk, 0);
            if (reply->status != UNLEARN__STATUS__STATUS_OK) {
                fail_msg("%s", reply->message);
            }
            assert_int_equal(reply->request_state->records_deleted, BULK);
        } else {
            delete_some(0, MANY);
        }
        pass(PAUSE_MS);
        for (uint32_t taken = 0; taken < stop && storage_count(desk.core->storage) > 0;) {
            struct job *const job = storage_finished(desk.core->storage);
            if (job != NULL) {
                job->done(job, desk.core);
                taken++;
            }
        }
        went_through = desk.core->request_count == 0;
        erasure_stop(desk.core);
        desk_restart(&desk);
        in_store(check_all, &check);
        assert_int_equal(check.fenced + check.erased + check.completed, requests);
        assert_int_equal(desk.core->request_count, check.fenced + check.erased);
        erasure_resume(desk.core);
        drain();
        pass(copies_silence_ms(desk.core)); // Workers of the process that ended are gone by then.
        drain();
        check = (struct check){.fenced = 0};
        in_store(check_all, &check);
        assert_int_equal(check.completed, requests);
        all_is_gone(requests);
        if (!went_through) {
            desk_close(&desk);
        }
    }
}

static void test_a_stop_behind_each_step(void **state)
{
    (void)state;
    stop_behind_each_step(false);
}

static void test_a_stop_behind_each_step_of_a_bulk(void **state)
{
    (void)state;
    stop_behind_each_step(true);
}

static void test_requests_wait_for_their_component(void **state)
{
    (void)state;
    open_with(4);
    in_store(put_model, desk.core);
    struct request_queue *const watched = &model_extra(desk.core->models[0], 0, 0)->watched;
    delete_some(0, 2);
    assert_int_equal(desk.core->request_count, 2);
    assert_int_equal(desk.core->requests[1]->row.state, REQUEST_ERASED);
    assert_int_equal(watched->count, 2);
    pass(PAUSE_MS);
    assert_int_equal(storage_count(desk.core->storage), 0);
    in_store(put_component, desk.core);
    assert_int_equal(watched->count, 0);
    assert_int_equal(desk.core->woken.count, 2);
    assert_true(erasure_is_due(desk.core));
    pass(0);
    assert_false(erasure_is_due(desk.core));
    drain();
    all_is_gone(2);
}

static void test_an_empty_component_is_not_waited_for(void **state)
{
    (void)state;
    open_with(2);
    in_store(put_model, desk.core);
    delete_some(0, 1);
    assert_int_equal(desk.core->request_count, 1);
    delete_some(1, 1);
    all_is_gone(2);
}

static void test_nor_one_whose_model_is_gone(void **state)
{
    (void)state;
    open_with(2);
    in_store(put_model, desk.core);
    delete_some(0, 1);
    assert_int_equal(desk.core->request_count, 1);
    in_store(drop_model, desk.core);
    pass(0);
    drain();
    all_is_gone(1);
}

// The loop took the component for valid, and the store knows better: another deletion hit it.
static void test_a_conflict_is_tried_again(void **state)
{
    (void)state;
    open_with(4);
    in_store(put_model, desk.core);
    delete_some(0, 1);
    struct model *const model = desk.core->models[0];
    float *params = NULL;
    assert_int_equal(mem_try_aligned(1, sizeof *params, &params), OK);
    params[0] = 0;
    const struct digest profile = {{0}};
    model_set_valid(desk.core, model, 0, 0, weights_new(77, params, 1), 3, &profile);
    pass(0);
    drain();
    assert_int_equal(desk.core->request_count, 1);
    assert_int_equal(rows_of(KV_LOG_ENTRY), 0);
    in_store(put_component, desk.core);
    pass(999);
    drain();
    assert_int_equal(desk.core->request_count, 1);
    pass(1);
    drain();
    all_is_gone(1);
}

struct damage {
    uint32_t record;
    struct buf kept; // What stood there.
};

static enum err damage(struct txn *txn, void *context)
{
    struct damage *const what = context;
    struct record_key key;
    struct id128 rid, sid;
    char id[16];
    uint8_t bytes[RECORD_KEY_BYTES], *room = NULL;
    static const uint8_t none[KEY_BYTES];
    struct span stored;
    snprintf(id, sizeof id, "%u", what->record);
    dataset_ids(none, span_text(id), span_of(NULL, 0), &rid, &sid);
    TRY(record_locate(txn, DATASET, &rid, &key));
    record_key_put(&key, bytes);
    const struct span at = span_of(bytes, sizeof bytes);
    const bool repair = what->kept.bytes > 0;
    TRY(kv_get(&txn->kv, KV_RECORD, at, &stored));
    if (!repair) {
        buf_put(&what->kept, stored);
    }
    TRY(kv_put_room(&txn->kv, KV_RECORD, at, what->kept.bytes, &room));
    memcpy(room, what->kept.data, what->kept.bytes);
    room[0] = repair ? room[0] : 99;
    return OK;
}

static void test_one_that_fails_holds_nobody_up(void **state)
{
    (void)state;
    struct damage what = {.record = 1};
    open_with(4);
    hurry();
    delete_some(0, 3);
    in_store(damage, &what);
    pass(PAUSE_MS);
    drain();
    assert_int_equal(desk.core->request_count, 1);
    assert_int_equal(desk.core->requests[0]->row.state, REQUEST_FENCED);
    assert_int_equal(rows_of(KV_LOG_ENTRY), 2);
    assert_int_equal(rows_of(KV_RECORD), 2);
    pass(1000); // Again, and again in vain.
    drain();
    assert_int_equal(desk.core->request_count, 1);
    in_store(damage, &what); // As it was.
    pass(1000);
    drain();
    all_is_gone(3);
    buf_deinit(&what.kept);
}

// Dropped in any order, the others are found as before.
static void test_requests_are_found_by_number(void **state)
{
    (void)state;
    open_with(1);
    struct core *const core = desk.core;
    struct request *dropped[3];
    for (uint32_t i = 0; i < 9; i++) {
        const struct request_row row = {.sequence = 10 + 3 * (uint64_t)(i ^ 1)}; // Not in order.
        catalog_put_request(core, &row, NULL, 0);
    }
    for (uint32_t i = 1; i < core->request_count; i++) {
        assert_true(core->requests[i - 1]->row.sequence < core->requests[i]->row.sequence);
    }
    dropped[0] = catalog_request(core, 31);
    dropped[1] = catalog_request(core, 10);
    dropped[2] = catalog_request(core, 22);
    catalog_drop_requests(core, dropped, 3);
    assert_int_equal(core->request_count, 6);
    for (uint64_t number = 9; number < 40; number++) {
        const bool was = number >= 10 && (number - 10) % 3 == 0 && number != 34;
        const struct request *const found = catalog_request(core, number);
        const bool is = was && number != 31 && number != 10 && number != 22;
        assert_int_equal(found != NULL, is);
        assert_true(found == NULL || found->row.sequence == number);
    }
}

int main(void)
{
    alarm(
        120); // A test that fails leaves its sockets open, and closing their context waits for them.
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_many_requests_share_the_steps, tear_down),
        cmocka_unit_test_teardown(test_a_single_request_goes_on_at_once, tear_down),
        cmocka_unit_test_teardown(test_late_steps_go_with_acks, tear_down),
        cmocka_unit_test_teardown(test_a_stop_behind_each_step, tear_down),
        cmocka_unit_test_teardown(test_a_stop_behind_each_step_of_a_bulk, tear_down),
        cmocka_unit_test_teardown(test_requests_wait_for_their_component, tear_down),
        cmocka_unit_test_teardown(test_an_empty_component_is_not_waited_for, tear_down),
        cmocka_unit_test_teardown(test_nor_one_whose_model_is_gone, tear_down),
        cmocka_unit_test_teardown(test_a_conflict_is_tried_again, tear_down),
        cmocka_unit_test_teardown(test_one_that_fails_holds_nobody_up, tear_down),
        cmocka_unit_test_teardown(test_requests_are_found_by_number, tear_down),
    };
    return cmocka_run_group_tests_name("erasure", tests, NULL, NULL);
}
