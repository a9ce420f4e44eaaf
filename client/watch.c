// client/watch.c: see watch.h.
#include "client/watch.h"

#include <time.h>

#include "base/clock.h"
#include "client/interrupt.h"

enum {
    PAUSE_MS_MIN = 100, // A small training takes about that long.
    PAUSE_MS_MAX = 1000,
    COUNT_MS = 2000,   // Between two counts of the workers.
    NOBODY_MS = 30000, // A fleet that restarts after a lost rank is back sooner.
};

void watch_init(struct watch *watch)
{
    const int64_t now_ms = clock_mono_ms();
    *watch = (struct watch){now_ms, now_ms, now_ms};
}

// A hundredth of the time waited so far, within bounds.
static int64_t pause_ms(int64_t waited_ms)
{
    const int64_t pause = waited_ms / 100;
    return pause < PAUSE_MS_MIN ? PAUSE_MS_MIN : pause > PAUSE_MS_MAX ? PAUSE_MS_MAX : pause;
}

static enum err count_workers(struct watch *watch, struct unlearn *client, int64_t now_ms)
{
    const Unlearn__Pong *pong;
    TRY(unlearn_ping(client, &pong));
    watch->asked_ms = now_ms;
    if (pong->workers > 0) {
        watch->worker_ms = now_ms;
    } else if (now_ms - watch->worker_ms >= NOBODY_MS) {
        FAIL(ERR_UNAVAILABLE,
             "no worker has joined for %d s: start one with unlearn-fleet; the "
             "work goes on by itself then",
             NOBODY_MS / 1000);
    }
    return OK;
}

enum err watch_pause(struct watch *watch, struct unlearn *client, bool needs_workers)
{
    const int64_t pause = pause_ms(clock_mono_ms() - watch->began_ms);
    nanosleep(&(struct timespec){pause / 1000, pause % 1000 * 1000000}, NULL);
    TRY(interrupt_check());
    const int64_t now_ms = clock_mono_ms();
    return needs_workers && now_ms - watch->asked_ms >= COUNT_MS
               ? count_workers(watch, client, now_ms)
               : OK;
}
