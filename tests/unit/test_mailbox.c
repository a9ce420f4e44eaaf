// tests/unit/test_mailbox.c: mails arrive whole, once and in order; the descriptor tells the truth.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <poll.h>
#include <pthread.h>

#include <cmocka.h>

#include "coordinator/mailbox.h"

enum { SENDERS = 3, MAILS = 20000 };

struct note {
    struct mail mail;
    int sender, number;
};

static bool readable(const struct mailbox *mailbox)
{
    struct pollfd fd = {.fd = mailbox_fd(mailbox), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void test_order_and_descriptor(void **state)
{
    (void)state;
    struct mailbox *mailbox = NULL;
    struct note notes[3];
    assert_int_equal(mailbox_open(&mailbox), OK);
    for (int round = 0; round < 3; round++) {
        assert_false(readable(mailbox));
        assert_null(mailbox_take(mailbox, false));
        for (int i = 0; i < 3; i++) {
            mailbox_put(mailbox, &notes[i].mail);
            assert_true(readable(mailbox));
        }
        for (int i = 0; i < 3; i++) {
            assert_true(readable(mailbox)); // As long as one is left.
            assert_ptr_equal(mailbox_take(mailbox, i == 1), &notes[i].mail);
        }
    }
    mailbox_close(mailbox);
    mailbox_close(NULL);
}

static void test_stop_gives_out_what_is_left(void **state)
{
    (void)state;
    struct mailbox *mailbox = NULL;
    struct note notes[2];
    assert_int_equal(mailbox_open(&mailbox), OK);
    mailbox_put(mailbox, &notes[0].mail);
    mailbox_put(mailbox, &notes[1].mail);
    mailbox_stop(mailbox);
    assert_ptr_equal(mailbox_take(mailbox, true), &notes[0].mail);
    assert_ptr_equal(mailbox_take(mailbox, true), &notes[1].mail);
    assert_null(mailbox_take(mailbox, true));
    assert_null(mailbox_take(mailbox, true));
    mailbox_close(mailbox);
}

struct sender {
    struct mailbox *mailbox;
    struct note *notes;
};

static void *send_all(void *argument)
{
    const struct sender *const sender = argument;
    for (int i = 0; i < MAILS; i++) {
        mailbox_put(sender->mailbox, &sender->notes[i].mail);
    }
    return NULL;
}

static void *wait_for_end(void *argument)
{
    return mailbox_take(argument, true);
}

// Several threads put, one takes: each sender's mails come in its order, none is lost or doubled.
static void test_threads(void **state)
{
    (void)state;
    static struct note notes[SENDERS][MAILS];
    struct mailbox *mailbox = NULL;
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    int next[SENDERS] = {0};
    assert_int_equal(mailbox_open(&mailbox), OK);
    for (int s = 0; s < SENDERS; s++) {
        for (int i = 0; i < MAILS; i++) {
            notes[s][i] = (struct note){.sender = s, .number = i};
        }
        senders[s] = (struct sender){mailbox, notes[s]};
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, &senders[s]), 0);
    }
    for (int i = 0; i < SENDERS * MAILS; i++) {
        const struct note *const note = (struct note *)mailbox_take(mailbox, true);
        assert_int_equal(note->number, next[note->sender]++);
    }
    for (int s = 0; s < SENDERS; s++) {
        pthread_join(threads[s], NULL);
    }
    assert_null(mailbox_take(mailbox, false));
    assert_false(readable(mailbox));
    mailbox_close(mailbox);
}

// A taker that waits is woken by the stop.
static void test_stop_wakes_those_that_wait(void **state)
{
    (void)state;
    struct mailbox *mailbox = NULL;
    pthread_t waiting[2];
    assert_int_equal(mailbox_open(&mailbox), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&waiting[i], NULL, wait_for_end, mailbox), 0);
    }
    mailbox_stop(mailbox);
    for (int i = 0; i < 2; i++) {
        void *got = mailbox;
        pthread_join(waiting[i], &got);
        assert_null(got);
    }
    mailbox_close(mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_descriptor),
        cmocka_unit_test(test_stop_gives_out_what_is_left),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_stop_wakes_those_that_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
