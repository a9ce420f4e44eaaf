// coordinator/mailbox.c: see mailbox.h.
#include "coordinator/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct mail *first, *last;
    bool stopped;
    int fd;
};

enum err mailbox_open(struct mailbox **mailbox_out)
{
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        FAIL(ERR_IO, "eventfd: %s", strerror(errno));
    }
    struct mailbox *const mailbox = mem_alloc(1, sizeof *mailbox);
    pthread_mutex_init(&mailbox->lock, NULL);
    pthread_cond_init(&mailbox->filled, NULL);
    mailbox->fd = fd;
    *mailbox_out = mailbox;
    return OK;
}

void mailbox_close(struct mailbox *mailbox)
{
    if (mailbox != NULL) {
        close(mailbox->fd);
        pthread_cond_destroy(&mailbox->filled);
        pthread_mutex_destroy(&mailbox->lock);
        mem_free(mailbox);
    }
}

void mailbox_put_all(struct mailbox *mailbox, struct mail *first, struct mail *last)
{
    const uint64_t one = 1;
    last->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->last == NULL) {
        mailbox->first = first;
        CHECK(write(mailbox->fd, &one, sizeof one) == (ssize_t)sizeof one);
    } else {
        mailbox->last->next = first;
    }
    mailbox->last = last;
    pthread_cond_signal(&mailbox->filled);
    pthread_mutex_unlock(&mailbox->lock);
}

void mailbox_put(struct mailbox *mailbox, struct mail *mail)
{
    mailbox_put_all(mailbox, mail, mail);
}

// The lock is held.
static struct mail *take(struct mailbox *mailbox)
{
    struct mail *const mail = mailbox->first;
    if (mail != NULL) {
        mailbox->first = mail->next;
        if (mailbox->first == NULL) {
            uint64_t drained;
            mailbox->last = NULL;
            CHECK(read(mailbox->fd, &drained, sizeof drained) == (ssize_t)sizeof drained);
        }
    }
    return mail;
}

struct mail *mailbox_take(struct mailbox *mailbox, bool wait)
{
    pthread_mutex_lock(&mailbox->lock);
    while (wait && mailbox->first == NULL && !mailbox->stopped) {
        pthread_cond_wait(&mailbox->filled, &mailbox->lock);
    }
    struct mail *const mail = take(mailbox);
    pthread_mutex_unlock(&mailbox->lock);
    return mail;
}

struct mail *mailbox_take_until(struct mailbox *mailbox, int64_t until_us)
{
    const struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    int waited = 0;
    pthread_mutex_lock(&mailbox->lock);
    while (mailbox->first == NULL && !mailbox->stopped && waited == 0) {
        waited = pthread_cond_clockwait(&mailbox->filled, &mailbox->lock, CLOCK_MONOTONIC, &until);
    }
    struct mail *const mail = take(mailbox);
    pthread_mutex_unlock(&mailbox->lock);
    return mail;
}

void mailbox_stop(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    mailbox->stopped = true;
    pthread_cond_broadcast(&mailbox->filled);
    pthread_mutex_unlock(&mailbox->lock);
}

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->fd;
}
