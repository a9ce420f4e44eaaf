// tests/unit/test_statement.c: receipts say what the store holds, and completing waits for it.
//
// Method: a dataset whose records all lie in slice 0, a model of one shard and two slices, and a
// request that awaits its components; the rows are then put as a repair, a removal, or nothing would
// leave them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/build.h"
#include "coordinator/statement.h"
#include "model/spec.h"
#include "proto/receipt.h"
#include "store/component.h"
#include "store/ledger.h"
#include "tests/unit/people.h"
#include "tests/unit/signers.h"

enum { MODEL = 4 };

static struct people people;
static struct signer *signer;
static struct request_row request;
static const struct digest before = {{0xBE}}, after = {{0xAF}};

static void put_model(bool removing)
{
    struct spec spec = spec_default();
    spec.shards = 1;
    spec.slices = 2;
    struct model_row row = {.number = MODEL,
                            .name = "m",
                            .dataset = PEOPLE_DATASET,
                            .removing = removing,
                            .generations = 1};
    spec_put(&spec, &row.spec);
    MUST(model_put(people.txn, &row));
    model_row_deinit(&row);
}

static void put_component(const char *text, enum component_state state)
{
    struct component name;
    const struct component_row row = {.state = state, .instance = 9, .commitment = after};
    MUST(component_get(text, &name));
    MUST(component_row_put(people.txn, MODEL, &name, &row));
}

static void await(const char *text, bool was_valid)
{
    struct awaited awaited = {.model = MODEL, .was_valid = was_valid};
    MUST(component_get(text, &awaited.name));
    if (was_valid) {
        awaited.commitment = before;
    }
    MUST(awaited_put(people.txn, request.sequence, &awaited));
}

static int set_up(void **state)
{
    (void)state;
    uint64_t import;
    struct import_counts counts;
    people_open(&people);
    signer = signers_open(people.dir, "one");
    people_begin(&people);
    MUST(ledger_start(people.txn, signer));
    struct dataset_row dataset = {.number = PEOPLE_DATASET, .name = "people"};
    MUST(dataset_put(people.txn, &dataset));
    MUST(import_begin(people.txn, PEOPLE_DATASET, 0, false, &import));
    for (uint32_t i = 0; i < 3; i++) {
        MUST(people_stage(&people, import, i, 1000 + i, (uint8_t)i, 0, "values"));
    }
    MUST(import_commit(people.txn, import, &counts));
    put_model(false);
    request = (struct request_row){.sequence = 7,
                                   .uuid = {{1, 2, 3}},
                                   .kind = REQUEST_DELETE,
                                   .state = REQUEST_ERASED,
                                   .dataset = PEOPLE_DATASET,
                                   .records_deleted = 2,
                                   .components_invalidated = 1,
                                   .keys_destroyed = 3,
                                   .epoch_before = 5,
                                   .epoch = 6,
                                   .accepted_us = 10,
                                   .fenced_us = 11,
                                   .erased_us = 12,
                                   .name = "people"};
    MUST(request_put(people.txn, &request));
    struct request_model model = {.model = MODEL, .name = "m", .spec = {{1}}, .schema = {{2}}};
    MUST(request_model_put(people.txn, request.sequence, &model));
    people_commit(&people);
    people_begin(&people);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    people_roll_back(&people);
    sign_close(signer);
    people_close(&people);
    return 0;
}

// Completes the request and reads the log's only entry.
static struct receipt completed(void)
{
    struct span entry;
    struct receipt receipt;
    struct head head;
    assert_int_equal(statement_complete(people.txn, signer, &request), OK);
    MUST(ledger_head(people.txn, &head));
    assert_int_equal(head.size, 1);
    assert_int_equal(request.state, REQUEST_COMPLETED);
    assert_int_equal(request.log_entry, 1);
    MUST(ledger_entry(people.txn, 0, &entry));
    assert_int_equal(receipt_get(entry, &receipt), OK);
    return receipt;
}

