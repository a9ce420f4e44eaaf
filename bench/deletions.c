// bench/deletions.c: acks and predictions under deletions, against limits (make bench-deletions).
//
// A real cluster on loopback: a data set of small records, a softmax of 16 shards and 4 slices over it, one
// worker. Clients are connections by libunlearn; the 64 of the flood are carried by two threads of a process of
// their own (clients.h), those of the reference by as many threads of this one.
//
// Predictions are asked of a second model over a data set of its own: a flood leaves nothing valid in the
// first one, and a refusal costs less than an answer. Quiet and flooded, the same client asks the same; it gets
// the processor before other threads (base/prompt.h), and the 64 give way to all others (clients.h): in real life
// they are on other machines.
//
//   flood  64 clients delete single records, one at a time each; another client predicts meanwhile
//   bulk   one request of many ids (unlearnd was started anew before, so that the longest turn of its loop is
//          of this time); one client predicts, another deletes single records
//
// The reference of the flood is bare LMDB in this process, after the flood, when the cluster is down:
// see bare.h. What it writes is what the coordinator was counted to write during the flood (count.h),
// per acknowledged request; how many requests it takes into a commit, at most, is what the coordinator
// took into one that journaled any, on the average, rounded up. That is what "per batch" means here. With as
// many as wait (all 64) it is run, too, and told.
//
// Ends with 1 when a limit is missed. Usage: deletions DIR [quick]; UNLEARN_BIN: the programs.
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/prompt.h"
#include "base/text.h"
#include "bench/bare.h"
#include "bench/clients.h"
#include "client/unlearn.h"
#include "model/profile.h"
#include "model/schema.h"
#include "model/spec.h"

enum {
    CLIENTS = 64,
    FEATURES = 4,
    ROW_BYTES = 2 + 4 * FEATURES,
    PROBES = 16,
    PATH_BYTES = 512,
    SAMPLES_MAX = 1 << 20,
    OTHER = 20000,
    QUIET = 5000,   // Predictions, at least.
    PACE_US = 1000, // Between two.
    SETTLE_S = 180, // Until a bulk is erased and repaired.
};

static uint32_t records = 400000, each = 400, bulk_ids = 100000, quiet = QUIET;
static char dir[PATH_BYTES];

static double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int run_ctl(const char *arguments)
{
    char command[3 * PATH_BYTES];
    const char *const bin = getenv("UNLEARN_BIN");
    snprintf(command, sizeof command,
             "UNLEARN_DIR='%s/c' LD_PRELOAD=\"$COUNT_LIBRARY\" '%s/unlearnctl' %s >'%s/out' 2>&1",
             dir, bin == NULL ? "bin" : bin, arguments, dir);
    return system(command); // NOLINT(cert-env33-c)
}

static void must(bool good, const char *what)
{
    static atomic_flag failing = ATOMIC_FLAG_INIT;
    if (good) {
        return;
    }
    if (!atomic_flag_test_and_set(&failing)) {
        fprintf(stderr, "bench: %s: %s\n", what, err_text());
        (void)run_ctl("down"); // What was started; the directory stays, to be looked at.
        _exit(2);
    }
    for (;;) {
        (void)sleep(1); // Another thread ends the process.
    }
}
#define MUST(expr) must((expr) == OK, #expr)

static void ctl(const char *arguments)
{
    must(run_ctl(arguments) == 0, arguments);
}

static void up(void)
{
    char text[PATH_BYTES + 64];
    snprintf(text, sizeof text, "up '%s/c' --ranks 1 --detach", dir);
    ctl(text);
}

// ---------------------------------------------------------------- times

struct times {
    double *at;
    size_t count;
};

static void times_add(struct times *times, double value)
{
    if (times->at == NULL) {
        times->at = mem_alloc(SAMPLES_MAX, sizeof *times->at);
    }
    if (times->count < SAMPLES_MAX) {
        times->at[times->count++] = value;
    }
}
static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static void first_line(const char *path, char *line, int room)
{
    FILE *const file = fopen(path, "re");
    must(file != NULL && fgets(line, room, file) != NULL, path);
    fclose(file);
}

