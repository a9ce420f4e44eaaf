// tests/unit/test_status.c: what is told of a cluster is right, and of bounded size at its limits.
//
// Method: a coordinator's memory (desk.h) is filled to the limits: 4,096 workers, 65,536 open requests,
// 1,048,576 components. A longer reply than a frame would end the program (wire_put). The time of one
// message is the shortest of several, so that a busy machine does not decide.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "client/overview.h"
#include "coordinator/fleetdom.h"
#include "tests/unit/desk.h"

enum { REQUESTS = 65536, TRIES = 5, LONGEST_US = 20000 };

static struct desk desk;
static uint64_t number;

static int set_up(void **state)
{
    (void)state;
    desk_open(&desk);
    desk.core->config.predict_threads = 1;
    assert_int_equal(predict_open(desk.core), OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    predict_free(desk.core);
    desk_close(&desk);
    return 0;
}

// Asks and answers TRIES times; says what the shortest took in the coordinator.
static const Unlearn__Reply *ask(const char *what, Unlearn__Request *request)
{
    int64_t shortest_us = INT64_MAX;
    const Unlearn__Reply *reply = NULL;
    for (int i = 0; i < TRIES; i++) {
        const int64_t began_us = clock_mono_us();
        desk_ask(&desk, request, ++number, span_of(NULL, 0));
        const int64_t us = clock_mono_us() - began_us;
        shortest_us = us < shortest_us ? us : shortest_us;
        reply = desk_answer(&desk, number);
    }
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_OK);
    if (what[0] != '\0') {
        printf("# %s: %.2f ms, %zu bytes\n", what, (double)shortest_us / 1000,
               protobuf_c_message_get_packed_size(&reply->base));
    }
    assert_true(shortest_us < LONGEST_US);
    return reply;
}

// --- Requests

static void put_request(uint64_t sequence, enum request_state state, int64_t accepted_us)
{
    struct request_row row = {.sequence = sequence, .kind = REQUEST_DELETE, .state = state};
    be_put64(row.uuid.bytes, sequence);
    snprintf(row.name, sizeof row.name, "d%u", (unsigned)sequence % 7);
    row.accepted_us = accepted_us;
    catalog_put_request(desk.core, &row, NULL, 0);
}

static const Unlearn__RequestPage *ask_requests(const char *what, uint32_t offset)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__RequestList body = UNLEARN__REQUEST_LIST__INIT;
    body.offset = offset;
    request.body_case = UNLEARN__REQUEST__BODY_REQUEST_LIST;
    request.request_list = &body;
    return ask(what, &request)->request_page;
}

static void test_requests_none(void **state)
{
    (void)state;
    const Unlearn__RequestPage *const page = ask_requests("", 0);
    assert_int_equal(page->total + page->next + page->n_counts + page->n_first, 0);
    assert_int_equal(ask_requests("", UINT32_MAX)->n_counts, 0);
}

static void test_requests_many(void **state)
{
    (void)state;
    // Times in an order that is not that of the requests: the oldest is number 1 + 12345.
    for (uint32_t i = 0; i < REQUESTS; i++) {
        put_request(1 + i, i % 3 == 0 ? REQUEST_ERASED : REQUEST_FENCED,
                    1000 + (i + REQUESTS - 12345) % REQUESTS);
    }
    struct overview_requests found = {0};
    uint32_t offset = 0, pages = 0;
    do {
        const Unlearn__RequestPage *const page =
            ask_requests(pages == 0 ? "a page of 65,536 requests" : "", offset);
        assert_true(page->next == 0 || page->next > offset);
        assert_in_range(page->n_first, 1, 20);
        overview_add(&found, page);
        offset = page->next;
        pages++;
    } while (offset != 0);
    assert_int_equal(pages, 16);
    assert_int_equal(found.total, REQUESTS);
    assert_int_equal(found.phases[UNLEARN__REQUEST_PHASE__REQUEST_PHASE_ERASED].count,
                     (REQUESTS + 2) / 3);
    assert_int_equal(found.phases[UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED].count,
                     REQUESTS - (REQUESTS + 2) / 3);
    assert_int_equal(found.phases[UNLEARN__REQUEST_PHASE__REQUEST_PHASE_ERASED].oldest_us, 1000);
    assert_int_equal(found.phases[UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED].oldest_us, 1001);
    assert_int_equal(found.first_count, OVERVIEW_NAMED);
    for (uint32_t i = 0; i < OVERVIEW_NAMED; i++) {
        assert_int_equal(found.first[i].accepted_us, 1000 + i);
        assert_int_equal(be_get64(found.first[i].uuid.bytes), 1 + 12345 + i);
    }
    assert_string_equal(found.first[0].name, "d5"); // (1 + 12345) % 7
}

