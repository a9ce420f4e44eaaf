// client/cluster.c: see cluster.h.
#include "client/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/sign.h"
#include "base/text.h"
#include "client/interrupt.h"
#include "client/keyset.h"
#include "client/process.h"
#include "client/unlearn.h"
#include "model/profile.h"
#include "store/store.h"

enum {
    ANSWER_MS = 120000, // A large store is read before the first answer.
    LOOK_MS = 50,
    FLEET_STOP_MS = 20000, // It waits for mpirun, and sweeps after it.
    COORDINATOR_STOP_MS = 20000,
};

static const char config_text[] =
    "# Settings of this cluster; read by unlearnd when it starts. What is marked with (reload) can "
    "change\n"
    "# while it runs: unlearnctl reload.\n"
    "\n"
    "# Where clients and workers connect; * is a free port, told in the address file.\n"
    "listen: tcp://127.0.0.1:*\n"
    "listen_workers: tcp://127.0.0.1:*\n"
    "# Greatest size of the store; the file grows as it needs.\n"
    "map_bytes: 68719476736\n"
    "# Threads that compute predictions.\n"
    "predict_threads: 2\n"
    "# Workers that `unlearnctl up` starts on this machine.\n"
    "ranks: 2\n"
    "# Deletions of more records than this wait for unlearnctl approve by somebody else, their "
    "records\n"
    "# hidden; after so many hours without it they are refused, and the records are back. 0: none "
    "waits.\n"
    "approve_above: 0\n"
    "approve_hours: 72\n"
    "# So many percent of the stages are trained a second time on another host and compared: a "
    "worker that\n"
    "# returns wrong weights is found out. 0: none; 100 doubles the work.\n"
    "recheck_percent: 0\n"
    "# A worker that is silent for so long loses its task to another.\n"
    "lease_ms: 4000\n"
    "# What each key may ask for in a second, and twice that at once; above it, it is told when to "
    "ask\n"
    "# again. Far above what the service can do for one: they keep one key from taking it all.\n"
    "# Deletions are counted by their ids, and apart: nothing else uses up what is theirs.\n"
    "requests_per_s: 20000\n"
    "bytes_per_s: 419430400\n"
    "delete_ids_per_s: 500000\n"
    "# When a deletion has to be carried out that says nothing of it: gdpr (a month), ccpa (45 "
    "days), "
    "30d, 12h. (reload)\n"
    "due: gdpr\n"
    "# What is logged: debug, info or error. (reload)\n"
    "log_level: info\n"
    "# Core type that OpenBLAS computes as, here and on every worker: it decides bits. After a "
    "change\n"
    "# what is trained goes on serving; unlearnctl train MODEL --reprofile trains it anew.\n"
    "blas_core: ";

static void path_of(char out[static PROCESS_PATH_BYTES], const char *dir, const char *tail)
{
    size_t bytes = strlen(dir);
    while (bytes > 1 && dir[bytes - 1] == '/') {
        bytes--;
    }
    snprintf(out, PROCESS_PATH_BYTES, "%.*s%s", (int)bytes, dir, tail);
}

static void pause_ms(int64_t ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

// --- Making one ---

static enum err make_dir(const char *path, bool may_exist)
{
    if (mkdir(path, 0700) == 0) {
        return OK;
    }
    if (errno == EEXIST && may_exist && rmdir(path) == 0 && mkdir(path, 0700) == 0) {
        return OK; // It was there and empty.
    }
    if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) {
        FAIL(ERR_CONFLICT, "%s exists already, expected a new or an empty directory", path);
    }
    FAIL(ERR_IO, "cannot make %s: %s", path, strerror(errno));
}

static enum err write_config(const char *path)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char text[sizeof config_text + PROFILE_NAME_BYTES];
    const int bytes = snprintf(text, sizeof text, "%s%s\n", config_text, profile_default());
    const bool written = file >= 0 && write(file, text, (size_t)bytes) == bytes && fsync(file) == 0;
    const int why = errno;
    if (file >= 0) {
        close(file);
    }
    if (!written) {
        FAIL(ERR_IO, "cannot write %s: %s", path, strerror(why));
    }
    return OK;
}

