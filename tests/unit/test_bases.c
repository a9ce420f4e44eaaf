// tests/unit/test_bases.c: a base lands whole or not at all, and goes with all that stands on it.
//
// Method: a coordinator without a loop (desk.h) is asked as a client would; what a crash leaves is seen
// by opening the store anew. Rows of the store are counted, so that nothing stays behind unseen.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <math.h>

#include <cmocka.h>

#include "store/private.h"
#include "tests/unit/desk.h"

static struct desk desk;
static struct base *base; // Three chunks of weights.
static struct buf shape_text;

static int set_up(void **state)
{
    (void)state;
    static const struct base_shape shape = {.kind = BASE_TEXT,
                                            .gelu = BASE_GELU_TANH,
                                            .layers = 12,
                                            .width = 64,
                                            .heads = 4,
                                            .inner = 256,
                                            .epsilon = 1e-5,
                                            .context = 16};
    float *weights = NULL;
    const uint64_t count = base_at(&shape).count;
    assert_int_equal(base_shape_check(&shape), OK);
    assert_int_equal(weights_chunk_count(count), 3);
    assert_int_equal(mem_try_aligned((size_t)count, sizeof *weights, &weights), OK);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] = (float)(i % 1009) * 0.25f - 100;
    }
    base = base_new(&shape, weights);
    base_shape_put(&shape, &shape_text);
    desk_open(&desk);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    desk_close(&desk);
    base_release(base);
    buf_deinit(&shape_text);
    return 0;
}

// --- Asking

static Unlearn__BaseBegin begin_body(const char *name)
{
    Unlearn__BaseBegin body = UNLEARN__BASE_BEGIN__INIT;
    body.name = wire_text(name);
    body.shape = wire_bytes(buf_span(&shape_text));
    body.weight_count = base->weight_count;
    body.digest = wire_bytes(span_of(base->digest.bytes, DIGEST_BYTES));
    return body;
}

static const Unlearn__Reply *begin(Unlearn__BaseBegin *body)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    request.body_case = UNLEARN__REQUEST__BODY_BASE_BEGIN;
    request.base_begin = body;
    desk_ask(&desk, &request, 1, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    return desk_answer(&desk, 1);
}

static uint64_t begin_good(const char *name)
{
    Unlearn__BaseBegin body = begin_body(name);
    const Unlearn__Reply *const reply = begin(&body);
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_BASE_READY);
    assert_false(reply->base_ready->there);
    return reply->base_ready->upload;
}

static void refuses(Unlearn__BaseBegin *body, Unlearn__Status status, const char *words)
{
    const Unlearn__Reply *const reply = begin(body);
    assert_int_equal(reply->status, status);
    assert_non_null(strstr(reply->message, words));
}

static struct span chunk_of(uint32_t sequence)
{
    return span_of((const uint8_t *)base->weights + (size_t)sequence * LIMIT_CHUNK_BYTES,
                   weights_chunk_bytes(base->weight_count, sequence));
}

static void send_chunk(uint64_t upload, uint32_t sequence, struct span bytes)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__BaseChunk body = UNLEARN__BASE_CHUNK__INIT;
    body.upload = upload;
    body.sequence = sequence;
    request.body_case = UNLEARN__REQUEST__BODY_BASE_CHUNK;
    request.base_chunk = &body;
    desk_ask(&desk, &request, 10 + sequence, bytes);
}

static void send_end(uint64_t upload, bool commit)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__BaseCommit body = UNLEARN__BASE_COMMIT__INIT;
    Unlearn__BaseAbort abort_body = UNLEARN__BASE_ABORT__INIT;
    body.upload = abort_body.upload = upload;
    request.body_case =
        commit ? UNLEARN__REQUEST__BODY_BASE_COMMIT : UNLEARN__REQUEST__BODY_BASE_ABORT;
    if (commit) {
        request.base_commit = &body;
    } else {
        request.base_abort = &abort_body;
    }
    desk_ask(&desk, &request, 99, span_of(NULL, 0));
}

// Chunks and commit in one go; returns the answer to the commit.
static const Unlearn__Reply *finish(uint64_t upload)
{
    for (uint32_t i = 0; i < 3; i++) {
        send_chunk(upload, i, chunk_of(i));
    }
    send_end(upload, true);
    storage_drain(desk.core->storage, desk.core);
    for (uint32_t i = 0; i < 3; i++) {
        (void)desk_answer(&desk, 10 + i);
    }
    return desk_answer(&desk, 99);
}