static void test_pages_are_merged_by_due_date(void **state)
{
    (void)state;
    uint8_t uuids[3][ID_BYTES] = {{1}, {2}, {3}};
    Unlearn__RequestBrief briefs[3], *pointers[3];
    Unlearn__RequestCount count = UNLEARN__REQUEST_COUNT__INIT, *counts[1] = {&count};
    static const int64_t accepted[] = {10, 20, 30}, due[] = {0, 500, 400};
    for (int i = 0; i < 3; i++) {
        unlearn__request_brief__init(&briefs[i]);
        briefs[i].uuid = wire_bytes(span_of(uuids[i], ID_BYTES));
        briefs[i].name = wire_text("d");
        briefs[i].accepted_us = accepted[i];
        briefs[i].due_us = due[i];
        pointers[i] = &briefs[i];
    }
    Unlearn__RequestPage page = UNLEARN__REQUEST_PAGE__INIT;
    struct overview_requests found = {0};
    count.phase = UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED;
    count.count = 1;
    page.counts = counts;
    page.n_counts = 1;
    page.n_first = 1;
    for (int i = 0; i < 3; i++) { // One a page.
        page.first = &pointers[i];
        count.oldest_us = accepted[i];
        count.due_us = due[i];
        overview_add(&found, &page);
    }
    assert_int_equal(found.first_count, 3);
    assert_int_equal(found.first[0].uuid.bytes[0], 3); // Due first.
    assert_int_equal(found.first[1].uuid.bytes[0], 2);
    assert_int_equal(found.first[2].uuid.bytes[0], 1); // Never due.
    assert_int_equal(found.phases[1].count, 3);
    assert_int_equal(found.phases[1].oldest_us, 10);
    assert_int_equal(found.phases[1].due_us, 400);
}

// --- Workers

static const Unlearn__Cluster *ask_cluster(const char *what)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ClusterShow body = UNLEARN__CLUSTER_SHOW__INIT;
    request.body_case = UNLEARN__REQUEST__BODY_CLUSTER_SHOW;
    request.cluster_show = &body;
    return ask(what, &request)->cluster;
}

// Every other worker has a lease, of a group of `members`, and the longest name.
static void add_workers(uint32_t count, uint32_t members)
{
    struct fleetdom *const dom = desk.core->fleetdom;
    for (uint32_t i = 0; i < count; i++) {
        struct worker *const worker = dom->workers[dom->worker_count++] =
            mem_alloc(1, sizeof *worker);
        snprintf(worker->name, sizeof worker->name, "%0200u", i);
        worker->rank = i;
        if (i % 2 == 0) {
            continue;
        }
        worker->lease = mem_alloc(1, sizeof *worker->lease);
        worker->lease->members = mem_alloc(members, sizeof *worker->lease->members);
        worker->lease->member_count = members;
        worker->lease->name.count = 1;
        worker->lease->samples = 1000;
        worker->lease->samples_done = 250;
        worker->lease->began_ms = desk.core->now_ms - 6000;
        for (uint32_t j = 0; j < members; j++) {
            worker->lease->members[j].rank = j;
        }
    }
}

