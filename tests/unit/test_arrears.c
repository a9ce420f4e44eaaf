// tests/unit/test_arrears.c: what a connection makes us keep is counted so that no honest peer is cut and
// none that is not gets far beyond the limit.
//
// Method: looks made up by hand; and random streams of an honest peer (messages, heartbeats, whatever is
// still in the kernel), looked at at random moments, which must never seem to keep more than it does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <string.h>

#include <cmocka.h>

#include "proto/arrears.h"
#include "tests/unit/draw.h"

static const struct arrears_limits limits = {
    .connections = 3,
    .waiting = 1000000,
    .waiting_strangers = 1500000,
    .waiting_all = 2500000,
    .unread = 1000000,
    .unread_all = 1500000,
};

static void looked(struct arrears *c, uint64_t delivered, uint64_t received, uint64_t queued)
{
    arrears_look(
        c, &(struct arrears_seen){.delivered = delivered, .received = received, .queued = queued});
}

static void test_what_no_message_came_of_waits(void **state)
{
    (void)state;
    struct arrears c = {0};
    looked(&c, 0, 70000, 0);
    assert_int_equal(c.waiting, 70000);
    assert_false(c.heard);
    looked(&c, 60000, 90000, 0);
    assert_int_equal(c.waiting, 30000);
    assert_true(c.heard);
    looked(&c, 0, 200000, 50000); // What the kernel has yet, ZeroMQ does not keep.
    assert_int_equal(c.waiting, 90000);
    looked(&c, 0, 200000, 150000); // It may be more by the time it is asked for.
    assert_int_equal(c.waiting, 0);
}

static void test_little_is_forgiven_when_a_message_came(void **state)
{
    (void)state;
    struct arrears c = {0};
    looked(&c, 0, ARREARS_FORGIVEN, 0);
    assert_int_equal(c.waiting, ARREARS_FORGIVEN); // No message: nothing is.
    looked(&c, 100, 100 + ARREARS_FORGIVEN, 0);
    assert_int_equal(c.waiting, 0);
    looked(&c, 100, 200 + ARREARS_FORGIVEN + ARREARS_FORGIVEN + 1, 0); // One byte too many.
    assert_int_equal(c.waiting, ARREARS_FORGIVEN + 1);
}

// A connection before it had the same descriptor, and 5 MB of it come out now.
static void test_what_another_sent_is_no_credit(void **state)
{
    (void)state;
    struct arrears c = {0};
    looked(&c, 5000000, 500, 0);
    assert_int_equal(c.waiting, 0);
    looked(&c, 0, 2000000, 0);
    assert_int_equal(c.waiting, 2000000 - 500);
}

static void test_junk(void **state)
{
    (void)state;
    struct arrears c = {0};
    uint32_t which;
    arrears_look(&c, &(struct arrears_seen){.junk = 15, .received = 45});
    assert_int_equal(arrears_judge(&c, 1, &limits, &which), ARREARS_NONE);
    arrears_look(&c, &(struct arrears_seen){.junk = 1, .received = 48});
    assert_int_equal(arrears_judge(&c, 1, &limits, &which), ARREARS_WAITING);
}

static void test_what_is_not_read(void **state)
{
    (void)state;
    struct arrears c = {0};
    arrears_look(&c, &(struct arrears_seen){.handed = 0, .acknowledged = 300}); // The handshake.
    assert_int_equal(c.unread, 0);
    arrears_look(&c, &(struct arrears_seen){.handed = 5000, .acknowledged = 300});
    assert_int_equal(c.unread, 5000);
    arrears_look(&c, &(struct arrears_seen){.handed = 1000, .acknowledged = 4300});
    assert_int_equal(c.unread, 2000);
    arrears_look(&c, &(struct arrears_seen){.acknowledged = 6350}); // With heartbeats.
    assert_int_equal(c.unread, 0);
    arrears_look(&c, &(struct arrears_seen){.handed = 10, .acknowledged = 6350});
    assert_int_equal(c.unread, 10);
}