static void import_good(const char *name)
{
    const Unlearn__Reply *const reply = finish(begin_good(name));
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_BASE_INFO);
}

static const Unlearn__Reply *retire(const char *name)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__BaseRetire body = UNLEARN__BASE_RETIRE__INIT;
    body.name = wire_text(name);
    request.body_case = UNLEARN__REQUEST__BODY_BASE_RETIRE;
    request.base_retire = &body;
    desk_ask(&desk, &request, 5, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    return desk_answer(&desk, 5);
}

static const Unlearn__Reply *show(const char *name)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__BaseShow body = UNLEARN__BASE_SHOW__INIT;
    body.name = wire_text(name);
    request.body_case = UNLEARN__REQUEST__BODY_BASE_SHOW;
    request.base_show = &body;
    desk_ask(&desk, &request, 6, span_of(NULL, 0));
    return desk_answer(&desk, 6);
}

// --- The store behind it

struct look {
    struct job job;
    enum err (*look)(struct txn *txn, void *context);
    void *context;
};

static enum err look_run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    const struct look *const look = (struct look *)job;
    return look->look(txn, look->context);
}

static void in_store(enum err (*work)(struct txn *txn, void *context), void *context)
{
    struct look look = {.job = {.kind = JOB_WRITE_ALONE, .run = look_run}};
    look.look = work;
    look.context = context;
    assert_int_equal(storage_call(desk.core->storage, &look.job), OK);
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

static void nothing_is_left(void)
{
    assert_int_equal(rows_of(KV_BASE), 0);
    assert_int_equal(rows_of(KV_WEIGHTS), 0);
    assert_int_equal(desk.core->base_count, 0);
    assert_int_equal(desk.core->resident_bytes, 0);
}

// --- Uploads

static void is_there(const char *name)
{
    const Unlearn__Reply *reply = show(name);
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_BASE_INFO);
    const Unlearn__BaseInfo *const info = reply->base_info;
    assert_string_equal(info->name, name);
    assert_int_equal(info->state, UNLEARN__BASE_STATE__BASE_STATE_VALID);
    assert_int_equal(info->weight_count, base->weight_count);
    assert_true(span_equal(wire_span(info->shape), buf_span(&shape_text)));
    assert_memory_equal(info->digest.data, base->digest.bytes, DIGEST_BYTES);
    assert_false(info->pretrained);
    assert_true(info->created_us > 0);
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__BasePull body = UNLEARN__BASE_PULL__INIT;
    body.name = wire_text(name);
    request.body_case = UNLEARN__REQUEST__BODY_BASE_PULL;
    request.base_pull = &body;
    for (uint32_t i = 0; i < 4; i++) {
        body.sequence = i;
        desk_ask(&desk, &request, 20, span_of(NULL, 0));
        reply = desk_answer(&desk, 20);
        assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_BASE_WEIGHTS);
        assert_int_equal(reply->base_weights->last, i >= 2);
        assert_true(span_equal(desk.raw, i < 3 ? chunk_of(i) : span_of(NULL, 0)));
    }
}

static void test_an_upload_lands(void **state)
{
    (void)state;
    import_good("small");
    is_there("small");
    assert_int_equal(desk.core->resident_bytes, base->weight_count * sizeof(float));
    desk_restart(&desk);
    is_there("small");
    assert_int_equal(desk.core->resident_bytes, base->weight_count * sizeof(float));
}

static void test_the_same_again_is_there_and_another_is_refused(void **state)
{
    (void)state;
    import_good("small");
    Unlearn__BaseBegin body = begin_body("small");
    assert_true(begin(&body)->base_ready->there);
    uint8_t other[DIGEST_BYTES] = {1};
    body.digest = wire_bytes(span_of(other, sizeof other));
    refuses(&body, UNLEARN__STATUS__STATUS_CONFLICT, "there is a base \"small\" already");
    assert_int_equal(retire("small")->status, UNLEARN__STATUS__STATUS_OK);
    body = begin_body("small");
    refuses(&body, UNLEARN__STATUS__STATUS_CONFLICT, "was retired");
    assert_int_equal(desk.core->resident_bytes, 0);
}