static void test_workers_few(void **state)
{
    (void)state;
    add_workers(3, 1);
    const Unlearn__Cluster *const cluster = ask_cluster("");
    assert_int_equal(cluster->n_workers, 3);
    assert_int_equal(cluster->workers_total, 3);
    assert_int_equal(cluster->workers_busy, 1);
    assert_int_equal(cluster->workers[1]->rank, 1);
    assert_true(cluster->workers[1]->share == 0.25);
    assert_true(cluster->workers[1]->seconds_left == 18); // 6 s for a quarter.
    assert_string_equal(cluster->workers[0]->task, "");
    assert_true(cluster->workers[0]->seconds_left == 0);
    assert_int_equal(cluster->workers[1]->n_group_ranks, 0);
}

static void test_workers_many(void **state)
{
    (void)state;
    add_workers(LIMIT_WORKERS, LIMIT_WORKERS / 8);
    const Unlearn__Cluster *const cluster = ask_cluster("4,096 workers");
    assert_int_equal(cluster->workers_total, LIMIT_WORKERS);
    assert_int_equal(cluster->workers_busy, LIMIT_WORKERS / 2);
    assert_in_range(cluster->n_workers, 100, LIMIT_WORKERS / 2);
    for (size_t i = 0; i < cluster->n_workers; i++) { // Those that do something come first.
        assert_int_equal(cluster->workers[i]->rank, 2 * i + 1);
        assert_int_equal(cluster->workers[i]->n_group_ranks, 64);
        assert_true(cluster->workers[i]->group_more);
    }
}

static void test_activity(void **state)
{
    (void)state;
    struct core *const core = desk.core;
    rate_add(&core->activity.samples, core->now_ms - 100000, 7);
    rate_add(&core->activity.samples, core->now_ms, 5);
    rate_add(&core->activity.stored, core->now_ms, 3);
    rate_add(&core->activity.deletions, core->now_ms, 2);
    rate_add(&core->activity.cancelled, core->now_ms, 1);
    rate_add(&core->activity.wasted, core->now_ms, 400);
    peak_add(&core->activity.turn_us, core->now_ms - 100000, 9000);
    peak_add(&core->activity.turn_us, core->now_ms, 1000);
    const Unlearn__Activity *const told = ask_cluster("")->activity;
    assert_int_equal(told->samples, 12);
    assert_int_equal(told->samples_minute, 5);
    assert_int_equal(told->components, 3);
    assert_int_equal(told->deletions_minute, 2);
    assert_int_equal(told->cancelled, 1);
    assert_int_equal(told->samples_wasted_minute, 400);
    assert_int_equal(told->turn_us, 9000);
    assert_int_equal(told->turn_us_minute, 1000);
}

// --- Cells

static void put_model(const char *shards, const char *slices, const char *sequences)
{
    struct dataset_row dataset = {
        .number = 1, .name = "d", .generation_next = 1, .generation_closed = 1};
    desk_schema(&dataset.schema);
    assert_int_equal(catalog_put_dataset(desk.core, &dataset), OK);
    struct spec spec = spec_default();
    assert_int_equal(spec_set(&spec, "learner", "softmax"), OK);
    assert_int_equal(spec_set(&spec, "shards", shards), OK);
    assert_int_equal(spec_set(&spec, "slices", slices), OK);
    assert_int_equal(spec_set(&spec, "sequences", sequences), OK);
    struct model_row row = {.number = 1, .name = "m", .dataset = 1, .generations = 1};
    spec_put(&spec, &row.spec);
    uint16_t *orders = NULL;
    assert_int_equal(orders_make(&spec, &orders), OK);
    uint64_t *const cells = mem_alloc((size_t)spec.shards * spec.slices, sizeof *cells);
    for (uint32_t i = 0; i < spec.shards * spec.slices; i++) {
        cells[i] = i % spec.slices == 0 ? 0 : 10; // Slice 0 has nobody.
    }
    assert_int_equal(catalog_put_model(desk.core, &row, cells, orders), OK);
    model_row_deinit(&row);
    mem_free(orders);
    mem_free(cells);
}