enum err cluster_create(const char *dir)
{
    char home[PROCESS_PATH_BYTES], client[PROCESS_PATH_BYTES], config[PROCESS_PATH_BYTES],
        run[PROCESS_PATH_BYTES], keys[PROCESS_PATH_BYTES], secret[PROCESS_PATH_BYTES],
        public[PROCESS_PATH_BYTES], lock[PROCESS_PATH_BYTES];
    path_of(home, dir, "");
    path_of(lock, dir, "/lock");
    path_of(client, dir, ".client");
    path_of(config, dir, "/config.yaml");
    path_of(run, dir, "/run");
    path_of(keys, dir, "/keys");
    path_of(secret, dir, "/keys/signing.key");
    path_of(public, dir, ".client/receipt.pub");
    TRY(make_dir(home, true));
    enum err err = make_dir(client, true);
    if (err != OK) {
        (void)rmdir(home);
        return err;
    }
    err = make_dir(run, false);
    err = err != OK ? err : write_config(config);
    err = err != OK ? err : make_dir(keys, false);
    err = err != OK ? err : sign_create(secret, public);
    err = err != OK ? err : keyset_create(home);
    err = err != OK ? err : store_create(home);
    if (err != OK) {
        keyset_remove(home);
        (void)unlink(lock); // Of the store, which cannot take it away itself (store.c).
        (void)unlink(config);
        (void)unlink(secret);
        (void)unlink(public);
        (void)rmdir(keys);
        (void)rmdir(run);
        (void)rmdir(client);
        (void)rmdir(home);
    }
    return err;
}

// The settings that concern this side. ERR_*: as cluster_ranks.
static enum err settings(const char *dir, uint32_t *ranks_out,
                         char core_out[static PROFILE_NAME_BYTES])
{
    char path[PROCESS_PATH_BYTES], line[256];
    path_of(path, dir, "/config.yaml");
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        FAIL(ERR_NOT_FOUND, "no cluster at %s: make one with unlearnctl init %s", dir, dir);
    }
    uint64_t ranks = 2;
    enum err err = OK;
    core_out[0] = '\0';
    while (err == OK && fgets(line, sizeof line, file) != NULL) {
        char text[32];
        if (sscanf(line, "ranks: %31[^ #\r\n]", text) == 1) {
            err = text_u64(text, LIMIT_WORKERS, &ranks);
        } else if (sscanf(line, "blas_core: %31[^ #\r\n]", text) == 1 &&
                   profile_core_is_name(text)) { // What it should be, unlearnd says.
            snprintf(core_out, PROFILE_NAME_BYTES, "%s", text);
        }
    }
    fclose(file);
    *ranks_out = (uint32_t)ranks;
    return err == OK ? OK : err_context(err, "%s: ranks", path);
}

enum err cluster_ranks(const char *dir, uint32_t *ranks_out)
{
    char core[PROFILE_NAME_BYTES];
    return settings(dir, ranks_out, core);
}

// --- Starting it ---

// What a program's exit code stands for.
static enum err err_of_exit(int code)
{
    return code == 2   ? ERR_INVALID
           : code == 3 ? ERR_NOT_FOUND
           : code == 4 ? ERR_CONFLICT
           : code == 5 ? ERR_UNAVAILABLE
                       : ERR_IO;
}

// ERR_*: the child has ended; the message has the end of its log.
static enum err check_alive(const struct cluster *cluster, pid_t *pid, const char *name,
                            const char *log_name, int64_t log_from)
{
    int code;
    if (*pid == 0 || !process_ended(*pid, &code)) {
        return OK;
    }
    *pid = 0;
    char log[PROCESS_PATH_BYTES], tail[PROCESS_TAIL_BYTES];
    path_of(log, cluster->dir, log_name);
    process_log_tail(log, log_from, tail);
    return err_raise(err_of_exit(code), "%s ended with %s %d; its log, %s, ends with:%s", name,
                     code < 0 ? "signal" : "exit code", code < 0 ? -code : code, log, tail);
}

static enum err check_both(struct cluster *cluster)
{
    TRY(check_alive(cluster, &cluster->coordinator, "unlearnd", "/run/unlearnd.log",
                    cluster->coordinator_log));
    TRY(check_alive(cluster, &cluster->fleet, "unlearn-fleet", "/run/fleet.log",
                    cluster->fleet_log));
    return interrupt_check();
}

static enum err start_coordinator(struct cluster *cluster, const char *program,
                                  const struct cluster_start *how)
{
    char log[PROCESS_PATH_BYTES], stale[PROCESS_PATH_BYTES];
    // What an earlier coordinator left would mislead the fleet and ourselves.
    path_of(stale, cluster->dir, "/run/workers");
    (void)unlink(stale);
    path_of(stale, cluster->dir, ".client/address");
    (void)unlink(stale);
    path_of(log, cluster->dir, "/run/unlearnd.log");
    cluster->coordinator_log = process_log_bytes(log);
    const char *args[6] = {"unlearnd", cluster->dir};
    size_t count = 2;
    if (how->allow_unsafe_fs) {
        args[count++] = "--allow-unsafe-fs";
    }
    if (how->rotate_master_key) {
        args[count++] = "--rotate-master-key";
    }
    if (how->insecure) {
        args[count++] = "--insecure-loopback";
    }
    const struct process_start start = {program, args, log, how->lives_on};
    return process_start(&start, &cluster->coordinator);
}

