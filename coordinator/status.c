// coordinator/status.c: telling how the cluster stands; see core.h.
//
// Whatever the cluster's size, an answer is of bounded size and made in bounded time: of what there may
// be many of, so many are named and the rest is counted.
#include <string.h>

#include "base/mem.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "coordinator/quota.h"
#include "coordinator/recheck.h"

enum {
    REQUESTS_A_PAGE = 4096,
    REQUESTS_NAMED = 20,
    COMPONENTS_A_PAGE = 16384, // Also bounds the cells: each shard has a component for each slice.
};

static void describe_activity(const struct core *core, Unlearn__Activity *out)
{
    const struct activity *const activity = &core->activity;
    const int64_t now_ms = core->now_ms;
    unlearn__activity__init(out);
    out->samples = activity->samples.total;
    out->samples_minute = rate_minute(&activity->samples, now_ms);
    out->components = activity->stored.total;
    out->components_minute = rate_minute(&activity->stored, now_ms);
    out->deletions = activity->deletions.total;
    out->deletions_minute = rate_minute(&activity->deletions, now_ms);
    out->cancelled = activity->cancelled.total;
    out->cancelled_minute = rate_minute(&activity->cancelled, now_ms);
    out->samples_wasted = activity->wasted.total;
    out->samples_wasted_minute = rate_minute(&activity->wasted, now_ms);
    out->turn_us = activity->turn_us.greatest;
    out->turn_us_minute = peak_minute(&activity->turn_us, now_ms);
    out->denied = activity->denied.total;
    out->denied_minute = rate_minute(&activity->denied, now_ms);
}

static void describe_rechecks(const struct core *core, struct recheck_counts *counts,
                              Unlearn__Rechecks *out)
{
    unlearn__rechecks__init(out);
    out->percent = core->config.recheck_percent;
    out->same = counts->same;
    out->different = counts->different;
    out->same_host = counts->same_host;
    out->skipped = counts->skipped;
    out->waiting = counts->waiting;
    out->last = counts->last;
}

// For a key that is limited all are looked at: 20 ns each.
static uint32_t count_open(const struct core *core, const struct caller *caller)
{
    uint32_t count = access_sees_all(caller) ? core->request_count : 0;
    for (uint32_t i = 0; i < core->request_count && !access_sees_all(caller); i++) {
        count += access_sees(caller, core->requests[i]->row.dataset);
    }
    return count;
}

static void describe_peers(const struct link *link, Unlearn__Peers *out)
{
    struct watch_counts counts;
    link_counts(link, &counts);
    unlearn__peers__init(out);
    out->connections = counts.connections;
    out->connections_max = counts.connections_max;
    out->waiting_bytes = counts.waiting_bytes;
    out->unread_bytes = counts.unread_bytes;
    out->cut_waiting = counts.cut[ARREARS_WAITING];
    out->cut_unread = counts.cut[ARREARS_UNREAD];
    out->cut_connections = counts.cut[ARREARS_CONNECTIONS];
}

VERB(on_cluster_show, Unlearn__ClusterShow)
{
    (void)raw;
    (void)body;
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Cluster cluster = UNLEARN__CLUSTER__INIT;
    Unlearn__Activity activity;
    Unlearn__Rechecks rechecks;
    Unlearn__Limits limits = UNLEARN__LIMITS__INIT;
    Unlearn__Peers clients, workers;
    struct recheck_counts counts;
    cluster.epoch = core->epoch;
    for (uint32_t i = 0; i < core->dataset_count; i++) {
        cluster.datasets += access_sees(caller, core->datasets[i]->row.number);
    }
    for (uint32_t i = 0; i < core->model_count; i++) {
        cluster.models +=
            core->models[i]->replaces == 0 && access_sees(caller, core->models[i]->dataset);
    }
    cluster.requests_open = count_open(core, caller);
    cluster.core = core->core_type;
    cluster.profile = wire_bytes(span_of(core->profile.bytes, DIGEST_BYTES));
    cluster.uptime_seconds = (double)(core->now_ms - core->started_ms) / 1000.0;
    if (access_sees_all(caller)) { // What others do is nobody else's business.
        describe_activity(core, &activity);
        cluster.activity = &activity;
        describe_peers(core->clients, &clients);
        describe_peers(core->workers_link, &workers);
        quota_describe(core, &limits);
        limits.dropped = link_dropped(core->clients) + link_dropped(core->workers_link);
        cluster.limits = &limits;
        cluster.clients = &clients;
        cluster.worker_peers = &workers;
        counts = recheck_counts(core);
        describe_rechecks(core, &counts, &rechecks);
        cluster.rechecks = &rechecks;
    }
    cluster.store_jobs = storage_count(core->storage);
    cluster.predictions = predict_count(core);
    storage_usage(core->storage, &cluster.store_bytes, &cluster.map_bytes);
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_CLUSTER;
    reply.cluster = &cluster;
    leases_describe(core, caller, &reply); // Adds fleets and workers, and sends.
}

// ---------------------------------------------------------------- open requests

// The one that is due first, then the older one.
static bool is_before(const struct request_row *a, const struct request_row *b)
{
    const int64_t a_due = request_due(a) == 0 ? INT64_MAX : request_due(a);
    const int64_t b_due = request_due(b) == 0 ? INT64_MAX : request_due(b);
    return a_due != b_due                     ? a_due < b_due
           : a->accepted_us != b->accepted_us ? a->accepted_us < b->accepted_us
                                              : a->sequence < b->sequence;
}

struct request_page {
    Unlearn__RequestCount counts[REQUEST_STATES];    // By state.
    const struct request_row *first[REQUESTS_NAMED]; // In order.
    uint32_t first_count;
};

