// tests/unit/test_fence.c: what one deletion does to a real store, against brute force.
//
// Method: 120 records of 30 subjects in generations 0, 1 and 2; models of other shapes, one on another
// dataset, one that is being removed. What a request must do is worked out from the list of records
// and the names of the components alone, and compared with every row that the store then holds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/limits.h"
#include "coordinator/fence.h"
#include "model/spec.h"
#include "proto/receipt.h"
#include "scheduler/trie.h"
#include "store/component.h"
#include "store/ledger.h"
#include "tests/unit/draw.h"
#include "tests/unit/people.h"
#include "tests/unit/rotation.h"
#include "tests/unit/signers.h"

enum { RECORDS = 120, SUBJECTS = 30, GENERATIONS = 3, OTHER_DATASET = 2, NODES_MAX = 64 };

static struct people people;
static struct signer *signer;
static struct accepted accepted; // Of the fence that ran last.

static struct {
    uint32_t generation;
    uint8_t who;
    bool deleted;
} records[RECORDS];
static uint64_t hashes[SUBJECTS];

static const struct {
    uint32_t number, dataset, shards, slices, sequences, generations;
    bool removing, hit; // hit: deletions in PEOPLE_DATASET reach it.
} models[] = {
    {1, PEOPLE_DATASET, 2, 2, 2, 1, false, true}, {2, PEOPLE_DATASET, 3, 1, 1, 2, false, true},
    {3, PEOPLE_DATASET, 1, 3, 6, 2, false, true}, {4, OTHER_DATASET, 2, 2, 2, 1, false, false},
    {5, PEOPLE_DATASET, 2, 2, 2, 1, true, false},
};
enum { MODELS = sizeof models / sizeof *models };

static struct trie tries[MODELS];
static struct placement placements[MODELS];

static struct component_row row_before[MODELS][3][NODES_MAX]; // By model, shard, node.
static uint64_t versions_before[MODELS][3][8];

static void put_model(uint32_t m)
{
    struct spec spec = spec_default();
    spec.shards = models[m].shards;
    spec.slices = models[m].slices;
    spec.sequences = models[m].sequences;
    spec.append_slices = 1;
    struct model_row row = {.number = models[m].number,
                            .dataset = models[m].dataset,
                            .removing = models[m].removing,
                            .generations = models[m].generations};
    snprintf(row.name, sizeof row.name, "m%u", models[m].number);
    spec_put(&spec, &row.spec);
    MUST(model_put(people.txn, &row));
    model_row_deinit(&row);
    placements[m] = placement_uniform(spec.shards, spec.slices, 1);
    rotation_trie(&tries[m], spec.slices,
                  placement_slice_count(&placements[m], models[m].generations), spec.sequences);
    assert_true(tries[m].count <= NODES_MAX);
    for (uint32_t shard = 0; shard < spec.shards; shard++) {
        for (uint32_t node = 0; node < tries[m].count; node++) {
            struct component name;
            trie_name(&tries[m], shard, node, &name);
            if (node % 5 == 4) {
                continue; // Never trained.
            }
            struct component_row component = {.state = node % 7 == 3 ? COMPONENT_INVALID
                                                                     : COMPONENT_VALID};
            MUST(counter_next(people.txn, COUNTER_INSTANCE, &component.instance));
            be_put64(component.commitment.bytes, component.instance);
            MUST(component_row_put(people.txn, models[m].number, &name, &component));
        }
    }
}

static int set_up(void **state)
{
    (void)state;
    struct draw draw = draw_new("test_fence");
    people_open(&people);
    signer = signers_open(people.dir, "one");
    people_begin(&people);
    MUST(ledger_start(people.txn, signer));
    for (uint32_t number = 1; number <= 2; number++) {
        const struct dataset_row row = {.number = number, .name = "people"};
        MUST(dataset_put(people.txn, &row));
    }
    for (uint32_t i = 0; i < SUBJECTS; i++) {
        hashes[i] = draw_u64(&draw);
    }
    for (uint32_t i = 0; i < RECORDS; i++) {
        records[i].generation = draw_below(&draw, GENERATIONS);
        records[i].who = (uint8_t)draw_below(&draw, SUBJECTS);
        records[i].deleted = false;
    }
    for (uint32_t generation = 0; generation < GENERATIONS; generation++) {
        uint64_t import;
        struct import_counts counts;
        MUST(import_begin(people.txn, PEOPLE_DATASET, generation, false, &import));
        for (uint32_t i = 0; i < RECORDS; i++) {
            if (records[i].generation == generation) {
                MUST(people_stage(&people, import, i, hashes[records[i].who], records[i].who,
                                  (uint8_t)(records[i].who % 3), "values"));
            }
        }
        MUST(import_commit(people.txn, import, &counts));
    }
    for (uint32_t m = 0; m < MODELS; m++) {
        put_model(m);
    }
    people_commit(&people);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (uint32_t m = 0; m < MODELS; m++) {
        trie_deinit(&tries[m]);
    }
    accepted_deinit(&accepted);
    sign_close(signer);
    people_close(&people);
    return 0;
}

