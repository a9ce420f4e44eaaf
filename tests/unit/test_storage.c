// tests/unit/test_storage.c: jobs run and come back in order, share commits, and fail alone.
//
// Method: each job raises a counter of a real store and notes what it saw, or fails in one of the
// ways that a job can fail: before a write, after one, because the map is full. To make a batch
// deterministic, a first job holds the store thread until all others are queued.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/limits.h"
#include "base/mem.h"
#include "coordinator/storage.h"
#include "store/store.h"
#include "tests/unit/scratch.h"

enum { MAP_BYTES = 4 << 20 };

static char dir[SCRATCH_BYTES];
static struct storage *storage;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool held; // The store thread waits for the gate.

struct work {
    struct job job;
    enum err fails;     // What run returns.
    bool writes;        // Raises the counter, before it fails.
    bool fails_once;    // Only the first time.
    bool holds;         // Waits for the gate.
    int lasts_ms;       // Its run.
    uint32_t principal; // On whose behalf,
    uint32_t denies;    // and whom its transaction denies; 0: nobody.
    uint32_t runs, undone;
    uint64_t saw;           // The counter, as its transaction saw it.
    uint64_t writes_before; // Of its transaction: 0 for the first of a commit.
};

static enum err run(struct job *job, struct store *store, struct txn *txn)
{
    (void)store;
    struct work *const work = (struct work *)job;
    if (work->holds) {
        held = true;
        pthread_mutex_lock(&gate);
        pthread_mutex_unlock(&gate);
    }
    (void)poll(NULL, 0, work->lasts_ms);
    work->runs++;
    work->writes_before = txn_writes(txn);
    if (work->writes) {
        TRY(counter_next(txn, COUNTER_MODEL, &work->saw));
    } else {
        TRY(counter_get(txn, COUNTER_MODEL, &work->saw));
    }
    if (work->denies != 0) {
        storage_deny(storage, work->denies, true);
    }
    if (work->fails != OK && (!work->fails_once || work->runs == 1)) {
        FAIL(work->fails, "as the test wants");
    }
    return OK;
}

static void undo(struct job *job, struct store *store)
{
    (void)store;
    struct work *const work = (struct work *)job;
    work->undone++;
    if (work->denies != 0) {
        storage_deny(storage, work->denies, false);
    }
}

static struct work *finished[64];
static uint32_t finished_count;

static void done(struct job *job, void *core)
{
    (void)core;
    finished[finished_count++] = (struct work *)job;
}

