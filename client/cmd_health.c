// client/cmd_health.c: the command health, for probes.
#include <stdio.h>

#include "base/limits.h"
#include "client/commands.h"

struct health {
    struct ctl_globals globals;
    bool ready;
    struct args_u64 workers;
};

static const struct args_option option_table[] = {
    CTL_GLOBAL_OPTIONS,
    {"ready", 1200, NULL, "Fail also while the coordinator is about to end", ARGS_FLAG,
     offsetof(struct health, ready), 0},
    {"workers", 1201, "N", "Fail also with fewer than N workers; implies --ready", ARGS_U64,
     offsetof(struct health, workers), LIMIT_WORKERS},
};

static enum err run_health(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)words;
    const struct health *const health = options;
    TRY(ctl_connect(ctl));
    const Unlearn__Pong *pong;
    TRY(unlearn_ping(ctl->client, &pong));
    const bool few = health->workers.given && pong->workers < health->workers.value;
    const bool ready = !pong->draining && !few;
    if ((health->ready || health->workers.given) && !ready) {
        if (pong->draining) {
            FAIL(ERR_UNAVAILABLE, "the coordinator is about to end");
        }
        FAIL(ERR_UNAVAILABLE, "%u workers have joined, expected at least %llu", pong->workers,
             (unsigned long long)health->workers.value);
    }
    if (ctl->json) {
        ctl_print(json_pack("{s:b, s:b, s:b, s:I, s:I, s:s}", "alive", 1, "ready", (int)ready,
                            "draining", (int)pong->draining, "workers", (json_int_t)pong->workers,
                            "epoch", (json_int_t)pong->epoch, "build", pong->build));
    } else {
        printf("alive, %s: %u workers, epoch %llu, build %s\n",
               pong->draining ? "about to end"
               : ready        ? "ready"
                              : "not ready",
               pong->workers, (unsigned long long)pong->epoch, pong->build);
    }
    return OK;
}

const struct ctl_command cmd_health = {
    .name = "health",
    .summary = "Tell probes whether the coordinator lives, and whether it is ready",
    .help = "Alive: it answers. Ready: it is not about to end, and has the workers that are asked "
            "for. Not "
            "alive, or not ready where that is asked for: exit code 5.\n\n"
            "Examples:\n"
            "  unlearnctl health\n"
            "  unlearnctl health --ready --workers 4 --json",
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
    .options_bytes = sizeof(struct health),
    .run = run_health,
};