// ---------------------------------------------------------------- asking

static struct fence ask(uint8_t request)
{
    return (struct fence){.uuid = {{request}},
                          .body = {{request, 1}},
                          .dataset = PEOPLE_DATASET,
                          .records_most = LIMIT_FENCE_RECORDS,
                          .eager = true,
                          .accepted_us = 77,
                          .signer = signer,
                          .accepted = &accepted};
}

static void add_record(struct fence *fence, uint32_t number)
{
    fence->rids = mem_resize(fence->rids, fence->rid_count + 1, sizeof *fence->rids);
    fence->rids[fence->rid_count++] = people_rid(number);
}

static void add_subject(struct fence *fence, uint32_t who)
{
    fence->sids = mem_resize(fence->sids, fence->sid_count + 1, sizeof *fence->sids);
    fence->sids[fence->sid_count++] =
        people_sid(who < SUBJECTS ? hashes[who] : 12345, (uint8_t)who);
}

// Runs it as the store thread would: commit, or roll back and undo.
static enum err run(struct fence *fence)
{
    people_begin(&people);
    const enum err ran = fence_run(fence, people.store, people.txn);
    const enum err ended = txn_end(people.txn, ran);
    if (ended != OK) {
        fence_undo(fence, people.store);
    }
    return ended;
}

// ---------------------------------------------------------------- what must be

static void remember(void)
{
    people_begin(&people);
    for (uint32_t m = 0; m < MODELS; m++) {
        for (uint32_t shard = 0; shard < models[m].shards; shard++) {
            for (uint32_t node = 0; node < tries[m].count; node++) {
                struct component name;
                struct component_row *const row = &row_before[m][shard][node];
                *row = (struct component_row){0};
                trie_name(&tries[m], shard, node, &name);
                const enum err err = component_row_get(people.txn, models[m].number, &name, row);
                assert_true(err == OK || err == ERR_NOT_FOUND);
            }
            for (uint32_t slice = 0; slice < tries[m].slice_count; slice++) {
                MUST(cell_version_get(people.txn, models[m].number, shard, slice,
                                      &versions_before[m][shard][slice]));
            }
        }
    }
    people_commit(&people);
}

// Records of `gone` in a cell of model m.
static uint64_t lost_of(uint32_t m, const bool *gone, struct cell cell)
{
    uint64_t lost = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        if (gone[i] && records[i].generation < models[m].generations) {
            const struct cell own =
                placement_cell(&placements[m], records[i].generation, (uint8_t)(records[i].who % 3),
                               hashes[records[i].who]);
            lost += own.shard == cell.shard && own.slice == cell.slice;
        }
    }
    return lost;
}

struct tally { // Of pending rows.
    uint32_t records, weights;
    const bool *gone;
    uint64_t instances[256];
};

static bool count_pending(void *context, uint64_t sequence, uint32_t index,
                          const struct pending *pending)
{
    (void)sequence;
    struct tally *const tally = context;
    assert_int_equal(index, tally->records + tally->weights); // From 0 upwards, none left out.
    if (pending->is_record) {
        const uint32_t number = be_get32(pending->record.rid.bytes + 4);
        assert_true(number < RECORDS && tally->gone[number]);
        tally->records++;
    } else {
        tally->instances[tally->weights++] = pending->instance;
    }
    return true;
}

static enum err count_awaited(void *context, uint64_t sequence, const struct awaited *awaited)
{
    (void)sequence;
    (void)awaited;
    (*(uint32_t *)context)++;
    return OK;
}

static bool has_instance(const struct tally *tally, uint64_t instance)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < tally->weights; i++) {
        count += tally->instances[i] == instance;
    }
    assert_true(count <= 1);
    return count == 1;
}

static uint32_t hits_of(const struct fence *fence, uint32_t model, struct cell cell, uint64_t *lost)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < fence->hit_count; i++) {
        const struct fence_hit *const hit = &fence->hits[i];
        if (hit->model == model && hit->cell.shard == cell.shard && hit->cell.slice == cell.slice) {
            *lost = hit->records;
            count++;
        }
    }
    return count;
}

