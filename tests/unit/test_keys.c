// tests/unit/test_keys.c: keys are given out, limited, and revoked, for good.
//
// Method: as test_access.c (access_desk.h). A revocation meets what its key has asked for just before and
// just after, in the queue of the store thread; what was committed, and what was not, is read from the counts
// of records. A restart is access_restart: all of it must be as before.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "tests/unit/access_desk.h"

static void expect(const Unlearn__Reply *reply, Unlearn__Status status, const char *says)
{
    if (reply->status != status || strstr(reply->message, says) == NULL) {
        fail_msg("status %d, expected %d: \"%s\", expected \"%s\"", reply->status, status,
                 reply->message, says);
    }
}
#define DENIED   UNLEARN__STATUS__STATUS_PERMISSION_DENIED
#define CONFLICT UNLEARN__STATUS__STATUS_CONFLICT
#define INVALID  UNLEARN__STATUS__STATUS_INVALID_ARGUMENT
#define ABSENT   UNLEARN__STATUS__STATUS_NOT_FOUND

// ---------------------------------------------------------------- given out

static void test_names_and_keys_stand_for_one(void **state)
{
    (void)state;
    const uint32_t before = access_count(desk.core);
    const uint8_t *const fresh = keys[WHO_COUNT];
    static const uint8_t zeros[PRINCIPAL_KEY_BYTES] = {0};
    expect(add_key(ADMIN, "alice", ROLE_PREDICT, fresh, NULL), CONFLICT, "a key \"alice\" already");
    expect(add_key(ADMIN, "carol", ROLE_PREDICT, keys[ALICE], NULL), CONFLICT,
           "given out before, as \"alice\"");
    good(revoke_key(ADMIN, "alice"));
    expect(add_key(ADMIN, "alice", ROLE_PREDICT, fresh, NULL), CONFLICT, "was revoked");
    expect(add_key(ADMIN, "carol", ROLE_PREDICT, keys[ALICE], NULL), CONFLICT, "given out before");
    expect(add_key(ADMIN, "no/path", ROLE_PREDICT, fresh, NULL), INVALID, "the key's name");
    expect(add_key(ADMIN, "", ROLE_PREDICT, fresh, NULL), INVALID, "the key's name");
    expect(add_key(ADMIN, "carol", ROLE_PREDICT, zeros, NULL), INVALID, "all zeros");
    expect(add_key(ADMIN, "carol", ROLE_ADMIN, fresh, "hers"), INVALID, "name none");
    expect(add_key(ADMIN, "carol", ROLE_PREDICT, fresh, "xyz"), ABSENT,
           "there is no dataset \"xyz\"");
    expect(add_key(ADMIN, "carol", ROLE_OWNER, fresh, "a b"), INVALID, "the dataset's name");
    expect(add_key(ADMIN, "carol", (enum role)0, fresh, NULL), INVALID, "field role is 0");
    expect(add_key(ADMIN, "carol", (enum role)6, fresh, NULL), INVALID, "field role is 6");
    Unlearn__KeyAdd body = UNLEARN__KEY_ADD__INIT;
    body.name = wire_text("carol");
    body.role = UNLEARN__ROLE__ROLE_PREDICT;
    body.public_ = wire_bytes(span_of(fresh, PRINCIPAL_KEY_BYTES - 1));
    expect(ask(ADMIN, "key_add", &body), INVALID, "the public key");
    assert_int_equal(access_count(desk.core), before);
    good(add_key(ADMIN, "carol", ROLE_PREDICT, fresh, NULL)); // The control.
    assert_int_equal(access_count(desk.core), before + 1);
}

static void put_file(const char *name, uint8_t byte)
{
    char path[SCRATCH_BYTES + 64];
    uint8_t key[CURVEKEY_BYTES];
    snprintf(path, sizeof path, "%s/keys/%s", desk.dir, name);
    (void)unlink(path);
    memset(key, byte, sizeof key);
    assert_int_equal(curvekey_write_public(path, key), OK);
}