static enum err start_fleet(struct cluster *cluster, const char *program,
                            const struct cluster_start *how)
{
    char log[PROCESS_PATH_BYTES], rendezvous[PROCESS_PATH_BYTES], pid[PROCESS_PATH_BYTES],
        key[PROCESS_PATH_BYTES], server_key[PROCESS_PATH_BYTES], count[16], cache[24];
    path_of(key, cluster->dir, "/keys/worker.key");
    path_of(server_key, cluster->dir, ".client/server.pub");
    path_of(log, cluster->dir, "/run/fleet.log");
    path_of(rendezvous, cluster->dir, "/run/workers");
    path_of(pid, cluster->dir, "/run/fleet.pid");
    cluster->fleet_log = process_log_bytes(log);
    snprintf(count, sizeof count, "%u", how->ranks);
    snprintf(cache, sizeof cache, "%llu", (unsigned long long)how->cache_mib);
    const char *args[12] = {"unlearn-fleet", "--rendezvous", rendezvous, "--ranks",
                            count,           "--cache",      cache};
    const char *const keys[] = {"--key", key, "--server-key", server_key};
    if (how->insecure) {
        args[7] = "--insecure-loopback";
    } else {
        memcpy(args + 7, keys, sizeof keys);
    }
    const struct process_start start = {program, args, log, how->lives_on};
    TRY(process_start(&start, &cluster->fleet));
    return process_write_pid(pid, cluster->fleet);
}

// Waits for the first answer; *client_out is open then.
static enum err wait_answer(struct cluster *cluster, const struct cluster_start *how,
                            struct unlearn **client_out)
{
    const int64_t until_ms = clock_mono_ms() + ANSWER_MS;
    for (;;) {
        TRY(check_both(cluster));
        const enum err err = unlearn_open_dir(cluster->dir, how->key, client_out);
        if (err != ERR_UNAVAILABLE || clock_mono_ms() >= until_ms) {
            return err;
        }
        pause_ms(LOOK_MS);
    }
}

static enum err wait_workers(struct cluster *cluster, struct unlearn *client, uint32_t ranks,
                             uint32_t patience_s)
{
    const int64_t until_ms = clock_mono_ms() + (int64_t)patience_s * 1000;
    for (;;) {
        const Unlearn__Pong *pong;
        TRY(check_both(cluster));
        TRY(unlearn_ping(client, &pong));
        cluster->workers = pong->workers;
        if (pong->refusal[0] != '\0') {
            FAIL(ERR_CONFLICT, "a worker was refused: %s", pong->refusal);
        }
        if (pong->workers >= ranks) {
            return OK;
        }
        if (clock_mono_ms() >= until_ms) {
            char log[PROCESS_PATH_BYTES], tail[PROCESS_TAIL_BYTES];
            path_of(log, cluster->dir, "/run/fleet.log");
            process_log_tail(log, cluster->fleet_log, tail);
            FAIL(ERR_UNAVAILABLE, "%u of %u workers have joined after %u s; %s ends with:%s",
                 pong->workers, ranks, patience_s, log, tail);
        }
        pause_ms(LOOK_MS);
    }
}

// Ends the process that a pid file names. False: it does not run.
static bool stop_found(const char *dir, const char *pid_file, const char *name, int patience_ms,
                       bool *killed)
{
    char path[PROCESS_PATH_BYTES];
    path_of(path, dir, pid_file);
    const pid_t pid = process_find(path, name, dir);
    if (pid != 0 && !process_stop(pid, patience_ms)) {
        *killed = true;
    }
    return pid != 0;
}

// The fleet inherits it; what the environment says already is kept, and may get ranks refused.
static enum err set_core(const char *dir)
{
    char core[PROFILE_NAME_BYTES];
    uint32_t ranks;
    TRY(settings(dir, &ranks, core));
    if (core[0] != '\0' && setenv("OPENBLAS_CORETYPE", core, 0) != 0) {
        FAIL(ERR_IO, "the environment could not be set: %s", strerror(errno));
    }
    return OK;
}

