// tests/unit/test_access_workers.c: who trains has a worker's key, and gets the records of its datasets alone.
//
// Method: workers join a coordinator (access_desk.h) over a socket; the test hands their messages on, each
// with the key that it wants the worker to have proved. Which lease each one gets is read from the
// coordinator's memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "coordinator/fleetdom.h"
#include "tests/unit/access_desk.h"

enum { WORKERS_MAX = 4 };
static const enum who HERS = WHO_COUNT, HIS = WHO_COUNT + 1, NONE = WHO_COUNT + 2;

static struct link *dealers[WORKERS_MAX];
static struct link_peer peers[WORKERS_MAX];

static int set_up(void **state)
{
    char endpoint[LINK_ENDPOINT_BYTES];
    assert_int_equal(access_set_up(state), 0);
    good(add_key(ADMIN, "hers-lab", ROLE_WORKER, keys[HERS], "hers"));
    good(add_key(ADMIN, "his-lab", ROLE_WORKER, keys[HIS], "his"));
    import_into(ADMIN, "third");
    good(add_key(ADMIN, "none-lab", ROLE_WORKER, keys[NONE], "third")); // No model there.
    desk.core->config.lease_ms = 60000;
    assert_int_equal(link_open(desk.core->context, LINK_ROUTER, NULL, &desk.core->workers_link),
                     OK);
    assert_int_equal(link_bind(desk.core->workers_link, "tcp://127.0.0.1:*", endpoint), OK);
    for (int i = 0; i < WORKERS_MAX; i++) {
        assert_int_equal(link_open(desk.core->context, LINK_DEALER, NULL, &dealers[i]), OK);
        assert_int_equal(link_connect(dealers[i], endpoint), OK);
    }
    return 0;
}

static int tear_down(void **state)
{
    for (int i = 0; i < WORKERS_MAX; i++) {
        link_close(dealers[i]);
    }
    storage_drain(desk.core->storage, desk.core);
    leases_return(desk.core);
    storage_drain(desk.core->storage, desk.core);
    struct link *const link = desk.core->workers_link;
    link_close(link);
    return access_tear_down(state);
}

// Sends as worker `at` and hands it on with the key.
static void say(int at, enum who who, Unlearn__FromWorker *message)
{
    struct buf frame = {0};
    struct link_message received = {.key = NULL};
    bool ready = false;
    message->version = WIRE_VERSION;
    wire_put(&message->base, &frame);
    while (link_send(dealers[at], NULL, buf_span(&frame), span_of(NULL, 0)) != OK) {
        assert_int_equal(link_wait(&dealers[at], &ready, 1, NULL, 0, 5), OK);
    }
    buf_deinit(&frame);
    while (link_receive(desk.core->workers_link, &received) != OK) {
        assert_int_equal(link_wait(&desk.core->workers_link, &ready, 1, NULL, 0, 100), OK);
    }
    peers[at] = received.peer;
    received.key = who == NOBODY ? NULL : keys[who];
    leases_message(desk.core, &received);
}

static void hello(int at, enum who who)
{
    Unlearn__FromWorker message = UNLEARN__FROM_WORKER__INIT;
    Unlearn__WorkerHello body = UNLEARN__WORKER_HELLO__INIT;
    uint8_t fleet[ID_BYTES] = {(uint8_t)(at + 1)};
    body.host = wire_text("host");
    body.pid = (uint32_t)at + 1;
    body.ranks = 1;
    body.fleet = wire_bytes(span_of(fleet, sizeof fleet));
    body.profile = wire_bytes(span_of(desk.core->profile.bytes, DIGEST_BYTES));
    body.core = desk.core->core_type;
    message.body_case = UNLEARN__FROM_WORKER__BODY_HELLO;
    message.hello = &body;
    say(at, who, &message);
}

static void beat(int at, enum who who)
{
    Unlearn__FromWorker message = UNLEARN__FROM_WORKER__INIT;
    Unlearn__WorkerBeat body = UNLEARN__WORKER_BEAT__INIT;
    message.body_case = UNLEARN__FROM_WORKER__BODY_BEAT;
    message.beat = &body;
    say(at, who, &message);
}

// The dataset whose records the worker gets; 0: none.
static uint32_t trains(int at)
{
    const struct worker *const worker = workers_find(desk.core, &peers[at]);
    return worker == NULL || worker->lease == NULL ? 0 : worker->lease->dataset;
}

static uint32_t number_of(const char *name)
{
    struct dataset *dataset = NULL;
    assert_int_equal(catalog_dataset(desk.core, NULL, name, &dataset), OK);
    return dataset->row.number;
}

// The next thing that worker `at` is told: its body case; a Refused's reason goes to `reason`.
static int told(int at, char reason[static 256])
{
    struct link_message message = {.key = NULL};
    const Unlearn__ToWorker *body = NULL;
    bool ready = false;
    while (link_receive(dealers[at], &message) != OK) {
        assert_int_equal(link_wait(&dealers[at], &ready, 1, NULL, 0, 1000), OK);
    }
    assert_int_equal(wire_get_to_worker(&desk.arena, message.envelope, &body), OK);
    reason[0] = '\0';
    if (body->body_case == UNLEARN__TO_WORKER__BODY_REFUSED) {
        snprintf(reason, 256, "%s", body->refused->reason);
    }
    return (int)body->body_case;
}