// The keys that init has made, and those that were made anew when they were lost.
static void test_keys_beside_the_store(void **state)
{
    (void)state;
    const uint32_t before = access_count(desk.core);
    const enum who lost = WHO_COUNT, found = WHO_COUNT + 1;
    Unlearn__KeyList list = UNLEARN__KEY_LIST__INIT;
    put_file("worker.key", 201);
    put_file("admin.pub", keys[ADMIN][0]); // Known already.
    access_restart();
    assert_int_equal(access_count(desk.core), before + 1);
    assert_string_equal(access_at(desk.core, before)->name, "worker");
    assert_int_equal(access_at(desk.core, before)->role, ROLE_WORKER);
    memset(keys[lost], 202, PRINCIPAL_KEY_BYTES);
    memset(keys[found], 203, PRINCIPAL_KEY_BYTES);
    put_file("admin.pub", 202);
    access_restart();
    put_file("admin.pub", 203);
    access_restart();
    access_restart(); // Once each.
    assert_int_equal(access_count(desk.core), before + 3);
    assert_string_equal(access_at(desk.core, before + 1)->name, "admin-2");
    assert_string_equal(access_at(desk.core, before + 2)->name, "admin-3");
    good(ask(found, "key_list", &list));
    good(revoke_key(found, "admin-2")); // And stays so, with its file there or not.
    put_file("admin.pub", 202);
    access_restart();
    assert_int_equal(access_count(desk.core), before + 3);
    expect(ask(lost, "key_list", &list), DENIED, "this key was revoked");
    put_file("admin.pub", 203);
}

static void test_many_datasets(void **state)
{
    (void)state;
    static char texts[LIMIT_SCOPE_DATASETS + 1][16];
    char *names[LIMIT_SCOPE_DATASETS + 1];
    Unlearn__KeyAdd body = UNLEARN__KEY_ADD__INIT;
    body.name = wire_text("carol");
    body.role = UNLEARN__ROLE__ROLE_OWNER;
    body.public_ = wire_bytes(span_of(keys[WHO_COUNT], PRINCIPAL_KEY_BYTES));
    for (int i = 0; i <= LIMIT_SCOPE_DATASETS; i++) {
        snprintf(texts[i], sizeof texts[i], "d%d", i);
        names[i] = texts[i];
    }
    body.datasets = names;
    body.n_datasets = LIMIT_SCOPE_DATASETS + 1;
    expect(ask(ADMIN, "key_add", &body), UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED,
           "257 datasets");
    names[1] = names[0]; // The same twice is one.
    body.n_datasets = LIMIT_SCOPE_DATASETS;
    assert_int_equal(good(ask(ADMIN, "key_add", &body))->key_state->n_promised,
                     LIMIT_SCOPE_DATASETS - 1);
}

static enum err put_many(struct job *job, struct store *store, struct txn *txn)
{
    (void)job;
    (void)store;
    for (uint32_t i = access_count(desk.core); i < LIMIT_PRINCIPALS; i++) {
        struct principal_row row = {.role = ROLE_PREDICT, .added_us = 1};
        uint64_t given = 0;
        TRY(counter_next(txn, COUNTER_PRINCIPAL, &given));
        row.number = (uint32_t)given;
        snprintf(row.name, sizeof row.name, "p%u", row.number);
        be_put32(row.key, row.number);
        TRY(principal_put(txn, &row));
    }
    return OK;
}