// Compares model m's rows with what losing `gone` must make of them.
static void expect_model(uint32_t m, const struct fence *fence, const bool *gone,
                         const struct tally *tally, uint32_t *invalidated, uint32_t *awaited)
{
    for (uint32_t shard = 0; shard < models[m].shards; shard++) {
        for (uint32_t slice = 0; slice < tries[m].slice_count; slice++) {
            const struct cell cell = {shard, slice};
            const uint64_t expected = models[m].hit ? lost_of(m, gone, cell) : 0;
            uint64_t version = 0, lost = 0;
            MUST(cell_version_get(people.txn, models[m].number, shard, slice, &version));
            assert_true(version == versions_before[m][shard][slice] + (expected > 0));
            assert_int_equal(hits_of(fence, models[m].number, cell, &lost), expected > 0);
            assert_true(lost == expected);
        }
        for (uint32_t node = 0; node < tries[m].count; node++) {
            const struct component_row *const before = &row_before[m][shard][node];
            struct component name;
            struct component_row row = {0};
            bool hit = false;
            trie_name(&tries[m], shard, node, &name);
            for (uint32_t i = 0; i < name.count; i++) {
                hit = hit ||
                      (models[m].hit && lost_of(m, gone, (struct cell){shard, name.list[i]}) > 0);
            }
            const enum err err = component_row_get(people.txn, models[m].number, &name, &row);
            assert_int_equal(err, before->state == 0 ? ERR_NOT_FOUND : OK);
            assert_int_equal(row.instance, before->instance);
            assert_int_equal(row.state,
                             hit && before->state != 0 ? COMPONENT_INVALID : before->state);
            const bool now = hit && before->state == COMPONENT_VALID;
            assert_true(before->state == 0 || has_instance(tally, row.instance) == now);
            *invalidated += now;
            *awaited += hit && before->state != 0;
        }
    }
}

// What the receipts will say: the accepted one's body, the models by name, and what each component's
// commitment was when it was valid.
static enum err expect_commitment(void *context, uint64_t sequence, const struct awaited *awaited)
{
    (void)context;
    uint32_t m = 0;
    while (models[m].number != awaited->model) {
        m++;
    }
    const int32_t node = trie_find(&tries[m], &awaited->name);
    assert_true(node >= 0);
    const struct component_row *const before = &row_before[m][awaited->name.shard][node];
    assert_int_equal(awaited->was_valid, before->state == COMPONENT_VALID);
    if (awaited->was_valid) {
        assert_memory_equal(&awaited->commitment, &before->commitment, DIGEST_BYTES);
    }
    struct request_model model;
    MUST(request_model_get(people.txn, sequence, awaited->model, &model));
    assert_true(model.name[0] == 'm' && (uint32_t)(model.name[1] - '0') == awaited->model);
    return OK;
}

static void expect_receipt(const struct fence *fence)
{
    struct receipt receipt;
    people_begin(&people);
    MUST(awaited_walk(people.txn, fence->request.sequence, expect_commitment, NULL));
    people_commit(&people);
    assert_int_equal(receipt_get(buf_span(&fence->accepted->body), &receipt), OK);
    assert_true(receipt.kind == RECEIPT_ACCEPTED && receipt.request == RECEIPT_DELETE);
    assert_memory_equal(&receipt.uuid, &fence->uuid, ID_BYTES);
    assert_true(receipt.records_deleted == fence->key_count && receipt.accepted_us == 77);
    assert_true(receipt.epoch_after == fence->request.epoch);
    receipt_deinit(&receipt);
}

// Everything that the request did, from the records that it must have taken.
static void expect_fenced(const struct fence *fence, const bool *gone, uint64_t epoch_before)
{
    uint32_t count = 0, left = 0, invalidated = 0, awaited = 0, awaited_there = 0;
    struct tally tally = {.gone = gone};
    people_begin(&people);
    MUST(pending_walk(people.txn, fence->request.sequence, count_pending, &tally));
    for (uint32_t m = 0; m < MODELS; m++) {
        expect_model(m, fence, gone, &tally, &invalidated, &awaited);
    }
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct id128 rid = people_rid(i);
        struct record record;
        uint64_t request = 0;
        count += gone[i];
        records[i].deleted = records[i].deleted || gone[i];
        left += !records[i].deleted;
        assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record),
                         records[i].deleted ? ERR_NOT_FOUND : OK);
        if (gone[i]) {
            MUST(tombstone_get(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &rid, &request));
            assert_true(request == fence->request.sequence);
        } else if (!records[i].deleted) {
            assert_int_equal(
                tombstone_get(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &rid, &request),
                ERR_NOT_FOUND);
        }
    }
    struct dataset_row dataset = {0};
    MUST(dataset_get(people.txn, PEOPLE_DATASET, &dataset));
    assert_int_equal(dataset.record_count, left);
    dataset_row_deinit(&dataset);
    struct request_row row;
    MUST(request_find(people.txn, &fence->uuid, &row));
    MUST(awaited_walk(people.txn, row.sequence, count_awaited, &awaited_there));
    uint64_t epoch = 0;
    MUST(counter_get(people.txn, COUNTER_EPOCH, &epoch));
    people_commit(&people);

    assert_int_equal(fence->key_count, count);
    assert_true(tally.records == count && tally.weights == invalidated);
    assert_true(fence->awaited_count == awaited && awaited_there == awaited);
    assert_true(epoch == epoch_before + (invalidated > 0) && row.epoch == epoch);
    assert_true(row.sequence == fence->request.sequence && row.sequence > 0);
    assert_true(row.kind == REQUEST_DELETE && row.state == REQUEST_FENCED);
    assert_true(row.records_deleted == count && row.components_invalidated == invalidated);
    assert_true(row.dataset == PEOPLE_DATASET && row.model == 0 && row.eager && row.earlier == 0);
    assert_true(row.accepted_us == 77 && row.fenced_us > 0 && row.erased_us == 0);
    assert_true(row.epoch_before == epoch_before && strcmp(row.name, "people") == 0);
    assert_false(fence->repeated);
    expect_receipt(fence);
}

