// client/cmd_delete.c: plan and delete: what forgetting would cost, and forgetting.
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/ack.h"
#include "client/commands.h"
#include "client/files.h"
#include "client/interrupt.h"
#include "client/show.h"
#include "client/source.h"
#include "client/watch.h"
#include "proto/wire.h"

// --- Whom it is about ---

struct whom {
    struct args_list records, subjects;
    const char *csv; // delete only
};

struct plan {
    struct ctl_globals globals;
    struct whom whom;
};

struct delete
{
    struct ctl_globals globals;
    struct whom whom;
    const char *wait, *uuid, *receipt, *due, *answers;
};

#define WHOM_OPTIONS(type)                                                                         \
    {"record",  1200,                                                                              \
     "ID...",   "Records by id; may be repeated",                                                  \
     ARGS_LIST, offsetof(type, whom.records),                                                      \
     0},                                                                                           \
    {                                                                                              \
        "subject", 1201, "S...", "All records of these people; may be repeated", ARGS_LIST,        \
            offsetof(type, whom.subjects), 0                                                       \
    }

static enum err check_whom(const struct whom *whom, const char *expected)
{
    const int kinds = (whom->records.count > 0) + (whom->subjects.count > 0) + (whom->csv != NULL);
    if (kinds != 1) {
        FAIL(ERR_INVALID, "%s given, expected one of %s",
             kinds == 0 ? "nobody is" : "several kinds are", expected);
    }
    return OK;
}

static struct unlearn_ids ids_of(const struct args_list *list)
{
    return (struct unlearn_ids){list->texts, list->count};
}

// --- plan ---

static const struct args_option plan_options[] = {CTL_GLOBAL_OPTIONS, WHOM_OPTIONS(struct plan)};

static enum err run_plan(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct plan *const plan = options;
    TRY(check_whom(&plan->whom, "--record, --subject"));
    TRY(ctl_connect(ctl));
    const Unlearn__PlanCost *cost;
    TRY(unlearn_plan(ctl->client, words->texts[0], ids_of(&plan->whom.records),
                     ids_of(&plan->whom.subjects), &cost));
    if (ctl->json) {
        ctl_print(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "dataset", words->texts[0], "records",
            (json_int_t)cost->records, "records_held", (json_int_t)cost->records_held,
            "components_invalidated", (json_int_t)cost->components_invalidated,
            "samples_to_retrain", (json_int_t)cost->samples_to_retrain, "samples_from_scratch",
            (json_int_t)cost->samples_from_scratch, "seconds_estimated", cost->seconds_estimated,
            "seconds_error", cost->seconds_error, "seconds_wall", cost->seconds_wall));
        return OK;
    }
    printf("records       %llu to delete", (unsigned long long)cost->records);
    if (cost->records_held > 0) {
        printf("; %llu on legal hold would stay", (unsigned long long)cost->records_held);
    }
    putchar('\n');
    printf("components    %u to train again\n", cost->components_invalidated);
    printf("samples       %llu to train; everything anew would be %llu\n",
           (unsigned long long)cost->samples_to_retrain,
           (unsigned long long)cost->samples_from_scratch);
    if (cost->seconds_estimated > 0) {
        printf("work          about %.2f s of one rank, give or take %.0f %%\n",
               cost->seconds_estimated, 100 * cost->seconds_error);
    }
    if (cost->seconds_wall > 0) {
        printf("time          about %.2f s on the ranks that are there, if they do nothing else\n",
               cost->seconds_wall);
    }
    return OK;
}

const struct ctl_command cmd_plan = {
    .name = "plan",
    .summary = "Show what a deletion would cost; changes nothing",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help = "Examples:\n"
            "  unlearnctl plan adult --record 17 1804\n"
            "  unlearnctl plan digits --subject writer-003",
    .options = plan_options,
    .option_count = sizeof plan_options / sizeof plan_options[0],
    .options_bytes = sizeof(struct plan),
    .run = run_plan,
};

// --- delete ---

