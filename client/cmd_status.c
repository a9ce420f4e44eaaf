// client/cmd_status.c: status: of the cluster, of a model, of a request.
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "client/commands.h"
#include "client/grid.h"
#include "client/interrupt.h"
#include "client/show.h"

enum { WATCH_S = 1 };

struct status {
    struct ctl_globals globals;
    bool watch;
};

static const struct args_option status_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"watch", 1200, NULL, "Again every second, until it is done or Ctrl-C", ARGS_FLAG,
     offsetof(struct status, watch), 0},
};

// --- The cluster ---

// What happened since the start, or in the last minute; seconds: how long that is.
static json_t *activity_json(const Unlearn__Activity *a, double uptime, bool minute)
{
    const double seconds = minute && uptime > 60 ? 60 : uptime;
    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:f}", "seconds", seconds, "samples",
                     (json_int_t)(minute ? a->samples_minute : a->samples), "components",
                     (json_int_t)(minute ? a->components_minute : a->components), "deletions",
                     (json_int_t)(minute ? a->deletions_minute : a->deletions), "stages_cancelled",
                     (json_int_t)(minute ? a->cancelled_minute : a->cancelled), "samples_wasted",
                     (json_int_t)(minute ? a->samples_wasted_minute : a->samples_wasted),
                     "longest_turn_ms", (double)(minute ? a->turn_us_minute : a->turn_us) / 1000);
}

static json_t *cluster_json(const struct ctl *ctl, const Unlearn__Cluster *cluster)
{
    json_t *const workers = json_array();
    for (size_t i = 0; i < cluster->n_workers; i++) {
        const Unlearn__Worker *const worker = cluster->workers[i];
        json_t *const ranks = json_array();
        for (size_t j = 0; j < worker->n_group_ranks; j++) {
            json_array_append_new(ranks, json_integer(worker->group_ranks[j]));
        }
        json_array_append_new(workers,
                              json_pack("{s:s, s:I, s:s, s:f, s:o}", "name", worker->name, "rank",
                                        (json_int_t)worker->rank, "task", worker->task, "share",
                                        worker->share, "group_ranks", ranks));
    }
    json_t *const answer = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:o}", "address",
        unlearn_endpoint(ctl->client), "build", cluster->build, "epoch", (json_int_t)cluster->epoch,
        "datasets", (json_int_t)cluster->datasets, "models", (json_int_t)cluster->models,
        "requests_open", (json_int_t)cluster->requests_open, "fleets", (json_int_t)cluster->fleets,
        "store_bytes", (json_int_t)cluster->store_bytes, "map_bytes",
        (json_int_t)cluster->map_bytes, "core", cluster->core, "uptime_seconds",
        cluster->uptime_seconds, "workers", workers);
    json_object_set_new(answer, "profile", ctl_hex(cluster->profile));
    if (cluster->activity != NULL) {
        const double uptime = cluster->uptime_seconds;
        json_object_set_new(answer, "since_start", activity_json(cluster->activity, uptime, false));
        json_object_set_new(answer, "last_minute", activity_json(cluster->activity, uptime, true));
    }
    return answer;
}

// "model s0:[1]", with the ranks that share it: ", ranks 0 1 2 3".
static void task_cell(struct grid *grid, const Unlearn__Worker *worker)
{
    char ranks[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < worker->n_group_ranks && used < sizeof ranks - 24; i++) {
        used += (size_t)snprintf(ranks + used, sizeof ranks - used, "%s %u",
                                 i == 0 ? ", ranks" : "", worker->group_ranks[i]);
    }
    grid_cell(grid, "%s%s", worker->task[0] == '\0' ? "idle" : worker->task, ranks);
}

