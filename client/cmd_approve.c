// client/cmd_approve.c: approve and refuse: the second person's word on a large deletion.
#include <stddef.h>

#include "base/text.h"
#include "client/ack.h"
#include "client/commands.h"
#include "client/show.h"
#include "client/watch.h"

static enum err decide(struct ctl *ctl, const struct args_list *words, bool refuse)
{
    const Unlearn__RequestState *state;
    struct id128 uuid;
    TRY_AS(text_uuid(words->texts[0], &uuid), "REQUEST");
    TRY(ctl_connect(ctl));
    TRY(unlearn_approve(ctl->client, &uuid, refuse, &state));
    if (!refuse) {
        ack_check(ctl, &uuid, state->accepted);
    }
    struct watch watch;
    watch_init(&watch);
    while (state->phase == UNLEARN__REQUEST_PHASE__REQUEST_PHASE_RETURNING) {
        TRY(watch_pause(&watch, ctl->client, false));
        TRY(unlearn_request_show(ctl->client, &uuid, &state));
    }
    show_request(ctl, state);
    if (!refuse) {
        ack_check_history(ctl);
    }
    return OK;
}

static enum err run_approve(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    return decide(ctl, words, false);
}

static enum err run_refuse(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    return decide(ctl, words, true);
}

#define WHAT_WAITS                                                                                 \
    "A deletion of more records than approve_above in DIR/config.yaml waits as "                   \
    "awaiting_approval: its records are hidden and answers do not depend on them any more, but "   \
    "nothing is erased. "

const struct ctl_command cmd_approve = {
    .name = "approve",
    .summary = "Agree to a large deletion that somebody else has asked for",
    .words = "REQUEST",
    .words_min = 1,
    .words_max = 1,
    .help =
        WHAT_WAITS "Approved it is erased like any other, and gets its receipts. Exit code 3 where "
                   "there is no such request; 4 where this key asked for the deletion itself, or "
                   "where it was refused before.\n\n"
                   "Example:\n"
                   "  unlearnctl approve 7f1d1a52-2c55-4c0e-9d61-0c5a3b0f8a11",
    .run = run_approve,
};

const struct ctl_command cmd_refuse = {
    .name = "refuse",
    .summary = "Refuse a large deletion that waits for approval",
    .words = "REQUEST",
    .words_min = 1,
    .words_max = 1,
    .help =
        WHAT_WAITS "Refused its records are visible again, but for those of which another request "
                   "has asked meanwhile that their subject be deleted, and what was trained "
                   "without them is trained anew. So it is when nobody approves it within "
                   "approve_hours. Who asked for it may refuse it, too. Exit code 3 where there is "
                   "no such request; 4 where it was approved before, or needed no approval.\n\n"
                   "Example:\n"
                   "  unlearnctl refuse 7f1d1a52-2c55-4c0e-9d61-0c5a3b0f8a11",
    .run = run_refuse,
};
