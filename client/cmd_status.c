// client/cmd_status.c: status: of the cluster, of a model, of a request.
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/commands.h"
#include "client/grid.h"
#include "client/interrupt.h"
#include "client/overview.h"
#include "client/show.h"

enum { WATCH_S = 1, MINUTE_S = 60, AGE_BYTES = 24 };

struct status {
    struct ctl_globals globals;
    bool watch;
};

static const struct args_option status_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"watch", 1200, NULL, "Again every second, until it is done or Ctrl-C", ARGS_FLAG,
     offsetof(struct status, watch), 0},
};

// "12 s", "5 min", "3 h", "2 d": in the unit that tells most.
static void put_age(double seconds, char out[static AGE_BYTES])
{
    static const struct {
        double seconds;
        const char *unit;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {0, "s"}};
    int i = 0;
    seconds = seconds > 0 ? seconds : 0;     // The coordinator's clock may be ahead of ours.
    while (seconds < 2 * units[i].seconds) { // Two of a unit at least, but of the last.
        i++;
    }
    snprintf(out, AGE_BYTES, "%.0f %s", units[i].seconds > 0 ? seconds / units[i].seconds : seconds,
             units[i].unit);
}

// --- The cluster ---

enum { WORKERS_SHOWN = 40 };

// What happened since the start, or in the last minute; seconds: how long that is.
static json_t *activity_json(const Unlearn__Activity *a, double uptime, bool minute)
{
    const double seconds = minute && uptime > MINUTE_S ? MINUTE_S : uptime;
    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "seconds", seconds, "samples",
                     (json_int_t)(minute ? a->samples_minute : a->samples), "components",
                     (json_int_t)(minute ? a->components_minute : a->components), "deletions",
                     (json_int_t)(minute ? a->deletions_minute : a->deletions), "stages_cancelled",
                     (json_int_t)(minute ? a->cancelled_minute : a->cancelled), "samples_wasted",
                     (json_int_t)(minute ? a->samples_wasted_minute : a->samples_wasted),
                     "requests_denied", (json_int_t)(minute ? a->denied_minute : a->denied),
                     "longest_turn_ms", (double)(minute ? a->turn_us_minute : a->turn_us) / 1000);
}

static json_t *workers_json(const Unlearn__Cluster *cluster)
{
    json_t *const workers = json_array();
    for (size_t i = 0; i < cluster->n_workers; i++) {
        const Unlearn__Worker *const worker = cluster->workers[i];
        json_t *const ranks = json_array();
        for (size_t j = 0; j < worker->n_group_ranks; j++) {
            json_array_append_new(ranks, json_integer(worker->group_ranks[j]));
        }
        json_array_append_new(
            workers,
            json_pack("{s:s, s:I, s:s, s:f, s:o, s:o, s:I, s:I, s:I, s:I}", "name", worker->name,
                      "rank", (json_int_t)worker->rank, "task", worker->task, "share",
                      worker->share, "group_ranks", ranks, "seconds_left",
                      worker->seconds_left > 0 ? json_real(worker->seconds_left) : json_null(),
                      "held_bytes", (json_int_t)worker->held_bytes, "held_limit_bytes",
                      (json_int_t)worker->held_limit_bytes, "found_bytes",
                      (json_int_t)worker->found_bytes, "pulled_bytes",
                      (json_int_t)worker->pulled_bytes));
    }
    return workers;
}

static json_t *phases_json(const struct overview_requests *requests)
{
    json_t *const phases = json_object();
    for (int i = 1; i < OVERVIEW_PHASES; i++) {
        json_object_set_new(phases, show_phase((Unlearn__RequestPhase)i),
                            json_pack("{s:I, s:o, s:o}", "count",
                                      (json_int_t)requests->phases[i].count, "oldest_at",
                                      ctl_time(requests->phases[i].oldest_us), "due_at",
                                      ctl_time(requests->phases[i].due_us)));
    }
    return phases;
}

