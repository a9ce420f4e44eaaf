// coordinator/mailbox.h: the one place where work crosses between threads.
//
// A bounded queue of things handed over whole: before mailbox_put the sender owns a mail, after it
// the taker does. An eventfd becomes readable while something waits, so that the main loop can wait
// for it beside its sockets.
//
// Lifetime  mailbox_open to mailbox_close, when no thread uses it any more. Threads  Any.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct mail { // First member of whatever is sent.
    struct mail *next;
};

struct mailbox;

MUST_USE enum err mailbox_open(struct mailbox **mailbox_out);
void mailbox_close(struct mailbox *mailbox); // Accepts NULL. Mails still inside are not freed.

void mailbox_put(struct mailbox *mailbox, struct mail *mail);
// The same of a chain of them, linked by `next`, from `first` to `last`: at once.
void mailbox_put_all(struct mailbox *mailbox, struct mail *first, struct mail *last);
// The oldest mail, or NULL. With `wait` blocks until there is one or mailbox_stop was called.
struct mail *mailbox_take(struct mailbox *mailbox, bool wait);
// The same, or NULL when none came until that time (clock_mono_us).
struct mail *mailbox_take_until(struct mailbox *mailbox, int64_t until_us);
void mailbox_stop(struct mailbox *mailbox);    // Later waits return NULL once it is empty.
int mailbox_fd(const struct mailbox *mailbox); // Readable while not empty.
