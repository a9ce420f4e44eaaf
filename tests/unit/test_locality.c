// Goal: what a rank is thought to hold is never less than what it holds, whatever crosses on the way, and
// it is as much as that once all is told; the rank that holds most of a stage is chosen.
// Method: a rank that takes messages and tells what it holds, and drops things as it likes, each over a
// queue of its own that is late by a random number of messages; after each step the inclusion, at the
// end equality.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/locality.h"
#include "tests/unit/draw.h"

enum { THINGS = 24, STEPS = 400, ROUNDS = 300, QUEUE = STEPS + 1 };

// Cells and weights of two models and shards.
static struct copy thing(uint32_t i)
{
    struct copy copy = {.model = 1 + i % 2, .shard = i / 2 % 2};
    if (i < THINGS / 2) {
        copy.slice = i / 4;
    } else {
        copy.instance = 100 + i;
        copy.node = i;
    }
    return copy;
}

static bool holds(const struct locality *locality, uint32_t i)
{
    const struct copy wanted = thing(i);
    for (uint32_t j = 0; j < locality->count; j++) {
        const struct copy *const copy = &locality->copies[j];
        if (copy->model == wanted.model && copy->shard == wanted.shard &&
            copy->slice == wanted.slice && copy->instance == wanted.instance) {
            return true;
        }
    }
    return false;
}

struct message { // To the rank: lets it hold `which`, or forget it. From it: what it holds.
    uint64_t stamp;
    uint32_t which;
    bool forget;
    bool held[THINGS];
};

struct queue {
    struct message messages[QUEUE];
    uint32_t first, last;
};

struct rank {
    bool held[THINGS];
    uint64_t stamp;
    struct queue to, from;
};

static bool is(void *context, const struct copy *copy)
{
    const struct copy *const which = context;
    return copy->model == which->model && copy->shard == which->shard &&
           copy->slice == which->slice && copy->instance == which->instance;
}

static void rank_takes(struct rank *rank)
{
    const struct message *const message = &rank->to.messages[rank->to.first++];
    rank->held[message->which] = !message->forget;
    rank->stamp = message->forget ? rank->stamp : message->stamp;
}

static void rank_tells(struct rank *rank)
{
    struct message *const message = &rank->from.messages[rank->from.last++];
    *message = (struct message){.stamp = rank->stamp};
    memcpy(message->held, rank->held, sizeof message->held);
}

static void hear(struct rank *rank, struct locality *locality)
{
    const struct message *const message = &rank->from.messages[rank->from.first++];
    struct copy held[2 * THINGS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < THINGS; i++) {
        if (message->held[i]) {
            held[count++] = thing(i); // Twice, as a worker does.
            held[count] = thing(i);
            held[count++].bytes = 10 + i;
        }
    }
    locality_reported(locality, message->stamp, held, count);
}

// Everything that the rank holds, or will hold by what is on its way to it, is known.
static void check_known(const struct rank *rank, const struct locality *locality)
{
    bool held[THINGS];
    memcpy(held, rank->held, sizeof held);
    uint32_t forgotten = 0; // On their way: not known any more, though still held.
    for (uint32_t i = rank->to.first; i < rank->to.last; i++) {
        held[rank->to.messages[i].which] = !rank->to.messages[i].forget;
        forgotten += rank->to.messages[i].forget;
    }
    for (uint32_t i = 0; i < THINGS; i++) {
        if (held[i] && !holds(locality, i)) {
            fail_msg("%u is held and not known, with %u Forgets under way", i, forgotten);
        }
    }
}

static void test_never_less_is_known_than_is_held(void **state)
{
    (void)state;
    static struct rank rank;
    struct draw draw = draw_new("locality");
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t stamp = 0;
        struct locality locality = {0};
        memset(&rank, 0, sizeof rank);
        for (uint32_t step = 0; step < STEPS; step++) {
            const uint32_t which = draw_below(&draw, THINGS);
            struct copy copy = thing(which);
            switch (draw_below(&draw, 6)) {
            case 0: // It may hold it.
                copy.stamp = ++stamp;
                locality_add(&locality, &copy);
                rank.to.messages[rank.to.last++] = (struct message){.stamp = stamp, .which = which};
                break;
            case 1: // It is to forget it.
                if (locality_remove(&locality, is, &copy) > 0) {
                    rank.to.messages[rank.to.last++] =
                        (struct message){.which = which, .forget = true};
                }
                break;
            case 2:
                rank.held[which] = false; // It needed the room.
                break;
            case 3:
                rank_tells(&rank);
                break;
            case 4:
                if (rank.to.first < rank.to.last) {
                    rank_takes(&rank);
                }
                break;
            default:
                if (rank.from.first < rank.from.last) {
                    hear(&rank, &locality);
                }
                break;
            }
            check_known(&rank, &locality);
        }
        while (rank.to.first < rank.to.last) {
            rank_takes(&rank);
        }
        rank_tells(&rank);
        while (rank.from.first < rank.from.last) {
            hear(&rank, &locality);
        }
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < THINGS; i++) {
            assert_int_equal(holds(&locality, i), rank.held[i]);
            bytes += rank.held[i] ? 10 + i : 0;
        }
        assert_int_equal(locality.bytes, bytes);
        locality_deinit(&locality);
    }
}

static void test_bytes_of_what_a_stage_needs(void **state)
{
    (void)state;
    struct locality locality = {0};
    const uint16_t list[2] = {2, 0};
    const struct stage_needs needs = {
        .model = 2, .shard = 1, .list = list, .list_count = 2, .parent_instance = 50};
    const struct copy copies[] = {
        {.model = 2, .shard = 1, .slice = 0, .bytes = 1},
        {.model = 2, .shard = 1, .slice = 1, .bytes = 2}, // Not in the list.
        {.model = 2, .shard = 1, .slice = 2, .bytes = 4},
        {.model = 2, .shard = 0, .slice = 2, .bytes = 8},  // Another shard,
        {.model = 1, .shard = 1, .slice = 2, .bytes = 16}, // or model.
        {.model = 2, .shard = 1, .instance = 50, .bytes = 32},
        {.model = 2, .shard = 1, .instance = 51, .bytes = 64}, // Of another parent.
        {.model = 2, .shard = 2, .slice = 0, .bytes = 128},
    };
    assert_int_equal(locality_bytes(&locality, &needs), 0);
    for (size_t i = sizeof copies / sizeof copies[0]; i > 0; i--) {
        locality_add(&locality, &copies[i - 1]);
    }
    assert_int_equal(locality_bytes(&locality, &needs), 1 + 4 + 32);
    assert_int_equal(locality.bytes, 255);
    struct stage_needs first = needs; // Without a parent.
    first.parent_instance = 0;
    assert_int_equal(locality_bytes(&locality, &first), 1 + 4);
    locality_deinit(&locality);
}

static void test_the_one_that_holds_most_is_chosen(void **state)
{
    (void)state;
    const uint64_t bytes[5] = {3, 0, 9, 9, 1};
    assert_int_equal(locality_choose(bytes, 1), 0);
    assert_int_equal(locality_choose(bytes, 2), 0);
    assert_int_equal(locality_choose(bytes, 5), 2);
    const uint64_t none[3] = {0};
    assert_int_equal(locality_choose(none, 3), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_less_is_known_than_is_held),
        cmocka_unit_test(test_bytes_of_what_a_stage_needs),
        cmocka_unit_test(test_the_one_that_holds_most_is_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