static json_t *first_json(const struct overview_requests *requests, int64_t now_us)
{
    json_t *const first = json_array();
    for (uint32_t i = 0; i < requests->first_count; i++) {
        const struct overview_request *const request = &requests->first[i];
        char uuid[TEXT_UUID_BYTES];
        text_uuid_put(&request->uuid, uuid);
        json_array_append_new(
            first,
            json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:f, s:I, s:b, s:I}", "request",
                      uuid, "kind", show_kind(request->kind), "name", request->name, "state",
                      show_phase(request->phase), "accepted_at", ctl_time(request->accepted_us),
                      "due_at", ctl_time(request->due_us), "expected_at",
                      ctl_time(request->expected_us), "late", (int)request->late, "age_seconds",
                      (double)(now_us - request->accepted_us) / 1e6, "components_awaited",
                      (json_int_t)request->components_awaited, "awaited_more", (int)request->more,
                      "samples_left", (json_int_t)request->samples_left));
    }
    return first;
}

static json_t *peers_json(const Unlearn__Peers *peers)
{
    return peers == NULL ? json_null()
                         : json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections",
                                     (json_int_t)peers->connections, "connections_max",
                                     (json_int_t)peers->connections_max, "waiting_bytes",
                                     (json_int_t)peers->waiting_bytes, "unread_bytes",
                                     (json_int_t)peers->unread_bytes, "cut_waiting",
                                     (json_int_t)peers->cut_waiting, "cut_unread",
                                     (json_int_t)peers->cut_unread, "cut_connections",
                                     (json_int_t)peers->cut_connections);
}

static json_t *limit_json(uint64_t most, uint64_t refused)
{
    return json_pack("{s:I, s:I}", "most", (json_int_t)most, "refused", (json_int_t)refused);
}

static json_t *limits_json(const Unlearn__Cluster *cluster)
{
    const Unlearn__Limits *const limits = cluster->limits;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "clients", peers_json(cluster->clients),
                     "workers", peers_json(cluster->worker_peers), "requests_per_s",
                     limit_json(limits->requests_per_s, limits->requests_refused), "bytes_per_s",
                     limit_json(limits->bytes_per_s, limits->bytes_refused), "delete_ids_per_s",
                     limit_json(limits->ids_per_s, limits->ids_refused), "store_queue",
                     limit_json(limits->store_queue, limits->store_queue_refused), "dropped",
                     (json_int_t)limits->dropped);
}

static json_t *cluster_json(const struct ctl *ctl, const Unlearn__Cluster *cluster)
{
    const double uptime = cluster->uptime_seconds;
    json_t *const answer = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:I, s:I, s:I, s:I, s:o}",
        "address", unlearn_endpoint(ctl->client), "build", cluster->build, "epoch",
        (json_int_t)cluster->epoch, "datasets", (json_int_t)cluster->datasets, "models",
        (json_int_t)cluster->models, "requests_open", (json_int_t)cluster->requests_open, "fleets",
        (json_int_t)cluster->fleets, "store_bytes", (json_int_t)cluster->store_bytes, "map_bytes",
        (json_int_t)cluster->map_bytes, "core", cluster->core, "uptime_seconds", uptime,
        "workers_total", (json_int_t)cluster->workers_total, "workers_busy",
        (json_int_t)cluster->workers_busy, "store_jobs", (json_int_t)cluster->store_jobs,
        "predictions", (json_int_t)cluster->predictions, "workers", workers_json(cluster));
    json_object_set_new(answer, "profile", ctl_hex(cluster->profile));
    if (cluster->limits != NULL) {
        json_object_set_new(answer, "limits", limits_json(cluster));
    }
    if (cluster->activity != NULL) {
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
    grid_cell(grid, "%s%s%s", worker->task[0] == '\0' ? "idle" : worker->task, ranks,
              worker->group_more ? " ..." : "");
}