static const struct args_option delete_options[] = {
    CTL_GLOBAL_OPTIONS,
    WHOM_OPTIONS(struct delete),
    {"from-csv", 1202, "FILE",
     "Records by id: one a line, the first column; a first line `id` is "
     "passed over",
     ARGS_TEXT, offsetof(struct delete, whom.csv), 0},
    {"wait", 1203, "STATE", "fenced (default), erased, repaired or completed", ARGS_TEXT,
     offsetof(struct delete, wait), 0},
    {"request", 1204, "UUID",
     "The request's own name: the same again is the same request "
     "(default: drawn at random)",
     ARGS_TEXT, offsetof(struct delete, uuid), 0},
    {"due", 1206, "WHEN",
     "When it has to be carried out: gdpr (a month), ccpa (45 days), 30d, 12h, 2026-12-24, "
     "2026-12-24T18:00:00Z (default: `due` of the cluster's settings)",
     ARGS_TEXT, offsetof(struct delete, due), 0},
    {"receipt", 1205, "FILE", "Write the accepted receipt to FILE, for receipt verify", ARGS_TEXT,
     offsetof(struct delete, receipt), 0},
    {"answers", 1207, "FILE",
     "Write what became of each id to FILE, a CSV: deleted, already deleted, not found or held",
     ARGS_TEXT, offsetof(struct delete, answers), 0},
};

static enum err phase_of(const char *text, Unlearn__RequestPhase *phase_out)
{
    *phase_out = UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED;
    if (text == NULL) {
        return OK;
    }
    for (int i = UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED;
         i <= UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED; i++) {
        if (strcmp(text, show_phase((Unlearn__RequestPhase)i)) == 0) {
            *phase_out = (Unlearn__RequestPhase)i;
            return OK;
        }
    }
    FAIL(ERR_INVALID, "--wait is \"%.40s\", expected fenced, erased, repaired or completed", text);
}

// The first column of a line: up to the comma, or what stands in quotes.
static enum err first_column(const char *path, uint64_t number, struct buf *line, char **text_out)
{
    buf_u8(line, 0);
    char *text = (char *)line->data;
    if (text[0] == '"') {
        char *const end = strchr(++text, '"');
        if (end == NULL || (end[1] != ',' && end[1] != '\0')) {
            FAIL(ERR_INVALID, "%s line %llu: a quoted id that does not end, or holds a quote", path,
                 (unsigned long long)number);
        }
        *end = '\0';
    } else {
        text[strcspn(text, ",")] = '\0';
    }
    TRY_AS(text_check_name("the id", span_text(text)), "%s line %llu", path,
           (unsigned long long)number);
    *text_out = text;
    return OK;
}

static enum err read_ids_from(struct source *source, struct buf *line, struct args_list *ids)
{
    for (;;) {
        bool more;
        char *text = NULL;
        TRY(source_line(source, line, &more));
        if (!more) {
            break;
        }
        if (line->bytes == 0) {
            continue;
        }
        TRY(first_column(source->path, source->line, line, &text));
        if (source->line == 1 && strcmp(text, "id") == 0) {
            continue;
        }
        if (ids->count == LIMIT_DELETE_IDS) {
            FAIL(ERR_LIMIT, "%s has more than %d ids", source->path, (int)LIMIT_DELETE_IDS);
        }
        args_list_add(ids, mem_text(text));
    }
    if (ids->count == 0) {
        FAIL(ERR_INVALID, "%s has no id", source->path);
    }
    return OK;
}

// Reads the ids of a file; the texts in *ids are owned, also on error.
static enum err read_ids(const char *path, struct args_list *ids)
{
    struct source *source;
    TRY(source_open(path, &source));
    struct buf line = {0};
    const enum err err = read_ids_from(source, &line, ids);
    buf_deinit(&line);
    source_close(source);
    return err;
}

// Whether the request may yet get that far. What waits for approval is fenced, and no further.
static bool is_before(const Unlearn__RequestState *state, Unlearn__RequestPhase phase)
{
    return state->phase == UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL
               ? phase > UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED
               : state->phase < phase;
}

