// client/cmd_hold.c: legal holds: hold, hold release, hold list.
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "client/commands.h"
#include "client/grid.h"
#include "proto/wire.h"

struct hold {
    struct ctl_globals globals;
    const char *record, *subject;
    const char *reason; // hold alone.
};

#define WHOM_OPTIONS                                                                               \
    {"record", 1200, "ID", "The record of this id", ARGS_TEXT, offsetof(struct hold, record), 0},  \
    {                                                                                              \
        "subject", 1201, "S", "All records of this person, later ones too", ARGS_TEXT,             \
            offsetof(struct hold, subject), 0                                                      \
    }

static const struct args_option hold_options[] = {
    CTL_GLOBAL_OPTIONS,
    WHOM_OPTIONS,
    {"reason", 1202, "TEXT", "Why: told to whoever asks for the deletion", ARGS_TEXT,
     offsetof(struct hold, reason), 0},
};

static const struct args_option release_options[] = {CTL_GLOBAL_OPTIONS, WHOM_OPTIONS};

static enum err check_whom(const struct hold *hold)
{
    if ((hold->record != NULL) == (hold->subject != NULL)) {
        FAIL(ERR_INVALID, "%s, expected either --record or --subject",
             hold->record == NULL ? "nobody is given" : "both are given");
    }
    return OK;
}

static json_t *hold_json(const Unlearn__HoldState *state)
{
    json_t *const answer = json_pack("{s:s, s:s}", state->record[0] != '\0' ? "record" : "subject",
                                     state->record[0] != '\0' ? state->record : state->subject,
                                     "reason", state->reason);
    json_object_set_new(answer, "held_at", ctl_time(state->held_us));
    return answer;
}

// --- hold ---

static enum err run_hold(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct hold *const hold = options;
    const Unlearn__HoldState *state;
    TRY(check_whom(hold));
    if (hold->reason == NULL) {
        FAIL(ERR_INVALID, "why? give a reason with --reason: it is told to whoever asks for the "
                          "deletion");
    }
    TRY(ctl_connect(ctl));
    TRY(unlearn_hold_put(ctl->client, words->texts[0], hold->record, hold->subject, hold->reason,
                         &state));
    if (ctl->json) {
        ctl_print(hold_json(state));
        return OK;
    }
    char since[TEXT_TIME_BYTES];
    text_time(state->held_us, since);
    printf("on hold since %s: no request deletes it until `unlearnctl hold release`\n", since);
    return OK;
}

const struct ctl_command cmd_hold = {
    .name = "hold",
    .summary = "Put a person or a record on legal hold: deletion is refused",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help =
        "What is on hold stays: a deletion that names nothing else is refused (exit code 4) with "
        "the reason, and of a larger one the rest is deleted. A hold on a person covers all of "
        "their records; a hold on a record covers that one alone, also where all of the "
        "person's are to be deleted. A dataset with a hold is not removed. Exit code 3 where no "
        "such record is there, or it was deleted.\n\n"
        "Examples:\n"
        "  unlearnctl hold people --subject alice --reason \"case 17/2026\"\n"
        "  unlearnctl hold people --record 1804 --reason \"case 17/2026\"\n"
        "  unlearnctl hold list people\n"
        "  unlearnctl hold release people --subject alice",
    .options = hold_options,
    .option_count = sizeof hold_options / sizeof hold_options[0],
    .options_bytes = sizeof(struct hold),
    .run = run_hold,
};

// --- hold release ---

static enum err run_release(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct hold *const hold = options;
    const Unlearn__HoldState *state;
    TRY(check_whom(hold));
    TRY(ctl_connect(ctl));
    TRY(unlearn_hold_release(ctl->client, words->texts[0], hold->record, hold->subject, &state));
    if (ctl->json) {
        ctl_print(json_pack("{s:s, s:b}", hold->record != NULL ? "record" : "subject",
                            hold->record != NULL ? hold->record : hold->subject, "released", 1));
        return OK;
    }
    printf("released: it can be deleted again\n");
    return OK;
}

const struct ctl_command cmd_hold_release = {
    .name = "hold release",
    .summary = "Release a legal hold",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help = "What was refused meanwhile is not deleted by this: ask again. Exit code 3 where it is "
            "not on hold.\n\n"
            "Example:\n  unlearnctl hold release people --subject alice",
    .options = release_options,
    .option_count = sizeof release_options / sizeof release_options[0],
    .options_bytes = sizeof(struct hold),
    .run = run_release,
};

// --- hold list ---

static enum err pull_all(struct ctl *ctl, const char *dataset, struct buf *next, json_t *rows,
                         struct grid *grid)
{
    for (bool last = false; !last;) {
        const Unlearn__HoldPage *page;
        TRY(unlearn_hold_list(ctl->client, dataset, buf_span(next), &page));
        for (size_t i = 0; i < page->n_holds; i++) {
            const Unlearn__HoldState *const state = page->holds[i];
            char since[TEXT_TIME_BYTES];
            text_time(state->held_us, since);
            json_array_append_new(rows, hold_json(state));
            grid_cell(grid, "%s", state->record[0] != '\0' ? "record" : "subject");
            grid_cell(grid, "%s", state->record[0] != '\0' ? state->record : state->subject);
            grid_cell(grid, "%s", since);
            grid_cell(grid, "%s", state->reason);
        }
        last = page->last;
        if (!last && page->n_holds == 0) {
            FAIL(ERR_CORRUPT, "the coordinator sent an empty page before the last");
        }
        buf_clear(next);
        buf_put(next, wire_span(page->next));
    }
    return OK;
}

static enum err run_list(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    struct buf next = {0};
    json_t *const rows = json_array();
    struct grid *const grid = grid_new("HOLD|OF|SINCE|REASON");
    const enum err err = pull_all(ctl, words->texts[0], &next, rows, grid);
    json_t *const answer = json_pack("{s:s, s:o}", "dataset", words->texts[0], "holds", rows);
    ctl_finish_list(ctl, err, answer, grid);
    buf_deinit(&next);
    return err;
}

const struct ctl_command cmd_hold_list = {
    .name = "hold list",
    .summary = "List a dataset's legal holds",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help = "Example:\n  unlearnctl hold list people --json",
    .run = run_list,
};