// All that there may be: they are listed page by page, found by their keys, and no more is given out.
static void test_the_limit(void **state)
{
    (void)state;
    struct job job = {.kind = JOB_WRITE_ALONE, .run = put_many};
    assert_int_equal(storage_call(desk.core->storage, &job), OK);
    access_restart();
    assert_int_equal(access_count(desk.core), LIMIT_PRINCIPALS);
    expect(add_key(ADMIN, "carol", ROLE_PREDICT, keys[WHO_COUNT], NULL),
           UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED, "5000 keys have been given out");
    Unlearn__KeyList body = UNLEARN__KEY_LIST__INIT;
    uint32_t seen = 0;
    do {
        const Unlearn__KeyPage *const page = good(ask(ADMIN, "key_list", &body))->key_page;
        assert_int_equal(page->total, LIMIT_PRINCIPALS);
        assert_true(page->n_keys > 0 && (page->next == 0 || page->next == seen + page->n_keys));
        seen += (uint32_t)page->n_keys;
        body.offset = page->next;
    } while (body.offset != 0);
    assert_int_equal(seen, LIMIT_PRINCIPALS);
    Unlearn__ModelList models = UNLEARN__MODEL_LIST__INIT;
    memset(keys[WHO_COUNT], 0, PRINCIPAL_KEY_BYTES);
    be_put32(keys[WHO_COUNT], LIMIT_PRINCIPALS);
    assert_int_equal(good(ask(WHO_COUNT, "model_list", &models))->model_page->total, 2);
    good(revoke_key(ADMIN, "p5000"));
    expect(ask(WHO_COUNT, "model_list", &models), DENIED, "this key was revoked");
}

static const Unlearn__KeyState *listed(const char *name)
{
    Unlearn__KeyList body = UNLEARN__KEY_LIST__INIT;
    const Unlearn__KeyPage *const page = good(ask(ADMIN, "key_list", &body))->key_page;
    assert_true(page->total == page->n_keys && page->next == 0);
    for (size_t i = 0; i < page->n_keys; i++) {
        if (strcmp(page->keys[i]->name, name) == 0) {
            return page->keys[i];
        }
    }
    fail_msg("%s is not listed", name);
    return NULL;
}

static void test_list(void **state)
{
    (void)state;
    const Unlearn__KeyState *key = listed("alice");
    assert_int_equal(key->role, UNLEARN__ROLE__ROLE_OWNER);
    assert_true(key->n_datasets == 1 && key->n_promised + key->n_removed == 0);
    assert_string_equal(key->datasets[0], "hers");
    assert_memory_equal(key->public_.data, keys[ALICE], PRINCIPAL_KEY_BYTES);
    assert_true(key->added_us > 0 && key->revoked_us == 0);
    key = listed("ivan");
    assert_int_equal(key->n_datasets + key->n_promised + key->n_removed, 0);
    good(revoke_key(ADMIN, "eve"));
    const int64_t revoked_us = listed("eve")->revoked_us;
    assert_true(revoked_us > 0);
    // Once more is the same answer.
    assert_true(good(revoke_key(ADMIN, "eve"))->key_state->revoked_us == revoked_us);
    expect(revoke_key(ADMIN, "nobody"), ABSENT, "there is no key \"nobody\"");
    access_restart();
    assert_true(listed("eve")->revoked_us == revoked_us);
    assert_true(listed("alice")->revoked_us == 0);
}

// ---------------------------------------------------------------- promised

static void remove_dataset(const char *name)
{
    static uint8_t last = 200;
    uint8_t uuid[ID_BYTES] = {++last};
    Unlearn__DatasetRemove body = UNLEARN__DATASET_REMOVE__INIT;
    body.dataset = wire_text(name);
    body.uuid = wire_bytes(span_of(uuid, sizeof uuid));
    good(ask(ADMIN, "dataset_remove", &body));
}

static Unlearn__Status show(enum who who, const char *name)
{
    Unlearn__DatasetShow body = UNLEARN__DATASET_SHOW__INIT;
    body.dataset = wire_text(name);
    return ask(who, "dataset_show", &body)->status;
}