static enum err wait_phase(struct ctl *ctl, const struct id128 *uuid, Unlearn__RequestPhase phase,
                           const Unlearn__RequestState **state)
{
    struct progress progress;
    struct watch watch;
    progress_init(&progress, "repairing", "samples", ctl_progress(ctl));
    watch_init(&watch);
    enum err err = OK;
    uint64_t most = 0; // The greatest number of samples left so far stands for the whole.
    while (err == OK && is_before(*state, phase)) {
        const uint64_t left = (*state)->samples_left;
        most = left > most ? left : most;
        if (most > 0) {
            progress_step(&progress, most - left, most, clock_mono_ms());
        }
        if ((*state)->problem[0] != '\0') {
            err = err_raise(ERR_IO, "the repair does not get on: %s", (*state)->problem);
            break;
        }
        const bool decided =
            (*state)->phase != UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL;
        err = watch_pause(&watch, ctl->client, decided && (*state)->components_awaited > 0);
        if (err == OK) {
            err = unlearn_request_show(ctl->client, uuid, state);
        }
    }
    progress_end(&progress);
    if (err == OK && (*state)->phase > UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL) {
        FAIL(ERR_CONFLICT, "the deletion was refused: its records are there again");
    }
    return err;
}

// --- What became of each id ---

static const char *answer_text(uint8_t answer)
{
    static const char *const texts[] = {NULL, "deleted", "already deleted", "not found", "held"};
    return answer < sizeof texts / sizeof texts[0] ? texts[answer] : NULL;
}

// A field of CSV: quoted where it must be.
static void put_field(struct buf *csv, const char *text)
{
    if (strpbrk(text, ",\"") == NULL) {
        buf_put(csv, span_text(text));
        return;
    }
    buf_u8(csv, '"');
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"') {
            buf_u8(csv, '"');
        }
        buf_u8(csv, (uint8_t)*at);
    }
    buf_u8(csv, '"');
}

static enum err put_answers(const Unlearn__AnswerPage *page, struct unlearn_ids records,
                            struct unlearn_ids subjects, size_t *at, struct buf *csv)
{
    const size_t total = records.count + subjects.count;
    if (page->total != total || page->answers.len == 0 || page->answers.len > total - *at) {
        FAIL(ERR_CORRUPT, "the coordinator sent %zu of %u answers, expected some of %zu",
             page->answers.len, page->total, total);
    }
    for (size_t i = 0; i < page->answers.len; i++, ++*at) {
        const char *const text = answer_text(page->answers.data[i]);
        if (text == NULL) {
            FAIL(ERR_CORRUPT, "the coordinator sent answer %u, expected 1 to 4",
                 page->answers.data[i]);
        }
        put_field(csv,
                  *at < records.count ? records.texts[*at] : subjects.texts[*at - records.count]);
        buf_u8(csv, ',');
        buf_put(csv, span_text(text));
        buf_u8(csv, '\n');
    }
    return OK;
}

static enum err pull_answers(struct ctl *ctl, const struct id128 *uuid, struct unlearn_ids records,
                             struct unlearn_ids subjects, struct buf *csv)
{
    buf_put(csv, span_text("id,answer\n"));
    for (size_t at = 0; at < records.count + subjects.count;) {
        const Unlearn__AnswerPage *page;
        TRY(unlearn_answers_get(ctl->client, uuid, (uint32_t)at, &page));
        TRY(put_answers(page, records, subjects, &at, csv));
    }
    return OK;
}

static enum err write_answers(struct ctl *ctl, const char *path, const struct id128 *uuid,
                              struct unlearn_ids records, struct unlearn_ids subjects)
{
    struct buf csv = {0};
    enum err err = pull_answers(ctl, uuid, records, subjects, &csv);
    if (err == OK) {
        err = files_write(path, buf_span(&csv));
    }
    buf_deinit(&csv);
    return err;
}