static uint64_t epoch_now(void)
{
    uint64_t epoch = 0;
    people_begin(&people);
    MUST(counter_get(people.txn, COUNTER_EPOCH, &epoch));
    people_commit(&people);
    return epoch;
}

static uint32_t some_record(void) // Still there, of generation 0.
{
    uint32_t i = 0;
    while (records[i].deleted || records[i].generation != 0) {
        i++;
    }
    return i;
}

// ---------------------------------------------------------------- tests

// Twenty requests in one store: by id, by subject, by both, with repetitions and unknown ones.
static void test_random_requests_do_what_the_rule_says(void **state)
{
    (void)state;
    struct draw draw = draw_new("random_requests");
    uint32_t told = 0;
    for (uint8_t request = 1; request <= 20; request++) {
        bool gone[RECORDS] = {false};
        struct fence fence = ask(request);
        const uint32_t ids = draw_below(&draw, 4), subjects = draw_below(&draw, 3);
        for (uint32_t i = 0; i < ids; i++) {
            const uint32_t number = draw_below(&draw, RECORDS + 20); // Some are unknown.
            add_record(&fence, number);
            add_record(&fence, number); // Twice: counted once.
            if (number < RECORDS && !records[number].deleted) {
                gone[number] = true;
            }
        }
        for (uint32_t i = 0; i < subjects; i++) {
            const uint32_t who = draw_below(&draw, SUBJECTS + 2);
            add_subject(&fence, who);
            for (uint32_t j = 0; j < RECORDS; j++) {
                gone[j] = gone[j] || (records[j].who == who && !records[j].deleted);
            }
        }
        uint32_t count = 0;
        for (uint32_t i = 0; i < RECORDS; i++) {
            count += gone[i];
        }
        remember();
        const uint64_t epoch = epoch_now();
        const enum err err = run(&fence);
        if (count > 0) {
            assert_int_equal(err, OK);
            expect_fenced(&fence, gone, epoch);
            told++;
        } else {
            assert_true(err == ERR_NOT_FOUND || (err == OK && fence.request.earlier != 0));
        }
        fence_deinit(&fence);
    }
    assert_true(told >= 10);
}

static void test_tombstones_of_subjects(void **state)
{
    (void)state;
    const uint32_t number = some_record();
    const uint8_t who = records[number].who;
    const uint8_t other = (uint8_t)((who + 1) % SUBJECTS);
    struct fence by_id = ask(1), by_subject = ask(2);
    add_record(&by_id, number);
    assert_int_equal(run(&by_id), OK);
    add_subject(&by_subject, other);
    add_subject(&by_subject, SUBJECTS + 1); // Unknown.
    assert_int_equal(run(&by_subject), OK);
    const struct id128 sids[] = {people_sid(hashes[who], who), people_sid(hashes[other], other),
                                 people_sid(12345, SUBJECTS + 1)};
    const enum err expected[] = {ERR_NOT_FOUND, OK, ERR_NOT_FOUND}; // An id says nothing of others.
    people_begin(&people);
    for (size_t i = 0; i < 3; i++) {
        uint64_t request = 0;
        assert_int_equal(
            tombstone_get(people.txn, PEOPLE_DATASET, TOMBSTONE_SUBJECT, &sids[i], &request),
            expected[i]);
        assert_true(expected[i] != OK || request == by_subject.request.sequence);
    }
    people_commit(&people);
    fence_deinit(&by_id);
    fence_deinit(&by_subject);
}

