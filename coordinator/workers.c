// coordinator/workers.c: who has joined: fleets and their workers; see fleetdom.h.
#include <stdio.h>
#include <string.h>

#include "base/build.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/fleetdom.h"

enum { BEAT_MS = 500 };

bool workers_send(struct core *core, const struct link_peer *peer, Unlearn__ToWorker *message,
                  struct span raw)
{
    message->version = WIRE_VERSION;
    wire_put(&message->base, &core->fleetdom->frame);
    const enum err err = link_send(core->workers_link, peer, buf_span(&core->fleetdom->frame), raw);
    buf_clear(&core->fleetdom->frame); // A lease's key may be in it.
    return err == OK;
}

struct worker *workers_find(struct core *core, const struct link_peer *peer)
{
    const struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        if (memcmp(&dom->workers[i]->peer, peer, sizeof *peer) == 0) {
            return dom->workers[i];
        }
    }
    return NULL;
}

static struct fleet *fleet_find(struct core *core, const struct id128 *id)
{
    struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->fleet_count; i++) {
        if (id128_compare(&dom->fleets[i].id, id) == 0) {
            return &dom->fleets[i];
        }
    }
    return NULL;
}

void worker_free(struct worker *worker)
{
    locality_deinit(&worker->locality);
    mem_free(worker);
}

void workers_drop(struct core *core, struct worker *worker, bool lost)
{
    struct fleetdom *const dom = core->fleetdom;
    struct fleet *const fleet = fleet_find(core, &worker->fleet);
    lease_end_without(core, worker);
    if (lost && fleet != NULL) {
        fleet->lost_rank = true;
    }
    log_info(lost ? "worker_lost" : "worker_left", "worker=%llu name=%s rank=%u",
             (unsigned long long)worker->number, worker->name, worker->rank);
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        if (dom->workers[i] == worker) {
            dom->workers[i] = dom->workers[--dom->worker_count];
            worker_free(worker);
            return;
        }
    }
}

void workers_refuse(struct core *core, const struct link_peer *peer, const char *reason)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Refused refused = UNLEARN__REFUSED__INIT;
    refused.reason = wire_text(reason);
    message.body_case = UNLEARN__TO_WORKER__BODY_REFUSED;
    message.refused = &refused;
    workers_send(core, peer, &message, span_of(NULL, 0));
    log_error("worker_refused", "reason=\"%s\"", reason);
}

static enum err check_hello(const struct core *core, const Unlearn__WorkerHello *hello)
{
    if (hello->fleet.len != ID_BYTES || hello->profile.len != DIGEST_BYTES) {
        FAIL(ERR_INVALID,
             "a hello with a fleet of %zu and a profile of %zu bytes, expected %d and "
             "%d",
             hello->fleet.len, hello->profile.len, (int)ID_BYTES, (int)DIGEST_BYTES);
    }
    const bool same_core = strcmp(hello->core, core->core_type) == 0;
    if (memcmp(hello->profile.data, core->profile.bytes, DIGEST_BYTES) != 0 && same_core) {
        FAIL(
            ERR_INCOMPATIBLE,
            "this rank computes under another numeric profile though its BLAS core type is %s like "
            "the store's: use the same build and the same OpenBLAS on every host",
            core->core_type);
    }
    if (memcmp(hello->profile.data, core->profile.bytes, DIGEST_BYTES) != 0) {
        FAIL(ERR_INCOMPATIBLE,
             "this rank computes under another numeric profile (BLAS core type %s, the store's is "
             "%s): set OPENBLAS_CORETYPE=%s for the fleet, and use the same build",
             hello->core, core->core_type, core->core_type);
    }
    if (core->fleetdom->worker_count >= LIMIT_WORKERS) {
        FAIL(ERR_LIMIT, "%d workers have joined already, which is the limit", (int)LIMIT_WORKERS);
    }
    return OK;
}