static enum err delete_and_wait(struct ctl *ctl, const struct delete *options, const char *dataset,
                                const struct id128 *uuid, struct unlearn_ids records,
                                Unlearn__RequestPhase phase)
{
    const struct unlearn_terms terms = {
        .eager = phase >= UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REPAIRED, .due = options->due};
    const Unlearn__RequestState *state;
    TRY(unlearn_delete(ctl->client, dataset, uuid, records, ids_of(&options->whom.subjects), &terms,
                       &state));
    const bool stands = state->phase <= UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED;
    if (stands) {
        ack_check(ctl, uuid, state->accepted);
    } else if (options->receipt != NULL) {
        fprintf(stderr, "unlearnctl: no receipt is written: the request waits for approval\n");
    }
    if (options->receipt != NULL && stands) {
        TRY(files_write(options->receipt, wire_span(state->accepted)));
    }
    if (options->answers != NULL) {
        TRY(write_answers(ctl, options->answers, uuid, records, ids_of(&options->whom.subjects)));
        TRY(unlearn_request_show(ctl->client, uuid, &state));
    }
    TRY(wait_phase(ctl, uuid, phase, &state));
    show_request(ctl, state);
    ack_check_history(ctl);
    return OK;
}

static enum err run_with_ids(struct ctl *ctl, const struct delete *options, const char *dataset,
                             struct unlearn_ids records)
{
    Unlearn__RequestPhase phase;
    struct id128 uuid;
    TRY(phase_of(options->wait, &phase));
    if (options->uuid != NULL) {
        TRY_AS(text_uuid(options->uuid, &uuid), "--request");
    } else {
        uuid = text_uuid_new();
    }
    TRY(ctl_connect(ctl));
    interrupt_watch();
    char text[TEXT_UUID_BYTES];
    text_uuid_put(&uuid, text);
    const enum err err = delete_and_wait(ctl, options, dataset, &uuid, records, phase);
    // Whoever has no answer must be able to ask again under the same name.
    return err == ERR_UNAVAILABLE || err == ERR_IO || err == ERR_CANCELLED
               ? err_context(err, "request %s", text)
               : err;
}

static enum err run_delete(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct delete *const delete = options;
    TRY(check_whom(&delete->whom, "--record, --subject, --from-csv"));
    if (delete->whom.csv == NULL) {
        return run_with_ids(ctl, delete, words->texts[0], ids_of(&delete->whom.records));
    }
    struct args_list ids = {0};
    enum err err = read_ids(delete->whom.csv, &ids);
    if (err == OK) {
        err = run_with_ids(ctl, delete, words->texts[0], ids_of(&ids));
    }
    for (size_t i = 0; i < ids.count; i++) {
        mem_free((void *)(uintptr_t)ids.texts[i]);
    }
    mem_free(ids.texts);
    return err;
}

const struct ctl_command cmd_delete = {
    .name = "delete",
    .summary = "Delete records or people, and what was learnt from them",
    .words = "DATASET",
    .words_min = 1,
    .words_max = 1,
    .help =
        "States: fenced (acknowledged: no answer depends on them any more), erased (their "
        "bytes are gone), repaired (every component that had seen them is trained anew), "
        "completed. The work goes on by itself, also when this command ends before. A due date "
        "orders "
        "the repairs; where it cannot be kept, the answer and `status` say so. --wait repaired, or "
        "more, has it repaired at once. A file may name 1048576 ids; the same id several times is "
        "deleted once and has the same answer each time. Where the settings say so "
        "(approve_above), a "
        "deletion of many records waits as awaiting_approval, its records hidden and nothing "
        "erased, "
        "until somebody else approves it (unlearnctl approve). Exit code "
        "3 where nothing of it is known; 4 where a base was pre-trained on the dataset, which must "
        "be retired first, or where all of it that is there is on hold (unlearnctl hold), or it "
        "was refused while this command waited; 1 "
        "where the deletion is accepted but its receipt or "
        "the receipt log cannot be trusted.\n\n"
        "Examples:\n"
        "  unlearnctl delete adult --record 17 1804 --wait repaired\n"
        "  unlearnctl delete digits --subject writer-003 --due ccpa\n"
        "  unlearnctl delete adult --from-csv ids.csv --answers answers.csv --request "
        "7f1d1a52-2c55-4c0e-9d61-0c5a3b0f8a11",
    .options = delete_options,
    .option_count = sizeof delete_options / sizeof delete_options[0],
    .options_bytes = sizeof(struct delete),
    .run = run_delete,
};