// Found keys are each once and in storage order.
static void test_find_sorts_and_deduplicates(void **state)
{
    (void)state;
    struct fence fence = ask(1);
    for (uint32_t i = RECORDS; i-- > 0;) {
        add_record(&fence, i);
    }
    for (uint32_t who = 0; who < SUBJECTS; who++) {
        add_subject(&fence, who);
    }
    people_begin(&people);
    assert_int_equal(fence_find(&fence, people.txn), OK);
    people_roll_back(&people);
    assert_int_equal(fence.key_count, RECORDS);
    for (uint32_t i = 1; i < fence.key_count; i++) {
        uint8_t a[RECORD_KEY_BYTES], b[RECORD_KEY_BYTES];
        record_key_put(&fence.keys[i - 1], a);
        record_key_put(&fence.keys[i], b);
        assert_true(memcmp(a, b, sizeof a) < 0);
    }
    fence_deinit(&fence);
}

static void test_the_same_uuid_again(void **state)
{
    (void)state;
    struct fence first = ask(9), again = ask(9), other = ask(9);
    const uint32_t number = some_record();
    add_record(&first, number);
    assert_int_equal(run(&first), OK);
    // Meanwhile the request has got on.
    people_begin(&people);
    struct request_row row = first.request;
    row.state = REQUEST_ERASED;
    row.erased_us = 99;
    MUST(request_put(people.txn, &row));
    people_commit(&people);

    add_record(&again, number);
    people_begin(&people);
    assert_int_equal(fence_run(&again, people.store, people.txn), OK);
    assert_true(txn_writes(people.txn) == 0 && again.repeated);
    people_commit(&people);
    assert_true(again.request.sequence == first.request.sequence && again.hit_count == 0);
    assert_true(again.request.state == REQUEST_ERASED && again.request.erased_us == 99);
    assert_true(again.request.records_deleted == 1 && again.request.epoch == first.request.epoch);

    other.body.bytes[1] = 2;
    add_record(&other, (number + 1) % RECORDS);
    people_begin(&people);
    assert_int_equal(fence_run(&other, people.store, people.txn), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "UUID was used before"));
    assert_true(txn_writes(people.txn) == 0);
    people_commit(&people);
    fence_deinit(&first);
    fence_deinit(&again);
    fence_deinit(&other);
}

static void test_nothing_known_writes_nothing(void **state)
{
    (void)state;
    struct fence fence = ask(3);
    add_record(&fence, RECORDS + 5);
    add_subject(&fence, SUBJECTS + 1);
    people_begin(&people);
    assert_int_equal(fence_run(&fence, people.store, people.txn), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "none of the 1 records and 1 subjects"));
    assert_true(txn_writes(people.txn) == 0);
    struct request_row row;
    assert_int_equal(request_find(people.txn, &fence.uuid, &row), ERR_NOT_FOUND);
    people_commit(&people);
    fence_undo(&fence, people.store);
    fence_deinit(&fence);
}

// All of it was deleted before: OK, nothing deleted, and the earlier request is named.
static void test_already_deleted(void **state)
{
    (void)state;
    const uint32_t number = some_record();
    struct fence first = ask(1), second = ask(2), third = ask(2), fourth = ask(4);
    add_subject(&first, records[number].who);
    assert_int_equal(run(&first), OK);
    const uint64_t epoch = epoch_now();

    add_record(&second, number);
    add_record(&third, number);
    assert_int_equal(run(&second), OK);
    assert_memory_equal(&second.earlier, &first.uuid, sizeof first.uuid);
    assert_true(second.request.earlier == first.request.sequence && !second.repeated);
    assert_true(second.request.records_deleted == 0 && second.request.components_invalidated == 0);
    assert_true(second.request.state == REQUEST_COMPLETED && second.request.completed_us > 0);
    assert_true(second.request.epoch == epoch && epoch_now() == epoch);

    assert_int_equal(run(&third), OK); // The same UUID: the same answer.
    assert_true(third.repeated && third.request.sequence == second.request.sequence);
    assert_memory_equal(&third.earlier, &first.uuid, sizeof first.uuid);

    add_subject(&fourth, records[number].who); // By subject too.
    assert_int_equal(run(&fourth), OK);
    assert_memory_equal(&fourth.earlier, &first.uuid, sizeof first.uuid);
    fence_deinit(&first);
    fence_deinit(&second);
    fence_deinit(&third);
    fence_deinit(&fourth);
}

static void put_hold(enum hold_kind kind, struct id128 id, const char *reason)
{
    struct hold hold = {.dataset = PEOPLE_DATASET, .kind = kind, .id = id, .held_us = 5};
    snprintf(hold.name, sizeof hold.name, "somebody");
    snprintf(hold.reason, sizeof hold.reason, "%s", reason);
    people_begin(&people);
    MUST(hold_put(people.txn, &hold));
    people_commit(&people);
}