static int set_up(void **state)
{
    (void)state;
    finished_count = 0;
    assert_true(scratch_make(dir));
    assert_int_equal(store_create(dir), OK);
    assert_int_equal(storage_open(dir, MAP_BYTES, &storage), OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    storage_close(storage);
    scratch_remove(dir);
    return 0;
}

static void make(struct work *work, enum job_kind kind)
{
    *work = (struct work){
        .job = {.kind = kind, .run = run, .undo = undo, .done = done},
        .writes = kind != JOB_READ,
    };
}

// Submits while the store thread is held, so that what can share a transaction does.
static void submit_together(struct work *works, size_t count)
{
    struct work first;
    make(&first, JOB_WRITE_ALONE);
    first.writes = false;
    first.holds = true;
    pthread_mutex_lock(&gate);
    held = false;
    storage_submit(storage, &first.job, STORAGE_OURS);
    storage_flush(storage);
    while (!held) { // So that it has taken nothing else yet.
        (void)poll(NULL, 0, 1);
    }
    for (size_t i = 0; i < count; i++) {
        storage_submit(storage, &works[i].job, works[i].principal);
    }
    pthread_mutex_unlock(&gate);
    storage_drain(storage, NULL);
    assert_int_equal(finished_count, count + 1);
    // Those that write come back in the order of submission, and so do those that only read.
    const struct work *last[2] = {NULL, NULL};
    for (size_t i = 1; i <= count; i++) {
        const bool reads = finished[i]->job.kind == JOB_READ;
        assert_true(finished[i] >= works && finished[i] < works + count);
        assert_true(last[reads] == NULL || finished[i] > last[reads]);
        last[reads] = finished[i];
    }
}

static uint64_t counter(void)
{
    struct work read;
    make(&read, JOB_READ);
    assert_int_equal(storage_call(storage, &read.job), OK);
    return read.saw;
}

static void test_done_in_the_order_of_the_runs(void **state)
{
    (void)state;
    static const enum job_kind kinds[] = {JOB_WRITE, JOB_READ,        JOB_WRITE, JOB_WRITE,
                                          JOB_READ,  JOB_WRITE_ALONE, JOB_WRITE, JOB_READ};
    struct work works[8];
    for (size_t i = 0; i < 8; i++) {
        make(&works[i], kinds[i]);
    }
    submit_together(works, 8);
    // What writes saw exactly the writes that were submitted before it; what reads, all of them at least.
    static const uint64_t saw[] = {1, 1, 2, 3, 3, 4, 5, 5};
    for (size_t i = 0; i < 8; i++) {
        const bool reads = kinds[i] == JOB_READ;
        assert_int_equal(works[i].job.result, OK);
        assert_true(reads ? works[i].saw >= saw[i] : works[i].saw == saw[i]);
        assert_int_equal(works[i].runs, 1);
    }
    // And what it saw is what had come back before it: the loop's memory is as the store was.
    uint64_t written = 0;
    for (size_t i = 1; i <= 8; i++) {
        written += finished[i]->job.kind != JOB_READ;
        assert_true(finished[i]->saw == written);
    }
}

// Two that read, then four that write: two that share a commit, one alone that lasts so long, one more. True: the
// second of those that read had its turn before the last.
static bool reads_before_the_last(int lasts_ms)
{
    struct work works[6];
    finished_count = 0;
    for (size_t i = 0; i < 6; i++) {
        make(&works[i], i < 2 ? JOB_READ : i == 4 ? JOB_WRITE_ALONE : JOB_WRITE);
    }
    works[0].lasts_ms = works[1].lasts_ms = 20; // More than is read between two commits.
    works[4].lasts_ms = lasts_ms;
    submit_together(works, 6);
    const bool before = finished[5] == &works[1];
    const struct work *const order[] = {
        &works[2], &works[3], &works[0], &works[4], &works[before ? 1 : 5], &works[before ? 5 : 1]};
    for (size_t i = 0; i < 6; i++) {
        assert_ptr_equal(finished[i + 1], order[i]);
    }
    return before;
}

// Acks do not wait for what reads: a write goes before reads that were submitted earlier, but reads go on, too:
// they have their time behind a commit, and then again when some milliseconds have passed.
static void test_writes_go_before_reads(void **state)
{
    (void)state;
    enum { TRIES = 50 };
    assert_true(reads_before_the_last(30)); // Longer than the pause of those that read.
    bool paused = false;
    for (int i = 0; i < TRIES && !paused; i++) { // A busy machine may let the pause pass.
        (void)usleep(30000);                     // That of the last time is over.
        paused = !reads_before_the_last(0);
    }
    assert_true(paused);
}

static void test_neighbours_share_a_commit(void **state)
{
    (void)state;
    struct work works[5];
    for (size_t i = 0; i < 5; i++) {
        make(&works[i], i == 3 ? JOB_WRITE_ALONE : JOB_WRITE);
    }
    submit_together(works, 5);
    assert_true(works[0].writes_before == 0);
    assert_true(works[1].writes_before > 0 && works[2].writes_before > works[1].writes_before);
    assert_true(works[3].writes_before == 0); // Alone,
    assert_true(works[4].writes_before == 0); // and so what follows begins anew.
    assert_true(counter() == 5);
}

// A job that refuses before its first write takes nobody with it.
static void test_a_refusal_leaves_the_others(void **state)
{
    (void)state;
    static const enum err refusals[] = {ERR_INVALID, ERR_NOT_FOUND, ERR_CONFLICT, ERR_CORRUPT};
    for (size_t r = 0; r < sizeof refusals / sizeof *refusals; r++) {
        const uint64_t before = counter();
        struct work works[3];
        for (size_t i = 0; i < 3; i++) {
            make(&works[i], JOB_WRITE);
        }
        works[1].writes = false;
        works[1].fails = refusals[r];
        finished_count = 0;
        submit_together(works, 3);
        assert_int_equal(works[1].job.result, refusals[r]);
        assert_string_equal(works[1].job.text, "as the test wants");
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(works[i].runs, 1); // No rollback.
            assert_int_equal(works[i].undone, i == 1);
            assert_int_equal(works[i].job.result == OK, i != 1);
        }
        assert_true(works[2].writes_before > 0); // One commit, all three.
        assert_true(counter() == before + 2);
    }
}