// Each gets what its key is for, whoever came first; one that gets nothing holds nobody up.
static void test_leases_keep_to_the_datasets(void **state)
{
    (void)state;
    hello(0, NONE);
    hello(1, HIS);
    hello(2, HERS);
    leases_tick(desk.core);
    assert_int_equal(trains(0), 0);
    assert_int_equal(trains(1), number_of("his"));
    assert_int_equal(trains(2), number_of("hers"));
    hello(3, WALLY); // For all.
    leases_tick(desk.core);
    assert_int_not_equal(trains(3), 0);
    assert_int_equal(trains(0), 0);
    // Over and over: never another's.
    for (int i = 0; i < 20; i++) {
        for (int at = 1; at < 3; at++) {
            lease_end(desk.core, workers_find(desk.core, &peers[at])->lease, false);
            workers_find(desk.core, &peers[at])->stopping = false;
        }
        storage_drain(desk.core->storage, desk.core);
        leases_tick(desk.core);
        assert_int_equal(trains(1), number_of("his"));
        assert_int_equal(trains(2), number_of("hers"));
    }
}

static void test_comparisons_keep_to_the_datasets(void **state)
{
    (void)state;
    struct verify_task task;
    Unlearn__Verify verify = UNLEARN__VERIFY__INIT;
    Unlearn__VerifyShow show = UNLEARN__VERIFY_SHOW__INIT;
    verify.model = wire_text("m-his");
    const Unlearn__VerifyState *asked = good(ask(ADMIN, "verify", &verify))->verify_state;
    const uint32_t components = asked->components;
    show.job = asked->job;
    assert_int_equal(components, verify_count_waiting(desk.core, UINT32_MAX));
    assert_true(components > 0);
    const struct principal_row *principal = NULL;
    assert_int_equal(access_enter_worker(desk.core, keys[HERS], &principal), OK);
    assert_false(verify_next(desk.core, principal, &task));
    assert_int_equal(verify_count_waiting(desk.core, UINT32_MAX), components);
    assert_int_equal(access_enter_worker(desk.core, keys[HIS], &principal), OK);
    assert_false(verify_next(desk.core, principal, &task)); // Not trained: looked at, and skipped.
    assert_int_equal(verify_count_waiting(desk.core, UINT32_MAX), 0);
    assert_int_equal(good(ask(ADMIN, "verify_show", &show))->verify_state->skipped, components);
}

static void test_others_do_not_join(void **state)
{
    (void)state;
    static const struct {
        enum who who;
        const char *says;
    } others[] = {
        {ADMIN, "is a client's"}, {ALICE, "is a client's"}, {WHO_COUNT + 3, "is not known"}};
    char reason[256];
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        hello(0, others[i].who);
        assert_int_equal(told(0, reason), UNLEARN__TO_WORKER__BODY_REFUSED);
        assert_non_null(strstr(reason, others[i].says));
    }
    assert_int_equal(leases_worker_count(desk.core), 0);
    assert_int_equal(desk.core->activity.denied.total, 3);
    hello(0, WALLY); // The control.
    assert_int_equal(told(0, reason), UNLEARN__TO_WORKER__BODY_WELCOME);
    assert_int_equal(leases_worker_count(desk.core), 1);
}

// Its lease ends, it is told to end, and nothing that is to be erased counts on it having wiped its copies.
static void test_revoked_worker(void **state)
{
    (void)state;
    char reason[256];
    hello(0, HERS);
    hello(1, WALLY);
    assert_int_equal(told(0, reason), UNLEARN__TO_WORKER__BODY_WELCOME);
    leases_tick(desk.core);
    assert_int_equal(trains(0), number_of("hers"));
    assert_true(leases_have_forgotten(desk.core, UINT64_MAX));
    good(revoke_key(ADMIN, "hers-lab"));
    lease_end(desk.core, workers_find(desk.core, &peers[0])->lease, false);
    workers_find(desk.core, &peers[0])->stopping = false;
    storage_drain(desk.core->storage, desk.core);
    leases_tick(desk.core); // Idle, and given nothing.
    assert_int_equal(trains(0), 0);
    int kind = 0;
    beat(0, HERS);
    while (kind != UNLEARN__TO_WORKER__BODY_REFUSED) {
        kind = told(0, reason);
    }
    assert_non_null(strstr(reason, "was revoked"));
    assert_int_equal(leases_worker_count(desk.core), 1);
    assert_false(leases_have_forgotten(desk.core, UINT64_MAX));
    desk.core->now_ms += copies_silence_ms(desk.core) + 1;
    assert_true(leases_have_forgotten(desk.core, UINT64_MAX));
    beat(1, WALLY); // Others stay.
    assert_int_equal(leases_worker_count(desk.core), 1);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_leases_keep_to_the_datasets),
        TEST(test_comparisons_keep_to_the_datasets),
        TEST(test_others_do_not_join),
        TEST(test_revoked_worker),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