static uint32_t one_of(uint8_t who, uint32_t after) // A record of the person's behind that number.
{
    while (records[after].who != who) {
        after++;
        assert_true(after < RECORDS);
    }
    return after;
}

// Of one person a record is on hold, another is on hold as a whole: the rest of the request goes.
static void test_holds_stay_and_the_rest_goes(void **state)
{
    (void)state;
    const uint8_t free_one = 3, part = 4, whole = 5;
    const uint32_t held = one_of(part, 0), of_whole = one_of(whole, 0);
    bool gone[RECORDS] = {false};
    uint32_t kept = 0;
    put_hold(HOLD_RECORD, people_rid(held), "case 1");
    put_hold(HOLD_SUBJECT, people_sid(hashes[whole], whole), "case 2");
    struct fence fence = ask(1);
    add_record(&fence, held);        // Held.
    add_record(&fence, of_whole);    // Held, by its subject.
    add_record(&fence, RECORDS + 1); // Not found.
    add_subject(&fence, free_one);   // Deleted.
    add_subject(&fence, part);       // Deleted but for one record.
    add_subject(&fence, whole);      // Held.
    for (uint32_t i = 0; i < RECORDS; i++) {
        gone[i] = records[i].who == free_one || (records[i].who == part && i != held);
        kept += i == held || records[i].who == whole;
    }
    remember();
    const uint64_t epoch = epoch_now();
    assert_int_equal(run(&fence), OK);
    expect_fenced(&fence, gone, epoch);
    static const enum id_answer expected[] = {ANSWER_HELD,    ANSWER_HELD,    ANSWER_NOT_FOUND,
                                              ANSWER_DELETED, ANSWER_DELETED, ANSWER_HELD};
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(fence.answers[i], expected[i]);
    }
    assert_string_equal(fence.why.text, "case 1"); // The first.
    struct request_row row;
    people_begin(&people);
    MUST(request_find(people.txn, &fence.uuid, &row));
    people_commit(&people);
    static const uint32_t answered[ANSWER_COUNT_] = {0, 2, 0, 1, 3};
    assert_memory_equal(row.answered, answered, sizeof answered);
    assert_int_equal(row.records_held, kept);
    assert_int_equal(fence.kept_count, kept);
    fence_deinit(&fence);
}

// Of what is left of a request nothing may be deleted: nothing is written, whatever else it names.
static void test_all_on_hold_is_refused(void **state)
{
    (void)state;
    const uint32_t held = some_record();
    const uint8_t who = records[held].who, other = (uint8_t)((who + 1) % SUBJECTS);
    struct fence before = ask(1), alone = ask(2), mixed = ask(3), after = ask(4);
    add_subject(&before, other);
    assert_int_equal(run(&before), OK);
    put_hold(HOLD_SUBJECT, people_sid(hashes[who], who), "case 3");
    add_record(&alone, held);
    people_begin(&people);
    assert_int_equal(fence_run(&alone, people.store, people.txn), ERR_CONFLICT);
    assert_true(fence_is_held(&alone) && txn_writes(people.txn) == 0);
    assert_non_null(strstr(err_text(), "it is on legal hold: case 3"));
    people_commit(&people);
    add_subject(&mixed, who);
    add_subject(&mixed, other); // Deleted before.
    add_record(&mixed, RECORDS + 1);
    people_begin(&people);
    assert_int_equal(fence_run(&mixed, people.store, people.txn), ERR_CONFLICT);
    assert_true(fence_is_held(&mixed) && txn_writes(people.txn) == 0);
    assert_non_null(
        strstr(err_text(), "some of it is on legal hold, and nothing else of it is there"));
    struct request_row row;
    assert_int_equal(request_find(people.txn, &mixed.uuid, &row), ERR_NOT_FOUND);
    const struct id128 sid = people_sid(hashes[who], who);
    MUST(hold_drop(people.txn, PEOPLE_DATASET, HOLD_SUBJECT, &sid));
    people_commit(&people);
    add_record(&after, held); // control
    assert_int_equal(run(&after), OK);
    assert_true(after.key_count == 1 && after.kept_count == 0 && after.why.text[0] == '\0');
    fence_deinit(&before);
    fence_deinit(&alone);
    fence_deinit(&mixed);
    fence_deinit(&after);
}

// --- in several transactions

static struct {
    struct fence_hit hits[256];
    uint32_t count;
    uint32_t spared; // How often a cell was known.
} known;

static bool is_known(void *context, uint32_t model, struct cell cell)
{
    (void)context;
    for (uint32_t i = 0; i < known.count; i++) {
        if (known.hits[i].model == model && known.hits[i].cell.shard == cell.shard &&
            known.hits[i].cell.slice == cell.slice) {
            known.spared++;
            return true;
        }
    }
    return false;
}