// An owner makes the dataset that it was promised, and no other; a later one of its name is another one.
static void test_promises(void **state)
{
    (void)state;
    const enum who carol = WHO_COUNT, dave = WHO_COUNT + 1;
    struct buf schema = {0};
    Unlearn__ImportBegin begin = begin_of("other", &schema);
    good(add_key(ADMIN, "carol", ROLE_OWNER, keys[carol], "new"));
    assert_int_equal(listed("carol")->n_promised, 1);
    expect(ask(carol, "import_begin", &begin), ABSENT, "there is no dataset \"other\"");
    expect(ask(ALICE, "import_begin", &begin), ABSENT, "there is no dataset \"other\"");
    assert_int_equal(show(carol, "new"), ABSENT);
    access_restart();
    import_into(carol, "new");
    assert_int_equal(show(carol, "new"), UNLEARN__STATUS__STATUS_OK);
    assert_int_equal(listed("carol")->n_datasets, 1);
    access_restart();
    assert_int_equal(show(carol, "new"), UNLEARN__STATUS__STATUS_OK);
    assert_int_equal(show(ALICE, "new"), ABSENT);
    good(add_key(ADMIN, "dave", ROLE_OWNER, keys[dave], "new")); // There already: no promise.
    assert_int_equal(show(dave, "new"), UNLEARN__STATUS__STATUS_OK);
    remove_dataset("new");
    assert_int_equal(listed("carol")->n_removed, 1);
    begin.dataset = wire_text("new");
    expect(ask(carol, "import_begin", &begin), ABSENT, "there is no dataset \"new\"");
    import_into(ADMIN, "new");
    assert_int_equal(show(ADMIN, "new"), UNLEARN__STATUS__STATUS_OK);
    assert_int_equal(show(carol, "new"), ABSENT);
    assert_int_equal(show(dave, "new"), ABSENT);
    buf_deinit(&schema);
}

// ---------------------------------------------------------------- revoked