static void test_announcements_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    Unlearn__BaseBegin body = begin_body("base:x");
    refuses(&body, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "the base's name");
    body = begin_body("none");
    refuses(&body, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "names no base");
    body = begin_body("small");
    body.shape.len--;
    refuses(&body, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "the base's shape");
    body = begin_body("small");
    body.weight_count++;
    refuses(&body, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "a base of this shape has");
    body = begin_body("small");
    body.digest.len--;
    refuses(&body, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT, "the base's digest");
    desk.core->resident_bytes = (uint64_t)8 << 30;
    body = begin_body("small");
    refuses(&body, UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED, "8 GiB of weights");
    desk.core->resident_bytes = 0;
    nothing_is_left();
    import_good("small"); // control
}

static void test_a_commit_behind_a_refused_chunk(void **state)
{
    (void)state;
    const float good = base->weights[7];
    for (uint32_t bad = 0; bad < 3; bad++) {
        const size_t at = bad * (LIMIT_CHUNK_BYTES / sizeof(float)) + 7;
        const float was = base->weights[at];
        base->weights[at] = bad == 1 ? NAN : INFINITY;
        const uint64_t upload = begin_good("small");
        for (uint32_t i = 0; i < 3; i++) {
            send_chunk(upload, i, chunk_of(i));
        }
        send_end(upload, true);
        storage_drain(desk.core->storage, desk.core);
        for (uint32_t i = 0; i < 3; i++) {
            const Unlearn__Reply *const reply = desk_answer(&desk, 10 + i);
            assert_int_equal(reply->status, i == bad ? UNLEARN__STATUS__STATUS_INVALID_ARGUMENT
                                                     : UNLEARN__STATUS__STATUS_OK);
            if (i == bad) {
                char words[64];
                snprintf(words, sizeof words, "weight %zu of the base is not finite", at);
                assert_non_null(strstr(reply->message, words));
            }
        }
        assert_int_equal(desk_answer(&desk, 99)->status, UNLEARN__STATUS__STATUS_CONFLICT);
        nothing_is_left();
        base->weights[at] = was;
    }
    assert_true(base->weights[7] == good);
    import_good("small"); // control
}

static void test_other_bytes_than_announced_are_refused(void **state)
{
    (void)state;
    const uint64_t upload = begin_good("small");
    base->weights[base->weight_count - 1] += 1;
    const Unlearn__Reply *const reply = finish(upload);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(reply->message, "the digest that was announced"));
    nothing_is_left();
    base->weights[base->weight_count - 1] -= 1;
    import_good("small"); // control
}