// Fences seven of the keys as a part of the request; false: none is left.
static bool fence_some(struct fence *part, const struct fence *all, uint32_t from)
{
    const uint32_t left = from < all->key_count ? all->key_count - from : 0;
    const uint32_t count = left < 7 ? left : 7;
    if (count == 0) {
        return false;
    }
    const struct request_row request = part->request;
    *part = (struct fence){.dataset = PEOPLE_DATASET, .known = is_known, .request = request};
    part->keys = mem_alloc(count, sizeof *part->keys);
    memcpy(part->keys, all->keys + from, count * sizeof *part->keys);
    part->key_count = count;
    people_begin(&people);
    MUST(fence_part(part, people.store, people.txn));
    people_commit(&people);
    for (uint32_t i = 0; i < part->hit_count; i++) {
        assert_true(known.count < 256);
        known.hits[known.count++] = part->hits[i];
    }
    return true;
}

static void expect_components(const bool *gone, const struct tally *tally, uint32_t *awaited)
{
    for (uint32_t m = 0; m < MODELS; m++) {
        for (uint32_t shard = 0; shard < models[m].shards; shard++) {
            for (uint32_t node = 0; node < tries[m].count; node++) {
                const struct component_row *const before = &row_before[m][shard][node];
                struct component name;
                struct component_row row = {0};
                bool hit = false;
                trie_name(&tries[m], shard, node, &name);
                for (uint32_t i = 0; i < name.count; i++) {
                    const struct cell cell = {shard, name.list[i]};
                    hit = hit || (models[m].hit && lost_of(m, gone, cell) > 0);
                }
                (void)!component_row_get(people.txn, models[m].number, &name, &row);
                assert_int_equal(row.state,
                                 hit && before->state != 0 ? COMPONENT_INVALID : before->state);
                assert_true(before->state == 0 || has_instance(tally, row.instance) ==
                                                      (hit && before->state == COMPONENT_VALID));
                *awaited += hit && before->state != 0;
            }
        }
    }
}

// Half of the records, seven at a time: at the end the store says what it would after one fence, and what
// each component's commitment was.
static void test_parts_do_what_one_fence_does(void **state)
{
    (void)state;
    bool gone[RECORDS] = {false};
    struct fence all = ask(1), part = {.request = {.uuid = {{1}},
                                                   .kind = REQUEST_DELETE,
                                                   .state = REQUEST_FENCED,
                                                   .dataset = PEOPLE_DATASET}};
    known.count = known.spared = 0;
    for (uint32_t i = 0; i < RECORDS; i += 2) {
        add_record(&all, i);
        gone[i] = true;
    }
    remember();
    people_begin(&people);
    MUST(fence_find(&all, people.txn));
    MUST(counter_next(people.txn, COUNTER_REQUEST, &part.request.sequence));
    people_commit(&people);
    assert_int_equal(all.key_count, RECORDS / 2);
    uint32_t parts = 0, awaited = 0;
    for (; fence_some(&part, &all, 7 * parts); parts++) {
        awaited += part.awaited_count;
        const struct request_row request = part.request;
        fence_deinit(&part);
        part.request = request;
    }
    assert_true(parts == 9 && known.spared > 0);
    assert_int_equal(part.request.records_deleted, RECORDS / 2);
    struct tally tally = {.gone = gone};
    uint32_t awaited_there = 0, awaited_expected = 0;
    people_begin(&people);
    MUST(pending_walk(people.txn, part.request.sequence, count_pending, &tally));
    expect_components(gone, &tally, &awaited_expected);
    MUST(awaited_walk(people.txn, part.request.sequence, count_awaited, &awaited_there));
    MUST(awaited_walk(people.txn, part.request.sequence, expect_commitment, NULL));
    people_commit(&people);
    assert_int_equal(tally.records, RECORDS / 2);
    assert_int_equal(tally.weights, part.request.components_invalidated);
    assert_true(awaited == awaited_expected && awaited_there == awaited_expected);
    fence_deinit(&all);
}

// A record that came after a model's last training is in none of its components.
static void test_a_later_generation_is_in_no_component(void **state)
{
    (void)state;
    uint32_t number = 0;
    while (records[number].generation != 2) {
        number++;
    }
    bool gone[RECORDS] = {false};
    gone[number] = true;
    struct fence fence = ask(1);
    add_record(&fence, number);
    remember();
    const uint64_t epoch = epoch_now();
    assert_int_equal(run(&fence), OK);
    expect_fenced(&fence, gone, epoch);
    assert_true(fence.hit_count == 0 && fence.request.components_invalidated == 0);
    assert_true(fence.request.records_deleted == 1 && epoch_now() == epoch);
    fence_deinit(&fence);
}