// The last admin stays.
static void test_last_admin(void **state)
{
    (void)state;
    expect(revoke_key(ADMIN, "admin"), CONFLICT, "\"admin\" is the last admin key");
    good(add_key(ADMIN, "second", ROLE_ADMIN, keys[WHO_COUNT], NULL));
    good(revoke_key(ADMIN, "admin")); // It may revoke itself, and is told.
    expect(revoke_key(ADMIN, "second"), DENIED, "this key was revoked");
    expect(revoke_key(WHO_COUNT, "second"), CONFLICT, "\"second\" is the last admin key");
    // Two at once, each the other: one of them stays.
    good(add_key(WHO_COUNT, "third", ROLE_ADMIN, keys[WHO_COUNT + 1], NULL));
    Unlearn__KeyRevoke body = UNLEARN__KEY_REVOKE__INIT;
    body.name = wire_text("third");
    send_as(WHO_COUNT, "key_revoke", &body, span_of(NULL, 0));
    body.name = wire_text("second");
    send_as(WHO_COUNT + 1, "key_revoke", &body, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    good(desk_answer(&desk, number - 1));
    expect(desk_answer(&desk, number), DENIED, "this key was revoked");
    Unlearn__Ping ping = UNLEARN__PING__INIT;
    good(ask(WHO_COUNT, "ping", &ping));
}

// Between the revocation's commit and anything else of its key nothing gets through, whatever the loop has
// taken in before it knew. Others who share the transaction are not disturbed.
static void test_revocation_is_a_line_in_the_queue(void **state)
{
    (void)state;
    uint8_t uuids[4][ID_BYTES] = {{1}, {2}, {3}, {4}};
    char one[] = "1", two[] = "2", *first[] = {one}, *second[] = {two};
    Unlearn__KeyRevoke revoke = UNLEARN__KEY_REVOKE__INIT;
    revoke.name = wire_text("alice");
    Unlearn__Delete bodies[4] = {
        deletion_of("hers", uuids[0], first), deletion_of("hers", uuids[1], second),
        deletion_of("his", uuids[2], first), deletion_of("his", uuids[3], second)};
    send_as(ALICE, "delete", &bodies[0], span_of(NULL, 0)); // Before it: stands.
    send_as(ADMIN, "key_revoke", &revoke, span_of(NULL, 0));
    send_as(BOB, "delete", &bodies[2], span_of(NULL, 0));
    send_as(ALICE, "delete", &bodies[1], span_of(NULL, 0)); // Behind it, and taken in by the loop.
    send_as(BOB, "delete", &bodies[3], span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    const Unlearn__Reply *reply = good(desk_answer(&desk, number - 4));
    assert_int_equal(reply->request_state->records_deleted, 1);
    good(desk_answer(&desk, number - 3));
    assert_int_equal(good(desk_answer(&desk, number - 2))->request_state->records_deleted, 1);
    expect(desk_answer(&desk, number - 1), DENIED, "this key was revoked");
    assert_int_equal(good(desk_answer(&desk, number))->request_state->records_deleted, 1);
    assert_int_equal(records_of("hers"), ROWS - 1);
    assert_int_equal(records_of("his"), ROWS - 2);
    // And the next thing that it asks for is denied without a job.
    send_as(ALICE, "delete", &bodies[1], span_of(NULL, 0));
    expect(desk_answer(&desk, number), DENIED, "this key was revoked");
    access_restart();
    assert_int_equal(records_of("hers"), ROWS - 1);
    expect(ask(ALICE, "delete", &bodies[1]), DENIED, "this key was revoked");
}

// Not a deletion alone: whatever a key asks of the store thread, reading too.
static void test_revocation_comes_before_every_job(void **state)
{
    (void)state;
    struct buf schema = {0}, raw = {0};
    uint8_t uuid[ID_BYTES] = {9};
    char one[] = "1", *records[] = {one};
    Unlearn__KeyRevoke revoke = UNLEARN__KEY_REVOKE__INIT;
    Unlearn__ImportBegin begin = begin_of("hers", &schema);
    Unlearn__ImportChunk chunk = UNLEARN__IMPORT_CHUNK__INIT;
    Unlearn__ImportCommit commit = UNLEARN__IMPORT_COMMIT__INIT;
    Unlearn__SubjectShow subject = UNLEARN__SUBJECT_SHOW__INIT;
    Unlearn__Delete part = deletion_of("hers", uuid, records);
    put_rows(&raw);
    revoke.name = wire_text("alice");
    subject.dataset = wire_text("hers");
    subject.subject = wire_text("s1");
    part.more = true;
    chunk.import = commit.import = good(ask(ALICE, "import_begin", &begin))->import_ready->import;
    chunk.count = ROWS;
    send_as(ADMIN, "key_revoke", &revoke, span_of(NULL, 0));
    send_as(ALICE, "subject_show", &subject, span_of(NULL, 0));
    send_as(ALICE, "delete", &part, span_of(NULL, 0));
    send_as(ALICE, "import_chunk", &chunk, buf_span(&raw));
    send_as(ALICE, "import_commit", &commit, span_of(NULL, 0));
    storage_drain(desk.core->storage, desk.core);
    bool seen[5] = {false};
    for (int i = 0; i < 5; i++) { // A read may come first.
        struct link_message message = {.key = NULL};
        const Unlearn__Reply *reply = NULL;
        bool ready = false;
        while (link_receive(desk.client, &message) != OK) {
            assert_int_equal(link_wait(&desk.client, &ready, 1, NULL, 0, 100), OK);
        }
        assert_int_equal(wire_get_reply(&desk.arena, message.envelope, &reply), OK);
        assert_in_range(reply->request_id, number - 4, number);
        const size_t which = (number - reply->request_id) % 5;
        assert_false(seen[which]);
        seen[which] = true;
        if (which == 4) {
            good(reply);
        } else {
            expect(reply, DENIED, "this key was revoked");
        }
    }
    // Its import is given up, and another may begin.
    good(ask(IVAN, "import_begin", &begin));
    buf_deinit(&schema);
    buf_deinit(&raw);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, access_set_up, access_tear_down)
        TEST(test_names_and_keys_stand_for_one),
        TEST(test_keys_beside_the_store),
        TEST(test_many_datasets),
        TEST(test_the_limit),
        TEST(test_list),
        TEST(test_promises),
        TEST(test_last_admin),
        TEST(test_revocation_is_a_line_in_the_queue),
        TEST(test_revocation_comes_before_every_job),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