// Judges until nobody is cut any more; who was, as digits in order.
static void judge(struct arrears *all, uint32_t count, const char *expected,
                  enum arrears_reason why)
{
    char found[16] = "";
    uint32_t which = 0;
    for (enum arrears_reason reason;
         (reason = arrears_judge(all, count, &limits, &which)) != ARREARS_NONE;) {
        assert_int_equal(reason, why);
        assert_true(which < count && !all[which].cut && strlen(found) < 15);
        all[which].cut = true;
        found[strlen(found)] = (char)('0' + which);
    }
    assert_string_equal(found, expected);
}

static void test_who_is_cut(void **state)
{
    (void)state;
    struct arrears exact[] = {{.order = 1, .heard = true, .waiting = 1000000, .unread = 1000000},
                              {.order = 2, .waiting = 500000, .unread = 500000}};
    judge(exact, 2, "", ARREARS_NONE);
    struct arrears above[] = {{.order = 1, .waiting = 1000000}, {.order = 2, .waiting = 1000001}};
    judge(above, 2, "1", ARREARS_WAITING);
    struct arrears deaf[] = {{.order = 1, .unread = 1000001}, {.order = 2, .unread = 1000000}};
    judge(deaf, 2, "0", ARREARS_UNREAD);
    // All together: the one with most first, and only as many as must.
    struct arrears sum[] = {{.order = 1, .heard = true, .waiting = 800000},
                            {.order = 2, .heard = true, .waiting = 900000},
                            {.order = 3, .heard = true, .waiting = 810000}};
    judge(sum, 3, "1", ARREARS_WAITING);
    struct arrears unread[] = {{.order = 1, .unread = 800000}, {.order = 2, .unread = 700001}};
    judge(unread, 2, "0", ARREARS_UNREAD);
    // Strangers alone have less, and those that were heard do not pay for them.
    struct arrears strangers[] = {{.order = 1, .heard = true, .waiting = 950000},
                                  {.order = 2, .waiting = 751000},
                                  {.order = 3, .waiting = 750000}};
    judge(strangers, 3, "1", ARREARS_WAITING);
    // Too many: the oldest that only came; else the newest.
    struct arrears crowd[] = {{.order = 9, .heard = true},
                              {.order = 7},
                              {.order = 6, .heard = true},
                              {.order = 8},
                              {.order = 5, .heard = true}};
    judge(crowd, 5, "13", ARREARS_CONNECTIONS);
    struct arrears heard[] = {{.order = 4, .heard = true},
                              {.order = 7, .heard = true},
                              {.order = 6, .heard = true},
                              {.order = 5, .heard = true}};
    judge(heard, 4, "1", ARREARS_CONNECTIONS);
    judge(heard, 0, "", ARREARS_NONE);
}

// Messages of up to 1 MB and heartbeats in between; what waits is the message under way, and what the program
// has not taken yet.
static void test_an_honest_peer_never_seems_to_owe_more_than_it_does(void **state)
{
    (void)state;
    struct draw draw = draw_new("arrears");
    for (int stream = 0; stream < 200; stream++) {
        struct arrears c = {0};
        uint64_t received = 0, out = 0, looked_out = 0, beats = 0;
        for (int i = 0; i < 500; i++) {
            const uint64_t message = 2 + draw_below(&draw, 1000000), beat = draw_below(&draw, 50);
            received += beat;
            beats += beat;
            const uint64_t partly = draw_below(&draw, (uint32_t)message);
            looked(&c, out - looked_out, received + partly, draw_below(&draw, 1000));
            looked_out = out;
            assert_true(c.waiting <= message + beats + 1000000);
            received += message;
            out += message;
            if (draw_below(&draw, 3) == 0) {
                looked(&c, out - looked_out, received, 0);
                looked_out = out;
                assert_true(c.waiting <= ARREARS_FORGIVEN + beats);
            }
        }
        // Heartbeats alone do not add up as long as messages come.
        assert_true(c.waiting < limits.waiting + 1000000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_no_message_came_of_waits),
        cmocka_unit_test(test_little_is_forgiven_when_a_message_came),
        cmocka_unit_test(test_what_another_sent_is_no_credit),
        cmocka_unit_test(test_junk),
        cmocka_unit_test(test_what_is_not_read),
        cmocka_unit_test(test_who_is_cut),
        cmocka_unit_test(test_an_honest_peer_never_seems_to_owe_more_than_it_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