// What it keeps between stages, and how much of what it needed was there.
static void held_cell(struct grid *grid, const Unlearn__Worker *worker)
{
    const double needed = (double)worker->found_bytes + (double)worker->pulled_bytes;
    if (worker->held_limit_bytes == 0 || needed == 0) {
        grid_cell(grid, "-");
        grid_cell(grid, "-");
        return;
    }
    grid_cell(grid, "%.1f MB", (double)worker->held_bytes / 1e6);
    grid_cell(grid, "%.0f %%", 100 * (double)worker->found_bytes / needed);
}

static void print_workers(const Unlearn__Cluster *cluster)
{
    struct grid *const grid = grid_new("WORKER|>RANK|>HELD|>HITS|>DONE|>LEFT|TASK");
    const size_t shown = cluster->n_workers < WORKERS_SHOWN ? cluster->n_workers : WORKERS_SHOWN;
    for (size_t i = 0; i < shown; i++) {
        const Unlearn__Worker *const worker = cluster->workers[i];
        char left[AGE_BYTES] = "-";
        if (worker->seconds_left > 0) {
            put_age(worker->seconds_left, left);
        }
        grid_cell(grid, "%s", worker->name);
        grid_cell(grid, "%u", worker->rank);
        held_cell(grid, worker);
        grid_cell(grid, worker->task[0] == '\0' ? "-" : "%.0f %%", 100 * worker->share);
        grid_cell(grid, "%s", left);
        task_cell(grid, worker);
    }
    putchar('\n');
    grid_print(grid, stdout);
    grid_free(grid);
    if (cluster->workers_total > shown) {
        printf("and %zu more workers\n", cluster->workers_total - shown);
    }
}

static json_t *rechecks_json(const Unlearn__Rechecks *rechecks)
{
    return rechecks == NULL
               ? json_null()
               : json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "percent",
                           (json_int_t)rechecks->percent, "same", (json_int_t)rechecks->same,
                           "different", (json_int_t)rechecks->different, "same_host",
                           (json_int_t)rechecks->same_host, "skipped",
                           (json_int_t)rechecks->skipped, "waiting", (json_int_t)rechecks->waiting,
                           "last", rechecks->last);
}

static void print_phases(const struct overview_requests *requests, int64_t now_us)
{
    printf("requests     %u open", requests->total);
    const char *gap = ": ";
    for (int i = 1; i < OVERVIEW_PHASES; i++) {
        char age[AGE_BYTES], due[TEXT_TIME_BYTES];
        if (requests->phases[i].count == 0) {
            continue;
        }
        put_age((double)(now_us - requests->phases[i].oldest_us) / 1e6, age);
        text_time(requests->phases[i].due_us, due);
        printf("%s%u %s (oldest %s%s%.10s)", gap, requests->phases[i].count,
               show_phase((Unlearn__RequestPhase)i), age, due[0] == '\0' ? "" : ", due ", due);
        gap = ", ";
    }
    putchar('\n');
}

static void print_first(const struct overview_requests *requests, int64_t now_us)
{
    if (requests->first_count == 0) {
        return;
    }
    struct grid *const grid =
        grid_new("REQUEST|WHAT|OF|STATE|>AGE|DUE|>COMPONENTS AWAITED|>SAMPLES LEFT");
    for (uint32_t i = 0; i < requests->first_count; i++) {
        const struct overview_request *const request = &requests->first[i];
        char uuid[TEXT_UUID_BYTES], age[AGE_BYTES], due[TEXT_TIME_BYTES];
        text_uuid_put(&request->uuid, uuid);
        put_age((double)(now_us - request->accepted_us) / 1e6, age);
        text_time(request->due_us, due);
        grid_cell(grid, "%s", uuid);
        grid_cell(grid, "%s", show_kind(request->kind));
        grid_cell(grid, "%.40s", request->name);
        grid_cell(grid, "%s", show_phase(request->phase));
        grid_cell(grid, "%s", age);
        grid_cell(grid, "%.10s%s", due[0] == '\0' ? "-" : due, request->late ? " LATE" : "");
        grid_cell(grid, "%u%s", request->components_awaited, request->more ? "+" : "");
        grid_cell(grid, "%llu%s", (unsigned long long)request->samples_left,
                  request->more ? "+" : "");
    }
    putchar('\n');
    grid_print(grid, stdout);
    grid_free(grid);
    if (requests->total > requests->first_count) {
        printf("and %u more open requests\n", requests->total - requests->first_count);
    }
}

