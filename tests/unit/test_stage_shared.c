// tests/unit/test_stage_shared.c: a stage trained by a group of 2 or 4 has the bits of one process.
//
// Method: each member is a thread; they exchange through memory, under the rules that learner.h gives
// to `exchange`: both partners must call it, and a side without a sum must be expected to have none.
// Batches are drawn from a printed seed, many of them shorter than the number of chunks, so that whole
// members have nothing to compute.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/profile.h"
#include "model/stage.h"

enum { MEMBERS_MAX = 8, RECORDS_MAX = 60, PIXELS = 12, CLASSES = 3, ROW_BYTES = 2 + PIXELS };

static char names[CLASSES][2] = {"a", "b", "c"}, label[] = "y", image[] = "image";
static char *classes[CLASSES] = {names[0], names[1], names[2]};
static struct column columns[1] = {
    {.name = image, .kind = COLUMN_PIXELS, .width = PIXELS, .rows = 3, .cols = 4, .scale = 1}};
static const struct schema schema = {.columns = columns,
                                     .column_count = 1,
                                     .task = TASK_CLASSES,
                                     .label = label,
                                     .classes = classes,
                                     .class_count = CLASSES};
static uint8_t bytes[RECORDS_MAX][ROW_BYTES];
static struct span rows[RECORDS_MAX];
static struct id128 rids[RECORDS_MAX];
static const uint16_t list[2] = {1, 0};

static int make_records(void **state)
{
    (void)state;
    for (int i = 0; i < RECORDS_MAX; i++) {
        bytes[i][0] = (uint8_t)(i % CLASSES);
        for (int j = 0; j < PIXELS; j++) {
            bytes[i][2 + j] = (uint8_t)(41 * i + 67 * j + i % CLASSES * j * 23);
        }
        rows[i] = span_of(bytes[i], ROW_BYTES);
        rids[i] = (struct id128){{(uint8_t)(i * 89), (uint8_t)i, 3}};
    }
    return 0;
}

// --- A group in memory

// What travels from one member to another: at most one sum at a time.
struct pipe {
    bool full;
    const float *sum;
};

struct group {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct pipe pipes[MEMBERS_MAX][MEMBERS_MAX];
    uint64_t exchanges;
    bool failed; // A member gave up: nobody waits any more.
    struct spec spec;
    uint64_t records, param_count;
    uint32_t members;
    uint32_t fail_index; // This member fails
    uint64_t fail_at;    // in this exchange; 0: none does.
};

struct member {
    struct group *group;
    uint32_t index;
    uint64_t exchanges;
    float *params;
    enum err err;
};

static void wait_while(struct group *group, const bool *flag, bool value)
{
    while (*flag == value && !group->failed) {
        pthread_cond_wait(&group->moved, &group->lock);
    }
}

static enum err exchange(void *context, uint32_t partner, const float *mine, float *theirs_out,
                         uint64_t count)
{
    struct member *const member = context;
    struct group *const group = member->group;
    struct pipe *const out = &group->pipes[member->index][partner];
    struct pipe *const in = &group->pipes[partner][member->index];
    pthread_mutex_lock(&group->lock);
    group->exchanges++;
    member->exchanges++;
    group->failed = group->failed ||
                    (member->index == group->fail_index && member->exchanges == group->fail_at);
    if (mine != NULL) {
        *out = (struct pipe){true, mine};
    }
    pthread_cond_broadcast(&group->moved);
    if (theirs_out != NULL) {
        wait_while(group, &in->full, false);
        if (!group->failed) {
            memcpy(theirs_out, in->sum, count * sizeof *theirs_out);
            in->full = false;
            pthread_cond_broadcast(&group->moved);
        }
    }
    if (mine != NULL) {
        wait_while(group, &out->full, true); // `mine` must stay until it is taken.
    }
    const bool failed = group->failed;
    pthread_mutex_unlock(&group->lock);
    if (failed) {
        return err_raise(ERR_UNAVAILABLE, "a member gave up");
    }
    return (mine == NULL && theirs_out == NULL) ? err_raise(ERR_CORRUPT, "nothing to do") : OK;
}

static enum err train(const struct group *group, const struct stage_peers *peers, float *params_out)
{
    const struct stage stage = {{&group->spec, &schema, NULL}, 1, list, 2, 2};
    const uint64_t slices[2] = {group->records / 2, group->records - group->records / 2};
    const struct stage_data data = {rows, rids, slices, group->records};
    return stage_train_shared(&stage, &data, NULL, NULL, peers, params_out);
}