// One that fails after a write leaves nothing behind, and the others happen all the same.
static void test_a_failure_after_a_write_is_rolled_back(void **state)
{
    (void)state;
    static const enum err failures[] = {ERR_CORRUPT, ERR_CONFLICT, ERR_LIMIT, ERR_IO};
    for (size_t r = 0; r < sizeof failures / sizeof *failures; r++) {
        const uint64_t before = counter();
        struct work works[3];
        for (size_t i = 0; i < 3; i++) {
            make(&works[i], JOB_WRITE);
        }
        works[1].fails = failures[r];
        finished_count = 0;
        submit_together(works, 3);
        assert_int_equal(works[0].runs, 2); // Shared, then alone.
        assert_int_equal(works[0].undone, 1);
        assert_int_equal(works[1].runs, 2);
        assert_int_equal(works[1].undone, 2);
        assert_int_equal(works[2].runs, 1); // The shared transaction had ended before it.
        assert_int_equal(works[2].undone, 0);
        assert_int_equal(works[0].job.result, OK);
        assert_int_equal(works[1].job.result, failures[r]);
        assert_int_equal(works[2].job.result, OK);
        assert_true(works[0].saw == before + 1 && works[2].saw == before + 2);
        assert_true(counter() == before + 2);
    }
}

// What failed in company succeeds alone: its first result is forgotten.
static void test_the_second_run_counts(void **state)
{
    (void)state;
    struct work works[2];
    make(&works[0], JOB_WRITE);
    make(&works[1], JOB_WRITE);
    works[1].fails = ERR_LIMIT;
    works[1].fails_once = true;
    submit_together(works, 2);
    assert_int_equal(works[1].job.result, OK);
    assert_string_equal(works[1].job.text, "");
    assert_int_equal(works[1].undone, 1);
    assert_true(works[0].saw == 1 && works[1].saw == 2 && counter() == 2);
}

static void test_a_job_alone_is_undone(void **state)
{
    (void)state;
    struct work work;
    make(&work, JOB_WRITE_ALONE);
    work.fails = ERR_CONFLICT;
    submit_together(&work, 1);
    assert_true(work.job.result == ERR_CONFLICT && work.undone == 1 && counter() == 0);
    make(&work, JOB_WRITE_ALONE); // control
    finished_count = 0;
    submit_together(&work, 1);
    assert_true(work.job.result == OK && work.undone == 0 && counter() == 1);
}

// Works of the principals 5, ours (which denies 5), 5, 6, 5.
static void make_denied(struct work *works)
{
    for (size_t i = 0; i < 5; i++) {
        make(&works[i], JOB_WRITE);
        works[i].principal = i == 3 ? 6 : i == 1 ? STORAGE_OURS : 5;
    }
    works[1].denies = 5;
    finished_count = 0;
}

