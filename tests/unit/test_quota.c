// tests/unit/test_quota.c: each principal has its share and no more, whatever others do, and deletions have
// theirs apart.
//
// Method: requests put to quota_take with small settings and a clock of the test's own; and, on a
// coordinator without its loop, a queue of the store that is nearly full, and an answer as clients get it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <string.h>

#include <cmocka.h>

#include "coordinator/quota.h"
#include "tests/unit/desk.h"

static struct core core;
static const struct principal_row ann = {.number = 1}, bob = {.number = 7};
static uint32_t retry_ms;

static int set_up(void **state)
{
    (void)state;
    core = (struct core){.now_ms = 1000000};
    core.config = config_default();
    core.config.quota_requests = 10;
    core.config.quota_bytes = 1000;
    core.config.quota_ids = 100;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    quota_free(&core);
    return 0;
}

static enum err ask(const struct principal_row *who, int body, size_t bytes)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    request.body_case = (Unlearn__Request__BodyCase)body;
    retry_ms = 0;
    return quota_take(&core, &(struct caller){.principal = who}, &request, bytes, false, &retry_ms);
}

static enum err forget(const struct principal_row *who, size_t ids, uint32_t part)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = &body;
    body.n_records = ids;
    body.part = part;
    retry_ms = 0;
    return quota_take(&core, &(struct caller){.principal = who}, &request, 1, false, &retry_ms);
}

static void test_requests(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_PING, 1), OK);
    }
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_PING, 1), ERR_LIMIT);
    assert_int_equal(retry_ms, 101);
    assert_non_null(strstr(err_text(), "10 requests a second: try again in 101 ms"));
    assert_int_equal(ask(&bob, UNLEARN__REQUEST__BODY_PING, 1), OK); // Another's is not touched,
    assert_int_equal(ask(NULL, UNLEARN__REQUEST__BODY_PING, 1), OK); // nor of those without keys,
    assert_int_equal(forget(&ann, 200, 0), OK);                      // nor are its own deletions.
    core.now_ms += 101;
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_PING, 1), OK);
    Unlearn__Limits limits = UNLEARN__LIMITS__INIT;
    quota_describe(&core, &limits);
    assert_int_equal(limits.requests_refused, 1);
    assert_int_equal(limits.bytes_refused + limits.ids_refused, 0);
}

static void test_bytes(void **state)
{
    (void)state;
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_PREDICT, 2000), OK);
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_PREDICT, 500), ERR_LIMIT);
    assert_int_equal(retry_ms, 501);
    assert_int_equal(ask(&bob, UNLEARN__REQUEST__BODY_PREDICT, 500), OK);
    // An upload goes on; what comes next pays for it.
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_IMPORT_CHUNK, 8000), OK);
    core.now_ms += 501;
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_PING, 1), ERR_LIMIT);
    assert_true(retry_ms > 7000 && retry_ms < 8000);
    // But not for ever.
    for (int i = 0; i < 7; i++) {
        assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_BASE_CHUNK, 8000), OK);
    }
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_IMPORT_CHUNK, 8000), ERR_LIMIT);
    assert_int_equal(ask(&bob, UNLEARN__REQUEST__BODY_IMPORT_CHUNK, 8000), OK);
}

static void test_deletions(void **state)
{
    (void)state;
    assert_int_equal(forget(&ann, 150, 0), OK);
    assert_int_equal(forget(&ann, 51, 0), ERR_LIMIT);
    assert_int_equal(retry_ms, 11);
    assert_non_null(strstr(err_text(), "100 ids of deletions a second"));
    assert_int_equal(forget(&ann, 50, 0), OK);
    assert_int_equal(forget(&ann, 0, 0), ERR_LIMIT); // Costs as one.
    assert_int_equal(forget(&ann, 4096, 1), OK);     // A part of one that has begun,
    assert_int_equal(forget(&ann, 4096, 2), OK);
    assert_int_equal(forget(&ann, 4096, 3), ERR_LIMIT); // but not for ever.
    assert_int_equal(ask(&ann, UNLEARN__REQUEST__BODY_PING, 1), OK);
    assert_int_equal(forget(&bob, 200, 0), OK);
}

// ---------------------------------------------------------------- with a store

static struct desk desk;

static void nothing(struct job *job, void *context)
{
    (void)context;
    mem_free(job);
}

static enum err run(struct job *job, struct store *store, struct txn *txn)
{
    (void)job;
    (void)store;
    (void)txn;
    return OK;
}

static void fill(uint32_t count)
{
    while (storage_count(desk.core->storage) < count) {
        struct job *const job = mem_alloc(1, sizeof *job);
        job->kind = JOB_READ;
        job->run = run;
        job->done = nothing;
        storage_submit(desk.core->storage, job, STORAGE_OURS);
    }
}

static void test_the_last_quarter_of_the_queue_is_for_deletions(void **state)
{
    (void)state;
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    const struct caller caller = {0};
    desk_open(&desk);
    fill(LIMIT_STORE_QUEUE - LIMIT_STORE_QUEUE_DELETIONS - 1);
    request.body_case = UNLEARN__REQUEST__BODY_TRAIN;
    assert_int_equal(quota_take(desk.core, &caller, &request, 1, true, &retry_ms), OK);
    fill(LIMIT_STORE_QUEUE - LIMIT_STORE_QUEUE_DELETIONS);
    assert_int_equal(quota_take(desk.core, &caller, &request, 1, true, &retry_ms), ERR_LIMIT);
    assert_true(retry_ms > 0);
    assert_int_equal(quota_take(desk.core, &caller, &request, 1, false, &retry_ms), OK);
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = &body;
    fill(LIMIT_STORE_QUEUE - 1);
    assert_int_equal(quota_take(desk.core, &caller, &request, 1, true, &retry_ms), OK);
    fill(LIMIT_STORE_QUEUE);
    assert_int_equal(quota_take(desk.core, &caller, &request, 1, true, &retry_ms), ERR_LIMIT);
    Unlearn__Limits limits = UNLEARN__LIMITS__INIT;
    quota_describe(desk.core, &limits);
    assert_int_equal(limits.store_queue_refused, 2);
    desk_close(&desk);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deletions, set_up, tear_down),
        cmocka_unit_test(test_the_last_quarter_of_the_queue_is_for_deletions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