static void print_cluster(const struct ctl *ctl, const Unlearn__Cluster *cluster)
{
    char used[PROGRESS_COUNT_BYTES];
    progress_count((double)cluster->store_bytes, used);
    printf("coordinator  %s, up %.0f s, epoch %llu\n", unlearn_endpoint(ctl->client),
           cluster->uptime_seconds, (unsigned long long)cluster->epoch);
    printf("holds        %u datasets, %u models, %u open requests, store %sB\n", cluster->datasets,
           cluster->models, cluster->requests_open, used);
    printf("workers      %zu in %u fleets, core %s\n", cluster->n_workers, cluster->fleets,
           cluster->core[0] == '\0' ? "not known yet" : cluster->core);
    if (cluster->n_workers == 0) {
        return;
    }
    putchar('\n');
    struct grid *const grid = grid_new("WORKER|>RANK|>DONE|TASK");
    for (size_t i = 0; i < cluster->n_workers; i++) {
        const Unlearn__Worker *const worker = cluster->workers[i];
        const bool idle = worker->task[0] == '\0';
        grid_cell(grid, "%s", worker->name);
        grid_cell(grid, "%u", worker->rank);
        grid_cell(grid, idle ? "-" : "%.0f %%", 100 * worker->share);
        task_cell(grid, worker);
    }
    grid_print(grid, stdout);
    grid_free(grid);
}

// --- Which of the three ---

// Asks once; prints unless a watch with --json is not at its end. *done_out: nothing more is to be
// expected.
static enum err status_once(struct ctl *ctl, const char *what, bool last_only, bool *done_out)
{
    struct id128 uuid;
    *done_out = false;
    if (what == NULL) {
        const Unlearn__Cluster *cluster;
        TRY(unlearn_cluster_show(ctl->client, &cluster));
        if (ctl->json) {
            ctl_print(cluster_json(ctl, cluster));
        } else {
            print_cluster(ctl, cluster);
        }
    } else if (text_uuid(what, &uuid) == OK) {
        const Unlearn__RequestState *state;
        TRY(unlearn_request_show(ctl->client, &uuid, &state));
        *done_out = state->phase == UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED;
        if (!last_only || *done_out) {
            show_request(ctl, state);
        }
    } else {
        const Unlearn__Model *model;
        TRY(unlearn_model_show(ctl->client, what, &model));
        *done_out = !model->training;
        if (!last_only || *done_out) {
            show_model(ctl, model);
        }
    }
    return OK;
}

static enum err run_status(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct status *const status = options;
    const char *const what = words->count > 0 ? words->texts[0] : NULL;
    if (status->watch && ctl->json && what == NULL) {
        FAIL(ERR_INVALID, "--watch with --json has no end for a cluster: name a MODEL or REQUEST");
    }
    TRY(ctl_connect(ctl));
    if (!status->watch) {
        bool done;
        return status_once(ctl, what, false, &done);
    }
    interrupt_watch();
    const bool clear = !ctl->json && isatty(STDOUT_FILENO);
    for (bool done = false; !done;) {
        if (clear) {
            fputs("\033[H\033[J", stdout);
        }
        TRY(status_once(ctl, what, ctl->json, &done));
        fflush(stdout);
        if (!done) {
            nanosleep(&(struct timespec){.tv_sec = WATCH_S}, NULL);
        }
        if (interrupt_check() != OK) {
            return OK; // Whoever watches ends it so.
        }
    }
    return OK;
}

const struct ctl_command cmd_status = {
    .name = "status",
    .summary = "Show the cluster, a model or a request",
    .words = "[MODEL | REQUEST]",
    .words_max = 1,
    .help = "REQUEST is the UUID that delete and remove print. With --watch and --json the one "
            "object comes when the model is trained or the request completed.\n\n"
            "Examples:\n"
            "  unlearnctl status --watch\n"
            "  unlearnctl status digits --json\n"
            "  unlearnctl status 7f1d1a52-2c55-4c0e-9d61-0c5a3b0f8a11",
    .options = status_options,
    .option_count = sizeof status_options / sizeof status_options[0],
    .options_bytes = sizeof(struct status),
    .run = run_status,
};