static void rate_row(struct grid *grid, const char *what, uint64_t minute, uint64_t all,
                     double per_s, double uptime)
{
    const double minute_s = uptime > MINUTE_S ? MINUTE_S : uptime;
    char text[PROGRESS_COUNT_BYTES];
    grid_cell(grid, "%s", what);
    progress_count(minute_s > 0 ? (double)minute / minute_s * per_s : 0, text);
    grid_cell(grid, "%s", text);
    progress_count(uptime > 0 ? (double)all / uptime * per_s : 0, text);
    grid_cell(grid, "%s", text);
    progress_count((double)all, text);
    grid_cell(grid, "%s", text);
}

static void print_rates(const Unlearn__Activity *a, double uptime)
{
    struct grid *const grid = grid_new("RATES|>LAST MINUTE|>SINCE START|>IN ALL");
    rate_row(grid, "samples a second", a->samples_minute, a->samples, 1, uptime);
    rate_row(grid, "components a minute", a->components_minute, a->components, MINUTE_S, uptime);
    rate_row(grid, "deletions a minute", a->deletions_minute, a->deletions, MINUTE_S, uptime);
    rate_row(grid, "stages cancelled a minute", a->cancelled_minute, a->cancelled, MINUTE_S,
             uptime);
    rate_row(grid, "their samples a second", a->samples_wasted_minute, a->samples_wasted, 1,
             uptime);
    rate_row(grid, "requests denied a minute", a->denied_minute, a->denied, MINUTE_S, uptime);
    grid_cell(grid, "%s", "longest turn, ms");
    grid_cell(grid, "%.1f", (double)a->turn_us_minute / 1000);
    grid_cell(grid, "%.1f", (double)a->turn_us / 1000);
    grid_cell(grid, "%s", "");
    putchar('\n');
    grid_print(grid, stdout);
    grid_free(grid);
}

// Where nothing is trained twice, nothing is said.
static void print_rechecks(const Unlearn__Rechecks *rechecks)
{
    if (rechecks == NULL || (rechecks->percent == 0 && rechecks->same + rechecks->different == 0)) {
        return;
    }
    printf("trained twice %u %% of the stages: %llu gave the same bytes, %llu others%s%s\n",
           rechecks->percent, (unsigned long long)rechecks->same,
           (unsigned long long)rechecks->different, rechecks->last[0] == '\0' ? "" : "; last ",
           rechecks->last);
}

// In short; --json has all.
static void print_limits(const Unlearn__Limits *limits, const Unlearn__Peers *c,
                         const Unlearn__Peers *w)
{
    const unsigned long long cut = c->cut_waiting + c->cut_unread + c->cut_connections +
                                   w->cut_waiting + w->cut_unread + w->cut_connections;
    const unsigned long long refused = limits->requests_refused + limits->bytes_refused +
                                       limits->ids_refused + limits->store_queue_refused;
    printf("limits       %u of %u connections of clients, %u of %u of workers, %llu cut; "
           "%llu requests refused\n",
           c->connections, c->connections_max, w->connections, w->connections_max, cut, refused);
}