static void *be_member(void *context)
{
    struct member *const member = context;
    const struct stage_peers peers = {member->group->members, member->index, exchange, member};
    member->err = train(member->group, &peers, member->params);
    return NULL;
}

// Trains with so many members; what each of them ends with goes to members[i].
static void train_together(struct group *group, struct member *members)
{
    pthread_t threads[MEMBERS_MAX];
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->moved, NULL);
    for (uint32_t i = 0; i < group->members; i++) {
        members[i] = (struct member){.group = group, .index = i};
        assert_int_equal(mem_try_aligned(group->param_count, sizeof(float), &members[i].params),
                         OK);
        assert_int_equal(pthread_create(&threads[i], NULL, be_member, &members[i]), 0);
    }
    for (uint32_t i = 0; i < group->members; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_mutex_destroy(&group->lock);
    pthread_cond_destroy(&group->moved);
}

// --- Tests

static uint32_t seed = 20261124;
static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static struct group draw_group(uint32_t chunks, uint32_t members)
{
    static const char *const learners[] = {"mlp", "softmax"};
    static const char *const kinds[] = {"sgd", "adamw"};
    struct group group = {.members = members, .spec = spec_default()};
    assert_int_equal(spec_set(&group.spec, "learner", learners[draw(2)]), OK);
    assert_int_equal(spec_set(&group.spec, "hidden", "9,5"), OK);
    assert_int_equal(spec_set(&group.spec, "optimizer.kind", kinds[draw(2)]), OK);
    assert_int_equal(spec_set(&group.spec, "dropout", "0.25"), OK);
    group.spec.rate = 0.01;
    group.spec.seed = draw(1000);
    group.spec.gradient_chunks = chunks;
    group.spec.batch = chunks + draw(3 * chunks);
    group.records = 2 + draw(RECORDS_MAX - 2);
    assert_int_equal(learner_param_count(&(const struct recipe){&group.spec, &schema, NULL}, 1,
                                         &group.param_count),
                     OK);
    return group;
}

static void check_group(struct group *group)
{
    struct member members[MEMBERS_MAX];
    float *alone = NULL;
    assert_int_equal(mem_try_aligned(group->param_count, sizeof *alone, &alone), OK);
    assert_int_equal(train(group, NULL, alone), OK);
    train_together(group, members);
    for (uint32_t i = 0; i < group->members; i++) {
        assert_int_equal(members[i].err, OK);
        if (memcmp(members[i].params, alone, group->param_count * sizeof *alone) != 0) {
            fail_msg("member %u of %u has other bits: %s, %u chunks, batch %u, %llu records", i,
                     group->members, group->spec.learner, group->spec.gradient_chunks,
                     group->spec.batch, (unsigned long long)group->records);
        }
        mem_free(members[i].params);
    }
    assert_true(group->exchanges > 0);
    mem_free(alone);
}

static void test_groups_give_the_bits_of_one(void **state)
{
    (void)state;
    print_message("seed %u\n", seed);
    for (uint32_t chunks = 2; chunks <= 8; chunks *= 2) {
        for (uint32_t members = 2; members <= chunks; members *= 2) {
            for (int round = 0; round < 12; round++) {
                struct group group = draw_group(chunks, members);
                check_group(&group);
            }
        }
    }
}

// A last batch of one row: it is the last chunk's, and all members but the last have none.
static void test_batch_shorter_than_the_group(void **state)
{
    (void)state;
    for (uint32_t records = 1; records <= 9; records++) {
        struct group group = draw_group(8, 4);
        group.spec.batch = 8;
        group.records = records;
        check_group(&group);
    }
}

static void test_failed_exchange_ends_the_stage(void **state)
{
    (void)state;
    struct member members[MEMBERS_MAX] = {0};
    struct group group = draw_group(4, 4);
    group.records = RECORDS_MAX;
    group.fail_index = 2;
    group.fail_at = 3;
    train_together(&group, members);
    for (uint32_t i = 0; i < group.members; i++) {
        assert_int_equal(members[i].err, ERR_UNAVAILABLE);
        mem_free(members[i].params);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    if (profile_pin(argv) != OK || digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_give_the_bits_of_one),
        cmocka_unit_test(test_batch_shorter_than_the_group),
        cmocka_unit_test(test_failed_exchange_ends_the_stage),
    };
    return cmocka_run_group_tests(tests, make_records, NULL);
}