void workers_hello(struct core *core, const struct link_peer *peer,
                   const struct principal_row *principal, const Unlearn__WorkerHello *hello)
{
    struct fleetdom *const dom = core->fleetdom;
    if (check_hello(core, hello) != OK) {
        snprintf(dom->refusal, sizeof dom->refusal, "%.500s", err_text());
        workers_refuse(core, peer, err_text());
        return;
    }
    struct worker *worker = workers_find(core, peer);
    dom->refusal[0] = '\0';
    if (worker == NULL) {
        worker = mem_alloc(1, sizeof *worker);
        worker->peer = *peer;
        worker->number = ++dom->last_worker;
        snprintf(worker->name, sizeof worker->name, "%.200s/%u", hello->host, hello->pid);
        worker->rank = hello->rank;
        worker->ranks = hello->ranks;
        worker->joined_ms = core->now_ms;
        memcpy(worker->fleet.bytes, hello->fleet.data, ID_BYTES);
        dom->workers[dom->worker_count++] = worker;
        log_info("worker_joined", "worker=%llu name=%s rank=%u ranks=%u core=%s",
                 (unsigned long long)worker->number, worker->name, hello->rank, hello->ranks,
                 hello->core);
    } else { // It began anew and knows of no lease.
        lease_end_without(core, worker);
    }
    worker->principal = principal;
    worker->stopping = false;
    worker->last_ms = worker->alive_ms = core->now_ms;
    worker->held_limit_bytes = hello->cache_bytes;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Welcome welcome = UNLEARN__WELCOME__INIT;
    welcome.worker = worker->number;
    welcome.beat_ms = BEAT_MS;
    welcome.silence_ms = (uint32_t)copies_silence_ms(core);
    message.body_case = UNLEARN__TO_WORKER__BODY_WELCOME;
    message.welcome = &welcome;
    workers_send(core, peer, &message, span_of(NULL, 0));
    copies_restart(core, worker);
}

// ---------------------------------------------------------------- fleets

static uint32_t fleet_workers(const struct core *core, const struct id128 *id, bool busy_only)
{
    const struct fleetdom *const dom = core->fleetdom;
    uint32_t count = 0;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        const struct worker *const worker = dom->workers[i];
        const bool busy = worker->lease != NULL || worker->stopping;
        count += id128_compare(&worker->fleet, id) == 0 && (busy || !busy_only);
    }
    return count;
}

// An earlier run of the same launcher is gone: so are its ranks.
static void drop_fleet(struct core *core, uint32_t index)
{
    struct fleetdom *const dom = core->fleetdom;
    const struct id128 id = dom->fleets[index].id;
    dom->fleets[index] = dom->fleets[--dom->fleet_count];
    for (uint32_t i = 0; i < dom->worker_count;) {
        struct worker *const worker = dom->workers[i];
        if (id128_compare(&worker->fleet, &id) == 0) {
            workers_drop(core, worker, false);
        } else {
            i++;
        }
    }
}

void workers_fleet_hello(struct core *core, const struct link_peer *peer,
                         const Unlearn__FleetHello *hello)
{
    struct fleetdom *const dom = core->fleetdom;
    struct id128 id;
    if (wire_copy(hello->fleet, id.bytes, ID_BYTES, "the fleet") != OK || hello->ranks == 0 ||
        hello->ranks > LIMIT_WORKERS) {
        workers_refuse(core, peer, "a fleet's hello without a 16-byte name or with no ranks");
        return;
    }
    char launcher[LIMIT_NAME_BYTES + 1];
    snprintf(launcher, sizeof launcher, "%.200s/%u", hello->host, hello->pid);
    for (uint32_t i = 0; i < dom->fleet_count;) {
        const bool same_launcher = strcmp(dom->fleets[i].launcher, launcher) == 0;
        if (same_launcher && id128_compare(&dom->fleets[i].id, &id) != 0) {
            drop_fleet(core, i);
        } else {
            i++;
        }
    }
    struct fleet *fleet = fleet_find(core, &id);
    if (fleet == NULL) {
        if (dom->fleet_count >= LIMIT_FLEETS) {
            workers_refuse(core, peer, "too many fleets have joined");
            return;
        }
        fleet = &dom->fleets[dom->fleet_count++];
        *fleet = (struct fleet){.id = id, .ranks = hello->ranks};
        memcpy(fleet->launcher, launcher, sizeof fleet->launcher);
        log_info("fleet_joined", "ranks=%u host=%s", hello->ranks, hello->host);
    }
    fleet->peer = *peer;
    fleet->last_ms = core->now_ms;
}