static void take_request(struct request_page *page, const struct request_row *row)
{
    Unlearn__RequestCount *const count = &page->counts[row->state];
    if (count->count++ == 0 || row->accepted_us < count->oldest_us) {
        count->oldest_us = row->accepted_us;
    }
    if (request_due(row) != 0 && (count->due_us == 0 || request_due(row) < count->due_us)) {
        count->due_us = request_due(row);
    }
    uint32_t at = page->first_count;
    if (at == REQUESTS_NAMED && !is_before(row, page->first[at - 1])) {
        return;
    }
    at -= at == REQUESTS_NAMED;
    for (; at > 0 && is_before(row, page->first[at - 1]); at--) {
        page->first[at] = page->first[at - 1];
    }
    page->first[at] = row;
    page->first_count += page->first_count < REQUESTS_NAMED;
}

static void describe_brief(struct core *core, const struct request_row *row,
                           Unlearn__RequestBrief *out)
{
    unlearn__request_brief__init(out);
    out->uuid = wire_bytes(span_of(row->uuid.bytes, ID_BYTES));
    out->kind = (Unlearn__RequestKind)row->kind;
    out->phase = (Unlearn__RequestPhase)row->state;
    out->name = wire_text(row->name);
    out->accepted_us = row->accepted_us;
    bool late = false;
    out->due_us = request_due(row);
    out->expected_us = outlook_expected(core, row, &late);
    out->late = late;
}

static void answer_requests(struct core *core, const struct caller *caller,
                            struct request_page *found, uint32_t next)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__RequestPage page = UNLEARN__REQUEST_PAGE__INIT;
    Unlearn__RequestCount *counts[REQUEST_STATES];
    Unlearn__RequestBrief briefs[REQUESTS_NAMED], *first[REQUESTS_NAMED];
    page.counts = counts;
    page.first = first;
    for (int state = REQUEST_FENCED; state < REQUEST_STATES; state++) {
        if (found->counts[state].count > 0) {
            counts[page.n_counts++] = &found->counts[state];
        }
    }
    for (uint32_t i = 0; i < found->first_count; i++) {
        describe_brief(core, found->first[i], &briefs[i]);
        first[page.n_first++] = &briefs[i];
    }
    page.total = count_open(core, caller);
    page.next = next;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_REQUEST_PAGE;
    reply.request_page = &page;
    reply_send(core, caller, &reply, span_of(NULL, 0));
}

VERB(on_request_list, Unlearn__RequestList)
{
    (void)raw;
    struct request_page page = {.first_count = 0};
    for (int state = 0; state < REQUEST_STATES; state++) {
        unlearn__request_count__init(&page.counts[state]);
        page.counts[state].phase = (Unlearn__RequestPhase)state;
    }
    uint32_t at = body->offset;
    for (uint32_t i = 0; i < REQUESTS_A_PAGE && at < core->request_count; i++) {
        const struct request_row *const row = &core->requests[at++]->row;
        if (access_sees(caller, row->dataset)) {
            take_request(&page, row);
        }
    }
    answer_requests(core, caller, &page, at < core->request_count ? at : 0);
}

// ---------------------------------------------------------------- cells of a model

// In the order of CellPage.
enum { CELL_VALID, CELL_TRAINING, CELL_WAITING, CELL_EMPTY, CELL_STATES };

static uint32_t state_of(const struct slot *slot)
{
    return slot->records == 0          ? CELL_EMPTY
           : slot->state == SLOT_VALID ? CELL_VALID
           : slot->leased              ? CELL_TRAINING
                                       : CELL_WAITING;
}

VERB(on_model_cells, Unlearn__ModelCells)
{
    (void)raw;
    struct model *asked = NULL;
    if (catalog_model(core, caller, body->model, &asked) != OK) {
        reply_error(core, caller, ERR_NOT_FOUND, err_text());
        return;
    }
    // Progress is that of the successor, as in what model_show tells.
    const struct model *const successor = catalog_successor(core, asked);
    const struct ensemble *const ensemble =
        successor == NULL ? &asked->ensemble : &successor->ensemble;
    const uint32_t total = ensemble_count(ensemble), nodes = ensemble->trie.count;
    const uint32_t slices = ensemble->trie.slice_count;
    const uint32_t from = body->offset < total ? body->offset : total;
    const uint32_t end = total - from > COMPONENTS_A_PAGE ? from + COMPONENTS_A_PAGE : total;
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__CellPage page = UNLEARN__CELL_PAGE__INIT;
    page.components = total;
    page.next = end < total ? end : 0;
    page.shards = ensemble->placement.shards;
    page.slices = slices;
    page.first_shard = from / nodes;
    const uint32_t cells = from == end ? 0 : ((end - 1) / nodes - from / nodes + 1) * slices;
    uint32_t *const counts = mem_alloc((size_t)cells * CELL_STATES, sizeof *counts);
    for (uint32_t i = from; i < end; i++) {
        const uint32_t shard = i / nodes, node = i % nodes;
        const uint32_t cell =
            (shard - page.first_shard) * slices + ensemble->trie.nodes[node].slice;
        counts[state_of(ensemble_slot(ensemble, shard, node)) * cells + cell]++;
    }
    page.n_valid = page.n_training = page.n_waiting = page.n_empty = cells;
    page.valid = counts;
    page.training = counts + (size_t)CELL_TRAINING * cells;
    page.waiting = counts + (size_t)CELL_WAITING * cells;
    page.empty = counts + (size_t)CELL_EMPTY * cells;
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_CELL_PAGE;
    reply.cell_page = &page;
    reply_send(core, caller, &reply, span_of(NULL, 0));
    mem_free(counts);
}