static void test_a_dataset_that_goes_or_is_gone(void **state)
{
    (void)state;
    struct fence fence = ask(1);
    add_record(&fence, some_record());
    fence.dataset = 99;
    assert_int_equal(run(&fence), ERR_NOT_FOUND);
    fence.dataset = PEOPLE_DATASET;
    people_begin(&people);
    struct dataset_row row = {0};
    MUST(dataset_get(people.txn, PEOPLE_DATASET, &row));
    row.removing = true;
    MUST(dataset_put(people.txn, &row));
    assert_int_equal(fence_run(&fence, people.store, people.txn), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "being removed"));
    people_roll_back(&people);
    dataset_row_deinit(&row);
    assert_int_equal(run(&fence), OK); // control
    fence_deinit(&fence);
}

static void test_too_many_records(void **state)
{
    (void)state;
    const uint32_t number = some_record();
    struct fence fence = ask(1), subject = ask(2);
    for (uint32_t i = 0; i < LIMIT_FENCE_RECORDS + 1; i++) {
        add_record(&fence, number);
    }
    people_begin(&people);
    assert_int_equal(fence_run(&fence, people.store, people.txn), ERR_LIMIT);
    assert_true(fence.too_many && txn_writes(people.txn) == 0);
    people_roll_back(&people);
    add_subject(&subject, records[number].who);
    subject.records_most = 1;
    people_begin(&people);
    assert_int_equal(fence_run(&subject, people.store, people.txn), ERR_LIMIT);
    assert_true(subject.too_many && txn_writes(people.txn) == 0);
    people_roll_back(&people);
    fence.rid_count = LIMIT_FENCE_RECORDS; // control
    assert_int_equal(run(&fence), OK);
    assert_true(!fence.too_many && fence.key_count == 1);
    fence_deinit(&fence);
    fence_deinit(&subject);
}

// Rolled back and undone, nothing has happened; the second run finds it all anew.
static void test_undo_and_run_again(void **state)
{
    (void)state;
    bool gone[RECORDS] = {false};
    const uint32_t number = some_record();
    const struct id128 rid = people_rid(number);
    struct record record;
    struct fence fence = ask(1);
    gone[number] = true;
    add_record(&fence, number);
    remember();
    const uint64_t epoch = epoch_now();

    people_begin(&people);
    assert_int_equal(fence_run(&fence, people.store, people.txn), OK);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), ERR_NOT_FOUND);
    people_roll_back(&people);
    fence_undo(&fence, people.store);
    people_begin(&people);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), OK);
    people_commit(&people);

    assert_int_equal(run(&fence), OK);
    expect_fenced(&fence, gone, epoch);
    fence_deinit(&fence);
}

// A twin in the same transaction was the repetition; after the rollback it may come first.
static void test_a_repetition_is_forgotten_with_the_rollback(void **state)
{
    (void)state;
    bool gone[RECORDS] = {false};
    const uint32_t number = some_record();
    struct fence first = ask(1), twin = ask(1);
    gone[number] = true;
    add_record(&first, number);
    add_record(&twin, number);
    remember();
    const uint64_t epoch = epoch_now();
    people_begin(&people);
    assert_int_equal(fence_run(&first, people.store, people.txn), OK);
    assert_int_equal(fence_run(&twin, people.store, people.txn), OK);
    assert_true(twin.repeated && !first.repeated);
    people_roll_back(&people);
    fence_undo(&first, people.store);
    fence_undo(&twin, people.store);

    assert_int_equal(run(&twin), OK);
    expect_fenced(&twin, gone, epoch);
    fence_deinit(&first);
    fence_deinit(&twin);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define WITH_PEOPLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_PEOPLE(test_random_requests_do_what_the_rule_says),
        WITH_PEOPLE(test_tombstones_of_subjects),
        WITH_PEOPLE(test_find_sorts_and_deduplicates),
        WITH_PEOPLE(test_the_same_uuid_again),
        WITH_PEOPLE(test_nothing_known_writes_nothing),
        WITH_PEOPLE(test_already_deleted),
        WITH_PEOPLE(test_holds_stay_and_the_rest_goes),
        WITH_PEOPLE(test_all_on_hold_is_refused),
        WITH_PEOPLE(test_parts_do_what_one_fence_does),
        WITH_PEOPLE(test_a_later_generation_is_in_no_component),
        WITH_PEOPLE(test_a_dataset_that_goes_or_is_gone),
        WITH_PEOPLE(test_too_many_records),
        WITH_PEOPLE(test_undo_and_run_again),
        WITH_PEOPLE(test_a_repetition_is_forgotten_with_the_rollback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