static enum err up_inner(struct cluster *cluster, const struct cluster_start *how)
{
    const uint32_t ranks = how->ranks;
    char unlearnd[PROCESS_PATH_BYTES], fleet[PROCESS_PATH_BYTES], worker[PROCESS_PATH_BYTES],
        pid[PROCESS_PATH_BYTES];
    path_of(pid, cluster->dir, "/run/unlearnd.pid");
    const pid_t running = process_find(pid, "unlearnd", cluster->dir);
    if (running != 0) {
        FAIL(ERR_CONFLICT, "the cluster %s is running already: its coordinator is process %d",
             cluster->dir, (int)running);
    }
    TRY(process_beside("unlearnd", unlearnd));
    if (ranks > 0) {
        TRY(process_beside("unlearn-fleet", fleet));
        TRY(process_beside("unlearn-worker", worker));
    }
    // A fleet that outlived its coordinator would join the new one beside ours, and go on for ever:
    // its pid file is about to name ours.
    bool killed;
    (void)stop_found(cluster->dir, "/run/fleet.pid", "unlearn-fleet", FLEET_STOP_MS, &killed);
    TRY(start_coordinator(cluster, unlearnd, how));
    struct unlearn *client;
    TRY(wait_answer(cluster, how, &client));
    snprintf(cluster->endpoint, sizeof cluster->endpoint, "%s", unlearn_endpoint(client));
    enum err err = ranks == 0 ? OK : set_core(cluster->dir);
    err = err != OK || ranks == 0 ? err : start_fleet(cluster, fleet, how);
    err = err != OK ? err : wait_workers(cluster, client, ranks, how->patience_s);
    unlearn_close(client);
    return err;
}

// Ends what runs, keeping the error's sentence.
static void stop_both(struct cluster *cluster)
{
    if (cluster->fleet != 0) {
        (void)process_stop(cluster->fleet, FLEET_STOP_MS);
    }
    if (cluster->coordinator != 0) {
        (void)process_stop(cluster->coordinator, COORDINATOR_STOP_MS);
    }
    static const char *const leftovers[] = {"/run/fleet.pid", "/run/unlearnd.pid", "/run/workers",
                                            ".client/address"};
    for (size_t i = 0; i < sizeof leftovers / sizeof leftovers[0]; i++) {
        char path[PROCESS_PATH_BYTES];
        path_of(path, cluster->dir, leftovers[i]);
        (void)unlink(path);
    }
    cluster->fleet = cluster->coordinator = 0;
}

static enum err absolute(const char *dir, char **dir_out)
{
    uint32_t ranks;
    *dir_out = NULL;
    TRY(cluster_ranks(dir, &ranks)); // Says where no cluster is.
    char *const real = realpath(dir, NULL);
    if (real == NULL) {
        FAIL(ERR_IO, "cannot find %s: %s", dir, strerror(errno));
    }
    *dir_out = mem_text(real);
    free(real); // realpath's own.
    return OK;
}

enum err cluster_up(const char *dir, const struct cluster_start *start, struct cluster *cluster_out)
{
    *cluster_out = (struct cluster){0};
    TRY(absolute(dir, &cluster_out->dir));
    const enum err err = up_inner(cluster_out, start);
    if (err != OK) {
        if (cluster_out->coordinator != 0 || cluster_out->fleet != 0) {
            stop_both(cluster_out);
        }
        cluster_deinit(cluster_out);
    }
    return err;
}

enum err cluster_stay(struct cluster *cluster)
{
    enum err err;
    while ((err = check_both(cluster)) == OK) {
        pause_ms((int64_t)4 * LOOK_MS);
    }
    stop_both(cluster);
    return err == ERR_CANCELLED ? OK : err;
}

void cluster_deinit(struct cluster *cluster)
{
    mem_free(cluster->dir);
    *cluster = (struct cluster){0};
}

// --- Ending it ---

enum err cluster_down(const char *dir, struct cluster_down *down_out)
{
    struct cluster cluster = {0};
    *down_out = (struct cluster_down){0};
    TRY(absolute(dir, &cluster.dir));
    down_out->fleet = stop_found(cluster.dir, "/run/fleet.pid", "unlearn-fleet", FLEET_STOP_MS,
                                 &down_out->killed);
    down_out->coordinator = stop_found(cluster.dir, "/run/unlearnd.pid", "unlearnd",
                                       COORDINATOR_STOP_MS, &down_out->killed);
    stop_both(&cluster); // Nothing runs: takes the files away.
    cluster_deinit(&cluster);
    return OK;
}

enum err cluster_check_stopped(const char *dir, const char *what)
{
    struct cluster cluster = {0};
    char pid[PROCESS_PATH_BYTES];
    TRY(absolute(dir, &cluster.dir));
    path_of(pid, cluster.dir, "/run/unlearnd.pid");
    const pid_t running = process_find(pid, "unlearnd", cluster.dir);
    cluster_deinit(&cluster);
    if (running != 0) {
        FAIL(
            ERR_CONFLICT,
            "the coordinator of %s runs, as process %d, and %s only while it does not: end it with "
            "unlearnctl down %s",
            dir, (int)running, what, dir);
    }
    return OK;
}