static void test_chunks_out_of_turn_are_refused(void **state)
{
    (void)state;
    const uint64_t upload = begin_good("small");
    send_chunk(upload + 1, 0, chunk_of(0));
    assert_int_equal(desk_answer(&desk, 10)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    send_chunk(upload, 1, chunk_of(1));
    assert_int_equal(desk_answer(&desk, 11)->status, UNLEARN__STATUS__STATUS_CONFLICT);
    send_chunk(upload, 0, chunk_of(2)); // Of another length.
    assert_int_equal(desk_answer(&desk, 10)->status, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT);
    const Unlearn__Reply *reply = finish(upload); // Nothing had been taken: in turn it lands.
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_OK);
    send_chunk(upload, 3, chunk_of(2));
    assert_int_equal(desk_answer(&desk, 13)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    const uint64_t early = begin_good("other");
    send_chunk(early, 0, chunk_of(0));
    send_end(early, true);
    storage_drain(desk.core->storage, desk.core);
    (void)desk_answer(&desk, 10);
    reply = desk_answer(&desk, 99);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_non_null(strstr(reply->message, "chunk 1 of the 3"));
    assert_int_equal(desk.core->base_count, 1);
    assert_int_equal(rows_of(KV_WEIGHTS), 3);
}

static void test_what_a_crash_or_an_abort_leaves_is_dropped(void **state)
{
    (void)state;
    uint64_t upload = begin_good("small");
    send_chunk(upload, 0, chunk_of(0));
    storage_drain(desk.core->storage, desk.core);
    (void)desk_answer(&desk, 10);
    desk_restart(&desk);
    assert_int_equal(show("small")->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    assert_int_equal(rows_of(KV_WEIGHTS), 1);
    bases_tidy(desk.core); // As at each start.
    storage_drain(desk.core->storage, desk.core);
    nothing_is_left();
    upload = begin_good("small");
    send_chunk(upload, 0, chunk_of(0));
    send_end(upload, false);
    storage_drain(desk.core->storage, desk.core);
    (void)desk_answer(&desk, 10);
    assert_int_equal(desk_answer(&desk, 99)->body_case, UNLEARN__REPLY__BODY_DONE);
    nothing_is_left();
    upload = begin_good("small"); // Its client falls silent.
    desk.core->now_ms += 60001;
    base_uploads_tick(desk.core);
    storage_drain(desk.core->storage, desk.core);
    nothing_is_left();
    send_chunk(upload, 0, chunk_of(0));
    assert_int_equal(desk_answer(&desk, 10)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
}

static void test_no_more_uploads_at_once_than_may_be(void **state)
{
    (void)state;
    char name[8];
    for (int i = 0; i < LIMIT_BASE_UPLOADS_OPEN; i++) {
        snprintf(name, sizeof name, "b%d", i);
        (void)begin_good(name);
    }
    Unlearn__BaseBegin body = begin_body("one-more");
    refuses(&body, UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED, "imports of bases are under way");
    body = begin_body("b0");
    desk.core->now_ms += 60001;
    base_uploads_tick(desk.core);
    storage_drain(desk.core->storage, desk.core);
    (void)begin_good("one-more"); // control
    body = begin_body("one-more");
    refuses(&body, UNLEARN__STATUS__STATUS_CONFLICT, "is being imported already");
}

static void test_a_damaged_base_stops_the_start(void **state)
{
    (void)state;
    import_good("small");
    desk_close_core(&desk);
    struct store *store = NULL;
    struct txn *txn = NULL;
    struct base_row row;
    float weight = 3;
    assert_int_equal(store_open(desk.dir, DESK_MAP_BYTES, &store), OK);
    assert_int_equal(txn_begin(store, true, &txn), OK);
    assert_int_equal(base_row_get(txn, 1, &row), OK);
    float *const weights = mem_alloc((size_t)row.weight_count, sizeof *weights);
    assert_int_equal(weights_get(txn, row.instance, weights, row.weight_count), OK);
    const float was = weights[100];
    for (int turn = 0; turn < 2; turn++) {
        weights[100] = turn == 0 ? weight : was;
        assert_int_equal(weights_put(txn, row.instance, weights, row.weight_count), OK);
        assert_int_equal(txn_end(txn, OK), OK);
        store_close(store);
        struct core *const core = mem_alloc(1, sizeof *core);
        assert_int_equal(storage_open(desk.dir, DESK_MAP_BYTES, &core->storage), OK);
        assert_int_equal(catalog_load(core), turn == 0 ? ERR_CORRUPT : OK);
        if (turn == 0) {
            assert_non_null(strstr(err_text(), "base 1: its weights do not have its digest"));
        }
        catalog_free(core);
        storage_close(core->storage);
        mem_free(core);
        assert_int_equal(store_open(desk.dir, DESK_MAP_BYTES, &store), OK);
        assert_int_equal(txn_begin(store, true, &txn), OK);
    }
    assert_int_equal(txn_end(txn, OK), OK);
    store_close(store);
    mem_free(weights);
    base_row_deinit(&row);
    desk_open_core(&desk);
}

// --- What stands on a base, and what a base stands on

enum { DATASET = 1 };

// A public dataset of images of 4 x 4 pixels with the records "0" and "1".
static enum err put_dataset(struct txn *txn, void *context)
{
    struct core *const core = context;
    static char name[] = "a", label[] = "y", no[] = "no", yes[] = "yes";
    static char *classes[] = {no, yes};
    struct column columns[1] = {
        {.name = name, .kind = COLUMN_PIXELS, .width = 16, .rows = 4, .cols = 4}};
    const struct schema schema = {.columns = columns,
                                  .column_count = 1,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = classes,
                                  .class_count = 2};
    struct dataset_row row = {.number = DATASET, .name = "pictures", .public_data = true};
    uint64_t import = 0;
    struct import_counts counts;
    uint64_t number = 0;
    TRY(schema_check(&schema));
    schema_put(&schema, &row.schema);
    TRY(counter_next(txn, COUNTER_DATASET, &number));
    TRY(dataset_put(txn, &row));
    TRY(import_begin(txn, DATASET, 0, false, &import));
    for (uint32_t i = 0; i < 2; i++) {
        const char id[2] = {(char)('0' + i), 0};
        struct buf bytes = {0};
        buf_u16(&bytes, (uint16_t)i);
        memset(buf_room(&bytes, 16), (int)i, 16);
        struct import_row record = {.id = span_text(id), .row = buf_span(&bytes)};
        dataset_ids(row.placement_key, record.id, record.subject, &record.rid, &record.sid);
        TRY(import_stage(txn, import, &record, 1, i));
        buf_deinit(&bytes);
    }
    TRY(import_commit(txn, import, &counts));
    struct dataset_row now = {0};
    TRY(dataset_get(txn, DATASET, &now));
    TRY(catalog_put_dataset(core, &now));
    dataset_row_deinit(&row);
    return OK;
}

struct standing {
    struct core *core;
    const char *name;
    uint32_t number, base, replaces;
    const char *learner; // NULL: the default.
};

static enum err put_model(struct txn *txn, void *context)
{
    const struct standing *const standing = context;
    struct model_row row = {.number = standing->number,
                            .dataset = DATASET,
                            .generations = 1,
                            .replaces = standing->replaces,
                            .base = standing->base};
    struct spec spec = spec_default();
    struct component name;
    struct component_row component = {.state = COMPONENT_VALID, .instance = 100 + standing->number};
    spec.shards = spec.slices = 1;
    if (standing->learner != NULL) {
        TRY(spec_set(&spec, "learner", standing->learner));
        TRY(spec_set(&spec, "patch", "2"));
    }
    snprintf(row.name, sizeof row.name, "%s", standing->name);
    spec_put(&spec, &row.spec);
    TRY(model_put(txn, &row));
    TRY(component_get("s0:[0]", &name));
    const uint64_t cells[1] = {2};
    uint16_t *orders = NULL;
    TRY(orders_make(&spec, &orders));
    TRY(catalog_put_model(standing->core, &row, cells, orders));
    mem_free(orders);
    component.param_count =
        model_param_count(catalog_model_number(standing->core, standing->number), 1);
    float *params = NULL;
    TRY(mem_try_aligned((size_t)component.param_count, sizeof *params, &params));
    for (uint64_t i = 0; i < component.param_count; i++) {
        params[i] = (float)(i % 31) / 8 - 2;
    }
    TRY(weights_put(txn, component.instance, params, component.param_count));
    model_set_valid(standing->core, catalog_model_number(standing->core, standing->number), 0, 0,
                    weights_new(component.instance, params, component.param_count), 2,
                    &component.profile);
    TRY(component_row_put(txn, standing->number, &name, &component));
    model_row_deinit(&row);
    return OK;
}

static void stand(const char *name, uint32_t number, uint32_t on, uint32_t replaces)
{
    struct standing standing = {desk.core, name, number, on, replaces, NULL};
    in_store(put_model, &standing);
}

static void test_all_that_stands_on_a_base_goes_with_it(void **state)
{
    (void)state;
    import_good("one");
    import_good("two");
    in_store(put_dataset, desk.core);
    stand("first", 1, 1, 0);
    stand("second", 2, 1, 0);
    stand("second", 3, 1, 2); // Will take the place of the one before.
    stand("other", 4, 2, 0);
    stand("free", 5, 0, 0);
    const Unlearn__Reply *reply = show("one");
    assert_int_equal(reply->base_info->models_total, 2);
    assert_int_equal(reply->base_info->n_models, 2);
    reply = retire("one");
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_BASE_RETIRED);
    const Unlearn__BaseRetired *const retired = reply->base_retired;
    assert_int_equal(retired->info->state, UNLEARN__BASE_STATE__BASE_STATE_RETIRED);
    assert_true(retired->info->retired_us > 0);
    assert_int_equal(retired->info->models_total, 0);
    assert_int_equal(retired->n_requests, 2);
    assert_int_equal(desk.core->model_count, 2);
    assert_non_null(catalog_model_number(desk.core, 4));
    assert_non_null(catalog_model_number(desk.core, 5));
    assert_int_equal(rows_of(KV_MODEL), 2);
    assert_int_equal(rows_of(KV_COMPONENT), 2);
    assert_int_equal(rows_of(KV_WEIGHTS), 5);   // Of the base and the models that stay.
    assert_int_equal(rows_of(KV_LOG_ENTRY), 2); // Each removal is completed, with a receipt.
    assert_int_equal(desk.core->request_count, 0);
    assert_int_equal(retire("one")->base_retired->n_requests, 0);
    desk_restart(&desk);
    reply = show("one");
    assert_int_equal(reply->base_info->state, UNLEARN__BASE_STATE__BASE_STATE_RETIRED);
    assert_memory_equal(reply->base_info->digest.data, base->digest.bytes, DIGEST_BYTES);
    assert_int_equal(show("two")->base_info->models_total, 1);
    assert_int_equal(retire("three")->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
}

static const Unlearn__Reply *adopt(const char *name)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__BaseFromModel body = UNLEARN__BASE_FROM_MODEL__INIT;
    body.name = wire_text(name);
    request.body_case = UNLEARN__REQUEST__BODY_BASE_FROM_MODEL;
    request.base_from_model = &body;
    desk_ask(&desk, &request, 4, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    return desk_answer(&desk, 4);
}

static enum err invalidate(struct txn *txn, void *context)
{
    const uint32_t *const model = context;
    struct component name;
    struct component_row row;
    TRY(component_get("s0:[0]", &name));
    TRY(component_row_get(txn, *model, &name, &row));
    row.state = row.state == COMPONENT_VALID ? COMPONENT_INVALID : COMPONENT_VALID;
    return component_row_put(txn, *model, &name, &row);
}

static void test_a_trained_model_becomes_a_base(void **state)
{
    (void)state;
    in_store(put_dataset, desk.core);
    struct standing standing = {desk.core, "base:new", 1, 0, 0, "vit"};
    in_store(put_model, &standing);
    stand("mlp", 2, 0, 0);
    stand("base:mlp", 3, 0, 0); // Of a learner that makes none.
    const struct model *const model = catalog_model_number(desk.core, 1);
    const struct recipe recipe = shape_recipe(model->shape);
    struct base_shape shape;
    const float *weights = NULL;
    assert_int_equal(learner_base(&recipe, model->extras[0].weights->params, &shape, &weights), OK);
    assert_ptr_equal(weights, model->extras[0].weights->params);
    const struct digest expected = base_digest(&shape, weights);
    const uint64_t before = desk.core->resident_bytes;

    const Unlearn__Reply *reply = adopt("nobody");
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    assert_int_equal(adopt("mlp")->status, UNLEARN__STATUS__STATUS_INVALID_ARGUMENT);
    // A deletion that the loop has not heard of yet: the transaction knows.
    in_store(invalidate, &standing.number);
    reply = adopt("new");
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_non_null(strstr(reply->message, "a deletion has just reached the model"));
    assert_int_equal(desk.core->resident_bytes, before);
    assert_int_equal(rows_of(KV_BASE), 0);
    in_store(invalidate, &standing.number);

    reply = adopt("new");
    assert_int_equal(reply->body_case, UNLEARN__REPLY__BODY_BASE_INFO);
    const Unlearn__BaseInfo *const info = reply->base_info;
    assert_memory_equal(info->digest.data, expected.bytes, DIGEST_BYTES);
    assert_string_equal(info->dataset, "pictures");
    assert_int_equal(info->weight_count, base_at(&shape).count);
    assert_int_equal(info->spec_digest.len, DIGEST_BYTES);
    assert_null(catalog_model_number(desk.core, 1));
    assert_int_equal(rows_of(KV_MODEL), 2);
    assert_int_equal(rows_of(KV_LOG_ENTRY), 1); // The model's removal, with a receipt.
    assert_memory_equal(adopt("new")->base_info->digest.data, expected.bytes, DIGEST_BYTES);
    desk_restart(&desk);
    assert_memory_equal(show("new")->base_info->digest.data, expected.bytes, DIGEST_BYTES);

    import_good("taken");
    standing = (struct standing){desk.core, "base:taken", 4, 0, 0, "vit"};
    in_store(put_model, &standing);
    reply = adopt("taken");
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_non_null(strstr(reply->message, "there is a base \"taken\" already"));
}

static enum err train_on_dataset(struct txn *txn, void *context)
{
    (void)context;
    struct base_row row = {.name = "mine", .dataset = DATASET, .weight_count = base->weight_count};
    row.digest = base->digest;
    buf_put(&row.shape, buf_span(&shape_text));
    TRY(base_stage(txn, &row));
    TRY(weights_put(txn, row.instance, base->weights, base->weight_count));
    const enum err err = base_commit(txn, row.number, 5);
    base_row_deinit(&row);
    return err;
}

static const Unlearn__Reply *delete_record(const char *id, uint8_t uuid_byte)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    char *records[1] = {wire_text(id)};
    uint8_t uuid[ID_BYTES] = {uuid_byte};
    body.dataset = wire_text("pictures");
    body.uuid = wire_bytes(span_of(uuid, sizeof uuid));
    body.records = records;
    body.n_records = 1;
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = &body;
    desk_ask(&desk, &request, 7, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    return desk_answer(&desk, 7);
}

static const Unlearn__Reply *remove_dataset(void)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__DatasetRemove body = UNLEARN__DATASET_REMOVE__INIT;
    uint8_t uuid[ID_BYTES] = {200};
    body.dataset = wire_text("pictures");
    body.uuid = wire_bytes(span_of(uuid, sizeof uuid));
    request.body_case = UNLEARN__REQUEST__BODY_DATASET_REMOVE;
    request.dataset_remove = &body;
    desk_ask(&desk, &request, 8, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    return desk_answer(&desk, 8);
}

static void test_a_dataset_under_a_base_loses_nothing(void **state)
{
    (void)state;
    in_store(put_dataset, desk.core);
    assert_int_equal(delete_record("0", 1)->status, UNLEARN__STATUS__STATUS_OK); // No base yet.
    in_store(train_on_dataset, NULL);
    desk_restart(&desk);
    assert_string_equal(show("mine")->base_info->dataset, "pictures");
    const uint64_t epoch = desk.core->epoch;
    const Unlearn__Reply *reply = delete_record("1", 2);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_non_null(strstr(reply->message, "base \"mine\" was pre-trained on this dataset"));
    reply = remove_dataset();
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_non_null(strstr(reply->message, "base \"mine\""));
    assert_int_equal(desk.core->datasets[0]->row.record_count, 1);
    assert_int_equal(desk.core->epoch, epoch);
    assert_int_equal(rows_of(KV_RECORD), 1);
    assert_int_equal(rows_of(KV_REQUEST), 1);
    // What changes nothing is answered as ever.
    assert_int_equal(delete_record("9", 3)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    reply = delete_record("0", 4);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_OK);
    assert_int_equal(reply->request_state->records_deleted, 0);
    assert_int_equal(retire("mine")->status, UNLEARN__STATUS__STATUS_OK);
    assert_int_equal(delete_record("1", 2)->status, UNLEARN__STATUS__STATUS_OK);
    assert_int_equal(remove_dataset()->status, UNLEARN__STATUS__STATUS_OK);
    assert_string_equal(show("mine")->base_info->dataset, "");
    assert_true(show("mine")->base_info->pretrained);
}

int main(void)
{
    alarm(
        120); // A test that fails leaves its sockets open, and closing their context waits for them.
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_an_upload_lands),
        CASE(test_the_same_again_is_there_and_another_is_refused),
        CASE(test_announcements_that_do_not_fit_are_refused),
        CASE(test_a_commit_behind_a_refused_chunk),
        CASE(test_other_bytes_than_announced_are_refused),
        CASE(test_chunks_out_of_turn_are_refused),
        CASE(test_what_a_crash_or_an_abort_leaves_is_dropped),
        CASE(test_no_more_uploads_at_once_than_may_be),
        CASE(test_a_damaged_base_stops_the_start),
        CASE(test_all_that_stands_on_a_base_goes_with_it),
        CASE(test_a_trained_model_becomes_a_base),
        CASE(test_a_dataset_under_a_base_loses_nothing),
    };
#undef CASE
    return cmocka_run_group_tests_name("bases", tests, NULL, NULL);
}