// In the very transaction that revokes a key, what stands before is done, what stands behind is not, and
// others are not disturbed.
static void test_denied_from_then_on(void **state)
{
    (void)state;
    static const enum job_kind kinds[] = {JOB_READ, JOB_WRITE, JOB_WRITE_ALONE, JOB_BARE};
    struct work works[5];
    make_denied(works);
    submit_together(works, 5);
    for (size_t i = 0; i < 5; i++) {
        const bool denied = i == 2 || i == 4;
        assert_int_equal(works[i].job.result, denied ? ERR_DENIED : OK);
        assert_int_equal(works[i].runs, denied ? 0 : 1);
        assert_int_equal(works[i].undone, 0);
    }
    assert_string_equal(works[4].job.text, "this key was revoked");
    assert_true(works[3].writes_before > 0); // One commit.
    assert_true(counter() == 3);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) { // And in any later one.
        struct work late;
        make(&late, kinds[i]);
        late.principal = 5;
        finished_count = 0;
        submit_together(&late, 1);
        assert_int_equal(late.job.result, ERR_DENIED);
        assert_int_equal(late.runs + late.undone, 0);
    }
    assert_true(counter() == 3);
}

// A revocation that is rolled back has never been; done again, it stands where it stood.
static void test_denial_is_rolled_back(void **state)
{
    (void)state;
    struct work works[5];
    make_denied(works);
    works[3].fails = ERR_LIMIT;
    works[3].fails_once = true;
    submit_together(works, 5);
    assert_int_equal(works[1].runs, 2);
    assert_int_equal(works[1].undone, 1);
    assert_int_equal(works[0].runs, 2); // Not denied by what came after it and was undone.
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(works[i].job.result, i == 2 || i == 4 ? ERR_DENIED : OK);
    }
    assert_int_equal(works[2].runs + works[4].runs, 0);
    assert_true(counter() == 3);
    make_denied(works); // Alone, and refused: undone.
    for (size_t i = 0; i < 5; i++) {
        works[i].job.kind = JOB_WRITE_ALONE;
        works[i].principal = works[i].principal == 5 ? 7 : works[i].principal;
    }
    works[1].denies = 7;
    works[1].fails = ERR_CONFLICT;
    submit_together(works, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(works[i].job.result, i == 1 ? ERR_CONFLICT : OK);
    }
    assert_true(counter() == 7);
}

static void test_call_gives_the_error(void **state)
{
    (void)state;
    struct work work;
    make(&work, JOB_READ);
    work.fails = ERR_NOT_FOUND;
    assert_int_equal(storage_call(storage, &work.job), ERR_NOT_FOUND);
    assert_string_equal(err_text(), "as the test wants");
    make(&work, JOB_READ); // control
    assert_int_equal(storage_call(storage, &work.job), OK);
    assert_int_equal(finished_count, 0); // It does not call done.
}

static void test_finished_tells_by_descriptor(void **state)
{
    (void)state;
    struct work work;
    make(&work, JOB_WRITE);
    assert_null(storage_finished(storage));
    storage_submit(storage, &work.job, STORAGE_OURS);
    struct pollfd fd = {.fd = storage_fd(storage), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 20), 0); // It waits for others to be handed over with.
    storage_flush(storage);
    assert_int_equal(poll(&fd, 1, 10000), 1);
    assert_ptr_equal(storage_finished(storage), &work.job);
    assert_null(storage_finished(storage));
    assert_int_equal(poll(&fd, 1, 0), 0);
    storage_drain(storage, NULL); // Nothing is left: it does not wait.
    assert_int_equal(finished_count, 0);
}

static uint32_t chain_left;

static void done_and_submit(struct job *job, void *core)
{
    done(job, core);
    if (chain_left > 0) {
        chain_left--;
        storage_submit(core, job, STORAGE_OURS);
    }
}

// `done` may submit more; drain takes that along.
static void test_drain_goes_on_until_none_is_left(void **state)
{
    (void)state;
    struct work work;
    make(&work, JOB_WRITE);
    work.job.done = done_and_submit;
    chain_left = 5;
    storage_submit(storage, &work.job, STORAGE_OURS);
    storage_drain(storage, storage);
    assert_true(finished_count == 6 && work.runs == 6 && counter() == 6);
}

