// coordinator/status.c: telling how the cluster stands; see core.h.
//
// Whatever the cluster's size, an answer is of bounded size and made in bounded time: of what there may
// be many of, so many are named and the rest is counted.
#include "coordinator/core.h"

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
}

VERB(on_cluster_show, Unlearn__ClusterShow)
{
    (void)raw;
    (void)body;
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Cluster cluster = UNLEARN__CLUSTER__INIT;
    Unlearn__Activity activity;
    describe_activity(core, &activity);
    cluster.epoch = core->epoch;
    cluster.datasets = core->dataset_count;
    for (uint32_t i = 0; i < core->model_count; i++) {
        cluster.models += core->models[i]->replaces == 0;
    }
    cluster.requests_open = core->request_count;
    cluster.core = core->core_type;
    cluster.profile = wire_bytes(span_of(core->profile.bytes, DIGEST_BYTES));
    cluster.uptime_seconds = (double)(core->now_ms - core->started_ms) / 1000.0;
    cluster.activity = &activity;
    storage_usage(core->storage, &cluster.store_bytes, &cluster.map_bytes);
    reply.status = UNLEARN__STATUS__STATUS_OK;
    reply.body_case = UNLEARN__REPLY__BODY_CLUSTER;
    reply.cluster = &cluster;
    leases_describe(core, caller, &reply); // Adds fleets and workers, and sends.
}
