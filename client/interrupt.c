// client/interrupt.c: see interrupt.h.
#include "client/interrupt.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

static volatile sig_atomic_t came; // A signal handler has no other place to write to.

static void note(int number)
{
    came = number;
}

void interrupt_watch(void)
{
    // The handler serves once: the second signal finds the default again.
    struct sigaction action = {.sa_handler = note, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction before;
        const bool nohup = numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &before) == 0 &&
                           before.sa_handler == SIG_IGN;
        if (!nohup) { // But SIGINT: shells ignore it for what runs in the background.
            (void)sigaction(numbers[i], &action, NULL);
        }
    }
}

enum err interrupt_check(void)
{
    if (came != 0) {
        FAIL(ERR_CANCELLED, "interrupted by signal %d", (int)came);
    }
    return OK;
}