static void print_cluster(const struct ctl *ctl, const Unlearn__Cluster *cluster)
{
    char used[PROGRESS_COUNT_BYTES];
    progress_count((double)cluster->store_bytes, used);
    printf("coordinator  %s, up %.0f s, epoch %llu\n", unlearn_endpoint(ctl->client),
           cluster->uptime_seconds, (unsigned long long)cluster->epoch);
    printf("holds        %u datasets, %u models, store %sB\n", cluster->datasets, cluster->models,
           used);
    printf("workers      %u in %u fleets, %u busy, core %s\n", cluster->workers_total,
           cluster->fleets, cluster->workers_busy,
           cluster->core[0] == '\0' ? "not known yet" : cluster->core);
    printf("queues       %u jobs of the store, %u predictions\n", cluster->store_jobs,
           cluster->predictions);
    if (cluster->limits != NULL && cluster->clients != NULL && cluster->worker_peers != NULL) {
        print_limits(cluster->limits, cluster->clients, cluster->worker_peers);
    }
    print_rechecks(cluster->rechecks);
}

static enum err status_cluster(struct ctl *ctl)
{
    // Requests first: the cluster's answer is borrowed until the next call.
    struct overview_requests *const requests = mem_alloc(1, sizeof *requests);
    const Unlearn__Cluster *cluster = NULL;
    enum err err = overview_requests(ctl->client, requests);
    err = err == OK ? unlearn_cluster_show(ctl->client, &cluster) : err;
    const int64_t now_us = clock_wall_us();
    if (err == OK && ctl->json) {
        json_t *const answer = cluster_json(ctl, cluster);
        json_object_set_new(answer, "rechecks", rechecks_json(cluster->rechecks));
        json_object_set_new(answer, "requests", phases_json(requests));
        json_object_set_new(answer, "requests_first", first_json(requests, now_us));
        ctl_print(answer);
    } else if (err == OK) {
        print_cluster(ctl, cluster);
        print_phases(requests, now_us);
        if (cluster->activity != NULL) {
            print_rates(cluster->activity, cluster->uptime_seconds);
        }
        print_first(requests, now_us);
        print_workers(cluster);
    }
    mem_free(requests);
    return err;
}

// --- A model ---

enum { SHARDS_SHOWN = 32, SLICES_SHOWN = 16, CELLS_IN_JSON = 4096 };

static json_t *cell_json(const struct overview_cells *cells, uint32_t shard, uint32_t slice)
{
    const size_t at = (size_t)shard * cells->slices + slice;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "shard", (json_int_t)shard, "slice",
                     (json_int_t)slice, "valid", (json_int_t)cells->counts[CELL_VALID][at],
                     "training", (json_int_t)cells->counts[CELL_TRAINING][at], "waiting",
                     (json_int_t)cells->counts[CELL_WAITING][at], "empty",
                     (json_int_t)cells->counts[CELL_EMPTY][at]);
}

// Cells, where there are not too many of them; shards always.
static void add_cells(json_t *answer, const struct overview_cells *cells)
{
    json_t *const shards = json_array(), *const list = json_array();
    const bool listed = (uint64_t)cells->shards * cells->slices <= CELLS_IN_JSON;
    for (uint32_t shard = 0; shard < cells->shards; shard++) {
        json_array_append_new(
            shards, json_pack("{s:I, s:I, s:I, s:I, s:I}", "shard", (json_int_t)shard, "valid",
                              (json_int_t)overview_shard(cells, CELL_VALID, shard), "training",
                              (json_int_t)overview_shard(cells, CELL_TRAINING, shard), "waiting",
                              (json_int_t)overview_shard(cells, CELL_WAITING, shard), "empty",
                              (json_int_t)overview_shard(cells, CELL_EMPTY, shard)));
        for (uint32_t slice = 0; slice < cells->slices && listed; slice++) {
            json_array_append_new(list, cell_json(cells, shard, slice));
        }
    }
    json_object_set_new(answer, "shards", shards);
    json_object_set_new(answer, "cells", listed ? list : json_null());
    if (!listed) {
        json_decref(list);
    }
}