void workers_fleet_beat(struct core *core, const struct link_peer *peer,
                        const Unlearn__FleetBeat *beat)
{
    struct id128 id;
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__FleetOrder order = UNLEARN__FLEET_ORDER__INIT;
    Unlearn__Unknown unknown = UNLEARN__UNKNOWN__INIT;
    struct fleet *const fleet = wire_copy(beat->fleet, id.bytes, ID_BYTES, "the fleet") == OK
                                    ? fleet_find(core, &id)
                                    : NULL;
    if (fleet == NULL) {
        message.body_case = UNLEARN__TO_WORKER__BODY_UNKNOWN;
        message.unknown = &unknown;
    } else {
        if (beat->drain && !fleet->drain) {
            log_info("fleet_draining", "ranks=%u", fleet->ranks);
        }
        fleet->drain = beat->drain;
        const bool restart =
            (fleet->lost_rank || fleet->drain) && fleet_workers(core, &id, true) == 0;
        fleet->last_ms = core->now_ms;
        fleet->peer = *peer;
        order.action = restart ? UNLEARN__FLEET_ACTION__FLEET_ACTION_RESTART
                               : UNLEARN__FLEET_ACTION__FLEET_ACTION_RUN;
        order.ranks_joined = fleet_workers(core, &id, false);
        message.body_case = UNLEARN__TO_WORKER__BODY_FLEET_ORDER;
        message.fleet_order = &order;
    }
    workers_send(core, peer, &message, span_of(NULL, 0));
}

void workers_tick(struct core *core)
{
    struct fleetdom *const dom = core->fleetdom;
    const int64_t patience = core->config.lease_ms;
    for (uint32_t i = 0; i < dom->worker_count;) {
        struct worker *const worker = dom->workers[i];
        if (core->now_ms - worker->last_ms > patience) {
            workers_drop(core, worker, true);
        } else {
            i++;
        }
    }
    for (uint32_t i = 0; i < dom->fleet_count;) {
        // A launcher that died took its ranks with it; they are dropped when they fall silent.
        if (core->now_ms - dom->fleets[i].last_ms > 2 * patience) {
            log_info("fleet_lost", "ranks=%u", dom->fleets[i].ranks);
            dom->fleets[i] = dom->fleets[--dom->fleet_count];
        } else {
            i++;
        }
    }
}

bool workers_may_lease(struct core *core, const struct worker *worker)
{
    const struct fleet *const fleet = fleet_find(core, &worker->fleet);
    const bool revoked = worker->principal != NULL && worker->principal->revoked_us != 0;
    return worker->lease == NULL && !worker->stopping && !revoked &&
           !(fleet != NULL && (fleet->lost_rank || fleet->drain));
}

bool workers_may_train(struct core *core, const struct worker *worker, uint32_t dataset)
{
    return workers_may_lease(core, worker) && access_may_train(worker->principal, dataset);
}

const char *leases_refusal(const struct core *core)
{
    return core->fleetdom->refusal;
}

uint32_t leases_worker_count(const struct core *core)
{
    return core->fleetdom->worker_count;
}

enum { TASK_BYTES = 160, GROUP_RANKS_SHOWN = 64, WORKERS_BYTES = 160 * 1024 };