static void test_full(void **state)
{
    (void)state;
    struct work *const works = mem_alloc(LIMIT_STORE_QUEUE, sizeof *works);
    assert_false(storage_is_full(storage));
    for (uint32_t i = 0; i < LIMIT_STORE_QUEUE; i++) {
        assert_false(storage_is_full(storage));
        make(&works[i], JOB_READ);
        storage_submit(storage, &works[i].job, STORAGE_OURS);
    }
    assert_true(storage_is_full(storage)); // Done or not: none was taken back.
    while (storage_finished(storage) == NULL) {
    }
    assert_false(storage_is_full(storage));
    for (uint32_t left = LIMIT_STORE_QUEUE - 1; left > 0;
         left -= storage_finished(storage) != NULL) {
    }
    mem_free(works);
}

static void test_open_says_what_the_store_says(void **state)
{
    (void)state;
    struct storage *second = NULL;
    char nowhere[SCRATCH_BYTES + 16];
    snprintf(nowhere, sizeof nowhere, "%s/none", dir);
    assert_int_equal(storage_open(nowhere, MAP_BYTES, &second), ERR_NOT_FOUND);
    assert_null(second);
    assert_true(storage_boot(storage) >= 1);
    uint64_t used = 0, map = 0;
    (void)counter();
    storage_usage(storage, &used, &map);
    assert_true(used > 0 && map == MAP_BYTES);
    storage_close(NULL);
}

// The hook sees the jobs of each commit together, their results settled, none of them handed back.
static struct {
    uint32_t calls, jobs, good;
    bool too_late;
} hooked;

static void hook(void *context, struct job **jobs, size_t count)
{
    assert_ptr_equal(context, &hooked);
    hooked.calls++;
    for (size_t i = 0; i < count; i++) {
        hooked.jobs++;
        hooked.good += jobs[i]->result == OK;
        buf_u8(&jobs[i]->accepted->receipt, 7); // What `done` is to find.
        for (uint32_t j = 0; j < finished_count; j++) {
            hooked.too_late = hooked.too_late || &finished[j]->job == jobs[i];
        }
    }
}

static void test_the_hook_sees_each_commit(void **state)
{
    (void)state;
    enum { COUNT = 5 };
    struct work works[COUNT];
    struct accepted accepted[COUNT + 1] = {{{0}, {0}}};
    memset(&hooked, 0, sizeof hooked);
    storage_after_commit(storage, hook, &hooked);
    struct work first;
    make(&first, JOB_WRITE_ALONE);
    first.writes = false;
    first.holds = true;
    first.job.accepted = &accepted[COUNT];
    pthread_mutex_lock(&gate);
    storage_submit(storage, &first.job, STORAGE_OURS);
    for (size_t i = 0; i < COUNT; i++) {
        make(&works[i], JOB_WRITE);
        works[i].job.accepted = &accepted[i];
        storage_submit(storage, &works[i].job, STORAGE_OURS);
    }
    works[2].writes = false;
    works[2].fails = ERR_NOT_FOUND;
    pthread_mutex_unlock(&gate);
    storage_drain(storage, NULL);
    assert_int_equal(hooked.calls, 2); // The one that held the gate, and one commit.
    assert_int_equal(hooked.jobs, COUNT + 1);
    assert_int_equal(hooked.good, COUNT);
    assert_false(hooked.too_late);
    for (size_t i = 0; i <= COUNT; i++) {
        assert_int_equal(accepted[i].receipt.bytes, 1);
        accepted_deinit(&accepted[i]);
    }
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_done_in_the_order_of_the_runs),
        WITH_STORE(test_writes_go_before_reads),
        WITH_STORE(test_neighbours_share_a_commit),
        WITH_STORE(test_a_refusal_leaves_the_others),
        WITH_STORE(test_a_failure_after_a_write_is_rolled_back),
        WITH_STORE(test_the_second_run_counts),
        WITH_STORE(test_a_job_alone_is_undone),
        WITH_STORE(test_denied_from_then_on),
        WITH_STORE(test_denial_is_rolled_back),
        WITH_STORE(test_call_gives_the_error),
        WITH_STORE(test_finished_tells_by_descriptor),
        WITH_STORE(test_drain_goes_on_until_none_is_left),
        WITH_STORE(test_the_hook_sees_each_commit),
        WITH_STORE(test_full),
        WITH_STORE(test_open_says_what_the_store_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