// Seconds of processor that a process has used (proc(5): utime and stime are fields 14 and 15).
static double cpu_s(const char *pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%.32s/stat", pid);
    first_line(path, line, sizeof line);
    char *at = strrchr(line, ')'); // Field 2.
    for (int field = 2; field < 14 && at != NULL; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        must(false, path);
        return 0;
    }
    const unsigned long user = strtoul(at, &at, 10), kernel = strtoul(at, NULL, 10);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static double quantile(struct times *times, double q)
{
    if (times->at == NULL) {
        must(false, "nothing was measured");
        return 0;
    }
    qsort(times->at, times->count, sizeof *times->at, compare);
    return times->at[(size_t)(q * (double)(times->count - 1))];
}
static void describe(const char *what, struct times *times)
{
    printf("  %-34s n %6zu   p50 %8.2f   p99 %8.2f   longest %8.2f ms\n", what, times->count,
           1e3 * quantile(times, 0.5), 1e3 * quantile(times, 0.99), 1e3 * quantile(times, 1));
}

static bool line(const char *what, double ours, double reference, double limit, bool least)
{
    const double ratio = ours / reference;
    const bool good = least ? ratio >= limit : ratio <= limit;
    printf("%-34s ours %9.2f   reference %9.2f   ratio %6.2f   limit %5.2f   %s\n", what, ours,
           reference, ratio, limit, good ? "ok" : "MISSED");
    fflush(stdout);
    return good;
}

// ---------------------------------------------------------------- the reference

static struct counts *counts; // What the coordinator writes: count.c tells.

static void count_open(void)
{
    static char path[PATH_BYTES + 16], library[PATH_MAX];
    snprintf(path, sizeof path, "%s/counts", dir);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(fd >= 0 && ftruncate(fd, sizeof *counts) == 0, path);
    void *const at = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(at != MAP_FAILED && close(fd) == 0, "mmap");
    counts = at;
    must(realpath("/proc/self/exe", library) != NULL, "/proc/self/exe");
    strcpy(strrchr(library, '/') + 1, "count.so"); // NOLINT: shorter than what it replaces.
    must(access(library, R_OK) == 0, library);
    setenv("UNLEARN_COUNTS", path, 1);   // NOLINT(concurrency-mt-unsafe): before any thread.
    setenv("COUNT_LIBRARY", library, 1); // NOLINT(concurrency-mt-unsafe)
}

// Of the coordinator's store, while nothing is written.
static void copy_store(const char *to)
{
    char command[3 * PATH_BYTES];
    snprintf(command, sizeof command,
             "mkdir '%s/%s' && cp '%s/c/store/data.mdb' '%s/%s/' && sync '%s/%s/data.mdb'", dir, to,
             dir, dir, to, dir, to);
    must(system(command) == 0, "copying the store"); // NOLINT(cert-env33-c)
}

// Of each thread that carries clients.
static struct times taken[CLIENTS_THREADS];

static void take_time(void *unused, uint32_t share, double seconds)
{
    (void)unused;
    times_add(&taken[share], seconds);
}

static void collect(struct times *all)
{
    for (int i = 0; i < CLIENTS_THREADS; i++) {
        for (size_t n = 0; n < taken[i].count; n++) {
            times_add(all, taken[i].at[n]);
        }
        mem_free(taken[i].at);
        taken[i] = (struct times){0};
    }
}

// ---------------------------------------------------------------- ours

static _Atomic uint32_t next_id;
static atomic_bool stop;
static uint8_t probe[ROW_BYTES];

static void connect_to(struct unlearn **client)
{
    char path[PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s/c", dir);
    MUST(unlearn_open_dir(path, NULL, client));
}

static void delete_one(struct unlearn *client, struct times *times)
{
    char id[16];
    const char *const text = id;
    const struct id128 uuid = text_uuid_new();
    const Unlearn__RequestState *state;
    snprintf(id, sizeof id, "r%u", atomic_fetch_add(&next_id, 1));
    const double start = now_s();
    MUST(unlearn_delete(client, "d", &uuid, (struct unlearn_ids){&text, 1},
                        (struct unlearn_ids){NULL, 0}, NULL, &state));
    times_add(times, now_s() - start);
}

static void *single_client(void *times)
{
    struct unlearn *client;
    connect_to(&client);
    while (!stop) {
        delete_one(client, times);
    }
    unlearn_close(client);
    return NULL;
}

static void predict_one(struct unlearn *client, struct unlearn_batch *batch, struct times *times)
{
    const Unlearn__Prediction *prediction;
    const float *values;
    const double start = now_s();
    MUST(unlearn_predict(client, "n", batch, &prediction, &values));
    times_add(times, now_s() - start);
}

static void *predict_client(void *times)
{
    struct unlearn *client;
    struct unlearn_batch batch = {.width = 2};
    (void)prompt_set(true);
    connect_to(&client);
    for (int i = 0; i < PROBES; i++) {
        must(unlearn_batch_add(&batch, span_of(probe, ROW_BYTES)), "batch");
    }
    for (uint32_t i = 0; stop ? i < quiet : true; i++) { // Until told, or so many.
        predict_one(client, &batch, times);
        (void)usleep(PACE_US);
    }
    unlearn_batch_deinit(&batch);
    unlearn_close(client);
    return NULL;
}

static void import_all(struct unlearn *client, const char *dataset, uint32_t count)
{
    static char names[FEATURES][4], label[] = "y", classes[2][2] = {"a", "b"};
    static char *class_names[2] = {classes[0], classes[1]};
    struct column columns[FEATURES];
    struct buf bytes = {0};
    for (int i = 0; i < FEATURES; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        columns[i] =
            (struct column){.name = names[i], .kind = COLUMN_NUMERIC, .width = 1, .scale = 1};
    }
    const struct schema schema = {.columns = columns,
                                  .column_count = FEATURES,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = class_names,
                                  .class_count = 2};
    schema_put(&schema, &bytes);
    const struct unlearn_import_options options = {.dataset = dataset, .schema = buf_span(&bytes)};
    struct unlearn_import *import;
    const Unlearn__ImportDone *done;
    MUST(unlearn_import_begin(client, &options, &import));
    for (uint32_t i = 0; i < count; i++) {
        char id[16];
        struct buf row = {0};
        snprintf(id, sizeof id, "r%u", i);
        buf_u16(&row, (uint16_t)(i % 2));
        for (int x = 0; x < FEATURES; x++) {
            buf_f32(&row, (float)((i * 7 + (uint32_t)x * 13) % 101) / 101);
        }
        MUST(unlearn_import_add(import, span_text(id), span_of(NULL, 0), 0, buf_span(&row)));
        buf_deinit(&row);
    }
    MUST(unlearn_import_commit(import, &done));
    unlearn_import_end(import);
    buf_deinit(&bytes);
}

static void train(struct unlearn *client, const char *model, const char *dataset)
{
    struct spec spec = spec_default();
    struct buf text = {0};
    const Unlearn__Trained *trained;
    MUST(spec_set(&spec, "learner", "softmax"));
    MUST(spec_set(&spec, "shards", "16"));
    MUST(spec_set(&spec, "slices", "4"));
    MUST(spec_set(&spec, "epochs", "1"));
    spec_put(&spec, &text);
    MUST(unlearn_train(client, model, dataset, buf_span(&text), false, "", &trained));
    buf_deinit(&text);
    char wait[64];
    snprintf(wait, sizeof wait, "train %s --wait", model);
    ctl(wait);
}

static bool bench_flood(struct times *calm)
{
    struct times theirs = {0}, wide = {0}, ours = {0}, predicted = {0};
    static struct counts before, after;
    static char copies[2][PATH_BYTES + 16];
    pthread_t predictor;
    copy_store("bare");
    copy_store("wide");
    stop = false;
    must(pthread_create(&predictor, NULL, predict_client, &predicted) == 0, "pthread_create");
    memcpy(&before, counts, sizeof before);
    char path[PATH_BYTES + 32], cluster[PATH_BYTES + 8], pid[32];
    snprintf(cluster, sizeof cluster, "%s/c", dir);
    snprintf(path, sizeof path, "%s/c/run/unlearnd.pid", dir);
    first_line(path, pid, sizeof pid);
    pid[strcspn(pid, "\n")] = '\0';
    const double cpu = cpu_s(pid);
    double used[2] = {0, 0};
    const struct clients clients = {
        .dir = cluster, .dataset = "d", .count = CLIENTS, .each = each, .time_of = take_time};
    const double rate = clients_run(&clients, &used[1]);
    used[0] = cpu_s(pid) - cpu;
    memcpy(&after, counts, sizeof after);
    collect(&ours);
    next_id = CLIENTS * each;
    quiet = 0;
    stop = true;
    pthread_join(predictor, NULL);
    ctl("down");
    const double commits = (double)(after.ack_commits - before.ack_commits);
    const double requests = (double)ours.count;
    must(commits > 0, "no commit was counted");
    struct bare_load load = {.from = &before,
                             .to = &after,
                             .requests = requests,
                             .batch = (uint32_t)(requests / commits) + 1,
                             .clients = CLIENTS,
                             .each = each,
                             .time_of = take_time};
    printf("  %.0f requests in %.0f commits; %.0f other commits meanwhile\n", requests, commits,
           (double)(after.commits - before.commits) - commits);
    printf("  processor: coordinator %.0f us, clients %.0f us an ack; together %.2f processors\n",
           1e6 * used[0] / requests, 1e6 * used[1] / requests,
           (used[0] + used[1]) / requests * rate);
    bare_describe(&load);
    snprintf(copies[0], sizeof copies[0], "%s/bare", dir);
    snprintf(copies[1], sizeof copies[1], "%s/wide", dir);
    load.store = copies[0];
    const double bare_rate = bare_run(&load);
    collect(&theirs);
    load.store = copies[1];
    load.batch = CLIENTS;
    const double wide_rate = bare_run(&load);
    collect(&wide);
    describe("bare LMDB, batches like ours", &theirs);
    describe("bare LMDB, whatever waits", &wide);
    printf("  bare LMDB, whatever waits: %.0f a second\n", wide_rate);
    describe("acks, 64 clients", &ours);
    describe("predictions, quiet", calm);
    describe("predictions, flood", &predicted);
    bool good = line("acks a second, 64 clients", rate, bare_rate, 0.5, true);
    good &= line("p99 of acks, ms", 1e3 * quantile(&ours, 0.99), 1e3 * quantile(&theirs, 0.99), 3,
                 false);
    return line("p99 of predictions, flood, ms", 1e3 * quantile(&predicted, 0.99),
                1e3 * quantile(calm, 0.99), 3, false) &&
           good;
}

// Until the request is completed: erased, its components repaired.
static double settle(struct unlearn *client, const struct id128 *uuid)
{
    const double start = now_s();
    const Unlearn__RequestState *state;
    for (;;) {
        MUST(unlearn_request_show(client, uuid, &state));
        if (state->phase == UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED) {
            return now_s() - start;
        }
        must(now_s() - start < SETTLE_S, "the bulk is not completed");
        (void)usleep(50000);
    }
}

static bool bench_bulk(struct times *calm)
{
    struct times predicted = {0}, acks = {0};
    struct unlearn *client;
    pthread_t predictor, single;
    const Unlearn__RequestState *state;
    const Unlearn__Cluster *cluster;
    const struct id128 uuid = text_uuid_new();
    char(*const ids)[16] = mem_alloc(bulk_ids, sizeof *ids);
    const char **const texts = mem_alloc(bulk_ids, sizeof *texts);
    for (uint32_t i = 0; i < bulk_ids; i++) {
        snprintf(ids[i], sizeof ids[i], "r%u", records - 1 - i);
        texts[i] = ids[i];
    }
    up(); // Anew: the longest turn is of what follows.
    connect_to(&client);
    unlearn_set_timeout(client, 600000);
    stop = false;
    must(pthread_create(&predictor, NULL, predict_client, &predicted) == 0 &&
             pthread_create(&single, NULL, single_client, &acks) == 0,
         "pthread_create");
    const double start = now_s();
    MUST(unlearn_delete(client, "d", &uuid, (struct unlearn_ids){texts, bulk_ids},
                        (struct unlearn_ids){NULL, 0}, &(struct unlearn_terms){.eager = true},
                        &state));
    const double took = now_s() - start;
    MUST(unlearn_cluster_show(client, &cluster));
    const double turn_ack = (double)cluster->activity->turn_us / 1e3;
    stop = true;
    pthread_join(single, NULL);
    const double settled = settle(client, &uuid);
    quiet = 0;
    pthread_join(predictor, NULL);
    MUST(unlearn_cluster_show(client, &cluster));
    printf("  bulk of %u ids: acknowledged after %.2f s, completed %.2f s later; longest turn "
           "until the ack "
           "%.2f ms\n",
           bulk_ids, took, settled, turn_ack);
    describe("acks during the bulk", &acks);
    describe("predictions during the bulk", &predicted);
    bool good = line("longest turn in the bulk, ms", (double)cluster->activity->turn_us / 1e3, 20,
                     1, false);
    good &= line("p99 of predictions, bulk, ms", 1e3 * quantile(&predicted, 0.99),
                 1e3 * quantile(calm, 0.99), 3, false);
    unlearn_close(client);
    mem_free(ids);
    mem_free(texts);
    return good;
}

int main(int argc, char **argv)
{
    struct times calm = {0};
    struct unlearn *client;
    char text[PATH_BYTES + 64], command[3 * PATH_BYTES];
    pthread_t predictor; // A thread of its own: how it is scheduled is inherited by what it starts.
    if (profile_pin(argv) != OK || digest_start() != OK) {
        return 2;
    }
    if (argc > 1 && strcmp(argv[1], "clients") == 0) {
        return clients_main(argc, argv);
    }
    if (argc > 2 && strcmp(argv[2], "quick") == 0) {
        records = 120000;
        each = 100;
        bulk_ids = 50000;
    }
    static char base[PATH_MAX];
    must(realpath(argc > 1 ? argv[1] : ".", base) != NULL && strlen(base) < 200, "DIR");
    snprintf(dir, sizeof dir, "%.200s/deletions.XXXXXX", base);
    must(mkdtemp(dir) != NULL, "mkdtemp");
    count_open();
    snprintf(text, sizeof text, "init '%s/c'", dir);
    ctl(text);
    up();
    connect_to(&client);
    import_all(client, "d", records);
    train(client, "m", "d");
    import_all(client, "e", OTHER);
    train(client, "n", "e");
    unlearn_close(client);
    stop = true; // As many as `quiet` says.
    must(pthread_create(&predictor, NULL, predict_client, &calm) == 0, "pthread_create");
    pthread_join(predictor, NULL);
    const bool flood = bench_flood(&calm);
    const bool bulk = bench_bulk(&calm);
    ctl("down");
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 && flood && bulk ? 0 : 1; // NOLINT(cert-env33-c)
}
