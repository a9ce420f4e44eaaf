// client/cmd_cluster.c: the commands for the cluster itself: init, up, down.
#include <stdio.h>

#include "base/limits.h"
#include "client/cluster.h"
#include "client/commands.h"
#include "client/interrupt.h"

// --- init ---

static enum err run_init(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    const char *dir;
    TRY(ctl_dir(ctl, words, &dir));
    TRY(cluster_create(dir));
    if (ctl->json) {
        ctl_print(json_pack("{s:s}", "dir", dir));
    } else {
        printf("made the cluster %s; settings: %s/config.yaml\nhint: unlearnctl up %s --detach\n",
               dir, dir, dir);
    }
    return OK;
}

const struct ctl_command cmd_init = {
    .name = "init",
    .summary = "Make a new cluster's directory",
    .words = "DIR",
    .words_max = 1,
    .help =
        "DIR is the server's; DIR.client beside it holds what commands read, among it the key of "
        "the "
        "first client, who may do everything; DIR.master holds the "
        "master key, without which nothing of DIR can be read: keep it on another disk, or out of "
        "the backups of DIR.\n\n"
        "Example:\n  unlearnctl init cluster",
    .run = run_init,
};

// --- up ---

enum { PATIENCE_S_MAX = 3600 };

struct up {
    struct ctl_globals globals;
    struct args_u64 ranks, cache, patience;
    bool detach;
    bool allow_unsafe_fs;
    bool rotate_master_key;
    bool insecure;
};

static const struct args_option up_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"ranks", 1200, "N", "Workers on this machine (default: ranks of config.yaml); 0: none",
     ARGS_U64, offsetof(struct up, ranks), LIMIT_WORKERS},
    {"cache", 1205, "MIB",
     "Memory of each worker for cells and parents kept between stages (256); 0: none", ARGS_U64,
     offsetof(struct up, cache), LIMIT_CACHE_MIB},
    {"detach", 1201, NULL, "Come back when all is ready, and let it run", ARGS_FLAG,
     offsetof(struct up, detach), 0},
    {"patience", 1202, "SECONDS", "Give up when the workers have not joined by then (60)", ARGS_U64,
     offsetof(struct up, patience), PATIENCE_S_MAX},
    {"allow-unsafe-fs", 1203, NULL,
     "Start also where overwritten keys may stay on the disk: not ext4 or xfs, or with "
     "data=journal",
     ARGS_FLAG, offsetof(struct up, allow_unsafe_fs), 0},
    {"rotate-master-key", 1204, NULL,
     "First wrap every key by a new master key, and destroy the old one", ARGS_FLAG,
     offsetof(struct up, rotate_master_key), 0},
    {"insecure-loopback", 1206, NULL,
     "Without keys and encryption, for trials; refused unless all listens on 127.x.x.x", ARGS_FLAG,
     offsetof(struct up, insecure), 0},
};

static void print_up(const struct ctl *ctl, const struct cluster *cluster, bool detach)
{
    if (ctl->json) {
        ctl_print(json_pack("{s:s, s:s, s:I, s:I, s:I}", "dir", cluster->dir, "address",
                            cluster->endpoint, "workers", (json_int_t)cluster->workers,
                            "coordinator_pid", (json_int_t)cluster->coordinator, "fleet_pid",
                            (json_int_t)cluster->fleet));
    } else {
        printf("running at %s with %u workers%s\n", cluster->endpoint, cluster->workers,
               detach ? "" : "; Ctrl-C ends it");
    }
    fflush(stdout); // Whoever reads a pipe must see it now.
}

static enum err run_up(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct up *const up = options;
    const char *dir;
    uint32_t ranks;
    TRY(ctl_dir(ctl, words, &dir));
    TRY(cluster_ranks(dir, &ranks));
    ranks = up->ranks.given ? (uint32_t)up->ranks.value : ranks;
    const uint32_t patience_s =
        up->patience.given ? (uint32_t)up->patience.value : CLUSTER_PATIENCE_S;
    if (up->insecure) {
        fprintf(stderr, "unlearnctl: warning: --insecure-loopback: no keys, nothing is encrypted: "
                        "every program of this machine may read, delete and change everything in "
                        "this cluster; never with data of real people\n");
    }
    interrupt_watch();
    struct cluster cluster;
    const struct cluster_start start = {.ranks = ranks,
                                        .cache_mib = up->cache.given ? up->cache.value : CACHE_MIB,
                                        .patience_s = patience_s,
                                        .lives_on = up->detach,
                                        .key = ctl->key,
                                        .insecure = up->insecure,
                                        .allow_unsafe_fs = up->allow_unsafe_fs,
                                        .rotate_master_key = up->rotate_master_key};
    TRY(cluster_up(dir, &start, &cluster));
    print_up(ctl, &cluster, up->detach);
    const enum err err = up->detach ? OK : cluster_stay(&cluster);
    cluster_deinit(&cluster);
    return err;
}

const struct ctl_command cmd_up = {
    .name = "up",
    .summary = "Start a coordinator and local workers",
    .words = "DIR",
    .words_max = 1,
    .help = "Stays in the foreground until Ctrl-C unless --detach is given. Logs: "
            "DIR/run/unlearnd.log and DIR/run/fleet.log.\n\n"
            "Examples:\n"
            "  unlearnctl up cluster --detach\n"
            "  unlearnctl up cluster --ranks 8",
    .options = up_options,
    .option_count = sizeof up_options / sizeof up_options[0],
    .options_bytes = sizeof(struct up),
    .run = run_up,
};

// --- down ---

static enum err run_down(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    const char *dir;
    struct cluster_down down;
    TRY(ctl_dir(ctl, words, &dir));
    TRY(cluster_down(dir, &down));
    if (ctl->json) {
        ctl_print(json_pack("{s:b, s:b, s:b}", "fleet", (int)down.fleet, "coordinator",
                            (int)down.coordinator, "killed", (int)down.killed));
    } else if (!down.fleet && !down.coordinator) {
        printf("nothing was running\n");
    } else {
        printf("ended%s%s%s%s\n", down.fleet ? " the workers" : "",
               down.fleet && down.coordinator ? " and" : "",
               down.coordinator ? " the coordinator" : "",
               down.killed ? ", not all of it by itself" : "");
    }
    return OK;
}

const struct ctl_command cmd_down = {
    .name = "down",
    .summary = "End the local workers and the coordinator",
    .words = "DIR",
    .words_max = 1,
    .help = "Waits until they are gone. Training that was under way goes on at the next up.\n\n"
            "Example:\n  unlearnctl down cluster",
    .run = run_down,
};