static const Unlearn__CellPage *ask_cells(const char *what, uint32_t offset)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ModelCells body = UNLEARN__MODEL_CELLS__INIT;
    body.model = wire_text("m");
    body.offset = offset;
    request.body_case = UNLEARN__REQUEST__BODY_MODEL_CELLS;
    request.model_cells = &body;
    return ask(what, &request)->cell_page;
}

static void test_cells_by_state(void **state)
{
    (void)state;
    put_model("2", "3", "3"); // s: [0] [0,1] [0,1,2] [1] [1,2] [1,2,0] [2] [2,0] [2,0,1]
    struct ensemble *const ensemble = &desk.core->models[0]->ensemble;
    const struct component two = {.shard = 1, .count = 1, .list = {2}};
    const int32_t node = trie_find(&ensemble->trie, &two);
    ensemble_set_valid(ensemble, 1, (uint32_t)node, 5, false);
    const struct component one = {.shard = 1, .count = 1, .list = {1}};
    ensemble_set_leased(ensemble, 1, (uint32_t)trie_find(&ensemble->trie, &one), true);
    const Unlearn__CellPage *const page = ask_cells("", 0);
    assert_int_equal(page->components, 18);
    assert_int_equal(page->next, 0);
    assert_int_equal(page->shards, 2);
    assert_int_equal(page->slices, 3);
    assert_int_equal(page->first_shard, 0);
    static const uint32_t valid[6] = {0, 0, 0, 0, 0, 1}, training[6] = {0, 0, 0, 0, 1, 0},
                          waiting[6] = {2, 3, 3, 2, 2, 2}, empty[6] = {1, 0, 0, 1, 0, 0};
    assert_int_equal(page->n_empty, 6);
    assert_memory_equal(page->valid, valid, sizeof valid);
    assert_memory_equal(page->training, training, sizeof training);
    assert_memory_equal(page->waiting, waiting, sizeof waiting);
    assert_memory_equal(page->empty, empty, sizeof empty);
    assert_int_equal(ask_cells("", 18)->n_valid, 0); // Past the end.
    assert_int_equal(ask_cells("", 17)->first_shard, 1);
}

static void test_pages_that_do_not_fit(void **state)
{
    (void)state;
    uint32_t counts[4] = {1, 2, 3, 4}; // The second shard's; valid, then training.
    Unlearn__CellPage good = UNLEARN__CELL_PAGE__INIT;
    good.components = 20;
    good.shards = 2;
    good.slices = 2;
    good.first_shard = 1;
    good.n_valid = good.n_training = good.n_waiting = good.n_empty = 2;
    good.valid = counts;
    good.training = good.waiting = good.empty = counts + 2;
    struct overview_cells cells = {0};
    Unlearn__CellPage bad = good;
    bad.shards = LIMIT_SHARDS + 1;
    assert_int_equal(overview_cells_add(&cells, &bad), ERR_CORRUPT);
    bad.shards = 0;
    assert_int_equal(overview_cells_add(&cells, &bad), ERR_CORRUPT);
    assert_null(cells.counts[0]);
    assert_int_equal(overview_cells_add(&cells, &good), OK);
    assert_int_equal(overview_cells_add(&cells, &good), OK);
    assert_int_equal(cells.counts[CELL_VALID][3], 4);
    assert_int_equal(overview_shard(&cells, CELL_VALID, 1), 6);
    assert_int_equal(overview_shard(&cells, CELL_EMPTY, 1), 14);
    assert_int_equal(overview_shard(&cells, CELL_EMPTY, 0), 0);
    uint32_t *const fields[] = {&bad.components, &bad.shards, &bad.slices, &bad.first_shard};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        bad = good;
        ++*fields[i];
        assert_int_equal(overview_cells_add(&cells, &bad), ERR_CORRUPT);
        assert_non_null(strstr(err_text(), "the model changed"));
    }
    size_t *const lengths[] = {&bad.n_valid, &bad.n_training, &bad.n_waiting, &bad.n_empty};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        bad = good;
        --*lengths[i];
        assert_int_equal(overview_cells_add(&cells, &bad), ERR_CORRUPT);
    }
    assert_int_equal(overview_shard(&cells, CELL_VALID, 1), 6);
    overview_cells_deinit(&cells);
}