struct worker_row {
    Unlearn__Worker row;
    char task[TASK_BYTES];
    uint32_t group_ranks[GROUP_RANKS_SHOWN];
};

static void describe_task(struct core *core, const struct lease *lease, struct worker_row *out)
{
    const struct model *const model = catalog_model_number(core, lease->model);
    char name[COMPONENT_TEXT_BYTES];
    component_put(&lease->name, name);
    snprintf(out->task, sizeof out->task, "%s%.60s %.80s", lease->compare ? "verify " : "",
             model == NULL ? "" : model->name, name);
    const double done = (double)lease->samples_done, all = (double)lease->samples;
    out->row.share = lease->samples == 0 ? 0 : done / all;
    if (lease->samples_done > 0 && lease->samples_done < lease->samples) {
        const double seconds = (double)(core->now_ms - lease->began_ms) / 1000;
        out->row.seconds_left = seconds * (all - done) / done;
    }
    if (lease->member_count > 1) {
        out->row.group_more = lease->member_count > GROUP_RANKS_SHOWN;
        out->row.n_group_ranks = out->row.group_more ? GROUP_RANKS_SHOWN : lease->member_count;
        out->row.group_ranks = out->group_ranks;
        for (size_t i = 0; i < out->row.n_group_ranks; i++) {
            out->group_ranks[i] = lease->members[i].rank;
        }
    }
}

// Describes workers in their order until they fill what an answer has room for; how many.
static uint32_t describe_some(struct core *core, bool tasks, bool busy, bool idle,
                              size_t *bytes_left, struct worker_row *rows, uint32_t count)
{
    const struct fleetdom *const dom = core->fleetdom;
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        const struct worker *const worker = dom->workers[i];
        if (!(worker->lease != NULL ? busy : idle)) {
            continue;
        }
        struct worker_row *const row = &rows[count];
        unlearn__worker__init(&row->row);
        row->row.name = wire_text(worker->name);
        row->row.rank = worker->rank;
        row->row.held_bytes = worker->held_bytes;
        row->row.held_limit_bytes = worker->held_limit_bytes;
        row->row.found_bytes = worker->found_bytes;
        row->row.pulled_bytes = worker->pulled_bytes;
        row->task[0] = '\0';
        row->row.task = row->task;
        if (worker->lease != NULL && tasks) {
            describe_task(core, worker->lease, row);
        }
        const size_t bytes = protobuf_c_message_get_packed_size(&row->row.base) + 4;
        if (bytes > *bytes_left) {
            *bytes_left = 0;
            break;
        }
        *bytes_left -= bytes;
        count++;
    }
    return count;
}

void leases_describe(struct core *core, const struct caller *caller, Unlearn__Reply *reply)
{
    const struct fleetdom *const dom = core->fleetdom;
    const bool tasks = access_is_admin(caller); // They name models of any dataset.
    struct worker_row *const rows = mem_alloc(dom->worker_count, sizeof *rows);
    Unlearn__Worker **const pointers = mem_alloc(dom->worker_count, sizeof *pointers);
    size_t left = WORKERS_BYTES;
    uint32_t count = describe_some(core, tasks, true, true, &left, rows, 0);
    if (count < dom->worker_count) { // Those that do something come first.
        left = WORKERS_BYTES;
        count = describe_some(core, tasks, true, false, &left, rows, 0);
        count = describe_some(core, tasks, false, true, &left, rows, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        pointers[i] = &rows[i].row;
    }
    for (uint32_t i = 0; i < dom->worker_count; i++) {
        reply->cluster->workers_busy += dom->workers[i]->lease != NULL;
    }
    reply->cluster->workers_total = dom->worker_count;
    reply->cluster->build = wire_text(build_id);
    reply->cluster->fleets = dom->fleet_count;
    reply->cluster->workers = pointers;
    reply->cluster->n_workers = count;
    reply_send(core, caller, reply, span_of(NULL, 0));
    mem_free(rows);
    mem_free(pointers);
}