// "3v 1t": what there is.
static void state_cell(struct grid *grid, const uint64_t counts[static CELL_STATES])
{
    static const char letters[CELL_STATES] = {'v', 't', 'w', 'e'};
    char text[96] = "-";
    size_t used = 0;
    for (int i = 0; i < CELL_STATES; i++) {
        if (counts[i] > 0 && used < sizeof text - 24) {
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s%llu%c", used == 0 ? "" : " ",
                                 (unsigned long long)counts[i], letters[i]);
        }
    }
    grid_cell(grid, "%s", text);
}

static void print_cells(const struct overview_cells *cells)
{
    const bool by_slice = cells->slices <= SLICES_SHOWN;
    const uint32_t columns = by_slice ? cells->slices : 1;
    const uint32_t shown = cells->shards < SHARDS_SHOWN ? cells->shards : SHARDS_SHOWN;
    char heads[16 * SLICES_SHOWN] = ">SHARD";
    for (uint32_t i = 0; i < columns; i++) {
        const size_t used = strlen(heads);
        snprintf(heads + used, sizeof heads - used, by_slice ? "|SLICE %u" : "|ALL SLICES", i);
    }
    struct grid *const grid = grid_new(heads);
    for (uint32_t shard = 0; shard < shown; shard++) {
        grid_cell(grid, "%u", shard);
        for (uint32_t i = 0; i < columns; i++) {
            uint64_t counts[CELL_STATES];
            for (int state = 0; state < CELL_STATES; state++) {
                counts[state] = by_slice ? cells->counts[state][(size_t)shard * cells->slices + i]
                                         : overview_shard(cells, (enum overview_state)state, shard);
            }
            state_cell(grid, counts);
        }
    }
    printf("components that end in a slice: v valid, t in training, w waiting, e empty\n");
    grid_print(grid, stdout);
    grid_free(grid);
    if (cells->shards > shown) {
        printf("and %u more shards\n", cells->shards - shown);
    }
}

// *training_out: there is something left to train. `last_only`: nothing is printed while there is.
static enum err status_model(struct ctl *ctl, const char *name, bool last_only, bool *training_out)
{
    struct overview_cells cells;
    const Unlearn__Model *model;
    // Cells first: what is told of the model is borrowed until the next call.
    TRY(overview_cells(ctl->client, name, &cells));
    const enum err err = unlearn_model_show(ctl->client, name, &model);
    *training_out = err == OK && model->training;
    if (err == OK && ctl->json && !(last_only && *training_out)) {
        json_t *const answer = show_model_json(model);
        add_cells(answer, &cells);
        ctl_print(answer);
    } else if (err == OK && !ctl->json) {
        show_model_head(model);
        putchar('\n');
        print_cells(&cells);
    }
    overview_cells_deinit(&cells);
    return err;
}

// --- Which of the three ---

// Asks once; prints unless a watch with --json is not at its end. *done_out: nothing more is to be
// expected.
static enum err status_once(struct ctl *ctl, const char *what, bool last_only, bool *done_out)
{
    struct id128 uuid;
    *done_out = false;
    if (what == NULL) {
        return status_cluster(ctl);
    } else if (text_uuid(what, &uuid) == OK) {
        const Unlearn__RequestState *state;
        TRY(unlearn_request_show(ctl->client, &uuid, &state));
        *done_out = state->completed_us != 0;
        if (!last_only || *done_out) {
            show_request(ctl, state);
        }
    } else {
        bool training = false;
        TRY(status_model(ctl, what, last_only, &training));
        *done_out = !training;
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
    .help =
        "Of the cluster: open requests by state with the oldest's age and the earliest due date, "
        "those that are due first, what each rank does, queues, and what was done in the last "
        "minute and since the start; the longest turn is how long the coordinator let others "
        "wait. Of a MODEL: a grid of shards and slices with the components that end in each. "
        "REQUEST is the UUID that delete and remove print. With --watch and --json the one "
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