// All pages together have every component once.
static void count_all(const char *what, uint32_t components)
{
    uint64_t counted = 0, empty = 0;
    uint32_t offset = 0;
    do {
        const Unlearn__CellPage *const page = ask_cells(offset == 0 ? what : "", offset);
        assert_int_equal(page->components, components);
        assert_true(page->next == 0 || page->next > offset);
        for (size_t i = 0; i < page->n_valid; i++) {
            counted += page->valid[i] + page->training[i] + page->waiting[i] + page->empty[i];
            empty += page->empty[i];
        }
        offset = page->next;
    } while (offset != 0);
    assert_int_equal(counted, components);
    assert_int_equal(empty, ensemble_sum(&desk.core->models[0]->ensemble).empty);
}

static void test_cells_of_many_components(void **state)
{
    (void)state;
    put_model("4096", "16", "16");
    count_all("a page of 1,048,576 components, 65,536 cells", 1048576);
}

static void test_cells_each_a_component(void **state)
{
    (void)state;
    put_model("4096", "200", "1");
    count_all("a page of 819,200 components, as many cells", 819200);
}

static void test_cells_of_one_shard(void **state)
{
    (void)state;
    put_model("1", "200", "256");
    count_all("a page of one shard's components", ensemble_count(&desk.core->models[0]->ensemble));
}

// A request that awaits more than one answer looks at says so.
static void test_awaited_by_a_request(void **state)
{
    (void)state;
    put_model("1", "200", "256");
    struct core *const core = desk.core;
    const struct ensemble *const ensemble = &core->models[0]->ensemble;
    struct awaited *const awaited = mem_alloc(REQUEST_LOOKS + 1, sizeof *awaited);
    uint32_t waiting = 0;
    uint64_t expected = 0;
    for (uint32_t i = 0; i <= REQUEST_LOOKS; i++) {
        awaited[i].model = 1;
        trie_name(&ensemble->trie, 0, i, &awaited[i].name);
        if (i < REQUEST_LOOKS && !ensemble_is_empty(ensemble, 0, i)) {
            waiting++;
            expected += ensemble_samples(ensemble, 0, i);
        }
    }
    for (uint32_t one_more = 0; one_more < 2; one_more++) {
        const struct request_row row = {.sequence = 7 + one_more, .state = REQUEST_ERASED};
        catalog_put_request(core, &row, awaited, REQUEST_LOOKS + one_more);
        uint64_t samples = 0;
        bool more = false;
        const int64_t began_us = clock_mono_us();
        assert_int_equal(
            request_waits_for(core, catalog_request(core, 7 + one_more), &samples, &more), waiting);
        printf("# a request that awaits %u components: %.2f ms\n", REQUEST_LOOKS + one_more,
               (double)(clock_mono_us() - began_us) / 1000);
        assert_int_equal(samples, expected);
        assert_int_equal(more, one_more == 1);
    }
    mem_free(awaited);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_requests_none),
        CASE(test_requests_many),
        CASE(test_pages_are_merged_by_due_date),
        CASE(test_workers_few),
        CASE(test_workers_many),
        CASE(test_activity),
        CASE(test_awaited_by_a_request),
        CASE(test_cells_by_state),
        CASE(test_pages_that_do_not_fit),
        CASE(test_cells_of_many_components),
        CASE(test_cells_each_a_component),
        CASE(test_cells_of_one_shard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