static void test_an_accepted_receipt_is_of_the_row(void **state)
{
    (void)state;
    struct buf body = {0}, again = {0};
    struct receipt receipt;
    const struct digest profile = {{0x77}};
    MUST(profile_set(people.txn, &profile));
    assert_int_equal(statement_accepted(people.txn, &request, &body), OK);
    assert_int_equal(receipt_get(buf_span(&body), &receipt), OK);
    assert_int_equal(receipt.kind, RECEIPT_ACCEPTED);
    assert_int_equal(receipt.request, RECEIPT_DELETE);
    assert_memory_equal(&receipt.uuid, &request.uuid, ID_BYTES);
    assert_string_equal(receipt.name, "people");
    assert_string_equal(receipt.build, build_id);
    assert_memory_equal(&receipt.profile, &profile, sizeof profile);
    assert_true(receipt.accepted_us == 10 && receipt.fenced_us == 11);
    assert_true(receipt.records_deleted == 2 && receipt.components_invalidated == 1);
    assert_true(receipt.epoch_before == 5 && receipt.epoch_after == 6);
    receipt_deinit(&receipt);
    // Later, when the row has got on, it still says the same.
    request.state = REQUEST_COMPLETED;
    request.completed_us = 99;
    assert_int_equal(statement_accepted(people.txn, &request, &again), OK);
    assert_true(span_equal(buf_span(&body), buf_span(&again)));
    request.earlier = 8; // There is none.
    assert_int_equal(statement_accepted(people.txn, &request, &again), ERR_NOT_FOUND);
    buf_deinit(&body);
    buf_deinit(&again);
}

static void test_it_waits_for_the_repair(void **state)
{
    (void)state;
    await("s0:[0]", true);
    put_component("s0:[0]", COMPONENT_INVALID);
    const uint64_t writes = txn_writes(people.txn);
    struct request_row row = request;
    assert_int_equal(statement_complete(people.txn, signer, &row), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "component s0:[0] of model 4 is not repaired yet"));
    assert_int_equal(txn_writes(people.txn), writes);
    put_component("s0:[0]", COMPONENT_VALID);
    struct receipt receipt = completed();
    receipt_deinit(&receipt);
}

static void test_repaired_and_empty(void **state)
{
    (void)state;
    await("s0:[0]", true);
    await("s0:[0,1]", false);
    await("s0:[1]", true);
    put_component("s0:[0]", COMPONENT_VALID);
    put_component("s0:[0,1]", COMPONENT_VALID);
    put_component("s0:[1]", COMPONENT_INVALID); // Slice 1 has no records: nothing to train.
    struct receipt receipt = completed();
    assert_true(receipt.kind == RECEIPT_COMPLETED && receipt.model_count == 1);
    assert_string_equal(receipt.models[0].name, "m");
    assert_int_equal(receipt.models[0].spec.bytes[0], 1);
    assert_int_equal(receipt.models[0].schema.bytes[0], 2);
    assert_int_equal(receipt.component_count, 3);
    const struct receipt_component *const components = receipt.components;
    assert_string_equal(receipt_component_name(&receipt, 0), "s0:[0]");
    assert_true(components[0].was_valid && components[0].fate == RECEIPT_REPAIRED);
    assert_memory_equal(&components[0].before, &before, sizeof before);
    assert_memory_equal(&components[0].after, &after, sizeof after);
    assert_string_equal(receipt_component_name(&receipt, 1), "s0:[0,1]");
    assert_true(!components[1].was_valid && components[1].fate == RECEIPT_REPAIRED);
    assert_true(components[2].was_valid && components[2].fate == RECEIPT_EMPTY);
    assert_int_equal(receipt.keys_destroyed, 3);
    assert_true(receipt.log_index == 0 && receipt.erased_us == 12);
    assert_true(receipt.repaired_us >= 12 && receipt.completed_us >= receipt.repaired_us);
    receipt_deinit(&receipt);
    // What was kept for it is gone.
    struct request_model model;
    size_t dropped;
    assert_int_equal(request_model_get(people.txn, request.sequence, MODEL, &model), ERR_NOT_FOUND);
    MUST(kv_drop_prefix(&people.txn->kv, KV_AWAITED, span_of("", 0), SIZE_MAX, &dropped));
    assert_int_equal(dropped, 0);
    struct request_row row;
    MUST(request_get(people.txn, request.sequence, &row));
    assert_true(row.state == REQUEST_COMPLETED && row.log_entry == 1 && row.completed_us > 0);
}

static void gone(void)
{
    await("s0:[0]", true);
    put_component("s0:[0]", COMPONENT_INVALID);
    struct receipt receipt = completed();
    assert_true(receipt.component_count == 1 && receipt.components[0].fate == RECEIPT_GONE);
    assert_string_equal(receipt.models[0].name, "m");
    receipt_deinit(&receipt);
}

static void test_a_model_that_is_being_removed(void **state)
{
    (void)state;
    put_model(true);
    gone();
}

static void test_a_model_that_was_removed(void **state)
{
    (void)state;
    MUST(model_drop(people.txn, MODEL));
    gone();
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_an_accepted_receipt_is_of_the_row),
        CASE(test_it_waits_for_the_repair),
        CASE(test_repaired_and_empty),
        CASE(test_a_model_that_is_being_removed),
        CASE(test_a_model_that_was_removed),
    };
#undef CASE
    return cmocka_run_group_tests_name("statement", tests, NULL, NULL);
}
